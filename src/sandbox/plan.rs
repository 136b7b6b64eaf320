//! What goes over the wire between bake and its sandbox: a plan for each job, frames of JSON back.
//!
//! ```text
//! socket      [`Order`] with open files to the supervisor, [`Event`] back while the session opens (see `wire`)
//! files       plan · events · control · stdout · stderr · replies · ended · outlet, if any · files of the calls
//! plan file   u32 length · JSON of [`JobPlan`] · blobs (policy files, secrets, seccomp program), addressed by offset
//! pipes       u32 length · JSON of [`Event`] (init) or [`FromCall`] (a call)
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::allowance::{Ceiling, Reached};
use super::call::CallError;
use super::ended::{Alive, Circumstances};
use super::error::Error;
use super::ids::Limits;
use super::job::Exec;
use super::path::WirePath;

/// The name under which bake starts itself as helper.
pub(super) const ARGV0: &std::ffi::CStr = c"bake-sandbox";

/// Exit code of an init, and of its helper, whose job went through and sent nothing over its
/// network namespace.
pub(super) const NET_UNUSED: u8 = 3;

/// What the supervisor is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Go on: the ids of the user namespace are mapped.
    Mapped {
        /// To be registered there; then there is an answer.
        emulator: Option<Interpreter>,
    },
    /// Run the job whose files come with this.
    Job {
        /// With this network; of an outlet its socket is the last of the files that each job has.
        network: Net,
    },
}

/// Which network a job has, as [`super::Network`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Net {
    None,
    Outlet,
    Host,
}

/// A program that runs those of another processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interpreter {
    /// A static program of the host.
    pub path: PathBuf,
    /// A line for binfmt_misc.
    pub(super) line: String,
}

/// A job, ready for the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct JobPlan {
    /// First host id of the session's range where ids are mapped on mounts (as root); `None` where
    /// the files carry them.
    pub(super) idmap: Option<u32>,
    pub(super) layers: WirePath,
    pub(super) scratch: WirePath,
    pub(super) root: Option<RootPlan>,
    pub(super) mounts: Vec<MountPlan>,
    pub(super) files: Vec<FilePlan>,
    pub(super) secrets: SecretsPlan,
    pub(super) hostname: String,
    pub(super) network: Net,
    pub(super) seccomp: Blob,
    /// The ids of the session.
    pub(super) limits: Limits,
    /// What its programs may use.
    pub(super) ceiling: Ceiling,
    pub(super) actions: Vec<ActionPlan>,
}

/// An overlay root.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RootPlan {
    /// Topmost first.
    pub(super) lower: Vec<Below>,
    /// The directory that holds `upper` and `work`, below scratch.
    pub(super) parent: WirePath,
    pub(super) upper: WirePath,
    pub(super) work: WirePath,
}

/// A directory below one of the session's two.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Below {
    pub(super) in_scratch: bool,
    pub(super) path: WirePath,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MountPlan {
    pub(super) from: WirePath,
    pub(super) at: WirePath,
    pub(super) read_only: bool,
    pub(super) mine: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FilePlan {
    pub(super) at: WirePath,
    pub(super) mode: u32,
    pub(super) bytes: Blob,
}

/// Secrets of a job; their values are in the blobs. `secret.rs` makes and shows them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct SecretsPlan {
    /// Whom the files belong to.
    pub(super) user: String,
    pub(super) files: Vec<(String, Blob)>,
    pub(super) variables: Vec<(String, Blob)>,
}

/// A stretch of bytes behind the JSON.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Blob {
    start: usize,
    len: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ActionPlan {
    Exec(Exec),
    Call(CallPlan),
    CallIfChanged(CallPlan),
    /// Takes one file: where its output goes.
    Start(Exec),
    Serve(CallPlan),
    Until {
        attempt: AttemptPlan,
        again: Option<Duration>,
    },
    Still(Duration),
    Attach(AttachPlan),
    Rescue(AttachPlan),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CallPlan {
    /// JSON of a [`super::request::Request`].
    pub(super) request: Value,
    /// Files it takes.
    pub(super) files: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum AttemptPlan {
    Exec(Exec),
    Call(CallPlan),
}

/// Takes one file with a terminal (the socket that its other side is sent over), else three.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AttachPlan {
    /// The first of these that can be started.
    pub(super) execs: Vec<Exec>,
    /// Rows and columns.
    pub(super) terminal: Option<(u16, u16)>,
}

/// What bake writes into the control pipe: this to go on to the next action, …
pub(super) const GO_ON: u8 = b'\n';
/// … this to ask which processes are alive ([`Event::Alive`]), …
pub(super) const WHO: u8 = b'?';
/// … or this plus the number of a signal for the program that runs.
pub(super) const SIGNAL: u8 = 128;

/// Exit code of the process of a call that returned an error.
pub(super) const CALL_FAILED: i32 = 3;

/// Bytes that travel beside the plan.
#[derive(Debug, Default)]
pub(super) struct Blobs(Vec<u8>);

impl Blobs {
    pub(super) fn add(&mut self, bytes: &[u8]) -> Blob {
        let start = self.0.len();
        self.0.extend_from_slice(bytes);
        Blob { start, len: bytes.len() }
    }

    pub(super) fn get(&self, blob: Blob) -> &[u8] {
        self.0.get(blob.start..blob.start.saturating_add(blob.len)).unwrap_or_default()
    }
}

/// Writes a plan as one stretch of bytes.
pub(super) fn encode(plan: &JobPlan, blobs: &Blobs) -> io::Result<Vec<u8>> {
    let mut bytes = frame(plan)?;
    bytes.extend_from_slice(&blobs.0);
    Ok(bytes)
}

/// Reads what [`encode`] wrote.
pub(super) fn decode(bytes: &[u8]) -> io::Result<(JobPlan, Blobs)> {
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or(io::ErrorKind::UnexpectedEof)?;
    let (json, blobs) = rest
        .split_at_checked(u32::from_le_bytes(*len) as usize)
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((serde_json::from_slice(json)?, Blobs(blobs.to_vec())))
}

/// From the helper and the init.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Event {
    /// The user namespace exists: that of the process with this id.
    Ready(i32),
    /// An action starts.
    Begin(usize),
    /// A try of an action failed; another will follow.
    Tried(usize, Status),
    /// Who is alive while a program runs, as [`WHO`] asks.
    Alive(Alive),
    /// An action is over, with what was seen if it failed.
    End(usize, Status, Circumstances),
    /// The sandbox could not do its work.
    Fault(Fault),
}

