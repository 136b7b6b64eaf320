//! The image config: how the image runs, which layers it is made of, and how it came about
//! (image-spec, "config.md").

use std::collections::{BTreeMap, BTreeSet};

use serde::de::IgnoredAny;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::descriptor::{Unreadable, from_json, null_is_default, to_json};
use super::platform::Platform;
use super::time::{epoch_of, rfc3339};
use crate::digest::Digest;

/// An image config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it; bake writes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Go's name of the processor: `amd64`, `arm64`.
    pub architecture: String,
    /// Go's name of the system: `linux`.
    pub os: String,
    /// Variant of the processor: `v7`, `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How it runs.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Config::is_empty"
    )]
    pub config: Config,
    /// Its layers.
    pub rootfs: RootFs,
    /// How it came about: one entry a step; entries that are not empty match the layers one to one.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Fields nobody here knows.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// How an image runs. Field names are Docker's, which the OCI specification took over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    /// `user`, `user:group` or ids; empty is root.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// `80/tcp`, `53/udp`.
    #[serde(default, with = "keys", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// `KEY=value`, in order.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What is started.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Arguments of the entrypoint, or what is started when there is none.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Directories whose data lives outside the image.
    #[serde(default, with = "keys", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// Where it is started; empty is `/`.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Sorted labels.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// `SIGTERM` when empty.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
    /// How to ask whether it is well (Docker's; the OCI specification reserves the name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Fields nobody here knows (`Shell`, `OnBuild`, `ArgsEscaped`, …).
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// How to ask a container whether it is well. Times are nanoseconds; 0 means the runtime's default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["CMD", …]`, `["CMD-SHELL", "…"]` or `["NONE"]`.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two questions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// How long an answer may take.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// How long failures do not count after the start.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Failures in a row that make it ill.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
    /// Fields nobody here knows (`StartInterval`).
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// The layers an image is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// sha256 of each uncompressed layer, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step of how an image came about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By what command.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub created_by: String,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A word on it.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub comment: String,
    /// It made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// Fields nobody here knows.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl History {
    /// Makes the entry of a step.
    pub fn new(
        epoch: i64,
        created_by: impl Into<String>,
        comment: impl Into<String>,
        empty_layer: bool,
    ) -> Self {
        let created = Some(rfc3339(epoch));
        Self {
            created,
            created_by: created_by.into(),
            comment: comment.into(),
            empty_layer,
            ..Self::default()
        }
    }
}

impl Config {
    /// Returns whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns entrypoint and cmd as one command line.
    pub fn argv(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }
}

impl ImageConfig {
    /// Makes the config of an image without layers.
    pub fn new(epoch: i64, platform: &Platform) -> Self {
        Self {
            created: Some(rfc3339(epoch)),
            author: None,
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            config: Config::default(),
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![] },
            history: vec![],
            extra: BTreeMap::new(),
        }
    }

    /// Reads a config, tolerantly.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        from_json(bytes, "config")
    }

    /// Returns its bytes: the same config is always the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Returns what the image runs on.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
        }
    }

    /// Returns what a strict reader would object to; empty is good.
    pub fn validate(&self) -> Vec<String> {
        let mut flaws = vec![];
        if self.architecture.is_empty() {
            flaws.push("architecture is empty".to_owned());
        }
        if self.os.is_empty() {
            flaws.push("os is empty".to_owned());
        }
        if self.rootfs.kind != "layers" {
            flaws.push(format!("rootfs.type is {:?}, not \"layers\"", self.rootfs.kind));
        }
        let times = std::iter::once(("created".to_owned(), &self.created)).chain(
            self.history
                .iter()
                .enumerate()
                .map(|(n, entry)| (format!("history[{n}].created"), &entry.created)),
        );
        for (place, time) in times {
            if let Some(text) = time
                && epoch_of(text).is_none()
            {
                flaws.push(format!("{place} is {text:?}, not an RFC 3339 time"));
            }
        }
        let made = self.history.iter().filter(|entry| !entry.empty_layer).count();
        if !self.history.is_empty() && made != self.rootfs.diff_ids.len() {
            flaws.push(format!(
                "history speaks of {made} layers, rootfs has {}",
                self.rootfs.diff_ids.len()
            ));
        }
        for entry in &self.config.env {
            if entry.find('=').is_none_or(|at| at == 0) {
                flaws.push(format!("env {entry:?} is not NAME=value"));
            }
        }
        for port in &self.config.exposed_ports {
            if !is_port(port) {
                flaws
                    .push(format!("exposed port {port:?} is not NUMBER, NUMBER/tcp or NUMBER/udp"));
            }
        }
        flaws
    }
}

