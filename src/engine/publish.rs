//! The end of a run: images are finished, lock files written, and all images published in one
//! transaction, or none.

use std::path::PathBuf;

use super::error::{Error, Failed};
use super::schedule::{Prepared, Ran};
use crate::boot::Gate;
use crate::delivery::{Delivered, Image, Ready};
use crate::digest::Digest;
use crate::files;
use crate::job::{self, JobContext};
use crate::output::Tools;
use crate::plan::lock::Lock;
use crate::store::{self, Published};
use crate::trial::{self, Checked, Examined};

/// Returns everything that the roots of recipe `at` have pinned.
pub(super) fn pins(at: usize, prepared: &[Prepared], ran: &[Ran<'_>]) -> Lock {
    let mut pins = prepared[at].roots.main().pins.clone();
    for one in ran.iter().filter(|one| one.recipe == at) {
        pins.add(one.work.build.pins.of_this_build());
    }
    let recipe = &prepared[at];
    pins.toolbox = recipe.toolbox.clone().filter(|_| recipe.roots.pins_toolbox());
    pins
}

/// Finishes every image, writes the lock files, and publishes the images that were asked for;
/// returns their digests, in the order of the recipes, whether each was there already, and what
/// came of its outputs.
pub(super) fn publish(
    job: &JobContext<'_>,
    prepared: &[Prepared],
    ran: &[Ran<'_>],
    tools: Option<&dyn Tools>,
    mut gate: Gate<'_>,
) -> Result<Vec<(Digest, bool, Vec<Delivered>)>, Failed> {
    let fail = |at: usize| move |error: Error| prepared[at].failed(error);
    let images = || ran.iter().filter(|one| one.main);
    let mut examined = vec![];
    for one in images() {
        let recipe = &prepared[one.recipe];
        let key = recipe.roots.key(&pins(one.recipe, prepared, ran));
        let finished = one.work.finish(&one.built, &key).map_err(fail(one.recipe))?;
        // What others stand on has to pass its tests as well.
        if recipe.wanted {
            examined.push((one.recipe, finished));
        } else {
            let passed = trial::booted(job, finished, &gate);
            passed.map_err(|error| fail(one.recipe)(error.into()))?;
        }
    }
    let images_of_outputs = examined.iter().map(|(_, one)| one).collect::<Vec<_>>();
    let (ready, delivered) = outputs(job, prepared, &images_of_outputs, tools)?;
    let mut checked = vec![];
    for (at, one) in examined {
        let of_it = prepared[..at].iter().filter(|one| one.wanted).count();
        gate.has(one.version(), &prepared[at].outputs, &delivered[of_it]);
        let passed = trial::booted(job, one, &gate);
        checked.push(passed.map_err(|error| fail(at)(error.into()))?);
    }
    let digests: Vec<Digest> = checked.iter().map(Checked::digest).collect();
    // Before the publish, as an image without its pins could not be baked again; and taken back
    // where the publish fails.
    let mut written = Written::default();
    for one in images() {
        let pins = pins(one.recipe, prepared, ran);
        let locking = &prepared[one.recipe].locking;
        written.0.extend(locking.write(&pins).map_err(fail(one.recipe))?);
    }
    // Of what is published already only the programs of its outputs may be new.
    for one in prepared.iter().filter(|one| one.wanted && one.already.is_some()) {
        let lock = one.locking.lock().cloned().unwrap_or_default();
        let toolbox = one.toolbox.clone().filter(|_| one.roots.pins_toolbox());
        if toolbox.is_some() {
            let lock = Lock { toolbox, ..lock };
            written.0.extend(one.locking.write(&lock).map_err(|error| one.failed(error))?);
        }
    }
    let how = if checked.is_empty() && ready.placements.is_empty() {
        vec![]
    } else {
        trial::publish(job.store, checked, &ready.placements)
            .map_err(|error| which(prepared, error.into()))?
    };
    written.keep();
    let mut how = digests.into_iter().zip(how);
    let one = |(one, outputs): (&Prepared, _)| match &one.already {
        Some(version) => (version.manifest.digest, true, outputs),
        None => {
            let (digest, how) = how.next().expect("a publish answers for every image it was given");
            (digest, how == Published::Already, outputs)
        }
    };
    Ok(prepared.iter().filter(|one| one.wanted).zip(delivered).map(one).collect())
}

/// Makes the outputs of the images that were asked for: those that are to be published and those
/// that are.
fn outputs(
    job: &JobContext<'_>,
    prepared: &[Prepared],
    examined: &[&Examined<'_>],
    tools: Option<&dyn Tools>,
) -> Result<(Ready, Vec<Vec<Delivered>>), Failed> {
    let (mut ready, mut delivered) = (Ready::default(), vec![]);
    let mut examined = examined.iter();
    for one in prepared.iter().filter(|one| one.wanted) {
        let image = match &one.already {
            Some(version) => Image { version, staging: None },
            None => {
                let image = examined.next().expect("what is wanted and not there was made");
                Image { version: image.version(), staging: Some(image.staging()) }
            }
        };
        let made = ready.add(job, &one.outputs, &image, tools);
        delivered.push(made.map_err(|error| one.failed(error.into()))?);
    }
    Ok((ready, delivered))
}

/// Lock files that were written for a publish; dropped = they are what they were before.
#[derive(Default)]
struct Written(Vec<files::Replaced>);

impl Written {
    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        for file in self.0.drain(..).rev() {
            // The error that led here is the one to report.
            let _ = file.undo();
        }
    }
}

/// Finds the recipe whose version is taken.
fn which(prepared: &[Prepared], error: Error) -> Failed {
    let Error::Job(job::Error::Store(store::Error::VersionTaken { reference, have, .. })) = &error
    else {
        return failed_of_all(prepared, error);
    };
    let (image, have) = (reference.to_string(), have.to_string());
    match prepared.iter().find(|one| one.roots.main().plan.image == image) {
        Some(one) => {
            let recipe = one.roots.main().recipe_path.clone();
            one.failed(Error::VersionTaken { image, have, recipe })
        }
        None => failed_of_all(prepared, error),
    }
}

/// The failure of what no single recipe is to blame for.
pub(super) fn failed_of_all(prepared: &[Prepared], error: Error) -> Failed {
    match prepared.first() {
        Some(first) => first.failed(error),
        None => Failed { recipe: PathBuf::new(), build: String::new(), error: error.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B11
    #[test]
    fn lock_files_are_as_before_where_the_publish_fails() {
        let dir = tempfile::tempdir().expect("a directory");
        let (old, new) = (dir.path().join("web.lock"), dir.path().join("app.lock"));
        std::fs::write(&old, "before").expect("write");
        let write = || {
            let files = [&old, &new].map(|path| files::Replaced::write(path, b"after", 0o644));
            Written(files.into_iter().map(|file| file.expect("write")).collect())
        };
        drop(write());
        assert_eq!(std::fs::read(&old).expect("read"), b"before");
        assert!(!new.exists());
        write().keep();
        for path in [&old, &new] {
            assert_eq!(std::fs::read(path).expect("read"), b"after");
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 2);
    }
}
