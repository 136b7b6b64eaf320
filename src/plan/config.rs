//! The OCI config and manifest of the finished image, from the recipe's `[config]` and what the
//! steps left.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::Plan;
use super::artifact::Built;
use crate::digest::Digest;
use crate::image::{
    self, Config, Descriptor, Healthcheck, History, ImageConfig, Manifest, Platform,
};
use crate::layer::Compression;
use crate::recipe::{self, Command, Recipe};
use crate::rootfs::PATH;

/// Returns the media type of layers compressed by `how`.
pub fn media_type(how: Compression) -> &'static str {
    match how {
        Compression::Gzip => image::MEDIA_LAYER_GZIP,
        Compression::Zstd => image::MEDIA_LAYER_ZSTD,
        Compression::None => image::MEDIA_LAYER,
    }
}

/// Everything that config and manifest of an image say besides its layers. It is part of the
/// build's key as a whole, so that nothing reaches the image's bytes that is not in the key.
#[derive(Debug, Clone, Serialize)]
pub struct Skeleton {
    /// The config, with no layers and no history.
    config: ImageConfig,
    /// What the history says of each node: base, steps, identity.
    history: Vec<String>,
    /// Annotations of the manifest.
    annotations: BTreeMap<String, String>,
}

impl Skeleton {
    /// Draws what the image of `recipe` says of itself, on the image whose config is `below`; of a
    /// step never its `name`.
    pub fn draw(
        recipe: &Recipe,
        plan: &Plan,
        epoch: i64,
        platform: &Platform,
        below: Option<&Config>,
    ) -> Self {
        let mut config = ImageConfig::new(epoch, platform);
        let own = run_config(recipe, &plan.base);
        config.config = match below {
            Some(below) => inherited(below, own, recipe),
            None => own,
        };
        let history = std::iter::once(format!("base {}", plan.base))
            .chain(plan.nodes.iter().map(|node| node.about.clone()))
            .chain(["identity".to_owned()])
            .collect();
        let mut annotations = self::annotations(recipe);
        annotations.insert(image::ANNOTATION_CREATED.to_owned(), image::rfc3339(epoch));
        if !recipe.drift.ignore.is_empty() {
            annotations.insert(
                image::ANNOTATION_DRIFT_IGNORE.to_owned(),
                serde_json::json!(recipe.drift.ignore).to_string(),
            );
        }
        Self { config, history, annotations }
    }

    /// Returns what an image that stands on this one inherits.
    pub fn inherited(&self) -> Config {
        self.config.config.clone()
    }

    /// Returns the config of the image of these layers.
    pub fn config(&self, epoch: i64, built: &Built) -> ImageConfig {
        let mut out = self.config.clone();
        let own = built.made.iter().filter_map(|one| one.layer.as_ref()).map(|blob| blob.diff_id);
        out.rootfs.diff_ids = built.chain_below().into_iter().chain(own).collect();
        out.history = self.entries(epoch, built).into_iter().map(|(entry, _)| entry).collect();
        out
    }

    /// Returns the history of the image, with the key of each entry's node.
    pub fn entries(&self, epoch: i64, built: &Built) -> Vec<(History, Option<Digest>)> {
        let entry = |by: &str, empty| History::new(epoch, format!("bake: {by}"), "", empty);
        let below = built.below.iter().flat_map(|below| &below.history);
        let mut out: Vec<_> = below.map(|entry| (entry.clone(), None)).collect();
        let layers = built.below.as_ref().map_or(0, |below| below.layers.len());
        let known = out.iter().filter(|(entry, _)| !entry.empty_layer).count();
        // Layers of a stage have no history of their own, and some images have none.
        let unnamed = layers.saturating_sub(known);
        let base = self.history.first().map_or("base", String::as_str);
        out.extend((0..unnamed).map(|_| (entry(base, false), None)));
        let own = self.history.iter().zip(&built.made).skip(usize::from(built.below.is_some()));
        out.extend(own.map(|(by, one)| (entry(by, one.layer.is_none()), one.key)));
        out
    }

    /// Returns the manifest, given the named config blob.
    pub fn manifest(&self, config: (Digest, u64), built: &Built, how: Compression) -> Manifest {
        let below = built.below.iter().flat_map(|below| &below.layers);
        let below = below.map(|layer| (&layer.blob, layer.compression));
        let own = built.made.iter().filter_map(|one| one.layer.as_ref()).map(|blob| (blob, how));
        let layers = below
            .chain(own)
            .map(|(blob, how)| Descriptor::new(media_type(how), blob.digest, blob.size))
            .collect();
        let config = Descriptor::new(image::MEDIA_CONFIG, config.0, config.1);
        let mut out = Manifest::new(config, layers);
        out.annotations.clone_from(&self.annotations);
        out
    }
}

/// What the recipe says of itself, under the names of the OCI annotation specification.
fn annotations(recipe: &Recipe) -> BTreeMap<String, String> {
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
    let mut all_labels = self::annotations(recipe);
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

/// Returns the config of an image on another, as Docker's `FROM` has it: environment, labels, ports
/// and volumes add, the rest replaces, and a new entrypoint clears the command of the base.
fn inherited(base: &Config, own: Config, recipe: &Recipe) -> Config {
    let name = |variable: &String| variable.split('=').next().unwrap_or_default().to_owned();
    let own_env: BTreeMap<String, String> = recipe
        .config
        .env
        .iter()
        .map(|(name, value)| (name.clone(), format!("{name}={value}")))
        .collect();
    let mut env: Vec<String> = base
        .env
        .iter()
        .map(|variable| own_env.get(&name(variable)).unwrap_or(variable).clone())
        .collect();
    let there: Vec<String> = env.iter().map(name).collect();
    env.extend(own.env.iter().filter(|variable| !there.contains(&name(variable))).cloned());
    let mut labels = base.labels.clone();
    labels.extend(own.labels);
    let either = |own: String, base: &String| if own.is_empty() { base.clone() } else { own };
    let entrypoint =
        if recipe.config.entrypoint.is_some() { own.entrypoint } else { base.entrypoint.clone() };
    let cmd = match (&recipe.config.cmd, &recipe.config.entrypoint) {
        (Some(_), _) => own.cmd,
        (None, Some(_)) => vec![],
        (None, None) => base.cmd.clone(),
    };
    Config {
        user: either(own.user, &base.user),
        exposed_ports: base.exposed_ports.union(&own.exposed_ports).cloned().collect(),
        env,
        entrypoint,
        cmd,
        volumes: base.volumes.union(&own.volumes).cloned().collect(),
        working_dir: either(own.working_dir, &base.working_dir),
        labels,
        stop_signal: either(own.stop_signal, &base.stop_signal),
        healthcheck: own.healthcheck.or_else(|| base.healthcheck.clone()),
        ..own
    }
}

pub fn compression(how: recipe::Compression) -> Compression {
    match how {
        recipe::Compression::Gzip => Compression::Gzip,
        recipe::Compression::Zstd => Compression::Zstd,
        recipe::Compression::None => Compression::None,
    }
}

/// Returns what the image says of itself inside.
pub fn identity_of(recipe: &Recipe, plan: &Plan, epoch: i64) -> image::Identity {
    image::Identity {
        v: 1,
        name: recipe.image.name.clone(),
        version: recipe.image.version.clone(),
        base: plan.base.clone(),
        created: image::rfc3339(epoch),
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
