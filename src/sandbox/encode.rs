//! Turns the actions of a job into its plan, and into the files that go with it in the order in
//! which the actions take them.

use std::io;
use std::os::fd::OwnedFd;

use super::call::{self, Call};
use super::job::{Action, Attach, Attempt, Exec, Streams};
use super::plan::{ActionPlan, AttachPlan, AttemptPlan, CallPlan};
use super::request::Request;

/// What of a job's actions goes inside, and what stays here.
#[derive(Default)]
pub(super) struct Encoded {
    pub(super) actions: Vec<ActionPlan>,
    /// Files for inside.
    pub(super) files: Vec<OwnedFd>,
    /// Places of those that are pipes of programs.
    pub(super) pipes: Vec<usize>,
    /// Signals for attached programs.
    pub(super) signals: Vec<OwnedFd>,
}

impl Encoded {
    /// Encodes `actions`; `services` are where the output of each program in the background goes.
    pub(super) fn new<C: Call>(
        actions: Vec<Action<C>>,
        services: impl IntoIterator<Item = OwnedFd>,
    ) -> io::Result<Self> {
        let mut encoded = Self::default();
        let mut services = services.into_iter();
        for action in actions {
            let plan = encoded.action(action, &mut services)?;
            encoded.actions.push(plan);
        }
        Ok(encoded)
    }

    fn action<C: Call>(
        &mut self,
        action: Action<C>,
        services: &mut dyn Iterator<Item = OwnedFd>,
    ) -> io::Result<ActionPlan> {
        Ok(match action {
            Action::Exec(exec) => ActionPlan::Exec(exec),
            Action::Call(request) => ActionPlan::Call(self.call(&request)?),
            Action::CallIfChanged(request) => ActionPlan::CallIfChanged(self.call(&request)?),
            Action::Start(exec) => {
                self.pipes.push(self.files.len());
                self.files.extend(services.next());
                ActionPlan::Start(exec)
            }
            Action::Serve(request) => ActionPlan::Serve(self.call(&request)?),
            Action::Until(until) => {
                let attempt = match until.attempt {
                    Attempt::Exec(exec) => AttemptPlan::Exec(exec),
                    Attempt::Call(request) => {
                        let (request, files) = call::write(&request)?;
                        if !files.is_empty() {
                            return Err(io::Error::other("what is tried again has no open files"));
                        }
                        AttemptPlan::Call(CallPlan { request, files: 0 })
                    }
                };
                ActionPlan::Until { attempt, again: until.again }
            }
            Action::Still(time) => ActionPlan::Still(time),
            Action::Attach(attach) => ActionPlan::Attach(self.attach(attach)),
            Action::Rescue(attach) => ActionPlan::Rescue(self.attach(attach)),
        })
    }

    fn call<C: Call>(&mut self, request: &Request<C>) -> io::Result<CallPlan> {
        let (request, files) = call::write(request)?;
        let count = files.len();
        self.files.extend(files);
        Ok(CallPlan { request, files: count })
    }

    fn attach(&mut self, attach: Attach) -> AttachPlan {
        let Attach { exec, or_else, streams, signals } = attach;
        self.signals.extend(signals);
        let terminal = match streams {
            Streams::Pipes(pipes) => {
                self.pipes.extend(self.files.len()..self.files.len() + pipes.len());
                self.files.extend(pipes);
                None
            }
            Streams::Terminal(socket) => {
                self.files.push(socket.fd);
                Some(socket.size)
            }
        };
        let execs: Vec<Exec> = std::iter::once(exec).chain(or_else).collect();
        AttachPlan { execs, terminal }
    }
}
