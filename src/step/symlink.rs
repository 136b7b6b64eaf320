//! `symlink`: makes symbolic links.

use super::kind::{Findings, Kind, NAME, WHEN, Work};
use super::op::Op;
use super::place::{placed, places, warn_of_lost_paths, work};
use super::program::Options;
use crate::schema::{Check, Effect, Fields, Section, Shape, Targets, must};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `symlink` step",
        name: "symlink",
        doc: "Makes symbolic links; they replace files and symlinks, never a directory.",
        keys: &[
            NAME,
            WHEN,
            must(
                "symlink",
                Shape::Targets(&Targets {
                    one: Shape::Text(Check::InsideFile),
                    at: Check::InsideFile,
                    what: Check::LinkTarget,
                    many: false,
                }),
                "What appears in the image: an absolute path; or a table of several with where \
                    each points. Example: `symlink.\"/var/log/app.log\" = \"/dev/stdout\"`.",
            ),
            must("target", Shape::Text(Check::LinkTarget), "Where it points.").of_one_target(),
        ],
        later: &[],
        effect: Effect::Step,
    },
    cross_check,
    lower,
    #[cfg(test)]
    cases: &[
        ("symlink", "symlink = '/a'\ntarget = 'b'", "symlink = '/c'\ntarget = 'b'"),
        ("target", "symlink = '/a'\ntarget = 'b'", "symlink = '/a'\ntarget = 'c'"),
    ],
};

fn cross_check(fields: &Fields, findings: &mut Findings<'_>) {
    warn_of_lost_paths(places(fields, "symlink", "symlink"), false, findings);
}

fn lower(fields: &Fields, _: &Options) -> Option<Work> {
    let placed = placed(fields, "symlink", "symlink", "target")?;
    let link = |path, target: Vec<String>| Op::Symlink { path, target: target.concat() };
    Some(work(placed, |one| one.at.text.clone(), link))
}
