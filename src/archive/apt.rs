//! `packages` steps on Debian: the image's own apt chooses, bake fetches, verifies and locks, apt
//! installs without network.
//!
//! Choosing sees the full verified indexes; installing sees an index of exactly the chosen
//! packages, made from the packages themselves, so that a locked build (which has no full index)
//! and the first one run the very same commands on the same data.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::call::{Action, Call, Check};
use super::choice;
use super::directory::{AptDirectory, Listed, Local, local, read_control};
use super::error::Error;
use super::job::{JobContext, Line, of_packages};
use super::lists::Lists;
use super::mirror::Mirror;
use super::package::{Archive, Package, arch_name, from_stanza};
use super::request::Request;
use super::source::{Repository, Source};
use crate::deb::index::by_filename;
use crate::digest::{Digest, Hasher};
use crate::sandbox::{Exec, Overlay};

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
    /// The package of a kernel makes no initial RAM disk.
    pub without_initrd: bool,
    /// The image's epoch.
    pub epoch: i64,
    /// Debian's names of the architectures that dpkg takes besides its own.
    pub foreign: &'a [String],
    /// apt is killed after this long.
    pub limit: Duration,
    /// Names what else decides in the root, see `view`; `None`: the choice is not remembered.
    pub view: Option<Digest>,
}

impl Ask<'_> {
    fn what(&self) -> String {
        let names = self.requests.iter().map(Request::text);
        names
            .chain(self.files.iter().map(|f| f.display().to_string()))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Debian's names of the architectures that count, dpkg's own first.
    fn archs(&self) -> Result<Vec<&str>, Error> {
        let native = arch_name(self.arch)?;
        Ok(std::iter::once(native).chain(self.foreign.iter().map(String::as_str)).collect())
    }

    /// Names everything that decides the choice, given the lists and the files of the context.
    fn name(&self, view: Digest, lists: &[Arc<Lists>], local: &[Local]) -> Digest {
        let mut documents = Hasher::new();
        for pocket in lists.iter().flat_map(|lists| &lists.pockets) {
            let indexes: Vec<_> = pocket.indexes.iter().map(|i| (&i.component, &i.arch)).collect();
            let digests: Vec<_> =
                pocket.documents.iter().map(|(name, bytes)| (*name, Digest::of(bytes))).collect();
            let about = json!([pocket.archive, pocket.suite, indexes, digests]).to_string();
            documents.update(about.as_bytes());
        }
        let requests: Vec<String> = self.requests.iter().map(Request::text).collect();
        let files: Vec<Digest> = local.iter().map(|one| one.package.sha256).collect();
        let all = json!([
            choice::VERSION,
            self.arch,
            self.foreign,
            requests,
            files,
            self.recommends,
            view,
            documents.finish(),
        ]);
        Digest::of(all.to_string())
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

/// Lets the apt in `root` choose what must be installed (nothing is installed). By name. Where it
/// cannot, `listener` gets its whole explanation.
///
/// # Errors
///
/// [`Error::Apt`] where apt finds no way, and those of the downloads.
pub fn resolve(
    root: &Overlay,
    ask: &Ask<'_>,
    context: &JobContext<'_>,
    listener: &mut dyn FnMut(Line<'_>),
) -> Result<Vec<Package>, Error> {
    let archs = ask.archs()?;
    let source = context.source;
    let mut lists = vec![source.debian(ask.suite, ask.components, &archs, &ask.mirror(source))?];
    for repository in ask.repositories {
        lists.push(source.repository(repository, &archs)?);
    }
    let local = local(ask.files)?;
    let name = ask.view.map(|view| ask.name(view, &lists, &local));
    if let Some(known) = name.and_then(|name| choice::find(source.cache(), &name)) {
        return Ok(known);
    }
    let directory = AptDirectory::new(context)?;
    let listed = directory.lay_lists(&lists, &archs)?;
    if !local.is_empty() {
        directory.lay_index("context", &local, &archs)?;
    }
    directory.lay_sources(&listed.lines, !local.is_empty())?;
    let lines = printed_by_apt(root, ask, &local, &directory, context, listener)?;
    let mut chosen = chosen(&lines, ask, &lists, &listed, &local)?;
    chosen.sort_by(|a, b| (&a.name, &a.arch).cmp(&(&b.name, &b.arch)));
    chosen.dedup();
    if let Some(name) = name {
        choice::keep(source.cache(), &name, &chosen)
            .map_err(Error::file("write", source.cache()))?;
    }
    Ok(chosen)
}

/// Runs apt to choose; returns the lines that name files.
fn printed_by_apt(
    root: &Overlay,
    ask: &Ask<'_>,
    local: &[Local],
    directory: &AptDirectory<'_>,
    context: &JobContext<'_>,
    listener: &mut dyn FnMut(Line<'_>),
) -> Result<Vec<String>, Error> {
    // More than one -q would keep apt from saying why it cannot.
    let mut argv: Vec<String> =
        ["apt-get", "install", "--print-uris", "-q", "-o", "Debug::NoLocking=true"]
            .map(str::to_owned)
            .into();
    argv.push(recommends(ask));
    argv.push("--".to_owned());
    argv.extend(ask.requests.iter().map(Request::text));
    argv.extend(local.iter().map(|l| format!("{}={}", l.package.name, l.package.version)));
    let (mut lines, mut rest) = (vec![], vec![]);
    let job = directory.job(root, vec![exec(argv, ask)]);
    let outcome = context.run(
        "choosing packages",
        job,
        &mut |line| {
            let text = String::from_utf8_lossy(line.text).into_owned();
            if !line.stderr && text.starts_with('\'') {
                lines.push(text);
            } else {
                rest.push((line.stderr, text));
            }
        },
        &mut |_| {},
    );
    let Err(error) = outcome else { return Ok(lines) };
    for (stderr, text) in &rest {
        listener(Line { stderr: *stderr, text: text.as_bytes() });
    }
    Err(match error {
        Error::Failed { .. } if rest.iter().any(|(_, line)| line.starts_with("E: ")) => {
            let rest: Vec<String> = rest.into_iter().map(|(_, line)| line).collect();
            Error::Apt { what: ask.what(), output: readable(&rest) }
        }
        error => error,
    })
}

/// Returns the packages that apt's lines name, as the verified indexes have them: apt's line is
/// only its choice.
fn chosen(
    lines: &[String],
    ask: &Ask<'_>,
    lists: &[Arc<Lists>],
    listed: &Listed,
    local: &[Local],
) -> Result<Vec<Package>, Error> {
    let mut chosen = vec![];
    let mut by_archive: BTreeMap<usize, HashSet<String>> = BTreeMap::new();
    let mut expected = HashMap::new();
    for line in lines {
        let broken = || Error::Apt { what: ask.what(), output: format!("unexpected line: {line}") };
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
        let mut found = stanzas(lists, &listed.archives[number], &paths)?;
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
                        output: format!("chose {path}, which the verified indexes do not have"),
                    });
                }
            }
        }
    }
    Ok(chosen)
}

