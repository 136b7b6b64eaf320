//! Debian: verified indexes, the minimal set, downloads. `bootstrap` makes the base tree from a
//! set, `apt` serves `packages` steps.
//!
//! Trust goes one way: a Release file signed by a known key names indexes by sha256, an index names
//! packages by sha256, a lock names packages by sha256. Everything is checked here; the image's own
//! apt and dpkg check nothing of what they are handed.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use self::index::{Catalog, Packing, field};
use self::release::{Keyring, Release};
use super::fetch::{self, Fetcher, Want};
use super::{Error, Package, PinnedDebian, Stop};
use crate::digest::Digest;
use crate::event::Sink;
use crate::recipe;

pub mod apt;
pub mod bootstrap;
pub mod closure;
mod deb;
mod filter;
mod index;
pub mod mirror;
pub mod release;
pub(super) mod tidy;
mod tree;
pub(super) mod unpack;
pub mod version;

/// Suites that a mirror of Debian has, for hints.
pub(super) const SUITES: &[&str] = &["bookworm", "trixie", "sid"];

/// Bytes that a Release file may have.
const RELEASE_CAP: u64 = 32 << 20;
/// Bytes that a compressed index may have.
const INDEX_CAP: u64 = 256 << 20;
/// Bytes that a package may have.
const PACKAGE_CAP: u64 = 8 << 30;

/// Which archive a package comes from; written `debian`, `debian-security`, `context`, or as the
/// URL of a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Archive {
    /// The mirror's main archive.
    Main,
    /// The mirror's security archive.
    Security,
    /// A repository of the recipe.
    Url(String),
    /// A file of the context.
    Context,
}

impl fmt::Display for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Main => "debian",
            Self::Security => "debian-security",
            Self::Context => "context",
            Self::Url(url) => url,
        })
    }
}

impl FromStr for Archive {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "debian" => Ok(Self::Main),
            "debian-security" => Ok(Self::Security),
            "context" => Ok(Self::Context),
            url if url.starts_with("http://") || url.starts_with("https://") => {
                Ok(Self::Url(url.to_owned()))
            }
            other => {
                Err(format!("{other:?} is neither debian, debian-security, context, nor a URL"))
            }
        }
    }
}

impl From<Archive> for String {
    fn from(archive: Archive) -> Self {
        archive.to_string()
    }
}

impl TryFrom<String> for Archive {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Package {
    /// A lock can be edited by anyone: what becomes a path, a URL or an argument must look like it.
    pub(super) fn check(&self) -> Result<(), Error> {
        let wrong = |why: &str| Err(Error::Lock { name: self.name.clone(), why: why.to_owned() });
        if !is_name(&self.name) {
            return wrong("its name is not one of a package");
        }
        if !version::is_valid(&self.version) {
            return wrong("its version is not one");
        }
        if self.arch.is_empty()
            || !self.arch.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        {
            return wrong("its architecture is not one");
        }
        if self.path.split('/').any(|part| part == "..")
            || self.path.contains(|c: char| c.is_control() || c.is_whitespace())
        {
            return wrong("its path is not one");
        }
        Ok(())
    }

