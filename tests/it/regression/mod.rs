//! Every defect that was ever reported, as a test named by what must hold. The identifier in a
//! test's comment is the one it was reported under.

mod archive;
mod base;
mod cli;
mod engine;
mod recipe;
mod sandbox;
mod store;
mod suite;
mod trial;
