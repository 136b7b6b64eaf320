//! The words of the project: one for each thing, and that of the field (docs/glossary.md).

use std::fs;
use std::path::{Path, PathBuf};

/// What is not said, and what is said instead.
const WORDS: &[(&[&str], &str)] = &[
    (&["folder", "folders"], "directory"),
    (
        &["told", "tell", "tells", "telling", "said", "heard", "hear", "hears"],
        "report, print, read",
    ),
    (&["hall", "workshop"], "the room's name; the context value"),
    (&["warden"], "supervisor"),
    (&["chore", "chores"], "call"),
    (&["rung"], "id-mapping mode"),
    (&["draft", "drafts"], "staging directory"),
    (&["crew", "errand", "grave", "ear"], "the thing itself"),
];

/// Types that were named for a picture rather than for what they are.
const TYPES: &[&str] =
    &["Bench", "Ear", "Ground", "Heap", "Heard", "Mark", "Meta", "Moment", "Said", "Site", "Turn"];

/// What is read, below the top directory.
const READ: &[&str] = &["src", "tests/it", "fixtures/help", "docs", "README.md", "CHANGELOG.md"];

/// Where a word stays: the file, the word, and why.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("docs/json.md", "folder", "a value of --json, which must not change"),
    ("docs/json.md", "folders", "a name of --json, which must not change"),
    ("src/recipe/mod.rs", "draft", "a version of JSON Schema is called so"),
    ("src/recipe/schema.rs", "draft", "a version of JSON Schema is called so"),
    ("src/cli/args/image.rs", "folders", "an older name of an option"),
    ("src/cli/graph.rs", "folder", "a shape of Graphviz"),
    ("src/cli/show.rs", "folders", "a name of --json, which must not change"),
    ("src/context/content.rs", "folder", "a part of what is hashed: another word is another key"),
    ("src/inspect/change.rs", "folder", "a value of --json, which must not change"),
    ("tests/it/cmd_diff.rs", "folders", "a name of --json, which must not change"),
];

/// What still has words that it should not have: a file, or a directory with a slash at its end.
/// This list only ever gets shorter.
const UNCLEAN: &[&str] = &[];

/// Files that still have such types. This list only ever gets shorter.
const UNCLEAN_TYPES: &[&str] = &[];

#[test]
fn one_word_for_one_thing() {
    let mut broken = vec![];
    let mut needed = vec![false; UNCLEAN.len()];
    let mut used = vec![false; ALLOWED.len()];
    for name in files() {
        let text = fs::read_to_string(top().join(&name)).expect("text");
        for (at, line) in text.lines().enumerate() {
            for word in words(line) {
                let Some((_, instead)) = WORDS.iter().find(|(bad, _)| bad.contains(&&*word)) else {
                    continue;
                };
                let allowed =
                    ALLOWED.iter().position(|(file, one, _)| *file == name && *one == word);
                let unclean = UNCLEAN.iter().position(|one| name.starts_with(one));
                match (allowed, unclean) {
                    (Some(place), _) => used[place] = true,
                    (None, Some(place)) => needed[place] = true,
                    (None, None) => {
                        broken.push(format!("{name}:{}: \"{word}\": {instead}", at + 1));
                    }
                }
            }
        }
    }
    let clean = UNCLEAN.iter().zip(&needed).filter(|(_, needed)| !**needed);
    broken.extend(clean.map(|(name, _)| format!("{name}: clean, strike it off the list")));
    let idle = ALLOWED.iter().zip(&used).filter(|(_, used)| !**used);
    broken.extend(idle.map(|((file, word, _), _)| format!("{file}: has no \"{word}\" any more")));
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn types_are_named_for_what_they_are() {
    let mut broken = vec![];
    for name in files().into_iter().filter(|name| name.ends_with(".rs")) {
        let mut found = false;
        for line in fs::read_to_string(top().join(&name)).expect("text").lines() {
            let mut tokens = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let kind = tokens.find(|token| ["struct", "enum", "trait", "type"].contains(token));
            let named = kind.and_then(|_| tokens.next());
            if !line.trim_start().starts_with("//") && named.is_some_and(|one| TYPES.contains(&one))
            {
                found = true;
                if !UNCLEAN_TYPES.contains(&&*name) {
                    broken.push(format!("{name}: {}", line.trim()));
                }
            }
        }
        if UNCLEAN_TYPES.contains(&&*name) && !found {
            broken.push(format!("{name}: clean, strike it off the list"));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// Returns the words of a line in lower case; `NoFolder`, `no_folder` and `no folder` are two.
fn words(line: &str) -> Vec<String> {
    let mut out: Vec<String> = vec![];
    let mut last = ' ';
    for c in line.chars() {
        if !c.is_ascii_alphabetic() {
            last = ' ';
            continue;
        }
        let begins = !last.is_ascii_alphabetic() || (c.is_ascii_uppercase() && last.is_lowercase());
        match out.last_mut() {
            Some(word) if !begins => word.push(c.to_ascii_lowercase()),
            _ => out.push(c.to_ascii_lowercase().to_string()),
        }
        last = c;
    }
    out
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Returns what is read, relative to the top directory, sorted; text files only.
fn files() -> Vec<String> {
    let mut found = vec![];
    let mut todo: Vec<PathBuf> = READ.iter().map(|name| top().join(name)).collect();
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(&path).expect("list").map(|one| one.expect("entry").path()));
        } else if path.extension().is_some_and(|e| e == "rs" || e == "md" || e == "txt") {
            let name = path.strip_prefix(top()).expect("below the top directory");
            found.push(name.to_str().expect("UTF-8").to_owned());
        }
    }
    found.sort();
    found
}
