//! What a registry asks for (RFC 9110 section 11.6.1, `WWW-Authenticate`).

/// How to say who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Name and password with every request (RFC 7617).
    Basic,
    /// A token of a service, for a scope (RFC 6750, distribution's "Token Authentication").
    Bearer {
        /// Where tokens are given.
        realm: String,
        /// For whom.
        service: Option<String>,
    },
}

/// Returns the strongest scheme of `headers` that is known: a token, else Basic.
pub(super) fn scheme<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Scheme> {
    let mut found = None;
    for (name, parameters) in headers.flat_map(challenges) {
        let value = |key: &str| {
            let fits = |(name, _): &&(String, String)| name.eq_ignore_ascii_case(key);
            parameters.iter().find(fits).map(|(_, value)| value.clone())
        };
        if name.eq_ignore_ascii_case("bearer")
            && let Some(realm) = value("realm")
        {
            return Some(Scheme::Bearer { realm, service: value("service") });
        }
        if name.eq_ignore_ascii_case("basic") {
            found = Some(Scheme::Basic);
        }
    }
    found
}

/// A scheme and its parameters.
type Challenge = (String, Vec<(String, String)>);

/// Reads a header: schemes, each followed by parameters `name=value` or `name="value"` with commas
/// between.
fn challenges(header: &str) -> Vec<Challenge> {
    let mut out: Vec<Challenge> = vec![];
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(['=', ' ', '\t', ',']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return out;
        }
        let trimmed = after.trim_start_matches([' ', '\t']);
        let Some(value) = trimmed.strip_prefix('=') else {
            out.push((word.to_owned(), vec![]));
            rest = after;
            continue;
        };
        let value = value.trim_start_matches([' ', '\t']);
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = value.find([',', ' ', '\t']).unwrap_or(value.len());
                (value[..end].to_owned(), &value[end..])
            }
        };
        if let Some((_, parameters)) = out.last_mut() {
            parameters.push((word.to_owned(), value));
        }
        rest = after;
    }
}

/// Reads to the closing quote.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Scheme::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
        };
        for (header, read) in [
            ("Basic realm=\"x\"", Some(Scheme::Basic)),
            ("basic", Some(Scheme::Basic)),
            (
                "Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:a:pull,push\"",
                bearer("https://a/t", Some("s")),
            ),
            ("Bearer realm = \"https://a/t\" , service=s", bearer("https://a/t", Some("s"))),
            ("Basic realm=\"a, b\", Bearer realm=\"https://a/t\"", bearer("https://a/t", None)),
            ("Bearer realm=\"a\\\"b\"", bearer("a\"b", None)),
            ("Bearer service=\"s\"", None),
            ("Negotiate", None),
            ("Bearer realm=\"unclosed", bearer("unclosed", None)),
            ("=,,=", None),
            ("", None),
        ] {
            assert_eq!(scheme([header].into_iter()), read, "{header}");
        }
    }
}
