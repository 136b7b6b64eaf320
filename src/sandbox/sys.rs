//! The only `unsafe` code of bake: thin wrappers over calls that neither std nor rustix offers
//! safely. No decisions here.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{io, ptr};

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// Set once by [`enter_helper`]: from then on this process has a single thread, and inherited
/// descriptors may be adopted.
static HELPER: AtomicBool = AtomicBool::new(false);
/// The lowest inherited descriptor that nobody owns yet.
static NEXT_FD: AtomicUsize = AtomicUsize::new(3);

/// Declares this process a sandbox helper. Called first in `main`, before any thread or descriptor
/// of our own exists.
pub(super) fn enter_helper() {
    HELPER.store(true, Ordering::SeqCst);
}

/// Takes ownership of the next inherited descriptor, in order from 3.
pub(super) fn next_inherited_fd() -> io::Result<OwnedFd> {
    assert!(HELPER.load(Ordering::SeqCst), "only a sandbox helper inherits descriptors");
    let fd = RawFd::try_from(NEXT_FD.fetch_add(1, Ordering::SeqCst)).map_err(io::Error::other)?;
    // SAFETY: F_GETFD only asks about a number.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open (just asked), came from our parent, and the counter hands out
    // each number once; nothing in a helper opens descriptors before all inherited ones are taken.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes ownership of descriptor 3, where the caller knows that a service manager has opened it for
/// this program (sd_listen_fds(3)). `None` where it is not open, and after the first call.
pub(crate) fn activation_fd() -> Option<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    // SAFETY: F_GETFD only asks about a number.
    if TAKEN.swap(true, Ordering::SeqCst) || unsafe { libc::fcntl(3, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: the descriptor is open (just asked) and was so when the program began, so that
    // nothing in it has opened it; the flag hands it out once, and only helpers take inherited ones
    // otherwise.
    Some(unsafe { OwnedFd::from_raw_fd(3) })
}

/// What [`fork`] returned.
pub(super) enum Forked {
    /// In the new process.
    Child,
    /// In the old one.
    Parent(Pid),
}

/// Forks a helper. Panics outside a helper: forking the big process is slow, and with threads
/// unsound.
pub(super) fn fork() -> io::Result<Forked> {
    assert!(HELPER.load(Ordering::SeqCst), "only a single-threaded helper may fork");
    // SAFETY: a helper has one thread at every place that forks (calls, which may start threads,
    // run in leaf processes), so no lock can be held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(Pid::from_raw(pid).expect("fork returns a positive id"))),
    }
}

/// Ends this process at once, running nothing.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes any number and does not return.
    unsafe { libc::_exit(code) }
}

/// Kills every process that this one may signal, except itself; in a pid namespace's init:
/// everything in the namespace.
pub(super) fn kill_everyone_else() {
    // SAFETY: getpid takes nothing.
    let pid = unsafe { libc::getpid() };
    assert!(HELPER.load(Ordering::SeqCst) && pid == 1, "anywhere else this would hit strangers");
    // SAFETY: signals only; as process 1 of a pid namespace, -1 reaches that namespace alone. No
    // process left is not an error here.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Puts this process into fresh namespaces.
pub(super) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: `FILES` and `FS` are never among the flags, so no descriptor or directory changes
    // under another thread.
    unsafe {
        rustix::thread::unshare_unsafe(flags.difference(UnshareFlags::FILES | UnshareFlags::FS))
    }
    .map_err(Into::into)
}

