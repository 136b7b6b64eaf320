//! How a person names an image in a registry: `[docker://]host[:port]/name[:tag][@sha256:…]`.
//!
//! Without a host it is Docker Hub's, as everywhere: `debian:12` is
//! `docker.io/library/debian:12`. What comes before the first slash is a host where it has a dot
//! or a colon, or is `localhost`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::reference::{BadReference, Reference};
use crate::digest::Digest;

/// The registry that is meant where none is named.
pub const DOCKER_HUB: &str = "docker.io";

/// A repository in a registry, perhaps a tag or a manifest in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteName {
    /// Host, with the port where one was given: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub registry: String,
    /// Repository: `library/debian`.
    pub repository: String,
    /// Tag.
    pub tag: Option<String>,
    /// Manifest digest.
    pub digest: Option<Digest>,
}

/// Why a text names nothing in a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRemoteName {
    /// It is for another program, or another transport.
    #[error("{text:?} is not in a registry (written host[:port]/name[:tag], without {scheme}://)")]
    Scheme {
        /// What was given, without what stands before an `@`.
        text: String,
        /// What stands before `://`.
        scheme: String,
    },
    /// The host is none.
    #[error("{host:?} is not a registry: {why} (written host or host:port)")]
    Host {
        /// The host.
        host: String,
        /// What is wrong.
        why: &'static str,
    },
    /// It names none, where one has to be named.
    #[error("{text:?} names no registry (written host[:port]/name[:tag], Docker Hub as docker.io)")]
    NoRegistry {
        /// What was given.
        text: String,
    },
    /// A digest, where a tag is to be written.
    #[error("{text:?} names a digest, and what is pushed gets a tag")]
    NoTag {
        /// What was given.
        text: String,
    },
    /// Name, tag or digest are none.
    #[error("{text:?} names no image in a registry")]
    Image {
        /// What was given.
        text: String,
        /// Why.
        source: BadReference,
    },
}

impl RemoteName {
    /// Reads where an image is to be pushed to. The registry has to be named: nobody pushes to
    /// Docker Hub for want of a word.
    ///
    /// # Errors
    /// Where it is no name in a registry, or has a digest.
    pub fn to_push_to(text: &str) -> Result<Self, BadRemoteName> {
        let name: Self = text.parse()?;
        let plain = text.strip_prefix("docker://").unwrap_or(text);
        let named = |(first, _): (&str, &str)| first == "localhost" || first.contains(['.', ':']);
        if !plain.split_once('/').is_some_and(named) {
            return Err(BadRemoteName::NoRegistry { text: text.to_owned() });
        }
        match name.digest {
            Some(_) => Err(BadRemoteName::NoTag { text: text.to_owned() }),
            None => Ok(name),
        }
    }

