//! `tar` and `dir`: the root file system, layers applied.
//!
//! The tar is made without any rights: layers merge in memory as names, contents wait in an
//! unlinked file, and come out sorted.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::Error;
use super::options::{Exported, Options, Source};
use super::place::NewDir;
use super::source::Image;
use crate::layer::{
    self, Builder, Form, Limits, Merged, Metadata, Node, NodeKind, Ownership, TarReader,
};
use crate::rootfs::resolve;

pub(super) fn tar(image: &Image<'_>, out: &mut dyn Write, spool: &Path) -> Result<(), Error> {
    Flat::read(image, spool)?.write(out, false)
}

/// The root file system of an image, layers applied.
pub(super) struct Flat {
    merged: Merged,
    contents: File,
}

impl Flat {
    /// Applies the layers; contents wait in an unlinked file in the directory `spool`.
    pub(super) fn read(image: &Image<'_>, spool: &Path) -> Result<Self, Error> {
        let trouble = |what: &'static str| {
            move |source| Error::System { what, path: spool.to_owned(), source }
        };
        let file = tempfile::tempfile_in(spool).map_err(trouble("make a temporary file in"))?;
        let mut contents = BufWriter::with_capacity(256 << 10, file);
        let mut at = 0;
        let mut merged = Merged::new();
        let mut limits = Limits::default();
        for (descriptor, diff_id) in image.layers() {
            let start = at;
            let seen = image.tar(descriptor, diff_id, |bytes| {
                let mut reader = TarReader::new(bytes, &limits);
                let mut keep = |entry: &layer::Entry, data: &mut dyn Read| {
                    let place = at;
                    let failed = |source| layer::Error::System {
                        what: "keep the contents in",
                        path: spool.to_owned(),
                        source,
                    };
                    at += io::copy(data, &mut contents).map_err(failed)?;
                    if at - place == entry.size {
                        Ok(place)
                    } else {
                        Err(layer::Error::Tar { why: layer::Wrong::Truncated })
                    }
                };
                let applied = merged.apply(&mut reader, &mut keep);
                applied
                    .map(|()| reader.counted())
                    .map_err(|source| Error::Layer { digest: descriptor.digest, source })
            })?;
            limits.entries = limits.entries.saturating_sub(seen.entries);
            limits.bytes = limits.bytes.saturating_sub(at - start);
        }
        let contents = contents
            .into_inner()
            .map_err(|e| trouble("write a temporary file in")(e.into_error()))?;
        Ok(Self { merged, contents })
    }

    /// Writes it as a tar, sorted. `top`: with the top directory, also where that is as usual or
    /// not in the image: programs have their own ideas of what is usual.
    pub(super) fn write(&self, out: &mut dyn Write, top: bool) -> Result<(), Error> {
        let top = top.then(|| self.top());
        sorted(&self.merged, &self.contents, out, top.as_ref())
            .map_err(|source| Error::Write { format: "tar", source })
    }

    /// Returns what is known of the top directory.
    pub(super) fn top(&self) -> Metadata {
        let usual = || Metadata { mode: 0o755, ..Metadata::default() };
        self.merged.top().cloned().unwrap_or_else(usual)
    }

    /// Returns all names in order, the top directory left out, and whether each is the first one
    /// of its file.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&[u8], &Node, bool)> {
        let mut seen = HashSet::new();
        let first = move |node: &Node| self.merged.names(node) < 2 || seen.insert(node.inode);
        let mut first = first;
        self.merged.iter().map(move |(path, node)| (path, node, first(node)))
    }

    /// Returns the metadata of a node.
    pub(super) fn meta(&self, node: &Node) -> &Metadata {
        self.merged.meta(node)
    }

    /// Fills a buffer with contents, from where a node says they are.
    pub(super) fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.contents.read_exact_at(buffer, at)
    }

    /// Returns the names in a directory, symlinks on the way to it followed.
    pub(super) fn children(&self, directory: &str) -> BTreeSet<String> {
        let inside = [&self.resolved(directory.as_bytes())[..], b"/"].concat();
        let names = self.merged.iter().filter_map(|(path, _)| {
            let name = path.strip_prefix(&inside[..])?;
            (!name.contains(&b'/')).then(|| String::from_utf8(name.to_vec()).ok())?
        });
        names.collect()
    }

    /// Returns the bytes of a file, symlinks followed; nothing where there is none.
    pub(super) fn bytes(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let node = self.merged.get(&self.resolved(path.as_bytes()));
        let Some(NodeKind::File { size, contents: at }) = node.map(|node| &node.kind) else {
            return Ok(None);
        };
        let mut bytes = vec![];
        let mut part = Part { file: &self.contents, at: *at, left: *size };
        part.read_to_end(&mut bytes).map_err(|source| Error::Copy { source })?;
        Ok(Some(bytes))
    }

    /// Whether there is a file, symlinks followed.
    pub(super) fn has_file(&self, path: &str) -> bool {
        let node = self.merged.get(&self.resolved(path.as_bytes()));
        matches!(node.map(|node| &node.kind), Some(NodeKind::File { .. }))
    }

    /// Whether there is a directory, symlinks followed.
    pub(super) fn has_dir(&self, path: &str) -> bool {
        let node = self.merged.get(&self.resolved(path.as_bytes()));
        matches!(node.map(|node| &node.kind), Some(NodeKind::Dir))
    }

    /// Follows the symlinks in a path, inside the root; a circle leads nowhere.
    fn resolved(&self, path: &[u8]) -> Vec<u8> {
        let symlink = |at: &[u8]| match self.merged.get(at).map(|node| &node.kind) {
            Some(NodeKind::Symlink(target)) => Ok::<_, Infallible>(Some(target.to_vec())),
            _ => Ok(None),
        };
        resolve::path(path, symlink).unwrap_or_default()
    }

    /// Returns the newest time of a file, seconds since 1970.
    pub(super) fn newest(&self) -> i64 {
        let times = self.merged.iter().map(|(_, node)| self.merged.meta(node).mtime);
        times.chain([self.top().mtime]).max().unwrap_or(0)
    }
}

