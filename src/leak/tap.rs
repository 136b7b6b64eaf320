//! The tar of a layer that is being packed, searched beside that on a thread of its own.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::layer::{drain, layer};
use super::needle::Needles;
use super::search::Leak;
use crate::layer::Error;
use crate::threads;

/// How many pieces of a tar wait to be searched.
const WAITING: usize = 8;

/// Takes a tar; what is written is searched elsewhere.
pub struct Tap(SyncSender<Vec<u8>>);

impl Write for Tap {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Does `work`, which writes a tar to the tap, and searches that meanwhile.
///
/// # Errors
/// Where the host gives no thread; inside, where the tar cannot be read.
pub fn tapped<T>(
    needles: &Needles,
    work: impl FnOnce(Tap) -> T,
) -> io::Result<(T, Result<Vec<Leak>, Error>)> {
    let (sender, receiver) = sync_channel(WAITING);
    thread::scope(|scope| {
        let searching = threads::scoped(scope, move || {
            let mut pieces = Pieces { receiver, piece: vec![], at: 0 };
            let found = layer(&mut pieces, needles);
            drain(pieces);
            found
        })?;
        let done = work(Tap(sender));
        let found = searching.join().map_err(|_| io::Error::other("the search panicked"))?;
        Ok((done, found))
    })
}

/// What comes through the tap.
struct Pieces {
    receiver: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            // Its other end is dropped when all is written.
            let Ok(piece) = self.receiver.recv() else { return Ok(0) };
            (self.piece, self.at) = (piece, 0);
        }
        let got = buf.len().min(self.piece.len() - self.at);
        buf[..got].copy_from_slice(&self.piece[self.at..self.at + got]);
        self.at += got;
        Ok(got)
    }
}
