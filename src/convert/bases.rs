//! What is known of images that Dockerfiles start from, without asking a registry: how they set up
//! those that stand on them.

/// Where programs are looked for, in images that do not say otherwise.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an image says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// `PATH`.
    pub(super) path: String,
    /// Where it starts.
    pub(super) workdir: &'static str,
    /// Debian or Ubuntu with no package sources but their own.
    pub(super) debian: bool,
}

/// Suites of Debian by the number of the release.
const SUITES: [(&str, &str); 4] =
    [("11", "bullseye"), ("12", "bookworm"), ("13", "trixie"), ("stable", "stable")];

/// Returns the name of an image without registry and tag, where it is one of Docker's official
/// images, and its tag.
fn official(image: &str) -> Option<(&str, &str)> {
    let image = image.split('@').next().unwrap_or(image);
    let image = image.strip_prefix("docker.io/").unwrap_or(image);
    let image = image.strip_prefix("library/").unwrap_or(image);
    if image.contains('/') {
        return None;
    }
    Some(image.split_once(':').unwrap_or((image, "latest")))
}

/// Returns what is known of an image.
pub(super) fn known(image: &str) -> Option<Known> {
    let (name, tag) = official(image)?;
    let before = |front: &str| format!("{front}:{PATH}");
    // alpine variants exist of the images of languages.
    let debian = !tag.contains("alpine");
    let (path, workdir, debian) = match name {
        "debian" | "ubuntu" | "buildpack-deps" | "node" | "perl" => (PATH.to_owned(), "/", debian),
        "alpine" | "busybox" => (PATH.to_owned(), "/", false),
        "python" => (before("/usr/local/bin"), "/", debian),
        "golang" => (before("/go/bin:/usr/local/go/bin"), "/go", debian),
        "rust" => (before("/usr/local/cargo/bin"), "/", debian),
        "ruby" => (before("/usr/local/bundle/bin"), "/", debian),
        "php" if tag.contains("fpm") || tag.contains("apache") => {
            (PATH.to_owned(), "/var/www/html", debian)
        }
        "php" => (PATH.to_owned(), "/", debian),
        "nginx" => (PATH.to_owned(), "/", false),
        _ => return None,
    };
    Some(Known { path, workdir, debian })
}

/// Returns the suite of one of Debian's own images, and whether it is the slim one.
pub(super) fn debian(image: &str) -> Option<(String, bool)> {
    let (name, tag) = official(image)?;
    if name != "debian" {
        return None;
    }
    let slim = tag.ends_with("-slim");
    let tag = tag.strip_suffix("-slim").unwrap_or(tag);
    // `bookworm-20240211`, `12.4`.
    let suite = tag.split(['-', '.']).next().unwrap_or(tag);
    let suite = match suite {
        "latest" | "slim" | "stable" => return None,
        suite => SUITES.iter().find(|(number, _)| *number == suite).map_or(suite, |(_, name)| name),
    };
    let fits = suite.chars().all(|c| c.is_ascii_lowercase()) && !suite.is_empty();
    fits.then(|| (suite.to_owned(), slim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_known_by_name() {
        assert_eq!(debian("debian:12-slim"), Some(("bookworm".into(), true)));
        assert_eq!(
            debian("docker.io/library/debian:trixie-20250811"),
            Some(("trixie".into(), false))
        );
        assert_eq!(debian("debian:12.4@sha256:ab"), Some(("bookworm".into(), false)));
        for other in ["debian", "debian:stable-slim", "me/debian:12", "ubuntu:22.04", "debian:6"] {
            assert_eq!(debian(other), None, "{other}");
        }
        assert_eq!(known("golang:1.22").unwrap().workdir, "/go");
        assert!(known("python:3.12-slim").unwrap().debian);
        assert!(!known("python:3.12-alpine").unwrap().debian);
        assert_eq!(known("quay.io/x/python:3"), None);
        assert_eq!(known("tomcat:9"), None);
    }
}
