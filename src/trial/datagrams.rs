//! UDP ports of the host that lead into a container's own network. There are no connections: every
//! client, by its address, has a socket of its own inside for as long as something comes or goes.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::Duration;

use crate::sandbox::dial::Dialer;
use crate::threads;

/// Most clients at once; what comes from further ones is lost, as datagrams may be.
const MOST: usize = 256;

/// A client of which nothing comes or goes for this long is forgotten.
const IDLE: Duration = Duration::from_secs(60);

/// Pause after a failure of the host's, such as a lack of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Largest datagram.
const LARGEST: usize = 1 << 16;

/// One port.
pub(super) struct Datagrams {
    outside: UdpSocket,
    port: u16,
    over: AtomicBool,
    clients: Mutex<HashMap<SocketAddr, Arc<Client>>>,
}

/// What a client has inside.
struct Client {
    socket: UdpSocket,
    /// Whether it has sent something since the last look.
    used: AtomicBool,
}

impl Datagrams {
    pub(super) fn new(outside: UdpSocket, port: u16) -> Self {
        Self { outside, port, over: AtomicBool::new(false), clients: Mutex::default() }
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Client>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Carries datagrams until [`Self::close`].
    pub(super) fn serve<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, dialer: &Dialer) {
        let mut buffer = vec![0; LARGEST];
        loop {
            let came = self.outside.recv_from(&mut buffer);
            if self.over() {
                return;
            }
            let sent = match came {
                Ok((length, from)) => self.forward(&buffer[..length], from, scope, dialer),
                Err(error) => Err(error),
            };
            // What cannot be passed on is lost, as datagrams may be. Some failures last.
            if let Err(error) = sent
                && !matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted
                )
            {
                thread::sleep(PAUSE);
            }
        }
    }

    /// Passes one datagram on, from a socket that is the client's.
    fn forward<'scope>(
        &'scope self,
        datagram: &[u8],
        from: SocketAddr,
        scope: &'scope Scope<'scope, '_>,
        dialer: &Dialer,
    ) -> io::Result<()> {
        let known = self.clients().get(&from).map(Arc::clone);
        let client = match known {
            Some(client) => client,
            None => {
                if self.clients().len() >= MOST {
                    return Ok(());
                }
                let socket = dialer.datagrams(self.port)?;
                socket.set_read_timeout(Some(IDLE))?;
                let client = Arc::new(Client { socket, used: AtomicBool::new(true) });
                let theirs = Arc::clone(&client);
                {
                    let mut clients = self.clients();
                    if self.over() {
                        return Ok(());
                    }
                    clients.insert(from, Arc::clone(&client));
                }
                if let Err(error) = threads::scoped(scope, move || self.answer(from, &theirs)) {
                    self.clients().remove(&from);
                    return Err(error);
                }
                client
            }
        };
        client.used.store(true, Ordering::SeqCst);
        client.socket.send(datagram).map(|_| ())
    }

    /// Carries what comes back to a client, until it is forgotten.
    fn answer(&self, to: SocketAddr, client: &Client) {
        let mut buffer = vec![0; LARGEST];
        while !self.over() {
            match client.socket.recv(&mut buffer) {
                // The end, or an empty datagram.
                Ok(0) if self.over() => break,
                Ok(length) => {
                    // A client that has gone away gets nothing.
                    let _ = self.outside.send_to(&buffer[..length], to);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        && client.used.swap(false, Ordering::SeqCst) => {}
                // Idle, or nobody listens inside.
                Err(_) => break,
            }
        }
        self.clients().remove(&to);
    }

    /// Ends it all.
    pub(super) fn close(&self) {
        let clients = self.clients();
        self.over.store(true, Ordering::SeqCst);
        for client in clients.values() {
            end(&client.socket);
        }
        drop(clients);
        end(&self.outside);
    }
}

/// Wakes whoever waits for a datagram: Linux does so on shutdown(2), whether it reports that the
/// socket has no peer or not.
fn end(socket: &UdpSocket) {
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
}
