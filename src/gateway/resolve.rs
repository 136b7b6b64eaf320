//! Questions for names, taken and answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use super::names::{Existence, LONGEST};
use super::shared::Shared;

/// How long a client may take to ask the next question over TCP.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions over one connection.
const MOST: usize = 100;

fn answer(shared: &Shared, message: &[u8]) -> Option<Vec<u8>> {
    shared.names.answer(message, |name| {
        if shared.policy.may_look_up(name) {
            shared.outside.existence(name)
        } else if name.contains('.') {
            // Who asks gets to know with the connection, by name, that it may not; what it asks
            // for leaves this host in no way.
            Existence::There
        } else {
            Existence::Unknown
        }
    })
}

/// Answers a datagram.
pub(super) fn datagram(shared: &Shared, socket: &UdpSocket, message: &[u8], from: SocketAddr) {
    if let Some(answer) = answer(shared, message) {
        // An answer that is lost is asked for again.
        let _ = socket.send_to(&answer, from);
    }
}

/// Answers the questions of a connection (RFC 7766).
pub(super) fn stream(shared: &Shared, mut stream: TcpStream) {
    let ready =
        stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(PATIENCE)));
    if ready.and_then(|()| stream.set_write_timeout(Some(PATIENCE))).is_err() {
        return;
    }
    for _ in 0..MOST {
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        if message.len() > LONGEST || stream.read_exact(&mut message).is_err() {
            return;
        }
        let Some(answer) = answer(shared, &message) else { return };
        let length = u16::try_from(answer.len()).unwrap_or_default().to_be_bytes();
        if stream.write_all(&[&length[..], &answer].concat()).is_err() {
            return;
        }
    }
}
