//! The tests of an image as they are kept: read from a recipe and its context, stored beside the
//! image, found again from it.
//!
//! ```text
//! subject: the image's manifest ◄── artifact  application/vnd.bake.tests.v1+json
//!   layers[0]   {"v":1,"tests":[…]}    application/vnd.bake.tests.v1+json   (step::LoweredTest)
//!   layers[1…]  scripts, by digest     application/vnd.bake.test-script
//! subject: the image's manifest ◄── artifact  application/vnd.in-toto+json, one for every time that all tests passed
//!   layers[0]   the statement          (attest)
//! ```
//! Both are referrers: the image's digest is the same with other tests, or none.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::attest::{self, TestRun};
use crate::digest::Digest;
use crate::event::chain;
use crate::image::{Descriptor, MEDIA_MANIFEST};
use crate::job::Error;
use crate::recipe::Recipe;
use crate::step::{LoweredTest, Probe};
use crate::store::{self, MEDIA_TESTS, Staging, Store};

/// A script that a test runs.
const MEDIA_SCRIPT: &str = "application/vnd.bake.test-script";

/// Format of the list.
const FORMAT: u32 = 1;

/// An image's tests, with all that they need besides the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tests {
    /// In the order of the recipe.
    pub(crate) list: Vec<LoweredTest>,
    /// The scripts they run, by content.
    pub(crate) scripts: BTreeMap<Digest, Vec<u8>>,
}

/// The stored form.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    v: u32,
    tests: Vec<LoweredTest>,
}

impl Tests {
    /// Takes the tests of a recipe and reads their scripts with `read`, which gets the file and the
    /// most bytes it may have.
    ///
    /// # Errors
    /// Of a script that cannot be read its test, and why, from the outside in.
    pub(crate) fn of_recipe<E: std::error::Error>(
        recipe: &Recipe,
        read: impl Fn(&Path, u64) -> Result<Vec<u8>, E>,
    ) -> Result<Self, (LoweredTest, Vec<String>)> {
        let mut tests = Self { list: recipe.tests.clone(), scripts: BTreeMap::new() };
        for test in &mut tests.list {
            let copy = test.clone();
            for probe in &mut test.probes {
                if let Probe::Script { file, content, .. } = probe {
                    let bytes =
                        read(file, store::SMALL).map_err(|error| (copy.clone(), chain(&error)))?;
                    let digest = Digest::of(&bytes);
                    tests.scripts.insert(digest, bytes);
                    *content = Some(digest);
                }
            }
        }
        Ok(tests)
    }

    /// Finds the tests of a stored image; of several lists the newest. `None`: it was published
    /// without any.
    pub(crate) fn of_image(store: &Store, image: &Digest) -> Result<Option<Self>, Error> {
        let referrers = store.referrers(image)?;
        let Some(found) =
            referrers.iter().rfind(|one| one.artifact_type.as_deref() == Some(MEDIA_TESTS))
        else {
            return Ok(None);
        };
        let what = || format!("read the tests of {image}");
        let broken = |why: String| Error::Failed { what: what(), why };
        let manifest = store.manifest(found)?;
        let (first, scripts) = manifest
            .layers
            .split_first()
            .ok_or_else(|| broken("the list is missing".to_owned()))?;
        let stored: Stored = serde_json::from_slice(&store.read_blob(&first.digest)?)
            .map_err(|error| broken(error.to_string()))?;
        if stored.v != FORMAT {
            return Err(broken(format!(
                "they are of format {}, this bake reads format {FORMAT}",
                stored.v
            )));
        }
        let mut tests = Self { list: stored.tests, scripts: BTreeMap::new() };
        for script in scripts {
            tests.scripts.insert(script.digest, store.read_blob(&script.digest)?);
        }
        Ok(Some(tests))
    }

