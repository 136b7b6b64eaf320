//! What the last build of a recipe was made from, step by step: kept beside the cache, so that a
//! miss can say why it is one.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::Context;
use crate::digest::Digest;
use crate::inputs::COPY;
use crate::plan::key::Table;
use crate::plan::listing::Listing;
use crate::plan::why::{StandsOn, Why, changes};
use crate::step::Op;
use crate::store::StepCache;

/// Format of a record; one of another is forgotten.
const VERSION: u32 = 1;

/// The record of one recipe.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    v: u32,
    steps: BTreeMap<usize, Recorded>,
    #[serde(skip)]
    name: Option<Digest>,
    #[serde(skip)]
    changed: bool,
}

/// One step as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recorded {
    /// Which build, and when (RFC 3339).
    build: String,
    at: String,
    rows: BTreeMap<String, Value>,
}

impl Record {
    /// Reads the record of a build of the recipe at `path`, or of a stage of it; a new one where
    /// there is none. `build`: which of the recipe's builds, empty where it has one only.
    pub(crate) fn open(
        cache: &StepCache,
        (path, build): (&Path, String),
        stage: Option<&str>,
    ) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut name = path.into_os_string().into_encoded_bytes();
        // No path has a zero byte.
        if let Some(stage) = stage {
            name.push(0);
            name.extend(stage.as_bytes());
        }
        if !build.is_empty() {
            name.extend(b"\0\0");
            name.extend(build.as_bytes());
        }
        let name = Digest::of(name);
        let read = cache
            .record("builds", &name)
            .and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        let read = read.filter(|record| record.v == VERSION).unwrap_or_default();
        Self { v: VERSION, name: Some(name), ..read }
    }

    /// Whether the last build had this very step, whatever was below it: then the cache may know
    /// it.
    pub(crate) fn may_hit(&self, index: usize, own: &Table) -> bool {
        self.like(index, own).is_some_and(|last| {
            own.rows().iter().all(|row| last.rows.get(&row.name) == Some(&row.value))
        })
    }

    /// Says why the step with this table is not in the cache, and since which build, given that it
    /// is not. `ops`: what the step does, `context`: what its files are of now,
    /// `base`: what the root stands on.
    pub(crate) fn why(
        &self,
        index: usize,
        table: &Table,
        cache: &StepCache,
        ops: &[Op],
        context: &Context,
        base: Option<StandsOn<'_>>,
    ) -> (Why, Option<String>) {
        let Some(last) = self.like(index, table) else { return (Why::First, None) };
        keep_listings(cache, context, ops, table);
        let listing = |digest: &Digest| listing(cache, digest);
        let found = changes(&last.rows, table.rows(), base, &listing);
        let since = Some(format!("{} ({})", last.at, last.build));
        if found.is_empty() { (Why::Gone, since) } else { (Why::Changed(found), since) }
    }

    /// Notes what a step was made from.
    pub(crate) fn set(&mut self, index: usize, table: &Table, build: &str, at: &str) {
        let rows: BTreeMap<String, Value> =
            table.rows().iter().map(|row| (row.name.clone(), row.value.clone())).collect();
        if self.steps.get(&index).is_none_or(|last| last.rows != rows) {
            self.steps.insert(index, Recorded { build: build.to_owned(), at: at.to_owned(), rows });
            self.changed = true;
        }
    }

    /// Forgets the steps from `count` on, which the recipe no longer has.
    pub(crate) fn cut(&mut self, count: usize) {
        let before = self.steps.len();
        self.steps.retain(|index, _| *index < count);
        self.changed |= self.steps.len() != before;
    }

    /// Writes it, if there is anything new in it. It only serves to explain: failing to write it is
    /// no failure of the build.
    pub(crate) fn write(&self, cache: &StepCache) {
        if let (Some(name), true) = (self.name, self.changed) {
            let bytes = serde_json::to_vec(self).expect("plain data always has a JSON form");
            let _ = cache.write_record("builds", &name, &bytes);
        }
    }

    /// The recorded step that this one most likely is: with the same operations, nearest by; else
    /// the one at the same place.
    fn like(&self, index: usize, table: &Table) -> Option<&Recorded> {
        let row =
            |name: &str| table.rows().iter().find(|row| row.name == name).map(|row| &row.value);
        let same = |last: &&Recorded| {
            ["kind", "operations"].iter().all(|name| last.rows.get(*name) == row(name))
        };
        let alike = self
            .steps
            .iter()
            .filter(|(_, last)| same(last))
            .min_by_key(|(at, _)| at.abs_diff(index))
            .map(|(_, last)| last);
        alike.or_else(|| self.steps.get(&index).filter(|last| last.rows.get("kind") == row("kind")))
    }
}

/// Keeps what the digests of the context's files in this table are made of, so that a later build
/// can name the file that changed.
pub(crate) fn keep_listings(cache: &StepCache, context: &Context, ops: &[Op], table: &Table) {
    let Some(row) = table.rows().iter().find(|row| row.name == "files") else { return };
    let files: Vec<(String, Digest)> =
        serde_json::from_value(row.value.clone()).unwrap_or_default();
    let copies = ops.iter().filter(|op| matches!(op, Op::Copy { .. }));
    let digests = files.iter().filter(|(name, _)| name.starts_with(COPY)).map(|(_, digest)| digest);
    for (op, digest) in copies.zip(digests) {
        if cache.has_record("listings", digest) {
            continue;
        }
        if let Ok(found) = context.listing(op) {
            // Only serves to explain.
            let _ = cache.write_record("listings", digest, found.bytes());
        }
    }
}

fn listing(cache: &StepCache, digest: &Digest) -> Option<Listing> {
    Listing::parse(cache.record("listings", digest)?)
}
