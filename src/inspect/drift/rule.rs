//! What is left out of a comparison. `docs/drift.md` says the same to people.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::inspect::error::Error;
use crate::tree::{self, Tree};

/// Directories that belong to the kernel or to one boot, with all that is in them.
const VOLATILE: [&str; 5] = ["proc", "sys", "dev", "run", "tmp"];

/// What every machine writes though nobody changed it; `--strict` compares these too. Directories
/// themselves are compared, what is in them is not.
const WRITTEN: [&str; 29] = [
    // Container engines put their own in place.
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/mtab",
    "/.dockerenv",
    "/.containerenv",
    // Made at the first boot, different everywhere; bake removes them from images.
    "/etc/machine-id",
    "/var/lib/dbus/machine-id",
    "/etc/ssh/ssh_host_*_key",
    "/etc/ssh/ssh_host_*_key.pub",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
    // Kept by systemd, cron, apt and logrotate from one run to the next.
    "/etc/.updated",
    "/var/.updated",
    "/etc/adjtime",
    "/etc/.pwd.lock",
    "/var/lib/systemd/linger/",
    "/var/lib/systemd/timers/",
    "/var/lib/systemd/timesync/",
    "/var/lib/systemd/rfkill/",
    "/var/lib/systemd/backlight/",
    "/var/lib/systemd/coredump/**",
    "/var/lib/logrotate/status",
    "/var/cache/ldconfig/aux-cache",
    "/var/lib/apt/lists/**",
    "/var/cache/apt/**",
    // Logs and scratch.
    "/var/log/**",
    "/var/tmp/**",
    // Made by mkfs.
    "/lost+found/",
];

/// What is left out.
#[derive(Debug)]
pub(super) struct Rules {
    /// Clean paths of directories that are left out with all that is in them.
    directories: Vec<Vec<u8>>,
    patterns: Gitignore,
}

impl Rules {
    /// Collects what is left out: always the kernel's directories and `volumes` (absolute paths,
    /// symlinks followed in `tree`), then, unless `strict`, what every machine writes, then
    /// `patterns`, of which later ones may take earlier ones back.
    pub(super) fn new<'a>(
        tree: &Tree,
        volumes: &[String],
        patterns: impl Iterator<Item = &'a String>,
        strict: bool,
    ) -> Result<Self, Error> {
        let mut directories: Vec<Vec<u8>> = VOLATILE.map(|name| name.as_bytes().to_vec()).to_vec();
        directories.extend(
            volumes
                .iter()
                .map(|path| tree.resolve(path.as_bytes()))
                .filter(|path| !path.is_empty()),
        );
        directories.sort_unstable();
        let mut builder = GitignoreBuilder::new("");
        let mut add = |pattern: &str| {
            let wrong = |why: String| Error::Pattern { pattern: pattern.to_owned(), why };
            builder.add_line(None, pattern).map(|_| ()).map_err(|error| wrong(error.to_string()))
        };
        if !strict {
            WRITTEN.iter().try_for_each(|pattern| add(pattern))?;
        }
        for pattern in patterns {
            add(pattern)?;
        }
        let patterns = builder
            .build()
            .map_err(|error| Error::Pattern { pattern: String::new(), why: error.to_string() })?;
        Ok(Self { directories, patterns })
    }

    /// Whether a name is left out, its directory not being so.
    pub(super) fn leaves_out(&self, path: &[u8], directory: bool) -> bool {
        if path.is_empty() {
            return false;
        }
        self.directories.binary_search_by(|known| known.as_slice().cmp(path)).is_ok()
            || self.patterns.matched(Path::new(OsStr::from_bytes(path)), directory).is_ignore()
    }

    /// Whether a name, or a directory it is in, is left out.
    pub(super) fn leaves_out_deep(&self, path: &[u8], directory: bool) -> bool {
        let mut above = tree::parent(path);
        while !above.is_empty() {
            if self.leaves_out(above, true) {
                return true;
            }
            above = tree::parent(above);
        }
        self.leaves_out(path, directory)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::layer::Metadata;
    use crate::tree::Kind;
    use crate::tree::Node;

    fn rules(patterns: &[&str], strict: bool) -> Rules {
        let link = Node {
            kind: Kind::Symlink(b"usr/lib".to_vec()),
            meta: Metadata::default(),
            group: None,
        };
        let tree = Tree::new(BTreeMap::from([(b"lib".to_vec(), link)]));
        let volumes = ["/lib/data/".to_owned(), "/srv/x y".to_owned()];
        let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
        Rules::new(&tree, &volumes, patterns.iter(), strict).expect("good patterns")
    }

    #[test]
    fn what_is_no_ones_is_left_out() {
        let rules = rules(
            &[
                "*.pyc",
                "/srv/cache/",
                "!/srv/cache.d/keep",
                "/etc/app/*.conf",
                "!/etc/app/main.conf",
                "!/var/log/keep",
            ],
            false,
        );
        for (path, directory, out) in [
            ("", true, false),
            ("proc", true, true),
            ("proc/1/exe", false, true),
            ("process", true, false),
            ("usr/proc", true, false),
            ("usr/lib/data", true, true),
            ("usr/lib/data/x", false, true),
            ("srv/x y/z", false, true),
            ("usr/lib/python3/a.pyc", false, true),
            ("srv/cache", true, true),
            ("srv/cache", false, false),
            ("srv/cache/deep/down", false, true),
            ("etc/app/other.conf", false, true),
            ("etc/app/main.conf", false, false),
            ("etc/hostname", false, true),
            ("etc/ssh/ssh_host_rsa_key", false, true),
            ("etc/ssh/sshd_config", false, false),
            ("var/log", true, false),
            ("var/log/nginx/access.log", false, true),
            ("var/log/keep", false, false),
            ("home/me/var/log/x", false, false),
        ] {
            assert_eq!(rules.leaves_out_deep(path.as_bytes(), directory), out, "{path}");
        }
        assert!(rules.leaves_out(b"x\xff\n.pyc", false));
    }

    #[test]
    fn strict_is_strict() {
        let rules = rules(&[], true);
        assert!(
            !rules.leaves_out_deep(b"etc/hostname", false)
                && !rules.leaves_out_deep(b"var/log/x", false)
        );
        assert!(
            rules.leaves_out_deep(b"run/x", false) && rules.leaves_out_deep(b"usr/lib/data", true)
        );
    }
}
