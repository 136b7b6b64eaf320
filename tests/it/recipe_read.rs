//! Recipes without mistakes: what is read, who wins, what is on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bake::reach::Reach;
use bake::recipe::{self, BaseKind, Compression, DebianVariant, Inputs, Recipe, Value};
use bake::step::{Content, Lowered, Mount, Op, Probe, Service};

fn inputs() -> Inputs {
    Inputs {
        file: PathBuf::from("web.toml"),
        arch: "amd64".into(),
        epoch: 7,
        vars: vec![("nginx".into(), "1.22".into())],
        ..Inputs::default()
    }
}

fn good(name: &str, inputs: &Inputs) -> Recipe {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/recipes/good").join(name);
    read(&fs::read_to_string(file).unwrap(), inputs)
}

fn read(text: &str, inputs: &Inputs) -> Recipe {
    recipe::read(text, inputs)
        .unwrap_or_else(|mistakes| panic!("{}", bake::ui::diagnostic::render(&mistakes, false)))
}

/// What a step writes.
fn written(step: &Lowered) -> &str {
    match &step.ops[0] {
        Op::Write { content: Content::Text(text), .. } => text,
        other => panic!("{other:?}"),
    }
}

/// A recipe of these lines.
fn with(rest: &str) -> String {
    format!("[image]\nname = 'x'\nversion = '1'\n[base]\nscratch = true\n{rest}")
}

#[test]
fn the_reference_is_read() {
    let recipe = good("reference.toml", &inputs());
    assert!(recipe.warnings.is_empty());
    assert_eq!((recipe.image.name.as_str(), recipe.image.version.as_str()), ("web", "2.0.0"));
    assert_eq!(
        (recipe.image.epoch, recipe.image.compression),
        (Some(1_700_000_000), Compression::Zstd)
    );
    assert_eq!(recipe.image.labels["org.opencontainers.image.vendor"], "Example");
    assert_eq!(recipe.vars["debug"], Value::Boolean(false));
    assert_eq!(recipe.vars["machine"], Value::Text("x86_64".into()));
    assert_eq!(recipe.vars["nginx"], Value::Text("1.22".into()));
    let BaseKind::Debian(debian) = &recipe.base.kind else { panic!() };
    assert_eq!(
        (debian.suite.as_str(), debian.variant, debian.components.len()),
        ("bookworm", DebianVariant::Slim, 2)
    );
    assert_eq!(recipe.steps.len(), 16);
    let ops: Vec<&Op> = recipe.steps.iter().map(|step| &step.ops[0]).collect();
    let Op::Packages { names, files, .. } = ops[1] else { panic!() };
    assert_eq!(
        (names.as_slice(), files.as_slice()),
        (&["nginx=1.22".to_owned()][..], &[PathBuf::from("vendor/our-tools.deb")][..])
    );
    let Op::Download { url, sha256, .. } = ops[5] else { panic!() };
    assert!(url.ends_with("amd64.tar.gz") && sha256.as_deref() == Some(&"a".repeat(64)));
    assert_eq!(written(&recipe.steps[8]), "SITE=blue\n");
    assert!(matches!(ops[8], Op::Write { append: true, owner: None, mode: None, .. }));
    let Op::Exec { argv, env, .. } = ops[14] else { panic!() };
    assert_eq!(
        argv,
        &[
            "/bin/bash",
            "-euo",
            "pipefail",
            "-c",
            "npm ci | tee /tmp/log\necho \"built ${HOME} with release\"\n"
        ]
    );
    assert_eq!(
        env.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
        ["CARGO_TERM_COLOR=never", "LEVEL=1", "NODE_ENV=production"]
    );
    let how = |step: &Lowered| (step.timeout, step.network.is_some(), step.retries);
    assert_eq!(how(&recipe.steps[14]), (Some(Duration::from_secs(600)), true, 2));
    assert_eq!(recipe.steps[14].shell.as_deref(), Some("/bin/bash"));
    assert_eq!(how(&recipe.steps[15]), (Some(Duration::from_secs(1800)), false, 0));
    let probes: Vec<_> = recipe
        .tests
        .iter()
        .map(|test| (test.probes.as_slice(), test.start.len(), test.timeout.as_secs()))
        .collect();
    assert!(
        matches!(probes[0], ([Probe::Http { status: 200, contains: Some(text), .. }], 1, 30) if text == "blue"),
        "{probes:?}"
    );
    assert!(matches!(probes[1], ([Probe::Tcp { .. }], 2, 30)), "{probes:?}");
    assert!(
        matches!(probes[2], ([Probe::Script { how, shell, .. }, _], 1, 30) if how.env["LEVEL"] == "3" && shell[0] == "/bin/sh"),
        "{probes:?}"
    );
    assert!(
        matches!(probes[3], ([Probe::File { mode: Some(0o644), contains: Some(text), sha256: Some(_), .. }], 0, 30) if text == "blue")
    );
    assert!(matches!(probes[4], ([Probe::Absent { .. }], 0, 30)));
    assert_eq!((probes.len(), recipe.tests_off.len()), (5, 1));
    // Strings go to the shell of `[defaults]`.
    assert!(matches!(&recipe.tests[1].start[..], [Service::Config, Service::Argv(_)]));
    assert_eq!(recipe.config.ports, ["80/tcp", "53/udp"]);
    assert_eq!(recipe.config.env["PORT"], "80");
    assert_eq!(recipe.config.healthcheck.unwrap().start_period, Some(Duration::from_secs(60)));
    assert!(recipe.uses_epoch, "its template may use it");
}

