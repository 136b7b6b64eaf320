//! What every command says of itself: `--help` word for word, man pages, examples.
//! `UPDATE_GOLDEN=1` writes the expectations anew.

use std::fs;
use std::path::Path;

use crate::lab::{Lab, Run, run};

/// Runs `bake args` in a terminal 100 columns wide.
fn bake(lab: &Lab, args: &[&str]) -> Run {
    let mut command = lab.command(args);
    run(command.env("COLUMNS", "100").env_remove("BAKE_STORE"))
}

/// The commands, as `bake --help` lists them.
fn commands(lab: &Lab) -> Vec<String> {
    let help = bake(lab, &["--help"]).out;
    let (_, listed) = help.split_once("Commands:\n").expect("a list of commands");
    let listed = listed.lines().take_while(|line| !line.is_empty());
    let first = |line: &str| line.split_whitespace().next().expect("a name").to_owned();
    let names: Vec<String> = listed
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(first)
        .collect();
    assert!(names.len() > 10, "{help}");
    names
}

#[test]
fn every_command_explains_itself() {
    let lab = Lab::new();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/help");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut expected_files = vec![];
    let mut wrong = vec![];
    for name in std::iter::once("bake".to_owned()).chain(commands(&lab)) {
        let args: Vec<&str> = if name == "bake" { vec!["--help"] } else { vec![&name, "--help"] };
        let printed = bake(&lab, &args);
        assert_eq!((printed.code, printed.err.as_str()), (0, ""), "{name}");
        for part in [
            "Usage: bake",
            "--store <DIR>",
            "--json",
            "Exit codes:\n  0    done\n",
            "  130  interrupted\n",
        ] {
            assert!(printed.out.contains(part), "{name} does not say {part:?}: {}", printed.out);
        }
        // What every command has is written down once, in bake.txt.
        let (own, _) = printed
            .out
            .split_once("Options of every command:\n")
            .expect("what is common comes last");
        let text = if name == "bake" { &printed.out } else { own };
        // No blank at a line's end: editors would strip it from the files.
        let text: String =
            text.trim_end().lines().map(|line| format!("{}\n", line.trim_end())).collect();
        let file = directory.join(format!("{name}.txt"));
        if update {
            fs::write(&file, &text).expect("our own file");
        } else if fs::read_to_string(&file).unwrap_or_default() != text {
            wrong.push(format!("--- {name}\n{text}"));
        }
        expected_files.push(format!("{name}.txt"));
    }
    for entry in fs::read_dir(&directory).expect("the expectations").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if update && !expected_files.contains(&name) {
            fs::remove_file(entry.path()).expect("our own file");
        } else if !expected_files.contains(&name) {
            wrong.push(format!("--- {name}: no such command"));
        }
    }
    assert!(
        wrong.is_empty(),
        "fixtures/help differs (UPDATE_GOLDEN=1 accepts it):\n{}",
        wrong.join("\n")
    );
}

#[test]
fn without_a_command_bake_shows_them_all() {
    let lab = Lab::new();
    let printed = bake(&lab, &[]);
    assert_eq!((printed.code, printed.out.as_str()), (2, ""));
    assert!(
        printed.err.contains("Commands:\n  build ") && printed.err.contains("Exit codes:"),
        "{}",
        printed.err
    );
    let slip = bake(&lab, &["bild"]);
    assert_eq!((slip.code, slip.out.as_str()), (2, ""));
    assert!(slip.err.contains("build"), "a slip gets a suggestion: {}", slip.err);
}

#[test]
fn every_command_has_a_man_page() {
    let lab = Lab::new();
    let pages = lab.path("pages");
    let printed = bake(&lab, &["man", "--output", pages.to_str().expect("a plain path")]);
    assert_eq!(printed.code, 0, "{}", printed.err);
    let mut names: Vec<String> =
        commands(&lab).into_iter().map(|name| format!("bake-{name}.1")).collect();
    names.push("bake.1".to_owned());
    names.sort();
    let mut there: Vec<String> = fs::read_dir(&pages)
        .expect("a directory")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    there.sort();
    assert_eq!(there, names);
    for name in names {
        let text = fs::read_to_string(pages.join(&name)).expect("a page");
        let page = name.trim_end_matches(".1");
        assert!(text.contains(&format!(".TH {page} 1 ")), "{name}: {text}");
        assert!(text.contains("Exit codes:") && text.contains(".SH SYNOPSIS"), "{name}");
    }
    let main = bake(&lab, &["man"]);
    assert_eq!(
        main.out,
        fs::read_to_string(pages.join("bake.1")).expect("the main page"),
        "stdout has the main page"
    );
}

#[test]
fn every_shell_gets_completions() {
    let lab = Lab::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let printed = bake(&lab, &["completions", shell]);
        assert_eq!((printed.code, printed.err.as_str()), (0, ""), "{shell}");
        assert!(printed.out.contains("bake") && printed.out.contains("debian-mirror"), "{shell}");
    }
}

/// The commands in the code of the documentation, without what follows a pipe or a comment.
fn documented() -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let below = ["docs", "examples"].map(|dir| walkdir::WalkDir::new(top.join(dir)));
    let below = below.into_iter().flatten().map(|entry| entry.expect("readable").into_path());
    let mut found = vec![];
    for path in below.chain([top.join("README.md")]) {
        if path.extension() != Some("md".as_ref()) {
            continue;
        }
        let mut fenced = false;
        for line in fs::read_to_string(&path).expect("our own file").lines() {
            fenced ^= line.starts_with("```");
            let command = line.trim_start().trim_start_matches("$ ");
            if !command.starts_with("bake ") || !(fenced || line.starts_with("    ")) {
                continue;
            }
            let end = [" #", " |", " >", " &", "  "].into_iter();
            let end = end.filter_map(|end| command.find(end)).min().unwrap_or(command.len());
            found.push((path.display().to_string(), command[..end].to_owned()));
        }
    }
    found
}

#[test]
fn commands_in_the_documentation_are_understood() {
    let lab = Lab::new();
    let all = documented();
    assert!(all.len() > 60, "only {}", all.len());
    for (path, command) in all {
        // What is not meant word for word, and what hands all that follows to a program.
        let meant = !command.contains(['$', '…', '─', '\'', '"']) && !command.contains(" FORMAT");
        if !meant || command.starts_with("bake run ") {
            continue;
        }
        // Whatever is before `--help` has to be understood.
        let args: Vec<&str> = command.split(' ').skip(1).chain(["--help"]).collect();
        let printed = bake(&lab, &args);
        assert_eq!(printed.code, 0, "{path}: {command}: {}", printed.err);
    }
}
