//! What is read from a registry: bytes that are what their digest says, or an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bake::digest::Digest;
use bake::image::{
    Descriptor, Kind, MEDIA_DOCKER_MANIFEST, MEDIA_INDEX, MEDIA_LAYER, MEDIA_MANIFEST,
};
use bake::registry::{Error, Failure, Options, Repository};

use crate::registry_lab::{Fake, Manners, Reply, Seen, bytes, manifest, quick};

fn pull(repository: &Repository, blob: &Descriptor) -> Result<Vec<u8>, Error> {
    let (mut out, mut passed) = (vec![], 0);
    repository.blob(blob, &mut out, &mut |n| passed += n)?;
    assert_eq!(passed, blob.size);
    Ok(out)
}

#[test]
fn a_tag_is_resolved_and_its_manifest_and_blobs_are_read() {
    let fake = Fake::start();
    let layer = fake.blob("app", &bytes(300_000));
    let text = manifest(&fake, "app", std::slice::from_ref(&layer));
    let digest = fake.manifest("app", "1", MEDIA_MANIFEST, &text);
    let repository = fake.repository("app");
    let found = repository.resolve("1").unwrap();
    assert_eq!((found.digest, found.size), (digest, text.len() as u64));
    let document = repository.manifest(&digest.to_string()).unwrap();
    assert_eq!((document.kind, &document.bytes), (Kind::Manifest, &text));
    assert_eq!(repository.manifest("1").unwrap().descriptor, found);
    assert_eq!(Digest::of(pull(&repository, &layer).unwrap()), layer.digest);
    assert!(repository.has_blob(&layer).unwrap());
    let missing = Descriptor::new(MEDIA_LAYER, Digest::of("no"), 2);
    assert!(!repository.has_blob(&missing).unwrap());
    assert!(matches!(pull(&repository, &missing), Err(Error::NotFound { .. })));
    assert!(matches!(repository.resolve("2"), Err(Error::NotFound { .. })));
}

#[test]
fn a_registry_without_heads_is_read_all_the_same() {
    let fake = Fake::start();
    let text = manifest(&fake, "app", &[]);
    let digest = fake.manifest("app", "1", MEDIA_MANIFEST, &text);
    fake.manners().before = Some(Box::new(|seen| (seen.method == "HEAD").then(|| Reply::new(405))));
    assert_eq!(fake.repository("app").resolve("1").unwrap().digest, digest);
    fake.manners().before = None;
    fake.manners().after = Some(Box::new(|_, mut reply| {
        reply.headers.retain(|(name, _)| *name != "docker-content-digest");
        reply
    }));
    assert_eq!(fake.repository("app").resolve("1").unwrap().digest, digest);
}

