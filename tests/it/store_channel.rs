//! Channels and revocations: where they point, what they refuse, what they remember, and what a
//! death in the middle leaves.

use std::fs;

use bake::image::{Descriptor, Index, MEDIA_INDEX, MEDIA_MANIFEST, Manifest};
use bake::store::{
    ChannelEvent, Error, Relation, Staging, Store, TESTED_ANNOTATION, UNTESTED, Version, Who,
};

use crate::store_lab::*;

fn ann() -> Who {
    Who { user: "ann".to_owned(), sudo: None, host: "kiln".to_owned() }
}

struct Lab {
    dir: tempfile::TempDir,
    store: Store,
}

/// A store with `web:1`, `web:2`, `web:3`.
fn lab() -> Lab {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    for version in ["1", "2", "3"] {
        publish(&store, &format!("web:{version}"), version);
    }
    Lab { dir, store }
}

impl Lab {
    /// Promotes, and says where the channel pointed before.
    fn promote(&self, image: &str, channel: &str) -> Result<Option<String>, Error> {
        self.store
            .promote(&reference(image), channel, &ann())
            .map(|done| done.was.map(|was| was.version))
    }

    /// Steps back, and says to where.
    fn back(&self, channel: &str) -> Result<String, Error> {
        let done = self.store.promote_back(&reference(channel), &ann())?;
        Ok(done.version.expect("it points somewhere").reference.to_string())
    }

    fn at(&self, channel: &str) -> String {
        self.store.resolve(&reference(channel)).expect(channel).reference.to_string()
    }
}

#[test]
fn a_channel_stands_for_one_version_after_another() {
    let lab = lab();
    assert_eq!(lab.promote("web:1", "production").expect("promote"), None);
    assert_eq!(lab.at("web@production"), "web:1");
    assert_eq!(lab.promote("web:2", "staging").expect("promote"), None);
    assert_eq!(lab.promote("web@staging", "production").expect("promote"), Some("1".to_owned()));
    assert_eq!(
        (lab.at("web@production"), lab.at("web@staging")),
        ("web:2".to_owned(), "web:2".to_owned())
    );
    // The same again is nothing new.
    let before = tree(lab.dir.path());
    assert!(lab.store.promote(&reference("web:2"), "production", &ann()).expect("promote").already);
    assert!(tree(lab.dir.path()) == before);
    let other = publish(&lab.store, "a/b:1", "other");
    lab.promote(&format!("a/b@{}", other.manifest.digest), "production").expect("by digest");
    let listed: Vec<String> = lab
        .store
        .channels()
        .expect("channels")
        .iter()
        .map(|one| format!("{} {}", one.reference, one.to.version))
        .collect();
    assert_eq!(listed, ["a/b@production 1", "web@production 2", "web@staging 2"]);
    // Another process sees the same.
    let again = Store::open_to_read(lab.dir.path()).expect("open");
    assert_eq!(
        again.resolve(&reference("web@production")).expect("there").reference,
        reference("web:2")
    );
    assert!(matches!(
        again.promote(&reference("web:1"), "production", &ann()),
        Err(Error::OpenToRead { .. })
    ));
    check_whole(&lab.store);
}

#[test]
fn history_is_only_ever_added_to() {
    let lab = lab();
    let path = lab.dir.path().join("channels/web/production");
    let mut before = vec![];
    for step in 0..4 {
        match step {
            0 => lab.promote("web:1", "production").map(drop),
            1 => lab.promote("web:2", "production").map(drop),
            2 => lab.back("web@production").map(drop),
            _ => lab.store.end_channel(&reference("web@production"), &ann()).map(drop),
        }
        .expect("done");
        let after = fs::read(&path).expect("read");
        assert!(after.starts_with(&before) && after.len() > before.len());
        before = after;
    }
    let (name, history) = lab.store.channel_histories().expect("histories").remove(0);
    assert_eq!(name, reference("web@production"));
    let turns: Vec<_> = history
        .iter()
        .map(|turn| (turn.what, turn.to.as_ref().map(|to| to.version.as_str())))
        .collect();
    assert_eq!(
        turns,
        [
            (ChannelEvent::Promote, Some("1")),
            (ChannelEvent::Promote, Some("2")),
            (ChannelEvent::Back, Some("1")),
            (ChannelEvent::End, None)
        ]
    );
    assert!(
        history.iter().all(|turn| turn.by == ann() && bake::image::epoch_of(&turn.at).is_some())
    );
    let text = String::from_utf8(before).expect("UTF-8");
    let digest = lab.store.resolve(&reference("web:1")).expect("there").manifest.digest;
    let first = format!(
        r#"{{"v":1,"at":"{}","what":"promote","to":{{"version":"1","digest":"{digest}"}},"by":{{"user":"ann","host":"kiln"}}}}"#,
        history[0].at
    );
    assert_eq!(text.lines().next(), Some(first.as_str()));
}