#[cfg(test)]
impl Flat {
    /// Returns the root of these files by path, with the directories that they are in.
    pub(super) fn of_files(files: &[(&str, &str)]) -> Self {
        use std::collections::BTreeMap;

        use crate::layer::Entry;

        let mut all: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        for (path, text) in files {
            all.extend(path.match_indices('/').map(|(end, _)| (&path[..end], None)));
            all.insert(path, Some(text));
        }
        let (usual, mut tar) = (Metadata::default(), Builder::keeping_times(vec![]));
        for (path, text) in all {
            match text {
                Some(text) => {
                    let (path, size) = (path.as_bytes(), text.len() as u64);
                    tar.file(path, &usual, size, &mut text.as_bytes()).expect("memory");
                }
                None => tar.dir(path.as_bytes(), &usual).expect("memory"),
            }
        }
        let (tar, _) = tar.finish().expect("memory");
        let mut contents = tempfile::tempfile().expect("a temporary file");
        let (mut merged, mut at) = (Merged::new(), 0);
        let mut keep = |_: &Entry, data: &mut dyn Read| {
            let place = at;
            at += io::copy(data, &mut contents).expect("a temporary file");
            Ok(place)
        };
        let mut reader = TarReader::new(&tar[..], &Limits::default());
        merged.apply(&mut reader, &mut keep).expect("our own tar");
        Self { merged, contents }
    }
}

fn sorted(
    merged: &Merged,
    contents: &File,
    out: &mut dyn Write,
    given: Option<&Metadata>,
) -> Result<(), layer::Error> {
    let mut first: HashMap<u32, Vec<u8>> = HashMap::new();
    let mut tar = Builder::keeping_times(out);
    let usual =
        |top: &Metadata| (top.mode, top.uid, top.gid) == (0o755, 0, 0) && top.xattrs.is_empty();
    if let Some(top) = given.or_else(|| merged.top().filter(|top| !usual(top))) {
        tar.dir(b"", top)?;
    }
    for (path, node) in merged.iter() {
        let meta = merged.meta(node);
        match &node.kind {
            NodeKind::Dir => tar.dir(path, meta)?,
            NodeKind::Symlink(target) => tar.symlink(path, meta, target)?,
            NodeKind::Fifo => tar.fifo(path, meta)?,
            NodeKind::File { size, contents: at } => {
                if let Some(target) = first.get(&node.inode) {
                    tar.link(path, meta, target)?;
                    continue;
                }
                if merged.names(node) > 1 {
                    first.insert(node.inode, path.to_owned());
                }
                tar.file(path, meta, *size, &mut Part { file: contents, at: *at, left: *size })?;
            }
        }
    }
    tar.finish().map(|_| ())
}

/// A part of the file of contents.
struct Part<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let got = self.file.read_at(&mut buf[..want], self.at)?;
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

pub(super) fn dir(
    source: &Source<'_>,
    dest: &Path,
    options: &Options,
) -> Result<(NewDir, Exported), Error> {
    if !options.drop_owners && !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let image = Image::open(source)?;
    let place = NewDir::new(dest, options.force)?;
    let owners = if options.drop_owners { Ownership::Dropped } else { Ownership::Kept };
    let mut rules = layer::Options { owners, ..layer::Options::layer(Form::Tree) };
    let mut bytes = 0;
    for (descriptor, diff_id) in image.layers() {
        let done = image.tar(descriptor, diff_id, |tar| {
            layer::unpack_with(tar, place.root(), &rules)
                .map_err(|source| Error::Layer { digest: descriptor.digest, source })
        })?;
        bytes += done.bytes;
        rules.limits.entries = rules.limits.entries.saturating_sub(done.entries);
        // The whole tar is a bound for what was in it.
        rules.limits.bytes = rules.limits.bytes.saturating_sub(done.bytes);
    }
    Ok((place, Exported { bytes, digest: None, remarks: vec![] }))
}
