//! `bake serve`: what a registry that is only read answers, and what it never does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use bake::digest::Digest;
use bake::image::Manifest;
use serde_json::Value;

use crate::cmd_import::Layout;
use crate::lab::{Lab, run};
use crate::tier;

/// A store that is served.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
}

/// What was answered.
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

impl Server {
    pub(crate) fn start(lab: &Lab) -> Self {
        Self::listening(lab, "127.0.0.1:0", &[])
    }

    pub(crate) fn listening(lab: &Lab, address: &str, more: &[&str]) -> Self {
        let mut command = lab.command([&["serve", "--listen", address], more].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("bake");
        let mut line = String::new();
        let out = child.stdout.as_mut().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("its address");
        let address = line.trim().strip_prefix("http://").expect("an address").to_owned();
        Self { child, address }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).expect("it listens")
    }

    /// Sends `head` as it is, and reads until the connection is closed.
    pub(crate) fn raw(&self, head: &[u8]) -> Reply {
        let mut stream = self.connect();
        stream.write_all(head).expect("it reads");
        let mut all = vec![];
        stream.read_to_end(&mut all).expect("an answer");
        let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(all[..end].to_vec()).expect("text");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        Reply { status, head, body: all[end + 4..].to_vec() }
    }

    pub(crate) fn ask(&self, method: &str, target: &str, more: &str) -> Reply {
        let head =
            format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{more}Connection: close\r\n\r\n");
        self.raw(head.as_bytes())
    }

    pub(crate) fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, "")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then this fails, and it is waited for all the same.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Publishes `image`, each with other content.
pub(crate) fn publish(lab: &Lab, image: &str) -> Manifest {
    let name = image.replace([':', '/'], "-");
    let layout = Layout { lab, name: &name };
    let mut manifest = layout.image();
    manifest.annotations.insert("of".to_owned(), image.to_owned());
    layout.index(vec![layout.manifest(&manifest)]);
    let done = lab.bake(["import", &name, image]);
    assert_eq!(done.code, 0, "{}", done.err);
    manifest
}