#[test]
fn stepping_back_goes_back_and_back() {
    let lab = lab();
    for version in ["web:1", "web:2", "web:3"] {
        lab.promote(version, "p").expect("promote");
    }
    assert_eq!(lab.back("web@p").expect("back"), "web:2");
    assert_eq!(lab.back("web@p").expect("back"), "web:1", "not forth again");
    assert!(matches!(lab.back("web@p"), Err(Error::NoEarlier { .. })));
    lab.promote("web:3", "p").expect("promote");
    assert_eq!(lab.back("web@p").expect("back"), "web:1");
    // Rolled back by promoting: the one before is the one that was left.
    lab.promote("web:2", "p").expect("promote");
    lab.promote("web:1", "p").expect("promote");
    assert_eq!(lab.back("web@p").expect("back"), "web:2");
    // An end is gone back from as well.
    lab.store.end_channel(&reference("web@p"), &ann()).expect("end");
    assert!(matches!(lab.store.resolve(&reference("web@p")), Err(Error::NoChannel { .. })));
    assert!(lab.store.channels().expect("channels").is_empty());
    assert_eq!(lab.back("web@p").expect("back"), "web:2");
    assert_eq!(lab.back("web@p").expect("back"), "web:1");
}

#[test]
fn a_step_back_passes_over_what_cannot_be_used() {
    let lab = lab();
    publish(&lab.store, "web:4", "4");
    for version in ["web:1", "web:2", "web:3", "web:4"] {
        lab.promote(version, "p").expect("promote");
    }
    lab.store.revoke(&reference("web:3"), "bad", &ann()).expect("revoke");
    lab.store.remove(&reference("web:2")).expect("no channel points at it");
    let done = lab.store.promote_back(&reference("web@p"), &ann()).expect("back");
    assert_eq!(done.version.expect("somewhere").reference, reference("web:1"));
    let passed: Vec<_> =
        done.passed.iter().map(|(target, why)| (target.version.as_str(), *why)).collect();
    assert_eq!(passed, [("3", "it is revoked"), ("2", "it was removed")]);
    assert!(matches!(lab.back("web@p"), Err(Error::NoEarlier { .. })));
    assert_eq!(lab.at("web@p"), "web:1", "a step that cannot be made changes nothing");
}

#[test]
fn what_must_not_be_promoted_is_not() {
    let lab = lab();
    let before = tree(lab.dir.path());
    assert!(matches!(lab.promote("web", "p"), Err(Error::NoVersion { .. })));
    assert!(matches!(lab.promote("web:9", "p"), Err(Error::NotFound { .. })));
    assert!(matches!(lab.promote("web@q", "p"), Err(Error::NoChannel { .. })));
    for bad in ["", "P", "../x", "a/b", "1", "a b", "a\n"] {
        assert!(matches!(lab.promote("web:1", bad), Err(Error::BadChannel { .. })), "{bad:?}");
    }
    assert!(matches!(
        lab.store.promote_back(&reference("web:1"), &ann()),
        Err(Error::NotAChannel { .. })
    ));
    assert!(matches!(
        lab.store.end_channel(&reference("web@p"), &ann()),
        Err(Error::NoChannel { .. })
    ));
    assert!(tree(lab.dir.path()) == before);
    let staging = lab.store.staging().expect("staging");
    let mut untested = image(&staging, "web:5", "5");
    untested.manifest.annotations.insert(TESTED_ANNOTATION.to_owned(), UNTESTED.to_owned());
    lab.store.publish(&staging, &[untested]).expect("publish");
    assert!(matches!(lab.promote("web:5", "p"), Err(Error::Untested { .. })));
    lab.store.revoke(&reference("web:2"), "bad", &ann()).expect("revoke");
    match lab.promote("web:2", "p") {
        Err(Error::Revoked { revocation, .. }) => {
            assert_eq!((revocation.why.as_str(), revocation.by), ("bad", ann()))
        }
        other => panic!("{other:?}"),
    }
    lab.store.restore(&reference("web:2"), "it was not", &ann()).expect("restore");
    lab.promote("web:2", "p").expect("it may be used again");
}

