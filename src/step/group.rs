//! `group`: makes a group, or brings one to what is written.

use super::kind::{Kind, MAX_ID, NAME, WHEN, Work};
use super::op::Op;
use super::program::Options;
use crate::schema::{Check, Effect, Fields, Section, Shape, may, must};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `group` step",
        name: "group",
        doc: "Makes a group, or brings an existing one to what is written.",
        keys: &[
            NAME,
            WHEN,
            must("group", Shape::Text(Check::Account), "Name."),
            may("gid", Shape::Integer(0, MAX_ID), "Group id. Default: the lowest free."),
            may("system", Shape::Boolean, "A system group: id below 1000. Default: `false`."),
        ],
        later: &[],
        effect: Effect::Step,
    },
    cross_check: |_, _| {},
    lower,
    #[cfg(test)]
    cases: &[
        ("group", "group = 'g'", "group = 'h'"),
        ("gid", "group = 'g'\ngid = 1", "group = 'g'\ngid = 2"),
        ("system", "group = 'g'\nsystem = true", "group = 'g'\nsystem = false"),
    ],
};

fn lower(fields: &Fields, _: &Options) -> Option<Work> {
    let name = fields.text("group")?;
    let system = fields.boolean("system").unwrap_or(false);
    Some(Work::of(name.clone(), Op::Group { name, gid: fields.integer("gid"), system }))
}
