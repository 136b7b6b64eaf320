//! Turns a fresh child of the init into a step's program: as the wanted user, with the rights of a
//! Docker build step and no more.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::job::Exec;
use super::{passwd, seccomp, sys};
use crate::rootfs::PATH;
use crate::rootfs::accounts::{Ids, Login};

/// Docker's default, less MKNOD.
const KEPT: CapabilitySet = CapabilitySet::AUDIT_WRITE
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SYS_CHROOT);

const OPEN_FILES: u64 = 1_048_576;
const STACK: u64 = 8 << 20;
/// Processes of other jobs of the session; and so many that the watch sees them before they are
/// gone.
const WALL: u64 = 4096;
/// How much sooner than others a program is chosen where the machine's memory is gone.
const OOM_SCORE: &str = "300";

/// How a program runs.
pub(super) struct How<'a> {
    pub(super) streams: &'a Streams,
    /// Its filter of system calls.
    pub(super) filter: &'a [u8],
    /// How many processes and threads there may be.
    pub(super) processes: u64,
}

/// What a program reads and writes.
pub(super) enum Streams {
    /// Nothing, and the output of the job.
    Step,
    /// Nothing, and this for both outputs.
    Output(OwnedFd),
    /// These, from standard input on.
    Own([OwnedFd; 3]),
    /// This terminal.
    Terminal(OwnedFd),
}

/// Becomes the program, with these secrets as variables; returns only with the reason why that
/// failed. `hand_over` gets what [`seccomp::apply`] returned.
pub(super) fn become_program<'a>(
    exec: &Exec,
    secrets: impl Iterator<Item = (&'a str, &'a [u8])>,
    how: &How<'_>,
    hand_over: impl FnOnce(OwnedFd) -> io::Result<()>,
) -> String {
    match prepare(exec, how, hand_over) {
        Ok(()) => start(exec, &secrets.collect::<Vec<_>>()),
        Err(error) => error,
    }
}

fn prepare(
    exec: &Exec,
    how: &How<'_>,
    hand_over_listener: impl FnOnce(OwnedFd) -> io::Result<()>,
) -> Result<(), String> {
    let How { streams, filter, processes } = *how;
    if exec.argv.is_empty() {
        return Err("there is no program to run".into());
    }
    let who = passwd::look_up(&exec.user)?;
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: rustix::io::Errno| format!("cannot {what}: {}", io::Error::from(error))
    };
    rustix::process::setsid().map_err(failed("start a session"))?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed("open /dev/null"))?;
    connect(streams, &null).map_err(failed("connect the standard streams"))?;
    hand_over(streams, &who)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let cwd = Path::new("/").join(&exec.cwd);
    std::fs::create_dir_all(&cwd)
        .and_then(|()| std::env::set_current_dir(&cwd))
        .map_err(|e| format!("cannot enter the directory {}: {e}", cwd.display()))?;
    limits(processes).map_err(failed("set resource limits"))?;
    // It only serves to choose; and a program that is not to be chosen can say so.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    become_user(&who).map_err(|error| format!("cannot become user '{}': {error}", exec.user))?;
    // From here on the child can do nothing that the step could not. Descriptors other than 0, 1, 2
    // vanish when the program starts.
    sys::cloexec_from(3).map_err(|error| format!("cannot close descriptors: {error}"))?;
    seccomp::apply(filter)
        .and_then(hand_over_listener)
        .map_err(|error| format!("cannot set the system call filter: {error}"))
}

fn connect(streams: &Streams, null: &OwnedFd) -> rustix::io::Result<()> {
    match streams {
        Streams::Step => rustix::stdio::dup2_stdin(null),
        Streams::Output(output) => {
            rustix::stdio::dup2_stdin(null)?;
            rustix::stdio::dup2_stdout(output)?;
            rustix::stdio::dup2_stderr(output)
        }
        Streams::Own([stdin, stdout, stderr]) => {
            rustix::stdio::dup2_stdin(stdin)?;
            rustix::stdio::dup2_stdout(stdout)?;
            rustix::stdio::dup2_stderr(stderr)
        }
        Streams::Terminal(terminal) => {
            // The session, which is new, has it as its own: Ctrl-C and job control work.
            rustix::process::ioctl_tiocsctty(terminal)?;
            rustix::stdio::dup2_stdin(terminal)?;
            rustix::stdio::dup2_stdout(terminal)?;
            rustix::stdio::dup2_stderr(terminal)
        }
    }
}

/// The pipes become the program's: it may open /dev/stdout, which asks for the pipe's own
/// permission.
fn hand_over(streams: &Streams, who: &Login) -> Result<(), String> {
    let mut fds = vec![rustix::stdio::stdout(), rustix::stdio::stderr()];
    if let Streams::Own(_) | Streams::Terminal(_) = streams {
        fds.push(rustix::stdio::stdin());
    }
    for fd in fds {
        let own = rustix::fs::fchown(
            fd,
            Some(rustix::fs::Uid::from_raw(who.ids.uid)),
            Some(rustix::fs::Gid::from_raw(who.ids.gid)),
        );
        // An earlier program may have left the shared pipe non-blocking.
        let blocking = rustix::fs::fcntl_getfl(fd)
            .and_then(|flags| rustix::fs::fcntl_setfl(fd, flags - OFlags::NONBLOCK));
        own.and(blocking).map_err(|error| match error {
            rustix::io::Errno::INVAL => outside(who),
            error => format!("hand over the standard streams: {}", io::Error::from(error)),
        })?;
    }
    Ok(())
}

