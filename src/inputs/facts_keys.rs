//! Every key of a recipe against the keys of a build: what must change them does, what must not
//! does not. The schema says which keys there are, so a new one cannot be forgotten here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::facts::{self, BaseInputs, Sources};
use crate::context::Context;
use crate::digest::Digest;
use crate::image::Platform;
use crate::plan;
use crate::plan::config::Skeleton;
use crate::plan::lock::Lock;
use crate::recipe;

/// What a change of a key must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// The step's own key, and so the build's.
    Step,
    /// Every step's key: it decides all layers.
    All,
    /// The build's key only: the layers of the steps stay.
    Build,
    /// No key at all.
    Nothing,
}
use Effect::{All, Build, Nothing, Step};

/// Key, the recipe's part around it, the same after the change, and what the change must do.
const CASES: &[(&str, &str, &str, Effect)] = &[
    ("image.name", "name = \"k\"", "name = \"l\"", Build),
    ("image.version", "version = \"1\"", "version = \"2\"", Build),
    ("image.description", "description = \"d\"", "description = \"e\"", Build),
    ("image.context", "context = \".\"", "context = \"./\"", Nothing),
    ("image.labels", "labels = { a = \"1\" }", "labels = { a = \"2\" }", Build),
    ("image.epoch", "epoch = 7", "epoch = 8", All),
    ("image.compression", "compression = \"gzip\"", "compression = \"zstd\"", All),
    ("defaults.shell", "shell = \"sh\"", "shell = \"bash\"", Step),
    ("defaults.as", "as = \"1\"", "as = \"2\"", Step),
    ("defaults.workdir", "workdir = \"/a\"", "workdir = \"/b\"", Step),
    ("defaults.env", "env = { A = \"1\" }", "env = { A = \"2\" }", Step),
    ("defaults.network", "network = false", "network = true", Step),
    ("defaults.timeout", "timeout = \"1s\"", "timeout = \"2s\"", Nothing),
    ("defaults.retries", "retries = 1", "retries = 2", Nothing),
    ("config.entrypoint", "entrypoint = [\"a\"]", "entrypoint = [\"b\"]", Build),
    ("config.cmd", "cmd = [\"a\"]", "cmd = [\"b\"]", Build),
    ("config.env", "env = { A = \"1\" }", "env = { A = \"2\" }", Build),
    ("config.user", "user = \"a\"", "user = \"b\"", Build),
    ("config.workdir", "workdir = \"/a\"", "workdir = \"/b\"", Build),
    ("config.ports", "ports = [80]", "ports = [81]", Build),
    ("config.volumes", "volumes = [\"/a\"]", "volumes = [\"/b\"]", Build),
    ("config.labels", "labels = { a = \"1\" }", "labels = { a = \"2\" }", Build),
    ("config.stop_signal", "stop_signal = \"SIGTERM\"", "stop_signal = \"SIGQUIT\"", Build),
    (
        "config.healthcheck",
        "healthcheck = { cmd = [\"a\"] }",
        "healthcheck = { cmd = [\"b\"] }",
        Build,
    ),
    ("healthcheck.cmd", "cmd = [\"a\"]", "cmd = [\"b\"]", Build),
    (
        "healthcheck.interval",
        "cmd = [\"a\"], interval = \"1s\"",
        "cmd = [\"a\"], interval = \"2s\"",
        Build,
    ),
    (
        "healthcheck.timeout",
        "cmd = [\"a\"], timeout = \"1s\"",
        "cmd = [\"a\"], timeout = \"2s\"",
        Build,
    ),
    (
        "healthcheck.start_period",
        "cmd = [\"a\"], start_period = \"1s\"",
        "cmd = [\"a\"], start_period = \"2s\"",
        Build,
    ),
    ("healthcheck.retries", "cmd = [\"a\"], retries = 1", "cmd = [\"a\"], retries = 2", Build),
    ("drift.ignore", "ignore = [\"/a\"]", "ignore = [\"/b\"]", Build),
    ("step-run.name", "run = \"a\"\nname = \"x\"", "run = \"a\"\nname = \"y\"", Nothing),
    (
        "step-run.when",
        "run = \"a\"\nwhen = \"name == 'k'\"",
        "run = \"a\"\nwhen = \"version == '1'\"",
        Nothing,
    ),
    ("step-run.run", "run = \"a\"", "run = \"b\"", Step),
    ("step-run.as", "run = \"a\"\nas = \"1\"", "run = \"a\"\nas = \"2\"", Step),
    ("step-run.workdir", "run = \"a\"\nworkdir = \"/a\"", "run = \"a\"\nworkdir = \"/b\"", Step),
    ("step-run.shell", "run = \"a\"\nshell = \"sh\"", "run = \"a\"\nshell = \"bash\"", Step),
    ("step-run.env", "run = \"a\"\nenv = { A = \"1\" }", "run = \"a\"\nenv = { A = \"2\" }", Step),
    ("step-run.network", "run = \"a\"\nnetwork = false", "run = \"a\"\nnetwork = true", Step),
    ("step-run.timeout", "run = \"a\"\ntimeout = \"1s\"", "run = \"a\"\ntimeout = \"2s\"", Nothing),
    ("step-run.retries", "run = \"a\"\nretries = 1", "run = \"a\"\nretries = 2", Nothing),
    ("step-script.name", "script = \"s\"\nname = \"x\"", "script = \"s\"\nname = \"y\"", Nothing),
    (
        "step-script.when",
        "script = \"s\"\nwhen = \"name == 'k'\"",
        "script = \"s\"\nwhen = \"version == '1'\"",
        Nothing,
    ),
    ("step-script.script", "script = \"s\"", "script = \"t\"", Step),
    ("step-script.args", "script = \"s\"\nargs = [\"a\"]", "script = \"s\"\nargs = [\"b\"]", Step),
    ("step-script.as", "script = \"s\"\nas = \"1\"", "script = \"s\"\nas = \"2\"", Step),
    (
        "step-script.workdir",
        "script = \"s\"\nworkdir = \"/a\"",
        "script = \"s\"\nworkdir = \"/b\"",
        Step,
    ),
    (
        "step-script.shell",
        "script = \"s\"\nshell = \"sh\"",
        "script = \"s\"\nshell = \"bash\"",
        Step,
    ),
    (
        "step-script.env",
        "script = \"s\"\nenv = { A = \"1\" }",
        "script = \"s\"\nenv = { A = \"2\" }",
        Step,
    ),
    (
        "step-script.network",
        "script = \"s\"\nnetwork = false",
        "script = \"s\"\nnetwork = true",
        Step,
    ),
    (
        "step-script.timeout",
        "script = \"s\"\ntimeout = \"1s\"",
        "script = \"s\"\ntimeout = \"2s\"",
        Nothing,
    ),
    ("step-script.retries", "script = \"s\"\nretries = 1", "script = \"s\"\nretries = 2", Nothing),
    (
        "step-copy.name",
        "copy = \"s\"\nto = \"/a\"\nname = \"x\"",
        "copy = \"s\"\nto = \"/a\"\nname = \"y\"",
        Nothing,
    ),
    (
        "step-copy.when",
        "copy = \"s\"\nto = \"/a\"\nwhen = \"name == 'k'\"",
        "copy = \"s\"\nto = \"/a\"\nwhen = \"version == '1'\"",
        Nothing,
    ),
    ("step-copy.copy", "copy = \"s\"\nto = \"/a\"", "copy = \"t\"\nto = \"/a\"", Step),
    ("step-copy.to", "copy = \"s\"\nto = \"/a\"", "copy = \"s\"\nto = \"/b\"", Step),
    (
        "step-copy.owner",
        "copy = \"s\"\nto = \"/a\"\nowner = \"1:1\"",
        "copy = \"s\"\nto = \"/a\"\nowner = \"2:2\"",
        Step,
    ),
    (
        "step-copy.mode",
        "copy = \"s\"\nto = \"/a\"\nmode = \"0600\"",
        "copy = \"s\"\nto = \"/a\"\nmode = \"0640\"",
        Step,
    ),
    (
        "step-copy.exclude",
        "copy = \"d\"\nto = \"/a/\"\nexclude = [\"x\"]",
        "copy = \"d\"\nto = \"/a/\"\nexclude = [\"y\"]",
        Step,
    ),
    (
        "step-download.name",
        "download = \"https://h/f\"\nto = \"/a\"\nname = \"x\"",
        "download = \"https://h/f\"\nto = \"/a\"\nname = \"y\"",
        Nothing,
    ),
    (
        "step-download.when",
        "download = \"https://h/f\"\nto = \"/a\"\nwhen = \"name == 'k'\"",
        "download = \"https://h/f\"\nto = \"/a\"\nwhen = \"version == '1'\"",
        Nothing,
    ),
    (
        "step-download.download",
        "download = \"https://h/f\"\nto = \"/a\"",
        "download = \"https://h/g\"\nto = \"/a\"",
        Step,
    ),
    (
        "step-download.sha256",
        "download = \"https://h/f\"\nto = \"/a\"\nsha256 = \"1111111111111111111111111111111111111111111111111111111111111111\"",
        "download = \"https://h/f\"\nto = \"/a\"\nsha256 = \"2222222222222222222222222222222222222222222222222222222222222222\"",
        Step,
    ),
    (
        "step-download.to",
        "download = \"https://h/f\"\nto = \"/a\"",
        "download = \"https://h/f\"\nto = \"/b\"",
        Step,
    ),
    (
        "step-download.owner",
        "download = \"https://h/f\"\nto = \"/a\"\nowner = \"1:1\"",
        "download = \"https://h/f\"\nto = \"/a\"\nowner = \"2:2\"",
        Step,
    ),
    (
        "step-download.mode",
        "download = \"https://h/f\"\nto = \"/a\"\nmode = \"0600\"",
        "download = \"https://h/f\"\nto = \"/a\"\nmode = \"0640\"",
        Step,
    ),
    (
        "step-download.unpack",
        "download = \"https://h/f.tar\"\nto = \"/a/\"\nunpack = true",
        "download = \"https://h/f.tar\"\nto = \"/a/\"\nunpack = false",
        Step,
    ),
    (
        "step-download.strip",
        "download = \"https://h/f.tar\"\nto = \"/a/\"\nunpack = true\nstrip = 1",
        "download = \"https://h/f.tar\"\nto = \"/a/\"\nunpack = true\nstrip = 2",
        Step,
    ),
    (
        "step-template.name",
        "template = \"s\"\nto = \"/a\"\nname = \"x\"",
        "template = \"s\"\nto = \"/a\"\nname = \"y\"",
        Nothing,
    ),
    (
        "step-template.when",
        "template = \"s\"\nto = \"/a\"\nwhen = \"name == 'k'\"",
        "template = \"s\"\nto = \"/a\"\nwhen = \"version == '1'\"",
        Nothing,
    ),
    (
        "step-template.template",
        "template = \"s\"\nto = \"/a\"",
        "template = \"t\"\nto = \"/a\"",
        Step,
    ),
    ("step-template.to", "template = \"s\"\nto = \"/a\"", "template = \"s\"\nto = \"/b\"", Step),
    (
        "step-template.owner",
        "template = \"s\"\nto = \"/a\"\nowner = \"1:1\"",
        "template = \"s\"\nto = \"/a\"\nowner = \"2:2\"",
        Step,
    ),
    (
        "step-template.mode",
        "template = \"s\"\nto = \"/a\"\nmode = \"0600\"",
        "template = \"s\"\nto = \"/a\"\nmode = \"0640\"",
        Step,
    ),
    (
        "step-file.name",
        "file = \"/a\"\ncontent = \"c\"\nname = \"x\"",
        "file = \"/a\"\ncontent = \"c\"\nname = \"y\"",
        Nothing,
    ),
    (
        "step-file.when",
        "file = \"/a\"\ncontent = \"c\"\nwhen = \"name == 'k'\"",
        "file = \"/a\"\ncontent = \"c\"\nwhen = \"version == '1'\"",
        Nothing,
    ),
    ("step-file.file", "file = \"/a\"\ncontent = \"c\"", "file = \"/b\"\ncontent = \"c\"", Step),
    ("step-file.content", "file = \"/a\"\ncontent = \"c\"", "file = \"/a\"\ncontent = \"d\"", Step),
    ("step-file.append", "file = \"/a\"\nappend = \"c\"", "file = \"/a\"\nappend = \"d\"", Step),
    (
        "step-file.owner",
        "file = \"/a\"\ncontent = \"c\"\nowner = \"1:1\"",
        "file = \"/a\"\ncontent = \"c\"\nowner = \"2:2\"",
        Step,
    ),
    (
        "step-file.mode",
        "file = \"/a\"\ncontent = \"c\"\nmode = \"0600\"",
        "file = \"/a\"\ncontent = \"c\"\nmode = \"0640\"",
        Step,
    ),
    ("step-mkdir.name", "mkdir = \"/a\"\nname = \"x\"", "mkdir = \"/a\"\nname = \"y\"", Nothing),
    (
        "step-mkdir.when",
        "mkdir = \"/a\"\nwhen = \"name == 'k'\"",
        "mkdir = \"/a\"\nwhen = \"version == '1'\"",
        Nothing,
    ),
    ("step-mkdir.mkdir", "mkdir = \"/a\"", "mkdir = \"/b\"", Step),
    (
        "step-mkdir.owner",
        "mkdir = \"/a\"\nowner = \"1:1\"",
        "mkdir = \"/a\"\nowner = \"2:2\"",
        Step,
    ),
    ("step-mkdir.mode", "mkdir = \"/a\"\nmode = \"0700\"", "mkdir = \"/a\"\nmode = \"0750\"", Step),
    (
        "step-symlink.name",
        "symlink = \"/a\"\ntarget = \"b\"\nname = \"x\"",
        "symlink = \"/a\"\ntarget = \"b\"\nname = \"y\"",
        Nothing,
    ),
    (
        "step-symlink.when",
        "symlink = \"/a\"\ntarget = \"b\"\nwhen = \"name == 'k'\"",
        "symlink = \"/a\"\ntarget = \"b\"\nwhen = \"version == '1'\"",
        Nothing,
    ),
    (
        "step-symlink.symlink",
        "symlink = \"/a\"\ntarget = \"b\"",
        "symlink = \"/c\"\ntarget = \"b\"",
        Step,
    ),
    (
        "step-symlink.target",
        "symlink = \"/a\"\ntarget = \"b\"",
        "symlink = \"/a\"\ntarget = \"c\"",
        Step,
    ),
    ("step-remove.name", "remove = \"/a\"\nname = \"x\"", "remove = \"/a\"\nname = \"y\"", Nothing),
    (
        "step-remove.when",
        "remove = \"/a\"\nwhen = \"name == 'k'\"",
        "remove = \"/a\"\nwhen = \"version == '1'\"",
        Nothing,
    ),
    ("step-remove.remove", "remove = \"/a\"", "remove = \"/b\"", Step),
    (
        "step-packages.name",
        "packages = [\"a\"]\nname = \"x\"",
        "packages = [\"a\"]\nname = \"y\"",
        Nothing,
    ),
    (
        "step-packages.when",
        "packages = [\"a\"]\nwhen = \"name == 'k'\"",
        "packages = [\"a\"]\nwhen = \"version == '1'\"",
        Nothing,
    ),
    ("step-packages.packages", "packages = [\"a\"]", "packages = [\"b\"]", Step),
    (
        "step-packages.timeout",
        "packages = [\"a\"]\ntimeout = \"1s\"",
        "packages = [\"a\"]\ntimeout = \"2s\"",
        Nothing,
    ),
    (
        "step-packages.retries",
        "packages = [\"a\"]\nretries = 1",
        "packages = [\"a\"]\nretries = 2",
        Nothing,
    ),
    (
        "step-packages.recommends",
        "packages = [\"a\"]\nrecommends = false",
        "packages = [\"a\"]\nrecommends = true",
        Step,
    ),
    (
        "step-repository.name",
        "repository = \"r\"\nurl = \"https://h/\"\nsuite = \"s\"\ncomponents = [\"c\"]\nkey = \"s\"\nname = \"x\"",
        "repository = \"r\"\nurl = \"https://h/\"\nsuite = \"s\"\ncomponents = [\"c\"]\nkey = \"s\"\nname = \"y\"",
        Nothing,
    ),
    (
        "step-repository.when",
        "repository = \"r\"\nurl = \"https://h/\"\nsuite = \"s\"\ncomponents = [\"c\"]\nkey = \"s\"\nwhen = \"name == 'k'\"",
        "repository = \"r\"\nurl = \"https://h/\"\nsuite = \"s\"\ncomponents = [\"c\"]\nkey = \"s\"\nwhen = \"version == '1'\"",
        Nothing,
    ),
    (
        "step-repository.repository",
        "repository = \"r\"\nurl = \"https://h/\"\nsuite = \"s\"\ncomponents = [\"c\"]\nkey = \"s\"",
        "repository = \"q\"\nurl = \"https://h/\"\nsuite = \"s\"\ncomponents = [\"c\"]\nkey = \"s\"",
        Step,
    ),
    (
        "step-repository.url",
        "repository = \"r\"\nurl = \"https://h/\"\nsuite = \"s\"\ncomponents = [\"c\"]\nkey = \"s\"",
        "repository = \"r\"\nurl = \"https://i/\"\nsuite = \"s\"\ncomponents = [\"c\"]\nkey = \"s\"",
        Step,
    ),
    (
        "step-repository.suite",
        "repository = \"r\"\nurl = \"https://h/\"\nsuite = \"s\"\ncomponents = [\"c\"]\nkey = \"s\"",
        "repository = \"r\"\nurl = \"https://h/\"\nsuite = \"t\"\ncomponents = [\"c\"]\nkey = \"s\"",
        Step,
    ),
    (
        "step-repository.components",
        "repository = \"r\"\nurl = \"https://h/\"\nsuite = \"s\"\ncomponents = [\"c\"]\nkey = \"s\"",
        "repository = \"r\"\nurl = \"https://h/\"\nsuite = \"s\"\ncomponents = [\"d\"]\nkey = \"s\"",
        Step,
    ),
    (
        "step-repository.key",
        "repository = \"r\"\nurl = \"https://h/\"\nsuite = \"s\"\ncomponents = [\"c\"]\nkey = \"s\"",
        "repository = \"r\"\nurl = \"https://h/\"\nsuite = \"s\"\ncomponents = [\"c\"]\nkey = \"t\"",
        Step,
    ),
    ("step-user.name", "user = \"u\"\nname = \"x\"", "user = \"u\"\nname = \"y\"", Nothing),
    (
        "step-user.when",
        "user = \"u\"\nwhen = \"name == 'k'\"",
        "user = \"u\"\nwhen = \"version == '1'\"",
        Nothing,
    ),
    ("step-user.user", "user = \"u\"", "user = \"v\"", Step),
    ("step-user.uid", "user = \"u\"\nuid = 1", "user = \"u\"\nuid = 2", Step),
    ("step-user.gid", "user = \"u\"\ngid = 1", "user = \"u\"\ngid = 2", Step),
    ("step-user.home", "user = \"u\"\nhome = \"/a\"", "user = \"u\"\nhome = \"/b\"", Step),
    ("step-user.shell", "user = \"u\"\nshell = \"/a\"", "user = \"u\"\nshell = \"/b\"", Step),
    ("step-user.groups", "user = \"u\"\ngroups = [\"a\"]", "user = \"u\"\ngroups = [\"b\"]", Step),
    ("step-user.system", "user = \"u\"\nsystem = true", "user = \"u\"\nsystem = false", Step),
    ("step-user.comment", "user = \"u\"\ncomment = \"a\"", "user = \"u\"\ncomment = \"b\"", Step),
    (
        "step-user.password",
        "user = \"u\"\npassword = \"$6$a$b\"",
        "user = \"u\"\npassword = \"$6$a$c\"",
        Step,
    ),
    (
        "step-user.ssh_keys",
        "user = \"u\"\nssh_keys = [\"ssh-ed25519 AAAA a\"]",
        "user = \"u\"\nssh_keys = [\"ssh-ed25519 AAAB a\"]",
        Step,
    ),
    ("step-group.name", "group = \"g\"\nname = \"x\"", "group = \"g\"\nname = \"y\"", Nothing),
    (
        "step-group.when",
        "group = \"g\"\nwhen = \"name == 'k'\"",
        "group = \"g\"\nwhen = \"version == '1'\"",
        Nothing,
    ),
    ("step-group.group", "group = \"g\"", "group = \"h\"", Step),
    ("step-group.gid", "group = \"g\"\ngid = 1", "group = \"g\"\ngid = 2", Step),
    ("step-group.system", "group = \"g\"\nsystem = true", "group = \"g\"\nsystem = false", Step),
    (
        "step-service.name",
        "service = \"s\"\nname = \"x\"",
        "service = \"s\"\nname = \"y\"",
        Nothing,
    ),
    (
        "step-service.when",
        "service = \"s\"\nwhen = \"name == 'k'\"",
        "service = \"s\"\nwhen = \"version == '1'\"",
        Nothing,
    ),
    ("step-service.service", "service = \"s\"", "service = \"t\"", Step),
    (
        "step-service.enabled",
        "service = \"s\"\nenabled = true",
        "service = \"s\"\nenabled = false",
        Step,
    ),
    (
        "step-service.masked",
        "service = \"s\"\nmasked = false",
        "service = \"s\"\nmasked = true",
        Step,
    ),
];

