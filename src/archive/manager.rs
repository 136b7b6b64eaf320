//! Package managers: which one an image has, and the command lines of those that fetch for
//! themselves (all but apt).

use super::error::Error;

/// A package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// Debian's: see `apt`.
    Apt,
    /// Alpine's.
    Apk,
    /// Fedora's.
    Dnf,
    /// Its small sister.
    Microdnf,
    /// openSUSE's.
    Zypper,
    /// Arch's.
    Pacman,
}

/// What an image must have for a manager to be there; the first that exists decides.
const PLACES: &[(&str, Manager)] = &[
    ("usr/bin/apt-get", Manager::Apt),
    ("sbin/apk", Manager::Apk),
    ("usr/sbin/apk", Manager::Apk),
    ("usr/bin/apk", Manager::Apk),
    ("usr/bin/dnf", Manager::Dnf),
    ("usr/bin/dnf5", Manager::Dnf),
    ("usr/bin/microdnf", Manager::Microdnf),
    ("usr/bin/zypper", Manager::Zypper),
    ("usr/bin/pacman", Manager::Pacman),
];

/// The paths that [`find`] asks for.
pub fn paths() -> Vec<&'static str> {
    PLACES.iter().map(|(path, _)| *path).collect()
}

/// Finds an image's package manager. `exists` is asked for paths inside, without leading slash.
pub fn find(exists: &mut dyn FnMut(&str) -> bool) -> Option<Manager> {
    PLACES.iter().find(|(path, _)| exists(path)).map(|(_, manager)| *manager)
}

impl Manager {
    /// The command that installs `names`, for managers that fetch for themselves (network on);
    /// `None` for apt. Names that could be taken for an option are refused.
    pub fn install(self, names: &[String], recommends: bool) -> Result<Option<Vec<String>>, Error> {
        if let Some(name) = names.iter().find(|n| {
            n.is_empty()
                || n.starts_with('-')
                || n.contains(|c: char| c.is_whitespace() || c.is_control())
        }) {
            return Err(Error::Request {
                request: name.clone(),
                why: "it is not the name of a package",
            });
        }
        let weak =
            format!("--setopt=install_weak_deps={}", if recommends { "True" } else { "False" });
        let command: Vec<&str> = match self {
            Self::Apt => return Ok(None),
            Self::Apk => vec!["apk", "add", "--no-cache", "--no-progress", "--"],
            Self::Dnf => vec!["dnf", "install", "-y", "--nodocs", &weak],
            Self::Microdnf => vec!["microdnf", "install", "-y", "--nodocs", &weak],
            Self::Zypper if recommends => {
                vec!["zypper", "--non-interactive", "install", "--recommends", "--"]
            }
            Self::Zypper => vec!["zypper", "--non-interactive", "install", "--no-recommends", "--"],
            Self::Pacman => {
                vec!["pacman", "-Sy", "--noconfirm", "--needed", "--noprogressbar", "--"]
            }
        };
        Ok(Some(command.into_iter().map(str::to_owned).chain(names.iter().cloned()).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_is_told_by_its_program() {
        for (path, manager) in PLACES {
            assert_eq!(find(&mut |asked| asked == *path), Some(*manager));
        }
        assert_eq!(find(&mut |_| false), None);
    }

    #[test]
    fn command_lines() {
        let line = |manager: Manager, recommends| {
            manager
                .install(&["a".to_owned(), "b=1".to_owned()], recommends)
                .expect("plain names")
                .map(|c| c.join(" "))
        };
        assert_eq!(line(Manager::Apt, false), None);
        assert_eq!(
            line(Manager::Apk, false).as_deref(),
            Some("apk add --no-cache --no-progress -- a b=1")
        );
        assert_eq!(
            line(Manager::Dnf, false).as_deref(),
            Some("dnf install -y --nodocs --setopt=install_weak_deps=False a b=1")
        );
        assert_eq!(
            line(Manager::Zypper, true).as_deref(),
            Some("zypper --non-interactive install --recommends -- a b=1")
        );
        for name in ["--root=/", "", "a b", "a\nb"] {
            assert!(Manager::Apk.install(&[name.to_owned()], false).is_err(), "{name:?}");
        }
    }
}
