//! The words in which recipes are described: keys and their shapes, what a text may be, checked
//! values, mistakes and diagnostics. Which keys there are is up to those who read them: `step` for
//! the kinds of step, `recipe` for everything else.

pub(crate) mod address;
mod check;
mod diagnostic;
mod fields;
mod key;
mod mistake;
mod value;

pub use check::Amount;
pub(crate) use check::{Check, amount, duration, is_oci_path, sha256};
pub use diagnostic::Diagnostic;
pub(crate) use diagnostic::{Mistakes, Source};
pub(crate) use fields::{Checked, Field, Fields, Located, Placed};
pub(crate) use key::{Effect, Key, Section, Shape, Targets, may, must};
pub(crate) use mistake::{Mistake, either, near, quote};
pub use value::{Command, Kept, MountSource, Sharing, Start};
