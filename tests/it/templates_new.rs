//! `bake new`: directories made from templates.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bake::template::{TEMPLATES, create};

use crate::lab::Lab;
use crate::{tier, vm_boot};

#[test]
fn every_template_makes_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    for template in TEMPLATES {
        let to = dir.path().join("deep").join(template.name);
        let files = create(template.name, &to, "team/shop", "{}\n").unwrap();
        assert!(
            files.contains(&to.join("recipe.toml")) && files.contains(&to.join("README.md")),
            "{files:?}"
        );
        for file in &files {
            let text = fs::read_to_string(file).unwrap();
            assert!(!text.contains("@name@"), "{}", file.display());
        }
        let recipe = fs::read_to_string(to.join("recipe.toml")).unwrap();
        // E13: the schema that the recipe names is there.
        let schema = recipe.lines().next().and_then(|line| line.strip_prefix("#:schema "));
        assert!(files.contains(&to.join(schema.expect("it names one").trim_start_matches("./"))));
        assert!(recipe.contains("name = \"team/shop\""), "{recipe}");
        let on_disk = walk(&format!("{}/templates/{}", env!("CARGO_MANIFEST_DIR"), template.name));
        assert_eq!(
            on_disk,
            files.len() - 1,
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
    let error = create("web-nginx", &to, "web", "{}").unwrap_err().to_string();
    assert!(error.contains("site/index.html exists already; nothing was written"), "{error}");
    assert_eq!(walk(to.to_str().unwrap()), 1);
    create("minimal", &to, "web", "{}").unwrap();
    // Fails half way: a file stands where a directory is needed.
    let to = dir.path().join("y");
    fs::create_dir(&to).unwrap();
    fs::write(to.join("site"), "a file").unwrap();
    create("web-nginx", &to, "web", "{}").unwrap_err();
    assert_eq!(walk(to.to_str().unwrap()), 1);
}

/// D14, E13: what `bake new` makes is baked, tested and published without a change, by `bake build`
/// in its directory.
#[test]
fn net_every_template_bakes_as_it_comes() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    vm_boot::share_packages(&lab);
    for template in TEMPLATES {
        let name = template.name;
        assert_eq!(lab.bake(["new", name, "--template", name]).code, 0, "{name}");
        let built = lab.bake(["build", name]);
        assert_eq!(built.code, 0, "{name}: {}", built.err);
        assert!(built.out.starts_with(&format!("{name}:0.1.0 sha256:")), "{name}: {}", built.out);
        let checked = lab.bake(["check", name]);
        assert!(!checked.err.contains("warning"), "{name}: {}", checked.err);
    }
    // Each has passed its tests: that is what may be promoted.
    for template in TEMPLATES {
        let image = format!("{}:0.1.0", template.name);
        assert_eq!(lab.bake(["promote", &image, "tested"]).code, 0, "{image}");
    }
}

#[test]
fn mistakes_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = |template: &str, name: &str| {
        create(template, &dir.path().join("z"), name, "{}").unwrap_err().to_string()
    };
    assert_eq!(
        error("web-ngnix", "web"),
        "there is no template \"web-ngnix\" (did you mean \"web-nginx\"?); there are minimal, web-nginx, web-apache, database-postgresql, vm-web, vm-database, static-binary"
    );
    assert!(error("minimal", "Web").contains("\"Web\" cannot be an image's name"));
    assert!(!dir.path().join("z").exists());
}
