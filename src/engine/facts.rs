//! What is known of a build before anything runs: which context files each step reads, what the
//! lock pins for it, and from these the key that names the build.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::config::{self, Skeleton};
use super::error::{Error, StepFailure};
use super::locking::Locking;
use super::start::Start;
use super::wanted::{self, Wanted};
use crate::context::{self, Context, Held};
use crate::digest::Digest;
use crate::image::Platform;
use crate::plan::Plan;
use crate::plan::key::{Common, StepInputs, Table};
use crate::plan::lock::{Lock, LockedBase, Package, StageLock, VERSION};
use crate::recipe::{self, Recipe, Value};
use crate::step::{Content, Op};

/// Largest script, template or key: these are read whole.
pub(super) const MAX_TEXT: u64 = 64 << 20;

/// What the files of a `copy` are called in the row `files`, before the recipe's words.
pub(super) const COPY: &str = "copy ";

/// What is known before anything runs.
pub(super) struct Facts {
    /// Per step: what names each of its package requests, in order of its operations.
    pub(super) requests: Vec<Vec<Digest>>,
    /// What the lock file does not pin yet, as people call it; empty: everything is pinned.
    pub(super) missing: Vec<String>,
    /// The key of the build, given the lock as it was read.
    pub(super) key: Digest,
    /// The rows of the build's table but for those of its steps.
    table: Table,
    common: Common,
    base: Table,
    steps: Vec<StepFacts>,
    identity: Table,
}

/// What is known of one step.
struct StepFacts {
    ops: Vec<Op>,
    /// For each operation the inputs of the context that it is handed: the bytes of these, and no
    /// others, are in the key.
    held: Vec<Vec<Held>>,
    /// For each operation what it wants of stages and of the context.
    wanted: Vec<Vec<Wanted>>,
    network: bool,
    /// For each operation that reads the context: what it is called and the digest of what it
    /// takes.
    files: Vec<(String, Digest)>,
    /// Addresses it downloads, with the recipe's checksum.
    urls: Vec<(String, Option<String>)>,
    /// As in [`Facts::requests`].
    requests: Vec<Digest>,
}

impl Facts {
    /// Whether the lock pins everything this recipe needs.
    pub(super) fn complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// Returns the table of the base.
    pub(super) fn base(&self) -> &Table {
        &self.base
    }

    /// Returns what operation `at` (from 0) of step `index` (from 1) is handed of the context: of a
    /// script, a template (rendered) or a repository's key one input, of packages their files.
    pub(super) fn held(&self, index: usize, at: usize) -> &[Held] {
        &self.steps[index - 1].held[at]
    }

    /// Returns what each operation of step `index` (from 1) wants of stages and of the context; none
    /// of the base.
    pub(super) fn wanted(&self, index: usize) -> &[Vec<Wanted>] {
        index.checked_sub(1).and_then(|at| self.steps.get(at)).map_or(&[], |step| &step.wanted)
    }

    /// Whether step `index` wants something of a stage: its key is known when the stage is done.
    pub(super) fn waits(&self, index: usize) -> bool {
        self.wanted(index).iter().flatten().any(|one| one.stage.is_some())
    }

    /// Returns the table of the identity files, but for the layers below.
    pub(super) fn identity(&self) -> &Table {
        &self.identity
    }

    /// Returns the table of step `index` (from 1) but for the layers below; `None` while `pins` do
    /// not pin all that it needs, or it is not yet `named` what it gets of stages.
    pub(super) fn step(
        &self,
        index: usize,
        pins: &Lock,
        named: Option<&[(String, Digest)]>,
    ) -> Option<Table> {
        let named = if self.waits(index) { named? } else { &[] };
        self.table_with(index, pins, named)
    }

    fn table_with(&self, index: usize, pins: &Lock, named: &[(String, Digest)]) -> Option<Table> {
        let step = &self.steps[index - 1];
        let mut packages = vec![];
        for request in &step.requests {
            packages.extend(pins.packages_for(request)?.packages.iter().map(package_row));
        }
        let mut downloads = vec![];
        for (url, sha256) in &step.urls {
            downloads
                .push((url.clone(), sha256.as_deref().or_else(|| pins.sha256_of(url))?.to_owned()));
        }
        Some(self.table_of(step, packages, downloads, named))
    }

    /// Returns a table of what step `index` asks for, whatever it will get: two builds for which
    /// this is the same do the same work.
    pub(super) fn asked(&self, index: usize, named: &[(String, Digest)]) -> Table {
        let step = &self.steps[index - 1];
        let packages = step.requests.iter().map(Digest::to_string).collect();
        let downloads = step
            .urls
            .iter()
            .map(|(url, sha256)| (url.clone(), sha256.clone().unwrap_or_default()))
            .collect();
        self.table_of(step, packages, downloads, named)
    }

