//! Tiers: what a test needs beyond a compiler, and what happens where that is missing.

/// Says why a test cannot run here; a failure where the environment promises that all of them can.
pub(crate) fn skip(why: &str) -> bool {
    assert!(std::env::var_os("BAKE_REQUIRE").is_none(), "BAKE_REQUIRE is set, but {why}");
    eprintln!("skipped: {why}");
    true
}

/// Whether this process is root; notes a skip if not.
pub(crate) fn root() -> bool {
    rustix::process::geteuid().is_root() || !skip("this test needs root")
}

/// Whether the program `name` can be started.
pub(crate) fn tool(name: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()));
    found || !skip(&format!("{name} is not installed"))
}
