//! What a root file system is, name by name: kind, contents by sha256, mode, owner, attributes.
//! Made from layers or from a text, and compared.
//!
//! ```text
//! layers ── Reader ──► Tree ── write ──► an mtree(5) text ── read ──► Tree
//!                       └── what ──► how one name differs from another
//! ```
//! Times are kept but never compared: the same files at another time are the same files. Not here:
//! reading blobs (`store`, `output`) and looking at a living root (`inspect`).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, Read};
use std::sync::Arc;

use crate::digest::{Digest, HashWriter};
use crate::layer::{self, Entry, Limits, Merged, Metadata, NodeKind, TarReader};
use crate::rootfs::resolve;

mod attribute;
mod mtree;
mod name;
mod what;

pub use attribute::{describe, shrink};
pub use mtree::{Subject, Unreadable, read, write};
pub use name::{escape, shown};
pub use what::{What, differences};

/// A root file system as a list of its names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// Clean paths (relative, no `./`; the top directory is empty and may be missing) in the order
    /// of [`layer::compare`].
    nodes: Vec<(Vec<u8>, Node)>,
}

/// What stands under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Mode, owner, time, attributes.
    pub meta: Metadata,
    /// Names with the same number are one file; names of their own have none.
    pub group: Option<u64>,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// sha256 of its contents, if they were read; a tree from layers or a text always has it.
        digest: Option<Digest>,
    },
    /// A symlink with this target.
    Symlink(Vec<u8>),
    /// A fifo.
    Fifo,
    /// A socket; only on a living machine.
    Socket,
    /// A character or block device; only on a living machine.
    Device,
}

impl Kind {
    /// One word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dir => "directory",
            Self::File { .. } => "file",
            Self::Symlink(_) => "symlink",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Device => "device",
        }
    }
}

impl Tree {
    /// Makes a tree of names, which are sorted here; a name given twice stays as it was given last.
    pub fn new(names: BTreeMap<Vec<u8>, Node>) -> Self {
        let mut nodes: Vec<_> = names.into_iter().collect();
        nodes.sort_unstable_by(|a, b| layer::compare(&a.0, &b.0));
        Self { nodes }
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// All names in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.nodes.iter().map(|(path, node)| (&**path, node))
    }

    /// Finds the place of a name in [`Tree::iter`].
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        self.nodes.binary_search_by(|(found, _)| layer::compare(found, path)).ok()
    }

    /// The name at a place of [`Tree::find`].
    pub fn at(&self, place: usize) -> (&[u8], &Node) {
        let (path, node) = &self.nodes[place];
        (path, node)
    }

    /// What stands under a name.
    pub fn get(&self, path: &[u8]) -> Option<&Node> {
        self.find(path).map(|place| &self.nodes[place].1)
    }

    /// Whether anything is in the directory `path`.
    pub fn has_inside(&self, path: &[u8]) -> bool {
        let place = match self.nodes.binary_search_by(|(found, _)| layer::compare(found, path)) {
            Ok(place) => place + 1,
            Err(place) => place,
        };
        self.nodes.get(place).is_some_and(|(next, _)| below(next, path))
    }

    /// Follows the symlinks in an absolute or relative path, inside the tree; what does not
    /// exist is taken as it is written.
    pub fn resolve(&self, path: &[u8]) -> Vec<u8> {
        let symlink = |at: &[u8]| match self.get(at).map(|node| &node.kind) {
            Some(Kind::Symlink(target)) => Ok::<_, Infallible>(Some(target.to_vec())),
            _ => Ok(None),
        };
        // What leads in a circle does not exist either.
        let found = resolve::path(path, symlink)
            .or_else(|_| resolve::path(path, |_| Ok::<_, Infallible>(None)));
        found.unwrap_or_default()
    }
}

/// Whether `path` is inside the directory `directory`; everything but the top is inside the empty
/// one.
pub fn below(path: &[u8], directory: &[u8]) -> bool {
    if directory.is_empty() {
        !path.is_empty()
    } else {
        path.starts_with(directory) && path.get(directory.len()) == Some(&b'/')
    }
}