/// Tables whose keys say what the base is: that is named by its pin, which has tests of its own;
/// and the variables, which count where they are used. Tests are named by the digest of their list
/// ([`super::gate`]).
fn elsewhere(table: &str) -> bool {
    table == "base" || table.starts_with("test-")
}

/// The keys of a recipe: of its steps (without what lies below), and of the build.
fn keys(dir: &Path, text: &str) -> (Vec<Digest>, Digest) {
    let path = dir.join("k.toml");
    fs::write(&path, text).expect("our own file");
    let recipe = super::read::read(&path, &recipe::Inputs::default())
        .unwrap_or_else(|error| panic!("{error:?}\n{text}"));
    let plan = plan::draw(&recipe);
    let context = Context::open(dir, &[], &[]).expect("our own folder");
    let epoch = recipe.image.epoch.unwrap_or(0);
    let base = BaseInputs {
        holds: Digest::of("scratch"),
        key: Digest::of("scratch"),
        locked: None,
        needs_lock: false,
        environment: BTreeMap::new(),
    };
    let skeleton = Skeleton::draw(&recipe, &plan, epoch, &Platform::host(), None);
    let sources = Sources {
        recipe: &recipe,
        plan: &plan,
        base: &base,
        context: &context,
        lock: &Lock::default(),
        epoch,
        platform: &Platform::host(),
        skeleton: Some(&skeleton),
        stages: &[],
        stage: None,
    };
    let facts = facts::gather(&sources).expect("everything it reads is there");
    // What the lock would pin is asked for: its answer is the world's.
    let steps = (1..=plan.nodes.len()).map(|index| {
        facts.step(index, &Lock::default(), None).unwrap_or_else(|| facts.asked(index, &[])).key()
    });
    let steps: Vec<Digest> = steps.collect();
    let build = Digest::of(format!("{} {steps:?}", facts.key));
    (steps, build)
}

