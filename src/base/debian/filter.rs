//! What `variant = "slim"` leaves out, with dpkg's own rules (dpkg(1), `--path-exclude`), so that
//! the base and every later package are treated alike: the last rule that matches wins; directories
//! and symlinks stay where an include may need them.

/// dpkg's configuration, in the image at `/etc/dpkg/dpkg.cfg.d/bake-slim`.
pub(super) const SLIM: &str = "\
# Documentation (but copyright files), man pages and locales are left out of this image.
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/man/*
path-exclude=/usr/share/groff/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/lintian/*
path-exclude=/usr/share/linda/*
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
";

/// Which paths are left out.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    /// Pattern, and whether it includes.
    rules: Vec<(String, bool)>,
}

impl Filter {
    /// Leaves out nothing.
    pub(super) fn none() -> Self {
        Self::default()
    }

    /// What a slim image leaves out.
    pub(super) fn slim() -> Self {
        let rule = |line: &str| {
            let (kind, pattern) = line.split_once('=')?;
            Some((pattern.to_owned(), kind == "path-include"))
        };
        Self { rules: SLIM.lines().filter_map(rule).collect() }
    }

    /// Whether `path` (without leading slash) is left out. `soft`: it is a directory or a symlink.
    pub(super) fn skips(&self, path: &[u8], soft: bool) -> bool {
        if self.rules.is_empty() {
            return false;
        }
        let path = [b"/", path].concat();
        let last = self.rules.iter().rev().find(|(pattern, _)| matches(pattern.as_bytes(), &path));
        if last.is_none_or(|(_, include)| *include) {
            return false;
        }
        let kept = |pattern: &str| {
            let plain = pattern
                .split(['*', '?', '[', '\\'])
                .next()
                .unwrap_or_default()
                .trim_end_matches('/');
            path.starts_with(plain.as_bytes())
        };
        !(soft && self.rules.iter().any(|(pattern, include)| *include && kept(pattern)))
    }
}

/// fnmatch(3) without flags, for patterns with `*` only: it matches slashes too.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut parts = pattern.split(|b| *b == b'*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.windows(part.len().max(1)).position(|w| w == part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slim_keeps_what_it_must() {
        let slim = Filter::slim();
        for (path, soft, skipped) in [
            ("usr/share/doc/bash/README", false, true),
            ("usr/share/doc/bash/copyright", false, false),
            ("usr/share/doc/bash/examples/copyright", false, false),
            ("usr/share/doc/bash", true, false),
            ("usr/share/man/man1/ls.1.gz", false, true),
            ("usr/share/man/man1", true, true),
            ("usr/share/man", true, false),
            ("usr/share/locale/de/LC_MESSAGES/dpkg.mo", false, true),
            ("usr/share/locale/locale.alias", false, false),
            ("usr/bin/bash", false, false),
        ] {
            assert_eq!(slim.skips(path.as_bytes(), soft), skipped, "{path}");
        }
        assert!(!Filter::none().skips(b"usr/share/doc/x", false));
    }

    #[test]
    fn stars() {
        for (pattern, text, yes) in [
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/a*", "/a/b/c", true),
            ("/*/c", "/a/b/c", true),
            ("/*/c/*", "/a/b/d/", false),
            ("/*b*d", "/abcd", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), yes, "{pattern} {text}");
        }
    }
}
