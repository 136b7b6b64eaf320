//! `bake promote`, `bake revoke`, and what listings say of channels and revocations.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::args::image::{ListArgs, PromoteArgs, RevokeArgs};
use super::ctx::Ctx;
use super::edge;
use super::reference::reference;
use super::who::who;
use crate::digest::Digest;
use crate::event::Event;
use crate::image::Reference;
use crate::store::{
    self, Channel, ChannelEvent, Promoted, Promotion, Relation, Revocation, Store, Verdict,
    Version, Who,
};
use crate::ui::report::Report;
use crate::ui::table;
use crate::ui::text::{clean, to_the_second};

/// Longest reason that is kept.
const WHY_MAX: usize = 1000;

/// `bake promote`.
pub(super) fn promote(ctx: &Ctx<'_>, args: &PromoteArgs) -> Result<u8, Report> {
    let wanted = reference(&args.image)?;
    let store = ctx.store()?;
    let by = who();
    let done = match &args.channel {
        Some(channel) => store.promote(&wanted, channel, &by),
        None if args.end => store.end_channel(&wanted, &by),
        None => store.promote_back(&wanted, &by),
    };
    let Promoted { channel, version, was, already, passed } =
        done.map_err(|error| edge::store(&error))?;
    if ctx.ui.json() {
        let (number, digest) =
            version.as_ref().map(|one| (&one.reference.version, one.manifest.digest)).unzip();
        let passed: Vec<_> = passed
            .iter()
            .map(|(target, why)| json!({ "version": target.version, "why": why }))
            .collect();
        ctx.ui.object(
            "promoted",
            json!({ "name": channel.name, "channel": channel.channel, "version": number,
                "digest": digest,
                "was": was.map(|was| was.version), "already": already, "passed": passed }),
        );
        return Ok(edge::OK);
    }
    for (target, why) in &passed {
        ctx.ui.say(&clean(&format!("passed over {}:{}: {why}", channel.name, target.version)));
    }
    if let Some(version) = &version {
        ctx.ui.result(&format!("{channel} {} {}", version.reference, version.manifest.digest));
    }
    ctx.ui.say(&clean(&match (was, &version) {
        (Some(_), Some(_)) if already => format!("{channel} points there already"),
        (Some(was), Some(_)) => format!(
            "it was {}:{}; `bake promote --back {channel}` goes back",
            channel.name, was.version
        ),
        (Some(was), None) => {
            format!("{channel} has ended; it was {}:{}", channel.name, was.version)
        }
        (None, _) => format!("{channel} is new; `bake list --channels` shows all"),
    }));
    Ok(edge::OK)
}

/// `bake revoke`.
pub(super) fn revoke(ctx: &Ctx<'_>, args: &RevokeArgs) -> Result<u8, Report> {
    let wanted = reference(&args.image)?;
    let why = args.why.trim();
    if why.is_empty() || why.chars().count() > WHY_MAX {
        let message = if why.is_empty() {
            "--why says nothing".to_owned()
        } else {
            format!("--why is longer than {WHY_MAX} characters")
        };
        return Err(edge::usage(
            message,
            "say in a sentence what is wrong, for those who meet the version later",
        ));
    }
    let store = ctx.store()?;
    if args.undo {
        let done = store.restore(&wanted, why, &who()).map_err(|error| edge::store(&error))?;
        if ctx.ui.json() {
            ctx.ui.object(
                "restored",
                json!({ "name": done.image.name,
                "version": done.image.version, "digest": done.digest, "why": why }),
            );
        } else {
            ctx.ui.say(&clean(&format!("{} may be used again", done.image)));
        }
        return Ok(edge::OK);
    }
    let done = store.revoke(&wanted, why, &who()).map_err(|error| edge::store(&error))?;
    let Revocation { image, digest, at, by, why, .. } = &done.revocation;
    if ctx.ui.json() {
        let fields = json!({ "name": image.name, "version": image.version, "digest": digest,
            "at": at, "by": by, "why": why,
            "already": done.already, "channels": done.channels, "descendants": done.descendants });
        ctx.ui.object("revoked", fields);
        return Ok(edge::OK);
    }
    ctx.ui.say(&clean(&if done.already {
        format!("{image} was revoked before, by {by} at {at}: {why}")
    } else {
        format!("revoked {image}: {why}")
    }));
    for channel in &done.channels {
        let message = format!("{channel} still points at {image}");
        warn(
            ctx,
            message,
            format!("`bake promote --back {channel}` goes back to the version before"),
        );
    }
    let rows: Vec<_> = done
        .descendants
        .iter()
        .map(|one| {
            let how = match one.by {
                Relation::Digest => "names it as its base, by digest",
                Relation::Name => "names it as its base, by name",
                Relation::Layers => "has its layers",
            };
            vec![one.image.to_string(), one.digest.short(), how.to_owned()]
        })
        .collect();
    if !rows.is_empty() {
        ctx.ui
            .raw(table::columns(&["BUILT ON IT", "DIGEST", "HOW WE KNOW"], &rows, &[]).as_bytes());
    }
    Ok(edge::OK)
}

