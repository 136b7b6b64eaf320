//! The inner end of [`super::dial`].

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::wire;

/// How long a connection to the job's own loopback may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers every port that comes through `socket` with a connection to it, or with the number of
/// the system's error, until nobody holds the other end.
pub(super) fn dial(socket: &OwnedFd) -> io::Result<()> {
    while let Some((port, _)) = wire::receive::<u16>(socket)? {
        match connect(port) {
            Ok(stream) => wire::send(socket, &Ok::<(), i32>(()), &[stream.as_fd()])?,
            Err(error) => {
                // A connection that was given up has no number.
                let errno = error.raw_os_error().unwrap_or(libc::ETIMEDOUT);
                wire::send(socket, &Err::<(), i32>(errno), &[])?;
            }
        }
    }
    Ok(())
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
