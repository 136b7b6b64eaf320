//! `bake drift`.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use serde_json::json;

use super::args::image::DriftArgs;
use super::ctx::{Ctx, now};
use super::reference::reference;
use super::{change, edge};
use crate::image::Reference;
use crate::inspect::{self, Claim, DriftOptions, DriftReport, Living, Picture, Verdict};
use crate::store;
use crate::tree;
use crate::ui::report::Report;
use crate::ui::text::clean;

/// `bake drift`.
pub(super) fn drift(ctx: &Ctx<'_>, args: &DriftArgs) -> Result<u8, Report> {
    let now = now();
    let failed = |error: inspect::Error| edge::inspect(&error);
    let living = match args.pid {
        Some(pid) => inspect::living(pid).map_err(failed)?,
        None => Living { root: args.root.clone(), shift: args.owner_shift.into() },
    };
    let mut claim = inspect::claim(&living.root).map_err(failed)?;
    claim.host = args.host.clone().or(claim.host);
    let report = match picture(ctx, args, &claim)? {
        Some(picture) => {
            let options = DriftOptions {
                strict: args.strict,
                ignore: args.ignore.clone(),
                shift: living.shift,
                all: args.all,
                cache: args.stat_cache.clone(),
                now,
            };
            inspect::drift(&living.root, &claim, &picture, &options, &ctx.ui.sink())
                .map_err(failed)?
        }
        None => inspect::unknown(&living.root, &claim, now),
    };
    if ctx.ui.json() {
        ctx.ui.object("drift", json!(report));
    } else {
        print(ctx, &report);
    }
    Ok(if report.verdict == Verdict::Exact { edge::OK } else { edge::DIFFERENT })
}

/// Finds what to compare with; `None` where the root names nothing that the store has.
fn picture(ctx: &Ctx<'_>, args: &DriftArgs, claim: &Claim) -> Result<Option<Picture>, Report> {
    let failed = |error: inspect::Error| edge::inspect(&error);
    let platform = args.platform.platform.as_ref();
    match &args.image {
        Some(name) if name == "-" => {
            Picture::read(&mut io::stdin().lock(), Path::new("-")).map(Some).map_err(failed)
        }
        Some(name) => match manifest_file(name) {
            Some(path) => {
                let file = File::open(path).map_err(|source| {
                    failed(inspect::Error::Report { path: path.to_owned(), source })
                })?;
                Picture::read(&mut BufReader::with_capacity(1 << 16, file), path)
                    .map(Some)
                    .map_err(failed)
            }
            None => {
                let reference = reference(name)?;
                Picture::of(&ctx.store_to_read()?, &reference, platform).map(Some).map_err(failed)
            }
        },
        None => {
            let Some(identity) = &claim.identity else { return Ok(None) };
            // A name that no image can have is one that nobody knows.
            let Ok(reference) = Reference::new(&identity.name, &identity.version) else {
                return Ok(None);
            };
            match Picture::of(&ctx.store_to_read()?, &reference, platform) {
                Ok(picture) => Ok(Some(picture)),
                Err(inspect::Error::Store(store::Error::NotFound { .. })) => Ok(None),
                Err(error) => Err(failed(error)),
            }
        }
    }
}

/// A path is what looks like one, or what names a file and cannot be a version.
fn manifest_file(name: &str) -> Option<&Path> {
    let path = Path::new(name);
    let looks = name.starts_with('/') || name.starts_with("./") || name.starts_with("../");
    (looks || (!name.contains(':') && !name.contains('@') && path.is_file())).then_some(path)
}

fn print(ctx: &Ctx<'_>, report: &DriftReport) {
    let image = match (&report.name, &report.version) {
        (Some(name), Some(version)) => format!("{name}:{version}"),
        _ => "no image".to_owned(),
    };
    let mut head = format!("{}  {image}", report.verdict.name());
    if let Some(digest) = &report.digest {
        head += &format!("  {digest}");
    }
    if let Some(host) = &report.host {
        head += &format!("  on {host}");
    }
    ctx.ui.result(&clean(&head));
    for one in &report.changes {
        ctx.ui.result(&change::line(one));
    }
    for one in &report.unreadable {
        ctx.ui.result(&format!("unread   {}  {}", tree::shown(&one.path), clean(&one.why)));
    }
    let root = clean(&report.root.to_string_lossy());
    match (report.verdict, &report.claims) {
        (Verdict::Unknown, None) => ctx.ui.say(&format!(
            "{root} does not say which image it is; name one: `bake drift IMAGE --root {root}`"
        )),
        (Verdict::Unknown, Some(claims)) => {
            ctx.ui.say(&format!(
                "the store has no {}; name a manifest of it: `bake drift FILE`",
                clean(claims)
            ));
        }
        (_, Some(claims)) if *claims != image => {
            ctx.ui.say(&format!("{root} itself says that it is {}", clean(claims)))
        }
        _ => {}
    }
    if !report.skipped.is_empty() {
        let paths: Vec<String> = report.skipped.iter().map(|path| tree::shown(path)).collect();
        ctx.ui.say(&format!("mounted where the image has nothing, left out: {}", paths.join(", ")));
    }
    if let Some(hint) = &report.hint {
        ctx.ui.say(&format!("hint: {hint}"));
    }
    let counts = &report.counts;
    if report.verdict != Verdict::Unknown {
        ctx.ui.say(&format!(
            "{} names compared: {} changed, {} added, {} removed",
            counts.compared, counts.changed, counts.added, counts.removed
        ));
    }
}
