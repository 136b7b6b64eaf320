//! `bake new --from`: the recipe of a Dockerfile word for word, and what is remarked on.
//! `UPDATE_GOLDEN=1` writes the expectations anew.

use std::fs;
use std::path::{Path, PathBuf};

use bake::convert::{Converted, Error, Options, dockerfile};
use bake::recipe::{self, Inputs};
use bake::ui::diagnostic::render;
use proptest::prelude::*;

use crate::lab::{Lab, good};

fn directory(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dockerfiles").join(kind)
}

fn options() -> Options {
    Options {
        file: "Dockerfile".to_owned(),
        recipe: "recipe.toml".to_owned(),
        name: "app".to_owned(),
        ..Options::default()
    }
}

fn each(kind: &str, check: impl Fn(&str, &str) -> String, end: &str) {
    let mut names: Vec<PathBuf> =
        fs::read_dir(directory(kind)).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|end| end == "Dockerfile"));
    names.sort();
    assert!(!names.is_empty());
    for path in names {
        let text = fs::read_to_string(&path).unwrap();
        let found = check(path.file_stem().unwrap().to_str().unwrap(), &text);
        let golden = path.with_extension(end);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &found).unwrap();
            continue;
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert!(
            found == expected,
            "{} differs (UPDATE_GOLDEN=1 accepts it)\n--- found\n{found}",
            golden.display()
        );
    }
}

#[test]
fn dockerfiles_become_recipes() {
    let convert = |name: &str, text: &str| {
        let options = Options { debian: name == "web", ..options() };
        let Converted { recipe, remarks } = dockerfile(text, &options).expect(name);
        assert_eq!(recipe::format(&recipe, Path::new("x.toml")).expect("TOML"), recipe, "{name}");
        let mut out = recipe;
        out.push_str("\n# ---- remarks\n");
        for one in remarks {
            let note = if one.harmless { "note" } else { "remark" };
            out += &format!("# {} {} {note}: {}\n", one.line, one.topic, one.message);
        }
        out
    };
    each("good", convert, "toml");
}

#[test]
fn mistakes_have_their_lines() {
    let convert = |name: &str, text: &str| match dockerfile(text, &options()) {
        Err(error @ (Error::Dockerfile(_) | Error::Recipe(_))) => {
            let (Error::Dockerfile(found) | Error::Recipe(found)) = &error else { unreachable!() };
            let place = |one: &recipe::Diagnostic| one.source.get(one.span.clone()).is_some();
            assert!(found.iter().all(place), "{name}");
            format!("{}\n{error}\n", render(found, false))
        }
        other => panic!("{name}: {other:?}"),
    };
    each("bad", convert, "txt");
}

/// What comes out is right by the parser, whatever goes in.
fn survive(text: &str) {
    let Ok(Converted { recipe, .. }) = dockerfile(text, &options()) else { return };
    let inputs = Inputs { file: "x.toml".into(), arch: "amd64".into(), ..Inputs::default() };
    if let Err(mistakes) = recipe::read(&recipe, &inputs) {
        // A variable that has to be given has no value here.
        assert!(mistakes.iter().all(|one| one.message.contains("has no value")), "{mistakes:?}");
    }
}