    /// Returns the same repository with another tag, and no digest.
    ///
    /// # Errors
    /// Where `tag` is none.
    pub fn with_tag(&self, tag: &str) -> Result<Self, BadRemoteName> {
        Reference::new(&self.repository, tag)
            .map_err(|source| BadRemoteName::Image { text: format!("{self}:{tag}"), source })?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// Returns what a request names: the digest, else the tag, else `latest`.
    pub fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// Returns `host/repository`, without tag and digest.
    pub fn place(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

/// Returns the host of `host[:port]`, without the brackets of an IPv6 address.
pub fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

impl fmt::Display for RemoteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for RemoteName {
    type Err = BadRemoteName;

    fn from_str(text: &str) -> Result<Self, BadRemoteName> {
        let plain = text.strip_prefix("docker://").unwrap_or(text);
        if let Some((scheme, rest)) = plain.split_once("://") {
            // A password that somebody put into a URL is not shown.
            let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
            return Err(BadRemoteName::Scheme { text: rest.to_owned(), scheme: scheme.to_owned() });
        }
        let (registry, path) = match plain.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => {
                check_host(first)?;
                (first.to_ascii_lowercase(), rest)
            }
            _ => (DOCKER_HUB.to_owned(), plain),
        };
        let registry = match registry.as_str() {
            "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
            _ => registry,
        };
        // What is left is written as an image is named everywhere else; only that it has no
        // channels.
        let image = |source| BadRemoteName::Image { text: text.to_owned(), source };
        let reference: Reference = path.parse().map_err(image)?;
        if let Some(channel) = reference.channel {
            return Err(image(BadReference::Digest { digest: channel }));
        }
        let Reference { name, version, digest, .. } = reference;
        let official = registry == DOCKER_HUB && !name.contains('/');
        let repository = if official { format!("library/{name}") } else { name };
        Ok(Self { registry, repository, tag: version, digest })
    }
}

fn check_host(authority: &str) -> Result<(), BadRemoteName> {
    // A password that somebody put before it is not shown.
    let shown = authority.rsplit('@').next().unwrap_or_default();
    let wrong = |why| BadRemoteName::Host { host: shown.to_owned(), why };
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(|| wrong("missing ]"))?;
        host.parse::<Ipv6Addr>().map_err(|_| wrong("not an IPv6 address"))?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(wrong("something follows the address")),
        }
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if port.is_some_and(|port| {
        !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().unwrap_or(0) == 0
    }) {
        return Err(wrong("the port is not one"));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if authority.starts_with('[') || (host.len() <= 253 && host.split('.').all(label)) {
        return Ok(());
    }
    Err(wrong("the host is not one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_docker_hubs_defaults() {
        let hex = "a".repeat(64);
        for (text, full) in [
            ("debian", "docker.io/library/debian"),
            ("debian:12", "docker.io/library/debian:12"),
            ("docker://debian:12", "docker.io/library/debian:12"),
            ("team/app", "docker.io/team/app"),
            ("index.docker.io/debian", "docker.io/library/debian"),
            ("localhost/app:1", "localhost/app:1"),
            ("localhost:5000/a/b/c:v1.0", "localhost:5000/a/b/c:v1.0"),
            ("REGISTRY.example/app", "registry.example/app"),
            ("127.0.0.1:5000/app", "127.0.0.1:5000/app"),
            ("[::1]:5000/app:x", "[::1]:5000/app:x"),
            (&format!("r.example/app@sha256:{hex}"), &format!("r.example/app@sha256:{hex}")),
            (&format!("r.example/app:1@sha256:{hex}"), &format!("r.example/app:1@sha256:{hex}")),
        ] {
            let name: RemoteName = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(name.to_string(), full);
        }
        let name: RemoteName = "[::1]:5000/app".parse().expect("a name");
        assert_eq!((host_of(&name.registry), name.wanted().as_str()), ("::1", "latest"));
    }

    #[test]
    fn what_is_no_name_says_why() {
        for (text, why) in [
            ("", "names no image"),
            ("https://r.example/app", "without https://"),
            ("oci:./x", "the port is not one"),
            ("r.example:0/app", "the port is not one"),
            ("r.example:99999/app", "the port is not one"),
            ("r..example/app", "the host is not one"),
            ("-r.example/app", "the host is not one"),
            ("[::1/app", "missing ]"),
            ("r.example/", "names no image"),
            ("r.example/App", "names no image"),
            ("r.example/app:", "names no image"),
            ("r.example/app:.x", "names no image"),
            ("r.example/app@sha256:abc", "names no image"),
            ("r.example/app@production", "names no image"),
            ("r.example/../app", "names no image"),
            ("user:word@r.example/app", "\"r.example\" is not a registry"),
            ("r.example/app?x=1", "names no image"),
        ] {
            let error = text.parse::<RemoteName>().expect_err(text);
            assert!(error.to_string().contains(why), "{text}: {error}");
        }
        let error = "https://me:word@r.example/x".parse::<RemoteName>().expect_err("a URL");
        assert!(!error.to_string().contains("word"), "{error}");
    }
}
