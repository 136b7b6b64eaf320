//! What one image has that another has not: packages, files, how it runs, and where its bytes are.
//!
//! Lower layers that both share are read once; images made of the same layers are not read at all.
//! Files of a package that came, went or got another version are counted with the package and,
//! unless all is asked for, not named: a person wants the reason, not its thousand effects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::change::{Change, How};
use super::error::Error;
use super::package::{self, Packages};
use super::picture::Opened;
use crate::digest::Digest;
use crate::image::{Platform, Reference};
use crate::store::Store;
use crate::threads;
use crate::tree::{self, Kind, Reader, Tree};

mod config;
mod files;

pub use config::Setting;
pub use files::FileChange;

/// The difference between two images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// The first image.
    pub before: Side,
    /// The second.
    pub after: Side,
    /// Whether packages, files and settings are the same; layers and history may differ.
    pub alike: bool,
    /// Packages that came, went or have another version, by name.
    pub packages: Vec<PackageChange>,
    /// How the images run: the settings that differ.
    pub config: Vec<Setting>,
    /// How many names, all of them.
    pub counts: Counts,
    /// Names that differ and are not folded into a package, in order.
    pub changes: Vec<FileChange>,
}

/// One of the two images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    /// Name.
    pub name: String,
    /// Version.
    pub version: Option<String>,
    /// Digest that the version names.
    pub digest: Digest,
    /// Bytes of its layers as stored.
    pub stored: u64,
    /// Bytes of its files, each counted once; `None` where nothing had to be read.
    pub bytes: Option<u64>,
    /// Names in its root file system.
    pub names: Option<u64>,
    /// What made its layers, lowest first.
    pub steps: Vec<Step>,
}

/// A layer and what made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// As the history says.
    pub created_by: Option<String>,
    /// sha256 of the stored layer.
    pub layer: Digest,
    /// Stored bytes.
    pub size: u64,
    /// The other image has this very layer, on top of the same ones.
    pub shared: bool,
}

/// A package that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    /// Name; `name:arch` where there are several of that name.
    pub name: String,
    /// What happened: `changed` means another version.
    pub change: How,
    /// Version before.
    pub before: Option<String>,
    /// Version after.
    pub after: Option<String>,
    /// Bytes of its files before.
    pub bytes_before: u64,
    /// Bytes of its files after.
    pub bytes_after: u64,
    /// Names of it that differ.
    pub files: u64,
}

/// How many names differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Only in the second.
    pub added: u64,
    /// Only in the first.
    pub removed: u64,
    /// In both, not the same.
    pub changed: u64,
    /// Of all these, those that belong to a package that differs, or to the package manager's
    /// books.
    pub folded: u64,
}

/// What was read of one image.
struct Read {
    tree: Tree,
    packages: Packages,
}

impl Read {
    fn of(reader: Reader) -> Self {
        let contents = reader.contents();
        let tree = reader.tree();
        let packages = Packages::of(&tree, &contents, &|path| reader.origin(path));
        Self { tree, packages }
    }
}

/// Compares two stored images; of indexes those for `platform`, else for this machine. With `all`,
/// every name is listed: of packages that differ too, and in directories that came or went as a
/// whole.
pub fn diff(
    store: &Store,
    before: &Reference,
    after: &Reference,
    platform: Option<&Platform>,
    all: bool,
) -> Result<Diff, Error> {
    let find = |reference| Opened::find(store, reference, platform);
    let (old, new) = (find(before)?, find(after)?);
    let (old_ids, new_ids) = (&old.config.rootfs.diff_ids, &new.config.rootfs.diff_ids);
    let shared = old_ids.iter().zip(new_ids).take_while(|(old, new)| old == new).count();
    let mut diff = Diff {
        before: side(&old, shared),
        after: side(&new, shared),
        alike: false,
        packages: vec![],
        config: config::compare(&old.config, &new.config),
        counts: Counts::default(),
        changes: vec![],
    };
    if old_ids != new_ids {
        let mut common = Reader::keeping(package::wanted);
        for at in 0..shared {
            old.read_layer(store, at, &mut common)?;
        }
        let rest = |image: &Opened, mut reader: Reader| {
            (shared..image.manifest.layers.len())
                .try_for_each(|at| image.read_layer(store, at, &mut reader))?;
            Ok::<_, Error>(Read::of(reader))
        };
        let second = common.clone();
        let (before, after) =
            threads::in_pool(|| rayon::join(|| rest(&old, common), || rest(&new, second)));
        let (before, after) = (before?, after?);
        measure(&mut diff.before, &before.tree);
        measure(&mut diff.after, &after.tree);
        fill(&mut diff, &before, &after, all);
    }
    diff.alike =
        diff.packages.is_empty() && diff.config.is_empty() && diff.counts == Counts::default();
    Ok(diff)
}

