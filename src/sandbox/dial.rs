//! Connections into a job's network from outside of it: a call inside dials, and hands the
//! connected socket out.
//!
//! ```text
//! bake ── port, protocol, reply socket ──► call in the job's network namespace ── connect ──► 127.0.0.1:port
//!      ◄── connected socket ────
//! ```

use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use super::builtin::BuiltIn;
use super::wire;

pub use super::serve::Protocol;

/// Dials inside one job.
#[derive(Debug)]
pub struct Dialer(Mutex<OwnedFd>);

impl Dialer {
    /// Makes one, and the call that serves it: to go with [`super::Action::Serve`].
    pub fn new() -> io::Result<(Self, BuiltIn)> {
        let (ours, theirs) = wire::pair()?;
        Ok((Self(Mutex::new(ours)), BuiltIn::Dial(theirs.into())))
    }

    /// Connects to a TCP port on the job's loopback. Waits for the job to begin.
    pub fn connect(&self, port: u16) -> io::Result<TcpStream> {
        self.socket(port, Protocol::Tcp).map(TcpStream::from)
    }

    /// Returns a socket for datagrams to a UDP port on the job's loopback. Waits for the job to
    /// begin.
    pub fn datagrams(&self, port: u16) -> io::Result<UdpSocket> {
        self.socket(port, Protocol::Udp).map(UdpSocket::from)
    }

    fn socket(&self, port: u16, protocol: Protocol) -> io::Result<OwnedFd> {
        // An answer comes on a socket of its own: who waits for one keeps nobody else waiting.
        let (ours, theirs) = wire::pair()?;
        {
            let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            wire::send(&socket, &(port, protocol), &[theirs.as_fd()])?;
        }
        drop(theirs);
        let Some((answer, files)) = wire::receive::<Result<(), i32>>(&ours)? else {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the job has ended"));
        };
        answer.map_err(io::Error::from_raw_os_error)?;
        files.into_iter().next().ok_or_else(|| io::Error::other("no socket came with the answer"))
    }
}
