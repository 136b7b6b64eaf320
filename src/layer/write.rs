//! Writing a layer tar entry by entry, in the one form this project writes: see the page of the
//! room.

use std::io::{self, BufWriter, Read, Write};

use tar::{EntryType, Header};

use super::member::{KnownFile, KnownFiles};
use super::{Error, MAX_ID, MAX_TIME, Metadata, Packed, Wrong, attribute, name, show};
use crate::digest::Digest;

const BLOCK: usize = 512;
/// The largest id an octal header field holds.
const MAX_OCTAL_ID: u32 = 0o7_777_777;

/// The largest size an octal header field holds; beyond it the size stands in the PAX header.
const MAX_OCTAL: u64 = 0o77_777_777_777;

/// Writes a layer tar from entries given in order (see [`super::compare`]); every path is relative,
/// without `./` or a trailing slash.
pub struct Builder<W: Write> {
    out: BufWriter<W>,
    epoch: Option<i64>,
    last: Option<Vec<u8>>,
    directory: Option<Vec<u8>>,
    entries: u64,
    bytes: u64,
    buffer: Vec<u8>,
    known: Option<KnownFiles>,
}

impl<W: Write> Builder<W> {
    /// Starts a tar in which nothing is younger than `epoch` (seconds since 1970; clamped to what a
    /// header holds).
    pub fn new(out: W, epoch: i64) -> Self {
        Self::with(out, Some(epoch.clamp(0, MAX_TIME)))
    }

    /// Starts a tar that keeps all times as they are given: for entries that come from tars made
    /// so.
    pub fn keeping_times(out: W) -> Self {
        Self::with(out, None)
    }

    fn with(out: W, epoch: Option<i64>) -> Self {
        Self {
            // Less than the buffer below, so that the bytes of large files go past it.
            out: BufWriter::with_capacity(64 << 10, out),
            epoch,
            last: None,
            directory: None,
            entries: 0,
            bytes: 0,
            buffer: vec![0; 256 << 10],
            known: None,
        }
    }

    /// The time that nothing in it is younger than; 0 where times are kept as they are given.
    pub fn epoch(&self) -> i64 {
        self.epoch.unwrap_or(0)
    }

    /// Adds to `known` the files whose content is known before they are written.
    pub fn noting(mut self, known: Option<KnownFiles>) -> Self {
        self.known = known;
        self
    }

    /// Adds a directory; the empty path is the top directory itself. Its time is always the epoch:
    /// the real one depends on the order in which files were put into it.
    pub fn dir(&mut self, path: &[u8], meta: &Metadata) -> Result<(), Error> {
        self.place(path, path.is_empty())?;
        let mut name = if path.is_empty() { b".".to_vec() } else { path.to_owned() };
        name.push(b'/');
        self.header(
            &name,
            EntryType::Directory,
            &Metadata { mtime: self.epoch.unwrap_or(meta.mtime), ..meta.clone() },
            0,
            None,
        )?;
        self.directory = Some(path.to_owned());
        Ok(())
    }

    /// Marks the directory just added as hiding everything that lower layers have in it.
    pub fn opaque(&mut self, path: &[u8]) -> Result<(), Error> {
        if self.directory.as_deref() != Some(path) {
            return Err(wrong(path, Wrong::Order));
        }
        self.mark(&name::join(path, name::OPAQUE))
    }

    /// Adds the deletion of what lower layers have at `path`.
    pub fn whiteout(&mut self, path: &[u8]) -> Result<(), Error> {
        let (directory, last) = name::split(path);
        let hidden = name::join(directory, &[name::WHITEOUT, last].concat());
        match name::clean(path).and_then(name::named) {
            Ok(name::Named::Plain(clean)) if clean == path && !path.is_empty() => {}
            Ok(_) => return Err(wrong(path, Wrong::Whiteout)),
            Err(why) => return Err(wrong(path, why)),
        }
        self.follow(&hidden)?;
        self.mark(&hidden)
    }

    fn mark(&mut self, name: &[u8]) -> Result<(), Error> {
        self.header(
            name,
            EntryType::Regular,
            &Metadata { mode: 0o600, mtime: self.epoch.unwrap_or(0), ..Metadata::default() },
            0,
            None,
        )
    }

    /// Adds a regular file whose `size` bytes come from `data`; a source with fewer or more bytes
    /// is an error.
    pub fn file(
        &mut self,
        path: &[u8],
        meta: &Metadata,
        size: u64,
        data: &mut dyn Read,
    ) -> Result<(), Error> {
        self.file_with(path, meta, size, None, data)
    }

    /// As [`Builder::file`], of a file whose bytes have the digest `digest`, which the caller
    /// vouches for.
    pub fn known_file(
        &mut self,
        path: &[u8],
        meta: &Metadata,
        size: u64,
        digest: &Digest,
        data: &mut dyn Read,
    ) -> Result<(), Error> {
        self.file_with(path, meta, size, Some(digest), data)
    }

