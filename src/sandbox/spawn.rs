//! The big process's handles on its supervisor and on jobs, none of which outlives its owner.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use rustix::process::{Pid, WaitOptions};

use super::plan::{self, Blobs, Interpreter, JobPlan};
use super::{sys, wire};

/// Copies the helper program into sealed memory. A hostile image can make the kernel run what
/// `/proc/self/exe` names inside (a script whose interpreter is that), with its own libraries; it
/// then holds a copy, not the host's file, which a user's own root inside could otherwise change.
pub(super) fn seal(program: &Path) -> io::Result<OwnedFd> {
    const MFD_EXEC: u32 = 0x10;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Has to be explicit since Linux 6.3; before that unknown, and memory files are always
    // executable.
    let fd = match rustix::fs::memfd_create("bake", flags | MemfdFlags::from_bits_retain(MFD_EXEC))
    {
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create("bake", flags)?,
        other => other?,
    };
    let mut copy = File::from(fd);
    let mut program = File::open(program)?;
    let needed = runnable(&program).unwrap_or(u64::MAX);
    program.rewind()?;
    io::copy(&mut program.take(needed), &mut copy)?;
    rustix::fs::fcntl_add_seals(
        &copy,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(copy.into())
}

/// Opens the helper program through a read-only mount of its own, which nobody else can reach: as
/// good as a copy against being written to, and free. Only the host's root can make one.
pub(super) fn shield(program: &Path) -> io::Result<OwnedFd> {
    let file = rustix::fs::open(program, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = rustix::mount::open_tree(&file, "", flags)?;
    let set = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    sys::mount_setattr(mount.as_fd(), set.bits().into(), false, None)?;
    Ok(mount)
}

/// How much of a program has to be in memory to run it: what stands behind its last segment (debug
/// information, which can be most of a file) does not. `None` where this is no ELF file of 64 bits.
fn runnable(mut program: &File) -> Option<u64> {
    let mut head = [0; 64];
    program.read_exact(&mut head).ok()?;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, each, count) = (word(&head, 32, 8)?, word(&head, 54, 2)?, word(&head, 56, 2)?);
    let mut rows = vec![0; usize::try_from(each.checked_mul(count)?).ok()?];
    program.seek(io::SeekFrom::Start(table)).ok()?;
    program.read_exact(&mut rows).ok()?;
    let mut end = table.checked_add(each * count)?;
    for row in rows.chunks_exact(usize::try_from(each).ok().filter(|each| *each >= 56)?) {
        end = end.max(word(row, 8, 8)?.checked_add(word(row, 32, 8)?)?);
    }
    Some(end)
}

/// A little-endian number of `len` bytes, at most 8, at `at`.
pub(super) fn word(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let mut word = [0; 8];
    word.get_mut(..len)?.copy_from_slice(bytes.get(at..at.checked_add(len)?)?);
    Some(u64::from_le_bytes(word))
}

/// The session's supervisor. Dropping it ends it and everything below.
pub(super) struct Supervisor {
    pid: Pid,
    /// Closing this is the order to end. Locked, as a message with many files is several datagrams.
    socket: Mutex<Option<OwnedFd>>,
}

/// What a job's helper gets besides its plan.
pub(super) struct Extra<'a> {
    pub(super) stdout: BorrowedFd<'a>,
    pub(super) stderr: BorrowedFd<'a>,
    pub(super) replies: BorrowedFd<'a>,
    /// Where the network of the job leads, if that is one of its own.
    pub(super) outlet: Option<BorrowedFd<'a>>,
    pub(super) files: &'a [OwnedFd],
}

impl Supervisor {
    /// Starts `program` as supervisor. It says at once whether it could make a user namespace.
    pub(super) fn start(program: &OwnedFd) -> io::Result<(Self, Option<plan::Event>)> {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let (socket, its_end) = wire::pair()?;
        let pid = sys::spawn(
            program.as_fd(),
            plan::ARGV0,
            &[null.as_fd(), null.as_fd(), null.as_fd(), its_end.as_fd()],
        )?;
        drop(its_end);
        let supervisor = Self { pid, socket: Mutex::new(Some(socket)) };
        let event = wire::receive(supervisor.socket().as_ref().expect("taken in drop only"))?;
        Ok((supervisor, event.map(|(event, _)| event)))
    }

