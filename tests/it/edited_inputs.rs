//! Inputs that are edited while a build runs, one kind a test: the build ends with an error that names
//! the input, or gives exactly what was hashed; and the cache that it leaves knows nothing wrong.
//!
//! ```text
//! started ─► base ─► download /hook1 ─► the step that takes the input ─► download /hook2
//!    edit             edit, or back                                       back
//! ```

use std::process::Command;

use crate::base_lab::net;
use crate::base_mirror::deb_of;
use crate::edited::{Edited, Ended, Style, World, tar_of};
use crate::tier;

/// A lab with a root in it.
fn edited() -> Option<Edited> {
    if !tier::sandbox() {
        return None;
    }
    let edited = Edited::new();
    crate::lab::tiny_root(&edited.lab.path("root"));
    edited.lab.write("root/etc/apt/.keep", "");
    Some(edited)
}

/// The recipe with the step `step` between two that ask the server.
fn recipe(edited: &Edited, base: &str, step: &str) -> String {
    let url = edited.url();
    format!(
        "[image]\nname = \"tiny\"\nversion = \"1\"\n[vars]\nword = \"none\"\n[base]\n{base}\n\
         [[step]]\ndownload = \"{url}/hook1\"\nto = \"/hook1\"\n[[step]]\n{step}\n\
         [[step]]\ndownload = \"{url}/hook2\"\nto = \"/hook2\"\n"
    )
}

/// A world with that recipe.
fn world(edited: &Edited, base: &str, step: &str) -> World {
    let mut world = World::default();
    world.file("tiny.toml", recipe(edited, base, step));
    world.file("vars.toml", "word = \"one\"\n");
    world
}

/// Where an edit is made, and perhaps taken back.
#[derive(Debug, Clone, Copy)]
enum When {
    /// Before anything runs.
    Start,
    /// Before anything runs, and back before the step that takes it.
    StartAndBack,
    /// Before the step that takes it.
    Step,
    /// Before that step, and back after it.
    StepAndBack,
}

const ALL: [When; 4] = [When::Step, When::StepAndBack, When::Start, When::StartAndBack];

/// Makes sure that an edit of `before` to `after` during a build is noticed or without effect.
/// `seed`: a store to begin with, which knows nothing of the step.
fn holds(edited: &Edited, seed: Option<&str>, before: &World, after: &World) {
    let fresh = |store: &str| {
        let at = edited.lab.path(store);
        let _ = std::fs::remove_dir_all(&at);
        if let Some(seed) = seed {
            let copied = Command::new("cp").arg("-a").arg(edited.lab.path(seed)).arg(at).status();
            assert!(copied.expect("cp").success());
        }
    };
    let built = |world: &World, store: &str| {
        edited.put(world, Style::Renamed);
        match edited.build(store) {
            Ended::Baked { digest, .. } => digest,
            Ended::Failed(why) => panic!("without an edit it fails: {why:#}"),
        }
    };
    fresh("one");
    let good = built(before, "one");
    fresh("two");
    let other = built(after, "two");
    assert_ne!(good, other, "the edit changes nothing");
    // With a seed the base is there already: nothing is before the first of the steps that ask.
    for &when in if seed.is_some() { &ALL[..2] } else { &ALL[..] } {
        for style in [Style::InPlace, Style::Renamed] {
            edited.put(before, Style::Renamed);
            if before.served != after.served {
                // The lock file says what the address gave.
                built(before, "one");
            }
            fresh("three");
            let nothing = |_: &dyn Fn() -> bool| {};
            let edit = || edited.put_files(after, style);
            let ended = match when {
                When::Start => edited.build_edited("three", edit, &nothing),
                When::StartAndBack => {
                    edited.hook("/hook1", before, style);
                    edited.build_edited("three", edit, &nothing)
                }
                When::Step => {
                    edited.hook("/hook1", after, style);
                    edited.build("three")
                }
                When::StepAndBack => {
                    edited.hook("/hook1", after, style);
                    edited.hook("/hook2", before, style);
                    edited.build("three")
                }
            };
            eprintln!("{when:?} {style:?}: {ended:?}");
            edited.good_or_named(&ended, &[Some(&good)], before, after);
            edited.unhook();
            for (world, good) in [(after, &other), (before, &good)] {
                assert_eq!(&built(world, "three"), good, "{when:?} {style:?}: poisoned");
            }
        }
    }
}

const ROOT: &str = "path = \"root\"";

#[test]
fn a_copied_file() {
    let Some(edited) = edited() else { return };
    let mut before = world(&edited, ROOT, "copy = \"site/\"\nto = \"/srv/\"");
    before.file("site/a", "one\n");
    before.file("site/sub/b", "one\n");
    let mut after = before.clone();
    after.file("site/sub/b", "two\n");
    holds(&edited, None, &before, &after);
}

#[test]
fn a_mounted_file() {
    let Some(edited) = edited() else { return };
    let mut before = world(&edited, ROOT, "run = \"cat /src/a > /a\"\nmount.\"/src\" = \"site\"");
    before.file("site/a", "one\n");
    let mut after = before.clone();
    after.file("site/a", "two\n");
    holds(&edited, None, &before, &after);
}

#[test]
fn a_script() {
    let Some(edited) = edited() else { return };
    let mut before = world(&edited, ROOT, "script = \"x.sh\"");
    before.file("x.sh", "#!/bin/sh\necho one > /x\n");
    let mut after = before.clone();
    after.file("x.sh", "#!/bin/sh\necho two > /x\n");
    holds(&edited, None, &before, &after);
}

#[test]
fn a_template() {
    let Some(edited) = edited() else { return };
    let mut before = world(&edited, ROOT, "template = \"x.j2\"\nto = \"/x\"");
    before.file("x.j2", "{{ name }} one\n");
    let mut after = before.clone();
    after.file("x.j2", "{{ name }} two\n");
    holds(&edited, None, &before, &after);
}

