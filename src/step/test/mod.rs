//! Tests of the finished image: each kind of check in a file of its own, listed in one table.

mod boot;
mod file;
mod http;
mod kind;
mod model;
mod run;
mod script;
mod tcp;

pub(crate) use kind::TestKind;
pub use model::{Boot, BootDisk, LoweredTest, Manner, Probe, Service};

/// The kinds of test, in the order of the reference.
pub(crate) static TESTS: [&TestKind; 6] =
    [&http::KIND, &tcp::KIND, &run::KIND, &script::KIND, &file::KIND, &boot::KIND];
