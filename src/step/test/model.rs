//! A test lowered: what is started in the throwaway container, and what is then looked at.
//!
//! The JSON of this is stored with the image, so that its tests can be run again without the recipe
//! ([`LoweredTest`] is the format; fields are only ever added, with a default).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// A test ready to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoweredTest {
    /// What people call it.
    pub label: String,
    /// Line of the recipe; 0 where it comes from a stored image.
    #[serde(skip)]
    pub line: u32,
    /// What runs meanwhile, in the order it is started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start: Vec<Service>,
    /// What each is called, in the same order; empty where they have no names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// What is looked at, one after the other.
    pub probes: Vec<Probe>,
    /// How long each probe may take to hold; of a `boot` test, the machine to be up.
    pub timeout: Duration,
    /// It is a machine that is looked at, not a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Box<Boot>>,
}

/// The machine that a test looks at. All tests of an image look at the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Bytes of its memory, where the test says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Units that may fail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_fail: Vec<String>,
    /// The disk that it boots from.
    #[serde(default)]
    pub disk: BootDisk,
}

/// What a disk is made like; a recipe's `[[output]]` has the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootDisk {
    /// `disk`, `qcow2`.
    pub format: String,
    /// Bytes of the whole disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// How its root is compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<String>,
    /// The root is written to; else it is read-only and checked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub writable: bool,
    /// Added to the kernel's command line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub command_line: String,
    /// Bytes of the boot partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub esp: Option<u64>,
    /// Bytes of each of two partitions for a root, where there are two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u64>,
    /// Serial numbers of data disks, by where they are mounted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
}

impl Default for BootDisk {
    /// What is made for a test where the recipe asks for none.
    fn default() -> Self {
        Self {
            format: "disk".to_owned(),
            size: None,
            compression: None,
            writable: false,
            command_line: "console=ttyS0".to_owned(),
            esp: None,
            slot: None,
            data: BTreeMap::new(),
        }
    }
}

/// Something that is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// Entrypoint and command of the image's config.
    Config,
    /// This program.
    Argv(Vec<String>),
}

/// One look at the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "probe", rename_all = "kebab-case")]
pub enum Probe {
    /// Ask a server.
    Http {
        /// An `http://` URL.
        url: String,
        /// Expected status.
        status: u16,
        /// Expected part of the body.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        contains: Option<String>,
    },
    /// Connect.
    Tcp {
        /// `host:port`.
        address: String,
    },
    /// Run a program.
    Exec {
        /// Program and arguments.
        argv: Vec<String>,
        /// As whom and where.
        #[serde(flatten)]
        how: Manner,
    },
    /// Run a file of the context by its `#!` line, else by `shell`.
    Script {
        /// Path below the context.
        file: PathBuf,
        /// sha256 of its content, once that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<Digest>,
        /// Used where the file has no `#!` line.
        shell: Vec<String>,
        /// Arguments.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        args: Vec<String>,
        /// As whom and where.
        #[serde(flatten)]
        how: Manner,
    },
    /// Checks at a file.
    File {
        /// Absolute path inside.
        path: String,
        /// Expected permission bits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
        /// Expected owner.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<String>,
        /// Expected part of the content.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        contains: Option<String>,
        /// Expected sha256 as 64 hex digits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
    },
    /// Make sure that there is nothing.
    Absent {
        /// Absolute path inside.
        path: String,
    },
}

/// As whom and where a probe runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manner {
    /// `user` or `user:group` inside.
    pub user: String,
    /// Besides the environment of the image's config.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Working directory; that of the image's config where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
}

/// What a kind makes of a test.
pub(crate) struct Checks {
    /// Its check and what it is about.
    pub(crate) about: String,
    /// What is looked at, one after the other.
    pub(crate) probes: Vec<Probe>,
}

impl Checks {
    /// Returns a single look.
    pub(super) fn of(about: String, probe: Probe) -> Self {
        Self { about, probes: vec![probe] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(start: Vec<Service>, probe: Probe) -> LoweredTest {
        LoweredTest {
            label: "l".into(),
            line: 9,
            start,
            names: vec![],
            probes: vec![probe],
            timeout: Duration::from_millis(1500),
            boot: None,
        }
    }

    #[test]
    fn the_stored_form_is_read_again() {
        let how = Manner { user: "root".into(), env: BTreeMap::new(), cwd: None };
        let script = Probe::Script {
            file: "a".into(),
            content: None,
            shell: vec!["/bin/sh".into()],
            args: vec!["-x".into()],
            how,
        };
        let file = Probe::File {
            path: "/f".into(),
            mode: Some(0o644),
            owner: None,
            contains: None,
            sha256: None,
        };
        for probe in [
            script,
            file,
            Probe::Tcp { address: "localhost:1".into() },
            Probe::Absent { path: "/g".into() },
        ] {
            let lowered = test(vec![Service::Config], probe);
            let json = serde_json::to_string(&lowered).unwrap();
            let read: LoweredTest = serde_json::from_str(&json).unwrap();
            assert_eq!(read, LoweredTest { line: 0, ..lowered }, "{json}");
        }
    }

    #[test]
    fn the_stored_form_stays() {
        let http = Probe::Http { url: "http://a/".into(), status: 200, contains: Some("x".into()) };
        assert_eq!(
            serde_json::to_string(&test(vec![Service::Config], http)).unwrap(),
            r#"{"label":"l","start":["config"],"probes":[{"probe":"http","url":"http://a/","status":200,"contains":"x"}],"timeout":{"secs":1,"nanos":500000000}}"#
        );
    }
}
