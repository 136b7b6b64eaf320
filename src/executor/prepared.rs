//! The operations of a step made ready for one job: its actions in order, and the files and
//! directories that are there while they run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::agent::{self, Agent};
use super::build::Build;
use super::configure::{self, ToolRun};
use super::error::{StepFailure, Trouble};
use super::take;
use crate::apply;
use crate::context::{self, Held};
use crate::job::{self, Action, Call, make_dir, open};
use crate::sandbox::{Exec, Mount, Owners, Passed, PolicyFile};
use crate::step::{CONFIGURATION, Content, Lowered, Op, TOOL_LAYER};
use crate::store::{InUse, UnpackedLayer};

/// Operations made ready: actions in order, and files that are there while they run.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) actions: Vec<Action>,
    pub(super) mounts: Vec<Mount>,
    pub(super) files: Vec<PolicyFile>,
    /// The way to an SSH agent, while the job runs.
    pub(super) agent: Option<Agent>,
    /// Directories that are kept between builds, held while the job runs.
    pub(super) kept: Vec<InUse>,
    /// A program runs among them.
    pub(super) runs: bool,
    /// Tool runs among them.
    pub(super) tools: Vec<ToolRun>,
    /// What holds directories of the cache that are mounted.
    pub(super) trees: Vec<UnpackedLayer>,
}

/// Makes an empty file, in whose place one of a mount is seen.
fn make_file(path: PathBuf) -> Result<PathBuf, job::Error> {
    match File::create_new(&path) {
        Ok(_) => Ok(path),
        Err(source) => Err(job::Error::File { verb: "make", path, source }),
    }
}

impl Prepared {
    /// Adds what operation `number` of step `index` wants of stages and of the context.
    pub(super) fn want(
        &mut self,
        build: &Build<'_>,
        (index, number): (usize, usize),
        op: &Op,
        at: &Path,
    ) -> Result<(), Trouble> {
        let wanted = build.root.facts.wanted(index).get(number).map_or(&[][..], Vec::as_slice);
        let (mounts, user) = match op {
            Op::Exec { mounts, user, .. } | Op::Script { mounts, user, .. } => {
                (mounts.as_slice(), user.as_str())
            }
            Op::Configure(tool) => (tool.mounts.as_slice(), "root"),
            _ => (&[][..], ""),
        };
        for (nth, one) in wanted.iter().enumerate() {
            if let (true, Some(stage)) = (one.whole, &one.stage) {
                let (from, tree) = build.whole(stage, &at.join(format!("tool-{number}")))?;
                self.trees.extend(tree);
                let to = PathBuf::from(TOOL_LAYER);
                self.mounts.push(Mount { from, at: to, read_only: true, owners: Owners::Image });
                continue;
            }
            let (tar, taken) = build.tar(index, one)?;
            let Some(mount) = mounts.get(nth) else {
                if taken.entries > 0 {
                    self.apply(build, &take::placing(op, &taken), Some(tar.into()));
                }
                continue;
            };
            let from = at.join(format!("mount-{number}-{nth}"));
            let from = match taken.single {
                true => make_file(from)?,
                false => make_dir(&from)?,
            };
            let to = PathBuf::from(&mount.at);
            self.mounts.push(Mount { from, at: to, read_only: false, owners: Owners::Image });
            if taken.entries > 0 {
                let (at, owner) = (PathBuf::from(&mount.at), user.to_owned());
                let fill =
                    apply::Call::Fill { at, owner, epoch: build.root.epoch, tar: tar.into() };
                self.actions.push(Action::call(Call::Apply(fill)));
            }
        }
        Ok(())
    }

