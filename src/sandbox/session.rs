//! The big process's side: makes the user namespace, describes jobs to helpers, listens, counts the
//! time, and cancels.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::Value;

use super::lines::{Lines, Whose};
use super::plan::{
    self, ActionPlan, AttachPlan, AttemptPlan, Below, Blobs, CallPlan, Event, Fault, FilePlan,
    Frames, JobPlan, MountPlan, RootPlan, Said, Status, WirePath,
};
use super::spawn::{self, Extra, Running, Warden};
use super::{
    Action, Attach, Attempt, Call, Cancel, Ended, Error, Failure, Heard, Host, Job, Network,
    Owners, Rung, Streams, chore, ids, probe, seccomp,
};

/// What a session holds.
pub(super) struct Inner {
    // First, as fields are dropped in order: the ids are in use until it has ended.
    warden: Warden,
    /// The locked id range, as root.
    slot: Option<ids::Slot>,
    layers: Folder,
    scratch: Folder,
    seccomp: Vec<u8>,
}

/// One of the session's two folders, as the caller names it and as it really is.
struct Folder {
    named: PathBuf,
    real: PathBuf,
}

impl Folder {
    fn open(path: &Path) -> Result<Self, Error> {
        let real = path.canonicalize().map_err(|source| Error::System {
            what: format!("cannot open the directory {}", path.display()),
            source,
        })?;
        let named = std::path::absolute(path).unwrap_or_else(|_| real.clone());
        Ok(Self { named, real })
    }

    /// The part of `path` below this folder.
    fn below(&self, path: &Path) -> Option<PathBuf> {
        let path = std::path::absolute(path).ok()?;
        let rest =
            path.strip_prefix(&self.named).or_else(|_| path.strip_prefix(&self.real)).ok()?;
        rest.components()
            .all(|part| matches!(part, std::path::Component::Normal(_)))
            .then(|| rest.to_owned())
    }
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    move |source| Error::System { what: format!("cannot {what}"), source }
}

/// A program of the host, in the usual places.
pub(super) fn find_tool(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/run/wrappers/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
}