/// Warns whoever is about to use a version that is revoked.
pub(super) fn warn_if_revoked(
    ctx: &Ctx<'_>,
    store: &Store,
    version: &Version,
) -> Result<(), Report> {
    warn_of(ctx, store, &version.reference.to_string(), &version.manifest.digest)
}

/// Warns whoever has just made `image` that its content `digest` is revoked: baking a version again
/// does not make it good.
pub(super) fn warn_of(
    ctx: &Ctx<'_>,
    store: &Store,
    image: &str,
    digest: &Digest,
) -> Result<(), Report> {
    let found = store.revoked(digest).map_err(|error| edge::store(&error))?;
    if let Some(Revocation { why, by, at, .. }) = found {
        warn(
            ctx,
            format!("{image} is revoked: {why}"),
            format!("revoked by {by} at {at}; use another version"),
        );
    }
    Ok(())
}

fn warn(ctx: &Ctx<'_>, message: String, hint: String) {
    (ctx.ui.sink())(Event::Warning { message, hint: Some(hint) });
}

/// `bake list --channels` and `bake list --history`.
pub(super) fn list(ctx: &Ctx<'_>, store: &Store, args: &ListArgs) -> Result<u8, Report> {
    let wanted = args.image.as_deref().map(reference).transpose()?;
    if let Some(wanted) =
        wanted.as_ref().filter(|wanted| wanted.version.is_some() || wanted.digest.is_some())
    {
        return Err(edge::usage(
            format!("{wanted} is a version"),
            format!("write {0} or {0}@CHANNEL", wanted.name),
        ));
    }
    let fits = |found: &Reference| {
        let channel =
            |wanted: &Reference| wanted.channel.is_none() || wanted.channel == found.channel;
        wanted.as_ref().is_none_or(|wanted| wanted.name == found.name && channel(wanted))
    };
    let fail = |error: store::Error| edge::store(&error);
    if args.history {
        history(ctx, store, wanted.as_ref(), fits).map_err(fail)?;
    } else {
        channels(ctx, store, fits).map_err(fail)?;
    }
    Ok(edge::OK)
}

fn channels(
    ctx: &Ctx<'_>,
    store: &Store,
    fits: impl Fn(&Reference) -> bool,
) -> Result<(), store::Error> {
    let versions: BTreeSet<(Reference, Digest)> = store
        .versions()?
        .into_iter()
        .map(|version| (version.reference, version.manifest.digest))
        .collect();
    let revoked = store.revocations()?;
    let mut rows = vec![];
    for Channel { reference, to, since, by, .. } in
        store.channels()?.into_iter().filter(|channel| fits(&channel.reference))
    {
        let there = Reference::new(&reference.name, &to.version)
            .is_ok_and(|version| versions.contains(&(version, to.digest)));
        let state = match revoked.get(&to.digest) {
            _ if !there => Some("removed"),
            Some(_) => Some("revoked"),
            None => None,
        };
        if ctx.ui.json() {
            let fields = json!({ "name": reference.name, "channel": reference.channel,
                "version": to.version, "digest": to.digest,
                "since": since, "by": by, "state": state });
            ctx.ui.object("channel", fields);
        } else {
            let state = state.unwrap_or_default().to_owned();
            rows.push(vec![
                reference.to_string(),
                to.version,
                to.digest.short(),
                to_the_second(&since),
                by.to_string(),
                state,
            ]);
        }
    }
    if rows.is_empty() && !ctx.ui.json() {
        ctx.ui.say("no channels; `bake promote IMAGE CHANNEL` makes one");
    } else if !ctx.ui.json() {
        ctx.ui.raw(
            table::columns(&["CHANNEL", "VERSION", "DIGEST", "SINCE", "BY", ""], &rows, &[])
                .as_bytes(),
        );
    }
    Ok(())
}

/// One line of the common history.
struct Turned {
    at: String,
    what: &'static str,
    image: Reference,
    version: Option<String>,
    digest: Option<Digest>,
    by: Who,
    why: Option<String>,
}

