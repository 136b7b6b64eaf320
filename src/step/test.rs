//! A test lowered: what is started in the throwaway copy, and what is then looked at.
//!
//! The JSON of this is stored with the image, so that its tests can be run again without the recipe
//! ([`LoweredTest`] is the format; fields are only ever added, with a default).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lower::{first_line, short};
use crate::digest::Digest;
use crate::recipe::{self, Command, ProbeOptions, Start};

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
    /// What is looked at, one after the other.
    pub probes: Vec<Probe>,
    /// How long each probe may take to hold.
    pub timeout: Duration,
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

/// One look at the copy.
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
    /// Look at a file.
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

/// Lowers a test. Pure: what scripts hold is found out by others.
pub(super) fn lower(test: &recipe::Test) -> LoweredTest {
    let argv = |command: &Command| match command {
        Command::Argv(argv) => argv.clone(),
        Command::Shell(text) => test.shell.iter().chain([text]).cloned().collect(),
    };
    let start = test.start.iter().map(|start| match start {
        Start::Config => Service::Config,
        Start::Command(command) => Service::Argv(argv(command)),
    });
    let probes = match &test.probe {
        recipe::Probe::Http { url, status, contains } => {
            vec![Probe::Http { url: url.clone(), status: *status, contains: contains.clone() }]
        }
        recipe::Probe::Tcp(address) => vec![Probe::Tcp { address: address.clone() }],
        recipe::Probe::Run { command, how } => {
            vec![Probe::Exec { argv: argv(command), how: manner(how) }]
        }
        recipe::Probe::Script { files, args, how } => files
            .iter()
            .map(|file| Probe::Script {
                file: file.clone(),
                content: None,
                shell: test.shell.clone(),
                args: args.clone(),
                how: manner(how),
            })
            .collect(),
        recipe::Probe::File { path, mode, owner, contains, sha256 } => {
            vec![Probe::File {
                path: path.clone(),
                mode: *mode,
                owner: owner.clone(),
                contains: contains.clone(),
                sha256: sha256.clone(),
            }]
        }
        recipe::Probe::Absent(path) => vec![Probe::Absent { path: path.clone() }],
    };
    LoweredTest {
        label: label(test),
        line: test.line,
        start: start.collect(),
        probes,
        timeout: test.timeout,
    }
}

fn manner(how: &ProbeOptions) -> Manner {
    Manner {
        user: how.run_as.clone().unwrap_or_else(|| "root".to_owned()),
        env: how.env.clone(),
        cwd: how.workdir.clone(),
    }
}

/// What people call a test: its name, else its check and what it is about, on one line.
fn label(test: &recipe::Test) -> String {
    if let Some(name) = &test.name {
        return short(name);
    }
    short(&match &test.probe {
        recipe::Probe::Http { url, .. } => format!("http {url}"),
        recipe::Probe::Tcp(address) => format!("tcp {address}"),
        recipe::Probe::Run { command: Command::Shell(text), .. } => {
            format!("run {}", first_line(text))
        }
        recipe::Probe::Run { command: Command::Argv(argv), .. } => {
            format!("run {}", argv.join(" "))
        }
        recipe::Probe::Script { files, .. } => {
            format!(
                "script {}",
                files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" ")
            )
        }
        recipe::Probe::File { path, .. } => format!("file {path}"),
        recipe::Probe::Absent(path) => format!("no file {path}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(start: Vec<Start>, probe: recipe::Probe) -> recipe::Test {
        let shell = ["/bin/sh", "-eu", "-c"].map(str::to_owned).to_vec();
        recipe::Test {
            name: None,
            line: 9,
            start,
            probe,
            shell,
            timeout: Duration::from_millis(1500),
        }
    }

    #[test]
    fn what_is_started_and_looked_at() {
        let run = recipe::Probe::Run {
            command: Command::Shell("a | b\nc".into()),
            how: ProbeOptions::default(),
        };
        let lowered =
            lower(&test(vec![Start::Config, Start::Command(Command::Shell("x".into()))], run));
        assert_eq!((lowered.label.as_str(), lowered.line), ("run a | b …", 9));
        assert_eq!(
            lowered.start,
            [
                Service::Config,
                Service::Argv(["/bin/sh", "-eu", "-c", "x"].map(str::to_owned).to_vec())
            ]
        );
        let [Probe::Exec { argv, how }] = &lowered.probes[..] else { panic!("{lowered:?}") };
        assert_eq!((argv.len(), how.user.as_str(), &how.cwd), (4, "root", &None));
    }

    #[test]
    fn the_stored_form_is_read_again() {
        let script = recipe::Probe::Script {
            files: vec!["a".into(), "b".into()],
            args: vec!["-x".into()],
            how: ProbeOptions::default(),
        };
        let file = recipe::Probe::File {
            path: "/f".into(),
            mode: Some(0o644),
            owner: None,
            contains: None,
            sha256: None,
        };
        for probe in [
            script,
            file,
            recipe::Probe::Tcp("localhost:1".into()),
            recipe::Probe::Absent("/g".into()),
        ] {
            let lowered = lower(&test(vec![Start::Config], probe));
            let json = serde_json::to_string(&lowered).unwrap();
            let read: LoweredTest = serde_json::from_str(&json).unwrap();
            assert_eq!(read, LoweredTest { line: 0, ..lowered }, "{json}");
        }
    }

    #[test]
    fn the_stored_form_stays() {
        let http = recipe::Probe::Http {
            url: "http://a/".into(),
            status: 200,
            contains: Some("x".into()),
        };
        let lowered = lower(&test(vec![Start::Config], http));
        assert_eq!(
            serde_json::to_string(&lowered).unwrap(),
            r#"{"label":"http http://a/","start":["config"],"probes":[{"probe":"http","url":"http://a/","status":200,"contains":"x"}],"timeout":{"secs":1,"nanos":500000000}}"#
        );
    }
}
