//! Which host ids stand for the ids 0…65535 of an image.
//!
//! As root: a range of 65536 ids from 0x70000000 up, above all that distributions hand out; every
//! build locks a slot of its own, so two builds cannot touch each other. As a user: the user's own
//! id for root, and subordinate ids for the rest.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::FlockOperation;

use super::error::Error;

/// Ids in a range.
pub(super) const COUNT: u32 = 65536;
const FIRST: u32 = 0x7000_0000;
/// The ranges end below 2^31, where some programs take ids for negative numbers.
const SLOTS: u32 = 4096;

/// A locked range; free again when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) base: u32,
    _lock: File,
}

/// Locks a free range.
pub(super) fn lock_slot() -> Result<Slot, Error> {
    let taken: Vec<Range<u64>> = ["/etc/subuid", "/etc/subgid"]
        .iter()
        .flat_map(|path| {
            subordinate(&fs::read_to_string(path).unwrap_or_default())
                .map(|row| row.range())
                .collect::<Vec<_>>()
        })
        .collect();
    let mut last = None;
    for dir in ["/run/lock/bake", "/run/bake", "/var/lib/bake", "/tmp/bake-ids"] {
        match lock_in(Path::new(dir), &taken) {
            Ok(Some(slot)) => return Ok(slot),
            Ok(None) => {
                return Err(Error::Host {
                    what: "no free range of ids for this build".into(),
                    hint: format!(
                        "end some builds, or free the ids from {FIRST} on in /etc/subuid and /etc/subgid"
                    ),
                });
            }
            Err(error) => last = Some((dir, error)),
        }
    }
    let (dir, source) = last.expect("the list above is not empty");
    Err(Error::System { what: format!("cannot lock a range of ids in {dir}"), source })
}

fn lock_in(dir: &Path, taken: &[Range<u64>]) -> io::Result<Option<Slot>> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // The parent may be writable to everybody: somebody else's folder or link there is not ours to
    // use.
    let meta = fs::symlink_metadata(dir)?;
    if !meta.is_dir() || meta.uid() != 0 || meta.mode() & 0o022 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "not a private folder of root's",
        ));
    }
    for slot in 0..SLOTS {
        let base = FIRST + slot * COUNT;
        let range = u64::from(base)..u64::from(base) + u64::from(COUNT);
        if taken.iter().any(|other| other.start < range.end && range.start < other.end) {
            continue;
        }
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(dir.join(slot.to_string()))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(Slot { base, _lock: lock })),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// A row of /etc/subuid or /etc/subgid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) owner: &'a str,
    pub(super) first: u32,
    pub(super) count: u32,
}

impl Row<'_> {
    fn range(&self) -> Range<u64> {
        u64::from(self.first)..u64::from(self.first) + u64::from(self.count)
    }
}

/// The rows that make sense.
pub(super) fn subordinate(text: &str) -> impl Iterator<Item = Row<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let row = Row {
            owner: fields.next()?,
            first: fields.next()?.trim().parse().ok()?,
            count: fields.next()?.trim().parse().ok()?,
        };
        (!row.owner.starts_with('#')).then_some(row)
    })
}

/// The first range of `name` or `uid` that is large enough, as first id and how many are used.
pub(super) fn range_of(text: &str, name: Option<&str>, uid: u32) -> Option<(u32, u32)> {
    let number = uid.to_string();
    let mine = |row: &Row<'_>| row.owner == number || Some(row.owner) == name;
    subordinate(text)
        .find(|row| mine(row) && row.count >= COUNT - 1)
        .map(|row| (row.first, COUNT - 1))
}

/// The login name of `uid` on this host.
pub(super) fn login(uid: u32) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let number = uid.to_string();
    let row = passwd.lines().find(|line| line.split(':').nth(2) == Some(&number))?;
    row.split(':').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_by_name_or_number() {
        let text =
            "# note\nann:100000:65536\n1001:300000:65536\nbob:5:10\nbob:400000:65535\nbad\nx:y:z\n";
        let check =
            |name, uid, expected| assert_eq!(range_of(text, name, uid), expected, "{name:?} {uid}");
        check(Some("ann"), 1000, Some((100_000, 65535)));
        check(None, 1001, Some((300_000, 65535)));
        check(Some("bob"), 1002, Some((400_000, 65535)));
        check(Some("eve"), 1003, None);
        assert_eq!(subordinate(text).count(), 4);
    }
}
