//! What looks like a secret in the text of a recipe, by the forms that others publish for theirs.

use std::ops::Range;

/// A text that looks like a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Literal {
    /// Where it stands.
    pub span: Range<usize>,
    /// What it looks like.
    pub what: &'static str,
}

/// How a token begins, how many letters, digits, `-` and `_` follow at least, and what it is.
const TOKENS: &[(&str, usize, &str)] = &[
    ("ghp_", 36, "a token of GitHub"),
    ("gho_", 36, "a token of GitHub"),
    ("ghu_", 36, "a token of GitHub"),
    ("ghs_", 36, "a token of GitHub"),
    ("ghr_", 36, "a token of GitHub"),
    ("github_pat_", 40, "a token of GitHub"),
    ("glpat-", 20, "a token of GitLab"),
    ("npm_", 36, "a token of npm"),
    ("pypi-AgEIcHlwaS5vcmc", 20, "a token of PyPI"),
    ("dckr_pat_", 20, "a token of Docker Hub"),
    ("AKIA", 16, "an access key of AWS"),
    ("ASIA", 16, "an access key of AWS"),
    ("AIza", 35, "an API key of Google"),
    ("xoxb-", 20, "a token of Slack"),
    ("xoxp-", 20, "a token of Slack"),
    ("sk_live_", 16, "a key of Stripe"),
    ("rk_live_", 16, "a key of Stripe"),
    ("hvs.", 20, "a token of Vault"),
    ("AGE-SECRET-KEY-1", 40, "a key of age"),
];

/// Finds what looks like a secret in `text`, in its order.
pub fn literals(text: &str) -> Vec<Literal> {
    let mut found: Vec<Literal> = TOKENS
        .iter()
        .flat_map(|(start, more, what)| {
            let all = text.match_indices(start);
            all.filter_map(|(at, _)| token(text, at, start.len(), *more))
                .map(|span| Literal { span, what })
        })
        .chain(keys(text))
        .collect();
    found.sort_by_key(|one| one.span.start);
    found
}

/// Returns where a token stands that begins at `at` with so many bytes and has so many more.
fn token(text: &str, at: usize, start: usize, more: usize) -> Option<Range<usize>> {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    let rest = &text[at + start..];
    let len = rest.find(|c| !inside(c)).unwrap_or(rest.len());
    (len >= more).then_some(at..at + start + len)
}

/// Private keys: `-----BEGIN … PRIVATE KEY-----`.
fn keys(text: &str) -> impl Iterator<Item = Literal> {
    text.match_indices("-----BEGIN ").filter_map(|(at, begin)| {
        let rest = &text[at + begin.len()..];
        let end = rest.find("-----")?;
        let key = rest[..end].ends_with("PRIVATE KEY") && end < 40;
        let span = at..at + begin.len() + end + 5;
        key.then_some(Literal { span, what: "a private key" })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_others_are_recognised() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<&str> = literals(text).iter().map(|one| one.what).collect();
            assert_eq!(found, expected, "{text}");
        };
        let github = format!("ghp_{}", "a1".repeat(18));
        check(&format!("env.T = '{github}'"), &["a token of GitHub"]);
        check(&format!("run = \"curl -H 'token {github}' x\""), &["a token of GitHub"]);
        check(&format!("xghp_{}", "a".repeat(36)), &[]);
        check("ghp_short", &[]);
        check("AKIAIOSFODNN7EXAMPLE", &["an access key of AWS"]);
        check("-----BEGIN PRIVATE KEY-----\nx", &["a private key"]);
        check("-----BEGIN OPENSSH PRIVATE KEY-----", &["a private key"]);
        check("-----BEGIN CERTIFICATE-----", &[]);
        check("-----BEGIN ", &[]);
        let two = format!("-----BEGIN RSA PRIVATE KEY-----\n{github}");
        check(&two, &["a private key", "a token of GitHub"]);
        let found = &literals(&two)[1];
        assert_eq!(&two[found.span.clone()], github);
    }
}
