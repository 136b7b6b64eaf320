//! The roots of a recipe: everything that is known of each before anything runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::start::Start;
use crate::archive::Source;
use crate::context::Context;
use crate::digest::Digest;
use crate::image::Platform;
use crate::inputs::Facts;
use crate::plan::Plan;
use crate::plan::config::Skeleton;
use crate::plan::lock::Lock;
use crate::recipe::Recipe;
use crate::trial::Tests;

/// A root of a recipe, read, pinned and planned: everything known before anything runs.
pub(super) struct Ready {
    /// The stage that it is; none: the image.
    pub(super) stage: Option<String>,
    /// The recipe with the base and the steps of this root.
    pub(super) recipe: Recipe,
    pub(super) recipe_path: PathBuf,
    pub(super) context: Arc<Context>,
    pub(super) context_dir: PathBuf,
    pub(super) source: Arc<Source>,
    pub(super) start: Start,
    /// What its steps see of the environment of the image that is the base.
    pub(super) environment: BTreeMap<String, String>,
    pub(super) plan: Plan,
    pub(super) epoch: i64,
    pub(super) facts: Facts,
    pub(super) skeleton: Skeleton,
    pub(super) platform: Platform,
    /// What is pinned before anything runs.
    pub(super) pins: Lock,
    pub(super) tests: Tests,
}

/// The roots of one recipe: its stages, each after those that it needs, and the image.
pub(super) struct Roots(pub(super) Vec<Ready>);

impl Roots {
    /// Returns the root that becomes the image.
    pub(super) fn main(&self) -> &Ready {
        self.0.last().expect("`prepare` puts the image behind its stages")
    }

    /// Whether the lock pins everything this recipe needs.
    pub(super) fn complete(&self) -> bool {
        self.0.iter().all(|root| root.facts.complete())
    }

    /// Returns what the lock file does not pin yet, as people call it.
    pub(super) fn missing(&self) -> Vec<String> {
        self.0.iter().flat_map(|root| root.facts.missing.iter().cloned()).collect()
    }

    /// Returns what the lock file says once nothing is missing, given all that is pinned.
    pub(super) fn needed(&self, pins: &Lock) -> Lock {
        let mut needed = self.main().facts.needed(&self.main().pins, pins);
        for root in &self.0[..self.0.len() - 1] {
            needed.add(root.facts.needed(&root.pins, pins));
        }
        needed
    }

    /// Returns the key of the build, given what is pinned.
    pub(super) fn key(&self, pins: &Lock) -> Digest {
        let mut keys: Vec<(String, Digest)> = vec![];
        for root in &self.0 {
            let key = root.facts.key_with(pins, &keys);
            let Some(stage) = &root.stage else { return key };
            keys.push((stage.clone(), key));
        }
        self.main().facts.key
    }
}
