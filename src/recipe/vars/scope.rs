//! Names and what they stand for: `{{ expression }}` in strings, and `when`.
//!
//! Recipe strings know only `{{ }}`: `{%` and `{#` pass untouched, because shells and other tools
//! use them (`${#list[@]}`). That is why the braces are found here, and the template engine sees
//! single expressions; it also finds the place of every mistake.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use minijinja::value::ValueKind;
use minijinja::{Environment, ErrorKind};

use super::expression::{
    engine, expression, jinja_values, kind, literal, single_equals, too_much, unknown, word,
};
use crate::recipe::value::Value;
use crate::schema::{Mistake, quote};

/// Longer expressions are no expressions, and the engine's recursion grows with their length.
const MAX_EXPRESSION: usize = 2000;

/// What one expression may cost in the engine's fuel: a unit is an instruction, or 64 bytes of data.
/// An expression of the greatest length takes a hundredth of it.
const EXPRESSION_FUEL: u64 = 100_000;

/// Most expressions of one recipe: together with what one may cost this bounds the whole.
const MAX_EXPRESSIONS: u32 = 10_000;

/// After so many mistakes in one string the rest of it is not looked at: placing each takes a walk
/// through the string.
const MAX_MISTAKES: usize = 20;

/// A mistake and where in the text it is.
pub(crate) type Placed = (Range<usize>, Mistake);

/// What an evaluation gives: `None` where a name was used whose own mistake has been reported
/// already.
pub(crate) type Outcome<T> = Result<Option<T>, Vec<Placed>>;

/// The names that a string may use.
#[derive(Debug)]
pub(crate) struct Scope {
    values: BTreeMap<String, Value>,
    broken: BTreeSet<String>,
    engine: Environment<'static>,
    context: minijinja::Value,
    uses_epoch: Rc<Cell<bool>>,
    /// How many more expressions may be evaluated.
    left: Rc<Cell<u32>>,
    /// Of an included file: names that what includes it knows.
    outer: BTreeSet<String>,
}

impl Scope {
    /// Makes a scope. `broken` names exist, but their values are wrong or missing, which has been
    /// reported.
    pub(crate) fn new(values: BTreeMap<String, Value>, broken: BTreeSet<String>) -> Scope {
        let mut engine = engine(EXPRESSION_FUEL);
        // Functions such as `debug` and `range` would make misspelt or missing variables of those
        // names look known.
        for name in ["range", "dict", "debug", "namespace"] {
            engine.remove_global(name);
        }
        let context = jinja_values(&values);
        let (uses_epoch, left) = (Rc::default(), Rc::new(Cell::new(MAX_EXPRESSIONS)));
        Scope { values, broken, engine, context, uses_epoch, left, outer: BTreeSet::new() }
    }

    /// Makes the scope of an included file of other names: what is bounded and noticed is one with
    /// this scope's.
    pub(crate) fn of_part(
        &self,
        values: BTreeMap<String, Value>,
        broken: BTreeSet<String>,
    ) -> Scope {
        let (uses_epoch, left) = (Rc::clone(&self.uses_epoch), Rc::clone(&self.left));
        let outer = self.values.keys().chain(&self.broken).cloned().collect();
        Scope { uses_epoch, left, outer, ..Scope::new(values, broken) }
    }

    /// Returns the values.
    pub(crate) fn values(&self) -> &BTreeMap<String, Value> {
        &self.values
    }

    /// Returns the names whose own mistake has been reported.
    pub(crate) fn broken(&self) -> &BTreeSet<String> {
        &self.broken
    }

    /// Whether `epoch` was used so far.
    pub(crate) fn uses_epoch(&self) -> bool {
        self.uses_epoch.get()
    }

    /// Replaces every `{{ expression }}`.
    pub(crate) fn fill(&self, text: &str) -> Outcome<String> {
        let mut filled = String::with_capacity(text.len());
        let mut mistakes = vec![];
        let mut whole = true;
        let mut at = 0;
        let mut trim = false;
        while let Some(open) = text[at..].find("{{").map(|n| at + n) {
            push(&mut filled, &text[at..open], trim);
            let Some((expression, close)) = expression(text, open) else {
                let mistake =
                    Mistake::new("`{{` without `}}`").label("never closed").help(LITERAL_HELP);
                mistakes.push((open..open + 2, mistake));
                return Err(mistakes);
            };
            if text[open..].starts_with("{{-") {
                filled.truncate(filled.trim_end().len());
            }
            trim = text[..close].ends_with("-}}");
            match self.text(&text[expression.clone()]) {
                Ok(Some(value)) => filled.push_str(&value),
                Ok(None) => whole = false,
                Err((part, mistake)) => mistakes
                    .push((expression.start + part.start..expression.start + part.end, mistake)),
            }
            if mistakes.len() == MAX_MISTAKES {
                return Err(mistakes);
            }
            at = close;
        }
        push(&mut filled, &text[at..], trim);
        if mistakes.is_empty() { Ok(whole.then_some(filled)) } else { Err(mistakes) }
    }