#[test]
fn other_languages_pass_untouched() {
    let recipe = good("traps.toml", &inputs_without_vars());
    assert_eq!(recipe.image.version, "80-x");
    let Op::Exec { argv, env, .. } = &recipe.steps[0].ops[0] else { panic!() };
    assert_eq!(
        argv[argv.len() - 1],
        "list=(a b)\necho \"${#list[@]} ${list[*]} {% raw %} {# no comment #} $((1 + 2)) }}\"\ndocker inspect --format '{{.State}}' x\n"
    );
    assert_eq!(env["B"], "a/b-c:80-x");
    let Op::Exec { argv, .. } = &recipe.steps[1].ops[0] else { panic!() };
    assert_eq!(argv[2..], ["false", "81", "x86_64"]);
    assert_eq!(recipe.steps.len(), 5, "the step for arm64 is off");
    assert_eq!(recipe.steps[0].line, 3);
    let newer = good("newer.toml", &inputs_without_vars());
    assert_eq!(newer.steps.len(), 2);
}

fn inputs_without_vars() -> Inputs {
    Inputs { vars: vec![], ..inputs() }
}

#[test]
fn who_wins() {
    let text = with("[vars]\na = 'default'\n[[step]]\nfile = '/a'\ncontent = '{{ a }}'\n");
    let mut inputs = inputs_without_vars();
    let value = |inputs: &Inputs| written(&read(&text, inputs).steps[0]).to_owned();
    assert_eq!(value(&inputs), "default");
    inputs.env_vars = BTreeMap::from([("a".into(), "env".into()), ("b".into(), "other".into())]);
    assert_eq!(value(&inputs), "env");
    inputs.vars_files.push(("1.toml".into(), "a = 'first'\nc = 2024-01-01\n".into()));
    assert_eq!(value(&inputs), "first");
    inputs.vars_files.push(("2.toml".into(), "a = 'second'\n".into()));
    assert_eq!(value(&inputs), "second");
    inputs.vars.push(("a".into(), "{{ name }}".into()));
    assert_eq!(value(&inputs), "{{ name }}", "a value is not read again");
    inputs.vars.push(("a".into(), "last".into()));
    assert_eq!(value(&inputs), "last");
}

