//! Recipe mistakes drawn for people.

use crate::recipe::Diagnostic;

/// x
pub fn render(_d: &[Diagnostic], _color: bool) -> String { String::new() }
