//! The processes below a job's init: the one it waits for, the programs in the background, and the
//! orphans it reaps on the way.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

use super::ended::Alive;
use super::ids::Limits;
use super::plan::{self, Doing, Event, Fault, Status};
use super::watch::{TICK, Watch};
use super::{seccomp, sys};

/// Most processes that are named when time is up.
const MOST_NAMES: usize = 20;

/// How often orphans are reaped while nothing else happens.
const REAP: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// The processes below the init, and what their system call filters ask.
pub(super) struct Children {
    /// The programs in the background.
    background: Vec<Child>,
    /// Where the filters of programs ask; see [`seccomp::apply`].
    listeners: Vec<OwnedFd>,
    limits: Limits,
    /// The first id that was refused.
    refused: Option<u32>,
    /// Looks at what programs use, once there are any.
    watch: Option<Watch>,
}

struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    /// The action that started it.
    action: usize,
    ended: Option<Status>,
}

impl Children {
    pub(super) fn new(limits: Limits) -> Self {
        Self { background: vec![], listeners: vec![], limits, refused: None, watch: None }
    }

    /// Has the processes watched from now on, if they are not yet.
    pub(super) fn watched(&mut self, by: impl FnOnce() -> Watch) {
        self.watch.get_or_insert_with(by);
    }

    /// Answers from now on what the filter of a program asks.
    pub(super) fn listen(&mut self, listener: OwnedFd) {
        self.listeners.push(listener);
    }

    /// Returns an id above the limits that a program wanted to give a file since
    /// [`Self::take_refused`].
    pub(super) fn refused(&self) -> Option<u32> {
        self.refused
    }

    /// The same, and forgets it.
    pub(super) fn take_refused(&mut self) -> Option<u32> {
        self.refused.take()
    }

    /// Refuses what the filters that asked leave open, as the kernel would; forgets those that no
    /// process has any more. `events`: of each listener.
    fn answer(&mut self, events: &[PollFlags]) -> Result<(), Fault> {
        let what = || "answer a program's filter".to_owned();
        for (listener, events) in self.listeners.iter().zip(events) {
            if events.contains(PollFlags::IN)
                && let Some(asked) = sys::asked(listener.as_fd()).doing(what)?
            {
                let wanted = seccomp::wanted(asked.number, &asked.arguments, self.limits);
                self.refused = self.refused.or(wanted);
                sys::refuse(listener.as_fd(), &asked, libc::EINVAL).doing(what)?;
            }
        }
        let mut events = events.iter();
        self.listeners.retain(|_| {
            !events.next().is_some_and(|events| {
                events.contains(PollFlags::HUP) && !events.contains(PollFlags::IN)
            })
        });
        Ok(())
    }

    /// Takes in a child that was just started.
    pub(super) fn join(&mut self, pid: Pid, action: usize) -> Result<(), Fault> {
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .doing(|| "watch a program".into())?;
        self.background.push(Child { pid, pidfd, action, ended: None });
        Ok(())
    }

    fn note(&mut self, pid: Pid, status: WaitStatus) {
        if let Some(child) =
            self.background.iter_mut().find(|child| child.pid == pid && child.ended.is_none())
        {
            child.ended = Some(status_of(status));
        }
    }

    /// Waits for `child`, reaping everybody else on the way.
    pub(super) fn wait(&mut self, child: Pid) -> Result<Status, Fault> {
        self.wait_with(child, None)
    }

    /// The same, passing on to the child the signals that bake sends through `control` meanwhile,
    /// and reporting to `events` which processes are alive when it asks.
    pub(super) fn wait_listening(
        &mut self,
        child: Pid,
        control: &File,
        events: &File,
    ) -> Result<Status, Fault> {
        self.wait_with(child, Some((control, events)))
    }

    fn wait_with(&mut self, child: Pid, bake: Option<(&File, &File)>) -> Result<Status, Fault> {
        let what = || "wait for a program".to_owned();
        let pidfd = rustix::process::pidfd_open(child, PidfdFlags::empty()).doing(what)?;
        loop {
            let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
            fds.extend(self.listeners.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
            fds.extend(bake.iter().map(|(control, _)| PollFd::new(*control, PollFlags::IN)));
            let pause = self.watch.as_ref().map_or(REAP, |_| timespec(TICK));
            match rustix::event::poll(&mut fds, Some(&pause)) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(Fault::new(what(), error)),
            }
            let events: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            let asking = self.listeners.len();
            self.answer(&events[1..=asking])?;
            // Before the dead are reaped: a fork bomb may be over by now.
            if let Some(reached) = self.look() {
                return Ok(reached);
            }
            if let Some(status) = self.reap(Some(child))? {
                let reached = self.watch.as_mut().and_then(Watch::look_back);
                return Ok(reached.map_or(status, Status::Reached));
            }
            let (Some((mut control, reports)), Some(events)) = (bake, events.get(1 + asking))
            else {
                continue;
            };
            if events.is_empty() {
                continue;
            }
            let mut byte = [0];
            if control.read(&mut byte).doing(what)? == 0 {
                // Bake has gone, or has had enough: the helper kills everything.
                return Ok(Status::Signaled(Signal::KILL.as_raw()));
            }
            if byte[0] == plan::WHO {
                plan::send(reports, &Event::Alive(self.alive(child))).doing(what)?;
            } else if let Some(signal) = byte[0]
                .checked_sub(plan::SIGNAL)
                .and_then(|number| Signal::from_named_raw(number.into()))
            {
                // It has just ended: that is seen next.
                let _ = rustix::process::pidfd_send_signal(&pidfd, signal);
            }
        }
    }

