//! `symlink`: makes a symbolic link.

use super::kind::{Kind, NAME, Remarks, WHEN, Work};
use super::op::Op;
use super::place::gone_after_the_step;
use super::program::Options;
use crate::schema::{Check, Effect, Fields, Section, Shape, must};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `symlink` step",
        name: "symlink",
        doc: "Makes a symbolic link; replaces a file or link, never a directory.",
        keys: &[
            NAME,
            WHEN,
            must(
                "symlink",
                Shape::Text(Check::InsideFile),
                "What appears in the image: an absolute path.",
            ),
            must("target", Shape::Text(Check::LinkTarget), "Where it points."),
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
    gone_after_the_step(fields, "symlink", remarks);
}

fn lower(fields: &Fields, _: &Options) -> Option<Work> {
    let path = fields.text("symlink")?;
    let target = fields.text("target")?;
    Some(Work::of(path.clone(), Op::Symlink { path, target }))
}
