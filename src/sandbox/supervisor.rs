//! The session's own small process: starts a helper for each job, by `fork`, so that no job pays
//! for starting a program.
//!
//! It stays outside the user namespace (only the host's root may map ids on mounts) and has a
//! single thread. It lives as long as bake holds the other end of its socket: the end of file ends
//! it, and with it, by their death signals, everything below.
//!
//! ```text
//! bake ── supervisor ─┬─ helper ── init (pid 1 inside) ── programs and calls of one job
//!                 └─ helper ── init …
//! ```
//!
//! It also keeps the session's network namespaces, each with nothing but `lo`. Making and
//! destroying one is the dearest part of a small job, so jobs lend them, one each; a namespace in
//! which a packet was ever sent is not lent again.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::Mode;
use rustix::process::{Pid, PidfdFlags, WaitOptions};
use rustix::thread::UnshareFlags;

use super::binfmt;
use super::follow::{enter, follow};
use super::helper::Helper;
use super::outlet::{Gateway, net_fault, open_namespace};
use super::plan::{self, Doing, Event, Fault, Interpreter, Net, Order};
use super::request::Dispatch;
use super::sys::{self, Forked};
use super::wire;

/// Does the supervisor's work if this process was started as one.
pub(super) fn main(dispatch: Dispatch) -> Option<ExitCode> {
    if std::env::args_os().next()?.as_bytes() != plan::ARGV0.to_bytes() {
        return None;
    }
    sys::enter_helper();
    // Somebody typed our name: there is nobody to serve.
    let Ok(socket) = sys::next_inherited_fd() else { return Some(ExitCode::from(2)) };
    let code = match Supervisor::start(socket, dispatch) {
        Ok(Some(supervisor)) => supervisor.serve(),
        Ok(None) => 0,
        Err(()) => 1,
    };
    Some(ExitCode::from(code))
}

struct Supervisor {
    socket: OwnedFd,
    userns: OwnedFd,
    /// Holds what is registered for programs of another processor.
    _emulator: Option<OwnedFd>,
    /// Network namespaces that nobody uses and nobody has left a trace in.
    nets: Vec<OwnedFd>,
    jobs: Vec<Working>,
    dispatch: Dispatch,
}

/// A job under way.
struct Working {
    pid: Pid,
    pidfd: OwnedFd,
    /// What may be lent again.
    net: Option<OwnedFd>,
    // Before the gateway, as fields are dropped in order: nobody waits for that.
    /// Closed when the job is over: bake listens for that.
    _ended: OwnedFd,
    /// Keeps the network of the job.
    _gateway: Option<Maker>,
}

impl Supervisor {
    /// Makes the session's user namespace. `None`: bake has gone away in the meantime.
    fn start(socket: OwnedFd, dispatch: Dispatch) -> Result<Option<Self>, ()> {
        // If bake is gone there is nobody to report to.
        let report = |event: &Event| wire::send(&socket, event, &[]).map_err(drop);
        let made = sys::close_from(4).doing(|| "close descriptors".into()).and_then(|()| {
            rustix::process::umask(Mode::empty());
            Maker::run(|| {
                sys::unshare(UnshareFlags::NEWUSER).map_err(|error| userns_fault(&error))?;
                open_namespace("user")
            })
        });
        let (maker, userns) = match made {
            Ok(made) => made,
            Err(fault) => {
                report(&Event::Fault(fault))?;
                return Err(());
            }
        };
        // Bake maps the ids of the child, which lives until then.
        report(&Event::Ready(maker.pid.as_raw_nonzero().get()))?;
        let emulator = match wire::receive(&socket) {
            Ok(Some((Order::Mapped { emulator }, _))) => emulator,
            Ok(None) => return Ok(None),
            _ => return Err(()),
        };
        drop(maker);
        let emulator = match emulator.map(|emulator| registered(&userns, &emulator)) {
            None => None,
            Some(Ok(mount)) => {
                report(&Event::Ready(0))?;
                Some(mount)
            }
            Some(Err(fault)) => {
                report(&Event::Fault(fault))?;
                return Err(());
            }
        };
        // Nearly every job wants one. Should it fail, the first that does gets to know why.
        let nets = make_net(&userns).into_iter().collect();
        Ok(Some(Self { socket, userns, _emulator: emulator, nets, jobs: vec![], dispatch }))
    }

