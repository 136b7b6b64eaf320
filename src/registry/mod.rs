//! Images in registries (OCI distribution-spec 1.1, and Docker's before it): how a person names
//! one, the credentials for it, requests that are done again where the failure may pass, and what
//! is pulled and pushed.
//!
//! ```text
//! RemoteName ─► Repository ── resolve, manifest, blob ──► bytes that are what their digest says
//!                   │      ◄─ push ── blobs, manifests by digest, the tag last
//!                Client      what is tried again, tokens of a scope
//!                   │
//!              Transport     one request: redirects, certificates, proxies, the end of it all
//! ```
//!
//! Not here: the store, what an image is made of beyond its descriptors, the arguments and the
//! environment of the program (they come as [`Options`]).
//!
//! Credentials are read when a registry asks for them. They are never written anywhere, and no
//! error, event or argument has them.

mod answer;
mod auth;
mod backoff;
mod challenge;
mod client;
mod credential;
mod error;
mod helper;
mod options;
mod push;
mod referrers;
mod repository;
mod secret;
mod transport;
mod upload;

pub use error::Error;
pub use options::{Limits, Options, Stop};
pub use push::{Pushed, Source};
pub use repository::{Document, Repository};

pub use crate::web::Failure;
