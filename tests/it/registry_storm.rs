//! Large images, busy and slow registries, and images that lie: each ends well, or with an error
//! that says why, and nothing half.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::process::Command;
use std::time::Duration;

use bake::digest::Digest;
use bake::image::{
    Descriptor, ImageConfig, Index, MEDIA_CONFIG, MEDIA_INDEX, MEDIA_LAYER, MEDIA_LAYER_GZIP,
    Manifest, Platform,
};
use bake::layer::{Compression, compress};
use bake::registry::{Error, Failure};

use crate::base_registry::upload;
use crate::cmd_import::Layout;
use crate::lab::{Lab, Run, good, run};
use crate::layer_lab::{Raw, tar};
use crate::registry_lab::{Fake, Manners, Reply, bytes, quick};

const MEDIA_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// An image of these layers and their tars, in a layout.
fn image(layout: &Layout<'_>, layers: Vec<Descriptor>, diff_ids: &[Digest]) -> Descriptor {
    let config = layout.config(MEDIA_CONFIG, diff_ids);
    layout.manifest(&Manifest::new(config, layers))
}

/// Pulls `web:1` of one registry into the store, and pushes it to another; the same is there then.
fn through(lab: &Lab, from: &Fake, digest: &Digest) {
    let pulled = good(lab.bake(["pull", &format!("{}/web:1", from.address)]));
    assert_eq!(pulled.out, format!("web:1 {digest}\n"));
    good(lab.bake(["verify"]));
    let to = Fake::start();
    let pushed = good(lab.bake(["push", "web:1", &format!("{}/web", to.address)]));
    assert_eq!(pushed.out, format!("{}/web:1 {digest}\n", to.address));
    let (ours, theirs) = (to.content(), from.content());
    for (key, bytes) in &ours.blobs {
        assert_eq!(theirs.blobs.get(key), Some(bytes), "{key:?}");
    }
    assert_eq!(ours.manifests[&("web".to_owned(), "1".to_owned())].1.len() as u64, {
        theirs.manifests[&("web".to_owned(), digest.to_string())].1.len() as u64
    });
}

#[test]
fn an_image_of_128_layers_goes_in_and_out() {
    let (lab, fake) = (Lab::new(), Fake::start());
    let layout = Layout { lab: &lab, name: "layout" };
    let (mut layers, mut diff_ids) = (vec![], vec![]);
    for n in 0..128 {
        let tar = tar(&[Raw::file(&format!("etc/{n}"), format!("{n}").as_bytes())]);
        let mut blob = vec![];
        let made = compress(&mut &tar[..], &mut blob, Compression::Gzip, 1).expect("memory");
        layers.push(layout.put(MEDIA_LAYER_GZIP, &blob));
        diff_ids.push(made.diff_id);
    }
    layout.index(vec![image(&layout, layers, &diff_ids)]);
    let digest = upload(&fake, &lab, "layout", "web", "1");
    through(&lab, &fake, &digest);
    assert_eq!(fake.count("GET", "blobs/sha256"), 129, "each once");
    let files = good(lab.bake(["show", "--json", "web:1"])).out;
    assert_eq!(
        files.matches("etc/").count() + files.matches("\"diff_id\"").count(),
        128,
        "{files}"
    );
}

#[test]
fn layers_of_every_compression_go_in_and_out() {
    let (lab, fake) = (Lab::new(), Fake::start());
    let layout = Layout { lab: &lab, name: "layout" };
    let (mut layers, mut diff_ids) = (vec![], vec![]);
    let kinds = [
        (Compression::Zstd, MEDIA_LAYER_ZSTD),
        (Compression::None, MEDIA_LAYER),
        (Compression::Gzip, MEDIA_LAYER_GZIP),
    ];
    for (n, (how, media)) in kinds.into_iter().enumerate() {
        let tar = tar(&[Raw::file(&format!("etc/{n}"), &bytes(1 << 20))]);
        let mut blob = vec![];
        let made = compress(&mut &tar[..], &mut blob, how, 1).expect("memory");
        layers.push(layout.put(media, &blob));
        diff_ids.push(made.diff_id);
    }
    layout.index(vec![image(&layout, layers, &diff_ids)]);
    let digest = upload(&fake, &lab, "layout", "web", "1");
    through(&lab, &fake, &digest);
}

