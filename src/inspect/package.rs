//! The packages in a root file system, and which of its names belong to which: what dpkg and apk
//! have written down there.
//!
//! ```text
//! var/lib/dpkg/status              stanzas: Package, Version, Architecture, Status       (Debian)
//! var/lib/dpkg/status.d/*          one stanza each                                       (images made without dpkg)
//! var/lib/dpkg/info/NAME.list      absolute paths, one a line; NAME:ARCH.list where two architectures share a package
//! lib/apk/db/installed             P: name, V: version, F: directory, R: file               (Alpine)
//! ```
//! These files belong to the image: whatever they say is only ever shown, compared and counted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::tree::{self, Contents, Kind, Tree};

const STATUS: &[u8] = b"var/lib/dpkg/status";
const STATUS_D: &[u8] = b"var/lib/dpkg/status.d/";
const INFO: &[u8] = b"var/lib/dpkg/info/";
const APK: [&[u8]; 2] = [b"lib/apk/db/installed", b"usr/lib/apk/db/installed"];

/// Whether a file says something about packages.
pub(super) fn wanted(path: &[u8]) -> bool {
    path == STATUS
        || path.starts_with(STATUS_D)
        || (path.starts_with(INFO) && path.ends_with(b".list"))
        || APK.contains(&path)
}

/// What package managers and the scripts of packages keep of their own, and change with any
/// package.
const BOOKS: [&[u8]; 9] = [
    b"var/lib/dpkg",
    b"var/lib/apt/extended_states",
    b"var/lib/ucf",
    b"var/lib/systemd/deb-systemd-helper-enabled",
    b"var/lib/systemd/deb-systemd-user-helper-enabled",
    b"var/cache/debconf",
    b"etc/ld.so.cache",
    b"lib/apk/db",
    b"usr/lib/apk/db",
];

/// Whether a name is part of the bookkeeping of packages.
pub(super) fn is_bookkeeping(path: &[u8]) -> bool {
    BOOKS.iter().any(|book| path == *book || tree::below(path, book))
}

/// A package that is installed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Package {
    pub(super) version: String,
    /// Names that belong to it alone: no directories that others use too.
    pub(super) names: u64,
    /// Bytes of its regular files, each counted once.
    pub(super) bytes: u64,
}

/// The packages of one root file system.
#[derive(Debug, Clone, Default)]
pub(super) struct Packages {
    /// By name; `name:arch` where there are several of that name.
    pub(super) list: BTreeMap<Arc<str>, Package>,
    /// The package that a name belongs to; of several the first by name.
    owners: HashMap<Vec<u8>, Arc<str>>,
    /// Files of packages that a later layer than their package's has written.
    edited: HashSet<Vec<u8>>,
}

/// What a package manager has written down about one package.
#[derive(Debug, Default)]
struct Record {
    name: String,
    arch: String,
    version: String,
    installed: bool,
    paths: Vec<Vec<u8>>,
}

impl Packages {
    /// Reads what `contents` say about `tree`; `origin` gives the layer that a file came with.
    pub(super) fn of(
        tree: &Tree,
        contents: &Contents,
        origin: &dyn Fn(&[u8]) -> Option<usize>,
    ) -> Self {
        let mut records = vec![];
        for (path, text) in contents {
            if path == STATUS || path.starts_with(STATUS_D) {
                records.extend(stanzas(text));
            } else if APK.contains(&path.as_slice()) {
                records.extend(apk(text));
            }
        }
        records.retain(|record| record.installed && !record.name.is_empty());
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for record in &records {
            *count.entry(record.name.clone()).or_default() += 1;
        }
        let mut packages = Self::default();
        for record in &records {
            let Record { name, arch, version, .. } = record;
            let key: Arc<str> = if count[name] > 1 {
                format!("{name}:{arch}").into()
            } else {
                name.as_str().into()
            };
            packages
                .list
                .insert(key.clone(), Package { version: version.clone(), ..Package::default() });
            for path in &record.paths {
                packages.own(tree, path, &key);
            }
            for file in [format!("{name}.list"), format!("{name}:{arch}.list")] {
                let list = [INFO, file.as_bytes()].concat();
                let Some(text) = contents.get(&list) else { continue };
                let installed = origin(&list);
                for line in text.split(|b| *b == b'\n').filter(|line| line.len() > 1) {
                    if let Some(path) = packages.own(tree, line, &key)
                        && origin(&path) > installed
                    {
                        packages.edited.insert(path);
                    }
                }
            }
        }
        packages.measure(tree);
        packages
    }

