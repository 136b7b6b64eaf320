//! Package managers: which one an image has, and the command lines of those that fetch for
//! themselves (all but Debian's apt).

use super::error::Error;

/// A package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// Debian's: see `apt`.
    Apt,
    /// apt of another distribution, such as Ubuntu: it asks the archives that its own sources name,
    /// and trusts its own keys.
    OtherApt,
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

/// Finds an image's package manager. `exists` is asked for paths inside, without leading slash;
/// `debian`: whether the image is Debian.
pub fn find(exists: &mut dyn FnMut(&str) -> bool, debian: bool) -> Option<Manager> {
    match PLACES.iter().find(|(path, _)| exists(path))?.1 {
        Manager::Apt if !debian => Some(Manager::OtherApt),
        manager => Some(manager),
    }
}

impl Manager {
    /// Returns the commands that install `names`, one after the other, of managers that fetch for
    /// themselves (network on); none for Debian's apt.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] for names that could be taken for an option.
    pub fn install(self, names: &[String], recommends: bool) -> Result<Vec<Vec<String>>, Error> {
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
        let apt = if recommends { "--install-recommends" } else { "--no-install-recommends" };
        let mut commands: Vec<Vec<&str>> = match self {
            Self::Apt => return Ok(vec![]),
            Self::OtherApt => vec![
                vec!["apt-get", "update", "-q"],
                vec!["apt-get", "install", "-y", "-q", apt, "--"],
            ],
            Self::Apk => vec![vec!["apk", "add", "--no-cache", "--no-progress", "--"]],
            Self::Dnf => vec![vec!["dnf", "install", "-y", "--nodocs", &weak]],
            Self::Microdnf => vec![vec!["microdnf", "install", "-y", "--nodocs", &weak]],
            Self::Zypper => {
                let weak = if recommends { "--recommends" } else { "--no-recommends" };
                vec![vec!["zypper", "--non-interactive", "install", weak, "--"]]
            }
            Self::Pacman => {
                vec![vec!["pacman", "-Sy", "--noconfirm", "--needed", "--noprogressbar", "--"]]
            }
        };
        if let Some(last) = commands.last_mut() {
            last.extend(names.iter().map(String::as_str));
        }
        let owned = |command: Vec<&str>| command.into_iter().map(str::to_owned).collect();
        Ok(commands.into_iter().map(owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_is_known_by_its_program() {
        for (path, manager) in PLACES {
            assert_eq!(find(&mut |asked| asked == *path, true), Some(*manager));
        }
        assert_eq!(find(&mut |_| true, false), Some(Manager::OtherApt));
        assert_eq!(find(&mut |_| false, true), None);
    }

    #[test]
    fn command_lines() {
        let lines = |manager: Manager, recommends| -> Vec<String> {
            let commands = manager.install(&["a".to_owned(), "b=1".to_owned()], recommends);
            commands.expect("plain names").iter().map(|command| command.join(" ")).collect()
        };
        assert!(lines(Manager::Apt, false).is_empty());
        assert_eq!(
            lines(Manager::OtherApt, false),
            ["apt-get update -q", "apt-get install -y -q --no-install-recommends -- a b=1"]
        );
        assert_eq!(lines(Manager::Apk, false), ["apk add --no-cache --no-progress -- a b=1"]);
        assert_eq!(
            lines(Manager::Dnf, false),
            ["dnf install -y --nodocs --setopt=install_weak_deps=False a b=1"]
        );
        assert_eq!(
            lines(Manager::Zypper, true),
            ["zypper --non-interactive install --recommends -- a b=1"]
        );
        for name in ["--root=/", "", "a b", "a\nb"] {
            assert!(Manager::Apk.install(&[name.to_owned()], false).is_err(), "{name:?}");
        }
    }
}