/// Finds the packages at these paths of an archive, by path.
fn stanzas(
    lists: &[Arc<Lists>],
    archive: &Archive,
    paths: &HashSet<String>,
) -> Result<HashMap<String, Package>, Error> {
    let all: HashSet<String> = paths.iter().flat_map(|p| [p.clone(), format!("./{p}")]).collect();
    let mut found = HashMap::new();
    for pocket in lists.iter().flat_map(|s| &s.pockets).filter(|p| *archive == p.archive) {
        for index in &pocket.indexes {
            let stanzas = by_filename(&index.plain, &all).map_err(|source| Error::Index {
                url: format!("{} {}", pocket.suite, index.component),
                source,
            })?;
            for stanza in stanzas.values() {
                let package = from_stanza(stanza, &pocket.archive)?;
                found.insert(package.path.clone(), package);
            }
        }
    }
    Ok(found)
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
    context: &JobContext<'_>,
    listener: &mut dyn FnMut(Line<'_>),
) -> Result<(), Error> {
    let archs = ask.archs()?;
    packages.iter().try_for_each(Package::check)?;
    fetch(packages, ask, context.source)?;
    let files = local(ask.files)?;
    let directory = AptDirectory::new(context)?;
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
                        return Err(Error::NotPinned { path: other.file.clone(), expected, found });
                    }
                    (None, None) => {
                        let why = "no file of the step is this package".to_owned();
                        return Err(Error::Lock { name: package.name.clone(), why });
                    }
                }
            }
            _ => context.source.fetcher.place(&package.sha256),
        };
        directory.lay_archive(&file, package)?;
        let control = read_control(&file)?;
        set.push(Local { package: package.clone(), file, stanza: control.stanza() });
    }
    directory.lay_index("set", &set, &archs)?;
    directory
        .lay_sources(&["deb [trusted=yes] http://bake.invalid/set bake main".to_owned()], false)?;
    let mut argv: Vec<String> = ["apt-get", "install", "--no-download"].map(str::to_owned).into();
    argv.push(recommends(ask));
    argv.push("--".to_owned());
    argv.extend(ask.requests.iter().map(|r| r.settled(packages, archs[0])));
    argv.extend(files.iter().map(|f| format!("{}={}", f.package.name, f.package.version)));
    let check = Check {
        installed: packages.iter().map(|p| (p.name.clone(), p.version.clone())).collect(),
        whole: false,
    };
    let finish = Action::call(Call::Finish(check));
    let job = directory.job(root, vec![exec(argv, ask), finish]);
    context.run("installing packages", job, listener, &mut |_| {})?;
    Ok(())
}

fn recommends(ask: &Ask<'_>) -> String {
    if ask.recommends { "--install-recommends" } else { "--no-install-recommends" }.to_owned()
}

fn exec(argv: Vec<String>, ask: &Ask<'_>) -> Action {
    let mut env = of_packages(ask.epoch);
    env.insert("APT_CONFIG".to_owned(), "/dev/bake/apt/apt.conf".to_owned());
    if ask.without_initrd {
        // Debian's kernel-handbook, "Kernel hooks": /etc/kernel/postinst.d/initramfs-tools asks.
        env.insert("INITRD".to_owned(), "No".to_owned());
    }
    Action::Exec(Exec {
        argv,
        env,
        cwd: PathBuf::from("/"),
        user: "0:0".to_owned(),
        timeout: Some(ask.limit),
    })
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
fn readable(lines: &[String]) -> String {
    let noise = [
        "Reading package lists",
        "Building dependency tree",
        "Reading state information",
        "W: ",
        "N: ",
    ];
    let kept = lines
        .iter()
        .filter(|line| !line.trim().is_empty() && !noise.iter().any(|n| line.starts_with(n)));
    kept.take(40).cloned().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn print_uris_lines() {
        let line = "'http://bake.invalid/debian/pool/main/g/g%2b%2b_1%253a2_amd64.deb' \
            g++_1%3a2_amd64.deb 10 SHA256:ab";
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
