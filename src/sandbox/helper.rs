//! The small single-threaded process between bake and a job's pid 1: enters the session's user namespace, starts the init, and
//! outlives it just long enough to tidy up.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use rustix::process::WaitOptions;
use rustix::thread::LinkNameSpaceType;
use rustix::thread::UnshareFlags;

use super::Chores;
use super::idmap;
use super::init::Init;
use super::plan;
use super::plan::ActionPlan;
use super::plan::Blobs;
use super::plan::Doing;
use super::plan::Event;
use super::plan::Fault;
use super::plan::JobPlan;
use super::plan::Plan;
use super::sys;
use super::sys::Forked;
use super::tree;

/// Does the helper's work if this process was started as one.
pub(super) fn main(chores: Chores) -> Option<ExitCode> {
    if std::env::args_os().next()?.as_bytes() != plan::ARGV0.to_bytes() {
        return None;
    }
    sys::enter_helper();
    let inherited = || sys::next_inherited_fd().map(File::from);
    // Somebody typed our name: there is no plan to follow.
    let (Ok(plan), Ok(events), Ok(control)) = (inherited(), inherited(), inherited()) else { return Some(ExitCode::from(2)) };
    Some(match work(&plan, &events, &control, chores) {
        Ok(code) => ExitCode::from(code),
        Err(fault) => {
            // If bake is gone there is nobody to tell.
            let _ = plan::send(&events, &Event::Fault(fault));
            ExitCode::FAILURE
        }
    })
}

fn work(mut plan: &File, events: &File, control: &File, chores: Chores) -> Result<u8, Fault> {
    die_with_parent(control)?;
    rustix::process::umask(Mode::empty());
    let mut bytes = vec![];
    plan.read_to_end(&mut bytes).doing(|| "read the plan".into())?;
    let (plan, blobs) = plan::decode(&bytes).doing(|| "understand the plan".into())?;
    match plan {
        Plan::Userns => {
            sys::close_from(6).doing(|| "close descriptors".into())?;
            sys::unshare(UnshareFlags::NEWUSER).map_err(|error| userns_fault(&error))?;
            plan::send(events, &Event::Ready).doing(|| "report to bake".into())?;
            // Until bake holds the namespace itself.
            let mut control = control;
            control.read(&mut [0]).doing(|| "listen to bake".into())?;
            Ok(0)
        }
        Plan::Job(job) => Helper { plan: &job, blobs: &blobs, events, control, chores }.run(),
    }
}

fn userns_fault(error: &io::Error) -> Fault {
    let fault = Fault::new("make a user namespace", io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO)));
    match error.raw_os_error() {
        Some(libc::ENOSPC) => fault.hint("raise the limit: sysctl -w user.max_user_namespaces=15000"),
        Some(libc::EPERM | libc::EACCES) => fault.hint(
            "this host forbids user namespaces to this user: sysctl -w kernel.unprivileged_userns_clone=1 (Debian), \
             sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 or an AppArmor profile for bake (Ubuntu), or run bake as root",
        ),
        Some(libc::EINVAL | libc::ENOSYS) => fault.hint("bake needs a kernel with user namespaces (CONFIG_USER_NS)"),
        _ => fault,
    }
}

/// Asks for SIGKILL when the parent dies, and makes sure that it has not died before the question.
fn die_with_parent(control: &File) -> Result<(), Fault> {
    let what = || "follow the parent".to_owned();
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).doing(what)?;
    if hung_up(control).doing(what)? { Err(Fault::new(what(), rustix::io::Errno::PIPE)) } else { Ok(()) }
}

/// Whether nobody holds the other end any more.
fn hung_up(pipe: impl AsFd) -> rustix::io::Result<bool> {
    let mut fds = [PollFd::new(&pipe, PollFlags::empty())];
    rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(fds[0].revents().contains(PollFlags::HUP))
}

struct Helper<'a> {
    plan: &'a JobPlan,
    blobs: &'a Blobs,
    events: &'a File,
    control: &'a File,
    chores: Chores,
}

