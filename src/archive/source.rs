//! Where packages come from: verified indexes and downloads, with their cache.

use std::collections::HashMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::error::Error;
use super::fetch::{self, Fetcher, Want};
use super::index::{self, Packing};
use super::package::{Archive, Package, from_stanza};
use super::release::{self, Keyring, Release};
use super::{closure, mirror};
use crate::deb::index::Catalog;
use crate::digest::Digest;
use crate::event::Sink;
use crate::threads;

/// Asks whether to stop; see [`fetch::Fetcher::new`].
pub type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// Bytes that a Release file may have.
const RELEASE_CAP: u64 = 32 << 20;
/// Bytes that a compressed index may have.
const INDEX_CAP: u64 = 256 << 20;
/// Bytes that a package may have.
const PACKAGE_CAP: u64 = 8 << 30;

/// How to reach Debian.
#[derive(Clone)]
pub struct Options {
    /// `--debian-mirror`, `BAKE_DEBIAN_MIRROR`.
    pub mirror: Option<String>,
    /// The host's apt configuration folder, if it is to be asked for a mirror: `/etc/apt`.
    pub apt: Option<PathBuf>,
    /// How to download.
    pub limits: fetch::Limits,
    /// Files and directories of certificates (PEM) that https trusts instead of the system's.
    pub authorities: Vec<PathBuf>,
    /// Whether lists are taken whose Valid-Until has passed.
    pub expired: bool,
    /// A suite, and the date (seconds since 1970) of the newest Release file of it that was ever
    /// locked: an archive that is older is refused.
    pub not_before: Option<(String, i64)>,
    /// Keys that may sign Debian's archive instead of Debian's own (a private mirror that signs
    /// anew; tests).
    pub keys: Option<Vec<u8>>,
    /// Seconds since 1970, for dates in Release files.
    pub now: i64,
    /// Packages unpacked at once; never changes the result.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mirror: None,
            apt: Some(PathBuf::from("/etc/apt")),
            limits: fetch::Limits::default(),
            authorities: vec![],
            expired: false,
            not_before: None,
            keys: None,
            now: jiff::Timestamp::now().as_second(),
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

/// Downloads and their cache: everything about packages that needs no sandbox. `Send + Sync`.
pub struct Source {
    pub(super) fetcher: Fetcher,
    options: Options,
    keys: Keyring,
    /// One build sees one state of the archive, however many steps ask.
    seen: Mutex<HashMap<String, Arc<Lists>>>,
}

/// Verified indexes of some suites.
#[derive(Debug)]
pub(super) struct Lists {
    pub(super) pockets: Vec<Pocket>,
}

/// One suite of one archive: `trixie`, `trixie-updates`, `trixie-security`, or of a repository.
#[derive(Debug)]
pub(super) struct Pocket {
    pub(super) archive: Archive,
    pub(super) suite: String,
    /// Names and bytes of the signed documents, as apt wants to see them beside the lists.
    pub(super) documents: Vec<(&'static str, Vec<u8>)>,
    pub(super) date: i64,
    pub(super) indexes: Vec<Index>,
}

#[derive(Debug)]
pub(super) struct Index {
    pub(super) component: String,
    pub(super) arch: String,
    pub(super) plain: PathBuf,
}

/// A repository of the recipe (a `repository` step).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Archive URL.
    pub url: String,
    /// Suite or, ending in `/`, an exact path.
    pub suite: String,
    /// Components; none for an exact path.
    pub components: Vec<String>,
    /// The key that signs it, armored or binary.
    pub key: Vec<u8>,
}

/// What to fetch of an index.
struct Wanted {
    pocket: usize,
    component: String,
    arch: String,
    url: String,
    /// Its address by name, where `url` is by hash.
    named: Option<String>,
    packing: Packing,
    packed: (Digest, u64),
    plain: Option<(Digest, u64)>,
}

impl Source {
    /// The folder that everything fetched is kept in.
    pub fn cache(&self) -> &Path {
        self.fetcher.cache()
    }

    /// Packages unpacked at once.
    pub fn threads(&self) -> usize {
        self.options.threads
    }

    /// Uses the folder `cache` (made if missing), see `fetch` and `index` for what is in it. `stop`
    /// is asked often.
    pub fn new(cache: &Path, options: Options, sink: Sink, stop: Stop) -> Result<Self, Error> {
        let wrap = |source| Error::Download(fetch::Error { index: 0, url: String::new(), source });
        let keys = match &options.keys {
            Some(bytes) => Keyring::parse(bytes)
                .map_err(|source| Error::Untrusted { url: "the archive key".to_owned(), source })?,
            None => Keyring::debian(),
        };
        let fetcher = Fetcher::new(cache, options.limits.clone(), &options.authorities, sink, stop)
            .map_err(wrap)?;
        Ok(Self { fetcher, options, keys, seen: Mutex::default() })
    }

