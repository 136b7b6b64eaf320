//! What was once reported wrong, as tests of what must hold: cli.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use crate::lab::Lab;

const UNFORMATTED: &str = "[image]\nname='web'\nversion='1.0.0'\n[base]\nscratch=true\n";

/// B3
#[test]
fn fmt_keeps_the_symlink_and_the_mode_of_a_recipe() {
    let lab = Lab::new();
    let real = lab.write("real/web.toml", UNFORMATTED);
    fs::set_permissions(&real, PermissionsExt::from_mode(0o600)).expect("our own file");
    symlink("real/web.toml", lab.path("web.toml")).expect("a symlink");
    let run = lab.bake(["fmt", "web.toml"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(fs::symlink_metadata(lab.path("web.toml")).expect("there").is_symlink());
    let formatted = fs::read_to_string(&real).expect("our own file");
    assert_ne!(formatted, UNFORMATTED);
    assert_eq!(fs::metadata(&real).expect("there").mode() & 0o777, 0o600);
    assert_eq!(lab.bake(["fmt", "--check", "web.toml"]).code, 0);
}

/// B3: the same of what other commands write for a person.
#[test]
fn a_drawing_does_not_replace_what_is_no_regular_file() {
    let lab = Lab::new();
    lab.write("reports/a.json", "{}");
    symlink("/dev/null", lab.path("fleet.svg")).expect("a symlink");
    let run = lab.bake(["fleet", "reports", "--svg", "fleet.svg"]);
    assert_eq!(run.code, 1, "{}", run.err);
    assert!(run.err.contains("it is a device, not a regular file"), "{}", run.err);
    assert!(fs::symlink_metadata(lab.path("fleet.svg")).expect("there").is_symlink());
}

/// B19: no message can be read as an order.
#[test]
fn errors_say_what_cannot_be_done() {
    let verbs = [
        "apply",
        "append",
        "compare",
        "copy",
        "create",
        "decompress",
        "enter",
        "export",
        "leave",
        "list",
        "look",
        "make",
        "open",
        "pack",
        "read",
        "remove",
        "rename",
        "replace",
        "run",
        "set",
        "sync",
        "unpack",
        "use",
        "write",
        "{what} {}",
    ];
    let mut seen = 0;
    let mut wrong = vec![];
    each_source(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |path, text| {
        for message in text.split("#[error(").skip(1) {
            let message = message.trim_start().trim_start_matches('"');
            seen += 1;
            if verbs.iter().any(|verb| message.strip_prefix(verb).is_some_and(ends_a_word)) {
                let line = message.lines().next().unwrap_or_default();
                wrong.push(format!("{}: {line}", path.display()));
            }
        }
    });
    assert!(seen > 100, "{seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn ends_a_word(rest: &str) -> bool {
    !rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_')
}

fn each_source(dir: &Path, take: &mut dyn FnMut(&Path, &str)) {
    for entry in fs::read_dir(dir).expect("our own sources") {
        let path = entry.expect("our own sources").path();
        if path.is_dir() {
            each_source(&path, take);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            take(&path, &fs::read_to_string(&path).expect("our own sources"));
        }
    }
}
