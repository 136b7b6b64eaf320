//! Held inputs: something from outside that reaches an image, opened once. Its digest goes into the
//! key, its bytes to the step, and nothing else knows where it came from.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Error;
use crate::digest::{Digest, HashReader, HashWriter};
use crate::files::FileStamp;

/// Bytes read in one go.
const CHUNK: usize = 256 << 10;

/// An input that was opened once: what it is called, its digest, and its content.
#[derive(Debug, Clone)]
pub struct Held {
    name: PathBuf,
    digest: Digest,
    content: Content,
}

/// Where the bytes of a held input are.
#[derive(Debug, Clone)]
enum Content {
    /// In memory: scripts, rendered templates, keys.
    Bytes(Arc<[u8]>),
    /// In an open file, which somebody else may still write to: what is taken from it is hashed on
    /// the way.
    File(Arc<File>),
}

impl Held {
    /// Holds bytes that were read or made already. `name` is for messages.
    pub fn bytes(name: &Path, bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self { name: name.to_owned(), digest: Digest::of(&bytes), content: Content::Bytes(bytes) }
    }

    /// Returns what the input is called: its path as the recipe writes it.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Returns the digest of its bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns its bytes.
    ///
    /// # Errors
    /// [`Error::Changed`] where an open file no longer has the bytes that were hashed.
    pub fn read(&self) -> Result<Arc<[u8]>, Error> {
        match &self.content {
            Content::Bytes(bytes) => Ok(Arc::clone(bytes)),
            Content::File(_) => {
                let mut bytes = vec![];
                self.write_to(&mut bytes)?;
                Ok(bytes.into())
            }
        }
    }

    /// Writes its bytes to `out`.
    ///
    /// # Errors
    /// [`Error::Changed`] where an open file no longer has the bytes that were hashed: what was
    /// written must not be used then.
    pub fn write_to(&self, out: &mut dyn Write) -> Result<(), Error> {
        let written = |source| Error::Write { path: self.name.clone(), source };
        let file = match &self.content {
            Content::Bytes(bytes) => return out.write_all(bytes).map_err(written),
            Content::File(file) => file,
        };
        let mut out = HashWriter::new(out);
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        loop {
            match file.read_at(&mut buffer, at) {
                Ok(0) => break,
                Ok(n) => {
                    out.write_all(&buffer[..n]).map_err(written)?;
                    at += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Content { path: self.name.clone(), source }),
            }
        }
        if out.finish().1 == self.digest {
            Ok(())
        } else {
            Err(Error::Changed { path: self.name.clone() })
        }
    }
}

/// Holds the open file `file` as `name`; `at` is its path below the context.
///
/// # Errors
/// [`Error::Changed`] where somebody writes to it meanwhile.
pub(super) fn hold_file(file: File, name: &Path, at: &Path) -> Result<Held, Error> {
    let before = marks(&file, at)?;
    let mut reader = HashReader::new(&file);
    io::copy(&mut reader, &mut io::sink())
        .map_err(|source| Error::Content { path: at.to_owned(), source })?;
    let digest = reader.finish().1;
    if marks(&file, at)? != before {
        return Err(Error::Changed { path: at.to_owned() });
    }
    Ok(Held { name: name.to_owned(), digest, content: Content::File(Arc::new(file)) })
}

/// Returns how the open file `file` looks now.
pub(super) fn marks(file: &File, path: &Path) -> Result<FileStamp, Error> {
    let stat = rustix::fs::fstat(file)
        .map_err(|e| Error::Content { path: path.to_owned(), source: e.into() })?;
    Ok(FileStamp::of(&stat))
}

/// Reads a file that nobody may write to meanwhile.
pub(super) fn read_still(file: File, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let content = |source| Error::Content { path: path.to_owned(), source };
    let before: FileStamp = marks(&file, path)?;
    let mut bytes = vec![];
    (&file).take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(content)?;
    if bytes.len() as u64 > limit {
        return Ok(None);
    }
    if marks(&file, path)? != before || bytes.len() as u64 != before.size {
        return Err(Error::Changed { path: path.to_owned() });
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Seek;

    use super::*;
    use crate::context::Context;

    #[test]
    fn what_is_handed_over_is_what_was_hashed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("tool.deb");
        fs::write(&path, "one").expect("our own file");
        let context = Context::open(dir.path(), &[], &[]).expect("our own directory");
        let held = context.hold_file(Path::new("tool.deb")).expect("it is there");
        assert_eq!(*held.digest(), Digest::of("one"));
        assert_eq!(&*held.read().expect("unchanged"), b"one");
        // Another file of that name is another file.
        fs::write(dir.path().join("new"), "two").expect("our own file");
        fs::rename(dir.path().join("new"), &path).expect("our own file");
        assert_eq!(&*held.read().expect("the file that was opened"), b"one");
        // Written to in place, it is no longer what was hashed.
        let held = context.hold_file(Path::new("tool.deb")).expect("it is there");
        fs::write(&path, "six").expect("our own file");
        assert_eq!(
            held.read().expect_err("changed").to_string(),
            "\"tool.deb\" changed while it was read; build again when nothing writes to it"
        );
        let small = context.hold(Path::new("tool.deb"), 3).expect("it is there");
        fs::write(&path, "ten").expect("our own file");
        assert_eq!(&*small.read().expect("in memory"), b"six");
        assert!(context.hold(Path::new("tool.deb"), 2).is_err());
    }

    #[test]
    fn a_file_that_grows_while_it_is_read_is_an_error() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"twelve bytes").expect("our own file");
        // As if the first half had been written when it was opened.
        file.seek(io::SeekFrom::Start(6)).expect("our own file");
        let error = read_still(file, Path::new("a"), 100).expect_err("its size is another");
        assert!(matches!(error, Error::Changed { .. }), "{error}");
    }
}
