//! `copy`: files of the context, or of a stage.

use super::kind::{Findings, Kind, NAME, WHEN, Work};
use super::op::Op;
use super::place::{OWNER, owner, placed, places, warn_of_lost_paths};
use super::program::Options;
use crate::schema::{
    Check, Effect, Fields, Located, Mistake, Placed, Section, Shape, Targets, may, must, quote,
};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `copy` step",
        name: "copy",
        doc: "Copies files of the context, of a stage or of another image into the image.",
        keys: &[
            NAME,
            WHEN,
            must(
                "copy",
                Shape::Targets(&Targets {
                    one: Shape::OneOrMany(Check::Source),
                    at: Check::Inside,
                    what: Check::Source,
                    many: true,
                }),
                "A path, a glob, or a list, below the context; with `from`, absolute ones in \
                    there. The contents of a directory go into `to`. Or a table of several by \
                    where they go, each a layer of its own. Example: `copy.\"/srv/www/\" \
                    = \"site/\"`.",
            ),
            may(
                "from",
                Shape::From,
                "What the files are taken from: a stage, an image of the store, or one that \
                    another tool keeps. Example: `{ image = \"tools:1.0.0\" }`.",
            ),
            must(
                "to",
                Shape::Text(Check::Inside),
                "Where it goes: an absolute path; a trailing `/` means a directory.",
            )
            .of_one_target(),
            OWNER,
            may(
                "mode",
                Shape::Text(Check::Mode),
                "Permission bits of files; default 0644, or 0755 where the source is executable; \
                    directories get x where they get r.",
            ),
            may(
                "exclude",
                Shape::List(Check::Exclude),
                "What is left out, in gitignore notation. Example: `[\"*.map\"]`.",
            ),
        ],
        later: &[],
        effect: Effect::Step,
    },
    cross_check,
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

fn cross_check(fields: &Fields, findings: &mut Findings<'_>) {
    warn_of_lost_paths(places(fields, "copy", "to"), false, findings);
    let check = match fields.get("from") {
        Some(_) => Check::StageGlob,
        None => Check::ContextGlob,
    };
    let targets = fields.targets("copy");
    let sources: Vec<Located> = match &targets {
        Some(targets) => targets.iter().flat_map(|one| &one.what).cloned().collect(),
        None => fields.entries("copy"),
    };
    for entry in sources {
        if let Err(mistake) = check.test(&entry.text) {
            findings.add(entry.span, mistake);
        }
    }
    for one in targets.or_else(|| placed(fields, "copy", "to", "copy")).into_iter().flatten() {
        if one.what.len() > 1 && !one.at.text.ends_with('/') {
            let mistake = Mistake::new("several sources, but the target is not a directory")
                .label("a directory ends in `/`");
            let help = format!("write {}", quote(&format!("{}/", one.at.text)));
            findings.add(one.at.span, mistake.help(help));
        }
    }
}

fn lower(fields: &Fields, _: &Options) -> Option<Work> {
    let stage = match fields.get("from") {
        Some(_) => Some(fields.text("from")?),
        None => None,
    };
    let copy = |one: Placed| {
        let from: Vec<String> = one.what.into_iter().map(|entry| entry.text).collect();
        let about = from.join(" ");
        let op = Op::Copy {
            from,
            stage: stage.clone(),
            to: one.at.text,
            owner: owner(fields),
            mode: fields.mode("mode"),
            exclude: fields.list("exclude"),
        };
        Work::of(about, op)
    };
    let mut copies = placed(fields, "copy", "to", "copy")?.into_iter().map(copy);
    let first = copies.next()?;
    Some(Work { rest: copies.collect(), ..first })
}
