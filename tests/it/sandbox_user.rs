//! Run as root, these tests have only seen root's way; this runs all of them again as an
//! unprivileged user.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use crate::tier;

/// The first user of this host with subordinate ids: name, user id, group id.
pub(crate) fn somebody() -> Option<(String, u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let subuid = fs::read_to_string("/etc/subuid").ok()?;
    let rows = || passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    subuid.lines().filter_map(|line| line.split(':').next()).find_map(|name| {
        let row = rows().find(|row| row[0] == name && row[2] != "0")?;
        Some((name.to_owned(), row[2].parse().ok()?, row[3].parse().ok()?))
    })
}

#[test]
fn root_everything_again_as_a_user() {
    if !tier::root() {
        return;
    }
    let Some((name, uid, gid)) = somebody() else {
        tier::skip("no user of this host has subordinate ids (adduser makes one that has)");
        return;
    };
    // The build's own directory may be closed to that user.
    let dir = tempfile::Builder::new().prefix("bake-test-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (tests, bake, base) =
        (dir.path().join("tests"), dir.path().join("bake"), dir.path().join("base"));
    fs::copy(std::env::current_exe().unwrap(), &tests).unwrap();
    fs::copy(crate::sandbox_lab::helper(), &bake).unwrap();
    fs::create_dir(&base).unwrap();
    chown(&base, Some(uid), Some(gid)).unwrap();
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        &uid.to_string(),
        "--regid",
        &gid.to_string(),
        "--clear-groups",
        "--inh-caps=-all",
        "--",
    ]);
    command.arg(&tests).args(["sandbox_", "--skip", "root_"]);
    command
        .env("BAKE_TEST_HELPER", &bake)
        .env("BAKE_TEST_BASE", &base)
        .env("TMPDIR", &base)
        .env("HOME", &base)
        .current_dir(&base);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "as {name}:\n{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!text.contains("running 0 tests"), "{text}");
    assert_eq!(fs::read_dir(&base).unwrap().count(), 0, "left something behind");
}