/// Puts a name under a directory; the empty directory is the top.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
    [directory, slash, name].concat()
}

/// The directory that a name is in; of a name at the top, and of the top itself, the empty path.
pub fn parent(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|b| *b == b'/').unwrap_or(0)]
}

/// Compares two paths as [`Tree::iter`] sorts them.
pub fn order(a: &[u8], b: &[u8]) -> Ordering {
    layer::compare(a, b)
}

/// Bytes of one file whose contents a [`Reader`] keeps, and of all of them.
const MAX_KEPT: (u64, u64) = (64 << 20, 512 << 20);

/// Reads layers, lowest first, one upon the other. Holds names and digests, and contents only of
/// files that were asked for. A clone goes on from where it is: images that share their lower
/// layers need read these only once.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    merged: Merged,
    digests: Vec<Digest>,
    limits: Limits,
    wanted: Option<fn(&[u8]) -> bool>,
    /// Contents by place in `digests`.
    kept: BTreeMap<u64, Arc<[u8]>>,
    kept_bytes: u64,
    /// Where each layer starts in `digests`.
    starts: Vec<u64>,
}

/// Contents of files by clean path.
pub type Contents = BTreeMap<Vec<u8>, Arc<[u8]>>;

impl Reader {
    /// Starts with nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts with nothing, and keeps the contents of files whose paths are `wanted`, as long as
    /// they are of a sensible size.
    pub fn keeping(wanted: fn(&[u8]) -> bool) -> Self {
        Self { wanted: Some(wanted), ..Self::default() }
    }

    /// Puts the layer in the uncompressed `tar` on top.
    pub fn layer(&mut self, tar: &mut dyn Read) -> Result<(), layer::Error> {
        let mut reader = TarReader::new(tar, &self.limits);
        self.starts.push(self.digests.len() as u64);
        let Self { digests, wanted, kept, kept_bytes, .. } = self;
        let mut bytes = 0;
        let mut keep = |entry: &Entry, data: &mut dyn Read| {
            let read = |source| layer::Error::Read { source };
            let wanted = wanted.is_some_and(|wanted| wanted(&entry.path));
            let seen =
                if wanted && entry.size <= MAX_KEPT.0 && *kept_bytes + entry.size <= MAX_KEPT.1 {
                    let mut text = vec![];
                    data.read_to_end(&mut text).map_err(read)?;
                    digests.push(Digest::of(&text));
                    let seen = text.len() as u64;
                    *kept_bytes += seen;
                    kept.insert(digests.len() as u64 - 1, text.into());
                    seen
                } else {
                    let mut hash = HashWriter::new(io::sink());
                    io::copy(data, &mut hash).map_err(read)?;
                    let (_, digest, seen) = hash.finish();
                    digests.push(digest);
                    seen
                };
            if seen != entry.size {
                return Err(layer::Error::Tar { why: layer::Wrong::Truncated });
            }
            bytes += seen;
            Ok(digests.len() as u64 - 1)
        };
        self.merged.apply(&mut reader, &mut keep)?;
        self.limits.entries = self.limits.entries.saturating_sub(reader.counted().entries);
        self.limits.bytes = self.limits.bytes.saturating_sub(bytes);
        Ok(())
    }

    /// The number of the layer, from 0, that the contents of the regular file `path` came with.
    pub fn origin(&self, path: &[u8]) -> Option<usize> {
        match self.merged.get(path)?.kind {
            NodeKind::File { contents, .. } => {
                self.starts.partition_point(|start| *start <= contents).checked_sub(1)
            }
            _ => None,
        }
    }

    /// Returns the contents that were kept of files that are still there.
    pub fn contents(&self) -> Contents {
        let mut found = Contents::new();
        for (path, node) in self.merged.iter() {
            if let NodeKind::File { contents, .. } = &node.kind
                && let Some(text) = self.kept.get(contents)
            {
                found.insert(path.to_owned(), text.clone());
            }
        }
        found
    }

