//! What is known of a build before anything runs: which context files each step reads, what the
//! lock pins for it, and from these the key that names the build.

use std::io;
use std::path::Path;

use serde_json::json;

use super::context::{self, Context};
use super::error::{Error, StepFailure};
use super::locking::Locking;
use super::pinned;
use crate::base;
use crate::digest::{Digest, HashReader};
use crate::image::Platform;
use crate::plan::Plan;
use crate::plan::key::{Common, StepInputs, Table};
use crate::plan::lock::{Lock, LockedBase, Package, VERSION};
use crate::recipe::Recipe;
use crate::step::{Content, Op};

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

    /// Returns the table of the identity files, but for the layers below.
    pub(super) fn identity(&self) -> &Table {
        &self.identity
    }

    /// Returns the table of step `index` (from 1) but for the layers below; `None` while `pins` do
    /// not pin all that it needs.
    pub(super) fn step(&self, index: usize, pins: &Lock) -> Option<Table> {
        let step = &self.steps[index - 1];
        let mut packages = vec![];
        for request in &step.requests {
            packages.extend(pins.packages_for(request)?.packages.iter().map(named));
        }
        let mut downloads = vec![];
        for (url, sha256) in &step.urls {
            downloads
                .push((url.clone(), sha256.as_deref().or_else(|| pins.sha256_of(url))?.to_owned()));
        }
        Some(self.table_of(step, packages, downloads))
    }

    /// Returns a table of what step `index` asks for, whatever it will get: two builds for which
    /// this is the same do the same work.
    pub(super) fn asked(&self, index: usize) -> Table {
        let step = &self.steps[index - 1];
        let packages = step.requests.iter().map(Digest::to_string).collect();
        let downloads = step
            .urls
            .iter()
            .map(|(url, sha256)| (url.clone(), sha256.clone().unwrap_or_default()))
            .collect();
        self.table_of(step, packages, downloads)
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

    /// Returns the key of the build, given what is pinned.
    pub(super) fn key_with(&self, pins: &Lock) -> Digest {
        let mut table = self.table.clone();
        table.add("base", &self.base.key());
        for index in 1..=self.steps.len() {
            table.add(format!("step {index}"), &self.step(index, pins).map(|step| step.key()));
        }
        table.key()
    }

    fn table_of(
        &self,
        step: &StepFacts,
        packages: Vec<String>,
        downloads: Vec<(String, String)>,
    ) -> Table {
        self.common.step(&StepInputs {
            ops: &step.ops,
            files: step.files.clone(),
            network: step.network,
            packages,
            downloads,
        })
    }
}

fn named(package: &Package) -> String {
    format!("{} {} {}", package.name, package.version, package.sha256)
}

/// What a build's facts are gathered from.
pub(super) struct Sources<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) plan: &'a Plan,
    pub(super) base: &'a base::Pinned,
    pub(super) context: &'a Context,
    pub(super) locking: &'a Locking,
    pub(super) epoch: i64,
    pub(super) platform: &'a Platform,
    /// Of the recipe, for errors.
    pub(super) path: &'a Path,
}

/// Reads (and hashes) what the steps read, and draws the keys.
pub(super) fn gather(from: &Sources<'_>) -> Result<Facts, Error> {
    let Sources { recipe, plan, base, context, locking, epoch, platform, path } = *from;
    let image = &recipe.image;
    let common =
        Common { platform: platform.to_string(), epoch, compression: image.compression.name() };
    let mut table = Table::new();
    table.add("platform", &common.platform);
    table.add("epoch", &epoch);
    table.add(
        "image",
        &(
            &image.name,
            &image.version,
            &image.description,
            &image.labels,
            image.compression.name(),
            &recipe.drift.ignore,
        ),
    );
    table.add("config", &format!("{:?}", recipe.config));
    let packages: Vec<String> = match pinned::to_lock(base) {
        Some(LockedBase::Debian { packages, .. }) => packages.iter().map(named).collect(),
        None => vec![],
    };
    let base_table = common.base(&base.key(epoch), &packages);
    let identity = common.identity(&super::identity_of(recipe, plan, epoch));
    let mut missing = vec![];
    if locking.base().is_none() && pinned::needs_lock(base) {
        missing.push("the base".to_owned());
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
            network: node.network,
            files: vec![],
            urls: vec![],
            requests: vec![],
        };
        for op in &node.ops {
            match op {
                Op::Copy { from, .. } => step
                    .files
                    .push((format!("{COPY}{}", from.join(" ")), context.digest(op).map_err(told)?)),
                Op::Script { file, .. } => step
                    .files
                    .push((file.display().to_string(), context_file(context, file).map_err(told)?)),
                Op::Write { content: content @ Content::Template(file), .. } => {
                    // The text, not what it is made of: a variable that it does not use is of no
                    // account.
                    let text =
                        super::site::content(context, &recipe.vars, content).map_err(fail)?;
                    step.files.push((file.display().to_string(), Digest::of(text)));
                }
                Op::Packages { names, files, recommends } => {
                    for file in files {
                        step.files.push((
                            file.display().to_string(),
                            context_file(context, file).map_err(told)?,
                        ));
                    }
                    let contents: Vec<Digest> =
                        step.files.iter().map(|(_, digest)| *digest).collect();
                    let request =
                        Digest::of(json!([below, names, contents, recommends]).to_string());
                    if locking.packages_for(&request).is_none() {
                        missing.push(format!("the packages {}", names.join(" ")));
                    }
                    below = request;
                    step.requests.push(request);
                }
                Op::Repository { key, .. } => {
                    let contents = if is_url(key) {
                        step.urls.push((key.clone(), None));
                        vec![]
                    } else {
                        let digest = context_file(context, Path::new(key)).map_err(told)?;
                        step.files.push((key.clone(), digest));
                        vec![digest]
                    };
                    below = Digest::of(json!([below, op, contents]).to_string());
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
    facts.key = facts.key_with(locking.lock().unwrap_or(&Lock::default()));
    Ok(facts)
}

/// Names the content of a file of the context.
pub(super) fn context_file(context: &Context, path: &Path) -> Result<Digest, context::Error> {
    let content = |source| context::Error::Content { path: path.to_owned(), source };
    let mut reader = HashReader::new(context.open_file(path)?);
    io::copy(&mut reader, &mut io::sink()).map_err(content)?;
    Ok(reader.finish().1)
}

/// Whether a repository's key is to be fetched.
pub(super) fn is_url(key: &str) -> bool {
    key.starts_with("https://") || key.starts_with("http://")
}

/// Returns what is pinned before anything runs.
pub(super) fn pins(base: &base::Pinned) -> Lock {
    Lock { version: VERSION, epoch: base.date(), base: pinned::to_lock(base), ..Lock::default() }
}
