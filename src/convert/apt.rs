//! Commands that install packages by apt and do nothing else, which a `packages` step does as well.

use super::shell::{Simple, is_assignment, simple_commands};

/// Packages that a command installs, and what else it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Install {
    pub(super) packages: Vec<String>,
    pub(super) recommends: bool,
    /// The commands behind it.
    pub(super) rest: Option<String>,
}

/// Options that change nothing about what is installed.
const QUIET: &[&str] =
    &["-y", "--yes", "--assume-yes", "-q", "-qq", "-yq", "-qy", "-yqq", "-qqy", "--quiet"];

/// What a simple command is for the installation of packages.
enum Part {
    /// `apt-get update`.
    Update,
    /// `apt-get install`.
    Install { packages: Vec<String>, recommends: bool },
    /// What a `packages` step has no need of.
    Nothing,
    /// Something else.
    Other,
}

/// Returns the packages that a command installs, where its first commands do nothing but that.
pub(super) fn install(text: &str) -> Option<Install> {
    let (mut packages, mut all, mut updated) = (vec![], None, false);
    let mut start = 0;
    let commands = simple_commands(text);
    for (n, one) in commands.iter().enumerate() {
        let last = n + 1 == commands.len();
        match part(one) {
            Part::Update => updated = true,
            Part::Install { packages: more, recommends } => {
                if !updated || all.is_some_and(|all| all != recommends) {
                    return None;
                }
                all = Some(recommends);
                packages.extend(more);
            }
            Part::Nothing => {}
            Part::Other => break,
        }
        // Behind `||` and `|` nothing is plain any more.
        if !last && !["&&", ";", "\n"].contains(&one.separator.as_str()) {
            return None;
        }
        start = if last { text.len() } else { one.end };
    }
    let rest = text[start..].trim();
    // What follows may want package lists, or another apt.
    let asks = ["apt", "dpkg", "/var/lib/apt"].iter().any(|word| rest.contains(word));
    if packages.is_empty() || asks {
        return None;
    }
    let rest = Some(rest.to_owned()).filter(|rest| !rest.is_empty());
    // Options of the shell that are set before hold for the rest.
    let set = commands.iter().take_while(|one| is_set(one)).map(|one| one.words.join(" "));
    let set: Vec<String> = set.collect();
    let rest = rest.map(|rest| match set.is_empty() {
        true => rest,
        false => format!("{}; {rest}", set.join("; ")),
    });
    Some(Install { packages, recommends: all?, rest })
}

fn is_set(one: &Simple) -> bool {
    one.plain
        && one.words[0] == "set"
        && one.words.iter().skip(1).all(|word| word.starts_with('-') || word == "pipefail")
}

fn part(one: &Simple) -> Part {
    if is_set(one) {
        return Part::Nothing;
    }
    let quiet = |word: &&String| {
        let noninteractive = "DEBIAN_FRONTEND=noninteractive";
        *word == noninteractive
    };
    let words: Vec<&str> = one.words.iter().skip_while(quiet).map(String::as_str).collect();
    match words.as_slice() {
        [] => Part::Nothing,
        ["export", only] if *only == "DEBIAN_FRONTEND=noninteractive" => Part::Nothing,
        ["rm", options @ .., _] if one.plain && options.first() == Some(&"-rf") => {
            // Lists and caches of apt never stay in an image.
            let known = |path: &&str| {
                path.starts_with("/var/lib/apt/lists") || path.starts_with("/var/cache/apt")
            };
            if words[2..].iter().all(known) { Part::Nothing } else { Part::Other }
        }
        ["apt-get" | "apt", rest @ ..] if one.plain => apt(rest),
        _ => Part::Other,
    }
}

fn apt(words: &[&str]) -> Part {
    let mut rest = words.iter().filter(|word| !QUIET.contains(word));
    match rest.next() {
        Some(&"update") if rest.clone().next().is_none() => Part::Update,
        Some(&("clean" | "autoclean")) if rest.clone().next().is_none() => Part::Nothing,
        Some(&"--no-install-recommends") => match rest.next() {
            Some(&"install") => installed(rest.copied(), false),
            _ => Part::Other,
        },
        Some(&"install") => installed(rest.copied(), true),
        _ => Part::Other,
    }
}

