//! The throwaway root: namespaces, id maps, overlay, mounts, limits. See `docs/architecture.md`,
//! "Sandbox".

mod allowance;
mod basic;
mod binfmt;
mod builtin;
mod call;
mod cancel;
mod children;
mod cover;
mod debris;
pub mod dial;
mod disk;
mod doctor;
mod emulate;
mod encode;
mod ended;
mod error;
mod exec;
mod follow;
mod helper;
mod host;
mod idmap;
mod ids;
mod init;
mod job;
mod lines;
mod listen;
mod mounts;
mod netlink;
mod network;
mod outlet;
mod overlay;
mod passwd;
mod path;
mod plan;
mod probe;
mod proc;
mod program;
mod request;
mod seccomp;
mod secret;
mod serve;
mod session;
mod spawn;
pub mod stream;
mod stub;
mod supervisor;
mod sys;
pub mod terminal;
mod watch;
mod wire;

use std::process::ExitCode;

pub use allowance::{Allowance, Amount, Reached, Resource};
pub use builtin::{BuiltIn, Ping};
pub use call::{Call, CallError, Includes, Inside, Passed, errno_of, is_no_room};
pub use cancel::Cancel;
pub use cover::cover;
pub use doctor::doctor;
pub use emulate::{Emulation, can_run, emulation};
pub use ended::{Alive, Circumstances, Ended, Failure, JobEvent};
pub use error::Error;
pub use host::{Finding, Host, IdMode};
pub use job::{
    Action, Attach, Attempt, Exec, Job, Mount, Network, Overlay, Owners, PolicyFile, ShownSecrets,
    Streams, Until,
};
pub use outlet::{GATEWAY, Handed, Outlet};
pub use plan::Interpreter;
pub use probe::probe;
pub use request::Request;
pub use secret::without_core_dumps;
pub use session::{Run, Session};
pub(crate) use sys::activation_fd;

/// If this process was started as the sandbox's helper: does the work and returns its exit code. To
/// be called first in `main`, with the type of the program's calls.
#[must_use]
pub fn helper_main<C: Call>() -> Option<ExitCode> {
    supervisor::main(request::dispatch::<C>)
}
