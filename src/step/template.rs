//! `template`: renders a Jinja file of the context with the variables of the recipe.

use super::kind::{Findings, Kind, NAME, WHEN, Work};
use super::op::{Content, Op};
use super::place::{FILE_MODE, MODE, OWNER, owner, placed, places, warn_of_lost_paths, work};
use super::program::Options;
use crate::schema::{Check, Effect, Fields, Section, Shape, Targets, must};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `template` step",
        name: "template",
        doc: "Renders a Jinja file of the context with the recipe's variables; a name that is not \
            known is an error.",
        keys: &[
            NAME,
            WHEN,
            must(
                "template",
                Shape::Targets(&Targets {
                    one: Shape::Text(Check::Context),
                    at: Check::InsideFile,
                    what: Check::Context,
                    many: false,
                }),
                "Path of the template below the context; or a table of several by the files they \
                    become. Example: `template.\"/etc/app.conf\" = \"app.conf.j2\"`.",
            ),
            must("to", Shape::Text(Check::InsideFile), "The file it becomes: an absolute path.")
                .of_one_target(),
            OWNER,
            MODE,
        ],
        later: &[],
        effect: Effect::Step,
    },
    cross_check,
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

fn cross_check(fields: &Fields, findings: &mut Findings<'_>) {
    warn_of_lost_paths(places(fields, "template", "to"), false, findings);
}

fn lower(fields: &Fields, _: &Options) -> Option<Work> {
    let write = |path, files: Vec<String>| Op::Write {
        path,
        content: Content::Template(files.concat().into()),
        append: false,
        owner: Some(owner(fields)),
        mode: Some(fields.mode("mode").unwrap_or(FILE_MODE)),
    };
    let placed = placed(fields, "template", "to", "template")?;
    Some(work(placed, |one| one.at.text.clone(), write))
}
