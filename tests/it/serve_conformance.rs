//! `bake serve` against the list of OCI distribution-spec 1.1, one test a workflow category:
//! "Pull", "Content Discovery" with "Listing Referrers", and what no client may do. The numbers are
//! those of the specification's tables of end points and error codes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bake::digest::Digest;
use bake::image::Manifest;

use crate::cmd_serve::{Reply, Server, publish};
use crate::lab::Lab;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A served store with `app:1`, `app:RC`, `app:a` and `team/sub/app:1`.
struct Registry {
    server: Server,
    manifest: Manifest,
    digest: String,
    _lab: Lab,
}

impl Registry {
    fn new() -> Self {
        let lab = Lab::new();
        let manifest = publish(&lab, "app:1");
        for other in ["app:RC", "app:a", "team/sub/app:1"] {
            publish(&lab, other);
        }
        let server = Server::start(&lab);
        let digest = Digest::of(server.get("/v2/app/manifests/1").body).to_string();
        Self { server, manifest, digest, _lab: lab }
    }

    /// GET and HEAD of one place, which must say the same, the body aside.
    fn pair(&self, target: &str) -> Reply {
        let (get, head) = (self.server.get(target), self.server.ask("HEAD", target, ""));
        assert_eq!((get.status, &head.body[..]), (head.status, &b""[..]), "{target}");
        for name in ["Content-Length", "Content-Type", "Docker-Content-Digest", "ETag", "Link"] {
            assert_eq!(get.header(name), head.header(name), "{target}: {name}");
        }
        let length = get.header("Content-Length").and_then(|length| length.parse().ok());
        assert_eq!(length, Some(get.body.len()), "{target}");
        get
    }

    /// An error: its status and its code, in the form of the section "Error Codes".
    fn error(&self, target: &str, status: u16, code: &str) {
        let reply = self.pair(target);
        assert_eq!(
            (reply.status, reply.header("Content-Type")),
            (status, Some("application/json"))
        );
        let body = reply.json();
        let errors = body["errors"].as_array().expect("a list");
        assert_eq!((errors.len(), errors[0]["code"].as_str()), (1, Some(code)), "{target}");
        assert!(errors[0]["message"].is_string(), "{target}");
    }

    fn tags(&self, query: &str) -> (Vec<String>, Option<String>) {
        let reply = self.pair(&format!("/v2/app/tags/list{query}"));
        let body = reply.json();
        assert_eq!((reply.status, &body["name"]), (200, &"app".into()));
        let tags = body["tags"].as_array().expect("a list").iter();
        let tags = tags.map(|tag| tag.as_str().expect("text").to_owned()).collect();
        (tags, reply.header("Link").map(str::to_owned))
    }
}

