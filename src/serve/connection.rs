//! A client's connection: requests read and answers sent, with an end to every wait.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::sendfile;
use rustix::io::Errno;

use super::answer::{Answer, Body};
use super::request::{self, Request};
use crate::sandbox::Cancel;

/// How long a client may take for the head of a request, its silence before it included, and how
/// long it may take nothing of an answer.
const SILENT: Duration = Duration::from_secs(30);

/// How long a client may be silent while others wait, and once it has its last answer.
const LEAVE: Duration = Duration::from_secs(1);

/// Slowest that a client may take an answer, in bytes a second.
const SLOWEST: u64 = 4 << 10;

/// Most reads of what a client still says then, 4 KiB each.
const LINGER: usize = 256;

/// Bytes handed to the kernel at once: between two of them the end is looked for.
const CHUNK: usize = 4 << 20;

/// The connection is over: the client is gone or silent for too long, or we end.
#[derive(Debug)]
pub(super) struct Ended;

/// A client's connection.
pub(super) struct Connection<'a> {
    stream: TcpStream,
    cancel: &'a Cancel,
    /// Whether others wait for a place.
    crowded: &'a (dyn Fn() -> bool + Sync),
    /// What was read and belongs to the next request.
    read: Vec<u8>,
}

impl<'a> Connection<'a> {
    pub(super) fn new(
        stream: TcpStream,
        cancel: &'a Cancel,
        crowded: &'a (dyn Fn() -> bool + Sync),
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        // The head of an answer and its file are two writes.
        stream.set_nodelay(true)?;
        Ok(Self { stream, cancel, crowded, read: vec![] })
    }

    /// Returns the next request, or the status that refuses it; `None`: the client is done.
    pub(super) fn request(&mut self) -> Result<Option<Result<Request, u16>>, Ended> {
        let start = Instant::now();
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.read.split_off(end + 4);
                let head = std::mem::replace(&mut self.read, rest);
                return Ok(Some(request::parse(&head[..end])));
            }
            if self.read.len() >= request::MOST {
                return Ok(Some(Err(431)));
            }
            // What cannot become a request is answered at once: who tries TLS first, as most
            // clients do, waits for that.
            if self.read.first().is_some_and(|&first| !request::begins(first)) {
                return Ok(Some(Err(400)));
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(n) => self.read.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // In short waits, so that who is silent makes room for who comes.
                    if !self.ready(PollFlags::IN, LEAVE)? && (self.crowded)() {
                        return Err(Ended);
                    }
                    // Bytes that come one by one are not enough.
                    if start.elapsed() >= SILENT {
                        return Err(Ended);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Ended),
            }
        }
    }

    /// Sends an answer; returns the bytes of its body. `last`: the connection is closed behind it.
    pub(super) fn send(&mut self, answer: Answer, last: bool) -> Result<u64, Ended> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let size = match &answer.body {
            Body::None => answer.size.unwrap_or(0),
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File { from, end, .. } => end - from,
        };
        // Of what has no body a length would be wrong (RFC 9110, 8.6).
        if answer.status != 304 {
            head.push_str(&format!("Content-Length: {size}\r\n"));
        }
        head.push_str("Docker-Distribution-API-Version: registry/2.0\r\n");
        head.push_str("X-Content-Type-Options: nosniff\r\n");
        head.push_str(if last { "Connection: close\r\n\r\n" } else { "\r\n" });
        let end = Instant::now() + SILENT + Duration::from_secs(size / SLOWEST);
        self.write(head.as_bytes(), end)?;
        match answer.body {
            Body::None => Ok(0),
            Body::Bytes(bytes) => self.write(&bytes, end).map(|()| size),
            Body::File { file, from, end: to } => self.file(&file, from..to, end).map(|()| size),
        }
    }

    /// Closes the connection: first our direction, then, once the client has noticed it, the
    /// whole. Closed with bytes that nobody has read, the answer could be lost on its way (RFC
    /// 9112, 9.6).
    pub(super) fn close(mut self) {
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let mut buffer = [0; 4096];
        for _ in 0..LINGER {
            match self.stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.ready(PollFlags::IN, LEAVE).unwrap_or(false) {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn write(&mut self, bytes: &[u8], end: Instant) -> Result<(), Ended> {
        let mut left = bytes;
        while !left.is_empty() {
            match self.stream.write(left) {
                Ok(n) => left = &left[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.taken(end)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Ended),
            }
        }
        Ok(())
    }

    /// Sends a part of a file, which the kernel takes where it lies (sendfile(2)).
    fn file(&mut self, file: &File, part: Range<u64>, end: Instant) -> Result<(), Ended> {
        let mut at = part.start;
        while at < part.end {
            let count = usize::try_from(part.end - at).unwrap_or(CHUNK).min(CHUNK);
            match sendfile(&self.stream, file, Some(&mut at), count) {
                // Shorter than it was.
                Ok(0) => return Err(Ended),
                Ok(_) if self.cancel.fired() => return Err(Ended),
                Ok(_) => {}
                Err(Errno::AGAIN) => self.taken(end)?,
                Err(Errno::INTR) => {}
                Err(_) => return Err(Ended),
            }
        }
        Ok(())
    }

    /// Waits until the client takes something of an answer, all of which it must have by `end`.
    fn taken(&self, end: Instant) -> Result<(), Ended> {
        let ready = self.ready(PollFlags::OUT, SILENT)?;
        if ready && Instant::now() < end { Ok(()) } else { Err(Ended) }
    }

    /// Waits until the client says or takes something; returns whether it does.
    fn ready(&self, what: PollFlags, limit: Duration) -> Result<bool, Ended> {
        let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: 0 };
        let mut fds = [
            PollFd::new(&self.stream, what),
            PollFd::from_borrowed_fd(self.cancel.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, Some(&limit)) {
            Ok(_) if self.cancel.fired() => Err(Ended),
            Ok(0) => Ok(false),
            Ok(_) | Err(Errno::INTR) => Ok(true),
            Err(_) => Err(Ended),
        }
    }
}

/// Returns what a status is called (RFC 9110, 15).
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    }
}
