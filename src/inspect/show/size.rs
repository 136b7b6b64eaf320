//! Where the bytes of an image are: by directory and by package.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};

use crate::image::{Platform, Reference};
use crate::inspect::error::Error;
use crate::inspect::package::{self, Packages};
use crate::inspect::picture::Opened;
use crate::store::Store;
use crate::tree::{Kind, Reader, Tree};

/// Parts of a path that make a directory of its own in [`Sizes::directories`].
const DEPTH: usize = 2;

/// Where the bytes of an image are. Bytes are those of regular files as they are unpacked, each
/// file once however many names it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of all files.
    pub bytes: u64,
    /// Names of all files.
    pub files: u64,
    /// Directories at the top and one below, with all that is in them; the largest first.
    pub directories: Vec<DirectorySize>,
    /// Installed packages, the largest first.
    pub packages: Vec<PackageSize>,
    /// What belongs to no package.
    pub unpackaged: (u64, u64),
}

/// A directory with all that is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DirectorySize {
    /// Clean path.
    #[serde(serialize_with = "absolute")]
    pub path: Vec<u8>,
    /// Bytes.
    pub bytes: u64,
    /// Names of regular files.
    pub files: u64,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageSize {
    /// Name; `name:arch` where there are several of that name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// Names that are its own, directories aside.
    pub files: u64,
}

fn absolute<S: Serializer>(path: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("/{}", String::from_utf8_lossy(path)))
}

/// Reads a stored image, and sums it up.
pub fn sizes(
    store: &Store,
    reference: &Reference,
    platform: Option<&Platform>,
) -> Result<Sizes, Error> {
    let image = Opened::find(store, reference, platform)?;
    let mut reader = Reader::keeping(package::wanted);
    for at in 0..image.manifest.layers.len() {
        image.read_layer(store, at, &mut reader)?;
    }
    let tree = reader.tree();
    let packages = Packages::of(&tree, &reader.contents(), &|path| reader.origin(path));
    Ok(sum(&tree, &packages))
}

fn sum(tree: &Tree, packages: &Packages) -> Sizes {
    let mut directories: BTreeMap<&[u8], (u64, u64)> = BTreeMap::new();
    let (mut bytes, mut files) = (0u64, 0u64);
    let mut unpackaged = (0u64, 0u64);
    let mut counted = BTreeSet::new();
    for (path, node) in tree.iter() {
        let Kind::File { size, .. } = node.kind else { continue };
        let size = if node.group.is_none_or(|group| counted.insert(group)) { size } else { 0 };
        let add = |sum: &mut (u64, u64)| *sum = (sum.0.saturating_add(size), sum.1 + 1);
        bytes = bytes.saturating_add(size);
        files += 1;
        if packages.owner(path).is_none() {
            add(&mut unpackaged);
        }
        for (at, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/').take(DEPTH) {
            add(directories.entry(&path[..at]).or_default());
        }
    }
    let directories = directories.into_iter().map(|(path, (bytes, files))| DirectorySize {
        path: path.to_owned(),
        bytes,
        files,
    });
    let mut directories: Vec<DirectorySize> = directories.collect();
    directories.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    let package = |(name, one): (&std::sync::Arc<str>, &package::Package)| PackageSize {
        name: name.to_string(),
        version: one.version.clone(),
        bytes: one.bytes,
        files: one.names,
    };
    let mut packages: Vec<PackageSize> = packages.list.iter().map(package).collect();
    packages.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    Sizes { bytes, files, directories, packages, unpackaged }
}
