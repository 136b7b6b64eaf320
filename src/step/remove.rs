//! `remove`: removes paths.

use super::kind::{Kind, NAME, WHEN, Work};
use super::op::Op;
use super::program::Options;
use crate::schema::{Check, Effect, Fields, Section, Shape, must};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `remove` step",
        name: "remove",
        doc: "Removes paths; what is not there is fine.",
        keys: &[
            NAME,
            WHEN,
            must(
                "remove",
                Shape::OneOrMany(Check::InsideGlob),
                "Absolute paths or globs. Example: `[\"/usr/share/doc/*\"]`.",
            ),
        ],
        later: &[],
        effect: Effect::Step,
    },
    cross_check: |_, _| {},
    lower,
    #[cfg(test)]
    cases: &[("remove", "remove = '/a'", "remove = '/b'")],
};

fn lower(fields: &Fields, _: &Options) -> Option<Work> {
    let paths = fields.given_list("remove")?;
    Some(Work::of(paths.join(" "), Op::Remove { paths }))
}
