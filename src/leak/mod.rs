//! Whether something holds a secret: layers, documents and logs, searched for the values that steps
//! were given, in every form of theirs.
//!
//! ```text
//! needle    what is searched for: the forms of each value, or a part of them
//! search    a stream searched as it passes, gzip inside it as well
//! layer     the tar of a layer: names, link targets, attributes and contents
//! tap       the tar of a layer that is being packed, searched beside that
//! ```
//! It knows where a secret is, never what it is: what is reported names the secret, the place and
//! the form.

mod layer;
mod needle;
mod search;
mod tap;

pub use layer::layer;
pub use needle::Needles;
pub use search::{Leak, stream};
pub use tap::{Tap, tapped};
