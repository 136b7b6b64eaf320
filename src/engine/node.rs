//! One step: its operations become one sandbox job on a fresh upper folder; the job's output goes
//! to the step's log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::error::{Error, StepFailure};
use super::site::Site;
use super::{packages, shell, wanted};
use crate::apply;
use crate::archive;
use crate::base;
use crate::context::{self, Held};
use crate::job::{self, Action, Call, Ended, Job, Log, environment, fresh_work, make_dir, open};
use crate::sandbox::{
    Exec, JobEvent, Mount, Network, Overlay, Owners, Passed, PolicyFile, Request,
};
use crate::step::{Content, Lowered, Op};

/// A step that ran: its upper folder holds what it changed.
pub(super) struct Ran {
    pub(super) upper: PathBuf,
}

/// Why a step did not end well: its own failure, or something that ends the build whatever the
/// step.
pub(super) enum Trouble {
    Step(StepFailure),
    Base(base::Error),
    Build(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Build(error)
    }
}

impl From<job::Error> for Trouble {
    fn from(error: job::Error) -> Self {
        Self::Build(error.into())
    }
}

impl Trouble {
    /// A failure before anything ran, with its causes.
    pub(super) fn prepared(error: &dyn std::error::Error) -> Self {
        Self::Step(StepFailure::told(error))
    }
}

/// Runs step `node` over `lower` (topmost first) in the directory `at`, trying again on a fresh root
/// as often as it says.
pub(super) fn run(
    site: &Site<'_>,
    index: usize,
    node: &Lowered,
    lower: &[PathBuf],
    at: &Path,
    log: &mut Log,
) -> Result<Ran, Trouble> {
    tries(site, index, node, lower, at, log, &mut once)
}

/// Chooses and pins the packages that step `node` installs first, with the same patience. Nothing
/// is installed.
pub(super) fn choose(
    site: &Site<'_>,
    index: usize,
    node: &Lowered,
    lower: &[PathBuf],
    at: &Path,
    log: &mut Log,
) -> Result<(), Trouble> {
    let Some(Op::Packages { names, recommends, .. }) = node.ops.first() else { return Ok(()) };
    let named = site.facts.requests[index - 1][0];
    let files = site.facts.held(index, 0);
    let (recommends, limit) = (*recommends, node.timeout);
    let request = packages::Request { named, index, names, files, recommends, limit };
    tries(site, index, node, lower, at, log, &mut |this, log| {
        packages::choose(site, &request, lower, this.at, log)
    })
}

fn tries<T>(
    site: &Site<'_>,
    index: usize,
    node: &Lowered,
    lower: &[PathBuf],
    at: &Path,
    log: &mut Log,
    once: &mut dyn FnMut(&Try<'_>, &mut Log) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let mut tried = 0;
    loop {
        let again = at.join(format!("try-{tried}"));
        // Nearly every step is tried once: each folder less is one less to remove.
        let at = if tried == 0 { at } else { &again };
        match once(&Try { site, index, node, lower, at, last: tried == node.retries }, log) {
            Err(Trouble::Step(why)) if tried < node.retries => {
                tried += 1;
                log.note(&format!(
                    "{}; try {} of {} on a fresh root",
                    why.reasons().join(": "),
                    tried + 1,
                    node.retries + 1
                ));
            }
            Err(trouble) => {
                shell::afterwards(site, index, lower, at, &trouble)?;
                return Err(trouble);
            }
            ended => return ended,
        }
    }
}

/// One try of a step.
struct Try<'a> {
    site: &'a Site<'a>,
    index: usize,
    node: &'a Lowered,
    /// Topmost first.
    lower: &'a [PathBuf],
    /// A folder of its own.
    at: &'a Path,
    /// No other follows.
    last: bool,
}

fn once(this: &Try<'_>, log: &mut Log) -> Result<Ran, Trouble> {
    let Try { site, index, node, lower, at, .. } = *this;
    let upper = make_dir(&at.join("u"))?;
    let mut prepared = Prepared::default();
    let mut requests = site.facts.requests[index - 1].iter();
    for (number, op) in node.ops.iter().enumerate() {
        let held = site.facts.held(index, number);
        if let Op::Packages { names, recommends, .. } = op {
            // Package steps are several jobs (resolve, fetch, install): what is before them runs
            // first.
            flush(this, &upper, &mut prepared, log)?;
            let named = *requests
                .next()
                .expect("facts::gather names every package operation of every step");
            let request = packages::Request {
                named,
                index,
                names,
                files: held,
                recommends: *recommends,
                limit: node.timeout,
            };
            packages::install(site, &request, lower, &upper, at, log)?;
        } else {
            prepared.want(this, number, op)?;
            prepared.add(site, node, op, held)?;
        }
    }
    flush(this, &upper, &mut prepared, log)?;
    Ok(Ran { upper })
}

/// Operations made ready: actions in order, and files that are there while they run.
#[derive(Default)]
struct Prepared {
    actions: Vec<Action>,
    mounts: Vec<Mount>,
    files: Vec<PolicyFile>,
    runs: bool,
}