    /// Decides a `when`.
    pub(crate) fn decide(&self, text: &str) -> Result<Option<bool>, Placed> {
        if text.trim().is_empty() {
            return Err((
                0..text.len(),
                Mistake::new("an empty condition").help("leave `when` out to always run the step"),
            ));
        }
        if text.trim_start().starts_with("{{") {
            let bare = text.trim().trim_start_matches("{{").trim_end_matches("}}").trim();
            let mistake = Mistake::new("`when` is an expression already")
                .label("no `{{ }}` here")
                .help(format!("write when = {}", quote(bare)));
            return Err((0..text.len(), mistake));
        }
        let Some(value) = self.evaluate(text)? else { return Ok(None) };
        if value.kind() == ValueKind::Bool {
            return Ok(Some(value.is_true()));
        }
        let mistake = Mistake::new(format!("`when` must be true or false, not {}", kind(&value)))
            .label(format!("this is {}", quote(&value.to_string())));
        let name = text.trim();
        let help = match self.values.get(name) {
            Some(Value::Text(text)) => format!("compare it: `{name} == {}`", literal(text)),
            Some(Value::Integer(n)) => format!("compare it: `{name} == {n}`"),
            _ => "compare it with `==`, `!=`, `<` or `in`".to_owned(),
        };
        Err((0..text.len(), mistake.help(help)))
    }

    /// Evaluates an expression to text.
    fn text(&self, expression: &str) -> Result<Option<String>, Placed> {
        let Some(value) = self.evaluate(expression)? else { return Ok(None) };
        match value.kind() {
            ValueKind::Bool => Ok(Some(value.is_true().to_string())),
            ValueKind::String | ValueKind::Number => Ok(Some(value.to_string())),
            _ => Err((
                0..expression.len(),
                Mistake::new(format!("{} where text is needed", kind(&value))).help(LITERAL_HELP),
            )),
        }
    }

    fn evaluate(&self, expression: &str) -> Result<Option<minijinja::Value>, Placed> {
        let whole = 0..expression.len();
        if expression.len() > MAX_EXPRESSION {
            return Err((
                whole,
                Mistake::new(format!("an expression of more than {MAX_EXPRESSION} bytes"))
                    .help(LITERAL_HELP),
            ));
        }
        if expression.trim().is_empty() {
            return Err((whole, Mistake::new("an empty expression").help(LITERAL_HELP)));
        }
        let Some(left) = self.left.get().checked_sub(1) else {
            return Err((
                whole,
                Mistake::new(format!("more than {MAX_EXPRESSIONS} expressions in one recipe"))
                    .help("a recipe is no program: make large texts in a `run` or `script` step"),
            ));
        };
        self.left.set(left);
        let compiled =
            self.engine.compile_expression(expression).map_err(|e| self.explain(expression, &e))?;
        let names: BTreeSet<String> = compiled.undeclared_variables(false).into_iter().collect();
        for name in &names {
            if !self.values.contains_key(name) && !self.broken.contains(name) {
                return Err((word(expression, name).unwrap_or(whole), self.unknown(name)));
            }
        }
        if names.contains("epoch") {
            self.uses_epoch.set(true);
        }
        if names.iter().any(|name| self.broken.contains(name)) {
            return Ok(None);
        }
        compiled.eval(self.context.clone()).map(Some).map_err(|e| self.explain(expression, &e))
    }

    /// The mistake of a name that nothing gives a value.
    pub(crate) fn unknown(&self, name: &str) -> Mistake {
        if self.outer.contains(name) {
            let help = format!(
                "add `{name} = {{}}` to `[vars]` of this file, and `vars.{name} = \"{{{{ {name} }}}}\"` \
                    to the step that includes it"
            );
            return Mistake::new(format!("unknown variable `{name}`"))
                .label("an included file sees its own `[vars]` only")
                .help(help);
        }
        unknown(name, self.values.keys().chain(&self.broken).map(String::as_str))
    }

    fn explain(&self, expression: &str, error: &minijinja::Error) -> Placed {
        let detail = error.detail().unwrap_or_default();
        let range = error
            .range()
            .filter(|r| r.end <= expression.len() && r.start < r.end)
            .unwrap_or(0..expression.len());
        let part = expression.get(range.clone()).unwrap_or_default();
        let mistake = match error.kind() {
            ErrorKind::SyntaxError if single_equals(expression) => {
                Mistake::new("not an expression")
                    .label(detail.to_owned())
                    .help("`==` compares; a single `=` means nothing here")
            }
            ErrorKind::SyntaxError => {
                Mistake::new("not an expression").label(detail.to_owned()).help(LITERAL_HELP)
            }
            ErrorKind::UnknownFilter => {
                let name = part.rsplit('|').next().unwrap_or(part).trim();
                let name =
                    name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(name);
                Mistake::new(format!("unknown filter `{name}`"))
                    .suggest(name, FILTERS.iter().copied())
            }
            ErrorKind::OutOfFuel => too_much("an expression"),
            kind => Mistake::new("cannot evaluate the expression").label(if detail.is_empty() {
                kind.to_string()
            } else {
                detail.to_owned()
            }),
        };
        (range, mistake)
    }
}

