//! What is pushed: everything that is missing, the tag last, and nothing half.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::sync::Mutex;
use std::time::Duration;

use bake::digest::Digest;
use bake::event::{Event, Sink, silent};
use bake::image::{
    Descriptor, ImageConfig, MEDIA_CONFIG, MEDIA_LAYER, MEDIA_MANIFEST, Manifest, Platform,
};
use bake::registry::{Error, Failure, Options, Pushed, Repository, Source};

use crate::registry_lab::{Fake, Manners, Reply, bytes, quick};

/// An image in files.
struct Image {
    dir: tempfile::TempDir,
    manifest: Descriptor,
    layers: Vec<Descriptor>,
    referrers: Vec<Descriptor>,
}

impl Image {
    fn new(layers: &[&[u8]]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let manifest = Descriptor::new(MEDIA_MANIFEST, Digest::of(b""), 0);
        let mut this = Self { dir, manifest, layers: vec![], referrers: vec![] };
        this.layers = layers.iter().map(|bytes| this.put(MEDIA_LAYER, bytes)).collect();
        let mut config = ImageConfig::new(0, &Platform::linux("amd64"));
        config.rootfs.diff_ids = this.layers.iter().map(|layer| layer.digest).collect();
        let config = this.put(MEDIA_CONFIG, &config.to_json());
        let text = Manifest::new(config, this.layers.clone()).to_json();
        this.manifest = this.put(MEDIA_MANIFEST, &text);
        this
    }

    /// With a statement about it.
    fn attested(mut self) -> Self {
        let statement = self.put("application/vnd.in-toto+json", b"{\"passed\":true}");
        let (empty, descriptor) = bake::attest::empty_config();
        self.put(&descriptor.media_type, empty);
        let artifact =
            bake::attest::artifact("application/vnd.in-toto+json", vec![statement], &self.manifest);
        let referrer = self.put(MEDIA_MANIFEST, &artifact.to_json());
        self.referrers.push(referrer);
        self
    }

    fn put(&self, media: &str, bytes: &[u8]) -> Descriptor {
        let digest = Digest::of(bytes);
        fs::write(self.dir.path().join(digest.hex()), bytes).unwrap();
        Descriptor::new(media, digest, bytes.len() as u64)
    }

    fn push(&self, to: &Repository, tag: &str) -> Result<Pushed, Error> {
        self.push_with(to, tag, false, None, &silent())
    }

    fn push_with(
        &self,
        to: &Repository,
        tag: &str,
        move_tag: bool,
        from: Option<&str>,
        sink: &Sink,
    ) -> Result<Pushed, Error> {
        let open = |digest: &Digest| File::open(self.dir.path().join(digest.hex()));
        let source = Source {
            manifest: &self.manifest,
            referrers: &self.referrers,
            open: &open,
            from: &|_| from.map(str::to_owned),
        };
        to.push(&source, tag, move_tag, sink)
    }
}

/// Whether the registry has all of the image, byte for byte.
fn has_all(fake: &Fake, repository: &str, image: &Image) -> bool {
    let content = fake.content();
    image.layers.iter().all(|layer| {
        let key = (repository.to_owned(), layer.digest.to_string());
        content.blobs.get(&key).is_some_and(|bytes| Digest::of(bytes) == layer.digest)
    })
}

