//! What the sandbox's tests share: a session with a small root made of the host's own programs.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bake::job::{Action, Ended, Job, Session};
use bake::sandbox::{
    BuiltIn, CallError, Cancel, Emulation, Exec, Host, JobEvent, Network, Overlay, Ping,
};

/// Programs of the host that the tests' root has, where the host has them.
const PROGRAMS: &[&str] = &[
    "sh", "bash", "cat", "chmod", "chown", "cp", "dd", "echo", "env", "find", "getfattr", "grep",
    "hostname", "id", "kill", "ln", "ls", "mkdir", "mkfifo", "mknod", "mount", "mv", "perl",
    "ping", "ps", "pwd", "readlink", "rm", "rmdir", "sed", "seq", "setcap", "getcap", "setfacl",
    "getfacl", "setfattr", "setpriv", "setsid", "sleep", "stat", "su", "tail", "touch", "true",
    "false", "umount", "unshare", "yes", "head", "wc", "chroot", "sort",
];
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The bake program under test.
pub(crate) fn helper() -> PathBuf {
    std::env::var_os("BAKE_TEST_HELPER")
        .map_or_else(|| env!("CARGO_BIN_EXE_bake").into(), PathBuf::from)
}

/// Where tests keep their directories: on the disk of the build, which is no overlay and no tmpfs
/// wherever builds usually happen.
pub(crate) fn base() -> PathBuf {
    std::env::var_os("BAKE_TEST_BASE")
        .map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from)
}

pub(crate) fn host() -> Option<Host> {
    match bake::sandbox::probe(Some(&helper())) {
        Ok(host) => Some(host),
        Err(error) => {
            crate::tier::skip(&format!("the sandbox cannot run here: {error}"));
            None
        }
    }
}

pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) host: Host,
    pub(crate) session: Session,
    jobs: Cell<usize>,
}

/// What a job did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) ended: Ended,
    pub(crate) out: Vec<String>,
    pub(crate) err: Vec<String>,
    pub(crate) upper: PathBuf,
}

impl Ran {
    /// The only line of standard output of a job that went well.
    #[track_caller]
    pub(crate) fn line(&self) -> &str {
        assert!(self.done(), "{self:#?}");
        assert_eq!(self.out.len(), 1, "{self:#?}");
        &self.out[0]
    }

    pub(crate) fn done(&self) -> bool {
        matches!(self.ended, Ended::Done(_))
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.done(), "{self:#?}");
        self
    }
}

impl Lab {
    pub(crate) fn new() -> Option<Self> {
        Self::emulating(&Emulation::Native)
    }

    /// With a session that runs programs of another processor.
    pub(crate) fn emulating(emulation: &Emulation) -> Option<Self> {
        let host = host()?;
        fs::create_dir_all(base()).unwrap();
        let dir = tempfile::Builder::new().prefix("sandbox-").tempdir_in(base()).unwrap();
        let (layers, scratch) = (dir.path().join("layers"), dir.path().join("scratch"));
        fs::create_dir(&layers).unwrap();
        fs::create_dir(&scratch).unwrap();
        let session = match Session::open_with(&host, &layers, &scratch, emulation) {
            Ok(session) => session,
            Err(error @ bake::sandbox::Error::Host { .. }) => {
                crate::tier::skip(&format!("the sandbox cannot run here: {error}"));
                return None;
            }
            Err(error) => panic!("{error:?}"),
        };
        Some(Self { dir, host, session, jobs: Cell::new(0) })
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.dir.path().join("layers")
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.dir.path().join("scratch")
    }

    /// The layer with the host's programs.
    pub(crate) fn tools(&self) -> PathBuf {
        let layer = self.layers().join("tools");
        if !layer.exists() {
            tools(&layer);
        }
        layer
    }

    /// A fresh layer.
    pub(crate) fn layer(&self, name: &str) -> PathBuf {
        let layer = self.layers().join(name);
        fs::create_dir(&layer).unwrap();
        layer
    }

