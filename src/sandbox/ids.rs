//! Which host ids stand for the ids of an image.
//!
//! ```text
//! as root    0 … 65535      a slot from 0x70000000 up, above all that distributions hand out; every
//!                           build locks one of its own, so two builds cannot touch each other
//!            65536 … 2³¹-2  the same number from 2³¹ up, where nobody has ids (systemd's "Users,
//!                           Groups, UIDs and GIDs": 2147483648…4294967294 is unused): accounts of
//!                           directory services and of clusters have such ids; left out where the
//!                           host gives ids from there to somebody
//! as a user  0              the user's own id
//!            1 … n          the largest range of subordinate ids
//! ```

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::error::Error;

/// Ids in a range.
pub(super) const COUNT: u32 = 65536;
const FIRST: u32 = 0x7000_0000;
/// The ranges end below 2^31, where some programs take ids for negative numbers.
const SLOTS: u32 = 4096;

/// From here on up stand the ids of an image from [`COUNT`] on, each [`HIGH`] above its own number.
const HIGH: u32 = 1 << 31;
/// The highest id of an image that has a place there.
const HIGHEST: u32 = HIGH - 2;

/// Which ids a session has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Limits {
    /// Highest user id.
    pub(super) uid: u32,
    /// Highest group id.
    pub(super) gid: u32,
}

/// A locked range; free again when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) base: u32,
    /// Ids from [`COUNT`] on are mapped, too.
    high: bool,
    _lock: File,
}

impl Slot {
    /// Returns the rows of uid_map(5) and gid_map.
    pub(super) fn map(&self) -> String {
        let low = format!("0 {} {COUNT}\n", self.base);
        if !self.high {
            return low;
        }
        format!("{low}{COUNT} {} {}\n", HIGH + COUNT, HIGHEST - COUNT + 1)
    }

    /// Returns which ids that gives.
    pub(super) fn limits(&self) -> Limits {
        let highest = if self.high { HIGHEST } else { COUNT - 1 };
        Limits { uid: highest, gid: highest }
    }
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
                        "end some builds, or free the ids from {FIRST} on in /etc/subuid and \
                            /etc/subgid"
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
    // The parent may be writable to everybody: somebody else's directory or symlink there is not
    // ours to use.
    let meta = fs::symlink_metadata(dir)?;
    if !meta.is_dir() || meta.uid() != 0 || meta.mode() & 0o022 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "not a private directory of root's",
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
            Ok(()) => {
                let high = taken.iter().all(|other| other.end <= HIGH.into());
                return Ok(Some(Slot { base, high, _lock: lock }));
            }
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

/// The largest range of `name` or `uid`, if it is large enough, as first id and how many.
pub(super) fn range_of(text: &str, name: Option<&str>, uid: u32) -> Option<(u32, u32)> {
    let number = uid.to_string();
    let mine = |row: &Row<'_>| row.owner == number || Some(row.owner) == name;
    subordinate(text)
        .filter(|row| mine(row) && row.count >= COUNT - 1)
        // Of several as large, the first.
        .reduce(|best, row| if row.count > best.count { row } else { best })
        .map(|row| (row.first, row.count))
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
        check(Some("ann"), 1000, Some((100_000, 65536)));
        check(None, 1001, Some((300_000, 65536)));
        check(Some("bob"), 1002, Some((400_000, 65535)));
        check(Some("eve"), 1003, None);
        assert_eq!(subordinate(text).count(), 4);
        let text = "eve:100000:65536\neve:500000:1000000\neve:300000:65536\n";
        assert_eq!(range_of(text, Some("eve"), 1003), Some((500_000, 1_000_000)));
    }

    #[test]
    fn a_slot_maps_high_ids_where_nobody_else_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let lock = || File::open(dir.path()).unwrap();
        let slot = Slot { base: FIRST, high: true, _lock: lock() };
        assert_eq!(slot.map(), "0 1879048192 65536\n65536 2147549184 2147418111\n");
        assert_eq!(slot.limits(), Limits { uid: 2_147_483_646, gid: 2_147_483_646 });
        let slot = Slot { base: FIRST, high: false, _lock: lock() };
        assert_eq!(slot.map(), "0 1879048192 65536\n");
        assert_eq!(slot.limits().uid, 65_535);
    }
}
