//! The lock file: written once, obeyed, renewed when asked, never changed under `--locked`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::lab::{Lab, run};
use crate::tier;

/// A server on loopback that answers every request with the same changeable bytes, until it is
/// dropped.
struct Server {
    address: SocketAddr,
    body: Arc<Mutex<String>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (body, over) =
            (Arc::new(Mutex::new(body.to_owned())), Arc::new(AtomicBool::new(false)));
        let (printed, stop) = (Arc::clone(&body), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let text = printed.lock().expect("no panic while held").clone();
                // A client that went away has its own opinion of it.
                let _ = answer(stream, &text);
            }
        });
        Self { address, body, over, thread: Some(thread) }
    }

    fn says(&self, body: &str) {
        body.clone_into(&mut self.body.lock().expect("no panic while held"));
    }
}

fn answer(mut stream: TcpStream, body: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn a_download_is_remembered_and_obeyed() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    let server = Server::start("first");
    let recipe = |version: &str| {
        let url = format!("http://{}/tool", server.address);
        let text = format!(
            "[image]\nname = \"tool\"\nversion = \"{version}\"\n[base]\nscratch = true\n[[step]]\ndownload = \"{url}\"\nto = \"/tool\"\n"
        );
        lab.write("tool.toml", &text);
    };
    recipe("1");
    let refused = lab.bake(["build", "--locked", "tool.toml"]);
    assert_eq!(
        (refused.code, refused.out.as_str()),
        (2, ""),
        "nothing is pinned yet: {}",
        refused.err
    );
    assert!(refused.err.contains("does not pin the download"), "{}", refused.err);
    assert!(!refused.err.contains("baking"), "before anything runs: {}", refused.err);
    assert!(!lab.path("tool.lock").exists());

    let locked = lab.bake(["lock", "tool.toml"]);
    assert_eq!(locked.code, 0, "{}", locked.err);
    assert!(lab.bake(["list"]).out.is_empty(), "lock publishes nothing");
    let text = fs::read_to_string(lab.path("tool.lock")).expect("the lock file");
    assert!(text.contains(&bake::digest::Digest::of("first").hex()), "{text}");

    // The world changes; the build does not.
    server.says("second");
    let built = lab.bake(["build", "--locked", "tool.toml"]);
    assert_eq!(built.code, 0, "from the cache: {}", built.err);
    assert_eq!(fs::read_to_string(lab.path("tool.lock")).expect("the lock file"), text);

    // Without the cache the new bytes are not what the lock pins.
    recipe("2");
    let mut elsewhere = lab.command(["build", "tool.toml"]);
    let elsewhere = run(elsewhere.env("BAKE_STORE", lab.path("second")));
    assert_eq!((elsewhere.code, elsewhere.out.as_str()), (1, ""), "{}", elsewhere.err);
    assert!(
        elsewhere.err.contains("step 1 of 1 failed") && elsewhere.err.contains("tool.toml:7"),
        "{}",
        elsewhere.err
    );

    let renewed = lab.bake(["build", "--update", "tool.toml"]);
    assert_eq!(renewed.code, 0, "{}", renewed.err);
    let text = fs::read_to_string(lab.path("tool.lock")).expect("the lock file");
    assert!(text.contains(&bake::digest::Digest::of("second").hex()), "{text}");
}

#[test]
fn a_locked_build_names_all_that_is_missing_or_too_much() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    let server = Server::start("tool");
    let recipe = |names: &[&str]| {
        let step = |name: &&str| {
            format!("[[step]]\ndownload = \"http://{}/{name}\"\nto = \"/{name}\"\n", server.address)
        };
        let steps: String = names.iter().map(step).collect();
        lab.write(
            "tool.toml",
            &format!("[image]\nname = \"tool\"\nversion = \"1\"\n[base]\nscratch = true\n{steps}"),
        );
    };
    let locked = || lab.bake(["build", "--locked", "tool.toml"]);
    recipe(&["one"]);
    assert_eq!(lab.bake(["lock", "tool.toml"]).code, 0);
    recipe(&["one", "two", "three"]);
    let missing = locked();
    assert_eq!((missing.code, missing.out.as_str()), (2, ""), "{}", missing.err);
    for part in ["/two, the download", "/three, and --locked", "bake lock tool.toml"] {
        assert!(missing.err.contains(part), "{part}: {}", missing.err);
    }
    assert!(!missing.err.contains("/one") && !missing.err.contains("baking"), "{}", missing.err);

    // What a step no longer asks for is reported as well, and `bake lock` takes it out.
    assert_eq!(lab.bake(["lock", "tool.toml"]).code, 0);
    recipe(&["two"]);
    let extra = locked();
    assert_eq!((extra.code, extra.out.as_str()), (2, ""), "{}", extra.err);
    assert!(
        extra.err.contains("pins the download") && extra.err.contains("does not ask for"),
        "{}",
        extra.err
    );
    assert!(
        extra.err.contains("/one") && extra.err.contains("/three") && !extra.err.contains("baking"),
        "{}",
        extra.err
    );
    assert_eq!(lab.bake(["lock", "tool.toml"]).code, 0);
    let text = fs::read_to_string(lab.path("tool.lock")).expect("the lock file");
    assert!(text.contains("/two") && !text.contains("/one"), "{text}");

    // A remark in the file changes nothing, and stays.
    let remark = format!("# reviewed\n{text}");
    lab.write("tool.lock", &remark);
    let built = locked();
    assert_eq!(built.code, 0, "{}", built.err);
    assert_eq!(fs::read_to_string(lab.path("tool.lock")).expect("the lock file"), remark);
}

#[test]
fn a_checksum_in_the_recipe_is_not_the_locks_business() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    let server = Server::start("tool");
    let sum = bake::digest::Digest::of("tool").hex();
    let step = format!(
        "[[step]]\ndownload = \"http://{}/tool\"\nsha256 = \"{sum}\"\nto = \"/tool\"\n",
        server.address
    );
    lab.write(
        "tool.toml",
        &format!("[image]\nname = \"tool\"\nversion = \"1\"\n[base]\nscratch = true\n{step}"),
    );
    let built = lab.bake(["build", "--locked", "tool.toml"]);
    assert_eq!(built.code, 0, "nothing is left to pin: {}", built.err);
    assert!(!lab.path("tool.lock").exists());
}

#[test]
fn a_lock_file_that_is_none_says_so() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.write("empty.toml", "[image]\nname = \"empty\"\nversion = \"1\"\n[base]\nscratch = true\n");
    for (text, why) in [("not toml", "not a lock file"), ("version = 99\n", "version 99")] {
        lab.write("empty.lock", text);
        let failed = lab.bake(["build", "empty.toml"]);
        assert_eq!((failed.code, failed.out.as_str()), (2, ""), "{}", failed.err);
        assert!(failed.err.contains("empty.lock") && failed.err.contains(why), "{}", failed.err);
        assert_eq!(
            fs::read_to_string(lab.path("empty.lock")).expect("the lock file"),
            text,
            "it is the person's file"
        );
    }
}