impl Helper<'_> {
    fn run(self) -> Result<u8, Fault> {
        let inherit = || sys::next_inherited_fd().doing(|| "take over descriptors".into());
        let said = File::from(inherit()?);
        let userns = inherit()?;
        let count: usize = self.plan.actions.iter().map(|a| if let ActionPlan::Call { fds, .. } = a { *fds } else { 0 }).sum();
        let files = (0..count).map(|_| inherit().map(File::from)).collect::<Result<VecDeque<_>, _>>()?;
        let first_stranger = u32::try_from(8 + count).map_err(io::Error::other).doing(|| "count the files of the calls".into())?;
        sys::close_from(first_stranger).and_then(|()| sys::cloexec_from(3)).doing(|| "close descriptors".into())?;

        let sources = match self.plan.idmap {
            Some(_) => Some(idmap::open(self.plan, userns.as_fd())?),
            None => None,
        };
        // Kept for the end: a folder of the host as the session sees its ids.
        let work_parent = match (&self.plan.root, &sources) {
            (Some(_), Some(sources)) => Some(sources.first.try_clone().doing(|| "keep the scratch folder".into())?),
            (Some(root), None) => Some(open_scratch(self.plan, &root.parent.path())?),
            (None, _) => None,
        };
        enter(&userns)?;
        die_with_parent(self.control)?;
        sys::unshare(UnshareFlags::NEWPID).doing(|| "make a pid namespace".into())?;

        let (leash, leash_end) = std::io::pipe().doing(|| "make a pipe".into())?;
        let init = match sys::fork().doing(|| "start the init".into())? {
            Forked::Parent(init) => init,
            Forked::Child => {
                drop(leash_end);
                drop(work_parent);
                let code = follow_helper(leash).map_or(1, |()| {
                    let Helper { plan, blobs, events, control, chores } = self;
                    Init { plan, blobs, sources, userns, events, control, said: &said, files, chores }.run()
                });
                sys::exit_now(code)
            }
        };
        // The init has its own copies; a call's pipe must end when the call closes it.
        drop((leash, sources, files, said, userns));
        let ended = self.watch(init)?;
        drop(leash_end);
        if let (Some(parent), Some(root)) = (work_parent, &self.plan.root) {
            let what = || "empty the overlay's work folder".to_owned();
            let work = rustix::fs::openat(
                &parent,
                root.work.path(),
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            );
            tree::remove_children(work.doing(what)?.as_fd()).doing(what)?;
        }
        ended
    }

    /// Waits until the init is dead, killing it when bake lets go of the control pipe. With it dies its whole pid namespace.
    fn watch(&self, init: rustix::process::Pid) -> Result<Result<u8, Fault>, Fault> {
        let what = || "watch the init".to_owned();
        let pidfd = rustix::process::pidfd_open(init, PidfdFlags::empty()).doing(what)?;
        let mut killed = false;
        loop {
            let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
            if !killed {
                fds.push(PollFd::new(self.control, PollFlags::empty()));
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
        let status = rustix::process::waitpid(Some(init), WaitOptions::empty()).doing(what)?;
        let signal = status.and_then(|(_, status)| status.terminating_signal());
        Ok(match signal {
            Some(signal) if !killed => Err(Fault {
                what: format!("the sandbox was killed by signal {signal} from outside (out of memory?)"),
                errno: None,
                hint: None,
                image: false,
            }),
            _ => Ok(0),
        })
    }
}

/// In the init: dies with the helper, also if that died before we asked.
fn follow_helper(leash: std::io::PipeReader) -> Result<(), ()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(drop)?;
    // The init is in no terminal's foreground and no one's session.
    rustix::process::setsid().map_err(drop)?;
    if hung_up(&leash).map_err(drop)? { Err(()) } else { Ok(()) }
}

fn open_scratch(plan: &JobPlan, parent: &std::path::Path) -> Result<OwnedFd, Fault> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let scratch = rustix::fs::open(plan.scratch.path(), flags, Mode::empty());
    let scratch = scratch.doing(|| format!("open the folder {}", plan.scratch.path().display()))?;
    idmap::beneath(scratch.as_fd(), parent)
}

/// Becomes root of the session's user namespace.
fn enter(userns: &OwnedFd) -> Result<(), Fault> {
    let what = || "enter the user namespace".to_owned();
    rustix::thread::move_into_link_name_space(userns.as_fd(), Some(LinkNameSpaceType::User)).doing(what)?;
    rustix::thread::set_thread_groups(&[]).doing(what)?;
    rustix::thread::set_thread_res_gid(rustix::process::Gid::ROOT, rustix::process::Gid::ROOT, rustix::process::Gid::ROOT).doing(what)?;
    rustix::thread::set_thread_res_uid(rustix::process::Uid::ROOT, rustix::process::Uid::ROOT, rustix::process::Uid::ROOT).doing(what)
}
