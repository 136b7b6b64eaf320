//! The end of a root: its image written and taken through the gate; and what is published already.

use std::thread;

use super::error::Error;
use super::locking::LockMode;
use super::request::{NoCache, Request};
use super::roots::{Ready, Roots};
use super::run::Run;
use super::work::Work;
use crate::digest::Digest;
use crate::event::Event;
use crate::image::{self, Descriptor, Reference};
use crate::job::JobContext;
use crate::plan::artifact::Built;
use crate::store::{STEP_KEYS_ANNOTATION, Store, Version, step_keys};
use crate::trial::{self, Checked};

/// Annotation of a published version in `index.json`: the key of the build that made it
/// ([`crate::plan::key`]).
pub const KEY_ANNOTATION: &str = "bake.build-key";

/// Looks whether this very build is published under its version. Of another build only the layers
/// can tell whether it is the same content: the publish compares.
pub(super) fn published_already(
    hall: &JobContext<'_>,
    request: &Request,
    roots: &Roots,
    wanted: bool,
) -> Result<Option<Version>, Error> {
    if request.lock == LockMode::Update || !roots.complete() {
        return Ok(None);
    }
    let ready = roots.main();
    let image = (&ready.recipe.image.name, Some(&ready.recipe.image.version));
    let versions = hall.store.versions()?;
    let Some(found) =
        versions.iter().find(|one| (&one.reference.name, one.reference.version.as_ref()) == image)
    else {
        return Ok(None);
    };
    match found.manifest.annotations.get(KEY_ANNOTATION) {
        // Who asks for steps to run wants to see whether they still give this image; the publish
        // compares.
        Some(key) if *key == ready.facts.key.to_string() => {
            let asked = request.paranoid || request.no_cache != NoCache::No;
            let there = !asked && whole(hall.store, &found.manifest.digest);
            Ok(there.then(|| found.clone()))
        }
        // What is only stood on is not published.
        Some(_) if !wanted => Ok(None),
        Some(_) => {
            (hall.sink)(Event::Note {
                message: format!(
                    "{} is published already, baked of other inputs: this build is refused unless it gives the very same image",
                    ready.plan.image
                ),
            });
            Ok(None)
        }
        None => Ok(None),
    }
}

/// Makes sure that a published version has passed the tests as they are now written: the image need
/// not be made again for that.
pub(super) fn tested(
    hall: &JobContext<'_>,
    request: &Request,
    ready: &Ready,
    version: &Version,
) -> Result<(), Error> {
    if trial::is_tested(&version.manifest, &ready.tests) {
        return Ok(());
    }
    trial::stored(hall, version.clone(), &ready.tests, request.no_test, Some(&request.recipe))?;
    Ok(())
}

/// Whether everything that a manifest names is there in its size (`bake verify` reads it all).
pub(super) fn whole(store: &Store, manifest: &Digest) -> bool {
    let Ok(bytes) = store.read_blob(manifest) else { return false };
    image::Manifest::parse(&bytes)
        .is_ok_and(|manifest| manifest.descriptors().all(|one| store.blob_of(one).is_ok()))
}

pub(super) fn taken(ready: &Ready, have: &Digest) -> Error {
    Error::VersionTaken {
        image: ready.plan.image.clone(),
        have: have.to_string(),
        recipe: ready.recipe_path.clone(),
    }
}

impl Work<'_> {
    /// Makes the base and runs the first `steps` steps, and with `identity` what says which image
    /// this is.
    pub(super) fn run(&self, steps: usize, identity: bool) -> Result<Built, Error> {
        self.started(self.ready.plan.nodes.len());
        let built = thread::scope(|scope| Run::new(self, scope).all(steps, identity))?;
        let layers = built.layers();
        if layers > 127 && identity {
            let message =
                format!("the image has {layers} layers; Docker and containerd start at most 127");
            let hint = Some("join `run` steps that belong together".to_owned());
            (self.sink)(Event::Warning { message, hint });
        }
        Ok(built)
    }

    /// Writes config and manifest, and passes the gate. `key`: of the build, with the lock as it is
    /// now: what the next run of the same recipe will see.
    pub(super) fn finish(&self, built: &Built, key: &Digest) -> Result<Checked<'_>, Error> {
        let Ready { recipe, plan, epoch, platform, skeleton, .. } = self.ready;
        let image_config = skeleton.config(*epoch, built);
        let config = self.draft.put(&image_config.to_json())?;
        let image_manifest = skeleton.manifest(config, built, self.compression());
        let (digest, size) = self.draft.put(&image_manifest.to_json())?;
        let image = &recipe.image;
        let reference = Reference::new(&image.name, &image.version).map_err(|error| {
            Error::Chore { what: format!("name the image {}", plan.image), why: error.to_string() }
        })?;
        let keys = skeleton.entries(*epoch, built).into_iter().map(|(_, key)| key);
        let descriptor = Descriptor::new(image::MEDIA_MANIFEST, digest, size)
            .with_platform(platform.clone())
            .with_annotation(KEY_ANNOTATION, key.to_string())
            .with_annotation(STEP_KEYS_ANNOTATION, step_keys(keys));
        let (draft, tests) = (&self.draft, &self.ready.tests);
        let context = &JobContext { sink: self.sink, ..*self.hall };
        let finished = trial::Finished {
            draft,
            reference,
            descriptor,
            manifest: &image_manifest,
            config: &image_config,
            tests,
            context,
            logs: &self.logs,
            recipe: Some(&self.ready.recipe_path),
            said: Some(trial::Said {
                recipe: &self.ready.recipe_path,
                lines: &recipe.config.lines,
            }),
        };
        let checked = trial::check(finished, self.request.no_test, || self.session())?;
        if self.hall.cancel.fired() {
            return Err(Error::Interrupted);
        }
        Ok(checked)
    }
}
