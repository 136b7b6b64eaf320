//! What a recipe takes from outside: the recipe itself, the files that it includes, its workspace,
//! its variables, and what its steps read of the context. Each is read or opened once; what the
//! key names is what a build uses.
//!
//! ```text
//! recipe.toml ─► read ─► check (does the context have all of it?) ─► Looked
//! Looked + base + lock ─► facts ─► for each step: held inputs, what it wants of stages, its table
//!                               └► the key of the build
//! ```

mod check;
mod error;
mod facts;
#[cfg(test)]
mod facts_keys;
mod parts;
mod read;
mod wanted;
mod workspace;

pub use check::{Found, Looked, below, check, look_over, look_over_variants};
pub use error::{Error, StepError};
pub use facts::{BaseInputs, COPY, Facts, Sources, gather, is_url};
pub use parts::HeldParts;
pub use read::{bytes, parse, text};
pub use wanted::{Wanted, of};
pub use workspace::{RECIPE, members, workspace_of};
