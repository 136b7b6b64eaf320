//! What is known of a build before anything runs: which context files each step reads, what the lock pins for it, and from
//! these the key that names the build.

use std::io;
use std::path::Path;

use serde_json::json;

use crate::base;
use crate::digest::{Digest, HashReader};
use crate::image::Platform;
use crate::plan::Plan;
use crate::plan::key::Table;
use crate::plan::lock::{Lock, VERSION};
use crate::recipe::Recipe;
use crate::step::{Content, Op};

use super::context::{self, Context};
use super::error::{Error, StepFailure, chain};
use super::locking::Locking;
use super::pinned;

/// What is known before anything runs.
pub(super) struct Facts {
    /// Per step: what names each of its package requests, in order of its operations.
    pub(super) requests: Vec<Vec<Digest>>,
    /// The lock pins everything this recipe needs.
    pub(super) complete: bool,
    /// The key of the build, given the lock as it was read.
    pub(super) key: Digest,
    /// The key's rows but for the lock's packages, which a build may add.
    table: Table,
}

/// Returns the key of the build, given what is pinned.
pub(super) fn key_with(facts: &Facts, pins: &Lock) -> Digest {
    let mut table = facts.table.clone();
    for (at, requests) in facts.requests.iter().enumerate() {
        for request in requests {
            let sums = pins.packages_for(request).map(|set| set.packages.iter().map(|one| one.sha256.clone()).collect::<Vec<_>>());
            table.add(format!("packages {}", at + 1), &sums);
        }
    }
    // Sums the recipe leaves to the lock.
    table.add("downloads", &pins.download.iter().map(|one| (&one.url, &one.sha256)).collect::<Vec<_>>());
    table.key()
}

/// Reads (and hashes) what the steps read, and draws the key.
#[expect(clippy::too_many_arguments, reason = "everything that decides a build comes together here")]
pub(super) fn gather(
    recipe: &Recipe,
    plan: &Plan,
    base: &base::Pinned,
    context: &Context,
    locking: &Locking,
    epoch: i64,
    platform: &Platform,
    path: &Path,
) -> Result<Facts, Error> {
    let image = &recipe.image;
    let mut table = Table::new();
    table.add("platform", &platform.to_string());
    table.add("epoch", &epoch);
    table.add(
        "image",
        &(&image.name, &image.version, &image.description, &image.labels, format!("{:?}", image.compression), &recipe.drift.ignore),
    );
    table.add("base", &base.key(epoch));
    let mut complete = locking.base().is_some() || !pinned::needs_lock(base);
    let mut below = base.key(0);
    let mut requests = vec![];
    for (at, node) in plan.nodes.iter().enumerate() {
        let index = at + 1;
        let fail = |why: &dyn std::error::Error| {
            let mut texts = chain(why);
            let first = texts.remove(0);
            Error::Step {
                place: format!("step {index} of {}", plan.nodes.len()),
                label: node.label.clone(),
                recipe: path.to_owned(),
                line: node.line,
                why: StepFailure::Prepared(first, texts),
                tail: vec![],
                log: None,
            }
        };
        let mut contents = vec![];
        let mut asked = vec![];
        for op in &node.ops {
            match op {
                Op::Copy { .. } => contents.push(context.digest(op).map_err(|error| fail(&error))?),
                Op::Script { file, .. } | Op::Write { content: Content::Template(file), .. } => {
                    contents.push(context_file(context, file).map_err(|error| fail(&error))?);
                }
                Op::Packages { names, files, recommends } => {
                    for file in files {
                        contents.push(context_file(context, file).map_err(|error| fail(&error))?);
                    }
                    let request = Digest::of(json!([below, names, contents, recommends]).to_string());
                    complete &= locking.packages_for(&request).is_some();
                    below = request;
                    asked.push(request);
                }
                Op::Repository { key, .. } => {
                    if is_url(key) {
                        complete &= locking.sha256_of(key).is_some();
                    } else {
                        contents.push(context_file(context, Path::new(key)).map_err(|error| fail(&error))?);
                    }
                    below = Digest::of(json!([below, op, contents]).to_string());
                }
                Op::Download { url, sha256, .. } => complete &= sha256.is_some() || locking.sha256_of(url).is_some(),
                _ => {}
            }
        }
        // A template's text is decided by the variables too.
        if node.ops.iter().any(|op| matches!(op, Op::Write { content: Content::Template(_), .. })) {
            table.add(format!("variables {index}"), &format!("{:?}", recipe.vars));
        }
        table.add_step(index, &node.ops, &contents, node.network);
        requests.push(asked);
    }
    table.add("config", &format!("{:?}", recipe.config));
    let mut facts = Facts { requests, complete, key: Digest::of(b""), table };
    facts.key = key_with(&facts, locking.lock().unwrap_or(&Lock::default()));
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