/// A manifest that lies about digest, media type or what it is.
#[test]
fn manifests_that_lie_are_refused() {
    let fake = Fake::start();
    let text = manifest(&fake, "app", &[]);
    let digest = fake.manifest("app", "1", MEDIA_MANIFEST, &text);
    let text = String::from_utf8(text).unwrap();
    let both = text.replacen('{', "{\"manifests\":[],", 1);
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{MEDIA_INDEX}"}}"#);
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(5 << 20));
    type Change = Box<dyn Fn(Reply) -> Reply + Send>;
    let cases: Vec<(&str, Change)> = vec![
        ("its bytes are", Box::new(|reply| reply.body("{}"))),
        (
            "it is called sha256:",
            Box::new(|reply| reply.with("docker-content-digest", Digest::of("other"))),
        ),
        ("calls itself", Box::new(|reply| reply.with("content-type", MEDIA_DOCKER_MANIFEST))),
        ("calls itself", Box::new(|reply| reply.with("content-type", MEDIA_INDEX))),
        ("layers and manifests", {
            let digest = Digest::of(&both);
            Box::new(move |reply| reply.body(both.as_str()).with("docker-content-digest", digest))
        }),
        ("has not what belongs to that", {
            let digest = Digest::of(&index);
            Box::new(move |reply| {
                reply
                    .body(index.as_str())
                    .with("content-type", MEDIA_INDEX)
                    .with("docker-content-digest", digest)
            })
        }),
        ("is larger than", Box::new(move |reply| reply.body(large.as_str()))),
        ("is larger than", Box::new(|reply| reply.with("content-length", 5 << 20))),
        (
            "no JSON object",
            Box::new(|reply| reply.body("[]").with("docker-content-digest", Digest::of("[]"))),
        ),
        (
            "neither a manifest nor an index",
            Box::new(|reply| {
                let text = r#"{"schemaVersion":2,"mediaType":"text/html"}"#;
                reply
                    .body(text)
                    .with("content-type", "text/html")
                    .with("docker-content-digest", Digest::of(text))
            }),
        ),
        (
            "schema 1",
            Box::new(|reply| {
                let text = r#"{"schemaVersion":1,"fsLayers":[]}"#;
                reply
                    .body(text)
                    .with(
                        "content-type",
                        "application/vnd.docker.distribution.manifest.v1+prettyjws",
                    )
                    .with("docker-content-digest", Digest::of(text))
            }),
        ),
    ];
    for (why, change) in cases {
        fake.manners().after =
            Some(Box::new(
                move |seen: &Seen, reply| {
                    if seen.target.contains("manifests") { change(reply) } else { reply }
                },
            ));
        let repository = fake.repository("app");
        let error = repository.manifest("1").expect_err(why);
        assert!(error.to_string().contains(why), "{why}: {error}");
        repository.manifest(&digest.to_string()).expect_err(why);
    }
    fake.manners().after = None;
    fake.repository("app").manifest(&digest.to_string()).unwrap();
}

#[test]
fn dockers_manifests_are_read_as_what_they_are() {
    let fake = Fake::start();
    let text = String::from_utf8(manifest(&fake, "app", &[])).unwrap();
    let text = text.replace(MEDIA_MANIFEST, MEDIA_DOCKER_MANIFEST);
    fake.manifest("app", "1", MEDIA_DOCKER_MANIFEST, text.as_bytes());
    let found = fake.repository("app").manifest("1").unwrap();
    assert_eq!(found.descriptor.media_type, MEDIA_DOCKER_MANIFEST);
    // What says nothing in the head says it itself.
    fake.manifest("app", "2", "application/json", text.as_bytes());
    let found = fake.repository("app").manifest("2").unwrap();
    assert_eq!(found.descriptor.media_type, MEDIA_DOCKER_MANIFEST);
}

#[test]
fn blobs_that_lie_are_refused() {
    let fake = Fake::start();
    let good = bytes(1000);
    let blob = fake.blob("app", &good);
    for body in [&b"other"[..], &bytes(1001), &[0; 1000]] {
        let body = body.to_vec();
        fake.manners().after = Some(Box::new(move |_, reply| reply.body(body.as_slice())));
        let error = pull(&fake.repository("app"), &blob).expect_err("a lie");
        assert!(matches!(error, Error::Lie { .. }), "{error}");
    }
    // Without a length it is read no further than it may be.
    fake.manners().after =
        Some(Box::new(|_, reply| reply.body(vec![1; 2000]).with("content-length", 1000)));
    pull(&fake.repository("app"), &blob).expect_err("a lie");
    fake.manners().after = None;
    assert_eq!(pull(&fake.repository("app"), &blob).unwrap(), good);
}

#[test]
fn a_blob_that_is_cut_every_64_kib_arrives() {
    let good = bytes(1_000_000);
    let fake = Fake::with(Manners { cut_out: Some(64 << 10), ..Manners::default() });
    let blob = fake.blob("app", &good);
    assert_eq!(pull(&fake.repository("app"), &blob).unwrap(), good);
    assert!(fake.count("GET", "blobs") > 14, "{}", fake.count("GET", "blobs"));
}

