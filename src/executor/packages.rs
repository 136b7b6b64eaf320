//! `packages` steps. On Debian: apt in the image chooses (or the lock has chosen), bake fetches and
//! verifies, apt installs offline. Other package managers run their own tool, with network on; what
//! they take cannot be locked.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::build::Build;
use super::error::{StepFailure, Trouble};
use super::network::Way;
use crate::archive::apt::{self, Ask};
use crate::archive::manager::{self, Manager};
use crate::archive::view::View;
use crate::archive::{self, Line, Package, Repository, arch_name};
use crate::base;
use crate::context::Held;
use crate::digest::Digest;
use crate::event::Event;
use crate::job::{self, Action, Call, Job, Log, Reply, allowance, fresh_work, make_dir};
use crate::plan::lock::LockedPackages;
use crate::reach::Reach;
use crate::recipe::BaseKind;
use crate::sandbox::{Exec, JobEvent, Overlay, ShownSecrets};
use crate::step::{Limits, Op};

/// Time limit of a package manager, where the recipe gives none: a script of a package may wait for
/// ever for a program that it has left running.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// What one `packages` operation asks for.
pub(super) struct Request<'a> {
    /// Names everything that decides the choice ([`crate::inputs::Facts`]).
    pub(super) named: Digest,
    /// Step, from 1.
    pub(super) index: usize,
    pub(super) names: &'a [String],
    /// Package files of the context.
    pub(super) files: &'a [Held],
    pub(super) recommends: bool,
    /// The package of a kernel makes no initial RAM disk.
    pub(super) without_initrd: bool,
    /// Time limit of each program.
    pub(super) limit: Option<Duration>,
    /// What they may use.
    pub(super) limits: Limits,
    /// What a package manager that fetches by itself may reach; nothing: the internet.
    pub(super) network: &'a Reach,
}

/// What a `packages` step has to know of the root.
struct Seen {
    /// Those of [`manager::paths`] that are there.
    there: BTreeSet<String>,
    /// `/etc/os-release`.
    os_release: String,
    /// What its apt sees, where it has one.
    view: Option<View>,
}

/// The root of a `packages` step.
struct Root<'a> {
    /// Topmost first.
    lower: &'a [PathBuf],
    upper: PathBuf,
    /// A directory of the step's own.
    at: &'a Path,
}

impl Seen {
    /// Returns the suite of a Debian.
    fn suite(&self, build: &Build<'_>) -> Option<String> {
        match &build.root.recipe.base.kind {
            BaseKind::Debian(debian) => Some(debian.suite.clone()),
            _ => apt::suite_of(&self.os_release),
        }
    }

    fn manager(&self, build: &Build<'_>) -> Option<Manager> {
        let debian = self.suite(build).is_some();
        manager::find(&mut |path| self.there.contains(path), debian)
    }
}

impl Root<'_> {
    /// Returns it for one more job.
    fn overlay(&self) -> Result<Overlay, job::Error> {
        Ok(Overlay {
            lower: self.lower.to_vec(),
            upper: self.upper.clone(),
            work: fresh_work(self.at)?,
        })
    }

    fn look(&self, build: &Build<'_>) -> Result<Seen, Trouble> {
        // Whoever has no name at Debian has no apt.
        let native = arch_name(&build.root.platform.processor()).unwrap_or_default();
        let job = Job {
            root: Some(self.overlay()?),
            ..Job::bare(Action::call(Call::Look {
                paths: manager::paths().into_iter().map(str::to_owned).collect(),
                native: native.to_owned(),
            }))
        };
        let what = "look into the image";
        let ended = build.session()?.run(job, build.job.cancel, &mut |_| {})?;
        match job::reply(ended, what)? {
            Reply::Seen { there, os_release, view } => {
                Ok(Seen { there: there.into_iter().collect(), os_release, view })
            }
            other => Err(job::unexpected(what, &other).into()),
        }
    }
}

