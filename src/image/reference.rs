//! How a person names an image: `name`, `name:version`, `name@sha256:…`, `name:version@sha256:…`,
//! `name@channel`.
//!
//! The grammar is the OCI distribution specification's: a name is lower-case words with `.`, `_`,
//! `__` or dashes between, joined by `/`; a version is a tag, 1 to 128 of `[A-Za-z0-9_.-]` that
//! starts with neither `.` nor `-`. A channel is bake's own: a name that one version after another
//! goes by, 1 to 64 of `[a-z0-9_.-]` that starts with a letter.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;

/// The name of an image, perhaps of one version of it, perhaps of one content, or of what a channel
/// of it points at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Repository name.
    pub name: String,
    /// Version (tag).
    pub version: Option<String>,
    /// Manifest digest.
    pub digest: Option<Digest>,
    /// Channel; with it there is neither version nor digest.
    pub channel: Option<String>,
}

/// Why a text names no image. Each message says what would.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadReference {
    /// Nothing before the `:` or `@`.
    #[error(
        "an image name is missing in {text:?} (an image is written name, name:version or \
            name@sha256:…)"
    )]
    NoName {
        /// What was given.
        text: String,
    },
    /// The name is not one.
    #[error(
        "{name:?} is not an image name: {why} (lower-case letters and digits, with . _ - or / \
            between them)"
    )]
    Name {
        /// The name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The version is not one.
    #[error(
        "{version:?} is not a version: {why} (1 to 128 letters, digits, _ . -, not starting with . \
            or -)"
    )]
    Version {
        /// The version.
        version: String,
        /// What is wrong.
        why: &'static str,
    },
    /// What follows the `@` is not a sha256 digest.
    #[error("{digest:?} is not a digest (sha256: and 64 lower-case hex digits)")]
    Digest {
        /// What stood there.
        digest: String,
    },
    /// What follows the `@` is neither a digest nor a channel.
    #[error(
        "{channel:?} is not a channel: {why} (1 to 64 lower-case letters, digits, _ . -, starting \
            with a letter)"
    )]
    Channel {
        /// What stood there.
        channel: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A version and a channel.
    #[error("{text:?} names a version and a channel (name:version or name@channel)")]
    VersionAndChannel {
        /// What was given.
        text: String,
    },
}

/// Longest name that registries take.
const NAME_MAX: usize = 255;
/// Longest version.
const VERSION_MAX: usize = 128;
/// Longest channel.
const CHANNEL_MAX: usize = 64;

impl Reference {
    /// Names one version.
    pub fn new(name: &str, version: &str) -> Result<Self, BadReference> {
        check_name(name)?;
        check_version(version)?;
        Ok(Self {
            name: name.to_owned(),
            version: Some(version.to_owned()),
            digest: None,
            channel: None,
        })
    }

    /// Names what a channel points at.
    pub fn of_channel(name: &str, channel: &str) -> Result<Self, BadReference> {
        check_name(name)?;
        check_channel(channel)?;
        Ok(Self {
            name: name.to_owned(),
            version: None,
            digest: None,
            channel: Some(channel.to_owned()),
        })
    }

    /// Whether it says which version is meant, rather than "the newest".
    pub fn is_exact(&self) -> bool {
        self.version.is_some() || self.digest.is_some() || self.channel.is_some()
    }