    /// Downloads one file, for `download` steps and repository keys. With `sha256` the cache is
    /// asked first.
    pub fn download(
        &self,
        url: &str,
        sha256: Option<Digest>,
        cap: u64,
    ) -> Result<fetch::Got, Error> {
        let what = url.rsplit('/').find(|p| !p.is_empty()).unwrap_or(url).to_owned();
        self.fetcher
            .one(Want {
                url: url.to_owned(),
                or_else: None,
                sha256,
                size: None,
                cap,
                what,
                keep: true,
            })
            .map_err(cancelled)
    }

    /// The mirror that is used for `suite`.
    pub fn mirror(&self, recipe: Option<&str>, suite: &str) -> mirror::Mirror {
        mirror::choose(recipe, self.options.mirror.as_deref(), self.options.apt.as_deref(), suite)
    }

    /// Brings packages into the cache and tells `ready` as each arrives. Without network if all are
    /// there.
    pub fn packages(
        &self,
        packages: &[Package],
        mirror: &mirror::Mirror,
        ready: &mut dyn FnMut(usize, fetch::Got) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let want = |p: &Package| {
            let root = match &p.archive {
                Archive::Main => &mirror.main,
                Archive::Security => &mirror.security,
                Archive::Url(url) => url.trim_end_matches('/'),
                Archive::Context => "context:",
            };
            let url = format!("{root}/{}", encode(&p.path));
            Want {
                or_else: None,
                url,
                sha256: Some(p.sha256),
                size: Some(p.size),
                cap: PACKAGE_CAP,
                what: format!("{} {}", p.name, p.version),
                keep: true,
            }
        };
        packages.iter().try_for_each(Package::check)?;
        self.fetcher.all(packages.iter().map(want).collect(), ready).map_err(|error| {
            let package = &packages[error.index.min(packages.len().saturating_sub(1))];
            match error.source {
                fetch::Failure::Status(404 | 410) => Error::Gone {
                    name: package.name.clone(),
                    version: package.version.clone(),
                    source: Box::new(error),
                },
                _ => cancelled(error),
            }
        })
    }

    /// Verified indexes of Debian's `suite` with updates and security. `archs`: Debian's names, the
    /// root's own first; of the others an index may be missing.
    pub(super) fn debian(
        &self,
        suite: &str,
        components: &[String],
        archs: &[&str],
        mirror: &mirror::Mirror,
    ) -> Result<Arc<Lists>, Error> {
        let memory =
            format!("{suite} {components:?} {archs:?} {} {}", mirror.main, mirror.security);
        self.remember(memory, || {
            let mut pockets = vec![(Archive::Main, suite.to_owned())];
            // The unstable suite gets its fixes directly.
            if suite != "sid" {
                pockets.push((Archive::Main, format!("{suite}-updates")));
                pockets.push((Archive::Security, format!("{suite}-security")));
            }
            let open = |(archive, suite): &(Archive, String)| {
                let root =
                    if *archive == Archive::Security { &mirror.security } else { &mirror.main };
                self.open(archive.clone(), root, suite, &self.keys, &|release| {
                    release.must_be(suite)
                })
                .map_err(|error| match error {
                    Error::Download(source)
                        if matches!(source.source, fetch::Failure::Status(404)) =>
                    {
                        Error::NoSuite { suite: suite.clone(), source: Box::new(source) }
                    }
                    error => error,
                })
            };
            let opened = parallel(&pockets, &open)?;
            if let Some((_, locked)) =
                self.options.not_before.as_ref().filter(|(of, _)| of == suite)
            {
                let newest = opened.iter().map(|(pocket, ..)| pocket.date).max().unwrap_or(0);
                release::must_not_be_older(newest, *locked).map_err(|source| {
                    let url = format!("{}/dists/{suite}", mirror.main);
                    Error::Untrusted { url: fetch::redact(&url), source }
                })?;
            }
            self.fill(opened, components, archs)
        })
    }

    /// Chooses the minimal set of `suite`: returns the packages, by name, and the date of the
    /// newest Release file that took part, in seconds since 1970. `arch`: Debian's name. `drop`:
    /// packages never chosen.
    pub fn minimal(
        &self,
        suite: &str,
        components: &[String],
        arch: &str,
        mirror: &mirror::Mirror,
        drop: &[&str],
    ) -> Result<(Vec<Package>, i64), Error> {
        let lists = self.debian(suite, components, &[arch], mirror)?;
        let unmet = |source| Error::Unmet { suite: suite.to_owned(), source };
        let mut catalog = Catalog::default();
        let mut origins = vec![];
        for pocket in &lists.pockets {
            for index in &pocket.indexes {
                catalog.add_file(&index.plain).map_err(|source| Error::Index {
                    url: format!("{} {}", pocket.suite, index.component),
                    source,
                })?;
                origins.push(&pocket.archive);
            }
        }
        let set = closure::close(&catalog, closure::Want::Minimal, arch, drop).map_err(unmet)?;
        let packages = set
            .values()
            .map(|found| from_stanza(&found.stanza, origins[found.index]))
            .collect::<Result<_, _>>()?;
        Ok((packages, lists.pockets.iter().map(|pocket| pocket.date).max().unwrap_or(0)))
    }

