//! What the tests that edit inputs around and during a build share: a directory whose whole content
//! is known, builds that can be held back, and what has to hold of how they end.
//!
//! ```text
//! World (files, addresses) ── put ──► the lab's directory, the server
//! build ──► started ──► … download /hook1 … ──► baked or failed
//!              │                 │
//!   held by a full pipe    the server edits, then answers
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::base_mirror::{Reply, Server};
use crate::lab::{Lab, Run, run};

/// Everything that a build takes: files of the lab by path, and what an address answers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct World {
    pub(crate) files: BTreeMap<String, Entry>,
    pub(crate) served: BTreeMap<String, Vec<u8>>,
}

/// One thing in the lab's directory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Entry {
    File { bytes: Vec<u8>, mode: u32 },
    Symlink(String),
    Directory,
}

impl World {
    pub(crate) fn file(&mut self, name: &str, text: impl Into<Vec<u8>>) {
        let entry = Entry::File { bytes: text.into(), mode: 0o644 };
        self.files.insert(name.to_owned(), entry);
    }

    pub(crate) fn text(&self, name: &str) -> String {
        match &self.files[name] {
            Entry::File { bytes, .. } => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("{name} is {other:?}"),
        }
    }

    /// Names what differs from `other`.
    fn differs(&self, other: &Self) -> Vec<String> {
        let names = self.files.keys().chain(other.files.keys());
        let addresses = self.served.keys().chain(other.served.keys());
        names
            .filter(|name| self.files.get(*name) != other.files.get(*name))
            .chain(addresses.filter(|at| self.served.get(*at) != other.served.get(*at)))
            .cloned()
            .collect()
    }
}

/// How a file is written anew.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Style {
    /// The same file gets other bytes.
    InPlace,
    /// Another file takes its name.
    Renamed,
}

/// A lab with a server, and what they hold now.
pub(crate) struct Edited {
    pub(crate) lab: Lab,
    server: Server,
    place: Arc<Place>,
    /// What there was of all that a lock file pins when that was begun.
    locked: Mutex<Pinned>,
}

/// What addresses give, and what is in the base.
type Pinned = (BTreeMap<String, Vec<u8>>, Option<Entry>);

struct Place {
    directory: std::path::PathBuf,
    now: Mutex<World>,
    /// What is done when an address is asked for, once.
    hooks: Mutex<BTreeMap<String, (World, Style)>>,
}

/// How a build ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// With this digest; how many steps ran.
    Baked { digest: String, ran: usize },
    /// With this object.
    Failed(Value),
}

impl Ended {
    fn of(out: &str) -> Self {
        let lines: Vec<Value> =
            out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let last = lines.last().unwrap_or_else(|| panic!("it says nothing: {out}"));
        let ran = |one: &&Value| one["type"] == "step-done" && one["cached"] == false;
        match last["type"].as_str() {
            Some("baked") => Self::Baked {
                digest: last["digest"].as_str().expect("a digest").to_owned(),
                ran: lines.iter().filter(ran).count(),
            },
            _ => Self::Failed(last.clone()),
        }
    }

    /// The digest of what was baked.
    pub(crate) fn digest(&self) -> Option<&str> {
        match self {
            Self::Baked { digest, .. } => Some(digest),
            Self::Failed(_) => None,
        }
    }
}

/// Lets go of a build that was held back, and edits more meanwhile: `done` is set when it ends.
type Meanwhile<'a> = &'a (dyn Fn(&dyn Fn() -> bool) + Sync);

impl Edited {
    /// Starts with an empty directory and a server that has nothing.
    pub(crate) fn new() -> Self {
        let lab = Lab::new();
        let directory = lab.path("");
        let place = Arc::new(Place { directory, now: Mutex::default(), hooks: Mutex::default() });
        let of_server = Arc::clone(&place);
        let server = Server::start(move |path| of_server.answer(path));
        Self { lab, server, place, locked: Mutex::default() }
    }

    /// The address of the server.
    pub(crate) fn url(&self) -> &str {
        &self.server.url
    }