    /// Returns what of `pins` is for step `index`, in the order of its operations.
    pub(super) fn pins_of(&self, index: usize, pins: &Lock) -> Lock {
        let step = &self.steps[index - 1];
        // A checksum that the recipe gives is not the lock's.
        let urls = step.urls.iter().filter(|(_, sha256)| sha256.is_none()).map(|(url, _)| url);
        Lock {
            version: VERSION,
            packages: step
                .requests
                .iter()
                .filter_map(|request| pins.packages_for(request).cloned())
                .collect(),
            download: urls
                .filter_map(|url| pins.download.iter().find(|one| one.url == *url).cloned())
                .collect(),
            ..Lock::default()
        }
    }

    /// Returns what the lock file of this build says once nothing is missing: `base`, and what of
    /// `pins` is for its steps.
    pub(super) fn needed(&self, base: &Lock, pins: &Lock) -> Lock {
        let mut needed = base.clone();
        (1..=self.steps.len()).for_each(|index| needed.add(self.pins_of(index, pins)));
        needed
    }

    /// Returns the key of the build, given what is pinned and the keys of the stages.
    pub(super) fn key_with(&self, pins: &Lock, stages: &[(String, Digest)]) -> Digest {
        let mut table = self.table.clone();
        for (name, key) in stages {
            table.add(format!("stage {name}"), key);
        }
        table.add("base", &self.base.key());
        // What a step gets of a stage follows from the keys of the stages, which stand above.
        for index in 1..=self.steps.len() {
            let step = self.table_with(index, pins, &[]);
            table.add(format!("step {index}"), &step.map(|step| step.key()));
        }
        table.key()
    }

    fn table_of(
        &self,
        step: &StepFacts,
        packages: Vec<String>,
        downloads: Vec<(String, String)>,
        named: &[(String, Digest)],
    ) -> Table {
        let files = step.files.iter().chain(named).cloned().collect();
        self.common.step(&StepInputs {
            ops: &step.ops,
            files,
            network: step.network,
            packages,
            downloads,
        })
    }
}

fn package_row(package: &Package) -> String {
    format!("{} {} {}", package.name, package.version, package.sha256)
}

/// What a build's facts are gathered from.
pub(super) struct Sources<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) plan: &'a Plan,
    pub(super) base: &'a Start,
    pub(super) context: &'a Context,
    pub(super) locking: &'a Locking,
    pub(super) epoch: i64,
    pub(super) platform: &'a Platform,
    /// What the image says of itself; none of a stage, which is no image.
    pub(super) skeleton: Option<&'a Skeleton>,
    /// Names and keys of the stages that it needs.
    pub(super) stages: &'a [(String, Digest)],
    /// The stage that this is.
    pub(super) stage: Option<&'a str>,
    /// Of the recipe, for errors.
    pub(super) path: &'a Path,
}