impl Inner {
    pub(super) fn open(host: &Host, layers: &Path, scratch: &Path) -> Result<Self, Error> {
        let (layers, scratch) = (Folder::open(layers)?, Folder::open(scratch)?);
        let slot = if host.rung == Rung::Root { Some(ids::lock_slot()?) } else { None };
        let (warden, said) =
            Warden::start(probe::program(host)?).map_err(failed("start the sandbox helper"))?;
        let child = match said {
            Some(Event::Ready(pid)) => pid,
            Some(Event::Fault(fault)) => return Err(fault.into()),
            _ => return Err(ended_early()),
        };
        match (&host.rung, &slot) {
            (Rung::Subids { uids, gids }, _) => {
                let (uid, gid) =
                    (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
                map_with_tool("newuidmap", child, uid, *uids)?;
                map_with_tool("newgidmap", child, gid, *gids)?;
            }
            (Rung::Root, Some(slot)) => {
                for map in ["uid_map", "gid_map"] {
                    fs::write(
                        format!("/proc/{child}/{map}"),
                        format!("0 {} {}", slot.base, ids::COUNT),
                    )
                    .map_err(failed("map ids"))?;
                }
            }
            (Rung::Root, None) => unreachable!("a slot was locked above"),
        }
        warden.mapped().map_err(failed("talk to the sandbox helper"))?;
        Ok(Self { warden, slot, layers, scratch, seccomp: seccomp::bytes() })
    }

    fn below(&self, path: &Path) -> Result<Below, Error> {
        let found = self
            .scratch
            .below(path)
            .map(|p| (true, p))
            .or_else(|| self.layers.below(path).map(|p| (false, p)));
        match found {
            Some((in_scratch, path)) => Ok(Below { in_scratch, path: WirePath::new(&path) }),
            None => Err(Error::System {
                what: format!("cannot use the directory {}", path.display()),
                source: io::Error::other(
                    "it lies neither below the layers folder nor below the scratch folder",
                ),
            }),
        }
    }

    fn plan(&self, job: &Job, blobs: &mut Blobs) -> Result<JobPlan, Error> {
        let root = match &job.root {
            None => None,
            Some(overlay) => {
                let (upper, work) = (&overlay.upper, &overlay.work);
                let parent =
                    upper.parent().filter(|parent| work.parent() == Some(parent) && upper != work);
                let names = parent.zip(upper.file_name()).zip(work.file_name());
                let ((parent, upper_name), work_name) = names.ok_or_else(|| Error::System {
                    what: format!(
                        "cannot use the directories {} and {}",
                        upper.display(),
                        work.display()
                    ),
                    source: io::Error::other("upper and work must lie side by side"),
                })?;
                let place = self.below(parent)?;
                if !place.in_scratch {
                    return Err(Error::System {
                        what: format!("cannot write to {}", upper.display()),
                        source: io::Error::other("it lies among the layers"),
                    });
                }
                Some(RootPlan {
                    lower: overlay
                        .lower
                        .iter()
                        .map(|lower| self.below(lower))
                        .collect::<Result<_, _>>()?,
                    parent: place.path,
                    upper: WirePath::new(Path::new(upper_name)),
                    work: WirePath::new(Path::new(work_name)),
                })
            }
        };
        let mut mounts = vec![];
        for mount in &job.mounts {
            let from = std::path::absolute(&mount.from)
                .map_err(failed(format!("find {}", mount.from.display())))?;
            let mine = mount.owners == Owners::Mine;
            mounts.push(MountPlan {
                from: WirePath::new(&from),
                at: WirePath::new(&mount.at),
                read_only: mount.read_only,
                mine,
            });
        }
        let file = |file: &super::PolicyFile, blobs: &mut Blobs| FilePlan {
            at: WirePath::new(&file.at),
            mode: file.mode,
            bytes: blobs.add(&file.bytes),
        };
        Ok(JobPlan {
            idmap: self.slot.as_ref().map(|slot| slot.base),
            layers: WirePath::new(&self.layers.real),
            scratch: WirePath::new(&self.scratch.real),
            root,
            mounts,
            files: job.files.iter().map(|f| file(f, blobs)).collect(),
            hostname: job.hostname.clone(),
            host_network: job.network == Network::Host,
            seccomp: blobs.add(&self.seccomp),
            actions: job.actions.iter().map(action_plan).collect(),
        })
    }

    pub(super) fn run(
        &self,
        job: Job,
        cancel: &Cancel,
        hear: &mut dyn FnMut(Heard<'_>),
    ) -> Result<Ended, Error> {
        if cancel.fired() {
            return Ok(Ended::Cancelled);
        }
        let mut blobs = Blobs::default();
        let plan = self.plan(&job, &mut blobs)?;
        let pipe = || {
            io::pipe().and_then(|(read, write)| {
                spawn::nonblocking(&read)
                    .map(|()| (File::from(OwnedFd::from(read)), OwnedFd::from(write)))
            })
        };
        let (stdout, stdout_end) = pipe().map_err(failed("make a pipe"))?;
        let (stderr, stderr_end) = pipe().map_err(failed("make a pipe"))?;
        let (said, said_end) = pipe().map_err(failed("make a pipe"))?;
        let mut lines = vec![
            Lines::new(stdout, Whose::Action { stderr: false }),
            Lines::new(stderr, Whose::Action { stderr: true }),
        ];
        let mut service_ends = vec![];
        for n in job
            .actions
            .iter()
            .enumerate()
            .filter(|(_, action)| matches!(action, Action::Start(_)))
            .map(|(n, _)| n)
        {
            let (output, end) = pipe().map_err(failed("make a pipe"))?;
            lines.push(Lines::new(output, Whose::Service(n)));
            service_ends.push(end);
        }
        let files = files_of(&job.actions, &service_ends);
        if let Some(slot) = &self.slot {
            // Root inside must be able to hand the pipes on to a program's user.
            let attached = job.actions.iter().flat_map(|action| match action {
                Action::Attach(Attach { streams: Streams::Pipes(pipes), .. }) => {
                    pipes.iter().collect()
                }
                _ => vec![],
            });
            for end in [&stdout_end, &stderr_end].into_iter().chain(&service_ends).chain(attached) {
                let (uid, gid) =
                    (rustix::fs::Uid::from_raw(slot.base), rustix::fs::Gid::from_raw(slot.base));
                rustix::fs::fchown(end, Some(uid), Some(gid))
                    .map_err(|e| failed("hand over a pipe")(e.into()))?;
            }
        }
        let extra = Extra {
            stdout: stdout_end.as_fd(),
            stderr: stderr_end.as_fd(),
            said: said_end.as_fd(),
            files,
        };
        let running = self
            .warden
            .start_job(&plan, &blobs, extra)
            .map_err(failed("start a job of the sandbox"))?;
        drop((stdout_end, stderr_end, said_end, service_ends));
        let tasks: Vec<Task> = job.actions.iter().map(Task::of).collect();
        let mut signals: Vec<OwnedFd> = vec![];
        for action in job.actions {
            // The files of the actions are the helper's now; a pipe among them must end when those
            // inside close it.
            if let Action::Attach(attach) | Action::Rescue(attach) = action {
                signals.extend(attach.signals);
            }
        }
        let mut ear = Ear {
            running,
            lines,
            said,
            said_frames: Frames::default(),
            returned: VecDeque::new(),
            values: vec![],
            tasks,
            signals,
            deadline: None,
            late: None,
            tried: None,
            outcome: None,
            fault: None,
            hear,
        };
        ear.listen(cancel)?;
        ear.verdict()
    }

    pub(super) fn remove_trees(&self, paths: &[&Path]) -> Result<(), Error> {
        let mut names = vec![];
        for path in paths {
            let what = || format!("remove {}", path.display());
            let below = self.scratch.below(path).filter(|below| !below.as_os_str().is_empty());
            let below = below.ok_or_else(|| {
                failed(what())(io::Error::other("it does not lie below the scratch folder"))
            })?;
            names.push(WirePath::new(&below));
        }
        let args = serde_json::to_value(names)
            .map_err(|error| failed("tidy up the scratch folder")(error.into()))?;
        let call = Call { name: chore::REMOVE_TREES, args, fds: vec![] };
        let job = Job {
            root: None,
            mounts: vec![],
            files: vec![],
            hostname: "bake".into(),
            network: Network::None,
            actions: vec![Action::Call(call)],
        };
        match self.run(job, &Cancel::new()?, &mut |_| {})? {
            Ended::Done(_) => Ok(()),
            Ended::Failed { how: Failure::Call(why), .. } => {
                Err(failed("tidy up the scratch folder")(io::Error::other(why)))
            }
            other => {
                Err(failed("tidy up the scratch folder")(io::Error::other(format!("{other:?}"))))
            }
        }
    }
}

fn map_with_tool(tool: &str, child: i32, own: u32, range: (u32, u32)) -> Result<(), Error> {
    let hint = "apt-get install uidmap (or your distribution's shadow-utils)".to_owned();
    let path = find_tool(tool).ok_or_else(|| Error::Host {
        what: format!("{tool} is not installed"),
        hint: hint.clone(),
    })?;
    let numbers = [child.cast_unsigned(), 0, own, 1, 1, range.0, range.1];
    let output = Command::new(&path).args(numbers.map(|n| n.to_string())).env_clear().output();
    let output = output.map_err(failed(format!("start {}", path.display())))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Host {
        what: format!("{tool} could not map the subordinate ids: {said}"),
        hint: format!(
            "check that {} is setuid root (or has its file capability), that this file system is not mounted nosuid, and that /etc/subuid and /etc/subgid list this user",
            path.display()
        ),
    })
}

fn ended_early() -> Error {
    failed("run the sandbox helper")(io::Error::other("it ended without a word"))
}

fn action_plan(action: &Action) -> ActionPlan {
    let call = |call: &Call| CallPlan {
        name: call.name.into(),
        args: call.args.clone(),
        fds: call.fds.len(),
    };
    let attach = |attach: &Attach| {
        let terminal =
            if let Streams::Terminal(socket) = &attach.streams { Some(socket.size) } else { None };
        let execs = std::iter::once(&attach.exec).chain(&attach.or_else).cloned().collect();
        AttachPlan { execs, terminal }
    };
    match action {
        Action::Exec(exec) => ActionPlan::Exec(exec.clone()),
        Action::Call(one) => ActionPlan::Call(call(one)),
        Action::CallIfChanged(one) => ActionPlan::CallIfChanged(call(one)),
        Action::Start(exec) => ActionPlan::Start(exec.clone()),
        Action::Serve(one) => ActionPlan::Serve(call(one)),
        Action::Until(until) => {
            let attempt = match &until.attempt {
                Attempt::Exec(exec) => AttemptPlan::Exec(exec.clone()),
                Attempt::Call { name, args } => {
                    AttemptPlan::Call(CallPlan { name: (*name).into(), args: args.clone(), fds: 0 })
                }
            };
            ActionPlan::Until { attempt, again: until.again }
        }
        Action::Still(time) => ActionPlan::Still(*time),
        Action::Attach(one) => ActionPlan::Attach(attach(one)),
        Action::Rescue(one) => ActionPlan::Rescue(attach(one)),
    }
}

/// The files that go with the actions, in the order in which these take them; `services` are those
/// for the output of programs in the background.
fn files_of<'a>(actions: &'a [Action], services: &'a [OwnedFd]) -> Vec<BorrowedFd<'a>> {
    let mut services = services.iter();
    let mut files = vec![];
    for action in actions {
        match action {
            Action::Call(call) | Action::CallIfChanged(call) | Action::Serve(call) => {
                files.extend(call.fds.iter().map(AsFd::as_fd))
            }
            Action::Start(_) => files.extend(services.next().map(AsFd::as_fd)),
            Action::Attach(attach) | Action::Rescue(attach) => match &attach.streams {
                Streams::Pipes(pipes) => files.extend(pipes.iter().map(AsFd::as_fd)),
                Streams::Terminal(socket) => files.push(socket.fd.as_fd()),
            },
            Action::Exec(_) | Action::Until(_) | Action::Still(_) => {}
        }
    }
    files
}

/// What has to be known of an action to judge it.
#[derive(Clone, Copy)]
struct Task {
    /// Its process is a call, which returns something.
    call: bool,
    limit: Option<Duration>,
    /// Tried until the limit.
    tried: bool,
    rescue: bool,
}

impl Task {
    fn of(action: &Action) -> Self {
        let (call, limit, tried, rescue) = match action {
            Action::Exec(exec) => (false, exec.timeout, false, false),
            Action::Call(_) | Action::CallIfChanged(_) => (true, None, false, false),
            Action::Until(until) => {
                (matches!(until.attempt, Attempt::Call { .. }), Some(until.within), true, false)
            }
            Action::Rescue(_) => (false, None, false, true),
            Action::Start(_) | Action::Serve(_) | Action::Still(_) | Action::Attach(_) => {
                (false, None, false, false)
            }
        };
        Self { call, limit, tried, rescue }
    }
}

/// How long a program that was killed for its timeout may take to be dead, before all is killed and
/// nobody can look into it.
const GRACE: Duration = Duration::from_secs(5);

/// Listens to one job.
struct Ear<'a> {
    running: Running,
    lines: Vec<Lines>,
    said: File,
    said_frames: Frames,
    returned: VecDeque<Result<Value, String>>,
    values: Vec<Value>,
    tasks: Vec<Task>,
    /// Signals for attached programs.
    signals: Vec<OwnedFd>,
    deadline: Option<(usize, Instant)>,
    /// Killed for being late, and now only waited for.
    late: Option<Failure>,
    /// How the last try of what is tried failed.
    tried: Option<Failure>,
    outcome: Option<Ended>,
    fault: Option<Fault>,
    hear: &'a mut dyn FnMut(Heard<'_>),
}

