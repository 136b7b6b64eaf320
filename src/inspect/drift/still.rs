//! A file system that is read and not mounted, directory by directory, against the names of an
//! image. It holds still; but whoever had the machine may have written whatever they liked, also
//! what no kernel would.

use std::collections::HashSet;
use std::io;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::comparison::Comparison;
use super::link;
use super::progress::Progress;
use crate::digest::Hasher;
use crate::dissect::{self, FileSystem, Inode};
use crate::event::{Sink, chain};
use crate::inspect::change::{Change, Inside};
use crate::layer::{Metadata, is_kept};
use crate::tree::{self, Kind, Node, shrink};

/// Names at which it ends: as many as layers may have.
const MAX_NAMES: u64 = 4_000_000;

/// Longest path.
const MAX_PATH: usize = 64 << 10;

/// Longest name (`NAME_MAX`).
const MAX_NAME: usize = 255;

/// A regular file of the image that is there.
struct File {
    place: usize,
    number: u64,
    inode: Inode,
}

/// A walk under way.
struct Walk<'a> {
    system: &'a dyn FileSystem,
    names: &'a Comparison<'a>,
    /// Directories that have been met: none is in two places.
    directories: HashSet<u64>,
    met: u64,
    files: Vec<File>,
}

/// Compares all of a file system; `what` it is called in progress.
///
/// # Errors
/// Where it has more names than can be.
pub(super) fn compare(
    system: &dyn FileSystem,
    names: &Comparison<'_>,
    what: String,
    sink: &Sink,
) -> Result<(), dissect::Error> {
    let (directories, files) = (HashSet::new(), vec![]);
    let mut walk = Walk { system, names, directories, met: 0, files };
    let mut left = vec![(vec![], system.top())];
    while let Some((path, number)) = left.pop() {
        walk.directory(path, number, &mut left)?;
    }
    let files = walk.files;
    let size = |file: &File| match names.tree.at(file.place).1.kind {
        Kind::File { size, .. } if size == file.inode.size => size,
        _ => 0,
    };
    let progress = Progress::new(what, files.iter().map(size).sum(), sink);
    files.par_iter().for_each(|file| read_file(system, names, file, &progress));
    drop(progress);
    let linked = |file: &File| {
        let shared = (file.inode.links > 1).then_some(file.number);
        (file.place, shared, node(&file.inode))
    };
    link::names(names, files.iter().map(linked).collect());
    names.missing();
    Ok(())
}

/// Finds which files some blocks belong to, the first file of each; nothing for those of no file.
pub(super) fn files_at(system: &dyn FileSystem, blocks: &[u64], block: u64) -> Vec<Option<String>> {
    let mut found: Vec<Option<String>> = vec![None; blocks.len()];
    let mut met = HashSet::new();
    let mut left = vec![(vec![], system.top())];
    while let Some((path, number)) = left.pop() {
        if blocks.is_empty() || met.len() as u64 > MAX_NAMES || path.len() > MAX_PATH {
            break;
        }
        if !met.insert(number) {
            continue;
        }
        // What cannot be read has no place that anybody knows.
        let places = system.places(number).unwrap_or_default();
        for (at, found) in blocks.iter().zip(&mut found) {
            let range = at * block..(at + 1) * block;
            let over = places.iter().any(|one| one.start < range.end && range.start < one.end);
            // Of a file with several names the first one.
            if over && found.is_none() {
                *found = Some(tree::shown(&path));
            }
        }
        if system.inode(number).is_ok_and(|inode| inode.kind == dissect::Kind::Dir) {
            let mut names = system.list(number).unwrap_or_default();
            names.sort_unstable();
            let below = names.into_iter().rev();
            left.extend(below.map(|(name, number)| (tree::join(&path, &name), number)));
        }
    }
    found
}

/// Why something on a disk could not be read, as one line.
fn why(error: &dissect::Error) -> io::Error {
    io::Error::other(chain(error).join(": "))
}

/// Makes a node of an inode; a symlink's target and a file's digest are the caller's to add.
fn node(inode: &Inode) -> Node {
    let kind = match inode.kind {
        dissect::Kind::File => Kind::File { size: inode.size, digest: None },
        dissect::Kind::Dir => Kind::Dir,
        dissect::Kind::Symlink => Kind::Symlink(vec![]),
        dissect::Kind::Fifo => Kind::Fifo,
        dissect::Kind::Socket => Kind::Socket,
        dissect::Kind::Device => Kind::Device,
    };
    let Inode { mode, uid, gid, mtime, .. } = *inode;
    Node { kind, meta: Metadata { mode, uid, gid, mtime, ..Metadata::default() }, group: None }
}

/// Reads the attributes of a file into a node.
fn attributes(system: &dyn FileSystem, number: u64, node: &mut Node) -> Result<(), dissect::Error> {
    let kept = system.attributes(number)?.into_iter().filter(|(name, _)| is_kept(name));
    node.meta.xattrs = kept
        .map(|(name, value)| {
            let value = shrink(&name, value, 0);
            (name, value)
        })
        .collect();
    Ok(())
}

