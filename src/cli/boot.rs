//! `bake boot`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::boot::BootArgs;
use super::ctx::{Ctx, cancel_unless};
use super::reference::reference;
use super::request::tools_from;
use super::{channel, edge};
use crate::boot::{self, Boot, Credential, Ending, From, Seed, SeedError};
use crate::engine::{self, Request};
use crate::event::chain;
use crate::trial;
use crate::ui::report::Report;

/// Most bytes of a credential that systemd takes (systemd.exec(5), `LoadCredential=`).
const CREDENTIAL: u64 = 1 << 20;

/// `bake boot`.
pub(super) fn boot(ctx: &Ctx<'_>, args: BootArgs) -> Result<u8, Report> {
    if ctx.ui.json() {
        let hint = "leave --json out: the exit code says how the machine ended";
        return Err(edge::usage("--json and the console both want stdout", hint));
    }
    let BootArgs { image, data, credentials, seed, publish, memory, persist, wait, tools, .. } =
        args;
    let named = match is_file(&image) {
        true => None,
        false => Some(reference(&image)?),
    };
    if named.is_none() {
        there(Path::new(&image), "there is no such disk")?;
    }
    for (path, _) in &data {
        let hint = format!("`truncate -s 2G {}` makes a blank one", path.display());
        there(path, &hint)?;
    }
    for Credential { name, path } in &credentials {
        // A directory, or what nobody may read, is refused by QEMU in words of its own.
        let read = std::fs::File::open(path).and_then(|file| file.metadata());
        let why = match read {
            Ok(metadata) if metadata.is_file() && metadata.len() <= CREDENTIAL => continue,
            Ok(metadata) if metadata.is_file() => "it is larger than 1 MiB".to_owned(),
            Ok(_) => "it is no file".to_owned(),
            Err(error) => error.to_string(),
        };
        let what = format!("{} cannot be given as the credential `{name}`: {why}", path.display());
        return Err(edge::usage(what, "--credential NAME:FILE takes the file that holds it"));
    }
    let seed = seed.as_deref().map(seed_of).transpose()?;
    let request = Request { tools: tools_from(tools), ..Request::default() };
    let ending = Arc::new(Ending::default());
    // The first signal is for the machine, once it runs.
    let asked = Arc::clone(&ending);
    ctx.with_cancel(&cancel_unless(move || asked.ask())?, |job| {
        let trouble = |error: trial::Error| edge::image(&error.into());
        let gate = engine::gate(job, &request);
        let (ready, own);
        let (qemu, from) = match &named {
            None => {
                let qemu = engine::qemu(job, &request);
                own = qemu.map_err(|why| trouble(trial::Error::NoMachine { why }))?;
                (&own, From::File(PathBuf::from(&image)))
            }
            Some(reference) => {
                let version = job.store.resolve(reference).map_err(|error| edge::store(&error))?;
                channel::warn_if_revoked(ctx, job.store, &version)?;
                ready = gate.ready().map_err(trouble)?;
                // What was looked at, though its channel may be moved meanwhile.
                (&ready.qemu, From::Image(version.reference, &*ready.tools))
            }
        };
        let (data, publish, persist) = (data.clone(), publish.clone(), persist.clone());
        let (credentials, seed) = (credentials.clone(), seed.clone());
        let (wait, ending) = (wait.clone(), Arc::clone(&ending));
        let boot = Boot { from, data, credentials, seed, publish, memory, persist, wait, ending };
        boot::boot(job, qemu, &boot).map_err(trouble)
    })
}

/// Whether a person means a file: no name of an image begins like a path, or is one.
fn is_file(text: &str) -> bool {
    text.starts_with(['/', '.']) || !text.contains(':') && Path::new(text).is_file()
}

/// Reads what cloud-init is given.
fn seed_of(dir: &Path) -> Result<Seed, Report> {
    Seed::read(dir).map_err(|error| {
        let hint = match &error {
            SeedError::Lacks { name, .. } => {
                let text = if *name == "meta-data" { "instance-id: i-1" } else { "#cloud-config" };
                format!("`echo '{text}' >{}` makes one", dir.join(name).display())
            }
            _ => "--seed DIR takes the directory that holds `user-data` and `meta-data`".to_owned(),
        };
        edge::usage(chain(&error).join(": "), hint)
    })
}

/// Makes sure that a disk can be used.
fn there(path: &Path, hint: &str) -> Result<(), Report> {
    if path.is_file() {
        return Ok(());
    }
    Err(edge::usage(format!("{} is not the file of a disk", path.display()), hint))
}
