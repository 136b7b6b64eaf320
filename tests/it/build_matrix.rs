//! One recipe with several images: the variants of its `[matrix]`.

use std::fs;

use crate::lab::{Lab, Run, run};
use crate::tier;

const HEAD: &str = "[image]\nname = \"app\"\nversion = \"1-{{ php }}{{ kind }}\"\n\
    [matrix]\nphp = [\"8.2\", \"8.4\"]\nkind = [\"cli\", \"fpm\"]\n\
    exclude = [{ php = \"8.2\", kind = \"fpm\" }]\n[base]\npath = \"root\"\n\
    [[step]]\nfile = \"/shared\"\ncontent = \"all\"\n";
const OWN: &str = "[[step]]\nrun = \"echo {{ php }} {{ kind }} > /which\"\n\
    [[test]]\nfile = \"/which\"\ncontains = \"{{ php }} {{ kind }}\"\n";

fn lab() -> Option<Lab> {
    if !tier::sandbox() {
        return None;
    }
    let lab = Lab::new();
    lab.tiny_root();
    lab.write("app.toml", &format!("{HEAD}{OWN}"));
    Some(lab)
}

#[track_caller]
fn good(run: Run) -> Run {
    assert_eq!(run.code, 0, "{}", run.err);
    run
}

fn images(lab: &Lab) -> Vec<String> {
    let listed = good(lab.bake(["list", "--json"])).out;
    let one = |line: &str| -> String {
        let object: serde_json::Value = serde_json::from_str(line).expect("JSON");
        format!(
            "{}:{}",
            object["name"].as_str().expect("text"),
            object["version"].as_str().expect("text")
        )
    };
    let mut all: Vec<String> = listed.lines().map(one).collect();
    all.sort();
    all
}

