//! The table of functions that the sandbox helper runs inside the namespaces.

use crate::sandbox::Chores;

/// Functions that the sandbox helper can run inside the namespaces; `main` hands them to it.
pub const CHORES: Chores = &[("build.pack", super::pack::pack_chore), ("build.identity", super::apply::identity), ("build.apply", super::apply::apply)];
