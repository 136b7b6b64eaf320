//! Sees to it that the programs of a job keep to what they may use, by looking: the init counts its
//! processes and what they have every tenth of a second, and sooner where many are new. Needs no
//! privilege and no control group, and so is the same for root and for everybody.
//!
//! ```text
//! processes  threads of all processes: /proc/PID/stat
//! memory     resident pages of all processes, plus what lies in tmpfs and shared memory; where that is
//!            too much, once more in shares (smaps_rollup), so that pages that several have count once
//! disk       blocks below the upper directory and of open files without a name, plus /tmp: walked only
//!            when the file system has lost so much room that it may be too much, or a while has passed
//! ```
//! What is seen is a little late: a program may have used more by then, and is ended all the same.

use std::collections::HashSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType};

use super::allowance::{Ceiling, Reached, Resource};
use crate::files::open_dir;

/// How often it is asked whether it is time to look.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// Between two looks, where nothing is the matter.
const PAUSE: Duration = Duration::from_millis(100);
/// How long nobody walks through the changes although the disk gives no reason to; where a limit
/// was asked for, and else. Others may free what the job takes, so that nothing seems to be lost.
const PATIENCE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// Looking at descriptors is dearer than at processes.
const DESCRIPTORS: Duration = Duration::from_secs(1);
/// Walking takes no more than this part of the time.
const PART: u32 = 20;
/// How deep it goes: each level holds a descriptor open.
const DEEPEST: usize = 200;
/// Where memory file systems of a job lie.
const MEMORY: &[&str] = &["/tmp", "/dev/shm"];

/// Watches over one job.
pub(super) struct Watch {
    ceiling: Ceiling,
    /// Of the root; none without an image.
    upper: Option<OwnedFd>,
    page: u64,
    next: Instant,
    /// The newest process at the last look.
    newest: u64,
    walk: Walk,
    /// When descriptors were last looked at, and the bytes of files in memory that have no name.
    nameless: (Option<Instant>, u64),
}

/// The last walk through the changes.
struct Walk {
    at: Instant,
    took: Duration,
    /// What it found.
    used: u64,
    /// What was free then.
    free: u64,
    /// What was free at the beginning.
    first: u64,
}

/// What the processes of a job have.
#[derive(Default)]
struct Count {
    threads: u64,
    resident: u64,
    pids: Vec<u32>,
}

impl Watch {
    /// Begins now: what is lost of the disk's free room from here on may be the job's.
    pub(super) fn new(ceiling: Ceiling, upper: Option<OwnedFd>) -> Self {
        let free = upper.as_ref().and_then(free).unwrap_or_default();
        let walk = Walk { at: Instant::now(), took: Duration::ZERO, used: 0, free, first: free };
        Self {
            ceiling,
            upper,
            page: rustix::param::page_size() as u64,
            next: Instant::now() + PAUSE,
            newest: newest(),
            walk,
            nameless: (None, 0),
        }
    }

    /// Looks, if it is time to. Returns the limit that was reached, if any.
    pub(super) fn look(&mut self) -> Option<Reached> {
        let newest = newest();
        // Programs that only fork come to the kernel's wall and may be gone before it is time.
        let many = newest.abs_diff(self.newest) > self.ceiling.processes / 2;
        let due = Instant::now() >= self.next;
        if !due && !many {
            return None;
        }
        self.newest = newest;
        let found = self.processes();
        if !due {
            return found;
        }
        let found = found.or_else(|| self.disk(false));
        self.next = Instant::now() + PAUSE;
        found
    }

    /// Looks at what a program that has ended leaves.
    pub(super) fn look_back(&mut self) -> Option<Reached> {
        let named = tmpfs_used() + system_v();
        self.over(Resource::Memory, named, self.ceiling.memory).or_else(|| self.disk(true))
    }

    fn over(&self, resource: Resource, used: u64, allowed: Option<u64>) -> Option<Reached> {
        let allowed = allowed?;
        (used >= allowed).then_some(Reached { resource, used, allowed })
    }

