//! `squashfs`, `erofs`, `ext4`: the root file system as a file system image, made by the programs of
//! these file systems of the same tar that the format `tar` is.
//!
//! The same image is the same bytes: identifiers are made of its digest, times are its own, and
//! what the programs decide by the machine (workers, profiles) is given to them.

use std::fs::File;
use std::io::{self, Read, Write};

use super::error::Error;
use super::flat::Flat;
use super::options::{Format, Lost, Options};
use super::source::Image;
use crate::digest::{Digest, HashReader};
use crate::disk::Sparse;
use crate::layer::NodeKind;

/// Writes what a program reads.
pub type Feed<'a> = dyn FnMut(&mut dyn Write) -> Result<(), Error> + 'a;

/// Who runs programs that make file systems.
pub trait Tools {
    /// Names the programs: others may give other bytes.
    fn digest(&self) -> Digest;

    /// Runs a program, with what `feed` writes as its input, and returns the file that it made.
    ///
    /// # Errors
    /// [`Error::Tools`] where it cannot be run, [`Error::Program`] where it fails, and what `feed`
    /// returns.
    fn run(&self, program: &Program, feed: &mut Feed<'_>) -> Result<File, Error>;
}

/// A program that makes a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    argv: Vec<String>,
    /// Its environment, besides what everybody has.
    pub env: Vec<(String, String)>,
}

/// Stands for the path of what is made.
const IMAGE: &str = "\0image";

/// The features of ext4, by themselves whatever a configuration says: those that every kernel since
/// 4.0 mounts. (`orphan_file` takes 5.15, and `metadata_csum_seed` GRUB does not read.)
const EXT4: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,\
    sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

/// Bytes of a block of ext4.
const BLOCK: u64 = 4096;

const MIB: u64 = 1 << 20;

impl Program {
    /// A script for `sh`, in which `$0` is the path of what is to be made.
    pub(super) fn shell(script: &str) -> Self {
        let argv = ["sh", "-euc", script, IMAGE].map(str::to_owned).to_vec();
        Self { argv, env: vec![("LC_ALL".to_owned(), "C.UTF-8".to_owned())] }
    }

    /// Returns program and arguments, for a file at `image`.
    #[must_use]
    pub fn argv_for(&self, image: &str) -> Vec<String> {
        let word = |word: &String| if word == IMAGE { image.to_owned() } else { word.clone() };
        self.argv.iter().map(word).collect()
    }

    /// Returns the error of a program that failed: how, and what it printed.
    #[must_use]
    pub fn failed(&self, how: Vec<String>, printed: Vec<String>, no_room: bool) -> Error {
        Error::Program { program: self.argv[0].clone(), how, printed, no_room }
    }
}

/// Makes the file system of a root, and copies it to `out`; returns digest, bytes, and what the
/// format does not hold.
pub(super) fn make(
    image: &Image<'_>,
    flat: &Flat,
    format: Format,
    options: &Options,
    tools: &dyn Tools,
    out: &File,
) -> Result<(Digest, u64, Vec<Lost>), Error> {
    let (made, lost) = made(image, flat, format, options, tools)?;
    let (digest, bytes) = copy(made, out).map_err(|source| Error::Copy { source })?;
    Ok((digest, bytes, lost))
}

/// Makes the file system of a root, and leaves it where it was made; returns also what the format
/// does not hold.
pub(super) fn made(
    image: &Image<'_>,
    flat: &Flat,
    format: Format,
    options: &Options,
    tools: &dyn Tools,
) -> Result<(File, Vec<Lost>), Error> {
    let lost = losses(flat, format)?;
    let program = program(image, flat, format, options)?;
    let mut feed = |to: &mut dyn Write| flat.write(to, true);
    Ok((tools.run(&program, &mut feed)?, lost))
}

fn program(
    image: &Image<'_>,
    flat: &Flat,
    format: Format,
    options: &Options,
) -> Result<Program, Error> {
    let seed = format!("{} {}", format.name(), image.source.manifest.digest);
    let uuid = uuid(&Digest::of(seed));
    // No file is newer: nothing is taken for one of the future, and no time is cut.
    let epoch = flat.newest().clamp(0, i64::from(u32::MAX)).to_string();
    let label = options.label.clone().unwrap_or_default();
    let compression = options.compression.as_deref();
    let mut argv: Vec<String> = vec![];
    let mut say = |words: &[&str]| argv.extend(words.iter().map(|word| (*word).to_owned()));
    let mut env = vec![("LC_ALL".to_owned(), "C.UTF-8".to_owned())];
    match format {
        Format::Squashfs => {
            say(&["sqfstar", "-quiet", "-no-progress", "-mkfs-time", &epoch]);
            match compression.unwrap_or("zstd") {
                "none" => say(&["-no-compression"]),
                "zstd" => say(&["-comp", "zstd", "-Xcompression-level", "6"]),
                other => say(&["-comp", other]),
            }
            // The top of a tar has no name, and is passed over.
            let top = flat.top();
            let (mode, uid, gid) =
                (format!("{:o}", top.mode), top.uid.to_string(), top.gid.to_string());
            say(&["-root-mode", &mode, "-root-uid", &uid, "-root-gid", &gid]);
            let time = top.mtime.clamp(0, i64::from(u32::MAX)).to_string();
            say(&["-root-time", &time, IMAGE]);
        }
        Format::Erofs => {
            say(&["mkfs.erofs", "--quiet", "--workers=2", "-U", &uuid, "-T", &epoch]);
            say(&["--mkfs-time", "--preserve-mtime"]);
            match compression.unwrap_or("lz4") {
                "none" => {}
                how => say(&[&format!("-z{how}"), "-C65536"]),
            }
            if !label.is_empty() {
                say(&["-L", &label]);
            }
            say(&["--tar=f", IMAGE]);
        }
        _ => {
            let needs = ext4_size(flat);
            let size = options.size.unwrap_or(needs.comfortable);
            if size < needs.least {
                return Err(Error::TooSmall { size, least: needs.least });
            }
            let extended = format!(
                "hash_seed={uuid},lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0,nodiscard"
            );
            say(&["mke2fs", "-q", "-F", "-t", "ext4", "-d", "-", "-U", &uuid, "-E", &extended]);
            say(&["-L", &label, "-m", "0", "-b", "4096", "-I", "256"]);
            say(&["-N", &needs.inodes.to_string(), "-J", &format!("size={}", needs.journal / MIB)]);
            say(&["-O", EXT4, IMAGE, &format!("{}k", size / 1024)]);
            env.push(("SOURCE_DATE_EPOCH".to_owned(), epoch));
        }
    }
    Ok(Program { argv, env })
}

