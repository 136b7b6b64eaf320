//! What expressions come out as, and what recipes call things.

use crate::convert::text::Text;

/// What an expression comes out as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Text(Text),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

impl Value {
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self::Text(Text::plain(text))
    }

    /// Returns the text that it is.
    pub(super) fn text(self) -> Result<Text, Why> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Null => Ok(Text::default()),
            _ => Err(Why::Left("a list or an object stands where a text belongs".to_owned())),
        }
    }
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// It is known only while Packer runs: a variable of the recipe has this name for it.
    Open(String, String),
    /// What needs it is left out.
    Left(String),
}

/// Adds all texts of a value.
pub(super) fn gather(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Null => {}
        Value::Text(text) => into.push(text.value()),
        Value::List(all) => all.iter().for_each(|one| gather(one, into)),
        Value::Map(all) => all.iter().for_each(|(_, one)| gather(one, into)),
    }
}

/// Returns how much a value is.
pub(super) fn weight(value: &Value) -> usize {
    match value {
        Value::Null => 1,
        Value::Text(text) => text.value().len() + 1,
        Value::List(all) => all.iter().map(weight).sum::<usize>() + 1,
        Value::Map(all) => all.iter().map(|(_, value)| weight(value)).sum::<usize>() + 1,
    }
}

/// Returns an element of a list or an object.
pub(super) fn element(all: Value, at: &str) -> Result<Value, Why> {
    let found = match all {
        Value::List(all) => at.parse::<usize>().ok().and_then(|at| all.into_iter().nth(at)),
        Value::Map(all) => all.into_iter().find(|(name, _)| name == at).map(|(_, value)| value),
        _ => None,
    };
    found.ok_or_else(|| Why::Open(tidy(at), format!("the element `{}`", short(at))))
}

/// Returns a name for a variable of the recipe.
pub(super) fn tidy(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(60) {
        match c {
            c if c.is_ascii_alphanumeric() => out.push(c),
            _ if out.is_empty() || out.ends_with('_') => {}
            _ => out.push('_'),
        }
    }
    let out = out.trim_end_matches('_');
    match out.chars().next() {
        None => "value".to_owned(),
        Some(c) if c.is_ascii_digit() => format!("v{out}"),
        Some(_) => out.to_owned(),
    }
}

/// Returns the name of a secret, which is one of a variable in the environment as well.
pub(super) fn secret_name(name: &str) -> String {
    tidy(name).to_ascii_lowercase()
}

/// Returns the beginning of a text, for a message.
pub(super) fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}