#[test]
fn layers_that_are_other_tars_than_the_config_says_are_refused_in_every_compression() {
    let lab = Lab::new();
    let kinds = [
        ("zstd", Compression::Zstd, MEDIA_LAYER_ZSTD),
        ("none", Compression::None, MEDIA_LAYER),
        ("gzip", Compression::Gzip, MEDIA_LAYER_GZIP),
    ];
    let refused = |name: &str, fake: &Fake, part: &str| {
        let pulled = lab.bake(["pull", &format!("{}/web:1", fake.address), &format!("{name}:1")]);
        assert_eq!((pulled.code, pulled.out.as_str()), (1, ""), "{name}: {}", pulled.err);
        assert!(pulled.err.contains(part), "{name}: {part}: {}", pulled.err);
        assert!(lab.scratch().is_empty(), "{name}");
    };
    for (name, how, media) in kinds {
        let tar = tar(&[Raw::file("etc/motd", b"hello")]);
        let mut blob = vec![];
        let made = compress(&mut &tar[..], &mut blob, how, 1).expect("memory");
        let case = |bent: &str, blob: &[u8], media: &str, diff_id: Digest, part: &str| {
            let (name, fake) = (format!("{name}-{bent}"), Fake::start());
            let layout = Layout { lab: &lab, name: &name };
            layout.index(vec![image(&layout, vec![layout.put(media, blob)], &[diff_id])]);
            upload(&fake, &lab, &name, "web", "1");
            refused(&name, &fake, part);
        };
        case("other", &blob, media, Digest::of("other"), "and the config says");
        let cut = &blob[..blob.len() - 600.min(blob.len() / 2)];
        // Of a plain tar the digest is right: it is the bytes themselves.
        case(
            "cut",
            cut,
            media,
            if how == Compression::None { Digest::of(cut) } else { made.diff_id },
            "cannot be unpacked",
        );
        let wrong = if how == Compression::None { MEDIA_LAYER_GZIP } else { MEDIA_LAYER };
        case("media", &blob, wrong, made.diff_id, "is not compressed as its media type says");
        let mut flipped = blob.clone();
        flipped[20] ^= 0x40;
        case("flipped", &flipped, media, made.diff_id, "that");
    }
    assert_eq!(good(lab.bake(["list", "--names"])).out, "");
}

/// Runs bake where it may not have more than so many MB of memory of its own.
fn with_little_memory(lab: &Lab, megabytes: u64, args: &[&str]) -> Run {
    let limited = format!("ulimit -d {} && exec \"$0\" \"$@\"", megabytes * 1024);
    let mut command = Command::new("sh");
    command.args(["-c", &limited, env!("CARGO_BIN_EXE_bake")]).args(args).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", lab.path("home")).env("BAKE_STORE", lab.path("store"));
    run(command.current_dir(lab.path("")))
}

/// A tar of one file of so many zeros.
fn zeros(size: u64) -> impl Read {
    let mut header = tar::Header::new_ustar();
    header.set_path("zeros").expect("a short name");
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let rest = size.next_multiple_of(512) + 1024;
    io::Cursor::new(header.as_bytes().to_vec()).chain(io::repeat(0).take(rest))
}

/// Makes an image of one large layer; returns its digest.
fn large(lab: &Lab, fake: &Fake, size: u64, how: Compression, media: &str) -> Digest {
    let layout = Layout { lab, name: "layout" };
    let dir = lab.path("layout/blobs/sha256");
    fs::create_dir_all(&dir).expect("our own directory");
    let mut file = File::create(dir.join("new")).expect("our own file");
    let made = compress(&mut zeros(size), &mut file, how, 2).expect("it is written");
    fs::rename(dir.join("new"), dir.join(made.digest.hex())).expect("our own file");
    let layer = Descriptor::new(media, made.digest, made.size);
    layout.index(vec![image(&layout, vec![layer], &[made.diff_id])]);
    upload(fake, lab, "layout", "web", "1")
}

#[test]
fn a_layer_of_a_gigabyte_takes_little_memory() {
    let (lab, fake) = (Lab::new(), Fake::start());
    let digest = large(&lab, &fake, 1_000_000_000, Compression::Gzip, MEDIA_LAYER_GZIP);
    let pulled = with_little_memory(&lab, 100, &["pull", &format!("{}/web:1", fake.address)]);
    assert_eq!(good(pulled).out, format!("web:1 {digest}\n"));
}

#[test]
fn a_blob_larger_than_the_memory_goes_in_and_out() {
    const MEGABYTES: u64 = 96;
    let (lab, fake) = (Lab::new(), Fake::start());
    let digest = large(&lab, &fake, MEGABYTES << 20, Compression::None, MEDIA_LAYER);
    let bake = |args: &[&str]| with_little_memory(&lab, MEGABYTES * 3 / 4, args);
    let pulled = good(bake(&["pull", &format!("{}/web:1", fake.address)]));
    assert_eq!(pulled.out, format!("web:1 {digest}\n"));
    let to = Fake::start();
    good(bake(&["push", "web:1", &format!("{}/web", to.address)]));
    assert_eq!(to.tags("web")["1"], digest);
}

/// Fails each request twice before it is answered.
fn storm() -> Manners {
    let mut times: BTreeMap<(String, String), usize> = BTreeMap::new();
    Manners {
        before: Some(Box::new(move |seen| {
            let times = times.entry((seen.method.clone(), seen.target.clone())).or_default();
            *times += 1;
            let reply = |status| Some(Reply::new(status).with("retry-after", "0"));
            match (*times, seen.target.len() % 2) {
                (1, 0) => reply(429),
                (1, _) => reply(503),
                (2, 0) => reply(500),
                (2, _) => reply(502),
                _ => None,
            }
        })),
        ..Manners::default()
    }
}

