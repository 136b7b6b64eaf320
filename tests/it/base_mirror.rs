//! A mirror that is down, slow, tampered with, out of date: each is the right error, and nothing
//! false is left in the cache. The mirror is a loopback server with a tiny archive of our own,
//! signed by a key of our own.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bake::archive::apt::{self, Ask};
use bake::archive::release::Distrust;
use bake::archive::{Error, fetch};
use bake::archive::{Options, Source};
use bake::base::{self, Pinned};
use bake::digest::Digest;
use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedPublicKey,
    SignedSecretKey,
};
use pgp::types::Password;

use crate::base_lab::{pin, source};

/// 2026-01-02, when the archive below is fresh.
const NOW: i64 = 1_767_312_000;

/// What the server does with a request.
pub(crate) enum Reply {
    Bytes(Vec<u8>),
    /// Announces more than it sends.
    Short(Vec<u8>),
    Status(u16),
    /// Says nothing, for ever.
    Stall,
    Redirect(String),
}

/// A server for one test; it and its threads end when it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    over: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let over = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(Mutex::new(vec![]));
        let (answer, ending, log) = (Arc::new(answer), Arc::clone(&over), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ending.load(Ordering::Relaxed) {
                    return;
                }
                let (answer, ending, log) =
                    (Arc::clone(&answer), Arc::clone(&ending), Arc::clone(&log));
                std::thread::spawn(move || serve(stream, &*answer, &ending, &log));
            }
        });
        Self { url, over, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes the listener, which then ends.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

fn serve(
    stream: TcpStream,
    answer: &dyn Fn(&str) -> Reply,
    over: &AtomicBool,
    log: &Mutex<Vec<String>>,
) {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        while reader.read_line(&mut line).unwrap_or(0) > 2 {}
        log.lock().unwrap().push(path.clone());
        let sent = match answer(&path) {
            Reply::Bytes(bytes) => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len());
                writer.write_all(&[head.as_bytes(), &bytes].concat())
            }
            Reply::Short(bytes) => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len());
                let _ = writer.write_all(&[head.as_bytes(), &bytes[..bytes.len() / 2]].concat());
                return;
            }
            Reply::Status(status) => writer
                .write_all(format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n").as_bytes()),
            Reply::Redirect(to) => writer.write_all(
                format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")
                    .as_bytes(),
            ),
            Reply::Stall => {
                // Until the client gives up or the test ends.
                while !over.load(Ordering::Relaxed) && !matches!(reader.read(&mut [0]), Ok(0)) {}
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

pub(crate) struct Signer(SignedSecretKey);

impl Signer {
    fn new() -> Self {
        let mut params = SecretKeyParamsBuilder::default();
        params
            .key_type(KeyType::Ed25519Legacy)
            .can_sign(true)
            .can_certify(true)
            .primary_user_id("Test <test@example.org>".to_owned());
        Self(params.build().unwrap().generate(rand::thread_rng()).unwrap())
    }

    pub(crate) fn public(&self) -> Vec<u8> {
        SignedPublicKey::from(self.0.clone()).to_armored_bytes(ArmorOptions::default()).unwrap()
    }

    pub(crate) fn sign(&self, text: &str) -> Vec<u8> {
        let message = CleartextSignedMessage::sign(
            rand::thread_rng(),
            text,
            &self.0.primary_key,
            &Password::empty(),
        )
        .unwrap();
        message.to_armored_bytes(ArmorOptions::default()).unwrap()
    }
}

pub(crate) static OURS: LazyLock<Signer> = LazyLock::new(Signer::new);
static OTHERS: LazyLock<Signer> = LazyLock::new(Signer::new);

/// A package of version 1.0.
pub(crate) fn deb(name: &str, fields: &str) -> Vec<u8> {
    deb_of(name, "1.0", fields)
}

/// A package that holds `/x`.
pub(crate) fn deb_of(name: &str, version: &str, fields: &str) -> Vec<u8> {
    deb_with(name, version, fields, "")
}

/// The same with a script that configures it, if that is not empty.
pub(crate) fn deb_with(name: &str, version: &str, fields: &str, postinst: &str) -> Vec<u8> {
    let tar = |files: &[(&str, &str)]| {
        let mut builder = tar::Builder::new(vec![]);
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o755);
            header.set_cksum();
            builder.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    };
    let text =
        format!("Package: {name}\nVersion: {version}\nArchitecture: all\n{fields}Description: x\n");
    let mut control = vec![("./control", text.as_str())];
    if !postinst.is_empty() {
        control.push(("./postinst", postinst));
    }
    let mut out = b"!<arch>\n".to_vec();
    let parts = [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar", tar(&control)),
        ("data.tar", tar(&[("./x", "x")])),
    ];
    for (member, bytes) in parts {
        out.extend(
            format!("{member:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, bytes.len())
                .into_bytes(),
        );
        out.extend(&bytes);
        if bytes.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    liblzma::read::XzEncoder::new(bytes, 1).read_to_end(&mut out).unwrap();
    out
}

/// The files of the archive by path. `header`: of Release files, for a code name.
fn archive(signer: &Signer, header: &dyn Fn(&str) -> String) -> HashMap<String, Vec<u8>> {
    let mut files = HashMap::new();
    let mut index = String::new();
    for (name, fields) in [("base", "Essential: yes\n"), ("apt", "")] {
        let bytes = deb(name, fields);
        let path = format!("pool/{name}_1.0_all.deb");
        let (size, hex) = (bytes.len(), Digest::of(&bytes).hex());
        index += &format!(
            "Package: {name}\nVersion: 1.0\nArchitecture: all\n{fields}Filename: {path}\nSize: {size}\nSHA256: {hex}\n\n"
        );
        files.insert(format!("/debian/{path}"), bytes);
    }
    for (root, suite, text) in [
        ("/debian", "trixie", index.as_str()),
        ("/debian", "trixie-updates", ""),
        ("/debian-security", "trixie-security", ""),
    ] {
        let packed = xz(text.as_bytes());
        let path = "main/binary-amd64/Packages";
        let row = |name: &str, bytes: &[u8]| {
            format!(" {} {} {name}\n", Digest::of(bytes).hex(), bytes.len())
        };
        let table = row(path, text.as_bytes()) + &row(&format!("{path}.xz"), &packed);
        let release = format!("{}SHA256:\n{table}", header(suite));
        files.insert(format!("{root}/dists/{suite}/InRelease"), signer.sign(&release));
        files.insert(format!("{root}/dists/{suite}/{path}.xz"), packed);
    }
    files
}

fn header(suite: &str) -> String {
    format!(
        "Origin: Test\nCodename: {suite}\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nValid-Until: Thu, 08 Jan 2026 00:00:00 UTC\n"
    )
}

fn options(mirror: &str) -> Options {
    let limits = fetch::Limits {
        stall: Duration::from_millis(300),
        pause: Duration::from_millis(1),
        tries: 2,
        ..fetch::Limits::default()
    };
    Options {
        mirror: Some(format!("{mirror}/debian")),
        keys: Some(OURS.public()),
        now: NOW,
        limits,
        ..Options::default()
    }
}

/// Serves the good archive, but for what `change` makes of it.
fn tampered(change: impl Fn(&str, Vec<u8>) -> Reply + Send + Sync + 'static) -> Server {
    let files = archive(&OURS, &header);
    Server::start(move |path| match files.get(path) {
        Some(bytes) => change(path, bytes.clone()),
        None => Reply::Status(404),
    })
}

fn fetch_all(pinned: &Pinned, source: &Source) -> Result<(), Error> {
    let Pinned::Debian(pin) = pinned else { panic!("not Debian") };
    let ask = Ask {
        suite: "trixie",
        arch: "amd64",
        components: &[],
        mirror: None,
        repositories: &[],
        requests: &[],
        files: &[],
        recommends: false,
        without_initrd: false,
        epoch: 0,
        foreign: &[],
        view: None,
        limit: std::time::Duration::from_secs(600),
    };
    apt::fetch(&pin.packages, &ask, source)
}

/// Every file in the cache has the content that its name says, and nothing is half written.
#[track_caller]
fn honest(cache: &Path) {
    for directory in ["sha256", "index/sha256"] {
        let Ok(entries) = std::fs::read_dir(cache.join(directory)) else { continue };
        for entry in entries.flatten() {
            let bytes = std::fs::read(entry.path()).unwrap();
            assert_eq!(entry.file_name().to_str(), Some(Digest::of(&bytes).hex().as_str()));
        }
    }
    let partial: Vec<_> =
        std::fs::read_dir(cache.join("partial")).unwrap().flatten().map(|e| e.path()).collect();
    assert!(partial.is_empty(), "{partial:?}");
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

/// Pins and fetches through a server that changes what `matching` says; returns the error's text.
#[track_caller]
fn broken(
    matching: &'static str,
    change: impl Fn(Vec<u8>) -> Reply + Send + Sync + 'static,
) -> String {
    let server =
        tampered(
            move |path, bytes| {
                if path.contains(matching) { change(bytes) } else { Reply::Bytes(bytes) }
            },
        );
    let cache = tempfile::tempdir().unwrap();
    let source = source(cache.path(), options(&server.url));
    let error =
        pin("trixie", &source).and_then(|pinned| Ok(fetch_all(&pinned, &source)?)).unwrap_err();
    assert!(error.is_network(), "{error:?}");
    honest(cache.path());
    causes(&error).replace(&server.url, "MIRROR")
}

fn flip(mut bytes: Vec<u8>) -> Reply {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Reply::Bytes(bytes)
}

#[test]
fn a_good_mirror_serves_the_set_once() {
    let server = tampered(|_, bytes| Reply::Bytes(bytes));
    let cache = tempfile::tempdir().unwrap();
    let good = source(cache.path(), options(&server.url));
    let pinned = pin("trixie", &good).unwrap();
    let Pinned::Debian(set) = &pinned else { panic!("not Debian") };
    assert_eq!(set.packages.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["apt", "base"]);
    assert_eq!(pinned.date(), Some(1_767_225_600));
    fetch_all(&pinned, &good).unwrap();
    honest(cache.path());
    let asked = server.asked().len();
    fetch_all(&pinned, &good).unwrap();
    assert_eq!(server.asked().len(), asked, "what is cached is not fetched");

    // A cached file that has gone bad is fetched again.
    let deb = &set.packages[0];
    std::fs::write(cache.path().join("sha256").join(deb.sha256.hex()), b"rubbish").unwrap();
    fetch_all(&pinned, &good).unwrap();
    honest(cache.path());

    // Cached, it needs no mirror; new indexes are needed only to choose anew.
    drop(server);
    fetch_all(&pinned, &good).unwrap();
}

#[test]
fn a_changed_release_file_is_not_believed() {
    for suite in ["dists/trixie/", "dists/trixie-updates/", "dists/trixie-security/"] {
        let printed = broken(suite, |bytes| {
            Reply::Bytes(
                String::from_utf8(bytes)
                    .unwrap()
                    .replace("Origin: Test", "Origin: Evil")
                    .into_bytes(),
            )
        });
        assert!(
            printed.starts_with("cannot trust MIRROR/debian")
                && printed.contains("no valid signature by a trusted key (signed by "),
            "{printed}"
        );
    }
    assert!(
        broken("InRelease", |_| Reply::Bytes(b"<html>please log in</html>".to_vec()))
            .contains("not a signed Release file")
    );
}

#[test]
fn another_key_does_not_count() {
    let server = Server::start(|path| {
        archive(&OTHERS, &header).remove(path).map_or(Reply::Status(404), Reply::Bytes)
    });
    let cache = tempfile::tempdir().unwrap();
    let error = pin("trixie", &source(cache.path(), options(&server.url))).unwrap_err();
    assert!(
        matches!(
            error,
            base::Error::Archive(Error::Untrusted { source: Distrust::Signature(_), .. })
        ),
        "{error:?}"
    );
}

#[test]
fn names_and_dates_are_checked() {
    type Header = fn(&str) -> String;
    let wrong_name: Header = |suite| header(suite).replace("trixie", "bookworm");
    let expired: Header = |suite| header(suite).replace("08 Jan 2026", "01 Jan 2026");
    let future: Header = |suite| header(suite).replace("Date: Thu, 01 Jan", "Date: Thu, 07 Jan");
    let undated: Header = |suite| {
        header(suite).lines().filter(|l| !l.starts_with("Date")).map(|l| format!("{l}\n")).collect()
    };
    for (make, printed, hint) in [
        (wrong_name, "it is for \"bookworm", "try another"),
        (expired, "its Valid-Until has passed: Thu, 01 Jan 2026 00:00:00 UTC", "out of date"),
        (future, "it is from the future", "clock"),
        (undated, "field Date is missing", "try another"),
    ] {
        let files = archive(&OURS, &make);
        let server = Server::start(move |path| {
            files.get(path).cloned().map_or(Reply::Status(404), Reply::Bytes)
        });
        let cache = tempfile::tempdir().unwrap();
        let error = pin("trixie", &source(cache.path(), options(&server.url))).unwrap_err();
        assert!(causes(&error).contains(printed), "{}", causes(&error));
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
    }
}

#[test]
fn a_changed_index_is_not_believed() {
    let printed = broken("dists/trixie/main/binary-amd64/Packages", flip);
    assert!(printed.contains("Packages.xz: wrong hash: expected sha256:"), "{printed}");
    let printed = broken("dists/trixie/main/binary-amd64/Packages", |mut bytes| {
        bytes.extend([0; 4]);
        Reply::Bytes(bytes)
    });
    assert!(printed.contains("larger than"), "{printed}");
    let printed = broken("dists/trixie/main/binary-amd64/Packages", |_| Reply::Status(404));
    assert!(printed.contains("the server answers 404 (not found)"), "{printed}");
}

#[test]
fn a_changed_package_is_not_kept() {
    let printed = broken("pool/apt", flip);
    assert!(
        printed.contains("/pool/apt_1.0_all.deb: wrong hash: expected sha256:")
            && printed.contains(", got sha256:"),
        "{printed}"
    );
    assert!(broken("pool/apt", Reply::Short).contains("truncated: "));
    assert!(
        broken("pool/apt", |bytes| Reply::Bytes(bytes[..100].to_vec()))
            .contains("truncated: 100 of ")
    );
    let printed = broken("pool/apt", |_| Reply::Status(404));
    assert!(
        printed.contains("package apt 1.0 is neither in the cache nor on the mirror any more"),
        "{printed}"
    );
    assert!(broken("pool/apt", |_| Reply::Status(503)).contains("the server answers 503"));
}

#[test]
fn a_mirror_that_is_down_or_slow_is_named() {
    let printed = broken("InRelease", |_| Reply::Stall);
    assert!(
        printed.contains("MIRROR/debian") && printed.contains("timeout: no answer for 300ms"),
        "{printed}"
    );
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let error =
        pin("trixie", &source(cache.path(), options(&format!("http://{closed}")))).unwrap_err();
    assert!(causes(&error).contains("InRelease: connection refused"), "{}", causes(&error));
    assert!(error.hint().unwrap().contains("--debian-mirror"));
    let error =
        pin("trixie", &source(cache.path(), options("http://me:secret@no-such-host.invalid")))
            .unwrap_err();
    assert!(!format!("{error:?}{}", causes(&error)).contains("secret"), "{error:?}");
    assert!(causes(&error).ends_with("InRelease: unknown host"), "{}", causes(&error));
}

#[test]
fn what_passes_is_tried_again() {
    let first = AtomicBool::new(true);
    let server = tampered(move |path, bytes| {
        if path.contains("pool/apt") && first.swap(false, Ordering::Relaxed) {
            Reply::Short(bytes)
        } else {
            Reply::Bytes(bytes)
        }
    });
    let cache = tempfile::tempdir().unwrap();
    let source = source(cache.path(), options(&server.url));
    fetch_all(&pin("trixie", &source).unwrap(), &source).unwrap();
    honest(cache.path());
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let ring = Server::start(|_| Reply::Redirect("/round".to_owned()));
    let cache = tempfile::tempdir().unwrap();
    let source = source(cache.path(), options(&ring.url));
    let error = source.download(&format!("{}/a", ring.url), None, 100).unwrap_err();
    assert!(causes(&error).contains("it redirects for ever"), "{}", causes(&error));
    // B12: what is no web address is not looked for, here or on the server.
    let file = Server::start(|_| Reply::Redirect("file:///etc/hostname".to_owned()));
    let error = source.download(&format!("{}/b", file.url), None, 1 << 20).unwrap_err();
    assert!(causes(&error).contains("not a web address"), "{}", causes(&error));
    assert_eq!(file.asked().len(), 1);
    let there = Server::start(|path| {
        if path == "/there" {
            Reply::Bytes(b"x".to_vec())
        } else {
            Reply::Redirect("/there".to_owned())
        }
    });
    let got = source.download(&format!("{}/a", there.url), None, 100).unwrap();
    assert_eq!((got.sha256, got.size), (Digest::of(b"x"), 1));
}

#[test]
fn downloads_are_bounded_and_remembered_by_content() {
    let server = Server::start(|_| Reply::Bytes(vec![7; 1000]));
    let cache = tempfile::tempdir().unwrap();
    let source = source(cache.path(), options(&server.url));
    let url = format!("{}/tool", server.url);
    let error = source.download(&url, None, 999).unwrap_err();
    assert!(causes(&error).contains("larger than 999 bytes"));
    let error = source.download(&url, Some(Digest::of(b"other")), 2000).unwrap_err();
    assert!(causes(&error).contains("wrong hash"));
    honest(cache.path());
    let got = source.download(&url, Some(Digest::of([7; 1000])), 2000).unwrap();
    let asked = server.asked().len();
    assert_eq!(source.download(&url, Some(got.sha256), 2000).unwrap().path, got.path);
    assert_eq!(server.asked().len(), asked);
}

#[test]
fn several_at_once_share_a_cache() {
    let server = tampered(|_, bytes| Reply::Bytes(bytes));
    let cache = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let source = source(cache.path(), options(&server.url));
                fetch_all(&pin("trixie", &source).unwrap(), &source).unwrap();
            });
        }
    });
    honest(cache.path());
}

