//! What an image has below `/run`.
//!
//! Programs find their sockets and pid files in directories below `/run` that must be there when
//! they start, and not every deployer runs systemd, which would make them. So the directories that
//! packages and steps make stay, empty, with their owners and modes; files, sockets and symlinks,
//! which belong to a boot that is over, go. What packages only declare is made here: `d` and `D`
//! lines of tmpfiles.d(5), and `RuntimeDirectory=` of service units (systemd.exec(5)). Both are
//! read where the step changed them.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use super::changed::{Tree, deleted, find, named, remove};
use super::homes::accounts;

const TMPFILES: &[&str] = &["usr/lib/tmpfiles.d/*.conf", "etc/tmpfiles.d/*.conf"];
const UNITS: &[&str] = &[
    "usr/lib/systemd/system/*.service",
    "lib/systemd/system/*.service",
    "etc/systemd/system/*.service",
];

/// A directory that must be there when its program starts.
#[derive(Debug, PartialEq, Eq)]
struct Declared {
    mode: u32,
    /// `name` or `name:group`.
    owner: String,
}

/// By path below `/run`.
type Declarations = BTreeMap<PathBuf, Declared>;

/// Removes what a step left below `/run` but directories, and makes those that are declared;
/// returns how many changes that took.
pub(super) fn settle(tree: &Tree<'_>) -> io::Result<u64> {
    Ok(clear(tree)? + declare(tree)?)
}

fn clear(tree: &Tree<'_>) -> io::Result<u64> {
    let Some(looked) = tree.looked(Path::new("run"))? else { return Ok(0) };
    let mut removed = 0;
    for entry in walkdir::WalkDir::new(&looked).min_depth(1) {
        let entry = match entry {
            Ok(entry) => entry,
            // The step changed nothing there.
            Err(error) if error.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound) => {
                continue;
            }
            Err(error) => return Err(named(&looked, &error.into())),
        };
        let meta = entry.metadata().map_err(|error| named(entry.path(), &error.into()))?;
        if meta.is_dir() || deleted(&meta) {
            continue;
        }
        let below = entry.path().strip_prefix(&looked).map_err(io::Error::other)?;
        match remove(&tree.root.join("run").join(below)) {
            // A file that is shown to the job only, where a symlink of the image leads there.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            done => {
                done?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

fn declare(tree: &Tree<'_>) -> io::Result<u64> {
    let mut declared = Declarations::new();
    for (patterns, read) in [(TMPFILES, tmpfiles as fn(&str, &mut Declarations)), (UNITS, unit)] {
        for pattern in patterns {
            for path in find(tree, pattern)? {
                if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
                    let text = fs::read(&path).map_err(|error| named(&path, &error))?;
                    read(&String::from_utf8_lossy(&text), &mut declared);
                }
            }
        }
    }
    if declared.is_empty() {
        return Ok(0);
    }
    let accounts = accounts(tree.root)?;
    let mut made = 0;
    // Sorted: a directory comes before what is in it.
    for (below, Declared { mode, owner }) in declared {
        // An account that is made when the machine starts: so is the directory.
        let Ok(ids) = accounts.ids(&owner) else { continue };
        let path = tree.root.join("run").join(below);
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        let make = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o755).create(&path)?;
            std::os::unix::fs::lchown(&path, Some(ids.uid), Some(ids.gid))?;
            fs::set_permissions(&path, Permissions::from_mode(mode))
        };
        make().map_err(|error| named(&path, &error))?;
        made += 1;
    }
    Ok(made)
}

/// Returns `path` relative to `/run`; `None` if it is not below it, or is systemd's own, which
/// makes these on a `/run` of its own.
fn below_run(path: &str) -> Option<PathBuf> {
    let below = path.strip_prefix("/run/").or_else(|| path.strip_prefix("/var/run/"))?;
    let below = Path::new(below.trim_end_matches('/'));
    let plain = below.components().all(|part| matches!(part, Component::Normal(_)));
    // `%` begins what only a running systemd knows.
    (plain
        && below.components().next().is_some()
        && !path.contains('%')
        && !below.starts_with("systemd"))
    .then(|| below.to_owned())
}

fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text.trim_start_matches(['~', ':']), 8).ok().filter(|mode| *mode <= 0o7777)
}

