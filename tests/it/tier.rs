//! Tiers: what a test needs beyond a compiler. A test that cannot run says why and returns; with `BAKE_REQUIRE` set it fails.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// Says why a test is skipped; panics where skips are forbidden. Always returns true, for `if !… && skip(…) { return; }`.
pub fn skip(why: &str) -> bool {
    assert!(std::env::var_os("BAKE_REQUIRE").is_none(), "BAKE_REQUIRE is set, but {why}");
    eprintln!("skipped: {why}");
    true
}

/// Whether this test runs as root.
pub fn root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// Whether bake can run its sandbox here: as root, or as a user with subordinate ids.
pub fn sandbox() -> bool {
    bake::sandbox::probe(Some(env!("CARGO_BIN_EXE_bake").as_ref())).is_ok()
}

/// Whether a Debian mirror answers.
pub fn net() -> bool {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_bake")).arg("--version").output();
    out.is_ok() && std::net::ToSocketAddrs::to_socket_addrs("deb.debian.org:80").is_ok_and(|mut found| found.next().is_some())
}

/// Whether a program is installed.
pub fn tool(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).exists()))
}
