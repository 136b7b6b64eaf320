//! Carrying out the nodes of one root in the sandbox: its base, its steps, and the files that say
//! which image it is. What runs when, and what the cache already has, is the engine's.
//!
//! ```text
//! Root ──► Build ─┬─ base      packages, a tar, a directory ─► upper directory
//! (known)         ├─ step      operations and programs, one job a step ─► upper directory
//!                 ├─ packages  apt in the image chooses; bake fetches; apt installs, offline
//!                 ├─ copy      straight from the context into a layer, never unpacked
//!                 ├─ take      what a step wants of stages, as a tar
//!                 └─ identity  the files that say which image this is
//! ```

mod agent;
mod asked;
mod build;
mod configure;
mod copy;
mod error;
mod guard;
mod identity;
mod kept;
mod network;
mod packages;
mod pins;
mod prepared;
mod record;
mod root;
mod shell;
mod stack;
mod start;
mod step;
mod take;

pub(crate) use build::Build;
pub use copy::write_layer;
pub(crate) use copy::{Direct, fits};
pub use error::StepFailure;
pub(crate) use error::{NodeFailure, Trouble};
pub(crate) use guard::{Guard, lacking, used};
pub(crate) use pins::Pins;
pub(crate) use record::{Record, keep_listings};
pub(crate) use root::{Node, Root};
pub(crate) use shell::{Shown, open_shell};
pub(crate) use stack::Stack;
pub(crate) use start::{Start, StartImage};
pub(crate) use take::known;
