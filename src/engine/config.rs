//! The OCI config and manifest of the finished image, from the recipe's `[config]` and what the
//! steps left.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::digest::Digest;
use crate::image::{
    self, Config, Descriptor, Healthcheck, History, ImageConfig, Manifest, Platform,
};
use crate::layer::{Blob, Compression};
use crate::plan::Plan;
use crate::recipe::{self, Command, Recipe};
use crate::sandbox::PATH;

/// One step as the image remembers it.
pub(super) struct Made {
    /// Its layer, unless it changed nothing.
    pub(super) layer: Option<Blob>,
    /// Its key, where all that it was made from has a name.
    pub(super) key: Option<Digest>,
}

/// Returns the media type of layers compressed by `how`.
pub(super) fn media_type(how: Compression) -> &'static str {
    match how {
        Compression::Gzip => image::MEDIA_LAYER_GZIP,
        Compression::Zstd => image::MEDIA_LAYER_ZSTD,
        Compression::None => image::MEDIA_LAYER,
    }
}

/// Everything that config and manifest of an image say besides its layers. It is part of the
/// build's key as a whole, so that nothing reaches the image's bytes that is not in the key.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Skeleton {
    /// The config, with no layers and no history.
    config: ImageConfig,
    /// What the history says of each node: base, steps, identity.
    history: Vec<String>,
    /// Annotations of the manifest.
    annotations: BTreeMap<String, String>,
}

impl Skeleton {
    /// Draws what the image of `recipe` says of itself; of a step never its `name`.
    pub(super) fn draw(recipe: &Recipe, plan: &Plan, epoch: i64, platform: &Platform) -> Self {
        let mut config = ImageConfig::new(epoch, platform);
        config.config = run_config(recipe, &plan.base);
        let history = std::iter::once(format!("base {}", plan.base))
            .chain(plan.nodes.iter().map(|node| node.about.clone()))
            .chain(["identity".to_owned()])
            .collect();
        let mut annotations = said(recipe);
        annotations.insert(image::ANNOTATION_CREATED.to_owned(), image::rfc3339(epoch));
        if !recipe.drift.ignore.is_empty() {
            annotations.insert(
                image::ANNOTATION_DRIFT_IGNORE.to_owned(),
                serde_json::json!(recipe.drift.ignore).to_string(),
            );
        }
        Self { config, history, annotations }
    }

    /// Returns the config of the image of these layers.
    pub(super) fn config(&self, epoch: i64, made: &[Made]) -> ImageConfig {
        let mut out = self.config.clone();
        out.rootfs.diff_ids =
            made.iter().filter_map(|one| one.layer.as_ref()).map(|blob| blob.diff_id).collect();
        let entry = |(by, one): (&String, &Made)| {
            History::new(epoch, format!("bake: {by}"), "", one.layer.is_none())
        };
        out.history = self.history.iter().zip(made).map(entry).collect();
        out
    }

    /// Returns the manifest, given the named config blob.
    pub(super) fn manifest(
        &self,
        config: (Digest, u64),
        made: &[Made],
        how: Compression,
    ) -> Manifest {
        let layers = made.iter().filter_map(|one| one.layer.as_ref());
        let layers =
            layers.map(|blob| Descriptor::new(media_type(how), blob.digest, blob.size)).collect();
        let config = Descriptor::new(image::MEDIA_CONFIG, config.0, config.1);
        let mut out = Manifest::new(config, layers);
        out.annotations.clone_from(&self.annotations);
        out
    }
}

/// What the recipe says of itself, under the names of the OCI annotation specification.
fn said(recipe: &Recipe) -> BTreeMap<String, String> {
    let image = &recipe.image;
    let mut out = BTreeMap::from([
        (image::ANNOTATION_TITLE.to_owned(), image.name.clone()),
        (image::ANNOTATION_VERSION.to_owned(), image.version.clone()),
    ]);
    if let Some(text) = &image.description {
        out.insert(image::ANNOTATION_DESCRIPTION.to_owned(), text.clone());
    }
    out
}

fn run_config(recipe: &Recipe, base: &str) -> Config {
    let recipe::Config {
        entrypoint,
        cmd,
        env,
        user,
        workdir,
        ports,
        volumes,
        labels,
        stop_signal,
        healthcheck,
        lines: _,
    } = &recipe.config;
    let mut variables = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    variables.extend(env.clone());
    let mut all_labels = said(recipe);
    all_labels.insert("org.opencontainers.image.base.name".to_owned(), base.to_owned());
    all_labels.extend(recipe.image.labels.clone());
    all_labels.extend(labels.clone());
    Config {
        user: user.clone().unwrap_or_default(),
        exposed_ports: ports.iter().cloned().collect(),
        env: variables.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        entrypoint: entrypoint.clone().unwrap_or_default(),
        cmd: cmd.clone().unwrap_or_default(),
        volumes: volumes.iter().cloned().collect(),
        working_dir: workdir.clone().unwrap_or_default(),
        labels: all_labels,
        stop_signal: stop_signal.clone().unwrap_or_default(),
        healthcheck: healthcheck.as_ref().map(docker_healthcheck),
        ..Config::default()
    }
}

/// Docker's extension to the OCI config: durations in nanoseconds, the command with how it is run
/// in front.
fn docker_healthcheck(check: &recipe::Healthcheck) -> Healthcheck {
    let nanoseconds = |time: Option<Duration>| {
        time.map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
    };
    let test = match &check.cmd {
        Command::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
        Command::Argv(argv) => {
            std::iter::once("CMD".to_owned()).chain(argv.iter().cloned()).collect()
        }
    };
    Healthcheck {
        test,
        interval: nanoseconds(check.interval),
        timeout: nanoseconds(check.timeout),
        start_period: nanoseconds(check.start_period),
        retries: i64::from(check.retries.unwrap_or(0)),
        ..Healthcheck::default()
    }
}