#[test]
fn who_asks_for_the_wrong_channel_gets_the_right_one_named() {
    let lab = lab();
    lab.promote("web:1", "production").expect("promote");
    lab.promote("web:1", "staging").expect("promote");
    match lab.store.resolve(&reference("web@prodution")) {
        Err(Error::NoChannel { near, .. }) => assert_eq!(near, ["web@production", "web@staging"]),
        other => panic!("{other:?}"),
    }
    match lab.store.resolve(&reference("app@staging")) {
        Err(Error::NoChannel { near, .. }) => assert_eq!(near, ["web@staging"]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_version_in_a_channel_is_not_removed_unless_forced() {
    let lab = lab();
    lab.promote("web:1", "a").expect("promote");
    lab.promote("web:1", "b").expect("promote");
    let before = tree(lab.dir.path());
    for name in ["web:1", "web@a"] {
        match lab.store.remove_all(&[reference("web:2"), reference(name)], false) {
            Err(Error::InChannel { channels, .. }) => assert_eq!(channels, ["web@a", "web@b"]),
            other => panic!("{other:?}"),
        }
    }
    assert!(tree(lab.dir.path()) == before, "all or none");
    lab.store.remove_all(&[reference("web:1"), reference("web@a")], true).expect("forced");
    assert_eq!(names(&lab.store), ["web:2", "web:3"]);
    match lab.store.resolve(&reference("web@a")) {
        Err(Error::ChannelGone { version, .. }) => assert_eq!(version, "1"),
        other => panic!("{other:?}"),
    }
    // What is baked under that version now is something else.
    publish(&lab.store, "web:1", "other");
    assert!(matches!(lab.store.resolve(&reference("web@a")), Err(Error::ChannelGone { .. })));
    lab.promote("web:2", "a").expect("promote");
    assert_eq!(lab.at("web@a"), "web:2");
    check_whole(&lab.store);
}

#[test]
fn a_revocation_is_of_the_content() {
    let lab = lab();
    publish(&lab.store, "twin:1", "1");
    lab.promote("web:1", "p").expect("promote");
    let done = lab.store.revoke(&reference("web@p"), "CVE-2026-1", &ann()).expect("revoke");
    assert!(!done.already);
    assert_eq!(done.channels, ["web@p"]);
    let twin = lab.store.resolve(&reference("twin:1")).expect("there");
    assert!(lab.store.revoked(&twin.manifest.digest).expect("read").is_some());
    assert!(matches!(lab.store.check_not_revoked(&twin), Err(Error::Revoked { .. })));
    // Once more says the first reason.
    let again = lab.store.revoke(&reference("web:1"), "another reason", &ann()).expect("revoke");
    assert!(again.already);
    assert_eq!(again.revocation.why, "CVE-2026-1");
    assert_eq!(lab.store.revocation_history().expect("history").len(), 1);
    // Other content under the same name is not revoked; the old one is, also when it comes back.
    lab.store.remove_all(&[reference("web:1")], true).expect("remove");
    publish(&lab.store, "web:1", "mended");
    lab.store
        .check_not_revoked(&lab.store.resolve(&reference("web:1")).expect("there"))
        .expect("it is another one");
    lab.store.remove(&reference("web:1")).expect("remove");
    publish(&lab.store, "web:1", "1");
    lab.store
        .check_not_revoked(&lab.store.resolve(&reference("web:1")).expect("there"))
        .expect_err("the same again");
    // A revocation can be taken back when the version is long gone.
    lab.store
        .remove_all(&[reference("web:1")], true)
        .expect("the channel points at this content again");
    lab.store.restore(&reference("web:1"), "harmless", &ann()).expect("restore");
    assert!(lab.store.revocations().expect("read").is_empty());
    assert!(matches!(
        lab.store.restore(&reference("web:2"), "x", &ann()),
        Err(Error::NotRevoked { .. })
    ));
    assert!(matches!(
        lab.store.restore(&reference("web:9"), "x", &ann()),
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(
        lab.store.revoke(&reference("web"), "x", &ann()),
        Err(Error::NoVersion { .. })
    ));
    assert_eq!(lab.store.revocation_history().expect("history").len(), 2);
    check_whole(&lab.store);
}

/// Publishes a version whose manifest is that of `of` with some changes.
fn derived(
    store: &Store,
    name: &str,
    of: &Version,
    change: impl Fn(&Staging, &mut Manifest),
) -> Version {
    let staging = store.staging().expect("staging");
    let mut manifest =
        Manifest::parse(&store.read_blob(&of.manifest.digest).expect("read")).expect("a manifest");
    change(&staging, &mut manifest);
    let (digest, size) = staging.put(&manifest.to_json()).expect("put");
    let version = Version::new(reference(name), Descriptor::new(MEDIA_MANIFEST, digest, size));
    store.publish(&staging, std::slice::from_ref(&version)).expect("publish");
    version
}

#[test]
fn descendants_are_found_by_name_digest_and_layers() {
    let lab = lab();
    let base = lab.store.resolve(&reference("web:1")).expect("there");
    let other = lab.store.resolve(&reference("web:2")).expect("there");
    let say = |key: &str, value: &str| {
        let (key, value) = (format!("org.opencontainers.image.base.{key}"), value.to_owned());
        move |_: &Staging, manifest: &mut Manifest| {
            manifest.annotations.insert(key.clone(), value.clone());
        }
    };
    let by_digest = derived(
        &lab.store,
        "by-digest:1",
        &other,
        say("digest", &base.manifest.digest.to_string()),
    );
    derived(&lab.store, "by-name:1", &other, say("name", "web:1"));
    // Its own digest has spoken: it was another web:1.
    derived(&lab.store, "not-it:1", &other, |staging, manifest| {
        say("name", "web:1")(staging, manifest);
        say("digest", &other.manifest.digest.to_string())(staging, manifest);
    });
    derived(&lab.store, "by-layers:1", &base, |staging, manifest| {
        let (digest, size) = staging.put(b"one more layer").expect("put");
        manifest.layers.push(Descriptor::new(manifest.layers[0].media_type.clone(), digest, size));
    });
    let grandchild = derived(
        &lab.store,
        "grandchild:1",
        &other,
        say("digest", &by_digest.manifest.digest.to_string()),
    );
    // An index of it, as of an image for several machines.
    let staging = lab.store.staging().expect("staging");
    let index = Index { manifests: vec![grandchild.manifest.clone()], ..Index::default() };
    let (digest, size) = staging.put(&index.to_json()).expect("put");
    lab.store
        .publish(
            &staging,
            &[Version::new(reference("many:1"), Descriptor::new(MEDIA_INDEX, digest, size))],
        )
        .expect("publish");
    let found: Vec<_> = lab
        .store
        .descendants(&base)
        .expect("descendants")
        .into_iter()
        .map(|one| (one.image.to_string(), one.by))
        .collect();
    let expected = [
        ("by-digest:1", Relation::Digest),
        ("by-layers:1", Relation::Layers),
        ("by-name:1", Relation::Name),
        ("grandchild:1", Relation::Digest),
        ("many:1", Relation::Digest),
    ];
    assert_eq!(found, expected.map(|(name, by)| (name.to_owned(), by)));
    assert_eq!(
        lab.store.revoke(&reference("web:1"), "bad", &ann()).expect("revoke").descendants.len(),
        5
    );
}

#[test]
fn promotes_at_once_all_count() {
    let lab = lab();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let store = &lab.store;
            scope.spawn(move || {
                for round in 0..5 {
                    let image = format!("web:{}", (n + round) % 3 + 1);
                    store.promote(&reference(&image), "busy", &ann()).expect("promote");
                    store
                        .promote(&reference(&image), &format!("own-{n}"), &ann())
                        .expect("promote");
                }
            });
        }
    });
    let histories = lab.store.channel_histories().expect("histories");
    assert_eq!(histories.len(), 9);
    for (name, history) in &histories {
        // What was recorded is a chain: nobody promoted to where the channel already pointed.
        assert!(history.windows(2).all(|pair| pair[0].to != pair[1].to), "{name}");
        if name.channel.as_deref() != Some("busy") {
            assert_eq!(history.len(), 5, "{name}");
        }
    }
}

#[test]
fn damage_is_reported_and_never_overwritten() {
    let lab = lab();
    lab.promote("web:1", "p").expect("promote");
    let path = lab.dir.path().join("channels/web/p");
    let good = fs::read_to_string(&path).expect("read");
    for bad in [
        "garbage\n",
        "{\"v\":1}\n",
        &format!("{}{}", good.replace("promote", "end"), good),
        &good.replace("\"v\":1", "\"v\":2"),
    ] {
        fs::write(&path, bad).expect("write");
        assert!(
            matches!(lab.promote("web:2", "p"), Err(Error::Damaged { .. } | Error::Newer { .. })),
            "{bad}"
        );
        assert_eq!(fs::read_to_string(&path).expect("read"), bad);
    }
    // A last line that was cut short is no damage.
    fs::write(&path, format!("{good}{{\"v\":1,\"at\"")).expect("write");
    assert_eq!(lab.at("web@p"), "web:1");
    lab.promote("web:2", "p").expect("promote");
    assert_eq!(lab.store.channel_histories().expect("histories")[0].1.len(), 2);
    // What stands there and is none of ours does no harm.
    fs::write(lab.dir.path().join("channels/README"), "x").expect("write");
    fs::write(lab.dir.path().join("channels/web/Not A Channel"), "x").expect("write");
    fs::create_dir(lab.dir.path().join("channels/UPPER")).expect("mkdir");
    assert_eq!(lab.store.channels().expect("channels").len(), 1);
}