    fn socket(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports that the ids are mapped; returns what the supervisor says to the emulator that the
    /// session is to register, where there is one.
    pub(super) fn mapped(&self, emulator: Option<&Interpreter>) -> io::Result<Option<plan::Event>> {
        let socket = self.socket();
        let socket = socket.as_ref().expect("taken in drop only");
        wire::send(socket, &plan::Order::Mapped { emulator: emulator.cloned() }, &[])?;
        match emulator {
            Some(_) => Ok(wire::receive(socket)?.map(|(event, _)| event)),
            None => Ok(Some(plan::Event::Ready(0))),
        }
    }

    /// Starts a job.
    pub(super) fn start_job(
        &self,
        plan: &JobPlan,
        blobs: &Blobs,
        extra: Extra<'_>,
    ) -> io::Result<Running> {
        let mut plan_file = File::from(rustix::fs::memfd_create("plan", MemfdFlags::CLOEXEC)?);
        plan_file.write_all(&plan::encode(plan, blobs)?)?;
        plan_file.rewind()?;
        let (events, events_end) = io::pipe()?;
        let (control_end, control) = io::pipe()?;
        let (ended, ended_end) = io::pipe()?;
        let (events, control) =
            (File::from(OwnedFd::from(events)), Some(File::from(OwnedFd::from(control))));
        nonblocking(&events)?;
        let mut files = vec![plan_file.as_fd(), events_end.as_fd(), control_end.as_fd()];
        files.extend([extra.stdout, extra.stderr, extra.replies, ended_end.as_fd()]);
        files.extend(extra.outlet);
        files.extend(extra.files.iter().map(AsFd::as_fd));
        let order = plan::Order::Job { network: plan.network };
        wire::send(self.socket().as_ref().expect("taken in drop only"), &order, &files)?;
        Ok(Running { control, events, ended: ended.into() })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        *self.socket() = None;
        // It ends at once: a session is dropped when its last job has ended. There is no error for
        // a child of ours but a signal.
        while matches!(
            rustix::process::waitpid(Some(self.pid), WaitOptions::empty()),
            Err(rustix::io::Errno::INTR)
        ) {}
    }
}

/// A job at work. Dropping it kills everything inside and waits for the end.
pub(super) struct Running {
    /// Closing this is the order to die.
    control: Option<File>,
    /// Frames of [`plan::Event`]; not blocking.
    pub(super) events: File,
    /// The other end is closed when the helper has ended, and with it everything inside.
    ended: OwnedFd,
}

impl Running {
    /// Hangs up when the job has ended, and everything inside is dead.
    pub(super) fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// Orders the helper to kill everything inside and end.
    pub(super) fn kill(&mut self) {
        self.control = None;
    }

    /// Whether that was ordered.
    pub(super) fn killed(&self) -> bool {
        self.control.is_none()
    }

    /// Lets the init go on to the next action.
    pub(super) fn go_on(&self) -> io::Result<()> {
        self.order(plan::GO_ON)
    }

    /// Has the init send a signal to the program that runs.
    pub(super) fn signal(&self, number: u8) -> io::Result<()> {
        self.order(plan::SIGNAL.saturating_add(number))
    }

    /// Asks the init which processes are alive.
    pub(super) fn who(&self) -> io::Result<()> {
        self.order(plan::WHO)
    }

    fn order(&self, byte: u8) -> io::Result<()> {
        match &self.control {
            None => Ok(()),
            Some(control) => match (&*control).write_all(&[byte]) {
                // It is on its way out; how it ended is reported elsewhere.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                result => result,
            },
        }
    }

    /// Waits for the end, after [`Self::kill`] or when [`Self::ended`] has hung up.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        self.kill();
        // The second for the case that the supervisor itself was killed: the helper and the init
        // hold that pipe as long as they live.
        for pipe in [self.ended.as_fd(), self.events.as_fd()] {
            loop {
                let mut fds = [PollFd::from_borrowed_fd(pipe, PollFlags::empty())];
                match rustix::event::poll(&mut fds, None) {
                    Ok(_) if fds[0].revents().is_empty() => {}
                    Ok(_) => break,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing can be done about an error here, and there is none for pipes of ours.
        let _ = self.wait();
    }
}

/// Makes reads return at once.
pub(super) fn nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?)
}

/// What a file of the kernel says, trimmed; `None` if there is none.
pub(super) fn kernel_says(path: &str) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}
