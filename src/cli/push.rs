//! `bake push`, and `bake build --push`.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::args::image::PushArgs;
use super::args::registry::RegistryArgs;
use super::ctx::{Ctx, cancel};
use super::reference::reference;
use super::{channel, edge, registry};
use crate::digest::Digest;
use crate::event::Sink;
use crate::image::{Descriptor, Kind, RemoteName, kind};
use crate::registry::{Error, Pushed, Repository, Source};
use crate::sandbox::Cancel;
use crate::store::{self, MEDIA_TESTS, StepCache, Store, Version};
use crate::ui::report::Report;
use crate::ui::text::{clean, size};

/// Records in the cache of the store: the repository of a registry that a blob was pushed to last.
const ROOM: &str = "pushed";

/// `bake push`.
pub(super) fn push(ctx: &Ctx<'_>, args: &PushArgs) -> Result<u8, Report> {
    let wanted = reference(&args.image)?;
    let given = args.to.as_deref().map(target).transpose()?;
    let store = ctx.store_to_read()?;
    let version = store.resolve(&wanted).map_err(|error| edge::store(&error))?;
    let to = given.map_or_else(|| of_workspace(ctx, &version), Ok)?;
    channel::warn_if_revoked(ctx, &store, &version)?;
    let (cancel, sink) = (cancel()?, ctx.ui.sink());
    // A store that is somebody else's is read, and remembers nothing: a blob is sent then that
    // could be mounted.
    let cache = ctx.store().ok().and_then(|store| store.step_cache().ok());
    let way = Way {
        args: &args.registry,
        move_tag: args.move_tag,
        untested: args.untested,
        cache: cache.as_ref(),
        cancel: &cancel,
        sink: &sink,
    };
    send(ctx, &store, &version, &to, &way)?;
    Ok(edge::OK)
}

/// Returns where a version goes where no destination is given: into the registry that the
/// workspace names.
fn of_workspace(ctx: &Ctx<'_>, version: &Version) -> Result<RemoteName, Report> {
    let file = ctx.workspace(Path::new(""))?;
    let read = file.as_ref().map(|file| ctx.read_workspace(file)).transpose()?;
    let Some(registry) = read.and_then(|one| one.registry) else {
        let hint = "write `bake push web:2.0.0 registry.example/web`, or name a `registry` in \
            bake.toml";
        return Err(edge::usage("missing a destination", hint));
    };
    let wrong = |error| edge::report("usage", edge::USAGE, &error);
    registry.name_of(&version.reference.name).map_err(wrong)
}

/// How to push.
pub(super) struct Way<'a> {
    pub(super) args: &'a RegistryArgs,
    /// Let a tag of other content move.
    pub(super) move_tag: bool,
    /// Push it even where its tests were left out.
    pub(super) untested: bool,
    /// Where it is remembered what was pushed.
    pub(super) cache: Option<&'a StepCache>,
    pub(super) cancel: &'a Cancel,
    pub(super) sink: &'a Sink,
}

/// Reads where to push to.
pub(super) fn target(text: &str) -> Result<RemoteName, Report> {
    RemoteName::to_push_to(text).map_err(|error| {
        let hint = "it is written host[:port]/name[:tag], for example registry.example/web:2.0.0";
        Report { hints: vec![hint.to_owned()], ..edge::report("usage", edge::USAGE, &error) }
    })
}