    /// Whether it is a name and a version and nothing else: what a version can be published as.
    pub fn is_version(&self) -> bool {
        self.version.is_some() && self.digest.is_none() && self.channel.is_none()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(version) = &self.version {
            write!(f, ":{version}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        if let Some(channel) = &self.channel {
            write!(f, "@{channel}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Self, BadReference> {
        let (rest, after) =
            text.split_once('@').map_or((text, None), |(rest, after)| (rest, Some(after)));
        // A digest has a colon, a channel has none.
        let (digest, channel) = match after {
            Some(digest) if digest.contains(':') => (
                Some(digest.parse().map_err(|_| BadReference::Digest { digest: clip(digest) })?),
                None,
            ),
            other => (None, other),
        };
        let (name, version) = match rest.rsplit_once(':') {
            // `host:5000/name` has its colon in the host: let the name's own check speak of it.
            Some((_, after)) if after.contains('/') => (rest, None),
            Some((name, version)) => (name, Some(version)),
            None => (rest, None),
        };
        if name.is_empty() {
            return Err(BadReference::NoName { text: clip(text) });
        }
        check_name(name)?;
        if let Some(version) = version {
            check_version(version)?;
        }
        if let Some(channel) = channel {
            check_channel(channel)?;
            if version.is_some() {
                return Err(BadReference::VersionAndChannel { text: clip(text) });
            }
        }
        Ok(Self {
            name: name.to_owned(),
            version: version.map(str::to_owned),
            digest,
            channel: channel.map(str::to_owned),
        })
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Checks a name against the distribution specification's grammar.
pub(crate) fn check_name(name: &str) -> Result<(), BadReference> {
    let wrong = |why| Err(BadReference::Name { name: clip(name), why });
    if name.is_empty() {
        return wrong("it is empty");
    }
    if name.len() > NAME_MAX {
        return wrong("it is longer than 255 characters");
    }
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return wrong("it has upper-case letters");
    }
    if name.contains(':') {
        return wrong("it has a colon");
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/".contains(&b)) {
        return wrong("it has a character that no name may have");
    }
    for part in name.split('/') {
        if part.is_empty() {
            return wrong("it has an empty part between slashes");
        }
        let edge = |b: Option<&u8>| b.is_some_and(|b| !b.is_ascii_alphanumeric());
        if edge(part.as_bytes().first()) || edge(part.as_bytes().last()) {
            return wrong("a part starts or ends with . _ or -");
        }
        let mut separators =
            part.split(|c: char| c.is_ascii_alphanumeric()).filter(|s| !s.is_empty());
        if !separators.all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-')) {
            return wrong("it has several of . _ - in a row");
        }
    }
    Ok(())
}

/// Checks a version against the distribution specification's grammar of tags.
pub(crate) fn check_version(version: &str) -> Result<(), BadReference> {
    let wrong = |why| Err(BadReference::Version { version: clip(version), why });
    if version.is_empty() {
        return wrong("it is empty");
    }
    if version.len() > VERSION_MAX {
        return wrong("it is longer than 128 characters");
    }
    if version.starts_with(['.', '-']) {
        return wrong("it starts with . or -");
    }
    if version.contains('+') {
        return wrong("a + cannot stand in a tag; write - or _ instead");
    }
    if !version.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        return wrong("it has a character that no version may have");
    }
    Ok(())
}

/// Checks the name of a channel: fit for a file name, and never a digest.
fn check_channel(channel: &str) -> Result<(), BadReference> {
    let wrong = |why| Err(BadReference::Channel { channel: clip(channel), why });
    if channel.is_empty() {
        return wrong("it is empty");
    }
    if channel.len() > CHANNEL_MAX {
        return wrong("it is longer than 64 characters");
    }
    if !channel.starts_with(|c: char| c.is_ascii_lowercase()) {
        return wrong("it does not start with a lower-case letter");
    }
    if !channel.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b))
    {
        return wrong("it has a character that no channel may have");
    }
    Ok(())
}

/// Keeps messages readable whatever was typed.
fn clip(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, good: bool) {
        let parsed = text.parse::<Reference>();
        assert_eq!(parsed.is_ok(), good, "{text:?}: {parsed:?}");
        if let Ok(reference) = parsed {
            assert_eq!(reference.to_string(), text);
        }
    }

    #[test]
    fn the_grammar() {
        let digest = Digest::of("x");
        for good in [
            "web",
            "web:2.0.0",
            "a.b_c__d--e/f:V_1",
            "docker.io/library/debian:12",
            "0:_",
            "web:latest",
        ] {
            check(good, true);
            check(&format!("{good}@{digest}"), true);
        }
        for good in ["web@production", "a/b@blue-green_2.0", "web@x"] {
            check(good, true);
        }
        check(&format!("web@{}", "c".repeat(64)), true);
        check(&format!("web@{}", "c".repeat(65)), false);
        for bad in [
            "",
            ":1",
            "@",
            "Web",
            "web:",
            "web:.1",
            "web:-1",
            "web:1+2",
            "web@",
            "web@sha256:12",
            "web@Production",
            "web@1",
            "web@.x",
            "web@a/b",
            "web@..",
            "web:1@production",
            "web@a@b",
            "-web",
            "web-",
            "a//b",
            "/a",
            "a/",
            "a..b",
            "a___b",
            "a.-b",
            "web:1:2",
            "localhost:5000/web",
            "wéb",
            "web 1",
            "web:1 ",
            "web\n",
            "../x",
            "a/../b",
        ] {
            check(bad, false);
        }
        check(&"a".repeat(255), true);
        check(&"a".repeat(256), false);
        check(&format!("a:{}", "1".repeat(128)), true);
        check(&format!("a:{}", "1".repeat(129)), false);
    }

    #[test]
    fn messages_say_what_is_wrong() {
        let message = |text: &str| text.parse::<Reference>().expect_err("bad").to_string();
        assert!(message("Web:1").contains("upper-case"));
        assert!(message("web:1.0+git").contains('+'));
        assert!(message("web@md5:1").contains("sha256"));
        assert!(message(":1").contains("missing"));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_parses_is_written_the_same(text in "\\PC{0,40}|[a-z:/@._-]{0,20}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string(), text);
            }
        }
    }
}
