//! What the files of a `copy` step contain: read once, on all cores, and not at all where the stat
//! cache knows; and files opened to be put into a layer, watched for changes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rayon::prelude::*;
use rustix::fs::{Mode, OFlags};

use super::error::Error;
use super::held::marks;
use super::list::{Listing, Row, What};
use super::seen::{Reader, Writer};
use super::tree::Tree;
use crate::digest::{Digest, Hasher};
use crate::files::FileStamp;
use crate::threads;

/// Name of the form in which a copy is hashed; changes when its meaning does.
const FORMAT: &[u8] = b"bake copy 1\n";
/// Bytes read in one go; a thread has one such buffer.
const CHUNK: usize = 256 << 10;
/// Files whose contents are looked for in one go.
const SOME: usize = 16 << 10;

/// The content of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content {
    pub(super) digest: Digest,
    /// Old enough when it was read that any later change shows in its [`FileStamp`].
    pub(super) settled: bool,
}

/// Returns the contents of all files of a listing, in its order; reads and renews the stat cache
/// `cache`.
pub(super) fn contents(
    context: &Tree,
    listing: &Listing,
    cache: Option<&Path>,
) -> Result<Vec<Content>, Error> {
    let nothing = Content { digest: Digest::from_bytes([0; 32]), settled: false };
    let mut contents = vec![nothing; listing.files as usize];
    let mut unknown: Vec<u32> = vec![];
    let mut reader = cache.map(Reader::open);
    let mut used = 0;
    let mut place = vec![];
    for (at, row) in (0..).zip(&listing.rows) {
        let What::File { mark, content } = row.what else { continue };
        listing.place_into(row, &mut place);
        match reader.as_mut().and_then(|reader| reader.find(&place, &mark)) {
            Some(digest) => {
                contents[content as usize] = Content { digest, settled: true };
                used += 1;
            }
            None => unknown.push(at),
        }
    }
    let mut news = false;
    let file = |at: &u32| {
        let row = &listing.rows[*at as usize];
        let What::File { mark, content } = row.what else { return None };
        Some((row, mark, content))
    };
    // Some at a time: of half a million files the results alone would be a tenth of a gigabyte.
    for some in unknown.chunks(SOME) {
        let found: Vec<_> = threads::in_pool(|| {
            some.par_iter()
                .with_min_len(16)
                .map_init(
                    || vec![0; CHUNK],
                    |buffer, at| {
                        file(at).map(|(row, mark, _)| hash(context, listing, row, &mark, buffer))
                    },
                )
                .collect()
        });
        for ((_, mark, content), digest) in
            some.iter().filter_map(file).zip(found.into_iter().flatten())
        {
            let settled = mark.settled(listing.when);
            contents[content as usize] = Content { digest: digest?, settled };
            news |= settled;
        }
    }
    if let (Some(path), Some(reader)) = (cache, reader)
        && (reader.count() != used || news)
    {
        // A cache that cannot be written costs time, and is no reason to fail.
        let _ = write(listing, &contents, path);
    }
    Ok(contents)
}

fn write(listing: &Listing, contents: &[Content], path: &Path) -> io::Result<()> {
    let mut writer = Writer::new(path.parent().unwrap_or(Path::new(".")))?;
    let mut place = vec![];
    for row in &listing.rows {
        let What::File { mark, content } = row.what else { continue };
        let Content { digest, settled } = contents[content as usize];
        if settled {
            listing.place_into(row, &mut place);
            writer.add(&place, &mark, &digest)?;
        }
    }
    writer.finish(path)
}

fn hash(
    context: &Tree,
    listing: &Listing,
    row: &Row,
    mark: &FileStamp,
    buffer: &mut [u8],
) -> Result<Digest, Error> {
    let source = || listing.source(row);
    let mut file = Watched::open(context, &source(), mark)?;
    let mut hasher = Hasher::new();
    loop {
        match file.read(buffer) {
            Ok(0) => break,
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Content { path: source(), source: error }),
        }
    }
    file.finish(&source())?;
    Ok(hasher.finish())
}

