//! Tiers: what a test needs beyond a compiler. A test that cannot run says why and returns. With
//! `BAKE_REQUIRE` set it fails instead; with `BAKE_REQUIRE=user`, for runs as an unprivileged user,
//! only those that need root may be left out.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write as _;
use std::sync::{Mutex, Once, PoisonError};

/// Why tests of this run could not run, and which.
static SKIPPED: Mutex<BTreeMap<String, Vec<String>>> = Mutex::new(BTreeMap::new());

/// Notes that a test cannot run here, and why; panics where that is forbidden. Always true.
///
/// What was skipped is printed once, when the run ends: the harness knows only "ok", and a green
/// run in which nothing ran must not look like one.
pub(crate) fn skip(why: &str) -> bool {
    assert!(std::env::var_os("BAKE_REQUIRE").is_none(), "BAKE_REQUIRE is set, but {why}");
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `summary` is a plain function without arguments, and this program never unloads.
        let registered = unsafe { libc::atexit(summary) };
        assert_eq!(registered, 0, "cannot register what prints the summary");
    });
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let mut skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    skipped.entry(why.to_owned()).or_default().push(test);
    true
}

/// Prints how many tests were skipped, and why. Runs when the process exits.
extern "C" fn summary() {
    let skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let tests: std::collections::BTreeSet<&String> = skipped.values().flatten().collect();
    let mut text =
        format!("\nskipped: {} tests did not run here, though they say ok\n", tests.len());
    for (why, tests) in skipped.iter() {
        text.push_str(&format!("  {:>4}  {why}, for example {}\n", tests.len(), tests[0]));
    }
    text.push_str("BAKE_REQUIRE=1 makes each of them fail instead\n");
    // Not by a macro: what these print in a test is kept from the person.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Whether this process is root; notes a skip if not.
pub(crate) fn root() -> bool {
    let user = std::env::var_os("BAKE_REQUIRE").is_some_and(|tier| tier == OsStr::new("user"));
    if !rustix::process::geteuid().is_root() && user {
        eprintln!("left out: this test needs root");
        return false;
    }
    rustix::process::geteuid().is_root() || !skip("this test needs root")
}

/// Whether bake can run its sandbox here: as root, or as a user with subordinate ids; notes a skip
/// if not.
pub(crate) fn sandbox() -> bool {
    match bake::sandbox::probe(Some(env!("CARGO_BIN_EXE_bake").as_ref())) {
        Ok(_) => true,
        Err(error) => !skip(&format!("the sandbox cannot run here: {error}")),
    }
}

/// Whether a program is installed; notes a skip if not.
pub(crate) fn tool(name: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).exists()));
    found || !skip(&format!("{name} is not installed"))
}
