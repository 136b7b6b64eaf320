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
use crate::inspect::{
    self, Claim, Disk, DriftOptions, DriftReport, Living, PartChange, Picture, Place, Shift,
    Verdict,
};
use crate::store;
use crate::tree;
use crate::ui::report::Report;
use crate::ui::text::clean;

/// `bake drift`.
pub(super) fn drift(ctx: &Ctx<'_>, args: &DriftArgs) -> Result<u8, Report> {
    let report = match &args.disk {
        Some(path) => of_disk(ctx, args, path)?,
        None => of_root(ctx, args)?,
    };
    if ctx.ui.json() {
        ctx.ui.object("drift", json!(report));
    } else {
        print(ctx, &report);
    }
    Ok(if report.verdict == Verdict::Exact { edge::OK } else { edge::DIFFERENT })
}

/// Compares a root that is there as a directory.
fn of_root(ctx: &Ctx<'_>, args: &DriftArgs) -> Result<DriftReport, Report> {
    let failed = |error: inspect::Error| edge::inspect(&error);
    let living = match args.pid {
        Some(pid) => inspect::living(pid).map_err(failed)?,
        None => Living { root: args.root.clone(), shift: args.owner_shift.into() },
    };
    let mut claim = inspect::claim(&living.root).map_err(failed)?;
    claim.host = args.host.clone().or(claim.host);
    if args.pid.is_some() && claim.place == Place::Directory {
        claim.place = Place::Container;
    }
    let options = options(args, living.shift);
    let sink = ctx.ui.sink();
    match picture(ctx, args, &claim)? {
        Some(picture) => {
            inspect::drift(&living.root, &claim, &picture, &options, &sink).map_err(failed)
        }
        None => Ok(inspect::unknown(&living.root, &claim, options.now)),
    }
}

/// Compares a root of a disk: that of the image which is named, else the one there is.
fn of_disk(ctx: &Ctx<'_>, args: &DriftArgs, path: &Path) -> Result<DriftReport, Report> {
    let failed = |error: inspect::Error| edge::inspect(&error);
    let disk = Disk::open(path).map_err(failed)?;
    let mut named = None;
    if args.image.is_some() {
        named = picture(ctx, args, &Claim::default())?;
    }
    let root = disk.root(named.as_ref().map(|picture| &picture.subject)).map_err(failed)?;
    let mut claim = root.claim();
    claim.host = args.host.clone().or(claim.host);
    let found = match named {
        None => picture(ctx, args, &claim)?,
        named => named,
    };
    let options = options(args, Shift::default());
    let sink = ctx.ui.sink();
    match found {
        Some(picture) => disk.drift(&root, &claim, &picture, &options, &sink).map_err(failed),
        None => Ok(disk.unknown(&root, &claim, options.now)),
    }
}

fn options(args: &DriftArgs, shift: Shift) -> DriftOptions {
    DriftOptions {
        strict: args.strict,
        ignore: args.ignore.clone(),
        shift,
        all: args.all,
        cache: args.stat_cache.clone(),
        now: now(),
    }
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
    for one in report.disk.iter().flat_map(|on| &on.changes) {
        ctx.ui.result(&clean(&part(one)));
    }
    let root = clean(&report.root.to_string_lossy());
    let option = if report.disk.is_some() { "--disk" } else { "--root" };
    match (report.verdict, &report.claims) {
        (Verdict::Unknown, None) => ctx.ui.say(&format!(
            "{root} does not say which image it is; name one: `bake drift IMAGE {option} {root}`"
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
    if let Some(on) = &report.disk {
        let names = |names: &[String]| clean(&names.join(", "));
        if let Some(partition) = &on.partition {
            ctx.ui.say(&format!("the {} in partition {}", on.file_system, clean(partition)));
        }
        if !on.others.is_empty() {
            ctx.ui.say(&format!("not compared: {}", names(&on.others)));
        }
        if let Some(boot) = &on.boot {
            let (line, program) = (&boot.command_line, &boot.program);
            let digest = boot.initrd.map_or("none".to_owned(), |digest| digest.to_string());
            ctx.ui.say(&clean(&format!(
                "started by {program}; not compared: its initial RAM disk ({digest}), and what a \
                recipe adds to the command line ({line:?})"
            )));
        }
        for remark in &on.remarks {
            ctx.ui.say(&clean(remark));
        }
    }
    let counts = &report.counts;
    if report.verdict != Verdict::Unknown {
        ctx.ui.say(&format!(
            "{} names compared: {} changed, {} added, {} removed",
            counts.compared, counts.changed, counts.added, counts.removed
        ));
    }
}

/// Returns `changed  esp  EFI/BOOT/BOOTX64.EFI: kernel sha256:… → sha256:…`.
fn part(change: &PartChange) -> String {
    let PartChange { part, path, what, before, after } = change;
    let path = path.as_ref().map_or(String::new(), |path| format!("{path}: "));
    let text = |side: &Option<String>| side.clone().unwrap_or_else(|| "none".to_owned());
    let sides = match (before, after) {
        (None, None) => String::new(),
        _ => format!(" {} → {}", text(before), text(after)),
    };
    format!("changed  {part}  {path}{what}{sides}")
}
