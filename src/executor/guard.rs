//! What keeps the secrets of a recipe: steps see those that they name, what they print is masked,
//! and what holds one of them goes no further, neither into the cache nor into an image.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;

use super::error::{NodeFailure, StepFailure, Trouble};
use super::root::Root;
use crate::job::{self, no_thread};
use crate::layer::{self, Blob, Compression};
use crate::leak::{self, Leak, Needles};
use crate::sandbox::ShownSecrets;
use crate::secret::{Mask, Masked, Secrets, Value};
use crate::step::{Lowered, Op};

/// Longest variable, its name and the byte after it included: `MAX_ARG_STRLEN` of execve(2).
const MAX_VARIABLE: usize = 128 * 1024;

/// The secrets of a recipe of which steps use some, ready to be hidden and searched for.
pub(crate) struct Guard {
    secrets: Secrets,
    masked: Arc<Masked>,
    needles: Needles,
}

impl Guard {
    /// Returns what keeps the secrets that are `given`; nothing, where no step of these roots uses
    /// any.
    ///
    /// # Errors
    /// Where they are more than can be searched for.
    pub(crate) fn of(given: &Secrets, roots: &[Root]) -> Result<Option<Arc<Self>>, job::Error> {
        if given.is_empty() || roots.iter().all(|root| used(root).next().is_none()) {
            return Ok(None);
        }
        let many = |error: aho_corasick::BuildError| job::Error::Failed {
            what: "search for so many secrets".to_owned(),
            why: error.to_string(),
        };
        let masked = Arc::new(Masked::new(given).map_err(many)?);
        let needles = Needles::new(given).map_err(many)?;
        Ok(Some(Arc::new(Self { secrets: given.clone(), masked, needles })))
    }
}

/// Returns the names of the secrets that the steps of a root use, with the number of the step.
pub(crate) fn used(root: &Root) -> impl Iterator<Item = (usize, &str)> {
    let steps = root.plan.nodes.iter().enumerate();
    steps.flat_map(|(at, step)| {
        let seen = step.ops.iter().filter_map(Op::secrets);
        let seen = seen.flat_map(|(secrets, _)| secrets.names());
        let given = step.ops.iter().filter_map(Op::credentials);
        seen.chain(given).map(move |name| (at + 1, name))
    })
}

/// Returns which of the first `steps` steps cannot have the secrets that it uses, and why.
pub(crate) fn lacking(root: &Root, steps: usize, given: &Secrets) -> Option<(usize, NodeFailure)> {
    if let Some(at) = without_agent(root, steps, given) {
        let why = "it uses an SSH agent, and none is given".to_owned();
        let hint = "give it with `--ssh`, which is the agent at $SSH_AUTH_SOCK, or `--ssh=SOCKET`";
        let failure = StepFailure::prepared(why, vec![]).with_hint(Some(hint.to_owned()));
        return Some((at, Trouble::Step(failure).into()));
    }
    let missing = used(root).find(|(at, name)| *at <= steps && given.get(name).is_none());
    let (at, why, hint) = match missing {
        Some((at, name)) => {
            let why = format!("it uses the secret `{name}`, which is not given");
            let hint = format!(
                "give it with `--secret {name}=env:VARIABLE`, `--secret {name}=file:PATH` or \
                    `--secret {name}='cmd:COMMAND'`"
            );
            (at, why, hint)
        }
        None => {
            let (at, why) = unfit(root, steps, given)?;
            (at, why, "let the step read it from a file: `secrets`".to_owned())
        }
    };
    let failure = StepFailure::prepared(why, vec![]).with_hint(Some(hint));
    Some((at, Trouble::Step(failure).into()))
}

/// Returns which of the first `steps` steps uses an SSH agent, where none is given.
fn without_agent(root: &Root, steps: usize, given: &Secrets) -> Option<usize> {
    let mut steps = (1..=steps).zip(&root.plan.nodes);
    let uses = |step: &Lowered| step.ops.iter().any(Op::ssh);
    steps.find(|(_, step)| given.agent().is_none() && uses(step)).map(|(at, _)| at)
}

/// Returns which of the first `steps` steps has a variable that cannot have its value, and why.
fn unfit(root: &Root, steps: usize, given: &Secrets) -> Option<(usize, String)> {
    let steps = (1..=steps).zip(&root.plan.nodes);
    let mut variables = steps.flat_map(|(at, step)| {
        let used = step.ops.iter().filter_map(Op::secrets);
        used.flat_map(move |(secrets, _)| secrets.variables.iter().map(move |one| (at, one)))
    });
    variables.find_map(|(at, (variable, name))| {
        let value = given.get(name)?.line();
        let why = match () {
            () if value.contains(&0) => "it has a NUL byte",
            () if value.len() + variable.len() + 2 > MAX_VARIABLE => "it is too long",
            () => return None,
        };
        Some((at, format!("the secret `{name}` cannot be the variable {variable}: {why}")))
    })
}