#[test]
fn a_lock_that_was_tampered_with_is_refused() {
    let server = tampered(|_, bytes| Reply::Bytes(bytes));
    let cache = tempfile::tempdir().unwrap();
    let source = source(cache.path(), options(&server.url));
    let pinned = pin("trixie", &source).unwrap();
    type Change = fn(&mut bake::archive::Package);
    let (path, name, version): (Change, Change, Change) = (
        |p| p.path = "../../etc/passwd".to_owned(),
        |p| p.name = "$(reboot)".to_owned(),
        |p| p.version = "1;2".to_owned(),
    );
    for change in [path, name, version] {
        let Pinned::Debian(mut pin) = pinned.clone() else { panic!("not Debian") };
        change(&mut pin.packages[0]);
        let error = fetch_all(&Pinned::Debian(pin), &source).unwrap_err();
        assert!(matches!(error, Error::Lock { .. }), "{error:?}");
    }
    let Pinned::Debian(mut pin) = pinned else { panic!("not Debian") };
    pin.packages[0].sha256 = Digest::of(b"other");
    assert!(causes(&fetch_all(&Pinned::Debian(pin), &source).unwrap_err()).contains("wrong hash"));
    honest(cache.path());
}

#[test]
fn net_the_real_mirror_through_one_that_lies() {
    if !crate::base_lab::net() {
        return;
    }
    let real = crate::base_lab::real("trixie");
    let upstream = ureq::Agent::new_with_defaults();
    let server = Server::start(move |path| {
        let root = real.main.trim_end_matches("/debian").to_owned();
        let Ok(mut response) = upstream.get(format!("{root}{path}")).call() else {
            return Reply::Status(502);
        };
        let bytes = response.body_mut().with_config().limit(1 << 28).read_to_vec().unwrap();
        // One letter of a hash, in the signed part.
        let text = String::from_utf8(bytes).unwrap();
        Reply::Bytes(
            text.replacen("main/binary-amd64/Packages.xz", "main/binary-arm64/Packages.xz", 1)
                .into_bytes(),
        )
    });
    let cache = tempfile::tempdir().unwrap();
    let options = Options { mirror: Some(format!("{}/debian", server.url)), ..Options::default() };
    let error = pin("trixie", &source(cache.path(), options)).unwrap_err();
    assert!(
        matches!(
            error,
            base::Error::Archive(Error::Untrusted { source: Distrust::Signature(_), .. })
        ),
        "{error:?}"
    );
    honest(cache.path());
    // The same documents, a month later: the ones that expire have expired.
    let late = Options { now: Options::default().now + 40 * 86_400, ..Options::default() };
    let error = pin("trixie", &source(cache.path(), late)).unwrap_err();
    assert!(
        matches!(
            error,
            base::Error::Archive(Error::Untrusted { source: Distrust::Expired(_), .. })
        ),
        "{error:?}"
    );
}
