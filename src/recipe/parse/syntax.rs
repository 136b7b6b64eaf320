//! TOML text to spanned tables, and the parser's messages to sentences that say what is meant.

use std::collections::BTreeSet;

use toml::de::DeTable;

use crate::recipe::keys;
use crate::schema::{Mistake, Mistakes, Source, quote};
use crate::secret::{self, Literal};

/// After so many the rest follows from the first ones.
const MAX_ERRORS: usize = 10;

/// Parses a file; `None` where it is not TOML, which is reported.
pub(crate) fn parse<'a>(
    source: &'a Source,
    mistakes: &mut Mistakes,
) -> Option<toml::Spanned<DeTable<'a>>> {
    warn_of_secrets(source, mistakes);
    let (table, mut errors) = DeTable::parse_recoverable(source.text());
    if errors.is_empty() {
        return Some(table);
    }
    errors.sort_by_key(|e| e.span().map_or(0, |s| s.start));
    // One mistake a line: what the parser stumbles over next on the same line is the same mistake.
    let mut lines = BTreeSet::new();
    errors.retain(|e| lines.insert(source.line(e.span().map_or(0, |s| s.start))));
    for error in errors.iter().take(MAX_ERRORS) {
        let at = error.span().unwrap_or(0..0);
        let mistake = explain(source, at.start, source.slice(&at), error.message());
        // An empty span behind the end of the file shows nothing: take the last character instead.
        let at = if at.is_empty() && at.start == source.text().len() {
            at.start.saturating_sub(1)..at.start
        } else {
            at
        };
        mistakes.add(source, at, mistake);
    }
    None
}

/// Warns of what looks like a secret. What is shown of the text has stars in its place: logs are
/// read by more people than recipes are.
fn warn_of_secrets(source: &Source, mistakes: &mut Mistakes) {
    let found = secret::literals(source.text());
    if found.is_empty() {
        return;
    }
    let mut text = source.text().to_owned();
    for Literal { span, .. } in found.iter().rev() {
        text.replace_range(span.clone(), &"*".repeat(span.len()));
    }
    let shown = Source::new(source.file(), &text);
    for Literal { span, what } in found {
        let mistake = Mistake::new(format!("this looks like {what}"))
            .label("whoever has the recipe, the image or the cache has it")
            .help("name it in `secrets` of the step, and give it with `--secret NAME=…`");
        mistakes.add(&shown, span, mistake.warn());
    }
}

fn explain(source: &Source, at: usize, part: &str, message: &str) -> Mistake {
    let line = source.slice(&source.line_span(source.line(at) as usize));
    if message == "duplicate key" {
        return duplicate(source, at, part, line);
    }
    if message.contains("recurs") {
        return Mistake::new("nested too deeply").help("no recipe needs this many levels");
    }
    let value = line.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
    let mistake = Mistake::new("not TOML").label(message.to_owned());
    match value {
        Some(("mode", digits))
            if digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            mistake.help(format!("a mode is a string: mode = \"{digits}\""))
        }
        Some((key, word))
            if word.starts_with(|c: char| c.is_alphabetic() || c == '/' || c == '.')
                && !key.is_empty() =>
        {
            Mistake::new("not TOML")
                .label("text must stand in quotes")
                .help(format!("write {key} = {}", quote(word)))
        }
        Some((key, "")) if !key.is_empty() => {
            mistake.help(format!("`{key}` needs a value after `=`"))
        }
        _ if message.contains("invalid basic string")
            || message.contains("invalid literal string") =>
        {
            mistake.help("a text of several lines stands between `'''` and `'''`")
        }
        _ => mistake,
    }
}

/// The same key twice: for steps and tests that has its own meanings.
fn duplicate(source: &Source, at: usize, part: &str, line: &str) -> Mistake {
    let key = part.trim_matches(['"', '\'']);
    let mistake = Mistake::new(format!("`{key}` is given twice"));
    let text = source.text();
    let has = |start: &str| text.lines().any(|l| l.trim_start().starts_with(start));
    if matches!(key, "step" | "test") {
        let line = line.trim_start();
        let list = text.lines().any(|l| {
            l.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
        });
        let single = format!("[{key}]");
        let brackets = format!("every {key} starts with double brackets: `[[{key}]]`");
        return if list {
            let help = format!(
                "write every {key} as a `[[{key}]]` table of its own, or all of them in the one \
                    list"
            );
            mistake.label(format!("beside `{key} = […]`")).help(help)
        } else if line.starts_with(&single) || has(&single) {
            mistake.label(format!("`[{key}]` beside `[[{key}]]`")).help(brackets)
        } else {
            mistake.help(brackets)
        };
    }
    let table = line.trim_start().starts_with('[');
    let first = first_line(source, at, key, table);
    let mistake = match first {
        Some(first) => mistake.label(format!("first on line {first}")),
        None => mistake.label("second time"),
    };
    let noun = ["step", "test"]
        .into_iter()
        .find(|noun| line.trim_start().starts_with(&format!("[{noun}.")));
    match (table, noun) {
        (true, Some(noun)) => mistake.help(format!(
            "the {noun} has it already; write every entry the same way, such as `env.NAME = …`"
        )),
        (true, None) if keys::TOP.contains(&key) => {
            mistake.help(format!("put all keys under one `[{key}]`"))
        }
        (false, _) => match list_above(source, at) {
            Some(noun) => mistake.help(format!("is a `[[{noun}]]` missing in between?")),
            None => mistake,
        },
        _ => mistake,
    }
}

/// Returns `step` or `test` where the nearest header above is that of one.
fn list_above(source: &Source, at: usize) -> Option<&'static str> {
    let before = source.text().get(..at).unwrap_or_default();
    let header = before.lines().rev().map(str::trim_start).find(|line| line.starts_with('['))?;
    ["step", "test"].into_iter().find(|noun| header.starts_with(&format!("[[{noun}]]")))
}

/// Returns the line of the nearest earlier use of a key.
fn first_line(source: &Source, at: usize, key: &str, table: bool) -> Option<u32> {
    let before = source.text().get(..at)?;
    let mut end = before.rfind('\n')?;
    loop {
        let start = before[..end].rfind('\n').map_or(0, |n| n + 1);
        let line = before[start..end].trim();
        let name = if table { line.trim_start_matches('[') } else { line };
        let found = name.trim_start_matches(['"', '\'']).strip_prefix(key).is_some_and(|rest| {
            let rest = rest.trim_start_matches(['"', '\'']).trim_start();
            rest.starts_with(['=', '.', ']'])
        });
        if found {
            return Some(source.line(start));
        }
        if start == 0 {
            return None;
        }
        end = start - 1;
    }
}