#[test]
fn an_image_is_pushed_and_a_second_time_nothing_is_sent() {
    let fake = Fake::start();
    let image = Image::new(&[&bytes(3_000_000), &bytes(10)]);
    let pushed = image.push(&fake.repository("app"), "1").unwrap();
    assert_eq!((pushed.sent, pushed.already, pushed.before), (3, false, None));
    assert!(has_all(&fake, "app", &image));
    assert_eq!(fake.tags("app"), BTreeMap::from([("1".to_owned(), image.manifest.digest)]));
    let content = fake.content();
    let key = ("app".to_owned(), "1".to_owned());
    assert_eq!(content.manifests[&key].0, MEDIA_MANIFEST, "a manifest, and no index");
    drop(content);
    // The tag is the last that is written.
    let writes: Vec<String> =
        fake.seen().into_iter().filter(|one| one.method == "PUT").map(|one| one.target).collect();
    assert_eq!(writes.last().map(String::as_str), Some("/v2/app/manifests/1"));
    fake.forget_seen();
    let again = image.push(&fake.repository("app"), "1").unwrap();
    assert_eq!((again.already, again.sent, again.before), (true, 0, Some(image.manifest.digest)));
    let written = |one: &str| !matches!(one, "GET" | "HEAD");
    assert!(fake.seen().iter().all(|one| !written(&one.method)), "{:?}", fake.seen());
}

#[test]
fn a_tag_of_other_content_is_left_unless_it_may_move() {
    let fake = Fake::start();
    let (old, new) = (Image::new(&[&bytes(10)]), Image::new(&[&bytes(20)]));
    let repository = fake.repository("app");
    old.push(&repository, "1").unwrap();
    fake.forget_seen();
    let error = new.push(&repository, "1").expect_err("taken");
    assert!(matches!(&error, Error::TagTaken { found, .. } if *found == old.manifest.digest));
    assert_eq!(fake.count("POST", "") + fake.count("PUT", ""), 0, "nothing was sent");
    let pushed = new.push_with(&repository, "1", true, None, &silent()).unwrap();
    assert_eq!(pushed.before, Some(old.manifest.digest));
    assert_eq!(fake.tags("app")["1"], new.manifest.digest);
}

/// A tag that another push takes meanwhile.
#[test]
fn a_tag_that_is_taken_during_a_push_is_left() {
    let fake = Fake::start();
    let (other, image) = (Image::new(&[&bytes(10)]), Image::new(&[&bytes(20)]));
    let text = fs::read(other.dir.path().join(other.manifest.digest.hex())).unwrap();
    let state = Mutex::new(0);
    let digest = other.manifest.digest;
    fake.manners().after = Some(Box::new(move |seen, reply| {
        let mut asked = state.lock().unwrap();
        if seen.target.ends_with("/manifests/1") && seen.method == "HEAD" {
            *asked += 1;
            if *asked > 1 {
                return Reply::new(200)
                    .with("content-type", MEDIA_MANIFEST)
                    .with("docker-content-digest", digest)
                    .with("content-length", text.len());
            }
        }
        reply
    }));
    let error = image.push(&fake.repository("app"), "1").expect_err("taken");
    assert!(matches!(error, Error::TagTaken { .. }), "{error}");
    assert_eq!(fake.tags("app"), BTreeMap::new());
}

#[test]
fn blobs_of_other_repositories_are_mounted() {
    let fake = Fake::start();
    let image = Image::new(&[&bytes(2_000_000)]);
    image.push(&fake.repository("app"), "1").unwrap();
    fake.forget_seen();
    let pushed = image
        .push_with(&fake.repository("team/other"), "1", false, Some("app"), &silent())
        .unwrap();
    assert_eq!((pushed.sent, pushed.mounted), (0, 2));
    assert!(fake.seen().iter().all(|one| one.body.len() < 10_000), "no layer was sent");
    // What is not there is sent from here.
    let pushed =
        image.push_with(&fake.repository("third"), "1", false, Some("nowhere"), &silent()).unwrap();
    assert_eq!((pushed.sent, pushed.mounted), (2, 0));
}

#[test]
fn connections_that_are_cut_every_64_kib_in_do_not_end_a_push() {
    for whole_chunks in [false, true] {
        let fake =
            Fake::with(Manners { cut_in: Some(64 << 10), whole_chunks, ..Manners::default() });
        let image = Image::new(&[&bytes(1_500_000), &bytes(300_000)]);
        let pushed = image.push(&fake.repository("app"), "1").unwrap();
        assert_eq!(pushed.sent, 3);
        assert!(has_all(&fake, "app", &image));
        assert_eq!(fake.tags("app")["1"], image.manifest.digest);
    }
}

