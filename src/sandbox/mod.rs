//! The throwaway root: namespaces, id maps, overlay, mounts, limits. See `docs/architecture.md`,
//! "Sandbox".

mod chore;
mod crew;
pub mod dial;
mod exec;
mod helper;
mod idmap;
mod ids;
mod init;
mod lines;
mod mounts;
mod passwd;
mod plan;
mod probe;
mod seccomp;
mod session;
mod spawn;
pub mod stream;
mod stub;
mod sys;
pub mod terminal;
mod warden;
mod wire;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What this host can do, found out once per process by [`probe`].
#[derive(Debug, Clone)]
pub struct Host {
    /// How user ids are mapped.
    pub rung: Rung,
    /// The program started as helper; `/proc/self/exe` unless a test names another.
    pub helper: PathBuf,
    /// That program, shielded or copied when the first session is opened: a build with nothing to
    /// do opens none.
    program: Arc<OnceLock<OwnedFd>>,
}

/// The rungs of the ladder that are built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rung {
    /// Root with all capabilities: idmapped mounts, ids stay real on disk.
    Root,
    /// An unprivileged user with subordinate ids (newuidmap).
    Subids {
        /// First subordinate user id and how many.
        uids: (u32, u32),
        /// First subordinate group id and how many.
        gids: (u32, u32),
    },
}

/// One line of `bake doctor`.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: String,
    /// Whether it is as bake needs it.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// A command that helps, when not ok.
    pub hint: Option<String>,
}

/// One user namespace, used for everything of one build. `Send + Sync`; steps may run from several
/// threads.
pub struct Session(session::Inner);

/// Work to be done inside a session: actions run in order in one set of fresh namespaces; the first
/// that fails ends the job.
#[derive(Debug)]
pub struct Job {
    /// The image root; `None` for chores, which see an otherwise empty root.
    pub root: Option<Overlay>,
    /// Extra folders. In a chore the session's layers folder is always at `/layers` and its scratch
    /// folder at `/scratch`, both writable.
    pub mounts: Vec<Mount>,
    /// Files visible during the job only (resolv.conf, policy-rc.d, …); never reach the image,
    /// whether or not the image has such a file.
    pub files: Vec<PolicyFile>,
    /// Host name inside.
    pub hostname: String,
    /// Network inside.
    pub network: Network,
    /// What to do.
    pub actions: Vec<Action>,
}

/// An overlay root. Paths are host paths below the session's layers or scratch folder.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// Read-only layers, topmost first. May be empty (a root from nothing).
    pub lower: Vec<PathBuf>,
    /// Where changes go; made by the caller, may hold files already, also those of an earlier job
    /// that ended with [`Ended::Done`]. A job that does nothing leaves it as it was, but for its
    /// own owner, mode and attributes: while it is empty, they become those of the topmost layer.
    /// Lies below scratch.
    pub upper: PathBuf,
    /// Empty folder beside `upper`, made by the caller for this job alone. Afterwards it holds
    /// empty folders of the kernel's; the next job over the same upper folder needs another.
    pub work: PathBuf,
}

/// A host folder shown inside.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Host path of a folder.
    pub from: PathBuf,
    /// Absolute path inside; in an image root best below `/dev/bake` (a tmpfs), where no mount
    /// point must exist.
    pub at: PathBuf,
    /// Refuse writes.
    pub read_only: bool,
    /// How owners appear inside.
    pub owners: Owners,
}

/// How owners of a mounted folder appear inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// As image ids: on-disk 0 is root inside (for folders that bake made: scratch, layers,
    /// caches).
    Image,
    /// Whoever owns the folder itself is root inside (for a person's folders).
    Mine,
}

/// A file shown to the job only.
#[derive(Debug, Clone)]
pub struct PolicyFile {
    /// Absolute path inside.
    pub at: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

/// Network inside a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// A namespace of its own with only `lo`, which is up.
    None,
    /// The host's.
    Host,
}

/// One thing to do.
#[derive(Debug)]
pub enum Action {
    /// Run a program with the step's reduced rights.
    Exec(Exec),
    /// Run a registered function of this very program with root's rights inside the namespaces
    /// only.
    Call(Call),
    /// As [`Action::Call`], but skipped, with null as its value, while the upper folder of the
    /// job's image root holds nothing.
    CallIfChanged(Call),
    /// Start a program and go on while it runs, until it ends by itself or the job does. Its output
    /// is [`Heard::Service`]; its standard input is empty. What it forks lives as long.
    Start(Exec),
    /// Start a registered function and go on while it runs, until it ends by itself or the job
    /// does. Nobody hears its result.
    Serve(Call),
    /// Try until it succeeds.
    Until(Until),
    /// Wait this long, and fail if a program of [`Action::Start`] has ended by then.
    Still(Duration),
    /// Run a program with streams of the caller's.
    Attach(Attach),
    /// Skipped, unless an action before it failed: then it runs in what that left, and the job
    /// fails as it would have without. The last action.
    Rescue(Attach),
}

