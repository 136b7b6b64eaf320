//! Cold = warm = rebuilt from blobs = in another store, for random recipes of all kinds of steps and
//! random edits of all kinds of inputs between and during builds.
//!
//! `BAKE_PROPERTY_CASES=500 cargo test --test it property` tries more recipes, and
//! `BAKE_PROPERTY_SEED=7` others.

use std::cell::Cell;
use std::time::Duration;

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::edited::{Edited, Ended, Style, World, tar_of};
use crate::lab::tiny_root;
use crate::random::{Case, When, case};
use crate::tier;

/// Recipes that are tried where nobody says how many.
const CASES: u32 = 12;

fn digest_of(ended: &Ended) -> Option<String> {
    ended.digest().map(str::to_owned)
}

/// Tries one recipe with its edit; whether it can be built, and how the build ended during which it
/// was edited.
fn try_case(case: &Case) -> (bool, Ended) {
    let edited = Edited::new();
    tiny_root(&edited.lab.path("root"));
    // What a package manager and a service manager would have put there.
    edited
        .lab
        .write("root/sbin/apk", "#!/bin/sh\nmkdir -p /lib/apk\necho $* >> /lib/apk/installed\n");
    crate::lab::run(
        std::process::Command::new("chmod").args(["755"]).arg(edited.lab.path("root/sbin/apk")),
    );
    edited.lab.write(
        "root/usr/lib/systemd/system/x.service",
        "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n",
    );
    edited.lab.write("root/etc/apt/.keep", "");
    let mut before = case.before(edited.url());
    edited.put(&before, Style::InPlace);
    before.file("root.tar", tar_of(&edited.lab.path("root")));
    let after = case.after(&before, edited.url());
    let (before, after) = (&before, &after);

    // Cold, warm, rebuilt from blobs.
    edited.put(before, case.style);
    let cold = edited.build("a");
    let good = digest_of(&cold);
    let warm = edited.build("a");
    assert_eq!(digest_of(&warm), good, "warm: {cold:?} {warm:?}");
    if let Ended::Baked { ran, .. } = warm {
        // What a package manager other than apt takes is not pinned: it is asked again.
        if !before.text("tiny.toml").contains("packages = ") {
            assert_eq!(ran, 0, "nothing changed");
        }
        let _ = std::fs::remove_dir_all(edited.lab.path("a/cache/layers"));
    }
    assert_eq!(digest_of(&edited.build("a")), good, "rebuilt from blobs");
    // Edited between builds; and as if it had never been edited.
    edited.put(after, case.style);
    let there = edited.build("a");
    let good_after = digest_of(&there);
    let fresh = edited.build("b");
    assert_eq!(digest_of(&fresh), good_after, "edited, in another store: {there:?} {fresh:?}");
    edited.put(before, case.style);
    let back = edited.build("a");
    assert_eq!(digest_of(&back), good, "edited back: {back:?}");

    // Edited during a build, in a store that knows nothing.
    let ended = during(case, &edited, before, after);
    let (good, good_after) = (good.as_deref(), good_after.as_deref());
    match case.when {
        When::Step | When::Back => edited.good_or_named(&ended, &[good], before, after),
        When::Start => edited.good_or_named(&ended, &[good, good_after], before, after),
        // It may have read some of it before and some of it after.
        When::Always if ended.digest().is_some() => {}
        When::Always => edited.good_or_named(&ended, &[good, good_after], before, after),
    }
    // Nothing of it is believed later.
    edited.unhook();
    for (world, good) in [(after, good_after), (before, good), (after, good_after)] {
        edited.put(world, case.style);
        let later = edited.build("c");
        assert_eq!(later.digest(), good, "poisoned by {ended:?}: {later:?}");
    }
    let verified = crate::lab::run(
        edited.lab.command(["verify", "-q"]).env("BAKE_STORE", edited.lab.path("c")),
    );
    assert_eq!(verified.code, 0, "{}", verified.err);
    (good.is_some(), ended)
}

fn during(case: &Case, edited: &Edited, before: &World, after: &World) -> Ended {
    let style = case.style;
    let (first, last) = match case.hooks.0 < case.hooks.1 {
        true => ("/hook1", "/hook2"),
        false => ("/hook2", "/hook1"),
    };
    let nothing = |_: &dyn Fn() -> bool| {};
    match case.when {
        When::Start => edited.build_edited("c", || edited.put_files(after, style), &nothing),
        When::Step => {
            edited.hook(first, after, style);
            edited.build("c")
        }
        When::Back => {
            edited.hook(first, after, style);
            edited.hook(last, before, style);
            edited.build("c")
        }
        When::Always => {
            let toggle = |over: &dyn Fn() -> bool| {
                while !over() {
                    edited.put_files(after, style);
                    edited.put_files(before, style);
                    // The build has something to do between two edits.
                    std::thread::sleep(Duration::from_micros(500));
                }
            };
            edited.build_edited("c", || {}, &toggle)
        }
    }
}

#[test]
fn a_build_depends_on_its_inputs_and_nothing_else() {
    if !tier::sandbox() {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let seed = number("BAKE_PROPERTY_SEED").unwrap_or(1).to_le_bytes();
    let mut bytes = [0; 32];
    bytes[..seed.len()].copy_from_slice(&seed);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let cases = number("BAKE_PROPERTY_CASES").unwrap_or(CASES);
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: 30, ..Config::default() };
    // How many could be built, and how many were edited to no effect or to an error.
    let counts = Cell::new((0, 0, 0));
    let result = TestRunner::new_with_rng(config, rng).run(&case(), |case| {
        eprintln!("{case:?}");
        let (good, ended) = try_case(&case);
        let (baked, unmoved, named) = counts.get();
        let (unmoved, named) = match ended {
            Ended::Baked { .. } => (unmoved + 1, named),
            Ended::Failed(_) => (unmoved, named + u32::from(good)),
        };
        counts.set((baked + u32::from(good), unmoved, named));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let (baked, unmoved, named) = counts.get();
    eprintln!(
        "{cases} recipes, {baked} can be built; edited during a build {unmoved} give what was hashed, {named} an error"
    );
    assert!(baked * 2 > cases, "too many recipes that cannot be built prove nothing");
}
