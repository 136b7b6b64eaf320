//! Every key of a recipe against the keys of a build: what must change them does, what must not
//! does not. The tables of keys say which there are and what each must do, so a new one cannot be
//! forgotten.

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
use crate::schema::Effect;
use crate::step::KINDS;

/// Key of a table that is no kind of step, the recipe's part around it, and the same after the
/// change. What the change must do stands where the key is, in the tables of keys.
const CASES: &[(&str, &str, &str)] = &[
    ("image.name", "name = \"k\"", "name = \"l\""),
    ("image.version", "version = \"1\"", "version = \"2\""),
    ("image.description", "description = \"d\"", "description = \"e\""),
    ("image.context", "context = \".\"", "context = \"./\""),
    ("image.labels", "labels = { a = \"1\" }", "labels = { a = \"2\" }"),
    ("image.epoch", "epoch = 7", "epoch = 8"),
    // Of the same platform: the keys name that one.
    (
        "image.platforms",
        "platforms = [\"linux/amd64\"]",
        "platforms = [\"linux/amd64\", \"linux/arm64\"]",
    ),
    ("image.compression", "compression = \"gzip\"", "compression = \"zstd\""),
    ("defaults.shell", "shell = \"sh\"", "shell = \"bash\""),
    ("defaults.as", "as = \"1\"", "as = \"2\""),
    ("defaults.workdir", "workdir = \"/a\"", "workdir = \"/b\""),
    ("defaults.env", "env = { A = \"1\" }", "env = { A = \"2\" }"),
    ("defaults.network", "network = false", "network = true"),
    ("defaults.timeout", "timeout = \"1s\"", "timeout = \"2s\""),
    ("defaults.mount", "mount.\"/m\" = \"s\"", "mount.\"/m\" = \"t\""),
    ("defaults.cache", "cache = [\"/c\"]", "cache = [\"/d\"]"),
    ("defaults.retries", "retries = 1", "retries = 2"),
    ("defaults.limits", "limits.memory = \"1GiB\"", "limits.memory = \"2GiB\""),
    ("limits.memory", "memory = \"1GiB\"", "memory = \"none\""),
    ("limits.processes", "processes = 1", "processes = 2"),
    ("limits.disk", "disk = \"1GiB\"", "disk = \"50%\""),
    ("limits.output", "output = \"1GiB\"", "output = \"2GiB\""),
    ("step-include.include", "include = \"p.toml\"", "include = \"q.toml\""),
    ("step-include.vars", "include = \"p.toml\"\nvars.a = 1", "include = \"p.toml\"\nvars.a = 2"),
    (
        "step-include.when",
        "include = \"p.toml\"\nwhen = \"name == 'k'\"",
        "include = \"p.toml\"\nwhen = \"version == '1'\"",
    ),
    ("config.entrypoint", "entrypoint = [\"a\"]", "entrypoint = [\"b\"]"),
    ("config.cmd", "cmd = [\"a\"]", "cmd = [\"b\"]"),
    ("config.env", "env = { A = \"1\" }", "env = { A = \"2\" }"),
    ("config.user", "user = \"a\"", "user = \"b\""),
    ("config.workdir", "workdir = \"/a\"", "workdir = \"/b\""),
    ("config.ports", "ports = [80]", "ports = [81]"),
    ("config.volumes", "volumes = [\"/a\"]", "volumes = [\"/b\"]"),
    ("config.labels", "labels = { a = \"1\" }", "labels = { a = \"2\" }"),
    ("config.stop_signal", "stop_signal = \"SIGTERM\"", "stop_signal = \"SIGQUIT\""),
    ("config.healthcheck", "healthcheck = { cmd = [\"a\"] }", "healthcheck = { cmd = [\"b\"] }"),
    ("healthcheck.cmd", "cmd = [\"a\"]", "cmd = [\"b\"]"),
    (
        "healthcheck.interval",
        "cmd = [\"a\"], interval = \"1s\"",
        "cmd = [\"a\"], interval = \"2s\"",
    ),
    ("healthcheck.timeout", "cmd = [\"a\"], timeout = \"1s\"", "cmd = [\"a\"], timeout = \"2s\""),
    (
        "healthcheck.start_period",
        "cmd = [\"a\"], start_period = \"1s\"",
        "cmd = [\"a\"], start_period = \"2s\"",
    ),
    ("healthcheck.retries", "cmd = [\"a\"], retries = 1", "cmd = [\"a\"], retries = 2"),
    ("drift.ignore", "ignore = [\"/a\"]", "ignore = [\"/b\"]"),
    ("machine.hostname", "hostname = \"a\"", "hostname = \"b\""),
    ("machine.network", "network = \"dhcp\"", "network = \"none\""),
    ("machine.console", "console = \"ttyS0\"", "console = \"ttyS1\""),
    ("machine.services", "services = [\"a\"]", "services = [\"b\"]"),
    ("machine.ssh_keys", SSH_KEYS[0], SSH_KEYS[1]),
];

