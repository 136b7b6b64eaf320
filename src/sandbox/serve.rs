//! The inner end of [`super::dial`].

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::wire;
use crate::threads;

/// What a port is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// How long a connection to the job's own loopback may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers every port that comes through `socket`, on the socket that comes with it: with a
/// connection to the port, or with the number of the system's error. Ends when nobody holds the
/// other end. Each is connected by itself: a port that does not answer keeps no other waiting.
pub(super) fn dial(socket: &OwnedFd) -> io::Result<()> {
    while let Some((wanted, reply)) = wire::receive::<(u16, Protocol)>(socket)? {
        let Some(reply) = reply.into_iter().next() else { continue };
        let copy = reply.try_clone();
        // Who asked may have gone away by then.
        let started = threads::free(move || {
            let _ = answer(wanted, &reply);
        });
        if started.is_err()
            && let Ok(reply) = copy
        {
            let _ = wire::send(&reply, &Err::<(), i32>(libc::EAGAIN), &[]);
        }
    }
    Ok(())
}

fn answer((port, protocol): (u16, Protocol), reply: &OwnedFd) -> io::Result<()> {
    let socket = match protocol {
        Protocol::Tcp => connect(port).map(OwnedFd::from),
        Protocol::Udp => datagrams(port).map(OwnedFd::from),
    };
    match socket {
        Ok(socket) => wire::send(reply, &Ok::<(), i32>(()), &[socket.as_fd()]),
        Err(error) => {
            // A connection that was given up has no number.
            let errno = error.raw_os_error().unwrap_or(libc::ETIMEDOUT);
            wire::send(reply, &Err::<(), i32>(errno), &[])
        }
    }
}

/// Returns a socket for datagrams to `port`. Only an answer could show whether a service listens,
/// so they go to 127.0.0.1, which a service on all addresses gets too.
fn datagrams(port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, port))?;
    Ok(socket)
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