    /// Returns who is alive below the init, given the program that it waits for. The names are
    /// those in `/proc`; what a step has put there in place of the kernel's says nothing.
    fn alive(&self, child: Pid) -> Alive {
        let mut processes = vec![];
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
            let text = pid.and_then(|_| std::fs::read_to_string(entry.path().join("stat")).ok());
            if let (Some(pid), Some((name, parent))) = (pid, text.as_deref().and_then(living)) {
                processes.push((pid, parent, name.to_owned()));
            }
        }
        processes.sort_unstable();
        let ours = |pid: i32| {
            let background = self.background.iter().map(|one| one.pid);
            background.chain([child]).any(|one| one.as_raw_nonzero().get() == pid)
        };
        let mut alive = Alive::default();
        for (pid, parent, name) in processes {
            match parent {
                // The init itself.
                0 => {}
                1 if !ours(pid) => alive.orphans.push(name),
                _ => alive.below.push(name),
            }
        }
        alive.below.truncate(MOST_NAMES);
        alive.orphans.truncate(MOST_NAMES);
        alive
    }

    /// Lets `time` pass, or less where a program in the background ends. Returns the first that has
    /// ended, if any.
    pub(super) fn rest(&mut self, time: Duration) -> Result<Option<Status>, Fault> {
        let until = Instant::now() + time;
        loop {
            if let Some(reached) = self.look() {
                return Ok(Some(reached));
            }
            self.reap(None)?;
            if let Some(lost) = self.lost() {
                return Ok(Some(lost));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let mut fds: Vec<_> =
                self.listeners.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
            let asking = fds.len();
            fds.extend(self.background.iter().map(|one| PollFd::new(&one.pidfd, PollFlags::IN)));
            let left = timespec(self.watch.as_ref().map_or(left, |_| left.min(TICK)));
            match rustix::event::poll(&mut fds, Some(&left)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Fault::new("watch a program", error)),
            }
            let events: Vec<PollFlags> = fds[..asking].iter().map(PollFd::revents).collect();
            self.answer(&events)?;
        }
    }

    /// Looks whether a limit is reached; then everything is killed.
    fn look(&mut self) -> Option<Status> {
        let reached = self.watch.as_mut()?.look()?;
        sys::kill_everyone_else();
        Some(Status::Reached(reached))
    }

    /// Reaps whoever is dead by now; returns how `child` ended, if it is among them.
    fn reap(&mut self, child: Option<Pid>) -> Result<Option<Status>, Fault> {
        let mut found = None;
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if Some(pid) == child => found = Some(status_of(status)),
                Ok(Some((pid, status))) => self.note(pid, status),
                Ok(None) | Err(Errno::CHILD) => return Ok(found),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Fault::new("wait for a program", error)),
            }
        }
    }

    fn lost(&self) -> Option<Status> {
        let gone = |child: &Child| Some(Status::Lost(child.action, Box::new(child.ended.clone()?)));
        self.background.iter().find_map(gone)
    }
}

/// Returns the name and the parent of a process that is no zombie, as proc_pid_stat(5) has them:
/// `pid (name) state ppid …`, where the name may hold any character.
fn living(stat: &str) -> Option<(&str, i32)> {
    let (head, rest) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once(" (")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some((name, parent))
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

fn status_of(status: WaitStatus) -> Status {
    match (status.exit_status(), status.terminating_signal()) {
        (_, Some(signal)) => Status::Signaled(signal),
        (code, None) => Status::Exited(code.unwrap_or(-1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_name_and_a_parent() {
        assert_eq!(living("12 (sh) S 1 12 12 0"), Some(("sh", 1)));
        assert_eq!(living("12 (a) b (c)) R 7 1"), Some(("a) b (c)", 7)));
        assert_eq!(living("12 (sh) Z 1 12"), None);
        assert_eq!(living("nonsense"), None);
    }
}