/// Chooses the packages of `request` for the root of these layers (topmost first), and pins them.
/// What the lock file pins is obeyed where apt would see the same in this root as then. Nothing is
/// installed; package managers other than apt choose when they install.
pub(super) fn choose(
    build: &Build<'_>,
    request: &Request<'_>,
    lower: &[PathBuf],
    at: &Path,
    log: &mut Log,
) -> Result<(), Trouble> {
    let root = Root { lower, upper: make_dir(&at.join("choose"))?, at };
    let seen = root.look(build)?;
    match seen.manager(build) {
        Some(Manager::Apt) => {
            Debian::new(build, request, &seen, at)?.choose(&root, log).map(|_| ())
        }
        _ => Ok(()),
    }
}

/// Installs what `request` asks for into `upper` over `lower`.
pub(super) fn install(
    build: &Build<'_>,
    request: &Request<'_>,
    lower: &[PathBuf],
    upper: &Path,
    at: &Path,
    log: &mut Log,
) -> Result<(), Trouble> {
    let root = Root { lower, upper: upper.to_owned(), at };
    let seen = root.look(build)?;
    match seen.manager(build) {
        None => Err(step(
            "the image has no package manager that bake knows (apt-get, apk, dnf, microdnf, \
                zypper, pacman)",
        )),
        Some(Manager::Apt) => Debian::new(build, request, &seen, at)?.install(&root, log),
        Some(other) => foreign(build, request, other, root.overlay()?, log),
    }
}

fn step(why: &str) -> Trouble {
    Trouble::Step(StepFailure::prepared(why, vec![]))
}

/// A request to the apt of a root.
struct Debian<'a> {
    build: &'a Build<'a>,
    request: &'a Request<'a>,
    suite: String,
    /// OCI architecture.
    arch: String,
    view: View,
    components: Vec<String>,
    repositories: Vec<Repository>,
    requests: Vec<archive::Request>,
    files: Vec<PathBuf>,
}

impl<'a> Debian<'a> {
    fn new(
        build: &'a Build<'a>,
        request: &'a Request<'a>,
        seen: &Seen,
        at: &Path,
    ) -> Result<Self, Trouble> {
        let components = match &build.root.recipe.base.kind {
            BaseKind::Debian(debian) => debian.components.clone(),
            _ => vec![],
        };
        let suite = seen.suite(build).ok_or_else(|| step("the image is no Debian any more"))?;
        let parse = |name: &String| archive::Request::parse(name);
        Ok(Self {
            build,
            request,
            suite,
            arch: build.root.platform.processor(),
            view: seen.view.clone().ok_or_else(|| step("the image has no apt any more"))?,
            components: if components.is_empty() { vec!["main".to_owned()] } else { components },
            repositories: repositories(build, request.index)?,
            requests: request
                .names
                .iter()
                .map(parse)
                .collect::<Result<_, _>>()
                .map_err(|error| failed(build, error))?,
            files: copies(request.files, at)?,
        })
    }

