//! A mistake without its place: what is wrong, and what to do.

/// Longer names are not typing mistakes, and comparing them costs the product of their lengths.
const MAX_COMPARED: usize = 64;

/// A mistake without its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(super) message: String,
    pub(super) label: Option<String>,
    pub(super) help: Option<String>,
    pub(super) warning: bool,
}

impl Mistake {
    /// Starts an error.
    pub(crate) fn new(message: impl Into<String>) -> Mistake {
        Mistake { message: message.into(), label: None, help: None, warning: false }
    }

    /// Adds what stands at the caret.
    pub(crate) fn label(mut self, label: impl Into<String>) -> Mistake {
        self.label = Some(label.into());
        self
    }

    /// Adds what to do.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Mistake {
        self.help = Some(help.into());
        self
    }

    /// Adds the label `did you mean "x"?` where a candidate is near.
    pub(crate) fn suggest<'a>(
        self,
        wrong: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Mistake {
        match near(wrong, candidates) {
            Some(right) => self.label(format!("did you mean {}?", quote(right))),
            None => self,
        }
    }

    /// Returns it as one line, for where there is no recipe to point into.
    pub(crate) fn in_one_line(self) -> String {
        let parts = [Some(self.message), self.label, self.help];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// Returns whether it has a label.
    pub(crate) fn has_label(&self) -> bool {
        self.label.is_some()
    }

    /// Makes it a warning.
    pub(crate) fn warn(mut self) -> Mistake {
        self.warning = true;
        self
    }
}

/// Returns the candidate that was most likely meant, if one is near enough.
pub(crate) fn near<'a>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if wrong.len() > MAX_COMPARED {
        return None;
    }
    let low = wrong.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .filter(|c| *c != wrong && c.len() <= MAX_COMPARED)
        .map(|c| (strsim::damerau_levenshtein(&low, &c.to_lowercase()), c))
        // One typing mistake in a short word, two in a longer one, a third only in a long one: more
        // is another word.
        .filter(|(distance, c)| {
            *distance <= low.chars().count().max(c.chars().count()).div_ceil(4).min(3)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

/// Quotes a text of the recipe for a message: one line, at most 80 characters.
pub(crate) fn quote(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// Joins words as people do: `a, b or c`.
pub(crate) fn either<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|w| format!("`{w}`")).collect();
    match words.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_words_are_suggested() {
        let words = ["name", "when", "run", "network", "timeout", "to"];
        assert_eq!(near("nmae", words), Some("name"));
        assert_eq!(near("time-out", words), Some("timeout"));
        assert_eq!(near("Network", words), Some("network"));
        assert_eq!(near("foo", words), None);
        assert_eq!(near("x", words), None);
        assert_eq!(near(&"n".repeat(10_000_000), words), None);
    }
}
