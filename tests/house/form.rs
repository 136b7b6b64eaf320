//! The form of a file: lines of 100 columns, imports in three groups; and a manifest without a
//! dependency that nothing uses.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{Source, sources};

/// Columns of a line.
const COLUMNS: usize = 100;

/// Files with longer lines, of a script and of a picture. rustfmt does not break strings, so a long
/// one is continued by hand, with a backslash. This list only ever gets shorter.
const WIDE: &[&str] = &["base/debian/bootstrap.rs", "inspect/fleet/svg.rs", "recipe/vars/scope.rs"];

/// Files whose imports are not in order yet. This list only ever gets shorter.
const IMPORTS: &[&str] = &["engine/mod.rs"];

#[test]
fn lines_end_at_100_columns() {
    let mut broken = vec![];
    let mut needed = vec![false; WIDE.len()];
    for Source { name, text, code, .. } in sources() {
        let comments = text.lines().enumerate().map(|(at, line)| (at + 1, line));
        // A header draws formats and ways of data; what it draws may need more.
        let comments = comments.filter(|(_, line)| {
            let line = line.trim_start();
            line.starts_with("//") && !line.starts_with("//!")
        });
        let code = code.iter().map(|(at, line)| (*at, line.as_str()));
        for (at, line) in comments.chain(code) {
            if line.chars().count() <= COLUMNS {
                continue;
            }
            match WIDE.iter().position(|one| name.starts_with(one)) {
                Some(place) => needed[place] = true,
                None => broken.push(format!("{name}:{at}: too long")),
            }
        }
    }
    let narrow = WIDE.iter().zip(&needed).filter(|(_, needed)| !**needed);
    broken.extend(narrow.map(|(name, _)| format!("{name}: in form, strike it off the list")));
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// Where a `use` belongs: the standard library, other crates, this one.
fn group(line: &str, children: &BTreeSet<&str>) -> usize {
    let path = line.trim_start_matches("use ").trim_start_matches("::");
    match path.split([':', ';', ' ', '{']).next().unwrap_or_default() {
        "std" | "core" | "alloc" => 0,
        "crate" | "super" | "self" => 2,
        first if children.contains(first) => 2,
        _ => 1,
    }
}

/// The groups of a file, each a run of lines without a blank one between them.
fn groups(text: &str) -> Vec<BTreeSet<usize>> {
    let children: BTreeSet<&str> =
        text.lines().filter_map(|line| line.split("mod ").nth(1)?.strip_suffix(';')).collect();
    let mut out: Vec<BTreeSet<usize>> = vec![];
    let mut fresh = true;
    for line in text.lines() {
        if line.starts_with("use ") {
            if fresh {
                out.push(BTreeSet::new());
            }
            fresh = false;
            out.last_mut().expect("pushed").insert(group(line, &children));
        } else if line.is_empty() {
            fresh = true;
        }
    }
    out
}

#[test]
fn imports_stand_in_three_groups() {
    let mut broken = vec![];
    for Source { name, text, .. } in sources() {
        let groups = groups(&text);
        let order: Vec<usize> = groups.iter().filter_map(|one| one.first().copied()).collect();
        let fine = groups.iter().all(|one| one.len() == 1)
            && order.windows(2).all(|pair| pair[0] < pair[1]);
        match (fine, IMPORTS.contains(&name.as_str())) {
            (false, false) => {
                broken.push(format!("{name}: std, other crates, this one: {groups:?}"))
            }
            (true, true) => broken.push(format!("{name}: in order, strike it off the list")),
            _ => {}
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_dependency_is_used() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Table =
        fs::read_to_string(top.join("Cargo.toml")).unwrap().parse().expect("TOML");
    // What the package of this name is called in code.
    let called = |package: &str| match package {
        "md-5" => "md5".to_owned(),
        other => other.replace('-', "_"),
    };
    let sources = sources();
    let uses = |name: &str| {
        let path = format!("{name}::");
        sources.iter().flat_map(|file| &file.code).any(|(_, line)| {
            line.match_indices(&path).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
            })
        })
    };
    let unused: Vec<&String> = manifest["dependencies"]
        .as_table()
        .expect("a table")
        .keys()
        .filter(|package| !uses(&called(package)))
        .collect();
    assert!(unused.is_empty(), "declared and used nowhere: {unused:?}");
}
