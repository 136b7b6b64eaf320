//! The integration tests, one module a subject; a test is found by the rule in `docs/contributing.md`.

mod cmd_build;
mod crash_build;
mod lab;
mod tier;
