//! Listens to one job until everything inside is dead: its output, its reports, its clock, and the
//! handle that cancels it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::Value;

use super::allowance::{Reached, Resource};
use super::call::CallError;
use super::cancel::Cancel;
use super::ended::{Alive, Circumstances, Ended, Failure, JobEvent};
use super::error::{Error, ended_early, failed};
use super::job::{Action, Attempt};
use super::lines::Lines;
use super::plan::{self, Event, Fault, Frames, FromCall, Status};
use super::spawn::Running;

/// What has to be known of an action to judge it.
#[derive(Clone, Copy)]
pub(super) struct Task {
    /// Its process is a call, which returns something.
    call: bool,
    limit: Option<Duration>,
    /// Tried until the limit.
    tried: bool,
    rescue: bool,
}

impl Task {
    pub(super) fn of<C>(action: &Action<C>) -> Self {
        let (call, limit, tried, rescue) = match action {
            Action::Exec(exec) => (false, exec.timeout, false, false),
            Action::Call(_) | Action::CallIfChanged(_) => (true, None, false, false),
            Action::Until(until) => {
                (matches!(until.attempt, Attempt::Call(_)), Some(until.within), true, false)
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

/// How long the init may take to say which processes are alive, before they are killed unnamed.
const ROLL_CALL: Duration = Duration::from_secs(1);

/// Listens to one job.
pub(super) struct Listener<'a> {
    running: Running,
    lines: Vec<Lines>,
    replies: File,
    reply_frames: Frames,
    returned: VecDeque<Result<Option<Value>, CallError>>,
    values: Vec<Option<Value>>,
    /// The action under way.
    action: usize,
    /// Bytes that programs may print; none: as many as they like.
    output: Option<u64>,
    tasks: Vec<Task>,
    /// Signals for attached programs.
    signals: Vec<OwnedFd>,
    deadline: Option<(usize, Instant)>,
    /// Whether the init was asked which processes are alive, as the time is up.
    asked: bool,
    /// Killed for being late, and now only waited for.
    late: Option<Failure>,
    /// How the last try of what is tried failed.
    tried: Option<Failure>,
    outcome: Option<Ended<Value>>,
    fault: Option<Fault>,
    listener: &'a mut dyn FnMut(JobEvent<'_>),
}

impl<'a> Listener<'a> {
    pub(super) fn new(
        running: Running,
        lines: Vec<Lines>,
        replies: File,
        tasks: Vec<Task>,
        signals: Vec<OwnedFd>,
        output: Option<u64>,
        listener: &'a mut dyn FnMut(JobEvent<'_>),
    ) -> Self {
        Self {
            running,
            lines,
            replies,
            reply_frames: Frames::default(),
            returned: VecDeque::new(),
            values: vec![],
            action: 0,
            output,
            tasks,
            signals,
            deadline: None,
            asked: false,
            late: None,
            tried: None,
            outcome: None,
            fault: None,
            listener,
        }
    }

    /// Listens until the helper is dead, and says how the job ended.
    pub(super) fn listen(mut self, cancel: &Cancel) -> Result<Ended<Value>, Error> {
        self.until_dead(cancel)?;
        self.verdict()
    }

    fn until_dead(&mut self, cancel: &Cancel) -> Result<(), Error> {
        let mut events = Frames::default();
        let mut replies_open = true;
        let mut events_open = true;
        loop {
            let done = self.running.killed();
            let mut fds = vec![PollFd::from_borrowed_fd(self.running.ended(), PollFlags::empty())];
            if !done {
                fds.push(PollFd::from_borrowed_fd(cancel.as_fd(), PollFlags::IN));
            }
            fds.extend(
                self.lines
                    .iter()
                    .filter_map(Lines::open)
                    .map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN)),
            );
            fds.extend(self.signals.iter().map(|signals| PollFd::new(signals, PollFlags::IN)));
            if replies_open {
                fds.push(PollFd::new(&self.replies, PollFlags::IN));
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
            // In this order: the beginning of an action was reported before its first output, so
            // that is read first.
            replies_open = self.fetch()?;
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
            self.stop_flood();
            if let Some((action, at)) = self.deadline
                && self.outcome.is_none()
                && at <= Instant::now()
            {
                self.too_late(action, None)?;
            }
        }
    }