/// Names by content what is taken: every field with its length, so that no two listings have the
/// same bytes.
pub(super) fn digest(listing: &Listing, contents: &[Content]) -> Digest {
    let mut all = Hasher::new();
    all.update(FORMAT);
    let mut place = vec![];
    let mut bytes = vec![];
    for row in &listing.rows {
        bytes.clear();
        listing.place_into(row, &mut place);
        field(&mut bytes, &place);
        describe(listing, contents, row, &mut bytes);
        all.update(&bytes);
    }
    all.finish()
}

/// Says everything about a row that counts, but for its place.
pub(super) fn describe(listing: &Listing, contents: &[Content], row: &Row, out: &mut Vec<u8>) {
    field(out, &row.mode.to_be_bytes());
    match row.what {
        What::Directory => field(out, b"folder"),
        What::Link(target) => {
            field(out, b"link");
            field(out, listing.text(target));
        }
        What::File { content, .. } => {
            field(out, b"file");
            field(out, contents[content as usize].digest.as_bytes());
        }
    }
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_be_bytes());
    out.extend(bytes);
}

/// A file of the context that is watched for changes while it is read.
pub(super) struct Watched {
    file: File,
    opened: FileStamp,
    read: u64,
}

impl Watched {
    /// Opens the file `source`, which looked like `mark` when it was listed.
    pub(super) fn open(context: &Tree, source: &Path, mark: &FileStamp) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK;
        let fd = context.dir.open_at(source, flags, Mode::empty()).map_err(|e| match e {
            e if e.is_missing() => Error::Changed { path: source.to_owned() },
            e => context.explain(source, e),
        })?;
        let file = File::from(fd);
        let opened = marks(&file, source)?;
        if opened.same_bytes(mark) {
            Ok(Self { file, opened, read: 0 })
        } else {
            Err(Error::Changed { path: source.to_owned() })
        }
    }

    /// Makes sure that the whole file was read, and that it is what it was.
    pub(super) fn finish(self, source: &Path) -> Result<(), Error> {
        let unchanged = marks(&self.file, source)? == self.opened && self.read == self.opened.size;
        if unchanged { Ok(()) } else { Err(Error::Changed { path: source.to_owned() }) }
    }
}

impl Read for Watched {
    /// Never more than the file had when it was listed.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left =
            usize::try_from(self.opened.size - self.read).unwrap_or(usize::MAX).min(buffer.len());
        if left == 0 {
            return Ok(0);
        }
        let n = self.file.read(&mut buffer[..left])?;
        self.read += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::time::Duration;
    use std::time::SystemTime;

    use super::*;
    use crate::context::Context;
    use crate::context::seen;
    use crate::context::select;
    use crate::step::Op;

    struct Lab {
        dir: tempfile::TempDir,
        context: Context,
    }

    impl Lab {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            fs::create_dir_all(dir.path().join("in/d/sub")).expect("mkdir");
            for (name, text) in
                [("a", "one"), ("d/b", "two"), ("d/sub/c", "three"), ("d-e", "four")]
            {
                fs::write(dir.path().join("in").join(name), text).expect("write");
            }
            let context = Context::open(&dir.path().join("in"), &[], &[]).expect("open");
            Self { dir, context }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join("in").join(name)
        }

        fn cache(&self) -> PathBuf {
            self.dir.path().join("cache")
        }

        fn listing(&self, later: Duration) -> Listing {
            let op = Op::Copy {
                stage: None,
                from: vec![".".into()],
                to: "/x".into(),
                owner: "0:0".into(),
                mode: None,
                exclude: vec![],
            };
            let mut listing = select::select(&self.context, &op).expect("list");
            listing.when = SystemTime::now() + later;
            listing
        }

        /// Digests as they are found with the cache, as if looked at long after the last change.
        fn found(&self) -> Vec<Digest> {
            let found = contents(
                &self.context,
                &self.listing(Duration::from_secs(60)),
                Some(&self.cache()),
            )
            .expect("read");
            found.into_iter().map(|one| one.digest).collect()
        }

