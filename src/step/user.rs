//! `user`: makes a user, or brings one to what is written.

use super::kind::{Findings, Kind, MAX_ID, NAME, WHEN, Work};
use super::op::Op;
use super::program::Options;
use crate::schema::{Check, Effect, Fields, Mistake, Section, Shape, may, must};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `user` step",
        name: "user",
        doc: "Makes a user, or brings an existing one to what is written; without a password it is \
            locked.",
        keys: &[
            NAME,
            WHEN,
            must("user", Shape::Text(Check::Account), "Login name."),
            may("uid", Shape::Integer(0, MAX_ID), "User id. Default: the lowest free."),
            may(
                "gid",
                Shape::Integer(0, MAX_ID),
                "Primary group id. Default: a group of the user's name.",
            ),
            may("home", Shape::Text(Check::PasswdPath), "Home directory."),
            may("shell", Shape::Text(Check::PasswdPath), "Login shell."),
            may("groups", Shape::List(Check::Account), "Further groups, which must exist."),
            may(
                "system",
                Shape::Boolean,
                "A system user: id below 1000, no home made. Default: `false`.",
            ),
            may("comment", Shape::Text(Check::PasswdField), "Full name or purpose."),
            may(
                "password",
                Shape::Text(Check::PasswordHash),
                "A crypt(5) hash, never the password itself. Made by `openssl passwd -6`.",
            ),
            may("ssh_keys", Shape::List(Check::Line), "Lines of `~/.ssh/authorized_keys`."),
        ],
        later: &[],
        effect: Effect::Step,
    },
    cross_check,
    lower,
    #[cfg(test)]
    cases: &[
        ("user", "user = 'u'", "user = 'v'"),
        ("uid", "user = 'u'\nuid = 1", "user = 'u'\nuid = 2"),
        ("gid", "user = 'u'\ngid = 1", "user = 'u'\ngid = 2"),
        ("home", "user = 'u'\nhome = '/a'", "user = 'u'\nhome = '/b'"),
        ("shell", "user = 'u'\nshell = '/a'", "user = 'u'\nshell = '/b'"),
        ("groups", "user = 'u'\ngroups = ['a']", "user = 'u'\ngroups = ['b']"),
        ("system", "user = 'u'\nsystem = true", "user = 'u'\nsystem = false"),
        ("comment", "user = 'u'\ncomment = 'a'", "user = 'u'\ncomment = 'b'"),
        ("password", "user = 'u'\npassword = '$6$a$b'", "user = 'u'\npassword = '$6$a$c'"),
        (
            "ssh_keys",
            "user = 'u'\nssh_keys = ['ssh-ed25519 AAAA a']",
            "user = 'u'\nssh_keys = ['ssh-ed25519 AAAB a']",
        ),
    ],
};

fn cross_check(fields: &Fields, findings: &mut Findings<'_>) {
    for entry in fields.entries("ssh_keys") {
        if entry.text.contains("PRIVATE KEY") {
            let mistake = Mistake::new("a private key in the recipe")
                .label("the public half belongs here")
                .help("it is the line in the `.pub` file");
            findings.add(entry.span, mistake);
        }
    }
}

fn lower(fields: &Fields, _: &Options) -> Option<Work> {
    let name = fields.text("user")?;
    let op = Op::User {
        name: name.clone(),
        uid: fields.integer("uid"),
        gid: fields.integer("gid"),
        home: fields.text("home"),
        shell: fields.text("shell"),
        groups: fields.list("groups"),
        system: fields.boolean("system").unwrap_or(false),
        comment: fields.text("comment"),
        password: fields.text("password"),
        ssh_keys: fields.list("ssh_keys"),
    };
    Some(Work::of(name, op))
}