impl Walk<'_> {
    /// Compares a directory and what is in it; directories in it go to `left`.
    fn directory(
        &mut self,
        path: Vec<u8>,
        number: u64,
        left: &mut Vec<(Vec<u8>, u64)>,
    ) -> Result<(), dissect::Error> {
        let list = match self.enter(&path, number) {
            Ok(list) => list,
            Err(error) => {
                self.names.lost(&path, error);
                return Ok(());
            }
        };
        if let Some(place) = self.names.tree.find(&path) {
            self.names.meet(place);
            let compared = self.system.inode(number).and_then(|inode| {
                let mut node = node(&inode);
                attributes(self.system, number, &mut node).map(|()| node)
            });
            match compared {
                Ok(node) => self.names.compare(place, node),
                Err(error) => self.names.found().unreadable.push((path.clone(), why(&error))),
            }
        }
        for (name, number) in list {
            self.count()?;
            let below = tree::join(&path, &name);
            match self.system.inode(number) {
                Ok(inode) => self.name(below, number, &inode, left)?,
                Err(error) => self.names.lost(&below, why(&error)),
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), dissect::Error> {
        self.met += 1;
        if self.met > MAX_NAMES {
            let why = format!("it has more than {MAX_NAMES} names");
            return Err(dissect::Error::Damaged { what: "the root's file system", why });
        }
        Ok(())
    }

    /// Lists a directory that has not been met, in the order of its names.
    fn enter(&mut self, path: &[u8], number: u64) -> Result<Vec<dissect::Named>, io::Error> {
        if path.len() > MAX_PATH {
            return Err(io::Error::other("it is deeper than anything can be"));
        }
        if !self.directories.insert(number) {
            return Err(io::Error::other("this directory is somewhere else as well"));
        }
        let mut list = self.system.list(number).map_err(|error| why(&error))?;
        list.sort_unstable();
        let cannot_be = |name: &[u8]| {
            name.is_empty() || name.len() > MAX_NAME || name.iter().any(|b| matches!(b, b'/' | 0))
        };
        if list.iter().any(|(name, _)| cannot_be(name)) {
            return Err(io::Error::other("it has a name that cannot be"));
        }
        if let Some(twice) = list.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let name = tree::shown(&twice[0].0);
            return Err(io::Error::other(format!("it has {name} twice")));
        }
        Ok(list)
    }

    fn name(
        &mut self,
        path: Vec<u8>,
        number: u64,
        inode: &Inode,
        left: &mut Vec<(Vec<u8>, u64)>,
    ) -> Result<(), dissect::Error> {
        let is_directory = inode.kind == dissect::Kind::Dir;
        if self.names.rules.leaves_out(&path, is_directory) {
            return Ok(());
        }
        let mut node = node(inode);
        if let Kind::Symlink(target) = &mut node.kind {
            match self.system.target(number) {
                Ok(text) => *target = text,
                Err(error) => {
                    self.names.lost(&path, why(&error));
                    return Ok(());
                }
            }
        }
        let Some(place) = self.names.tree.find(&path) else {
            let mut change = Change::added(&path, node);
            if is_directory && self.names.all {
                left.push((path, number));
            } else if is_directory {
                change.inside = Some(self.inside(path, number)?);
            }
            self.names.found().changes.push(change);
            return Ok(());
        };
        self.names.meet(place);
        match (&self.names.tree.at(place).1.kind, &node.kind) {
            (Kind::Dir, Kind::Dir) => left.push((path, number)),
            (Kind::File { .. }, Kind::File { .. }) => {
                self.files.push(File { place, number, inode: *inode });
            }
            _ => self.names.compare(place, node),
        }
        Ok(())
    }

    /// Counts what is in a directory that the image does not have; what cannot be read there is not
    /// counted.
    fn inside(&mut self, path: Vec<u8>, number: u64) -> Result<Inside, dissect::Error> {
        let mut inside = Inside::default();
        let mut left = vec![(path, number)];
        while let Some((path, number)) = left.pop() {
            let Ok(list) = self.enter(&path, number) else { continue };
            for (name, number) in list {
                self.count()?;
                let below = tree::join(&path, &name);
                let Ok(inode) = self.system.inode(number) else { continue };
                let directory = inode.kind == dissect::Kind::Dir;
                if self.names.rules.leaves_out(&below, directory) {
                    continue;
                }
                inside.names += 1;
                match inode.kind {
                    dissect::Kind::Dir => left.push((below, number)),
                    dissect::Kind::File => inside.bytes = inside.bytes.saturating_add(inode.size),
                    _ => {}
                }
            }
        }
        Ok(inside)
    }
}

/// Compares one regular file; what has another size than it should is not read.
fn read_file(
    system: &dyn FileSystem,
    names: &Comparison<'_>,
    file: &File,
    progress: &Progress<'_>,
) {
    let (path, expected) = names.tree.at(file.place);
    let mut node = node(&file.inode);
    let read = || -> Result<Node, dissect::Error> {
        attributes(system, file.number, &mut node)?;
        if let (Kind::File { size, digest }, Kind::File { size: should, .. }) =
            (&mut node.kind, &expected.kind)
            && size == should
        {
            let mut hasher = Hasher::new();
            system.read(file.number, &mut |bytes| {
                hasher.update(bytes);
                progress.add(bytes.len() as u64);
            })?;
            *digest = Some(hasher.finish());
        }
        Ok(node)
    };
    match read() {
        Ok(node) => names.compare(file.place, node),
        Err(error) => names.found().unreadable.push((path.to_owned(), why(&error))),
    }
}