    /// Adds the way to the SSH agent of who builds, for an operation that uses it. `at`: a
    /// directory of the step.
    pub(super) fn agent(&mut self, build: &Build<'_>, op: &Op, at: &Path) -> Result<(), Trouble> {
        // `secrets_are_given` has looked whether there is one.
        let Some(socket) = build.agent.as_ref().filter(|_| op.ssh() && self.agent.is_none()) else {
            return Ok(());
        };
        let opened = Agent::open(socket, at).map_err(|error| {
            let why = format!("it uses the SSH agent at {}: {error}", socket.display());
            Trouble::Step(StepFailure::prepared(why, vec![]))
        })?;
        let (from, to) = (opened.path.clone(), PathBuf::from(agent::INSIDE));
        self.mounts.push(Mount { from, at: to, read_only: false, owners: Owners::Image });
        self.agent = Some(opened);
        Ok(())
    }

    /// Adds an operation, which gets of the context what is `held` for it.
    pub(super) fn add(
        &mut self,
        build: &Build<'_>,
        node: &Lowered,
        op: &Op,
        held: &[Held],
        at: &Path,
    ) -> Result<(), Trouble> {
        let unusable = |error: context::Error| Trouble::prepared(&error);
        match op {
            Op::Exec { argv, env, user, cwd, .. } => {
                self.exec(build, node, argv.clone(), env, user, cwd)
            }
            Op::Configure(tool) => {
                let at = at.join(format!("run-{}", self.tools.len()));
                let found = configure::set_up(build, tool, &at)?;
                self.mounts.extend(found.mounts);
                self.files.extend(found.files);
                self.actions.extend(found.actions);
                for env in found.runs {
                    self.exec(build, node, found.argv.clone(), &env, "root", CONFIGURATION);
                }
                self.tools.push(found.tool);
            }
            Op::Script { shell, args, env, user, cwd, .. } => {
                let bytes = only(held).read().map_err(unusable)?;
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
                self.exec(build, node, argv, env, user, cwd);
            }
            Op::Download { url, sha256, credentials, .. } => {
                let path = build.download(url, credentials.as_deref(), sha256.as_deref())?;
                self.apply(build, op, Some(open(&path)?.into()));
            }
            Op::Repository { key, .. } => {
                let key = build.repository_key(key, held)?;
                self.apply(
                    build,
                    op,
                    Some(in_memory(&key).map_err(|error| Trouble::prepared(&error))?),
                );
            }
            Op::Write { content: Content::Template(_), .. } => {
                let text = only(held).read().map_err(unusable)?;
                let file = in_memory(&text).map_err(|error| Trouble::prepared(&error))?;
                self.apply(build, op, Some(file));
            }
            Op::Write { content: Content::Text(_), .. }
            | Op::Mkdir { .. }
            | Op::Symlink { .. }
            | Op::Remove { .. }
            | Op::Group { .. }
            | Op::User { .. }
            | Op::Service { .. } => {
                self.apply(build, op, None);
            }
            // Added with what it wants.
            Op::Copy { stage: Some(_), .. } => {}
            Op::Copy { .. } => {
                unreachable!("a copy is a step of its own and never comes here: see `copy`")
            }
            Op::Packages { .. } => {
                unreachable!("package operations never come here: `Try::once` takes them out")
            }
        }
        Ok(())
    }

    fn exec(
        &mut self,
        build: &Build<'_>,
        node: &Lowered,
        argv: Vec<String>,
        env: &BTreeMap<String, String>,
        user: &str,
        cwd: &str,
    ) {
        let mut all = build.environment(&node.network);
        if self.agent.is_some() {
            all.insert("SSH_AUTH_SOCK".to_owned(), agent::INSIDE.to_owned());
        }
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

    fn apply(&mut self, build: &Build<'_>, op: &Op, content: Option<OwnedFd>) {
        let call = apply::Call::Operation {
            op: op.clone(),
            epoch: build.root.epoch,
            content: content.map(Passed::from),
        };
        self.actions.push(Action::call(Call::Apply(call)));
    }
}

/// Returns the one input of an operation that reads one file.
fn only(held: &[Held]) -> &Held {
    held.first().expect("inputs::gather holds what each operation reads")
}

/// Returns an open file, positioned at its start, that holds `bytes` and has no name.
fn in_memory(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create("bake", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}
