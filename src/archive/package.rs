//! One package file, exactly: what a lock pins and what is downloaded.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::Error;
use crate::deb::stanza::field;
use crate::deb::{name, version};
use crate::digest::Digest;

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

/// Exactly one package file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Debian's name of its architecture, or `all`.
    pub arch: String,
    /// Content.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// Path below its archive.
    pub path: String,
    /// Where it comes from.
    pub archive: Archive,
}

impl Package {
    /// A lock can be edited by anyone: what becomes a path, a URL or an argument must look like it.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |why: &str| Err(Error::Lock { name: self.name.clone(), why: why.to_owned() });
        if !name::is_package(&self.name) {
            return wrong("its name is not one of a package");
        }
        if !version::is_valid(&self.version) {
            return wrong("its version is not one");
        }
        if !name::is_arch(&self.arch) {
            return wrong("its architecture is not one");
        }
        if self.path.split('/').any(|part| part == "..")
            || self.path.contains(|c: char| c.is_control() || c.is_whitespace())
        {
            return wrong("its path is not one");
        }
        Ok(())
    }

    /// apt's name for the file.
    pub fn file_name(&self) -> String {
        name::file(&self.name, &self.version, &self.arch)
    }
}

/// What an index says about a package.
pub(super) fn from_stanza(stanza: &str, archive: &Archive) -> Result<Package, Error> {
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

/// Returns Debian's name of an OCI architecture.
///
/// # Errors
///
/// [`Error::Architecture`] where Debian has none.
pub fn arch_name(oci: &str) -> Result<&'static str, Error> {
    name::arch_of_oci(oci).ok_or_else(|| Error::Architecture(oci.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_a_path_must_look_like_its_part() {
        let package = |name: &str, version: &str| Package {
            name: name.to_owned(),
            version: version.to_owned(),
            arch: "amd64".to_owned(),
            sha256: Digest::of(b""),
            size: 0,
            path: String::new(),
            archive: Archive::Main,
        };
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
}
