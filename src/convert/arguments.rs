//! The arguments of a Dockerfile as variables of the recipe.
//!
//! A recipe's variable is plain and counts everywhere, an argument may be made of others and have
//! another default in each stage. Where it has, the variable is empty, and its default stands where
//! it is used: `{{ VERSION or '1.2' }}`.

use std::collections::{BTreeMap, BTreeSet};

use super::document::Variable;
use super::instruction::{Instruction, Kind};
use super::text::Text;

/// Words that are no names of variables in a recipe.
const TAKEN: &[&str] = &[
    "name", "version", "arch", "machine", "epoch", "true", "false", "none", "True", "False",
    "None", "not", "and", "or", "in", "is", "if", "else", "loop", "self",
];

/// What a build takes of its surroundings, never of the recipe.
const PROXIES: &[&str] = &["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// The variant of a processor, which only those of 32-bit ARM have.
const VARIANT: &str = "('v7' if machine == 'armv7l' else 'v6' if machine == 'armv6l' else '')";

/// The variables of the recipe, and what is to be known of arguments to make them.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    /// Arguments whose default is not the same everywhere, or not plain.
    open: BTreeSet<String>,
    pub(super) variables: Vec<Variable>,
}

impl Arguments {
    /// Looks at all declarations.
    pub(super) fn new(instructions: &[Instruction]) -> Self {
        let mut defaults: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let mut global: BTreeSet<&str> = BTreeSet::new();
        let mut in_stage = false;
        for one in instructions {
            match &one.kind {
                Kind::From { .. } => in_stage = true,
                Kind::Arg(args) => {
                    for (name, default) in args {
                        if !in_stage {
                            global.insert(name);
                        }
                        let default = match default {
                            Some(default) => default.as_str(),
                            None if in_stage && !global.contains(name.as_str()) => "",
                            None => continue,
                        };
                        defaults.entry(name).or_default().insert(default);
                    }
                }
                _ => {}
            }
        }
        let open = |all: &BTreeSet<&str>| {
            all.len() > 1 || all.iter().any(|text| text.contains('$') || text.contains("{{"))
        };
        let found = defaults.iter().filter(|(_, all)| open(all));
        let open = found.map(|(name, _)| (*name).to_owned()).collect();
        Self { open, variables: vec![] }
    }

    /// Declares an argument with its default, and returns what it stands for.
    pub(super) fn declare(&mut self, name: &str, default: &Text, comments: &[String]) -> Text {
        let called = called(name);
        let open = self.open.contains(name);
        let value = Some(if open { String::new() } else { default.value() });
        if !self.variables.iter().any(|one| one.name == called) {
            let mut comments = comments.to_vec();
            if open {
                comments.push("Empty: the default stands where it is used.".to_owned());
            }
            self.variables.push(Variable { name: called.clone(), value, comments });
        }
        if open && *default != Text::default() {
            let expression = format!("({called} or {})", default.expression());
            return Text::variable(expression, default.value());
        }
        Text::variable(called, default.value())
    }
}

/// Returns what a recipe calls an argument.
fn called(name: &str) -> String {
    let tidy: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if TAKEN.contains(&tidy.as_str()) { format!("arg_{tidy}") } else { tidy }
}

/// Whether an argument is one that Docker passes by itself, and that never is part of an image.
pub(super) fn is_proxy(name: &str) -> bool {
    PROXIES.contains(&name.to_ascii_lowercase().as_str())
}

/// Returns what an argument stands for that is always there: the platform. What builds is taken to
/// be of the platform that is built for, as every stage of a recipe is.
pub(super) fn platform(name: &str) -> Option<Text> {
    let (arch, machine) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", "x86_64"),
        "aarch64" => ("arm64", "aarch64"),
        other => (other, other),
    };
    let part = name.strip_prefix("TARGET").or_else(|| name.strip_prefix("BUILD"))?;
    let variant = match machine {
        "armv7l" => "v7",
        _ => "",
    };
    match part {
        "OS" => Some(Text::plain("linux")),
        "ARCH" => Some(Text::variable("arch", arch)),
        "VARIANT" => Some(Text::variable(VARIANT, variant)),
        "PLATFORM" => {
            let dashed = VARIANT.replace("'v", "'/v");
            let text = Text::plain("linux/").and(&Text::variable("arch", arch));
            Some(text.and(&Text::variable(dashed, variant)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::{instruction, source};

    #[test]
    fn a_default_that_differs_stands_where_it_is_used() {
        let text =
            "ARG A=1\nARG B=x$A\nFROM a\nARG A\nARG C=1\nFROM b\nARG C=2\nARG version=3\nARG D\n";
        let read = instruction::read(&source::read(text).unwrap()).unwrap();
        let mut arguments = Arguments::new(&read);
        let mut declared = |name: &str, default: &str| {
            arguments.declare(name, &Text::plain(default), &[]).written()
        };
        assert_eq!(declared("A", "1"), "{{ A }}");
        assert_eq!(declared("B", "x1"), "{{ B or 'x1' }}");
        assert_eq!(declared("C", "2"), "{{ C or '2' }}");
        assert_eq!(declared("version", "3"), "{{ arg_version }}");
        assert_eq!(declared("D", ""), "{{ D }}");
        let values: Vec<_> = arguments
            .variables
            .iter()
            .map(|one| (one.name.as_str(), one.value.as_deref()))
            .collect();
        let expected = [("A", "1"), ("B", ""), ("C", ""), ("arg_version", "3"), ("D", "")];
        assert_eq!(values, expected.map(|(name, value)| (name, Some(value))));
    }
}
