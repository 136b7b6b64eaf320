//! The hall: bake → gate → publish.

use crate::sandbox::Chores;

/// Functions that the sandbox helper can run inside the namespaces.
pub const CHORES: Chores = crate::base::CHORES;
