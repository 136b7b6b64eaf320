//! Template files: whole Jinja, strict, with the recipe's variables and nothing else.
//!
//! Unknown names are found before anything is rendered, so that a branch not taken today does not
//! hide a mistake until tomorrow.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use minijinja::ErrorKind;
use minijinja::syntax::SyntaxConfig;

use super::expression::{engine, jinja_values, too_much, unknown, word};
use crate::recipe::value::Value;
use crate::schema::{Diagnostic, Mistake, Source};

/// Longest tag: the engine's recursion grows with the length of expressions.
const MAX_TAG: usize = 2000;

/// Most `elif`s: to the engine each is nested in the one before.
const MAX_ELIF: usize = 500;

/// What one template may cost in the engine's fuel: 128 MiB of data, or two million instructions.
const TEMPLATE_FUEL: u64 = 2 << 20;

pub(crate) fn render(
    text: &str,
    file: &Path,
    vars: &BTreeMap<String, Value>,
) -> Result<String, Diagnostic> {
    let source = Source::new(file, text);
    if let Some(tag) = tags(text).find(|tag| tag.len() > MAX_TAG) {
        return Err(source.diagnose(
            tag.start..tag.start + 2,
            Mistake::new(format!("a template tag of more than {MAX_TAG} bytes")),
        ));
    }
    let elif = |tag: &Range<usize>| {
        text[tag.start + 2..tag.end].trim_start_matches(['-', '+']).trim_start().starts_with("elif")
    };
    if let Some(tag) = tags(text).filter(elif).nth(MAX_ELIF) {
        return Err(source
            .diagnose(tag, Mistake::new(format!("a template with more than {MAX_ELIF} `elif`"))));
    }
    let mut engine = engine(TEMPLATE_FUEL);
    // The engine would escape for HTML by the file's name, and drop the last line end.
    engine.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    engine.set_syntax(
        SyntaxConfig::builder()
            .keep_trailing_newline(true)
            .build()
            .expect("the usual delimiters are valid"),
    );
    engine.remove_global("debug");
    let template =
        engine.template_from_named_str("template", text).map_err(|e| explain(&source, vars, &e))?;
    let known =
        |name: &str| vars.contains_key(name) || engine.globals().any(|(global, _)| global == name);
    let names: BTreeSet<String> = template.undeclared_variables(false).into_iter().collect();
    for name in names.iter().filter(|name| !known(name)) {
        // `x is defined` and `x | default(…)` ask on purpose.
        if let Some(place) = unguarded(text, name) {
            return Err(source.diagnose(place, unknown(name, vars.keys().map(String::as_str))));
        }
    }
    template.render(jinja_values(vars)).map_err(|e| explain(&source, vars, &e))
}

/// Returns the byte ranges of all tags.
fn tags(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let open = at + text[at..].find('{')?;
            let close = match text.as_bytes().get(open + 1) {
                Some(b'{') => "}}",
                Some(b'%') => "%}",
                Some(b'#') => "#}",
                _ => {
                    at = open + 1;
                    continue;
                }
            };
            let end = text[open + 2..].find(close).map_or(text.len(), |n| open + 2 + n + 2);
            at = end;
            return Some(open..end);
        }
    })
}

/// Returns where a name is used without asking whether it is there; `None` where every use asks.
fn unguarded(text: &str, name: &str) -> Option<Range<usize>> {
    let mut guarded = false;
    for tag in tags(text).filter(|tag| !text[tag.clone()].starts_with("{#")) {
        let body = &text[tag.clone()];
        let Some(place) = word(body, name) else { continue };
        let after = body[place.end..].trim_start();
        let asks = ["is defined", "is not defined", "is undefined", "is not undefined"]
            .iter()
            .any(|test| after.starts_with(test))
            || after.strip_prefix('|').is_some_and(|rest| {
                ["default", "d("].iter().any(|f| rest.trim_start().starts_with(f))
            });
        if asks {
            guarded = true;
            continue;
        }
        if !guarded {
            return Some(tag.start + place.start..tag.start + place.end);
        }
    }
    None
}