    /// Verified indexes of a repository of the recipe.
    pub(super) fn repository(
        &self,
        repository: &Repository,
        archs: &[&str],
    ) -> Result<Arc<Lists>, Error> {
        let memory = format!("{repository:?} {archs:?}");
        let root = repository.url.trim_end_matches('/');
        self.remember(memory, || {
            let keys = Keyring::parse(&repository.key)
                .map_err(|source| Error::Untrusted { url: format!("the key of {root}"), source })?;
            let archive = Archive::Url(root.to_owned());
            let suite = &repository.suite;
            let opened =
                self.open(archive, root, suite, &keys, &|release| release.must_answer_to(suite))?;
            self.fill(vec![opened], &repository.components, archs)
        })
    }

    fn remember(
        &self,
        name: String,
        make: impl FnOnce() -> Result<Lists, Error>,
    ) -> Result<Arc<Lists>, Error> {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(lists) = seen.get(&name) {
            return Ok(Arc::clone(lists));
        }
        let lists = Arc::new(make()?);
        seen.insert(name, Arc::clone(&lists));
        Ok(lists)
    }

    /// Fetches and verifies the Release file of one suite.
    fn open(
        &self,
        archive: Archive,
        root: &str,
        suite: &str,
        keys: &Keyring,
        named: &dyn Fn(&Release) -> Result<(), release::Distrust>,
    ) -> Result<(Pocket, Release, String), Error> {
        let base = base_of(root, suite);
        let url = format!("{base}/InRelease");
        let mut documents = vec![];
        let text = match self.fetcher.document(&url, RELEASE_CAP) {
            Ok(bytes) => {
                let text = release::open_inline(&bytes, keys, self.options.now);
                documents.push(("InRelease", bytes));
                text
            }
            // Older repository tools write the signature apart.
            Err(fetch::Error { source: fetch::Failure::Status(404), .. })
                if matches!(archive, Archive::Url(_)) =>
            {
                let bytes = self
                    .fetcher
                    .document(&format!("{base}/Release"), RELEASE_CAP)
                    .map_err(cancelled)?;
                let signature = self
                    .fetcher
                    .document(&format!("{base}/Release.gpg"), 1 << 20)
                    .map_err(cancelled)?;
                let text = release::open_detached(&bytes, &signature, keys, self.options.now);
                documents.push(("Release", bytes));
                documents.push(("Release.gpg", signature));
                text
            }
            Err(error) => return Err(cancelled(error)),
        };
        let untrusted = |source| Error::Untrusted { url: fetch::redact(&url), source };
        let release = Release::parse(&text.map_err(untrusted)?).map_err(untrusted)?;
        named(&release).map_err(untrusted)?;
        release.must_be_fresh(self.options.now, self.options.expired).map_err(untrusted)?;
        let pocket = Pocket {
            archive,
            suite: suite.to_owned(),
            documents,
            date: release.date,
            indexes: vec![],
        };
        Ok((pocket, release, base))
    }

