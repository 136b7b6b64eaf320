//! Formatting changes nothing but the looks.

use std::fs;
use std::path::{Path, PathBuf};

use bake::recipe::{self, Inputs};

fn texts() -> Vec<(PathBuf, String)> {
    let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/recipes/good");
    let mut files: Vec<PathBuf> = fs::read_dir(good).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read_to_string(file).unwrap())).collect()
}

/// What a recipe means, without lines.
fn meaning(text: &str) -> String {
    let inputs = Inputs {
        arch: "amd64".into(),
        vars_files: vec![("x".into(), "nginx = '1'".into())],
        ..Inputs::default()
    };
    match recipe::read(text, &inputs) {
        Ok(mut recipe) => {
            recipe.base.line = 0;
            recipe.steps.iter_mut().for_each(|step| step.line = 0);
            recipe.warnings.clear();
            recipe.outputs.clear();
            format!("{recipe:?}")
        }
        Err(mistakes) => panic!("{}", bake::ui::diagnostic::render(&mistakes, false)),
    }
}

/// Comments of a text that has no `#` in its strings.
fn comments(text: &str) -> Vec<&str> {
    let mut found: Vec<&str> =
        text.lines().filter_map(|line| line.find("# ").map(|at| line[at..].trim())).collect();
    found.sort_unstable();
    found
}

#[test]
fn the_meaning_and_the_comments_stay() {
    for (file, text) in texts() {
        let formatted = recipe::format(&text, &file).unwrap();
        assert_eq!(meaning(&formatted), meaning(&text), "{}", file.display());
        assert_eq!(
            recipe::format(&formatted, &file).unwrap(),
            formatted,
            "{}: not stable",
            file.display()
        );
        assert_eq!(comments(&formatted), comments(&text), "{}", file.display());
        assert!(formatted.ends_with('\n') && !formatted.contains("\n\n\n"), "{}", file.display());
    }
}

#[test]
fn the_reference_is_in_order_already() {
    let (file, text) =
        texts().into_iter().find(|(file, _)| file.ends_with("reference.toml")).unwrap();
    let bare = |text: &str| {
        text.lines()
            .map(|l| l.split('#').next().unwrap().trim().to_owned())
            .filter(|l| !l.is_empty())
            .collect::<Vec<_>>()
    };
    assert_eq!(bare(&recipe::format(&text, &file).unwrap()), bare(&text));
}

#[test]
fn bad_recipes_are_formatted_as_long_as_they_are_toml() {
    let bad = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/recipes/bad");
    for entry in fs::read_dir(bad).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|e| e == "toml") {
            let text = fs::read_to_string(&file).unwrap();
            match recipe::format(&text, &file) {
                Ok(formatted) => assert_eq!(
                    formatted.parse::<toml::Table>().unwrap(),
                    text.parse::<toml::Table>().unwrap()
                ),
                Err(mistakes) => assert!(!mistakes.is_empty()),
            }
        }
    }
}
