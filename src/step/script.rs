//! `script`: runs a file of the context, which leaves no copy in the image.

use std::path::PathBuf;

use super::cache::check_caches;
use super::kind::{Findings, Kind, NAME, WHEN, Work};
use super::label::paths;
use super::limit::LIMITS;
use super::op::Op;
use super::program::{
    AS, CACHE, ENV, MOUNT, NETWORK, Options, RETRIES, SECRET_ENV, SECRETS, SHELL, SSH, TIMEOUT,
    WORKDIR,
};
use super::secret::check_secrets;
use crate::schema::{Check, Effect, Fields, Section, Shape, may, must};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `script` step",
        name: "script",
        doc: "Runs a file of the context by its `#!` line, else by the shell; it leaves no copy in \
            the image.",
        keys: &[
            NAME,
            WHEN,
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
    cross_check: check,
    lower,
    #[cfg(test)]
    cases: &[
        ("secrets", "script = 's'\nsecrets = ['a']", "script = 's'\nsecrets = ['b']"),
        (
            "secret_env",
            "script = 's'\nsecret_env = { A = 'a' }",
            "script = 's'\nsecret_env = { A = 'b' }",
        ),
        ("ssh", "script = 's'\nssh = false", "script = 's'\nssh = true"),
        ("cache", "script = 's'\ncache = ['/a']", "script = 's'\ncache = ['/b']"),
        ("mount", "script = 's'\nmount.'/m' = 's'", "script = 's'\nmount.'/m' = 't'"),
        ("script", "script = 's'", "script = 't'"),
        ("args", "script = 's'\nargs = ['a']", "script = 's'\nargs = ['b']"),
        ("as", "script = 's'\nas = '1'", "script = 's'\nas = '2'"),
        ("workdir", "script = 's'\nworkdir = '/a'", "script = 's'\nworkdir = '/b'"),
        ("shell", "script = 's'\nshell = 'sh'", "script = 's'\nshell = 'bash'"),
        ("env", "script = 's'\nenv = { A = '1' }", "script = 's'\nenv = { A = '2' }"),
        ("network", "script = 's'\nnetwork = false", "script = 's'\nnetwork = true"),
        ("limits", "script = 's'\nlimits.memory = '1GiB'", "script = 's'\nlimits.memory = '2GiB'"),
        ("timeout", "script = 's'\ntimeout = '1s'", "script = 's'\ntimeout = '2s'"),
        ("retries", "script = 's'\nretries = 1", "script = 's'\nretries = 2"),
    ],
};

fn check(fields: &Fields, findings: &mut Findings<'_>) {
    check_secrets(fields, findings);
    check_caches(fields, findings);
}

fn lower(fields: &Fields, defaults: &Options) -> Option<Work> {
    let options = Options::of(fields).over(defaults).filled();
    let files: Vec<PathBuf> = fields.given_list("script")?.into_iter().map(PathBuf::from).collect();
    let script = |file: &PathBuf| Op::Script {
        file: file.clone(),
        shell: options.shell.clone(),
        args: fields.list("args"),
        env: options.env.clone(),
        user: options.user.clone(),
        cwd: options.workdir.clone(),
        mounts: options.mounts.clone(),
        secrets: options.secrets.clone(),
        caches: options.caches.clone(),
        ssh: options.ssh,
    };
    let ops = files.iter().map(script).collect();
    Some(Work { about: paths(&files), ops, run: Some(options), rest: vec![] })
}
