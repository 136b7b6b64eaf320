//! One step: its operations become one sandbox job on a fresh upper directory; the job's output
//! goes to the step's log.

use std::path::{Path, PathBuf};

use super::build::Build;
use super::error::{NodeFailure, Trouble};
use super::network::Way;
use super::packages;
use super::prepared::Prepared;
use super::shell;
use crate::archive;
use crate::job::{Action, Call, Job, Log, allowance, fresh_work, make_dir};
use crate::reach::Reach;
use crate::sandbox::{JobEvent, Overlay, Request};
use crate::step::{Lowered, Op};

impl Build<'_> {
    /// Carries out step `index` over `lower` (topmost first) in the directory `at`, trying again on
    /// a fresh root as often as it says; returns the upper directory with what it changed.
    ///
    /// # Errors
    /// [`NodeFailure`], with what it printed last.
    pub(crate) fn step(
        &self,
        index: usize,
        node: &Lowered,
        lower: &[PathBuf],
        at: &Path,
    ) -> Result<PathBuf, NodeFailure> {
        let first = Try { build: self, index, node, lower, at, last: node.retries == 0 };
        self.logged(index, |log| tries(&first, log, |this, log| this.once(log)))
    }

    /// Chooses and pins the packages that step `index` begins with, with the same patience;
    /// nothing, where it begins with something else. Nothing is installed.
    ///
    /// # Errors
    /// [`NodeFailure`], with what it printed last.
    pub(crate) fn choose(
        &self,
        index: usize,
        node: &Lowered,
        lower: &[PathBuf],
        at: &Path,
    ) -> Result<(), NodeFailure> {
        let first = Try { build: self, index, node, lower, at, last: node.retries == 0 };
        let Some(request) = node.ops.first().and_then(|op| first.request(op, 0, 0)) else {
            return Ok(());
        };
        self.logged(index, |log| {
            tries(&first, log, |this, log| packages::choose(self, &request, lower, this.at, log))
        })
    }
}

/// One try of a step.
#[derive(Clone, Copy)]
struct Try<'a> {
    build: &'a Build<'a>,
    index: usize,
    node: &'a Lowered,
    /// Topmost first.
    lower: &'a [PathBuf],
    /// A directory of its own.
    at: &'a Path,
    /// No other follows.
    last: bool,
}

/// Does `once` until it goes well or has been done as often as the step says.
fn tries<T>(
    first: &Try<'_>,
    log: &mut Log,
    mut once: impl FnMut(&Try<'_>, &mut Log) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let Try { build, index, node, lower, .. } = *first;
    for tried in 0.. {
        let again = first.at.join(format!("try-{tried}"));
        // Nearly every step is tried once: each directory less is one less to remove.
        let at = if tried == 0 { first.at } else { &again };
        match once(&Try { at, last: tried == node.retries, ..*first }, log) {
            Err(Trouble::Step(why)) if tried < node.retries => {
                let (next, all) = (tried + 2, node.retries + 1);
                let why = why.reasons().join(": ");
                log.note(&format!("{why}; try {next} of {all} on a fresh root"));
            }
            Err(trouble) => {
                shell::afterwards(build, index, lower, at, &trouble)?;
                return Err(trouble);
            }
            ended => return ended,
        }
    }
    unreachable!("the last try returns, whatever it comes to")
}

impl<'a> Try<'a> {
    fn once(&self, log: &mut Log) -> Result<PathBuf, Trouble> {
        let Try { build, index, node, lower, at, .. } = *self;
        let upper = make_dir(&at.join("u"))?;
        let mut prepared = Prepared::default();
        let mut installed = 0;
        for (number, op) in node.ops.iter().enumerate() {
            if let Some(request) = self.request(op, number, installed) {
                // Package steps are several jobs (resolve, fetch, install): what is before them
                // runs first.
                self.job(&upper, std::mem::take(&mut prepared), log)?;
                packages::install(build, &request, lower, &upper, at, log)?;
                installed += 1;
            } else {
                prepared.want(build, (index, number), op, at)?;
                prepared.keep(build, op, at)?;
                prepared.agent(build, op, at)?;
                prepared.add(build, node, op, build.root.facts.held(index, number), at)?;
            }
        }
        self.job(&upper, prepared, log)?;
        Ok(upper)
    }

    /// Returns the request for packages that operation `number` is, the one after `installed`
    /// others.
    fn request(
        &self,
        op: &'a Op,
        number: usize,
        installed: usize,
    ) -> Option<packages::Request<'a>> {
        let Op::Packages { names, recommends, without_initrd, .. } = op else { return None };
        let (facts, index) = (&self.build.root.facts, self.index);
        let (named, files) = (facts.requests[index - 1][installed], facts.held(index, number));
        let (recommends, without_initrd) = (*recommends, *without_initrd);
        let (limit, limits) = (self.node.timeout, self.node.limits);
        Some(packages::Request {
            named,
            index,
            names,
            files,
            recommends,
            without_initrd,
            limit,
            limits,
            network: &self.node.network,
        })
    }

    /// Runs what was prepared as one job.
    fn job(&self, upper: &Path, prepared: Prepared, log: &mut Log) -> Result<(), Trouble> {
        let Try { build, index, node, lower, at, last } = *self;
        // Some are held until the job is over.
        let Prepared {
            mut actions,
            mut mounts,
            mut files,
            kept: _kept,
            agent: _agent,
            runs,
            tools,
            trees: _trees,
        } = prepared;
        // What is seen inside of another comes after it.
        mounts.sort_by(|a, b| a.at.cmp(&b.at));
        if actions.is_empty() {
            return Ok(());
        }
        if runs {
            // Caches, logs and keys that programs leave behind differ from run to run and belong to
            // no image.
            let tidy = Call::Archive(archive::Call::Tidy);
            actions.push(Action::CallIfChanged(Request::Call(tidy)));
            files.extend(build.policy(&node.network));
        }
        let root =
            Overlay { lower: lower.to_vec(), upper: upper.to_owned(), work: fresh_work(at)? };
        // What is bake's own needs no network.
        let reach = if runs { &node.network } else { &Reach::None };
        let (way, network) = Way::open(build, reach, &format!("step {index}"))?;
        let job = Job {
            root: Some(root),
            allowance: allowance(node.limits),
            mounts,
            files,
            secrets: build.shown_secrets(&node.ops),
            hostname: "bake".to_owned(),
            network,
            actions,
        };
        let mut listener = |event: JobEvent<'_>| {
            if let JobEvent::Line { stderr, text } = event {
                match tools.first() {
                    Some(tool) => {
                        tool.shown(text).iter().for_each(|line| log.line(stderr, line.as_bytes()));
                    }
                    None => log.line(stderr, text),
                }
            }
        };
        let ended = if last && build.rescue.wanted() {
            shell::watched(build, index, job, &mut listener)?
        } else {
            build.session()?.run(job, build.job.cancel, &mut listener)?
        };
        match way.close((build, index), ended) {
            Ok(()) => tools.iter().try_for_each(|tool| tool.done(log)),
            Err(Trouble::Step(failure)) => {
                Err(Trouble::Step(tools.iter().fold(failure, |one, tool| tool.explained(one))))
            }
            Err(other) => Err(other),
        }
    }
}
