//! What everything that asks the web has in common: where a redirect may lead, which authorities
//! are trusted, names looked up once, which addresses are not public, and why there was no answer.
//!
//! Not here: requests, and what is done again (`archive`, `registry`).

mod address;
mod failure;
mod origin;
mod redirect;
mod resolver;
mod roots;

pub use address::is_public;
pub use failure::{Failure, Patience};
pub use origin::origin;
pub use redirect::target;
pub use resolver::{NotPublic, Public, Remembering};
pub use roots::{Authorities, certificates, roots, roots_and, stores};
