//! Tiers: tests that need something of the host say so in their name, and are skipped with a reason where it is missing.

/// Says why a test cannot run here; with `BAKE_REQUIRE` set that is a failure.
pub(crate) fn skip(why: &str) -> bool {
    assert!(std::env::var_os("BAKE_REQUIRE").is_none(), "BAKE_REQUIRE is set, but {why}");
    eprintln!("skipped: {why}");
    true
}

/// Whether the test runs as root; else it is skipped.
pub(crate) fn root() -> bool {
    rustix::process::geteuid().is_root() || !skip("this test changes owners and needs root")
}
