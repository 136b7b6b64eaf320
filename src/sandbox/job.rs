//! Jobs: what is to be done inside, and in which root.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::allowance::Allowance;
use super::request::Request;
use crate::secret::Value;

/// Work to be done inside a session: actions run in order in one set of fresh namespaces; the first
/// that fails ends the job.
#[derive(Debug)]
pub struct Job<C> {
    /// The image root; `None` for a job without an image, which sees an otherwise empty root.
    pub root: Option<Overlay>,
    /// Extra directories. Without an image root the session's layers directory is always at
    /// `/layers` and its scratch directory at `/scratch`, both writable.
    pub mounts: Vec<Mount>,
    /// Files visible during the job only (resolv.conf, policy-rc.d, …); never reach the image,
    /// whether or not the image has such a file.
    pub files: Vec<PolicyFile>,
    /// Secrets of its programs.
    pub secrets: ShownSecrets,
    /// Host name inside.
    pub hostname: String,
    /// Network inside.
    pub network: Network,
    /// What its programs may use.
    pub allowance: Allowance,
    /// What to do.
    pub actions: Vec<Action<C>>,
}

/// An overlay root. Paths are host paths below the session's layers or scratch directory.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// Read-only layers, topmost first. May be empty (a root from nothing).
    pub lower: Vec<PathBuf>,
    /// Where changes go; made by the caller, may hold files already, also those of an earlier job
    /// that ended with [`super::Ended::Done`]. A job that does nothing leaves it as it was, but for
    /// its own owner, mode and attributes: while it is empty, they become those of the topmost
    /// layer. Lies below scratch.
    pub upper: PathBuf,
    /// Empty directory beside `upper`, made by the caller for this job alone. Afterwards it holds
    /// empty directories of the kernel's; the next job over the same upper directory needs another.
    pub work: PathBuf,
}

/// A host directory shown inside.
#[derive(Debug, Clone)]
pub struct Mount {
    /// Host path of a directory.
    pub from: PathBuf,
    /// Absolute path inside; in an image root best below `/dev/bake` (a tmpfs), where no mount
    /// point must exist.
    pub at: PathBuf,
    /// Refuse writes.
    pub read_only: bool,
    /// How owners appear inside.
    pub owners: Owners,
}

/// How owners of a mounted directory appear inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// As image ids: on-disk 0 is root inside (for directories that bake made: scratch, layers,
    /// caches).
    Image,
    /// Whoever owns the directory itself is root inside (for a person's directories).
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

/// Secrets that the programs of a job see and nothing keeps. The job has an image root.
#[derive(Debug, Clone, Default)]
pub struct ShownSecrets {
    /// Whom the files belong to; as [`Exec::user`].
    pub user: String,
    /// Names of files in [`crate::secret::DIRECTORY`], of mode 0400.
    pub files: Vec<(String, Value)>,
    /// Variables of every program.
    pub variables: Vec<(String, Value)>,
}

/// Network inside a job.
#[derive(Debug)]
pub enum Network {
    /// A namespace of its own with only `lo`, which is up.
    None,
    /// One of its own that leads to the sockets of an [`super::Outlet`].
    Outlet(OwnedFd),
    /// The host's.
    Host,
}

/// One thing to do.
#[derive(Debug)]
pub enum Action<C> {
    /// Run a program with the step's reduced rights.
    Exec(Exec),
    /// Run a function of this very program with root's rights inside the namespaces
    /// only.
    Call(Request<C>),
    /// As [`Action::Call`], but skipped, without a reply, while the upper directory of the
    /// job's image root holds nothing.
    CallIfChanged(Request<C>),
    /// Start a program and go on while it runs, until it ends by itself or the job does. Its output
    /// is [`super::JobEvent::Service`]; its standard input is empty. What it forks lives as long.
    Start(Exec),
    /// Start a call and go on while it runs, until it ends by itself or the job
    /// does. Nobody waits for its result.
    Serve(Request<C>),
    /// Try until it succeeds.
    Until(Until<C>),
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
pub struct Until<C> {
    /// What.
    pub attempt: Attempt<C>,
    /// How long all tries together may take.
    pub within: Duration,
    /// Pause before another try; `None`: the first one decides. A program of [`Action::Start`] that
    /// has ended when a try failed decides too.
    pub again: Option<Duration>,
}

/// One try.
#[derive(Debug)]
pub enum Attempt<C> {
    /// As [`Action::Exec`]; its own timeout does not count.
    Exec(Exec),
    /// As [`Action::Call`], without open files.
    Call(Request<C>),
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
    /// A terminal made for it inside; see [`super::terminal`].
    Terminal(Socket),
}

/// A program to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exec {
    /// Program and arguments; the program is looked up in the `PATH` of `env` inside the root when
    /// it has no slash.
    pub argv: Vec<String>,
    /// The whole environment. `HOME` with the value `~` becomes the user's home directory as the
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

/// The end of a terminal that goes inside; see [`super::terminal`].
#[derive(Debug)]
pub struct Socket {
    pub(super) fd: OwnedFd,
    /// Rows and columns at the start.
    pub(super) size: (u16, u16),
}

impl<C> Action<C> {
    /// Runs a call of the program.
    pub fn call(call: C) -> Self {
        Self::Call(Request::Call(call))
    }

    /// The same action of a larger set of calls.
    fn map<D>(self, wider: impl Fn(C) -> D) -> Action<D> {
        match self {
            Self::Exec(exec) => Action::Exec(exec),
            Self::Call(request) => Action::Call(request.map(wider)),
            Self::CallIfChanged(request) => Action::CallIfChanged(request.map(wider)),
            Self::Start(exec) => Action::Start(exec),
            Self::Serve(request) => Action::Serve(request.map(wider)),
            Self::Until(Until { attempt, within, again }) => {
                let attempt = match attempt {
                    Attempt::Exec(exec) => Attempt::Exec(exec),
                    Attempt::Call(request) => Attempt::Call(request.map(wider)),
                };
                Action::Until(Until { attempt, within, again })
            }
            Self::Still(time) => Action::Still(time),
            Self::Attach(attach) => Action::Attach(attach),
            Self::Rescue(attach) => Action::Rescue(attach),
        }
    }
}

impl<C> Job<C> {
    /// A job without an image root, a network or anything of the caller's, which does one thing.
    pub fn bare(action: Action<C>) -> Self {
        Self {
            root: None,
            mounts: vec![],
            files: vec![],
            secrets: ShownSecrets::default(),
            hostname: "bake".to_owned(),
            network: Network::None,
            allowance: Allowance::default(),
            actions: vec![action],
        }
    }

    /// The same job of a larger set of calls.
    pub(super) fn map<D>(self, wider: impl Fn(C) -> D) -> Job<D> {
        let Self { root, mounts, files, secrets, hostname, network, allowance, actions } = self;
        let actions = actions.into_iter().map(|action| action.map(&wider)).collect();
        Job { root, mounts, files, secrets, hostname, network, allowance, actions }
    }
}
