//! The integration tests, one module a subject; a test is found by the rule in `docs/contributing.md`.

mod base_apt;
mod base_debian;
mod base_lab;
mod base_mirror;
mod base_path;
mod inspect_read;
mod inspect_verify;
mod layer_compress;
mod layer_lab;
mod layer_merge;
mod layer_overlay;
mod layer_pack;
mod layer_unpack;
mod output_export;
mod sandbox_end;
mod sandbox_hole;
mod sandbox_lab;
mod sandbox_root;
mod sandbox_run;
mod sandbox_user;
mod store_crash;
mod store_hostile;
mod store_lab;
mod store_many;
mod store_publish;
mod tier;