    /// Makes the directory and the server hold `world`. A lock file of what an address once gave, or a
    /// base once was, is removed where that is something else now, as `--update` does.
    pub(crate) fn put(&self, world: &World, style: Style) {
        self.place.put(world, style);
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        let pinned = (world.served.clone(), world.files.get("root/etc/extra").cloned());
        if *locked != pinned {
            let _ = fs::remove_file(self.lab.path("tiny.lock"));
            *locked = pinned;
        }
    }

    /// The same during a build: the lock file stays.
    pub(crate) fn put_files(&self, world: &World, style: Style) {
        self.place.put(world, style);
    }

    /// From the next time on that `address` is asked for, the directory and the server hold `world`.
    pub(crate) fn hook(&self, address: &str, world: &World, style: Style) {
        let mut hooks = self.place.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        hooks.insert(address.to_owned(), (world.clone(), style));
    }

    /// Forgets the hooks that nobody asked for; whether there were any.
    pub(crate) fn unhook(&self) -> bool {
        let mut hooks = self.place.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        let left = !hooks.is_empty();
        hooks.clear();
        left
    }

    /// Builds `tiny.toml` in the store `store`, and removes the version again.
    pub(crate) fn build(&self, store: &str) -> Ended {
        self.ended(store, self.command(store).output().expect("the program starts").stdout)
    }

    /// Builds, does `edit` when everything is known and nothing has run, and `meanwhile` until the
    /// build ends.
    pub(crate) fn build_edited(
        &self,
        store: &str,
        edit: impl FnOnce(),
        meanwhile: Meanwhile<'_>,
    ) -> Ended {
        let (mut child, mut out) = held(self.command(store));
        edit();
        let over = Mutex::new(false);
        let text = std::thread::scope(|scope| {
            let is_over = || *over.lock().unwrap_or_else(PoisonError::into_inner);
            let editing = scope.spawn(move || meanwhile(&is_over));
            let mut text = vec![];
            out.read_to_end(&mut text).expect("readable");
            child.wait().expect("it ends");
            *over.lock().unwrap_or_else(PoisonError::into_inner) = true;
            editing.join().expect("an edit does not panic");
            text
        });
        self.ended(store, text)
    }

    /// Publishes the image that `tiny.toml` stands on, if it does.
    fn image(&self, store: &str) {
        let recipe = fs::read_to_string(self.lab.path("tiny.toml")).expect("ours");
        if recipe.contains("image = \"base:1\"") {
            let built = self.bake(store, &["build", "base.toml", "-q"]);
            assert_eq!(built.code, 0, "{}", built.err);
        }
    }

    fn bake(&self, store: &str, args: &[&str]) -> Run {
        run(self.lab.command(args).env("BAKE_STORE", self.lab.path(store)))
    }

    fn command(&self, store: &str) -> Command {
        self.image(store);
        let mut command =
            self.lab.command(["build", "tiny.toml", "--vars-file", "vars.toml", "--json"]);
        command.env("BAKE_STORE", self.lab.path(store)).stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Looks at how a build ended: what was published goes, so that the next one is free; what was
    /// not is nowhere.
    fn ended(&self, store: &str, out: Vec<u8>) -> Ended {
        let ended = Ended::of(&String::from_utf8_lossy(&out));
        let listed = self.bake(store, &["list", "--json"]).out;
        let name = |line: &str| -> Option<String> {
            let image: Value = serde_json::from_str(line).expect("JSON");
            Some(format!("{}:{}", image["name"].as_str()?, image["version"].as_str()?))
        };
        let names: Vec<String> = listed.lines().filter_map(name).collect();
        let published = names.contains(&"tiny:1".to_owned());
        assert_eq!(published, ended.digest().is_some(), "{listed} {ended:?}");
        for image in &names {
            assert_eq!(self.bake(store, &["rm", image, "-q"]).code, 0, "{image}");
        }
        ended
    }

    /// Makes sure that a build during which `before` became `after` (and perhaps `before` again)
    /// gave the image `good`, or ended with an error that names what was edited.
    #[track_caller]
    pub(crate) fn good_or_named(
        &self,
        ended: &Ended,
        good: &[Option<&str>],
        before: &World,
        after: &World,
    ) {
        let why = match ended {
            Ended::Baked { digest, .. } => {
                assert!(good.contains(&Some(digest)), "stale: {digest}, and not {good:?}");
                return;
            }
            Ended::Failed(why) if good.contains(&None) => {
                // Without any edit it fails as well: for that reason or for the edit's.
                assert_ne!(why["message"], "", "{why}");
                return;
            }
            Ended::Failed(why) => why,
        };
        let edited = before.differs(after);
        // Of a base that is a directory the directory is named.
        let last = |name: &String| match name.strip_prefix("root/") {
            Some(_) => "root".to_owned(),
            None => name.rsplit('/').next().unwrap_or(name).to_owned(),
        };
        let text = why.to_string();
        assert!(
            edited.iter().any(|name| text.contains(&last(name))),
            "the error names none of {edited:?}: {why:#}"
        );
    }
}

impl Place {
    fn answer(&self, path: &str) -> Reply {
        let hook = self.hooks.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
        if let Some((world, style)) = hook {
            self.put(&world, style);
        }
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        match now.served.get(path) {
            Some(bytes) => Reply::Bytes(bytes.clone()),
            None if path.starts_with("/hook") => Reply::Bytes(format!("{path}\n").into_bytes()),
            None => Reply::Status(404),
        }
    }