fn is_port(text: &str) -> bool {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let is_number =
        |part: &str| part.bytes().all(|b| b.is_ascii_digit()) && part.parse::<u16>().is_ok();
    // Docker also knows ranges, `8000-8010`.
    number.splitn(2, '-').all(is_number) && matches!(protocol, "tcp" | "udp" | "sctp")
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// A set that JSON writes as a map of empty objects.
mod keys {
    use super::*;

    #[derive(Serialize)]
    struct Nothing {}

    pub(super) fn serialize<S: Serializer>(
        set: &BTreeSet<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(set.len()))?;
        for key in set {
            map.serialize_entry(key, &Nothing {})?;
        }
        map.end()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<BTreeMap<String, IgnoredAny>>::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amd64() -> Platform {
        "linux/amd64".parse().expect("a platform")
    }

    #[test]
    fn bytes_are_stable() {
        let mut config = ImageConfig::new(0, &amd64());
        config.config.exposed_ports.extend(["80/tcp".to_owned(), "53/udp".to_owned()]);
        config
            .config
            .labels
            .extend([("z".to_owned(), "1".to_owned()), ("a".to_owned(), "<&>".to_owned())]);
        config.config.healthcheck = Some(Healthcheck {
            test: vec!["CMD".to_owned(), "true".to_owned()],
            interval: 30_000_000_000,
            ..Healthcheck::default()
        });
        config.rootfs.diff_ids.push(Digest::of("tar"));
        config.history.push(History::new(0, "base", "", false));
        config.history.push(History::new(0, "set cmd", "bake", true));
        let text = String::from_utf8(config.to_json()).expect("UTF-8");
        let expected = format!(
            concat!(
                r#"{{"created":"1970-01-01T00:00:00Z","architecture":"amd64","os":"linux","config":{{"ExposedPorts":{{"53/udp":{{}},"80/tcp":{{}}}},"#,
                r#""Labels":{{"a":"<&>","z":"1"}},"Healthcheck":{{"Test":["CMD","true"],"Interval":30000000000}}}},"#,
                r#""rootfs":{{"type":"layers","diff_ids":["{}"]}},"history":[{{"created":"1970-01-01T00:00:00Z","created_by":"base"}},"#,
                r#"{{"created":"1970-01-01T00:00:00Z","created_by":"set cmd","comment":"bake","empty_layer":true}}]}}"#
            ),
            Digest::of("tar")
        );
        assert_eq!(text, expected);
        assert_eq!(ImageConfig::parse(text.as_bytes()).expect("own bytes"), config);
        assert_eq!(config.validate(), Vec::<String>::new());
    }

    #[test]
    fn what_docker_writes_is_read_and_kept() {
        let text = r#"{"architecture":"amd64","config":{"Hostname":"","Env":null,"Cmd":["sh"],"Entrypoint":null,"Volumes":null,"OnBuild":null,
            "ExposedPorts":{"80/tcp":{}},"Labels":null,"Healthcheck":{"Test":["NONE"],"StartInterval":5}},"container":"x","created":"2024-01-01T00:00:00.123456789Z",
            "docker_version":"20.10","history":null,"os":"linux","rootfs":{"type":"layers","diff_ids":null}}"#;
        let config = ImageConfig::parse(text.as_bytes()).expect("tolerant");
        assert_eq!(config.config.cmd, ["sh"]);
        assert_eq!(config.extra["docker_version"], "20.10");
        assert!(config.config.extra.contains_key("OnBuild"));
        assert_eq!(config.validate(), Vec::<String>::new());
    }

    #[test]
    fn flaws_are_all_found() {
        let mut config = ImageConfig::new(0, &amd64());
        config.os.clear();
        config.architecture.clear();
        config.created = Some("yesterday".to_owned());
        config.rootfs.kind = "tree".to_owned();
        config.history.push(History::default());
        config.config.env.push("=x".to_owned());
        config.config.exposed_ports.insert("http".to_owned());
        assert_eq!(config.validate().len(), 7, "{:?}", config.validate());
    }

    #[test]
    fn ports() {
        for (text, good) in [
            ("80", true),
            ("80/tcp", true),
            ("53/udp", true),
            ("8000-8010/tcp", true),
            ("", false),
            ("70000", false),
            ("80/x", false),
        ] {
            assert_eq!(is_port(text), good, "{text}");
        }
    }
}
