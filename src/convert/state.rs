//! What an instruction of a stage finds: variables, directory, user, and how the image is started
//! so far. A stage that starts from another one begins with a copy of its state.

use std::collections::{BTreeMap, BTreeSet};

use super::arguments::is_proxy;
use super::bases::{Known, PATH};
use super::document::{Options, Step, Value};
use super::text::Text;

/// Directories that every image with a system in it has.
const DIRECTORIES: &[&str] = &[
    "/",
    "/bin",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/local/share",
    "/usr/sbin",
    "/usr/share",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/tmp",
    "/usr/local/sbin",
    "/usr/local/etc",
    "/etc/ssl/certs",
    "/usr/src",
];

/// Where a stage starts in the end, after all stages before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nothing, or a Debian that bake makes: how it is set up is known.
    Made,
    /// An image of a registry: all is known of it, or nothing.
    Image { name: String, known: Option<Known> },
}

/// Something that a `COPY` puts below `/tmp`, for the commands that use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Temporary {
    pub(super) line: u32,
    /// What is mounted.
    pub(super) source: Value,
    /// Where it is copied to.
    pub(super) to: String,
    pub(super) directory: bool,
}

/// A directory that nothing has made yet.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    pub(super) path: Text,
    /// Its owner, where that is not root.
    pub(super) owner: Option<String>,
}

/// How an image is started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) comments: Vec<String>,
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) cmd: Option<Vec<String>>,
    /// `CMD` was given in the stage itself.
    pub(super) own_cmd: bool,
    pub(super) labels: Vec<(String, Text)>,
    pub(super) ports: Vec<Text>,
    pub(super) volumes: Vec<Text>,
    pub(super) stop_signal: Option<Text>,
    pub(super) healthcheck: Option<Value>,
    /// It was given: what the image of a registry says counts no more.
    pub(super) workdir: bool,
}

#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) origin: Origin,
    pub(super) env: Vec<(String, Text)>,
    pub(super) args: Vec<(String, Text)>,
    /// What the image of a registry may set: not known, and asked for.
    pub(super) hidden: Vec<(String, Text)>,
    pub(super) workdir: Text,
    pub(super) user: Option<Text>,
    pub(super) shell: Option<Vec<String>>,
    pub(super) config: Config,
    /// Directories that are there.
    pub(super) directories: BTreeSet<String>,
    /// The sources of packages are still those of the base, and it is one of Debian's kind.
    pub(super) plain_apt: bool,
    pub(super) temporary: Vec<Temporary>,
    /// Names below `/tmp` that commands left, each with its line.
    pub(super) left: BTreeMap<String, u32>,
    /// All steps so far, those of the stages below included.
    pub(super) steps: Vec<Step>,
}

impl State {
    pub(super) fn new(origin: Origin, plain_apt: bool) -> Self {
        let workdir = match &origin {
            Origin::Image { known: Some(known), .. } => known.workdir,
            _ => "/",
        };
        let mut directories = BTreeSet::from(["/".to_owned()]);
        if plain_apt || matches!(origin, Origin::Image { .. }) {
            directories.extend(DIRECTORIES.iter().map(|path| (*path).to_owned()));
        }
        directories.insert(workdir.to_owned());
        Self {
            origin,
            env: vec![],
            args: vec![],
            hidden: vec![],
            workdir: Text::plain(workdir),
            user: None,
            shell: None,
            config: Config::default(),
            directories,
            plain_apt,
            temporary: vec![],
            left: BTreeMap::new(),
            steps: vec![],
        }
    }

    /// Sets a variable of the environment: an argument of that name counts no more.
    pub(super) fn set_env(&mut self, name: &str, value: Text) {
        self.args.retain(|(one, _)| one != name);
        set(&mut self.env, name, value);
    }

    /// Sets an argument, which counts more than what the environment has by that name; of the image
    /// it is no part.
    pub(super) fn set_arg(&mut self, name: &str, value: Text) {
        set(&mut self.args, name, value);
    }