fn history(
    ctx: &Ctx<'_>,
    store: &Store,
    wanted: Option<&Reference>,
    fits: impl Fn(&Reference) -> bool,
) -> Result<(), store::Error> {
    let mut turns = vec![];
    for (image, history) in store.channel_histories()?.into_iter().filter(|(image, _)| fits(image))
    {
        for Promotion { at, what, to, by } in history {
            let what = match what {
                ChannelEvent::Promote => "promote",
                ChannelEvent::Back => "back",
                ChannelEvent::End => "end",
            };
            let (version, digest) = to.map(|to| (to.version, to.digest)).unzip();
            turns.push(Turned { at, what, image: image.clone(), version, digest, by, why: None });
        }
    }
    let of_one_channel = wanted.is_some_and(|wanted| wanted.channel.is_some());
    for Revocation { at, what, image, digest, why, by } in store.revocation_history()? {
        if !of_one_channel && wanted.is_none_or(|wanted| wanted.name == image.name) {
            let what = if what == Verdict::Revoke { "revoke" } else { "restore" };
            let version = image.version.clone();
            turns.push(Turned {
                at,
                what,
                image,
                version,
                digest: Some(digest),
                by,
                why: Some(why),
            });
        }
    }
    // At one moment the order of each history stays.
    turns.sort_by(|a, b| a.at.cmp(&b.at));
    if ctx.ui.json() {
        for Turned { at, what, image, version, digest, by, why } in turns {
            let (name, channel) = (image.name, image.channel);
            let fields = json!({ "at": at, "what": what, "name": name, "channel": channel,
                "version": version, "digest": digest,
                "by": by, "why": why });
            ctx.ui.object("turn", fields);
        }
        return Ok(());
    }
    if turns.is_empty() {
        ctx.ui.say("nothing was promoted or revoked yet");
        return Ok(());
    }
    let rows: Vec<_> = turns
        .into_iter()
        .map(|turn| {
            let version = turn.version.unwrap_or_default();
            let digest = turn.digest.map(|digest| digest.short()).unwrap_or_default();
            let image = turn.image.channel.map_or_else(
                || turn.image.name.clone(),
                |channel| format!("{}@{channel}", turn.image.name),
            );
            vec![
                to_the_second(&turn.at),
                turn.what.to_owned(),
                image,
                version,
                digest,
                turn.by.to_string(),
                turn.why.unwrap_or_default(),
            ]
        })
        .collect();
    ctx.ui.raw(
        table::columns(&["WHEN", "WHAT", "IMAGE", "VERSION", "DIGEST", "BY", "WHY"], &rows, &[])
            .as_bytes(),
    );
    Ok(())
}

/// What marks versions beside what they are: channels, revocations, tests left out.
pub(super) struct Marks {
    channels: Vec<Channel>,
    revoked: BTreeMap<Digest, Revocation>,
    untested: BTreeSet<(String, String)>,
}

impl Marks {
    /// Reads them all.
    pub(super) fn read(store: &Store) -> Result<Self, Report> {
        let read = || {
            let mut untested = BTreeSet::new();
            for version in store.versions()? {
                if version.is_untested() {
                    untested.insert((
                        version.reference.name,
                        version.reference.version.unwrap_or_default(),
                    ));
                }
            }
            Ok(Self { channels: store.channels()?, revoked: store.revocations()?, untested })
        };
        read().map_err(|error: store::Error| edge::store(&error))
    }

    /// Says of one version what a person should know.
    pub(super) fn words(&self, name: &str, version: &str, digest: &Digest) -> Vec<String> {
        let revoked =
            self.revoked.get(digest).map(|revocation| format!("revoked: {}", revocation.why));
        let untested = self.is_untested(name, version).then(|| "untested".to_owned());
        self.at(name, version, digest)
            .map(|channel| format!("@{channel}"))
            .chain(revoked)
            .chain(untested)
            .collect()
    }

    /// Adds them to the fields of a version.
    pub(super) fn add(
        &self,
        mut fields: Value,
        name: &str,
        version: &str,
        digest: &Digest,
    ) -> Value {
        fields["channels"] = json!(self.at(name, version, digest).collect::<Vec<_>>());
        fields["revoked"] = json!(self.revoked.get(digest).map(|revocation| &revocation.why));
        fields["untested"] = json!(self.is_untested(name, version));
        fields
    }

    fn at(&self, name: &str, version: &str, digest: &Digest) -> impl Iterator<Item = &str> {
        let fits = move |channel: &&Channel| {
            channel.reference.name == name
                && channel.to.version == version
                && channel.to.digest == *digest
        };
        self.channels.iter().filter(fits).filter_map(|channel| channel.reference.channel.as_deref())
    }

    fn is_untested(&self, name: &str, version: &str) -> bool {
        // Two strings make no borrowed pair.
        self.untested.contains(&(name.to_owned(), version.to_owned()))
    }
}
