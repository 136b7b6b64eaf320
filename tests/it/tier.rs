//! Which tests can run here. A test that cannot says why and returns; with BAKE_REQUIRE set it fails instead.

/// Notes that a test cannot run here, and why.
pub(crate) fn skip(why: &str) -> bool {
    assert!(std::env::var_os("BAKE_REQUIRE").is_none(), "BAKE_REQUIRE is set, but {why}");
    eprintln!("skipped: {why}");
    true
}

/// Whether this process is root; notes a skip if not.
pub(crate) fn root() -> bool {
    rustix::process::geteuid().is_root() || !skip("this test needs root")
}
