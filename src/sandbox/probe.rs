//! What this host can do, and what is missing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::thread::CapabilitySet;

use super::allowance::Allowance;
use super::error::Error;
use super::host::{Host, IdMode};
use super::ids;
use super::spawn::kernel_says;

/// Oldest kernels that have what each id-mapping mode needs.
pub(super) const ROOT_KERNEL: (u32, u32) = (5, 19);
pub(super) const USER_KERNEL: (u32, u32) = (5, 12);

/// Finds out what this host can do. `helper`: the bake program, where this process is not bake
/// itself (tests).
///
/// # Errors
/// What it lacks.
pub fn probe(helper: Option<&Path>) -> Result<Host, Error> {
    let id_mode = id_mode()?;
    let needed = if id_mode == IdMode::Root { ROOT_KERNEL } else { USER_KERNEL };
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    if version(&release).is_some_and(|have| have < needed) {
        return Err(Error::Host {
            what: format!("Linux {release} is too old for bake's sandbox"),
            hint: format!("use Linux {}.{} or newer", needed.0, needed.1),
        });
    }
    let helper = helper.map_or_else(|| PathBuf::from("/proc/self/exe"), Path::to_owned);
    Ok(Host { id_mode, helper, allowance: Allowance::default(), program: Arc::default() })
}

pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub(super) fn id_mode() -> Result<IdMode, Error> {
    if rustix::process::geteuid().is_root() {
        return match root_is_whole() {
            Ok(()) => Ok(IdMode::Root),
            Err(what) => Err(Error::Host { what, hint: NESTED.into() }),
        };
    }
    let uid = rustix::process::getuid().as_raw();
    let name = ids::login(uid);
    Ok(IdMode::Subids {
        uids: subids("/etc/subuid", name.as_deref(), uid)?,
        gids: subids("/etc/subgid", name.as_deref(), uid)?,
    })
}

const NESTED: &str = "run bake as an unprivileged user with subordinate ids, or give the container \
    full rights (for example `docker run --privileged`)";

/// Whether this root may do what the root id_mode needs.
fn root_is_whole() -> Result<(), String> {
    // One line that maps every id to itself.
    let map = kernel_says("/proc/self/uid_map").unwrap_or_default();
    let whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
    if !whole {
        return Err(
            "this root is root only inside a user namespace, and may not map ids on mounts".into(),
        );
    }
    let has = rustix::thread::capabilities(None)
        .map(|sets| sets.effective)
        .unwrap_or(CapabilitySet::empty());
    let lacking: Vec<&str> = [
        (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
        (CapabilitySet::SETUID, "CAP_SETUID"),
        (CapabilitySet::SETGID, "CAP_SETGID"),
        (CapabilitySet::SETFCAP, "CAP_SETFCAP"),
    ]
    .iter()
    .filter(|(capability, _)| !has.contains(*capability))
    .map(|(_, name)| *name)
    .collect();
    if lacking.is_empty() { Ok(()) } else { Err(format!("this root lacks {}", lacking.join(", "))) }
}

fn subids(path: &str, name: Option<&str>, uid: u32) -> Result<(u32, u32), Error> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    ids::range_of(&text, name, uid).ok_or_else(|| {
        let user = name.map_or_else(|| uid.to_string(), str::to_owned);
        Error::Host {
            what: format!("user {user} has no 65536 subordinate ids in {path}"),
            hint: format!(
                "as root: usermod --add-subuids 200000-265535 --add-subgids 200000-265535 {user} \
                    (any range that is free in {path})"
            ),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("5.10.0-28-amd64"), Some((5, 10)));
        assert_eq!(version("x"), None);
    }
}
