//! Which mirror to download from: the recipe's, the caller's, the one this host's own apt uses,
//! Debian's public one.

use std::fs;
use std::path::Path;

/// Debian's public mirror.
pub const PUBLIC: &str = "http://deb.debian.org/debian";

/// Code names and aliases of Debian's suites: an entry for one of these is Debian's own archive,
/// not somebody's repository.
const SUITES: &[&str] = &[
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// Where Debian's archives are, without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The main archive: `<main>/dists/trixie/…`.
    pub main: String,
    /// The security archive: `<security>/dists/trixie-security/…`.
    pub security: String,
    /// Who named it.
    pub origin: Origin,
}

/// Who named a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The recipe.
    Recipe,
    /// The command line or the environment.
    Caller,
    /// The host's apt configuration.
    Host,
    /// Nobody.
    Public,
}

/// One archive named by an apt configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// URL without a trailing slash.
    pub url: String,
    /// Suite as written.
    pub suite: String,
}

/// Chooses the mirror for `suite`. `apt`: the host's `/etc/apt`, if it is to be asked.
pub fn choose(
    recipe: Option<&str>,
    caller: Option<&str>,
    apt: Option<&Path>,
    suite: &str,
) -> Mirror {
    for (named, origin) in [(recipe, Origin::Recipe), (caller, Origin::Caller)] {
        if let Some(url) = named {
            return mirror(url, origin);
        }
    }
    let entries = apt.map(read).unwrap_or_default();
    match pick(&entries, suite) {
        Some((main, security)) => {
            let security = security.unwrap_or_else(|| security_of(&main));
            Mirror { main, security, origin: Origin::Host }
        }
        None => mirror(PUBLIC, Origin::Public),
    }
}

fn mirror(url: &str, origin: Origin) -> Mirror {
    let main = url.trim_end_matches('/').to_owned();
    Mirror { security: security_of(&main), main, origin }
}

/// Where the security archive is that belongs to the main one at `main`: beside it, also on a
/// snapshot, where a time follows the name of the archive.
pub fn security_of(main: &str) -> String {
    let main = main.trim_end_matches('/');
    match main.rsplit_once("/debian/") {
        Some((above, time)) if !time.is_empty() => format!("{above}/debian-security/{time}"),
        _ => format!("{main}-security"),
    }
}

/// The main archive that has this very suite, else any of Debian's; the security archive likewise.
fn pick(entries: &[Entry], suite: &str) -> Option<(String, Option<String>)> {
    let known = |name: &str| SUITES.contains(&name) || name == suite;
    let of =
        |wanted: &dyn Fn(&Entry) -> bool| entries.iter().find(|e| wanted(e)).map(|e| e.url.clone());
    let ends = |entry: &Entry, name: &str| entry.url.rsplit('/').next() == Some(name);
    let pocket = |entry: &Entry| {
        entry.suite.trim_end_matches("/updates").split('-').next().unwrap_or_default().to_owned()
    };
    let main = |e: &Entry| ends(e, "debian") && known(&pocket(e));
    let security = |e: &Entry| ends(e, "debian-security") && known(&pocket(e));
    let found = of(&|e| main(e) && pocket(e) == suite).or_else(|| of(&main))?;
    Some((found, of(&|e| security(e) && pocket(e) == suite).or_else(|| of(&security))))
}

/// Reads the archives named in an apt configuration directory. What cannot be read names nothing.
pub fn read(apt: &Path) -> Vec<Entry> {
    let mut entries = fs::read_to_string(apt.join("sources.list"))
        .map(|text| one_line(&text))
        .unwrap_or_default();
    let mut files: Vec<_> = fs::read_dir(apt.join("sources.list.d"))
        .map(|dir| dir.flatten().map(|e| e.path()).collect())
        .unwrap_or_default();
    files.sort();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|e| e.to_str()) {
            Some("list") => entries.extend(one_line(&text)),
            Some("sources") => entries.extend(deb822(&text)),
            _ => {}
        }
    }
    entries
}

fn entry(url: &str, suite: &str) -> Option<Entry> {
    (url.starts_with("http://") || url.starts_with("https://"))
        .then(|| Entry { url: url.trim_end_matches('/').to_owned(), suite: suite.to_owned() })
}

