//! What variables may be called.

use super::expression::unknown;
use crate::schema::{Mistake, quote};

/// Names that bake gives values to.
pub(crate) const BUILT_IN: &[&str] = &["name", "version", "arch", "machine", "epoch"];

/// Words that expressions need for themselves.
const RESERVED: &[&str] = &[
    "true", "false", "none", "True", "False", "None", "not", "and", "or", "in", "is", "if", "else",
    "loop", "self",
];

/// Says why a variable cannot be called so.
pub(crate) fn variable_name(name: &str) -> Result<(), Mistake> {
    if BUILT_IN.contains(&name) {
        return Err(
            Mistake::new(format!("variable `{name}` is built in")).label("choose another name")
        );
    }
    if RESERVED.contains(&name) {
        return Err(
            Mistake::new(format!("`{name}` is a word of expressions")).label("choose another name")
        );
    }
    let fits = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if fits {
        return Ok(());
    }
    let tidy: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(40).collect();
    let mistake = Mistake::new(format!("{} is not a name of a variable", quote(name)))
        .label("letters, digits and `_`, not starting with a digit");
    Err(if name.contains('-') {
        mistake.help(format!("`-` means minus in expressions; write `{tidy}`"))
    } else {
        mistake
    })
}

/// Reports that `--var` names no variable; `declared` are those that there are.
pub(super) fn unknown_var<'n>(
    name: &str,
    declared: impl Iterator<Item = &'n str> + Clone,
) -> Mistake {
    match name {
        "version" => Mistake::new("`version` is not set by `--var`").help("use `--set-version`"),
        _ if BUILT_IN.contains(&name) => {
            Mistake::new(format!("`{name}` is built in and cannot be set"))
        }
        _ => unknown(name, declared),
    }
}