#[test]
fn a_blob_without_ranges_arrives_from_the_beginning() {
    let good = bytes(100_000);
    let fake = Fake::start();
    let blob = fake.blob("app", &good);
    let whole = good.clone();
    let mut cuts = 2;
    fake.manners().after = Some(Box::new(move |seen, reply| {
        if !seen.target.contains("blobs") {
            return reply;
        }
        let reply = Reply::new(200).body(whole.as_slice());
        cuts -= 1;
        // The second of two times it is whole.
        if cuts > 0 {
            Reply { drip: Some((60_000, Duration::from_millis(700))), ..reply }
        } else {
            reply
        }
    }));
    assert_eq!(pull(&fake.repository("app"), &blob).unwrap(), good);
}

#[test]
fn a_registry_that_cuts_all_is_given_up() {
    let fake = Fake::with(Manners { cut_out: Some(0), ..Manners::default() });
    let blob = fake.blob("app", b"x");
    let options = Options { plain: vec![fake.address.to_string()], ..quick() };
    let repository = Repository::new(&fake.name("app"), &options);
    let error = pull(&repository, &blob).expect_err("nothing comes");
    assert!(matches!(&error, Error::Request { source: Failure::Broken(_), .. }), "{error:?}");
    assert_eq!(fake.count("GET", "blobs"), 4);
}

#[test]
fn one_byte_a_second_is_a_timeout() {
    let fake = Fake::start();
    let blob = fake.blob("app", &bytes(1000));
    fake.manners().after =
        Some(Box::new(|_, reply| Reply { drip: Some((1, Duration::from_millis(50))), ..reply }));
    let mut options = quick();
    options.limits.tries = 1;
    let error = pull(&Repository::new(&fake.name("app"), &options), &blob).expect_err("too slow");
    assert!(matches!(error, Error::Request { source: Failure::Timeout(_), .. }), "{error:?}");
}

#[test]
fn a_busy_registry_is_waited_for_as_long_as_it_asks() {
    let fake = Fake::start();
    let text = manifest(&fake, "app", &[]);
    fake.manifest("app", "1", MEDIA_MANIFEST, &text);
    let mut left = vec![429, 503, 500];
    fake.manners().before = Some(Box::new(move |seen| {
        let asked = seen.target.contains("manifests");
        let status = asked.then(|| left.pop()).flatten()?;
        let after = match status {
            429 => "1",
            503 => "Thu, 01 Jan 1970 00:00:00 GMT",
            _ => "0",
        };
        Some(Reply::new(status).with("retry-after", after))
    }));
    let before = Instant::now();
    fake.repository("app").manifest("1").unwrap();
    assert!(before.elapsed() >= Duration::from_secs(1));
    // It may ask for too much, and for ever.
    fake.manners().before = Some(Box::new(|seen| {
        let reply = Reply::new(429).with("retry-after", "100000");
        seen.target.contains("manifests").then_some(reply)
    }));
    let error = fake.repository("app").manifest("1").expect_err("too long");
    assert!(matches!(error, Error::Later { .. }), "{error}");
    fake.forget_seen();
    fake.manners().before = Some(Box::new(|seen| {
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow\ndown"}]}"#;
        seen.target.contains("manifests").then(|| Reply::new(503).body(body))
    }));
    let error = fake.repository("app").manifest("1").expect_err("for ever");
    assert!(error.to_string().contains("answers 503: slow down (TOOMANYREQUESTS)"), "{error}");
    assert_eq!(fake.count("GET", "manifests"), 4);
}