/// `deb [options] URL SUITE COMPONENT…`, sources.list(5).
fn one_line(text: &str) -> Vec<Entry> {
    let line = |line: &str| {
        let line = line.split('#').next()?.trim();
        let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        let mut words = rest.split_whitespace();
        entry(words.next()?, words.next()?)
    };
    text.lines().filter_map(line).collect()
}

/// Stanzas with `Types`, `URIs`, `Suites`, sources.list(5).
fn deb822(text: &str) -> Vec<Entry> {
    let mut found = vec![];
    let text: String =
        text.lines().filter(|l| !l.starts_with('#')).flat_map(|l| [l, "\n"]).collect();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            let mut words = vec![];
            let mut inside = false;
            for line in stanza.lines() {
                if line.starts_with([' ', '\t']) {
                    if inside {
                        words.extend(line.split_whitespace());
                    }
                    continue;
                }
                let (key, value) = line.split_once(':').unwrap_or((line, ""));
                inside = key.trim().eq_ignore_ascii_case(name);
                if inside {
                    words.extend(value.split_whitespace());
                }
            }
            words
        };
        if field("Enabled")
            .first()
            .is_some_and(|v| v.eq_ignore_ascii_case("no") || v.eq_ignore_ascii_case("false"))
            || !field("Types").contains(&"deb")
        {
            continue;
        }
        for url in field("URIs") {
            found.extend(field("Suites").iter().filter_map(|suite| entry(url, suite)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_recipe_caller_host_public() {
        let apt = tempfile::tempdir().expect("a temporary directory");
        fs::write(apt.path().join("sources.list"), "deb http://near/debian trixie main\n")
            .expect("writable");
        let choose = |recipe, caller, host: bool| {
            choose(recipe, caller, host.then_some(apt.path()), "trixie")
        };
        let both = |main: &str, origin| Mirror {
            main: main.to_owned(),
            security: format!("{main}-security"),
            origin,
        };
        assert_eq!(
            choose(Some("http://r/debian/"), Some("http://c/debian"), true),
            both("http://r/debian", Origin::Recipe)
        );
        assert_eq!(
            choose(None, Some("http://c/debian"), true),
            both("http://c/debian", Origin::Caller)
        );
        assert_eq!(choose(None, None, true), both("http://near/debian", Origin::Host));
        assert_eq!(choose(None, None, false), both(PUBLIC, Origin::Public));
    }

    #[test]
    fn only_debians_own_archives_count() {
        let text = "
# deb http://commented/debian trixie main
deb-src http://source/debian trixie main
deb cdrom:[Debian]/debian trixie main
deb https://packages.example.org/debian nodistro main
deb https://packages.example.org/apt trixie main
deb [arch=amd64 signed-by=/k] http://old/debian/ bookworm main # tail
deb http://sec/debian-security bookworm-security main
deb\thttp://new/debian trixie-updates main
";
        let entries = one_line(text);
        assert_eq!(
            pick(&entries, "trixie"),
            Some(("http://new/debian".to_owned(), Some("http://sec/debian-security".to_owned())))
        );
        assert_eq!(pick(&entries, "bookworm").map(|m| m.0), Some("http://old/debian".to_owned()));
        assert_eq!(pick(&one_line("deb https://x/apt trixie main"), "trixie"), None);
    }

    /// D12
    #[test]
    fn the_security_archive_is_beside_the_main_one() {
        let time = "20260101T000000Z";
        for (main, security) in [
            ("http://m/debian".to_owned(), "http://m/debian-security".to_owned()),
            (format!("http://s/debian/{time}"), format!("http://s/debian-security/{time}")),
        ] {
            assert_eq!(security_of(&main), security);
        }
    }

    #[test]
    fn deb822_stanzas() {
        let text = "\
Types: deb deb-src
# a comment inside
URIs: http://m/debian/
Suites: bookworm
 bookworm-updates
Components: main

Enabled: no
Types: deb
URIs: http://off/debian
Suites: bookworm

types: deb
uris: https://s/debian-security
suites: bookworm-security
";
        let got: Vec<(String, String)> =
            deb822(text).into_iter().map(|e| (e.url, e.suite)).collect();
        let want = [
            ("http://m/debian", "bookworm"),
            ("http://m/debian", "bookworm-updates"),
            ("https://s/debian-security", "bookworm-security"),
        ];
        assert_eq!(got, want.map(|(u, s)| (u.to_owned(), s.to_owned())));
    }
}
