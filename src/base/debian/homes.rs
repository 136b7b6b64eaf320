//! Caches, logs and histories that tools keep in home directories. They are named by clocks and
//! chance, and nothing that an image does needs them: what a tool does not find in its cache it
//! makes or fetches again.
//!
//! What is not here, though it is called a cache: what a later step may build from without network
//! (cargo's registry, Go's modules), and what programs run from (browsers below `.cache`).

use std::fs;
use std::io;
use std::path::Path;

use super::changed::{Tree, find, named, remove};
use crate::rootfs::accounts::{Accounts, GROUP, PASSWD};

/// Files and directories that go, below a home directory.
const GONE: &[&str] = &[
    ".npm/_cacache",
    ".npm/_locks",
    ".npm/_logs",
    ".npm/_prebuilds",
    ".npm/_update-notifier-last-checked",
    ".cache/composer",
    ".cache/go-build",
    ".cache/node-gyp",
    ".cache/pip",
    ".cache/pipenv",
    ".cache/pnpm",
    ".cache/pypoetry/artifacts",
    ".cache/pypoetry/cache",
    ".cache/uv",
    ".cache/yarn",
    ".composer/cache",
    ".cargo/.global-cache",
    ".cargo/.package-cache",
    ".cargo/.package-cache-mutate",
    ".gem/specs",
    ".ash_history",
    ".bash_history",
    ".mysql_history",
    ".mariadb_history",
    ".node_repl_history",
    ".psql_history",
    ".python_history",
    ".rediscli_history",
    ".lesshst",
    ".viminfo",
    ".wget-hsts",
    ".gnupg/random_seed",
];

/// Directories that go if nothing is left in them.
const EMPTY: &[&str] = &[".npm", ".cache/pypoetry", ".cache", ".composer", ".gem"];

/// Removes them from the home directory of every account; returns how many.
pub(super) fn tidy(tree: &Tree<'_>) -> io::Result<u64> {
    let mut removed = 0;
    for home in accounts(tree.root)?.homes() {
        let home = home.trim_matches('/');
        let mut here = 0;
        for name in GONE {
            for path in find(tree, &format!("{home}/{name}"))? {
                remove(&path)?;
                here += 1;
            }
        }
        if here == 0 {
            continue;
        }
        for name in EMPTY {
            for path in find(tree, &format!("{home}/{name}"))? {
                match fs::remove_dir(&path) {
                    Ok(()) => here += 1,
                    Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                    Err(error) => return Err(named(&path, &error)),
                }
            }
        }
        removed += here;
    }
    Ok(removed)
}

/// Reads the accounts of a root; one without account files has none.
pub(super) fn accounts(root: &Path) -> io::Result<Accounts> {
    let read = |file: &str| {
        let path = root.join(file.trim_start_matches('/'));
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
            read => read.map_err(|error| named(&path, &error)),
        }
    };
    Ok(Accounts::new(&read(PASSWD)?, &read(GROUP)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_of_every_account_go_and_what_is_run_or_built_from_stays() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("below")).expect("writable");
            fs::write(path, "x").expect("writable");
        };
        let gone = [
            "root/.npm/_logs/2026-01-01.log",
            "root/.npm/_cacache/index",
            "srv/app/.cache/pip/wheel",
            "root/.wget-hsts",
        ];
        let kept = [
            "root/.cargo/registry/src/x",
            "srv/app/.cache/ms-playwright/chrome",
            "srv/other/.npm/_logs/of-nobody",
            "root/go/pkg/mod/x",
        ];
        gone.iter().chain(&kept).for_each(|name| write(name));
        fs::create_dir(dir.path().join("etc")).expect("writable");
        fs::write(dir.path().join("etc/passwd"), "app:x:1:1::/srv/app:/bin/sh\nnobody:x:2:2::/:\n")
            .expect("writable");
        let tree = Tree { root: dir.path(), changes: None };
        assert_eq!(tidy(&tree).expect("ours"), 5, "four, and the empty `.npm`");
        for name in gone {
            assert!(!dir.path().join(name).exists(), "{name}");
        }
        for name in kept {
            assert!(dir.path().join(name).exists(), "{name}");
        }
        assert!(!dir.path().join("root/.npm").exists());
        assert_eq!(tidy(&tree).expect("ours"), 0);
    }
}
