//! What a build would do, and why. Pure.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::graph::Node;
use super::why::Why;
use crate::digest::Digest;

/// What a build would do.
#[derive(Debug, Clone)]
pub struct Explained {
    /// Path of the recipe.
    pub recipe: PathBuf,
    /// It was asked for; else it is only what others stand on.
    pub asked: bool,
    /// `name:version`.
    pub image: String,
    /// Published from the very same inputs: a build does nothing.
    pub already: Option<Digest>,
    /// Of each stage and then of the image: the base, then the steps.
    pub steps: Vec<Step>,
    /// Everything that it builds, each behind what it is made from.
    pub nodes: Vec<Node>,
}

/// What a build would do about one step.
#[derive(Debug, Clone)]
pub struct Step {
    /// The stage that it is of; none: the image.
    pub stage: Option<String>,
    /// From 1; 0 is the base.
    pub index: usize,
    /// What it is called.
    pub label: String,
    /// Line of the recipe, or of `part`, from 1.
    pub line: u32,
    /// The included file that the line is of.
    pub part: Option<Arc<Path>>,
    /// Cached, or run and why.
    pub outcome: Outcome,
}

/// Cached, or run and why.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Its layer is there: digest, and seconds that it took to make.
    Cached(Option<Digest>, f64),
    /// It runs; since which build it is like this.
    Runs(Why, Option<String>),
    /// Nothing of its own changed: it runs if a step below it gives another layer than before.
    Depends,
}
