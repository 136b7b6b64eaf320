//! A stage that is done, and what it was made with.

use std::collections::BTreeSet;

use super::around::Around;
use super::document::Root;
use super::fault::Remark;
use super::instruction::Instruction;
use super::state::State;

/// What is asked for besides the Dockerfile.
pub(super) struct Wanted<'a> {
    /// What messages call it.
    pub(super) file: &'a str,
    pub(super) around: &'a Around,
    /// The stage that becomes the image; none: the last one.
    pub(super) target: Option<&'a str>,
    /// Debian's own images become Debians that bake makes.
    pub(super) debian: bool,
}

/// A stage that is done.
pub(super) struct Lowered {
    pub(super) line: u32,
    /// What was remarked on where it starts.
    pub(super) spoken: Vec<String>,
    pub(super) root: Root,
    pub(super) state: State,
    pub(super) needs: BTreeSet<usize>,
    /// The stage whose steps it begins with.
    pub(super) above: Option<usize>,
    pub(super) remarks: Vec<Remark>,
    pub(super) on_build: Vec<Instruction>,
    pub(super) platform: Option<String>,
}
