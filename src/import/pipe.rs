//! Bytes from one thread to another, in few buffers that go round: memory stays small where one
//! side is slower, and no buffer is made anew for every part.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes of a buffer.
const SIZE: usize = 256 << 10;

/// Buffers of a pipe: what one side may be ahead of the other.
const BUFFERS: usize = 6;

/// Where bytes go in. Dropped, it is the end.
pub(super) struct Inlet {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    buffer: Vec<u8>,
}

/// Where they come out.
pub(super) struct Outlet {
    full: Receiver<Vec<u8>>,
    empty: SyncSender<Vec<u8>>,
    buffer: Vec<u8>,
    at: usize,
}

/// Makes a pipe.
pub(super) fn pipe() -> (Inlet, Outlet) {
    let (full, from) = sync_channel(BUFFERS);
    // There is room for all of them: who gives one back never waits.
    let (back, empty) = sync_channel(BUFFERS);
    for _ in 1..BUFFERS {
        back.send(vec![]).expect("the other end is held here");
    }
    let inlet = Inlet { full, empty, buffer: vec![] };
    (inlet, Outlet { full: from, empty: back, buffer: vec![], at: 0 })
}

impl Inlet {
    /// Takes bytes.
    ///
    /// # Errors
    /// Where nobody reads them any more.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        while !bytes.is_empty() {
            self.buffer.reserve_exact(SIZE - self.buffer.len());
            let (now, later) = bytes.split_at(bytes.len().min(SIZE - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == SIZE {
                self.hand_on()?;
                self.buffer.clear();
            }
        }
        Ok(())
    }

    /// Takes all that `from` has. Where nobody reads it any more the rest is left.
    ///
    /// # Errors
    /// Those of `from`.
    pub(super) fn write_all_of(mut self, mut from: impl Read) -> io::Result<()> {
        loop {
            self.buffer.resize(SIZE, 0);
            let mut got = 0;
            while got < SIZE {
                match from.read(&mut self.buffer[got..]) {
                    Ok(0) => break,
                    Ok(n) => got += n,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            self.buffer.truncate(got);
            if self.hand_on().is_err() || got < SIZE {
                return Ok(());
            }
        }
    }

    fn hand_on(&mut self) -> Result<(), Gone> {
        self.full.send(std::mem::take(&mut self.buffer)).map_err(|_| Gone)?;
        self.buffer = self.empty.recv().map_err(|_| Gone)?;
        Ok(())
    }

    /// Hands on what is there, and ends it.
    pub(super) fn end(mut self) {
        // Who has stopped reading knows why.
        let _ = self.full.send(std::mem::take(&mut self.buffer));
    }
}

/// Nobody reads any more.
#[derive(Debug)]
pub(super) struct Gone;

impl BufRead for Outlet {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.buffer.len() {
            let Ok(full) = self.full.recv() else { return Ok(&[]) };
            let empty = std::mem::replace(&mut self.buffer, full);
            self.at = 0;
            if empty.capacity() > 0 {
                // With what is in it: whoever overwrites it need not fill it first. The other side
                // may have ended.
                let _ = self.empty.try_send(empty);
            }
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

impl Read for Outlet {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let n = buffer.len().min(there.len());
        buffer[..n].copy_from_slice(&there[..n]);
        self.consume(n);
        Ok(n)
    }
}
