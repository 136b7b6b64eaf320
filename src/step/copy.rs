//! `copy`: files of the context, or of a stage.

use super::kind::{Kind, NAME, Remarks, WHEN, Work};
use super::op::Op;
use super::place::{OWNER, gone_after_the_step, owner};
use super::program::Options;
use crate::schema::{Check, Effect, Fields, Mistake, Section, Shape, may, must, quote};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `copy` step",
        name: "copy",
        doc: "Copies files of the context, or of a stage, into the image.",
        keys: &[
            NAME,
            WHEN,
            must(
                "copy",
                Shape::OneOrMany(Check::Line),
                "A path, a glob, or a list, below the context; with `from`, absolute ones in that stage. The contents of a directory go into `to`.",
            ),
            may("from", Shape::Stage, "The stage that the files are taken from."),
            must(
                "to",
                Shape::Text(Check::Inside),
                "Where it goes: an absolute path; a trailing `/` means a directory.",
            ),
            OWNER,
            may(
                "mode",
                Shape::Text(Check::Mode),
                "Permission bits of files; default 0644, or 0755 where the source is executable; directories get x where they get r.",
            ),
            may(
                "exclude",
                Shape::List(Check::Filled),
                "What is left out, in gitignore notation. Example: `[\"*.map\"]`.",
            ),
        ],
        later: &[],
        effect: Effect::Step,
    },
    together,
    lower,
    #[cfg(test)]
    cases: &[
        ("from", "copy = '/s'\nfrom = 'one'\nto = '/a'", "copy = '/s'\nfrom = 'two'\nto = '/a'"),
        ("copy", "copy = 's'\nto = '/a'", "copy = 't'\nto = '/a'"),
        ("to", "copy = 's'\nto = '/a'", "copy = 's'\nto = '/b'"),
        ("owner", "copy = 's'\nto = '/a'\nowner = '1:1'", "copy = 's'\nto = '/a'\nowner = '2:2'"),
        ("mode", "copy = 's'\nto = '/a'\nmode = '0600'", "copy = 's'\nto = '/a'\nmode = '0640'"),
        (
            "exclude",
            "copy = 'd'\nto = '/a/'\nexclude = ['x']",
            "copy = 'd'\nto = '/a/'\nexclude = ['y']",
        ),
    ],
};

fn together(fields: &Fields, remarks: &mut Remarks<'_>) {
    gone_after_the_step(fields, "to", remarks);
    let check = match fields.get("from") {
        Some(_) => Check::StageGlob,
        None => Check::ContextGlob,
    };
    for said in fields.entries("copy") {
        if let Err(mistake) = check.test(&said.text) {
            remarks.add(said.span, mistake);
        }
    }
    let many = fields.list("copy").len() > 1;
    if let (true, Some(to), Some(field)) = (many, fields.text("to"), fields.get("to"))
        && !to.ends_with('/')
    {
        let mistake = Mistake::new("several sources, but `to` is not a directory")
            .label("a directory ends in `/`");
        let help = format!("write to = {}", quote(&format!("{to}/")));
        remarks.add(field.span.clone(), mistake.help(help));
    }
}

fn lower(fields: &Fields, _: &Options) -> Option<Work> {
    let from = fields.given_list("copy")?;
    let op = Op::Copy {
        from: from.clone(),
        stage: match fields.get("from") {
            Some(_) => Some(fields.text("from")?),
            None => None,
        },
        to: fields.text("to")?,
        owner: owner(fields),
        mode: fields.mode("mode"),
        exclude: fields.list("exclude"),
    };
    Some(Work::of(from.join(" "), op))
}
