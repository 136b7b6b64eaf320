//! `script`: runs a file of the context in the container.

use std::path::PathBuf;

use super::kind::{AS, BOOT, ENV, NAME, START, TIMEOUT, TestKind, WHEN, WORKDIR, manner};
use super::model::{Checks, Probe};
use crate::schema::{Check, Effect, Fields, Section, Shape, may, must};
use crate::step::label::paths;
use crate::step::program::SHELL;

pub(super) static KIND: TestKind = TestKind {
    section: Section {
        title: "a `script` test",
        name: "script",
        doc: "Runs a file of the context in the container, by its `#!` line, else by the shell; \
            its exit status must be 0.",
        keys: &[
            NAME,
            WHEN,
            START,
            BOOT,
            must(
                "script",
                Shape::OneOrMany(Check::Context),
                "Path of the script below the context; a list runs in order.",
            ),
            may("args", Shape::List(Check::Argument), "Arguments of the script."),
            AS,
            WORKDIR,
            SHELL,
            ENV,
            TIMEOUT,
        ],
        later: &[],
        effect: Effect::Nothing,
    },
    cross_check: |_, _| {},
    lower,
    #[cfg(test)]
    cases: &[
        ("boot", "script = 's'", "script = 's'\nboot = true"),
        ("script", "script = 's'", "script = 't'"),
        ("args", "script = 's'\nargs = ['a']", "script = 's'\nargs = ['b']"),
        ("start", "script = 's'", "script = 's'\nstart = 'x'"),
        ("as", "script = 's'\nas = 'x'", "script = 's'\nas = 'y'"),
        ("workdir", "script = 's'\nworkdir = '/x'", "script = 's'\nworkdir = '/y'"),
        ("shell", "script = 's'\nshell = 'sh'", "script = 's'\nshell = 'bash'"),
        ("env", "script = 's'\nenv.A = 1", "script = 's'\nenv.A = 2"),
    ],
};

fn lower(fields: &Fields, shell: &[String]) -> Option<Checks> {
    let files: Vec<PathBuf> = fields.given_list("script")?.into_iter().map(PathBuf::from).collect();
    let about = format!("script {}", paths(&files));
    let probe = |file| Probe::Script {
        file,
        content: None,
        shell: shell.to_vec(),
        args: fields.list("args"),
        how: manner(fields),
    };
    Some(Checks { about, probes: files.into_iter().map(probe).collect() })
}
