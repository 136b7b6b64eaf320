//! A terminal for a program inside. It is made inside, so nothing typed there can reach the
//! person's own terminal by itself (a program that holds that could push commands into it); bake
//! carries the bytes between the two.
//!
//! ```text
//! person's terminal, raw ◄── relay ──► controlling side ═══ /dev/pts/N ◄──► program
//!                                      (sent out over a socket by the init)
//! ```

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize};

pub use super::job::Socket;
use super::stream::write_all;
use super::{spawn, wire};

/// The person's terminal, lent to one program.
#[derive(Debug)]
pub struct Lent {
    socket: OwnedFd,
    resized: UnixStream,
    resized_id: signal_hook::SigId,
}

/// Whether standard input and output are terminals.
#[must_use]
pub fn there() -> bool {
    rustix::termios::isatty(rustix::stdio::stdin())
        && rustix::termios::isatty(rustix::stdio::stdout())
}

/// Lends the terminal at standard input and output: the first goes with
/// [`super::Streams::Terminal`], the second is to be relayed on a thread of its own meanwhile.
pub fn lend() -> io::Result<(Socket, Lent)> {
    let size = size()?;
    let (ours, theirs) = wire::pair()?;
    let (resized, notify) = UnixStream::pair()?;
    resized.set_nonblocking(true)?;
    let resized_id = signal_hook::low_level::pipe::register(signal_hook::consts::SIGWINCH, notify)?;
    Ok((
        Socket { fd: theirs, size: (size.ws_row, size.ws_col) },
        Lent { socket: ours, resized, resized_id },
    ))
}

fn size() -> io::Result<Winsize> {
    Ok(rustix::termios::tcgetwinsize(rustix::stdio::stdin())?)
}

impl Lent {
    /// Carries what is typed and what is shown, until the program and everybody else inside has let
    /// go of its terminal. Returns at once where the job ends without having started it.
    pub fn relay(self) -> io::Result<()> {
        let Some((_, files)) = wire::receive::<String>(&self.socket)? else { return Ok(()) };
        let Some(master) = files.into_iter().next() else { return Ok(()) };
        spawn::nonblocking(&master)?;
        let _raw = Raw::set()?;
        // It may have changed between the question and now.
        let _ = size().and_then(|size| Ok(rustix::termios::tcsetwinsize(&master, size)?));
        self.carry(&master)
    }

    fn carry(&self, master: &OwnedFd) -> io::Result<()> {
        let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
        let mut typed: Vec<u8> = vec![];
        let mut listening = true;
        let mut buffer = [0; 8192];
        loop {
            let out = if typed.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            let mut fds = vec![
                PollFd::new(master, PollFlags::IN | out),
                PollFd::new(&self.resized, PollFlags::IN),
            ];
            // What was typed waits until the program takes it.
            if listening && typed.is_empty() {
                fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
            }
            match rustix::event::poll(&mut fds, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let seen: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            if !seen[1].is_empty() {
                let mut resized = &self.resized;
                while matches!(resized.read(&mut buffer), Ok(n) if n > 0) {}
                let _ = size().and_then(|size| Ok(rustix::termios::tcsetwinsize(master, size)?));
            }
            if seen.get(2).is_some_and(|seen| !seen.is_empty()) {
                match rustix::io::read(stdin, &mut buffer) {
                    // Hung up: the program notices by the end of its own terminal, when the job
                    // ends.
                    Ok(0) => listening = false,
                    Ok(n) => typed.extend_from_slice(&buffer[..n]),
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    Err(_) => listening = false,
                }
            }
            if !typed.is_empty() {
                match rustix::io::write(master, &typed) {
                    Ok(n) => drop(typed.drain(..n)),
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    Err(_) => typed.clear(),
                }
            }
            if seen[0].intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                match rustix::io::read(master, &mut buffer) {
                    // EIO: nobody has the other side open any more.
                    Ok(0) | Err(Errno::IO) => return Ok(()),
                    Ok(n) => write_all(stdout, &buffer[..n])?,
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        signal_hook::low_level::unregister(self.resized_id);
    }
}

/// Carries what is typed to `stream`, and what comes from there to standard output, with the
/// person's terminal in raw mode where there is one; `first` came already. Ends where the stream
/// does, where `over` says so, which is asked twice a second, and where `leave` is typed at the
/// terminal: then it returns true. `shown` gets to know all that is shown.
///
/// # Errors
/// Where the terminal cannot be set, or standard output takes nothing any more.
pub fn console(
    stream: &UnixStream,
    first: &[u8],
    leave: u8,
    over: &dyn Fn() -> bool,
    shown: &mut dyn FnMut(&[u8]),
) -> io::Result<bool> {
    let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let terminal = there();
    let _raw = if terminal { Some(Raw::set()?) } else { None };
    write_all(stdout, first)?;
    let soon = rustix::event::Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
    let (mut listening, mut buffer) = (true, [0; 8192]);
    while !over() {
        let mut fds = vec![PollFd::new(stream, PollFlags::IN)];
        if listening {
            fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }
        match rustix::event::poll(&mut fds, Some(&soon)) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let seen: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        if seen.get(1).is_some_and(|seen| !seen.is_empty()) {
            match rustix::io::read(stdin, &mut buffer) {
                Ok(n) if terminal && buffer[..n].contains(&leave) => return Ok(true),
                // Nobody types any more; the machine goes on.
                Ok(0) => listening = false,
                Ok(n) => listening = write_all(stream.as_fd(), &buffer[..n]).is_ok(),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => listening = false,
            }
        }
        if !seen[0].is_empty() {
            match rustix::io::read(stream, &mut buffer) {
                Ok(0) | Err(Errno::CONNRESET) => break,
                Ok(n) => {
                    write_all(stdout, &buffer[..n])?;
                    shown(&buffer[..n]);
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(false)
}

/// The person's terminal in raw mode, until dropped.
struct Raw(Termios);

impl Raw {
    fn set() -> io::Result<Self> {
        let before = rustix::termios::tcgetattr(rustix::stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.0);
        let _ = io::stdout().flush();
    }
}

/// In the init: makes a terminal of this root. Returns the controlling side and the program's.
pub(super) fn make((rows, columns): (u16, u16)) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&ours)?;
    let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags)?;
    rustix::termios::tcsetwinsize(
        &theirs,
        Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 },
    )?;
    Ok((ours, theirs))
}