const SSH_KEYS: [&str; 2] = [
    "ssh_keys.root = [\"ssh-ed25519 \
        AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB\"]",
    "ssh_keys.root = [\"ssh-ed25519 \
        AAAAC3NzaC1lZDI1NTE5AAAAIAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC\"]",
];

/// Tables whose keys say what the base is: that is named by its pin, which has tests of its own;
/// and the variables, which count where they are used. Tests are named by the digest of their list
/// ([`crate::trial`]). What a step takes of a stage is named by the stage's layers, which are not
/// there yet where the recipe is read. An output or a push changes nothing of the image.
fn elsewhere(table: &str) -> bool {
    matches!(table, "base" | "from" | "mount" | "cache" | "output" | "push")
        || table.starts_with("test-")
}

/// Returns every case: those above, those of the kinds of step, and what all steps have.
fn cases() -> Vec<(String, String, String)> {
    let mut all: Vec<_> = CASES
        .iter()
        .map(|(key, before, after)| ((*key).to_owned(), (*before).to_owned(), (*after).to_owned()))
        .collect();
    for kind in KINDS {
        let name = |key: &str| format!("step-{}.{key}", kind.section.name);
        for (key, before, after) in kind.cases {
            all.push((name(key), (*before).to_owned(), (*after).to_owned()));
        }
        let (_, step, _) = kind.cases.iter().find(|(key, ..)| *key != "from").expect("a step");
        let with = |line: &str| format!("{line}\n{step}");
        all.push((name("name"), with("name = 'x'"), with("name = 'y'")));
        all.push((name("when"), with("when = \"name == 'k'\""), with("when = \"version == '1'\"")));
    }
    all
}

/// Returns what a change of a key must do.
fn effect(key: &str) -> Effect {
    let (table, name) = key.split_once('.').expect("table.key");
    let (_, section) = recipe::tables().find(|(known, _)| known == table).expect("a table");
    section.effect_of(section.key(name).expect("a key"))
}

/// The keys of a recipe: of its steps (without what lies below), and of the build.
fn keys(dir: &Path, text: &str) -> (Vec<Digest>, Digest) {
    let path = dir.join("k.toml");
    fs::write(&path, text).expect("our own file");
    let recipe = super::check(&path, &recipe::Inputs::default())
        .unwrap_or_else(|error| panic!("{error:?}\n{text}"));
    let plan = plan::draw(&recipe);
    let context = Context::open(dir, &[], &[]).expect("our own directory");
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
        "limits" => format!("{}{rest}[defaults.limits]\n{part}\n{run}", image("")),
        "defaults" | "config" | "drift" | "machine" => {
            format!("{}{rest}[{table}]\n{part}\n{run}", image(""))
        }
        _ => format!("{}{rest}[[step]]\n{part}\n", image("")),
    }
}

#[test]
fn every_key_of_a_recipe_does_what_it_must_to_the_keys_of_a_build() {
    let dir = tempfile::tempdir().expect("a directory");
    let part = |path: &str| {
        format!("[vars]\na = 0\n[[step]]\nfile = \"{path}\"\ncontent = \"{{{{ a }}}}\"\n")
    };
    let (p, q) = (part("/p"), part("/q"));
    let files = [
        ("s", "one"),
        ("t", "two"),
        ("d/x", "x"),
        ("d/y", "y"),
        ("p.toml", p.as_str()),
        ("q.toml", q.as_str()),
    ];
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("below the directory")).expect("our own directory");
        fs::write(path, text).expect("our own file");
    }
    for (key, before, after) in cases() {
        // Needs stages, with layers.
        if key == "step-copy.from" {
            continue;
        }
        let (steps, build) = keys(dir.path(), &recipe_with(&key, &before));
        let (other_steps, other_build) = keys(dir.path(), &recipe_with(&key, &after));
        let changed = (steps != other_steps, build != other_build);
        let effect = effect(&key);
        let expected = match effect {
            Effect::Step | Effect::All => (true, true),
            Effect::Image => (false, true),
            Effect::Nothing => (false, false),
        };
        assert_eq!(
            changed, expected,
            "{key}: (steps, build) must be {effect:?}\n{before}\n{after}"
        );
    }
}

#[test]
fn no_key_of_the_recipe_is_forgotten() {
    let mut there = BTreeSet::new();
    for (table, section) in recipe::tables().filter(|(table, _)| !elsewhere(table)) {
        there.extend(section.keys.iter().map(|key| format!("{table}.{}", key.name)));
    }
    let here: BTreeSet<String> = cases().into_iter().map(|(key, ..)| key).collect();
    assert_eq!(
        there.difference(&here).collect::<Vec<_>>(),
        [""; 0],
        "show what a change of these does to the keys"
    );
    assert_eq!(here.difference(&there).collect::<Vec<_>>(), [""; 0], "these are gone");
}
