//! `file`: looks at a file or directory in the container, or makes sure that there is none.

use super::kind::{BOOT, CONTAINS, NAME, START, TIMEOUT, TestKind, WHEN};
use super::model::{Checks, Probe};
use crate::schema::{Check, Effect, Fields, Mistake, Section, Shape, may, must, sha256};
use crate::step::kind::Findings;

pub(super) static KIND: TestKind = TestKind {
    section: Section {
        title: "a `file` test",
        name: "file",
        doc: "Looks at a file or directory in the container.",
        keys: &[
            NAME,
            WHEN,
            START,
            BOOT,
            must(
                "file",
                Shape::Text(Check::Inside),
                "The file: an absolute path; symlinks are followed.",
            ),
            may("absent", Shape::Yes, "`true`: there must be nothing."),
            may(
                "mode",
                Shape::Text(Check::Mode),
                "The permission bits it must have. Example: `0644`.",
            ),
            may(
                "owner",
                Shape::Text(Check::Owner),
                "The owner it must have: `name:group` or `uid:gid`, names looked up in the image.",
            ),
            may("contains", Shape::Text(Check::Filled), CONTAINS),
            may(
                "sha256",
                Shape::Sha256,
                "The sha256 it must have (64 hex digits), or a table of them by architecture.",
            ),
            TIMEOUT,
        ],
        later: &[],
        effect: Effect::Nothing,
    },
    cross_check,
    lower,
    #[cfg(test)]
    cases: &[
        ("boot", "file = '/a'", "file = '/a'\nboot = true"),
        ("file", "file = '/a'", "file = '/b'"),
        ("absent", "file = '/a'", "file = '/a'\nabsent = true"),
        ("mode", "file = '/a'\nmode = '644'", "file = '/a'\nmode = '755'"),
        ("owner", "file = '/a'\nowner = 'a:a'", "file = '/a'\nowner = 'b:b'"),
        ("contains", "file = '/a'\ncontains = 'a'", "file = '/a'\ncontains = 'b'"),
        (
            "sha256",
            "file = '/a'",
            "file = '/a'\nsha256 = \
                '0000000000000000000000000000000000000000000000000000000000000000'",
        ),
        ("start", "file = '/a'", "file = '/a'\nstart = 'x'"),
    ],
};

fn cross_check(fields: &Fields, findings: &mut Findings<'_>) {
    if fields.get("absent").is_some() {
        for name in ["mode", "owner", "contains", "sha256"] {
            if let Some(field) = fields.get(name) {
                let mistake = Mistake::new(format!("`{name}` of a file that must be absent"))
                    .label("there is nothing to look at");
                findings.add(field.key.clone(), mistake);
            }
        }
    }
    findings.sha256_of_this_architecture(fields, "test");
}

fn lower(fields: &Fields, _: &[String]) -> Option<Checks> {
    let path = fields.text("file")?;
    if fields.get("absent").is_some() {
        return Some(Checks::of(format!("no file {path}"), Probe::Absent { path }));
    }
    let about = format!("file {path}");
    let probe = Probe::File {
        path,
        mode: fields.mode("mode"),
        owner: fields.text("owner"),
        contains: fields.text("contains"),
        sha256: fields.text("sha256").and_then(|text| sha256(&text).ok()),
    };
    Some(Checks::of(about, probe))
}
