//! Process 1 inside: builds the root, runs the actions one after the other, reaps whatever is orphaned, and takes everything with
//! it when it ends.

use std::any::Any;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::Mutex;

use rustix::fs::Mode;
use rustix::process::DumpableBehavior;
use rustix::process::Pid;
use rustix::process::WaitOptions;
use rustix::process::WaitStatus;
use rustix::thread::LinkNameSpaceType;
use rustix::thread::UnshareFlags;
use serde_json::Value;

use super::CallIo;
use super::Chores;
use super::chore;
use super::exec;
use super::idmap;
use super::idmap::Sources;
use super::mounts;
use super::plan;
use super::plan::ActionPlan;
use super::plan::Blobs;
use super::plan::Doing;
use super::plan::Event;
use super::plan::Fault;
use super::plan::JobPlan;
use super::plan::Said;
use super::plan::Status;
use super::sys;
use super::sys::Forked;

/// What the init gets from the helper.
pub(super) struct Init<'a> {
    pub(super) plan: &'a JobPlan,
    pub(super) blobs: &'a Blobs,
    /// The host's folders, when they had to be opened before the user namespace was entered.
    pub(super) sources: Option<Sources>,
    pub(super) userns: OwnedFd,
    /// The job's network namespace; `None`: the host's.
    pub(super) net: Option<OwnedFd>,
    pub(super) events: &'a File,
    /// One byte after every action; the end of file ends the job.
    pub(super) control: &'a File,
    pub(super) said: &'a File,
    /// The files of the calls, in order.
    pub(super) files: VecDeque<File>,
    pub(super) chores: Chores,
}

impl Init<'_> {
    /// Does the job; returns 1 if the sandbox itself failed (then the reason has been sent), else 0 or [`plan::NET_UNUSED`].
    pub(super) fn run(mut self) -> i32 {
        match self.job() {
            Ok(code) => code.into(),
            Err(fault) => {
                // If bake is gone there is nobody to tell.
                let _ = plan::send(self.events, &Event::Fault(fault));
                1
            }
        }
    }

    fn job(&mut self) -> Result<u8, Fault> {
        let debris = self.build_root()?;
        self.actions()?;
        // Nobody may use what is taken away next.
        kill_all();
        mounts::clean(debris)?;
        // What cannot be read counts as used.
        let silent = self.net.is_some() && std::fs::read_to_string("/proc/net/dev").is_ok_and(|text| silent(&text));
        Ok(if silent { plan::NET_UNUSED } else { 0 })
    }

    fn build_root(&mut self) -> Result<mounts::Debris, Fault> {
        let namespaces = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
        sys::unshare(namespaces).map_err(|error| {
            let errno = error.raw_os_error();
            let fault = Fault::new("make namespaces", error);
            match errno {
                Some(libc::EPERM) => fault.hint("see `bake doctor`: this host forbids namespaces to unprivileged users"),
                Some(libc::ENOSPC) => fault.hint("raise the limits in /proc/sys/user/max_*_namespaces"),
                _ => fault,
            }
        })?;
        if let Some(net) = &self.net {
            let entered = rustix::thread::move_into_link_name_space(net.as_fd(), Some(LinkNameSpaceType::Network));
            entered.doing(|| "enter the network namespace".into())?;
        }
        mounts::make_private()?;
        // Before the staging tmpfs: it may hide the very folders, where the store lies below the place it is mounted on.
        let sources = match self.sources.take() {
            Some(sources) => sources,
            None => idmap::open(self.plan, self.userns.as_fd())?,
        };
        let devices = mounts::stage()?;
        let debris = mounts::build(self.plan, self.blobs, sources, &devices)?;
        rustix::system::sethostname(self.plan.hostname.as_bytes()).doing(|| "set the host name".into())?;
        if self.net.is_none() {
            // Abstract sockets of the host belong to its network; where the kernel is too old for this, they stay reachable.
            let _ = sys::scope_abstract_sockets();
        }
        // Steps run with the same user id: this keeps them from our memory, descriptors and program file.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).doing(|| "hide from steps".into())?;
        Ok(debris)
    }

    fn actions(&mut self) -> Result<(), Fault> {
        for n in 0..self.plan.actions.len() {
            let tell = |event: &Event| plan::send(self.events, event).doing(|| "report to bake".into());
            tell(&Event::Begin(n))?;
            let status = match &self.plan.actions[n] {
                ActionPlan::Exec(exec) => self.exec(exec)?,
                ActionPlan::Call { name, args, fds } => {
                    let files = self.files.drain(..*fds.min(&self.files.len())).collect();
                    self.call(name, args, files)?
                }
            };
            let failed = !matches!(status, Status::Exited(0));
            tell(&Event::End(n, status))?;
            if failed {
                break;
            }
            let mut control = self.control;
            // Bake has heard everything this action had to say; at the end of file it wants no more.
            if control.read(&mut [0]).doing(|| "listen to bake".into())? == 0 {
                break;
            }
        }
        Ok(())
    }

    fn exec(&self, exec: &super::Exec) -> Result<Status, Fault> {
        let what = || "start a program".to_owned();
        let (mut reason, child_end) = std::io::pipe().doing(what)?;
        let child = match sys::fork().doing(what)? {
            Forked::Child => {
                let reason = exec::become_program(exec, self.blobs.get(self.plan.seccomp));
                let mut child_end = child_end;
                let told = child_end.write_all(reason.as_bytes());
                sys::exit_now(if told.is_ok() { 127 } else { 126 });
            }
            Forked::Parent(child) => child,
        };
        drop(child_end);
        // Ends when the program starts (close-on-exec) or the child gives up.
        let mut said = String::new();
        reason.read_to_string(&mut said).doing(what)?;
        let status = reap_until(child)?;
        Ok(if said.is_empty() { status } else { Status::Unstarted(said) })
    }

    fn call(&self, name: &str, args: &Value, files: Vec<File>) -> Result<Status, Fault> {
        match sys::fork().doing(|| "start a call".into())? {
            Forked::Child => {
                let result = self.do_call(name, args, files);
                let told = plan::send(self.said, &Said::Return(result));
                let _ = std::io::stdout().flush();
                sys::exit_now(i32::from(told.is_err()));
            }
            Forked::Parent(child) => {
                drop(files);
                reap_until(child)
            }
        }
    }

    /// In the child: runs a function of the table.
    fn do_call(&self, name: &str, args: &Value, files: Vec<File>) -> Result<Value, String> {
        // It may look into its own /proc/self; steps have fewer capabilities and so still cannot.
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(|e| e.to_string())?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let known = self.chores.iter().chain(chore::BUILT_IN);
        let function = known.into_iter().find(|(known, _)| *known == name).map(|(_, function)| *function);
        let function = function.ok_or_else(|| format!("bake's sandbox has no function '{name}'"))?;
        let place = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&place);
        std::panic::set_hook(Box::new(move |info| {
            if let (Some(location), Ok(mut place)) = (info.location(), heard.lock()) {
                *place = format!(" ({location})");
            }
        }));
        let mut progress = |value| {
            // Without a listener there is no use for progress.
            let _ = plan::send(self.said, &Said::Progress(value));
        };
        let io = CallIo { args: args.clone(), fds: files, progress: &mut progress };
        std::panic::catch_unwind(AssertUnwindSafe(|| function(io))).unwrap_or_else(|panic| {
            let place = place.lock().map(|place| place.clone()).unwrap_or_default();
            Err(format!("bug in {name}: {}{place}", panic_text(panic.as_ref())))
        })
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panic")
}