#[test]
fn pull() {
    let registry = Registry::new();
    let (manifest, digest) = (&registry.manifest, &registry.digest);
    // end-1: what says that this is a registry.
    assert_eq!(registry.pair("/v2/").status, 200);
    // end-3: by tag and by digest, the manifest as it is, under its own type.
    for reference in ["1", digest] {
        let reply = registry.pair(&format!("/v2/app/manifests/{reference}"));
        assert_eq!((reply.status, reply.header("Content-Type")), (200, Some(MANIFEST)));
        assert_eq!(reply.header("Docker-Content-Digest"), Some(digest.as_str()));
        assert_eq!(&Digest::of(&reply.body).to_string(), digest);
    }
    let accept = format!("Accept: {INDEX}\r\nAccept: {MANIFEST}\r\n");
    assert_eq!(registry.server.ask("GET", "/v2/app/manifests/1", &accept).status, 200);
    // end-2: config and layers.
    for blob in [&manifest.config, &manifest.layers[0]] {
        let reply = registry.pair(&format!("/v2/app/blobs/{}", blob.digest));
        assert_eq!((reply.status, reply.body.len() as u64), (200, blob.size));
        assert_eq!(reply.header("Docker-Content-Digest"), Some(&*blob.digest.to_string()));
        assert_eq!(Digest::of(&reply.body), blob.digest);
    }
    assert_eq!(registry.pair("/v2/team/sub/app/manifests/1").status, 200);
    // The parts of a target may be written otherwise (RFC 3986, 2.1; RFC 9112, 3.2.2).
    let coded = digest.replace(':', "%3A");
    assert_eq!(registry.pair(&format!("/v2/app/manifests/{coded}")).status, 200);
    let absolute = format!("http://{}/v2/app/manifests/1", registry.server.address);
    assert_eq!(registry.pair(&absolute).status, 200);

    // What is not there is 404, with codes 1, 6, 7 and 10 of the table.
    let nothing = Digest::of("nothing");
    let long = format!("sha512:{}", "0f".repeat(64));
    registry.error("/v2/app/manifests/nothing", 404, "MANIFEST_UNKNOWN");
    registry.error(&format!("/v2/app/manifests/{nothing}"), 404, "MANIFEST_UNKNOWN");
    registry.error(&format!("/v2/app/manifests/{long}"), 404, "MANIFEST_UNKNOWN");
    registry.error("/v2/app/manifests/.not-a-tag", 404, "MANIFEST_UNKNOWN");
    registry.error(&format!("/v2/app/blobs/{nothing}"), 404, "BLOB_UNKNOWN");
    registry.error(&format!("/v2/app/blobs/{long}"), 404, "BLOB_UNKNOWN");
    registry.error("/v2/nothing/manifests/1", 404, "NAME_UNKNOWN");
    registry.error(&format!("/v2/nothing/blobs/{nothing}"), 404, "NAME_UNKNOWN");
    for name in ["APP", "a..b", "-a", "a/", "/a", "a//b", "a/../app", "%2e%2e", "a%00", "é"] {
        let place = |kind: &str| format!("/v2/{name}/{kind}").replace('é', "%C3%A9");
        registry.error(&place("manifests/1"), 404, "NAME_INVALID");
        registry.error(&place("tags/list"), 404, "NAME_INVALID");
    }
    // Code 4: what is no digest.
    for wrong in ["sha256:", "sha256:zz", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha512:00", "x"]
    {
        registry.error(&format!("/v2/app/blobs/{wrong}"), 400, "DIGEST_INVALID");
    }
    let loud = digest.to_uppercase().replace("SHA256", "sha256");
    registry.error(&format!("/v2/app/manifests/{loud}"), 400, "DIGEST_INVALID");
    // A manifest is no blob, and a blob no manifest.
    registry.error(&format!("/v2/app/blobs/{digest}"), 404, "BLOB_UNKNOWN");
    let config = manifest.config.digest;
    registry.error(&format!("/v2/app/manifests/{config}"), 404, "MANIFEST_UNKNOWN");
}

#[test]
fn parts_of_blobs() {
    let registry = Registry::new();
    let layer = &registry.manifest.layers[0];
    let target = format!("/v2/app/blobs/{}", layer.digest);
    let whole = registry.pair(&target);
    assert_eq!(whole.header("Accept-Ranges"), Some("bytes"));
    let (size, tag) = (whole.body.len(), whole.header("ETag").expect("its name").to_owned());
    let ask = |more: &str| registry.server.ask("GET", &target, more);
    for (range, from, end) in [
        ("0-0", 0, 1),
        ("5-", 5, size),
        ("-7", size - 7, size),
        ("0-999999", 0, size),
        ("-999999", 0, size),
    ] {
        let part = ask(&format!("Range: bytes={range}\r\n"));
        assert_eq!((part.status, &part.body[..]), (206, &whole.body[from..end]), "{range}");
        let named = format!("bytes {from}-{}/{size}", end - 1);
        assert_eq!(part.header("Content-Range"), Some(named.as_str()));
        assert_eq!(part.header("Content-Length"), Some((end - from).to_string().as_str()));
    }
    for range in [format!("{size}-"), "-0".to_owned()] {
        let none = ask(&format!("Range: bytes={range}\r\n"));
        assert_eq!((none.status, none.body.len()), (416, 0), "{range}");
        assert_eq!(none.header("Content-Range"), Some(format!("bytes */{size}").as_str()));
    }
    // RFC 9110: what is no range of bytes, is one of other content, or comes with HEAD, is ignored.
    for more in ["Range: bytes=5-2\r\n", "Range: lines=1-2\r\n", "Range: bytes=0-1,3-4\r\n"] {
        assert_eq!((ask(more).status, ask(more).body.len()), (200, size), "{more}");
    }
    let resumed = |of: &str| ask(&format!("Range: bytes=5-\r\nIf-Range: {of}\r\n")).status;
    assert_eq!((resumed(&tag), resumed("\"other\"")), (206, 200));
    let head = registry.server.ask("HEAD", &target, "Range: bytes=0-1\r\n");
    assert_eq!((head.status, head.header("Content-Length")), (200, Some(&*size.to_string())));
    for tag in [tag.as_str(), "*", &format!("\"x\", W/{tag}")] {
        let same = ask(&format!("If-None-Match: {tag}\r\n"));
        assert_eq!((same.status, same.body.len()), (304, 0), "{tag}");
        assert_eq!(same.header("Content-Length"), None);
    }
    assert_eq!(ask("If-None-Match: \"other\"\r\n").status, 200);
}

#[test]
fn content_discovery() {
    let registry = Registry::new();
    // end-8a: all, in lexical order whatever the case.
    let owned = |tags: &[&str]| tags.iter().map(|&tag| tag.to_owned()).collect::<Vec<_>>();
    assert_eq!(registry.tags(""), (owned(&["1", "a", "RC"]), None));
    // end-8b: pages, each with the place of the next, until there is no more.
    let mut seen = vec![];
    let mut query = "?n=1".to_owned();
    loop {
        let (tags, link) = registry.tags(&query);
        seen.extend(tags);
        let Some(link) = link else { break };
        let target = link.strip_prefix("</v2/app/tags/list").expect("the same place");
        let (next, relation) = target.split_once('>').expect("a link");
        assert_eq!(relation, "; rel=\"next\"", "RFC 5988");
        query = next.to_owned();
        assert!(seen.len() < 4, "it ends");
    }
    assert_eq!(seen, ["1", "a", "RC"]);
    assert_eq!(registry.tags("?n=0"), (vec![], None));
    assert_eq!(registry.tags("?n=3"), (seen.clone(), None));
    assert_eq!(registry.tags("?n=99&last=1"), (owned(&["a", "RC"]), None));
    assert_eq!(registry.tags("?last=nothing").0, owned(&["RC"]));
    assert_eq!(registry.tags("?last=zz"), (vec![], None));
    assert_eq!(registry.tags("?n=nonsense").0, seen);
    registry.error("/v2/nothing/tags/list", 404, "NAME_UNKNOWN");
    let all = registry.pair("/v2/_catalog").json();
    assert_eq!(all["repositories"], serde_json::json!(["app", "team/sub/app"]));

    // end-12a: an index of those that speak of a digest.
    let referrers = |target: &str| {
        let reply = registry.pair(&format!("/v2/app/referrers/{target}"));
        assert_eq!((reply.status, reply.header("Content-Type")), (200, Some(INDEX)), "{target}");
        let index = reply.json();
        assert_eq!(index["schemaVersion"], 2);
        assert_eq!(index["mediaType"], INDEX);
        let filtered = reply.header("OCI-Filters-Applied").map(str::to_owned);
        (index["manifests"].as_array().expect("a list").clone(), filtered)
    };
    let (all, filtered) = referrers(&registry.digest);
    assert_eq!((all.len(), filtered), (1, None));
    let place = format!("/v2/app/manifests/{}", all[0]["digest"].as_str().expect("a digest"));
    let referrer = registry.pair(&place);
    assert_eq!(
        (referrer.header("Content-Type"), all[0]["mediaType"].as_str()),
        (Some(MANIFEST), Some(MANIFEST))
    );
    assert_eq!(all[0]["size"], referrer.body.len());
    assert_eq!(referrer.json()["subject"]["digest"], registry.digest.as_str());
    assert_eq!(referrer.json()["annotations"], all[0]["annotations"]);
    let kind = all[0]["artifactType"].as_str().expect("its type");
    // end-12b: by type, as clients write it: coded or not.
    for kind in [kind.to_owned(), kind.replace('+', "%2B").replace('/', "%2F")] {
        let found = referrers(&format!("{}?artifactType={kind}", registry.digest));
        assert_eq!((found.0.len(), found.1.as_deref()), (1, Some("artifactType")), "{kind}");
    }
    let none = referrers(&format!("{}?artifactType=a%2Fb", registry.digest));
    assert_eq!((none.0.len(), none.1.as_deref()), (0, Some("artifactType")));
    // Nobody speaks of it, or it is not there: an empty index, and no error.
    for nobody in [Digest::of("nothing").to_string(), format!("sha512:{}", "0f".repeat(64))] {
        assert_eq!(referrers(&nobody), (vec![], None), "{nobody}");
    }
    registry.error("/v2/app/referrers/nonsense", 400, "DIGEST_INVALID");
    registry.error("/v2/app/referrers/1", 400, "DIGEST_INVALID");
    let nothing = Digest::of("nothing");
    registry.error(&format!("/v2/nothing/referrers/{nothing}"), 404, "NAME_UNKNOWN");
}

#[test]
fn nothing_is_written_and_nothing_else_is_read() {
    let lab = Lab::new();
    publish(&lab, "app:1");
    let before = lab.images_hash();
    let server = Server::start(&lab);
    let digest = Digest::of("x");
    // end-4a to end-11: refused as what is not supported (code 12).
    for (method, target) in [
        ("POST", "/v2/app/blobs/uploads/".to_owned()),
        ("POST", format!("/v2/app/blobs/uploads/?digest={digest}")),
        ("POST", format!("/v2/app/blobs/uploads/?mount={digest}&from=app")),
        ("PATCH", "/v2/app/blobs/uploads/1".to_owned()),
        ("PUT", format!("/v2/app/blobs/uploads/1?digest={digest}")),
        ("PUT", "/v2/app/manifests/2".to_owned()),
        ("DELETE", "/v2/app/manifests/1".to_owned()),
        ("DELETE", format!("/v2/app/blobs/{digest}")),
        ("OPTIONS", "/v2/".to_owned()),
        ("TRACE", "/v2/".to_owned()),
        ("get", "/v2/".to_owned()),
    ] {
        let reply = server.ask(method, &target, "");
        assert_eq!((reply.status, reply.header("Allow")), (405, Some("GET, HEAD")), "{method}");
        assert_eq!(reply.json()["errors"][0]["code"], "UNSUPPORTED");
    }
    for target in [
        "/v2/../../etc/passwd",
        "/v2/app/blobs/../../index.json",
        "/v2/app/blobs/..%2f..%2findex.json",
        "/v2/%2e%2e/%2e%2e/etc/passwd",
        "/v2/app/manifests/..%2F..%2Findex.json",
        "/v2/app/tags/list/../../../index.json",
        "//v2/app/tags/list",
        "/v2//app/tags/list",
        "/V2/app/tags/list",
        "/v2/app/tags/list/",
        "/v2app/tags/list",
        "/blobs/sha256",
        "/v2/app/blobs/sha256:%00",
    ] {
        let status = server.get(target).status;
        assert!(status == 404 || status == 400, "{target}: {status}");
    }
    assert_eq!(lab.images_hash(), before);
}

/// Reads one answer with a `Content-Length` from a connection that stays.
fn answer(stream: &mut TcpStream) -> (u16, Vec<u8>) {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let text = String::from_utf8(head).expect("text");
    let status = text[9..12].parse().expect("a status");
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
    stream.read_exact(&mut body).expect("a body");
    (status, body)
}

#[test]
fn hostile_requests_end_alone() {
    let registry = Registry::new();
    let server = &registry.server;
    // Heads that two readers could read in two ways are refused, and the connection is closed.
    for (head, status) in [
        ("GET /v2/ HTTP/1.1\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nHost: a\0\r\n\r\n", 400),
        ("GET  /v2/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        ("GET /v2/\r\n\r\n", 400),
        ("GET /v2/ HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("GET *  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
        ("GET /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 413),
        ("GET /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 413),
    ] {
        assert_eq!(server.raw(head.as_bytes()).status, status, "{head:?}");
    }
    // Who tries TLS first is answered at once, not when it gives up.
    let start = Instant::now();
    assert_eq!(server.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").status, 400);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    for long in [
        format!("GET /v2/{} HTTP/1.1\r\n", "a/".repeat(20_000)),
        format!("GET /v2/ HTTP/1.1\r\n{}", "X: y\r\n".repeat(5_000)),
    ] {
        assert_eq!(server.raw(long.as_bytes()).status, 431);
    }
    // A hundred requests at once on one connection are answered in their order.
    let mut stream = server.connect();
    let all: String = (0..100)
        .map(|n| format!("GET /v2/app/tags/list?n={} HTTP/1.1\r\nHost: x\r\n\r\n", n % 4))
        .collect();
    stream.write_all(all.as_bytes()).expect("it reads");
    for n in 0..100_usize {
        let (status, body) = answer(&mut stream);
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!((status, body["tags"].as_array().map(Vec::len)), (200, Some(n % 4)));
    }
}

#[test]
fn a_crowd_of_silent_clients_makes_room() {
    let registry = Registry::new();
    let server = &registry.server;
    // More than are served at once: some say nothing, some half a request, some took an answer and
    // stay, some take none of it.
    let blob = format!("/v2/app/blobs/{}", registry.manifest.layers[0].digest);
    let crowd: Vec<TcpStream> = (0..300)
        .map(|n| {
            let mut stream = server.connect();
            let head = match n % 3 {
                0 => String::new(),
                1 => "GET /v2/app/manifests/1 HTTP/1.1\r\nHost".to_owned(),
                _ => format!("GET {blob} HTTP/1.1\r\nHost: x\r\n\r\n"),
            };
            stream.write_all(head.as_bytes()).expect("it reads");
            stream
        })
        .collect();
    // Who comes behind them is served long before the first would be let go without a crowd.
    let start = Instant::now();
    assert_eq!(server.get("/v2/app/manifests/1").status, 200);
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
    drop(crowd);
}
