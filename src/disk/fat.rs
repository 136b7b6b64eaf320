//! A FAT32 file system, written once and from front to back: what firmware starts from.
//!
//! Microsoft's "FAT32 File System Specification" 1.03 and, for long names, its "Long Filename
//! Specification":
//!
//! ```text
//! boot sector, FSInfo, their copies (32 sectors) │ FAT │ FAT │ root directory │ directories │ files
//! ```
//! Every file and directory is one run of clusters, in the order of their names: the same files
//! give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use super::content::Content;
use super::error::{Error, doing};

const SECTOR: u64 = 512;

/// Sectors before the first FAT.
const RESERVED: u64 = 32;

/// Below so many clusters a reader takes it for FAT16.
const LEAST: u64 = 65_525;

/// Bytes of a directory entry, and UTF-16 units of a long name in one.
const ENTRY: u64 = 32;
const UNITS: usize = 13;

/// Attributes of an entry.
const VOLUME: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
const LONG: u8 = 0x0f;

/// End of a chain of clusters.
const END: u32 = 0x0fff_ffff;

/// What goes into a file system, apart from its size.
#[derive(Debug)]
pub struct Volume {
    /// Its label: at most eleven characters of those that short names have.
    pub label: String,
    /// Its serial number.
    pub serial: u32,
    /// The time of everything in it, in seconds since 1970.
    pub time: i64,
    /// Files by path, as `EFI/BOOT/BOOTX64.EFI`; directories come by themselves.
    pub files: BTreeMap<String, Content>,
}

/// A directory, or a file by its place in the volume.
enum Node<'a> {
    Directory(Directory<'a>),
    File(&'a Content),
}

#[derive(Default)]
struct Directory<'a> {
    nodes: BTreeMap<&'a str, Node<'a>>,
}

/// Where things lie.
#[derive(Clone, Copy)]
struct Geometry {
    sectors: u64,
    /// Sectors of a cluster, and of a FAT.
    cluster: u64,
    fat: u64,
    clusters: u64,
}

impl Geometry {
    fn of(size: u64) -> Self {
        let sectors = size / SECTOR;
        let cluster = match size >> 20 {
            0..260 => 1,
            260..8192 => 8,
            8192..16_384 => 16,
            _ => 32,
        };
        let mut fat = 1;
        loop {
            let clusters = sectors.saturating_sub(RESERVED + 2 * fat) / cluster;
            let needed = ((clusters + 2) * 4).div_ceil(SECTOR);
            if needed <= fat {
                return Self { sectors, cluster, fat, clusters };
            }
            fat = needed;
        }
    }

    /// Bytes of a cluster.
    fn bytes(self) -> u64 {
        self.cluster * SECTOR
    }
}

/// Returns the fewest bytes, a multiple of `align`, of a file system that holds the volume.
#[must_use]
pub fn least(volume: &Volume, align: u64) -> u64 {
    let data: u64 = volume.files.values().map(Content::len).sum();
    // Grown until it fits: how much a FAT takes depends on how much there is.
    let mut size = (LEAST * SECTOR + data).next_multiple_of(align);
    while !fits(volume, size) {
        size += align;
    }
    size
}

fn fits(volume: &Volume, size: u64) -> bool {
    let geometry = Geometry::of(size);
    tree(volume).is_ok_and(|root| {
        geometry.clusters >= LEAST && root.clusters(geometry, true) <= geometry.clusters
    })
}

