//! Variables: who gives them values, and the strings and template files that use them.

mod expression;
mod name;
mod resolve;
mod scope;
mod template;

pub(crate) use resolve::{Resolved, resolve};
pub(crate) use scope::{Placed, Scope};
pub(crate) use template::render;