    /// Returns the bytes of the list as stored.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&Stored { v: FORMAT, tests: self.list.clone() })
            .expect("plain data with string keys always has a JSON form")
    }

    /// Whether one of them looks at the image as a machine.
    pub(crate) fn boots(&self) -> bool {
        self.list.iter().any(|test| test.boot.is_some())
    }

    /// Names the tests: what they are and what their scripts hold. `None`: there are none.
    pub(crate) fn digest(&self) -> Option<Digest> {
        (!self.list.is_empty()).then(|| Digest::of(self.bytes()))
    }

    /// Puts the list and its scripts into the staging; returns the artifact to be published with
    /// `image`. An empty list as well: it may take the place of an earlier one.
    pub(crate) fn keep(&self, staging: &Staging, image: &Descriptor) -> Result<Descriptor, Error> {
        let (digest, size) = staging.put(&self.bytes())?;
        let mut layers = vec![Descriptor::new(MEDIA_TESTS, digest, size)];
        for bytes in self.scripts.values() {
            let (digest, size) = staging.put(bytes)?;
            layers.push(Descriptor::new(MEDIA_SCRIPT, digest, size));
        }
        artifact(staging, MEDIA_TESTS, layers, image)
    }
}

/// Puts the statement that `image` (called `name`) passed its tests into the staging; returns the
/// artifact to be published with it.
pub(crate) fn attest(
    staging: &Staging,
    name: &str,
    image: &Descriptor,
    run: &TestRun,
) -> Result<Descriptor, Error> {
    state(staging, image, &attest::test_statement(name, &image.digest, run))
}

/// Puts a statement about `image` into the staging; returns the artifact to be published with it.
pub(crate) fn state(
    staging: &Staging,
    image: &Descriptor,
    statement: &[u8],
) -> Result<Descriptor, Error> {
    let (digest, size) = staging.put(statement)?;
    artifact(
        staging,
        attest::MEDIA_IN_TOTO,
        vec![Descriptor::new(attest::MEDIA_IN_TOTO, digest, size)],
        image,
    )
}

fn artifact(
    staging: &Staging,
    kind: &str,
    layers: Vec<Descriptor>,
    image: &Descriptor,
) -> Result<Descriptor, Error> {
    staging.put(attest::empty_config().0)?;
    let (digest, size) = staging.put(&attest::artifact(kind, layers, image).to_json())?;
    let mut out = Descriptor::new(MEDIA_MANIFEST, digest, size);
    out.artifact_type = Some(kind.to_owned());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::recipe::{self, Inputs};
    use crate::step::TESTS;

    fn of(dir: &Path, test: &str) -> Tests {
        // A step that may bring what a test wants, such as a kernel.
        let step = "[[step]]\nrun = 'a'\nnetwork = true";
        let image = "[image]\nname = 'k'\nversion = '1'\n[base]\nscratch = true";
        let text = format!("{image}\n{step}\n[[test]]\n{test}\n");
        let inputs =
            Inputs { file: PathBuf::from("k.toml"), arch: "amd64".to_owned(), ..Inputs::default() };
        let recipe = recipe::read(&text, &inputs).unwrap_or_else(|found| panic!("{found:?}"));
        Tests::of_recipe(&recipe, |file, _| std::fs::read(dir.join(file)))
            .unwrap_or_else(|_| panic!("the scripts are there"))
    }

    #[test]
    fn every_key_of_a_test_names_another_list() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["s", "t"] {
            std::fs::write(dir.path().join(name), "true").unwrap();
        }
        for kind in TESTS {
            // What every test has is shown once.
            let common = [
                ("name", "run = 'a'\nname = 'x'", "run = 'a'\nname = 'y'"),
                ("timeout", "run = 'a'\ntimeout = '1s'", "run = 'a'\ntimeout = '2s'"),
                ("when", "run = 'a'\nwhen = 'true'", "run = 'a'\nwhen = 'false'"),
            ];
            for (key, before, after) in kind.cases.iter().chain(&common) {
                let (one, other) =
                    (of(dir.path(), before).digest(), of(dir.path(), after).digest());
                assert_ne!(one, other, "{}.{key}", kind.section.name);
            }
        }
        let before = of(dir.path(), "script = 's'").digest();
        std::fs::write(dir.path().join("s"), "false").unwrap();
        assert_ne!(before, of(dir.path(), "script = 's'").digest(), "what a script holds counts");
    }
}
