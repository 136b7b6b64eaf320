//! Recipes with mistakes: what a person sees, word for word. `UPDATE_GOLDEN=1` writes the
//! expectations anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bake::recipe::{self, Diagnostic, Inputs, WorkspaceFile};
use bake::ui::diagnostic::render;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/recipes/bad")
}

fn inputs(name: &str) -> Inputs {
    let texts = ["host", "recipe", "syntax", "cycle", "deep/nested", "deep/back"].map(|part| {
        let path = PathBuf::from(format!("parts/{part}.toml"));
        let text = fs::read_to_string(directory().join(&path)).unwrap();
        (path, text)
    });
    let parts: BTreeMap<PathBuf, String> = texts.into();
    Inputs {
        file: PathBuf::from(name),
        arch: "amd64".into(),
        parts: Some(Arc::new(parts)),
        ..Inputs::default()
    }
}

/// Compares with the file of that name, or writes it.
fn golden(name: &str, found: &str) {
    let file = directory().join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, found).unwrap();
        return;
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == expected,
        "{name} differs (UPDATE_GOLDEN=1 accepts it)\n--- expected\n{expected}\n--- found\n{found}"
    );
}

fn mistakes(text: &str, inputs: &Inputs) -> Vec<Diagnostic> {
    match recipe::read(text, inputs) {
        Ok(recipe) => panic!("no mistake found: {recipe:?}"),
        Err(mistakes) => mistakes,
    }
}

#[test]
fn every_bad_recipe_says_what_is_wrong() {
    let mut names: Vec<String> = fs::read_dir(directory())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.retain(|name| name.ends_with(".toml"));
    assert!(names.len() > 10);
    for name in names {
        let text = fs::read_to_string(directory().join(&name)).unwrap();
        let mistakes = mistakes(&text, &inputs(&name));
        let found = render(&mistakes, false);
        assert!(!found.chars().any(|c| c.is_control() && c != '\n'), "{name}: control characters");
        for m in &mistakes {
            assert!(
                !format!("{:?} {:?} {:?}", m.message, m.label, m.help).contains("hunter2"),
                "{name}: a password in a message"
            );
        }
        golden(&name.replace(".toml", ".txt"), &found);
    }
}

/// Only programs are tried again as a whole: for the others it would change nothing, and what is
/// fetched is asked for again anyway.
#[test]
fn retries_go_with_run_script_and_packages_only() {
    let head =
        "[image]\nname = 'x'\nversion = '1'\n[base]\nscratch = true\n[[step]]\nretries = 2\n";
    for step in [
        "copy = 'a'\nto = '/a'",
        "template = 'a'\nto = '/a'",
        "download = 'https://example.org/a'\nto = '/a'\nsha256 = '{}'",
        "file = '/a'\ncontent = ''",
        "mkdir = '/a'",
        "symlink = '/a'\ntarget = '/b'",
        "remove = '/a'",
        "group = 'a'",
        "user = 'a'",
        "service = 'a'",
    ] {
        let kind = step.split(' ').next().unwrap_or_default();
        let step = step.replace("{}", &"0".repeat(64));
        let found: Vec<String> = mistakes(&format!("{head}{step}\n"), &inputs("x.toml"))
            .into_iter()
            .map(|one| one.message)
            .collect();
        assert!(
            found.iter().any(|one| one.contains("\"retries\"") && one.contains(kind)),
            "{step}: {found:?}"
        );
    }
}

const VARS: &str = "[image]\nname = 'x'\nversion = '1'\n[base]\nscratch = true\n[vars]\nsite = 'blue'\ndebug = false\nport = 80\nlevel = { default = 'low', values = ['low', 'high'], help = 'how loud' }\nneeded = {}\n";

#[test]
fn mistakes_of_a_workspace_stand_in_its_file() {
    let file = directory().with_file_name("workspace").join("bake.toml");
    let text: std::sync::Arc<str> = fs::read_to_string(file).unwrap().into();
    let workspace = WorkspaceFile { file: "bake.toml".into(), directory: "/w".into(), text };
    // Read by itself it has those that no recipe is needed for.
    let alone = recipe::read_workspace(&workspace).unwrap_err();
    let mut inputs = inputs("web.toml");
    inputs.workspace = Some(workspace.into());
    let recipe = "[image]\nname = 'web'\nversion = '1'\n[base]\nscratch = true\n[vars]\n\
        port = { values = [8080, 443] }\n[[step]]\nrun = '{{ port }} {{ site }}'\nnetwrok = true\n";
    let all = mistakes(recipe, &inputs);
    assert!(alone.iter().all(|one| all.contains(one)), "{alone:?}");
    golden("workspace.txt", &render(&all, false));
}

#[test]
fn values_from_outside_are_checked_where_they_stand() {
    let mut inputs = inputs("web.toml");
    inputs.version = Some("1/2".into());
    inputs.vars = [
        ("sitte", "green"),
        ("debug", "maybe"),
        ("port", "eighty"),
        ("level", "hihg"),
        ("version", "3"),
        ("arch", "arm64"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .to_vec();
    inputs.vars_files = vec![
        (PathBuf::from("prod.toml"), "unknown = [1]\nsite = 5\n\n[level]\na = 1\n".into()),
        (PathBuf::from("broken.toml"), "site = green\n".into()),
    ];
    inputs.env_vars = [("debug", "yes"), ("HOME", "/x"), ("level", "\u{1b}[1m")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    golden("outside.txt", &render(&mistakes(VARS, &inputs), false));
}

#[test]
fn a_template_says_where() {
    let vars = [("site".to_owned(), recipe::Value::Text("blue".into()))].into();
    let text =
        "server {\n  listen 80;\n  {% if site == 'green' %}name {{ sitte }};{% endif %}\n}\n";
    let mistake = recipe::render_template(text, Path::new("nginx.conf.j2"), &vars).unwrap_err();
    golden("template.txt", &render(&[mistake], false));
}
