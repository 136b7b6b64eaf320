//! What is known of images that Dockerfiles start from, without asking a registry: how they set up
//! those that stand on them.

/// Where programs are looked for, in images that do not say otherwise.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an image says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// `PATH`, where it does not depend on the version.
    pub(super) path: Option<String>,
    /// Where it starts.
    pub(super) workdir: &'static str,
    /// Other variables that Dockerfiles ask for.
    pub(super) env: &'static [(&'static str, &'static str)],
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
    let mirror = ["docker.io/", "mirror.gcr.io/", "public.ecr.aws/docker/"];
    let image = mirror.iter().find_map(|mirror| image.strip_prefix(mirror)).unwrap_or(image);
    let image = image.strip_prefix("library/").unwrap_or(image);
    if image.contains('/') {
        return None;
    }
    Some(image.split_once(':').unwrap_or((image, "latest")))
}

/// Returns what is known of an image.
pub(super) fn known(image: &str) -> Option<Known> {
    if let Some(name) = image.strip_prefix("mcr.microsoft.com/dotnet/") {
        // The small ones run as another user.
        let small = ["chiseled", "distroless"].iter().any(|kind| name.contains(kind));
        let env: &[_] = &[("APP_UID", "1654")];
        let path = Some(PATH.to_owned());
        return (!small).then_some(Known { path, workdir: "/", env, debian: false });
    }
    let (name, tag) = official(image)?;
    let before = |front: &str| Some(format!("{front}:{PATH}"));
    let usual = || Some(PATH.to_owned());
    let site = tag.contains("fpm") || tag.contains("apache");
    let mut env: &[(&str, &str)] = &[];
    let (path, workdir) = match name {
        "debian" | "ubuntu" | "buildpack-deps" | "node" | "perl" | "alpine" | "busybox"
        | "nginx" | "docker" => (usual(), "/"),
        "python" => (before("/usr/local/bin"), "/"),
        "golang" => {
            env = &[("GOPATH", "/go")];
            (before("/go/bin:/usr/local/go/bin"), "/go")
        }
        "rust" => {
            env = &[("CARGO_HOME", "/usr/local/cargo"), ("RUSTUP_HOME", "/usr/local/rustup")];
            (before("/usr/local/cargo/bin"), "/")
        }
        "ruby" => (before("/usr/local/bundle/bin"), "/"),
        "php" if !site => (usual(), "/"),
        "wordpress" if tag.contains("cli") => return None,
        "php" | "nextcloud" | "wordpress" => (usual(), "/var/www/html"),
        "maven" | "openjdk" | "eclipse-temurin" => (None, "/"),
        _ => return None,
    };
    // Of languages there are images of alpine, and some have sources of packages of their own.
    let own = [
        "debian",
        "ubuntu",
        "buildpack-deps",
        "node",
        "perl",
        "python",
        "golang",
        "rust",
        "ruby",
        "php",
    ];
    let debian = own.contains(&name) && !tag.contains("alpine");
    Some(Known { path, workdir, env, debian })
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
        assert_eq!(known("mirror.gcr.io/library/alpine:3").unwrap().workdir, "/");
        assert_eq!(known("mcr.microsoft.com/dotnet/sdk:8.0").unwrap().env[0].0, "APP_UID");
        assert_eq!(known("mcr.microsoft.com/dotnet/aspnet:8.0-noble-chiseled"), None);
        assert_eq!(known("php:8-apache").unwrap().workdir, "/var/www/html");
    }
}
