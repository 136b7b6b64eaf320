//! How a person names an image.

use super::edge;
use crate::image::{BadReference, Reference};
use crate::ui::report::Report;

/// Reads how a person names an image.
pub(super) fn reference(text: &str) -> Result<Reference, Report> {
    text.parse().map_err(|error: BadReference| edge::report("usage", edge::USAGE, &error))
}