/// How the process of an action ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Status {
    Exited(i32),
    Signaled(i32),
    /// It could not be started, with the reason.
    Unstarted(String),
    /// It ended well, although it was refused to give a file to this id, which the session has not.
    Unmapped(u32),
    /// A limit was reached, and everything killed.
    Reached(Reached),
    /// The program that this action started in the background ended like this.
    Lost(usize, Box<Status>),
}

/// From a call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromCall {
    Progress(u64),
    /// `None`: it was skipped.
    Return(Result<Option<Value>, CallError>),
}

/// Why the helper gave up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fault {
    pub(super) what: String,
    pub(super) errno: Option<i32>,
    /// Present when the host lacks something.
    pub(super) hint: Option<String>,
    /// The image, not the host, stands in the way.
    pub(super) image: bool,
}

impl Fault {
    /// `what` finishes "cannot …".
    pub(super) fn new(what: impl Into<String>, error: impl Into<io::Error>) -> Self {
        let (what, error): (_, io::Error) = (format!("cannot {}", what.into()), error.into());
        match error.raw_os_error() {
            Some(errno) => Self { what, errno: Some(errno), hint: None, image: false },
            None => {
                Self { what: format!("{what}: {error}"), errno: None, hint: None, image: false }
            }
        }
    }

    pub(super) fn image(what: impl Into<String>) -> Self {
        Self { what: what.into(), errno: None, hint: None, image: true }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let source = match fault.errno {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::other("see above"),
        };
        match (fault.hint, fault.errno) {
            (Some(hint), Some(_)) => Self::Host { what: format!("{}: {source}", fault.what), hint },
            (Some(hint), None) => Self::Host { what: fault.what, hint },
            (None, _) => Self::System { what: fault.what, source },
        }
    }
}

/// Adds what was being done to an error of the system.
pub(super) trait Doing<T> {
    /// `what` finishes "cannot …".
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Fault>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Fault> {
        self.map_err(|error| Fault::new(what(), error))
    }
}

fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let len = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    Ok(bytes)
}

/// Writes one frame.
pub(super) fn send(mut to: &File, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&frame(message)?)
}

/// Puts frames together again from whatever pieces a pipe gives.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// Reads what is there without waiting; true while the other side may say more.
    pub(super) fn fill(&mut self, from: &File) -> io::Result<bool> {
        let mut piece = [0; 16 * 1024];
        loop {
            let mut from = from;
            match from.read(&mut piece) {
                Ok(0) => return Ok(false),
                Ok(n) => self.bytes.extend_from_slice(&piece[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The next whole frame.
    pub(super) fn next<T: for<'a> Deserialize<'a>>(&mut self) -> io::Result<Option<T>> {
        let Some((len, rest)) = self.bytes.split_first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_le_bytes(*len) as usize;
        let Some(json) = rest.get(..len) else { return Ok(None) };
        let message = serde_json::from_slice(json)?;
        self.bytes.drain(..4 + len);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::allowance::Allowance;
    use super::*;

    #[test]
    fn a_plan_survives_with_its_blobs() {
        let mut blobs = Blobs::default();
        blobs.add(b"first");
        let second = blobs.add(b"second");
        let path = || WirePath::new(Path::new("/x"));
        let plan = JobPlan {
            idmap: Some(7),
            layers: path(),
            scratch: path(),
            root: None,
            mounts: vec![],
            files: vec![],
            secrets: SecretsPlan::default(),
            hostname: "h".into(),
            network: Net::None,
            seccomp: second,
            limits: Limits { uid: 1, gid: 1 },
            ceiling: Allowance::default().ceiling(Path::new("/")),
            actions: vec![],
        };
        let bytes = encode(&plan, &blobs).unwrap();
        let (plan, blobs) = decode(&bytes).unwrap();
        assert_eq!((plan.idmap, plan.hostname.as_str()), (Some(7), "h"));
        assert_eq!(blobs.get(second), b"second");
        for cut in 0..4 {
            assert!(decode(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn frames_come_whole_from_pieces() {
        let bytes = [frame(&Event::Begin(7)).unwrap(), frame(&Event::Ready(1)).unwrap()].concat();
        let mut frames = Frames::default();
        let mut seen = vec![];
        for byte in bytes {
            frames.bytes.push(byte);
            while let Some(event) = frames.next::<Event>().unwrap() {
                seen.push(format!("{event:?}"));
            }
        }
        assert_eq!(seen, ["Begin(7)", "Ready(1)"]);
    }
}
