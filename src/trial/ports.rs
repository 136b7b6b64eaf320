//! Ports of the host that lead into a container's own network: bake listens outside, has a call
//! inside dial, and carries the bytes, and the datagrams as `datagrams` does.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::datagrams::Datagrams;
use super::error::Error;
use crate::sandbox::dial::Dialer;
use crate::threads;

/// Most connections at once; further clients wait until one ends.
const MOST: usize = 256;

/// Pause after a failure of the host's, such as a lack of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

pub use crate::sandbox::dial::Protocol;

/// A port of the host that leads inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    /// Of the host.
    pub address: SocketAddr,
    /// In the container.
    pub inside: u16,
    /// Of both.
    pub protocol: Protocol,
}

/// A port of the host that is open.
pub(crate) enum Listener {
    Tcp(TcpListener, u16),
    Udp(UdpSocket, u16),
}

/// Opens the ports, so that it is known before anything starts whether the host allows it.
pub(crate) fn listen(wanted: &[Publish]) -> Result<Vec<Listener>, Error> {
    let open = |Publish { address, inside, protocol }: &Publish| {
        let listener = match protocol {
            Protocol::Tcp => TcpListener::bind(address).map(|one| Listener::Tcp(one, *inside)),
            Protocol::Udp => UdpSocket::bind(address).map(|one| Listener::Udp(one, *inside)),
        };
        listener.map_err(|source| Error::Port { address: *address, source })
    };
    wanted.iter().map(open).collect()
}

/// The connections that are open, and whether any more are wanted.
#[derive(Default)]
struct Connections {
    over: AtomicBool,
    open: Mutex<Open>,
    fewer: Condvar,
}

#[derive(Default)]
struct Open {
    /// How many there are.
    count: usize,
    /// Both ends of each, to be closed at the end: a client need not be quiet because the container
    /// is gone. In place of one that has ended stands `None`.
    ends: Vec<Option<[TcpStream; 2]>>,
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Waits until there are fewer than [`MOST`], and counts one more.
    fn begin(&self) {
        let open = self.fewer.wait_while(self.open(), |open| open.count >= MOST && !self.over());
        open.unwrap_or_else(PoisonError::into_inner).count += 1;
    }

    fn end(&self) {
        self.open().count -= 1;
        self.fewer.notify_one();
    }

    /// Ends everything, whoever still talks.
    fn close(&self) {
        let open = self.open();
        self.over.store(true, Ordering::SeqCst);
        for stream in open.ends.iter().flatten().flatten() {
            // One that is closed already needs no closing.
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(open);
        self.fewer.notify_all();
    }

    /// Connects `client` to `port` inside, and carries what they send each other until both have
    /// ended.
    fn carry(&self, client: TcpStream, port: u16, dialer: &Dialer) -> io::Result<()> {
        // Nobody listens inside, or not yet: the client sees its connection close.
        let inside = dialer.connect(port)?;
        let ends = [client.try_clone()?, inside.try_clone()?];
        let (back, forth) = (inside.try_clone()?, client.try_clone()?);
        let at = {
            let mut open = self.open();
            if self.over() {
                return Ok(());
            }
            let free = open.ends.iter().position(Option::is_none);
            let at = free.unwrap_or(open.ends.len());
            if free.is_none() {
                open.ends.push(None);
            }
            open.ends[at] = Some(ends);
            at
        };
        thread::scope(|scope| {
            // Without a thread for it the client sees its connection close.
            match threads::scoped(scope, move || copy(back, forth)) {
                Ok(_) => copy(client, inside),
                Err(_) => drop((client, inside)),
            }
        });
        self.open().ends[at] = None;
        Ok(())
    }
}

/// Carries connections while `job` runs.
///
/// # Errors
/// Where the host has no threads for it; then `job` did not run.
pub(crate) fn during<T>(
    listeners: Vec<Listener>,
    dialer: &Dialer,
    job: impl FnOnce() -> T,
) -> io::Result<T> {
    let connections = &Connections::default();
    let (mut streams, mut datagrams) = (vec![], vec![]);
    for listener in listeners {
        match listener {
            Listener::Tcp(socket, port) => streams.push((socket, port)),
            Listener::Udp(socket, port) => datagrams.push(Datagrams::new(socket, port)),
        }
    }
    let addresses: Vec<SocketAddr> =
        streams.iter().filter_map(|(socket, _)| socket.local_addr().ok()).collect();
    let datagrams = &datagrams;
    thread::scope(|scope| {
        let mut started = Ok(());
        for one in datagrams {
            let serve = move || one.serve(scope, dialer);
            started = started.and(threads::scoped(scope, serve).map(|_| ()));
        }
        for (socket, port) in streams {
            let serve = move || {
                while !connections.over() {
                    connections.begin();
                    let client = socket.accept();
                    let begun = match client {
                        Ok(_) if connections.over() => Err(()),
                        Ok((client, _)) => threads::scoped(scope, move || {
                            // Whatever failed, the client sees its connection close.
                            let _ = connections.carry(client, port, dialer);
                            connections.end();
                        })
                        .map_err(|_| thread::sleep(PAUSE)),
                        // It gave up before it was taken.
                        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Err(()),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(()),
                        // No descriptors, no memory: there may be some again when others end.
                        Err(_) => {
                            thread::sleep(PAUSE);
                            Err(())
                        }
                    };
                    if begun.is_err() {
                        connections.end();
                    }
                }
            };
            if let Err(error) = threads::scoped(scope, serve) {
                started = Err(error);
                break;
            }
        }
        let result = started.map(|()| job());
        connections.close();
        datagrams.iter().for_each(Datagrams::close);
        for address in addresses {
            // Wakes the thread that waits for the next client.
            let _ = TcpStream::connect(address);
        }
        result
    })
}

/// Carries one direction until its source ends, and closes the other side.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) if to.write_all(&buffer[..n]).is_err() => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
            Ok(_) => {}
        }
    }
    // Either may have gone away by itself.
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
