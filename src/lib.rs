//! bake: turns a recipe into a published, content-addressed, versioned image, all or nothing.
//!
//! The command line is the product; a program that wants to do the same uses [`Recipe`], [`Store`],
//! [`Build`] and [`Image`]:
//!
//! ```no_run
//! # fn main() -> Result<(), bake::Error> {
//! let store = bake::Store::open("/srv/images")?;
//! let recipe = bake::Recipe::open("web.toml").var("site", "blue");
//! let image = bake::Build::new(&store).program("/usr/bin/bake").run(&recipe)?;
//! println!("{}:{} {}", image.name, image.version, image.digest);
//! # Ok(())
//! # }
//! ```
//!
//! Everything else is a house of rooms (see `docs/architecture.md`): the *paper* rooms (`recipe`,
//! `step`, `plan`) decide and touch nothing; the *machine* rooms (`sandbox`, `store`) act and know
//! nothing of recipes; they meet in `engine`. `tests/house.rs` keeps the walls. The rooms are
//! public for the tests and benches beside them, hidden here, and promise nothing to others.

mod api;

#[doc(hidden)]
pub mod apply;
#[doc(hidden)]
pub mod archive;
#[doc(hidden)]
pub mod attest;
#[doc(hidden)]
pub mod base;
#[doc(hidden)]
pub mod boot;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod context;
#[doc(hidden)]
pub mod convert;
#[doc(hidden)]
pub mod deb;
#[doc(hidden)]
pub mod delivery;
#[doc(hidden)]
pub mod digest;
#[doc(hidden)]
pub mod disk;
#[doc(hidden)]
pub mod dissect;
#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
pub mod event;
#[doc(hidden)]
pub mod executor;
#[doc(hidden)]
pub mod explain;
#[doc(hidden)]
pub mod files;
#[doc(hidden)]
pub mod gateway;
#[doc(hidden)]
pub mod image;
#[doc(hidden)]
pub mod import;
#[doc(hidden)]
pub mod inputs;
#[doc(hidden)]
pub mod inspect;
#[doc(hidden)]
pub mod job;
#[doc(hidden)]
pub mod layer;
#[doc(hidden)]
pub mod leak;
#[doc(hidden)]
pub mod machine;
#[doc(hidden)]
pub mod output;
#[doc(hidden)]
pub mod plan;
#[doc(hidden)]
pub mod reach;
#[doc(hidden)]
pub mod recipe;
#[doc(hidden)]
pub mod registry;
#[doc(hidden)]
pub mod rootfs;
#[doc(hidden)]
pub mod sandbox;
#[doc(hidden)]
pub mod schema;
#[doc(hidden)]
pub mod secret;
#[doc(hidden)]
pub mod serve;
#[doc(hidden)]
pub mod step;
#[doc(hidden)]
pub mod store;
#[doc(hidden)]
pub mod suggest;
#[doc(hidden)]
pub mod template;
#[doc(hidden)]
pub mod threads;
#[doc(hidden)]
pub mod toolbox;
#[doc(hidden)]
pub mod tree;
#[doc(hidden)]
pub mod trial;
#[doc(hidden)]
pub mod ui;
#[doc(hidden)]
pub mod web;

pub use api::{Build, Error, Image, Recipe, Store, Summary, supervise};
pub use digest::Digest;
pub use event::Event;
