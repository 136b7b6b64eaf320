//! The big process's side: makes the user namespace, describes jobs to helpers, listens, counts the
//! time, and cancels.

use std::fs::{self, File};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::allowance::Allowance;
use super::builtin::BuiltIn;
use super::call::{Call, Includes};
use super::cancel::Cancel;
use super::emulate::Emulation;
use super::encode::Encoded;
use super::ended::{Ended, Failure, JobEvent};
use super::error::{Error, ended_early, failed};
use super::host::{Host, IdMode, find_tool};
use super::job::{Action, Job, Network, Owners, PolicyFile};
use super::lines::{Lines, Whose};
use super::listen::{Listener, Task};
use super::path::WirePath;
use super::plan::{Below, Blobs, Event, FilePlan, JobPlan, MountPlan, Net, RootPlan, SecretsPlan};
use super::spawn::{self, Extra, Supervisor};
use super::{disk, ids, program, seccomp};

/// One user namespace, used for everything of one build; `C` is the type that the program gave to
/// [`super::helper_main`]. `Send + Sync`; steps may run from several threads.
pub struct Session<C> {
    // First, as fields are dropped in order: the ids are in use until it has ended.
    supervisor: Supervisor,
    /// The locked id range, as root.
    slot: Option<ids::Slot>,
    layers: Directory,
    scratch: Directory,
    seccomp: Vec<u8>,
    limits: ids::Limits,
    /// What who started bake lets jobs use, whatever they ask for.
    given: Allowance,
    calls: PhantomData<fn(C)>,
}

/// One of the session's two directories, as the caller names it and as it really is.
struct Directory {
    named: PathBuf,
    real: PathBuf,
}

impl Directory {
    fn open(path: &Path) -> Result<Self, Error> {
        let real = path.canonicalize().map_err(|source| Error::System {
            what: format!("cannot open the directory {}", path.display()),
            source,
        })?;
        let named = std::path::absolute(path).unwrap_or_else(|_| real.clone());
        Ok(Self { named, real })
    }

    /// The part of `path` below this directory.
    fn below(&self, path: &Path) -> Option<PathBuf> {
        let path = std::path::absolute(path).ok()?;
        let rest =
            path.strip_prefix(&self.named).or_else(|_| path.strip_prefix(&self.real)).ok()?;
        rest.components()
            .all(|part| matches!(part, std::path::Component::Normal(_)))
            .then(|| rest.to_owned())
    }
}

/// Where jobs with the calls `C` can be run: a session whose calls include them.
pub trait Run<C: Call>: Sync {
    /// See [`Session::run`].
    ///
    /// # Errors
    /// Where the sandbox could not do its work.
    fn run(
        &self,
        job: Job<C>,
        cancel: &Cancel,
        listener: &mut dyn FnMut(JobEvent<'_>),
    ) -> Result<Ended<C::Reply>, Error>;

    /// See [`Session::remove_tree`].
    ///
    /// # Errors
    /// Where it could not be removed.
    fn remove_tree(&self, path: &Path) -> Result<(), Error>;
}

impl<P: Includes<C>, C: Call> Run<C> for Session<P> {
    fn run(
        &self,
        job: Job<C>,
        cancel: &Cancel,
        listener: &mut dyn FnMut(JobEvent<'_>),
    ) -> Result<Ended<C::Reply>, Error> {
        Ok(match Self::run(self, job.map(P::include), cancel, listener)? {
            Ended::Done(replies) => {
                let replies = replies.into_iter().map(|reply| reply.and_then(P::reply)).collect();
                Ended::Done(replies)
            }
            Ended::Failed { action, how, seen } => Ended::Failed { action, how, seen },
            Ended::Cancelled => Ended::Cancelled,
        })
    }

    fn remove_tree(&self, path: &Path) -> Result<(), Error> {
        Self::remove_tree(self, path)
    }
}

impl<C: Call> Session<C> {
    /// Makes the user namespace. `layers`: directory of unpacked layers; `scratch`: this build's
    /// own directory; both on one file system that supports overlay upper directories; both exist.
    ///
    /// # Errors
    /// Where this host cannot.
    pub fn open(host: &Host, layers: &Path, scratch: &Path) -> Result<Self, Error> {
        Self::open_with(host, layers, scratch, &Emulation::Native)
    }