/// Marks every descriptor from `first` on close-on-exec.
pub(super) fn cloexec_from(first: u32) -> io::Result<()> {
    // SAFETY: close-on-exec closes nothing that is in use now.
    let rc =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes every descriptor from `first` on.
pub(super) fn close_from(first: u32) -> io::Result<()> {
    assert!(HELPER.load(Ordering::SeqCst), "only a helper may close what it does not own");
    // SAFETY: called once at a helper's start with the number behind its last inherited descriptor,
    // when nothing above is owned.
    let rc = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `struct sock_fprog` of the kernel.
#[repr(C)]
struct Program {
    length: u16,
    steps: *const seccompiler::sock_filter,
}

/// Puts a filter of system calls on this process and on all that it becomes and starts; sets
/// no_new_privs, without which only root may. Returns the listener of `SECCOMP_RET_USER_NOTIF`.
pub(super) fn seccomp_filter(steps: &[seccompiler::sock_filter]) -> io::Result<OwnedFd> {
    rustix::thread::set_no_new_privs(true)?;
    let length = u16::try_from(steps.len()).map_err(io::Error::other)?;
    let program = Program { length, steps: steps.as_ptr() };
    // SAFETY: the kernel copies the program, whose steps live through the call and are `length`
    // many; `sock_filter` is the kernel's own layout.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A system call that a filter asks about.
pub(super) struct Asked {
    id: u64,
    pub(super) number: u32,
    pub(super) arguments: [u64; 6],
}

/// Takes the next question from the listener of a filter; waits for one. `None`: whoever asked is
/// gone.
pub(super) fn asked(listener: BorrowedFd<'_>) -> io::Result<Option<Asked>> {
    // SAFETY: plain data; all zeroes is what the kernel wants to find.
    let mut question: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the listener is open and the kernel writes one `seccomp_notif`.
    let rc = unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut question)
    };
    if rc == 0 {
        let data = question.data;
        let number = data.nr.cast_unsigned();
        return Ok(Some(Asked { id: question.id, number, arguments: data.args }));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        error => Err(error),
    }
}

/// Answers a question: the call fails with `errno`. Whoever asked may be gone.
pub(super) fn refuse(listener: BorrowedFd<'_>, asked: &Asked, errno: i32) -> io::Result<()> {
    let mut answer = libc::seccomp_notif_resp { id: asked.id, val: 0, error: -errno, flags: 0 };
    // SAFETY: the listener is open and the kernel reads one `seccomp_notif_resp`.
    let rc = unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer)
    };
    if rc == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        error => Err(error),
    }
}

/// `struct mount_attr` of the kernel.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes a detached mount: flags to set, private propagation, and optionally the id map of a user
/// namespace.
pub(super) fn mount_setattr(
    mount: BorrowedFd<'_>,
    set: u64,
    recursive: bool,
    idmap: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attr = MountAttr { set, propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    if let Some(userns) = idmap {
        attr.set |= u64::from(rustix::mount::MountAttrFlags::MOUNT_ATTR_IDMAP.bits());
        attr.userns_fd =
            u64::try_from(userns.as_raw_fd()).expect("an open descriptor is not negative");
    }
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a constant C string, `attr` is a live struct of exactly the size given,
    // and both descriptors are open.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Brings up the interface `lo` of the current network namespace.
pub(super) fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `ifreq` is plain data; all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l'.cast_signed() as libc::c_char;
    request.ifr_name[1] = b'o'.cast_signed() as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the socket is open, and the kernel reads one `ifreq`, which lives until the call
    // returns.
    let rc =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets an option of a socket that is one number.
pub(super) fn set_option(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: i32,
) -> io::Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the socket is open, and the kernel reads one number of the length given.
    let rc = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has a socket see those packets only that a filter lets through.
pub(super) fn attach_filter(
    socket: BorrowedFd<'_>,
    steps: &[seccompiler::sock_filter],
) -> io::Result<()> {
    let length = u16::try_from(steps.len()).map_err(io::Error::other)?;
    let program = Program { length, steps: steps.as_ptr() };
    // SAFETY: as in `seccomp_filter`; the socket is open, and the size is that of the struct.
    let rc = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<Program>() as libc::socklen_t,
        )
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes every descriptor from 3 on but these. The owners of the others are never dropped: what
/// calls this ends by [`exit_now`].
pub(super) fn keep_only(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    assert!(HELPER.load(Ordering::SeqCst), "only a helper may close what it does not own");
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    kept.sort_unstable();
    kept.push(u32::MAX);
    let mut first = 3;
    for fd in kept {
        if fd > first {
            // SAFETY: a forked child of a helper, which has one thread and from here on uses
            // nothing but what is kept.
            let rc = unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) };
            if rc < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        first = fd.saturating_add(1);
    }
    Ok(())
}

/// `struct landlock_ruleset_attr` of the kernel, ABI 6.
#[repr(C)]
struct LandlockRuleset {
    fs: u64,
    net: u64,
    scoped: u64,
}

/// Cuts this process and its descendants off from abstract unix sockets of everybody else. Fails
/// where Landlock is older than ABI 6.
pub(super) fn scope_abstract_sockets() -> io::Result<()> {
    const ABSTRACT_UNIX_SOCKET: u64 = 1;
    let ruleset = LandlockRuleset { fs: 0, net: 0, scoped: ABSTRACT_UNIX_SOCKET };
    // SAFETY: the struct lives through the call and its size is given.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const ruleset,
            size_of::<LandlockRuleset>(),
            0,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: an open ruleset and no flags; only this process's rights shrink.
    let rc = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, fd.as_raw_fd(), 0) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Spawns `program` (an open file) with the single argument `argv0`, no environment, default
/// signals, its own process group, and `fds` as its descriptors 0, 1, 2, …; other descriptors are
/// inherited only if some thread left them without close-on-exec.
pub(super) fn spawn(
    program: BorrowedFd<'_>,
    argv0: &CStr,
    fds: &[BorrowedFd<'_>],
) -> io::Result<Pid> {
    let floor = RawFd::try_from(fds.len() + 3).map_err(io::Error::other)?;
    // Every source is moved above the targets first, so that no dup2 overwrites a source that is
    // still needed.
    let high = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, floor);
    let program = high(program)?;
    let sources = fds.iter().map(|fd| high(*fd)).collect::<Result<Vec<_>, _>>()?;
    let path =
        CString::new(format!("/proc/self/fd/{}", program.as_raw_fd())).expect("digits hold no NUL");
    let mut actions = Actions::new()?;
    for (target, source) in sources.iter().enumerate() {
        actions.dup2(source.as_fd(), RawFd::try_from(target).map_err(io::Error::other)?)?;
    }
    let attributes = Attributes::new()?;
    let argv = [argv0.as_ptr().cast_mut(), ptr::null_mut()];
    let envp = [ptr::null_mut()];
    let mut pid = 0;
    // SAFETY: all pointers are to live, initialised objects; argv and envp end in NULL; posix_spawn
    // keeps none of them.
    check(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            path.as_ptr(),
            actions.get(),
            attributes.get(),
            argv.as_ptr(),
            envp.as_ptr(),
        )
    })?;
    Ok(Pid::from_raw(pid).expect("a spawned process has a positive id"))
}

