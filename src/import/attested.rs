//! What a registry has of an image besides it: the statements of bake that its tests passed. They
//! speak about its digest, so that they can be believed as far as the image itself, and no further.
//! Whatever else speaks about it is left where it is.

use super::error::Error;
use crate::attest::{self, MEDIA_IN_TOTO, TestRun};
use crate::digest::Digest;
use crate::event::{Event, Sink, chain};
use crate::image::{Descriptor, MEDIA_MANIFEST, Manifest};
use crate::job;
use crate::registry::{self, Repository};
use crate::store::{SMALL, Staging};

/// Most statements that are looked at.
const MOST: usize = 16;

/// Puts the statements that a registry has about `image` into `staging`, each checked; returns
/// their artifacts, the newest last. What cannot be had is no reason to go without the image, and a
/// warning.
///
/// # Errors
/// Where they cannot be written, and where the person has ended it.
pub(super) fn fetch(
    repository: &Repository,
    image: &Digest,
    staging: &Staging,
    sink: &Sink,
) -> Result<Vec<Descriptor>, Error> {
    let warn = |error: registry::Error| match error {
        registry::Error::Cancelled => Err(Error::from(job::Error::Interrupted)),
        error => {
            let why = chain(&error).join(": ");
            let message = format!("whether its tests passed is unknown: {why}");
            sink(Event::Warning { message, hint: None });
            Ok(())
        }
    };
    let listed = match repository.referrers(image, MEDIA_IN_TOTO) {
        Ok(listed) => listed,
        Err(error) => return warn(error).map(|()| vec![]),
    };
    let mut found = vec![];
    for named in listed.iter().rev().take(MOST) {
        match statement(repository, image, named) {
            Ok(one) => found.extend(one),
            Err(error) => warn(error)?,
        }
    }
    found.sort_by(|a, b| a.run.finished.cmp(&b.run.finished));
    found.iter().map(|one| one.keep(staging)).collect()
}

/// A statement that an image passed its tests.
struct Statement {
    run: TestRun,
    bytes: Vec<u8>,
    /// The manifest of the artifact that has it.
    manifest: Vec<u8>,
}

/// Reads a statement; nothing where it is none of bake's, or about something else.
fn statement(
    repository: &Repository,
    image: &Digest,
    named: &Descriptor,
) -> Result<Option<Statement>, registry::Error> {
    let document = repository.manifest(&named.digest.to_string())?;
    let Ok(manifest) = Manifest::parse(&document.bytes) else { return Ok(None) };
    let about = manifest.subject.as_ref().map(|subject| subject.digest);
    let [layer] = &manifest.layers[..] else { return Ok(None) };
    let ours = document.descriptor.media_type == MEDIA_MANIFEST
        && manifest.artifact_type.as_deref() == Some(MEDIA_IN_TOTO)
        && about == Some(*image)
        && manifest.config.digest == attest::empty_config().1.digest
        && layer.media_type == MEDIA_IN_TOTO
        && layer.size <= SMALL;
    if !ours {
        return Ok(None);
    }
    let mut bytes = vec![];
    repository.blob(layer, &mut bytes, &mut |_| {})?;
    let run = attest::test_run(&bytes, image);
    Ok(run.map(|run| Statement { run, bytes, manifest: document.bytes }))
}

impl Statement {
    fn keep(&self, staging: &Staging) -> Result<Descriptor, Error> {
        staging.put(attest::empty_config().0)?;
        staging.put(&self.bytes)?;
        let (digest, size) = staging.put(&self.manifest)?;
        let mut artifact = Descriptor::new(MEDIA_MANIFEST, digest, size);
        artifact.artifact_type = Some(MEDIA_IN_TOTO.to_owned());
        Ok(artifact)
    }
}
