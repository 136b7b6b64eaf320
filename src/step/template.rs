//! `template`: renders a Jinja file of the context with the variables of the recipe.

use super::kind::{Kind, NAME, Remarks, WHEN, Work};
use super::op::{Content, Op};
use super::place::{FILE_MODE, MODE, OWNER, gone_after_the_step, owner};
use super::program::Options;
use crate::schema::{Check, Effect, Fields, Section, Shape, must};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `template` step",
        name: "template",
        doc: "Renders a Jinja file of the context with the recipe's variables; a name that is not known is an error.",
        keys: &[
            NAME,
            WHEN,
            must(
                "template",
                Shape::Text(Check::Context),
                "Path of the template below the context.",
            ),
            must("to", Shape::Text(Check::InsideFile), "The file it becomes: an absolute path."),
            OWNER,
            MODE,
        ],
        later: &[],
        effect: Effect::Step,
    },
    together,
    lower,
    #[cfg(test)]
    cases: &[
        ("template", "template = 's'\nto = '/a'", "template = 't'\nto = '/a'"),
        ("to", "template = 's'\nto = '/a'", "template = 's'\nto = '/b'"),
        (
            "owner",
            "template = 's'\nto = '/a'\nowner = '1:1'",
            "template = 's'\nto = '/a'\nowner = '2:2'",
        ),
        (
            "mode",
            "template = 's'\nto = '/a'\nmode = '0600'",
            "template = 's'\nto = '/a'\nmode = '0640'",
        ),
    ],
};

fn together(fields: &Fields, remarks: &mut Remarks<'_>) {
    gone_after_the_step(fields, "to", remarks);
}

fn lower(fields: &Fields, _: &Options) -> Option<Work> {
    let to = fields.text("to")?;
    let op = Op::Write {
        path: to.clone(),
        content: Content::Template(fields.text("template")?.into()),
        append: false,
        owner: Some(owner(fields)),
        mode: Some(fields.mode("mode").unwrap_or(FILE_MODE)),
    };
    Some(Work::of(to, op))
}
