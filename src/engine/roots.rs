//! The roots of a recipe: its stages and its image.

use std::collections::BTreeMap;
use std::path::Path;

use crate::digest::Digest;
use crate::executor::Root;
use crate::image::Platform;
use crate::output::Format;
use crate::plan::lock::Lock;

/// What a recipe and its stages may stand on: other recipes, by their paths as it writes them.
pub(crate) type Below<'a> = BTreeMap<&'a Path, &'a Roots>;

/// The roots of one recipe: its stages, each after those that it needs, and the image.
pub(crate) struct Roots(pub(crate) Vec<Root>);

impl Roots {
    /// Returns the root that becomes the image.
    pub(crate) fn main(&self) -> &Root {
        self.0.last().expect("`prepare` puts the image behind its stages")
    }

    /// Returns what the image is called among those of a run: `name:version`, and its platform
    /// where that is not this machine's.
    pub(crate) fn called(&self) -> String {
        let Root { plan, platform, .. } = self.main();
        match *platform == Platform::host() {
            true => plan.image.clone(),
            false => format!("{} {platform}", plan.image),
        }
    }

    /// Whether the lock pins everything this recipe needs.
    pub(super) fn complete(&self) -> bool {
        self.0.iter().all(|root| root.facts.complete())
    }

    /// Whether all is known that the lock file has to pin, without anything being run.
    pub(super) fn known(&self) -> bool {
        self.0.iter().all(|root| root.facts.known())
    }

    /// Returns what the lock file does not pin yet, as people call it.
    pub(super) fn missing(&self) -> Vec<String> {
        self.0.iter().flat_map(|root| root.facts.missing.iter().cloned()).collect()
    }

    /// Returns what the lock file says once nothing is missing, given all that is pinned.
    pub(super) fn needed(&self, pins: &Lock) -> Lock {
        let mut needed = self.main().pins.clone();
        needed.toolbox = pins.toolbox.clone().filter(|_| self.pins_toolbox());
        // In the order in which a build pins them.
        for root in &self.0 {
            needed.add(root.facts.needed(&root.pins, pins));
        }
        needed
    }

    /// Whether outputs of the recipe itself are made by programs.
    pub(super) fn pins_toolbox(&self) -> bool {
        let mut own = self.main().recipe.outputs.iter().filter(|output| !output.given);
        own.any(|output| Format::find(&output.format).and_then(Format::program).is_some())
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