impl Guard {
    /// Returns the value of a secret that bake itself gives a server.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.secrets.get(name)
    }

    /// Returns the secrets that a step of these operations sees.
    pub(super) fn shown(&self, ops: &[Op]) -> ShownSecrets {
        let Some((used, user)) = ops.iter().find_map(Op::secrets) else {
            return ShownSecrets::default();
        };
        let value = |shown: &String, name: &str| -> Option<(String, Value)> {
            Some((shown.clone(), self.secrets.get(name)?.clone()))
        };
        let files = used.files.iter().filter_map(|name| value(name, name)).collect();
        let variables = used.variables.iter().filter_map(|(at, name)| value(at, name)).collect();
        ShownSecrets { user: user.to_owned(), files, variables }
    }

    /// Returns what hides the secrets in what step `index` prints on its two streams; nothing,
    /// where neither it nor one before it has seen any.
    pub(super) fn masks(&self, root: &Root, index: usize) -> Option<[Mask; 2]> {
        used(root).find(|(at, _)| *at <= index)?;
        Some([(); 2].map(|()| Mask::new(Arc::clone(&self.masked))))
    }

    /// Makes sure that the log of a step holds no secret; else it is removed.
    pub(super) fn no_secret_in_log(&self, path: &Path) -> Result<(), Trouble> {
        let read = |source| job::Error::File { verb: "read", path: path.to_owned(), source };
        let mut file = File::open(path).map_err(read)?;
        let found = leak::stream(&mut file, "its log", &self.needles).map_err(read)?;
        if found.is_empty() {
            return Ok(());
        }
        let remove = |source| job::Error::File { verb: "remove", path: path.to_owned(), source };
        fs::remove_file(path).map_err(remove)?;
        refuse(&found, "print it nowhere; the log is removed")
    }

    /// Makes sure that documents of `image` hold no secret; of JSON also what its texts mean.
    pub(super) fn no_secret_in<'d>(
        &self,
        image: &str,
        documents: impl Iterator<Item = (&'d str, &'d [u8])>,
    ) -> Result<(), job::Error> {
        for (what, bytes) in documents {
            let mut all = bytes.to_vec();
            if let Ok(json) = serde_json::from_slice(bytes) {
                texts(&json, &mut all);
            }
            let found = leak::stream(&mut &*all, what, &self.needles);
            // Bytes in memory can be read.
            if let Some(Leak { secret, form, .. }) = found.unwrap_or_default().first() {
                let why = format!("{what} would hold the secret `{secret}` {form}");
                return Err(job::Error::Failed { what: format!("publish {image}"), why });
            }
        }
        Ok(())
    }

    /// Packs with `pack`, which writes the tar to the tap that it is given, and makes sure that the
    /// layer of the step `label` holds no secret.
    pub(super) fn packed(
        &self,
        label: &str,
        pack: impl FnOnce(leak::Tap) -> Result<Option<Blob>, job::Error>,
    ) -> Result<Option<Blob>, Trouble> {
        let (packed, found) = leak::tapped(&self.needles, pack).map_err(no_thread)?;
        let packed = packed?;
        let unread = |source| job::Error::Layer { label: label.to_owned(), source };
        refuse(&found.map_err(unread)?, IN_LAYER)?;
        Ok(packed)
    }

    /// Makes sure that a layer of the step `label` holds no secret.
    pub(super) fn no_secret_in_layer(
        &self,
        label: &str,
        blob: &Path,
        how: Compression,
    ) -> Result<(), Trouble> {
        let unread = |source| job::Error::Layer { label: label.to_owned(), source };
        let file = job::open(blob)?;
        let tar = layer::decompress_as(Box::new(file), how).map_err(unread)?;
        refuse(&leak::layer(tar, &self.needles).map_err(unread)?, IN_LAYER)
    }
}

/// Adds all texts of a document to `out`, each as it is without escapes.
fn texts(json: &Json, out: &mut Vec<u8>) {
    match json {
        Json::String(text) => {
            out.push(0);
            out.extend_from_slice(text.as_bytes());
        }
        Json::Array(all) => all.iter().for_each(|one| texts(one, out)),
        Json::Object(all) => {
            for (key, value) in all {
                out.push(0);
                out.extend_from_slice(key.as_bytes());
                texts(value, out);
            }
        }
        _ => {}
    }
}

/// What to do about a secret in a layer.
const IN_LAYER: &str = "read it from /run/secrets where it is needed, and write it nowhere; what a \
    step must write, it removes before it ends";

/// Returns the failure of a step that left secrets somewhere.
fn refuse(found: &[Leak], hint: &str) -> Result<(), Trouble> {
    let text =
        |Leak { secret, place, form }: &Leak| format!("{place} holds the secret `{secret}` {form}");
    let mut all = found.iter().map(text);
    let Some(first) = all.next() else { return Ok(()) };
    let failure = StepFailure::prepared(format!("it would leak: {first}"), all.collect());
    Err(Trouble::Step(failure.with_hint(Some(hint.to_owned()))))
}