    /// A fresh overlay over `lower`.
    pub(crate) fn overlay(&self, lower: Vec<PathBuf>) -> Overlay {
        let n = self.jobs.get();
        self.jobs.set(n + 1);
        let dir = self.scratch().join(n.to_string());
        let (upper, work) = (dir.join("u"), dir.join("w"));
        fs::create_dir(&dir).unwrap();
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).unwrap();
        Overlay { lower, upper, work }
    }

    pub(crate) fn job(&self, actions: Vec<Action>) -> Job {
        let root = Some(self.overlay(vec![self.tools()]));
        Job {
            root,
            mounts: vec![],
            files: vec![],
            secrets: bake::sandbox::ShownSecrets::default(),
            hostname: "inside".into(),
            network: Network::None,
            allowance: bake::sandbox::Allowance::default(),
            actions,
        }
    }

    #[track_caller]
    pub(crate) fn run(&self, job: Job) -> Ran {
        self.run_with(job, &Cancel::new().unwrap(), &mut |_| {})
    }

    #[track_caller]
    pub(crate) fn run_with(
        &self,
        job: Job,
        cancel: &Cancel,
        also: &mut dyn FnMut(&JobEvent<'_>),
    ) -> Ran {
        let upper = job.root.as_ref().map(|root| root.upper.clone()).unwrap_or_default();
        let (mut out, mut err) = (vec![], vec![]);
        let ended = self.session.run(job, cancel, &mut |event| {
            also(&event);
            if let JobEvent::Line { stderr, text } = event {
                let text = String::from_utf8_lossy(text).into_owned();
                if stderr { err.push(text) } else { out.push(text) }
            }
        });
        Ran { ended: ended.unwrap_or_else(|error| panic!("{error:?}")), out, err, upper }
    }

    /// Runs a shell script as root in the tools' root.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> Ran {
        self.run(self.job(vec![sh(script)]))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Subordinate users' files can be removed from inside only.
        for n in 0..self.jobs.get() {
            if let Err(error) = self.session.remove_tree(&self.scratch().join(n.to_string())) {
                eprintln!("left behind: {error:?}");
            }
        }
    }
}

pub(crate) fn exec(argv: &[&str]) -> Exec {
    Exec {
        argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
        env: BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]),
        cwd: "/".into(),
        user: "root".into(),
        timeout: Some(Duration::from_secs(300)),
    }
}

/// A call that is there in every program.
pub(crate) fn ping(ping: Ping) -> Action {
    Action::Call(BuiltIn::Ping(ping).into())
}

/// One that fails.
pub(crate) fn failing() -> Ping {
    Ping { fail: Some(CallError::refused("asked to fail")), ..Ping::default() }
}

pub(crate) fn sh(script: &str) -> Action {
    Action::Exec(exec(&["sh", "-c", script]))
}

/// Every path below `dir`, sorted, without `dir`.
pub(crate) fn listing(dir: &Path) -> Vec<String> {
    let mut found: Vec<String> = walkdir::WalkDir::new(dir)
        .min_depth(1)
        .into_iter()
        .map(|e| e.unwrap().path().strip_prefix(dir).unwrap().display().to_string())
        .collect();
    found.sort();
    found
}

/// Ids of the processes of this host, other than this one, with `token` in their command line.
pub(crate) fn alive(token: &str) -> Vec<u32> {
    let mut found = vec![];
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        // Unreadable: gone in the meantime.
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if pid != std::process::id() && String::from_utf8_lossy(&line).contains(token) {
            found.push(pid);
        }
    }
    found
}

/// Fills a directory with the host's programs and the libraries they need.
fn tools(layer: &Path) {
    for dir in [
        "usr/bin",
        "usr/lib",
        "usr/lib64",
        "usr/sbin",
        "etc",
        "var",
        "root",
        "proc",
        "dev",
        "sys",
        "run",
        "tmp",
    ] {
        fs::create_dir_all(layer.join(dir)).unwrap();
    }
    for (link, target) in
        [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("sbin", "usr/sbin")]
    {
        std::os::unix::fs::symlink(target, layer.join(link)).unwrap();
    }
    fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/app:/bin/sh\nlone:x:1001:1001::/:/bin/sh\n")
        .unwrap();
    fs::write(
        layer.join("etc/group"),
        "root:x:0:\napp:x:1000:\ntty:x:5:\nextra:x:44:app\nmore:x:45:other,app\n",
    )
    .unwrap();
    let mut files = vec![];
    for program in PROGRAMS {
        let found = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
            .iter()
            .map(|dir| Path::new(dir).join(program))
            .find(|path| path.exists());
        let Some(path) = found else { continue };
        let output = Command::new("ldd").arg(&path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        files.extend(
            text.split_whitespace()
                .filter(|word| word.starts_with('/'))
                .map(|word| (PathBuf::from(word), PathBuf::from(word))),
        );
        files.push((path.clone(), Path::new("/usr/bin").join(program)));
    }
    files.sort();
    files.dedup();
    for (from, to) in files {
        let to = layer.join(to.strip_prefix("/").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        if !to.exists() {
            let mode = fs::metadata(&from).unwrap().mode();
            fs::copy(&from, &to).unwrap();
            fs::set_permissions(&to, fs::Permissions::from_mode(mode & 0o755)).unwrap();
        }
    }
}
