//! A bench for end-to-end tests: a temporary directory with a store, recipes, and a tiny root made
//! of this machine's own programs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bake::digest::Digest;
use serde_json::Value;

/// A temporary directory with a store and recipes.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
}

/// What one run of bake left.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Lab {
    /// Makes an empty one. Readable by everyone, as the same directory is used by several users.
    pub(crate) fn new() -> Self {
        let dir =
            tempfile::Builder::new().prefix("bake-lab-").tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))
            .expect("our own directory");
        Self { dir }
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file in it, and the directories above it.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("below the lab")).expect("our own directory");
        fs::write(&path, text).expect("our own file");
        path
    }

    /// Puts a tiny root at `root/`: a shell and a few programs of this machine with their
    /// libraries.
    pub(crate) fn tiny_root(&self) -> PathBuf {
        tiny_root(&self.path("root"));
        self.path("root")
    }

    /// The bake program, with this lab's store and an environment of its own.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bake"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"));
        command.env("BAKE_STORE", self.path("store")).current_dir(self.dir.path());
        command
    }

    /// Runs bake to its end.
    pub(crate) fn bake<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        run(&mut self.command(args))
    }

    /// The digest of a published image.
    pub(crate) fn digest(&self, image: &str) -> String {
        let shown = good(self.bake(["show", "--json", image]));
        shown.objects("show")[0]["digest"].as_str().expect("a digest").to_owned()
    }

    /// Names everything that makes up the published images: the layout files, the index, every
    /// blob.
    pub(crate) fn images_hash(&self) -> Digest {
        let store = self.path("store");
        let mut names = vec![];
        for part in ["oci-layout", "index.json", "blobs", "channels", "bake.json"] {
            list(&store.join(part), &mut names);
        }
        names.sort();
        let mut all = String::new();
        for path in names {
            let digest = if path.is_file() {
                Digest::of(fs::read(&path).expect("a file of the store")).hex()
            } else {
                "directory".to_owned()
            };
            all += &format!(
                "{} {digest}\n",
                path.strip_prefix(&store).expect("below the store").display()
            );
        }
        Digest::of(all)
    }

    /// What lies in `scratch/`: nothing, when no build runs.
    pub(crate) fn scratch(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("store/scratch")) else { return vec![] };
        // `lock` is the door of the directory, and stays.
        entries
            .map(|entry| entry.expect("a readable directory").path())
            .filter(|path| !path.ends_with("lock"))
            .collect()
    }
}

impl Run {
    /// The objects of a type that `--json` printed.
    pub(crate) fn objects(&self, kind: &str) -> Vec<Value> {
        let lines = self.out.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        lines.filter(|value: &Value| value["type"] == kind).collect()
    }
}

/// Makes sure that it did what it was to do.
pub(crate) fn good(run: Run) -> Run {
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    run
}

/// How often a test kills: as often as `BAKE_KILLS` says, else so often.
pub(crate) fn kills(usual: u32) -> u32 {
    let asked = std::env::var("BAKE_KILLS").ok();
    asked.map_or(usual, |text| text.parse().expect("BAKE_KILLS is a number"))
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Run {
    let Output { status, stdout, stderr } =
        command.stdin(std::process::Stdio::null()).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Run { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) }
}

fn list(path: &Path, names: &mut Vec<PathBuf>) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    names.push(path.to_owned());
    if meta.is_dir() {
        for entry in fs::read_dir(path).expect("a readable directory") {
            list(&entry.expect("a readable directory").path(), names);
        }
    }
}

/// Makes a root at `at` with `sh` and a few more programs of this machine, and the libraries they
/// Copies a program of this machine into `bin` of the root `at`, with its libraries.
pub(crate) fn copy_program(at: &Path, program: &str) {
    let from = ["/bin", "/usr/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|path| path.exists());
    let from = from.unwrap_or_else(|| panic!("this machine has no {program}"));
    fs::copy(&from, at.join("bin").join(program)).expect("a copy of a program");
    let listed = run(Command::new("ldd").arg(&from)).out;
    // Lines: `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` and
    // `/lib64/ld-linux-x86-64.so.2 (0x…)`.
    for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = at.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().expect("below the root")).expect("our own directory");
        fs::copy(library, &to).expect("a copy of a library");
    }
}

/// name.
pub(crate) fn tiny_root(at: &Path) {
    let programs = [
        "sh",
        "cat",
        "ls",
        "true",
        "false",
        "sleep",
        "mkdir",
        "chmod",
        "chown",
        "rm",
        "touch",
        "id",
        "env",
        "ln",
        "cp",
        "mv",
        "stat",
        "sha256sum",
        "seq",
        "date",
    ];
    for dir in ["bin", "etc", "usr/lib", "root"] {
        fs::create_dir_all(at.join(dir)).expect("our own directory");
    }
    for program in programs {
        copy_program(at, program);
    }
    fs::write(
        at.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
    )
    .expect("our own file");
    fs::write(at.join("etc/group"), "root:x:0:\napp:x:1000:\n").expect("our own file");
    fs::write(at.join("usr/lib/os-release"), "ID=tiny\n").expect("our own file");
}
