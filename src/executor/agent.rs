//! The SSH agent of who builds, for one step.
//!
//! ```text
//! step ── $SSH_AUTH_SOCK ──► socket of bake's ── what is allowed ──► the agent's own socket
//! ```
//! An agent answers whoever has the id of its owner (ssh-agent(1)), and the ids of a step are
//! others: so bake asks in its place. It passes on which keys there are, and signatures. A step can
//! neither add nor remove keys, nor lock the agent. The protocol is that of PROTOCOL.agent of OpenSSH.

use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::files::open_dir;
use crate::threads;

/// Where a step finds it.
pub(super) const INSIDE: &str = "/dev/bake/ssh-agent";

/// Longest message: what ssh-agent(1) takes.
const MAX_MESSAGE: u32 = 256 * 1024;

/// Most connections at once.
const MAX_CONNECTIONS: usize = 32;

/// `SSH_AGENT_FAILURE`.
const FAILURE: u8 = 5;
/// `SSH_AGENTC_REQUEST_IDENTITIES`.
const IDENTITIES: u8 = 11;
/// `SSH_AGENTC_SIGN_REQUEST`.
const SIGN: u8 = 13;
/// `SSH_AGENTC_EXTENSION`.
const EXTENSION: u8 = 27;
/// The extension that binds a connection to the server that it is for.
const BIND: &[u8] = b"session-bind@openssh.com";

/// A socket that passes on what a step may ask; gone when dropped.
#[derive(Debug)]
pub(super) struct Agent {
    /// Its path.
    pub(super) path: PathBuf,
    listener: Arc<UnixListener>,
    open: Arc<Mutex<Vec<Connection>>>,
    accepting: Option<JoinHandle<()>>,
}

/// A connection, and the thread that serves it.
#[derive(Debug)]
struct Connection {
    /// Of the step and of the agent: either may be what the thread waits for.
    ends: [UnixStream; 2],
    thread: JoinHandle<()>,
}

impl Agent {
    /// Opens it in the directory `at`, in front of the agent at `socket`.
    ///
    /// # Errors
    /// Where that agent cannot be reached, or no socket be made.
    pub(super) fn open(socket: &Path, at: &Path) -> io::Result<Self> {
        // Before a step runs for minutes and finds nobody.
        drop(connect(socket)?);
        let path = at.join("ssh-agent");
        let listener = Arc::new(listen(at)?);
        // Whatever user the step has; nobody else reaches the directory.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        let open: Arc<Mutex<Vec<Connection>>> = Arc::default();
        let (own, connections, socket) =
            (Arc::clone(&listener), Arc::clone(&open), socket.to_owned());
        let accepting = Some(threads::free(move || accept(&own, &connections, &socket))?);
        Ok(Self { path, listener, open, accepting })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Wakes whoever accepts: nothing more comes.
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for Connection { ends, thread } in open.drain(..) {
            for end in ends {
                let _ = end.shutdown(Shutdown::Both);
            }
            let _ = thread.join();
        }
    }
}

/// Listens in the directory `at`, whose path may be longer than a socket's.
fn listen(at: &Path) -> io::Result<UnixListener> {
    let directory = open_dir(rustix::fs::CWD, at)?;
    UnixListener::bind(format!("/proc/self/fd/{}/ssh-agent", directory.as_raw_fd()))
}

/// Connects to a socket, whose path may be longer than the kernel takes.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let name = socket.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = fs::File::open(crate::files::parent(socket))?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    UnixStream::connect(short)
}

fn accept(listener: &UnixListener, open: &Mutex<Vec<Connection>>, socket: &Path) {
    while let Ok((step, _)) = listener.accept() {
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|one| !one.thread.is_finished());
        if open.len() < MAX_CONNECTIONS {
            // Whoever is not served finds the connection closed.
            open.extend(connection(step, socket).ok());
        }
    }
}

fn connection(step: UnixStream, socket: &Path) -> io::Result<Connection> {
    let agent = connect(socket)?;
    let ends = [step.try_clone()?, agent.try_clone()?];
    let thread = threads::free(move || {
        let _ = serve(&step, &agent);
        let _ = step.shutdown(Shutdown::Both);
        let _ = agent.shutdown(Shutdown::Both);
    })?;
    Ok(Connection { ends, thread })
}

/// Passes on questions and answers until one side has enough.
fn serve(mut step: impl Read + Write, mut agent: impl Read + Write) -> io::Result<()> {
    loop {
        let question = message(&mut step)?;
        let answer = match is_allowed(&question) {
            true => {
                send(&mut agent, &question)?;
                message(&mut agent)?
            }
            false => vec![FAILURE],
        };
        send(&mut step, &answer)?;
    }
}

fn message(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length == 0 || length > MAX_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn send(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    to.write_all(&[&length.to_be_bytes(), message].concat())
}

/// Whether a step may ask this.
fn is_allowed(question: &[u8]) -> bool {
    match question {
        [IDENTITIES] | [SIGN, ..] => true,
        [EXTENSION, rest @ ..] => rest
            .split_first_chunk::<4>()
            .and_then(|(length, rest)| rest.get(..u32::from_be_bytes(*length) as usize))
            .is_some_and(|name| name == BIND),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_may_ask_for_keys_and_signatures_and_nothing_else() {
        let bind = [&[EXTENSION, 0, 0, 0, 24][..], BIND, &[1, 2]].concat();
        let query = [&[EXTENSION, 0, 0, 0, 5][..], b"query"].concat();
        let allowed: [&[u8]; 3] = [&[IDENTITIES], &[SIGN, 1, 2, 3], &bind];
        for question in allowed {
            assert!(is_allowed(question), "{question:?}");
        }
        let cut = &bind[..20];
        let all = (0..=255u8).filter(|kind| ![IDENTITIES, SIGN, EXTENSION].contains(kind));
        for question in
            all.map(|kind| vec![kind, 0]).chain([query, cut.to_vec(), vec![], vec![11, 0]])
        {
            assert!(!is_allowed(&question), "{question:?}");
        }
    }

    #[test]
    fn what_is_not_allowed_never_reaches_the_agent() {
        let (step, ours) = UnixStream::pair().unwrap();
        let (theirs, agent) = UnixStream::pair().unwrap();
        let serving = std::thread::spawn(move || serve(&ours, &theirs).unwrap_err().kind());
        let (mut asks, mut answers) = (&step, &agent);
        // Remove all keys; then: which are there?
        send(&mut asks, &[19]).unwrap();
        assert_eq!(message(&mut asks).unwrap(), [FAILURE]);
        send(&mut asks, &[IDENTITIES]).unwrap();
        assert_eq!(message(&mut answers).unwrap(), [IDENTITIES], "the first that it sees");
        send(&mut answers, &[12, 0, 0, 0, 0]).unwrap();
        assert_eq!(message(&mut asks).unwrap(), [12, 0, 0, 0, 0]);
        asks.write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert_eq!(serving.join().unwrap(), io::ErrorKind::InvalidData);
    }
}