        /// Digests as they are.
        fn real(&self) -> Vec<Digest> {
            ["a", "d/b", "d/sub/c", "d-e"]
                .map(|name| Digest::of(fs::read(self.path(name)).expect("read")))
                .to_vec()
        }

        /// A cache that says that every file contains `lie`: what is believed shows.
        fn lie(&self) -> Vec<Digest> {
            let listing = self.listing(Duration::from_secs(60));
            let lie = Digest::of("lie");
            let contents = vec![Content { digest: lie, settled: true }; listing.files as usize];
            write(&listing, &contents, &self.cache()).expect("write");
            vec![lie; contents.len()]
        }
    }

    #[test]
    fn what_did_not_change_is_not_read_again() {
        let lab = Lab::new();
        assert_eq!(lab.found(), lab.real());
        assert!(lab.cache().exists());
        let mut expected = lab.lie();
        assert_eq!(lab.found(), expected);
        fs::write(lab.path("d/b"), "six").expect("write");
        expected[1] = Digest::of("six");
        assert_eq!(lab.found(), expected, "one file is read");
        fs::remove_file(lab.path("a")).expect("remove");
        fs::write(lab.path("z"), "new").expect("write");
        expected.remove(0);
        expected.push(Digest::of("new"));
        assert_eq!(lab.found(), expected);
    }

    #[test]
    fn what_was_looked_at_is_known_to_the_build_but_for_what_it_leaves_out() {
        let lab = Lab::new();
        let copy = |from: &str| Op::Copy {
            stage: None,
            from: vec![from.into()],
            to: "/x/".into(),
            owner: "0:0".into(),
            mode: None,
            exclude: vec![],
        };
        let again = |from: &str, left_out: &str| {
            let first = lab.context.take(&copy(from)).expect("list");
            let why = (PathBuf::from(left_out), "because".to_owned());
            let later = lab
                .context
                .for_build(Some(why), lab.dir.path().to_owned())
                .expect("open")
                .take(&copy(from));
            later
                .map(|later| std::sync::Arc::ptr_eq(&first, &later))
                .map_err(|error| error.to_string())
        };
        assert_eq!(again("d", "store"), Ok(true));
        assert_eq!(again("d", "d-e"), Ok(true));
        assert_eq!(again("d", "d/sub"), Ok(false));
        assert_eq!(again(".", "d"), Ok(false));
        assert_eq!(again("d/sub/c", "d"), Err("\"d/sub/c\" is left out by because".to_owned()));
    }

    #[test]
    fn a_touch_changes_no_digest_and_a_replaced_file_is_read() {
        let lab = Lab::new();
        let (before, old) =
            (lab.found(), fs::metadata(lab.path("a")).expect("stat").modified().expect("a time"));
        let file = fs::File::options().write(true).open(lab.path("a")).expect("open");
        file.set_modified(SystemTime::UNIX_EPOCH).expect("touch");
        assert_eq!(lab.found(), before);
        // Same size, same time, other bytes: as `rsync -t` or an unpacked archive leaves it.
        fs::write(lab.path("new"), "two").expect("write");
        fs::File::options()
            .write(true)
            .open(lab.path("new"))
            .expect("open")
            .set_modified(old)
            .expect("touch");
        file.set_modified(old).expect("touch");
        assert_eq!(lab.found()[0], before[0]);
        fs::rename(lab.path("new"), lab.path("a")).expect("rename");
        assert_eq!(lab.found(), lab.real());
        // And in place: the time of change shows it.
        fs::write(lab.path("a"), "six").expect("write");
        fs::File::options()
            .write(true)
            .open(lab.path("a"))
            .expect("open")
            .set_modified(old)
            .expect("touch");
        assert_eq!(lab.found(), lab.real());
    }

    #[test]
    fn a_file_that_may_still_change_within_the_tick_is_not_remembered() {
        let lab = Lab::new();
        let listing = lab.listing(Duration::ZERO);
        let found = contents(&lab.context, &listing, Some(&lab.cache())).expect("read");
        assert!(found.iter().all(|one| !one.settled));
        assert!(!lab.cache().exists());
        lab.lie();
        // Rows that were believed once and are of old files stay believed, whenever the next build
        // comes.
        let found =
            contents(&lab.context, &lab.listing(Duration::ZERO), Some(&lab.cache())).expect("read");
        assert!(found.iter().all(|one| one.settled && one.digest == Digest::of("lie")));
    }

    /// C1
    #[test]
    fn what_is_packed_is_never_believed_unread() {
        let lab = Lab::new();
        let cache = lab.dir.path().join("stat");
        fs::create_dir(&cache).expect("our own directory");
        let context = || {
            let context = Context::open(&lab.dir.path().join("in"), &[], &[]).expect("open");
            context.with_stat_cache(cache.clone())
        };
        let op = Op::Copy {
            from: vec!["a".into()],
            stage: None,
            to: "/x".into(),
            owner: "0:0".into(),
            mode: None,
            exclude: vec![],
        };
        // As after a change that leaves no mark: a shared mapping, a file system that was swapped.
        let listing = select::select(&context(), &op).expect("list");
        let lie = vec![Content { digest: Digest::of("lie"), settled: true }];
        let file = context().cache_file(&op).expect("it has a cache");
        write(&listing, &lie, &file).expect("write");
        let believed = context();
        let wrong = believed.digest(&op).expect("by the cache");
        let mut tar = crate::layer::Builder::new(std::io::sink(), 0);
        let meta = |mode| crate::layer::Metadata { mode, ..crate::layer::Metadata::default() };
        let put = believed.source(&op).expect("list").put(0, b"x", meta, &mut tar);
        let error = put.expect_err("other bytes than the key says").to_string();
        assert!(error.starts_with("\"a\" changed while it was read"), "{error}");
        // The next build is right.
        assert!(!file.exists());
        let right = context();
        assert_ne!(right.digest(&op).expect("read anew"), wrong);
        let put = right.source(&op).expect("list").put(0, b"y", meta, &mut tar);
        assert!(put.is_ok(), "{put:?}");
    }

    #[test]
    fn a_damaged_or_foreign_cache_is_not_believed() {
        let lab = Lab::new();
        let real = lab.real();
        lab.lie();
        let whole = fs::read(lab.cache()).expect("read");
        let allowed =
            |found: Vec<Digest>| found.iter().zip(&real).all(|(found, real)| found == real);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            for bytes in [&damaged[..], &whole[..at]] {
                fs::write(lab.cache(), bytes).expect("write");
                assert!(allowed(lab.found()), "byte {at}");
            }
        }
        let newer = [b"bake stat cache 2\n", &whole[MAGIC_LENGTH..]].concat();
        for bytes in
            [&b""[..], b"bake stat cache 1\n", b"something else entirely, and long enough", &newer]
        {
            fs::write(lab.cache(), bytes).expect("write");
            assert_eq!(lab.found(), real);
        }
        assert_eq!(lab.found(), real, "and it is mended");
    }

    const MAGIC_LENGTH: usize = seen::MAGIC.len();

    #[test]
    fn builds_at_the_same_time_do_no_harm() {
        let lab = Lab::new();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        assert_eq!(lab.found(), lab.real());
                        let _ = fs::remove_file(lab.cache());
                    }
                });
            }
        });
        assert!(
            fs::read_dir(lab.dir.path())
                .expect("list")
                .all(|one| !files_aside(&one.expect("a name").file_name()))
        );
    }

    fn files_aside(name: &std::ffi::OsStr) -> bool {
        crate::files::is_aside(name)
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_no_reason_to_fail() {
        let lab = Lab::new();
        let nowhere = lab.dir.path().join("no/such/directory/cache");
        let found = contents(&lab.context, &lab.listing(Duration::from_secs(60)), Some(&nowhere))
            .expect("read");
        assert_eq!(found.into_iter().map(|one| one.digest).collect::<Vec<_>>(), lab.real());
    }
}