impl Ear<'_> {
    /// Until the helper is dead.
    fn listen(&mut self, cancel: &Cancel) -> Result<(), Error> {
        let mut events = Frames::default();
        let mut said_open = true;
        let mut events_open = true;
        loop {
            let done = self.running.killed();
            let mut fds = vec![PollFd::from_borrowed_fd(self.running.ended(), PollFlags::empty())];
            if !done {
                fds.push(PollFd::from_borrowed_fd(cancel.fd(), PollFlags::IN));
            }
            fds.extend(
                self.lines
                    .iter()
                    .filter_map(Lines::open)
                    .map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN)),
            );
            fds.extend(self.signals.iter().map(|signals| PollFd::new(signals, PollFlags::IN)));
            if said_open {
                fds.push(PollFd::new(&self.said, PollFlags::IN));
            }
            if events_open {
                fds.push(PollFd::new(&self.running.events, PollFlags::IN));
            }
            let left = self
                .deadline
                .filter(|_| !done)
                .map(|(_, at)| at.saturating_duration_since(Instant::now()));
            let left = left.map(|left| Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
            match rustix::event::poll(&mut fds, left.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failed("listen to the sandbox")(error.into())),
            }
            // Asked before reading: what was written before the end is then certainly read below.
            let ended = !fds[0].revents().is_empty();
            drop(fds);
            // In this order: whoever wrote output of an action had told of its beginning before, so
            // that is heard first.
            said_open = self.fetch()?;
            events_open =
                events.fill(&self.running.events).map_err(failed("listen to the sandbox"))?;
            while let Some(event) = events.next().map_err(failed("understand the sandbox"))? {
                self.on_event(event)?;
            }
            self.deliver()?;
            if ended {
                self.fetch()?;
                self.deliver()?;
                self.finish_lines(true);
                return self.running.wait().map_err(failed("wait for the sandbox"));
            }
            if !self.running.killed() && cancel.fired() {
                self.outcome = Some(Ended::Cancelled);
                self.running.kill();
            }
            self.forward()?;
            if let Some((action, at)) = self.deadline
                && self.outcome.is_none()
                && at <= Instant::now()
            {
                self.too_late(action)?;
            }
        }
    }

    /// Passes on signals for attached programs.
    fn forward(&mut self) -> Result<(), Error> {
        let mut gone = vec![];
        for (n, signals) in self.signals.iter().enumerate() {
            let mut ready = [PollFd::new(signals, PollFlags::IN)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if !matches!(rustix::event::poll(&mut ready, Some(&now)), Ok(1..)) {
                continue;
            }
            let mut bytes = [0; 64];
            match rustix::io::read(signals, &mut bytes) {
                Ok(0) => gone.push(n),
                Ok(count) => bytes[..count]
                    .iter()
                    .try_for_each(|signal| self.running.signal(*signal))
                    .map_err(failed("pass on a signal"))?,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(failed("listen for signals")(error.into())),
            }
        }
        for n in gone.into_iter().rev() {
            self.signals.remove(n);
        }
        Ok(())
    }

    /// The time of an action is up.
    fn too_late(&mut self, action: usize) -> Result<(), Error> {
        let task = self.tasks[action];
        let limit = task.limit.unwrap_or_default();
        let how = match (&self.late, task.tried) {
            (Some(late), _) => late.clone(),
            (None, true) => {
                Failure::NotHeld { within: limit, last: self.tried.take().map(Box::new) }
            }
            (None, false) => Failure::TimedOut(limit),
        };
        if self.late.is_none() && self.tasks.iter().any(|task| task.rescue) {
            // Only the program goes: somebody wants to look at what it leaves.
            self.deadline = Some((action, Instant::now() + GRACE));
            self.late = Some(how);
            return self.running.signal(libc::SIGKILL as u8).map_err(failed("talk to the sandbox"));
        }
        self.outcome = Some(Ended::Failed { action, how });
        self.running.kill();
        Ok(())
    }

    /// Reads everything that is there now, without telling. False if no call can say anything more.
    fn fetch(&mut self) -> Result<bool, Error> {
        for lines in &mut self.lines {
            lines.fetch().map_err(failed("read the output of a step"))?;
        }
        self.said_frames.fill(&self.said).map_err(failed("listen to the sandbox"))
    }

    /// Tells what was read.
    fn deliver(&mut self) -> Result<(), Error> {
        for lines in &mut self.lines {
            lines.deliver(&mut *self.hear);
        }
        while let Some(said) = self.said_frames.next().map_err(failed("understand the sandbox"))? {
            match said {
                Said::Progress(value) => (self.hear)(Heard::Progress(value)),
                Said::Return(result) => self.returned.push_back(result),
            }
        }
        Ok(())
    }

    /// Tells last lines without an end: those of the action that is over, or everybody's.
    fn finish_lines(&mut self, all: bool) {
        for lines in self.lines.iter_mut().filter(|lines| all || !lines.is_service()) {
            lines.finish(&mut *self.hear);
        }
    }

    fn on_event(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Ready(_) => {}
            Event::Fault(fault) => self.fault = Some(fault),
            Event::Begin(action) => {
                let Some(task) = self.tasks.get(action) else {
                    return Err(failed("understand the sandbox")(
                        io::ErrorKind::InvalidData.into(),
                    ));
                };
                self.deadline =
                    task.limit.and_then(|limit| Some((action, Instant::now().checked_add(limit)?)));
                match &self.outcome {
                    Some(Ended::Failed { how, .. }) if task.rescue => {
                        (self.hear)(Heard::Rescue(how))
                    }
                    _ => (self.hear)(Heard::Action(action)),
                }
            }
            Event::Tried(action, status) => {
                self.heard_out()?;
                self.tried = self.judge(action, status).err();
            }
            Event::End(action, status) => {
                self.deadline = None;
                self.heard_out()?;
                let result = self.judge(action, status);
                let result = match (self.late.take(), result) {
                    // It may have come to its end just when its time was up.
                    (Some(how), Err(_)) => Err(how),
                    (_, result) => result,
                };
                self.tried = None;
                let rescue = self.tasks.iter().position(|task| task.rescue);
                match result {
                    // How that ended changes nothing.
                    _ if rescue == Some(action) => {}
                    Ok(value) if self.outcome.is_none() => {
                        self.values.push(value);
                        self.running.go_on().map_err(failed("talk to the sandbox"))?;
                    }
                    Err(how) if self.outcome.is_none() => {
                        self.outcome = Some(Ended::Failed { action, how });
                        match rescue {
                            Some(_) => {
                                self.running.go_on().map_err(failed("talk to the sandbox"))?
                            }
                            None => self.running.kill(),
                        }
                    }
                    // Cancelled or timed out in the meantime: that is the story.
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Tells all that the action wrote, which is in the pipes by now; the next one waits for our
    /// word.
    fn heard_out(&mut self) -> Result<(), Error> {
        self.fetch()?;
        self.deliver()?;
        self.finish_lines(false);
        Ok(())
    }

    fn judge(&mut self, action: usize, status: Status) -> Result<Value, Failure> {
        let call = self.tasks.get(action).is_some_and(|task| task.call);
        match (status, call) {
            (Status::Unstarted(why), _) => Err(Failure::Start(why)),
            (Status::Lost(service, status), _) => {
                let how = match *status {
                    Status::Signaled(signal) => Failure::Signal(signal),
                    Status::Exited(code) => Failure::Exit(code),
                    Status::Unstarted(why) => Failure::Start(why),
                    Status::Lost(..) => Failure::Exit(0),
                };
                Err(Failure::Lost { action: service, how: Box::new(how) })
            }
            (Status::Exited(0), false) => Ok(Value::Null),
            (Status::Exited(code), false) => Err(Failure::Exit(code)),
            (Status::Signaled(signal), false) => Err(Failure::Signal(signal)),
            (Status::Signaled(signal), true) => {
                Err(Failure::Call(format!("ended by signal {signal} (out of memory?)")))
            }
            (Status::Exited(code), true) => match self.returned.pop_front() {
                Some(result) if code == 0 || code == plan::CALL_FAILED => {
                    result.map_err(Failure::Call)
                }
                _ => Err(Failure::Call(format!("ended with code {code} and no result"))),
            },
        }
    }

    fn verdict(self) -> Result<Ended, Error> {
        match (self.outcome, self.fault) {
            (Some(Ended::Cancelled), _) => Ok(Ended::Cancelled),
            (None, Some(fault)) if fault.image => {
                Ok(Ended::Failed { action: self.values.len(), how: Failure::Start(fault.what) })
            }
            (_, Some(fault)) => Err(fault.into()),
            (Some(outcome), None) => Ok(outcome),
            (None, None)
                if self.values.len() == self.tasks.iter().filter(|task| !task.rescue).count() =>
            {
                Ok(Ended::Done(self.values))
            }
            (None, None) => Err(ended_early()),
        }
    }
}