#[test]
fn the_version_may_come_from_outside() {
    let mut inputs = inputs_without_vars();
    inputs.version = Some("9".into());
    let recipe = read(
        "[image]\nname = 'x'\n[base]\nscratch = true\n[[step]]\nmkdir = '/{{ version }}'\n",
        &inputs,
    );
    assert_eq!(recipe.image.version, "9");
    assert!(matches!(&recipe.steps[0].ops[0], Op::Mkdir { paths, .. } if paths == &["/9"]));
    assert_eq!(read(&with(""), &inputs).image.version, "9");
}

#[test]
fn the_epoch_is_noticed() {
    assert!(!read(&with("[[step]]\nmkdir = '/epoch'\n"), &inputs_without_vars()).uses_epoch);
    let recipe = read(&with("[[step]]\nmkdir = '/{{ epoch }}'\n"), &inputs_without_vars());
    assert!(recipe.uses_epoch);
    assert!(
        read(&with("[[step]]\ntemplate = 'x.j2'\nto = '/x'\n"), &inputs_without_vars()).uses_epoch,
        "a template file may use it"
    );
    assert!(matches!(&recipe.steps[0].ops[0], Op::Mkdir { paths, .. } if paths == &["/7"]));
}

#[test]
fn defaults_add_maps_and_replace_values() {
    let text = with(
        "[defaults]\nenv = { A = '1', B = '2' }\nnetwork = true\nas = 'app'\nretries = 1\n[[step]]\nrun = 'x'\nenv.B = '3'\nnetwork = false\nas = 'root'\n[[step]]\nscript = 's'\nshell = ['/bin/x']\n",
    );
    let recipe = read(&text, &inputs_without_vars());
    let Op::Exec { env, user, .. } = &recipe.steps[0].ops[0] else { panic!() };
    assert_eq!((env["A"].as_str(), env["B"].as_str(), user.as_str()), ("1", "3", "root"));
    assert_eq!((&recipe.steps[0].network, recipe.steps[0].retries), (&Reach::None, 1));
    let Op::Script { shell, user, .. } = &recipe.steps[1].ops[0] else { panic!() };
    assert_eq!((shell.as_slice(), user.as_str()), (&["/bin/x".to_owned()][..], "app"));
    assert_eq!(recipe.steps[1].network, Reach::Internet);
}

#[test]
fn a_swallowed_key_is_a_warning() {
    let recipe =
        read(&with("[[step]]\nrun = 'x'\n[step.env]\ntimeout = '5m'\n"), &inputs_without_vars());
    assert_eq!(recipe.warnings.len(), 1);
    assert!(recipe.warnings[0].warning);
    let recipe = read(&with("[[step]]\nrun = 'x'\nenv.timeout = '5m'\n"), &inputs_without_vars());
    assert!(recipe.warnings.is_empty(), "on purpose");
}

#[test]
fn mistakes_of_steps_that_are_off_count_but_a_missing_architecture_does_not() {
    let digest = "a".repeat(64);
    let step = |when: &str| {
        with(&format!(
            "[[step]]\n{when}\ndownload = 'https://x/y'\nto = '/x'\nsha256 = {{ arm64 = '{digest}' }}\n"
        ))
    };
    assert_eq!(read(&step("when = \"arch == 'arm64'\""), &inputs_without_vars()).steps.len(), 0);
    assert!(recipe::read(&step(""), &inputs_without_vars()).is_err());
    assert!(
        recipe::read(&with("[[step]]\nwhen = 'false'\nmkdir = 'x'\n"), &inputs_without_vars())
            .is_err()
    );
}

/// A recipe that includes `parts/a.toml` of this text and `parts/b.toml` of that one.
fn including(a: &str, b: &str) -> Result<Recipe, Vec<recipe::Diagnostic>> {
    let texts = [("parts/a.toml", a), ("parts/b.toml", b)];
    let parts: BTreeMap<PathBuf, String> =
        texts.into_iter().map(|(path, text)| (path.into(), text.to_owned())).collect();
    let text =
        with("[vars]\nsite = 'blue'\n[[step]]\ninclude = 'parts/a.toml'\nvars.site = 'red'\n");
    recipe::read(&text, &Inputs { parts: Some(Arc::new(parts)), ..inputs_without_vars() })
}