    /// apt's name for the file: colons and underscores of the parts are percent-encoded.
    pub(super) fn file_name(&self) -> String {
        let quote = |text: &str, also: &str| {
            let mut out = String::new();
            for c in text.chars() {
                if c == '_' || c == ':' || c == '%' || also.contains(c) {
                    out.push_str(&format!("%{:02x}", u32::from(c)));
                } else {
                    out.push(c);
                }
            }
            out
        };
        format!(
            "{}_{}_{}.deb",
            quote(&self.name, ""),
            quote(&self.version, ""),
            quote(&self.arch, ".")
        )
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= 200
        && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+.-".contains(&b))
}

/// OCI architecture → Debian's name.
pub fn arch_name(oci: &str) -> Result<&'static str, Error> {
    Ok(match oci {
        "amd64" => "amd64",
        "arm64" => "arm64",
        "arm" => "armhf",
        "386" => "i386",
        "ppc64le" => "ppc64el",
        "riscv64" => "riscv64",
        "s390x" => "s390x",
        other => return Err(Error::Architecture(other.to_owned())),
    })
}

/// How to reach Debian.
#[derive(Clone)]
pub struct Options {
    /// `--debian-mirror`, `BAKE_DEBIAN_MIRROR`.
    pub mirror: Option<String>,
    /// The host's apt configuration folder, if it is to be asked for a mirror: `/etc/apt`.
    pub apt: Option<PathBuf>,
    /// How to download.
    pub limits: fetch::Limits,
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
            keys: None,
            now: jiff::Timestamp::now().as_second(),
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

/// Downloads and their cache: everything about packages that needs no sandbox. `Send + Sync`.
pub struct Source {
    fetcher: Fetcher,
    options: Options,
    keys: Keyring,
    /// One build sees one state of the archive, however many steps ask.
    seen: Mutex<HashMap<String, Arc<Lists>>>,
}

/// Verified indexes of some suites.
#[derive(Debug)]
pub(super) struct Lists {
    pockets: Vec<Pocket>,
}

/// One suite of one archive: `trixie`, `trixie-updates`, `trixie-security`, or of a repository.
#[derive(Debug)]
struct Pocket {
    archive: Archive,
    suite: String,
    /// Names and bytes of the signed documents, as apt wants to see them beside the lists.
    documents: Vec<(&'static str, Vec<u8>)>,
    date: i64,
    indexes: Vec<Index>,
}

#[derive(Debug)]
struct Index {
    component: String,
    arch: String,
    plain: PathBuf,
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
    packing: Packing,
    packed: (Digest, u64),
    plain: Option<(Digest, u64)>,
}

impl Source {
    /// The folder that everything fetched is kept in.
    pub(super) fn cache(&self) -> &Path {
        self.fetcher.cache()
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
        let fetcher = Fetcher::new(cache, options.limits.clone(), sink, stop).map_err(wrap)?;
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
            .one(Want { url: url.to_owned(), sha256, size: None, cap, what, keep: true })
            .map_err(cancelled)
    }

    /// The mirror that is used for `suite`.
    pub fn mirror(&self, recipe: Option<&str>, suite: &str) -> mirror::Mirror {
        mirror::choose(recipe, self.options.mirror.as_deref(), self.options.apt.as_deref(), suite)
    }

    /// Brings packages into the cache and tells `ready` as each arrives. Without network if all are
    /// there.
    pub(super) fn packages(
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

    /// Verified indexes of Debian's `suite` with updates and security.
    pub(super) fn debian(
        &self,
        suite: &str,
        components: &[String],
        arch: &str,
        mirror: &mirror::Mirror,
    ) -> Result<Arc<Lists>, Error> {
        let memory = format!("{suite} {components:?} {arch} {} {}", mirror.main, mirror.security);
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
            self.fill(opened, components, arch)
        })
    }

