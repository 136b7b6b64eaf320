//! Steps and tests: each kind in a file of its own (its keys, what they mean cross_check, and the
//! few [`Op`]s it is lowered to), listed in one table. Pure: nothing is read or run here.
//!
//! ```text
//! recipe: text ──► Fields ──┐
//!                           ├─► Kind::step ─► Lowered { ops, … } ─► plan ─► apply (inside the root)
//! KINDS: keys, shapes ──────┘
//! ```
//! `[machine]` is lowered to such operations as well (machine.rs).
//! The parser's keys, the JSON Schema, the formatter's order and the reference come from the table.

mod ansible;
mod cache;
mod chef;
mod configure;
mod copy;
mod download;
mod file;
mod group;
mod kind;
mod label;
mod limit;
pub(crate) mod machine;
mod mkdir;
mod op;
mod packages;
mod place;
mod program;
mod puppet;
mod remove;
mod repository;
mod run;
mod script;
mod secret;
mod service;
mod shown;
mod symlink;
mod template;
mod test;
mod tool;
mod tool_layer;
mod user;

pub use crate::schema::Sharing;
pub(crate) use kind::{Findings, Kind, WHEN};
pub use kind::{InPart, Lowered};
pub use limit::{Amount, Limits};
pub(crate) use limit::{LIMIT, LIMITS};
pub(crate) use machine::MACHINE;
pub use op::{Cache, Content, Op, ServiceState, called};
pub(crate) use program::{
    AS, CACHE, ENV, MOUNT, NETWORK, Options, RETRIES, SHELL, TIMEOUT, WORKDIR,
};
pub use shown::{Mount, Secrets};
pub(crate) use test::TESTS;
pub use test::{Boot, BootDisk, LoweredTest, Manner, Probe, Service};
pub use tool::{CONFIGURATION, Configure, REPORT, SETTINGS, TOOL_LAYER, Tool, ToolFrom};

/// The kinds of step, in the order of the reference.
pub(crate) static KINDS: [&Kind; 17] = [
    &run::KIND,
    &script::KIND,
    &copy::KIND,
    &download::KIND,
    &template::KIND,
    &file::KIND,
    &mkdir::KIND,
    &symlink::KIND,
    &remove::KIND,
    &packages::KIND,
    &repository::KIND,
    &user::KIND,
    &group::KIND,
    &service::KIND,
    &ansible::KIND,
    &puppet::KIND,
    &chef::KIND,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A key that is not in `cases` could change what a step does without changing its key.
    #[test]
    fn every_key_of_every_kind_has_a_case() {
        let steps = KINDS.iter().map(|kind| (&kind.section, kind.cases));
        // Shown once for all.
        let shown = ["name", "when", "timeout"];
        for (section, cases) in steps.chain(TESTS.iter().map(|kind| (&kind.section, kind.cases))) {
            for key in section.keys.iter().map(|key| key.name).filter(|key| !shown.contains(key)) {
                let known = cases.iter().any(|(name, ..)| *name == key);
                assert!(known, "{}: no case for `{key}`", section.title);
            }
            for (name, before, after) in cases {
                assert!(section.key(name).is_some(), "{}: `{name}` is gone", section.title);
                assert_ne!(before, after, "{}: `{name}`", section.title);
            }
        }
    }
}
