//! Connections into a job's network from outside of it: a call inside dials, and hands the
//! connected socket out.
//!
//! ```text
//! bake ──── port ────► call in the job's network namespace ── connect ──► 127.0.0.1:port
//!      ◄── socket ────
//! ```

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::{Call, CallIo, wire};

/// Dials for somebody outside, until that lets go of the socket.
pub(super) const DIAL: &str = "sandbox.dial";

/// How long a connection to the job's own loopback may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Dials inside one job.
#[derive(Debug)]
pub struct Dialer(Mutex<OwnedFd>);

impl Dialer {
    /// Makes one, and the call that serves it: to go with [`super::Action::Serve`].
    pub fn new() -> io::Result<(Self, Call)> {
        let (ours, theirs) = wire::pair()?;
        Ok((Self(Mutex::new(ours)), Call { name: DIAL, args: Value::Null, fds: vec![theirs] }))
    }

    /// Connects to a port on the job's loopback. Waits for the job to begin.
    pub fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wire::send(&socket, &port, &[])?;
        let Some((answer, files)) = wire::receive::<Result<(), String>>(&socket)? else {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the job has ended"));
        };
        answer.map_err(io::Error::other)?;
        let file = files
            .into_iter()
            .next()
            .ok_or_else(|| io::Error::other("no socket came with the answer"))?;
        Ok(TcpStream::from(file))
    }
}

/// The call: answers every port with a connection to it, or with the reason why there is none.
pub(super) fn dial(io: CallIo<'_>) -> Result<Value, String> {
    let socket = OwnedFd::from(io.fds.into_iter().next().ok_or("no socket")?);
    while let Some((port, _)) = wire::receive::<u16>(&socket).map_err(|error| error.to_string())? {
        let told = match connect(port) {
            Ok(stream) => wire::send(&socket, &Ok::<(), String>(()), &[stream.as_fd()]),
            Err(error) => wire::send(&socket, &Err::<(), String>(error.to_string()), &[]),
        };
        told.map_err(|error| error.to_string())?;
    }
    Ok(Value::Null)
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let v4 =
        TcpStream::connect_timeout(&SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), PATIENCE);
    // A service may listen on the one only; what it says of the first is what people know.
    v4.or_else(|error| {
        TcpStream::connect_timeout(&SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port), PATIENCE)
            .map_err(|_| error)
    })
}
