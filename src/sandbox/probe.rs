//! What this host can do, and what is missing.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::thread::CapabilitySet;

use super::spawn::{self, kernel_says};
use super::{
    Action, Call, Cancel, Ended, Error, Finding, Host, Job, Network, Overlay, Rung, Session, chore,
    ids,
};

/// Oldest kernels that have what each rung needs.
const ROOT_KERNEL: (u32, u32) = (5, 19);
const USER_KERNEL: (u32, u32) = (5, 12);

/// See [`super::probe`].
pub(super) fn probe(helper: Option<&Path>) -> Result<Host, Error> {
    let rung = rung()?;
    let needed = if rung == Rung::Root { ROOT_KERNEL } else { USER_KERNEL };
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    if version(&release).is_some_and(|have| have < needed) {
        return Err(Error::Host {
            what: format!("Linux {release} is too old for bake's sandbox"),
            hint: format!("use Linux {}.{} or newer", needed.0, needed.1),
        });
    }
    let helper = helper.map_or_else(|| PathBuf::from("/proc/self/exe"), Path::to_owned);
    Ok(Host { rung, helper, program: Arc::default() })
}

/// The helper's program, out of reach of whoever runs it inside.
pub(super) fn program(host: &Host) -> Result<&OwnedFd, Error> {
    if let Some(program) = host.program.get() {
        return Ok(program);
    }
    if host.rung == Rung::Root
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

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn rung() -> Result<Rung, Error> {
    if rustix::process::geteuid().is_root() {
        return match root_is_whole() {
            Ok(()) => Ok(Rung::Root),
            Err(what) => Err(Error::Host { what, hint: NESTED.into() }),
        };
    }
    let uid = rustix::process::getuid().as_raw();
    let name = ids::login(uid);
    Ok(Rung::Subids {
        uids: subids("/etc/subuid", name.as_deref(), uid)?,
        gids: subids("/etc/subgid", name.as_deref(), uid)?,
    })
}

const NESTED: &str = "run bake as an unprivileged user with subordinate ids, or give the container full rights (for example `docker run --privileged`)";

/// Whether this root may do what the root rung needs.
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
                "as root: usermod --add-subuids 200000-265535 --add-subgids 200000-265535 {user} (any range that is free in {path})"
            ),
        }
    })
}

/// See [`super::doctor`].
pub(super) fn doctor(helper: Option<&Path>) -> Vec<Finding> {
    let mut findings = vec![];
    let mut add = |name: &str, ok: bool, detail: String, hint: Option<String>| {
        findings.push(Finding { name: name.into(), ok, detail, hint: hint.filter(|_| !ok) });
    };
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let is_root = rustix::process::geteuid().is_root();
    let needed = if is_root { ROOT_KERNEL } else { USER_KERNEL };
    let recent = version(&release).is_none_or(|have| have >= needed);
    add(
        "kernel",
        recent,
        format!("Linux {release}"),
        Some(format!("use Linux {}.{} or newer", needed.0, needed.1)),
    );
    match rung() {
        Ok(Rung::Root) => add(
            "ids",
            true,
            "root: ids are mapped on mounts, root inside is nobody outside".into(),
            None,
        ),
        Ok(Rung::Subids { uids, gids }) => {
            add(
                "ids",
                true,
                format!("subordinate user ids from {}, group ids from {}", uids.0, gids.0),
                None,
            );
        }
        Err(error) => add("ids", false, error.to_string(), error.hint()),
    }
    if !is_root {
        for tool in ["newuidmap", "newgidmap"] {
            let found = super::session::find_tool(tool);
            let detail =
                found.as_ref().map_or("not found".into(), |path| path.display().to_string());
            add(
                tool,
                found.is_some(),
                detail,
                Some("apt-get install uidmap (or your distribution's shadow-utils)".into()),
            );
        }
        if let Some(value) = kernel_says("/proc/sys/kernel/unprivileged_userns_clone") {
            let hint = "sysctl -w kernel.unprivileged_userns_clone=1";
            add(
                "user namespaces for users",
                value != "0",
                format!("kernel.unprivileged_userns_clone is {value}"),
                Some(hint.into()),
            );
        }
        if let Some(value) = kernel_says("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") {
            let hint = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give bake an AppArmor profile with `userns,`";
            add(
                "AppArmor",
                value == "0",
                format!("kernel.apparmor_restrict_unprivileged_userns is {value}"),
                Some(hint.into()),
            );
        }
    }
    if let Some(value) = kernel_says("/proc/sys/user/max_user_namespaces") {
        add(
            "user namespaces",
            value != "0",
            format!("up to {value}"),
            Some("sysctl -w user.max_user_namespaces=15000".into()),
        );
    }
    match attempt(helper) {
        Ok(place) => add("sandbox", true, format!("works (tried in {place})"), None),
        Err(error) => {
            let source = std::error::Error::source(&error)
                .map(|source| format!(": {source}"))
                .unwrap_or_default();
            add("sandbox", false, format!("{error}{source}"), error.hint());
        }
    }
    findings
}

/// Runs a job over an overlay, from nothing.
fn attempt(helper: Option<&Path>) -> Result<String, Error> {
    let host = probe(helper)?;
    // The store will be on a disk, so a disk is tried first; /tmp may be a tmpfs.
    let dir = tempfile::Builder::new()
        .prefix("bake-doctor-")
        .tempdir_in("/var/tmp")
        .or_else(|_| tempfile::tempdir());
    let system = |what: &str| {
        let what = format!("cannot {what}");
        move |source| Error::System { what, source }
    };
    let dir = dir.map_err(system("make a temporary folder"))?;
    let (layers, scratch) = (dir.path().join("layers"), dir.path().join("scratch"));
    for made in [&layers, &scratch, &scratch.join("u"), &scratch.join("w")] {
        std::fs::create_dir(made).map_err(system("make a temporary folder"))?;
    }
    let session = Session::open(&host, &layers, &scratch)?;
    let job = Job {
        root: Some(Overlay { lower: vec![], upper: scratch.join("u"), work: scratch.join("w") }),
        mounts: vec![],
        files: vec![],
        hostname: "bake".into(),
        network: Network::None,
        actions: vec![Action::Call(Call {
            name: chore::PING,
            args: serde_json::Value::Null,
            fds: vec![],
        })],
    };
    match session.run(job, &Cancel::new()?, &mut |_| {})? {
        Ended::Done(_) => Ok(dir.path().parent().unwrap_or(dir.path()).display().to_string()),
        other => Err(Error::System {
            what: format!("the trial ended with {other:?}"),
            source: std::io::Error::other("unexpected"),
        }),
    }
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
