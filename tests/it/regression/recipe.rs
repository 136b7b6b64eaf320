//! What was once reported wrong, as tests of what must hold: recipe.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bake::recipe::{self, Diagnostic, Inputs, Recipe};
use bake::step::{Op, Service};

use crate::lab::Lab;
use crate::tier;

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

/// B8: what each may cost is bounded, and so is what all of them may.
#[test]
fn a_recipe_has_not_any_number_of_expressions() {
    let steps = |count: usize| "[[step]]\nrun = \"{{ arch }}{{ arch }}\"\n".repeat(count / 2);
    read(&steps(9_000)).expect("more than any person writes");
    let found = read(&steps(10_100)).expect_err("too many");
    assert!(found[0].message.contains("more than 10000 expressions"), "{}", found[0].message);
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

/// D13: a recipe with other mistakes names its missing files too, in one run.
#[test]
fn all_mistakes_are_found_at_once_missing_files_too() {
    let lab = Lab::new();
    lab.write(
        "x.toml",
        "[image]\nname = 'X'\nversion = '1'\n[base]\npath = 'no-base'\n[[step]]\nrum = 'x'\n\
         [[step]]\ncopy = 'no-copy'\nto = '/a'\n[[step]]\nscript = 'no-script'\n\
         [[step]]\ntemplate = 'no-template'\nto = 'relative'\n[[test]]\nscript = 'no-test'\n",
    );
    let run = lab.bake(["check", "x.toml"]);
    assert_eq!(run.code, 2, "{}", run.err);
    for found in [
        "is not an image name",
        "no-base",
        "\"rum\"",
        "no-copy",
        "no-script",
        "relative",
        "no-test",
    ] {
        assert!(run.err.contains(found), "{found}: {}", run.err);
    }
    let lines: Vec<usize> = run
        .err
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--> x.toml:")?.split(':').next()?.parse().ok())
        .collect();
    assert!(lines.len() >= 7 && lines.is_sorted(), "{lines:?}\n{}", run.err);
    // A variable without a value is no mistake of a template that uses it.
    lab.write("a.j2", "{{ needed }}");
    lab.write(
        "y.toml",
        &format!("{HEAD}[vars]\nneeded = {{}}\n[[step]]\ntemplate = 'a.j2'\nto = '/a'\n"),
    );
    let run = lab.bake(["check", "y.toml"]);
    assert!(run.err.contains("1 mistake") && run.err.contains("has no value"), "{}", run.err);
}

/// E11: what is wrong on the command line is not called a mistake of the recipe.
#[test]
fn a_mistake_of_the_command_line_is_counted_there() {
    let lab = Lab::new();
    lab.write("x.toml", HEAD);
    let run = lab.bake(["check", "x.toml", "--var", "colour=red"]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("the command line has 1 mistake"), "{}", run.err);
    lab.write("y.toml", &format!("{HEAD}[vars]\nport = 80\n[[step]]\nmkdir = 'x'\n"));
    let run = lab.bake(["check", "y.toml", "--var", "port=x"]);
    assert!(run.err.contains("y.toml and the command line have 2 mistakes"), "{}", run.err);
    lab.write("vars.toml", "port = 'x'\n");
    let run = lab.bake(["check", "y.toml", "--vars-file", "vars.toml"]);
    assert!(run.err.contains("y.toml and vars.toml have 2 mistakes"), "{}", run.err);
}

/// E11: it was reported as a missing interpreter, after the steps before it had run.
#[test]
fn a_script_whose_lines_end_in_cr_lf_is_called_that() {
    let lab = Lab::new();
    lab.write("x.sh", "#!/bin/sh\r\necho hello\r\n");
    lab.write("no-line.sh", "echo hello\r\n");
    lab.write("fine.sh", "#!/bin/sh\nprintf 'a\\r\\n'\n");
    for step in ["[[step]]", "[[test]]"] {
        for (script, bad) in [("x.sh", true), ("no-line.sh", true), ("fine.sh", false)] {
            lab.write("x.toml", &format!("{HEAD}{step}\nscript = '{script}'\n"));
            let run = lab.bake(["check", "x.toml"]);
            assert_eq!(run.code, if bad { 2 } else { 0 }, "{step} {script}: {}", run.err);
            assert_eq!(run.err.contains("end in CR LF"), bad, "{step} {script}: {}", run.err);
        }
    }
}

/// E15: several commands have names, and a list of strings that cannot be one command is refused.
#[test]
fn a_test_may_start_several_commands() {
    let start = |text: &str| {
        let test = format!("[config]\ncmd = ['a']\n[[test]]\nrun = 'x'\nstart{text}\n");
        read(&test).map(|mut recipe| recipe.tests.remove(0))
    };
    let shell = |text: &str| ["/bin/sh", "-eu", "-c", text].map(str::to_owned).to_vec();
    let test =
        start(" = { web = true, db = 'redis-server --port 1', x = ['a', 'b'] }").expect("it");
    assert_eq!(test.names, ["web", "db", "x"]);
    assert_eq!(
        test.start,
        [
            Service::Config,
            Service::Argv(shell("redis-server --port 1")),
            Service::Argv(vec!["a".into(), "b".into()])
        ]
    );
    let test = start(" = [true, 'redis-server --port 1']").expect("several");
    assert_eq!(test.start, [Service::Config, Service::Argv(shell("redis-server --port 1"))]);
    assert!(test.names.is_empty());
    let test = start(" = ['a', 'b c']").expect("one command");
    assert_eq!(test.start, [Service::Argv(vec!["a".into(), "b c".into()])]);
    let found = start(" = ['a -x', 'b -y']").expect_err("no program is called so");
    assert!(found[0].help.as_ref().is_some_and(|help| help.contains("table")), "{found:?}");
    for bad in [" = {}", " = { web = false }", " = { 'W b' = 'x' }", " = [true, 1]"] {
        assert!(start(bad).is_err(), "{bad}");
    }
}

/// E19: one step may have several targets, which stand on the left.
#[test]
fn a_step_may_have_several_targets() {
    let all = |recipe: Recipe| -> Vec<Op> {
        recipe.steps.into_iter().flat_map(|step| step.ops).collect()
    };
    let ops = |step: &str| all(read(&format!("[[step]]\n{step}\n")).expect(step));
    let pairs = [
        (
            "copy.'/b/' = ['x', 'y']\ncopy.'/a' = 'z'\nmode = '0600'",
            "[[step]]\ncopy = ['x', 'y']\nto = '/b/'\nmode = '0600'\n[[step]]\ncopy = 'z'\nto = '/a'\nmode = '0600'\n",
        ),
        (
            "template = { '/b' = 'x.j2', '/{{ name }}' = 'y.j2' }\nowner = '1:1'",
            "[[step]]\ntemplate = 'x.j2'\nto = '/b'\nowner = '1:1'\n[[step]]\ntemplate = 'y.j2'\nto = '/x'\nowner = '1:1'\n",
        ),
        (
            "file.'/b' = 'text'\nfile.'/a' = ''",
            "[[step]]\nfile = '/b'\ncontent = 'text'\n[[step]]\nfile = '/a'\ncontent = ''\n",
        ),
        (
            "symlink.'/b' = 'x'\nsymlink.'/a' = '/y'",
            "[[step]]\nsymlink = '/b'\ntarget = 'x'\n[[step]]\nsymlink = '/a'\ntarget = '/y'\n",
        ),
    ];
    for (short, long) in pairs {
        let long = all(read(long).expect(long));
        assert_eq!(ops(short), long, "{short}");
        let text = format!("{HEAD}[[step]]\n{short}\n");
        let formatted = recipe::format(&text, Path::new("x.toml")).expect("TOML");
        let again = recipe::read(&formatted, &Inputs::default()).expect("a recipe");
        assert_eq!(all(again), long, "{formatted}");
    }
}

/// E19: mistakes are placed where they are.
#[test]
fn targets_are_checked_like_other_keys() {
    for (step, line, message) in [
        ("copy = {}", 7, "an empty table"),
        ("copy.'a' = 'x'", 7, "relative path \"a\""),
        ("copy.'/a' = '/x'", 7, "absolute path \"/x\""),
        ("copy.'/a' = ['x', 'y']", 7, "several sources"),
        ("copy.'/a' = 1", 7, "expected a string or a list of strings"),
        ("copy.'/a' = 'x'\nto = '/b'", 8, "`to` beside a table"),
        ("file.'/a' = 'x'\ncontent = 'y'", 8, "`content` beside a table"),
        ("symlink.'/a' = ['x']", 7, "expected a string"),
        ("template.'/{{ nmae }}' = 'x'", 7, "unknown variable `nmae`"),
        ("copy = 'x'", 7, "without `to`"),
        ("file = '/a'", 7, "without `content`"),
    ] {
        let found = read(&format!("[[step]]\n{step}\n")).expect_err(step);
        assert_eq!((found.len(), found[0].line), (1, line), "{step}: {found:?}");
        assert!(found[0].message.contains(message), "{step}: {}", found[0].message);
    }
    let warned = read("[[step]]\nsymlink.'/tmp/a' = 'x'\n").expect("a warning only").warnings;
    assert!(warned[0].message.contains("will not be in the image"), "{warned:?}");
}

/// E11: the same of a program of the image, where it is started.
#[test]
fn userns_a_program_whose_lines_end_in_cr_lf_is_called_that() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    let steps =
        "[[step]]\nfile.'/x' = \"#!/bin/sh\\r\\n\"\nmode = '0755'\n[[step]]\nrun = ['/x']\n";
    lab.write("x.toml", &format!("{HEAD}{steps}"));
    let run = lab.bake(["build", "x.toml"]);
    assert_ne!(run.code, 0);
    assert!(run.err.contains("its lines end in CR LF"), "{}", run.err);
}

