//! Starts helpers from the big process, and never lets one outlive its owner.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::MemfdFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::SealFlags;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::WaitOptions;

use super::plan;
use super::plan::Blobs;
use super::plan::Plan;
use super::sys;

/// Copies the helper program into sealed memory. A hostile image can make the kernel run what `/proc/self/exe` names inside (a
/// script whose interpreter is that), with its own libraries; it then holds a copy, not the host's file, which a user's own root
/// inside could otherwise change.
pub(super) fn seal(program: &Path) -> io::Result<OwnedFd> {
    const MFD_EXEC: u32 = 0x10;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Said outright since Linux 6.3; before that unknown, and memory files are always executable.
    let fd = match rustix::fs::memfd_create("bake", flags | MemfdFlags::from_bits_retain(MFD_EXEC)) {
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create("bake", flags)?,
        other => other?,
    };
    let mut copy = File::from(fd);
    io::copy(&mut File::open(program)?, &mut copy)?;
    rustix::fs::fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(copy.into())
}

/// A helper at work. Dropping it kills everything inside and waits for the end.
pub(super) struct Running {
    pid: Pid,
    pidfd: OwnedFd,
    /// Closing this is the order to die.
    control: Option<File>,
    reaped: bool,
    /// Frames of [`plan::Event`]; not blocking.
    pub(super) events: File,
}

/// What a job's helper gets besides.
pub(super) struct Extra<'a> {
    pub(super) stdout: BorrowedFd<'a>,
    pub(super) stderr: BorrowedFd<'a>,
    pub(super) said: BorrowedFd<'a>,
    pub(super) userns: BorrowedFd<'a>,
    pub(super) files: Vec<BorrowedFd<'a>>,
}

impl Running {
    /// Starts `program` as helper with `plan`.
    pub(super) fn start(program: &OwnedFd, plan: &Plan, blobs: &Blobs, extra: Option<Extra<'_>>) -> io::Result<Self> {
        let mut plan_file = File::from(rustix::fs::memfd_create("plan", MemfdFlags::CLOEXEC)?);
        plan_file.write_all(&plan::encode(plan, blobs)?)?;
        plan_file.rewind()?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let (events, events_end) = io::pipe()?;
        let (control_end, control) = io::pipe()?;
        let events = File::from(OwnedFd::from(events));
        nonblocking(&events)?;
        let mut fds = vec![null.as_fd(), null.as_fd(), null.as_fd(), plan_file.as_fd(), events_end.as_fd(), control_end.as_fd()];
        if let Some(extra) = extra {
            (fds[1], fds[2]) = (extra.stdout, extra.stderr);
            fds.extend([extra.said, extra.userns]);
            fds.extend(extra.files);
        }
        let pid = sys::spawn(program.as_fd(), plan::ARGV0, &fds)?;
        let control = Some(File::from(OwnedFd::from(control)));
        // Nobody else waits for this child, so the id cannot have been given away.
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self { pid, pidfd, control, reaped: false, events }),
            Err(error) => {
                drop(control);
                rustix::process::waitpid(Some(pid), WaitOptions::empty())?;
                Err(error.into())
            }
        }
    }

    /// The process id of the helper.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Readable when the helper has ended, and with it everything inside.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Orders the helper to kill everything inside and end.
    pub(super) fn kill(&mut self) {
        self.control = None;
    }

    /// Lets the init go on to the next action.
    pub(super) fn go_on(&self) -> io::Result<()> {
        match &self.control {
            None => Ok(()),
            Some(control) => match (&*control).write_all(b"\n") {
                // It is on its way out; how it ended is heard elsewhere.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                result => result,
            },
        }
    }

    /// Waits for the end of the helper, after [`Self::kill`] or when its pidfd is readable.
    pub(super) fn reap(&mut self) -> io::Result<()> {
        while !self.reaped {
            match rustix::process::waitpid(Some(self.pid), WaitOptions::empty()) {
                Ok(_) | Err(rustix::io::Errno::CHILD) => self.reaped = true,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        // Nothing can be done about an error here, and there is none for a child of ours.
        let _ = self.reap();
    }
}

/// Makes reads return at once.
pub(super) fn nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?)
}

/// Waits for the helper's first event, blocking.
pub(super) fn first_event(running: &Running) -> io::Result<Option<plan::Event>> {
    let mut frames = plan::Frames::default();
    loop {
        let more = frames.fill(&running.events)?;
        if let Some(event) = frames.next()? {
            return Ok(Some(event));
        }
        if !more {
            return Ok(None);
        }
        let mut fds = [rustix::event::PollFd::new(&running.events, rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a file of the kernel says, trimmed; `None` if there is none.
pub(super) fn kernel_says(path: &str) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}
