//! Process 1 inside: builds the root, runs the actions one after the other, reaps whatever is
//! orphaned, and takes everything with it when it ends.

use std::any::Any;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Pid, WaitOptions};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use serde_json::Value;

use super::call::{CallError, Inside};
use super::children::Children;
use super::ended::Circumstances;
use super::exec::{self, Streams};
use super::idmap::{self, Sources};
use super::job::Exec;
use super::plan::{
    self, ActionPlan, AttachPlan, AttemptPlan, Blobs, CallPlan, Doing, Event, Fault, FromCall,
    JobPlan, Net, Status,
};
use super::request::Dispatch;
use super::sys::{self, Forked};
use super::watch::Watch;
use super::{debris, mounts, network, terminal, wire};
use crate::files::open_dir;

/// Longest reason why a program could not be started, in characters: a message has an end.
const LONGEST_REASON: usize = 2000;

/// What the init gets from the helper.
pub(super) struct Init<'a> {
    pub(super) plan: &'a JobPlan,
    pub(super) blobs: &'a Blobs,
    /// The host's directories, when they had to be opened before the user namespace was entered.
    pub(super) sources: Option<Sources>,
    pub(super) userns: OwnedFd,
    /// The job's network namespace; `None`: the host's.
    pub(super) net: Option<OwnedFd>,
    pub(super) events: &'a File,
    /// One byte after every action; the end of file ends the job.
    pub(super) control: &'a File,
    pub(super) replies: &'a File,
    /// The files of the calls, in order.
    pub(super) files: VecDeque<File>,
    pub(super) dispatch: Dispatch,
    /// Empty at first.
    pub(super) children: Children,
    /// The upper directory of an image root once that is built, open as a path.
    pub(super) upper: Option<OwnedFd>,
    /// What [`network::unreachable`] was when the first action began.
    pub(super) unreachable: u64,
}

