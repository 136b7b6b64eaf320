//! Names that look like what somebody wrote, for errors.

/// `" (did you mean "a" or "b"?)"`, or nothing.
pub fn near(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let quoted: Vec<String> = names.iter().map(|n| format!("\"{n}\"")).collect();
    format!(" (did you mean {}?)", quoted.join(" or "))
}

/// Up to three of `known` that look like `name`, best first.
pub fn alike<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut scored: Vec<(f64, &str)> =
        known.map(|k| (strsim::jaro_winkler(name, k), k)).filter(|(s, _)| *s > 0.8).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.dedup_by_key(|(_, k)| *k);
    scored.into_iter().take(3).map(|(_, k)| k.to_owned()).collect()
}
