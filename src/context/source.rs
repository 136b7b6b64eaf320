//! What a `copy` step takes, asked for and handed over: where does each thing go, and here are its
//! bytes.

use std::io::{self, Read, Write};
use std::sync::Arc;

use super::content::Watched;
use super::list::{Listing, What};
use super::{Context, Error, Taken};
use crate::apply::survey;
use crate::digest::Hasher;
use crate::layer::{self, Builder, Metadata};
use crate::step::Op;

/// Why something that a `copy` takes could not be put into a layer.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// It cannot be read, or has changed.
    #[error(transparent)]
    Context(#[from] Error),
    /// A layer cannot hold it, or the layer cannot be written.
    #[error(transparent)]
    Layer(#[from] layer::Error),
}

/// Everything that one `Copy` operation takes, with its contents known.
pub(crate) struct Source<'a> {
    context: &'a Context,
    op: &'a Op,
    taken: Arc<Taken>,
}

impl Context {
    /// Writes what the `Copy` operation takes as a survey wants to be asked (see
    /// `apply::survey`).
    pub fn ask(&self, op: &Op, out: impl Write) -> Result<(), Error> {
        let taken = self.take(op)?;
        let (listing, (contents, _)) = (&taken.listing, self.contents(op, &taken)?);
        let mut out = io::BufWriter::with_capacity(256 << 10, out);
        let mut asked = survey::Asked { mode: 0, place: vec![], what: survey::What::Directory };
        for row in &listing.rows {
            listing.place_into(row, &mut asked.place);
            asked.mode = row.mode;
            asked.what = match row.what {
                What::Directory => survey::What::Directory,
                What::Link(target) => survey::What::Link(listing.text(target).to_owned()),
                What::File { mark, content } => survey::What::File {
                    size: mark.size,
                    digest: contents[content as usize].digest,
                },
            };
            asked
                .write(&mut out)
                .map_err(|source| Error::Write { path: listing.source(row), source })?;
        }
        out.flush().map_err(|source| Error::Write { path: "the end".into(), source })
    }

    pub(crate) fn source<'a>(&'a self, op: &'a Op) -> Result<Source<'a>, Error> {
        let taken = self.take(op)?;
        self.contents(op, &taken)?;
        Ok(Source { context: self, op, taken })
    }
}

impl Source<'_> {
    /// Returns what is taken, in order.
    pub(super) fn listing(&self) -> &Listing {
        &self.taken.listing
    }

    /// Puts row `number` into a layer as `path`; returns how much was read for it.
    pub(crate) fn put<W: Write>(
        &self,
        number: u32,
        path: &[u8],
        meta: impl Fn(u32) -> Metadata,
        tar: &mut Builder<W>,
    ) -> Result<u64, PutError> {
        let listing = &self.taken.listing;
        let row = listing.rows.get(number as usize).ok_or(Error::NotACopy)?;
        let meta = meta(row.mode);
        match row.what {
            What::Directory => tar.dir(path, &meta)?,
            What::Link(target) => tar.symlink(path, &meta, listing.text(target))?,
            What::File { mark, content } => {
                let (contents, _) = self.taken.contents.get().ok_or(Error::NotACopy)?;
                let known = contents[content as usize].digest;
                let source = listing.source(row);
                let file = Watched::open(self.context, &source, &mark)?;
                let mut bytes = Bytes { file, hasher: Hasher::new(), failed: None };
                let put = tar.known_file(path, &meta, mark.size, &known, &mut bytes);
                if let Some(error) = bytes.failed {
                    return Err(Error::Content { path: source, source: error }.into());
                }
                match put {
                    Err(layer::Error::Pack { why: layer::Wrong::Changed, .. }) => {
                        return Err(Error::Changed { path: source }.into());
                    }
                    put => put?,
                }
                bytes.file.finish(&source)?;
                // Whatever the key says of the file, by the stat cache or by an earlier reading:
                // these are the bytes that went into the layer.
                if bytes.hasher.finish() != known {
                    self.context.distrust(self.op);
                    return Err(Error::Changed { path: source }.into());
                }
                return Ok(mark.size + 512);
            }
        }
        Ok(512)
    }
}

/// The bytes of a file on their way. Trouble with the file is kept: whoever reads them would take
/// it for trouble with the layer.
struct Bytes {
    file: Watched,
    hasher: Hasher,
    failed: Option<io::Error>,
}

impl Read for Bytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.file.read(buffer) {
            Ok(n) => {
                self.hasher.update(&buffer[..n]);
                Ok(n)
            }
            Err(e) => {
                if e.kind() != io::ErrorKind::Interrupted {
                    self.failed = Some(io::Error::new(e.kind(), e.to_string()));
                }
                Err(e)
            }
        }
    }
}
