//! A store with an image that has every kind of file, and roots unpacked from it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use bake::digest::Digest;
use bake::image::{
    Descriptor, History, ImageConfig, MEDIA_CONFIG, MEDIA_LAYER_GZIP, MEDIA_MANIFEST, Manifest,
    Platform,
};
use bake::store::{Store, Version};
use serde_json::Value;

use crate::lab::{Lab, Run};
use crate::layer_lab::{Raw, tar};
use crate::store_lab::{gzip, reference};

/// `cap_net_raw=ep`, as the kernel keeps it.
pub(crate) const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A name with everything that should never reach a terminal.
pub(crate) const HOSTILE: &[u8] = b"usr/share/\x1b[31m\x1b]0;t\x07\n\r\\x \xff\xe2\x80\xae";

/// What an image says besides its files.
#[derive(Default)]
pub(crate) struct Claims {
    pub(crate) volumes: Vec<String>,
    pub(crate) ignore: Vec<String>,
}

/// Publishes an image of these layers.
pub(crate) fn publish(lab: &Lab, name: &str, layers: &[Vec<u8>], claims: &Claims) -> Digest {
    let store = Store::open(&lab.path("store")).expect("a store");
    let staging = store.staging().expect("staging");
    let put = |media: &str, bytes: &[u8]| {
        let (digest, size) = staging.put(bytes).expect("put");
        Descriptor::new(media, digest, size)
    };
    let mut config = ImageConfig::new(1_700_000_000, &Platform::host());
    let mut blobs = vec![];
    for (n, layer) in layers.iter().enumerate() {
        config.rootfs.diff_ids.push(Digest::of(layer));
        config.history.push(History::new(1_700_000_000, format!("bake: step {n}"), "", false));
        blobs.push(put(MEDIA_LAYER_GZIP, &gzip(layer)));
    }
    config.config.volumes.extend(claims.volumes.iter().cloned());
    let mut manifest = Manifest::new(put(MEDIA_CONFIG, &config.to_json()), blobs);
    if !claims.ignore.is_empty() {
        let list = serde_json::json!(claims.ignore).to_string();
        manifest.annotations.insert(bake::image::ANNOTATION_DRIFT_IGNORE.to_owned(), list);
    }
    let manifest = put(MEDIA_MANIFEST, &manifest.to_json());
    let digest = manifest.digest;
    store
        .publish(&staging, &[Version { reference: reference(name), manifest, referrers: vec![] }])
        .expect("publish");
    digest
}

/// The layers of an image called `name`, with every kind of file; all of it is root's but for one.
pub(crate) fn layers(name: &str, version: &str) -> Vec<Vec<u8>> {
    let identity = format!(
        r#"{{"v":1,"name":"{name}","version":"{version}","base":"scratch","created":"2023-11-14T22:13:20Z"}}{}"#,
        "\n"
    );
    let xattr =
        |key: &str, value: &[u8]| Raw::pax(b'x', &[(&format!("SCHILY.xattr.{key}"), value)]);
    let base = [
        Raw::dir("bin"),
        xattr("security.capability", CAPABILITY),
        Raw::file("bin/ping", b"ping").mode(0o755),
        Raw::file("bin/su", b"su").mode(0o4755),
        Raw::link(b'2', "bin/sh", "dash"),
        Raw::dir("etc"),
        Raw::file("etc/hosts", b"127.0.0.1 localhost\n"),
        Raw::file("etc/motd", b"welcome\n"),
        Raw::file("etc/old", b"gone in the next layer"),
        Raw::dir("proc"),
        Raw::dir("srv"),
        Raw::file("srv/own", b"33").octal(108, 8, 33).octal(116, 8, 42),
        Raw::dir("tmp").mode(0o1777),
        Raw::dir("usr/lib/bake"),
        Raw::file("usr/lib/bake/image.json", identity.as_bytes()),
        Raw::dir("usr/share"),
        Raw::file("usr/share/one", b"the same file"),
        Raw::link(b'1', "usr/share/two", "usr/share/one"),
        Raw::new(b'0', HOSTILE).data(b"odd"),
        Raw::dir("var/lib/web"),
        Raw::file("var/lib/web/data", b"0"),
    ];
    let top = [
        Raw::file("etc/.wh.old", b""),
        Raw::dir("opt").mode(0o750),
        xattr("user.note", b"n"),
        Raw::file("opt/noted", b"x"),
        Raw::new(b'6', b"opt/pipe").mode(0o600),
    ];
    vec![tar(&base), tar(&top)]
}

/// A lab whose store has `web:1.0.0`, and a root unpacked from it. Needs root.
pub(crate) fn unpacked() -> (Lab, PathBuf) {
    let lab = Lab::new();
    publish(&lab, "web:1.0.0", &layers("web", "1.0.0"), &Claims::default());
    let root = unpack(&lab, "web:1.0.0", "root");
    (lab, root)
}

/// Unpacks an image as a directory of the lab.
pub(crate) fn unpack(lab: &Lab, image: &str, name: &str) -> PathBuf {
    let done = lab.bake(["export", image, "--format", "dir", "--output", name]);
    assert_eq!(done.code, 0, "{}", done.err);
    lab.path(name)
}

/// The one report of `bake drift --json`.
pub(crate) fn report(run: &Run) -> Value {
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines.len(), 1, "{} {}", run.out, run.err);
    serde_json::from_str(lines[0]).expect("JSON")
}

/// Each change of a report in short: `changed /etc/motd content,mode`.
pub(crate) fn changes(report: &Value) -> Vec<String> {
    let list = report["changes"].as_array().expect("a list");
    list.iter()
        .map(|change| {
            let what: Vec<&str> =
                change["what"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let (how, path) =
                (change["change"].as_str().expect("how"), change["path"].as_str().expect("path"));
            format!("{how} {path} {}", what.join(",")).trim_end().to_owned()
        })
        .collect()
}

/// Sets permission bits.
pub(crate) fn chmod(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}