/// E13: `bake new` brings the JSON Schema; a copy of everything leaves it out like the recipe.
#[test]
fn the_schema_of_a_recipe_is_no_content_of_the_image() {
    let lab = Lab::new();
    lab.write("recipe.schema.json", "{}");
    lab.write("a", "x");
    let recipe = format!("#:schema ./recipe.schema.json\n{HEAD}[[step]]\ncopy.'/' = '.'\n");
    let path = lab.write("x.toml", &recipe);
    let look = || {
        let looked = bake::inputs::look_over(&path, &Inputs::default()).expect("a recipe");
        let list = looked.context.list(&looked.recipe.steps[0].ops[0]).expect("files");
        list.iter().any(|one| format!("{one:?}").contains("recipe.schema.json"))
    };
    assert!(!look());
    lab.write("x.toml", &recipe.replace("./recipe", "./other"));
    assert!(look(), "another file of that name is one like any other");
}

/// E19: and they are baked; each target of a copy is a layer of its own.
#[test]
fn userns_steps_with_several_targets_are_baked() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.write("a", "text of a");
    lab.write("d/b", "text of b");
    lab.write("t.j2", "name {{ name }}\n");
    let steps = "[[step]]\nname = 'both'\ncopy.'/a' = 'a'\ncopy.'/d/' = ['a', 'd/b']\nmode = '0600'\n\
         [[step]]\ntemplate.'/t/1' = 't.j2'\ntemplate.'/t/2' = 't.j2'\n\
         [[step]]\nfile.'/f/1' = 'one'\nfile.'/f/2' = 'two'\n\
         [[step]]\nsymlink.'/l/1' = '/a'\nsymlink.'/l/2' = '../d/b'\n\
         [[test]]\nfile = '/d/b'\nmode = '0600'\ncontains = 'text of b'\n\
         [[test]]\nfile = '/l/2'\ncontains = 'text of b'\n\
         [[test]]\nfile = '/t/2'\ncontains = 'name x'\n\
         [[test]]\nfile = '/f/1'\ncontains = 'one'\n";
    lab.write("x.toml", &format!("{HEAD}{steps}"));
    let built = lab.bake(["build", "x.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
    assert!(built.err.contains("both: a") && built.err.contains("both: a d/b"), "{}", built.err);
    // The same in another store, and from the cache.
    let digest = built.out.clone();
    lab.bake(["rm", "x:1"]);
    let again = lab.bake(["build", "x.toml"]);
    assert_eq!((again.code, &again.out), (0, &digest), "{}", again.err);
}
