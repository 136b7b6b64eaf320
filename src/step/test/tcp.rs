//! `tcp`: connects to a port in the container.

use super::kind::{BOOT, NAME, START, TIMEOUT, TestKind, WHEN, answers};
use super::model::{Checks, Probe};
use crate::schema::{Check, Effect, Fields, Section, Shape, must};
use crate::step::kind::Findings;

pub(super) static KIND: TestKind = TestKind {
    section: Section {
        title: "a `tcp` test",
        name: "tcp",
        doc: "Connects to a port in the container.",
        keys: &[
            NAME,
            WHEN,
            START,
            BOOT,
            must(
                "tcp",
                Shape::Text(Check::Address),
                "Address and port. Example: `127.0.0.1:5432`.",
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
        ("boot", "start = 'x'\ntcp = 'a:1'", "tcp = 'a:1'\nboot = true"),
        ("tcp", "start = 'x'\ntcp = 'a:1'", "start = 'x'\ntcp = 'a:2'"),
        ("start", "start = 'x'\ntcp = 'a:1'", "start = ['x']\ntcp = 'a:1'"),
    ],
};

fn cross_check(fields: &Fields, findings: &mut Findings<'_>) {
    answers(fields, "tcp", findings);
}

fn lower(fields: &Fields, _: &[String]) -> Option<Checks> {
    let address = fields.text("tcp")?;
    Some(Checks::of(format!("tcp {address}"), Probe::Tcp { address }))
}