fn check(errno: libc::c_int) -> io::Result<()> {
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
}

/// File actions; boxed, as C libraries may keep pointers into them.
struct Actions(Box<libc::posix_spawn_file_actions_t>);

impl Actions {
    fn new() -> io::Result<Self> {
        // SAFETY: plain data, initialised by the next call before any other use.
        let mut actions = Box::new(unsafe { std::mem::zeroed() });
        // SAFETY: the pointer is to a live object of the right type.
        check(unsafe { libc::posix_spawn_file_actions_init(&raw mut *actions) })?;
        Ok(Self(actions))
    }

    fn dup2(&mut self, from: BorrowedFd<'_>, to: RawFd) -> io::Result<()> {
        // SAFETY: initialised in `new`.
        check(unsafe {
            libc::posix_spawn_file_actions_adddup2(&raw mut *self.0, from.as_raw_fd(), to)
        })
    }

    fn get(&self) -> *const libc::posix_spawn_file_actions_t {
        &raw const *self.0
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut *self.0) };
    }
}

struct Attributes(Box<libc::posix_spawnattr_t>);

impl Attributes {
    fn new() -> io::Result<Self> {
        // SAFETY: plain data, initialised by the next call before any other use.
        let mut attributes = Box::new(unsafe { std::mem::zeroed() });
        // SAFETY: the pointer is to a live object of the right type.
        check(unsafe { libc::posix_spawnattr_init(&raw mut *attributes) })?;
        let mut made = Self(attributes);
        let attributes = &raw mut *made.0;
        // SAFETY: plain data, filled by sigemptyset and sigfillset before use; `attributes` is
        // initialised and alive.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            check(libc::posix_spawnattr_setsigmask(attributes, &raw const set))?;
            libc::sigfillset(&raw mut set);
            check(libc::posix_spawnattr_setsigdefault(attributes, &raw const set))?;
            check(libc::posix_spawnattr_setpgroup(attributes, 0))?;
            let flags = libc::POSIX_SPAWN_SETSIGMASK
                | libc::POSIX_SPAWN_SETSIGDEF
                | libc::POSIX_SPAWN_SETPGROUP;
            check(libc::posix_spawnattr_setflags(attributes, flags as libc::c_short))?;
        }
        Ok(made)
    }

    fn get(&self) -> *const libc::posix_spawnattr_t {
        &raw const *self.0
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawnattr_destroy(&raw mut *self.0) };
    }
}
