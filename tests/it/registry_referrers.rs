//! What speaks about an image: listed by the registry or by a tag, added to by several at once, and
//! brought along by a pull where it says that the image's tests passed.

use std::fs::{self, File};

use bake::attest::{self, MEDIA_IN_TOTO, Passed, TestRun};
use bake::digest::Digest;
use bake::event::silent;
use bake::image::{
    Descriptor, Index, MEDIA_CONFIG, MEDIA_EMPTY, MEDIA_INDEX, MEDIA_MANIFEST, Manifest,
};
use bake::registry::{Error, Pushed, Repository, Source};
use serde_json::{Value, json};

use crate::base_registry::upload;
use crate::cmd_import::Layout;
use crate::lab::{Lab, good};
use crate::registry_lab::{Fake, Manners, Reply, quick};

/// Files that are pushed: an image and statements about it.
struct Files {
    dir: tempfile::TempDir,
    image: Descriptor,
    referrers: Vec<Descriptor>,
}

impl Files {
    fn new(statements: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut this =
            Self { dir, image: Descriptor::new("", Digest::of(""), 0), referrers: vec![] };
        let (empty, config) = attest::empty_config();
        this.put(MEDIA_EMPTY, empty);
        let plain = this.put(MEDIA_CONFIG, b"{}");
        this.image = this.put(MEDIA_MANIFEST, &Manifest::new(plain, vec![]).to_json());
        for statement in statements {
            let layer = this.put(MEDIA_IN_TOTO, statement.as_bytes());
            let mut artifact = attest::artifact(MEDIA_IN_TOTO, vec![layer], &this.image);
            artifact.config = config.clone();
            let named = this.put(MEDIA_MANIFEST, &artifact.to_json());
            this.referrers.push(named);
        }
        this
    }

    fn put(&self, media: &str, bytes: &[u8]) -> Descriptor {
        let digest = Digest::of(bytes);
        fs::write(self.dir.path().join(digest.hex()), bytes).unwrap();
        Descriptor::new(media, digest, bytes.len() as u64)
    }

    fn tag(&self) -> String {
        format!("sha256-{}", self.image.digest.hex())
    }

    fn push(&self, to: &Repository) -> Result<Pushed, Error> {
        let open = |digest: &Digest| File::open(self.dir.path().join(digest.hex()));
        let source = Source {
            manifest: &self.image,
            referrers: &self.referrers,
            open: &open,
            from: &|_| None,
        };
        to.push(&source, "1", false, &silent())
    }
}

fn stranger(n: usize) -> Descriptor {
    Descriptor::new(MEDIA_MANIFEST, Digest::of(format!("stranger {n}")), 5)
}

#[test]
fn what_two_add_to_a_list_at_once_is_all_there() {
    let fake = Fake::with(Manners { no_referrers: true, ..Manners::default() });
    let image = Files::new(&["{}", "{\"n\":2}"]);
    let tag = image.tag();
    let list = fake.list("app", &tag);
    list.set(&[stranger(0)]);
    // After each of our first three writes somebody else writes who had not seen it, and who knows
    // less and less of the others.
    let (theirs, wanted) = (fake.list("app", &tag), format!("manifests/{tag}"));
    let mut writes = 0;
    fake.manners().after = Some(Box::new(move |seen, reply| {
        if seen.method == "PUT" && seen.target.contains(&wanted) {
            writes += 1;
            if writes <= 3 {
                theirs.set(&[stranger(writes)]);
            }
        }
        reply
    }));
    image.push(&fake.repository("app")).unwrap();
    let found = list.get();
    for one in image.referrers.iter().chain(&[0, 1, 2, 3].map(stranger)) {
        assert!(found.contains(&one.digest), "{} of {found:?}", one.digest);
    }
    assert_eq!(fake.tags("app")["1"], image.image.digest);
}

#[test]
fn what_is_overwritten_a_moment_later_is_added_again() {
    let fake = Fake::with(Manners { no_referrers: true, ..Manners::default() });
    let image = Files::new(&["{}"]);
    let tag = image.tag();
    let (theirs, wanted) = (fake.list("app", &tag), format!("manifests/{tag}"));
    let (mut written, mut reads) = (false, 0);
    // Our entry is seen once, and gone when it is looked for again.
    fake.manners().after = Some(Box::new(move |seen, reply| {
        let ours = seen.target.contains(&wanted);
        written |= ours && seen.method == "PUT";
        if ours && seen.method == "GET" && written {
            reads += 1;
            if reads == 1 {
                theirs.set(&[stranger(1)]);
            }
        }
        reply
    }));
    image.push(&fake.repository("app")).unwrap();
    let found = fake.list("app", &tag).get();
    assert!(found.contains(&image.referrers[0].digest), "{found:?}");
    assert!(found.contains(&stranger(1).digest), "{found:?}");
}