#[test]
fn included_files_have_variables_of_their_own() {
    let a = "[vars]\nsite = { values = ['red', 'blue'] }\nport = 80\ndebug = false\n\
        [[step]]\nfile = '/a'\ncontent = '{{ site }} {{ port }} {{ name }}'\n\
        [[step]]\ninclude = './b.toml'\nvars.port = '{{ port + 1 }}'\nvars.debug = '{{ not debug }}'\n\
        [[step]]\nfile = '/a2'\ncontent = 'x'\n";
    let b = "[vars]\nport = 0\ndebug = { default = false }\nsite = 'green'\n\
        [[step]]\nfile = '/b'\ncontent = '{{ site }} {{ port }} {{ debug }}'\n";
    let recipe = including(a, b).expect("a recipe");
    let texts: Vec<&str> = recipe.steps.iter().map(written).collect();
    assert_eq!(texts, ["red 80 x", "green 81 true", "x"]);
    let places: Vec<(&str, u32)> = recipe
        .steps
        .iter()
        .map(|step| (step.part.as_ref().unwrap().file.to_str().unwrap(), step.line))
        .collect();
    assert_eq!(places, [("parts/a.toml", 6), ("parts/b.toml", 6), ("parts/a.toml", 13)]);
    assert_eq!(recipe.vars["site"], Value::Text("blue".into()));
    assert_eq!(recipe.vars_of(&recipe.steps[1])["port"], Value::Integer(81));
    assert_eq!(recipe.vars_of(&recipe.steps[2])["site"], Value::Text("red".into()));
    assert!(!recipe.uses_epoch);
    let epoch = "[vars]\nsite = {}\n[[step]]\nfile = '/a'\ncontent = '{{ epoch }}'\n";
    assert!(including(epoch, "").expect("a recipe").uses_epoch);
}

/// A few lines cannot mean millions of steps, and what names itself ends.
#[test]
fn included_files_are_bounded() {
    let site = "[vars]\nsite = ''\n";
    let first = |a: &str, b: &str| {
        let mistakes = including(&format!("{site}{a}"), b).expect_err("a mistake");
        mistakes[0].message.clone()
    };
    let itself = "[[step]]\ninclude = '../parts/a.toml'\n";
    assert_eq!(first(itself, ""), "files include each other: parts/a.toml -> parts/a.toml");
    let many = "[[step]]\ninclude = 'b.toml'\n".repeat(1000);
    assert_eq!(first(&many, "[[step]]\nmkdir = '/x'\n"), "more than 1000 included files");
    let large = format!("# {}\n", "x".repeat(9 << 20));
    let twice = "[[step]]\ninclude = 'b.toml'\n".repeat(2);
    assert_eq!(first(&twice, &large), "the included files are more than 16 MiB together");
    // Each includes the next: the way is 16 files long at most.
    let chain = |files: usize| {
        let text = |n: usize| match n == files {
            true => "[[step]]\nmkdir = '/x'\n".to_owned(),
            false => format!("[[step]]\ninclude = '{}.toml'\n", n + 1),
        };
        let parts: BTreeMap<PathBuf, String> =
            (1..=files).map(|n| (format!("{n}.toml").into(), text(n))).collect();
        let inputs = Inputs { parts: Some(Arc::new(parts)), ..inputs_without_vars() };
        recipe::read(&with("[[step]]\ninclude = '1.toml'\n"), &inputs)
    };
    assert_eq!(chain(16).expect("a recipe").steps.len(), 1);
    let mistakes = chain(17).expect_err("too deep");
    assert_eq!(mistakes[0].message, "more than 16 files include each other");
    assert_eq!((mistakes[0].file.to_str(), mistakes[0].line), (Some("16.toml"), 2));
    // The expressions of all count together.
    let long = "[[step]]\nfile = '/a'\ncontent = '{{ 1 }}'\n".repeat(6000);
    let mistakes = including(&format!("{site}{long}{twice}"), &long).expect_err("too many");
    assert!(mistakes[0].message.starts_with("more than 10000 expressions"), "{mistakes:?}");
}