    /// Whether the environment has a variable.
    pub(super) fn has_env(&self, name: &str) -> bool {
        self.env.iter().any(|(one, _)| one == name)
    }

    /// Returns what a name stands for, as far as the Dockerfile says it.
    pub(super) fn value(&self, name: &str) -> Option<Text> {
        let find = |all: &[(String, Text)]| {
            all.iter().find(|(one, _)| one == name).map(|(_, value)| value.clone())
        };
        find(&self.args).or_else(|| find(&self.env)).or_else(|| find(&self.hidden))
    }

    /// Returns a variable that the base sets, where that is known.
    pub(super) fn base_value(&self, name: &str) -> Option<String> {
        match &self.origin {
            Origin::Made => (name == "PATH").then(|| PATH.to_owned()),
            Origin::Image { known: None, .. } => None,
            Origin::Image { known: Some(known), .. } if name == "PATH" => known.path.clone(),
            Origin::Image { known: Some(known), .. } => {
                let found = known.env.iter().find(|(one, _)| *one == name);
                found.map(|(_, value)| (*value).to_owned())
            }
        }
    }

    /// Returns the options of a command.
    pub(super) fn options(&self) -> Options {
        let env = self.env.iter().chain(self.args.iter().filter(|(name, _)| !is_proxy(name)));
        let fits = |name: &str| {
            name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !name.starts_with(|c: char| c.is_ascii_digit())
        };
        let env = env.filter(|(name, _)| fits(name));
        let root = |user: &&Text| !["root", "0", "root:root", "0:0"].contains(&&*user.value());
        let workdir = Some(self.workdir.written()).filter(|workdir| workdir != "/");
        let shell = self.shell.clone().unwrap_or_else(docker_shell);
        Options {
            run_as: self.user.as_ref().filter(root).map(Text::written),
            workdir,
            shell: Some(shell),
            env: env.map(|(name, value)| (name.clone(), value.written())).collect(),
            ..Options::default()
        }
    }

    /// Whether commands run as root.
    pub(super) fn is_root(&self) -> bool {
        self.options().run_as.is_none()
    }

    /// Returns an absolute path: a relative one is below the working directory.
    pub(super) fn absolute(&self, path: &Text) -> Text {
        let joined = match path.value().starts_with('/') {
            true => path.clone(),
            false => self.workdir.clone().and(&Text::plain("/")).and(path),
        };
        if joined.is_plain() { Text::plain(clean(&joined.value())) } else { joined }
    }
}

/// The shell of a Dockerfile that names none: neither `-e` nor `-u`, other than bake's own.
pub(super) fn docker_shell() -> Vec<String> {
    ["/bin/sh", "-c"].map(str::to_owned).into()
}

fn set(all: &mut Vec<(String, Text)>, name: &str, value: Text) {
    all.retain(|(one, _)| one != name);
    all.push((name.to_owned(), value));
}

/// Returns an absolute path without `.`, `..` and needless slashes; one at its end stays.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = vec![];
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let directory = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    let slash = if directory && !parts.is_empty() { "/" } else { "" };
    format!("/{}{slash}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_last_counts() {
        let mut state = State::new(Origin::Made, false);
        state.set_env("A", Text::plain("env"));
        state.set_arg("A", Text::plain("arg"));
        assert_eq!(state.value("A"), Some(Text::plain("arg")));
        assert_eq!(state.options().env["A"], "arg");
        assert_eq!(state.env, [("A".to_owned(), Text::plain("env"))]);
        state.set_env("A", Text::plain("again"));
        assert_eq!(state.options().env["A"], "again");
    }

    #[test]
    fn paths_are_absolute_and_clean() {
        let mut state = State::new(Origin::Made, false);
        state.workdir = Text::plain("/app");
        for (path, expected) in [
            (".", "/app/"),
            ("./", "/app/"),
            ("a/../b", "/app/b"),
            ("/x//y/", "/x/y/"),
            ("..", "/"),
        ] {
            assert_eq!(state.absolute(&Text::plain(path)).value(), expected, "{path}");
        }
    }
}
