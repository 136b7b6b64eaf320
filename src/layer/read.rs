//! Reading a tar strictly: every entry is checked before it is returned, and whatever two programs
//! could read in two ways is refused.
//!
//! The `tar` crate decodes header fields; the stream of blocks is walked here, because sizes,
//! extended headers, sparse files and the end mark are where readers disagree. Names: `./a` and
//! `a/` are `a`; absolute names and names with `..` are refused, not repaired.

use std::collections::BTreeMap;
use std::io::{self, Read};

use tar::{EntryType, Header};

use super::fault::Fault;
use super::record::{number, records, seconds};
use super::sparse::{Pieces, Sparse};
use super::{Error, Limits, MAX_ID, MAX_PATH, MAX_TIME, Metadata, Wrong, attribute, name, show};

const BLOCK: usize = 512;
/// Longest extended header; a path, a link target and a page of attributes fit many times.
const MAX_EXTENDED: u64 = 1 << 20;
/// GNU tar pads to whole records; the largest anyone uses is far below.
const MAX_PADDING: u64 = 16 << 20;

/// One entry. Paths are clean: relative, without `.`, `..` or a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path; empty for the top directory. For a whiteout the path that is deleted, for an
    /// opaque mark the directory.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Its metadata; attributes that layers do not keep are left out.
    pub meta: Metadata,
    /// Bytes of contents, holes included; 0 unless a file.
    pub size: u64,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// Another name of the earlier file at this clean path.
    Link(Vec<u8>),
    /// A symlink with this target.
    Symlink(Vec<u8>),
    /// A fifo.
    Fifo,
    /// A character or block device.
    Device,
    /// What lower layers have at the path is gone.
    Whiteout,
    /// What lower layers have in the directory is gone.
    Opaque,
}

/// Reads entries one after the other; between two calls of [`TarReader::next`] the contents of the
/// current file can be read from it.
pub struct TarReader<R> {
    from: R,
    limits: Limits,
    /// Not a layer: owners and other attributes are not looked at.
    foreign: bool,
    entries: u64,
    global: u64,
    contents: u64,
    /// Bytes of the tar read so far.
    bytes: u64,
    /// Stored bytes of the current file not read yet, and the padding behind them.
    left: u64,
    padding: u64,
    /// Where the stored bytes of the current file belong, if it has holes.
    sparse: Option<Pieces>,
    ended: bool,
}

/// What extended headers say about the entry that follows.
#[derive(Default)]
struct Extended {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: bool,
}

impl<R: Read> TarReader<R> {
    /// Starts reading an uncompressed tar.
    pub fn new(from: R, limits: &Limits) -> Self {
        Self {
            from,
            limits: limits.clone(),
            foreign: false,
            entries: 0,
            global: 0,
            contents: 0,
            bytes: 0,
            left: 0,
            padding: 0,
            sparse: None,
            ended: false,
        }
    }

    /// Reads an archive that somebody packed for any reader: as strict about names and sizes, but
    /// owners (ids of a developer's machine, of any size) and extended attributes are left out, and
    /// stand as 0 and none in the entries.
    pub fn foreign(mut self) -> Self {
        self.foreign = true;
        self
    }

    /// Entries seen, and bytes of the tar read, so far.
    pub fn counted(&self) -> super::Packed {
        super::Packed { entries: self.entries, bytes: self.bytes }
    }

