//! What a job in the sandbox needs, whatever it is for: a step of a build, a test, a container, a
//! clean-up.
//!
//! ```text
//! JobContext     store, host, cancel handle, where events go: one value, handed down
//! call, calls    what the program asks of itself inside a job, and what it does there
//! directory      the upper and work directories of an overlay
//! policy         the files that every job has
//! pack, settle   an upper directory ⇄ a layer
//! log            what a job prints, kept
//! scratch        directories that a job leaves, removed
//! ```
//! It knows neither a recipe nor an image's tests: `engine` and `trial` do.

mod call;
mod calls;
mod context;
mod directory;
mod error;
mod host;
mod kept;
mod kept_archive;
mod limit;
mod log;
mod pack;
mod policy;
mod reply;
mod scratch;
mod settle;

pub use call::{Action, Call, Ended, Job, Reply, Session};
pub use context::JobContext;
pub(crate) use directory::{fresh_work, inside, make_dir, open};
pub use error::Error;
pub(crate) use error::no_thread;
pub use host::Host;
pub(crate) use kept::{limit_kept, remove_kept};
pub(crate) use kept_archive::{export_kept, import_kept};
pub(crate) use limit::allowance;
pub(crate) use log::Log;
pub(crate) use pack::{LayerBlob, Upper, modified, pack, unpack_layer, untouched};
pub(crate) use policy::{hosts, resolv_conf, resolver};
pub(crate) use reply::{replies, reply, unexpected};
pub(crate) use scratch::{clear, dead_builds};
pub(crate) use settle::settle;
