//! `mkdir`: makes directories.

use super::kind::{Findings, Kind, NAME, WHEN, Work};
use super::op::Op;
use super::place::{DIRECTORY_MODE, MODE, OWNER, owner, warn_of_lost_paths};
use super::program::Options;
use crate::schema::{Check, Effect, Fields, Section, Shape, may, must};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `mkdir` step",
        name: "mkdir",
        doc: "Makes directories, their parents too; owner and mode are set on existing ones as \
            well.",
        keys: &[
            NAME,
            WHEN,
            must("mkdir", Shape::OneOrMany(Check::Inside), "Absolute paths."),
            OWNER,
            MODE,
            may(
                "existing",
                Shape::Choice(&["set", "kept"]),
                "What becomes of directories that are there: `set` (default): owner and mode are \
                    set on them as well; `kept`: they stay as they are.",
            ),
        ],
        later: &[],
        effect: Effect::Step,
    },
    cross_check,
    lower,
    #[cfg(test)]
    cases: &[
        ("mkdir", "mkdir = '/a'", "mkdir = '/b'"),
        ("owner", "mkdir = '/a'\nowner = '1:1'", "mkdir = '/a'\nowner = '2:2'"),
        ("mode", "mkdir = '/a'\nmode = '0700'", "mkdir = '/a'\nmode = '0750'"),
        ("existing", "mkdir = '/a'\nexisting = 'set'", "mkdir = '/a'\nexisting = 'kept'"),
    ],
};

fn cross_check(fields: &Fields, findings: &mut Findings<'_>) {
    warn_of_lost_paths(fields.entries("mkdir"), true, findings);
}

fn lower(fields: &Fields, _: &Options) -> Option<Work> {
    let paths = fields.given_list("mkdir")?;
    let mode = fields.mode("mode").unwrap_or(DIRECTORY_MODE);
    let about = paths.join(" ");
    let kept = fields.text("existing").as_deref() == Some("kept");
    Some(Work::of(about, Op::Mkdir { paths, owner: owner(fields), mode, kept }))
}