#[test]
fn a_registry_without_patch_gets_blobs_in_one_piece() {
    let fake = Fake::with(Manners { no_patch: true, ..Manners::default() });
    let image = Image::new(&[&bytes(3_000_000)]);
    image.push(&fake.repository("app"), "1").unwrap();
    assert!(has_all(&fake, "app", &image));
    assert_eq!(fake.count("PATCH", ""), 1);
}

#[test]
fn chunks_are_as_small_as_they_are_wanted() {
    let fake = Fake::start();
    let image = Image::new(&[&bytes(3_000_000)]);
    let mut options = quick();
    options.limits.chunk = 1 << 20;
    image.push(&Repository::new(&fake.name("app"), &options), "1").unwrap();
    assert_eq!(fake.count("PATCH", ""), 3);
    let ranges: Vec<_> = fake
        .seen()
        .iter()
        .filter_map(|one| one.header("content-range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, ["0-1048575", "1048576-2097151", "2097152-2999999"]);
    assert!(has_all(&fake, "app", &image));
}

#[test]
fn what_is_taken_and_not_kept_is_noticed() {
    let image = Image::new(&[&bytes(100)]);
    for manners in [
        Manners { forgets_blobs: true, ..Manners::default() },
        Manners { forgets_manifests: true, ..Manners::default() },
    ] {
        let fake = Fake::with(manners);
        let error = image.push(&fake.repository("app"), "1").expect_err("not kept");
        assert!(matches!(error, Error::NotStored { .. }), "{error}");
        assert_eq!(fake.tags("app"), BTreeMap::new());
    }
}

#[test]
fn storage_that_takes_a_moment_is_waited_for() {
    let fake = Fake::start();
    let image = Image::new(&[&bytes(100)]);
    let mut asked = std::collections::BTreeMap::<String, usize>::new();
    fake.manners().after = Some(Box::new(move |seen, reply| {
        let n = asked.entry(format!("{} {}", seen.method, seen.target)).or_default();
        *n += 1;
        // Not there at first, as it should be, and not at once after that.
        let reads = matches!(seen.method.as_str(), "GET" | "HEAD") && seen.target != "/v2/";
        if reads && *n < 3 { Reply::new(404) } else { reply }
    }));
    image.push(&fake.repository("app"), "1").unwrap();
    assert_eq!(fake.tags("app")["1"], image.manifest.digest);
}

#[test]
fn a_manifest_that_is_changed_on_the_way_does_not_get_a_tag() {
    let fake = Fake::start();
    let image = Image::new(&[&bytes(100)]);
    fake.manners().after = Some(Box::new(|seen, reply| {
        let read = seen.method == "GET" && seen.target.contains("manifests/sha256:");
        if read && reply.status == 200 { reply.body("{}") } else { reply }
    }));
    let error = image.push(&fake.repository("app"), "1").expect_err("a lie");
    assert!(matches!(error, Error::Lie { .. }), "{error}");
    assert!(!fake.tags("app").contains_key("1"));
}

#[test]
fn attestations_go_along_as_referrers() {
    let fake = Fake::start();
    let image = Image::new(&[&bytes(100)]).attested();
    let pushed = image.push(&fake.repository("app"), "1").unwrap();
    assert_eq!((pushed.sent, pushed.already), (4, false));
    assert_eq!(fake.tags("app").len(), 1, "no tag but the one");
    let key = ("app".to_owned(), image.referrers[0].digest.to_string());
    assert!(fake.content().manifests.contains_key(&key));
    assert!(image.push(&fake.repository("app"), "1").unwrap().already);
}

#[test]
fn an_index_is_pushed_with_all_that_it_names() {
    let fake = Fake::with(Manners { no_referrers: true, ..Manners::default() });
    let (mut image, other) = (Image::new(&[&bytes(100)]).attested(), Image::new(&[&bytes(200)]));
    let one = image.manifest.clone();
    for entry in fs::read_dir(other.dir.path()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), image.dir.path().join(entry.file_name())).unwrap();
    }
    let manifests = vec![one.clone(), other.manifest.clone()];
    let media = "application/vnd.oci.image.index.v1+json";
    let index =
        bake::image::Index { media_type: Some(media.to_owned()), manifests, ..Default::default() };
    image.manifest = image.put(media, &index.to_json());
    let pushed = image.push(&fake.repository("app"), "1").unwrap();
    assert_eq!((pushed.sent, pushed.digest), (6, image.manifest.digest));
    assert!(has_all(&fake, "app", &image) && has_all(&fake, "app", &other));
    let tags = fake.tags("app");
    // What its tests gave speaks about the one of its platform.
    let list = format!("sha256-{}", one.digest.hex());
    assert_eq!(tags.keys().collect::<Vec<_>>(), ["1", list.as_str()]);
    assert_eq!(tags["1"], image.manifest.digest);
    let content = fake.content();
    for manifest in [&one, &other.manifest] {
        let key = ("app".to_owned(), manifest.digest.to_string());
        assert_eq!(content.manifests[&key].0, MEDIA_MANIFEST);
    }
    drop(content);
    assert!(image.push(&fake.repository("app"), "1").unwrap().already);
}