    fn file_with(
        &mut self,
        path: &[u8],
        meta: &Metadata,
        size: u64,
        digest: Option<&Digest>,
        data: &mut dyn Read,
    ) -> Result<(), Error> {
        self.place(path, false)?;
        self.header(path, EntryType::Regular, meta, size, None)?;
        if let (Some(known), Some(digest)) = (&self.known, digest) {
            known.add(KnownFile { at: self.bytes, size, digest: *digest });
        }
        let mut left = size;
        let changed = || wrong(path, Wrong::Changed);
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let got = match data.read(&mut self.buffer[..want]) {
                Ok(0) => return Err(changed()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(Error::System { what: "read", path: show(path).into(), source });
                }
            };
            self.out.write_all(&self.buffer[..got]).map_err(|source| Error::Write { source })?;
            left -= got as u64;
        }
        loop {
            match data.read(&mut self.buffer[..1]) {
                Ok(0) => break,
                Ok(_) => return Err(changed()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Error::System { what: "read", path: show(path).into(), source });
                }
            }
        }
        self.bytes += size;
        self.pad(size)
    }

    /// Adds another name for the file added before as `target`.
    pub fn link(&mut self, path: &[u8], meta: &Metadata, target: &[u8]) -> Result<(), Error> {
        self.place(path, false)?;
        // The attributes belong to the file, which carries them at its first name.
        let meta = Metadata { xattrs: Default::default(), ..meta.clone() };
        self.header(path, EntryType::Link, &meta, 0, Some(target))
    }

    /// Adds a symlink.
    pub fn symlink(&mut self, path: &[u8], meta: &Metadata, target: &[u8]) -> Result<(), Error> {
        self.place(path, false)?;
        self.header(
            path,
            EntryType::Symlink,
            &Metadata { mode: 0o777, ..meta.clone() },
            0,
            Some(target),
        )
    }

    /// Adds a fifo.
    pub fn fifo(&mut self, path: &[u8], meta: &Metadata) -> Result<(), Error> {
        self.place(path, false)?;
        self.header(path, EntryType::Fifo, meta, 0, None)
    }

    /// Writes the end mark and returns the output, flushed to, and what was written.
    pub fn finish(mut self) -> Result<(W, Packed), Error> {
        self.out.write_all(&[0; 2 * BLOCK]).map_err(|source| Error::Write { source })?;
        let packed = Packed { entries: self.entries, bytes: self.bytes + 2 * BLOCK as u64 };
        let mut out = self.out.into_inner().map_err(|e| Error::Write { source: e.into_error() })?;
        out.flush().map_err(|source| Error::Write { source })?;
        Ok((out, packed))
    }

    /// Checks the name and its place in the order.
    fn place(&mut self, path: &[u8], top: bool) -> Result<(), Error> {
        if !top {
            match name::clean(path).and_then(name::named) {
                Ok(name::Named::Plain(clean)) if clean == path && !path.is_empty() => {}
                Ok(name::Named::Plain(_)) => return Err(wrong(path, Wrong::Empty)),
                Ok(_) => return Err(wrong(path, Wrong::Whiteout)),
                Err(why) => return Err(wrong(path, why)),
            }
        }
        self.follow(path)
    }

    fn follow(&mut self, path: &[u8]) -> Result<(), Error> {
        if self.last.as_deref().is_some_and(|last| name::compare(last, path).is_ge()) {
            return Err(wrong(path, Wrong::Order));
        }
        self.last = Some(path.to_owned());
        self.directory = None;
        Ok(())
    }

    fn header(
        &mut self,
        name: &[u8],
        kind: EntryType,
        meta: &Metadata,
        size: u64,
        target: Option<&[u8]>,
    ) -> Result<(), Error> {
        for (what, id) in [("owner", meta.uid), ("group", meta.gid)] {
            if id > MAX_ID {
                return Err(wrong(name, Wrong::Id { what, id: id.into() }));
            }
        }
        let mut header = Header::new_ustar();
        let mut pax = vec![];
        if !set_name(&mut header, name) {
            record(&mut pax, b"path", name);
        }
        if let Some(target) = target {
            if target.is_empty() || target.contains(&0) {
                return Err(wrong(name, Wrong::Empty));
            }
            let field = &mut header.as_old_mut().linkname;
            let fits = target.len().min(field.len());
            field[..fits].copy_from_slice(&target[..fits]);
            if fits < target.len() {
                record(&mut pax, b"linkpath", target);
            }
        }
        header.set_size(if size > MAX_OCTAL { 0 } else { size });
        if size > MAX_OCTAL {
            record(&mut pax, b"size", size.to_string().as_bytes());
        }
        for (key, value) in &meta.xattrs {
            if !attribute::is_kept(key) {
                return Err(wrong(name, Wrong::Attribute(show(key))));
            }
            attribute::check(key, value).map_err(|why| wrong(name, why))?;
            record(&mut pax, &[b"SCHILY.xattr.", &key[..]].concat(), value);
        }
        header.set_entry_type(kind);
        header.set_mode(meta.mode & 0o7777);
        // Beyond seven octal digits an id stands in the PAX header (pax(1), "uid" and "gid").
        for (key, id) in [(&b"uid"[..], meta.uid), (b"gid", meta.gid)] {
            if id > MAX_OCTAL_ID {
                record(&mut pax, key, id.to_string().as_bytes());
            }
        }
        let short = |id: u32| if id > MAX_OCTAL_ID { 0 } else { u64::from(id) };
        header.set_uid(short(meta.uid));
        header.set_gid(short(meta.gid));
        header.set_mtime(meta.mtime.clamp(0, self.epoch.unwrap_or(MAX_TIME)).unsigned_abs());
        header.set_cksum();
        if !pax.is_empty() {
            self.extended(&pax, name, target)?;
        }
        self.out.write_all(header.as_bytes()).map_err(|source| Error::Write { source })?;
        self.bytes += BLOCK as u64;
        self.entries += 1;
        Ok(())
    }

    fn extended(
        &mut self,
        records: &[u8],
        name: &[u8],
        target: Option<&[u8]>,
    ) -> Result<(), Error> {
        let mut body = vec![];
        if std::str::from_utf8(name).is_err()
            || target.is_some_and(|t| std::str::from_utf8(t).is_err())
        {
            // POSIX: the values are bytes, not UTF-8. Readers that care look for it first.
            record(&mut body, b"hdrcharset", b"BINARY");
        }
        body.extend_from_slice(records);
        let mut header = Header::new_ustar();
        set_name(&mut header, b"././@PaxHeader");
        header.set_entry_type(EntryType::XHeader);
        header.set_size(body.len() as u64);
        header.set_mode(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        self.out
            .write_all(header.as_bytes())
            .and_then(|()| self.out.write_all(&body))
            .map_err(|source| Error::Write { source })?;
        self.bytes += (BLOCK + body.len()) as u64;
        self.pad(body.len() as u64)
    }

    /// Fills the last block of `size` bytes.
    fn pad(&mut self, size: u64) -> Result<(), Error> {
        let pad = (BLOCK - (size % BLOCK as u64) as usize) % BLOCK;
        self.bytes += pad as u64;
        self.out.write_all(&[0; BLOCK][..pad]).map_err(|source| Error::Write { source })
    }
}