#[test]
fn everything_ends_when_the_person_wants_it() {
    let fake = Fake::start();
    let blob = fake.blob("app", &bytes(1000));
    fake.manners().after =
        Some(Box::new(|_, reply| Reply { drip: Some((100, Duration::from_secs(10))), ..reply }));
    let ended = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&ended);
    let stop = Arc::new(move || asked.load(Ordering::SeqCst));
    // As patient as can be: only the end of it all ends it.
    let options = Options { stop, ..Options::default() };
    let repository = Repository::new(&fake.name("app"), &options);
    let before = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while fake.count("GET", "blobs") == 0 {
                std::thread::yield_now();
            }
            ended.store(true, Ordering::SeqCst);
        });
        let error = pull(&repository, &blob).expect_err("ended");
        assert!(matches!(error, Error::Cancelled), "{error:?}");
    });
    assert!(before.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_redirect_is_followed_without_credentials() {
    let (registry, elsewhere) = (Fake::start(), Fake::start());
    let good = bytes(5000);
    let blob = elsewhere.blob("app", &good);
    let to = format!("http://{}/v2/app/blobs/{}", elsewhere.address, blob.digest);
    registry.manners().before = Some(Box::new(move |seen| {
        if seen.header("authorization") != Some("Basic bWU6aHVudGVyMg==") {
            let ask = Reply::new(401).with("www-authenticate", "Basic realm=\"x\"");
            return (seen.target != "/v2/").then_some(ask);
        }
        seen.target.contains("blobs").then(|| Reply::new(307).with("location", &to))
    }));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.json");
    let auths = serde_json::json!({ "auths": {
        registry.address.to_string(): { "username": "me", "password": "hunter2" },
        elsewhere.address.to_string(): { "username": "me", "password": "hunter2" } } });
    std::fs::write(&path, auths.to_string()).unwrap();
    let options = Options { credentials: vec![path], ..quick() };
    let repository = Repository::new(&registry.name("app"), &options);
    assert_eq!(pull(&repository, &blob).unwrap(), good);
    let seen = elsewhere.seen();
    assert_eq!(seen.len(), 1);
    assert!(seen.iter().all(|one| one.header("authorization").is_none()), "{seen:?}");
    assert!(registry.seen().iter().any(|one| one.header("authorization").is_some()));
}

/// Storage whose addresses are signed for GET alone.
#[test]
fn a_blob_is_there_where_only_its_head_is_refused_elsewhere() {
    let (registry, elsewhere) = (Fake::start(), Fake::start());
    let good = bytes(5000);
    let blob = elsewhere.blob("app", &good);
    let to = format!("http://{}/v2/app/blobs/{}", elsewhere.address, blob.digest);
    registry.manners().before = Some(Box::new(move |seen| {
        seen.target.contains("blobs").then(|| Reply::new(307).with("location", &to))
    }));
    elsewhere.manners().before =
        Some(Box::new(|seen| (seen.method == "HEAD").then(|| Reply::new(403))));
    let repository = registry.repository("app");
    assert!(repository.has_blob(&blob).unwrap());
    assert_eq!(pull(&repository, &blob).unwrap(), good);
}

#[test]
fn redirects_end() {
    let fake = Fake::start();
    let blob = fake.blob("app", b"x");
    let at = fake.address;
    let mut n = 0;
    fake.manners().before = Some(Box::new(move |seen| {
        n += 1;
        let to = format!("http://{at}/v2/app/blobs/again{n}");
        seen.target.contains("blobs").then(|| Reply::new(302).with("location", to))
    }));
    let error = pull(&fake.repository("app"), &blob).expect_err("for ever");
    assert!(matches!(error, Error::Request { source: Failure::Redirect(_), .. }), "{error}");
    for to in ["file:///etc/passwd", "ftp://x/y"] {
        fake.manners().before = Some(Box::new(move |seen| {
            seen.target.contains("blobs").then(|| Reply::new(302).with("location", to))
        }));
        let error = pull(&fake.repository("app"), &blob).expect_err(to);
        assert!(matches!(error, Error::Request { source: Failure::Redirect(_), .. }), "{error}");
    }
}

#[test]
fn requests_start_only_when_something_is_asked() {
    let fake = Fake::start();
    let counted = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&counted);
    let stop = Arc::new(move || {
        seen.fetch_add(1, Ordering::SeqCst);
        false
    });
    drop(Repository::new(&fake.name("app"), &Options { stop, ..Options::default() }));
    assert_eq!((fake.seen().len(), counted.load(Ordering::SeqCst)), (0, 0));
}