/// Nobody can say what one names that is off: it is not read.
#[test]
fn what_is_off_is_not_included() {
    let text = with(
        "[[step]]\nwhen = \"arch == 's390x'\"\ninclude = 'parts/gone.toml'\nvars.x = 1\n\
         [stage.build.base]\nscratch = true\n",
    );
    let recipe = read(&text, &inputs_without_vars());
    assert!(recipe.steps.is_empty() && recipe.warnings.is_empty(), "{:?}", recipe.warnings);
}

#[test]
fn every_other_key_of_the_reference_is_not_built_yet() {
    for text in [
        "[[output]]\nformat = 'tar'\npath = 'x'\npartition = 'x'",
        "[[step]]\nansible = 'x'\nrequirements = 'x'",
    ] {
        let mistakes = recipe::read(&with(text), &inputs_without_vars()).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{text}: {mistakes:?}");
        assert!(mistakes[0].message.starts_with("unknown key"), "{}", mistakes[0].message);
        assert!(
            mistakes[0]
                .help
                .as_ref()
                .unwrap()
                .contains("this version of bake does not have it yet"),
            "{text}"
        );
    }
}

#[test]
fn stages_stand_in_the_order_of_need() {
    let recipe = good("stages.toml", &inputs_without_vars());
    assert!(recipe.warnings.is_empty(), "{:?}", recipe.warnings);
    let names: Vec<&str> = recipe.stages.iter().map(|stage| stage.name.as_str()).collect();
    // What only a step that is off needs is not built, and is no slip either.
    assert_eq!(names, ["tools", "assets", "build"]);
    let BaseKind::Image(image) = &recipe.base.kind else { panic!("{:?}", recipe.base) };
    assert_eq!(image.to_string(), "web@production");
    let bases: Vec<&BaseKind> = recipe.stages.iter().map(|stage| &stage.base.kind).collect();
    assert!(matches!(bases[1], BaseKind::Recipe(path) if path.ends_with("assets/recipe.toml")));
    assert!(matches!(bases[0], BaseKind::Scratch));
    assert!(matches!(bases[2], BaseKind::Stage(name) if name == "tools"));

    let Op::Copy { from, stage, .. } = &recipe.steps[0].ops[0] else { panic!() };
    assert_eq!(
        (from.as_slice(), stage.as_deref()),
        (&["/out/".into(), "/usr/share/*".into()][..], Some("build"))
    );
    let mounts = |step: &Lowered| match &step.ops[0] {
        Op::Exec { mounts, .. } => mounts.clone(),
        other => panic!("{other:?}"),
    };
    let of_stage = |at: &str, path: &str| Mount {
        at: at.into(),
        stage: Some("assets".into()),
        path: path.into(),
    };
    let context = |at: &str, path: &str| Mount { at: at.into(), stage: None, path: path.into() };
    assert_eq!(mounts(&recipe.steps[1]), [context("/cfg", "cfg"), of_stage("/in", "/out")]);
    // Step over the stage's defaults over the recipe's.
    let build = &recipe.stages[2].steps[0];
    assert_eq!(mounts(build), [of_stage("/cfg", "/"), context("/src", ".")]);
    let Op::Exec { argv, env, .. } = &build.ops[0] else { panic!() };
    assert_eq!(*env, [("A".into(), "1".into()), ("B".into(), "x".into())].into());
    assert_eq!(argv[0], "/bin/bash");
}

#[test]
fn a_recipe_that_is_its_own_base_is_drawn() {
    let path = |name: &str| PathBuf::from(name);
    let chain = [path("/r/web.toml"), path("/r/a.toml"), path("/r/b.toml")];
    let drawn = recipe::base_cycle(&chain, Path::new("/r/a.toml"));
    assert_eq!(drawn.as_deref(), Some("/r/a.toml -> /r/b.toml -> /r/a.toml"));
    assert_eq!(recipe::base_cycle(&chain, Path::new("/r/c.toml")), None);
}