/// Reads a file of tmpfiles.d(5): type, path, mode, user, group, each `-` for the default.
fn tmpfiles(text: &str, found: &mut Declarations) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let mut word = || words.next().filter(|word| *word != "-");
        let (Some(kind), Some(path)) = (word(), word()) else { continue };
        let (mode, user, group) = (word(), word(), word());
        if !matches!(kind.trim_end_matches(['!', '+', '-', '=', '~', '^', '$']), "d" | "D") {
            continue;
        }
        let Some(below) = below_run(path) else { continue };
        let Some(mode) = mode.map_or(Some(0o755), octal) else { continue };
        let (user, group) = (user.unwrap_or("root"), group.unwrap_or("root"));
        let plain = |name: &str| name.trim_start_matches(':').to_owned();
        let owner = format!("{}:{}", plain(user), plain(group));
        found.entry(below).or_insert(Declared { mode, owner });
    }
}

/// Reads a service unit.
fn unit(text: &str, found: &mut Declarations) {
    let mut section = "";
    let mut settings: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section == "[Service]"
            && let Some((key, value)) = line.split_once('=')
        {
            let values = settings.entry(key.trim()).or_default();
            match value.trim() {
                // Resets the list before it.
                "" => values.clear(),
                value => values.push(value),
            }
        }
    }
    let last = |key: &str| settings.get(key).and_then(|values| values.last()).copied();
    // A user that systemd makes up when it starts the service.
    if last("DynamicUser").is_some_and(|value| matches!(value, "yes" | "true" | "1" | "on")) {
        return;
    }
    let Some(mode) = last("RuntimeDirectoryMode").map_or(Some(0o755), octal) else { return };
    let user = last("User").unwrap_or("root");
    let owner = last("Group").map_or_else(|| user.to_owned(), |group| format!("{user}:{group}"));
    for name in settings.get("RuntimeDirectory").into_iter().flatten().flat_map(|v| v.split(' ')) {
        // `name:symlink`
        let name = name.split(':').next().unwrap_or(name);
        if let Some(below) = below_run(&format!("/run/{name}")) {
            found.entry(below).or_insert_with(|| Declared { mode, owner: owner.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(read: fn(&str, &mut Declarations), text: &str) -> Vec<String> {
        let mut found = Declarations::new();
        read(text, &mut found);
        let show = |(path, one): (PathBuf, Declared)| {
            format!("{} {:o} {}", path.display(), one.mode, one.owner)
        };
        found.into_iter().map(show).collect()
    }

    /// E2
    #[test]
    fn directories_that_packages_declare() {
        let text = "# d /run/no\n   d /run/php  0755 www-data www-data - -\nD! /var/run/pg 2775 \
            postgres postgres\n\
            d /run/a/b - - -\nf /run/file 0644 root root\nL /run/shm - - - - /dev/shm\nd /run/%i \
            0755 x x\n\
            d /run/../etc/x\nd /run/systemd/netif 0755 systemd-network systemd-network -\nd \
            /var/lib/x\nd /run/bad 99";
        assert_eq!(
            read(tmpfiles, text),
            ["a/b 755 root:root", "pg 2775 postgres:postgres", "php 755 www-data:www-data"]
        );
        let text = "[Unit]\nRuntimeDirectory=no\n[Service]\nUser=redis\nGroup=redis\nRuntimeDirectory=redis a/b\nRuntimeDirectoryMode=2755\n";
        assert_eq!(read(unit, text), ["a/b 2755 redis:redis", "redis 2755 redis:redis"]);
        assert_eq!(read(unit, "[Service]\nRuntimeDirectory=sshd\n"), ["sshd 755 root"]);
        for nothing in [
            "[Service]\nRuntimeDirectory=x\nRuntimeDirectory=\n",
            "[Service]\nRuntimeDirectory=x-%i\n",
            "[Service]\nDynamicUser=yes\nRuntimeDirectory=x\n",
            "[Service]\nRuntimeDirectory=../x\n",
        ] {
            assert_eq!(read(unit, nothing), [""; 0], "{nothing}");
        }
    }

    #[test]
    fn directories_stay_and_what_a_boot_left_goes() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(dir.path().join("run/app/sub")).expect("writable");
        fs::write(dir.path().join("run/app/x.pid"), "1").expect("writable");
        std::os::unix::fs::symlink("app/x.pid", dir.path().join("run/link")).expect("writable");
        let tree = Tree { root: dir.path(), changes: None };
        assert_eq!(settle(&tree).expect("ours"), 2);
        assert!(dir.path().join("run/app/sub").is_dir());
        assert!(!dir.path().join("run/app/x.pid").exists());
        assert_eq!(settle(&tree).expect("ours"), 0);
    }
}
