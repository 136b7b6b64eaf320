//! The small single-threaded process between the supervisor and a job's pid 1: enters the session's
//! user namespace, starts the init, and outlives it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use rustix::thread::UnshareFlags;

use super::children::Children;
use super::init::Init;
use super::plan::{self, Blobs, Doing, Event, Fault, JobPlan};
use super::request::Dispatch;
use super::sys::{self, Forked};
use super::{follow, idmap};

/// A helper, with all that it was given.
pub(super) struct Helper {
    /// Its parent.
    pub(super) supervisor: Pid,
    pub(super) plan: File,
    pub(super) events: File,
    /// Its end of file is the order to die.
    pub(super) control: File,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) replies: File,
    /// The files of the calls, in order.
    pub(super) files: VecDeque<File>,
    pub(super) userns: OwnedFd,
    /// `None`: the host's.
    pub(super) net: Option<OwnedFd>,
    pub(super) dispatch: Dispatch,
}

impl Helper {
    /// Does the job and returns this process's exit code.
    pub(super) fn work(mut self) -> u8 {
        let started = follow::follow(self.supervisor).and_then(|()| {
            let what = || "take over the output pipes".to_owned();
            rustix::stdio::dup2_stdout(&self.stdout).doing(what)?;
            rustix::stdio::dup2_stderr(&self.stderr).doing(what)?;
            let mut bytes = vec![];
            self.plan.read_to_end(&mut bytes).doing(|| "read the plan".into())?;
            plan::decode(&bytes).doing(|| "understand the plan".into())
        });
        let events = self.events.try_clone();
        match (started.and_then(|(plan, blobs)| self.run(&plan, &blobs)), events) {
            (Ok(code), _) => code,
            (Err(fault), Ok(events)) => {
                // If bake is gone there is nobody to report to.
                let _ = plan::send(&events, &Event::Fault(fault));
                1
            }
            (Err(_), Err(_)) => 1,
        }
    }

    fn run(self, plan: &JobPlan, blobs: &Blobs) -> Result<u8, Fault> {
        let Self {
            supervisor,
            events,
            control,
            stdout,
            stderr,
            replies,
            files,
            userns,
            net,
            dispatch,
            ..
        } = self;
        drop((stdout, stderr));
        let sources = match plan.idmap {
            Some(_) => Some(idmap::open(plan, userns.as_fd())?),
            None => None,
        };
        follow::enter(&userns)?;
        // That forgot the death signal.
        follow::follow(supervisor)?;
        sys::unshare(UnshareFlags::NEWPID).doing(|| "make a pid namespace".into())?;

        let (leash, leash_end) = std::io::pipe().doing(|| "make a pipe".into())?;
        let init = match sys::fork().doing(|| "start the init".into())? {
            Forked::Parent(init) => init,
            Forked::Child => {
                drop(leash_end);
                let (events, control, replies) = (&events, &control, &replies);
                let code = follow_helper(leash).map_or(1, |()| {
                    Init {
                        plan,
                        blobs,
                        sources,
                        userns,
                        net,
                        events,
                        control,
                        replies,
                        files,
                        dispatch,
                        children: Children::new(plan.limits),
                        upper: None,
                        unreachable: 0,
                    }
                    .run()
                });
                sys::exit_now(code)
            }
        };
        // The init has its own copies; a call's pipe must end when the call closes it.
        drop((leash, sources, files, replies, userns, net));
        let ended = watch(init, &control);
        drop(leash_end);
        ended
    }
}

/// Waits until the init is dead, killing it when bake lets go of the control pipe. With it dies its
/// whole pid namespace. Returns the init's exit code.
fn watch(init: Pid, control: &File) -> Result<u8, Fault> {
    let what = || "watch the init".to_owned();
    let pidfd = rustix::process::pidfd_open(init, PidfdFlags::empty()).doing(what)?;
    let mut killed = false;
    loop {
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        if !killed {
            fds.push(PollFd::new(control, PollFlags::empty()));
        }
        match rustix::event::poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(Fault::new(what(), error)),
        }
        if !fds[0].revents().is_empty() {
            break;
        }
        if !killed && fds[1].revents().contains(PollFlags::HUP) {
            killed = true;
            rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).doing(what)?;
        }
    }
    let status = rustix::process::waitpid(Some(init), WaitOptions::empty())
        .doing(what)?
        .map(|(_, status)| status);
    match status.and_then(|status| status.terminating_signal()) {
        Some(signal) if !killed => Err(Fault {
            what: format!(
                "the sandbox was killed by signal {signal} from outside (out of memory?)"
            ),
            errno: None,
            hint: None,
            image: false,
        }),
        _ => Ok(status
            .and_then(|status| status.exit_status())
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(0)),
    }
}

/// Whether nobody holds the other end any more.
fn hung_up(pipe: impl AsFd) -> rustix::io::Result<bool> {
    let mut fds = [PollFd::new(&pipe, PollFlags::empty())];
    rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(fds[0].revents().contains(PollFlags::HUP))
}

/// In the init: dies with the helper, also if that died before we asked.
fn follow_helper(leash: std::io::PipeReader) -> Result<(), ()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(drop)?;
    // The init is in no terminal's foreground and no one's session.
    rustix::process::setsid().map_err(drop)?;
    if hung_up(&leash).map_err(drop)? { Err(()) } else { Ok(()) }
}