    /// Ends the job where its programs have printed more than they may.
    fn stop_flood(&mut self) {
        let printed = self.lines.iter().map(Lines::total).sum();
        if let Some(allowed) = self.output.filter(|allowed| printed > *allowed)
            && self.outcome.is_none()
        {
            let reached = Reached { resource: Resource::Output, used: printed, allowed };
            let how = Failure::Reached(reached);
            let seen = Circumstances::default();
            self.outcome = Some(Ended::Failed { action: self.action, how, seen });
            self.running.kill();
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

    /// The time of an action is up. `alive`: what runs, where the init has reported it.
    fn too_late(&mut self, action: usize, alive: Option<Alive>) -> Result<(), Error> {
        let task = self.tasks[action];
        let limit = task.limit.unwrap_or_default();
        if self.late.is_none() && !task.tried && !self.asked {
            self.asked = true;
            self.deadline = Some((action, Instant::now() + ROLL_CALL));
            return self.running.who().map_err(failed("talk to the sandbox"));
        }
        let how = match (&self.late, task.tried) {
            (Some(late), _) => late.clone(),
            (None, true) => {
                Failure::NotHeld { within: limit, last: self.tried.take().map(Box::new) }
            }
            (None, false) => Failure::TimedOut { after: limit, alive: alive.unwrap_or_default() },
        };
        if self.late.is_none() && self.tasks.iter().any(|task| task.rescue) {
            // Only the program goes: somebody wants to look at what it leaves.
            self.deadline = Some((action, Instant::now() + GRACE));
            self.late = Some(how);
            return self.running.signal(libc::SIGKILL as u8).map_err(failed("talk to the sandbox"));
        }
        self.outcome = Some(Ended::Failed { action, how, seen: Circumstances::default() });
        self.running.kill();
        Ok(())
    }

    /// Reads everything that is there now, without reporting it. False if no call can say anything
    /// more.
    fn fetch(&mut self) -> Result<bool, Error> {
        for lines in &mut self.lines {
            lines.fetch().map_err(failed("read the output of a step"))?;
        }
        self.reply_frames.fill(&self.replies).map_err(failed("listen to the sandbox"))
    }

    /// Reports what was read.
    fn deliver(&mut self) -> Result<(), Error> {
        for lines in &mut self.lines {
            lines.deliver(&mut *self.listener);
        }
        while let Some(reply) =
            self.reply_frames.next().map_err(failed("understand the sandbox"))?
        {
            match reply {
                FromCall::Progress(value) => (self.listener)(JobEvent::Progress(value)),
                FromCall::Return(result) => self.returned.push_back(result),
            }
        }
        Ok(())
    }

    /// Reports last lines without an end: those of the action that is over, or everybody's.
    fn finish_lines(&mut self, all: bool) {
        for lines in self.lines.iter_mut().filter(|lines| all || !lines.is_service()) {
            lines.finish(&mut *self.listener);
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
                self.asked = false;
                self.action = action;
                self.deadline =
                    task.limit.and_then(|limit| Some((action, Instant::now().checked_add(limit)?)));
                match &self.outcome {
                    Some(Ended::Failed { how, .. }) if task.rescue => {
                        (self.listener)(JobEvent::Rescue(how))
                    }
                    _ => (self.listener)(JobEvent::Action(action)),
                }
            }
            Event::Alive(alive) => {
                // It may have come to its end just when its time was up.
                if let Some((action, _)) = self.deadline.filter(|_| self.asked)
                    && self.outcome.is_none()
                    && self.late.is_none()
                {
                    self.too_late(action, Some(alive))?;
                }
            }
            Event::Tried(action, status) => {
                self.report_output()?;
                self.tried = self.judge(action, status).err();
            }
            Event::End(action, status, seen) => {
                self.deadline = None;
                self.report_output()?;
                self.stop_flood();
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
                        self.outcome = Some(Ended::Failed { action, how, seen });
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

    /// Reports all that the action wrote, which is in the pipes by now; the next one waits for our
    /// word.
    fn report_output(&mut self) -> Result<(), Error> {
        self.fetch()?;
        self.deliver()?;
        self.finish_lines(false);
        Ok(())
    }

    fn judge(&mut self, action: usize, status: Status) -> Result<Option<Value>, Failure> {
        let call = self.tasks.get(action).is_some_and(|task| task.call);
        match (status, call) {
            (Status::Unstarted(why), _) => Err(Failure::Start(why)),
            (Status::Lost(service, status), _) => {
                let how = match *status {
                    Status::Signaled(signal) => Failure::Signal(signal),
                    Status::Exited(code) => Failure::Exit(code),
                    Status::Unstarted(why) => Failure::Start(why),
                    Status::Reached(reached) => Failure::Reached(reached),
                    Status::Unmapped(_) | Status::Lost(..) => Failure::Exit(0),
                };
                Err(Failure::Lost { action: service, how: Box::new(how) })
            }
            (Status::Reached(reached), _) => Err(Failure::Reached(reached)),
            (Status::Unmapped(id), _) => Err(Failure::Unmapped(id)),
            (Status::Exited(0), false) => Ok(None),
            (Status::Exited(code), false) => Err(Failure::Exit(code)),
            (Status::Signaled(signal), false) => Err(Failure::Signal(signal)),
            (Status::Signaled(signal), true) => Err(Failure::Call(CallError::Signal(signal))),
            (Status::Exited(code), true) => match self.returned.pop_front() {
                Some(result) if code == 0 || code == plan::CALL_FAILED => {
                    result.map_err(Failure::Call)
                }
                _ => Err(Failure::Call(CallError::Silent(code))),
            },
        }
    }

    fn verdict(self) -> Result<Ended<Value>, Error> {
        match (self.outcome, self.fault) {
            (Some(Ended::Cancelled), _) => Ok(Ended::Cancelled),
            (None, Some(fault)) if fault.image => Ok(Ended::Failed {
                action: self.values.len(),
                how: Failure::Start(fault.what),
                seen: Circumstances::default(),
            }),
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