    /// Whether a file of a package was written by a later step than its package's.
    pub(super) fn is_edited(&self, path: &[u8]) -> bool {
        self.edited.contains(path)
    }

    /// The package that a name belongs to.
    pub(super) fn owner(&self, path: &[u8]) -> Option<&Arc<str>> {
        self.owners.get(path)
    }

    /// Notes that a package has a name, and returns where it really is: packages say /bin/ls where
    /// the image has usr/bin/ls.
    fn own(&mut self, tree: &Tree, path: &[u8], key: &Arc<str>) -> Option<Vec<u8>> {
        let bare = path.strip_prefix(b"/").unwrap_or(path);
        let (directory, name) = (
            tree::parent(bare),
            &bare[bare.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1)..],
        );
        if name.is_empty() || matches!(name, b"." | b"..") {
            return None;
        }
        let path = tree::join(&tree.resolve(directory), name);
        match self.owners.get_mut(&path) {
            None => {
                self.owners.insert(path.clone(), key.clone());
            }
            // Directories are shared; a file in two packages is diverted. The first by name is as
            // good as any, as long as it is always the same.
            Some(known) if *key < *known => *known = key.clone(),
            Some(_) => {}
        }
        Some(path)
    }

    fn measure(&mut self, tree: &Tree) {
        let mut counted: BTreeSet<u64> = BTreeSet::new();
        for (path, node) in tree.iter() {
            let Some(package) = self.owners.get(path).and_then(|key| self.list.get_mut(key)) else {
                continue;
            };
            match &node.kind {
                Kind::Dir => {}
                Kind::File { size, .. } => {
                    package.names += 1;
                    if node.group.is_none_or(|group| counted.insert(group)) {
                        package.bytes = package.bytes.saturating_add(*size);
                    }
                }
                _ => package.names += 1,
            }
        }
    }
}

/// Reads dpkg's status: stanzas apart by blank lines, `Field: value`; what belongs to a field over
/// several lines begins with a blank.
fn stanzas(text: &[u8]) -> Vec<Record> {
    let text = String::from_utf8_lossy(text);
    let mut records = vec![];
    // A stanza of status.d has no Status: what is there is installed.
    let mut record = Record { installed: true, ..Record::default() };
    for line in text.lines().chain([""]) {
        if line.trim().is_empty() {
            records.push(std::mem::replace(
                &mut record,
                Record { installed: true, ..Record::default() },
            ));
            continue;
        }
        let Some((field, value)) =
            line.split_once(':').filter(|(field, _)| !field.starts_with([' ', '\t']))
        else {
            continue;
        };
        let value = value.trim();
        match field.to_ascii_lowercase().as_str() {
            "package" => record.name = value.to_owned(),
            "version" => record.version = value.to_owned(),
            "architecture" => record.arch = value.to_owned(),
            // `want flag state`: a package whose configuration alone is left is not there.
            "status" => {
                record.installed = !matches!(
                    value.split_whitespace().nth(2),
                    Some("not-installed" | "config-files")
                )
            }
            _ => {}
        }
    }
    records
}

