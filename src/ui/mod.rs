//! ui

pub mod diagnostic;
