//! `tcp`: connects to a port in the container.

use super::kind::{NAME, START, TIMEOUT, TestKind, WHEN, answers};
use super::model::{Look, Probe};
use crate::schema::{Check, Effect, Fields, Section, Shape, must};
use crate::step::kind::Remarks;

pub(super) static KIND: TestKind = TestKind {
    section: Section {
        title: "a `tcp` test",
        name: "tcp",
        doc: "Connects to a port in the container.",
        keys: &[
            NAME,
            WHEN,
            START,
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
    together,
    lower,
    #[cfg(test)]
    cases: &[
        ("tcp", "start = 'x'\ntcp = 'a:1'", "start = 'x'\ntcp = 'a:2'"),
        ("start", "start = 'x'\ntcp = 'a:1'", "start = ['x']\ntcp = 'a:1'"),
    ],
};

fn together(fields: &Fields, remarks: &mut Remarks<'_>) {
    answers(fields, "tcp", remarks);
}

fn lower(fields: &Fields, _: &[String]) -> Option<Look> {
    let address = fields.text("tcp")?;
    Some(Look::of(format!("tcp {address}"), Probe::Tcp { address }))
}
