//! Layers upon layers as one tree in memory: what a root file system unpacked from them would hold,
//! without unpacking anything, and without any rights. The same rules as [`super::unpack`] with
//! [`super::Form::Tree`].

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io::Read;
use std::ops::Bound;

use super::once::{Once, Seen};
use super::{Entry, Error, Kind, Metadata, TarReader, Wrong, name, show};
use crate::rootfs::resolve;

/// Symlinks followed in one name before it is taken for a loop (as the kernel).
/// The tree; paths are clean and in the order of a layer.
#[derive(Debug, Default, Clone)]
pub struct Merged {
    nodes: BTreeMap<Path, Node>,
    inodes: Vec<Inode>,
    /// Few of a million files have metadata of their own: each kind is held once.
    metas: Vec<Metadata>,
    known: HashMap<Metadata, u32>,
    top: Option<Metadata>,
}

#[derive(Debug, Clone, Copy)]
struct Inode {
    meta: u32,
    /// How many names it has now.
    names: u32,
}

/// One name in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Names with the same number are one file; an index for [`Merged::meta`].
    pub inode: u32,
}

/// What a name in the tree stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory.
    Dir,
    /// A regular file of `size` bytes; `contents` is what the caller of [`Merged::apply`] gave for
    /// it.
    File {
        /// Bytes.
        size: u64,
        /// The caller's word for where the contents are.
        contents: u64,
    },
    /// A symlink with this target.
    Symlink(Box<[u8]>),
    /// A fifo.
    Fifo,
}

/// A path ordered as in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Path(Box<[u8]>);

impl Ord for Path {
    fn cmp(&self, other: &Self) -> Ordering {
        name::compare(&self.0, &other.0)
    }
}

impl PartialOrd for Path {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A path to look for: a [`Path`], or bytes that are nobody's.
trait Sought {
    fn bytes(&self) -> &[u8];
}

impl Sought for Path {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Sought for &[u8] {
    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Ord for dyn Sought + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        name::compare(self.bytes(), other.bytes())
    }
}

impl PartialOrd for dyn Sought + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Sought + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for dyn Sought + '_ {}

impl<'a> Borrow<dyn Sought + 'a> for Path {
    fn borrow(&self) -> &(dyn Sought + 'a) {
        self
    }
}

impl Merged {
    /// Starts with nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a layer on top. `keep` is given each file and its contents, and answers where it has
    /// put them; names of a file that is hidden later are given too.
    pub fn apply<R: Read>(
        &mut self,
        layer: &mut TarReader<R>,
        keep: &mut dyn FnMut(&Entry, &mut dyn Read) -> Result<u64, Error>,
    ) -> Result<(), Error> {
        let mut once = Once::default();
        while let Some(entry) = layer.next()? {
            let contents = if entry.kind == Kind::File { keep(&entry, layer)? } else { 0 };
            self.one(&entry, contents, &mut once)
                .map_err(|why| Error::Entry { entry: show(&entry.path), why })?;
        }
        Ok(())
    }

    /// How many names there are, the top directory left out.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// All names in order, the top directory left out.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.nodes.iter().map(|(path, node)| (&*path.0, node))
    }

    /// The node at a path, the top directory left out.
    pub fn get(&self, path: &[u8]) -> Option<&Node> {
        self.nodes.get(&path as &dyn Sought)
    }

    /// The metadata of a node.
    pub fn meta(&self, node: &Node) -> &Metadata {
        &self.metas[self.inodes[node.inode as usize].meta as usize]
    }

    /// How many names the file of a node has.
    pub fn names(&self, node: &Node) -> u32 {
        self.inodes[node.inode as usize].names
    }

    /// The metadata of the top directory, if a layer has it.
    pub fn top(&self) -> Option<&Metadata> {
        self.top.as_ref()
    }