/// The user namespace has no such ids.
fn outside(who: &Login) -> String {
    let Ids { uid, gid } = who.ids;
    format!("the owner {uid}:{gid} is outside the ids that this host gives to the sandbox")
}

fn limits(processes: u64) -> rustix::io::Result<()> {
    let lower = |resource, wanted: u64| {
        // Inside a user namespace nobody may exceed what the host allows.
        let hard = rustix::process::getrlimit(resource).maximum;
        let value = hard.map_or(wanted, |hard| hard.min(wanted));
        rustix::process::setrlimit(
            resource,
            Rlimit { current: Some(value), maximum: if wanted == 0 { Some(0) } else { hard } },
        )
    };
    // A wall behind the watch, which looks now and then: the kernel counts per user of the session,
    // so that what other jobs have is in it too. Only the soft limit, which programs may raise.
    lower(Resource::Nproc, processes.saturating_mul(2).saturating_add(WALL))?;
    lower(Resource::Core, 0)?;
    lower(Resource::Stack, STACK)?;
    lower(Resource::Nofile, OPEN_FILES)
}

fn become_user(who: &Login) -> io::Result<()> {
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if KEPT.contains(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // Past the last one that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let gid = rustix::process::Gid::from_raw(who.ids.gid);
    let uid = rustix::process::Uid::from_raw(who.ids.uid);
    let groups: Vec<_> =
        who.groups.iter().map(|gid| rustix::process::Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    let kept = if who.ids.uid == 0 { KEPT } else { CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )?)
}

fn start(exec: &Exec, secrets: &[(&str, &[u8])]) -> String {
    let name = &exec.argv[0];
    let mut env = exec.env.clone();
    if let Some(home) = env.get_mut("HOME").filter(|home| *home == "~") {
        *home = passwd::home(rustix::process::geteuid().as_raw());
    }
    let attempt = |path: &Path| {
        let mut command = Command::new(path);
        command.arg0(name).args(&exec.argv[1..]).env_clear().envs(&env);
        command.envs(secrets.iter().map(|(name, value)| (name, OsStr::from_bytes(value))));
        let error = command.exec();
        (error.raw_os_error(), error)
    };
    if name.contains('/') {
        let (errno, error) = attempt(Path::new(name));
        return explain(Path::new(name), errno, &error);
    }
    let path = exec.env.get("PATH").map_or(PATH, String::as_str);
    let mut refused = None;
    for dir in path.split(':') {
        let candidate =
            if dir.is_empty() { PathBuf::from(".").join(name) } else { Path::new(dir).join(name) };
        let (errno, error) = attempt(&candidate);
        match errno {
            Some(libc::ENOENT | libc::ENOTDIR) if !candidate.exists() => {}
            // Another directory may have one that can be started.
            Some(libc::EACCES) => {
                refused = refused.or_else(|| Some(explain(&candidate, errno, &error)))
            }
            _ => return explain(&candidate, errno, &error),
        }
    }
    refused.unwrap_or_else(|| format!("there is no program '{name}' in {path} of the image"))
}

fn explain(path: &Path, errno: Option<i32>, error: &io::Error) -> String {
    let shown = path.display();
    match errno {
        Some(libc::ENOENT) if path.exists() => {
            format!("{shown} is in the image, but what it needs to start is not: {}", needs(path))
        }
        Some(libc::ENOENT | libc::ENOTDIR) => format!("there is no program {shown} in the image"),
        Some(libc::EACCES) if path.is_dir() => format!("{shown} is a directory, not a program"),
        Some(libc::EACCES) => {
            format!("{shown} may not be executed by this user (is it executable?)")
        }
        Some(libc::ENOEXEC) => format!(
            "{shown} is neither a program for this machine nor a script that starts with #!"
        ),
        Some(libc::E2BIG) => format!("the arguments and environment of {shown} are too long"),
        _ => format!("{shown} could not be started: {error}"),
    }
}

/// Names the missing interpreter of a script, or says that it is the loader of a program.
fn needs(path: &Path) -> String {
    use std::io::Read;
    let mut head = vec![];
    // Reading is a courtesy: it changes nothing but the wording.
    let _ = std::fs::File::open(path).and_then(|file| file.take(256).read_to_end(&mut head));
    match head.strip_prefix(b"#!") {
        Some(line) => {
            let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
            if line.ends_with(b"\r") {
                return "its lines end in CR LF, and the CR is a part of the interpreter's name"
                    .into();
            }
            let line = line.trim_ascii();
            let interpreter = line.split(|b| b.is_ascii_whitespace()).next().unwrap_or_default();
            format!("the interpreter {}", Path::new(OsStr::from_bytes(interpreter)).display())
        }
        None => "the dynamic loader or a library".into(),
    }
}