#[test]
fn a_list_that_others_never_stop_writing_ends_the_push_before_the_tag() {
    let fake = Fake::with(Manners { no_referrers: true, ..Manners::default() });
    let image = Files::new(&["{}"]);
    let tag = image.tag();
    let (theirs, wanted) = (fake.list("app", &tag), format!("manifests/{tag}"));
    fake.manners().after = Some(Box::new(move |seen, reply| {
        if seen.method == "PUT" && seen.target.contains(&wanted) {
            theirs.set(&[]);
        }
        reply
    }));
    let error = image.push(&fake.repository("app")).unwrap_err();
    assert!(error.to_string().contains("others keep writing it"), "{error}");
    assert!(!fake.tags("app").contains_key("1"));
    assert_eq!(fake.count("PUT", &tag), quick().limits.tries as usize);
}

#[test]
fn two_pushes_of_one_image_leave_both_their_statements() {
    let fake = Fake::with(Manners { no_referrers: true, ..Manners::default() });
    let all = [Files::new(&["{\"n\":1}"]), Files::new(&["{\"n\":2}"]), Files::new(&["{\"n\":3}"])];
    std::thread::scope(|scope| {
        for files in &all {
            scope.spawn(|| files.push(&fake.repository("app")).unwrap());
        }
    });
    let found = fake.list("app", &all[0].tag()).get();
    for files in &all {
        assert!(found.contains(&files.referrers[0].digest), "{found:?}");
    }
}

#[test]
fn a_registry_without_referrers_says_so_in_many_ways() {
    for status in [400, 404, 405, 501] {
        let fake = Fake::start();
        fake.manners().before = Some(Box::new(move |seen| {
            seen.target.contains("/referrers/").then(|| Reply::new(status))
        }));
        let image = Files::new(&["{}"]);
        image.push(&fake.repository("app")).unwrap();
        let found = fake.list("app", &image.tag()).get();
        assert_eq!(found, [image.referrers[0].digest], "{status}");
        let repository = fake.repository("app");
        let listed = repository.referrers(&image.image.digest, MEDIA_IN_TOTO).unwrap();
        assert_eq!(listed.len(), 1, "{status}");
    }
}

#[test]
fn lists_of_several_pages_are_read_and_do_not_go_on_for_ever() {
    let fake = Fake::start();
    let of = |n: usize| {
        let mut one = stranger(n);
        one.artifact_type = Some(MEDIA_IN_TOTO.to_owned());
        one
    };
    let mut page = 0;
    fake.manners().before = Some(Box::new(move |seen| {
        seen.target.contains("/referrers/").then(|| {
            page += 1;
            let index = Index { manifests: vec![of(page)], ..Index::default() };
            Reply::new(200)
                .with("content-type", MEDIA_INDEX)
                .with("link", format!("<{}&n={page}>; rel=\"next\"", seen.target))
                .body(index.to_json())
        })
    }));
    let found = fake.repository("app").referrers(&Digest::of("x"), MEDIA_IN_TOTO).unwrap();
    assert_eq!(found.len(), 16);
    assert_eq!(found[15].digest, stranger(16).digest);
    let other = fake.repository("app").referrers(&Digest::of("x"), "application/x").unwrap();
    assert_eq!(other, [], "not every registry filters");
}

/// The statement that an image passed its tests.
fn passed(image: &Digest, finished: &str) -> Vec<u8> {
    let one = Passed { name: "serves".to_owned(), what: vec!["http".to_owned()], seconds: 0.5 };
    let run = TestRun {
        bake: "0.1.0".to_owned(),
        finished: finished.to_owned(),
        tests: Digest::of("t"),
        passed: vec![one],
    };
    attest::test_statement("web:1", image, &run)
}

/// Puts an artifact about an image into a registry.
fn speak(fake: &Fake, about: &Descriptor, layer_media: &str, bytes: &[u8]) -> Digest {
    let mut layer = fake.blob("web", bytes);
    layer.media_type = layer_media.to_owned();
    fake.blob("web", b"{}");
    let artifact = attest::artifact(MEDIA_IN_TOTO, vec![layer], about);
    fake.manifest("web", "unused", MEDIA_MANIFEST, &artifact.to_json())
}

fn shown(lab: &Lab, image: &str) -> Value {
    good(lab.bake(["show", "--json", image])).objects("show")[0].clone()
}

