//! What must not stay in an image after packages were installed or a step has run: lists, caches,
//! logs, backups, keys and ids that maintainer scripts made. Touches only what is there: a step
//! that left nothing stays an empty layer.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::changed::{Tree, find, named, remove};
use super::{debconf, homes, keystore, runtime, secrets, tables};
use crate::archive::Check;
use crate::deb::stanza::field;
use crate::sandbox::CallError;

/// Files that go; a `*` stands for anything within the last part of a path.
const GONE: &[&str] = &[
    // package managers: lists, caches, logs, locks, backups
    "var/lib/apt/lists/lock",
    "var/lib/apt/lists/*_*",
    "var/lib/apt/lists/partial/*",
    "var/lib/apt/lists/auxfiles/*",
    "var/lib/apt/daily_lock",
    "var/cache/apt/pkgcache.bin",
    "var/cache/apt/srcpkgcache.bin",
    "var/cache/apt/archives/lock",
    "var/cache/apt/archives/*.deb",
    "var/cache/apt/archives/partial/*",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/triggers/Lock",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/available-old",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/statoverride-old",
    "var/cache/debconf/*-old",
    "var/log/dpkg.log",
    "var/log/alternatives.log",
    "var/log/bootstrap.log",
    "var/log/apt/*",
    "var/cache/apk/*",
    "var/log/apk.log",
    "var/log/dnf*.log*",
    "var/log/hawkey.log",
    "var/log/yum.log",
    "var/log/pacman.log",
    "var/log/zypper.log",
    // what depends on inodes, times or chance
    "var/cache/ldconfig/aux-cache",
    "var/log/fontconfig.log",
    "var/log/munin/munin-node-configure.log",
    "etc/.pwd.lock",
    "etc/passwd-",
    "etc/group-",
    "etc/shadow-",
    "etc/gshadow-",
    "etc/subuid-",
    "etc/subgid-",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "var/lib/urandom/random-seed",
];

/// Directories whose contents go.
const EMPTIED: &[&str] = &[
    "var/cache/dnf",
    "var/cache/libdnf5",
    "var/cache/yum",
    "var/cache/zypp",
    "var/cache/pacman/pkg",
];

/// Removes what must not stay in the root that this process sees; returns how many files.
/// `changes`: what the job did so far.
///
/// What the image had before stays as it is: the step is not asked about it.
pub(in crate::base) fn tidy_root(changes: Option<&Path>) -> Result<u64, CallError> {
    tidy(&Tree { root: Path::new("/"), changes }).map_err(|error| CallError::of(&error))
}

/// Checks dpkg's database, then as [`tidy_root`].
pub(in crate::base) fn finish(wanted: &Check, changes: Option<&Path>) -> Result<u64, CallError> {
    let path = Path::new("/var/lib/dpkg/status");
    let status =
        fs::read_to_string(path).map_err(|error| CallError::system("read", path, &error))?;
    check(&status, wanted).map_err(CallError::refused)?;
    tidy_root(changes)
}

fn check(status: &str, wanted: &Check) -> Result<(), String> {
    let mut installed = std::collections::HashSet::new();
    let mut bad = vec![];
    for stanza in status.split("\n\n").filter(|s| !s.trim().is_empty()) {
        let (name, state) =
            (field(stanza, "Package").unwrap_or("?"), field(stanza, "Status").unwrap_or("?"));
        match state.rsplit(' ').next() {
            Some("installed") if !wanted.whole || state == "install ok installed" => {
                installed.insert((name, field(stanza, "Version").unwrap_or_default()));
            }
            Some("config-files" | "not-installed") if !wanted.whole => {}
            _ => bad.push(format!("{name} is {state:?}")),
        }
    }
    let missing = wanted
        .installed
        .iter()
        .filter(|(name, version)| !installed.contains(&(name.as_str(), version.as_str())));
    bad.extend(missing.map(|(name, version)| format!("{name} {version} is not installed")));
    if bad.is_empty() {
        Ok(())
    } else {
        Err(format!("dpkg left packages unfinished: {}", bad.join(", ")))
    }
}

