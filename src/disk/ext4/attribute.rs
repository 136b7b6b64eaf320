//! Extended attributes: in the inode as long as there is room, else in a block of their own.

use std::collections::BTreeMap;

use super::checksum::crc32c;
use super::geometry::BLOCK;

const MAGIC: u32 = 0xea02_0000;

/// Bytes of an entry before its name.
const HEAD: usize = 16;

/// Bytes before the first entry of a block.
const BLOCK_HEAD: usize = 32;

/// Bytes of an inode behind the fields that it has.
pub(super) const INLINE: usize = 96;

/// How names begin, and the number that stands for it.
const PREFIXES: [(&[u8], u8); 5] =
    [(b"user.", 1), (ACCESS, 2), (DEFAULT, 3), (b"trusted.", 4), (b"security.", 6)];

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

/// Whether there is a place for attributes of this name.
#[must_use]
pub fn holds(name: &[u8]) -> bool {
    PREFIXES.iter().any(|(prefix, _)| match prefix.ends_with(b".") {
        true => name.starts_with(prefix) && name.len() > prefix.len(),
        false => name == *prefix,
    })
}

/// The attributes of a file as they lie on a disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    /// What follows the fields of its inode.
    pub(super) inline: Vec<u8>,
    /// A block, the checksum still missing.
    pub(super) block: Option<Vec<u8>>,
}

struct Attribute<'a> {
    index: u8,
    name: &'a [u8],
    value: Vec<u8>,
}

impl Attribute<'_> {
    fn bytes(&self) -> usize {
        HEAD + self.name.len().next_multiple_of(4) + self.value.len().next_multiple_of(4)
    }

    /// As e2fsck computes it; bytes of names are taken as unsigned.
    fn hash(&self) -> u32 {
        let name = self.name.iter();
        let name = name.fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
        self.value.chunks(4).fold(name, |hash, some| {
            let mut word = [0; 4];
            word[..some.len()].copy_from_slice(some);
            hash.rotate_left(16) ^ u32::from_le_bytes(word)
        })
    }
}

/// Why attributes cannot be stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// They take more than a block.
    Many,
    /// An access control list is none.
    List,
}

/// Lays out the attributes of a file, but for those that there is no place for.
pub(super) fn store(attributes: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Stored, Unfit> {
    let mut all = vec![];
    for (name, value) in attributes.iter().filter(|(name, _)| holds(name)) {
        let prefix = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix));
        let Some((prefix, index)) = prefix else { continue };
        let value = match matches!(index, 2 | 3) {
            true => list(value).ok_or(Unfit::List)?,
            false => value.clone(),
        };
        all.push(Attribute { index: *index, name: &name[prefix.len()..], value });
    }
    // In the order in which the kernel looks for them.
    all.sort_by_key(|one| (one.index, one.name.len(), one.name));
    let mut left = INLINE - 8;
    let (inline, block): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| {
        let fits = one.bytes() <= left;
        left -= if fits { one.bytes() } else { 0 };
        fits
    });
    let mut stored = Stored::default();
    if !inline.is_empty() {
        stored.inline = vec![0; INLINE];
        stored.inline[..4].copy_from_slice(&MAGIC.to_le_bytes());
        // Offsets count from the first entry.
        entries(&inline, &mut stored.inline[4..], 0);
    }
    if !block.is_empty() {
        let bytes: usize = block.iter().map(Attribute::bytes).sum();
        if BLOCK_HEAD + bytes + 4 > BLOCK as usize {
            return Err(Unfit::Many);
        }
        let mut out = vec![0; BLOCK as usize];
        entries(&block, &mut out, BLOCK_HEAD);
        let hash = block.iter().map(Attribute::hash);
        let hash = hash.fold(0_u32, |all, one| all.rotate_left(16) ^ one);
        for (at, word) in [MAGIC, 1, 1, hash].into_iter().enumerate() {
            out[at * 4..at * 4 + 4].copy_from_slice(&word.to_le_bytes());
        }
        stored.block = Some(out);
    }
    Ok(stored)
}

/// Writes entries from `at` on, their values at the end.
fn entries(attributes: &[Attribute<'_>], out: &mut [u8], mut at: usize) {
    let mut end = out.len();
    for one in attributes {
        end -= one.value.len().next_multiple_of(4);
        let offset = if one.value.is_empty() { 0 } else { end as u16 };
        out[at] = one.name.len() as u8;
        out[at + 1] = one.index;
        out[at + 2..at + 4].copy_from_slice(&offset.to_le_bytes());
        out[at + 8..at + 12].copy_from_slice(&(one.value.len() as u32).to_le_bytes());
        out[at + 12..at + 16].copy_from_slice(&one.hash().to_le_bytes());
        out[at + HEAD..][..one.name.len()].copy_from_slice(one.name);
        out[end..][..one.value.len()].copy_from_slice(&one.value);
        at += HEAD + one.name.len().next_multiple_of(4);
    }
}

/// Gives a block of attributes its checksum.
pub(super) fn seal(block: &mut [u8], at: u64, seed: u32) {
    let sum = crc32c(crc32c(seed, &at.to_le_bytes()), block);
    block[16..20].copy_from_slice(&sum.to_le_bytes());
}

/// Returns an access control list as ext4 keeps it: only users and groups have a number.
fn list(value: &[u8]) -> Option<Vec<u8>> {
    let (version, entries) = value.split_first_chunk()?;
    if u32::from_le_bytes(*version) != 2 || entries.len() % 8 != 0 {
        return None;
    }
    let mut out = 1_u32.to_le_bytes().to_vec();
    for entry in entries.chunks_exact(8) {
        let named = matches!(entry[0], 0x02 | 0x08);
        out.extend(&entry[..if named { 8 } else { 4 }]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(all: &[(&str, usize)]) -> Result<Stored, Unfit> {
        let one = |(name, size): &(&str, usize)| (name.as_bytes().to_vec(), vec![7; *size]);
        store(&all.iter().map(one).collect())
    }

    #[test]
    fn attributes_are_in_the_inode_as_long_as_there_is_room() {
        let inline = |all: &[(&str, usize)]| {
            let stored = of(all).expect("they fit");
            (!stored.inline.is_empty(), stored.block.is_some())
        };
        assert_eq!(inline(&[]), (false, false));
        assert_eq!(inline(&[("security.capability", 20)]), (true, false));
        assert_eq!(inline(&[("user.a", 68)]), (true, false));
        assert_eq!(inline(&[("user.a", 69)]), (false, true));
        assert_eq!(inline(&[("security.capability", 20), ("user.large", 300)]), (true, true));
        assert_eq!(inline(&[("user.a", 4040)]), (false, true));
        assert_eq!(of(&[("user.a", 4041)]), Err(Unfit::Many));
        // Not a name that the kernel gives ext4.
        assert_eq!(inline(&[("system.other", 3), ("user.", 3)]), (false, false));
    }

    #[test]
    fn access_control_lists_are_kept_shorter() {
        let entry = |tag: u8, id: u32| [&[tag, 0, 6, 0][..], &id.to_le_bytes()].concat();
        let list = [&[2, 0, 0, 0][..], &entry(1, !0), &entry(2, 33), &entry(4, !0)].concat();
        let kept = super::list(&list).expect("a list");
        assert_eq!(kept, [1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 6, 0, 33, 0, 0, 0, 4, 0, 6, 0]);
        for wrong in [&b"\x02"[..], b"\x01\0\0\0", b"\x02\0\0\0\x01"] {
            assert_eq!(super::list(wrong), None);
        }
    }
}
