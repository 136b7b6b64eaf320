//! How much of the machine the programs of a job may use: what is asked for, and what that is in
//! numbers on this host.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Processes and threads of a job where nothing else is asked for.
const PROCESSES: u64 = 4096;
/// Hundredths of the machine's memory, and of the free room on the disk, likewise.
const SHARE: u8 = 80;
/// With less room than this on the disk, the last fifth of it is of no use to anybody: then
/// programs find it full.
const ROOM: u64 = 1 << 30;

/// What the programs of a job may use; `None`: what protects the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Memory of all its processes, and what they put into memory file systems. Default: 80 % of
    /// the machine's.
    pub memory: Option<Amount>,
    /// Processes and threads at a time. Default: 4,096.
    pub processes: Option<u64>,
    /// Room for what changes in the root and for `/tmp`. Default: 80 % of what is free, where that
    /// is 1 GiB or more.
    pub disk: Option<Amount>,
    /// Bytes that they print. Default: no limit; logs are cut.
    pub output: Option<Amount>,
}

/// How much of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many bytes.
    Bytes(u64),
    /// Hundredths of what there is.
    Percent(u8),
    /// As much as there is.
    Unlimited,
}

impl Amount {
    /// In bytes, given what there is; `None`: no limit.
    fn of(self, all: u64) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Percent(percent) => Some(all / 100 * u64::from(percent)),
            Self::Unlimited => None,
        }
    }
}

impl Allowance {
    /// Takes from `other` what is not asked for here.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            memory: self.memory.or(other.memory),
            processes: self.processes.or(other.processes),
            disk: self.disk.or(other.disk),
            output: self.output.or(other.output),
        }
    }

    /// Returns what that is on this host, where changes go below `disk`.
    pub(super) fn ceiling(self, disk: &Path) -> Ceiling {
        let share = Amount::Percent(SHARE);
        let free = || {
            let room = rustix::fs::statvfs(disk).ok()?;
            Some(room.f_bavail.saturating_mul(room.f_frsize))
        };
        // What cannot be found out is not limited by a share of it.
        let of = |amount: Amount, all: Option<u64>| match (amount, all) {
            (Amount::Percent(_), None) => None,
            (amount, all) => amount.of(all.unwrap_or_default()),
        };
        Ceiling {
            memory: of(self.memory.unwrap_or(share), machine_memory()),
            processes: self.processes.unwrap_or(PROCESSES),
            disk: match self.disk {
                Some(amount) => of(amount, free()),
                None => of(share, free().filter(|free| *free >= ROOM)),
            },
            output: self.output.and_then(|amount| of(amount, None)),
            asked: self != Self::default(),
        }
    }
}

/// What a job may use at most; in bytes. `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ceiling {
    pub(super) memory: Option<u64>,
    pub(super) processes: u64,
    pub(super) disk: Option<u64>,
    pub(super) output: Option<u64>,
    /// Somebody has asked for one of these: then more is done to keep them.
    pub(super) asked: bool,
}

impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = |limit: Option<u64>| limit.map_or("no limit".to_owned(), bytes);
        write!(
            f,
            "memory {}, {} processes, disk {}, output {}",
            most(self.memory),
            self.processes,
            most(self.disk),
            most(self.output)
        )
    }
}

impl Ceiling {
    /// Returns how large a tmpfs at `/tmp` may become, where that is less than what the kernel
    /// gives it by itself: half the memory.
    pub(super) fn tmp(&self) -> Option<u64> {
        let least = self.memory.into_iter().chain(self.disk).min()?;
        (least < machine_memory()? / 2).then_some(least)
    }

    /// The same for one at `/dev/shm`, which is no part of the disk.
    pub(super) fn shared_memory(&self) -> Option<u64> {
        let memory = self.memory?;
        (memory < machine_memory()? / 2).then_some(memory)
    }
}

/// The memory of this machine; less, where a control group gives this process less.
fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let all = line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)?;
    let own = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let own = own.and_then(|text| text.trim().parse::<u64>().ok());
    Some(own.map_or(all, |own| own.min(all)))
}

/// Something that a job has used too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resource {
    /// Memory.
    Memory,
    /// Processes and threads.
    Processes,
    /// Room on the disk.
    Disk,
    /// What is printed.
    Output,
}

impl Resource {
    /// Returns it as recipes and `--limit` call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processes => "processes",
            Self::Disk => "disk",
            Self::Output => "output",
        }
    }
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Of what.
    pub resource: Resource,
    /// How much there was of it when that was seen.
    pub used: u64,
    /// How much was allowed.
    pub allowed: u64,
}

