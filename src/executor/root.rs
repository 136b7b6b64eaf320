//! A root of a recipe, its stage or its image: everything that is known of it before anything runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::start::Start;
use crate::archive::Source;
use crate::base::Pinned;
use crate::context::Context;
use crate::gateway::HostTrust;
use crate::image::Platform;
use crate::inputs::Facts;
use crate::plan::Plan;
use crate::plan::config::Skeleton;
use crate::plan::lock::Lock;
use crate::recipe::Recipe;
use crate::sandbox;
use crate::step::{Lowered, Op, called};
use crate::trial::Tests;

/// A root of a recipe, read, pinned and planned.
pub(crate) struct Root {
    /// The stage that it is; none: the image.
    pub(crate) stage: Option<String>,
    /// The recipe with the base and the steps of this root.
    pub(crate) recipe: Recipe,
    pub(crate) recipe_path: PathBuf,
    pub(crate) context: Arc<Context>,
    pub(crate) context_dir: PathBuf,
    pub(crate) source: Arc<Source>,
    /// What the host goes out by: its steps with a network do too.
    pub(crate) trust: Arc<HostTrust>,
    pub(crate) start: Start,
    /// What its steps see of the environment of the image that is the base.
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) plan: Plan,
    pub(crate) epoch: i64,
    pub(crate) facts: Facts,
    pub(crate) skeleton: Skeleton,
    pub(crate) platform: Platform,
    /// What is pinned before anything runs.
    pub(crate) pins: Lock,
    pub(crate) tests: Tests,
}

/// One node of a root: the base, a step, or the files that say which image this is.
#[derive(Clone, Copy)]
pub(crate) enum Node<'a> {
    Base,
    Step(&'a Lowered),
    Identity,
}

impl Root {
    /// Returns node `index`: 0 is the base, behind the last step comes the identity.
    pub(crate) fn node(&self, index: usize) -> Node<'_> {
        match index.checked_sub(1).map(|at| self.plan.nodes.get(at)) {
            None => Node::Base,
            Some(Some(step)) => Node::Step(step),
            Some(None) => Node::Identity,
        }
    }

    /// Makes sure that this host runs what is run for the root: by its base, its steps, and, unless
    /// they are left out, its tests.
    ///
    /// # Errors
    /// [`sandbox::Error::Host`] for programs of another processor that do not run here.
    pub(crate) fn can_run(&self, no_test: bool) -> Result<(), sandbox::Error> {
        let program = |op: &Op| {
            matches!(
                op,
                Op::Exec { .. } | Op::Script { .. } | Op::Packages { .. } | Op::Configure(_)
            )
        };
        let runs = matches!(self.start, Start::Made(Pinned::Debian(_)))
            || self.plan.nodes.iter().flat_map(|step| &step.ops).any(program)
            || !no_test && !self.tests.list.is_empty();
        if runs { sandbox::can_run(&self.platform.architecture) } else { Ok(()) }
    }

    /// Returns what the node is called, and its line in the recipe.
    pub(crate) fn label(&self, index: usize) -> (String, u32) {
        match self.node(index) {
            Node::Base => (self.plan.base.clone(), self.plan.base_line),
            Node::Step(step) => (step.label.clone(), step.line),
            Node::Identity => ("the identity".to_owned(), 0),
        }
    }

    /// Returns the included file that the node's line is of; none: it is the recipe's.
    pub(crate) fn part(&self, index: usize) -> Option<Arc<Path>> {
        match self.node(index) {
            Node::Step(step) => step.part_file(),
            _ => None,
        }
    }

    /// Returns `step 3 of 5`.
    pub(crate) fn place(&self, index: usize) -> String {
        let of = match &self.stage {
            Some(stage) => format!(" of {}", called(stage)),
            None => String::new(),
        };
        match self.node(index) {
            Node::Base => format!("the base{of}"),
            _ => format!("step {index} of {}{of}", self.plan.nodes.len()),
        }
    }
}