    /// Returns the next entry, skipping what was not read of the current one; `None` after the end
    /// mark, with the source read to its end.
    #[expect(
        clippy::should_implement_trait,
        reason = "an entry's contents must be read before the next one, which Iterator cannot say"
    )]
    pub fn next(&mut self) -> Result<Option<Entry>, Error> {
        if self.ended {
            return Ok(None);
        }
        self.skip()?;
        let mut extended = Extended::default();
        loop {
            let Some(header) = self.header()? else {
                if extended.pax || extended.long_name.is_some() || extended.long_link.is_some() {
                    return Err(Error::Tar { why: Wrong::Extended("it belongs to no entry") });
                }
                self.end()?;
                self.ended = true;
                return Ok(None);
            };
            let raw = header.path_bytes().into_owned();
            let refuse = |why| Error::Entry { entry: show(&raw), why };
            match header.entry_type() {
                EntryType::XHeader => {
                    if extended.pax {
                        return Err(refuse(Wrong::Extended("there are two for one entry")));
                    }
                    let body = self.body(&header).map_err(|e| e.at(&raw))?;
                    extended.records = records(&body).map_err(refuse)?;
                    extended.pax = true;
                }
                EntryType::XGlobalHeader => {
                    let body = self.body(&header).map_err(|e| e.at(&raw))?;
                    // git writes a comment. One that renames or resizes every entry that follows
                    // has no honest use.
                    if records(&body).map_err(refuse)?.keys().any(|key| matters(key)) {
                        return Err(refuse(Wrong::Extended("it changes all entries")));
                    }
                    // The only header that may come any number of times before an entry.
                    self.global += 1;
                    if self.global > self.limits.entries {
                        return Err(Error::Tar { why: Wrong::Entries(self.limits.entries) });
                    }
                }
                EntryType::GNULongName | EntryType::GNULongLink => {
                    let mut body = self.body(&header).map_err(|e| e.at(&raw))?;
                    if body.last() == Some(&0) {
                        body.pop();
                    }
                    let place = if header.entry_type() == EntryType::GNULongName {
                        &mut extended.long_name
                    } else {
                        &mut extended.long_link
                    };
                    if place.replace(body).is_some() {
                        return Err(refuse(Wrong::Extended("there are two for one entry")));
                    }
                }
                _ => return self.entry(&header, extended).map(Some),
            }
        }
    }

    /// Reads a header block; `None` for the first block of the end mark.
    fn header(&mut self) -> Result<Option<Header>, Error> {
        let mut header = Header::new_old();
        self.exact(header.as_mut_bytes())?;
        let bytes = header.as_bytes();
        if bytes.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let sum: u32 =
            bytes[..148].iter().chain(&[b' '; 8]).chain(&bytes[156..]).map(|b| u32::from(*b)).sum();
        match header.cksum() {
            Ok(given) if given == sum => Ok(Some(header)),
            _ => Err(Error::Tar { why: Wrong::Checksum }),
        }
    }

    /// Reads the contents of an extended header.
    fn body(&mut self, header: &Header) -> Result<Vec<u8>, Fault> {
        let size = header.entry_size().map_err(|_| Fault::Wrong(Wrong::Number("size")))?;
        if size > MAX_EXTENDED {
            return Err(Fault::Wrong(Wrong::TooLong));
        }
        let mut body = vec![0; usize::try_from(size).expect("at most a mebibyte")];
        self.exact(&mut body).map_err(Fault::Error)?;
        self.left = 0;
        self.padding = pad(size);
        self.skip().map_err(Fault::Error)?;
        Ok(body)
    }

    fn entry(&mut self, header: &Header, mut extended: Extended) -> Result<Entry, Error> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Error::Tar { why: Wrong::Entries(self.limits.entries) });
        }
        let mut raw = header.path_bytes().into_owned();
        let given = |pax: &mut BTreeMap<Vec<u8>, Vec<u8>>, key: &[u8]| {
            pax.remove(key).filter(|value| !value.is_empty())
        };
        let pax_name = given(&mut extended.records, b"path");
        let pax_link = given(&mut extended.records, b"linkpath");
        let two = (pax_name.is_some() && extended.long_name.is_some())
            || (pax_link.is_some() && extended.long_link.is_some());
        if let Some(long) = pax_name.or(extended.long_name) {
            raw = long;
        }
        let link = pax_link
            .or(extended.long_link)
            .or_else(|| header.link_name_bytes().map(|l| l.into_owned()));
        let kind_byte = header.entry_type().as_byte();
        let sparse = Sparse::of(header, &mut extended.records);
        if let Ok(Some(Sparse { name: Some(name), .. })) = &sparse {
            // The header's own name is made up, for readers that do not know the format.
            raw.clone_from(name);
        }
        let outcome = (|| {
            if two {
                return Err(Wrong::Extended("the name is given twice"));
            }
            let sparse = sparse?;
            let size = size(header, given(&mut extended.records, b"size"))?;
            if self.foreign {
                extended.records.retain(|key, _| key == b"mtime");
            }
            let meta = meta(header, &mut extended.records, !self.foreign)?;
            let directory = raw.ends_with(b"/");
            let path = name::clean(&raw)?;
            let kind = match kind_byte {
                b'0' | b'\0' | b'7' | b'S' if directory => return Err(Wrong::Slash),
                b'0' | b'\0' | b'7' | b'S' => Kind::File,
                b'1' => Kind::Link(name::clean(&link.unwrap_or_default())?),
                b'2' => {
                    let target = link.unwrap_or_default();
                    if target.len() > MAX_PATH {
                        return Err(Wrong::TooLong);
                    }
                    if target.is_empty() || target.contains(&0) {
                        return Err(Wrong::Empty);
                    }
                    Kind::Symlink(target)
                }
                b'3' | b'4' => Kind::Device,
                b'5' => Kind::Dir,
                b'6' => Kind::Fifo,
                other => return Err(Wrong::Type(other)),
            };
            if directory && kind != Kind::Dir {
                return Err(Wrong::Slash);
            }
            if size > 0 && kind != Kind::File {
                return Err(Wrong::Size);
            }
            if path.is_empty() && kind != Kind::Dir {
                return Err(Wrong::Empty);
            }
            let (path, kind) = match (name::named(path)?, kind) {
                (name::Named::Plain(path), kind) => (path, kind),
                (name::Named::Whiteout(path), Kind::File) if size == 0 => (path, Kind::Whiteout),
                (name::Named::Opaque(path), Kind::File) if size == 0 => (path, Kind::Opaque),
                _ => return Err(Wrong::Whiteout),
            };
            if sparse.is_some() && kind != Kind::File {
                return Err(Wrong::Sparse);
            }
            Ok((Entry { path, kind, meta, size }, sparse))
        })();
        let refuse = |why| Error::Entry { entry: show(&raw), why };
        let (mut entry, sparse) = outcome.map_err(refuse)?;
        let mut stored = entry.size;
        if let Some(sparse) = sparse {
            let (pieces, rest) = sparse
                .pieces(header, stored, &mut |block| self.exact(block))
                .map_err(|e| e.at(&raw))?;
            entry.size = pieces.size();
            stored = rest;
            self.sparse = Some(pieces);
        }
        self.contents = self.contents.saturating_add(entry.size);
        if self.contents > self.limits.bytes {
            return Err(Error::Entry { entry: show(&raw), why: Wrong::Bytes(self.limits.bytes) });
        }
        self.left = stored;
        self.padding = pad(stored);
        Ok(entry)
    }

    /// Reads over what is left of the current entry.
    fn skip(&mut self) -> Result<(), Error> {
        let mut left = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        self.sparse = None;
        let mut sink = [0; 8192];
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(sink.len());
            self.exact(&mut sink[..want])?;
            left -= want as u64;
        }
        Ok(())
    }

    /// Checks the rest after the first zero block: at least one more, and nothing but zeros.
    fn end(&mut self) -> Result<(), Error> {
        let mut block = [0; BLOCK];
        self.exact(&mut block)?;
        let mut padding = 0;
        let mut buffer = vec![0; 64 << 10];
        let mut got = BLOCK;
        buffer[..BLOCK].copy_from_slice(&block);
        while got > 0 {
            padding += got as u64;
            if padding > MAX_PADDING || buffer[..got].iter().any(|b| *b != 0) {
                return Err(Error::Tar { why: Wrong::Trailing });
            }
            got = loop {
                match self.from.read(&mut buffer) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(source) => return Err(Error::Read { source }),
                    Ok(n) => break n,
                }
            };
            self.bytes += got as u64;
        }
        Ok(())
    }

    fn exact(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        self.from.read_exact(buffer).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => Error::Tar { why: Wrong::Truncated },
            _ => Error::Read { source },
        })?;
        self.bytes += buffer.len() as u64;
        Ok(())
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        if let Some(sparse) = &mut self.sparse {
            match sparse.hole(buf) {
                0 => want = sparse.piece(want),
                zeros => return Ok(zeros),
            }
        }
        if want == 0 {
            return Ok(0);
        }
        let got = self.from.read(&mut buf[..want])?;
        if got == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, Wrong::Truncated));
        }
        self.left -= got as u64;
        self.bytes += got as u64;
        if let Some(sparse) = &mut self.sparse {
            sparse.passed(got);
        }
        Ok(got)
    }
}

