//! The lock file: `web.lock` beside `web.toml` pins every input that the world could change.
//!
//! ```toml
//! version = 1
//! epoch = 1762603200
//!
//! [base]
//! kind = "debian"
//! suite = "bookworm"
//! arch = "amd64"
//! components = ["main"]
//! date = 1762603200
//! packages = [
//!   { name = "adduser", version = "3.134", arch = "all", sha256 = "…", size = 183736, archive = "debian", path = "pool/main/a/adduser/…" },
//! ]
//!
//! [toolbox]                   # where outputs are file systems: the programs that made them
//! image = "bake-toolbox:1"
//! digest = "sha256:…"
//!
//! [[packages]]
//! names = ["nginx-light"]
//! request = "sha256:…"        # everything of the recipe that decided the choice: the base, earlier package steps, this step
//! view = "sha256:…"           # what else of the root did: apt's preferences and settings, architectures, what was installed
//! packages = [ … ]
//!
//! [[download]]
//! url = "https://…"
//! sha256 = "…"
//! ```
//!
//! Where one recipe makes several images, each has such a part of its own in the same file:
//! `[build."php=8.4"]`, `[build."php=8.4".base]` and so on.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The format this bake writes and reads.
pub const VERSION: u32 = 1;

/// A whole lock file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// [`VERSION`].
    pub version: u32,
    /// Seconds since 1970: the date of the newest pinned input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// The base, unless it is `scratch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<LockedBase>,
    /// The bases of stages, by name of the stage.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stage: BTreeMap<String, StageLock>,
    /// The programs that make file systems, where outputs are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toolbox: Option<LockedToolbox>,
    /// One entry per `packages` step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<LockedPackages>,
    /// One entry per address downloaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub download: Vec<LockedDownload>,
}

/// What is pinned of a stage besides its packages and downloads, which stand with all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageLock {
    /// Its base.
    pub base: LockedBase,
}

/// The pinned programs that make file systems.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedToolbox {
    /// The image that they are in.
    pub image: String,
    /// Digest of its manifest.
    pub digest: Digest,
}

/// A pinned base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum LockedBase {
    /// A Debian suite as a set of packages.
    Debian {
        /// Code name.
        suite: String,
        /// Debian's name of the architecture.
        arch: String,
        /// Archive components.
        components: Vec<String>,
        /// Date of the newest Release file, seconds since 1970.
        date: i64,
        /// The set.
        packages: Vec<Package>,
    },
    /// An image.
    Image {
        /// As the recipe names it.
        image: String,
        /// Digest of the manifest that it was.
        digest: Digest,
    },
    /// An image that another tool keeps.
    Oci {
        /// As the recipe writes it.
        oci: String,
        /// Which of several, as the recipe names it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        named: Option<String>,
        /// OCI architecture.
        arch: String,
        /// Digest of the manifest that it was.
        digest: Digest,
    },
}

/// The packages of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackages {
    /// As the recipe names them.
    pub names: Vec<String>,
    /// Names everything that decided the choice.
    pub request: Digest,
    /// Names what else of the root decided: apt's preferences and settings, the architectures of
    /// dpkg, what was installed. Locks of the first bakes do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<Digest>,
    /// The choice.
    pub packages: Vec<Package>,
}

/// One pinned package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Package name.
    pub name: String,
    /// Full version.
    pub version: String,
    /// `amd64`, `all`.
    pub arch: String,
    /// 64 hex digits.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// Which archive the path is relative to.
    pub archive: String,
    /// Path below the archive's address.
    pub path: String,
}

/// A pinned download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedDownload {
    /// As the recipe writes it, variables replaced.
    pub url: String,
    /// 64 hex digits.
    pub sha256: String,
}

/// A text that is not a lock file this bake can read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not TOML, or not of this shape.
    #[error("not a lock file: {0}")]
    Syntax(String),
    /// From a newer bake.
    #[error("lock file version {0}; this bake reads version {VERSION}")]
    Version(i64),
}

impl Lock {
    /// Returns the pinned base, of a stage or of the image.
    pub fn base_of(&self, stage: Option<&str>) -> Option<&LockedBase> {
        match stage {
            Some(stage) => self.stage.get(stage).map(|stage| &stage.base),
            None => self.base.as_ref(),
        }
    }

