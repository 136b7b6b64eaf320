//! What a host has and lacks, one finding a line.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::allowance::Allowance;
use super::builtin::{BuiltIn, Ping};
use super::call::{Call, CallError, Inside};
use super::cancel::Cancel;
use super::disk;
use super::emulate::{Emulation, emulation, known};
use super::ended::Ended;
use super::error::Error;
use super::host::{Finding, IdMode, find_tool};
use super::job::{Action, Job, Network, Overlay};
use super::outlet::Outlet;
use super::probe::{ROOT_KERNEL, USER_KERNEL, id_mode, probe, version};
use super::session::Session;
use super::spawn::kernel_says;

/// A trial needs none of the program's calls.
#[derive(Debug, Serialize, Deserialize)]
enum Nothing {}

impl Call for Nothing {
    type Reply = ();

    fn run(self, _: Inside<'_>) -> Result<(), CallError> {
        match self {}
    }
}

/// Looks at everything the sandbox needs and says what is missing and what helps. A job is tried in
/// a temporary directory in `place`, else in `/var/tmp` or `/tmp`.
#[must_use]
pub fn doctor(helper: Option<&Path>, place: Option<&Path>) -> Vec<Finding> {
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
    match id_mode() {
        Ok(IdMode::Root) => add(
            "ids",
            true,
            "root: ids are mapped on mounts, root inside is nobody outside".into(),
            None,
        ),
        Ok(IdMode::Subids { uids, gids }) => {
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
            let found = find_tool(tool);
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
            let hint = "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give bake an \
                AppArmor profile with `userns,`";
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
    if let Some(place) = place
        && let Some(kind) = disk::file_system(place)
    {
        let detail = format!("{} is on {kind}", place.display());
        add("file system", !disk::is_unfit(&kind), detail, Some(disk::HINT.to_owned()));
    }
    let kept = Allowance::default().ceiling(place.unwrap_or(Path::new("/var/tmp"))).to_string();
    add("limits", true, format!("kept by looking; without a word: {kept}"), None);
    match attempt(helper, place, &Emulation::Native, Network::None) {
        Ok(tried) => {
            add("sandbox", true, format!("works (tried in {tried})"), None);
            findings.push(network(helper, place));
            findings.push(foreign(helper, place));
        }
        Err(error) => {
            let source = std::error::Error::source(&error)
                .map(|source| format!(": {source}"))
                .unwrap_or_default();
            add("sandbox", false, format!("{error}{source}"), error.hint());
        }
    }
    findings
}

/// Says whether steps can have a network of their own. Who has no step with a network needs none.
fn network(helper: Option<&Path>, place: Option<&Path>) -> Finding {
    let tried = Outlet::new()
        .map_err(|source| Error::System { what: "cannot make a socket".to_owned(), source })
        .and_then(|(outlet, network)| {
            let tried = attempt(helper, place, &Emulation::Native, network);
            drop(outlet);
            tried
        });
    let (detail, hint) = match tried {
        Ok(_) => ("steps have one of their own".to_owned(), None),
        Err(error) => {
            let source = std::error::Error::source(&error)
                .map(|source| format!(": {source}"))
                .unwrap_or_default();
            (format!("none of their own for steps: {error}{source}"), error.hint())
        }
    };
    Finding { name: "network".to_owned(), ok: true, detail, hint }
}

/// Says of which other processors programs can run here. A host that runs none is fine.
fn foreign(helper: Option<&Path>, place: Option<&Path>) -> Finding {
    let (mut own, mut registered, mut not) = (vec![], vec![], vec![]);
    let (mut hint, mut tried) = (None, None);
    for arch in known() {
        let platform = format!("linux/{arch}");
        match emulation(arch) {
            Emulation::Native => {}
            Emulation::Registered(_) => registered.push(platform),
            found @ Emulation::Own(_) => {
                // One stands for all.
                let why = tried
                    .get_or_insert_with(|| attempt(helper, place, &found, Network::None).err());
                match why {
                    None => own.push(platform),
                    Some(error) => {
                        not.push(platform);
                        hint = hint.or_else(|| error.hint());
                    }
                }
            }
            Emulation::No { hint: helps, .. } => {
                not.push(platform);
                hint = hint.or(Some(helps));
            }
        }
    }
    let part = |list: Vec<String>, how: &str| {
        (!list.is_empty()).then(|| format!("{}{how}", list.join(", ")))
    };
    let parts = [
        part(own, " by qemu, in the sandbox alone"),
        part(registered, " as registered on this host"),
        part(not, " not"),
    ];
    let detail = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
    Finding { name: "foreign platforms".to_owned(), ok: true, detail, hint }
}

/// Runs a job over an overlay, from nothing.
fn attempt(
    helper: Option<&Path>,
    place: Option<&Path>,
    emulation: &Emulation,
    network: Network,
) -> Result<String, Error> {
    let host = probe(helper)?;
    // Where the store will be is tried first, then a disk; /tmp may be a tmpfs.
    let make = |place: &Path| tempfile::Builder::new().prefix(".bake-doctor-").tempdir_in(place);
    let dir = place
        .map_or_else(|| Err(std::io::ErrorKind::NotFound.into()), make)
        .or_else(|_| make(Path::new("/var/tmp")))
        .or_else(|_| tempfile::tempdir());
    let system = |what: &str| {
        let what = format!("cannot {what}");
        move |source| Error::System { what, source }
    };
    let dir = dir.map_err(system("make a temporary directory"))?;
    let (layers, scratch) = (dir.path().join("layers"), dir.path().join("scratch"));
    for made in [&layers, &scratch, &scratch.join("u"), &scratch.join("w")] {
        std::fs::create_dir(made).map_err(system("make a temporary directory"))?;
    }
    let session = Session::<Nothing>::open_with(&host, &layers, &scratch, emulation)?;
    let job = Job {
        root: Some(Overlay { lower: vec![], upper: scratch.join("u"), work: scratch.join("w") }),
        network,
        ..Job::bare(Action::Call(BuiltIn::Ping(Ping::default()).into()))
    };
    let ended = session.run(job, &Cancel::new()?, &mut |_| {});
    // A user's overlay leaves a directory that belongs to root inside: only a job can remove it.
    session.remove_trees(&[&scratch.join("u"), &scratch.join("w")])?;
    match ended? {
        Ended::Done(_) => Ok(dir.path().parent().unwrap_or(dir.path()).display().to_string()),
        other => Err(Error::System {
            what: format!("the sandbox ended with {other:?}"),
            source: std::io::Error::other("unexpected"),
        }),
    }
}
