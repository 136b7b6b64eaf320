//! The cache of package indexes: decompressed once, as apt needs the plain text too.
//!
//! ```text
//! CACHE/index/sha256/<hex>    plain text of an index, by the sha256 that the signed Release file gives
//! ```

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::deb::file::xz;
use crate::digest::{Digest, HashReader, HashWriter};
use crate::files::{self, Aside};

/// How an index is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// `.xz`
    Xz,
    /// `.gz`
    Gzip,
    /// As it is.
    Plain,
}

/// Where the plain text of an index is cached.
pub(super) fn place(cache: &Path, digest: &Digest) -> PathBuf {
    cache.join("index/sha256").join(digest.hex())
}

/// Returns the cached plain text after a check of every byte; what is not what its name says is
/// removed.
pub(super) fn cached(cache: &Path, digest: &Digest) -> Option<PathBuf> {
    let path = place(cache, digest);
    let file = fs::File::open(&path).ok()?;
    files::mark_used(&file);
    let mut reader = HashReader::new(file);
    let mut buffer = vec![0; 1 << 20];
    while reader.read(&mut buffer).ok()? > 0 {}
    if reader.finish().1 == *digest {
        return Some(path);
    }
    let _ = fs::remove_file(&path);
    None
}

/// Decompresses the verified file `packed` (from where it stands) into the cache and checks that
/// the result is what the Release file says. `plain`: its digest and size; without one (not every
/// archive lists the plain text) the digest found is the name.
pub(super) fn unpack(
    cache: &Path,
    packed: &fs::File,
    packing: Packing,
    plain: Option<(Digest, u64)>,
) -> io::Result<PathBuf> {
    let dir = cache.join("index/sha256");
    fs::create_dir_all(&dir)?;
    let reader: Box<dyn Read> = match packing {
        Packing::Xz => Box::new(xz(packed)?),
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        Packing::Plain => Box::new(packed),
    };
    let cap = plain.map_or(1 << 30, |(_, size)| size);
    let partial = cache.join("partial");
    let mut aside = Aside::new(&partial)?;
    let mut out = HashWriter::new(io::BufWriter::with_capacity(1 << 18, &mut aside));
    let size = io::copy(&mut reader.take(cap + 1), &mut out)?;
    out.flush()?;
    let (_, digest, _) = out.finish();
    if size > cap || plain.is_some_and(|wanted| wanted != (digest, size)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "its plain text is not what the Release file says",
        ));
    }
    let path = place(cache, &digest);
    aside.keep_unsynced(&path, 0o644)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Package: a\nVersion: 1\nDescription: x\n y\nDepends: b,\n c\n\nPackage: \
        b\nVersion: 2\nProvides: v (= 1), w\nFilename: pool/b.deb\n\nPackage: a\nVersion: \
        1.1\nEssential: yes\n\nPackage: a\nVersion: 1.0\nPriority: required\n";

    #[test]
    fn use_shows_as_the_time_of_access_only() {
        use std::time::Duration;
        use std::time::SystemTime;
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("partial")).expect("mkdir");
        let packed = dir.path().join("Packages");
        fs::write(&packed, TEXT).expect("write");
        let open = || fs::File::open(&packed).expect("open");
        let path = unpack(dir.path(), &open(), Packing::Plain, None).expect("unpack");
        let old = SystemTime::now() - Duration::from_secs(86_400);
        fs::File::open(&path)
            .expect("open")
            .set_times(fs::FileTimes::new().set_accessed(old).set_modified(old))
            .expect("touch");
        assert_eq!(cached(dir.path(), &Digest::of(TEXT)), Some(path.clone()));
        // Another build's apt holds a link to it, and would take another time for another list.
        let meta = fs::metadata(&path).expect("stat");
        assert_eq!(meta.modified().expect("a time"), old);
        assert!(meta.accessed().expect("a time") > old + Duration::from_secs(80_000));
    }
}