/// Opens and hashes what the steps read, and draws the keys.
pub(super) fn gather(from: &Sources<'_>) -> Result<Facts, Error> {
    let Sources {
        recipe,
        plan,
        base,
        context,
        locking,
        epoch,
        platform,
        skeleton,
        stages,
        stage,
        path,
    } = *from;
    let compression = recipe.image.compression.name();
    let environment = base.environment();
    let common = Common { platform: platform.to_string(), epoch, compression, environment };
    let mut table = Table::new();
    table.add("platform", &common.platform);
    table.add("epoch", &epoch);
    table.add("compression", &compression);
    if let Some(skeleton) = skeleton {
        table.add("image", skeleton);
    }
    let packages: Vec<String> = match base.to_lock() {
        Some(LockedBase::Debian { packages, .. }) => packages.iter().map(package_row).collect(),
        _ => vec![],
    };
    let base_table = common.base(&base.key(epoch), &packages);
    let identity = common.identity(&config::identity_of(recipe, plan, epoch));
    if stage.is_none() {
        table.add("identity", &identity.key());
    }
    let mut missing = vec![];
    if locking.base(stage).is_none() && base.needs_lock() {
        missing.push(match stage {
            Some(stage) => format!("the base of stage {stage}"),
            None => "the base".to_owned(),
        });
    }
    let mut below = base.key(0);
    let (mut requests, mut steps) = (vec![], vec![]);
    for (at, node) in plan.nodes.iter().enumerate() {
        let fail = |why: StepFailure| Error::Step {
            place: format!("step {} of {}", at + 1, plan.nodes.len()),
            label: node.label.clone(),
            recipe: path.to_owned(),
            line: node.line,
            why,
            tail: vec![],
            log: None,
        };
        let told = |why: context::Error| fail(StepFailure::told(&why));
        let mut step = StepFacts {
            ops: node.ops.clone(),
            held: vec![],
            wanted: vec![],
            network: node.network,
            files: vec![],
            urls: vec![],
            requests: vec![],
        };
        for op in &node.ops {
            let held = hold(context, &recipe.vars, op).map_err(fail)?;
            let digests: Vec<Digest> = held.iter().map(|one| *one.digest()).collect();
            let named = |one: &Held| (one.name().display().to_string(), *one.digest());
            step.files.extend(held.iter().map(named));
            step.held.push(held);
            let wanted = wanted::of(op);
            for one in wanted.iter().filter(|one| one.stage.is_none()) {
                let digest = context.digest(&one.op).map_err(told)?;
                step.files.push((format!("mount {}", one.name), digest));
            }
            step.wanted.push(wanted);
            match op {
                Op::Copy { from, stage: None, .. } => step
                    .files
                    .push((format!("{COPY}{}", from.join(" ")), context.digest(op).map_err(told)?)),
                Op::Packages { names, recommends, .. } => {
                    let request =
                        Digest::of(json!([below, names, digests, recommends]).to_string());
                    if locking.packages_for(&request).is_none() {
                        missing.push(format!("the packages {}", names.join(" ")));
                    }
                    below = request;
                    step.requests.push(request);
                }
                Op::Repository { key, .. } => {
                    if is_url(key) {
                        step.urls.push((key.clone(), None));
                    }
                    below = Digest::of(json!([below, op, digests]).to_string());
                }
                Op::Download { url, sha256, .. } => step.urls.push((url.clone(), sha256.clone())),
                _ => {}
            }
        }
        for (url, sha256) in &step.urls {
            if sha256.is_none() && locking.sha256_of(url).is_none() {
                missing.push(format!("the download {url}"));
            }
        }
        requests.push(step.requests.clone());
        steps.push(step);
    }
    let mut facts = Facts {
        requests,
        missing,
        key: Digest::of(b""),
        table,
        common,
        base: base_table,
        steps,
        identity,
    };
    facts.key = facts.key_with(locking.lock().unwrap_or(&Lock::default()), stages);
    Ok(facts)
}

/// Opens what `op` reads of the context.
fn hold(
    context: &Context,
    vars: &BTreeMap<String, Value>,
    op: &Op,
) -> Result<Vec<Held>, StepFailure> {
    let told = |error: context::Error| StepFailure::told(&error);
    match op {
        Op::Script { file, .. } => Ok(vec![context.hold(file, MAX_TEXT).map_err(told)?]),
        Op::Repository { key, .. } if !is_url(key) => {
            Ok(vec![context.hold(Path::new(key), MAX_TEXT).map_err(told)?])
        }
        Op::Packages { files, .. } => {
            files.iter().map(|file| context.hold_file(file).map_err(told)).collect()
        }
        // The text, not what it is made of: a variable that it does not use is of no account.
        Op::Write { content: Content::Template(file), .. } => {
            let template = context.hold(file, MAX_TEXT).map_err(told)?;
            let text = rendered(&template, vars)?;
            Ok(vec![Held::bytes(file, text.into_bytes())])
        }
        _ => Ok(vec![]),
    }
}

/// Renders a template with the recipe's variables.
fn rendered(template: &Held, vars: &BTreeMap<String, Value>) -> Result<String, StepFailure> {
    let file = template.name();
    let bytes = template.read().map_err(|error| StepFailure::told(&error))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        let why = format!("the template {} is not UTF-8 text", file.display());
        StepFailure::prepared(why, vec![])
    })?;
    recipe::render_template(text, file, vars).map_err(|found| {
        let mut causes = vec![];
        causes.extend(found.label);
        causes.extend(found.help);
        let why = format!("{}:{}:{}: {}", file.display(), found.line, found.column, found.message);
        StepFailure::prepared(why, causes)
    })
}

/// Whether a repository's key is to be fetched.
pub(super) fn is_url(key: &str) -> bool {
    key.starts_with("https://") || key.starts_with("http://")
}

/// Returns what is pinned before anything runs.
pub(super) fn pins(base: &Start, stage: Option<&str>) -> Lock {
    let locked = base.to_lock();
    let mut lock = Lock { version: VERSION, ..Lock::default() };
    match stage {
        None => (lock.epoch, lock.base) = (base.date().filter(|_| base.needs_lock()), locked),
        Some(stage) => lock.stage.extend(locked.map(|base| (stage.to_owned(), StageLock { base }))),
    }
    lock
}
