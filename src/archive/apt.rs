//! `packages` steps on Debian: the image's own apt chooses, bake fetches, verifies and locks, apt
//! installs without network.
//!
//! ```text
//! /dev/bake/apt/      read-only: apt.conf, sources.list, lists/, archives/ (with apt's file names)
//! /dev/bake/state/    apt's caches and logs, and archives/ with a link to each package: apt locks and chmods what is in there; thrown away
//! ```
//!
//! Choosing sees the full verified indexes; installing sees an index of exactly the chosen
//! packages, made from the packages themselves, so that a locked build (which has no full index)
//! and the first one run the very same commands on the same data.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use super::call::{Action, Call, Check, Job};
use super::error::Error;
use super::job::{JobContext, Line, environment, policy_files};
use super::mirror::Mirror;
use super::package::{Archive, Package, arch_name, from_stanza};
use super::source::{Lists, Repository, Source};
use crate::deb::stanza::field;
use crate::deb::{file as deb, index, name as names, version};
use crate::digest::HashReader;
use crate::sandbox::{Exec, Mount, Network, Overlay, Owners, Run};

const CONF: &str = r#"Dir::State::lists "/dev/bake/apt/lists";
Dir::Etc::sourcelist "/dev/bake/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Cache "/dev/bake/state/cache";
Dir::Cache::archives "/dev/bake/state/archives";
Dir::Log "/dev/bake/state/log";
Dir::Log::Planner "";
Acquire::ForceHash "SHA256";
Acquire::Languages "none";
APT::Sandbox::User "root";
APT::Get::Assume-Yes "true";
Dpkg::Use-Pty "false";
DPkg::Options:: "--force-unsafe-io";
DPkg::Options:: "--force-confold";
DPkg::Options:: "--log=/dev/bake/state/log/dpkg.log";
"#;

/// A package request: `name`, `name:arch`, `name=version`, `name/suite`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    name: String,
    arch: Option<String>,
    rest: Option<String>,
}

impl Request {
    /// Reads apt's notation, less what surprises: a trailing `-` would remove a package, other
    /// signs make a regular expression.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |why| Error::Request { request: text.to_owned(), why };
        let end = text.find(['=', '/']).unwrap_or(text.len());
        let (head, rest) = text.split_at(end);
        let (name, arch) = match head.split_once(':') {
            Some((name, arch)) => (name, Some(arch.to_owned())),
            None => (head, None),
        };
        if name.len() > 1 && name.ends_with('-') {
            return Err(wrong("a trailing - would remove it; use a run step"));
        }
        if !names::is_package(name) {
            return Err(wrong("a package name has lower-case letters, digits and + - . only"));
        }
        if arch.as_ref().is_some_and(|a| {
            a.is_empty()
                || !a.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        }) {
            return Err(wrong("what follows : is not an architecture"));
        }
        match rest.split_at_checked(1) {
            None => {}
            Some(("=", version))
                if version::is_valid(version.strip_suffix('*').unwrap_or(version)) => {}
            Some(("/", suite))
                if !suite.is_empty()
                    && suite.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) => {}
            Some(("=", _)) => return Err(wrong("what follows = is not a version")),
            Some(_) => return Err(wrong("what follows / is not a suite")),
        }
        Ok(Self { name: name.to_owned(), arch, rest: (!rest.is_empty()).then(|| rest.to_owned()) })
    }

    /// The package's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn head(&self) -> String {
        self.arch.as_ref().map_or_else(|| self.name.clone(), |arch| format!("{}:{arch}", self.name))
    }

    fn text(&self) -> String {
        format!("{}{}", self.head(), self.rest.as_deref().unwrap_or_default())
    }

    /// The same request against exactly the chosen packages: by version, or (when nothing had to be
    /// chosen) by bare name.
    fn settled(&self, set: &[Package]) -> String {
        match set.iter().find(|p| {
            p.name == self.name
                && self.arch.as_ref().is_none_or(|a| *a == p.arch || p.arch == "all")
        }) {
            Some(package) => format!("{}={}", self.head(), package.version),
            None => self.head(),
        }
    }
}