    /// Verified indexes of a repository of the recipe.
    pub(super) fn repository(
        &self,
        repository: &Repository,
        arch: &str,
    ) -> Result<Arc<Lists>, Error> {
        let memory = format!("{repository:?} {arch}");
        let root = repository.url.trim_end_matches('/');
        self.remember(memory, || {
            let keys = Keyring::parse(&repository.key)
                .map_err(|source| Error::Untrusted { url: format!("the key of {root}"), source })?;
            let archive = Archive::Url(root.to_owned());
            let suite = &repository.suite;
            let opened =
                self.open(archive, root, suite, &keys, &|release| release.must_answer_to(suite))?;
            self.fill(vec![opened], &repository.components, arch)
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
                let text = release::open_inline(&bytes, keys);
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
                let text = release::open_detached(&bytes, &signature, keys);
                documents.push(("Release", bytes));
                documents.push(("Release.gpg", signature));
                text
            }
            Err(error) => return Err(cancelled(error)),
        };
        let untrusted = |source| Error::Untrusted { url: fetch::redact(&url), source };
        let release = Release::parse(&text.map_err(untrusted)?).map_err(untrusted)?;
        named(&release).map_err(untrusted)?;
        release.must_be_fresh(self.options.now).map_err(untrusted)?;
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
        arch: &str,
    ) -> Result<Lists, Error> {
        let mut wanted = vec![];
        for (number, (pocket, release, base)) in opened.iter().enumerate() {
            let flat = pocket.suite.ends_with('/');
            let flat_component = [String::new()];
            for component in if flat { &flat_component[..] } else { components } {
                for arch in [arch, "all"] {
                    if arch == "all" && (flat || !release.all_apart) {
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
                                let folder = path
                                    .rsplit_once('/')
                                    .map_or(String::new(), |(f, _)| format!("{f}/"));
                                format!("{base}/{folder}by-hash/SHA256/{}", packed.0.hex())
                            } else {
                                format!("{base}/{name}")
                            },
                            packing,
                            packed,
                            plain: release.files.get(&path).copied(),
                        }),
                        None if arch == "all" => {}
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
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(move || work(item))).collect();
        threads
            .into_iter()
            .map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// Chooses the minimal set of a suite.
pub(super) fn choose(
    source: &Source,
    wanted: &recipe::Debian,
    components: Vec<String>,
    arch: &str,
    slim: bool,
) -> Result<PinnedDebian, Error> {
    let debian_arch = arch_name(arch)?;
    let mirror = source.mirror(wanted.mirror.as_deref(), &wanted.suite);
    let lists = source.debian(&wanted.suite, &components, debian_arch, &mirror)?;
    let unmet = |unmet| Error::Unmet { suite: wanted.suite.clone(), source: unmet };
    let mut catalog = Catalog::default();
    let mut origins = vec![];
    for pocket in &lists.pockets {
        for index in &pocket.indexes {
            catalog.add_file(&index.plain).map_err(|e| Error::Index {
                url: format!("{} {}", pocket.suite, index.component),
                source: e,
            })?;
            origins.push(&pocket.archive);
        }
    }
    // Without it bookworm's init-system-helpers (`usrmerge | usr-is-merged`) takes usr-is-merged,
    // and perl stays out.
    let drop: &[&str] = if wanted.suite == "bookworm" { &["usrmerge"] } else { &[] };
    let set = closure::close(&catalog, closure::Want::Minimal, debian_arch, drop).map_err(unmet)?;
    let packages = set
        .values()
        .map(|found| package(&found.stanza, origins[found.index]))
        .collect::<Result<_, _>>()?;
    let date = lists.pockets.iter().map(|p| p.date).max().unwrap_or(0);
    let (suite, mirror) = (wanted.suite.clone(), wanted.mirror.clone());
    Ok(PinnedDebian { suite, arch: arch.to_owned(), slim, components, mirror, date, packages })
}

/// What an index says about a package.
fn package(stanza: &str, archive: &Archive) -> Result<Package, Error> {
    let name = field(stanza, "Package").unwrap_or_default().to_owned();
    let wrong =
        |what: &str| Error::Lock { name: name.clone(), why: format!("the index gives no {what}") };
    let get =
        |what: &'static str| field(stanza, what).map(str::to_owned).ok_or_else(|| wrong(what));
    let package = Package {
        version: get("Version")?,
        arch: get("Architecture")?,
        sha256: Digest::from_hex(&get("SHA256")?).map_err(|_| wrong("SHA256"))?,
        size: get("Size")?.parse().map_err(|_| wrong("Size"))?,
        path: get("Filename")?.trim_start_matches("./").to_owned(),
        archive: archive.clone(),
        name: name.clone(),
    };
    package.check()?;
    Ok(package)
}

/// `/etc/apt/sources.list.d/debian.sources` of the image: the public mirror, or the one that the
/// recipe names.
pub(super) fn sources(pin: &PinnedDebian) -> String {
    let main = pin.mirror.as_deref().map_or(mirror::PUBLIC, |m| m.trim_end_matches('/'));
    let components = pin.components.join(" ");
    let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let stanza = |url: &str, suites: &str| {
        format!(
            "Types: deb\nURIs: {url}\nSuites: {suites}\nComponents: {components}\nSigned-By: {key}\n"
        )
    };
    let suite = &pin.suite;
    if suite == "sid" {
        return stanza(main, suite);
    }
    format!(
        "{}\n{}",
        stanza(main, &format!("{suite} {suite}-updates")),
        stanza(&format!("{main}-security"), &format!("{suite}-security"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_apts() {
        let package = |name: &str, version: &str| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            arch: "amd64".to_owned(),
            sha256: Digest::of(b""),
            size: 0,
            path: String::new(),
            archive: Archive::Main,
        };
        assert_eq!(
            package("libstdc++6", "1:2.3~4+b1").file_name(),
            "libstdc++6_1%3a2.3~4+b1_amd64.deb"
        );
        assert!(package("a", "1").check().is_ok());
        for (name, version) in [
            ("../a", "1"),
            ("A", "1"),
            ("", "1"),
            ("a", "1/2"),
            ("a", ""),
            ("-a", "1"),
            ("a", "$(x)"),
        ] {
            assert!(package(name, version).check().is_err(), "{name} {version}");
        }
    }

    #[test]
    fn archives_have_one_spelling() {
        for text in ["debian", "debian-security", "context", "https://nginx.org/packages/debian"] {
            assert_eq!(text.parse::<Archive>().expect("known").to_string(), text);
        }
        assert!("file:///etc".parse::<Archive>().is_err());
    }

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
