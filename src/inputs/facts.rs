//! What is known of a build before anything runs: which context files each step reads, what the
//! lock pins for it, and from these the key that names the build.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::error::StepError;
use super::wanted::{self, Wanted};
use crate::context::{Context, Held};
use crate::digest::Digest;
use crate::event::chain;
use crate::image::Platform;
use crate::plan::Plan;
use crate::plan::config::{self, Skeleton};
use crate::plan::key::{Common, StepInputs, Table};
use crate::plan::lock::{Lock, LockedBase, Package, VERSION};
use crate::reach::Reach;
use crate::recipe::{self, Recipe, Value};
use crate::step::{Content, Op, called};

/// Largest script, template or key: these are read whole.
pub(super) const MAX_TEXT: u64 = 64 << 20;

/// What the files of a `copy` are called in the row `files`, before the recipe's words.
pub const COPY: &str = "copy ";

/// What is known before anything runs.
pub struct Facts {
    /// Per step: what names each of its package requests, in order of its operations.
    pub requests: Vec<Vec<Digest>>,
    /// What the lock file does not pin yet, as people call it; empty: everything is pinned.
    pub missing: Vec<String>,
    /// The base is among these. What it is is known all the same.
    base_missing: bool,
    /// The key of the build, given the lock as it was read.
    pub key: Digest,
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
    network: Reach,
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
    pub fn complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// Whether all is known that the lock file has to pin: nothing is missing but, perhaps, the
    /// base.
    pub fn known(&self) -> bool {
        self.missing.len() == usize::from(self.base_missing)
    }

    /// Returns the table of the base.
    pub fn base(&self) -> &Table {
        &self.base
    }

    /// Returns what operation `at` (from 0) of step `index` (from 1) is handed of the context: of a
    /// script, a template (rendered) or a repository's key one input, of packages their files.
    pub fn held(&self, index: usize, at: usize) -> &[Held] {
        &self.steps[index - 1].held[at]
    }

    /// Returns what each operation of step `index` (from 1) wants of stages and of the context;
    /// none of the base.
    pub fn wanted(&self, index: usize) -> &[Vec<Wanted>] {
        index.checked_sub(1).and_then(|at| self.steps.get(at)).map_or(&[], |step| &step.wanted)
    }

    /// Whether step `index` wants something of a stage: its key is known when the stage is done.
    pub fn waits(&self, index: usize) -> bool {
        self.wanted(index).iter().flatten().any(|one| one.stage.is_some())
    }

    /// Returns the table of the identity files, but for the layers below.
    pub fn identity(&self) -> &Table {
        &self.identity
    }

    /// Returns the table of step `index` (from 1) but for the layers below; `None` while `pins` do
    /// not pin all that it needs, or it is not yet `named` what it gets of stages.
    pub fn step(
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
    pub fn asked(&self, index: usize, named: &[(String, Digest)]) -> Table {
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
    pub fn pins_of(&self, index: usize, pins: &Lock) -> Lock {
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
    pub fn needed(&self, base: &Lock, pins: &Lock) -> Lock {
        let mut needed = base.clone();
        (1..=self.steps.len()).for_each(|index| needed.add(self.pins_of(index, pins)));
        needed
    }

    /// Returns the key of the build, given what is pinned and the keys of the stages.
    pub fn key_with(&self, pins: &Lock, stages: &[(String, Digest)]) -> Digest {
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
            network: &step.network,
            packages,
            downloads,
        })
    }
}

fn package_row(package: &Package) -> String {
    format!("{} {} {}", package.name, package.version, package.sha256)
}

/// What the base of a root is, as far as keys and the lock file are concerned.
pub struct BaseInputs {
    /// Names what it holds, whatever the epoch.
    pub holds: Digest,
    /// Names its layers.
    pub key: Digest,
    /// What the lock file says of it.
    pub locked: Option<LockedBase>,
    /// The lock file has to pin it.
    pub needs_lock: bool,
    /// What programs see of its environment.
    pub environment: BTreeMap<String, String>,
}

/// What the facts of a root are gathered from.
pub struct Sources<'a> {
    /// The recipe, with the base and the steps of the root.
    pub recipe: &'a Recipe,
    /// Its plan.
    pub plan: &'a Plan,
    /// What it starts from.
    pub base: &'a BaseInputs,
    /// What its steps read.
    pub context: &'a Context,
    /// What the lock file says.
    pub lock: &'a Lock,
    /// Seconds since 1970.
    pub epoch: i64,
    /// What it is built for.
    pub platform: &'a Platform,
    /// What the image says of itself; none of a stage, which is no image.
    pub skeleton: Option<&'a Skeleton>,
    /// Names and keys of the stages that it needs.
    pub stages: &'a [(String, Digest)],
    /// The stage that this is.
    pub stage: Option<&'a str>,
}

