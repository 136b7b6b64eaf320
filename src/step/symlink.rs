//! `symlink`: makes symbolic links.

use super::kind::{Kind, NAME, Remarks, WHEN, Work};
use super::op::Op;
use super::place::{gone_after_the_step, placed, places, work};
use super::program::Options;
use crate::schema::{Check, Effect, Fields, Section, Shape, Targets, must};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `symlink` step",
        name: "symlink",
        doc: "Makes symbolic links; they replace files and links, never a directory.",
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
                "What appears in the image: an absolute path; or a table of several with where each points. Example: `symlink.\"/var/log/app.log\" = \"/dev/stdout\"`.",
            ),
            must("target", Shape::Text(Check::LinkTarget), "Where it points.").of_one_target(),
        ],
        later: &[],
        effect: Effect::Step,
    },
    together,
    lower,
    #[cfg(test)]
    cases: &[
        ("symlink", "symlink = '/a'\ntarget = 'b'", "symlink = '/c'\ntarget = 'b'"),
        ("target", "symlink = '/a'\ntarget = 'b'", "symlink = '/a'\ntarget = 'c'"),
    ],
};

fn together(fields: &Fields, remarks: &mut Remarks<'_>) {
    gone_after_the_step(places(fields, "symlink", "symlink"), false, remarks);
}

fn lower(fields: &Fields, _: &Options) -> Option<Work> {
    let placed = placed(fields, "symlink", "symlink", "target")?;
    let link = |path, target: Vec<String>| Op::Symlink { path, target: target.concat() };
    Some(work(placed, |one| one.at.text.clone(), link))
}