    /// Writes all but the version, with `prefix` in front of the names of tables.
    fn body(&self, prefix: &str, out: &mut String) {
        let mut line = |text: String| {
            *out += &text;
            out.push('\n');
        };
        if let Some(epoch) = self.epoch {
            line(format!("epoch = {epoch}"));
        }
        let stages = self.stage.iter().map(|(name, stage)| (stage_header(name), &stage.base));
        let bases = self.base.iter().map(|base| ("base".to_owned(), base)).chain(stages);
        for (header, base) in bases {
            line(format!("\n[{prefix}{header}]"));
            match base {
                LockedBase::Debian { suite, arch, components, date, packages } => {
                    line("kind = \"debian\"".to_owned());
                    line(format!(
                        "suite = {}\narch = {}\ncomponents = {}",
                        text(suite),
                        text(arch),
                        list(components)
                    ));
                    line(format!("date = {date}\npackages = {}", table(packages)));
                }
                LockedBase::Image { image, digest } => {
                    line(format!("kind = \"image\"\nimage = {}", text(image)));
                    line(format!("digest = \"{digest}\""));
                }
                LockedBase::Oci { oci, named, arch, digest } => {
                    line(format!("kind = \"oci\"\noci = {}", text(oci)));
                    if let Some(named) = named {
                        line(format!("named = {}", text(named)));
                    }
                    line(format!("arch = {}\ndigest = \"{digest}\"", text(arch)));
                }
            }
        }
        if let Some(LockedToolbox { image, digest }) = &self.toolbox {
            line(format!("\n[{prefix}toolbox]\nimage = {}\ndigest = \"{digest}\"", text(image)));
        }
        for LockedPackages { names, request, view, packages } in &self.packages {
            line(format!(
                "\n[[{prefix}packages]]\nnames = {}\nrequest = \"{request}\"",
                list(names)
            ));
            if let Some(view) = view {
                line(format!("view = \"{view}\""));
            }
            line(format!("packages = {}", table(packages)));
        }
        for LockedDownload { url, sha256 } in &self.download {
            line(format!("\n[[{prefix}download]]\nurl = {}\nsha256 = {}", text(url), text(sha256)));
        }
    }

    /// Takes over what `other` pins and this one does not.
    pub fn add(&mut self, other: Lock) {
        for (name, stage) in other.stage {
            self.stage.entry(name).or_insert(stage);
        }
        for set in other.packages {
            if self.packages_for(&set.request).is_none() {
                self.packages.push(set);
            }
        }
        for one in other.download {
            if self.sha256_of(&one.url).is_none() {
                self.download.push(one);
            }
        }
    }

    /// Pins `set`, in place of what was pinned for the same request.
    pub fn set_packages(&mut self, set: LockedPackages) {
        match self.packages.iter_mut().find(|one| one.request == set.request) {
            Some(one) => *one = set,
            None => self.packages.push(set),
        }
    }

    /// Returns the packages pinned for `request`.
    pub fn packages_for(&self, request: &Digest) -> Option<&LockedPackages> {
        self.packages.iter().find(|one| one.request == *request)
    }

    /// Returns the checksum pinned for `url`.
    pub fn sha256_of(&self, url: &str) -> Option<&str> {
        self.download.iter().find(|one| one.url == url).map(|one| one.sha256.as_str())
    }
}

/// A lock file: what each of the images of a recipe was baked from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockFile {
    /// By the names of the builds; of a recipe that makes one image only, the empty name.
    pub builds: BTreeMap<String, Lock>,
}

/// The table of the parts that have a name.
const BUILD: &str = "build";

impl LockFile {
    /// Reads a lock file.
    ///
    /// # Errors
    /// [`Error::Syntax`], [`Error::Version`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let syntax = |error: toml::de::Error| Error::Syntax(error.message().to_owned());
        let mut value: toml::Table = text.parse().map_err(syntax)?;
        let version = match value.get("version").and_then(toml::Value::as_integer) {
            Some(version) if version == i64::from(VERSION) => toml::Value::Integer(version),
            Some(version) => return Err(Error::Version(version)),
            None => return Err(Error::Syntax("missing version".to_owned())),
        };
        let mut builds = BTreeMap::new();
        let named = value.remove(BUILD).map_or(Ok(toml::Table::new()), toml::Value::try_into);
        for (name, part) in named.map_err(syntax)? {
            let mut part: toml::Table = part.try_into().map_err(syntax)?;
            part.insert("version".to_owned(), version.clone());
            builds.insert(name, part.try_into().map_err(syntax)?);
        }
        if builds.is_empty() || value.len() > 1 {
            builds.insert(String::new(), value.try_into().map_err(syntax)?);
        }
        Ok(Self { builds })
    }

    /// Returns the text of the file: one line per package, so that a change reads well in a diff.
    pub fn to_text(&self) -> String {
        let mut out = format!(
            "# Written by bake: what this recipe was baked from. Commit it; `bake lock --update` \
                renews it.\nversion = {VERSION}\n",
        );
        for (name, lock) in &self.builds {
            let mut prefix = String::new();
            if !name.is_empty() {
                let header = format!("{BUILD}.{}", toml_edit::Key::new(name).display_repr());
                out += &format!("\n[{header}]\n");
                prefix = header + ".";
            }
            lock.body(&prefix, &mut out);
        }
        out
    }
}