    /// Serves until bake lets go of the socket; in the child of a job, does that job.
    fn serve(mut self) -> u8 {
        loop {
            let mut fds = vec![PollFd::new(&self.socket, PollFlags::IN)];
            fds.extend(self.jobs.iter().map(|job| PollFd::new(&job.pidfd, PollFlags::IN)));
            match rustix::event::poll(&mut fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return 1,
            }
            let over: Vec<bool> = fds.iter().skip(1).map(|fd| !fd.revents().is_empty()).collect();
            let asked = !fds[0].revents().is_empty();
            for at in (0..over.len()).rev().filter(|at| over[*at]) {
                self.over(at);
            }
            if !asked {
                continue;
            }
            match wire::receive(&self.socket) {
                Ok(None) => return 0,
                Ok(Some((Order::Job { network }, fds))) => {
                    if let Some(helper) = self.begin(network, fds) {
                        // The child keeps nothing of the others.
                        let Self { socket, nets, jobs, .. } = self;
                        drop((socket, nets, jobs));
                        sys::exit_now(helper.work().into());
                    }
                }
                _ => return 1,
            }
        }
    }

    /// Starts a job; a helper only in the child.
    fn begin(&mut self, network: Net, fds: Vec<OwnedFd>) -> Option<Helper> {
        let mut fds = VecDeque::from(fds);
        let mut next = || fds.pop_front();
        let (Some(plan), Some(events), Some(control)) = (next(), next(), next()) else {
            return None;
        };
        let (Some(stdout), Some(stderr), Some(replies), Some(ended)) =
            (next(), next(), next(), next())
        else {
            return None;
        };
        let outlet = match network {
            Net::Outlet => Some(next()?),
            Net::None | Net::Host => None,
        };
        let (events, supervisor) = (File::from(events), rustix::process::getpid());
        let prepare = || -> Result<_, Fault> {
            let copy = |fd: &OwnedFd| fd.try_clone().doing(|| "hand over descriptors".into());
            let (mut lent, mut gateway) = (None, None);
            let net = match (network, outlet) {
                (Net::Outlet, Some(outlet)) => {
                    let (maker, net) = make_gateway(&self.userns, outlet)?;
                    gateway = Some(maker);
                    Some(net)
                }
                (Net::None, _) => {
                    let net = self.nets.pop().map_or_else(|| make_net(&self.userns), Ok)?;
                    Some(copy(lent.insert(net))?)
                }
                (Net::Outlet | Net::Host, _) => None,
            };
            Ok((lent, gateway, net, copy(&self.userns)?))
        };
        let forked =
            prepare().and_then(|made| Ok((made, sys::fork().doing(|| "start a helper".into())?)));
        let fault = match forked {
            Ok(((_, gateway, net, userns), Forked::Child)) => {
                // The parent's to keep, and no child of this one.
                drop(gateway);
                let (plan, control, replies) = (plan.into(), control.into(), replies.into());
                let files = fds.into_iter().map(File::from).collect();
                return Some(Helper {
                    supervisor,
                    plan,
                    events,
                    control,
                    stdout,
                    stderr,
                    replies,
                    files,
                    userns,
                    net,
                    dispatch: self.dispatch,
                });
            }
            // Nobody else waits for this child, so the id cannot have been given away.
            Ok(((net, gateway, ..), Forked::Parent(pid))) => {
                match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
                    Ok(pidfd) => {
                        self.jobs.push(Working {
                            pid,
                            pidfd,
                            net,
                            _gateway: gateway,
                            _ended: ended,
                        });
                        return None;
                    }
                    Err(error) => {
                        // Bake lets go of the job when it reads of the fault, and the helper ends.
                        Fault::new("watch a helper", error)
                    }
                }
            }
            Err(fault) => fault,
        };
        // If bake is gone there is nobody to report to.
        let _ = plan::send(&events, &Event::Fault(fault));
        None
    }

    /// Reaps a helper that has ended.
    fn over(&mut self, at: usize) {
        let job = self.jobs.swap_remove(at);
        let status = rustix::process::waitpid(Some(job.pid), WaitOptions::empty());
        let code = status.ok().flatten().and_then(|(_, status)| status.exit_status());
        if code == Some(plan::NET_UNUSED.into()) {
            self.nets.extend(job.net);
        }
    }
}