#[test]
fn without_a_list_of_referrers_there_is_a_tag_for_it() {
    let fake = Fake::with(Manners { no_referrers: true, ..Manners::default() });
    let image = Image::new(&[&bytes(100)]).attested();
    image.push(&fake.repository("app"), "1").unwrap();
    let tag = format!("sha256-{}", image.manifest.digest.hex());
    let content = fake.content();
    let (_, text) = &content.manifests[&("app".to_owned(), tag.clone())];
    let index: serde_json::Value = serde_json::from_slice(text).unwrap();
    assert_eq!(index["manifests"][0]["digest"], image.referrers[0].digest.to_string());
    assert_eq!(index["manifests"][0]["artifactType"], "application/vnd.in-toto+json");
    drop(content);
    fake.forget_seen();
    assert!(image.push(&fake.repository("app"), "1").unwrap().already);
    assert_eq!(fake.count("PUT", ""), 0);
    // What others have put there stays.
    let other = Descriptor::new(MEDIA_MANIFEST, Digest::of("other"), 5);
    let index = bake::image::Index { manifests: vec![other], ..Default::default() }.to_json();
    fake.manifest("app", &tag, "application/vnd.oci.image.index.v1+json", &index);
    image.push(&fake.repository("app"), "1").unwrap();
    let content = fake.content();
    let (_, text) = &content.manifests[&("app".to_owned(), tag)];
    let index: serde_json::Value = serde_json::from_slice(text).unwrap();
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_registry_that_fails_leaves_the_tags_as_they_were_and_the_next_push_sends_the_rest() {
    let fake = Fake::start();
    let image = Image::new(&[&bytes(2_000_000), &bytes(500)]);
    fake.manners().before = Some(Box::new(|seen| {
        let written = seen.method == "PUT" && seen.target.contains("manifests");
        written.then(|| Reply::new(500))
    }));
    let error = image.push(&fake.repository("app"), "1").expect_err("it fails");
    assert!(matches!(error, Error::Status { status: 500, .. }), "{error}");
    assert_eq!(fake.tags("app"), BTreeMap::new());
    fake.manners().before = None;
    let pushed = image.push(&fake.repository("app"), "1").unwrap();
    assert_eq!((pushed.sent, pushed.already), (0, false));
    assert_eq!(fake.tags("app")["1"], image.manifest.digest);
}

#[test]
fn uploads_that_are_forgotten_begin_anew_but_not_for_ever() {
    let image = Image::new(&[&bytes(2_000_000)]);
    let fake = Fake::start();
    let mut left = 2;
    fake.manners().before = Some(Box::new(move |seen| {
        (seen.method == "PUT" && seen.target.contains("uploads") && left > 0).then(|| {
            left -= 1;
            Reply::new(404)
        })
    }));
    image.push(&fake.repository("app"), "1").unwrap();
    assert!(has_all(&fake, "app", &image));
    let fake = Fake::start();
    fake.manners().before = Some(Box::new(|seen| {
        (seen.method == "PUT" && seen.target.contains("uploads")).then(|| Reply::new(404))
    }));
    image.push(&fake.repository("app"), "1").expect_err("for ever");
    assert!(fake.count("POST", "uploads") < 20);
}

#[test]
fn a_registry_that_does_not_read_is_a_timeout() {
    let fake = Fake::start();
    let image = Image::new(&[&bytes(100)]);
    let mut options = quick();
    options.limits.tries = 1;
    options.limits.stall = Duration::from_millis(200);
    fake.manners().after = Some(Box::new(|seen, reply| {
        if seen.method == "PUT" {
            std::thread::sleep(Duration::from_millis(900));
        }
        reply
    }));
    let repository = Repository::new(&fake.name("app"), &options);
    let error = image.push(&repository, "1").expect_err("no answer");
    assert!(matches!(error, Error::Request { source: Failure::Timeout(_), .. }), "{error:?}");
}

#[test]
fn what_is_damaged_here_is_not_sent_as_something_else() {
    let image = Image::new(&[&bytes(100)]);
    let path = image.dir.path().join(image.layers[0].digest.hex());
    fs::write(&path, vec![7; 100]).unwrap();
    let fake = Fake::start();
    let error = image.push(&fake.repository("app"), "1").expect_err("damaged");
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    fs::write(&path, b"short").unwrap();
    let error = image.push(&fake.repository("app"), "1").expect_err("damaged");
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    fs::remove_file(&path).unwrap();
    let error = image.push(&fake.repository("app"), "1").expect_err("missing");
    assert!(matches!(error, Error::Local { .. }), "{error}");
    assert_eq!(fake.tags("app"), BTreeMap::new());
}

#[test]
fn progress_is_in_bytes_and_comes_to_its_end() {
    let fake = Fake::start();
    let image = Image::new(&[&bytes(3_000_000)]);
    let seen = std::sync::Arc::new(Mutex::new(vec![]));
    let into = std::sync::Arc::clone(&seen);
    let sink: Sink = std::sync::Arc::new(move |event| into.lock().unwrap().push(event));
    image.push_with(&fake.repository("app"), "1", false, None, &sink).unwrap();
    let seen = seen.lock().unwrap();
    let last = seen.iter().rev().find_map(|event| match event {
        Event::Progress { done, total, .. } => Some((*done, *total)),
        _ => None,
    });
    let (done, total) = last.expect("progress");
    assert_eq!(Some(done), total);
    assert!(matches!(seen.last(), Some(Event::ProgressEnd { .. })));
}

#[test]
fn a_push_ends_when_the_person_wants_it() {
    let fake = Fake::start();
    let image = Image::new(&[&bytes(100)]);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (set, asked) = (std::sync::Arc::clone(&stop), std::sync::Arc::clone(&stop));
    fake.manners().before = Some(Box::new(move |seen| {
        if seen.method == "POST" {
            set.store(true, std::sync::atomic::Ordering::SeqCst);
            std::thread::sleep(Duration::from_secs(10));
        }
        None
    }));
    let stop = std::sync::Arc::new(move || asked.load(std::sync::atomic::Ordering::SeqCst));
    let options = Options { stop, ..Options::default() };
    let before = std::time::Instant::now();
    let error = image.push(&Repository::new(&fake.name("app"), &options), "1").expect_err("ended");
    assert!(matches!(error, Error::Cancelled), "{error:?}");
    assert!(before.elapsed() < Duration::from_secs(10));
}
