//! Texts with the values of a Dockerfile's variables put in: some are fixed, others are variables
//! of the recipe.

/// A text: plain parts, and variables of the recipe between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Plain(String),
    /// An expression over the recipe's variables, and what it is while nobody sets any.
    Variable {
        expression: String,
        value: String,
    },
}

impl Text {
    /// Makes a text without variables.
    pub(super) fn plain(text: impl Into<String>) -> Self {
        let mut out = Self::default();
        out.push_plain(&text.into());
        out
    }

    /// Makes a text of one expression, which comes out as `value` while nobody sets a variable.
    pub(super) fn variable(expression: impl Into<String>, value: impl Into<String>) -> Self {
        let part = Part::Variable { expression: expression.into(), value: value.into() };
        Self { parts: vec![part] }
    }

    /// Adds a plain text.
    pub(super) fn push_plain(&mut self, text: &str) {
        match self.parts.last_mut() {
            Some(Part::Plain(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.parts.push(Part::Plain(text.to_owned())),
        }
    }

    /// Adds another text.
    pub(super) fn push(&mut self, other: &Text) {
        for part in &other.parts {
            match part {
                Part::Plain(text) => self.push_plain(text),
                variable @ Part::Variable { .. } => self.parts.push(variable.clone()),
            }
        }
    }

    /// Returns the text with another one behind it.
    pub(super) fn and(mut self, other: &Text) -> Self {
        self.push(other);
        self
    }

    /// Splits it at the first `sign`, where nothing but plain text stands before that.
    pub(super) fn split_once(&self, sign: char) -> Option<(String, Self)> {
        let Some((Part::Plain(first), rest)) = self.parts.split_first() else { return None };
        let (before, after) = first.split_once(sign)?;
        let mut behind = Self::plain(after);
        rest.iter().for_each(|part| behind.push(&Self { parts: vec![part.clone()] }));
        Some((before.to_owned(), behind))
    }

    /// Whether it has no variables.
    pub(super) fn is_plain(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Plain(_)))
    }

    /// Returns what it is while nobody sets a variable.
    pub(super) fn value(&self) -> String {
        let value = |part: &Part| match part {
            Part::Plain(text) => text.clone(),
            Part::Variable { value, .. } => value.clone(),
        };
        self.parts.iter().map(value).collect()
    }

    /// Returns it as a recipe writes it in a string: `{{ }}` for variables.
    pub(super) fn written(&self) -> String {
        let mut out = String::new();
        let mut parts = self.parts.iter().peekable();
        while let Some(part) = parts.next() {
            match part {
                Part::Variable { expression, .. } => {
                    out.push_str("{{ ");
                    out.push_str(outer(expression));
                    out.push_str(" }}");
                }
                Part::Plain(text) => {
                    // A brace right before a variable would become part of its opening.
                    let before = parts.peek().is_some() && text.ends_with('{');
                    let rest = if before { &text[..text.len() - 1] } else { text };
                    out.push_str(&escaped(rest));
                    if before {
                        out.push_str("{{ '{' }}");
                    }
                }
            }
        }
        out
    }

    /// Returns it as an expression of a recipe.
    pub(super) fn expression(&self) -> String {
        let one = |part: &Part| match part {
            Part::Plain(text) => literal(text),
            Part::Variable { expression, .. } => expression.clone(),
        };
        match self.parts.as_slice() {
            [] => literal(""),
            [only] => one(only),
            parts => format!("({})", parts.iter().map(one).collect::<Vec<_>>().join(" ~ ")),
        }
    }
}

/// Returns an expression without the parentheses around all of it.
fn outer(expression: &str) -> &str {
    let Some(inner) = expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) else {
        return expression;
    };
    // `(a) ~ (b)` begins and ends with others.
    let mut depth = 0_i32;
    let whole = inner.chars().all(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth >= 0 && c != '\\'
    });
    if whole { inner } else { expression }
}

/// Returns a plain text as a recipe writes it in a string: `{{` belongs to bake.
pub(super) fn escaped(text: &str) -> String {
    text.replace("{{", "{{ '{{' }}")
}

/// Returns a plain text as an expression.
fn literal(text: &str) -> String {
    let mut out = String::from("'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// Whether an expression of a recipe's text uses a variable.
pub(super) fn is_used(text: &str, name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let expressions = text.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
    expressions.flat_map(|one| one.split(|c| !word(c))).any(|one| one == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_written_as_recipes_have_them() {
        let name = Text::variable("NAME", "n");
        let text = Text::plain("a-").and(&name).and(&Text::plain("-{{.State}}"));
        assert_eq!(text.written(), "a-{{ NAME }}-{{ '{{' }}.State}}");
        assert_eq!(text.value(), "a-n-{{.State}}");
        assert_eq!(text.expression(), "('a-' ~ NAME ~ '-{{.State}}')");
        assert_eq!(Text::plain("it's").expression(), r"'it\'s'");
        assert_eq!(Text::plain("{").and(&name).written(), "{{ '{' }}{{ NAME }}");
        assert_eq!(Text::variable("(A or 'b')", "b").written(), "{{ A or 'b' }}");
        assert!(!text.is_plain() && Text::plain("x").is_plain() && Text::default().is_plain());
    }
}
