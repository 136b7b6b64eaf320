//! `packages` steps. On Debian: apt in the image chooses (or the lock has chosen), bake fetches and
//! verifies, apt installs offline. Other package managers run their own tool, with network on; what
//! they take cannot be locked.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::{Error, StepFailure};
use super::node::Trouble;
use super::site::Site;
use crate::archive::apt::{self, Ask};
use crate::archive::manager::{self, Manager};
use crate::archive::{self, Line, Repository};
use crate::base;
use crate::context::Held;
use crate::digest::Digest;
use crate::image::Platform;
use crate::job::{self, Action, Call, Ended, Job, Log, Reply, environment, fresh_work, make_dir};
use crate::plan::lock::{Lock, LockedPackages};
use crate::recipe::BaseKind;
use crate::sandbox::{Exec, JobEvent, Network, Overlay};
use crate::step::Op;

/// What one `packages` operation asks for.
pub(super) struct Request<'a> {
    /// Names everything that decides the choice; see [`super::facts`].
    pub(super) named: Digest,
    /// Step, from 1.
    pub(super) index: usize,
    pub(super) names: &'a [String],
    /// Package files of the context.
    pub(super) files: &'a [Held],
    pub(super) recommends: bool,
}

/// Installs what `request` asks for into `upper` over `lower`.
pub(super) fn install(
    site: &Site<'_>,
    request: &Request<'_>,
    lower: &[PathBuf],
    upper: &Path,
    at: &Path,
    log: &mut Log,
) -> Result<(), Trouble> {
    let overlay = |upper: PathBuf| -> Result<Overlay, Error> {
        Ok(Overlay { lower: lower.to_vec(), upper, work: fresh_work(at)? })
    };
    let job = Job {
        root: Some(overlay(upper.to_owned())?),
        ..Job::bare(Action::call(Call::Look {
            paths: manager::paths().into_iter().map(str::to_owned).collect(),
        }))
    };
    let reply = job::reply(
        site.session.run(job, site.cancel, &mut |_| {}).map_err(Error::Sandbox)?,
        "look into the image",
    )?;
    let Reply::Seen { there, os_release } = reply else {
        return Err(job::unexpected("look into the image", &reply).into());
    };
    let there: BTreeSet<&str> = there.iter().map(String::as_str).collect();
    match manager::find(&mut |path| there.contains(path)) {
        None => Err(step(
            "the image has no package manager that bake knows (apt-get, apk, dnf, microdnf, zypper, pacman)",
        )),
        Some(Manager::Apt) => {
            let suite = match &site.base.kind {
                BaseKind::Debian(debian) => Some(debian.suite.clone()),
                _ => apt::suite_of(&os_release),
            };
            let suite = suite.ok_or_else(|| {
                step("the image has apt, but its os-release names no Debian suite")
            })?;
            debian(site, request, &suite, &overlay, upper, at, log)
        }
        Some(other) => foreign(site, request, other, overlay(upper.to_owned())?, log),
    }
}

fn step(why: &str) -> Trouble {
    Trouble::Step(StepFailure::prepared(why, vec![]))
}

fn debian(
    site: &Site<'_>,
    request: &Request<'_>,
    suite: &str,
    overlay: &dyn Fn(PathBuf) -> Result<Overlay, Error>,
    upper: &Path,
    at: &Path,
    log: &mut Log,
) -> Result<(), Trouble> {
    let (components, mirror) = match &site.base.kind {
        BaseKind::Debian(debian) => (debian.components.clone(), debian.mirror.as_deref()),
        _ => (vec![], None),
    };
    let components = if components.is_empty() { vec!["main".to_owned()] } else { components };
    let repositories = repositories(site, request.index)?;
    let parse = |name: &String| apt::Request::parse(name);
    let requests = request
        .names
        .iter()
        .map(parse)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| failed(site, error))?;
    let files = copies(request.files, at)?;
    let ask = Ask {
        suite,
        arch: &Platform::host().architecture,
        components: &components,
        mirror,
        repositories: &repositories,
        requests: &requests,
        files: &files,
        recommends: request.recommends,
        epoch: site.epoch,
    };
    let packages = match site.locking.packages_for(&request.named) {
        Some(locked) => {
            let wrong = |why| {
                Trouble::Step(StepFailure::prepared(
                    "the lock file pins something that is no package",
                    vec![why],
                ))
            };
            base::lock::packages_from_lock(&locked.packages).map_err(wrong)?
        }
        None if site.locking.locked() => {
            return Err(site
                .locking
                .missing(&format!("the packages {}", request.names.join(" ")))
                .into());
        }
        None => {
            // Choosing changes nothing: it runs over a copy that is thrown away (of what earlier
            // operations of this step left, nothing).
            let aside = make_dir(&at.join("choose"))?;
            apt::resolve(&overlay(aside)?, &ask, site.workshop, &mut |_| {})
                .map_err(|error| failed(site, error))?
        }
    };
    let mut hear = |line: Line<'_>| log.line(line.stderr, line.text);
    apt::install(&overlay(upper.to_owned())?, &packages, &ask, site.workshop, &mut hear)
        .map_err(|error| failed(site, error))?;
    let locked = LockedPackages {
        names: asked(request),
        request: request.named,
        packages: base::lock::packages_to_lock(&packages),
    };
    site.pins().add(Lock { packages: vec![locked], ..Lock::default() });
    Ok(())
}

