//! What an image runs on: Go's names of systems and processors, as the OCI specification uses them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A system and a processor, written `linux/amd64` or `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// Go's name of the processor: `amd64`, `arm64`.
    pub architecture: String,
    /// Go's name of the system: `linux`.
    pub os: String,
    /// Variant of the processor: `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text that is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a platform: {0:?} (a platform is written like linux/amd64 or linux/arm/v7)")]
pub struct NotAPlatform(pub String);

/// Go's name, the variant, and the kernel's name of each processor (`uname -m`).
const PROCESSORS: &[(&str, Option<&str>, &str)] = &[
    ("amd64", None, "x86_64"),
    ("arm64", None, "aarch64"),
    ("386", None, "i686"),
    ("arm", Some("v7"), "armv7l"),
    ("arm", Some("v6"), "armv6l"),
    ("arm", Some("v5"), "armv5tel"),
    ("ppc64le", None, "ppc64le"),
    ("riscv64", None, "riscv64"),
    ("s390x", None, "s390x"),
    ("loong64", None, "loongarch64"),
    ("mips64le", None, "mips64"),
];

impl Platform {
    /// Returns Linux on `architecture` (Go's name), without a variant.
    pub fn linux(architecture: impl Into<String>) -> Self {
        Self { architecture: architecture.into(), os: "linux".to_owned(), variant: None }
    }

    /// Returns the platform of this machine.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "x86" => ("386", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            "mips64" => ("mips64le", None),
            other => (other, None),
        };
        Self {
            architecture: architecture.to_owned(),
            os: std::env::consts::OS.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// Returns it as bake builds for it, with the one spelling that it has: `linux/arm` is
    /// `linux/arm/v7`, and `linux/arm64/v8` is `linux/arm64`. `None` where bake does not.
    #[must_use]
    pub fn to_build(&self) -> Option<Self> {
        let variant = match (self.architecture.as_str(), self.variant.as_deref()) {
            ("arm", None) => Some("v7"),
            ("arm64", Some("v8")) => None,
            (_, variant) => variant,
        };
        let known = |(go, with, _): &&(&str, Option<&str>, &str)| {
            *go == self.architecture && *with == variant
        };
        PROCESSORS.iter().find(known).filter(|_| self.os == "linux")?;
        Some(Self { variant: variant.map(str::to_owned), ..self.clone() })
    }

    /// Returns all that bake builds for.
    pub fn all() -> impl Iterator<Item = Self> {
        PROCESSORS.iter().map(|(go, variant, _)| Self {
            variant: variant.map(str::to_owned),
            ..Self::linux(*go)
        })
    }

    /// Returns the processor, with its variant where that is not the usual one: `amd64`, `arm`,
    /// `arm/v6`. Lock files say it.
    #[must_use]
    pub fn processor(&self) -> String {
        match self.variant.as_deref() {
            None | Some("v7" | "v8") => self.architecture.clone(),
            Some(variant) => format!("{}/{variant}", self.architecture),
        }
    }

    /// Returns the kernel's name of the processor (`uname -m`: `x86_64`, `aarch64`), or Go's where
    /// it is unknown.
    pub fn machine(&self) -> &str {
        PROCESSORS
            .iter()
            .find(|(go, variant, _)| {
                *go == self.architecture
                    && (self.variant.is_none()
                        || variant.is_none()
                        || *variant == self.variant.as_deref())
            })
            .map_or(&self.architecture, |(_, _, machine)| machine)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = NotAPlatform;

    fn from_str(text: &str) -> Result<Self, NotAPlatform> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |part: &&str| {
            !part.is_empty()
                && part.len() <= 32
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        let wrong = || NotAPlatform(text.chars().take(80).collect());
        if !parts.iter().all(is_word) {
            return Err(wrong());
        }
        match parts[..] {
            [os, architecture] => {
                Ok(Self { architecture: architecture.to_owned(), os: os.to_owned(), variant: None })
            }
            [os, architecture, variant] => Ok(Self {
                architecture: architecture.to_owned(),
                os: os.to_owned(),
                variant: Some(variant.to_owned()),
            }),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip() {
        for text in ["linux/amd64", "linux/arm/v7", "linux/riscv64"] {
            assert_eq!(text.parse::<Platform>().map(|p| p.to_string()), Ok(text.to_owned()));
        }
        for text in
            ["", "linux", "linux/", "/amd64", "linux/AMD64", "linux/arm/v7/x", "linux/amd 64"]
        {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn platforms_to_build_for_have_one_spelling() {
        for (text, same) in [
            ("linux/amd64", Some("linux/amd64")),
            ("linux/arm", Some("linux/arm/v7")),
            ("linux/arm/v6", Some("linux/arm/v6")),
            ("linux/arm64/v8", Some("linux/arm64")),
            ("linux/arm64/v9", None),
            ("linux/amd64/v3", None),
            ("linux/vax", None),
            ("windows/amd64", None),
        ] {
            let found = text.parse::<Platform>().expect("valid").to_build();
            assert_eq!(found.map(|one| one.to_string()).as_deref(), same, "{text}");
        }
        assert!(Platform::all().all(|one| one.to_build().as_ref() == Some(&one)));
    }

    #[test]
    fn machines() {
        for (text, machine) in [
            ("linux/amd64", "x86_64"),
            ("linux/arm64/v8", "aarch64"),
            ("linux/arm/v6", "armv6l"),
            ("linux/wasm", "wasm"),
        ] {
            assert_eq!(text.parse::<Platform>().expect("valid").machine(), machine);
        }
    }
}