fn explain(
    source: &Source,
    vars: &BTreeMap<String, Value>,
    error: &minijinja::Error,
) -> Diagnostic {
    let line = source.line_span(error.line().unwrap_or(1));
    let place =
        error.range().filter(|r| r.start < r.end && r.end <= source.text().len()).unwrap_or(line);
    let detail = error.detail().unwrap_or_default().to_owned();
    let part = source.slice(&place).to_owned();
    let mistake = match error.kind() {
        ErrorKind::OutOfFuel => too_much("a template"),
        ErrorKind::UndefinedError => {
            let name = part
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .find(|word| !word.is_empty())
                .unwrap_or(&part);
            if part.starts_with('.') || vars.contains_key(name) {
                Mistake::new("an undefined value").label(detail)
            } else {
                unknown(name, vars.keys().map(String::as_str))
            }
        }
        ErrorKind::TemplateNotFound => Mistake::new("a template cannot read other files")
            .label("not found")
            .help("put the parts into one file"),
        ErrorKind::SyntaxError => Mistake::new("not a template").label(detail),
        kind => Mistake::new("cannot render the template").label(if detail.is_empty() {
            kind.to_string()
        } else {
            detail
        }),
    };
    source.diagnose(place, mistake)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars() -> BTreeMap<String, Value> {
        [
            ("site", Value::Text("<blue>".into())),
            ("port", Value::Integer(80)),
            ("debug", Value::Boolean(true)),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v))
        .collect()
    }

    fn renders(text: &str, expected: &str) {
        assert_eq!(
            render(text, Path::new("x.html.j2"), &vars()).map_err(|d| d.message),
            Ok(expected.to_owned()),
            "{text}"
        );
    }

    fn fails(text: &str, line: u32, part: &str) {
        let mistake = render(text, Path::new("x.conf.j2"), &vars()).unwrap_err();
        assert_eq!((mistake.line, &text[mistake.span.clone()]), (line, part), "{mistake:?}");
    }

    #[test]
    fn templates_are_rendered() {
        renders("a {{ site }}\n", "a <blue>\n");
        renders("{{ debug }}{% if debug %} x{% endif %}{# c #}", "true x");
        renders("{% for i in range(3) %}{{ i }}{% endfor %}", "012");
        renders("{% set x = port + 1 %}{{ x }}\n\n", "81\n\n");
        renders("{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m(port) }}", "[80]");
        renders(
            "{{ nothing | default('x') }}{% if nothing is defined %}{{ nothing }}{% endif %}",
            "x",
        );
    }

    #[test]
    fn mistakes_are_placed() {
        fails("a\nb {{ sitte }}\n", 2, "sitte");
        fails("{% if not debug %}\n{{ sitte }}\n{% endif %}", 2, "sitte");
        fails("a\n{% include 'x' %}\n", 2, "include 'x'");
        fails("a\n{% if %}\n", 2, "%}");
        fails("a\n\n{{ site.a.b }}", 3, ".a.b");
        assert!(render("{% for i in range(9) %}", Path::new("x"), &vars()).is_err());
        assert!(render(&"{".repeat(100_000), Path::new("x"), &vars()).is_err());
        assert!(
            render(&format!("{{{{ {}1 }}}}", "1+".repeat(100_000)), Path::new("x"), &vars())
                .is_err()
        );
        let _ = render(&"{% if 1 %}".repeat(10_000), Path::new("x"), &vars());
        assert!(
            render(
                &format!("{{% if 0 %}}{}{{% endif %}}", "{%- elif 1 %}".repeat(MAX_ELIF)),
                Path::new("x"),
                &vars()
            )
            .is_ok()
        );
        for piece in [
            "1+",
            "(",
            "[",
            "not ",
            "-",
            "site|",
            "site.a.",
            "1 if 1 else ",
            "1~",
            "1 and ",
            "{'a':",
        ] {
            let _ = render(
                &format!("{{{{ {}1 }}}}", piece.repeat(MAX_TAG / piece.len() - 3)),
                Path::new("x"),
                &vars(),
            );
        }
        let _ = render(
            &format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(100_000)),
            Path::new("x"),
            &vars(),
        );
        let _ = render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", Path::new("x"), &vars());
    }
}
