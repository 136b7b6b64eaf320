//! What every process of a job does first: tie its life to its parent's, and become root of the
//! session's user namespace.

use std::os::fd::AsFd;

use rustix::process::{Pid, Signal};
use rustix::thread::LinkNameSpaceType;

use super::plan::{Doing, Fault};

/// Dies with the process that forked this one, also if that died before the question.
pub(super) fn follow(parent: Pid) -> Result<(), Fault> {
    let what = || "follow the parent".to_owned();
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).doing(what)?;
    if rustix::process::getppid() == Some(parent) {
        Ok(())
    } else {
        Err(Fault::new(what(), rustix::io::Errno::SRCH))
    }
}

/// Becomes root of the session's user namespace.
pub(super) fn enter(userns: impl AsFd) -> Result<(), Fault> {
    use rustix::process::{Gid, Uid};
    let what = || "enter the user namespace".to_owned();
    rustix::thread::move_into_link_name_space(userns.as_fd(), Some(LinkNameSpaceType::User))
        .doing(what)?;
    rustix::thread::set_thread_groups(&[]).doing(what)?;
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).doing(what)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).doing(what)
}
