//! The processes below a job's init: the one it waits for, the programs in the background, and the
//! orphans it reaps on the way.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

use super::plan::{self, Doing, Fault, Status};

/// The programs in the background.
#[derive(Default)]
pub(super) struct Children(Vec<Child>);

struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    /// The action that started it.
    action: usize,
    ended: Option<Status>,
}

impl Children {
    /// Takes in a child that was just started.
    pub(super) fn join(&mut self, pid: Pid, action: usize) -> Result<(), Fault> {
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .doing(|| "watch a program".into())?;
        self.0.push(Child { pid, pidfd, action, ended: None });
        Ok(())
    }

    fn note(&mut self, pid: Pid, status: WaitStatus) {
        if let Some(child) =
            self.0.iter_mut().find(|child| child.pid == pid && child.ended.is_none())
        {
            child.ended = Some(status_of(status));
        }
    }

    /// Waits for `child`, reaping everybody else on the way.
    pub(super) fn wait(&mut self, child: Pid) -> Result<Status, Fault> {
        loop {
            match rustix::process::wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) if pid == child => return Ok(status_of(status)),
                Ok(Some((pid, status))) => self.note(pid, status),
                Ok(None) | Err(Errno::INTR) => {}
                Err(error) => return Err(Fault::new("wait for a program", error)),
            }
        }
    }

    /// The same, passing on to the child the signals that bake sends through `control` meanwhile.
    pub(super) fn wait_listening(
        &mut self,
        child: Pid,
        mut control: &File,
    ) -> Result<Status, Fault> {
        let what = || "wait for a program".to_owned();
        let pidfd = rustix::process::pidfd_open(child, PidfdFlags::empty()).doing(what)?;
        loop {
            let mut fds =
                [PollFd::new(&pidfd, PollFlags::IN), PollFd::new(&control, PollFlags::IN)];
            match rustix::event::poll(&mut fds, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(Fault::new(what(), error)),
            }
            let (ended, told) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            if ended {
                return self.wait(child);
            }
            let mut byte = [0];
            if told && control.read(&mut byte).doing(what)? == 0 {
                // Bake has gone, or has had enough: the helper kills everything.
                return Ok(Status::Signaled(Signal::KILL.as_raw()));
            }
            if let Some(signal) = byte[0]
                .checked_sub(plan::SIGNAL)
                .and_then(|number| Signal::from_named_raw(number.into()))
            {
                // It has just ended: that is seen next.
                let _ = rustix::process::pidfd_send_signal(&pidfd, signal);
            }
        }
    }

    /// Lets `time` pass, or less where a program in the background ends. Returns the first that has
    /// ended, if any.
    pub(super) fn rest(&mut self, time: Duration) -> Result<Option<Status>, Fault> {
        let until = Instant::now() + time;
        loop {
            self.reap()?;
            if let Some(lost) = self.lost() {
                return Ok(Some(lost));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let mut fds: Vec<_> =
                self.0.iter().map(|child| PollFd::new(&child.pidfd, PollFlags::IN)).collect();
            let left = Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match rustix::event::poll(&mut fds, Some(&left)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Fault::new("watch a program", error)),
            }
        }
    }

    /// Reaps whoever is dead by now.
    fn reap(&mut self) -> Result<(), Fault> {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.note(pid, status),
                Ok(None) | Err(Errno::CHILD) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Fault::new("wait for a program", error)),
            }
        }
    }

    fn lost(&self) -> Option<Status> {
        let gone = |child: &Child| Some(Status::Lost(child.action, Box::new(child.ended.clone()?)));
        self.0.iter().find_map(gone)
    }
}

fn status_of(status: WaitStatus) -> Status {
    match (status.exit_status(), status.terminating_signal()) {
        (_, Some(signal)) => Status::Signaled(signal),
        (code, None) => Status::Exited(code.unwrap_or(-1)),
    }
}