/// Something to be tried.
#[derive(Debug)]
pub struct Until {
    /// What.
    pub attempt: Attempt,
    /// How long all tries together may take.
    pub within: Duration,
    /// Pause before another try; `None`: the first one decides. A program of [`Action::Start`] that
    /// has ended when a try failed decides too.
    pub again: Option<Duration>,
}

/// One try.
#[derive(Debug)]
pub enum Attempt {
    /// As [`Action::Exec`]; its own timeout does not count.
    Exec(Exec),
    /// As [`Action::Call`], without files.
    Call {
        /// Its name in the table given to [`helper_main`].
        name: &'static str,
        /// Its argument.
        args: Value,
    },
}

/// A program that talks to the caller.
#[derive(Debug)]
pub struct Attach {
    /// The program.
    pub exec: Exec,
    /// Programs to be started in its place, the first that can be, where it cannot.
    pub or_else: Vec<Exec>,
    /// What it reads and writes.
    pub streams: Streams,
    /// Each byte read from this is the number of a signal for the program; the end of file means
    /// nothing.
    pub signals: Option<OwnedFd>,
}

/// What an attached program reads and writes.
#[derive(Debug)]
pub enum Streams {
    /// These: standard input, output and error. Pipes of the caller's own; not files or sockets of
    /// the host, which the program could open anew through `/proc/self/fd`.
    Pipes([OwnedFd; 3]),
    /// A terminal made for it inside; see [`terminal`].
    Terminal(terminal::Socket),
}

/// A program to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exec {
    /// Program and arguments; the program is looked up in the `PATH` of `env` inside the root when
    /// it has no slash.
    pub argv: Vec<String>,
    /// The whole environment. `HOME` with the value `~` becomes the user's home folder as the
    /// image's `/etc/passwd` says, else `/`.
    pub env: BTreeMap<String, String>,
    /// Working directory inside; made (0755 root) if missing.
    pub cwd: PathBuf,
    /// `name`, `name:group`, `uid` or `uid:gid`, looked up in the image; supplementary groups from
    /// the image's `/etc/group`.
    pub user: String,
    /// Killed after this long.
    pub timeout: Option<Duration>,
}

/// A registered function to run.
#[derive(Debug)]
pub struct Call {
    /// Its name in the table given to [`helper_main`].
    pub name: &'static str,
    /// Its argument.
    pub args: Value,
    /// Open files handed over, in order.
    pub fds: Vec<OwnedFd>,
}

/// What a registered function gets.
pub struct CallIo<'a> {
    /// The argument.
    pub args: Value,
    /// The files handed over, in order.
    pub fds: Vec<std::fs::File>,
    /// What the job changed in its image root so far, the way overlayfs keeps it (deletions are
    /// character devices 0:0); none in a chore.
    pub changes: Option<&'a Path>,
    /// Reports progress (any JSON) to the caller of [`Session::run`].
    pub progress: &'a mut dyn FnMut(Value),
}

/// A table of functions that can run inside: name and function. An error is text for people, with
/// its causes.
pub type Chores = &'static [(&'static str, fn(CallIo<'_>) -> Result<Value, String>)];

/// What a running job tells.
#[derive(Debug)]
pub enum Heard<'a> {
    /// Action `.0` starts.
    Action(usize),
    /// A line of output without its line end; a last line without one counts too; over-long lines
    /// come in pieces of 64 KiB.
    Line {
        /// From standard error.
        stderr: bool,
        /// The bytes.
        text: &'a [u8],
    },
    /// A line of output of a program of [`Action::Start`].
    Service {
        /// Its index in `Job::actions`.
        action: usize,
        /// As in `Line`.
        text: &'a [u8],
    },
    /// From a [`Call`].
    Progress(Value),
    /// An action failed like this, and [`Action::Rescue`] is about to run.
    Rescue(&'a Failure),
}

/// How a job ended.
#[derive(Debug)]
pub enum Ended {
    /// All actions succeeded; the values of the calls in order (null for execs).
    Done(Vec<Value>),
    /// Action `action` failed.
    Failed {
        /// Index in `Job::actions`.
        action: usize,
        /// How.
        how: Failure,
    },
    /// The cancel handle fired; everything inside is dead.
    Cancelled,
}

/// How an action failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Exit status other than 0.
    Exit(i32),
    /// Ended by a signal.
    Signal(i32),
    /// Ran out of time and was killed.
    TimedOut(Duration),
    /// The program could not be started, or the user is not in the image.
    Start(String),
    /// A call returned an error.
    Call(String),
    /// What was tried until it succeeds did not, in all this time.
    NotHeld {
        /// How long it was tried.
        within: Duration,
        /// How the last try failed, where one came to an end.
        last: Option<Box<Failure>>,
    },
    /// A program of [`Action::Start`] ended.
    Lost {
        /// Its index in `Job::actions`.
        action: usize,
        /// How: [`Failure::Exit`] (0 as well) or [`Failure::Signal`].
        how: Box<Failure>,
    },
}

