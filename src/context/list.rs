//! What a `copy` step takes, held compactly: half a million files are 60 MB here, and would be
//! three times that as paths.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::Error;
use crate::files::FileStamp;
use crate::layer;

/// One thing that a `copy` step takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path below the context.
    pub source: PathBuf,
    /// Path below the step's `to`; empty: `to` itself.
    pub place: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Permission bits in the image.
    pub mode: u32,
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
    },
    /// A symlink, with its target as written.
    Link(PathBuf),
}

/// A directory of the context that something was taken from.
#[derive(Debug)]
pub(super) struct Directory {
    /// Its path below the context.
    pub(super) source: PathBuf,
    /// Its path below the step's `to`.
    pub(super) place: PathBuf,
}

/// One thing that is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// Index of its directory.
    pub(super) directory: u32,
    /// Where its name stands; an empty name: it is its directory's source itself.
    pub(super) name: Text,
    /// Permission bits in the image.
    pub(super) mode: u32,
    pub(super) what: What,
}

/// A piece of the listing's text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Text {
    start: u32,
    length: u16,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    Directory,
    /// With its target.
    Link(Text),
    File {
        mark: FileStamp,
        /// How many files stand before it.
        content: u32,
    },
}

/// Everything that one `copy` step takes, sorted by place, a directory before what is in it.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) directories: Vec<Directory>,
    text: Vec<u8>,
    pub(super) rows: Vec<Row>,
    pub(super) files: u32,
    /// When it was begun.
    pub(super) when: SystemTime,
}

impl Listing {
    pub(super) fn new() -> Self {
        Self { directories: vec![], text: vec![], rows: vec![], files: 0, when: SystemTime::now() }
    }

    pub(super) fn add_directory(&mut self, source: PathBuf, place: PathBuf) -> Result<u32, Error> {
        let index = number(self.directories.len())?;
        self.directories.push(Directory { source, place });
        Ok(index)
    }

    pub(super) fn add_text(&mut self, bytes: &[u8]) -> Result<Text, Error> {
        let start = number(self.text.len())?;
        self.text.extend_from_slice(bytes);
        Ok(Text { start, length: u16::try_from(bytes.len()).map_err(|_| Error::TooMany)? })
    }

    pub(super) fn add(&mut self, directory: u32, name: Text, mode: u32, what: What) {
        self.rows.push(Row { directory, name, mode, what });
    }

    /// Numbers the files, when all rows are there and in order.
    pub(super) fn number_files(&mut self) {
        let mut files = 0;
        for row in &mut self.rows {
            if let What::File { content, .. } = &mut row.what {
                *content = files;
                files += 1;
            }
        }
        self.files = files;
    }

    /// Whether a source of it is `path`, above it or below it.
    pub(super) fn reaches(&self, path: &Path) -> bool {
        self.directories.iter().any(|directory| {
            path.starts_with(&directory.source) || directory.source.starts_with(path)
        })
    }

    pub(super) fn text(&self, text: Text) -> &[u8] {
        &self.text[text.start as usize..][..usize::from(text.length)]
    }

    /// Path of a row below the context.
    pub(super) fn source(&self, row: &Row) -> PathBuf {
        joined(&self.directories[row.directory as usize].source, self.text(row.name))
    }

    /// Path of a row below the step's `to`.
    pub(super) fn place(&self, row: &Row) -> PathBuf {
        joined(&self.directories[row.directory as usize].place, self.text(row.name))
    }

    /// Writes the place of a row into `out`, which is emptied before.
    pub(super) fn place_into(&self, row: &Row, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(
            self.directories[row.directory as usize].place.as_os_str().as_bytes(),
        );
        let name = self.text(row.name);
        if !out.is_empty() && !name.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(name);
    }

    /// Compares two rows by place.
    fn compare(&self, a: &Row, b: &Row) -> Ordering {
        if a.directory == b.directory {
            return self.text(a.name).cmp(self.text(b.name));
        }
        layer::compare(self.place(a).as_os_str().as_bytes(), self.place(b).as_os_str().as_bytes())
    }

    /// Joins what several sources gave: sorted, and of each place one row. `item` says which item
    /// of `from` a row came with.
    pub(super) fn merge(&mut self, item: impl Fn(usize) -> usize, to: &str) -> Result<(), Error> {
        let mut order: Vec<u32> = (0..number(self.rows.len())?).collect();
        let row = |at: u32| &self.rows[at as usize];
        order.sort_by(|a, b| self.compare(row(*a), row(*b)));
        let mut kept: Vec<u32> = Vec::with_capacity(order.len());
        for at in order {
            let Some(last) =
                kept.last_mut().filter(|last| self.compare(row(**last), row(at)).is_eq())
            else {
                kept.push(at);
                continue;
            };
            let directory = |at: u32| matches!(row(at).what, What::Directory);
            match (directory(*last), directory(at)) {
                (true, true) => {}
                // Of two items the later one wins, as if they were two steps; within one glob
                // nothing decides which.
                (false, false) if item(*last as usize) != item(at as usize) => *last = at,
                _ => {
                    let to = Path::new(to).join(self.place(row(at))).display().to_string();
                    return Err(Error::Clash {
                        first: self.source(row(*last)),
                        second: self.source(row(at)),
                        to,
                    });
                }
            }
        }
        self.rows = kept.into_iter().map(|at| self.rows[at as usize]).collect();
        Ok(())
    }

    /// A row as people and tests read it.
    pub(super) fn entry(&self, row: &Row) -> Entry {
        let kind = match row.what {
            What::Directory => Kind::Directory,
            What::Link(target) => Kind::Link(PathBuf::from(OsStr::from_bytes(self.text(target)))),
            What::File { mark, .. } => Kind::File { size: mark.size },
        };
        Entry { source: self.source(row), place: self.place(row), kind, mode: row.mode }
    }
}

fn number(count: usize) -> Result<u32, Error> {
    u32::try_from(count).map_err(|_| Error::TooMany)
}

fn joined(directory: &Path, name: &[u8]) -> PathBuf {
    if name.is_empty() { directory.to_owned() } else { directory.join(OsStr::from_bytes(name)) }
}