    /// Fetches, verifies and decompresses the indexes that are not cached yet.
    fn fill(
        &self,
        opened: Vec<(Pocket, Release, String)>,
        components: &[String],
        archs: &[&str],
    ) -> Result<Lists, Error> {
        let mut wanted = vec![];
        for (number, (pocket, release, base)) in opened.iter().enumerate() {
            let flat = pocket.suite.ends_with('/');
            let flat_component = [String::new()];
            for component in if flat { &flat_component[..] } else { components } {
                for (at, arch) in archs.iter().copied().chain(["all"]).enumerate() {
                    if flat && at > 0 || arch == "all" && !release.all_apart {
                        continue;
                    }
                    let path = if flat {
                        "Packages".to_owned()
                    } else {
                        format!("{component}/binary-{arch}/Packages")
                    };
                    match pick(release, &path) {
                        Some((packing, packed, name)) => wanted.push(Wanted {
                            pocket: number,
                            component: component.clone(),
                            arch: arch.to_owned(),
                            url: if release.by_hash {
                                let above = path
                                    .rsplit_once('/')
                                    .map_or(String::new(), |(above, _)| format!("{above}/"));
                                format!("{base}/{above}by-hash/SHA256/{}", packed.0.hex())
                            } else {
                                format!("{base}/{name}")
                            },
                            // As apt does: a mirror need not have all of by-hash.
                            named: release.by_hash.then(|| format!("{base}/{name}")),
                            packing,
                            packed,
                            plain: release.files.get(&path).copied(),
                        }),
                        None if at > 0 => {}
                        None => {
                            let url = fetch::redact(&format!("{base}/InRelease"));
                            return Err(Error::Untrusted {
                                url,
                                source: release::Distrust::NoIndex(path),
                            });
                        }
                    }
                }
            }
        }
        let cache = self.fetcher.cache();
        let have = |w: &Wanted| Ok(w.plain.and_then(|(digest, _)| index::cached(cache, &digest)));
        let mut plain: Vec<Option<PathBuf>> = parallel(&wanted, &have)?;
        let missing: Vec<usize> = (0..wanted.len()).filter(|&i| plain[i].is_none()).collect();
        let gets: Vec<Want> = missing
            .iter()
            .map(|&i| &wanted[i])
            .map(|w| Want {
                url: w.url.clone(),
                or_else: w.named.clone(),
                sha256: Some(w.packed.0),
                size: Some(w.packed.1),
                cap: INDEX_CAP,
                what: format!("package index of {}", opened[w.pocket].0.suite),
                // apt needs the plain text, and nobody needs both.
                keep: false,
            })
            .collect();
        let mut arrived = vec![];
        self.fetcher
            .all(gets, &mut |i, got| {
                arrived.extend(got.loose.map(|file| (missing[i], file)));
                ControlFlow::Continue(())
            })
            .map_err(cancelled)?;
        let unpacked = parallel(&arrived, &|(i, packed): &(usize, File)| {
            let w: &Wanted = &wanted[*i];
            let path = index::unpack(cache, packed, w.packing, w.plain);
            path.map(|path| (*i, path))
                .map_err(|source| Error::Index { url: fetch::redact(&w.url), source })
        })?;
        for (i, path) in unpacked {
            plain[i] = Some(path);
        }
        let mut pockets: Vec<Pocket> = opened.into_iter().map(|(pocket, _, _)| pocket).collect();
        for (w, plain) in wanted.into_iter().zip(plain) {
            let plain = plain.expect("every index was cached or has just been unpacked");
            pockets[w.pocket].indexes.push(Index { component: w.component, arch: w.arch, plain });
        }
        Ok(Lists { pockets })
    }
}

/// Where the files of a suite are: `<root>/dists/<suite>`, or the exact path of a flat repository.
fn base_of(root: &str, suite: &str) -> String {
    match suite.strip_suffix('/') {
        None => format!("{root}/dists/{suite}"),
        Some("" | ".") => root.to_owned(),
        Some(path) => format!("{root}/{}", path.trim_start_matches("./")),
    }
}

/// The best form in which the Release file lists an index.
fn pick(release: &Release, path: &str) -> Option<(Packing, (Digest, u64), String)> {
    [(Packing::Xz, ".xz"), (Packing::Gzip, ".gz"), (Packing::Plain, "")].into_iter().find_map(
        |(packing, ending)| {
            let name = format!("{path}{ending}");
            release.files.get(&name).map(|file| (packing, *file, name))
        },
    )
}

fn cancelled(error: fetch::Error) -> Error {
    if matches!(error.source, fetch::Failure::Cancelled) {
        Error::Cancelled
    } else {
        Error::Download(error)
    }
}

/// Percent-encodes what a URL path may not hold; `%` too, since these are file names and not URLs.
fn encode(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~+:@!$&'()*,;=".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Does `work` for every item at once, in threads of their own; results in order, or the first
/// error.
fn parallel<T: Sync, R: Send>(
    items: &[T],
    work: &(dyn Fn(&T) -> Result<R, Error> + Sync),
) -> Result<Vec<R>, Error> {
    std::thread::scope(|scope| {
        let started: Vec<_> = items
            .iter()
            .map(|item| threads::scoped(scope, move || work(item)).map_err(|_| item))
            .collect();
        started
            .into_iter()
            .map(|one| match one {
                Ok(thread) => {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                }
                // The host had no thread for it.
                Err(item) => work(item),
            })
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_become_urls() {
        for (suite, url) in [
            ("trixie", "http://m/dists/trixie"),
            ("./", "http://m"),
            ("/", "http://m"),
            ("amd64/", "http://m/amd64"),
            ("./deb/", "http://m/deb"),
        ] {
            assert_eq!(base_of("http://m", suite), url);
        }
        assert_eq!(encode("pool/g++_1%3a2 x.deb"), "pool/g++_1%253a2%20x.deb");
    }
}
