//! What a `copy` step takes, handed over as a tar.

use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;

use tar::EntryType;
use tar::Header;

use super::Context;
use super::Error;
use super::Taken;
use super::content::Watched;
use super::list::What;
use crate::digest::HashReader;

pub(super) fn stream(context: &Context, taken: &Taken, contents: &[super::Content], out: impl Write) -> Result<(), Error> {
    let listing = &taken.listing;
    let mut tar = tar::Builder::new(out);
    for row in &listing.rows {
        let path = listing.source(row);
        let below = listing.place(row);
        let place = if below.as_os_str().is_empty() { "to".into() } else { Path::new("to").join(below) };
        let fail = |source| Error::Write { path: path.clone(), source };
        let mut header = Header::new_gnu();
        header.set_mode(row.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        match row.what {
            What::Folder => {
                header.set_entry_type(EntryType::Directory);
                tar.append_data(&mut header, place, io::empty()).map_err(fail)?;
            }
            What::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                // The crate's own way of adding links writes `a//b` and `./a` as `a/b` and `a`; a target is copied as it is.
                let target = listing.text(target);
                if header.set_link_name_literal(target).is_err() {
                    let mut long = Header::new_gnu();
                    long.set_path("././@LongLink").map_err(fail)?;
                    long.set_entry_type(EntryType::GNULongLink);
                    long.set_mode(0o644);
                    long.set_size(target.len() as u64 + 1);
                    long.set_cksum();
                    tar.append(&long, target.chain(&b"\0"[..])).map_err(fail)?;
                }
                tar.append_data(&mut header, place, io::empty()).map_err(fail)?;
            }
            What::File { mark, content } => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(mark.size);
                let mut file = HashReader::new(Failing { file: Watched::open(context, &path, &mark)?, failed: None });
                let appended = tar.append_data(&mut header, place, &mut file);
                let (file, digest, _) = file.finish();
                if let Some(source) = file.failed {
                    return Err(Error::Content { path, source });
                }
                appended.map_err(fail)?;
                file.file.finish(&path)?;
                if digest != contents[content as usize].digest {
                    return Err(Error::Changed { path });
                }
            }
        }
    }
    let mut out = tar.into_inner().map_err(|source| Error::Write { path: "the end".into(), source })?;
    out.flush().map_err(|source| Error::Write { path: "the end".into(), source })?;
    Ok(())
}

/// Tells trouble with the source from trouble with the destination.
struct Failing {
    file: Watched,
    failed: Option<io::Error>,
}

impl Read for Failing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read(buf).inspect_err(|e| {
            if e.kind() != io::ErrorKind::Interrupted {
                self.failed = Some(io::Error::new(e.kind(), e.to_string()));
            }
        })
    }
}