impl Init<'_> {
    /// Does the job; returns 1 if the sandbox itself failed (then the reason has been sent), else 0
    /// or [`plan::NET_UNUSED`].
    pub(super) fn run(mut self) -> i32 {
        match self.job() {
            Ok(code) => code.into(),
            Err(fault) => {
                // If bake is gone there is nobody to report to.
                let _ = plan::send(self.events, &Event::Fault(fault));
                1
            }
        }
    }

    fn job(&mut self) -> Result<u8, Fault> {
        let mounts::Built { debris: made, upper } = self.build_root()?;
        self.upper = upper;
        if self.net.is_some() {
            // The namespace may be lent, and have counted before.
            self.unreachable = network::unreachable();
        }
        self.actions()?;
        // Nobody may use what is taken away next.
        kill_all();
        debris::clean(made)?;
        // What cannot be read counts as used.
        let silent = self.lent() && !self.is_machine() && network::is_silent();
        Ok(if silent { plan::NET_UNUSED } else { 0 })
    }

    /// Whether the network namespace has nothing but `lo`, and may be another job's next.
    fn lent(&self) -> bool {
        self.plan.network == Net::None
    }

    /// Whether programs run here as they would in the finished image.
    fn is_machine(&self) -> bool {
        self.plan
            .actions
            .iter()
            .any(|action| matches!(action, ActionPlan::Start(_) | ActionPlan::Attach(_)))
    }

    fn build_root(&mut self) -> Result<mounts::Built, Fault> {
        let namespaces = UnshareFlags::NEWNS
            | UnshareFlags::NEWIPC
            | UnshareFlags::NEWUTS
            | UnshareFlags::NEWCGROUP;
        sys::unshare(namespaces).map_err(|error| {
            let errno = error.raw_os_error();
            let fault = Fault::new("make namespaces", error);
            match errno {
                Some(libc::EPERM) => fault
                    .hint("see `bake doctor`: this host forbids namespaces to unprivileged users"),
                Some(libc::ENOSPC) => {
                    fault.hint("raise the limits in /proc/sys/user/max_*_namespaces")
                }
                _ => fault,
            }
        })?;
        if let Some(net) = &self.net {
            let entered = rustix::thread::move_into_link_name_space(
                net.as_fd(),
                Some(LinkNameSpaceType::Network),
            );
            entered.doing(|| "enter the network namespace".into())?;
            if self.is_machine() {
                // As in the containers of others, where a service that is not root may listen on
                // port 80; without, it says why it cannot.
                let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
            }
        }
        mounts::make_private()?;
        // Before the staging tmpfs: it may hide the very directories, where the store lies below
        // the place it is mounted on.
        let sources = match self.sources.take() {
            Some(sources) => sources,
            None => idmap::open(self.plan, self.userns.as_fd())?,
        };
        let devices = mounts::stage()?;
        let built = mounts::build(self.plan, self.blobs, sources, &devices)?;
        rustix::system::sethostname(self.plan.hostname.as_bytes())
            .doing(|| "set the host name".into())?;
        if self.net.is_none() {
            // Abstract sockets of the host belong to its network; where the kernel is too old for
            // this, they stay reachable.
            let _ = sys::scope_abstract_sockets();
        }
        // Steps run with the same user id: this keeps them from our memory, descriptors and program
        // file.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .doing(|| "hide from steps".into())?;
        Ok(built)
    }

    fn actions(&mut self) -> Result<(), Fault> {
        let last = self.plan.actions.len();
        let rescue =
            self.plan.actions.iter().position(|action| matches!(action, ActionPlan::Rescue(_)));
        let mut n = 0;
        while n < last && Some(n) != rescue {
            let failed = self.one(n)?;
            // By now bake has read everything that this action wrote; at the end of file it wants
            // no more actions.
            match (failed, rescue) {
                (true, None) => break,
                (true, Some(rescue)) => {
                    if self.go_on()? {
                        self.one(rescue)?;
                    }
                    break;
                }
                (false, _) => {
                    if !self.go_on()? {
                        break;
                    }
                }
            }
            n += 1;
        }
        Ok(())
    }

    /// Does one action; true if it failed.
    fn one(&mut self, n: usize) -> Result<bool, Fault> {
        self.report(&Event::Begin(n))?;
        let status = self.action(n)?;
        let failed = !matches!(status, Status::Exited(0));
        let seen = if failed { self.look_around() } else { Circumstances::default() };
        self.report(&Event::End(n, status, seen))?;
        Ok(failed)
    }

    /// What may explain a failure.
    fn look_around(&self) -> Circumstances {
        let no_room = self.upper.as_ref().is_some_and(|upper| {
            rustix::fs::fstatvfs(upper)
                .is_ok_and(|fs| fs.f_bavail == 0 || (fs.f_files > 0 && fs.f_favail == 0))
        });
        let no_network = self.lent() && network::unreachable() > self.unreachable;
        Circumstances { no_network, no_room, unmapped: self.children.refused() }
    }

    fn report(&self, event: &Event) -> Result<(), Fault> {
        plan::send(self.events, event).doing(|| "report to bake".into())
    }

    /// Waits for bake's word; false if there will be none.
    fn go_on(&self) -> Result<bool, Fault> {
        let mut control = self.control;
        let mut byte = [0];
        loop {
            match control.read(&mut byte).doing(|| "listen to bake".into())? {
                0 => return Ok(false),
                _ if byte[0] == plan::GO_ON => return Ok(true),
                // A signal for a program that has ended meanwhile.
                _ => {}
            }
        }
    }

    fn action(&mut self, n: usize) -> Result<Status, Fault> {
        let plan = self.plan;
        match &plan.actions[n] {
            ActionPlan::Exec(exec) => self.exec(exec),
            ActionPlan::Call(call) => self.call(call),
            ActionPlan::CallIfChanged(call)
                if unchanged(self.upper.as_ref())
                    .doing(|| "look into the upper directory".into())? =>
            {
                self.take(call.files);
                plan::send(self.replies, &FromCall::Return(Ok(None)))
                    .doing(|| "report to bake".into())?;
                Ok(Status::Exited(0))
            }
            ActionPlan::CallIfChanged(call) => self.call(call),
            ActionPlan::Start(exec) => {
                let output: OwnedFd = self.file()?.into();
                match self.start(exec, &Streams::Output(output))? {
                    Ok(child) => self.children.join(child, n).map(|()| Status::Exited(0)),
                    Err(status) => Ok(status),
                }
            }
            ActionPlan::Serve(call) => {
                let files = self.take(call.files);
                // Whoever it serves sees its end.
                self.fork_call(call, files, |_| true).map(|_| Status::Exited(0))
            }
            ActionPlan::Until { attempt, again } => self.until(n, attempt, *again),
            ActionPlan::Still(time) => Ok(self.children.rest(*time)?.unwrap_or(Status::Exited(0))),
            ActionPlan::Attach(attach) | ActionPlan::Rescue(attach) => self.attach(attach),
        }
    }

    fn until(
        &mut self,
        n: usize,
        attempt: &AttemptPlan,
        again: Option<Duration>,
    ) -> Result<Status, Fault> {
        loop {
            let status = match attempt {
                AttemptPlan::Exec(exec) => self.exec(exec)?,
                AttemptPlan::Call(call) => self.call(call)?,
            };
            let over = matches!(status, Status::Exited(0) | Status::Reached(_));
            let Some(pause) = again.filter(|_| !over) else {
                return Ok(status);
            };
            // Bake ends this when the time is up.
            self.report(&Event::Tried(n, status))?;
            if let Some(lost) = self.children.rest(pause)? {
                return Ok(lost);
            }
        }
    }

    fn exec(&mut self, exec: &Exec) -> Result<Status, Fault> {
        self.children.take_refused();
        let status = self.run_program(exec)?;
        Ok(match (&status, self.children.refused()) {
            (Status::Exited(0), Some(id)) => Status::Unmapped(id),
            _ => status,
        })
    }

    fn run_program(&mut self, exec: &Exec) -> Result<Status, Fault> {
        match self.start(exec, &Streams::Step)? {
            // Only a job that somebody may look into afterwards is asked to kill one program and
            // not all; only what has a time limit is asked what it still does.
            Ok(child)
                if exec.timeout.is_some()
                    || self
                        .plan
                        .actions
                        .iter()
                        .any(|action| matches!(action, ActionPlan::Rescue(_))) =>
            {
                self.children.wait_listening(child, self.control, self.events)
            }
            Ok(child) => self.children.wait(child),
            Err(status) => Ok(status),
        }
    }

    fn attach(&mut self, attach: &AttachPlan) -> Result<Status, Fault> {
        let streams = match attach.terminal {
            Some(size) => {
                let to = self.file()?.into();
                let (ours, theirs) = terminal::make(size).doing(|| "make a terminal".into())?;
                wire::send(&to, &"terminal", &[ours.as_fd()])
                    .doing(|| "hand over a terminal".into())?;
                Streams::Terminal(theirs)
            }
            None => {
                let mut next = || self.file().map(OwnedFd::from);
                Streams::Own([next()?, next()?, next()?])
            }
        };
        let mut refused = None;
        for exec in &attach.execs {
            match self.start(exec, &streams)? {
                Ok(child) => {
                    // The other side of each must end with the program.
                    drop(streams);
                    return self.children.wait_listening(child, self.control, self.events);
                }
                Err(status) => refused = refused.or(Some(status)),
            }
        }
        Ok(refused.unwrap_or_else(|| Status::Unstarted("there is no program to run".into())))
    }

    /// Starts a program, and says why where it cannot be started.
    fn start(&mut self, exec: &Exec, streams: &Streams) -> Result<Result<Pid, Status>, Fault> {
        let what = || "start a program".to_owned();
        let upper = self.upper.as_ref().map(OwnedFd::try_clone).transpose().doing(what)?;
        self.children.watched(|| Watch::new(self.plan.ceiling, upper));
        let (ours, theirs) = wire::pair().doing(what)?;
        let child = match sys::fork().doing(what)? {
            Forked::Child => {
                let filter = self.blobs.get(self.plan.seccomp);
                let secrets = self.plan.secrets.variables(self.blobs);
                let most = self.plan.ceiling.processes;
                let how = exec::How { streams, filter, processes: most };
                let reason = exec::become_program(exec, secrets, &how, |listener| {
                    wire::send(&theirs, &"", &[listener.as_fd()])
                });
                let reason: String = reason.chars().take(LONGEST_REASON).collect();
                let sent = wire::send(&theirs, &reason, &[]);
                sys::exit_now(if sent.is_ok() { 127 } else { 126 });
            }
            Forked::Parent(child) => child,
        };
        drop(theirs);
        // Ends when the program starts (close-on-exec) or the child gives up.
        while let Some((reason, files)) = wire::receive::<String>(&ours).doing(what)? {
            match files.into_iter().next() {
                Some(listener) => self.children.listen(listener),
                None => {
                    self.children.wait(child)?;
                    return Ok(Err(Status::Unstarted(reason)));
                }
            }
        }
        Ok(Ok(child))
    }

    fn call(&mut self, call: &CallPlan) -> Result<Status, Fault> {
        let files = self.take(call.files);
        let child = self.fork_call(call, files, |result| {
            plan::send(self.replies, &FromCall::Return(result)).is_ok()
        })?;
        self.children.wait(child)
    }

    /// Starts the process of a call, which hands its result to `reply`.
    fn fork_call(
        &self,
        call: &CallPlan,
        files: Vec<File>,
        reply: impl FnOnce(Result<Option<Value>, CallError>) -> bool,
    ) -> Result<Pid, Fault> {
        match sys::fork().doing(|| "start a call".into())? {
            Forked::Child => {
                let result = self.do_call(&call.request, files);
                let good = result.is_ok();
                let sent = reply(result);
                let _ = std::io::stdout().flush();
                sys::exit_now(match (sent, good) {
                    (true, true) => 0,
                    (true, false) => plan::CALL_FAILED,
                    (false, _) => 1,
                });
            }
            Forked::Parent(child) => Ok(child),
        }
    }

    /// The next `count` files of the job.
    fn take(&mut self, count: usize) -> Vec<File> {
        self.files.drain(..count.min(self.files.len())).collect()
    }

    fn file(&mut self) -> Result<File, Fault> {
        self.files
            .pop_front()
            .ok_or_else(|| Fault::new("take over a file", rustix::io::Errno::BADF))
    }

    /// In the child: carries out a call.
    fn do_call(&self, request: &Value, files: Vec<File>) -> Result<Option<Value>, CallError> {
        // It may look into its own /proc/self; steps have fewer capabilities and so still cannot.
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
            .map_err(|error| CallError::of(&error))?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let place = Arc::new(Mutex::new(String::new()));
        let noted = Arc::clone(&place);
        std::panic::set_hook(Box::new(move |info| {
            if let (Some(location), Ok(mut place)) = (info.location(), noted.lock()) {
                *place = format!(" ({location})");
            }
        }));
        let mut progress = |value| {
            // Without a listener there is no use for progress.
            let _ = plan::send(self.replies, &FromCall::Progress(value));
        };
        let changes = self
            .upper
            .as_ref()
            .map(|upper| PathBuf::from(format!("/proc/self/fd/{}", upper.as_raw_fd())));
        let inside = Inside { changes: changes.as_deref(), progress: &mut progress };
        let files = files.into_iter().map(OwnedFd::from).collect();
        let call = || (self.dispatch)(request.clone(), files, inside);
        std::panic::catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
            let place = place.lock().map(|place| place.clone()).unwrap_or_default();
            Err(CallError::Panicked { message: panic_text(panic.as_ref()).to_owned(), place })
        })
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("panic")
}

/// Whether an upper directory, open as a path, holds nothing. Without one nothing can change.
fn unchanged(upper: Option<&OwnedFd>) -> std::io::Result<bool> {
    let Some(upper) = upper else { return Ok(true) };
    for entry in rustix::fs::Dir::new(open_dir(upper.as_fd(), ".")?)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Kills every other process of the pid namespace and waits until none is left.
fn kill_all() {
    loop {
        // Children of our children become ours as their parents die, so this ends only when all are
        // gone.
        sys::kill_everyone_else();
        if matches!(rustix::process::wait(WaitOptions::empty()), Err(rustix::io::Errno::CHILD)) {
            return;
        }
    }
}