    fn processes(&mut self) -> Option<Reached> {
        let count = count();
        if count.threads > self.ceiling.processes {
            let (used, allowed) = (count.threads, self.ceiling.processes);
            return Some(Reached { resource: Resource::Processes, used, allowed });
        }
        let allowed = self.ceiling.memory?;
        if self.nameless.0.is_none_or(|at| at.elapsed() >= DESCRIPTORS) {
            self.nameless = (Some(Instant::now()), nameless(&count.pids).0);
        }
        let shared = tmpfs_used() + system_v() + self.nameless.1;
        if shared + count.resident * self.page < allowed {
            return None;
        }
        // Pages of several processes have counted several times.
        let (mut own, mut mapped) = (0, 0);
        for pid in &count.pids {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            own += kilobytes(&text, "Pss_Anon:");
            mapped += kilobytes(&text, "Pss_Shmem:");
        }
        self.over(Resource::Memory, own + mapped.max(shared), Some(allowed))
    }

    /// `last`: nobody looks again, so that a while need not pass first.
    fn disk(&mut self, last: bool) -> Option<Reached> {
        let allowed = self.ceiling.disk?;
        let tmp = used(Path::new("/tmp"));
        let upper = self.upper.as_ref()?;
        let free = free(upper)?;
        let left = allowed.saturating_sub(self.walk.used + tmp);
        // What the whole file system has lost since, by others too.
        let lost = self.walk.free.saturating_sub(free);
        let since = self.walk.at.elapsed();
        let rested = last || since >= (self.walk.took * PART).max(PAUSE);
        let patience = PATIENCE[usize::from(!self.ceiling.asked)];
        let long = if last { self.ceiling.asked } else { since >= patience };
        if left == 0 || rested && (lost >= left / 2 || long) {
            let begun = Instant::now();
            let mut tree = Tree::default();
            tree.add(upper, 0);
            let mut used = tree.bytes + nameless(&count().pids).1;
            if tree.too_deep {
                // Somebody hides it: then what all have used counts.
                used = used.max(self.walk.first.saturating_sub(free));
            }
            let first = self.walk.first;
            self.walk = Walk { at: Instant::now(), took: begun.elapsed(), used, free, first };
        }
        self.over(Resource::Disk, self.walk.used + tmp, Some(allowed))
    }
}

/// The id that the newest process of the pid namespace got: the last field of proc_loadavg(5).
fn newest() -> u64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().last().and_then(|id| id.parse().ok()).unwrap_or_default()
}

/// What is free where `dir` is, in bytes.
fn free(dir: &OwnedFd) -> Option<u64> {
    let room = rustix::fs::fstatvfs(dir).ok()?;
    Some(room.f_bavail.saturating_mul(room.f_frsize))
}

/// What the memory file systems hold.
fn tmpfs_used() -> u64 {
    MEMORY.iter().map(|place| used(Path::new(place))).sum()
}

/// What the file system at `place` holds, where it is a tmpfs of the job's own.
fn used(place: &Path) -> u64 {
    let own = rustix::fs::statfs(place).is_ok_and(|fs| fs.f_type as u64 == TMPFS);
    let room = rustix::fs::statvfs(place).ok().filter(|_| own);
    room.map_or(0, |fs| fs.f_blocks.saturating_sub(fs.f_bfree).saturating_mul(fs.f_frsize))
}

/// `TMPFS_MAGIC` of statfs(2).
const TMPFS: u64 = 0x0102_1994;

/// Memory of System V segments, in use or not: the column `rss` of proc_sysvipc_shm(5).
fn system_v() -> u64 {
    let text = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let mut lines = text.lines();
    let Some(column) =
        lines.next().and_then(|head| head.split_whitespace().position(|name| name == "rss"))
    else {
        return 0;
    };
    lines.filter_map(|line| line.split_whitespace().nth(column)?.parse::<u64>().ok()).sum()
}

