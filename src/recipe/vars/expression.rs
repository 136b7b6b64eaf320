//! Pieces of expressions: where they stand, what they are called in messages, and the engine that
//! recipes and template files share.

use std::collections::BTreeMap;
use std::ops::Range;

use minijinja::value::ValueKind;
use minijinja::{Environment, UndefinedBehavior};

use crate::recipe::value::Value;
use crate::schema::{Mistake, near, quote};

/// The mistake of an unknown name.
pub(crate) fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Mistake {
    if matches!(name, "name" | "version") {
        // Built in everywhere but where they are made.
        return Mistake::new(format!("`{name}` is not known yet in `[image]`"))
            .help("use variables of `[vars]`, `arch` or `machine` here");
    }
    let mistake = Mistake::new(format!("unknown variable `{name}`"));
    match near(name, known) {
        Some(right) => mistake.label(format!("did you mean `{right}`?")),
        None => mistake.label("not in `[vars]`").help(format!(
            "add `{name} = …` to `[vars]`; built in are `name`, `version`, `arch`, \
                `machine` and `epoch`"
        )),
    }
}

/// Returns the template engine as recipes and template files share it: strict, and booleans as TOML
/// writes them. `fuel` bounds the time, the memory and the output of each rendering: a unit pays
/// for an instruction, or for 64 bytes of data; what a value will need is asked for before it is
/// made.
pub(crate) fn engine<'t>(fuel: u64) -> Environment<'t> {
    let mut engine = Environment::new();
    engine.set_fuel(Some(fuel));
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    // The engine would write True and False, which no configuration file means.
    engine.set_formatter(|out, state, value| match value.kind() {
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "true" } else { "false" })?),
        _ => minijinja::escape_formatter(out, state, value),
    });
    engine.add_filter("string", |state: &minijinja::State, value: &minijinja::Value| {
        match value.kind() {
            ValueKind::Bool => Ok(minijinja::Value::from(value.is_true().to_string())),
            _ => minijinja::filters::string(state, value),
        }
    });
    engine
}

/// The mistake of a template or an expression that would take too much time or memory.
pub(crate) fn too_much(what: &str) -> Mistake {
    Mistake::new(format!("{what} that takes too much time or memory"))
        .label("given up")
        .help("a recipe is no program: make large texts in a `run` or `script` step")
}

/// Turns variables into the engine's values.
pub(crate) fn jinja_values(values: &BTreeMap<String, Value>) -> minijinja::Value {
    let map: BTreeMap<String, minijinja::Value> = values
        .iter()
        .map(|(name, value)| {
            let value = match value {
                Value::Text(text) => minijinja::Value::from(text.as_str()),
                Value::Integer(number) => minijinja::Value::from(*number),
                Value::Boolean(yes) => minijinja::Value::from(*yes),
            };
            (name.clone(), value)
        })
        .collect();
    minijinja::Value::from(map)
}

/// Returns the range of the expression that `{{` at `open` starts, and where the text goes on.
pub(crate) fn expression(text: &str, open: usize) -> Option<(Range<usize>, usize)> {
    let bytes = text.as_bytes();
    let mut start = open + 2;
    start += usize::from(bytes.get(start) == Some(&b'-'));
    let (mut depth, mut string, mut at) = (0_usize, None, start);
    while let Some(&byte) = bytes.get(at) {
        match (string, byte) {
            (Some(_), b'\\') => at += 1,
            (Some(quote), _) if byte == quote => string = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"') => string = Some(byte),
            (None, b'}') if depth == 0 && bytes.get(at + 1) == Some(&b'}') => {
                let end = if at > start && bytes[at - 1] == b'-' { at - 1 } else { at };
                return Some((start..end, at + 2));
            }
            (None, b'{' | b'[' | b'(') => depth += 1,
            (None, b'}' | b']' | b')') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
        at += 1;
    }
    None
}

/// Returns where a name stands in an expression, outside of strings and not as an attribute.
pub(crate) fn word(expression: &str, name: &str) -> Option<Range<usize>> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let found = |at: &usize| {
        let before = &expression[..*at];
        let quoted = before.matches('\'').count() % 2 == 1 || before.matches('"').count() % 2 == 1;
        !before.ends_with(part)
            && !before.trim_end().ends_with('.')
            && !expression[at + name.len()..].starts_with(part)
            && !quoted
    };
    expression.match_indices(name).map(|(at, _)| at).find(found).map(|at| at..at + name.len())
}

pub(crate) fn single_equals(expression: &str) -> bool {
    let bytes = expression.as_bytes();
    bytes.iter().enumerate().any(|(at, b)| {
        let before = at.checked_sub(1).and_then(|n| bytes.get(n));
        *b == b'='
            && bytes.get(at + 1) != Some(&b'=')
            && !matches!(before, Some(b'=' | b'!' | b'<' | b'>'))
    })
}

pub(crate) fn kind(value: &minijinja::Value) -> &'static str {
    match value.kind() {
        ValueKind::String => "text",
        ValueKind::Number => "a number",
        ValueKind::Bool => "a boolean",
        ValueKind::None => "nothing",
        ValueKind::Undefined => "an undefined value",
        ValueKind::Map => "a table",
        _ => "a list",
    }
}

/// Writes a text as a literal of an expression.
pub(crate) fn literal(text: &str) -> String {
    if text.contains('\'') { quote(text) } else { format!("'{}'", text.escape_debug()) }
}