#[test]
fn versions_and_channels_are_pulled_and_nothing_else() {
    let lab = Lab::new();
    let web = publish(&lab, "team/web:1");
    publish(&lab, "team/web:2");
    let promoted = lab.bake(["promote", "team/web:1", "production"]);
    assert_eq!(promoted.code, 0, "{}", promoted.err);
    let server = Server::start(&lab);

    let root = server.get("/v2/");
    assert_eq!((root.status, &root.body[..]), (200, &b"{}"[..]));
    assert_eq!(root.header("Docker-Distribution-API-Version"), Some("registry/2.0"));
    // By version, by channel, by digest: the same bytes, which are their name.
    let by = |reference: &str| server.get(&format!("/v2/team/web/manifests/{reference}"));
    let one = by("1");
    let digest = Digest::of(&one.body).to_string();
    assert_eq!((one.status, one.header("Docker-Content-Digest")), (200, Some(digest.as_str())));
    assert_eq!(one.header("Content-Type"), Some("application/vnd.oci.image.manifest.v1+json"));
    assert_eq!(by("production").body, one.body);
    assert_eq!(by(&digest).body, one.body);
    let head = server.ask("HEAD", "/v2/team/web/manifests/1", "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("Content-Length"), Some(one.body.len().to_string().as_str()));
    let same = format!("If-None-Match: \"{digest}\"\r\n");
    assert_eq!(server.ask("GET", "/v2/team/web/manifests/1", &same).status, 304);

    // Blobs, whole and in part.
    let layer = &web.layers[0];
    let at = format!("/v2/team/web/blobs/{}", layer.digest);
    let whole = server.get(&at);
    assert_eq!((whole.status, Digest::of(&whole.body)), (200, layer.digest));
    let part = |range: &str| server.ask("GET", &at, &format!("Range: bytes={range}\r\n"));
    let middle = part("3-9");
    assert_eq!((middle.status, &middle.body[..]), (206, &whole.body[3..10]));
    let (size, last) = (whole.body.len(), whole.body.len() - 1);
    assert_eq!(middle.header("Content-Range"), Some(format!("bytes 3-9/{size}").as_str()));
    assert_eq!(part(&format!("{last}-")).body, &whole.body[last..]);
    assert_eq!(part(&format!("{size}-")).status, 416);
    assert_eq!(
        server.ask("HEAD", &at, "").header("Content-Length"),
        Some(size.to_string().as_str())
    );

    // What there is.
    assert_eq!(
        server.get("/v2/team/web/tags/list").json()["tags"],
        serde_json::json!(["1", "2", "production"])
    );
    let page = server.get("/v2/team/web/tags/list?n=2");
    assert_eq!(page.json()["tags"], serde_json::json!(["1", "2"]));
    let next = page.header("Link").expect("there is more");
    assert_eq!(next, "</v2/team/web/tags/list?n=2&last=2>; rel=\"next\"");
    assert_eq!(
        server.get("/v2/team/web/tags/list?n=2&last=2").json()["tags"],
        serde_json::json!(["production"])
    );
    assert_eq!(server.get("/v2/_catalog").json()["repositories"], serde_json::json!(["team/web"]));
    let referrers = server.get(&format!("/v2/team/web/referrers/{digest}")).json();
    let artifact = referrers["manifests"][0]["artifactType"].as_str().expect("its tests are kept");
    let filtered = |kind: &str| {
        let kind = kind.replace('/', "%2F").replace('+', "%2B");
        server.get(&format!("/v2/team/web/referrers/{digest}?artifactType={kind}"))
    };
    assert_eq!(filtered(artifact).json()["manifests"].as_array().map(Vec::len), Some(1));
    assert_eq!(filtered("x/y").json()["manifests"], serde_json::json!([]));
    assert_eq!(filtered("x/y").header("OCI-Filters-Applied"), Some("artifactType"));

    // A version that comes is seen, and one that goes is gone; so are channels.
    let other = publish(&lab, "other:1");
    assert_eq!(server.get("/v2/other/manifests/1").status, 200);
    // Of another name, though in the same store.
    let theirs = format!("/v2/other/blobs/{}", web.config.digest);
    let shared = other.config.digest == web.config.digest;
    assert_eq!(server.get(&theirs).status, if shared { 200 } else { 404 });
    let ended = lab.bake(["promote", "team/web@production", "--end"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(by("production").status, 404);
    assert_eq!(lab.bake(["rm", "team/web:2"]).code, 0);
    assert_eq!(by("2").status, 404);
    assert_eq!(by("1").status, 200);
}

#[test]
fn what_is_not_to_be_asked_is_refused() {
    let lab = Lab::new();
    publish(&lab, "web:1");
    let before = lab.images_hash();
    let server = Server::start(&lab);
    let code = |reply: &Reply| reply.json()["errors"][0]["code"].as_str().unwrap_or("").to_owned();
    for (target, status, expected) in [
        ("/", 404, "NOT_FOUND"),
        ("/index.json", 404, "NOT_FOUND"),
        ("/v2/../index.json", 404, "NOT_FOUND"),
        ("/v2/web", 404, "NOT_FOUND"),
        ("/v2/nothing/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/nothing/manifests/1", 404, "NAME_UNKNOWN"),
        ("/v2/web/manifests/9", 404, "MANIFEST_UNKNOWN"),
        ("/v2/web/manifests/sha256:zz", 400, "DIGEST_INVALID"),
        ("/v2/web/blobs/sha256:../../index.json", 404, "NOT_FOUND"),
        ("/v2/web/blobs/..", 400, "DIGEST_INVALID"),
        (&format!("/v2/web/blobs/{}", Digest::of("elsewhere")), 404, "BLOB_UNKNOWN"),
    ] {
        let reply = server.get(target);
        assert_eq!((reply.status, code(&reply)), (status, expected.to_owned()), "{target}");
    }
    for method in ["PUT", "POST", "PATCH", "DELETE", "OPTIONS"] {
        let reply = server.ask(method, "/v2/web/manifests/2", "");
        assert_eq!((reply.status, reply.header("Allow")), (405, Some("GET, HEAD")), "{method}");
    }
    assert_eq!(server.raw(b"\x16\x03\x01 tls?\r\n\r\n").status, 400);
    assert_eq!(server.ask("POST", "/v2/web/blobs/uploads/", "Content-Length: 3\r\n").status, 413);
    let endless = [b"GET /v2/ HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 20_000]].concat();
    assert_eq!(server.raw(&endless).status, 431);
    assert_eq!(lab.images_hash(), before);
}

#[test]
fn clients_that_say_nothing_or_go_away_keep_nobody_waiting() {
    let lab = Lab::new();
    publish(&lab, "web:1");
    let mut server = Server::start(&lab);
    let silent: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    for stream in &silent[..10] {
        let mut stream = stream;
        stream.write_all(b"GET /v2/web/manifests/1 HTTP/1.1\r\nHost: x\r\n").expect("it reads");
    }
    drop(silent.into_iter().skip(10).collect::<Vec<_>>());
    assert_eq!(server.get("/v2/web/manifests/1").status, 200);
    // Several requests on one connection, sent at once.
    let ask = "GET /v2/web/tags/list HTTP/1.1\r\nHost: x\r\n";
    let both = server.raw(format!("{ask}\r\n{ask}Connection: close\r\n\r\n").as_bytes());
    let text = String::from_utf8_lossy(&both.body).into_owned();
    assert_eq!(text.matches("{\"name\":\"web\",\"tags\":[\"1\"]}").count(), 2, "{text}");
    // It ends when it is asked to, and that is no failure.
    let id = rustix::process::Pid::from_child(&server.child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it runs");
    assert_eq!(server.child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn an_address_that_is_taken_is_an_error() {
    let lab = Lab::new();
    publish(&lab, "web:1");
    let server = Server::start(&lab);
    let second = lab.bake(["serve", "--listen", &server.address]);
    assert_eq!(second.code, 1, "{}", second.err);
    assert!(
        second.err.contains("cannot listen on") && second.err.contains("hint: another program"),
        "{}",
        second.err
    );
}

#[test]
fn tools_skopeo_pulls() {
    if !tier::tool("skopeo") {
        return;
    }
    let lab = Lab::new();
    publish(&lab, "team/web:1");
    let server = Server::start(&lab);
    let from = format!("docker://{}/team/web:1", server.address);
    let to = format!("oci:{}:web", lab.path("copy").display());
    let args =
        ["--insecure-policy", "copy", "--src-tls-verify=false", "--preserve-digests", &from, &to];
    let copied = run(Command::new("skopeo").args(args));
    assert_eq!(copied.code, 0, "{}", copied.err);
    // What came is the very image.
    let digest =
        server.get("/v2/team/web/manifests/1").header("Docker-Content-Digest").map(str::to_owned);
    let back = lab.bake(["import", "copy", "back:1"]);
    assert_eq!(back.out.trim().split(' ').nth(1), digest.as_deref(), "{}", back.err);
}

#[test]
fn updates_are_served_beside_the_registry() {
    let lab = Lab::new();
    publish(&lab, "team/web:1");
    lab.write("site/web_1.tar", "0123456789");
    lab.write("site/.bake-aside-x", "half");
    lab.write("site/deep/file", "deep");
    lab.write("secret", "not there");
    std::os::unix::fs::symlink("../secret", lab.path("site/link")).expect("a link");
    let server = Server::listening(&lab, "127.0.0.1:0", &["--updates", "site"]);
    let whole = server.get("/updates/web_1.tar");
    assert_eq!((whole.status, &whole.body[..]), (200, &b"0123456789"[..]));
    let tag = whole.header("ETag").expect("a tag").to_owned();
    let part = server.ask("GET", "/updates/web_1.tar", "Range: bytes=3-5\r\n");
    assert_eq!((part.status, &part.body[..]), (206, &b"345"[..]));
    let same = format!("Range: bytes=8-\r\nIf-Range: {tag}\r\n");
    assert_eq!(server.ask("GET", "/updates/web_1.tar", &same).body, b"89");
    assert_eq!(server.ask("HEAD", "/updates/web_1.tar", "").header("Content-Length"), Some("10"));
    for hidden in
        ["", ".bake-aside-x", "deep", "deep/file", "link", "..", "../secret", "%2e%2e/secret"]
    {
        assert_eq!(server.get(&format!("/updates/{hidden}")).status, 404, "{hidden}");
    }
    assert_eq!(server.get("/v2/").status, 200);
    drop(server);
    // Without the option there are none.
    assert_eq!(Server::start(&lab).get("/updates/web_1.tar").status, 404);
    let refused = lab.bake(["serve", "--listen", "127.0.0.1:0", "--updates", "nowhere"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("nowhere is not a directory"), "{}", refused.err);
}
