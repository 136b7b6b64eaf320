//! `http`: asks a server in the container.

use super::kind::{BOOT, CONTAINS, NAME, START, TIMEOUT, TestKind, WHEN, answers};
use super::model::{Checks, Probe};
use crate::schema::{Check, Effect, Fields, Section, Shape, may, must};
use crate::step::kind::Findings;

pub(super) static KIND: TestKind = TestKind {
    section: Section {
        title: "an `http` test",
        name: "http",
        doc: "Asks a server in the container and looks at its answer.",
        keys: &[
            NAME,
            WHEN,
            START,
            BOOT,
            must(
                "http",
                Shape::Text(Check::ProbeUrl),
                "An http URL. A name instead of an address means the container itself, and is sent \
                    as it is. Example: `http://127.0.0.1:8080/health`.",
            ),
            may(
                "status",
                Shape::Integer(100, 599),
                "The status that must be answered. Redirects are not followed. Default: 200.",
            ),
            may("contains", Shape::Text(Check::Filled), CONTAINS),
            TIMEOUT,
        ],
        later: &[],
        effect: Effect::Nothing,
    },
    cross_check,
    lower,
    #[cfg(test)]
    cases: &[
        ("boot", "start = 'x'\nhttp = 'http://a/'", "http = 'http://a/'\nboot = true"),
        ("http", "start = 'x'\nhttp = 'http://a/'", "start = 'x'\nhttp = 'http://b/'"),
        (
            "status",
            "start = 'x'\nhttp = 'http://a/'\nstatus = 200",
            "start = 'x'\nhttp = 'http://a/'\nstatus = 404",
        ),
        (
            "contains",
            "start = 'x'\nhttp = 'http://a/'\ncontains = 'a'",
            "start = 'x'\nhttp = 'http://a/'\ncontains = 'b'",
        ),
        ("start", "start = 'x'\nhttp = 'http://a/'", "start = 'y'\nhttp = 'http://a/'"),
    ],
};

fn cross_check(fields: &Fields, findings: &mut Findings<'_>) {
    answers(fields, "http", findings);
}

fn lower(fields: &Fields, _: &[String]) -> Option<Checks> {
    let url = fields.text("http")?;
    let about = format!("http {url}");
    let status = fields.integer("status").unwrap_or(200);
    Some(Checks::of(about, Probe::Http { url, status, contains: fields.text("contains") }))
}
