//! What the tests of bases share: a cache, a source that asks the real mirror (perhaps through a
//! loopback server that tampers), roots.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use bake::archive::{JobContext, Line};
use bake::archive::{Options, Source, mirror};
use bake::base::{Error, Pinned};
use bake::digest::Digest;
use bake::event::{Sink, silent};
use bake::recipe::{Base, BaseKind, Debian, DebianVariant, Modes};
use bake::sandbox::{Cancel, Overlay};

use crate::sandbox_lab::{Lab, base as directory};

/// Packages downloaded by any test of this run, shared: content that is checked whenever it is
/// used.
static CACHE: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = directory().join("base-cache");
    std::fs::create_dir_all(&path).unwrap();
    path
});

pub(crate) fn cache() -> &'static Path {
    &CACHE
}

/// The mirror that this machine's apt uses, else the public one.
pub(crate) fn real(suite: &str) -> mirror::Mirror {
    mirror::choose(None, None, Some(Path::new("/etc/apt")), suite)
}

/// Whether the mirror answers; notes a skip if not.
pub(crate) fn net() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path(), Options::default());
    match source.download(
        &format!("{}/dists/trixie/Release.gpg", real("trixie").main),
        None,
        1 << 20,
    ) {
        Ok(_) => true,
        Err(error) => !crate::tier::skip(&format!("the Debian mirror cannot be reached: {error}")),
    }
}

pub(crate) fn source(cache: &Path, options: Options) -> Source {
    Source::new(cache, options, silent(), Arc::new(|| false)).unwrap()
}

pub(crate) fn debian(suite: &str, variant: DebianVariant) -> Base {
    let debian = Debian {
        suite: suite.to_owned(),
        variant,
        mirror: None,
        components: vec!["main".to_owned()],
    };
    Base { line: 1, kind: BaseKind::Debian(debian), modes: Modes::default() }
}

pub(crate) fn pin(suite: &str, source: &Source) -> Result<Pinned, Error> {
    bake::base::pin(&debian(suite, DebianVariant::Minbase), "amd64", Path::new("."), None, source)
}

/// A session with what packages need.
pub(crate) struct Builder {
    pub(crate) lab: Lab,
    pub(crate) scratch: PathBuf,
    pub(crate) cancel: Cancel,
    sink: Sink,
}

impl Builder {
    pub(crate) fn new() -> Option<Self> {
        let lab = Lab::new()?;
        let scratch = lab.scratch();
        Some(Self { lab, scratch, cancel: Cancel::new().unwrap(), sink: silent() })
    }

    pub(crate) fn context<'a>(&'a self, source: &'a Source) -> JobContext<'a> {
        JobContext {
            source,
            session: &self.lab.session,
            scratch: &self.scratch,
            cancel: &self.cancel,
            sink: &self.sink,
        }
    }

    /// Builds a base into a fresh upper directory.
    pub(crate) fn build(
        &self,
        pinned: &Pinned,
        context: &Path,
        epoch: i64,
        source: &Source,
    ) -> Result<Overlay, Error> {
        let overlay = self.lab.overlay(vec![]);
        let mut listen = |line: Line<'_>| eprintln!("{}", String::from_utf8_lossy(line.text));
        bake::base::build(
            pinned,
            epoch,
            context,
            &overlay.upper,
            &overlay.work,
            &self.context(source),
            &mut listen,
        )?;
        Ok(overlay)
    }

    /// Runs a shell script as root in a root and returns its output; panics if it fails.
    #[track_caller]
    pub(crate) fn sh(&self, root: &Overlay, script: &str) -> String {
        let mut job = self.lab.job(vec![crate::sandbox_lab::sh(script)]);
        job.root = Some(Overlay { lower: vec![root.upper.clone()], ..self.lab.overlay(vec![]) });
        self.lab.run(job).ok().out.join("\n")
    }
}

/// Whether two directories are the same layer (here, where ids on disk are the image's: as root);
/// says what differs.
#[track_caller]
pub(crate) fn assert_same(one: &Path, two: &Path, epoch: i64) {
    let rows = |upper: &Path| {
        let mut bytes = vec![];
        bake::layer::pack(upper, epoch, &mut bytes).unwrap();
        let mut rows = std::collections::BTreeSet::new();
        for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = vec![];
            std::io::Read::read_to_end(&mut entry, &mut text).unwrap();
            let h = entry.header();
            let (kind, mode, uid, gid, time) = (
                h.entry_type(),
                h.mode().unwrap(),
                h.uid().unwrap(),
                h.gid().unwrap(),
                h.mtime().unwrap(),
            );
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let link = entry.link_name_bytes().map(|l| String::from_utf8_lossy(&l).into_owned());
            rows.insert(format!(
                "{name} {kind:?} {mode:o} {uid}:{gid} {time} {link:?} {}",
                Digest::of(&text)
            ));
        }
        (Digest::of(&bytes), rows)
    };
    let ((a, left), (b, right)) = (rows(one), rows(two));
    let only: Vec<_> = left.symmetric_difference(&right).collect();
    assert_eq!(a, b, "{only:#?}");
}