/// Writes a file system of `size` bytes up to its last file; what comes behind is zeros, as in a
/// file that was made that long.
///
/// # Errors
/// [`Error::TooSmall`], [`Error::Name`]; what reading the files and writing fails with.
pub fn write(volume: &Volume, size: u64, out: &mut dyn Write) -> Result<(), Error> {
    let root = tree(volume)?;
    let geometry = Geometry::of(size);
    let used = root.clusters(geometry, true);
    if geometry.clusters < LEAST || geometry.clusters < used {
        let needed = least(volume, SECTOR);
        return Err(Error::TooSmall { what: "the boot partition", size, needed });
    }
    let label = label(&volume.label)?;
    let mut chains = vec![0x0fff_fff8, END];
    let mut data: Vec<Piece<'_>> = vec![];
    let stamp = stamp(volume.time);
    let mut layout = Layout { geometry, stamp, chains: &mut chains, data: &mut data };
    layout.root(&root, label)?;

    let failed = doing("write a boot partition");
    let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(&failed);
    for _ in 0..2 {
        put(&boot(geometry, label, volume.serial))?;
        put(&info(geometry, used))?;
        // A third boot sector without a program, and nothing up to the copies in sector 6.
        put(&signed(vec![]))?;
        put(&[0; 3 * SECTOR as usize])?;
    }
    put(&vec![0; ((RESERVED - 12) * SECTOR) as usize])?;
    let mut fat: Vec<u8> = chains.iter().flat_map(|next| next.to_le_bytes()).collect();
    fat.resize((geometry.fat * SECTOR) as usize, 0);
    put(&fat)?;
    put(&fat)?;
    for piece in data {
        let size = match piece {
            Piece::Bytes(bytes) => {
                out.write_all(&bytes).map_err(&failed)?;
                bytes.len() as u64
            }
            Piece::File(content) => {
                content.copy(out).map_err(&failed)?;
                content.len()
            }
        };
        let whole = size.next_multiple_of(geometry.bytes());
        out.write_all(&vec![0; (whole - size) as usize]).map_err(&failed)?;
    }
    Ok(())
}

/// What lies in a run of clusters.
enum Piece<'a> {
    Bytes(Vec<u8>),
    File(&'a Content),
}

/// Gives clusters away, one run after the other.
struct Layout<'v, 'o> {
    geometry: Geometry,
    /// Date and time.
    stamp: (u16, u16),
    chains: &'o mut Vec<u32>,
    data: &'o mut Vec<Piece<'v>>,
}

impl<'v> Layout<'v, '_> {
    /// Takes a run of clusters for so many bytes; returns the first, 0 for none.
    fn run(&mut self, bytes: u64) -> u32 {
        let clusters = bytes.div_ceil(self.geometry.bytes());
        if clusters == 0 {
            return 0;
        }
        let first = u32::try_from(self.chains.len()).unwrap_or(END);
        self.chains.extend((1..clusters).map(|n| first + u32::try_from(n).unwrap_or(0)));
        self.chains.push(END);
        first
    }

    fn root(&mut self, root: &Directory<'v>, label: [u8; 11]) -> Result<(), Error> {
        let first = self.run(root.bytes(true));
        let mut entries = self.entry(label, VOLUME, 0, 0);
        self.directory(root, first, 0, &mut entries)
    }

    /// Lays out a directory that begins at the cluster `own`, and all in it; `entries` begins with
    /// what no name stands for. The directories come before their files, as in [`Self::run`].
    fn directory(
        &mut self,
        directory: &Directory<'v>,
        own: u32,
        depth: usize,
        entries: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let at = self.data.len();
        self.data.push(Piece::Bytes(vec![]));
        let mut taken = BTreeSet::new();
        for (name, node) in &directory.nodes {
            let (short, long) = names(name, &mut taken)?;
            entries.extend(long);
            match node {
                Node::File(content) => {
                    let first = self.run(content.len());
                    if !content.is_empty() {
                        self.data.push(Piece::File(content));
                    }
                    let size = u32::try_from(content.len()).map_err(|_| Error::Name {
                        what: "a file of a boot partition",
                        name: (*name).to_owned(),
                        why: "it has 4 GiB or more",
                    })?;
                    entries.extend(self.entry(short, ARCHIVE, first, size));
                }
                Node::Directory(below) => {
                    let first = self.run(below.bytes(false));
                    entries.extend(self.entry(short, DIRECTORY, first, 0));
                    let mut inner = self.entry(*b".          ", DIRECTORY, first, 0);
                    // The root has no number of its own here.
                    let parent = if depth == 0 { 0 } else { own };
                    inner.extend(self.entry(*b"..         ", DIRECTORY, parent, 0));
                    self.directory(below, first, depth + 1, &mut inner)?;
                }
            }
        }
        self.data[at] = Piece::Bytes(std::mem::take(entries));
        Ok(())
    }

    fn entry(&self, name: [u8; 11], attributes: u8, first: u32, size: u32) -> Vec<u8> {
        let ((date, time), [high, low]) = (self.stamp, [first >> 16, first & 0xffff]);
        let half = |n: u32| u16::try_from(n).unwrap_or(0).to_le_bytes();
        let mut out = name.to_vec();
        out.extend([attributes, 0, 0]);
        out.extend([time, date, date].iter().flat_map(|n| n.to_le_bytes()));
        out.extend(half(high));
        out.extend([time, date].iter().flat_map(|n| n.to_le_bytes()));
        out.extend(half(low));
        out.extend(size.to_le_bytes());
        out
    }
}