/// What a `packages` step asks for, and where packages come from.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// Code name of the image's suite.
    pub suite: &'a str,
    /// OCI architecture.
    pub arch: &'a str,
    /// Default `["main"]`.
    pub components: &'a [String],
    /// The mirror that the recipe names.
    pub mirror: Option<&'a str>,
    /// Repositories of the recipe's steps so far.
    pub repositories: &'a [Repository],
    /// By name.
    pub requests: &'a [Request],
    /// Package files of the context.
    pub files: &'a [PathBuf],
    /// With recommended packages.
    pub recommends: bool,
    /// The image's epoch.
    pub epoch: i64,
}

impl Ask<'_> {
    fn what(&self) -> String {
        let names = self.requests.iter().map(Request::text);
        names
            .chain(self.files.iter().map(|f| f.display().to_string()))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn mirror(&self, source: &Source) -> Mirror {
        source.mirror(self.mirror, self.suite)
    }
}

/// Returns the suite named by an image's `/etc/os-release`, if it is Debian's.
pub fn suite_of(os_release: &str) -> Option<String> {
    let value = |name: &str| {
        let line = os_release.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='))?;
        Some(line.trim().trim_matches(['"', '\'']).to_owned())
    };
    (value("ID")? == "debian").then(|| value("VERSION_CODENAME"))?.filter(|suite| !suite.is_empty())
}

