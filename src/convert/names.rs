//! What stages are called in a recipe.

use super::stage::{EMPTY, Named};

/// Names that a recipe has for other things.
const TAKEN: &[&str] = &["base", "defaults", "step", "context", "image", "scratch", EMPTY];

/// Longest name of a stage.
const MAX: usize = 60;

/// Returns the stages with their names in a recipe: lower case, starting with a letter, each once.
pub(super) fn titles(names: &[Option<String>]) -> Vec<Named> {
    let mut found: Vec<Named> = vec![];
    for (number, name) in names.iter().enumerate() {
        let own = name.clone().unwrap_or_else(|| format!("stage-{number}"));
        let mut title: String =
            own.chars()
                .map(|c| {
                    if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '-' }
                })
                .take(MAX)
                .collect();
        if TAKEN.contains(&title.as_str()) || title.starts_with("archive-") {
            title.push_str("-stage");
        }
        while found.iter().any(|one| one.title == title) {
            title.push_str("-2");
        }
        found.push(Named { name: name.clone(), title });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_recipe() {
        let names = [Some("base"), None, Some("a.b"), Some("a-b"), Some("build")];
        let names = names.map(|name| name.map(str::to_owned));
        let titles: Vec<_> = titles(&names).into_iter().map(|one| one.title).collect();
        assert_eq!(titles, ["base-stage", "stage-1", "a-b", "a-b-2", "build"]);
    }
}