fn pad(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

/// Whether a PAX record changes how an entry reads.
fn matters(key: &[u8]) -> bool {
    matches!(key, b"path" | b"linkpath" | b"size" | b"uid" | b"gid" | b"mtime")
        || key.starts_with(b"GNU.")
        || key.starts_with(b"SCHILY.")
}

fn size(header: &Header, pax: Option<Vec<u8>>) -> Result<u64, Wrong> {
    let plain = header.entry_size().map_err(|_| Wrong::Number("size"))?;
    let Some(pax) = pax else {
        return Ok(plain);
    };
    let long = number(&pax).ok_or(Wrong::Number("size"))?;
    // Only a size too big for the octal field may differ from it, and then the field must say
    // nothing.
    if long == plain || (long > 0o77_777_777_777 && plain == 0) {
        Ok(long)
    } else {
        Err(Wrong::Size)
    }
}

fn meta(
    header: &Header,
    records: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    owners: bool,
) -> Result<Metadata, Wrong> {
    let mut id = |what: &'static str, key: &[u8], plain: io::Result<u64>| {
        let id = match records.remove(key).filter(|v| !v.is_empty()) {
            Some(digits) => number(&digits).ok_or(Wrong::Number(what))?,
            None => plain.map_err(|_| Wrong::Number(what))?,
        };
        u32::try_from(id).ok().filter(|id| *id <= MAX_ID).ok_or(Wrong::Id { what, id })
    };
    let (uid, gid) = match owners {
        true => (id("owner", b"uid", header.uid())?, id("group", b"gid", header.gid())?),
        false => (0, 0),
    };
    let mtime = match records.remove(&b"mtime"[..]).filter(|v| !v.is_empty()) {
        Some(text) => seconds(&text).ok_or(Wrong::Number("time"))?,
        None => header.mtime().map_err(|_| Wrong::Number("time"))?.cast_signed(),
    };
    let mode = header.mode().map_err(|_| Wrong::Number("mode"))? & 0o7777;
    let mut xattrs = BTreeMap::new();
    for (key, value) in std::mem::take(records) {
        // A text form of ACLs with names in it: dropping it would change who may read what.
        if key.starts_with(b"SCHILY.acl.") && !value.is_empty() {
            return Err(Wrong::Attribute(show(&key)));
        }
        let Some(name) = key.strip_prefix(b"SCHILY.xattr.") else { continue };
        if attribute::reserved(name) {
            return Err(Wrong::Reserved(show(name)));
        }
        if attribute::is_kept(name) {
            attribute::check(name, &value)?;
            xattrs.insert(name.to_owned(), value);
        }
    }
    Ok(Metadata { mode, uid, gid, mtime: mtime.clamp(0, MAX_TIME), xattrs })
}