impl Reached {
    /// Returns what happened, as a fragment.
    #[must_use]
    pub fn reason(&self) -> String {
        let Self { resource, used, allowed } = *self;
        let (used, allowed) = match resource {
            Resource::Processes => (used.to_string(), allowed.to_string()),
            _ => (bytes(used), bytes(allowed)),
        };
        let what = match resource {
            Resource::Memory => format!("it used {used} of memory"),
            Resource::Processes => format!("it had {used} processes and threads"),
            Resource::Disk => format!("it filled {used} of disk and /tmp"),
            Resource::Output => format!("it printed {used}"),
        };
        format!("{what}, its limit is {allowed}, and was ended")
    }

    /// Twice as much, as limits are written.
    fn more(&self) -> String {
        match self.resource {
            Resource::Processes => self.allowed.saturating_mul(2).to_string(),
            _ => bytes_as_limit(self.allowed.saturating_mul(2)),
        }
    }

    /// Returns what to do about it, where a recipe says what a step may use.
    #[must_use]
    pub fn hint(&self) -> String {
        let (name, more) = (self.resource.name(), self.more());
        let quoted = match self.resource {
            Resource::Processes => more.clone(),
            _ => format!("\"{more}\""),
        };
        format!(
            "if it needs more, raise the limit: `limits.{name} = {quoted}` in the step or in \
                `[defaults]`, or `--limit {name}={more}`"
        )
    }

    /// Returns what to do about it elsewhere.
    #[must_use]
    pub fn flag(&self) -> String {
        format!(
            "if it needs more, raise the limit: `--limit {}={}`",
            self.resource.name(),
            self.more()
        )
    }
}

/// So many bytes, for people.
fn bytes(bytes: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(*size);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} bytes"),
    }
}

/// The same as a limit is written: rounded up to a whole number of its unit.
fn bytes_as_limit(bytes: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20)];
    let (unit, size) =
        units.into_iter().find(|(_, size)| bytes >= *size).unwrap_or(("KiB", 1 << 10));
    format!("{}{unit}", bytes.div_ceil(size).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_protects_the_machine() {
        let found = Allowance::default().ceiling(Path::new("/"));
        let all = machine_memory().unwrap();
        assert_eq!(found.memory, Some(all / 100 * 80));
        assert_eq!((found.processes, found.output), (4096, None));
        assert!(found.disk.is_some());
        assert_eq!(
            (found.shared_memory(), found.tmp().is_some_and(|tmp| tmp > all)),
            (None, false)
        );
        let asked = Allowance {
            memory: Some(Amount::Bytes(7)),
            processes: Some(3),
            disk: Some(Amount::Unlimited),
            output: Some(Amount::Bytes(9)),
        };
        let found = asked.or(Allowance::default()).ceiling(Path::new("/"));
        let expected =
            Ceiling { memory: Some(7), processes: 3, disk: None, output: Some(9), asked: true };
        assert_eq!(found, expected);
        assert_eq!((found.tmp(), found.shared_memory()), (Some(7), Some(7)));
        let first = Allowance { processes: Some(1), ..Allowance::default() };
        assert_eq!(first.or(asked).processes, Some(1));
        assert_eq!(first.or(asked).memory, asked.memory);
    }

    #[test]
    fn a_limit_that_was_reached_says_how_to_raise_it() {
        let check = |resource, used, allowed, reason: &str, hint: &str| {
            let reached = Reached { resource, used, allowed };
            assert_eq!(reached.reason(), format!("{reason}, and was ended"));
            assert!(reached.hint().contains(hint), "{}", reached.hint());
        };
        check(
            Resource::Memory,
            2_254_857_830,
            2 << 30,
            "it used 2.0 GiB of memory, its limit is 2.0 GiB",
            "`limits.memory = \"4GiB\"` in the step or in `[defaults]`, or `--limit memory=4GiB`",
        );
        check(
            Resource::Processes,
            51,
            50,
            "it had 51 processes and threads, its limit is 50",
            "`limits.processes = 100` in the step or in `[defaults]`, or `--limit processes=100`",
        );
        check(
            Resource::Disk,
            600 << 20,
            511 << 20,
            "it filled 600.0 MiB of disk and /tmp, its limit is 511.0 MiB",
            "--limit disk=1022MiB",
        );
        check(
            Resource::Output,
            1_100,
            1_000,
            "it printed 1.0 KiB, its limit is 1000 bytes",
            "--limit output=2KiB",
        );
    }
}
