//! The end of an image: its config and manifest are written, and it passes the gate.

use super::error::Error;
use super::published::KEY_ANNOTATION;
use super::work::Work;
use crate::digest::Digest;
use crate::event::Event;
use crate::executor::Root;
use crate::image::{self, Descriptor, Reference};
use crate::job;
use crate::plan::artifact::Built;
use crate::store::{STEP_KEYS_ANNOTATION, step_keys};
use crate::trial::{self, Examined};

/// Most layers of an image that Docker and containerd start.
const MOST_LAYERS: usize = 127;

impl Work<'_> {
    /// Writes config and manifest, and passes those tests that look at containers. `key`: of the
    /// build, with the lock as it is now: what the next run of the same recipe will see.
    pub(super) fn finish(&self, built: &Built, key: &Digest) -> Result<Examined<'_>, Error> {
        let (build, Root { recipe, recipe_path, plan, epoch, platform, skeleton, tests, .. }) =
            (&self.build, self.build.root);
        let layers = built.layers();
        if layers > MOST_LAYERS {
            let message = format!(
                "the image has {layers} layers; Docker and containerd start at most {MOST_LAYERS}"
            );
            let hint = Some("join `run` steps that belong together".to_owned());
            (build.job.sink)(Event::Warning { message, hint });
        }
        let image_config = skeleton.config(*epoch, built);
        let config_json = image_config.to_json();
        let config = build.staging.put(&config_json)?;
        let image_manifest = skeleton.manifest(config, built, build.compression());
        let manifest_json = image_manifest.to_json();
        let tests_json = tests.bytes();
        let scripts = tests.scripts.values().map(|script| ("a script of its tests", &script[..]));
        let documents = [
            ("its config", &config_json[..]),
            ("its manifest", &manifest_json[..]),
            ("the list of its tests", &tests_json[..]),
        ];
        build.no_secret_in(documents.into_iter().chain(scripts))?;
        let (digest, size) = build.staging.put(&manifest_json)?;
        let image = &recipe.image;
        let reference =
            Reference::new(&image.name, &image.version).map_err(|error| job::Error::Failed {
                what: format!("name the image {}", plan.image),
                why: error.to_string(),
            })?;
        let keys = skeleton.entries(*epoch, built).into_iter().map(|(_, key)| key);
        let descriptor = Descriptor::new(image::MEDIA_MANIFEST, digest, size)
            .with_platform(platform.clone())
            .with_annotation(KEY_ANNOTATION, key.to_string())
            .with_annotation(STEP_KEYS_ANNOTATION, step_keys(keys));
        let stated = build.stated_network(built, &reference.to_string(), &digest);
        let finished = trial::Finished {
            staging: &build.staging,
            reference,
            descriptor,
            manifest: &image_manifest,
            config: &image_config,
            tests,
            attested: vec![],
            stated,
            context: &build.job,
            logs: &build.logs,
            recipe: Some(recipe_path),
            configured: Some(trial::Configured {
                recipe: recipe_path,
                lines: &recipe.config.lines,
            }),
        };
        let checked = trial::check(finished, self.request.no_test, || build.session())?;
        self.go_on()?;
        Ok(checked)
    }
}
