//! `run`: runs a command in the container.

use super::kind::{AS, BOOT, ENV, NAME, START, TIMEOUT, TestKind, WHEN, WORKDIR, manner};
use super::model::{Checks, Probe};
use crate::schema::{Command, Effect, Fields, Section, Shape, must};
use crate::step::label::first_line;
use crate::step::program::{SHELL, argv};

pub(super) static KIND: TestKind = TestKind {
    section: Section {
        title: "a `run` test",
        name: "run",
        doc: "Runs a command in the container; its exit status must be 0.",
        keys: &[
            NAME,
            WHEN,
            START,
            BOOT,
            must(
                "run",
                Shape::Command,
                "The command: a string goes to the shell, a list is executed without one.",
            ),
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
        ("boot", "run = 'a'", "run = 'a'\nboot = true"),
        ("run", "run = 'a'", "run = 'b'"),
        ("start", "run = 'a'", "run = 'a'\nstart = 'x'"),
        ("as", "run = 'a'\nas = 'x'", "run = 'a'\nas = 'y'"),
        ("workdir", "run = 'a'\nworkdir = '/x'", "run = 'a'\nworkdir = '/y'"),
        ("shell", "run = 'a'\nshell = 'sh'", "run = 'a'\nshell = 'bash'"),
        ("env", "run = 'a'\nenv.A = 1", "run = 'a'\nenv.A = 2"),
    ],
};

fn lower(fields: &Fields, shell: &[String]) -> Option<Checks> {
    let command = fields.command("run")?;
    let about = match &command {
        Command::Shell(text) => format!("run {}", first_line(text)),
        Command::Argv(argv) => format!("run {}", argv.join(" ")),
    };
    Some(Checks::of(about, Probe::Exec { argv: argv(&command, shell), how: manner(fields) }))
}
