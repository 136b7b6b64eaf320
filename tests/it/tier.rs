//! Tiers: what a test needs beyond a compiler. A test that cannot run says why and returns. With
//! `BAKE_REQUIRE` set it fails instead; with `BAKE_REQUIRE=user`, for runs as an unprivileged user,
//! only those that need root may be left out.

use std::ffi::OsStr;

/// Notes that a test cannot run here, and why; panics where that is forbidden. Always true.
pub(crate) fn skip(why: &str) -> bool {
    assert!(std::env::var_os("BAKE_REQUIRE").is_none(), "BAKE_REQUIRE is set, but {why}");
    eprintln!("skipped: {why}");
    true
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