/// Words of which Dockerfiles are made, and some that are none.
fn word() -> impl Strategy<Value = String> {
    let words = [
        "FROM",
        "RUN",
        "COPY",
        "ADD",
        "ENV",
        "ARG",
        "a",
        "b=c",
        "$A",
        "${A:-b}",
        "${A%x}",
        "{{ A }}",
        "--from=a",
        "--mount=type=cache,target=/x",
        "--chown=a",
        "AS",
        "scratch",
        "debian:12",
        "<<EOF",
        "EOF",
        "\n",
        "\n",
        "\\\n",
        "#",
        "\"",
        "'",
        "[\"a\"]",
        "/tmp/x",
        ".",
        "*",
        "USER",
        "WORKDIR",
        "/x/",
        "apt-get update && apt-get install -y aa",
        "HEALTHCHECK",
        "CMD",
        "ONBUILD",
        "\u{feff}",
        "\r\n",
        "é",
        "LABEL",
        "SHELL",
    ];
    prop_oneof![
        8 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_words_never_panic(words in proptest::collection::vec(word(), 0..60)) {
        survive(&format!("FROM scratch\n{}", words.join(" ")));
        survive(&words.join(" "));
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        survive(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn cut_dockerfiles_never_panic(at in 0_usize..3000, seed in 0_usize..3) {
        let names = ["web", "stages", "remarks"];
        let path = directory("good").join(format!("{}.Dockerfile", names[seed]));
        let text = fs::read_to_string(path).unwrap();
        survive(&text[..text.floor_char_boundary(at.min(text.len()))]);
        survive(&text[text.ceil_char_boundary(at.min(text.len()))..]);
    }
}

#[test]
fn the_recipe_is_written_once_and_where_it_belongs() {
    let lab = Lab::new();
    lab.write("shop/Dockerfile", "FROM scratch\nCOPY a /a\n");
    lab.write("shop/a", "a");
    let made = good(lab.bake(["new", "--from", "shop/Dockerfile"]));
    assert_eq!((made.out.as_str(), made.err.as_str()), ("shop/recipe.toml\n", ""));
    let recipe = fs::read_to_string(lab.path("shop/recipe.toml")).unwrap();
    assert!(recipe.contains("name = \"shop\"") && !recipe.contains("context"), "{recipe}");
    let again = lab.bake(["new", "--from", "shop/Dockerfile"]);
    assert_eq!(again.code, 2);
    assert!(again.err.contains("exists already; nothing was written"), "{}", again.err);
    // Elsewhere the context is named.
    good(lab.bake(["new", "other", "--from", "shop/Dockerfile", "--output", "recipes/new"]));
    let recipe = fs::read_to_string(lab.path("recipes/new/recipe.toml")).unwrap();
    assert!(recipe.contains("name = \"other\"") && recipe.contains("\"../../shop\""), "{recipe}");
    good(lab.bake(["new", "--from", "shop/Dockerfile", "--output", "recipes/shop.toml"]));
    good(lab.bake(["check", "recipes/shop.toml", "recipes/new/recipe.toml", "shop"]));
    let printed = good(lab.bake(["new", "--from", "shop/Dockerfile", "--output", "-"]));
    assert!(printed.out.starts_with("# Made from shop/Dockerfile"), "{}", printed.out);
}

#[test]
fn what_is_left_out_is_reported() {
    let lab = Lab::new();
    lab.write("Dockerfile", "FROM scratch AS a\nONBUILD COPY . /\nFROM a\nONBUILD RUN x\n");
    let run = lab.bake(["new", "web", "--from", "Dockerfile"]);
    assert_eq!(run.code, 3, "{}", run.err);
    assert!(run.err.starts_with("Dockerfile:4: `ONBUILD` is left out"), "{}", run.err);
    assert!(run.err.contains("1 remark"), "{}", run.err);
    let json = lab.bake(["--json", "new", "web", "--from", "Dockerfile", "--output", "x.toml"]);
    assert_eq!(json.code, 3);
    let remark = &json.objects("remark")[0];
    assert_eq!((remark["line"].as_u64(), remark["topic"].as_str()), (Some(4), Some("onbuild")));
    // A mistake: its place, and nothing is written.
    lab.write("bad/Dockerfile", "FROM scratch\nRNU x\n");
    let run = lab.bake(["new", "--from", "bad/Dockerfile"]);
    assert_eq!(run.code, 2, "{}", run.err);
    assert!(run.err.contains("bad/Dockerfile:2:1") && run.err.contains("`RUN`?"), "{}", run.err);
    assert!(!lab.path("bad/recipe.toml").exists());
    fs::write(lab.path("bad/Dockerfile"), b"FROM scratch\nENV A=\xff\n").unwrap();
    let run = lab.bake(["new", "--from", "bad"]);
    assert!(
        run.code == 2 && run.err.contains("Dockerfiles and templates are UTF-8"),
        "{}",
        run.err
    );
    assert!(run.err.contains("bad/Dockerfile:2:7"), "{}", run.err);
    let missing = lab.bake(["new", "--from", "none/Dockerfile"]);
    assert!(missing.code == 2 && missing.err.contains("cannot read"), "{}", missing.err);
}

#[test]
fn files_of_the_context_are_looked_at() {
    let lab = Lab::new();
    lab.write(
        "Dockerfile",
        "FROM scratch\nCOPY package.json yarn.lock* /app/\nCOPY link /app/\nADD no.tar.gz /app/\n\
            COPY src /app\nCOPY one /app\n",
    );
    for name in ["package.json", "no.tar.gz", "src/x", "one"] {
        lab.write(name, name);
    }
    lab.write("Dockerfile.dockerignore", "x\n");
    std::os::unix::fs::symlink("one", lab.path("link")).unwrap();
    let run = lab.bake(["new", "web", "--from", "Dockerfile", "--output", "-"]);
    assert_eq!(run.code, 3, "{}", run.err);
    for part in [
        "note: nothing is called `yarn.lock*`",
        "Dockerfile:3: `link` is a symlink",
        "Dockerfile.dockerignore is not read",
    ] {
        assert!(run.err.contains(part), "{part}: {}", run.err);
    }
    // `/app` is a directory: a file goes into it.
    assert!(run.out.contains("copy = \"one\"\nto = \"/app/\""), "{}", run.out);
    assert!(run.out.contains("copy = \"no.tar.gz\""), "{}", run.out);
}

#[test]
fn another_stage_may_become_the_image() {
    let text =
        "FROM scratch AS one\nCOPY a /a\nFROM one AS two\nCOPY b /b\nFROM scratch\nCOPY c /c\n";
    let of = |target: &str| {
        let options = Options { target: Some(target.to_owned()), ..options() };
        dockerfile(text, &options).map(|found| found.recipe)
    };
    let two = of("TWO").unwrap();
    assert!(two.contains("stage = \"one\"") && two.contains("/b") && !two.contains("/c"), "{two}");
    assert!(of("0").unwrap().contains("/a"));
    let Err(Error::Dockerfile(found)) = of("three") else { panic!() };
    assert_eq!(found[0].message, "there is no stage `three`");
}
