//! The files of a boot partition: FAT32 (Microsoft, "FAT32 File System Specification" 1.03), with
//! long names.

use std::collections::HashSet;

use super::bytes::{Bytes, Part, read, within};
use super::error::{Error, damaged, foreign};
use super::record::Record;

const WHAT: &str = "the boot partition";

/// Most bytes of the table of clusters, of a directory, and most files.
const MOST_TABLE: u64 = 64 << 20;
const MOST_DIRECTORY: u64 = 2 << 20;
const MOST_FILES: usize = 10_000;

/// From here on a number of a cluster says that there is no further one.
const END: u32 = 0x0fff_fff8;

/// Bytes of a directory entry; attributes of one.
const ENTRY: usize = 32;
const VOLUME: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
const LONG: u8 = 0x0f;

/// A file.
pub struct BootFile {
    /// Where it is, as `EFI/BOOT/BOOTX64.EFI`.
    pub path: String,
    /// What is in it.
    pub content: Chain,
}

/// Clusters one behind the other, wherever they are.
pub struct Chain {
    part: Part,
    cluster: u64,
    places: Vec<u64>,
    size: u64,
}

impl Bytes for Chain {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<(), Error> {
        if !within(self.size, at, buffer.len()) {
            return Err(damaged(WHAT, "a file is shorter than it says"));
        }
        let (mut at, mut rest) = (at, buffer);
        while !rest.is_empty() {
            let within = at % self.cluster;
            let n = usize::try_from(self.cluster - within).unwrap_or(usize::MAX).min(rest.len());
            let place = usize::try_from(at / self.cluster).ok().and_then(|n| self.places.get(n));
            let place = place.ok_or_else(|| damaged(WHAT, "a file is shorter than it says"))?;
            let (now, later) = rest.split_at_mut(n);
            self.part.read_at(place + within, now)?;
            at += n as u64;
            rest = later;
        }
        Ok(())
    }
}

struct Fat {
    part: Part,
    table: Vec<u32>,
    /// Bytes of a cluster, and where the first one is.
    cluster: u64,
    data: u64,
}

/// Returns the files of a boot partition.
///
/// # Errors
/// [`Error::Foreign`] where it is no FAT32, [`Error::Damaged`]; what reading fails with.
pub fn boot_files(part: &Part) -> Result<Vec<BootFile>, Error> {
    let fat = Fat::open(part)?;
    let first = Record::new(WHAT, &read(part, 0, 512)?).le32(44)?;
    let (mut files, mut met) = (vec![], HashSet::new());
    let mut left = vec![(String::new(), first)];
    while let Some((path, cluster)) = left.pop() {
        if !met.insert(cluster) {
            return Err(damaged(WHAT, "a directory is in two places"));
        }
        for (name, directory, first, size) in fat.list(cluster)? {
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            if files.len() + left.len() > MOST_FILES {
                return Err(damaged(WHAT, "it has more files than can be"));
            }
            if directory {
                left.push((path, first));
            } else {
                let content = fat.chain(first, Some(size.into()))?;
                files.push(BootFile { path, content });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

impl Fat {
    fn open(part: &Part) -> Result<Self, Error> {
        let all = read(part, 0, 512)?;
        let head = Record::new(WHAT, &all);
        let sector = u64::from(head.le16(11)?);
        let (of_cluster, reserved) = (u64::from(head.byte(13)?), u64::from(head.le16(14)?));
        let (tables, table) = (u64::from(head.byte(16)?), u64::from(head.le32(36)?));
        if head.slice(510, 2)? != [0x55, 0xaa] || head.le16(17)? != 0 || head.le16(22)? != 0 {
            return Err(foreign(WHAT, "no FAT32"));
        }
        let power =
            |n: u64, least: u64, most: u64| n.is_power_of_two() && (least..=most).contains(&n);
        if !power(sector, 512, 4096) || !power(of_cluster, 1, 128) || tables == 0 {
            return Err(damaged(WHAT, "the numbers in its first sector fit nowhere"));
        }
        let bytes = table * sector;
        if bytes > MOST_TABLE {
            return Err(damaged(WHAT, format!("a table of {bytes} bytes")));
        }
        let found = read(part, reserved * sector, usize::try_from(bytes).unwrap_or(usize::MAX))?;
        let table = found.as_chunks().0.iter().map(|n| u32::from_le_bytes(*n) & 0x0fff_ffff);
        let data = (reserved * sector).saturating_add(tables.saturating_mul(bytes));
        let (part, table) = (part.clone(), table.collect());
        Ok(Self { part, table, cluster: sector * of_cluster, data })
    }

    /// Returns a file of so many bytes, or a directory, by its first cluster.
    fn chain(&self, first: u32, size: Option<u64>) -> Result<Chain, Error> {
        let (mut places, mut at) = (vec![], first);
        let most = size.unwrap_or(MOST_DIRECTORY).div_ceil(self.cluster);
        while (2..END).contains(&at) && (places.len() as u64) < most {
            places.push(self.data + u64::from(at - 2) * self.cluster);
            let next = self.table.get(usize::try_from(at).unwrap_or(usize::MAX));
            at = *next.ok_or_else(|| damaged(WHAT, "a file lies beyond its end"))?;
        }
        let size = size.unwrap_or(places.len() as u64 * self.cluster);
        if (places.len() as u64) * self.cluster < size {
            return Err(damaged(WHAT, "a file is shorter than it says"));
        }
        Ok(Chain { part: self.part.clone(), cluster: self.cluster, places, size })
    }

    /// Returns the names in a directory: whether each is one itself, its first cluster, its bytes.
    fn list(&self, first: u32) -> Result<Vec<(String, bool, u32, u32)>, Error> {
        let chain = self.chain(first, None)?;
        let bytes = read(&chain, 0, usize::try_from(chain.size).unwrap_or(usize::MAX))?;
        let (mut found, mut long) = (vec![], vec![]);
        for entry in bytes.chunks_exact(ENTRY) {
            let record = Record::new(WHAT, entry);
            let attributes = record.byte(11)?;
            match entry[0] {
                0 => break,
                0xe5 => {
                    long.clear();
                    continue;
                }
                _ => {}
            }
            if attributes & LONG == LONG {
                // The last part of a long name comes first.
                let units = [1..11, 14..26, 28..32].into_iter().flat_map(|range| &entry[range]);
                let units: Vec<u8> = units.copied().collect();
                let units = units.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit));
                long.splice(0..0, units);
                continue;
            }
            let units: Vec<u16> =
                std::mem::take(&mut long).into_iter().take_while(|unit| *unit != 0).collect();
            if attributes & VOLUME != 0 {
                continue;
            }
            let name = match units.is_empty() {
                true => short(entry),
                false => String::from_utf16_lossy(&units),
            };
            if name == "." || name == ".." {
                continue;
            }
            let cluster = u32::from(record.le16(20)?) << 16 | u32::from(record.le16(26)?);
            found.push((name, attributes & DIRECTORY != 0, cluster, record.le32(28)?));
        }
        Ok(found)
    }
}

/// A name of eight and three characters; some systems note that a part of it is in lower case.
fn short(entry: &[u8]) -> String {
    let part = |range: std::ops::Range<usize>, lower: bool| {
        let text = String::from_utf8_lossy(&entry[range]).trim_end().to_owned();
        if lower { text.to_lowercase() } else { text }
    };
    let (name, end) = (part(0..8, entry[12] & 0x08 != 0), part(8..11, entry[12] & 0x10 != 0));
    if end.is_empty() { name } else { format!("{name}.{end}") }
}
