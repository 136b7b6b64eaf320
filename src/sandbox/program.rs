//! The program that a session starts as its supervisor.

use std::os::fd::OwnedFd;

use super::error::Error;
use super::host::{Host, IdMode};
use super::spawn::{self, kernel_says};

/// The helper's program, out of reach of whoever runs it inside.
pub(super) fn program(host: &Host) -> Result<&OwnedFd, Error> {
    if let Some(program) = host.program.get() {
        return Ok(program);
    }
    if host.id_mode == IdMode::Root
        && let Ok(program) = spawn::shield(&host.helper)
    {
        return Ok(host.program.get_or_init(|| program));
    }
    let program = spawn::seal(&host.helper).map_err(|source| match source.raw_os_error() {
        Some(libc::EACCES) if kernel_says("/proc/sys/vm/memfd_noexec").as_deref() == Some("2") => {
            Error::Host {
                what: "this host forbids running programs from memory".into(),
                hint: "sysctl -w vm.memfd_noexec=1".into(),
            }
        }
        _ => Error::System {
            what: format!("cannot read bake's own program {}", host.helper.display()),
            source,
        },
    })?;
    Ok(host.program.get_or_init(|| program))
}
