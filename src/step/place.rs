//! What kinds share that put files into the image: owner, mode, and where nothing stays.

use super::kind::{Findings, Work};
use super::op::Op;
use crate::schema::{Check, Fields, Key, Located, Mistake, Placed, Shape, may, quote};

/// Permission bits of a file that has none given.
pub(super) const FILE_MODE: u32 = 0o644;

/// The same of a directory.
pub(super) const DIRECTORY_MODE: u32 = 0o755;

/// `owner`.
pub(super) const OWNER: Key = may(
    "owner",
    Shape::Text(Check::Owner),
    "`name:group` or `uid:gid`, names looked up in the image; a `name` alone is in its primary \
        group. Default: root.",
);

/// `mode`.
pub(super) const MODE: Key =
    may("mode", Shape::Text(Check::Mode), "Permission bits as a string. Example: `0644`.");

/// Returns the owner, root by default.
pub(super) fn owner(fields: &Fields) -> String {
    fields.text("owner").unwrap_or_else(|| "0:0".to_owned())
}

/// Returns what goes where: the table of targets of `kind`, or the one target that `at` names and
/// what `what` says goes there. `None` where one of them is missing or wrong.
pub(super) fn placed(fields: &Fields, kind: &str, at: &str, what: &str) -> Option<Vec<Placed>> {
    if let Some(targets) = fields.targets(kind) {
        return Some(targets);
    }
    let (at, what) = (fields.entries(at).pop()?, fields.entries(what));
    (!what.is_empty()).then(|| vec![Placed { at, what }])
}

/// Returns the paths that a step puts something at: the targets of `kind`, or what `at` names.
pub(super) fn places(fields: &Fields, kind: &str, at: &str) -> Vec<Located> {
    match fields.targets(kind) {
        Some(targets) => targets.into_iter().map(|target| target.at).collect(),
        None => fields.entries(at),
    }
}

/// Makes the work of an operation for each target; `about`: what it is about.
pub(super) fn work(
    placed: Vec<Placed>,
    about: impl Fn(&Placed) -> String,
    op: impl Fn(String, Vec<String>) -> Op,
) -> Work {
    let texts = |what: Vec<Located>| what.into_iter().map(|entry| entry.text).collect();
    let about = placed.iter().map(about).collect::<Vec<_>>().join(" ");
    let ops = placed.into_iter().map(|one| op(one.at.text, texts(one.what))).collect();
    Work { about, ops, run: None, rest: vec![] }
}

/// Warns of what a step puts where nothing stays: `/tmp` is empty at the start of each step, and of
/// `/run` only directories stay (`directories`: that is what it puts there).
pub(super) fn warn_of_lost_paths(
    places: Vec<Located>,
    directories: bool,
    findings: &mut Findings<'_>,
) {
    for entry in places {
        let mut parts = entry.text.split('/').filter(|part| !matches!(*part, "" | "."));
        let place = match (parts.next(), parts.next()) {
            (Some("tmp"), _) => "`/tmp` is empty after every step",
            (Some("run"), Some(_)) if !directories => "of `/run` only directories stay",
            _ => continue,
        };
        let mistake = Mistake::new(format!("{} will not be in the image", quote(&entry.text)))
            .label(place)
            .help("choose a place outside of `/tmp` and `/run`, or make it when the image starts");
        findings.add(entry.span, mistake.warn());
    }
}