    /// The same for programs of another processor, which run by `emulation`.
    ///
    /// # Errors
    /// Where this host cannot.
    pub fn open_with(
        host: &Host,
        layers: &Path,
        scratch: &Path,
        emulation: &Emulation,
    ) -> Result<Self, Error> {
        let (layers, scratch) = (Directory::open(layers)?, Directory::open(scratch)?);
        disk::check(&scratch.real)?;
        let slot = if host.id_mode == IdMode::Root { Some(ids::lock_slot()?) } else { None };
        let (supervisor, event) = Supervisor::start(program::program(host)?)
            .map_err(failed("start the sandbox helper"))?;
        let child = match event {
            Some(Event::Ready(pid)) => pid,
            Some(Event::Fault(fault)) => return Err(fault.into()),
            _ => return Err(ended_early()),
        };
        match (&host.id_mode, &slot) {
            (IdMode::Subids { uids, gids }, _) => {
                let (uid, gid) =
                    (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
                map_with_tool("newuidmap", child, uid, *uids)?;
                map_with_tool("newgidmap", child, gid, *gids)?;
            }
            (IdMode::Root, Some(slot)) => {
                for map in ["uid_map", "gid_map"] {
                    fs::write(format!("/proc/{child}/{map}"), slot.map())
                        .map_err(failed("map ids"))?;
                }
            }
            (IdMode::Root, None) => unreachable!("a slot was locked above"),
        }
        let limits = match (&host.id_mode, &slot) {
            (IdMode::Subids { uids, gids }, _) => ids::Limits { uid: uids.1, gid: gids.1 },
            (IdMode::Root, Some(slot)) => slot.limits(),
            (IdMode::Root, None) => unreachable!("a slot was locked above"),
        };
        let emulator = match emulation {
            Emulation::Own(interpreter) => Some(interpreter),
            _ => None,
        };
        match supervisor.mapped(emulator).map_err(failed("talk to the sandbox helper"))? {
            Some(Event::Ready(_)) => {}
            Some(Event::Fault(fault)) => return Err(fault.into()),
            _ => return Err(ended_early()),
        }
        Ok(Self {
            supervisor,
            slot,
            layers,
            scratch,
            seccomp: seccomp::bytes(limits),
            limits,
            given: host.allowance,
            calls: PhantomData,
        })
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
                    "it lies neither below the layers directory nor below the scratch directory",
                ),
            }),
        }
    }

    fn plan(&self, job: &Job<C>, blobs: &mut Blobs) -> Result<JobPlan, Error> {
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
                // Two steps that gave the same layer share its directory, which overlayfs takes
                // only once; whatever it holds, the upper one shows.
                let mut seen = std::collections::BTreeSet::new();
                let lower = overlay.lower.iter().filter(|lower| seen.insert(*lower));
                Some(RootPlan {
                    lower: lower.map(|lower| self.below(lower)).collect::<Result<_, _>>()?,
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
        let file = |file: &PolicyFile, blobs: &mut Blobs| FilePlan {
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
            secrets: SecretsPlan::new(&job.secrets, blobs),
            hostname: job.hostname.clone(),
            network: net(&job.network),
            seccomp: blobs.add(&self.seccomp),
            limits: self.limits,
            ceiling: self.given.or(job.allowance).ceiling(&self.scratch.real),
            actions: vec![],
        })
    }

    /// Runs `job`, reporting what happens to `listener`, on the calling thread, until it ends.
    /// Afterwards no process and no mount is left. After anything but [`Ended::Done`] the upper
    /// directory must be thrown away.
    ///
    /// # Errors
    /// Where the sandbox could not do its work.
    pub fn run(
        &self,
        job: Job<C>,
        cancel: &Cancel,
        listener: &mut dyn FnMut(JobEvent<'_>),
    ) -> Result<Ended<C::Reply>, Error> {
        if cancel.fired() {
            return Ok(Ended::Cancelled);
        }
        let mut blobs = Blobs::default();
        let mut plan = self.plan(&job, &mut blobs)?;
        let pipe = || {
            io::pipe()
                .and_then(|(read, write)| {
                    spawn::nonblocking(&read)
                        .map(|()| (File::from(OwnedFd::from(read)), OwnedFd::from(write)))
                })
                .map_err(failed("make a pipe"))
        };
        let ((stdout, stdout_end), (stderr, stderr_end)) = (pipe()?, pipe()?);
        let (replies, replies_end) = pipe()?;
        let mut lines = vec![
            Lines::new(stdout, Whose::Action { stderr: false }),
            Lines::new(stderr, Whose::Action { stderr: true }),
        ];
        let mut services = vec![];
        for (n, _) in
            job.actions.iter().enumerate().filter(|(_, action)| matches!(action, Action::Start(_)))
        {
            let (output, end) = pipe()?;
            lines.push(Lines::new(output, Whose::Service(n)));
            services.push(end);
        }
        let tasks: Vec<Task> = job.actions.iter().map(Task::of).collect();
        let encoded =
            Encoded::new(job.actions, services).map_err(failed("describe a job of the sandbox"))?;
        let Encoded { actions, files, pipes, signals } = encoded;
        plan.actions = actions;
        if let Some(slot) = &self.slot {
            // Root inside must be able to hand the pipes on to a program's user.
            let pipes = pipes.iter().map(|n| &files[*n]);
            for end in [&stdout_end, &stderr_end].into_iter().chain(pipes) {
                let (uid, gid) =
                    (rustix::fs::Uid::from_raw(slot.base), rustix::fs::Gid::from_raw(slot.base));
                rustix::fs::fchown(end, Some(uid), Some(gid))
                    .map_err(|e| failed("hand over a pipe")(e.into()))?;
            }
        }
        let extra = Extra {
            stdout: stdout_end.as_fd(),
            stderr: stderr_end.as_fd(),
            replies: replies_end.as_fd(),
            outlet: match &job.network {
                Network::Outlet(outlet) => Some(outlet.as_fd()),
                Network::None | Network::Host => None,
            },
            files: &files,
        };
        let running = self
            .supervisor
            .start_job(&plan, &blobs, extra)
            .map_err(failed("start a job of the sandbox"))?;
        // They are the helper's now; a pipe among them must end when those inside close it.
        drop((stdout_end, stderr_end, replies_end, files, job.network));
        let output = plan.ceiling.output;
        let ended = Listener::new(running, lines, replies, tasks, signals, output, listener)
            .listen(cancel)?;
        Ok(match ended {
            Ended::Done(replies) => Ended::Done(
                replies
                    .into_iter()
                    .map(|reply| reply.map(serde_json::from_value).transpose())
                    .collect::<Result<_, _>>()
                    .map_err(|error| failed("understand the sandbox")(error.into()))?,
            ),
            Ended::Failed { action, how, seen } => Ended::Failed { action, how, seen },
            Ended::Cancelled => Ended::Cancelled,
        })
    }

    /// Removes a file or a whole tree below the session's scratch directory (a host path), whatever
    /// owners and modes steps left in it: a user cannot do that from outside. What is not there is
    /// fine.
    ///
    /// # Errors
    /// Where it could not be removed.
    pub fn remove_tree(&self, path: &Path) -> Result<(), Error> {
        self.remove_trees(&[path])
    }

    /// Removes several trees as [`Self::remove_tree`] does, in one job. Each is tried.
    ///
    /// # Errors
    /// The first failure.
    pub fn remove_trees(&self, paths: &[&Path]) -> Result<(), Error> {
        let mut names = vec![];
        for path in paths {
            let below = self.scratch.below(path).filter(|below| !below.as_os_str().is_empty());
            let below = below.ok_or_else(|| {
                failed(format!("remove {}", path.display()))(io::Error::other(
                    "it does not lie below the scratch directory",
                ))
            })?;
            names.push(WirePath::new(&below));
        }
        let job = Job::bare(Action::Call(BuiltIn::Remove(names).into()));
        let why = match self.run(job, &Cancel::new()?, &mut |_| {})? {
            Ended::Done(_) => return Ok(()),
            Ended::Failed { how: Failure::Call(error), .. } => match error.errno() {
                Some(errno) => io::Error::from_raw_os_error(errno),
                None => io::Error::other(error.reasons().join(": ")),
            },
            other => io::Error::other(format!("{other:?}")),
        };
        Err(failed("tidy up the scratch directory")(why))
    }
}

fn net(network: &Network) -> Net {
    match network {
        Network::None => Net::None,
        Network::Outlet(_) => Net::Outlet,
        Network::Host => Net::Host,
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
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Host {
        what: format!("{tool} could not map the subordinate ids: {message}"),
        hint: format!(
            "check that {} is setuid root (or has its file capability), that this file system is \
                not mounted nosuid, and that /etc/subuid and /etc/subgid list this user",
            path.display()
        ),
    })
}