/// Pushes a version, and prints what came of it.
pub(super) fn send(
    ctx: &Ctx<'_>,
    store: &Store,
    version: &Version,
    to: &RemoteName,
    way: &Way<'_>,
) -> Result<(), Report> {
    if version.is_untested() && !way.untested {
        let reference = Box::new(version.reference.clone());
        let mut report = edge::store(&store::Error::Untested { reference });
        report.hints.push("`bake push --untested` pushes it as it is".to_owned());
        return Err(report);
    }
    let tag = to.tag.as_ref().or(version.reference.version.as_ref()).cloned().unwrap_or_default();
    let named = to.with_tag(&tag).map_err(|error| edge::report("usage", edge::USAGE, &error))?;
    let referrers = referrers(store, &version.manifest).map_err(|error| edge::store(&error))?;
    let from = |digest: &Digest| {
        let bytes = way.cache?.record(ROOM, &key(&named.registry, digest))?;
        String::from_utf8(bytes).ok()
    };
    let source = Source {
        manifest: &version.manifest,
        referrers: &referrers,
        open: &|digest| store.blob(digest).map_err(std::io::Error::other),
        from: &from,
    };
    let cancel = way.cancel.clone();
    let mut options = registry::options(way.args)?;
    options.stop = Arc::new(move || cancel.fired());
    let repository = Repository::new(&named, &options);
    let pushed = repository
        .push(&source, &tag, way.move_tag, way.sink)
        .map_err(|error| failed(&error, &named))?;
    if !pushed.already {
        remember(way.cache, &named, &pushed);
    }
    print(ctx, version, &named, &tag, &pushed);
    Ok(())
}

/// Returns what speaks about an image, or about one of several platforms.
fn referrers(store: &Store, image: &Descriptor) -> Result<Vec<Descriptor>, store::Error> {
    let mut subjects = vec![image.digest];
    if kind(&image.media_type) == Kind::Index {
        subjects.extend(store.image_index(image)?.manifests.iter().map(|one| one.digest));
    }
    let mut found: Vec<Descriptor> = vec![];
    for subject in &subjects {
        found.extend(store.referrers(subject)?);
    }
    // Lists of tests are this store's: `bake test` runs them, and their scripts are the recipe's.
    found.retain(|one| one.artifact_type.as_deref() != Some(MEDIA_TESTS));
    Ok(found)
}

/// Notes where the blobs are now, to be mounted from there.
fn remember(cache: Option<&StepCache>, to: &RemoteName, pushed: &Pushed) {
    let Some(cache) = cache else { return };
    for digest in &pushed.blobs {
        let key = key(&to.registry, digest);
        if cache.record(ROOM, &key).is_none_or(|known| known != to.repository.as_bytes()) {
            // What is not remembered is sent once more, the next time.
            let _ = cache.write_record(ROOM, &key, to.repository.as_bytes());
        }
    }
}

fn key(registry: &str, digest: &Digest) -> Digest {
    Digest::of(format!("{registry}\n{digest}"))
}

fn print(ctx: &Ctx<'_>, version: &Version, to: &RemoteName, tag: &str, pushed: &Pushed) {
    let Pushed { digest, before, already, sent, mounted, bytes, .. } = pushed;
    if ctx.ui.json() {
        let (name, version) = (&version.reference.name, &version.reference.version);
        ctx.ui.object(
            "pushed",
            json!({ "name": name, "version": version, "digest": digest, "to": to.place(),
                "tag": tag, "already": already, "was": before, "sent": sent, "mounted": mounted,
                "bytes": bytes }),
        );
        return;
    }
    ctx.ui.result(&format!("{to} {digest}"));
    ctx.ui.say(&clean(&match (already, before) {
        (true, _) => format!("{to} was there already"),
        (false, Some(before)) if before != digest => {
            format!("{to}: {} sent; it was {before} before", size(*bytes))
        }
        _ if *mounted > 0 => format!("{to}: {} sent, {mounted} blobs mounted", size(*bytes)),
        _ => format!("{to}: {} sent", size(*bytes)),
    }));
}

/// Reports a push that failed.
fn failed(error: &Error, to: &RemoteName) -> Report {
    if matches!(error, Error::Cancelled) {
        return Report { kind: "interrupted", ..edge::report("push", edge::INTERRUPTED, error) };
    }
    let kind = if error.is_network() { "network" } else { "push" };
    let left = format!("{to} is as it was; the next push sends only what is missing");
    let hints = error.hint().into_iter().chain([left]).collect();
    Report { hints, ..edge::report(kind, edge::FAILED, error) }
}