/// Counts all processes but the init.
fn count() -> Count {
    let mut count = Count::default();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(pid) = pid.filter(|pid| *pid != 1) else { continue };
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if let Some((threads, resident)) = sizes(&text) {
            count.threads += threads;
            count.resident += resident;
            count.pids.push(pid);
        }
    }
    count
}

/// How many threads and resident pages a process has, as proc_pid_stat(5) has them.
fn sizes(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_whitespace().skip(17);
    let threads = fields.next()?.parse().ok()?;
    Some((threads, fields.nth(3)?.parse().ok()?))
}

/// The value of a line of proc_pid_smaps_rollup(5), in bytes.
fn kilobytes(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    value.unwrap_or(0) * 1024
}

/// What files hold that are open and have no name any more: those in memory only, and those on the
/// disk. Those of the memory file systems count with these.
fn nameless(pids: &[u32]) -> (u64, u64) {
    let memory: HashSet<u64> =
        MEMORY.iter().filter_map(|place| Some(fs::metadata(place).ok()?.dev())).collect();
    let mut seen = HashSet::new();
    let (mut in_memory, mut on_disk) = (0, 0);
    for pid in pids {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(target) = fs::read_link(&path) else { continue };
            let target = target.to_string_lossy();
            let Some(meta) = target.ends_with(" (deleted)").then(|| fs::metadata(&path).ok())
            else {
                continue;
            };
            let Some(meta) = meta.filter(|meta| meta.is_file() && meta.nlink() == 0) else {
                continue;
            };
            if memory.contains(&meta.dev()) || !seen.insert((meta.dev(), meta.ino())) {
                continue;
            }
            let bytes = meta.blocks() * 512;
            if target.starts_with("/memfd:") { in_memory += bytes } else { on_disk += bytes }
        }
    }
    (in_memory, on_disk)
}

/// The blocks of everything below a directory, in bytes: holes do not count, and files with several
/// names count once.
#[derive(Default)]
struct Tree {
    bytes: u64,
    seen: HashSet<u64>,
    /// There is more below.
    too_deep: bool,
}

impl Tree {
    fn add(&mut self, dir: &OwnedFd, depth: usize) {
        let Ok(entries) = open_dir(dir.as_fd(), ".").and_then(|dir| Ok(Dir::new(dir)?)) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            let known = kind == FileType::RegularFile
                && stat.st_nlink > 1
                && !self.seen.insert(stat.st_ino);
            if !known {
                self.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            }
            if kind != FileType::Directory {
                continue;
            }
            if depth == DEEPEST {
                self.too_deep = true;
            } else if let Ok(below) = open_dir(dir.as_fd(), name) {
                self.add(&below, depth + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_threads_and_pages() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 100 4096000 321 \
            18446744073709551615 1 1";
        assert_eq!(sizes(stat), Some((9, 321)));
        assert_eq!(sizes("nonsense"), None);
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        assert!(sizes(&own).is_some_and(|(threads, resident)| threads > 0 && resident > 0));
    }

    #[test]
    fn shares_are_read_in_kilobytes() {
        let text = "00400000-7fff [rollup]\nRss:  10 kB\nPss_Anon:   7 kB\nPss_Shmem:  2 kB\n";
        assert_eq!((kilobytes(text, "Pss_Anon:"), kilobytes(text, "Pss_Dirty:")), (7 * 1024, 0));
    }

    #[test]
    fn holes_and_second_names_do_not_count() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let open = || open_dir(rustix::fs::CWD, dir.path()).unwrap();
        let blocks = || {
            let mut tree = Tree::default();
            tree.add(&open(), 0);
            tree.bytes
        };
        let before = blocks();
        fs::create_dir(dir.path().join("d")).unwrap();
        let sparse = fs::File::create(dir.path().join("d/sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        fs::write(dir.path().join("full"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(dir.path().join("full"), dir.path().join("again")).unwrap();
        fs::File::open(dir.path().join("full")).unwrap().sync_all().unwrap();
        let used = blocks() - before;
        assert!((1 << 20..(1 << 20) + (64 << 10)).contains(&used), "{used}");
    }
}
