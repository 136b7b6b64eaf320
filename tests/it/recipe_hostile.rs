//! Hostile recipes: nothing panics, nothing takes for ever, and every span can be drawn.

use std::path::{Path, PathBuf};

use bake::recipe::{self, Diagnostic, Inputs};
use bake::ui::diagnostic::render;
use proptest::prelude::*;

const SEEDS: &[&str] = &[
    include_str!("../../fixtures/recipes/good/reference.toml"),
    include_str!("../../fixtures/recipes/good/traps.toml"),
    include_str!("../../fixtures/recipes/good/newer.toml"),
    include_str!("../../fixtures/recipes/bad/keys.toml"),
    include_str!("../../fixtures/recipes/bad/types.toml"),
    include_str!("../../fixtures/recipes/bad/values.toml"),
    include_str!("../../fixtures/recipes/bad/variables.toml"),
    include_str!("../../fixtures/recipes/bad/unicode.toml"),
];

fn inputs() -> Inputs {
    Inputs { file: PathBuf::from("x.toml"), arch: "amd64".into(), ..Inputs::default() }
}

fn sound(mistakes: &[Diagnostic]) {
    for mistake in mistakes {
        assert!(mistake.source.get(mistake.span.clone()).is_some(), "{mistake:?}");
        assert!(mistake.line >= 1 && mistake.column >= 1);
        assert!(!mistake.message.is_empty());
    }
    let drawn = render(mistakes, false);
    assert!(!drawn.chars().any(|c| c.is_control() && c != '\n'), "{drawn:?}");
}

/// Reads, formats and draws a text; whatever comes out must be sound.
fn survive(text: &str) {
    let inputs = inputs();
    match recipe::read(text, &inputs) {
        Ok(recipe) => {
            sound(&recipe.warnings);
            assert!(recipe.steps.iter().all(|step| !step.ops.is_empty()));
        }
        Err(mistakes) => {
            assert!(mistakes.iter().any(|m| !m.warning));
            sound(&mistakes);
        }
    }
    match recipe::format(text, Path::new("x.toml")) {
        Ok(formatted) => {
            assert_eq!(formatted.parse::<toml::Table>().ok(), text.parse::<toml::Table>().ok());
            assert!(
                formatted.matches('#').count() >= text.matches('#').count(),
                "a comment is gone: {formatted}"
            );
            let again =
                recipe::format(&formatted, Path::new("x.toml")).expect("formatted text is TOML");
            assert_eq!(again, formatted, "not stable");
        }
        Err(mistakes) => sound(&mistakes),
    }
    let vars = [("site".to_owned(), recipe::Value::Text("blue".into()))].into();
    if let Err(mistake) = recipe::render_template(text, Path::new("x.j2"), &vars) {
        sound(&[mistake]);
    }
    let mut inputs = inputs;
    inputs.vars_files.push(("vars.toml".into(), text.to_owned()));
    inputs.vars.push((text.chars().take(20).collect(), text.chars().rev().take(20).collect()));
    inputs.version = Some(text.chars().take(9).collect());
    if let Err(mistakes) = recipe::read("[vars]\nsite = 'x'\ndebug = true\n", &inputs) {
        sound(&mistakes);
    }
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("\n[[step]]\n".to_owned()),
        Just("[step]".to_owned()),
        Just("{{ site }}".to_owned()),
        Just("{{".to_owned()),
        Just("}}".to_owned()),
        Just("'''".to_owned()),
        Just("\"\"\"".to_owned()),
        Just("\\".to_owned()),
        Just("\r\n".to_owned()),
        Just(" # c\n".to_owned()),
        Just("true".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("= ".to_owned()),
        Just("run = ".to_owned()),
        Just("env.".to_owned()),
        Just("\u{0}".to_owned()),
        Just("ä\u{202e}\u{1b}".to_owned()),
        "\\PC{0,6}",
        ".{0,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        survive(&text);
    }

    #[test]
    fn pieces_of_recipes_never_panic(pieces in prop::collection::vec(piece(), 0..30)) {
        survive(&pieces.concat());
    }

    #[test]
    fn mutated_recipes_never_panic(seed in 0..SEEDS.len(), edits in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, piece()), 1..6)) {
        let mut text = SEEDS[seed].to_owned();
        for (at, length, piece) in edits {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.floor_char_boundary((start + length).min(text.len())).max(start);
            text.replace_range(start..end, &piece);
        }
        survive(&text);
    }

    #[test]
    fn swapped_lines_never_panic(seed in 0..SEEDS.len(), swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..12)) {
        let mut lines: Vec<&str> = SEEDS[seed].split_inclusive('\n').collect();
        for (a, b) in swaps {
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            lines.swap(a, b);
        }
        survive(&lines.concat());
    }
}

#[test]
fn huge_nesting_ends() {
    for (open, close) in [("[", "]"), ("{a=", "}"), ("a.", ""), ("[[", ""), ("[\n", "")] {
        for depth in [50, 79, 80, 100, 100_000] {
            survive(&format!("x = {}1{}", open.repeat(depth), close.repeat(depth)));
            survive(&format!("{}x = 1", open.repeat(depth)));
            survive(&format!("[{}x]", open.repeat(depth)));
        }
    }
}

#[test]
fn huge_files_end() {
    let line = "[[step]]\nrun = 'true'\n";
    let many = format!(
        "[image]\nname = 'x'\nversion = '1'\n[base]\nscratch = true\n{}",
        line.repeat(50_000)
    );
    assert_eq!(recipe::read(&many, &inputs()).unwrap().steps.len(), 50_000);
    let wrong = "[[step]]\nrum = 'true'\nnetwrok = {{ x }}\n".repeat(10);
    sound(&recipe::read(&wrong, &inputs()).unwrap_err());
    let wrong = "[[step]]\nrum = 'true'\n".repeat(50_000);
    let mistakes = recipe::read(&wrong, &inputs()).unwrap_err();
    assert!(mistakes.len() <= 100);
    sound(&mistakes);
    let warned = "[[step]]\nrun = 'x'\n[step.env]\ntimeout = 'x'\n".repeat(1000);
    assert!(
        recipe::read(
            &format!(
                "{}{warned}[[step]]\nrun = 5\n",
                "[image]\nname = 'x'\nversion = '1'\n[base]\nscratch = true\n"
            ),
            &inputs()
        )
        .is_err()
    );
    sound(&recipe::read(&"x".repeat(10_000_000), &inputs()).unwrap_err());
    sound(&recipe::read(&format!("{} = 1", "x".repeat(10_000_000)), &inputs()).unwrap_err());
    sound(&recipe::read(&format!("x = '{}'", "{{ y }}".repeat(1_000_000)), &inputs()).unwrap_err());
    sound(
        &recipe::read(&format!("[[step]]\nrun = '{}'", "{{ y }}".repeat(1_000_000)), &inputs())
            .unwrap_err(),
    );
    sound(
        &recipe::read(&format!("[[step]]\nrun = '{}'", "{{".repeat(1_000_000)), &inputs())
            .unwrap_err(),
    );
}