fn installed<'w>(words: impl Iterator<Item = &'w str>, mut recommends: bool) -> Part {
    let mut packages = vec![];
    for word in words {
        match word {
            "--no-install-recommends" => recommends = false,
            "--no-install-suggests" => {}
            word if is_package(word) => packages.push(word.to_owned()),
            _ => return Part::Other,
        }
    }
    if packages.is_empty() { Part::Other } else { Part::Install { packages, recommends } }
}

/// `name`, `name:arch`, `name=version`, `name/suite`; nothing that apt takes for a pattern or for
/// the wish to remove something.
fn is_package(word: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "+-.:~/=_".contains(c);
    let name = word.split(['=', '/', ':']).next().unwrap_or_default();
    name.len() > 1
        && word.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && word.chars().all(fits)
        && !name.contains('_')
        && !word.ends_with('-')
        && (!word.ends_with('+') || word.ends_with("++"))
        && !word.ends_with(".deb")
}

/// Whether a command may change where packages come from: what apt installs later is not known
/// then.
pub(super) fn changes_sources(text: &str) -> bool {
    const SIGNS: &[&str] = &[
        "/etc/apt",
        "sources.list",
        "apt-key",
        "apt-add-repository",
        "add-apt-repository",
        "apt-mark",
        "apt-get upgrade",
        "dpkg",
        "| bash",
        "| sh",
        "|bash",
        "|sh",
        ".deb",
        "./",
        ".sh",
    ];
    SIGNS.iter().any(|sign| text.contains(sign))
        || simple_commands(text).iter().any(|one| {
            one.words.iter().find(|word| !is_assignment(word)).is_some_and(|w| w.contains('/'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<(String, bool, Option<String>)> {
        install(text).map(|one| (one.packages.join(" "), one.recommends, one.rest))
    }

    #[test]
    fn only_what_means_the_same_is_a_packages_step() {
        let a = |packages: &str, recommends, rest: Option<&str>| {
            Some((packages.to_owned(), recommends, rest.map(str::to_owned)))
        };
        for (text, expected) in [
            (
                "apt-get update && apt-get install -y a1 g++ && rm -rf /var/lib/apt/lists/*",
                a("a1 g++", true, None),
            ),
            (
                "apt-get update && apt-get install -y --no-install-recommends aa bb=1.2-3",
                a("aa bb=1.2-3", false, None),
            ),
            (
                "set -ex; apt-get update; apt-get -y install aa; apt-get clean; useradd x",
                a("aa", true, Some("set -ex; useradd x")),
            ),
            (
                "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -qqy aa \\\n bb",
                a("aa bb", true, None),
            ),
            (
                "apt-get update && apt-get install -y aa && apt-get install -y bb",
                a("aa bb", true, None),
            ),
            // Not with lists of an earlier step, nor with what apt takes for something else.
            ("apt-get install -y aa", None),
            ("apt-get update", None),
            ("apt-get update && apt-get install -y $PACKAGES", None),
            ("apt-get update && apt-get install -y 'php8*'", None),
            ("apt-get update && apt-get install -y aa- bb", None),
            ("apt-get update && apt-get upgrade -y && apt-get install -y aa", None),
            ("apt-get update && apt-get install -y ./x.deb", None),
            ("apt-get update && apt-get install -y -t sid aa", None),
            ("apt-get update && apt-get install -y aa || true", None),
            ("apt-get update && apt-get install -y aa && apt-get purge -y bb", None),
            ("curl x && apt-get update && apt-get install -y aa", None),
            (
                "apt-get update && apt-get install -y aa && apt-get install -y --no-install-recommends bb",
                None,
            ),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
    }

    #[test]
    fn other_sources_are_noticed() {
        for text in ["echo x > /etc/apt/sources.list.d/x", "curl x | bash -", "/setup", "dpkg -i x"]
        {
            assert!(changes_sources(text), "{text}");
        }
        for text in ["pip install x", "useradd x", "apt-get update"] {
            assert!(!changes_sources(text), "{text}");
        }
    }
}
