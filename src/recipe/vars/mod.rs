//! Variables: who gives them values, and the strings and template files that use them.

mod expression;
mod name;
mod part;
mod resolve;
mod scope;
mod template;

pub(crate) use name::{BUILT_IN, variable_name};
pub(crate) use part::{Given, Includer, resolve_part};
pub(crate) use resolve::{
    Kind, Resolved, kind, kind_name, literal, resolve, scalar, wrong_default,
};
pub(crate) use scope::{Placed, Scope};
pub(crate) use template::render;
