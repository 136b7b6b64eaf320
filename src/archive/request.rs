//! What a `packages` step may ask apt for.

use super::error::Error;
use super::package::Package;
use crate::deb::{name, version};

/// A package request: `name`, `name:arch`, `name=version`, `name/suite`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    name: String,
    arch: Option<String>,
    rest: Option<String>,
}

impl Request {
    /// Reads apt's notation, less what surprises: a trailing `-` would remove a package, other
    /// signs make a regular expression.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |why| Error::Request { request: text.to_owned(), why };
        let end = text.find(['=', '/']).unwrap_or(text.len());
        let (head, rest) = text.split_at(end);
        let (package, arch) = match head.split_once(':') {
            Some((package, arch)) => (package, Some(arch.to_owned())),
            None => (head, None),
        };
        if package.len() > 1 && package.ends_with('-') {
            return Err(wrong("a trailing - would remove it; use a run step"));
        }
        if !name::is_package(package) {
            return Err(wrong("a package name has lower-case letters, digits and + - . only"));
        }
        if arch.as_ref().is_some_and(|arch| !name::is_arch(arch)) {
            return Err(wrong("what follows : is not an architecture"));
        }
        match rest.split_at_checked(1) {
            None => {}
            Some(("=", version))
                if version::is_valid(version.strip_suffix('*').unwrap_or(version)) => {}
            Some(("/", suite))
                if !suite.is_empty()
                    && suite.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) => {}
            Some(("=", _)) => return Err(wrong("what follows = is not a version")),
            Some(_) => return Err(wrong("what follows / is not a suite")),
        }
        Ok(Self {
            name: package.to_owned(),
            arch,
            rest: (!rest.is_empty()).then(|| rest.to_owned()),
        })
    }

    /// The package's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn head(&self) -> String {
        self.arch.as_ref().map_or_else(|| self.name.clone(), |arch| format!("{}:{arch}", self.name))
    }

    pub(super) fn text(&self) -> String {
        format!("{}{}", self.head(), self.rest.as_deref().unwrap_or_default())
    }

    /// The same request against exactly the chosen packages: by version, or (when nothing had to be
    /// chosen) by bare name.
    pub(super) fn settled(&self, set: &[Package], native: &str) -> String {
        let arch = self.arch.as_deref().unwrap_or(native);
        let fits = |p: &&Package| p.name == self.name && (p.arch == arch || p.arch == "all");
        match set.iter().find(fits) {
            Some(package) => format!("{}={}", self.head(), package.version),
            None => self.head(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::package::Archive;
    use crate::digest::Digest;

    #[test]
    fn requests_are_apts_notation_less_its_surprises() {
        for text in [
            "nginx",
            "g++",
            "libstdc++6",
            "nginx=1.22.1-9+deb12u1",
            "nginx=1.22*",
            "nginx/bookworm-security",
            "libc6:amd64",
            "a2ps:amd64=1:2-3",
        ] {
            assert_eq!(Request::parse(text).expect(text).text(), text);
        }
        for text in [
            "", "nginx-", "^ng.*$", "NGINX", "-y", "--help", "a b", "a;b", "../x", "a=", "a=$(x)",
            "a/", "a/b/c", "a:", "a:x y", "*", "nginx\n",
        ] {
            assert!(matches!(Request::parse(text), Err(Error::Request { .. })), "{text:?}");
        }
    }

    #[test]
    fn requests_settle_on_what_was_chosen() {
        let package = Package {
            name: "nginx".to_owned(),
            version: "1.2-3".to_owned(),
            arch: "amd64".to_owned(),
            sha256: Digest::of(b""),
            size: 0,
            path: String::new(),
            archive: Archive::Main,
        };
        for (request, settled) in [
            ("nginx", "nginx=1.2-3"),
            ("nginx=1.2*", "nginx=1.2-3"),
            ("nginx/x", "nginx=1.2-3"),
            ("nginx:amd64", "nginx:amd64=1.2-3"),
            ("sed=4", "sed"),
            ("nginx:i386", "nginx:i386"),
        ] {
            assert_eq!(
                Request::parse(request)
                    .expect(request)
                    .settled(std::slice::from_ref(&package), "amd64"),
                settled
            );
        }
    }
}