/// Reads apk's database: `P:name` and so on, one letter a field; `F:` directories and the `R:`
/// files in them.
fn apk(text: &[u8]) -> Vec<Record> {
    let text = String::from_utf8_lossy(text);
    let mut records = vec![];
    let mut record = Record { installed: true, ..Record::default() };
    let mut directory = "";
    for line in text.lines().chain([""]) {
        if line.is_empty() {
            records.push(std::mem::replace(
                &mut record,
                Record { installed: true, ..Record::default() },
            ));
            directory = "";
            continue;
        }
        match line.split_once(':') {
            Some(("P", value)) => record.name = value.to_owned(),
            Some(("V", value)) => record.version = value.to_owned(),
            Some(("A", value)) => record.arch = value.to_owned(),
            Some(("F", value)) => {
                directory = value;
                record.paths.push(value.as_bytes().to_vec());
            }
            Some(("R", value)) => {
                record.paths.push(tree::join(directory.as_bytes(), value.as_bytes()))
            }
            _ => {}
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::layer::Metadata;
    use crate::tree::Node;

    fn node(kind: Kind) -> Node {
        Node { kind, meta: Metadata::default(), group: None }
    }

    fn tree(files: &[(&str, u64)]) -> Tree {
        let file = |size| node(Kind::File { size, digest: Some(Digest::of("x")) });
        let mut names: BTreeMap<Vec<u8>, Node> =
            files.iter().map(|(path, size)| (path.as_bytes().to_vec(), file(*size))).collect();
        names.insert(b"bin".to_vec(), node(Kind::Symlink(b"usr/bin".to_vec())));
        names.insert(b"usr".to_vec(), node(Kind::Dir));
        names.insert(b"usr/bin".to_vec(), node(Kind::Dir));
        Tree::new(names)
    }

    fn contents(files: &[(&str, &str)]) -> Contents {
        files
            .iter()
            .map(|(path, text)| (path.as_bytes().to_vec(), Arc::from(text.as_bytes())))
            .collect()
    }

    #[test]
    fn what_dpkg_has_written_down() {
        let status = "Package: dash\nStatus: install ok installed\nArchitecture: amd64\nVersion: \
            0.5.12-2\nDescription: x\n Version: no\n\n\
            Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n\
            Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36\n\n\
            Package: libc6\nStatus: install ok installed\nArchitecture: i386\nVersion: 2.36\n\n";
        let tree = tree(&[("usr/bin/dash", 10), ("usr/lib64.so", 5), ("usr/lib32.so", 7)]);
        let contents = contents(&[
            ("var/lib/dpkg/status", status),
            ("var/lib/dpkg/info/dash.list", "/.\n/usr\n/usr/bin\n/bin/dash\n/bin/sh\n"),
            ("var/lib/dpkg/info/libc6:amd64.list", "/.\n/usr\n/usr/lib64.so\n"),
            ("var/lib/dpkg/info/libc6:i386.list", "/.\n/usr/lib32.so\n"),
        ]);
        let origin = |path: &[u8]| Some(usize::from(path == b"usr/bin/dash"));
        let packages = Packages::of(&tree, &contents, &origin);
        let list: Vec<_> = packages
            .list
            .iter()
            .map(|(name, one)| format!("{name} {} {} {}", one.version, one.names, one.bytes))
            .collect();
        assert_eq!(list, ["dash 0.5.12-2 1 10", "libc6:amd64 2.36 1 5", "libc6:i386 2.36 1 7"]);
        assert_eq!(packages.owner(b"usr/bin/dash").map(|name| &**name), Some("dash"));
        assert_eq!(packages.owner(b"usr").map(|name| &**name), Some("dash"));
        assert_eq!(packages.owner(b"etc"), None);
        // A later layer than the one with its list has written it.
        assert!(packages.is_edited(b"usr/bin/dash") && !packages.is_edited(b"usr/lib64.so"));
    }

    #[test]
    fn what_others_have_written_down() {
        let tree = tree(&[("usr/bin/tool", 3), ("etc/tool.conf", 1)]);
        let apk = "C:Q1\nP:tool\nV:1.0-r0\nA:x86_64\nF:usr/bin\nR:tool\nZ:x\nF:etc\nR:tool.conf\n\nP:other\nV:2\n\n";
        let packages = Packages::of(&tree, &contents(&[("lib/apk/db/installed", apk)]), &|_| None);
        let list: Vec<_> = packages
            .list
            .iter()
            .map(|(name, one)| format!("{name} {} {} {}", one.version, one.names, one.bytes))
            .collect();
        assert_eq!(list, ["other 2 0 0", "tool 1.0-r0 2 4"]);
        let distroless = Packages::of(
            &tree,
            &contents(&[("var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 12\n")]),
            &|_| None,
        );
        assert_eq!(distroless.list.keys().map(|name| &**name).collect::<Vec<_>>(), ["base-files"]);
    }

    #[test]
    fn damaged_databases_do_no_harm() {
        let tree = tree(&[]);
        for text in [
            "",
            "\n\n\n",
            "Package\n: x\n",
            "Package: a\u{1b}[31m\nVersion:\n",
            "P:\nV:\n\nF:\nR:..\nP:x\n",
            "\u{0}",
        ] {
            for path in ["var/lib/dpkg/status", "lib/apk/db/installed"] {
                Packages::of(
                    &tree,
                    &contents(&[
                        (path, text),
                        ("var/lib/dpkg/info/a.list", "/..\n//\nx\n/../../y"),
                    ]),
                    &|_| None,
                );
            }
        }
    }
}