/// A network namespace with nothing but `lo`, which is up.
fn make_net(userns: &OwnedFd) -> Result<OwnedFd, Fault> {
    let made = Maker::run(|| {
        enter(userns)?;
        sys::unshare(UnshareFlags::NEWNET).map_err(net_fault)?;
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::DGRAM,
            None,
        );
        sys::loopback_up(socket.doing(|| "open a socket".into())?.as_fd())
            .doing(|| "bring up lo".into())?;
        open_namespace("net")
    });
    made.map(|(_, net)| net)
}

/// Makes a network of a job's own; what keeps it, and the job's namespace.
fn make_gateway(userns: &OwnedFd, outlet: OwnedFd) -> Result<(Maker, OwnedFd), Fault> {
    Maker::run_and_keep(
        || Gateway::make(userns, outlet),
        |gateway, link| {
            // It holds pipes of other jobs too, which must end when those do.
            let [a, b, c, d] = gateway.files();
            sys::keep_only(&[a, b, c, d, link.as_fd()]).and_then(|()| gateway.keep(link))
        },
    )
}

/// Registers an emulator in the session's user namespace; returns what holds it.
fn registered(userns: &OwnedFd, emulator: &Interpreter) -> Result<OwnedFd, Fault> {
    let made = Maker::run(|| {
        enter(userns)?;
        sys::unshare(UnshareFlags::NEWNS).doing(|| "make a mount namespace".into())?;
        binfmt::register(emulator)
    });
    made.map(|(_, mount)| mount)
}

fn userns_fault(error: &io::Error) -> Fault {
    let fault = Fault::new(
        "make a user namespace",
        io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO)),
    );
    match error.raw_os_error() {
        Some(libc::ENOSPC) => fault.hint(
            "raise the limit: sysctl -w \
            user.max_user_namespaces=15000",
        ),
        Some(libc::EPERM | libc::EACCES) => fault.hint(
            "this host forbids user namespaces to this user: sysctl -w \
                kernel.unprivileged_userns_clone=1 (Debian), \
             sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 or an AppArmor profile for \
             bake (Ubuntu), or run bake as root",
        ),
        Some(libc::EINVAL | libc::ENOSYS) => fault.hint(
            "bake needs a kernel with user namespaces \
            (CONFIG_USER_NS)",
        ),
        _ => fault,
    }
}

/// A child that makes something, hands over its descriptor, and lives until this is dropped.
struct Maker {
    pid: Pid,
    link: Option<OwnedFd>,
}

impl Maker {
    fn run(make: impl FnOnce() -> Result<OwnedFd, Fault>) -> Result<(Self, OwnedFd), Fault> {
        Self::run_and_keep(
            || Ok(((), make()?)),
            |(), link| Ok(rustix::io::read(link, &mut [0]).map(|_| ())?),
        )
    }

    /// The same, where the child does something until this is dropped: `keep` gets what `make` has
    /// made besides, and the link that hangs up then.
    fn run_and_keep<T>(
        make: impl FnOnce() -> Result<(T, OwnedFd), Fault>,
        keep: impl FnOnce(T, &OwnedFd) -> io::Result<()>,
    ) -> Result<(Self, OwnedFd), Fault> {
        let what = || "start a child".to_owned();
        let (link, child_link) = wire::pair().doing(what)?;
        let parent = rustix::process::getpid();
        match sys::fork().doing(what)? {
            Forked::Child => {
                drop(link);
                let over = match follow(parent).and_then(|()| make()) {
                    Ok((kept, made)) => wire::send(&child_link, &Event::Ready(0), &[made.as_fd()])
                        .and_then(|()| {
                            drop(made);
                            keep(kept, &child_link)
                        }),
                    Err(fault) => wire::send(&child_link, &Event::Fault(fault), &[]),
                };
                sys::exit_now(i32::from(over.is_err()))
            }
            Forked::Parent(pid) => {
                drop(child_link);
                let maker = Self { pid, link: Some(link) };
                match wire::receive(maker.link.as_ref().expect("taken in drop only")).doing(what)? {
                    Some((Event::Ready(_), fds)) if fds.len() == 1 => {
                        Ok((maker, fds.into_iter().next().expect("there is one")))
                    }
                    Some((Event::Fault(fault), _)) => Err(fault),
                    _ => Err(Fault::new(what(), rustix::io::Errno::PIPE)),
                }
            }
        }
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.link = None;
        // There is no error for a child of ours.
        let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
    }
}