impl Failure {
    /// Returns the reason and further causes, as fragments for people, from the outside in.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::Exit(127) => vec!["exit status 127 (command not found)".to_owned()],
            Self::Exit(code) => vec![format!("exit status {code}")],
            Self::Signal(signal) => vec![format!("killed by signal {signal}")],
            Self::TimedOut(after) => vec![format!(
                "it ran longer than its timeout of {} s and was killed",
                after.as_secs_f64()
            )],
            Self::Start(why) | Self::Call(why) => vec![why.clone()],
            Self::NotHeld { within, last: None } => {
                vec![format!("it came to no end within {} s", within.as_secs_f64())]
            }
            Self::NotHeld { within, last: Some(last) } => {
                let tried = format!("tried for {} s; the last time:", within.as_secs_f64());
                std::iter::once(tried).chain(last.reasons()).collect()
            }
            Self::Lost { how, .. } => {
                std::iter::once("a program in the background ended".to_owned())
                    .chain(how.reasons())
                    .collect()
            }
        }
    }
}

/// Ends jobs from another thread or a signal handler.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<OwnedFd>);

impl Cancel {
    /// Makes one that has not fired.
    pub fn new() -> Result<Self, Error> {
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let fd = rustix::event::eventfd(0, flags).map_err(|error| Error::System {
            what: "cannot make an event descriptor".into(),
            source: error.into(),
        })?;
        Ok(Self(Arc::new(fd)))
    }

    /// Ends every job that was given this handle, now and later. May be called in a signal handler:
    /// it is one `write`.
    pub fn fire(&self) {
        // Fails only when the counter is full, and then it has fired.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }

    /// Whether it has fired.
    #[must_use]
    pub fn fired(&self) -> bool {
        let mut fds = [rustix::event::PollFd::new(&*self.0, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&now)).is_ok() && !fds[0].revents().is_empty()
    }

    /// Readable once it has fired.
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Why the sandbox could not do its work (as opposed to: the work failed).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This host cannot run bake's sandbox; exit code 10.
    #[error("{what}")]
    Host {
        /// What is missing.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// A system call failed.
    #[error("{what}")]
    System {
        /// What was being done: "cannot open …".
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Error {
    /// What to do about it, if the host is to blame.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Host { hint, .. } => Some(hint.clone()),
            Self::System { .. } => None,
        }
    }
}

/// Finds out what this host can do. `helper`: the bake program, where this process is not bake
/// itself (tests).
pub fn probe(helper: Option<&Path>) -> Result<Host, Error> {
    probe::probe(helper)
}

/// Looks at everything the sandbox needs and says what is missing and what helps.
#[must_use]
pub fn doctor(helper: Option<&Path>) -> Vec<Finding> {
    probe::doctor(helper)
}

/// If this process was started as the sandbox's helper: does the work and returns its exit code. To
/// be called first in `main`.
#[must_use]
pub fn helper_main(chores: Chores) -> Option<ExitCode> {
    warden::main(chores)
}

impl Session {
    /// Makes the user namespace. `layers`: folder of unpacked layers; `scratch`: this build's own
    /// folder; both on one file system that supports overlay upper folders; both exist.
    pub fn open(host: &Host, layers: &Path, scratch: &Path) -> Result<Self, Error> {
        session::Inner::open(host, layers, scratch).map(Self)
    }

    /// Runs `job`, telling `hear` what happens, on the calling thread, until it ends. Afterwards no
    /// process and no mount is left. After anything but [`Ended::Done`] the upper folder must be
    /// thrown away.
    pub fn run(
        &self,
        job: Job,
        cancel: &Cancel,
        hear: &mut dyn FnMut(Heard<'_>),
    ) -> Result<Ended, Error> {
        self.0.run(job, cancel, hear)
    }

    /// Removes a file or a whole tree below the session's scratch folder (a host path), whatever
    /// owners and modes steps left in it: a user cannot do that from outside. What is not there is
    /// fine.
    pub fn remove_tree(&self, path: &Path) -> Result<(), Error> {
        self.0.remove_trees(&[path])
    }

    /// Removes several trees as [`Self::remove_tree`] does, in one job. Each is tried; the first
    /// failure is returned.
    pub fn remove_trees(&self, paths: &[&Path]) -> Result<(), Error> {
        self.0.remove_trees(paths)
    }
}