    /// Returns what the layers make together.
    pub fn tree(&self) -> Tree {
        let mut nodes = Vec::with_capacity(self.merged.len() + 1);
        nodes.extend(self.nodes().map(|(path, node)| (path.to_owned(), node)));
        Tree { nodes }
    }

    /// All names in order, each made when it is asked for.
    fn nodes(&self) -> impl Iterator<Item = (&[u8], Node)> {
        let top = self
            .merged
            .top()
            .map(|top| (&[][..], Node { kind: Kind::Dir, meta: top.clone(), group: None }));
        // Numbered by first name, so that equal trees are equal numbers.
        let mut numbers: BTreeMap<u32, u64> = BTreeMap::new();
        let below = self.merged.iter().map(move |(path, node)| {
            let kind = match &node.kind {
                NodeKind::Dir => Kind::Dir,
                NodeKind::File { size, contents } => {
                    let digest = usize::try_from(*contents)
                        .ok()
                        .and_then(|place| self.digests.get(place))
                        .copied();
                    Kind::File { size: *size, digest }
                }
                NodeKind::Symlink(target) => Kind::Symlink(target.to_vec()),
                NodeKind::Fifo => Kind::Fifo,
            };
            let next = numbers.len() as u64 + 1;
            let group =
                (self.merged.names(node) > 1).then(|| *numbers.entry(node.inode).or_insert(next));
            (path, Node { kind, meta: self.merged.meta(node).clone(), group })
        });
        top.into_iter().chain(below)
    }
}

/// A list of names in order, whatever holds it.
pub trait Names {
    /// Gives `take` every name and what stands under it, until it fails.
    fn each(&self, take: &mut dyn FnMut(&[u8], &Node) -> io::Result<()>) -> io::Result<()>;
}

impl Names for Tree {
    fn each(&self, take: &mut dyn FnMut(&[u8], &Node) -> io::Result<()>) -> io::Result<()> {
        self.iter().try_for_each(|(path, node)| take(path, node))
    }
}

impl Names for Reader {
    /// As its [`Reader::tree`] does, which of a million names would be twice as much memory again.
    fn each(&self, take: &mut dyn FnMut(&[u8], &Node) -> io::Result<()>) -> io::Result<()> {
        self.nodes().try_for_each(|(path, node)| take(path, &node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kind: Kind) -> Node {
        Node { kind, meta: Metadata { mode: 0o755, ..Metadata::default() }, group: None }
    }

    fn tree() -> Tree {
        let link = |target: &str| node(Kind::Symlink(target.as_bytes().to_vec()));
        let names = [
            ("lib", link("usr/lib")),
            ("usr", node(Kind::Dir)),
            ("usr/lib", node(Kind::Dir)),
            ("usr/lib/up", link("../../etc")),
            ("usr-x", node(Kind::Dir)),
            ("loop", link("/loop")),
            ("etc", node(Kind::Dir)),
        ];
        Tree::new(names.into_iter().map(|(path, node)| (path.as_bytes().to_vec(), node)).collect())
    }

    #[test]
    fn names_are_found_in_the_order_of_a_layer() {
        let tree = tree();
        let paths: Vec<_> =
            tree.iter().map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect();
        assert_eq!(paths, ["etc", "lib", "loop", "usr", "usr/lib", "usr/lib/up", "usr-x"]);
        for (place, path) in paths.iter().enumerate() {
            assert_eq!(tree.find(path.as_bytes()), Some(place));
        }
        assert_eq!(tree.find(b"usr/l"), None);
        assert!(
            tree.has_inside(b"usr")
                && tree.has_inside(b"")
                && !tree.has_inside(b"usr-x")
                && !tree.has_inside(b"us")
        );
    }

    #[test]
    fn links_on_the_way_are_followed() {
        let tree = tree();
        for (path, found) in [
            ("/lib/x", "usr/lib/x"),
            ("/lib/up/passwd", "etc/passwd"),
            ("no/such", "no/such"),
            ("/", ""),
            ("/../lib", "usr/lib"),
        ] {
            assert_eq!(tree.resolve(path.as_bytes()), found.as_bytes(), "{path}");
        }
        tree.resolve(b"/loop/x");
    }
}
