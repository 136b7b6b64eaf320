//! What is asked of a build, and what comes of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::error::{Error, Failed};
use crate::delivery::Delivered;
use crate::digest::Digest;
use crate::gateway::HostTrust;
use crate::image::Platform;
use crate::import;
use crate::inputs::{self, Found, Looked};
use crate::recipe;
use crate::registry;
use crate::secret::Secrets;
use crate::web::Authorities;

/// How the network is used.
#[derive(Debug, Clone, Default)]
pub struct NetworkOptions {
    /// `--debian-mirror`.
    pub mirror: Option<String>,
    /// `--network-timeout`: how long a server may be silent.
    pub timeout: Option<Duration>,
    /// Whom https trusts.
    pub authorities: Authorities,
    /// How registries are spoken to.
    pub registry: registry::Options,
    /// What images of other tools and of registries were found to be in this run.
    pub resolved: import::Resolved,
    /// What steps with a network go out by; nothing of the host with `--no-host-trust`.
    pub trust: Arc<HostTrust>,
    /// `--allow-expired`: package lists are taken also after their Valid-Until.
    pub allow_expired: bool,
}

/// How the lock file is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LockMode {
    /// Obeyed where it speaks, extended where it does not.
    #[default]
    Obey,
    /// `--locked`: it must speak of everything.
    Locked,
    /// `--update`: ignored and renewed.
    Update,
}

/// What a person asks for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The recipe.
    pub recipe: PathBuf,
    /// What it is read with.
    pub inputs: recipe::Inputs,
    /// What `look_over` made of it, where that was asked already.
    pub checked: Option<Looked>,
    /// How the lock file is treated.
    pub lock: LockMode,
    /// `SOURCE_DATE_EPOCH`.
    pub epoch: Option<i64>,
    /// How the network is used.
    pub network: NetworkOptions,
    /// `--no-cache`.
    pub no_cache: NoCache,
    /// `--paranoid`: run cached steps again and compare.
    pub paranoid: bool,
    /// `--no-test`: publish without running the tests.
    pub no_test: bool,
    /// `--tools`: which programs make file systems.
    pub tools: ToolsFrom,
    /// `--secret`: the values of secrets that steps use.
    pub secrets: Secrets,
    /// `--on-failure=shell`: let the person at the terminal look into the step that fails.
    pub shell_on_failure: bool,
}

impl Request {
    /// Returns this request once for each variant of its recipe that is meant, and each platform,
    /// with what was read.
    ///
    /// # Errors
    /// What is wrong with the recipe.
    pub fn each_variant(&self) -> Result<Vec<Self>, Failed> {
        if self.checked.is_some() {
            return Ok(vec![self.clone()]);
        }
        let found = inputs::look_over_variants(&self.recipe, &self.inputs);
        let found = found.map_err(|error| self.failed(error.into()))?;
        let one = |found: Found| Self {
            inputs: recipe::Inputs {
                variant: found.variant,
                ..self.inputs.for_platform(&found.platform)
            },
            checked: Some(found.looked),
            ..self.clone()
        };
        Ok(found.into_iter().map(one).collect())
    }

    /// Returns what names the records of its roots.
    pub(crate) fn record(&self) -> (&Path, String) {
        (&self.recipe, self.build())
    }

    /// Returns what it is built for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        self.inputs.platform.clone().unwrap_or_else(Platform::host)
    }

    /// Names this build among those of its recipe; empty where there is one only.
    pub(super) fn build(&self) -> String {
        self.named(&self.inputs.variant.to_string(), &self.platform())
    }

    /// Names the build of a variant for a platform. The first platform of the recipe, or this
    /// machine's where it names none, has no name.
    fn named(&self, variant: &str, platform: &Platform) -> String {
        let of_recipe = self.checked.iter().flat_map(|one| &one.recipe.image.platforms).next();
        match *platform == of_recipe.cloned().unwrap_or_else(Platform::host) {
            true => variant.to_owned(),
            false if variant.is_empty() => platform.to_string(),
            false => format!("{variant} {platform}"),
        }
    }

    /// Returns the names of all builds of the recipe, this one among them.
    pub(super) fn builds(&self) -> Arc<[String]> {
        let Some(looked) = &self.checked else { return [self.build()].into() };
        let mut platforms = looked.recipe.image.platforms.clone();
        if platforms.is_empty() {
            platforms.push(Platform::host());
        }
        if !platforms.contains(&self.platform()) {
            platforms.push(self.platform());
        }
        let variants = looked.builds.iter();
        let all =
            |variant| platforms.iter().map(|one| self.named(variant, one)).collect::<Vec<_>>();
        variants.flat_map(|variant| all(variant)).collect()
    }

    /// Returns that this build failed.
    #[must_use]
    pub fn failed(&self, error: Error) -> Failed {
        Failed { recipe: self.recipe.clone(), build: self.build(), error: error.into() }
    }
}

/// Which programs make file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ToolsFrom {
    /// Those of the toolbox image.
    #[default]
    Toolbox,
    /// The host's.
    Host,
}

/// Which steps run although they are cached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NoCache {
    /// None.
    #[default]
    No,
    /// All.
    All,
    /// Those of these numbers or names; `base` is the base.
    Steps(Vec<String>),
}

/// A published image.
#[derive(Debug, Clone)]
pub struct Baked {
    /// `name:version`.
    pub image: String,
    /// Image name.
    pub name: String,
    /// Image version.
    pub version: String,
    /// The manifest's digest.
    pub digest: Digest,
    /// It was published already, with this very content.
    pub already: bool,
    /// How long the build took.
    pub took: Duration,
    /// What was made of it outside of the store, or was there.
    pub outputs: Vec<Delivered>,
}