impl Directory<'_> {
    /// Bytes of its entries.
    fn bytes(&self, root: bool) -> u64 {
        let own = if root { 1 } else { 2 };
        let of = |name: &&str| if is_short(name) { 1 } else { 1 + long_entries(name) as u64 };
        (own + self.nodes.keys().map(of).sum::<u64>()) * ENTRY
    }

    /// Clusters of it and all in it.
    fn clusters(&self, geometry: Geometry, root: bool) -> u64 {
        let of = |bytes: u64| bytes.div_ceil(geometry.bytes());
        let below = self.nodes.values().map(|node| match node {
            Node::File(content) => of(content.len()),
            Node::Directory(directory) => directory.clusters(geometry, false),
        });
        of(self.bytes(root)) + below.sum::<u64>()
    }
}

fn tree(volume: &Volume) -> Result<Directory<'_>, Error> {
    let mut root = Directory::default();
    for (path, content) in &volume.files {
        let wrong = |why| {
            let (what, name) = ("a file of a boot partition", path.clone());
            Err(Error::Name { what, name, why })
        };
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut at = &mut root;
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            let node =
                at.nodes.entry(part).or_insert_with(|| Node::Directory(Directory::default()));
            match node {
                Node::Directory(below) => at = below,
                Node::File(_) => return wrong("a file is where its directory would be"),
            }
        }
        if name.is_empty() || at.nodes.insert(name, Node::File(content)).is_some() {
            return wrong("it is no name, or taken");
        }
    }
    Ok(root)
}

/// The date and the time of an entry; before 1980 there is none.
fn stamp(seconds: i64) -> (u16, u16) {
    let first = (33, 0); // 1980-01-01
    let Ok(time) = jiff::Timestamp::from_second(seconds) else { return first };
    let time = jiff::tz::TimeZone::UTC.to_datetime(time);
    let part = |n: i8, shift: u32| u16::try_from(n).unwrap_or(0) << shift;
    match u16::try_from(time.year() - 1980) {
        Ok(year) if year < 128 => (
            year << 9 | part(time.month(), 5) | part(time.day(), 0),
            part(time.hour(), 11) | part(time.minute(), 5) | part(time.second() / 2, 0),
        ),
        _ => first,
    }
}

/// Characters of a short name.
fn short_character(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit() || "$%'-_@~`!(){}^#&".contains(c)
}

/// Whether a name can stand without a long one.
fn is_short(name: &str) -> bool {
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let fine = |part: &str, most| part.len() <= most && part.chars().all(short_character);
    !base.is_empty() && fine(base, 8) && fine(extension, 3) && !name.ends_with('.')
}

/// How many entries the long name takes.
fn long_entries(name: &str) -> usize {
    name.encode_utf16().count().div_ceil(UNITS)
}

