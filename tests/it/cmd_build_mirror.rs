//! `bake build` and `bake lock` with a Debian mirror that lies, breaks off, falls silent, is down,
//! or moves on. The mirror is a loopback server that passes on what the real one has, but for what
//! a test makes of it; a repository of our own stands beside it.

use std::collections::HashMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};

use bake::digest::Digest;

use crate::base_lab::{net, real};
use crate::base_mirror::{OURS, Reply, Server, deb_of};
use crate::crash_build::processes;
use crate::lab::{Lab, Run, run};
use crate::tier;

/// What the real mirror has sent in this run, by path.
static SEEN: LazyLock<Mutex<HashMap<String, Arc<Vec<u8>>>>> = LazyLock::new(Mutex::default);

/// Asks the real mirror, once for each path.
fn upstream(path: &str) -> Option<Vec<u8>> {
    if let Some(known) = SEEN.lock().expect("no panic while held").get(path) {
        return Some(known.to_vec());
    }
    let mirror = real("bookworm");
    let url = match path.strip_prefix("/debian-security/") {
        Some(rest) => format!("{}/{rest}", mirror.security),
        None => format!("{}/{}", mirror.main, path.strip_prefix("/debian/")?),
    };
    // The real one may be busy; what it does not have it says at once.
    let fetch = |_| match ureq::get(&url).call() {
        Ok(mut response) => {
            response.body_mut().with_config().limit(1 << 28).read_to_vec().ok().map(Some)
        }
        Err(ureq::Error::StatusCode(404)) => Some(None),
        Err(_) => None,
    };
    let bytes = (0..5).find_map(fetch)??;
    SEEN.lock().expect("no panic while held").insert(path.to_owned(), Arc::new(bytes.clone()));
    Some(bytes)
}

type Change = Box<dyn Fn(&str, Vec<u8>) -> Reply + Send>;

/// A mirror and what it does with what it passes on, which may be changed while it runs.
struct Mirror {
    server: Server,
    change: Arc<Mutex<Change>>,
}

impl Mirror {
    fn start() -> Self {
        let change: Arc<Mutex<Change>> =
            Arc::new(Mutex::new(Box::new(|_, bytes| Reply::Bytes(bytes))));
        let doing = Arc::clone(&change);
        let server = Server::start(move |path| match upstream(path) {
            Some(bytes) => doing.lock().expect("no panic while held")(path, bytes),
            None => Reply::Status(404),
        });
        Self { server, change }
    }

    fn does(&self, change: impl Fn(&str, Vec<u8>) -> Reply + Send + 'static) {
        *self.change.lock().expect("no panic while held") = Box::new(change);
    }

    /// Does something to what `part` names, and passes on the rest.
    fn does_to(&self, part: &'static str, change: impl Fn(Vec<u8>) -> Reply + Send + 'static) {
        self.does(
            move |path, bytes| {
                if path.contains(part) { change(bytes) } else { Reply::Bytes(bytes) }
            },
        );
    }

    /// Runs bake with this mirror.
    fn bake(&self, lab: &Lab, args: &[&str]) -> Run {
        run(&mut self.command(lab, args))
    }

    fn command(&self, lab: &Lab, args: &[&str]) -> Command {
        let mut command = lab.command(args);
        command.env("BAKE_DEBIAN_MIRROR", format!("{}/debian", self.server.url));
        command
    }
}

fn flip(mut bytes: Vec<u8>) -> Reply {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Reply::Bytes(bytes)
}

