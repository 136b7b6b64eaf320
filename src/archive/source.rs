//! Where packages come from: verified indexes and downloads, with their cache.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::error::Error;
use super::fetch::{self, Fetcher, Want};
use super::lists::{Lister, Lists, parallel};
use super::package::{Archive, Package, from_stanza};
use super::release::{self, Keyring};
use super::{closure, mirror};
use crate::deb::index::Catalog;
use crate::digest::Digest;
use crate::event::Sink;
use crate::secret::Value;
use crate::web::Authorities;

/// Asks whether to stop; see [`fetch::Fetcher::new`].
pub type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// Bytes that a package may have.
const PACKAGE_CAP: u64 = 8 << 30;

/// How to reach Debian.
#[derive(Clone)]
pub struct Options {
    /// `--debian-mirror`, `BAKE_DEBIAN_MIRROR`.
    pub mirror: Option<String>,
    /// The host's apt configuration directory, if it is to be asked for a mirror: `/etc/apt`.
    pub apt: Option<PathBuf>,
    /// How to download.
    pub limits: fetch::Limits,
    /// Whom https trusts.
    pub authorities: Authorities,
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
            authorities: Authorities::default(),
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

impl Source {
    /// The directory that everything fetched is kept in.
    pub fn cache(&self) -> &Path {
        self.fetcher.cache()
    }

    /// Packages unpacked at once.
    pub fn threads(&self) -> usize {
        self.options.threads
    }

    /// Uses the directory `cache` (made if missing), see `fetch` and `index` for what is in it.
    /// `stop` is asked often.
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

    /// Downloads one file, for repository keys and what else is for everybody. With `sha256` the
    /// cache is asked first.
    pub fn download(
        &self,
        url: &str,
        sha256: Option<Digest>,
        cap: u64,
    ) -> Result<fetch::Got, Error> {
        self.download_as(url, None, sha256, cap)
    }

    /// The same with `credentials`: `user:password` (RFC 7617), or a token (RFC 6750).
    pub fn download_as(
        &self,
        url: &str,
        credentials: Option<&Value>,
        sha256: Option<Digest>,
        cap: u64,
    ) -> Result<fetch::Got, Error> {
        let what = url.rsplit('/').find(|p| !p.is_empty()).unwrap_or(url).to_owned();
        let url = url.to_owned();
        let (or_else, size, credentials) = (None, None, credentials.cloned());
        let want = Want { url, or_else, credentials, sha256, size, cap, what, keep: true };
        Ok(self.fetcher.one(want)?)
    }

    /// The mirror that is used for `suite`.
    pub fn mirror(&self, recipe: Option<&str>, suite: &str) -> mirror::Mirror {
        mirror::choose(recipe, self.options.mirror.as_deref(), self.options.apt.as_deref(), suite)
    }

    /// Brings packages into the cache and calls `ready` as each arrives. Without network if all are
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
                credentials: None,
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
                _ => error.into(),
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
                self.lister()
                    .open(archive.clone(), root, suite, &self.keys, &|release| {
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
                let newest = opened.iter().map(|one| one.pocket.date).max().unwrap_or(0);
                release::must_not_be_older(newest, *locked).map_err(|source| {
                    let url = format!("{}/dists/{suite}", mirror.main);
                    Error::Untrusted { url: fetch::redact(&url), source }
                })?;
            }
            self.lister().fill(opened, components, archs)
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
            let opened = self
                .lister()
                .open(archive, root, suite, &keys, &|release| release.must_answer_to(suite))?;
            self.lister().fill(vec![opened], &repository.components, archs)
        })
    }

    fn lister(&self) -> Lister<'_> {
        let Options { now, expired, .. } = self.options;
        Lister { fetcher: &self.fetcher, now, expired }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_become_urls() {
        assert_eq!(encode("pool/g++_1%3a2 x.deb"), "pool/g++_1%253a2%20x.deb");
    }
}
