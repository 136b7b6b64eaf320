//! Cuts what a pipe gives into lines.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use super::ended::JobEvent;

/// Longer lines come in pieces of this many bytes.
const PIECE: usize = 64 * 1024;
/// How much of one pipe is read before somebody else gets a turn.
const TURN: usize = 1024 * 1024;

/// Whose lines they are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whose {
    /// Those of the action that is under way.
    Action { stderr: bool },
    /// Those of the background program that this action started.
    Service(usize),
}

impl Whose {
    fn line(self, text: &[u8]) -> JobEvent<'_> {
        match self {
            Self::Action { stderr } => JobEvent::Line { stderr, text },
            Self::Service(action) => JobEvent::Service { action, text },
        }
    }
}

/// One pipe and the beginning of its next line.
pub(super) struct Lines {
    pipe: Option<File>,
    whose: Whose,
    /// Read, but not yet passed on.
    fresh: Vec<u8>,
    begun: Vec<u8>,
    /// Bytes that came.
    total: u64,
}

impl Lines {
    pub(super) fn new(pipe: File, whose: Whose) -> Self {
        Self { pipe: Some(pipe), whose, fresh: vec![], begun: vec![], total: 0 }
    }

    /// Whether these are of a program in the background.
    pub(super) fn is_service(&self) -> bool {
        matches!(self.whose, Whose::Service(_))
    }

    /// How many bytes have come.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The pipe, while somebody may still write to it.
    pub(super) fn open(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there.
    pub(super) fn fetch(&mut self) -> io::Result<()> {
        let mut buffer = [0; 32 * 1024];
        let mut total = 0;
        while let Some(pipe) = &mut self.pipe
            && total < TURN
        {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(n) => {
                    total += n;
                    self.total += n as u64;
                    self.fresh.extend_from_slice(&buffer[..n]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Passes on every whole line that was read.
    pub(super) fn deliver(&mut self, listen: &mut dyn FnMut(JobEvent<'_>)) {
        let fresh = std::mem::take(&mut self.fresh);
        let mut bytes = &fresh[..];
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.begun.is_empty() && line.len() <= PIECE {
                listen(self.whose.line(line));
            } else {
                self.begun.extend_from_slice(line);
                self.full_pieces(listen);
                listen(self.whose.line(&self.begun));
                self.begun.clear();
            }
            bytes = rest;
        }
        self.begun.extend_from_slice(bytes);
        self.full_pieces(listen);
        // The buffer is used again.
        self.fresh = fresh;
        self.fresh.clear();
    }

    /// Passes on what is too long to wait for its end; at least one byte stays, so the end is never
    /// an empty line of its own.
    fn full_pieces(&mut self, listen: &mut dyn FnMut(JobEvent<'_>)) {
        let mut start = 0;
        while self.begun.len() - start > PIECE {
            listen(self.whose.line(&self.begun[start..start + PIECE]));
            start += PIECE;
        }
        self.begun.drain(..start);
    }

    /// Passes on a last line without an end.
    pub(super) fn finish(&mut self, listen: &mut dyn FnMut(JobEvent<'_>)) {
        if !self.begun.is_empty() {
            listen(self.whose.line(&self.begun));
            self.begun.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    fn check(text: &[u8], expected: &[&[u8]]) {
        for step in [1, 7, text.len().max(1)] {
            let (read, mut write) = io::pipe().unwrap();
            super::super::spawn::nonblocking(&read).unwrap();
            let mut lines =
                Lines::new(File::from(OwnedFd::from(read)), Whose::Action { stderr: true });
            let mut got: Vec<Vec<u8>> = vec![];
            let mut listen = |event: JobEvent<'_>| match event {
                JobEvent::Line { stderr: true, text } => got.push(text.to_owned()),
                other => panic!("{other:?}"),
            };
            for piece in text.chunks(step) {
                for piece in piece.chunks(32 * 1024) {
                    write.write_all(piece).unwrap();
                    lines.fetch().unwrap();
                    lines.deliver(&mut listen);
                }
            }
            drop(write);
            lines.fetch().unwrap();
            lines.deliver(&mut listen);
            assert!(lines.open().is_none());
            lines.finish(&mut listen);
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn lines() {
        check(b"", &[]);
        check(b"one\n\ntwo\r\nthree", &[b"one", b"", b"two\r", b"three"]);
        let long = vec![b'x'; PIECE + 3];
        let mut text = long.clone();
        text.extend_from_slice(b"\ny\n");
        check(&text, &[&long[..PIECE], b"xxx", b"y"]);
        let exact = [&long[..PIECE], b"\nz"].concat();
        check(&exact, &[&long[..PIECE], b"z"]);
    }
}
