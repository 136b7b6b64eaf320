//! Go's templates as Packer has them in texts: `` {{user `x`}} ``, `{{timestamp}}`.

use super::node::{Kind, Node, Piece};

/// Splits a text into plain parts and what is put in.
pub(super) fn split(text: &str, line: u32) -> Vec<Piece> {
    let mut found: Vec<Piece> = vec![];
    let plain = |found: &mut Vec<Piece>, text: &str| match found.last_mut() {
        Some(Piece::Plain(last)) => last.push_str(text),
        _ if text.is_empty() => {}
        _ => found.push(Piece::Plain(text.to_owned())),
    };
    let mut rest = text;
    while let Some((before, inside)) = rest.split_once("{{") {
        plain(&mut found, before);
        let Some((inner, after)) = closed(inside) else {
            plain(&mut found, "{{");
            rest = inside;
            continue;
        };
        let trimmed = inner.trim_start_matches('-').trim_end_matches('-').trim();
        match literal(trimmed) {
            Some(text) => plain(&mut found, text),
            None => found.push(Piece::Expression(Node::new(line, kind(trimmed)))),
        }
        rest = after;
    }
    plain(&mut found, rest);
    found
}

/// Returns what stands before `}}`, which counts only outside of quotes, and what behind it.
fn closed(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (None, '`' | '"') => quote = Some(c),
            (None, '}') if text[at..].starts_with("}}") => {
                return Some((&text[..at], &text[at + 2..]));
            }
            _ => {}
        }
    }
    None
}

fn literal(text: &str) -> Option<&str> {
    ['`', '"'].iter().find_map(|quote| {
        let inner = text.strip_prefix(*quote)?.strip_suffix(*quote)?;
        (!inner.contains([*quote, '\\'])).then_some(inner)
    })
}

fn kind(text: &str) -> Kind {
    let path = |words: [&str; 2]| Kind::Path(words.map(str::to_owned).into());
    let (name, argument) = match text.split_once(|c: char| c.is_whitespace() || c == '`') {
        Some((name, _)) => (name, literal(text[name.len()..].trim())),
        None => (text, None),
    };
    match (name, argument) {
        ("user", Some(name)) => path(["var", name]),
        ("env", Some(name)) => Kind::Call("env".to_owned(), vec![Node::plain(0, name)]),
        ("build_name", None) => path(["source", "name"]),
        ("build_type", None) => path(["source", "type"]),
        ("template_dir", None) => path(["path", "root"]),
        ("pwd", None) => path(["path", "cwd"]),
        ("timestamp" | "isotime" | "uuid" | "packer_version", _) => {
            Kind::Call(name.to_owned(), vec![])
        }
        ("upper" | "lower", Some(text)) => Kind::Call(name.to_owned(), vec![Node::plain(0, text)]),
        _ => Kind::Other(format!("{{{{{text}}}}}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_where_go_splits_them() {
        let all = split("a {{user `x`}}{{ .Path }} {{`{{.Id}}`}}{{", 3);
        let kinds: Vec<String> = all
            .iter()
            .map(|one| match one {
                Piece::Plain(text) => text.clone(),
                Piece::Expression(node) => format!("{:?}", node.kind),
            })
            .collect();
        assert_eq!(kinds, ["a ", "Path([\"var\", \"x\"])", "Other(\"{{.Path}}\")", " {{.Id}}{{"]);
        assert_eq!(split("", 1), []);
    }
}
