//! `bake new --from` with Packer's templates: the recipe word for word, and what is remarked on.
//! `UPDATE_GOLDEN=1` writes the expectations anew.

use std::fs;
use std::path::{Path, PathBuf};

use bake::convert::{Converted, Error, Notation, Options, template};
use bake::recipe::{self, Inputs};
use bake::ui::diagnostic::render;
use proptest::prelude::*;

use crate::lab::{Lab, good};
use crate::tier;

fn directory(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/packer").join(kind)
}

fn options() -> Options {
    Options {
        file: "template".to_owned(),
        recipe: "recipe.toml".to_owned(),
        name: "app".to_owned(),
        ..Options::default()
    }
}

fn notation(path: &Path) -> Notation {
    match path.extension().is_some_and(|end| end == "hcl") {
        true => Notation::Hcl,
        false => Notation::Json,
    }
}

fn each(kind: &str, check: impl Fn(&str, &str, Notation) -> String, end: &str) {
    let mut names: Vec<PathBuf> =
        fs::read_dir(directory(kind)).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|end| end == "hcl" || end == "json"));
    names.sort();
    assert!(!names.is_empty());
    for path in names {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let found = check(name, &text, notation(&path));
        let golden = directory(kind).join(format!("{}.{end}", name.split('.').next().unwrap()));
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
fn templates_become_recipes() {
    let convert = |name: &str, text: &str, notation| {
        let options = Options { debian: name.starts_with("web"), ..options() };
        let Converted { recipe, remarks } = template(text, notation, &options).expect(name);
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
fn mistakes_of_templates_have_their_lines() {
    let convert = |name: &str, text: &str, notation| match template(text, notation, &options()) {
        Err(error @ (Error::Template(_) | Error::Recipe(_))) => {
            let (Error::Template(found) | Error::Recipe(found)) = &error else { unreachable!() };
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
    for notation in [Notation::Hcl, Notation::Json] {
        let Ok(Converted { recipe, .. }) = template(text, notation, &options()) else { continue };
        let inputs = Inputs { file: "x.toml".into(), arch: "amd64".into(), ..Inputs::default() };
        if let Err(mistakes) = recipe::read(&recipe, &inputs) {
            // A variable that has to be given has no value here.
            assert!(
                mistakes.iter().all(|one| one.message.contains("has no value")),
                "{mistakes:?}"
            );
        }
    }
}

#[test]
fn templates_cut_at_every_byte_never_panic() {
    for name in ["web.pkr.hcl", "machine.pkr.hcl", "legacy.json", "json.pkr.json"] {
        let path = directory("good").join(name);
        let text = fs::read_to_string(&path).unwrap();
        let json = notation(&path) == Notation::Json;
        for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            // JSON that is cut at its end is no JSON at all; a value that is gone is.
            let cut = match json {
                true => format!("{}{}", &text[..at], &text[text.len().min(at + 1)..]),
                false => text[..at].to_owned(),
            };
            let _ = template(&cut, notation(&path), &options());
        }
    }
}

/// What nests, refers to itself or grows without end is refused or left out, and soon.
#[test]
fn hostile_templates_end() {
    let nest = |open: &str, close: &str, count: usize| {
        format!("x = {}1{}", open.repeat(count), close.repeat(count))
    };
    let source = "source \"docker\" \"a\" {\n  image = \"debian:12\"\n}\n";
    let build = |inline: &str| {
        format!(
            "{source}build {{\n sources = [\"source.docker.a\"]\n provisioner \"shell\" {{\n  \
                inline = [{inline}]\n }}\n}}\n"
        )
    };
    for count in [10, 1000, 100_000] {
        for (open, close) in
            [("(", ")"), ("[", "]"), ("{a=", "}"), ("\"${", "}\""), ("!", ""), ("-", "")]
        {
            survive(&nest(open, close, count));
        }
        survive(&format!("{}{}", "[".repeat(count), "]".repeat(count)));
        survive(&format!("{{\"builders\":{}{}}}", "[".repeat(count), "]".repeat(count)));
        survive(&format!("{}{}", "a {\n".repeat(count), "}\n".repeat(count)));
        survive(&build(&vec!["1"; count.min(3000)].join(" == ")));
        survive(&build(&vec!["true"; count.min(3000)].join(" ? 1 : ")));
    }
    // Locals that double themselves, and those in a circle.
    for piece in
        ["\"${local.lN}${local.lN}\"", "[local.lN, local.lN]", "concat([local.lN], [local.lN])"]
    {
        let mut text = build("local.l0");
        text.push_str("locals {\n");
        for n in 0..200 {
            text.push_str(&format!("  l{n} = {}\n", piece.replace('N', &(n + 1).to_string())));
        }
        text.push_str("  l200 = \"\"\n}\n");
        survive(&text);
    }
    survive(&format!("{}locals {{\n a = local.b\n b = \"${{local.a}}\"\n}}\n", build("local.a")));
    survive(&build("\"{{{{user `x`}}\", \"{{\", \"}}\", \"{{`\", 1e999999, 0x10"));
    survive("{\"builders\":[{\"type\":\"docker\",\"image\":1e99999}],\"builders\":[]}");
    survive("\u{feff}{\r\n\"builders\":[{\"type\":7}],\"provisioners\":[7,\"shell\",{}]}\r\n");
}

fn word() -> impl Strategy<Value = String> {
    let words = [
        "source",
        "build",
        "\"docker\"",
        "\"a\"",
        "{",
        "}",
        "\n",
        "=",
        "[",
        "]",
        "\"",
        "${",
        "var.x",
        "local.x",
        "variable",
        "locals",
        "provisioner",
        "\"shell\"",
        "inline",
        "\"{{user `x`}}\"",
        "image",
        "\"debian:12\"",
        "<<EOF",
        "EOF",
        "#",
        "?",
        ":",
        "(",
        ")",
        "join",
        ",",
        "é",
        "\\",
        "sources = [\"source.docker.a\"]",
        "\"file\"",
        "source = \"a\"",
        "destination = \"/tmp/b\"",
        "sensitive = true",
        "true",
        "null",
        "1",
        "\u{feff}",
        "\r\n",
    ];
    prop_oneof![
        8 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_words_of_templates_never_panic(words in proptest::collection::vec(word(), 0..60)) {
        survive(&words.join(" "));
        let text = words.join(" ");
        survive(&format!(
            "source \"docker\" \"a\" {{\n image = \"debian:12\"\n}}\nbuild {{\n \
                sources = [\"docker.a\"]\n{text}\n}}"
        ));
    }

    /// One value of a template in JSON is another one.
    #[test]
    fn other_values_never_panic(at in 0_usize..60, with in 0_usize..7) {
        let text = fs::read_to_string(directory("good").join("legacy.json")).unwrap();
        let with = ["null", "[]", "{}", "7", "\"\"", "true", "\"{{user `image`}} a\""][with];
        let quotes: Vec<usize> = text.match_indices('"').map(|(at, _)| at).collect();
        let pair = quotes.chunks_exact(2).nth(at).unwrap();
        let changed = format!("{}{with}{}", &text[..pair[0]], &text[pair[1] + 1..]);
        survive(&changed);
    }
}

#[test]
fn templates_are_found_and_written_like_dockerfiles() {
    let lab = Lab::new();
    lab.write(
        "shop/web.pkr.hcl",
        "source \"docker\" \"web\" {\n  image = \"debian:12\"\n}\n\
            build {\n  sources = [\"source.docker.web\"]\n}\n",
    );
    let made = good(lab.bake(["new", "--from", "shop"]));
    assert_eq!(made.out, "shop/recipe.toml\n");
    good(lab.bake(["check", "shop/recipe.toml"]));
    lab.write("shop/other.pkr.hcl", "");
    let run = lab.bake(["new", "--from", "shop"]);
    assert_eq!(run.code, 2, "{}", run.err);
    assert!(
        run.err.contains("several templates") && run.err.contains("web.pkr.hcl"),
        "{}",
        run.err
    );
    lab.write(
        "old.json",
        "{ \"builders\": [{ \"type\": \"docker\", \"image\": \"debian:12\" }],\n\
            \"provisioners\": [{ \"type\": \"shell-local\", \"command\": \"x\" }] }\n",
    );
    let run = lab.bake(["new", "web", "--from", "old.json", "--output", "-"]);
    assert_eq!(run.code, 3, "{}", run.err);
    assert!(
        run.err.contains("old.json:2: the provisioner `shell-local` is left out"),
        "{}",
        run.err
    );
    assert!(run.err.contains("not all that the template is"), "{}", run.err);
    let target = ["new", "web", "--from", "old.json", "--output", "-", "--target", "none"];
    let run = lab.bake(target);
    assert!(run.code == 2 && run.err.contains("there is no source `none`"), "{}", run.err);
}

/// The root is what the template says.
#[test]
fn a_template_is_built() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    let root = lab.tiny_root();
    let mut tar = tar::Builder::new(fs::File::create(lab.path("root.tar")).unwrap());
    tar.follow_symlinks(false);
    tar.append_dir_all(".", &root).unwrap();
    tar.finish().unwrap();
    lab.write(
        "base.toml",
        "[image]\nname = \"base\"\nversion = \"1\"\n[base]\npath = \"root.tar\"\n",
    );
    good(lab.bake(["build", "base.toml"]));
    good(lab.bake(["export", "base:1", "-f", "oci", "-o", "layout"]));
    lab.write("site/a.txt", "a\n");
    lab.write("setup/b.txt", "b\n");
    lab.write("one.txt", "one\n");
    lab.write(
        "work.sh",
        "#!/bin/sh -e\ncat /tmp/setup/b.txt > /from-script\necho \"$WORD\" >> /from-script\n",
    );
    lab.write(
        "web.pkr.hcl",
        r#"
variable "word" {
  default = "hello"
}
locals {
  both = "${var.word} ${upper("x")} {{build_name}}"
}
source "docker" "web" {
  image   = "./layout"
  changes = ["CMD [\"serve\"]", "ENV A=b"]
}
build {
  sources = ["source.docker.web"]
  provisioner "shell" {
    inline = ["A=1", "mkdir -p /srv/www", "echo '${local.both}' $A $UNSET > /words"]
  }
  provisioner "file" {
    sources     = ["site"]
    destination = "/srv/www/"
  }
  provisioner "file" {
    source      = "site/"
    destination = "/srv/flat"
  }
  provisioner "file" {
    source      = "one.txt"
    destination = "/srv/www/"
  }
  provisioner "file" {
    content     = "${var.word}
"
    destination = "/srv/content"
  }
  provisioner "file" {
    source      = "setup"
    destination = "/tmp/"
  }
  provisioner "shell" {
    environment_vars = ["WORD=${var.word}"]
    script           = "work.sh"
  }
  provisioner "shell" {
    env    = { SECRET = var.token }
    inline = ["test -n \"$SECRET\"", "echo ok > /secret-seen"]
  }
}
variable "token" {
  sensitive = true
}
"#,
    );
    let run = lab.bake(["new", "tiny", "--from", "web.pkr.hcl"]);
    // What user and directory the base has is not known.
    assert_eq!(run.code, 3, "{}", run.err);
    assert!(run.err.contains("1 remark:"), "{}", run.err);
    lab.write("token", "s3cretive-value");
    good(lab.bake(["build", "recipe.toml", "--secret", "token=file:token"]));
    good(lab.bake(["export", "tiny:0.1.0", "-f", "dir", "--drop-owners", "-o", "exported"]));
    for (path, content) in [
        ("words", "hello X web 1\n"),
        ("srv/www/site/a.txt", "a\n"),
        ("srv/flat/a.txt", "a\n"),
        ("srv/www/one.txt", "one\n"),
        ("srv/content", "hello\n"),
        ("from-script", "b\nhello\n"),
        ("secret-seen", "ok\n"),
    ] {
        let at = lab.path("exported").join(path);
        let found = fs::read_to_string(at).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(found, content, "{path}");
    }
    for path in ["tmp/setup", "mnt", "tmp/packer-script"] {
        assert!(!lab.path("exported").join(path).exists(), "{path}");
    }
    let shown = good(lab.bake(["show", "--json", "tiny:0.1.0"]));
    let config = &shown.objects("show")[0]["config"];
    assert_eq!(config["Cmd"], serde_json::json!(["serve"]), "{config}");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/bin/sh"]), "{config}");
}
