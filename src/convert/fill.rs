//! Variables in the words of a Dockerfile: `$x`, `${x}`, `${x:-y}` and the rest of what its shell
//! form knows, with its quotes.

use std::iter::Peekable;
use std::str::Chars;

use super::text::Text;

/// Deeper nesting of `${x:-${y:-…}}` is refused.
const MAX_DEPTH: usize = 32;

/// What a word is filled with.
pub(super) struct Filler<'a> {
    /// The character that takes the next one as it is.
    pub(super) escape: char,
    /// What a name stands for; `None` where it is not set. The second argument: whether something
    /// else stands there for that case.
    pub(super) look: &'a mut dyn FnMut(&str, bool) -> Option<Text>,
    /// Whether quotes are more than characters: they are not in a here-document.
    pub(super) quotes: bool,
    /// What was decided by the default of a variable and no longer follows it.
    pub(super) fixed: Vec<String>,
}

type Rest<'t> = Peekable<Chars<'t>>;

impl Filler<'_> {
    /// Returns a word without its quotes and with its variables put in.
    ///
    /// # Errors
    /// What is wrong with it, as a fragment.
    pub(super) fn fill(&mut self, word: &str) -> Result<Text, String> {
        let mut rest = word.chars().peekable();
        self.until(&mut rest, None, 0)
    }

    /// Reads up to the character `stop`, or to the end.
    fn until(
        &mut self,
        rest: &mut Rest<'_>,
        stop: Option<char>,
        depth: usize,
    ) -> Result<Text, String> {
        let mut out = Text::default();
        while let Some(c) = rest.next() {
            match c {
                c if Some(c) == stop => return Ok(out),
                '\'' if self.quotes => {
                    let mut closed = false;
                    for c in rest.by_ref() {
                        if c == '\'' {
                            closed = true;
                            break;
                        }
                        push(&mut out, c);
                    }
                    if !closed {
                        return Err("a single quote that is never closed".to_owned());
                    }
                }
                '"' if self.quotes => self.quoted(rest, &mut out, depth)?,
                '$' => out.push(&self.dollar(rest, depth)?),
                c if c == self.escape => {
                    if let Some(next) = rest.next() {
                        push(&mut out, next);
                    }
                }
                c => push(&mut out, c),
            }
        }
        match stop {
            Some(stop) => Err(format!("`{stop}` is missing")),
            None => Ok(out),
        }
    }

    /// Reads what stands between double quotes.
    fn quoted(&mut self, rest: &mut Rest<'_>, out: &mut Text, depth: usize) -> Result<(), String> {
        while let Some(c) = rest.next() {
            match c {
                '"' => return Ok(()),
                '$' => out.push(&self.dollar(rest, depth)?),
                c if c == self.escape => match rest.next() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => {
                        push(out, next);
                    }
                    Some(next) => {
                        push(out, c);
                        push(out, next);
                    }
                    None => break,
                },
                c => push(out, c),
            }
        }
        Err("a double quote that is never closed".to_owned())
    }

    /// Reads what follows a `$`.
    fn dollar(&mut self, rest: &mut Rest<'_>, depth: usize) -> Result<Text, String> {
        if depth > MAX_DEPTH {
            return Err("variables nested too deeply".to_owned());
        }
        if rest.next_if_eq(&'{').is_none() {
            let name = name(rest);
            if name.is_empty() {
                return Ok(Text::plain("$"));
            }
            return Ok((self.look)(&name, false).unwrap_or_default());
        }
        let name = name(rest);
        if name.is_empty() {
            return Err("`${` without a name".to_owned());
        }
        match rest.next() {
            Some('}') => Ok((self.look)(&name, false).unwrap_or_default()),
            Some(':') => {
                let how = rest.next();
                self.choice(&name, how, true, rest, depth)
            }
            Some(how @ ('-' | '+' | '?')) => self.choice(&name, Some(how), false, rest, depth),
            Some(how @ ('#' | '%' | '/')) => self.cut(&name, how, rest, depth),
            Some(other) => Err(format!("`{other}` in `${{{name}{other}…}}`")),
            None => Err("`}` is missing".to_owned()),
        }
    }

    /// `${x-y}`, `${x+y}`, `${x?y}`; `empty`: with a colon, an empty value counts as none.
    fn choice(
        &mut self,
        name: &str,
        how: Option<char>,
        empty: bool,
        rest: &mut Rest<'_>,
        depth: usize,
    ) -> Result<Text, String> {
        let other = self.until(rest, Some('}'), depth + 1)?;
        let found = (self.look)(name, how != Some('?'));
        let set = found.as_ref().is_some_and(|text| !empty || !text.value().is_empty());
        // Which of the two it is may depend on a variable of the recipe.
        let open = found.clone().filter(|text| empty && !text.is_plain());
        match (how, open) {
            (Some('-'), Some(text)) => {
                let value = if set { text.value() } else { other.value() };
                let expression = format!("({} or {})", text.expression(), other.expression());
                Ok(Text::variable(expression, value))
            }
            (Some('+'), Some(text)) => {
                let value = if set { other.value() } else { String::new() };
                let expression =
                    format!("({} if {} else '')", other.expression(), text.expression());
                Ok(Text::variable(expression, value))
            }
            (Some('-'), None) => Ok(if set { found.unwrap_or_default() } else { other }),
            (Some('+'), None) => Ok(if set { other } else { Text::default() }),
            (Some('?'), _) if set => Ok(found.unwrap_or_default()),
            (Some('?'), _) => Err(format!("`{name}` is not set: {}", other.value())),
            (Some(c), _) => Err(format!("`:{c}` in `${{{name}:{c}…}}`")),
            (None, _) => Err("`}` is missing".to_owned()),
        }
    }

    /// `${x#y}`, `${x##y}`, `${x%y}`, `${x%%y}`, `${x/y/z}`, `${x//y/z}`.
    fn cut(
        &mut self,
        name: &str,
        how: char,
        rest: &mut Rest<'_>,
        depth: usize,
    ) -> Result<Text, String> {
        let twice = rest.next_if_eq(&how).is_some();
        let found = (self.look)(name, false).unwrap_or_default();
        let value = found.value();
        let out = if how == '/' {
            let pattern = self.until(rest, Some('/'), depth + 1)?.value();
            let with = self.until(rest, Some('}'), depth + 1)?.value();
            replaced(&value, &pattern, &with, twice)
        } else {
            let pattern = self.until(rest, Some('}'), depth + 1)?.value();
            without(&value, &pattern, how == '#', twice)
        };
        if !found.is_plain() {
            self.fixed.push(name.to_owned());
        }
        Ok(Text::plain(out))
    }
}