const LITERAL_HELP: &str =
    "`{{ }}` belongs to bake; where the text itself needs `{{`, write `{{ '{{' }}`";

/// Filters worth suggesting.
const FILTERS: &[&str] = &[
    "upper",
    "lower",
    "title",
    "capitalize",
    "trim",
    "replace",
    "default",
    "length",
    "int",
    "string",
    "split",
    "join",
    "first",
    "last",
    "tojson",
    "indent",
];

fn push(filled: &mut String, text: &str, trim: bool) {
    filled.push_str(if trim { text.trim_start() } else { text });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        let values = [
            ("site", Value::Text("blue".into())),
            ("port", Value::Integer(80)),
            ("debug", Value::Boolean(false)),
            ("html", Value::Text("<a&b>".into())),
        ];
        Scope::new(
            values.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            ["lost".to_owned()].into(),
        )
    }

    fn fills(text: &str, expected: &str) {
        assert_eq!(scope().fill(text), Ok(Some(expected.to_owned())), "{text}");
    }

    fn fails(text: &str, part: &str) {
        let mistakes = scope().fill(text).unwrap_err();
        assert_eq!(&text[mistakes[0].0.clone()], part, "{mistakes:?}");
    }

    #[test]
    fn strings_are_filled() {
        fills("", "");
        fills("a {{ site }} b {{port}}\n", "a blue b 80\n");
        fills("{{ debug }}{{ debug | string }}{{ not debug }}", "falsefalsetrue");
        fills("{{ html }}", "<a&b>");
        fills("{{ site | upper }}-{{ port + 1 }}", "BLUE-81");
        fills("{{ 'x' if debug else \"y\" }}", "y");
        fills("{{ '{{' }}.State{{ '}}' }}", "{{.State}}");
        fills("{{ '}}' ~ site }}", "}}blue");
        fills("a {{- site -}} \n b", "ablueb");
        fills(
            "${#list[@]} {% if %} {# no #} ${x} $(y) }} {x}",
            "${#list[@]} {% if %} {# no #} ${x} $(y) }} {x}",
        );
        assert_eq!(scope().fill("{{ lost }} {{ site }}"), Ok(None));
    }

    #[test]
    fn mistakes_are_placed() {
        fails("a {{ sitte }}", "sitte");
        fails("a {{ 'sitte' ~ sitte }}", "sitte");
        fails("a {{ site", "{{");
        fails("x {{ }}", " ");
        fails("{{ site | uper }}", "uper");
        fails("{{.State}}", ".");
        fails("{{ site.x.y }}", ".x.y");
        fails("{{ none }}", " none ");
        fails("{{ [1] }}", " [1] ");
        assert_eq!(scope().fill("{{ a }} {{ b }}").unwrap_err().len(), 2);
    }

    #[test]
    fn conditions_are_decided() {
        let decide = |text: &str| scope().decide(text).map_err(|(_, m)| m);
        assert_eq!(decide("site == 'blue' and not debug"), Ok(Some(true)));
        assert_eq!(decide("port > 80"), Ok(Some(false)));
        assert_eq!(decide("lost"), Ok(None));
        for bad in [
            "",
            " ",
            "site",
            "port",
            "siite == 'x'",
            "site = 'x'",
            "{{ debug }}",
            "site ==",
            "debug()",
            "none",
            "undefined_thing is defined",
        ] {
            assert!(decide(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hostile_expressions_end_in_mistakes() {
        let long = |piece: &str| piece.repeat(MAX_EXPRESSION / piece.len() - 2);
        for piece in [
            "1+",
            "(",
            "[",
            "{'a':",
            "not ",
            "-",
            "site|",
            "site.a.",
            "1 if 1 else ",
            "a(",
            "1~",
            "1 and ",
            "'",
        ] {
            let text = format!("{{{{ {}1 }}}}", long(piece));
            let _ = scope().fill(&text);
        }
        assert!(scope().fill(&format!("{{{{ {} }}}}", "1+".repeat(1_000_000))).is_err());
        assert!(scope().fill("{{ 'a' * 10000000000 }}").is_err());
        let _ =
            scope().fill("{{ 9223372036854775807 * 9223372036854775807 * 9223372036854775807 }} {{ 1 // 0 }} {{ 1 % 0 }} {{ 2 ** 999 }}");
    }

    #[test]
    fn epoch_is_noticed() {
        let mut values = scope().values;
        values.insert("epoch".into(), Value::Integer(7));
        let scope = Scope::new(values, BTreeSet::new());
        scope.fill("{{ 'epoch' }}").unwrap();
        assert!(!scope.uses_epoch());
        assert_eq!(scope.fill("{{ epoch }}"), Ok(Some("7".into())));
        assert!(scope.uses_epoch());
    }
}