/// Opens and hashes what the steps read, and draws the keys.
///
/// # Errors
/// Where something that a step reads cannot be used.
pub fn gather(from: &Sources<'_>) -> Result<Facts, StepError> {
    let Sources { recipe, plan, base, context, lock, epoch, platform, skeleton, stages, stage } =
        *from;
    let compression = recipe.image.compression.name();
    let environment = base.environment.clone();
    let common = Common { platform: platform.to_string(), epoch, compression, environment };
    let mut table = Table::new();
    table.add("platform", &common.platform);
    table.add("epoch", &epoch);
    table.add("compression", &compression);
    if let Some(skeleton) = skeleton {
        table.add("image", skeleton);
    }
    let packages: Vec<String> = match &base.locked {
        Some(LockedBase::Debian { packages, .. }) => packages.iter().map(package_row).collect(),
        _ => vec![],
    };
    let base_table = common.base(&base.key, &packages);
    let identity = common.identity(&config::identity_of(recipe, plan, epoch));
    if stage.is_none() {
        table.add("identity", &identity.key());
    }
    let mut missing = vec![];
    if base.needs_lock && lock.base_of(stage).is_none() {
        missing.push(match stage {
            Some(stage) if stage.contains(' ') => called(stage),
            Some(stage) => format!("the base of stage {stage}"),
            None => "the base".to_owned(),
        });
    }
    let base_missing = !missing.is_empty();
    let mut below = base.holds;
    let (mut requests, mut steps) = (vec![], vec![]);
    for (at, node) in plan.nodes.iter().enumerate() {
        let fail = |why: Vec<String>| StepError { index: at + 1, why };
        let mut step = StepFacts {
            ops: node.ops.clone(),
            held: vec![],
            wanted: vec![],
            network: node.network.clone(),
            files: vec![],
            urls: vec![],
            requests: vec![],
        };
        for op in &node.ops {
            let held = hold(context, recipe.vars_of(node), op).map_err(fail)?;
            let digests: Vec<Digest> = held.iter().map(|one| *one.digest()).collect();
            let named = |one: &Held| (one.name().display().to_string(), *one.digest());
            step.files.extend(held.iter().map(named));
            step.held.push(held);
            let wanted = wanted::of(op);
            for one in wanted.iter().filter(|one| one.stage.is_none()) {
                let digest = context.digest(&one.op).map_err(|error| fail(chain(&error)))?;
                step.files.push((format!("mount {}", one.name), digest));
            }
            step.wanted.push(wanted);
            match op {
                Op::Copy { from, stage: None, .. } => {
                    let digest = context.digest(op).map_err(|error| fail(chain(&error)))?;
                    step.files.push((format!("{COPY}{}", from.join(" ")), digest));
                }
                Op::Packages { names, recommends, .. } => {
                    let request =
                        Digest::of(json!([below, names, digests, recommends]).to_string());
                    if lock.packages_for(&request).is_none() {
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
            if sha256.is_none() && lock.sha256_of(url).is_none() {
                missing.push(format!("the download {url}"));
            }
        }
        requests.push(step.requests.clone());
        steps.push(step);
    }
    let mut facts = Facts {
        requests,
        missing,
        base_missing,
        key: Digest::of(b""),
        table,
        common,
        base: base_table,
        steps,
        identity,
    };
    facts.key = facts.key_with(lock, stages);
    Ok(facts)
}

/// Opens what `op` reads of the context; where it cannot, why.
fn hold(
    context: &Context,
    vars: &BTreeMap<String, Value>,
    op: &Op,
) -> Result<Vec<Held>, Vec<String>> {
    let text = |file: &Path| context.hold(file, MAX_TEXT).map_err(|error| chain(&error));
    match op {
        Op::Script { file, .. } => Ok(vec![text(file)?]),
        Op::Repository { key, .. } if !is_url(key) => Ok(vec![text(Path::new(key))?]),
        Op::Packages { files, .. } => {
            let held = files.iter().map(|file| context.hold_file(file));
            held.collect::<Result<_, _>>().map_err(|error| chain(&error))
        }
        // The text, not what it is made of: a variable that it does not use is of no account.
        Op::Write { content: Content::Template(file), .. } => {
            let rendered = rendered(&text(file)?, vars)?;
            Ok(vec![Held::bytes(file, rendered.into_bytes())])
        }
        _ => Ok(vec![]),
    }
}

/// Renders a template with the recipe's variables; where it cannot, why.
fn rendered(template: &Held, vars: &BTreeMap<String, Value>) -> Result<String, Vec<String>> {
    let file = template.name();
    let bytes = template.read().map_err(|error| chain(&error))?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| vec![format!("the template {} is not UTF-8 text", file.display())])?;
    recipe::render_template(text, file, vars).map_err(|found| {
        let place = format!("{}:{}:{}", file.display(), found.line, found.column);
        let why = format!("{place}: {}", found.message);
        std::iter::once(why).chain(found.label).chain(found.help).collect()
    })
}

/// Whether a repository's key is to be fetched.
pub fn is_url(key: &str) -> bool {
    key.starts_with("https://") || key.starts_with("http://")
}
