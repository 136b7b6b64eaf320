//! Every template and example is a recipe that bake reads, in bake's own format, whose files are
//! there.

use std::fs;
use std::path::{Path, PathBuf};

use bake::context::Context;
use bake::recipe::{Inputs, Recipe};
use bake::step::{Content, Op};
use bake::template::{TEMPLATES, create};

/// Reads the recipe, checks that every file it names is there and every template renders, and
/// returns it with the rendered texts.
fn check(path: &Path) -> (Recipe, Vec<String>) {
    let text = fs::read_to_string(path).unwrap();
    let inputs = Inputs { file: path.to_owned(), arch: "amd64".to_owned(), ..Inputs::default() };
    let recipe = bake::recipe::read(&text, &inputs).unwrap_or_else(|mistakes| {
        panic!(
            "{}: {:#?}",
            path.display(),
            mistakes.iter().map(|m| (m.line, &m.message)).collect::<Vec<_>>()
        )
    });
    let formatted = bake::recipe::format(&text, path).expect("it has just been read");
    assert_eq!(formatted, text, "{} is not as `bake fmt` writes it", path.display());
    let context = Context::open(path.parent().unwrap(), &[], &[]).unwrap();
    let mut rendered = vec![];
    for step in &recipe.steps {
        for op in &step.ops {
            if matches!(op, Op::Copy { stage: None, .. }) {
                assert!(
                    !context
                        .list(op)
                        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
                        .is_empty()
                );
            }
            if let Op::Write { content: Content::Template(file), .. } = op {
                let template = String::from_utf8(context.read(file, 1 << 20).unwrap()).unwrap();
                let text = bake::recipe::render_template(&template, file, &recipe.vars);
                rendered.push(text.unwrap_or_else(|e| panic!("{}: {}", file.display(), e.message)));
            }
        }
    }
    (recipe, rendered)
}

#[test]
fn every_template_is_a_recipe() {
    let dir = tempfile::tempdir().unwrap();
    for template in TEMPLATES {
        let to = dir.path().join(template.name);
        create(template.name, &to, "my-image", "{}").unwrap();
        let (recipe, _) = check(&to.join("recipe.toml"));
        assert_eq!(
            (recipe.image.name.as_str(), recipe.image.version.as_str()),
            ("my-image", "0.1.0")
        );
        // E13
        assert!(!recipe.tests.is_empty(), "{}: no test", template.name);
        assert!(
            recipe.config.cmd.is_some()
                || recipe.config.entrypoint.is_some()
                || recipe.tests.iter().any(|test| test.boot.is_some()),
            "{}: nothing to start",
            template.name
        );
    }
}

#[test]
fn the_examples_are_two_versions_of_one_app() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/web");
    let recipe = |name: &str| check(&directory.join(name));
    let mut found: Vec<PathBuf> =
        fs::read_dir(&directory).unwrap().map(|e| e.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    assert_eq!(found.len(), 2, "an example without a test: {found:?}");
    for (file, version, stop) in
        [("apache.toml", "1.0.0", "SIGWINCH"), ("nginx.toml", "2.0.0", "SIGQUIT")]
    {
        let (recipe, rendered) = recipe(file);
        assert_eq!((recipe.image.name.as_str(), recipe.image.version.as_str()), ("web", version));
        assert_eq!(recipe.config.stop_signal.as_deref(), Some(stop));
        assert_eq!(recipe.config.ports, ["80/tcp"]);
        assert_eq!(recipe.config.volumes, ["/var/lib/web"]);
        assert!(
            rendered
                .iter()
                .any(|text| text.contains(&format!("<span id=\"version\">{version}</span>"))),
            "{rendered:?}"
        );
        assert!(
            rendered.contains(&format!("{{\"name\": \"web\", \"version\": \"{version}\"}}\n")),
            "{rendered:?}"
        );
    }
}
