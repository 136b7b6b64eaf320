//! docs/dockerfile.md: each recipe is one, and no more than 1.3 times as long as the Dockerfile of
//! the same image.

use std::fs;
use std::path::{Path, PathBuf};

use bake::recipe::{self, Inputs};

/// Returns the fenced blocks of a language, in order.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let parts = page.split(fence.as_str()).skip(1);
    parts.map(|part| part.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// Counts the lines that are neither blank nor a comment.
fn lines(text: &str) -> usize {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).count()
}

/// E19
#[test]
fn a_recipe_takes_hardly_more_lines_than_a_dockerfile() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dockerfile.md");
    let page = fs::read_to_string(page).expect("the page");
    let (files, recipes) = (blocks(&page, "dockerfile"), blocks(&page, "toml"));
    assert_eq!((files.len(), recipes.len()), (4, 4));
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| a ")).collect();
    assert_eq!(rows.len(), files.len());
    for ((file, text), row) in files.iter().zip(&recipes).zip(rows) {
        let inputs =
            Inputs { file: PathBuf::from("x.toml"), arch: "amd64".into(), ..Inputs::default() };
        let recipe = recipe::read(text, &inputs)
            .unwrap_or_else(|found| panic!("{}", bake::ui::diagnostic::render(&found, false)));
        assert!(recipe.warnings.is_empty(), "{:?}", recipe.warnings);
        assert_eq!(recipe::format(text, Path::new("x.toml")).as_ref(), Ok(text), "not formatted");
        let (theirs, ours) = (lines(file), lines(text));
        assert!(ours * 10 <= theirs * 13, "{}: {ours} lines, not {theirs}", recipe.image.name);
        assert!(row.ends_with(&format!("| {theirs} | {ours} |")), "{row}: {theirs}, {ours}");
    }
}
