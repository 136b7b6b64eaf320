//! Debian's archive: mirrors, signatures, verified indexes, the minimal set, downloads, and the
//! image's own apt, which chooses and installs.
//!
//! Trust goes one way: a Release file signed by a known key names indexes by sha256, an index names
//! packages by sha256, a lock names packages by sha256. Everything is checked here; the image's own
//! apt and dpkg check nothing of what they are handed.
//!
//! ```text
//! mirror ─► fetch ─► release (signature, dates) ─► index ─┬─► closure ─► the packages of a base
//!                                                         └─► apt (in the image) ─► the packages of a step
//! ```
//!
//! What is not here: what a package file looks like (`deb`), and how a root is made of packages
//! (`base`).

pub mod apt;
mod call;
mod choice;
pub mod closure;
mod directory;
mod error;
mod failure;
pub mod fetch;
mod http;
mod index;
mod job;
mod lists;
pub mod manager;
pub mod mirror;
mod package;
pub mod release;
mod request;
mod source;
mod transfer;
pub mod view;

pub use call::{Action, Call, Check, ImageForm, Job, PackageSet, Remark, Reply, UnpackedPackages};
pub use error::Error;
pub use job::{JobContext, Line, of_packages, policy_files};
pub use package::{Archive, Package, arch_name};
pub use request::Request;
pub use source::{Options, Repository, Source, Stop};
