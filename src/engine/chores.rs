//! The table of functions that the sandbox helper runs inside the namespaces.

use crate::apply;
use crate::base;
use crate::sandbox::Chores;

/// Functions that the sandbox helper can run inside the namespaces; `main` hands them to it.
pub const CHORES: Chores = &[
    ("build.pack", super::pack::pack_chore),
    ("build.unpack", super::pack::unpack_chore),
    ("build.settle", super::settle::chore),
    ("build.look", super::packages::look),
    ("build.identity", apply::identity),
    ("build.apply", apply::apply),
    ("gate.look", super::gate::look),
    ("build.survey", apply::survey::chore),
    base::CHORES[0],
    base::CHORES[1],
    base::CHORES[2],
    base::CHORES[3],
];

const _: () = assert!(base::CHORES.len() == 4, "every chore of base must be in the table above");