#[test]
fn root_net_a_mirror_that_lies_or_breaks_leaves_nothing() {
    if !tier::root() || !tier::sandbox() || !net() {
        return;
    }
    let lab = Lab::new();
    lab.write("empty.toml", "[image]\nname = \"empty\"\nversion = \"1\"\n[base]\nscratch = true\n");
    assert_eq!(lab.bake(["build", "empty.toml"]).code, 0);
    let (before, listed) = (lab.images_hash(), lab.bake(["list"]).out);
    lab.write(
        "web.toml",
        "[image]\nname = \"web\"\nversion = \"1\"\n[base]\ndebian = \"bookworm\"\n",
    );
    let mirror = Mirror::start();
    let fails = |why: &[&str]| {
        let _ = fs::remove_dir_all(lab.path("store/cache/packages"));
        // Little patience, where it is silence that is tested.
        let patience = if why.iter().any(|part| part.contains("timeout")) { "1s" } else { "30s" };
        let failed =
            run(mirror.command(&lab, &["build", "web.toml"]).env("BAKE_NETWORK_TIMEOUT", patience));
        assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{why:?}: {}", failed.err);
        for part in
            why.iter().chain(&["cannot make the base: debian bookworm", "web.toml:5", "hint: "])
        {
            assert!(failed.err.contains(part), "{part:?}: {}", failed.err);
        }
        assert_eq!(
            (lab.images_hash(), lab.bake(["list"]).out),
            (before, listed.clone()),
            "{why:?}"
        );
        assert!(
            lab.scratch().is_empty() && !lab.path("web.lock").exists(),
            "{why:?}: {:?}",
            lab.scratch()
        );
        assert_eq!(processes(&lab), Vec::<String>::new(), "{why:?}");
    };

    let replaced = |bytes: Vec<u8>| {
        Reply::Bytes(
            String::from_utf8_lossy(&bytes).replacen("Origin: Debian", "Origin: Others", 1).into(),
        )
    };
    mirror.does_to("dists/bookworm/InRelease", replaced);
    fails(&["cannot trust", "no valid signature", "--debian-mirror"]);
    mirror.does_to("dists/bookworm/InRelease", |_| {
        Reply::Bytes(b"<html>please log in</html>".to_vec())
    });
    fails(&["cannot trust", "not a signed Release file"]);
    mirror.does_to("dists/bookworm/InRelease", |_| Reply::Bytes(OURS.sign("Codename: bookworm\n")));
    fails(&["cannot trust", "no valid signature"]);
    mirror.does_to("dists/bookworm/main", flip);
    fails(&["wrong hash: expected sha256:"]);
    mirror.does_to("pool/main/b/base-files/", flip);
    fails(&["base-files_", "wrong hash: expected sha256:"]);
    mirror.does_to("pool/main/b/base-files/", Reply::Short);
    fails(&["base-files_", "truncated: "]);
    mirror.does_to("pool/main/b/base-files/", |_| Reply::Status(404));
    fails(&["package base-files ", "neither in the cache nor on the mirror", "bake lock --update"]);
    mirror.does_to("pool/", |_| Reply::Status(503));
    fails(&["the server answers 503"]);
    mirror.does_to("InRelease", |_| Reply::Stall);
    fails(&["timeout: no answer for 1s"]);
    mirror.does_to("pool/main/b/base-files/", |_| Reply::Stall);
    fails(&["base-files_", "timeout: no answer for 1s"]);
    mirror.does(|_, bytes| Reply::Bytes(bytes));
    lab.write(
        "web.toml",
        "[image]\nname = \"web\"\nversion = \"1\"\n[base]\ndebian = \"bokworm\"\n",
    );
    let unknown = mirror.bake(&lab, &["build", "web.toml"]);
    assert_eq!((unknown.code, unknown.out.as_str()), (1, ""), "{}", unknown.err);
    assert!(
        unknown.err.contains("no Debian suite \"bokworm\"")
            && unknown.err.contains("did you mean \"bookworm\"?"),
        "{}",
        unknown.err
    );

    // Nobody listens where somebody listened a moment ago.
    let closed =
        TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    lab.write(
        "web.toml",
        "[image]\nname = \"web\"\nversion = \"1\"\n[base]\ndebian = \"bookworm\"\n",
    );
    let down = run(lab
        .command(["build", "web.toml"])
        .env("BAKE_DEBIAN_MIRROR", format!("http://{closed}/debian")));
    assert_eq!((down.code, down.out.as_str()), (1, ""), "{}", down.err);
    assert!(
        down.err.contains("connection refused") && down.err.contains(&closed.to_string()),
        "{}",
        down.err
    );
    assert_eq!(lab.images_hash(), before);
}

/// A repository that has one package, `theirs`, in one version at a time.
struct Repository {
    server: Server,
    version: Arc<Mutex<&'static str>>,
}

impl Repository {
    fn start(version: &'static str) -> Self {
        let version = Arc::new(Mutex::new(version));
        let now = Arc::clone(&version);
        let server = Server::start(move |path| {
            let version = *now.lock().expect("no panic while held");
            let bytes = deb_of("theirs", version, "");
            let name = format!("theirs_{version}_all.deb");
            let (size, hex) = (bytes.len(), Digest::of(&bytes).hex());
            let row = format!(
                "Package: theirs\nVersion: {version}\nArchitecture: all\nFilename: ./{name}\nSize: {size}\nSHA256: {hex}\n\n"
            );
            match path.trim_start_matches('/') {
                "InRelease" => {
                    let date = "Date: Thu, 01 Jan 2026 00:00:00 UTC\nSuite: ours\n";
                    Reply::Bytes(OURS.sign(&format!(
                        "{date}SHA256:\n {} {} Packages\n",
                        Digest::of(&row).hex(),
                        row.len()
                    )))
                }
                "Packages" => Reply::Bytes(row.into_bytes()),
                asked if asked == name => Reply::Bytes(bytes),
                _ => Reply::Status(404),
            }
        });
        Self { server, version }
    }

