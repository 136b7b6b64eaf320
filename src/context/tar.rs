//! What a `copy` takes, written as a tar: how files go from a stage to another root, and from the
//! context to where a step sees them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ignore::Ignored;
use super::list::What;
use super::source::PutError;
use super::tree::Tree;
use super::{Context, Error};
use crate::files::{Links, RootDir};
use crate::layer::{Builder, Metadata};
use crate::step::Op;

/// What is mounted in a root while it is looked at, and is no part of it.
const MOUNTED: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

/// What a tar of taken files holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TarSummary {
    /// Entries.
    pub entries: u64,
    /// It is one file or symlink, which becomes `to` itself.
    pub single: bool,
}

/// Writes the tar of what a copy takes of the root that this process sees; see
/// [`Context::write_tar`].
///
/// # Errors
/// As there.
pub(crate) fn take_from_root(
    op: &Op,
    single: &str,
    epoch: i64,
    out: File,
) -> Result<TarSummary, PutError> {
    let out = BufWriter::with_capacity(256 << 10, out);
    let root = Context::of_root(Path::new("/"))?;
    let (mut out, summary) = root.write_tar(op, single.as_bytes(), epoch, out)?;
    out.flush().map_err(|source| Error::Write { path: "the end".into(), source })?;
    Ok(summary)
}

impl Context {
    /// Opens the root of a stage, as a process that lives in it sees it: symlinks are resolved
    /// inside, ignore files mean nothing, and what is only mounted there is left out.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub(crate) fn of_root(path: &Path) -> Result<Self, Error> {
        let dir = RootDir::open(path, Links::InRoot)
            .map_err(|source| Error::Open { path: path.to_owned(), source })?;
        let mounted = |name: &&str| ((*name).into(), "bake itself: it is mounted there".to_owned());
        Ok(Self {
            tree: Tree {
                dir,
                ignored: Ignored::nothing(),
                left_out: MOUNTED.iter().map(mounted).collect(),
            },
            cache: None,
            taken: Arc::default(),
        })
    }

    /// Writes everything that the `Copy` operation takes as a tar (POSIX.1-2001 pax): owned by 0:0,
    /// modes as for every copy, times at `epoch` or before; a path is the place below `to`. One
    /// file that becomes `to` itself has the name `single`. The bytes depend on nothing else.
    ///
    /// # Errors
    /// As [`Context::list`]; [`Error::Changed`] where a file changes meanwhile.
    pub(crate) fn write_tar<W: Write>(
        &self,
        op: &Op,
        single: &[u8],
        epoch: i64,
        out: W,
    ) -> Result<(W, TarSummary), PutError> {
        let source = self.source(op)?;
        let listing = source.listing();
        let mut tar = Builder::new(out, epoch);
        let mut summary = TarSummary { entries: 0, single: false };
        let meta = |mode| Metadata { mode, mtime: epoch, ..Metadata::default() };
        let mut place = vec![];
        for (number, row) in (0..).zip(&listing.rows) {
            listing.place_into(row, &mut place);
            match (place.is_empty(), &row.what) {
                (true, What::Directory) => continue,
                (true, _) => {
                    summary.single = true;
                    place.extend(single);
                }
                _ => {}
            }
            source.put(number, &place, meta, &mut tar)?;
            summary.entries += 1;
        }
        let (out, _) = tar.finish()?;
        Ok((out, summary))
    }
}