fn push(out: &mut Text, c: char) {
    out.push_plain(c.encode_utf8(&mut [0; 4]));
}

/// Reads a name; a special parameter of a shell is one, and is never set.
fn name(rest: &mut Rest<'_>) -> String {
    let mut name = String::new();
    match rest.peek() {
        Some(c) if c.is_ascii_alphabetic() || *c == '_' => {
            while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                name.push(c);
            }
        }
        Some(c) if c.is_ascii_digit() => {
            while let Some(c) = rest.next_if(char::is_ascii_digit) {
                name.push(c);
            }
        }
        Some(c) if "@*#!?-$".contains(*c) => name.extend(rest.next()),
        _ => {}
    }
    name
}

/// Whether a shell's pattern (`*`, `?`) is all of a text.
fn fits(pattern: &[char], text: &[char]) -> bool {
    // The usual walk: the last `*` takes one more character each time the rest does not fit.
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Most characters that a pattern is tried on: what is longer stays as it is.
const MAX_PATTERN: usize = 1000;

/// Removes what fits at the start or the end, the shortest or the longest.
fn without(value: &str, pattern: &str, start: bool, longest: bool) -> String {
    let (text, pattern): (Vec<char>, Vec<char>) =
        (value.chars().collect(), pattern.chars().collect());
    if text.len() > MAX_PATTERN {
        return value.to_owned();
    }
    let lengths: Vec<usize> =
        if longest { (0..=text.len()).rev().collect() } else { (0..=text.len()).collect() };
    for length in lengths {
        let (part, rest) = match start {
            true => (&text[..length], &text[length..]),
            false => (&text[text.len() - length..], &text[..text.len() - length]),
        };
        if fits(&pattern, part) {
            return rest.iter().collect();
        }
    }
    value.to_owned()
}

/// Replaces the first, or every, longest part that fits.
fn replaced(value: &str, pattern: &str, with: &str, every: bool) -> String {
    let (text, pattern): (Vec<char>, Vec<char>) =
        (value.chars().collect(), pattern.chars().collect());
    if pattern.is_empty() || text.len() > MAX_PATTERN {
        return value.to_owned();
    }
    let (mut out, mut at, mut done) = (String::new(), 0, false);
    while at < text.len() {
        let end = (at + 1..=text.len()).rev().find(|end| fits(&pattern, &text[at..*end]));
        match end {
            Some(end) if every || !done => {
                out.push_str(with);
                (at, done) = (end, true);
            }
            _ => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(word: &str) -> Result<String, String> {
        let mut look = |name: &str, _: bool| match name {
            "SET" => Some(Text::plain("value")),
            "EMPTY" => Some(Text::default()),
            "VAR" => Some(Text::variable("VAR", "1.2.3")),
            _ => None,
        };
        let mut filler = Filler { escape: '\\', look: &mut look, quotes: true, fixed: vec![] };
        filler.fill(word).map(|text| text.written())
    }

    #[test]
    fn quotes_are_characters_in_a_here_document() {
        let mut look = |_: &str, _: bool| Some(Text::plain("v"));
        let mut filler = Filler { escape: '\\', look: &mut look, quotes: false, fixed: vec![] };
        let filled = filler.fill("a \"$A\" it's \\$A \\n").map(|text| text.written());
        assert_eq!(filled.as_deref(), Ok("a \"v\" it's $A n"));
    }

    #[test]
    fn words_are_filled_as_a_dockerfile_fills_them() {
        for (word, expected) in [
            ("plain", "plain"),
            ("$SET/x", "value/x"),
            ("${SET}x", "valuex"),
            ("$MISSING.", "."),
            ("a$", "a$"),
            (r"\$SET", "$SET"),
            ("'$SET'", "$SET"),
            ("\"$SET a\"", "value a"),
            (r#""\a \" \$""#, r#"\a " $"#),
            ("${MISSING:-x$SET}", "xvalue"),
            ("${EMPTY:-x}${EMPTY-x}", "x"),
            ("${SET:+yes}${MISSING:+no}${EMPTY+set}", "yesset"),
            ("${SET:?no}", "value"),
            ("$VAR", "{{ VAR }}"),
            ("${VAR:-x}", "{{ VAR or 'x' }}"),
            ("${VAR:+v$VAR}", "{{ ('v' ~ VAR) if VAR else '' }}"),
            ("${VAR%.*}|${VAR%%.*}|${VAR#*.}|${VAR##*.}", "1.2|1|2.3|3"),
            ("${VAR/./_}|${VAR//./_}", "1_2.3|1_2_3"),
            ("$$x", "x"),
        ] {
            assert_eq!(filled(word).as_deref(), Ok(expected), "{word}");
        }
        for word in
            ["'a", "\"a", "${", "${x", "${x:", "${x:=y}", "${}", "${MISSING:?needed}", "${x!}"]
        {
            assert!(filled(word).is_err(), "{word}");
        }
        let deep = format!("{}{}", "${A:-".repeat(10_000), "}".repeat(10_000));
        assert!(filled(&deep).is_err());
    }
}