/// Returns the header of what is pinned of a stage; an image that files are taken from has a name
/// that must be quoted.
fn stage_header(name: &str) -> String {
    format!("stage.{}.base", toml_edit::Key::new(name).display_repr())
}

fn text(value: &str) -> String {
    toml_edit::Value::from(value).to_string()
}

fn list(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| text(value)).collect();
    format!("[{}]", values.join(", "))
}

fn table(packages: &[Package]) -> String {
    let mut out = String::from("[\n");
    for Package { name, version, arch, sha256, size, archive, path } in packages {
        let (name, version, arch) = (text(name), text(version), text(arch));
        let (sha256, archive, path) = (text(sha256), text(archive), text(path));
        writeln!(
            out,
            "  {{ name = {name}, version = {version}, arch = {arch}, sha256 = {sha256}, size = \
                {size}, archive = {archive}, path = {path} }},"
        )
        .expect("a String takes everything");
    }
    out.push(']');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Lock {
        let package = |name: &str| Package {
            name: name.to_owned(),
            version: "1:2.3~rc1-1".to_owned(),
            arch: "all".to_owned(),
            sha256: Digest::of(name).hex(),
            size: 12,
            archive: "debian".to_owned(),
            path: format!("pool/main/a/{name}_2.3~rc1-1_all.deb"),
        };
        Lock {
            toolbox: Some(LockedToolbox {
                image: "bake-toolbox:1".to_owned(),
                digest: Digest::of("toolbox"),
            }),
            version: VERSION,
            epoch: Some(1_762_603_200),
            base: Some(LockedBase::Debian {
                suite: "bookworm".to_owned(),
                arch: "amd64".to_owned(),
                components: vec!["main".to_owned()],
                date: 1_762_603_200,
                packages: vec![package("adduser"), package("apt")],
            }),
            stage: BTreeMap::from([(
                "build".to_owned(),
                StageLock {
                    base: LockedBase::Debian {
                        suite: "trixie".to_owned(),
                        arch: "amd64".to_owned(),
                        components: vec!["main".to_owned()],
                        date: 7,
                        packages: vec![package("gcc")],
                    },
                },
            )]),
            packages: vec![LockedPackages {
                names: vec!["a\"b".to_owned()],
                request: Digest::of("r"),
                view: Some(Digest::of("v")),
                packages: vec![package("nginx")],
            }],
            download: vec![LockedDownload {
                url: "https://example.org/x".to_owned(),
                sha256: Digest::of("x").hex(),
            }],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let none = || Lock { version: VERSION, ..Lock::default() };
        let files: [&[(&str, Lock)]; 4] = [
            &[("", sample())],
            &[("", none())],
            &[("php=8.2", sample()), ("debian=\"a\",php=8.4", none())],
            &[("", sample()), ("linux/arm64", sample())],
        ];
        for builds in files {
            let builds = builds.iter().map(|(name, lock)| ((*name).to_owned(), lock.clone()));
            let file = LockFile { builds: builds.collect() };
            assert_eq!(LockFile::parse(&file.to_text()).expect("our own text"), file);
        }
    }

    #[test]
    fn strangers_are_refused() {
        for (text, part) in [
            ("x", "not a lock file"),
            ("a = 1", "missing version"),
            ("version = 2", "version 2"),
            ("version = 1\nb = 1", "unknown field"),
            ("version = 1\nbuild = 1", "not a lock file"),
            ("version = 1\nbuild.x = 1", "not a lock file"),
            ("version = 1\nbuild.x.b = 1", "unknown field"),
        ] {
            let error = LockFile::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