struct Ext4Size {
    /// Below this the files do not fit in.
    least: u64,
    /// With some room to work in.
    comfortable: u64,
    inodes: u64,
    journal: u64,
}

/// How large an ext4 has to be: blocks of files and directories, inodes, journal, and what
/// describes its groups.
fn ext4_size(flat: &Flat) -> Ext4Size {
    let (mut blocks, mut inodes) = (0, 0);
    // A directory is filled to a half at worst.
    let mut names: std::collections::HashMap<&[u8], u64> = std::collections::HashMap::new();
    for (path, node, first) in flat.nodes() {
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let (above, name) = slash.map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]));
        *names.entry(above).or_default() += (8 + name.len() as u64).next_multiple_of(4);
        if !first {
            continue;
        }
        inodes += 1;
        blocks += match &node.kind {
            // Of larger files also the blocks of their extents.
            NodeKind::File { size, .. } => size.div_ceil(BLOCK) + size / (256 * MIB),
            NodeKind::Symlink(target) => u64::from(target.len() >= 60),
            NodeKind::Dir | NodeKind::Fifo => 0,
        };
        blocks += u64::from(!flat.meta(node).xattrs.is_empty());
    }
    let dirs: u64 =
        flat.nodes().filter(|(_, node, _)| matches!(node.kind, NodeKind::Dir)).count() as u64 + 1;
    blocks += dirs + names.values().map(|bytes| 2 * bytes / BLOCK).sum::<u64>();
    let data = blocks * BLOCK;
    let inodes = inodes + inodes / 10 + 256;
    let journal = match data {
        0..0x800_0000 => 4 * MIB,
        0x800_0000..0x4000_0000 => 16 * MIB,
        _ => 64 * MIB,
    };
    let described = data + inodes * 256 + journal;
    let least = (described + described / 128 + 2 * MIB).next_multiple_of(MIB);
    let comfortable = (least + least / 20 + 8 * MIB).next_multiple_of(MIB);
    Ext4Size { least, comfortable, inodes, journal }
}

/// Finds what a format does not hold: what it leaves out is reported, what it cannot take at all is
/// an error.
fn losses(flat: &Flat, format: Format) -> Result<Vec<Lost>, Error> {
    let mut lost: Vec<Lost> = vec![];
    let mut lose = |what: &str, path: &[u8]| {
        let path = format!("/{}", String::from_utf8_lossy(path));
        match lost.iter_mut().find(|one| one.what == what) {
            Some(one) => one.paths.push(path),
            None => lost.push(Lost { what: what.to_owned(), paths: vec![path] }),
        }
    };
    let top = flat.top();
    let all = flat.nodes().map(|(path, node, _)| (path, flat.meta(node)));
    for (path, meta) in std::iter::once((&b""[..], &top)).chain(all) {
        for name in meta.xattrs.keys() {
            let name = String::from_utf8_lossy(name);
            let acl = name.starts_with("system.posix_acl_");
            match format {
                Format::Ext4 if *name != *"security.capability" => {
                    lose(if acl { "access control lists" } else { "extended attributes" }, path);
                }
                Format::Squashfs if acl => lose("access control lists", path),
                Format::Squashfs if path.is_empty() => lose("extended attributes", path),
                _ => {}
            }
        }
        let seconds = match format {
            Format::Squashfs => 0..=i64::from(u32::MAX),
            // 34 bits, of which the first ones are before 1970.
            Format::Ext4 => i64::from(i32::MIN)..=0x3_7fff_ffff,
            _ => i64::MIN..=i64::MAX,
        };
        if !seconds.contains(&meta.mtime) {
            lose("times", path);
        }
        if format == Format::Ext4 && std::str::from_utf8(path).is_err() {
            let path = String::from_utf8_lossy(path).into_owned();
            return Err(Error::Unfit { format: format.name(), path, why: "not UTF-8" });
        }
    }
    Ok(lost)
}

/// Returns an identifier made of a digest: version 8 of RFC 9562, whose bits are the maker's own.
fn uuid(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

/// Copies a file, zeros as holes; returns its digest and bytes.
pub(super) fn copy(from: File, to: &File) -> io::Result<(Digest, u64)> {
    let mut reader = HashReader::new(from);
    let (mut buffer, mut sparse) = (vec![0; 1 << 20], Sparse::new(to, 0));
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        sparse.write_all(&buffer[..read])?;
    }
    let (_, digest, bytes) = reader.finish();
    to.set_len(bytes)?;
    Ok((digest, bytes))
}