fn wrong(path: &[u8], why: Wrong) -> Error {
    Error::Pack { path: show(path), why }
}

/// Puts a name into the header: whole, or split at a slash into prefix and name. False: it fits
/// neither way, and its beginning stands there for readers that know no better.
fn set_name(header: &mut Header, name: &[u8]) -> bool {
    let ustar = header.as_ustar_mut().expect("made as ustar");
    if name.len() <= 100 {
        ustar.name[..name.len()].copy_from_slice(name);
        return true;
    }
    // The first slash that leaves at most 100 bytes behind it; a directory's closing slash splits
    // nothing off.
    let from = name.len() - 101;
    let at = name[from..name.len() - 1].iter().position(|b| *b == b'/').map(|at| from + at);
    match at {
        Some(at) if at <= 155 && at > 0 => {
            ustar.prefix[..at].copy_from_slice(&name[..at]);
            ustar.name[..name.len() - at - 1].copy_from_slice(&name[at + 1..]);
            true
        }
        _ => {
            ustar.name.copy_from_slice(&name[..100]);
            false
        }
    }
}

/// Appends a PAX record: its own length, a space, key, `=`, value, a line end.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    // The length counts its own digits.
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_digits() {
        for n in [0, 1, 80, 88, 89, 90, 91, 92, 93, 980, 988, 989, 990, 9990] {
            let mut out = vec![];
            record(&mut out, b"path", &vec![b'x'; n]);
            let text = String::from_utf8(out).expect("ascii");
            let (length, _) = text.split_once(' ').expect("a length");
            assert_eq!(length.parse::<usize>().expect("a number"), text.len());
        }
    }

    #[test]
    fn order_is_kept_by_the_type() {
        let mut tar = Builder::new(vec![], 10);
        let meta = Metadata { mode: 0o755, ..Metadata::default() };
        tar.dir(b"", &meta).expect("top");
        tar.dir(b"a", &meta).expect("a directory");
        tar.opaque(b"a").expect("right after its directory");
        tar.whiteout(b"a/x").expect("a whiteout");
        tar.opaque(b"a").expect_err("too late");
        tar.file(b"a/y", &meta, 3, &mut &b"abc"[..]).expect("a file");
        tar.file(b"a/y", &meta, 0, &mut io::empty()).expect_err("twice");
        tar.file(b"a/b", &meta, 0, &mut io::empty()).expect_err("out of order");
        for name in ["", "/x", "z/", "z/../z", "z/.wh.z", "z//z", "./z"] {
            tar.fifo(name.as_bytes(), &meta).expect_err(name);
        }
        tar.file(b"b", &meta, 2, &mut &b"abc"[..]).expect_err("too long");
        tar.file(b"c", &meta, 4, &mut &b"abc"[..]).expect_err("too short");
        tar.fifo(b"d", &Metadata { uid: u32::MAX, ..meta }).expect_err("id");
    }
}
