//! Secrets: values that a step may read and that nothing may keep.
//!
//! ```text
//! value     a value that no format shows, and the values that a person gave
//! form      the forms in which a value may appear: as it is, in base64, in hexadecimal, URL-encoded
//! mask      output without them, whether a line is whole or cut
//! literal   what looks like a secret in the text of a recipe
//! ```
//! Who reads a value from outside is `cli`, who shows it to a step is `sandbox`, and who searches
//! layers for it is `leak`. docs/design/secrets.md has the reasons.

mod form;
mod literal;
mod mask;
mod value;

pub use form::Form;
pub use literal::{Literal, literals};
pub use mask::{Mask, Masked};
pub use value::{MAX, MIN, Secrets, Unusable, Value};

/// Directory inside in which a step finds its secrets.
pub const DIRECTORY: &str = "/run/secrets";