/// Lets the apt in `root` choose what must be installed (nothing is installed). By name.
pub fn resolve(
    root: &Overlay,
    ask: &Ask<'_>,
    shop: &JobContext<'_>,
    hear: &mut dyn FnMut(Line<'_>),
) -> Result<Vec<Package>, Error> {
    let arch = arch_name(ask.arch)?;
    let mut sources =
        vec![shop.source.debian(ask.suite, ask.components, arch, &ask.mirror(shop.source))?];
    for repository in ask.repositories {
        sources.push(shop.source.repository(repository, arch)?);
    }
    let local = local(ask.files)?;
    let bench = Bench::new(shop)?;
    let listed = bench.lay_lists(&sources, arch)?;
    if !local.is_empty() {
        bench.lay_index("context", &local, arch)?;
    }
    bench.lay_sources(&listed.lines, !local.is_empty())?;
    let mut argv: Vec<String> =
        ["apt-get", "install", "--print-uris", "-qq", "-o", "Debug::NoLocking=true"]
            .map(str::to_owned)
            .into();
    argv.push(recommends(ask));
    argv.push("--".to_owned());
    argv.extend(ask.requests.iter().map(Request::text));
    argv.extend(local.iter().map(|l| format!("{}={}", l.package.name, l.package.version)));
    let mut lines = vec![];
    let mut said = vec![];
    let job = bench.job(root, vec![exec(argv, ask.epoch)]);
    let outcome = shop.run(
        "choosing packages",
        job,
        &mut |line| {
            let text = String::from_utf8_lossy(line.text).into_owned();
            if !line.stderr && text.starts_with('\'') {
                lines.push(text);
            } else {
                said.push(text);
                hear(line);
            }
        },
        &mut |_| {},
    );
    match outcome {
        Err(Error::Failed { .. }) if said.iter().any(|l| l.starts_with("E: ")) => {
            return Err(Error::Apt { what: ask.what(), said: readable(&said) });
        }
        outcome => outcome?,
    };
    let mut chosen = vec![];
    let mut by_archive: BTreeMap<usize, HashSet<String>> = BTreeMap::new();
    let mut expected = HashMap::new();
    for line in &lines {
        let broken = || Error::Apt { what: ask.what(), said: format!("unexpected line: {line}") };
        let (uri, hash) = printed(line).ok_or_else(broken)?;
        let (place, path) = uri
            .strip_prefix("http://bake.invalid/")
            .and_then(|p| p.split_once('/'))
            .ok_or_else(broken)?;
        if place == "context" {
            let found = local.iter().find(|l| l.package.file_name() == path).ok_or_else(broken)?;
            chosen.push(found.package.clone());
            continue;
        }
        let number = listed.places.iter().position(|p| p == place).ok_or_else(broken)?;
        expected.insert((number, path.to_owned()), hash);
        by_archive.entry(number).or_default().insert(path.to_owned());
    }
    for (number, paths) in by_archive {
        // What the index says counts; apt's line is only its choice.
        let mut found: HashMap<String, Package> = HashMap::new();
        for pocket in
            sources.iter().flat_map(|s| &s.pockets).filter(|p| listed.archives[number] == p.archive)
        {
            for index in &pocket.indexes {
                let all: HashSet<String> =
                    paths.iter().flat_map(|p| [p.clone(), format!("./{p}")]).collect();
                let stanzas = index::by_filename(&index.plain, &all);
                let stanzas = stanzas.map_err(|source| Error::Index {
                    url: format!("{} {}", pocket.suite, index.component),
                    source,
                })?;
                for stanza in stanzas.values() {
                    let package = from_stanza(stanza, &pocket.archive)?;
                    found.insert(package.path.clone(), package);
                }
            }
        }
        for path in paths {
            let package = found.remove(path.trim_start_matches("./"));
            let hash =
                expected.get(&(number, path.clone())).and_then(|h| h.strip_prefix("SHA256:"));
            match package {
                Some(package) if hash.is_none_or(|h| h == package.sha256.hex()) => {
                    chosen.push(package)
                }
                _ => {
                    return Err(Error::Apt {
                        what: ask.what(),
                        said: format!("chose {path}, which the verified indexes do not have"),
                    });
                }
            }
        }
    }
    chosen.sort_by(|a, b| (&a.name, &a.arch).cmp(&(&b.name, &b.arch)));
    chosen.dedup();
    Ok(chosen)
}

/// Brings chosen packages into the cache; without network if all are there.
pub fn fetch(packages: &[Package], ask: &Ask<'_>, source: &Source) -> Result<(), Error> {
    let remote: Vec<Package> =
        packages.iter().filter(|p| p.archive != Archive::Context).cloned().collect();
    source.packages(&remote, &ask.mirror(source), &mut |_, _| ControlFlow::Continue(()))
}

/// Installs exactly `packages` (from [`resolve`] or a lock) into `root`, and tidies up.
pub fn install(
    root: &Overlay,
    packages: &[Package],
    ask: &Ask<'_>,
    shop: &JobContext<'_>,
    hear: &mut dyn FnMut(Line<'_>),
) -> Result<(), Error> {
    let arch = arch_name(ask.arch)?;
    packages.iter().try_for_each(Package::check)?;
    fetch(packages, ask, shop.source)?;
    let files = local(ask.files)?;
    let bench = Bench::new(shop)?;
    let mut set = vec![];
    for package in packages {
        let file = match package.archive {
            Archive::Context => {
                let same = files.iter().find(|f| f.package.sha256 == package.sha256);
                let named = files.iter().find(|f| f.package.name == package.name);
                match (same, named) {
                    (Some(file), _) => file.file.clone(),
                    (None, Some(other)) => {
                        let (expected, found) = (package.sha256, other.package.sha256);
                        return Err(Error::Changed { path: other.file.clone(), expected, found });
                    }
                    (None, None) => {
                        let why = "no file of the step is this package".to_owned();
                        return Err(Error::Lock { name: package.name.clone(), why });
                    }
                }
            }
            _ => shop.source.fetcher.place(&package.sha256),
        };
        bench.lay_archive(&file, package)?;
        let control = read_control(&file)?;
        set.push(Local { package: package.clone(), file, stanza: control.stanza() });
    }
    bench.lay_index("set", &set, arch)?;
    bench
        .lay_sources(&["deb [trusted=yes] http://bake.invalid/set bake main".to_owned()], false)?;
    let mut argv: Vec<String> = ["apt-get", "install", "--no-download"].map(str::to_owned).into();
    argv.push(recommends(ask));
    argv.push("--".to_owned());
    argv.extend(ask.requests.iter().map(|r| r.settled(packages)));
    argv.extend(files.iter().map(|f| format!("{}={}", f.package.name, f.package.version)));
    let check = Check {
        installed: packages.iter().map(|p| (p.name.clone(), p.version.clone())).collect(),
        whole: false,
    };
    let finish = Action::call(Call::Finish(check));
    let job = bench.job(root, vec![exec(argv, ask.epoch), finish]);
    shop.run("installing packages", job, hear, &mut |_| {})?;
    Ok(())
}

fn recommends(ask: &Ask<'_>) -> String {
    if ask.recommends { "--install-recommends" } else { "--no-install-recommends" }.to_owned()
}

fn exec(argv: Vec<String>, epoch: i64) -> Action {
    let mut env = environment(epoch);
    env.insert("APT_CONFIG".to_owned(), "/dev/bake/apt/apt.conf".to_owned());
    Action::Exec(Exec { argv, env, cwd: PathBuf::from("/"), user: "0:0".to_owned(), timeout: None })
}

/// `'URI' FILENAME SIZE HASH` → decoded URI and hash.
fn printed(line: &str) -> Option<(String, &str)> {
    let (uri, rest) = line.strip_prefix('\'')?.split_once("' ")?;
    let hash = rest.split(' ').nth(2).unwrap_or_default();
    let mut bytes = vec![];
    let mut at = 0;
    let raw = uri.as_bytes();
    while at < raw.len() {
        let code = (raw[at] == b'%')
            .then(|| uri.get(at + 1..at + 3).and_then(|h| u8::from_str_radix(h, 16).ok()))
            .flatten();
        bytes.push(code.unwrap_or(raw[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    Some((String::from_utf8(bytes).ok()?, hash))
}

/// What a person needs of apt's output: its errors, and the explanation before them.
fn readable(said: &[String]) -> String {
    let noise = [
        "Reading package lists",
        "Building dependency tree",
        "Reading state information",
        "W: ",
        "N: ",
    ];
    let kept = said
        .iter()
        .filter(|line| !line.trim().is_empty() && !noise.iter().any(|n| line.starts_with(n)));
    kept.take(40).cloned().collect::<Vec<_>>().join("\n")
}

/// A package file and its control stanza.
struct Local {
    package: Package,
    file: PathBuf,
    stanza: String,
}

fn read_control(file: &Path) -> Result<deb::Control, Error> {
    let reader = fs::File::open(file).map_err(Error::file("read", file))?;
    deb::control(io::BufReader::new(reader)).map_err(Error::file("read the package", file))
}

/// Reads package files of the context.
fn local(files: &[PathBuf]) -> Result<Vec<Local>, Error> {
    let mut found: Vec<Local> = vec![];
    for file in files {
        let mut reader = HashReader::new(fs::File::open(file).map_err(Error::file("read", file))?);
        io::copy(&mut reader, &mut io::sink()).map_err(Error::file("read", file))?;
        let (_, sha256, size) = reader.finish();
        let stanza = read_control(file)?.stanza();
        let get = |name: &str| field(&stanza, name).unwrap_or_default().to_owned();
        let mut package = Package {
            name: get("Package"),
            version: get("Version"),
            arch: get("Architecture"),
            sha256,
            size,
            path: String::new(),
            archive: Archive::Context,
        };
        package.check()?;
        package.path = package.file_name();
        found.push(Local { package, file: file.clone(), stanza });
    }
    Ok(found)
}

/// The lists as apt sees them.
struct Listed {
    /// Lines of sources.list.
    lines: Vec<String>,
    /// First path segment below `http://bake.invalid/` …
    places: Vec<String>,
    /// … and the archive that it stands for.
    archives: Vec<Archive>,
}

/// The folders that a job sees at `/dev/bake`; gone when dropped.
struct Bench<'a> {
    dir: tempfile::TempDir,
    session: &'a dyn Run<Call>,
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        // Scripts may have left files of users whom only the namespace can remove. What stays after
        // a failure is below the build's scratch folder, which goes as a whole.
        let _ = self.session.remove_tree(self.dir.path());
    }
}

impl<'a> Bench<'a> {
    fn new(shop: &JobContext<'a>) -> Result<Self, Error> {
        let dir = tempfile::Builder::new()
            .prefix("apt-")
            .tempdir_in(shop.scratch)
            .map_err(Error::file("write", shop.scratch))?;
        let bench = Self { dir, session: shop.session };
        open(bench.dir.path())?;
        for folder in [
            "apt",
            "apt/lists",
            "apt/lists/partial",
            "apt/archives",
            "state",
            "state/archives",
            "state/archives/partial",
            "state/cache",
            "state/log",
        ] {
            let path = bench.dir.path().join(folder);
            fs::create_dir(&path).map_err(Error::file("make", &path))?;
            open(&path)?;
        }
        bench.write("apt/apt.conf", CONF.as_bytes())?;
        Ok(bench)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).map_err(Error::file("write", &path))
    }

    fn lay_sources(&self, lines: &[String], context: bool) -> Result<(), Error> {
        let mut text = String::new();
        // First: among equal versions apt takes the one from the source named first.
        if context {
            text.push_str("deb [trusted=yes] http://bake.invalid/context bake main\n");
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        self.write("apt/sources.list", text.as_bytes())
    }

    /// Puts the verified lists where apt looks for them, under an invented host: no mirror's name
    /// gets into an image.
    fn lay_lists(&self, sources: &[Arc<Lists>], arch: &str) -> Result<Listed, Error> {
        let mut listed = Listed { lines: vec![], places: vec![], archives: vec![] };
        for pocket in sources.iter().flat_map(|s| &s.pockets) {
            let place = match &pocket.archive {
                Archive::Main => "debian".to_owned(),
                Archive::Security => "debian-security".to_owned(),
                other => match listed.archives.iter().position(|a| a == other) {
                    Some(known) => listed.places[known].clone(),
                    None => format!("repository{}", listed.places.len()),
                },
            };
            if !listed.places.contains(&place) {
                listed.places.push(place.clone());
                listed.archives.push(pocket.archive.clone());
            }
            let flat = pocket.suite.ends_with('/');
            let base = match (flat, pocket.suite.as_str()) {
                (false, suite) => format!("bake.invalid/{place}/dists/{suite}"),
                (true, "/") => format!("bake.invalid/{place}"),
                (true, path) => format!("bake.invalid/{place}/{}", path.trim_end_matches('/')),
            };
            for (name, bytes) in &pocket.documents {
                self.write(&format!("apt/lists/{}", list_name(&format!("{base}/{name}"))), bytes)?;
            }
            let mut components: Vec<&str> = vec![];
            for index in &pocket.indexes {
                let name = if flat {
                    format!("{base}/Packages")
                } else {
                    format!("{base}/{}/binary-{}/Packages", index.component, index.arch)
                };
                self.link(&index.plain, &format!("apt/lists/{}", list_name(&name)))?;
                if !components.contains(&index.component.as_str()) {
                    components.push(&index.component);
                }
            }
            listed.lines.push(
                format!(
                    "deb [arch={arch}] http://bake.invalid/{place} {} {}",
                    pocket.suite,
                    components.join(" ")
                )
                .trim_end()
                .to_owned(),
            );
        }
        Ok(listed)
    }

    /// Writes an index of these packages, from their own control stanzas.
    fn lay_index(&self, place: &str, set: &[Local], arch: &str) -> Result<(), Error> {
        let mut text = String::new();
        for local in set {
            let (p, stanza) = (&local.package, &local.stanza);
            text.push_str(&format!(
                "{stanza}Filename: {}\nSize: {}\nSHA256: {}\n\n",
                p.file_name(),
                p.size,
                p.sha256.hex()
            ));
        }
        let name =
            list_name(&format!("bake.invalid/{place}/dists/bake/main/binary-{arch}/Packages"));
        self.write(&format!("apt/lists/{name}"), text.as_bytes())
    }

    fn lay_archive(&self, file: &Path, package: &Package) -> Result<(), Error> {
        let name = format!("apt/archives/{}", package.file_name());
        let link = self.dir.path().join("state/archives").join(package.file_name());
        symlink(Path::new("/dev/bake").join(&name), &link).map_err(Error::file("make", &link))?;
        if package.archive == Archive::Context {
            // A person's file: it may be on another file system, and its owner is not root inside.
            let path = self.dir.path().join(name);
            fs::copy(file, &path).map_err(Error::file("copy", file))?;
            return open(&path);
        }
        self.link(file, &name)
    }

    /// By hard link: what is mounted is read-only, so nothing inside can reach the cache through
    /// it.
    fn link(&self, file: &Path, name: &str) -> Result<(), Error> {
        let path = self.dir.path().join(name);
        if fs::hard_link(file, &path).is_ok() {
            return Ok(());
        }
        fs::copy(file, &path).map(|_| ()).map_err(Error::file("copy", file))
    }

    fn job(&self, root: &Overlay, actions: Vec<Action>) -> Job {
        let mount = |name: &str, read_only| Mount {
            from: self.dir.path().join(name),
            at: Path::new("/dev/bake").join(name),
            read_only,
            owners: Owners::Image,
        };
        Job {
            root: Some(root.clone()),
            mounts: vec![mount("apt", true), mount("state", false)],
            files: policy_files(),
            hostname: "bake".to_owned(),
            network: Network::None,
            actions,
        }
    }
}

/// Whatever the umask, and tempfile's 0700: apt inside must be able to read it.
fn open(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let mode = if path.is_dir() { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(Error::file("open up", path))
}

/// apt's name of a list file: slashes become underscores, real underscores (and other odd signs)
/// are percent-encoded.
fn list_name(path: &str) -> String {
    let mut name = String::new();
    for c in path.chars() {
        match c {
            '/' => name.push('_'),
            c if "\\|{}[]<>\"^~_=!@#$%^&*".contains(c) => {
                name.push_str(&format!("%{:02x}", u32::from(c)))
            }
            c => name.push(c),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn requests_are_apts_notation_less_its_surprises() {
        for text in [
            "nginx",
            "g++",
            "libstdc++6",
            "nginx=1.22.1-9+deb12u1",
            "nginx=1.22*",
            "nginx/bookworm-security",
            "libc6:amd64",
            "a2ps:amd64=1:2-3",
        ] {
            assert_eq!(Request::parse(text).expect(text).text(), text);
        }
        for text in [
            "", "nginx-", "^ng.*$", "NGINX", "-y", "--help", "a b", "a;b", "../x", "a=", "a=$(x)",
            "a/", "a/b/c", "a:", "a:x y", "*", "nginx\n",
        ] {
            assert!(matches!(Request::parse(text), Err(Error::Request { .. })), "{text:?}");
        }
    }

    #[test]
    fn requests_settle_on_what_was_chosen() {
        let package = Package {
            name: "nginx".to_owned(),
            version: "1.2-3".to_owned(),
            arch: "amd64".to_owned(),
            sha256: Digest::of(b""),
            size: 0,
            path: String::new(),
            archive: Archive::Main,
        };
        for (request, settled) in [
            ("nginx", "nginx=1.2-3"),
            ("nginx=1.2*", "nginx=1.2-3"),
            ("nginx/x", "nginx=1.2-3"),
            ("nginx:amd64", "nginx:amd64=1.2-3"),
            ("sed=4", "sed"),
            ("nginx:i386", "nginx:i386"),
        ] {
            assert_eq!(
                Request::parse(request).expect(request).settled(std::slice::from_ref(&package)),
                settled
            );
        }
    }

    #[test]
    fn print_uris_lines() {
        let line = "'http://bake.invalid/debian/pool/main/g/g%2b%2b_1%253a2_amd64.deb' g++_1%3a2_amd64.deb 10 SHA256:ab";
        assert_eq!(
            printed(line),
            Some((
                "http://bake.invalid/debian/pool/main/g/g++_1%3a2_amd64.deb".to_owned(),
                "SHA256:ab"
            ))
        );
        assert_eq!(printed("Reading package lists..."), None);
    }

    #[test]
    fn list_names_are_apts() {
        assert_eq!(
            list_name("bake.invalid/debian/dists/trixie/InRelease"),
            "bake.invalid_debian_dists_trixie_InRelease"
        );
        assert_eq!(list_name("h/a_b~c"), "h_a%5fb%7ec");
    }

    #[test]
    fn the_suite_of_an_image() {
        assert_eq!(suite_of("ID=debian\nVERSION_CODENAME=trixie\n").as_deref(), Some("trixie"));
        assert_eq!(
            suite_of("ID=\"debian\"\nVERSION_CODENAME=\"bookworm\"\n").as_deref(),
            Some("bookworm")
        );
        assert_eq!(suite_of("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(suite_of("ID=debian\n"), None);
    }
}