    fn moves_on_to(&self, version: &'static str) {
        *self.version.lock().expect("no panic while held") = version;
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).expect("a text")
}

#[test]
fn root_net_a_lock_is_written_obeyed_and_renewed() {
    if !tier::root() || !tier::sandbox() || !net() {
        return;
    }
    let lab = Lab::new();
    let (mirror, theirs) = (Mirror::start(), Repository::start("1.0"));
    lab.write("ours.asc", &String::from_utf8(OURS.public()).expect("armored"));
    let url = &theirs.server.url;
    let steps = format!(
        "[[step]]\nrepository = \"ours\"\nurl = \"{url}\"\nsuite = \"./\"\nkey = \"ours.asc\"\n[[step]]\npackages = [\"theirs\"]\n\
         [[step]]\nrun = \"dpkg -s theirs | grep Version > /version\"\n"
    );
    lab.write(
        "web.toml",
        &format!(
            "[image]\nname = \"web\"\nversion = \"1\"\n[base]\ndebian = \"bookworm\"\n{steps}"
        ),
    );
    let lock = lab.path("web.lock");
    let good = |args: &[&str]| {
        let ended = mirror.bake(&lab, args);
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.err);
        ended
    };

    // Written, with the base and the step's package, and nothing published.
    let locked = good(&["lock", "web.toml"]);
    assert_eq!(locked.out.trim_end(), "web.lock");
    assert!(lab.bake(["list"]).out.is_empty());
    let first = text(&lock);
    assert!(
        first.contains("name = \"theirs\", version = \"1.0\"")
            && first.contains("name = \"base-files\""),
        "{first}"
    );
    assert_eq!(good(&["lock", "web.toml"]).err.lines().last(), Some("the lock file is up to date"));
    let built = good(&["build", "--locked", "web.toml"]);
    assert_eq!(text(&lock), first);

    // The mirror moves on; the lock is obeyed, with the package that only the cache still has.
    theirs.moves_on_to("1.1");
    let obeyed = good(&["build", "--locked", "--no-cache", "--set-version", "2", "web.toml"]);
    assert!(
        obeyed.err.contains("theirs (1.0)") && !obeyed.err.contains("theirs (1.1)"),
        "{}",
        obeyed.err
    );
    assert_eq!(text(&lock), first);

    // Where the cache does not have it either, it is named.
    let gone =
        run(mirror.command(&lab, &["build", "web.toml"]).env("BAKE_STORE", lab.path("second")));
    assert_eq!((gone.code, gone.out.as_str()), (1, ""), "{}", gone.err);
    for part in [
        "package theirs 1.0 is neither in the cache nor on the mirror",
        "bake lock --update",
        "step 2 of 3 failed",
    ] {
        assert!(gone.err.contains(part), "{part}: {}", gone.err);
    }
    assert_eq!(text(&lock), first);

    // Renewed when asked, and only then.
    good(&["lock", "--update", "web.toml"]);
    let second = text(&lock);
    assert!(
        second.contains("name = \"theirs\", version = \"1.1\"") && !second.contains("\"1.0\""),
        "{second}"
    );
    let renewed = good(&["build", "--locked", "--set-version", "3", "web.toml"]);
    assert_ne!(renewed.out.split(' ').nth(1), built.out.split(' ').nth(1));
    let root = lab.path("root");
    let exported = lab.bake([
        "export",
        "web:3",
        "--format",
        "dir",
        "--output",
        root.to_str().expect("a plain path"),
    ]);
    assert_eq!(exported.code, 0, "{}", exported.err);
    assert_eq!(text(&root.join("version")), "Version: 1.1\n");

    // With everything cached and locked, no mirror is needed: the first lock still gives the first
    // image.
    mirror.does(|_, _| Reply::Status(503));
    theirs.moves_on_to("9");
    fs::write(&lock, &first).expect("our own file");
    assert_eq!(lab.bake(["rm", "web:1"]).code, 0);
    let again = good(&["build", "--locked", "--no-cache", "web.toml"]);
    assert_eq!(again.out, built.out);
}