#[test]
fn a_storm_is_ridden_out_in_both_directions() {
    let (lab, fake) = (Lab::new(), Fake::start());
    let layout = Layout { lab: &lab, name: "layout" };
    layout.index(vec![layout.manifest(&layout.image())]);
    let digest = upload(&fake, &lab, "layout", "web", "1");
    *fake.manners() = storm();
    good(lab.bake(["pull", &format!("{}/web:1", fake.address)]));
    let to = Fake::with(storm());
    good(lab.bake(["push", "web:1", &format!("{}/web", to.address)]));
    assert_eq!(to.tags("web")["1"], digest);
    // Nothing is ever deleted there: not every registry can.
    assert_eq!(to.count("DELETE", ""), 0);
}

#[test]
fn a_storm_without_end_ends_it() {
    let (lab, fake) = (Lab::new(), Fake::start());
    let layout = Layout { lab: &lab, name: "layout" };
    layout.index(vec![layout.manifest(&layout.image())]);
    upload(&fake, &lab, "layout", "web", "1");
    for status in [429, 500, 503] {
        fake.manners().before =
            Some(Box::new(move |_| Some(Reply::new(status).with("retry-after", "0"))));
        fake.forget_seen();
        let error = fake.repository("web").manifest("1").expect_err("it has no time");
        assert!(matches!(error, Error::Status { status: found, .. } if found == status), "{error}");
        assert_eq!(fake.count("GET", "manifests"), quick().limits.tries as usize);
        // A pause that nobody has the patience for is not waited.
        fake.manners().before =
            Some(Box::new(move |_| Some(Reply::new(status).with("retry-after", "100000"))));
        let error = fake.repository("web").manifest("1").expect_err("it has no time");
        assert!(matches!(error, Error::Later { .. }), "{error}");
    }
}

#[test]
fn one_byte_at_a_time_does_not_go_on_for_ever() {
    let fake = Fake::start();
    let blob = fake.blob("app", &bytes(1000));
    // Slower than anybody waits for, and a little comes each time.
    fake.manners().after =
        Some(Box::new(|_, reply| Reply { drip: Some((1, Duration::from_millis(50))), ..reply }));
    let mut out = vec![];
    let error = fake.repository("app").blob(&blob, &mut out, &mut |_| {}).expect_err("too slow");
    assert!(matches!(error, Error::Request { source: Failure::Timeout(_), .. }), "{error}");
    assert_eq!(fake.count("GET", "blobs"), quick().limits.tries as usize);
    assert!(!out.is_empty() && out.len() < 1000, "{}", out.len());
}

#[test]
fn indexes_that_lie_are_refused() {
    let lab = Lab::new();
    let here = Platform::host();
    let refused = |fake: &Fake, part: &str| {
        let pulled = lab.bake(["pull", &format!("{}/web:1", fake.address)]);
        assert_eq!((pulled.code, pulled.out.as_str()), (1, ""), "{part}: {}", pulled.err);
        assert!(pulled.err.contains(part), "{part}: {}", pulled.err);
    };
    // One that names itself: by a digest that its bytes cannot have.
    let fake = Fake::start();
    let own = Descriptor::new(MEDIA_INDEX, Digest::of("itself"), 0).with_platform(here.clone());
    let cyclic = Index { manifests: vec![own.clone()], ..Index::default() }.to_json();
    let key = ("web".to_owned(), own.digest.to_string());
    fake.manifest("web", "1", MEDIA_INDEX, &cyclic);
    fake.content().manifests.insert(key, (MEDIA_INDEX.to_owned(), cyclic));
    refused(&fake, "is not what the registry says");
    // One that says of a manifest that it is for another platform, of another size, or an index.
    type Bend = fn(&mut Descriptor);
    let cases: [(&str, Bend, &str); 3] = [
        ("platform", |one| one.platform = Some(Platform::linux("s390x")), "and its index says"),
        ("size", |one| one.size += 1, "bytes"),
        ("media", |one| one.media_type = MEDIA_INDEX.to_owned(), "and is named as"),
    ];
    for (name, bend, part) in cases {
        let (fake, layout) = (Fake::start(), Layout { lab: &lab, name });
        let mut config = ImageConfig::new(0, &here);
        let (layer, diff_id) = layout.layer();
        config.rootfs.diff_ids = vec![diff_id];
        let config = layout.put(MEDIA_CONFIG, &config.to_json());
        let mut named = layout.manifest(&Manifest::new(config, vec![layer]));
        named.platform = Some(here.clone());
        bend(&mut named);
        let platform = named.platform.clone().expect("each has one");
        let index = Index { manifests: vec![named], ..Index::default() };
        layout.index(vec![layout.put(MEDIA_INDEX, &index.to_json())]);
        upload(&fake, &lab, name, "web", "1");
        let remote = format!("{}/web:1", fake.address);
        let pulled = lab.bake(["pull", &remote, "--platform", &platform.to_string()]);
        assert_eq!((pulled.code, pulled.out.as_str()), (1, ""), "{name}: {}", pulled.err);
        assert!(pulled.err.contains(part), "{name}: {part}: {}", pulled.err);
    }
    assert_eq!(good(lab.bake(["list", "--names"])).out, "");
}