/// Returns the short name of a file and, where that is another one, the entries of its long name.
fn names(name: &str, taken: &mut BTreeSet<[u8; 11]>) -> Result<([u8; 11], Vec<u8>), Error> {
    let (what, units) = ("a file of a boot partition", name.encode_utf16().collect::<Vec<_>>());
    let wrong = |why| Error::Name { what, name: name.to_owned(), why };
    if units.len() > 255 {
        return Err(wrong("more than 255 characters"));
    }
    if name.chars().any(|c| c.is_control() || "\\/:*?\"<>|".contains(c))
        || name.ends_with(['.', ' '])
    {
        return Err(wrong("a character that such names cannot have"));
    }
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let padded = |base: &str, extension: &str| {
        let mut out = [b' '; 11];
        for (place, byte) in out.iter_mut().zip(base.bytes().take(8)) {
            *place = byte;
        }
        for (place, byte) in out[8..].iter_mut().zip(extension.bytes().take(3)) {
            *place = byte;
        }
        out
    };
    if is_short(name) {
        let short = padded(base, extension);
        return if taken.insert(short) {
            Ok((short, vec![]))
        } else {
            Err(wrong("another one differs in case alone"))
        };
    }
    let plain = |part: &str| -> String {
        part.to_uppercase().chars().filter(|c| short_character(*c)).collect()
    };
    let (base, extension) = (plain(base), plain(extension));
    let short = (1..1_000_000_u32)
        .map(|n| {
            let tail = format!("~{n}");
            let kept: String = base.chars().take(8 - tail.len()).collect();
            padded(&(kept + &tail), &extension)
        })
        .find(|short| taken.insert(*short))
        .ok_or_else(|| wrong("too many like it"))?;
    let sum = short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let mut long = vec![];
    let count = units.len().div_ceil(UNITS);
    for n in (0..count).rev() {
        // What is left over is one zero, then all ones.
        let mut piece = units[n * UNITS..units.len().min((n + 1) * UNITS)].to_vec();
        if piece.len() < UNITS {
            piece.push(0);
            piece.resize(UNITS, 0xffff);
        }
        let bytes = |units: &[u16]| units.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>();
        let last = if n + 1 == count { 0x40 } else { 0 };
        long.push(u8::try_from(n + 1).unwrap_or(0) | last);
        long.extend(bytes(&piece[..5]));
        long.extend([LONG, 0, sum]);
        long.extend(bytes(&piece[5..11]));
        long.extend([0, 0]);
        long.extend(bytes(&piece[11..]));
    }
    Ok((short, long))
}

fn label(name: &str) -> Result<[u8; 11], Error> {
    if name.len() > 11 || !name.chars().all(|c| short_character(c) || c == ' ') {
        let why = "more than 11 characters, or others than A-Z, 0-9, - and _";
        return Err(Error::Name { what: "a boot partition", name: name.to_owned(), why });
    }
    let mut out = [b' '; 11];
    out[..name.len()].copy_from_slice(name.as_bytes());
    Ok(out)
}

fn boot(geometry: Geometry, label: [u8; 11], serial: u32) -> Vec<u8> {
    let n16 = |n: u64| u16::try_from(n).unwrap_or(0).to_le_bytes();
    let n32 = |n: u64| u32::try_from(n).unwrap_or(0).to_le_bytes();
    let mut out = vec![0xeb, 0x58, 0x90];
    out.extend(b"BAKE    ");
    out.extend(n16(SECTOR));
    out.push(u8::try_from(geometry.cluster).unwrap_or(0));
    out.extend(n16(RESERVED));
    out.push(2); // FATs
    out.extend([0, 0, 0, 0]); // entries of the root and sectors, as FAT16 has them
    out.push(0xf8); // a disk that is not taken out
    out.extend([0, 0]);
    out.extend([63, 0, 255, 0]); // sectors of a track, heads: nobody asks any more
    out.extend(n32(0)); // sectors before the partition
    out.extend(n32(geometry.sectors));
    out.extend(n32(geometry.fat));
    out.extend([0, 0, 0, 0]); // both FATs are kept alike; version 0.0
    out.extend(n32(2)); // the root's first cluster
    out.extend(n16(1)); // FSInfo
    out.extend(n16(6)); // the copies
    out.extend([0; 12]);
    out.extend([0x80, 0, 0x29]);
    out.extend(serial.to_le_bytes());
    out.extend(label);
    out.extend(b"FAT32   ");
    signed(out)
}

fn info(geometry: Geometry, used: u64) -> Vec<u8> {
    let mut out = b"RRaA".to_vec();
    out.resize(484, 0);
    out.extend(b"rrAa");
    for n in [geometry.clusters - used, used + 2] {
        out.extend(u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes());
    }
    signed(out)
}

/// A sector that ends as boot sectors do.
fn signed(mut sector: Vec<u8>) -> Vec<u8> {
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}