    /// Makes everything as `world` has it.
    fn put(&self, world: &World, style: Style) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        // What is inside a directory goes before it.
        for (name, was) in now.files.iter().rev() {
            let kept = world.files.get(name).is_some_and(|is| same_kind(was, is));
            if !kept {
                let path = self.directory.join(name);
                match was {
                    Entry::Directory => fs::remove_dir(path).expect("empty by now"),
                    _ => fs::remove_file(path).expect("it is there"),
                }
            }
        }
        for (name, entry) in &world.files {
            if now.files.get(name) != Some(entry) {
                write(&self.directory.join(name), entry, style);
            }
        }
        *now = world.clone();
    }
}

fn same_kind(a: &Entry, b: &Entry) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn write(path: &Path, entry: &Entry, style: Style) {
    fs::create_dir_all(path.parent().expect("below the lab")).expect("our own directory");
    match entry {
        Entry::Directory => fs::create_dir_all(path).expect("our own directory"),
        Entry::Symlink(target) => {
            let _ = fs::remove_file(path);
            symlink(target, path).expect("our own symlink");
        }
        Entry::File { bytes, mode } => {
            let at = match style {
                Style::InPlace => path.to_owned(),
                // Beside the directory: what is copied must not have it.
                Style::Renamed => std::env::temp_dir().join(format!(
                    "bake-edit-{}-{:?}",
                    std::process::id(),
                    std::thread::current().id()
                )),
            };
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&at)
                .expect("our own file");
            file.write_all(bytes).expect("our own file");
            file.set_permissions(Permissions::from_mode(*mode)).expect("our own file");
            drop(file);
            if at != path {
                fs::rename(&at, path).expect("on the same file system");
            }
        }
    }
}

/// Starts `command` with a full pipe as its output, and returns when it waits to write its first
/// line: `started`, when all inputs are known and nothing has run.
fn held(mut command: Command) -> (Child, File) {
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    let size = rustix::pipe::fcntl_setpipe_size(&writer, 4096).expect("a page");
    let mut writer = File::from(writer);
    writer.write_all(&vec![b'\n'; size]).expect("room for all of it");
    let mut child = command.stdout(Stdio::from(writer)).spawn().expect("the program starts");
    // The command has a copy of the writing end.
    drop(command);
    let until = Instant::now() + Duration::from_secs(60);
    while !waits_to_write(child.id()) && child.try_wait().expect("ours").is_none() {
        assert!(Instant::now() < until, "it writes nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
    (child, File::from(reader))
}

/// Whether a thread of the process waits for room in a pipe (proc(5), `wchan`).
fn waits_to_write(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return false };
    threads.flatten().any(|thread| {
        let at = fs::read_to_string(thread.path().join("wchan")).unwrap_or_default();
        at.contains("pipe_write")
    })
}

/// The tar of the root `at`.
pub(crate) fn tar_of(at: &Path) -> Vec<u8> {
    let mut tar = tar::Builder::new(vec![]);
    tar.mode(tar::HeaderMode::Deterministic);
    tar.append_dir_all(".", at).expect("our own directory");
    tar.into_inner().expect("in memory")
}