#[test]
fn a_pull_brings_the_statements_that_the_tests_passed() {
    for no_referrers in [false, true] {
        let (lab, fake) = (Lab::new(), Fake::start());
        let layout = Layout { lab: &lab, name: "layout" };
        let image = layout.manifest(&layout.image());
        layout.index(vec![image.clone()]);
        upload(&fake, &lab, "layout", "web", "1");
        let newest = passed(&image.digest, "2026-02-02T00:00:00Z");
        let mut all = vec![speak(&fake, &image, MEDIA_IN_TOTO, &newest)];
        let older = passed(&image.digest, "2026-01-01T00:00:00Z");
        all.push(speak(&fake, &image, MEDIA_IN_TOTO, &older));
        // Of others, about another image, and of another kind: these stay where they are.
        let foreign = br#"{"_type":"https://in-toto.io/Statement/v1","predicateType":"x"}"#;
        let elsewhere = passed(&Digest::of("another"), "2026-03-03T00:00:00Z");
        let left = [
            speak(&fake, &image, MEDIA_IN_TOTO, foreign),
            speak(&fake, &image, MEDIA_IN_TOTO, &elsewhere),
            speak(&fake, &image, "application/x", &newest),
        ];
        all.extend(left);
        if no_referrers {
            fake.manners().no_referrers = true;
            let entries: Vec<_> = all
                .iter()
                .map(|digest| {
                    let key = ("web".to_owned(), digest.to_string());
                    let size = fake.content().manifests[&key].1.len() as u64;
                    let mut one = Descriptor::new(MEDIA_MANIFEST, *digest, size);
                    one.artifact_type = Some(MEDIA_IN_TOTO.to_owned());
                    one
                })
                .collect();
            fake.list("web", &format!("sha256-{}", image.digest.hex())).set(&entries);
        }
        let remote = format!("{}/web:1", fake.address);
        let pulled = good(lab.bake(["pull", &remote]));
        assert_eq!(pulled.out, format!("web:1 {}\n", image.digest));
        assert!(!pulled.err.contains("warning"), "{}", pulled.err);
        let details = shown(&lab, "web:1");
        assert_eq!(details["tested"], "yes", "{details}");
        assert_eq!(details["test_run"]["finished"], "2026-02-02T00:00:00Z", "{details}");
        let shown = good(lab.bake(["show", "web:1"])).out;
        assert!(shown.contains("serves") && shown.contains("2026-02-02"), "{shown}");
        for digest in &left {
            let path = lab.path("store/blobs/sha256").join(digest.hex());
            assert!(!path.exists(), "{no_referrers}: {digest}");
        }
        good(lab.bake(["verify"]));
        good(lab.bake(["promote", "web:1", "production"]));
        // It goes along when it is pushed on.
        let other = Fake::start();
        good(lab.bake(["push", "web:1", &format!("{}/web", other.address)]));
        let listed = other.repository("web").referrers(&image.digest, MEDIA_IN_TOTO).unwrap();
        assert_eq!(listed.len(), 2);
    }
}

#[test]
fn statements_that_cannot_be_had_are_a_warning_and_the_image_is_pulled() {
    let lab = Lab::new();
    type Bend = fn(&Fake, &Descriptor);
    let cases: [(&str, Bend); 4] = [
        ("503", |fake, _| {
            fake.manners().before = Some(Box::new(|seen| {
                let asked = seen.target.contains("/referrers/");
                asked.then(|| Reply::new(503).with("retry-after", "600"))
            }));
        }),
        ("no-list", |fake, _| {
            fake.manners().before = Some(Box::new(|seen| {
                let asked = seen.target.contains("/referrers/");
                asked.then(|| Reply::new(200).with("content-type", MEDIA_INDEX).body("[]"))
            }));
        }),
        ("other-bytes", |fake, image| {
            let digest =
                speak(fake, image, MEDIA_IN_TOTO, &passed(&image.digest, "2026-01-01T00:00:00Z"));
            let key = ("web".to_owned(), digest.to_string());
            let mut content = fake.content();
            let (_, bytes) = content.manifests.get_mut(&key).expect("put there");
            bytes.push(b' ');
        }),
        ("no-blob", |fake, image| {
            let text = passed(&image.digest, "2026-01-01T00:00:00Z");
            speak(fake, image, MEDIA_IN_TOTO, &text);
            let key = ("web".to_owned(), Digest::of(&text).to_string());
            fake.content().blobs.remove(&key);
        }),
    ];
    for (name, bend) in cases {
        let fake = Fake::start();
        let layout = Layout { lab: &lab, name };
        let image = layout.manifest(&layout.image());
        layout.index(vec![image.clone()]);
        upload(&fake, &lab, name, "web", "1");
        bend(&fake, &image);
        let own = format!("{name}:1");
        let pulled = good(lab.bake(["pull", &format!("{}/web:1", fake.address), &own]));
        let warning = "whether its tests passed is unknown";
        assert!(pulled.err.contains(warning), "{name}: {}", pulled.err);
        assert_eq!(shown(&lab, &own)["tested"], json!("none"), "{name}");
    }
    good(lab.bake(["verify"]));
}
