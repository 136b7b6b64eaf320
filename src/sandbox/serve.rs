//! The inner end of [`super::dial`].

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::wire;
use crate::threads;

/// How long a connection to the job's own loopback may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers every port that comes through `socket`, on the socket that comes with it: with a
/// connection to the port, or with the number of the system's error. Ends when nobody holds the
/// other end. Each is connected by itself: a port that does not answer keeps no other waiting.
pub(super) fn dial(socket: &OwnedFd) -> io::Result<()> {
    while let Some((port, reply)) = wire::receive::<u16>(socket)? {
        let Some(reply) = reply.into_iter().next() else { continue };
        let copy = reply.try_clone();
        // Who asked may have gone away by then.
        let started = threads::free(move || {
            let _ = answer(port, &reply);
        });
        if started.is_err()
            && let Ok(reply) = copy
        {
            let _ = wire::send(&reply, &Err::<(), i32>(libc::EAGAIN), &[]);
        }
    }
    Ok(())
}

fn answer(port: u16, reply: &OwnedFd) -> io::Result<()> {
    match connect(port) {
        Ok(stream) => wire::send(reply, &Ok::<(), i32>(()), &[stream.as_fd()]),
        Err(error) => {
            // A connection that was given up has no number.
            let errno = error.raw_os_error().unwrap_or(libc::ETIMEDOUT);
            wire::send(reply, &Err::<(), i32>(errno), &[])
        }
    }
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
