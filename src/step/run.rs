//! `run`: runs a command.

use super::cache::check_caches;
use super::kind::{Findings, Kind, NAME, WHEN, Work};
use super::label::first_line;
use super::limit::LIMITS;
use super::op::Op;
use super::program::{
    AS, CACHE, ENV, MOUNT, NETWORK, Options, RETRIES, SECRET_ENV, SECRETS, SHELL, SSH, TIMEOUT,
    WORKDIR, argv,
};
use super::secret::check_secrets;
use crate::schema::{Command, Effect, Fields, Mistake, Section, Shape, must};

/// Longest argument of a program, the byte after it included: `MAX_ARG_STRLEN` of execve(2).
const MAX_ARGUMENT: usize = 128 * 1024;

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `run` step",
        name: "run",
        doc: "Runs a command.",
        keys: &[
            NAME,
            WHEN,
            must(
                "run",
                Shape::Command,
                "The command: a string goes to the shell, a list is executed without one. Below \
                    128 KiB, the kernel's limit; a longer one is a `script`.",
            ),
            AS,
            WORKDIR,
            SHELL,
            ENV,
            MOUNT,
            CACHE,
            SECRETS,
            SECRET_ENV,
            SSH,
            NETWORK,
            TIMEOUT,
            RETRIES,
            LIMITS,
        ],
        later: &[],
        effect: Effect::Step,
    },
    cross_check,
    lower,
    #[cfg(test)]
    cases: &[
        ("secrets", "run = 'a'\nsecrets = ['a']", "run = 'a'\nsecrets = ['b']"),
        (
            "secret_env",
            "run = 'a'\nsecret_env = { A = 'a' }",
            "run = 'a'\nsecret_env = { A = 'b' }",
        ),
        ("ssh", "run = 'a'\nssh = false", "run = 'a'\nssh = true"),
        ("cache", "run = 'a'\ncache = ['/a']", "run = 'a'\ncache = ['/b']"),
        ("mount", "run = 'a'\nmount.'/m' = 's'", "run = 'a'\nmount.'/m' = 't'"),
        ("run", "run = 'a'", "run = 'b'"),
        ("as", "run = 'a'\nas = '1'", "run = 'a'\nas = '2'"),
        ("workdir", "run = 'a'\nworkdir = '/a'", "run = 'a'\nworkdir = '/b'"),
        ("shell", "run = 'a'\nshell = 'sh'", "run = 'a'\nshell = 'bash'"),
        ("env", "run = 'a'\nenv = { A = '1' }", "run = 'a'\nenv = { A = '2' }"),
        ("network", "run = 'a'\nnetwork = false", "run = 'a'\nnetwork = true"),
        ("limits", "run = 'a'\nlimits.memory = '1GiB'", "run = 'a'\nlimits.memory = '2GiB'"),
        ("timeout", "run = 'a'\ntimeout = '1s'", "run = 'a'\ntimeout = '2s'"),
        ("retries", "run = 'a'\nretries = 1", "run = 'a'\nretries = 2"),
    ],
};

fn cross_check(fields: &Fields, findings: &mut Findings<'_>) {
    check_secrets(fields, findings);
    check_caches(fields, findings);
    let long = match fields.command("run") {
        Some(Command::Shell(text)) => text.len() >= MAX_ARGUMENT,
        Some(Command::Argv(words)) => words.iter().any(|word| word.len() >= MAX_ARGUMENT),
        None => false,
    };
    if let (true, Some(field)) = (long, fields.get("run")) {
        let mistake = Mistake::new("a command of more than 128 KiB")
            .label("the kernel takes no longer argument")
            .help("put it into a file of the context: script = \"scripts/….sh\"");
        findings.add(field.key.clone(), mistake);
    }
}

fn lower(fields: &Fields, defaults: &Options) -> Option<Work> {
    let options = Options::of(fields).over(defaults).filled();
    let command = fields.command("run")?;
    let about = match &command {
        Command::Shell(text) => first_line(text),
        Command::Argv(argv) => argv.join(" "),
    };
    let op = Op::Exec {
        argv: argv(&command, &options.shell),
        env: options.env.clone(),
        user: options.user.clone(),
        cwd: options.workdir.clone(),
        mounts: options.mounts.clone(),
        secrets: options.secrets.clone(),
        caches: options.caches.clone(),
        ssh: options.ssh,
    };
    Some(Work { about, ops: vec![op], run: Some(options), rest: vec![] })
}
