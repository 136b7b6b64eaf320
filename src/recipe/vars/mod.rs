//! Variables: who gives them values, and the strings and template files that use them.

mod expression;
mod name;
mod part;
mod resolve;
mod scope;
mod template;

pub(crate) use name::BUILT_IN;
pub(crate) use part::{Given, Includer, resolve_part};
pub(crate) use resolve::{Resolved, resolve, scalar};
pub(crate) use scope::{Placed, Scope};
pub(crate) use template::render;
