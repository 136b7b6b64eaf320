//! `bake new`: directories made from templates.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bake::template::{TEMPLATES, create};

#[test]
fn every_template_makes_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    for template in TEMPLATES {
        let to = dir.path().join("deep").join(template.name);
        let files = create(template.name, &to, "team/shop").unwrap();
        assert!(
            files.contains(&to.join("recipe.toml")) && files.contains(&to.join("README.md")),
            "{files:?}"
        );
        for file in &files {
            let text = fs::read_to_string(file).unwrap();
            assert!(!text.contains("@name@"), "{}", file.display());
        }
        let recipe = fs::read_to_string(to.join("recipe.toml")).unwrap();
        assert!(recipe.starts_with("#:schema "), "{recipe}");
        assert!(recipe.contains("name = \"team/shop\""), "{recipe}");
        let on_disk = walk(&format!("{}/templates/{}", env!("CARGO_MANIFEST_DIR"), template.name));
        assert_eq!(
            on_disk,
            files.len(),
            "{}: a file in templates/ is not in the list",
            template.name
        );
    }
    let script = dir.path().join("deep/database-postgresql/entrypoint.sh");
    assert_ne!(fs::metadata(script).unwrap().permissions().mode() & 0o100, 0);
}

fn walk(dir: &str) -> usize {
    walkdir::WalkDir::new(dir)
        .into_iter()
        .filter(|e| e.as_ref().unwrap().file_type().is_file())
        .count()
}

#[test]
fn nothing_is_overwritten_and_nothing_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("x");
    fs::create_dir_all(to.join("site")).unwrap();
    fs::write(to.join("site/index.html"), "mine").unwrap();
    let error = create("web-nginx", &to, "web").unwrap_err().to_string();
    assert!(error.contains("site/index.html exists already; nothing was written"), "{error}");
    assert_eq!(walk(to.to_str().unwrap()), 1);
    create("minimal", &to, "web").unwrap();
    // Fails half way: a file stands where a directory is needed.
    let to = dir.path().join("y");
    fs::create_dir(&to).unwrap();
    fs::write(to.join("site"), "a file").unwrap();
    create("web-nginx", &to, "web").unwrap_err();
    assert_eq!(walk(to.to_str().unwrap()), 1);
}

#[test]
fn mistakes_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = |template: &str, name: &str| {
        create(template, &dir.path().join("z"), name).unwrap_err().to_string()
    };
    assert_eq!(
        error("web-ngnix", "web"),
        "there is no template \"web-ngnix\" (did you mean \"web-nginx\"?); there are minimal, web-nginx, web-apache, database-postgresql, static-binary"
    );
    assert!(error("minimal", "Web").contains("\"Web\" cannot be an image's name"));
    assert!(!dir.path().join("z").exists());
}