/// Removes from a tree what must not stay; returns how many things were removed, emptied, or made
/// the same for every build.
fn tidy(tree: &Tree<'_>) -> io::Result<u64> {
    let mut removed = 0;
    if let Some(changes) = tree.changes
        && fs::read_dir(changes).map_err(|e| named(changes, &e))?.next().is_none()
    {
        return Ok(0);
    }
    for pattern in GONE {
        for path in find(tree, pattern)? {
            remove(&path)?;
            removed += 1;
        }
    }
    for directory in EMPTIED {
        for path in find(tree, &format!("{directory}/*"))? {
            remove(&path)?;
            removed += 1;
        }
    }
    removed += secrets::remove_made(tree)?;
    removed += homes::tidy(tree)?;
    removed += runtime::settle(tree)?;
    removed += keystore::settle(tree)?;
    removed += tables::settle(tree)?;
    removed += debconf::settle(tree)?;
    // Empty, not absent: systemd then makes one at boot, even on a read-only root.
    for id in find(tree, "etc/machine-id")? {
        if fs::symlink_metadata(&id).is_ok_and(|meta| meta.is_file() && meta.len() > 0) {
            File::options().write(true).truncate(true).open(&id).map_err(|e| named(&id, &e))?;
            removed += 1;
        }
    }
    for dbus in find(tree, "var/lib/dbus/machine-id")? {
        if fs::symlink_metadata(&dbus).is_ok_and(|meta| meta.is_file()) {
            remove(&dbus)?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("below the root")).expect("writable");
            fs::write(path, "x").expect("writable");
        }
        dir
    }

    fn whole(root: &Path) -> Tree<'_> {
        Tree { root, changes: None }
    }

    fn left(dir: &Path) -> Vec<String> {
        let mut found: Vec<String> = walkdir::WalkDir::new(dir)
            .into_iter()
            .flatten()
            .filter(|e| !e.file_type().is_dir())
            .map(|e| e.path().strip_prefix(dir).expect("below").display().to_string())
            .collect();
        found.sort();
        found
    }

    #[test]
    fn lists_logs_and_keys_go_and_the_rest_stays() {
        let dir = tree(&[
            "var/lib/apt/lists/deb.debian.org_debian_dists_x_InRelease",
            "var/lib/apt/lists/lock",
            "var/lib/apt/extended_states",
            "var/log/apt/term.log",
            "var/log/nginx/access.log",
            "etc/ssh/ssh_host_ed25519_key",
            "etc/ssh/ssh_host_ed25519_key.pub",
            "etc/ssh/sshd_config",
            "etc/passwd",
            "etc/passwd-",
            "etc/ssl/certs/ssl-cert-snakeoil.pem",
            "etc/ssl/certs/ca.pem",
            "etc/machine-id",
            "var/cache/debconf/config.dat",
            "var/cache/debconf/config.dat-old",
            "var/cache/dnf/a/b",
        ]);
        std::os::unix::fs::symlink(
            "ssl-cert-snakeoil.pem",
            dir.path().join("etc/ssl/certs/0a1b.0"),
        )
        .expect("writable");
        assert_eq!(tidy(&whole(dir.path())).expect("ours"), 11);
        assert_eq!(
            left(dir.path()),
            [
                "etc/machine-id",
                "etc/passwd",
                "etc/ssh/sshd_config",
                "etc/ssl/certs/ca.pem",
                "var/cache/debconf/config.dat",
                "var/lib/apt/extended_states",
                "var/log/nginx/access.log"
            ]
        );
        assert_eq!(fs::read(dir.path().join("etc/machine-id")).expect("there"), b"");
        assert_eq!(tidy(&whole(dir.path())).expect("ours"), 0, "a tidy tree is left alone");
    }

    #[test]
    fn what_a_step_did_not_change_stays() {
        let old = [
            "var/lib/apt/lists/a_b",
            "data/log/dpkg.log",
            "etc/ssh/ssh_host_rsa_key",
            "etc/machine-id",
            "var/cache/dnf/old",
        ];
        let new = ["data/log/apt/term.log", "var/cache/dnf/new", "etc/passwd-"];
        let (dir, changes) = (tree(&[&old[..], &new[..]].concat()), tree(&new));
        let root = dir.path().canonicalize().expect("there");
        std::os::unix::fs::symlink("../data/log", root.join("var/log")).expect("writable");
        let only = Tree { root: &root, changes: Some(changes.path()) };
        assert_eq!(tidy(&only).expect("ours"), 3);
        let mut expected = [&old[..], &["var/log"]].concat();
        expected.sort_unstable();
        assert_eq!(left(&root), expected);
        let nothing = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(tidy(&Tree { root: &root, changes: Some(nothing.path()) }).expect("ours"), 0);
        assert_eq!(tidy(&whole(&root)).expect("ours"), 5);
    }

    #[test]
    fn an_empty_tree_stays_empty() {
        let dir = tree(&[]);
        assert_eq!(tidy(&whole(dir.path())).expect("ours"), 0);
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 0);
    }

    #[test]
    fn unfinished_packages_are_named() {
        let status = "Package: a\nStatus: install ok installed\nVersion: 1\n\nPackage: b\nStatus: \
            install ok half-configured\nVersion: 2\n\nPackage: c\nStatus: hold ok \
            installed\nVersion: 3\n\nPackage: d\nStatus: deinstall ok config-files\nVersion: 3\n";
        let wanted = Check { installed: vec![("a".to_owned(), "2".to_owned())], whole: false };
        let error = check(status, &wanted).expect_err("b is not");
        assert!(
            error.contains("b is \"install ok half-configured\", a 2 is not installed"),
            "{error}"
        );
        assert!(!error.contains("c is") && !error.contains("d is"));
        assert!(
            check(status, &Check { installed: vec![], whole: true })
                .expect_err("strict")
                .contains("c is")
        );
    }
}
