//! The integration tests, one module a subject; a test is found by the rule in `docs/contributing.md`.

mod apply_account;
mod apply_lab;
mod apply_place;
mod apply_service;
mod apply_unpack;
mod context_copy;
mod layer_compress;
mod layer_pack;
mod templates_new;
mod templates_read;
mod tier;
