//! What everything that asks the web has in common: where a redirect may lead, which authorities
//! are trusted, names looked up once, and which addresses are not public.
//!
//! Not here: requests, and what is done again (`archive`, `registry`).

mod address;
mod redirect;
mod resolver;
mod roots;

pub use address::is_public;
pub use redirect::target;
pub use resolver::{NotPublic, Public, Remembering};
pub use roots::{certificates, roots, roots_and};