/// Returns copies of held package files, in the directory `at` of the step: those that were hashed,
/// whatever happens to the files meanwhile.
fn copies(held: &[Held], at: &Path) -> Result<Vec<PathBuf>, Trouble> {
    let mut out = vec![];
    for (number, held) in held.iter().enumerate() {
        let name = held.name().file_name().unwrap_or(held.name().as_os_str());
        let dir = at.join(format!("file-{number}"));
        let path = dir.join(name);
        let made = fs::create_dir_all(&dir).and_then(|()| fs::File::create(&path));
        let mut file =
            made.map_err(|source| Error::File { verb: "write", path: path.clone(), source })?;
        held.write_to(&mut file).map_err(|error| Trouble::prepared(&error))?;
        out.push(path);
    }
    Ok(out)
}

fn asked(request: &Request<'_>) -> Vec<String> {
    request
        .names
        .iter()
        .cloned()
        .chain(request.files.iter().map(|file| format!("./{}", file.name().display())))
        .collect()
}

/// The repositories of the steps before step `index`.
fn repositories(site: &Site<'_>, index: usize) -> Result<Vec<Repository>, Trouble> {
    let mut out = vec![];
    let ops = site.plan.nodes[..index].iter().enumerate().flat_map(|(step, node)| {
        node.ops.iter().enumerate().map(move |(at, op)| (op, step + 1, at))
    });
    for (op, step, at) in ops {
        if let Op::Repository { url, suite, components, key, .. } = op {
            let key = site.repository_key(key, site.facts.held(step, at))?;
            out.push(Repository {
                url: url.clone(),
                suite: suite.clone(),
                components: components.clone(),
                key,
            });
        }
    }
    Ok(out)
}

/// A failure of the base room during a step: the step's own, with what apt said.
fn failed(site: &Site<'_>, error: archive::Error) -> Trouble {
    match error {
        _ if site.cancel.fired() => Trouble::Build(Error::Interrupted),
        archive::Error::Cancelled => Trouble::Build(Error::Interrupted),
        archive::Error::Sandbox(error) => Trouble::Build(Error::Sandbox(error)),
        error => {
            let hint = error.hint();
            match Trouble::prepared(&error) {
                Trouble::Step(failure) => Trouble::Step(failure.with_hint(hint)),
                other => other,
            }
        }
    }
}

/// Runs the image's own package manager, with network on.
fn foreign(
    site: &Site<'_>,
    request: &Request<'_>,
    manager: Manager,
    root: Overlay,
    log: &mut Log,
) -> Result<(), Trouble> {
    if !request.files.is_empty() {
        return Err(step(
            "package files of the context can only be installed by apt; use `copy` and `run`",
        ));
    }
    let argv = manager
        .install(request.names, request.recommends)
        .map_err(|error| failed(site, error))?
        .unwrap_or_default();
    let exec = Exec {
        argv,
        env: environment(site.epoch, site.environment),
        cwd: PathBuf::from("/"),
        user: "root".to_owned(),
        timeout: None,
    };
    let tidy = Call::Archive(archive::Call::Tidy);
    let job = Job {
        root: Some(root),
        mounts: vec![],
        files: site.policy(true),
        hostname: "bake".to_owned(),
        network: Network::Host,
        actions: vec![Action::Exec(exec), Action::call(tidy)],
    };
    let ended = site.session.run(job, site.cancel, &mut |heard| {
        if let JobEvent::Line { stderr, text } = heard {
            log.line(stderr, text);
        }
    });
    match ended.map_err(Error::Sandbox)? {
        Ended::Done(_) => Ok(()),
        Ended::Cancelled => Err(Trouble::Build(Error::Interrupted)),
        Ended::Failed { how, seen, .. } => Err(Trouble::Step(StepFailure::Ran(how, seen))),
    }
}