impl Prepared {
    /// Adds what operation `number` of the step wants of stages and of the context.
    fn want(&mut self, this: &Try<'_>, number: usize, op: &Op) -> Result<(), Trouble> {
        let Try { site, index, at, .. } = *this;
        let wanted = site.facts.wanted(index).get(number).map_or(&[][..], Vec::as_slice);
        let (mounts, user) = match op {
            Op::Exec { mounts, user, .. } | Op::Script { mounts, user, .. } => {
                (mounts.as_slice(), user.as_str())
            }
            _ => (&[][..], ""),
        };
        for (nth, one) in wanted.iter().enumerate() {
            let (tar, taken) = site.work.tar(index, one)?;
            let Some(mount) = mounts.get(nth) else {
                if taken.entries > 0 {
                    self.apply(site, &wanted::placing(op, &taken), Some(tar.into()));
                }
                continue;
            };
            let from = make_dir(&at.join(format!("mount-{number}-{nth}")))?;
            let to = PathBuf::from(&mount.at);
            self.mounts.push(Mount { from, at: to, read_only: false, owners: Owners::Image });
            if taken.entries > 0 {
                let (at, owner) = (PathBuf::from(&mount.at), user.to_owned());
                let fill = apply::Call::Fill { at, owner, epoch: site.epoch, tar: tar.into() };
                self.actions.push(Action::call(Call::Apply(fill)));
            }
        }
        Ok(())
    }

    /// Adds an operation, which gets of the context what is `held` for it.
    fn add(
        &mut self,
        site: &Site<'_>,
        node: &Lowered,
        op: &Op,
        held: &[Held],
    ) -> Result<(), Trouble> {
        let told = |error: context::Error| Trouble::prepared(&error);
        match op {
            Op::Exec { argv, env, user, cwd, .. } => {
                self.exec(site, node, argv.clone(), env, user, cwd)
            }
            Op::Script { shell, args, env, user, cwd, .. } => {
                let bytes = only(held).read().map_err(told)?;
                let at = PathBuf::from(format!("/dev/bake/script-{}", self.files.len()));
                let path = at.to_string_lossy().into_owned();
                let mut argv = if bytes.starts_with(b"#!") {
                    vec![]
                } else {
                    shell.iter().filter(|arg| *arg != "-c").cloned().collect()
                };
                argv.push(path);
                argv.extend(args.iter().cloned());
                self.files.push(PolicyFile { at, bytes: bytes.to_vec(), mode: 0o755 });
                self.exec(site, node, argv, env, user, cwd);
            }
            Op::Download { url, sha256, .. } => {
                let path = site.download(url, sha256.as_deref())?;
                self.apply(site, op, Some(open(&path)?.into()));
            }
            Op::Repository { key, .. } => {
                let key = site.repository_key(key, held)?;
                self.apply(
                    site,
                    op,
                    Some(in_memory(&key).map_err(|error| Trouble::prepared(&error))?),
                );
            }
            Op::Write { content: Content::Template(_), .. } => {
                let text = only(held).read().map_err(told)?;
                let file = in_memory(&text).map_err(|error| Trouble::prepared(&error))?;
                self.apply(site, op, Some(file));
            }
            Op::Write { content: Content::Text(_), .. }
            | Op::Mkdir { .. }
            | Op::Symlink { .. }
            | Op::Remove { .. }
            | Op::Group { .. }
            | Op::User { .. }
            | Op::Service { .. } => {
                self.apply(site, op, None);
            }
            // Added with what it wants.
            Op::Copy { stage: Some(_), .. } => {}
            Op::Copy { .. } => {
                unreachable!("a copy is a step of its own and never comes here: see `direct`")
            }
            Op::Packages { .. } => {
                unreachable!("package operations never come here: `once` takes them out")
            }
        }
        Ok(())
    }

    fn exec(
        &mut self,
        site: &Site<'_>,
        node: &Lowered,
        argv: Vec<String>,
        env: &BTreeMap<String, String>,
        user: &str,
        cwd: &str,
    ) {
        let mut all = environment(site.epoch, site.environment);
        all.extend(env.clone());
        let exec = Exec {
            argv,
            env: all,
            cwd: PathBuf::from(cwd),
            user: user.to_owned(),
            timeout: node.timeout,
        };
        self.actions.push(Action::Exec(exec));
        self.runs = true;
    }

    fn apply(&mut self, site: &Site<'_>, op: &Op, content: Option<OwnedFd>) {
        let call = apply::Call::Operation {
            op: op.clone(),
            epoch: site.epoch,
            content: content.map(Passed::from),
        };
        self.actions.push(Action::call(Call::Apply(call)));
    }
}

/// Returns the one input of an operation that reads one file.
fn only(held: &[Held]) -> &Held {
    held.first().expect("facts::gather holds what each operation reads")
}

/// Returns an open file, positioned at its start, that holds `bytes` and has no name.
fn in_memory(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create("bake", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// Runs what was prepared so far as one job.
fn flush(
    this: &Try<'_>,
    upper: &Path,
    prepared: &mut Prepared,
    log: &mut Log,
) -> Result<(), Trouble> {
    let Try { site, index, node, lower, at, last } = *this;
    let Prepared { mut actions, mounts, mut files, runs } = std::mem::take(prepared);
    if actions.is_empty() {
        return Ok(());
    }
    if runs {
        // Caches, logs and keys that programs leave behind differ from run to run and belong to no
        // image.
        let tidy = Call::Archive(archive::Call::Tidy);
        actions.push(Action::CallIfChanged(Request::Call(tidy)));
        files.extend(site.policy(node.network));
    }
    let job = Job {
        root: Some(Overlay {
            lower: lower.to_vec(),
            upper: upper.to_owned(),
            work: fresh_work(at)?,
        }),
        mounts,
        files,
        hostname: "bake".to_owned(),
        network: if node.network { Network::Host } else { Network::None },
        actions,
    };
    let ended = shell::watched(site, index, last, job, &mut |heard| {
        if let JobEvent::Line { stderr, text } = heard {
            log.line(stderr, text);
        }
    });
    match ended? {
        Ended::Done(_) => Ok(()),
        Ended::Failed { how, seen, .. } => Err(Trouble::Step(StepFailure::Ran(how, seen))),
        Ended::Cancelled => Err(Trouble::Build(Error::Interrupted)),
    }
}
