//! The integration tests, one module a subject; a test is found by the rule in `docs/contributing.md`.

mod apply_account;
mod apply_lab;
mod apply_place;
mod apply_sandbox;
mod apply_service;
mod apply_unpack;
mod context_copy;
mod layer_compress;
mod layer_pack;
mod sandbox_end;
mod sandbox_hole;
mod sandbox_lab;
mod sandbox_root;
mod sandbox_run;
mod sandbox_user;
mod templates_new;
mod templates_read;
mod tier;