    fn ask(&self) -> Ask<'_> {
        let mirror = match &self.build.root.recipe.base.kind {
            BaseKind::Debian(debian) => debian.mirror.as_deref(),
            _ => None,
        };
        Ask {
            suite: &self.suite,
            arch: &self.arch,
            components: &self.components,
            mirror,
            repositories: &self.repositories,
            requests: &self.requests,
            files: &self.files,
            recommends: self.request.recommends,
            without_initrd: self.request.without_initrd,
            epoch: self.build.root.epoch,
            foreign: &self.view.foreign,
            limit: self.request.limit.unwrap_or(LIMIT),
            view: Some(self.view.digest),
        }
    }

    /// Returns what is pinned, if that was chosen for a root in which apt sees the same; else lets
    /// apt choose, over `root`, and pins that.
    fn choose(&self, root: &Root<'_>, log: &mut Log) -> Result<Vec<Package>, Trouble> {
        let Self { build, request, .. } = self;
        let names = || format!("the packages {}", asked(request).join(" "));
        if let Some(known) = build.pins.packages_for(&request.named) {
            if known.view.is_none_or(|view| view == self.view.digest) {
                let wrong = "the lock file pins something that is no package";
                let packages = base::lock::packages_from_lock(&known.packages)
                    .map_err(|why| Trouble::Step(StepFailure::prepared(wrong, vec![why])))?;
                build.pins.set_packages(known);
                return Ok(packages);
            }
            build.pins.may_choose_again(&names())?;
            let message = format!(
                "{} are chosen anew: steps before have changed apt's preferences or settings, the \
                    architectures, or what is installed",
                names()
            );
            (build.job.sink)(Event::Note { message });
        } else {
            build.pins.may_choose(&names())?;
        }
        let mut listener = |line: Line<'_>| log.line(line.stderr, line.text);
        let context = build.packages(build.session()?);
        let packages = apt::resolve(&root.overlay()?, &self.ask(), &context, &mut listener)
            .map_err(|error| failed(build, error))?;
        build.pins.set_packages(LockedPackages {
            names: asked(request),
            request: request.named,
            view: Some(self.view.digest),
            packages: base::lock::packages_to_lock(&packages),
        });
        Ok(packages)
    }

    fn install(&self, root: &Root<'_>, log: &mut Log) -> Result<(), Trouble> {
        // Choosing changes nothing: it runs over a copy that is thrown away.
        let aside =
            Root { lower: root.lower, upper: make_dir(&root.at.join("choose"))?, at: root.at };
        let packages = self.choose(&aside, log)?;
        let mut listener = |line: Line<'_>| log.line(line.stderr, line.text);
        let (root, ask) = (root.overlay()?, self.ask());
        let context = self.build.packages(self.build.session()?);
        apt::install(&root, &packages, &ask, &context, &mut listener)
            .map_err(|error| failed(self.build, error))
    }
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
            made.map_err(|source| job::Error::File { verb: "write", path: path.clone(), source })?;
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
fn repositories(build: &Build<'_>, index: usize) -> Result<Vec<Repository>, Trouble> {
    let mut out = vec![];
    let ops = build.root.plan.nodes[..index].iter().enumerate().flat_map(|(step, node)| {
        node.ops.iter().enumerate().map(move |(at, op)| (op, step + 1, at))
    });
    for (op, step, at) in ops {
        if let Op::Repository { url, suite, components, key, .. } = op {
            let key = build.repository_key(key, build.root.facts.held(step, at))?;
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

/// A failure of the base room during a step: the step's own, with the output of apt.
fn failed(build: &Build<'_>, error: archive::Error) -> Trouble {
    match error {
        _ if build.job.cancel.fired() => job::Error::Interrupted.into(),
        archive::Error::Cancelled => job::Error::Interrupted.into(),
        archive::Error::Sandbox(error) => error.into(),
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
    build: &Build<'_>,
    request: &Request<'_>,
    manager: Manager,
    root: Overlay,
    log: &mut Log,
) -> Result<(), Trouble> {
    if !request.files.is_empty() {
        return Err(step(
            "package files of the context can only be installed by Debian's apt; use `copy` and \
                `run`",
        ));
    }
    let commands =
        manager.install(request.names, request.recommends).map_err(|error| failed(build, error))?;
    let reach = match request.network {
        Reach::None => &Reach::Internet,
        reach => reach,
    };
    let exec = |argv| {
        Action::Exec(Exec {
            argv,
            env: build.environment(reach),
            cwd: PathBuf::from("/"),
            user: "root".to_owned(),
            timeout: Some(request.limit.unwrap_or(LIMIT)),
        })
    };
    let tidy = Call::Archive(archive::Call::Tidy);
    let whose = format!("step {}", request.index);
    let (way, network) = Way::open(build, reach, &whose)?;
    let job = Job {
        root: Some(root),
        allowance: allowance(request.limits),
        mounts: vec![],
        files: build.policy(reach),
        secrets: ShownSecrets::default(),
        hostname: "bake".to_owned(),
        network,
        actions: commands.into_iter().map(exec).chain([Action::call(tidy)]).collect(),
    };
    let ended = build.session()?.run(job, build.job.cancel, &mut |event| {
        if let JobEvent::Line { stderr, text } = event {
            log.line(stderr, text);
        }
    });
    way.close((build, request.index), ended?)
}
