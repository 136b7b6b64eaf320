//! The hall: bake → gate → publish.

pub mod apply;
pub mod context;
pub mod new;

use crate::sandbox::Chores;

/// Functions that the sandbox helper can run inside the namespaces.
pub const CHORES: Chores = &[("apply", apply::apply)];
