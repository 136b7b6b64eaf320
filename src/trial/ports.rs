//! Ports of the host that lead into a container's own network: bake listens outside, has a call
//! inside dial, and carries the bytes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::error::Error;
use crate::sandbox::dial::Dialer;
use crate::threads;

/// A port of the host that is open.
pub(super) struct Listener {
    socket: TcpListener,
    port: u16,
}

/// Opens the ports, so that it is known before anything starts whether the host allows it.
pub(super) fn listen(wanted: &[(SocketAddr, u16)]) -> Result<Vec<Listener>, Error> {
    let open = |(address, port): &(SocketAddr, u16)| {
        let socket = TcpListener::bind(address)
            .map_err(|source| Error::Port { address: *address, source })?;
        Ok(Listener { socket, port: *port })
    };
    wanted.iter().map(open).collect()
}

/// Carries connections while `job` runs.
///
/// # Errors
/// Where the host has no threads for it; then `job` did not run.
pub(super) fn during<T>(
    listeners: Vec<Listener>,
    dialer: &Dialer,
    job: impl FnOnce() -> T,
) -> io::Result<T> {
    let over = AtomicBool::new(false);
    let addresses: Vec<SocketAddr> =
        listeners.iter().filter_map(|one| one.socket.local_addr().ok()).collect();
    // Everything that is open, to be closed at the end: a client need not be quiet because the
    // container is gone.
    let open: Mutex<Vec<TcpStream>> = Mutex::new(vec![]);
    thread::scope(|scope| {
        let mut started = Ok(());
        for Listener { socket, port } in listeners {
            let (over, open) = (&over, &open);
            let serve = move || {
                for client in socket.incoming() {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(client) = client else { continue };
                    // Nobody listens inside, or not yet: the client sees its connection close.
                    let Ok(inside) = dialer.connect(port) else { continue };
                    let (Ok(a), Ok(b), Ok(c), Ok(d)) = (
                        client.try_clone(),
                        inside.try_clone(),
                        client.try_clone(),
                        inside.try_clone(),
                    ) else {
                        continue;
                    };
                    let mut all = open.lock().unwrap_or_else(PoisonError::into_inner);
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    all.retain(|one| one.peer_addr().is_ok());
                    all.extend([a, b]);
                    drop(all);
                    // Without a thread for it the client sees its connection close.
                    if threads::scoped(scope, move || carry(client, inside)).is_ok() {
                        let _ = threads::scoped(scope, move || carry(d, c));
                    }
                }
            };
            if let Err(error) = threads::scoped(scope, serve) {
                started = Err(error);
                break;
            }
        }
        let result = started.map(|()| job());
        over.store(true, Ordering::SeqCst);
        for stream in open.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            // One that is closed already needs no closing.
            let _ = stream.shutdown(Shutdown::Both);
        }
        for address in addresses {
            // Wakes the thread that waits for the next client.
            let _ = TcpStream::connect(address);
        }
        result
    })
}

/// Carries one direction until its source ends, and says so to the other side.
fn carry(mut from: TcpStream, mut to: TcpStream) {
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
