//! The integration tests, one module a subject; a test is found by the rule in `docs/contributing.md`.

mod layer_compress;
mod layer_lab;
mod layer_pack;
mod layer_unpack;
mod tier;
