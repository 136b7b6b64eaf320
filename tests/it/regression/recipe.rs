//! What was once reported wrong, as tests of what must hold: recipe.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bake::recipe::{self, Diagnostic, Inputs, Recipe};

use crate::lab::Lab;

const HEAD: &str = "[image]\nname = 'x'\nversion = '1'\n[base]\nscratch = true\n";

fn read(rest: &str) -> Result<Recipe, Vec<Diagnostic>> {
    let inputs =
        Inputs { file: PathBuf::from("x.toml"), arch: "amd64".into(), ..Inputs::default() };
    recipe::read(&format!("{HEAD}{rest}"), &inputs)
}

/// B7: each of these blocked for ever, or took all memory.
#[test]
fn a_recipe_a_vars_file_and_a_lock_file_are_regular_files() {
    let lab = Lab::new();
    let good = lab.write("good.toml", HEAD);
    let fifo = lab.path("fifo.toml");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .expect("a FIFO");
    symlink("/dev/zero", lab.path("zero.toml")).expect("a symlink");
    symlink("fifo.toml", good.with_extension("lock")).expect("a symlink");
    for (args, named) in [
        (&["check", "fifo.toml"][..], "fifo.toml"),
        (&["check", "zero.toml"][..], "zero.toml"),
        (&["fmt", "fifo.toml"][..], "fifo.toml"),
        (&["check", "good.toml", "--vars-file", "fifo.toml"][..], "fifo.toml"),
        (&["check", "good.toml", "--vars-file", "zero.toml"][..], "zero.toml"),
        (&["lock", "good.toml"][..], "good.lock"),
    ] {
        let run = lab.bake(args.iter().copied());
        assert_ne!(run.code, 0, "{args:?}");
        assert!(run.err.contains(named), "{args:?}: {}", run.err);
        assert!(run.err.contains("not a regular file"), "{args:?}: {}", run.err);
    }
    assert_eq!(fs::read_to_string(&good).expect("our own file"), HEAD);
}

/// What takes more than this in a template has no limit.
const SOON: Duration = Duration::from_secs(30);

/// B8: each took gigabytes, minutes, or the whole process.
#[test]
fn expressions_end_soon_and_small() {
    let before = Instant::now();
    for text in [
        "{{ '%999999999d' | format(1) | length }}",
        "{{ 'aaaaaaaaaa' | replace('a', 'aaaaaaaaaa') | replace('a', 'a' * 1000) | replace('a', 'a' * 10000) | length }}",
        "{{ ('a' * 100000000) | length }}",
        "{{ ('a' * 50000000) ~ ('a' * 50000000) | length }}",
        "{{ 'a' | indent(999999999, true) | length }}",
    ] {
        let found = read(&format!("[[step]]\nrun = \"{text}\"\n")).expect_err(text);
        assert!(found[0].message.contains("too much"), "{text}: {}", found[0].message);
        assert_eq!(found[0].line, 7, "{text}");
    }
    assert!(before.elapsed() < SOON);
}

/// B8
#[test]
fn templates_end_soon_and_small() {
    let before = Instant::now();
    for text in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(100000) %}text{% endfor %}{% endfor %}",
        "{{ '%999999999d' | format(1) }}",
        "{% set n = namespace(x='aaaaaaaa') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x | length }}",
        "{% set n = namespace(x='aaaaaaaa') %}{% for a in range(60) %}{% set n.x = n.x | replace('a', 'aa') %}{% endfor %}",
        "{% macro m(n) %}{% for a in range(100) %}{{ n }}{% if n %}{{ m(n - 1) }}{% endif %}{% endfor %}{% endmacro %}{{ m(50) }}",
    ] {
        let found = recipe::render_template(text, Path::new("x.j2"), &[].into()).expect_err(text);
        assert!(found.message.contains("too much"), "{text}: {}", found.message);
    }
    assert!(before.elapsed() < SOON);
}

/// B8: what people do write goes through.
#[test]
fn a_large_template_of_a_person_is_rendered() {
    let text = format!(
        "{}{{% for n in range(1000) %}}server_{{{{ n }}}};\n{{% endfor %}}",
        "# a line of configuration\n".repeat(50_000)
    );
    let rendered = recipe::render_template(&text, Path::new("x.j2"), &[].into());
    assert!(rendered.expect("a template").ends_with("server_999;\n"));
}

/// D11
#[test]
fn a_command_too_long_for_the_kernel_is_found_by_check() {
    let found = read(&format!("[[step]]\nrun = '{}'\n", "x".repeat(128 * 1024))).expect_err("long");
    assert!(found[0].help.as_ref().is_some_and(|help| help.contains("script")), "{found:?}");
    assert_eq!(found[0].line, 7);
    read(&format!("[[step]]\nrun = '{}'\n", "x".repeat(128 * 1024 - 1))).expect("it fits");
}

/// E2
#[test]
fn what_is_put_where_nothing_stays_is_warned_of() {
    let warned = |step: &str| {
        let recipe = read(&format!("[[step]]\n{step}\n")).expect(step);
        recipe.warnings.iter().any(|one| one.message.contains("will not be in the image"))
    };
    for step in [
        "mkdir = '/tmp/x'",
        "file = '/run/x.pid'\ncontent = ''",
        "copy = 'a'\nto = '/tmp/'",
        "template = 'a'\nto = '/run/a'",
        "symlink = '/run/a'\ntarget = '/b'",
        "download = 'https://example.org/a'\nto = '/./tmp//a'",
    ] {
        assert!(warned(step), "{step}");
    }
    for step in ["mkdir = '/run/x'", "mkdir = '/var/tmp/x'", "file = '/runner'\ncontent = ''"] {
        assert!(!warned(step), "{step}");
    }
}

/// D12
#[test]
fn ports_may_be_ranges() {
    let recipe = read("[config]\nports = [80, '8000-8002/udp']\n").expect("ports");
    assert_eq!(recipe.config.ports, ["80/tcp", "8000/udp", "8001/udp", "8002/udp"]);
}