#[test]
fn a_key_of_a_repository() {
    let Some(edited) = edited() else { return };
    let step = "repository = \"r\"\nurl = \"https://example.org/\"\nsuite = \"s\"\ncomponents = [\"c\"]\nkey = \"k.asc\"";
    let mut before = world(&edited, ROOT, step);
    before.file("k.asc", include_str!("../../src/archive/keys/bookworm-stable.asc"));
    let mut after = before.clone();
    after.file("k.asc", include_str!("../../src/archive/keys/trixie-stable.asc"));
    holds(&edited, None, &before, &after);
}

#[test]
fn a_download() {
    let Some(edited) = edited() else { return };
    let step = format!("download = \"{}/f\"\nto = \"/f\"", edited.url());
    let mut before = world(&edited, ROOT, &step);
    before.served.insert("/f".to_owned(), b"one\n".to_vec());
    let mut after = before.clone();
    after.served.insert("/f".to_owned(), b"two\n".to_vec());
    holds(&edited, None, &before, &after);
}

#[test]
fn a_file_of_variables() {
    let Some(edited) = edited() else { return };
    let before = world(&edited, ROOT, "run = \"echo {{ word }} > /x\"");
    let mut after = before.clone();
    after.file("vars.toml", "word = \"two\"\n");
    holds(&edited, None, &before, &after);
}

#[test]
fn the_recipe_itself() {
    let Some(edited) = edited() else { return };
    let before = world(&edited, ROOT, "run = \"echo {{ epoch }} one > /x\"");
    let mut after = before.clone();
    after.file("tiny.toml", recipe(&edited, ROOT, "run = \"echo {{ epoch }} two > /x\""));
    holds(&edited, None, &before, &after);
}

#[test]
fn the_file_of_the_workspace() {
    let Some(edited) = edited() else { return };
    let mut before = world(&edited, ROOT, "run = \"echo {{ epoch }} {{ of_all }} $WHO > /x\"");
    before.file("bake.toml", "[vars]\nof_all = \"one\"\n[defaults]\nenv.WHO = \"one\"\n");
    let mut after = before.clone();
    after.file("bake.toml", "[vars]\nof_all = \"two\"\n[defaults]\nenv.WHO = \"two\"\n");
    holds(&edited, None, &before, &after);
}

#[test]
fn an_included_file() {
    let Some(edited) = edited() else { return };
    // The epoch is known when all has been read once: the recipe is evaluated again.
    let step = "include = \"parts/x.toml\"\nvars.word = \"{{ epoch }}\"";
    let part = |word: &str| {
        format!("[vars]\nword = {{}}\n[[step]]\nrun = \"echo {{{{ word }}}} {word} > /x\"\n")
    };
    let mut before = world(&edited, ROOT, step);
    before.file("parts/x.toml", part("one"));
    let mut after = before.clone();
    after.file("parts/x.toml", part("two"));
    holds(&edited, None, &before, &after);
}

#[test]
fn an_ignore_file() {
    let Some(edited) = edited() else { return };
    let mut before = world(&edited, ROOT, "copy = \"site/\"\nto = \"/srv/\"");
    before.file("site/one", "one\n");
    before.file("site/two", "two\n");
    before.file(".bakeignore", "one\n");
    let mut after = before.clone();
    after.file(".bakeignore", "two\n");
    holds(&edited, None, &before, &after);
}

#[test]
fn the_recipe_of_the_base() {
    let Some(edited) = edited() else { return };
    let base = "recipe = \"base.toml\"";
    let text = "[image]\nname = \"base\"\nversion = \"1\"\n[base]\npath = \"root\"\n[[step]]\nfile = \"/x\"\n";
    let mut before = world(&edited, base, "run = \"cat /x > /y\"");
    before.file("base.toml", format!("{text}content = \"one\"\n"));
    let mut after = before.clone();
    after.file("base.toml", format!("{text}content = \"two\"\n"));
    holds(&edited, None, &before, &after);
}

#[test]
fn a_base_that_is_a_directory() {
    let Some(edited) = edited() else { return };
    let mut before = world(&edited, ROOT, "run = \"cat /etc/extra > /x\"");
    before.file("root/etc/extra", "one\n");
    let mut after = before.clone();
    after.file("root/etc/extra", "two\n");
    holds(&edited, None, &before, &after);
}

#[test]
fn a_base_that_is_a_tar() {
    let Some(edited) = edited() else { return };
    let mut before = world(&edited, "path = \"root.tar\"", "run = \"cat /etc/extra > /x\"");
    let mut after = before.clone();
    for (world, text) in [(&mut before, "one\n"), (&mut after, "two\n")] {
        edited.lab.write("root/etc/extra", text);
        world.file("root.tar", tar_of(&edited.lab.path("root")));
    }
    holds(&edited, None, &before, &after);
}

#[test]
fn root_net_a_package_file() {
    if !tier::root() || !tier::sandbox() || !net() {
        return;
    }
    let edited = Edited::new();
    let base = "debian = \"bookworm\"";
    let mut before = world(&edited, base, "packages = [\"./ours.deb\"]");
    // What all builds begin with: the base.
    let mut seed = before.clone();
    seed.file("tiny.toml", recipe(&edited, base, "mkdir = \"/x\""));
    edited.put(&seed, Style::Renamed);
    assert!(edited.build("seed").digest().is_some());
    before.file("ours.deb", deb_of("ours", "1.0", ""));
    let mut after = before.clone();
    after.file("ours.deb", deb_of("ours", "1.1", ""));
    holds(&edited, Some("seed"), &before, &after);
}
