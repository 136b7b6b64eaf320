//! The lists of an archive: signed Release files, and the indexes that they name.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::PathBuf;

use super::error::Error;
use super::fetch::{self, Fetcher, Want};
use super::index::{self, Packing};
use super::package::Archive;
use super::release::{self, Keyring, Release};
use crate::digest::Digest;
use crate::threads;

/// Bytes that a Release file may have.
const RELEASE_CAP: u64 = 32 << 20;
/// Bytes that a compressed index may have.
const INDEX_CAP: u64 = 256 << 20;

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

/// A suite whose Release file is verified.
pub(super) struct Opened {
    /// Without its indexes.
    pub(super) pocket: Pocket,
    release: Release,
    /// URL of the directory of its files.
    base: String,
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

/// Fetches and verifies lists.
pub(super) struct Lister<'a> {
    pub(super) fetcher: &'a Fetcher,
    /// Seconds since 1970.
    pub(super) now: i64,
    /// Whether lists are taken whose Valid-Until has passed.
    pub(super) expired: bool,
}

impl Lister<'_> {
    /// Fetches and verifies the Release file of one suite.
    pub(super) fn open(
        &self,
        archive: Archive,
        root: &str,
        suite: &str,
        keys: &Keyring,
        named: &dyn Fn(&Release) -> Result<(), release::Distrust>,
    ) -> Result<Opened, Error> {
        let base = base_of(root, suite);
        let url = format!("{base}/InRelease");
        let mut documents = vec![];
        let text = match self.fetcher.document(&url, RELEASE_CAP) {
            Ok(bytes) => {
                let text = release::open_inline(&bytes, keys, self.now);
                documents.push(("InRelease", bytes));
                text
            }
            // Older repository tools write the signature apart.
            Err(fetch::Error { source: fetch::Failure::Status(404), .. })
                if matches!(archive, Archive::Url(_)) =>
            {
                let bytes = self.fetcher.document(&format!("{base}/Release"), RELEASE_CAP)?;
                let signature = self.fetcher.document(&format!("{base}/Release.gpg"), 1 << 20)?;
                let text = release::open_detached(&bytes, &signature, keys, self.now);
                documents.push(("Release", bytes));
                documents.push(("Release.gpg", signature));
                text
            }
            Err(error) => return Err(error.into()),
        };
        let untrusted = |source| Error::Untrusted { url: fetch::redact(&url), source };
        let release = Release::parse(&text.map_err(untrusted)?).map_err(untrusted)?;
        named(&release).map_err(untrusted)?;
        release.must_be_fresh(self.now, self.expired).map_err(untrusted)?;
        let pocket = Pocket {
            archive,
            suite: suite.to_owned(),
            documents,
            date: release.date,
            indexes: vec![],
        };
        Ok(Opened { pocket, release, base })
    }

    /// Fetches, verifies and decompresses the indexes that are not cached yet.
    pub(super) fn fill(
        &self,
        opened: Vec<Opened>,
        components: &[String],
        archs: &[&str],
    ) -> Result<Lists, Error> {
        let mut wanted = vec![];
        for (number, Opened { pocket, release, base }) in opened.iter().enumerate() {
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
                credentials: None,
                sha256: Some(w.packed.0),
                size: Some(w.packed.1),
                cap: INDEX_CAP,
                what: format!("package index of {}", opened[w.pocket].pocket.suite),
                // apt needs the plain text, and nobody needs both.
                keep: false,
            })
            .collect();
        let mut arrived = vec![];
        self.fetcher.all(gets, &mut |i, got| {
            arrived.extend(got.loose.map(|file| (missing[i], file)));
            ControlFlow::Continue(())
        })?;
        let unpacked = parallel(&arrived, &|(i, packed): &(usize, File)| {
            let w: &Wanted = &wanted[*i];
            let path = index::unpack(cache, packed, w.packing, w.plain);
            path.map(|path| (*i, path))
                .map_err(|source| Error::Index { url: fetch::redact(&w.url), source })
        })?;
        for (i, path) in unpacked {
            plain[i] = Some(path);
        }
        let mut pockets: Vec<Pocket> = opened.into_iter().map(|one| one.pocket).collect();
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

/// Does `work` for every item at once, in threads of their own; results in order, or the first
/// error.
pub(super) fn parallel<T: Sync, R: Send>(
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
    }
}