fn side(image: &Opened, shared: usize) -> Side {
    let mut by = image
        .config
        .history
        .iter()
        .filter(|entry| !entry.empty_layer)
        .map(|entry| entry.created_by.clone());
    let steps = image.manifest.layers.iter().enumerate().map(|(at, layer)| Step {
        created_by: by.next(),
        layer: layer.digest,
        size: layer.size,
        shared: at < shared,
    });
    let Reference { name, version, .. } = image.version.reference.clone();
    Side {
        name,
        version,
        digest: image.version.manifest.digest,
        stored: image
            .manifest
            .layers
            .iter()
            .fold(0, |sum: u64, layer| sum.saturating_add(layer.size)),
        bytes: None,
        names: None,
        steps: steps.collect(),
    }
}

fn measure(side: &mut Side, tree: &Tree) {
    let mut counted = BTreeSet::new();
    let mut bytes: u64 = 0;
    for (_, node) in tree.iter() {
        if let Kind::File { size, .. } = node.kind
            && node.group.is_none_or(|group| counted.insert(group))
        {
            bytes = bytes.saturating_add(size);
        }
    }
    side.bytes = Some(bytes);
    side.names = Some(tree.len() as u64);
}

fn fill(diff: &mut Diff, before: &Read, after: &Read, all: bool) {
    let (old, new) = (&before.packages, &after.packages);
    let mut packages: BTreeMap<Arc<str>, PackageChange> = BTreeMap::new();
    for name in old.list.keys().chain(new.list.keys()) {
        let (was, is) = (old.list.get(name), new.list.get(name));
        let change = match (was, is) {
            (Some(was), Some(is)) if was.version == is.version => continue,
            (Some(_), Some(_)) => How::Changed,
            (None, _) => How::Added,
            (_, None) => How::Removed,
        };
        packages.entry(name.clone()).or_insert_with(|| PackageChange {
            name: name.to_string(),
            change,
            before: was.map(|package| package.version.clone()),
            after: is.map(|package| package.version.clone()),
            bytes_before: was.map_or(0, |package| package.bytes),
            bytes_after: is.map_or(0, |package| package.bytes),
            files: 0,
        });
    }
    let mut own = vec![];
    for change in files::compare(&before.tree, &after.tree) {
        match change.how {
            How::Added => diff.counts.added += 1,
            How::Removed => diff.counts.removed += 1,
            How::Changed => diff.counts.changed += 1,
        }
        let owner = new.owner(&change.path).or_else(|| old.owner(&change.path));
        // A name may have gone from one package to another.
        let owners = [new.owner(&change.path), old.owner(&change.path)].into_iter().flatten();
        let mover = owners
            .into_iter()
            .find(|name| packages.contains_key(*name))
            .or_else(|| pointed_at(&change, before, after, &packages))
            .cloned();
        // What another step has written into a package's place is that step's doing; unless the
        // whole package went.
        let gone = mover.as_ref().is_some_and(|name| packages[name].change == How::Removed);
        let edited = new.is_edited(&change.path) || (!gone && old.is_edited(&change.path));
        let folded = !edited
            && (mover.is_some() || (!packages.is_empty() && package::is_bookkeeping(&change.path)));
        if let Some(package) = mover.filter(|_| folded).and_then(|name| packages.get_mut(&name)) {
            package.files += 1;
        }
        diff.counts.folded += u64::from(folded);
        if all || !folded {
            own.push(FileChange { package: owner.map(|name| name.to_string()), change });
        }
    }
    diff.changes = if all { own } else { files::fold(own) };
    diff.packages = packages.into_values().collect();
}

/// The package that came or went with what a symbolic link points at: a service that is enabled, a
/// module that is loaded.
fn pointed_at<'a>(
    change: &Change,
    before: &'a Read,
    after: &'a Read,
    packages: &BTreeMap<Arc<str>, PackageChange>,
) -> Option<&'a Arc<str>> {
    let (side, node) = match (&change.before, &change.after) {
        (Some(node), None) => (before, node),
        (None, Some(node)) => (after, node),
        _ => return None,
    };
    let Kind::Symlink(target) = &node.kind else { return None };
    let path = if target.starts_with(b"/") {
        target.clone()
    } else {
        tree::join(tree::parent(&change.path), target)
    };
    let package = side.packages.owner(&side.tree.resolve(&path))?;
    packages.get(package).is_some_and(|one| one.change == change.how).then_some(package)
}