/// Puts the part that a case is about into a whole recipe.
fn recipe_with(key: &str, part: &str) -> String {
    let (table, _) = key.split_once('.').expect("table.key");
    let image = |part: &str| {
        let name = if part.starts_with("name =") { "" } else { "name = \"k\"\n" };
        let version = if part.starts_with("version =") { "" } else { "version = \"1\"\n" };
        format!("[image]\n{name}{version}{part}\n")
    };
    let rest = "[base]\nscratch = true\n";
    let run = "[[step]]\nrun = \"plain\"\n";
    match table {
        "image" => format!("{}{rest}{run}", image(part)),
        "healthcheck" => format!("{}{rest}{run}[config]\nhealthcheck = {{ {part} }}\n", image("")),
        "defaults" | "config" | "drift" => format!("{}{rest}[{table}]\n{part}\n{run}", image("")),
        _ => format!("{}{rest}[[step]]\n{part}\n", image("")),
    }
}

#[test]
fn every_key_of_a_recipe_does_what_it_must_to_the_keys_of_a_build() {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in [("s", "one"), ("t", "two"), ("d/x", "x"), ("d/y", "y")] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("our own folder");
        fs::write(path, text).expect("our own file");
    }
    for (key, before, after, effect) in CASES {
        let (steps, build) = keys(dir.path(), &recipe_with(key, before));
        let (other_steps, other_build) = keys(dir.path(), &recipe_with(key, after));
        let changed = (steps != other_steps, build != other_build);
        let expected = match effect {
            Step | All => (true, true),
            Build => (false, true),
            Nothing => (false, false),
        };
        assert_eq!(
            changed, expected,
            "{key}: (steps, build) must be {effect:?}\n{before}\n{after}"
        );
    }
}

#[test]
fn no_key_of_the_recipe_is_forgotten() {
    let schema = recipe::schema();
    let tables = schema["$defs"].as_object().expect("the tables of a recipe");
    let mut there = BTreeSet::new();
    for (table, what) in tables.iter().filter(|(table, _)| !elsewhere(table)) {
        there.extend(
            what["properties"]
                .as_object()
                .expect("keys")
                .keys()
                .map(|key| format!("{table}.{key}")),
        );
    }
    let here: BTreeSet<String> = CASES.iter().map(|(key, ..)| (*key).to_owned()).collect();
    // Refused by builds so far.
    let later = ["defaults.mount", "mount.from", "mount.path", "step-copy.from", "step-run.mount"];
    there.retain(|key| !later.contains(&key.as_str()) && key != "step-script.mount");
    assert_eq!(
        there.difference(&here).collect::<Vec<_>>(),
        [""; 0],
        "say in CASES what these do to the keys"
    );
    assert_eq!(here.difference(&there).collect::<Vec<_>>(), [""; 0], "these are gone");
}
