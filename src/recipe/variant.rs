//! Variants: one recipe, several images, by the variables of `[matrix]`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::value::Value;
use crate::schema::{Diagnostic, Mistake, Mistakes, Source, either, quote};

/// Which of the images of a recipe is meant: a value for each variable of its `[matrix]`. Of a
/// recipe without one there is the empty variant only.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variant(pub(super) BTreeMap<String, Value>);

impl Variant {
    /// Whether it is that of a recipe without a matrix.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the value of a variable of the matrix.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Returns the values by name, in order of the names.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether all of its variables are in `vars`, with these values.
    #[must_use]
    pub fn is_among(&self, vars: &BTreeMap<String, Value>) -> bool {
        self.0.iter().all(|(name, value)| vars.get(name) == Some(value))
    }

    /// Whether nothing in `vars` says otherwise: where a variable is known there, it has this
    /// value.
    #[must_use]
    pub fn agrees(&self, vars: &BTreeMap<String, Value>) -> bool {
        self.0.iter().all(|(name, value)| vars.get(name).is_none_or(|found| found == value))
    }
}

/// As people write it: `debian=bookworm,php=8.2`.
impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{name}={value}")?;
        }
        Ok(())
    }
}

/// Returns those of a recipe's variants that fit all of `wanted`, `--variant NAME=VALUE` each.
///
/// # Errors
/// Where the matrix has no such variable, or none of its variants such a value: a mistake each, in
/// a file called `<command line>`.
pub(super) fn selected(
    variants: Vec<Variant>,
    wanted: &[(String, String)],
    file: &Path,
) -> Result<Vec<Variant>, Vec<Diagnostic>> {
    let mut mistakes = Mistakes::default();
    let mut left = variants.clone();
    for (name, text) in wanted {
        let line = Source::new(Path::new("<command line>"), &format!("--variant {name}={text}"));
        let start = "--variant ".len();
        let values: Vec<String> =
            variants.iter().filter_map(|one| one.get(name)).fold(vec![], |mut values, value| {
                let value = value.to_string();
                if !values.contains(&value) {
                    values.push(value);
                }
                values
            });
        if values.is_empty() {
            let recipe = file.display();
            let names = || variants.first().into_iter().flat_map(|one| one.0.keys());
            let mistake = match names().next() {
                None => Mistake::new(format!("{recipe} has no `[matrix]`")),
                Some(_) => {
                    Mistake::new(format!("the `[matrix]` of {recipe} has no {}", quote(name)))
                        .suggest(name, names().map(String::as_str))
                        .help(format!("it has {}", either(names().map(String::as_str))))
                }
            };
            mistakes.add(&line, start..start + name.len(), mistake);
        } else if !values.contains(text) {
            let names = || values.iter().map(String::as_str);
            let mistake = Mistake::new(format!("no variant has {name}={text}"))
                .suggest(text, names())
                .help(format!("it is one of {}", either(names())));
            let start = start + name.len() + 1;
            mistakes.add(&line, start..start + text.len(), mistake);
        }
        left.retain(|one| one.get(name).is_some_and(|value| value.to_string() == *text));
    }
    if left.is_empty() && !mistakes.any_error() {
        let all: Vec<String> =
            wanted.iter().map(|(name, text)| format!("--variant {name}={text}")).collect();
        let line = Source::new(Path::new("<command line>"), &all.join(" "));
        let there: Vec<String> = variants.iter().map(Variant::to_string).collect();
        let help = format!("there are {}", there.join(" · "));
        let whole = 0..all.join(" ").len();
        mistakes.add(&line, whole, Mistake::new("no variant has all of these").help(help));
    }
    if mistakes.any_error() { Err(mistakes.into_sorted()) } else { Ok(left) }
}