#[test]
fn every_variant_is_an_image_and_all_are_published_together() {
    let Some(lab) = lab() else { return };
    let built = good(lab.bake(["build", "app.toml"]));
    let there = ["app:1-8.2cli", "app:1-8.4cli", "app:1-8.4fpm"];
    assert_eq!(images(&lab), there);
    let printed: Vec<&str> = built.out.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(printed, there);
    let which =
        lab.bake(["run", "app:1-8.4fpm", "--", "/bin/sh", "-c", "read line < /which; echo $line"]);
    assert_eq!(good(which).out, "8.4 fpm\n");
    // Nothing has changed: nothing is baked.
    let again = good(lab.bake(["build", "app.toml"]));
    assert_eq!(again.out, built.out);
    assert!(!again.err.contains("done: run"), "{}", again.err);
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

#[test]
fn a_variant_is_built_as_a_recipe_with_its_values_is() {
    let Some(lab) = lab() else { return };
    let built =
        good(lab.bake(["build", "app.toml", "--variant", "php=8.4", "--variant", "kind=fpm"]));
    assert_eq!(images(&lab), ["app:1-8.4fpm"]);
    let text = format!("{HEAD}{OWN}");
    let (before, after) = text.split_once("[matrix]").expect("a matrix");
    let (_, after) = after.split_once("[base]").expect("a base");
    let vars = "[vars]\nphp = \"8.4\"\nkind = \"fpm\"\n[base]";
    lab.write("plain.toml", &format!("{before}{vars}{after}"));
    let plain = run(lab.command(["build", "plain.toml"]).env("BAKE_STORE", lab.path("other")));
    let plain = good(plain);
    assert_eq!(plain.out, built.out);
}

#[test]
fn a_variant_that_fails_fails_all() {
    let Some(lab) = lab() else { return };
    lab.write(
        "app.toml",
        &format!("{HEAD}{}", OWN.replace("contains = \"{{ php }} ", "contains = \"8.4 ")),
    );
    let failed = lab.bake(["build", "app.toml"]);
    assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{}", failed.err);
    assert!(failed.err.contains("app:1-8.2cli"), "{}", failed.err);
    assert!(failed.err.contains("this is the variant kind=cli,php=8.2"), "{}", failed.err);
    assert!(images(&lab).is_empty());
    // The others can be had.
    good(lab.bake(["build", "app.toml", "--variant", "php=8.4"]));
    assert_eq!(images(&lab), ["app:1-8.4cli", "app:1-8.4fpm"]);
}

#[test]
fn variants_of_one_name_or_that_are_not_there_are_mistakes() {
    let Some(lab) = lab() else { return };
    let bad = |args: &[&str], message: &str| {
        let failed = lab.bake(args.iter().copied());
        assert_eq!((failed.code, failed.out.as_str()), (2, ""), "{}", failed.err);
        assert!(failed.err.contains(message), "{message}: {}", failed.err);
    };
    let build = ["build", "app.toml"];
    bad(&[&build[..], &["--variant", "php=8.3"]].concat(), "no variant has php=8.3");
    bad(&[&build[..], &["--variant", "pph=8.2"]].concat(), "app.toml has no \"pph\"");
    bad(
        &[&build[..], &["--variant", "php=8.2", "--variant", "kind=fpm"]].concat(),
        "no variant has all",
    );
    bad(&[&build[..], &["--var", "php=8.2"]].concat(), "--variant php=8.2");
    bad(&[&build[..], &["--push", "127.0.0.1:1/app"]].concat(), "--push is for one image");
    lab.write("app.toml", &format!("{HEAD}{OWN}").replace("{{ php }}{{ kind }}\"", "{{ php }}\""));
    bad(&build, "app:1-8.4 comes from two variants: kind=cli,php=8.4 and kind=fpm,php=8.4");
    let failed = lab.bake(build);
    assert!(failed.err.contains("app.toml:4"), "{}", failed.err);
    // A place for each output.
    let output = "[[output]]\nformat = \"tar\"\npath = \"app.tar\"\n";
    lab.write("app.toml", &format!("{HEAD}{OWN}{output}"));
    bad(&build, "two outputs at app.tar");
    lab.write(
        "app.toml",
        &format!("{HEAD}{OWN}{}", output.replace("app.tar", "{{ php }}{{ kind }}.tar")),
    );
    good(lab.bake(build));
    assert!(["8.2cli.tar", "8.4cli.tar", "8.4fpm.tar"].iter().all(|name| lab.path(name).exists()));
    lab.write("plain.toml", "[image]\nname = \"p\"\nversion = \"1\"\n[base]\nscratch = true\n");
    bad(&["check", "plain.toml", "--variant", "php=8.2"], "plain.toml has no `[matrix]`");
}

#[test]
fn what_is_asked_of_a_recipe_is_answered_for_each_variant() {
    let Some(lab) = lab() else { return };
    let checked = good(lab.bake(["check", "app.toml", "--json"])).out;
    assert_eq!(checked.lines().count(), 3, "{checked}");
    assert!(checked.contains(r#""variant":{"kind":"cli","php":"8.2"}"#), "{checked}");
    let plan = good(lab.bake(["plan", "app.toml"])).out;
    assert!(plan.contains("app:1-8.2cli") && plan.contains("app:1-8.4fpm"), "{plan}");
    good(lab.bake(["build", "app.toml"]));
    lab.write(
        "app.toml",
        &format!("{HEAD}{}", OWN.replace("> /which", ">> /which").replace("app", "app2")),
    );
    let explained = good(lab.bake(["explain", "app.toml", "--variant", "php=8.4"])).out;
    assert!(!explained.contains("8.2cli"), "{explained}");
    assert_eq!(explained.matches("cached").count(), 4, "{explained}");
    // The record of each variant is its own: the step is another one, not a new one.
    assert_eq!(explained.matches("runs").count(), 2, "{explained}");
    assert!(!explained.contains("first"), "{explained}");
}

#[test]
fn a_recipe_stands_on_the_variant_that_its_variables_say() {
    let Some(lab) = lab() else { return };
    let site = |vars: &str| {
        format!(
            "[image]\nname = \"site\"\nversion = \"1\"\n{vars}[base]\nrecipe = \"app.toml\"\n\
            [[test]]\nfile = \"/which\"\ncontains = \"8.4 fpm\"\n"
        )
    };
    lab.write("site.toml", &site("[vars]\nphp = \"8.4\"\n"));
    let failed = lab.bake(["build", "site.toml"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    assert!(failed.err.contains("it makes several images: kind=cli,php=8.2 · "), "{}", failed.err);
    lab.write("site.toml", &site("[vars]\nphp = \"8.4\"\nkind = \"fpm\"\n"));
    good(lab.bake(["build", "site.toml"]));
    assert_eq!(images(&lab), ["site:1"]);
    // By its own matrix, along with what it stands on.
    lab.write(
        "site.toml",
        &site("[matrix]\nphp = [\"8.2\", \"8.4\"]\n")
            .replace("version = \"1\"", "version = \"{{ php }}-2\"")
            .replace("8.4 fpm", "{{ php }} cli")
            .replace("[base]", "[vars]\nkind = \"cli\"\n[base]"),
    );
    good(lab.bake(["build", "site.toml", "app.toml"]));
    let there =
        ["app:1-8.2cli", "app:1-8.4cli", "app:1-8.4fpm", "site:1", "site:8.2-2", "site:8.4-2"];
    assert_eq!(images(&lab), there);
}

#[test]
fn one_lock_file_has_a_part_for_each_variant() {
    let Some(lab) = lab() else { return };
    let base = "[image]\nname = \"base\"\nversion = \"1\"\n[base]\npath = \"root\"\n";
    lab.write("base.toml", base);
    good(lab.bake(["build", "base.toml"]));
    good(lab.bake(["build", "base.toml", "--set-version", "2"]));
    let app = "[image]\nname = \"app\"\nversion = \"{{ of }}\"\n[matrix]\nof = [1, 2]\n[base]\nimage = \"base:{{ of }}\"\n";
    lab.write("app.toml", app);
    let locked = lab.bake(["build", "app.toml", "--locked"]);
    assert_eq!(locked.code, 2, "{}", locked.err);
    good(lab.bake(["build", "app.toml", "--variant", "of=2"]));
    let half = fs::read_to_string(lab.path("app.lock")).expect("a lock file");
    assert!(half.contains("[build.\"of=2\".base]") && !half.contains("of=1"), "{half}");
    good(lab.bake(["build", "app.toml"]));
    let whole = fs::read_to_string(lab.path("app.lock")).expect("a lock file");
    assert!(
        whole.contains("[build.\"of=1\".base]") && whole.contains("[build.\"of=2\".base]"),
        "{whole}"
    );
    good(lab.bake(["build", "app.toml", "--locked"]));
    good(lab.bake(["lock", "app.toml"]));
    assert_eq!(fs::read_to_string(lab.path("app.lock")).expect("a lock file"), whole);
    // What is no variant any more goes.
    lab.write("app.toml", &app.replace("[1, 2]", "[2]"));
    good(lab.bake(["build", "app.toml", "--update"]));
    let left = fs::read_to_string(lab.path("app.lock")).expect("a lock file");
    assert!(!left.contains("of=1") && left.contains("of=2"), "{left}");
    lab.write("app.toml", &app.replace("[matrix]\nof = [1, 2]", "[vars]\nof = 2"));
    good(lab.bake(["build", "app.toml"]));
    let plain = fs::read_to_string(lab.path("app.lock")).expect("a lock file");
    assert!(!plain.contains("build.") && plain.contains("\n[base]\n"), "{plain}");
}
