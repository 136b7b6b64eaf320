//! One direction of a connection: from one socket to another, through a pipe of the kernel's, so
//! that nothing is copied into this process.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::pipe::{PipeFlags, SpliceFlags};

use super::requests::{NotClear, Rewriter};

/// Bytes that a pipe holds at most: what a user may ask for (pipe(7)).
const SIZE: usize = 1 << 20;
/// Empty pipes that are kept.
const SPARE: usize = 16;
/// Bytes that are moved before others get their turn.
const TURN: u64 = 8 << 20;

/// Empty pipes.
#[derive(Debug, Default)]
pub(super) struct Pipes(Vec<(OwnedFd, OwnedFd)>);

impl Pipes {
    fn take(&mut self) -> io::Result<(OwnedFd, OwnedFd)> {
        if let Some(pipe) = self.0.pop() {
            return Ok(pipe);
        }
        let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A user with many pipes gets small ones: slower, and as good.
        let _ = rustix::pipe::fcntl_setpipe_size(&pipe.1, SIZE);
        Ok(pipe)
    }

    fn give(&mut self, pipe: (OwnedFd, OwnedFd)) {
        if self.0.len() < SPARE {
            self.0.push(pipe);
        }
    }
}

/// How far a direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It waits for one of its sockets.
    Waiting,
    /// There is more to do at once.
    More,
    /// Its source has ended, and all is carried.
    Done,
}

/// Which side of a direction has broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Its source.
    From,
    /// Where it leads.
    To,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// With what it holds.
    pipe: Option<((OwnedFd, OwnedFd), usize)>,
    /// What is to be sent before anything else.
    first: Vec<u8>,
    /// What is sent are requests that become a proxy's.
    pub(super) rewriter: Option<Rewriter>,
    ended: bool,
    done: bool,
    /// Bytes that arrived on the other side, of the source's.
    pub(super) carried: u64,
}

impl Flow {
    /// Whether something that was taken has not been handed on.
    pub(super) fn owes(&self) -> bool {
        !self.done && (self.ended || self.pipe.is_some() || !self.first.is_empty())
    }

    /// Ends it where it is: nobody takes what is left.
    pub(super) fn give_up(&mut self) {
        (self.pipe, self.done) = (None, true);
        self.first.clear();
    }

    /// Moves what can be moved without waiting.
    ///
    /// # Errors
    /// Where a side has broken off.
    pub(super) fn pump(
        &mut self,
        from: &TcpStream,
        to: &TcpStream,
        pipes: &mut Pipes,
    ) -> Result<State, Broken> {
        if self.done {
            return Ok(State::Done);
        }
        if self.rewriter.is_some() {
            return self.pump_requests(from, to);
        }
        let until = self.carried + TURN;
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        loop {
            if let Some((pipe, held)) = &mut self.pipe {
                match rustix::pipe::splice(&pipe.0, None, to, None, *held, flags) {
                    Ok(moved) => {
                        *held -= moved;
                        self.carried += moved as u64;
                        if *held > 0 {
                            continue;
                        }
                        self.pipe.take().into_iter().for_each(|(pipe, _)| pipes.give(pipe));
                    }
                    Err(Errno::AGAIN) => return Ok(State::Waiting),
                    Err(Errno::INTR) => continue,
                    Err(_) => return Err(Broken::To),
                }
            }
            if self.ended {
                self.done = true;
                // It may have gone away by itself.
                let _ = to.shutdown(Shutdown::Write);
                return Ok(State::Done);
            }
            if self.carried >= until {
                return Ok(State::More);
            }
            // Without one nothing goes on.
            let pipe = pipes.take().map_err(|_| Broken::From)?;
            match rustix::pipe::splice(from, None, &pipe.1, None, SIZE, flags) {
                Ok(0) => {
                    self.ended = true;
                    pipes.give(pipe);
                }
                Ok(held) => self.pipe = Some((pipe, held)),
                Err(error) => {
                    pipes.give(pipe);
                    match error {
                        Errno::AGAIN => return Ok(State::Waiting),
                        Errno::INTR => {}
                        _ => return Err(Broken::From),
                    }
                }
            }
        }
    }

    /// The same, where requests are rewritten on their way.
    fn pump_requests(&mut self, mut from: &TcpStream, to: &TcpStream) -> Result<State, Broken> {
        loop {
            while !self.first.is_empty() {
                match rustix::net::send(to, &self.first, SendFlags::NOSIGNAL) {
                    Ok(sent) => drop(self.first.drain(..sent)),
                    Err(Errno::AGAIN) => return Ok(State::Waiting),
                    Err(Errno::INTR) => {}
                    Err(_) => return Err(Broken::To),
                }
            }
            if self.ended {
                self.done = true;
                let _ = to.shutdown(Shutdown::Write);
                return Ok(State::Done);
            }
            let mut piece = [0; 64 * 1024];
            match from.read(&mut piece) {
                Ok(0) => self.ended = true,
                Ok(got) => {
                    self.carried += got as u64;
                    let rewriter = self.rewriter.as_mut().ok_or(Broken::From)?;
                    let taken = rewriter.take(&piece[..got], &mut self.first);
                    taken.map_err(|NotClear| Broken::From)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(State::Waiting);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken::From),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (other, _) = listener.accept().unwrap();
        (one, other)
    }

    #[test]
    fn a_flow_carries_all_and_passes_on_the_end() {
        let ((mut client, from), (to, mut server)) = (pair(), pair());
        for socket in [&from, &to] {
            socket.set_nonblocking(true).unwrap();
        }
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let wanted = sent.clone();
        let reader = std::thread::spawn(move || {
            let mut got = vec![];
            server.read_to_end(&mut got).unwrap();
            got
        });
        let writer = std::thread::spawn(move || client.write_all(&sent).unwrap());
        let (mut flow, mut pipes) = (Flow::default(), Pipes::default());
        while flow.pump(&from, &to, &mut pipes).unwrap() != State::Done {
            std::thread::yield_now();
        }
        writer.join().unwrap();
        assert!(reader.join().unwrap() == wanted);
        assert_eq!(flow.carried, 3_000_000);
        assert!(!flow.owes());
    }
}