/// Waits for `child`, reaping every orphan on the way.
fn reap_until(child: Pid) -> Result<Status, Fault> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == child => return Ok(status_of(status)),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Fault::new("wait for a program", error)),
        }
    }
}

/// Whether no interface of `/proc/net/dev` ever carried a packet. Then nobody was connected to anybody (which would keep ports busy
/// for a while), and nothing tells that anybody was there.
fn silent(dev: &str) -> bool {
    dev.lines().skip(2).all(|line| line.split_once(':').is_some_and(|(_, counts)| counts.split_whitespace().all(|count| count == "0")))
}

fn status_of(status: WaitStatus) -> Status {
    match (status.exit_status(), status.terminating_signal()) {
        (_, Some(signal)) => Status::Signaled(signal),
        (code, None) => Status::Exited(code.unwrap_or(-1)),
    }
}

/// Kills every other process of the pid namespace and waits until none is left.
fn kill_all() {
    loop {
        // Children of our children become ours as their parents die, so this ends only when all are gone.
        sys::kill_everyone_else();
        if matches!(rustix::process::wait(WaitOptions::empty()), Err(rustix::io::Errno::CHILD)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_silent_while_every_counter_is_zero() {
        let head = "Inter-|   Receive   |  Transmit\n face |bytes packets|bytes packets\n";
        let check = |rows: &str, expected| assert_eq!(silent(&format!("{head}{rows}")), expected, "{rows}");
        check("    lo:       0       0    0 0\n", true);
        check("    lo: 0 0\n  sit0: 0 0\n", true);
        check("    lo:      56       1    0 0\n", false);
        check("    lo: 0 0\n  sit0: 0 1\n", false);
        check("nonsense\n", false);
    }
}
