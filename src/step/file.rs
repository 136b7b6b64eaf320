//! `file`: writes files, or adds to one.

use super::kind::{Findings, Kind, NAME, WHEN, Work};
use super::op::{Content, Op};
use super::place::{FILE_MODE, MODE, OWNER, owner, placed, places, warn_of_lost_paths, work};
use super::program::Options;
use crate::schema::{Check, Effect, Fields, Mistake, Section, Shape, Targets, may, must};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `file` step",
        name: "file",
        doc: "Writes files, or adds to one.",
        keys: &[
            NAME,
            WHEN,
            must(
                "file",
                Shape::Targets(&Targets {
                    one: Shape::Text(Check::InsideFile),
                    at: Check::InsideFile,
                    what: Check::Bytes,
                    many: false,
                }),
                "The file: an absolute path; or a table of several with their whole contents. \
                    Example: `file.\"/etc/motd\" = \"hello\\n\"`.",
            ),
            may("content", Shape::Text(Check::Bytes), "The whole content, exactly as given.")
                .of_one_target(),
            may(
                "append",
                Shape::Text(Check::Bytes),
                "Instead of `content`: added to the end of the file, which is made if missing; \
                    owner and mode of a file that is there stay unless given.",
            )
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
        ("file", "file = '/a'\ncontent = 'c'", "file = '/b'\ncontent = 'c'"),
        ("content", "file = '/a'\ncontent = 'c'", "file = '/a'\ncontent = 'd'"),
        ("append", "file = '/a'\nappend = 'c'", "file = '/a'\nappend = 'd'"),
        (
            "owner",
            "file = '/a'\ncontent = 'c'\nowner = '1:1'",
            "file = '/a'\ncontent = 'c'\nowner = '2:2'",
        ),
        (
            "mode",
            "file = '/a'\ncontent = 'c'\nmode = '0600'",
            "file = '/a'\ncontent = 'c'\nmode = '0640'",
        ),
    ],
};

fn cross_check(fields: &Fields, findings: &mut Findings<'_>) {
    warn_of_lost_paths(places(fields, "file", "file"), false, findings);
    if fields.targets("file").is_some() {
        return;
    }
    match (fields.get("content"), fields.get("append"), fields.get("file")) {
        (Some(_), Some(append), _) => {
            let mistake = Mistake::new("a file with both `content` and `append`")
                .label("instead of `content`, not besides it")
                .help("`content` is the whole file; `append` adds to its end");
            findings.add(append.key.clone(), mistake);
        }
        (None, None, Some(file)) => {
            let mistake = Mistake::new("a `file` step without `content` or `append`")
                .label("what stands in it?")
                .help("write `content = '''…'''`; an empty file has `content = \"\"`");
            findings.add(file.key.clone(), mistake);
        }
        _ => {}
    }
}

fn lower(fields: &Fields, _: &Options) -> Option<Work> {
    let append = fields.get("append").is_some();
    let placed = placed(fields, "file", "file", if append { "append" } else { "content" })?;
    let write = |path, texts: Vec<String>| {
        // What is appended to keeps its owner and mode unless the step says otherwise.
        let (owner, mode) = match append {
            true => (fields.text("owner"), fields.mode("mode")),
            false => (Some(owner(fields)), Some(fields.mode("mode").unwrap_or(FILE_MODE))),
        };
        Op::Write { path, content: Content::Text(texts.concat()), append, owner, mode }
    };
    Some(work(placed, |one| one.at.text.clone(), write))
}
