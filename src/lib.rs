//! bake: turns a recipe into a published, content-addressed, versioned image, all or nothing.
//!
//! The library is a house of rooms (see `docs/architecture.md`): the *paper* rooms (`recipe`,
//! `step`, `plan`) decide and touch nothing; the *machine* rooms (`sandbox`, `store`) act and have
//! never heard of a recipe; they meet in `engine`. `tests/house.rs` keeps the walls.

pub mod apply;
pub mod archive;
pub mod attest;
pub mod base;
pub mod cli;
pub mod context;
pub mod deb;
pub mod digest;
pub mod engine;
pub mod event;
pub mod files;
pub mod image;
pub mod inspect;
pub mod job;
pub mod layer;
pub mod output;
pub mod plan;
pub mod recipe;
pub mod rootfs;
pub mod sandbox;
pub mod step;
pub mod store;
pub mod threads;
pub mod tree;
pub mod trial;
pub mod ui;
