//! The end of a run: images are finished, lock files written, and all images published in one
//! transaction, or none.

use std::path::PathBuf;

use super::error::{Error, Failed};
use super::schedule::{Prepared, Ran};
use super::several;
use crate::boot::Gate;
use crate::delivery::{Delivered, Image, Ready};
use crate::digest::Digest;
use crate::files;
use crate::job::{self, JobContext};
use crate::output::Tools;
use crate::plan::lock::Lock;
use crate::store::{self, Published};
use crate::trial::{self, Bundle, Examined, Joined};

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
    let images = examined.iter().map(|(_, one)| one).collect::<Vec<_>>();
    let joined =
        trial::joined(job.store, &images).map_err(|error| which(prepared, error.into()))?;
    let (ready, delivered) = outputs(job, prepared, &images, &joined, tools)?;
    let mut checked = vec![];
    for (at, one) in examined {
        let of_it = prepared[..at].iter().filter(|one| one.wanted).count();
        gate.has(one.version(), &prepared[at].outputs, &delivered[of_it]);
        let passed = trial::booted(job, one, &gate);
        checked.push(passed.map_err(|error| fail(at)(error.into()))?);
    }
    let bundles =
        trial::bundles(job.store, &checked).map_err(|error| which(prepared, error.into()))?;
    let digests: Vec<Digest> = bundles.iter().map(|one| one.version().manifest.digest).collect();
    // Before the publish, as an image without its pins could not be baked again; and taken back
    // where the publish fails.
    let written = write_locks(prepared, ran)?;
    let how = if bundles.is_empty() && ready.placements.is_empty() {
        vec![]
    } else {
        trial::publish(job.store, &bundles, &ready.placements)
            .map_err(|error| which(prepared, error.into()))?
    };
    written.keep();
    let one = |(one, outputs): (&Prepared, _)| match &one.already {
        Some(version) => (version.manifest.digest, true, outputs),
        None => {
            let at = several::place(bundles.iter().map(Bundle::version), one);
            (digests[at], how[at] == Published::Already, outputs)
        }
    };
    Ok(prepared.iter().filter(|one| one.wanted).zip(delivered).map(one).collect())
}

/// Writes the lock file of every recipe that has run.
fn write_locks(prepared: &[Prepared], ran: &[Ran<'_>]) -> Result<Written, Failed> {
    let mut written = Written::default();
    for (at, one) in prepared.iter().enumerate() {
        let lock = match ran.iter().any(|ran| ran.main && ran.recipe == at) {
            true => pins(at, prepared, ran),
            // Of what is published already only the programs of its outputs may be new.
            false => {
                let toolbox = one.toolbox.clone().filter(|_| one.roots.pins_toolbox());
                if !one.wanted || one.already.is_none() || toolbox.is_none() {
                    continue;
                }
                Lock { toolbox, ..one.locking.lock().cloned().unwrap_or_default() }
            }
        };
        written.0.extend(one.locking.write(&lock).map_err(|error| one.failed(error))?);
    }
    Ok(written)
}

/// Makes the outputs of the images that were asked for: those that are to be published and those
/// that are.
fn outputs(
    job: &JobContext<'_>,
    prepared: &[Prepared],
    examined: &[&Examined<'_>],
    joined: &[Joined<'_>],
    tools: Option<&dyn Tools>,
) -> Result<(Ready, Vec<Vec<Delivered>>), Failed> {
    let (mut ready, mut delivered) = (Ready::default(), vec![]);
    let mut examined = examined.iter();
    for one in prepared.iter().filter(|one| one.wanted) {
        let fail = |error: store::Error| one.failed(job::Error::from(error).into());
        let (whole, part, stagings) = match &one.already {
            Some(version) => {
                let part = job.store.part(version, &one.roots.main().platform).map_err(fail)?;
                (version, part.unwrap_or_else(|| version.clone()), &[][..])
            }
            None => {
                let image = examined.next().expect("what is wanted and not there was made");
                let whole = &joined[several::place(joined.iter().map(Joined::version), one)];
                (whole.version(), image.version().clone(), whole.stagings())
            }
        };
        let image = Image { whole, version: &part, stagings };
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