    fn one(&mut self, entry: &Entry, contents: u64, once: &mut Once) -> Result<(), Wrong> {
        if entry.path.is_empty() && entry.kind == Kind::Dir {
            self.top = Some(entry.meta.clone());
            return Ok(());
        }
        if entry.kind == Kind::Device {
            return Err(Wrong::Device);
        }
        if entry.kind == Kind::Opaque {
            let directory = self.resolve(&entry.path)?;
            once.pass(&directory)?;
            self.directories(&directory)?;
            self.below(&directory, |path| once.get(path).is_none());
            return Ok(());
        }
        let (directory, last) = name::split(&entry.path);
        let directory = self.resolve(directory)?;
        let path = name::join(&directory, last);
        if entry.kind != Kind::Whiteout {
            once.pass(&directory)?;
            self.directories(&directory)?;
        }
        let kind = match &entry.kind {
            Kind::Whiteout => {
                once.claim(&path, Seen::Whiteout)?;
                self.missing(&directory)?;
                self.remove(&path);
                return Ok(());
            }
            Kind::Dir => {
                once.claim(&path, Seen::Dir)?;
                NodeKind::Dir
            }
            Kind::File => {
                once.claim(&path, Seen::File)?;
                NodeKind::File { size: entry.size, contents }
            }
            Kind::Symlink(target) => {
                once.claim(&path, Seen::Other)?;
                NodeKind::Symlink(target.as_slice().into())
            }
            Kind::Fifo => {
                once.claim(&path, Seen::Other)?;
                NodeKind::Fifo
            }
            Kind::Link(target) => {
                let (target_dir, target_last) = name::split(target);
                let found = name::join(&self.resolve(target_dir)?, target_last);
                let node =
                    self.get(&found).filter(|node| node.kind != NodeKind::Dir && found != path);
                let node = node.cloned().ok_or_else(|| Wrong::Target(show(target)))?;
                once.claim(&path, Seen::File)?;
                self.remove(&path);
                self.put(path, node);
                return Ok(());
            }
            Kind::Opaque | Kind::Device => unreachable!("done above"),
        };
        if matches!(kind, NodeKind::Symlink(_) | NodeKind::Fifo)
            && let Some(name) = entry.meta.xattrs.keys().next()
        {
            return Err(Wrong::Attribute(show(name)));
        }
        let stays =
            kind == NodeKind::Dir && self.get(&path).is_some_and(|node| node.kind == NodeKind::Dir);
        if !stays {
            self.remove(&path);
        }
        let inode = self.inode(&entry.meta)?;
        self.put(path, Node { kind, inode });
        Ok(())
    }

    /// Returns the number of a new file.
    fn inode(&mut self, meta: &Metadata) -> Result<u32, Wrong> {
        let number = |count: usize| u32::try_from(count).map_err(|_| Wrong::TooLong);
        let meta = match self.known.get(meta) {
            Some(known) => *known,
            None => {
                let new = number(self.metas.len())?;
                self.metas.push(meta.clone());
                self.known.insert(meta.clone(), new);
                new
            }
        };
        self.inodes.push(Inode { meta, names: 0 });
        number(self.inodes.len() - 1)
    }

    fn put(&mut self, path: Vec<u8>, node: Node) {
        self.inodes[node.inode as usize].names += 1;
        if let Some(old) = self.nodes.insert(Path(path.into()), node) {
            self.inodes[old.inode as usize].names -= 1;
        }
    }

    fn take(&mut self, path: &[u8]) -> Option<Node> {
        let node = self.nodes.remove(&path as &dyn Sought)?;
        self.inodes[node.inode as usize].names -= 1;
        Some(node)
    }

    /// Returns what is missing of the directory `path`, innermost first; refused where something on
    /// the way is no directory.
    fn missing(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Wrong> {
        let mut missing = vec![];
        let mut here = path;
        while !here.is_empty() {
            match self.get(here).map(|node| &node.kind) {
                Some(NodeKind::Dir) => break,
                Some(_) => return Err(Wrong::Way),
                None => missing.push(here.to_owned()),
            }
            here = name::split(here).0;
        }
        Ok(missing)
    }

    /// Makes the directory `path`, which has no symlinks in it, and those above where a tar did not
    /// mention them.
    fn directories(&mut self, path: &[u8]) -> Result<(), Wrong> {
        for path in self.missing(path)? {
            let inode = self.inode(&Metadata { mode: 0o755, ..Metadata::default() })?;
            self.put(path, Node { kind: NodeKind::Dir, inode });
        }
        Ok(())
    }

    /// Removes a name and everything below it.
    fn remove(&mut self, path: &[u8]) {
        if self.take(path).is_some_and(|node| node.kind == NodeKind::Dir) {
            self.below(path, |_| true);
        }
    }

    /// Removes what is below a directory and `gone` says so.
    fn below(&mut self, directory: &[u8], gone: impl Fn(&[u8]) -> bool) {
        let start = if directory.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(&directory as &dyn Sought)
        };
        let inside = |path: &[u8]| {
            directory.is_empty()
                || (path.starts_with(directory) && path.get(directory.len()) == Some(&b'/'))
        };
        let doomed: Vec<_> = self
            .nodes
            .range::<dyn Sought, _>((start, Bound::Unbounded))
            .map(|(path, _)| path)
            .take_while(|path| inside(&path.0))
            .filter(|path| gone(&path.0))
            .cloned()
            .collect();
        for path in doomed {
            self.take(&path.0);
        }
    }

    /// Follows the symlinks in `path`, inside the tree; what does not exist yet is taken as it
    /// stands.
    fn resolve(&self, path: &[u8]) -> Result<Vec<u8>, Wrong> {
        let symlink = |at: &[u8]| match self.get(at).map(|node| &node.kind) {
            Some(NodeKind::Symlink(target)) => Ok::<_, Infallible>(Some(target.to_vec())),
            _ => Ok(None),
        };
        match resolve::path(path, symlink) {
            Ok(found) if found.len() > super::MAX_PATH => Err(Wrong::TooLong),
            Ok(found) => Ok(found),
            Err(_) => Err(Wrong::Way),
        }
    }
}
