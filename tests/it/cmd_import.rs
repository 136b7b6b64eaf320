//! `bake import`: what other tools keep in files becomes a version, as it was; what is not what it
//! says becomes nothing.

use std::fs;
use std::io::Write;
use std::process::Command;

use bake::digest::Digest;
use bake::image::{
    Descriptor, ImageConfig, Index, MEDIA_CONFIG, MEDIA_DOCKER_CONFIG, MEDIA_DOCKER_INDEX,
    MEDIA_DOCKER_LAYER_GZIP, MEDIA_DOCKER_MANIFEST, MEDIA_INDEX, MEDIA_LAYER, MEDIA_LAYER_GZIP,
    MEDIA_MANIFEST, Manifest, Platform,
};
use bake::layer::{Compression, compress};

use crate::lab::{Lab, Run, run};
use crate::layer_lab::{Raw, tar};
use crate::tier;

fn good(run: Run) -> Run {
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    run
}

/// The digest that a run has printed behind the name of its image.
fn digest(run: &Run) -> &str {
    run.out.trim().split_once(' ').map_or("", |(_, digest)| digest)
}

/// Names, modes, owners and contents of an image.
fn names(lab: &Lab, image: &str) -> String {
    let out = good(lab.bake(["export", image, "--format", "manifest", "--output", "-"])).out;
    out.lines().filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn what_bake_exports_it_imports_as_it_was() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    let head = "[image]\nname = \"tiny\"\nversion = \"1\"\n[config]\nenv = { WHO = \"me\" }\n";
    let steps = "[base]\npath = \"root\"\n[[step]]\nrun = \"mkdir /made\"\n";
    lab.write("tiny.toml", &format!("{head}{steps}"));
    let built = good(lab.bake(["build", "tiny.toml"]));
    let export = |format: &str, to: &str| {
        good(lab.bake(["export", "tiny:1", "--format", format, "--output", to]));
    };
    export("oci-archive", "oci.tar");
    export("docker-archive", "docker.tar");
    let packed = Command::new("gzip").arg("-k").arg(lab.path("oci.tar")).status();
    assert!(packed.expect("gzip").success());

    // The very same image, from a plain and from a compressed archive, and once more.
    let first = good(lab.bake(["import", "oci.tar", "theirs:1"]));
    assert_eq!(digest(&first), digest(&built));
    let again = good(lab.bake(["import", "--json", "oci.tar.gz", "theirs:1"]));
    assert!(again.out.contains("\"already\":true"), "{}", again.out);
    // Docker's archive says less: the same files and settings over plain layers.
    let docker = good(lab.bake(["import", "docker.tar", "theirs:2"]));
    assert_ne!(digest(&docker), digest(&built));
    assert_eq!(names(&lab, "theirs:2"), names(&lab, "tiny:1"));
    let taken = lab.bake(["import", "docker.tar", "theirs:1"]);
    assert_eq!(taken.code, 1, "{}", taken.err);
    assert!(taken.err.contains("theirs:1 exists already with other content"), "{}", taken.err);
    good(lab.bake(["verify"]));

    // It is run, and built on.
    let ran = good(lab.bake(["run", "theirs:2", "/bin/sh", "-c", "echo $WHO; ls -d /made"]));
    assert_eq!(ran.out, "me\n/made\n");
    lab.write(
        "above.toml",
        "[image]\nname = \"above\"\nversion = \"1\"\n[base]\nimage = \"theirs:2\"\n[[step]]\nrun = \"test $WHO = me\"\n",
    );
    good(lab.bake(["build", "above.toml"]));
    assert_eq!(lab.scratch(), [""; 0].map(|_| lab.path("")));
}

/// An OCI layout that can be bent in any way.
pub(crate) struct Layout<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) name: &'a str,
}

impl Layout<'_> {
    pub(crate) fn put(&self, media: &str, bytes: &[u8]) -> Descriptor {
        let digest = Digest::of(bytes);
        let path = self.lab.path(self.name).join("blobs/sha256").join(digest.hex());
        fs::create_dir_all(path.parent().expect("below it")).expect("our own directory");
        fs::write(path, bytes).expect("our own file");
        Descriptor::new(media, digest, bytes.len() as u64)
    }

    /// One layer with one file, compressed.
    pub(crate) fn layer(&self) -> (Descriptor, Digest) {
        let tar = tar(&[Raw::file("etc/motd", b"hello")]);
        let mut blob = vec![];
        let named = compress(&mut &tar[..], &mut blob, Compression::Gzip, 1).expect("memory");
        (self.put(MEDIA_LAYER_GZIP, &blob), named.diff_id)
    }

    pub(crate) fn config(&self, media: &str, diff_ids: &[Digest]) -> Descriptor {
        let mut config = ImageConfig::new(0, &Platform::host());
        config.rootfs.diff_ids = diff_ids.to_vec();
        self.put(media, &config.to_json())
    }

    pub(crate) fn manifest(&self, manifest: &Manifest) -> Descriptor {
        self.put(manifest.media_type.as_deref().unwrap_or(MEDIA_MANIFEST), &manifest.to_json())
    }

    pub(crate) fn index(&self, manifests: Vec<Descriptor>) {
        let index = Index { manifests, ..Index::default() };
        let path = self.lab.path(self.name).join("index.json");
        fs::write(path, index.to_json()).expect("our own file");
    }

    /// Indexes inside each other, more than anybody follows.
    pub(crate) fn nested(&self) {
        let mut named = self.manifest(&self.image());
        for _ in 0..6 {
            let inner = Index { manifests: vec![named], ..Index::default() };
            named = self.put(MEDIA_INDEX, &inner.to_json());
        }
        self.index(vec![named]);
    }

    /// Two images, called `a` and `b`.
    pub(crate) fn several(&self) {
        let one = self.manifest(&self.image());
        let name = "org.opencontainers.image.ref.name";
        self.index(vec![one.clone().with_annotation(name, "a"), one.with_annotation(name, "b")]);
    }

    /// A good image.
    pub(crate) fn image(&self) -> Manifest {
        let (layer, diff_id) = self.layer();
        Manifest::new(self.config(MEDIA_CONFIG, &[diff_id]), vec![layer])
    }
}

#[test]
fn docker_manifests_and_those_without_a_media_type_become_ours() {
    let lab = Lab::new();
    let import = |name: &str, version: &str| good(lab.bake(["import", name, version]));
    let oci = Layout { lab: &lab, name: "oci" };
    let ours = oci.image();
    oci.index(vec![oci.manifest(&ours)]);
    let plain = import("oci", "x:1");

    let silent = Layout { lab: &lab, name: "silent" };
    let mut manifest = silent.image();
    manifest.media_type = None;
    silent.index(vec![silent.manifest(&manifest)]);
    assert_eq!(digest(&import("silent", "x:2")), digest(&plain), "written anew as ours");

    // Docker's, behind an index of several platforms.
    let docker = Layout { lab: &lab, name: "docker" };
    let (mut layer, diff_id) = docker.layer();
    layer.media_type = MEDIA_DOCKER_LAYER_GZIP.to_owned();
    let mut manifest = Manifest::new(docker.config(MEDIA_DOCKER_CONFIG, &[diff_id]), vec![layer]);
    manifest.media_type = Some(MEDIA_DOCKER_MANIFEST.to_owned());
    let here = docker.manifest(&manifest).with_platform(Platform::host());
    let there = Descriptor::new(MEDIA_DOCKER_MANIFEST, Digest::of("elsewhere"), 9)
        .with_platform(Platform::linux("s390x"));
    let all = Index {
        media_type: Some(MEDIA_DOCKER_INDEX.to_owned()),
        manifests: vec![there, here],
        ..Index::default()
    };
    docker.index(vec![docker.put(MEDIA_DOCKER_INDEX, &all.to_json())]);
    assert_eq!(digest(&import("docker", "x:3")), digest(&plain), "the same image in our words");
    good(lab.bake(["verify"]));
}

#[test]
fn what_is_not_what_it_says_is_not_imported() {
    let lab = Lab::new();
    let first = Layout { lab: &lab, name: "first" };
    first.index(vec![first.manifest(&first.image())]);
    good(lab.bake(["import", "first", "good:1"]));
    let before = lab.images_hash();
    type Bend = fn(&Layout<'_>);
    let cases: &[(&str, Bend, &str)] = &[
        ("nothing", |at| drop(at.image()), "has neither an index.json"),
        ("empty", |at| at.index(vec![]), "has no image"),
        (
            "missing-layer",
            |at| {
                let mut manifest = at.image();
                manifest.layers[0].digest = Digest::of("gone");
                at.index(vec![at.manifest(&manifest)]);
            },
            "has no blobs/sha256/",
        ),
        (
            "size",
            |at| {
                let mut manifest = at.image();
                manifest.layers[0].size += 1;
                at.index(vec![at.manifest(&manifest)]);
            },
            "its descriptor says",
        ),
        (
            "short",
            |at| {
                let mut manifest = at.image();
                manifest.layers[0].size -= 1;
                at.index(vec![at.manifest(&manifest)]);
            },
            "its descriptor says",
        ),
        (
            "corrupt",
            |at| {
                let manifest = at.image();
                let path = format!("{}/blobs/sha256/{}", at.name, manifest.layers[0].digest.hex());
                let mut bytes = fs::read(at.lab.path(&path)).expect("our own file");
                bytes[12] ^= 1;
                fs::write(at.lab.path(&path), bytes).expect("our own file");
                at.index(vec![at.manifest(&manifest)]);
            },
            "is corrupt",
        ),
        (
            "diff-id",
            |at| {
                let (layer, _) = at.layer();
                let config = at.config(MEDIA_CONFIG, &[Digest::of("another tar")]);
                at.index(vec![at.manifest(&Manifest::new(config, vec![layer]))]);
            },
            "and the config says",
        ),
        (
            "diff-ids",
            |at| {
                let (layer, diff_id) = at.layer();
                let config = at.config(MEDIA_CONFIG, &[diff_id, diff_id]);
                at.index(vec![at.manifest(&Manifest::new(config, vec![layer]))]);
            },
            "has 2 diff_ids, the manifest has 1 layers",
        ),
        (
            "compression",
            |at| {
                let mut manifest = at.image();
                manifest.layers[0].media_type = "application/vnd.oci.image.layer.v1.tar".to_owned();
                at.index(vec![at.manifest(&manifest)]);
            },
            "is not compressed as its media type says",
        ),
        (
            "xz",
            |at| {
                let tar = tar(&[Raw::file("etc/motd", b"hello")]);
                let layer = at.put(MEDIA_LAYER, &[b"\xfd7zXZ\0", &tar[..]].concat());
                let config = at.config(MEDIA_CONFIG, &[Digest::of(&tar)]);
                at.index(vec![at.manifest(&Manifest::new(config, vec![layer]))]);
            },
            "is compressed with xz",
        ),
        (
            "foreign-layer",
            |at| {
                let mut manifest = at.image();
                manifest.layers[0].media_type =
                    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".to_owned();
                at.index(vec![at.manifest(&manifest)]);
            },
            "has a foreign layer, 1 of type",
        ),
        (
            "schema-1",
            |at| {
                let mut manifest = at.image();
                manifest.schema_version = 1;
                at.index(vec![at.manifest(&manifest)]);
            },
            "schemaVersion is 1",
        ),
        (
            "two-faces",
            |at| {
                let mut manifest = at.image();
                manifest.extra.insert("manifests".to_owned(), serde_json::json!([]));
                at.index(vec![at.manifest(&manifest)]);
            },
            "has `manifests` like an index",
        ),
        (
            "misnamed",
            |at| {
                let mut named = at.manifest(&at.image());
                named.media_type = MEDIA_DOCKER_MANIFEST.to_owned();
                at.index(vec![named]);
            },
            "calls itself",
        ),
        (
            "hostile-tar",
            |at| {
                let tar = tar(&[Raw::file("../../etc/passwd", b"x")]);
                let layer = at.put("application/vnd.oci.image.layer.v1.tar", &tar);
                let config = at.config(MEDIA_CONFIG, &[Digest::of(&tar)]);
                at.index(vec![at.manifest(&Manifest::new(config, vec![layer]))]);
            },
            "cannot be unpacked",
        ),
        (
            "elsewhere",
            |at| {
                let named = at.manifest(&at.image()).with_platform(Platform::linux("s390x"));
                let inner = Index { manifests: vec![named], ..Index::default() };
                at.index(vec![at.put(MEDIA_INDEX, &inner.to_json())]);
            },
            "only for linux/s390x",
        ),
        ("nested", |at| at.nested(), "indexes inside each other"),
        ("several", |at| at.several(), "--named b"),
    ];
    for (name, bend, expected) in cases {
        fs::create_dir_all(lab.path(name)).expect("our own directory");
        bend(&Layout { lab: &lab, name });
        let refused = lab.bake(["import", name, "x:1"]);
        assert_eq!(refused.code, 1, "{name}: {}{}", refused.out, refused.err);
        assert!(refused.err.contains(expected), "{name}: {}", refused.err);
        assert_eq!(lab.images_hash(), before, "{name}");
        assert!(lab.scratch().is_empty(), "{name}");
    }
    good(lab.bake(["import", "several", "x:1", "--named", "b"]));
}

#[test]
fn archives_are_read_where_they_lie_and_nowhere_else() {
    let lab = Lab::new();
    let layout = Layout { lab: &lab, name: "layout" };
    layout.index(vec![layout.manifest(&layout.image())]);
    let pack = |more: &[&str], to: &str| {
        let mut packed = Command::new("tar");
        packed.args(more).arg("-cf").arg(lab.path(to)).arg("-C").arg(lab.path("layout")).arg(".");
        assert!(packed.status().expect("tar").success());
    };
    pack(&[], "good.tar");
    good(lab.bake(["import", "good.tar", "x:1"]));
    // A blob that is a symlink out of the directory, and out of the archive.
    let before = lab.images_hash();
    let blobs = lab.path("layout/blobs/sha256");
    let one =
        fs::read_dir(&blobs).expect("our own").next().expect("three").expect("our own").path();
    fs::rename(&one, lab.path("outside")).expect("our own file");
    std::os::unix::fs::symlink(lab.path("outside"), &one).expect("a symlink");
    pack(&[], "out.tar");
    let fifo = Command::new("mkfifo").arg(lab.path("fifo")).status();
    assert!(fifo.expect("mkfifo").success());
    fs::write(lab.path("text"), "no tar").expect("our own file");
    let whole = fs::read(lab.path("good.tar")).expect("our own file");
    fs::write(lab.path("cut.tar"), &whole[..whole.len() / 2]).expect("our own file");
    for source in ["layout", "out.tar", "fifo", "text", "cut.tar", "not-there", "/dev/zero"] {
        let refused = lab.bake(["import", source, "x:2"]);
        assert_eq!(refused.code, 1, "{source}: {}{}", refused.out, refused.err);
        assert!(refused.err.starts_with("error: cannot "), "{source}: {}", refused.err);
        assert_eq!(lab.images_hash(), before, "{source}");
    }
    let nameless = lab.bake(["import", "good.tar", "x"]);
    assert_eq!(nameless.code, 2, "{}", nameless.err);
}

#[test]
fn a_bomb_is_an_error() {
    let lab = Lab::new();
    let layout = Layout { lab: &lab, name: "layout" };
    let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    // A tar of nothing but zeros ends at once: the bytes behind its end are what swells.
    for _ in 0..1100 {
        packed.write_all(&zeros).expect("memory");
    }
    let layer = layout.put(MEDIA_LAYER_GZIP, &packed.finish().expect("memory"));
    let config = layout.config(MEDIA_CONFIG, &[Digest::of("whatever")]);
    layout.index(vec![layout.manifest(&Manifest::new(config, vec![layer]))]);
    let refused = lab.bake(["import", "layout", "x:1"]);
    assert_eq!(refused.code, 1, "{}", refused.err);
}

#[test]
fn tools_images_of_skopeo_and_umoci_are_imported() {
    if !tier::tool("skopeo") || !tier::tool("umoci") || !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    lab.write(
        "tiny.toml",
        "[image]\nname = \"tiny\"\nversion = \"1\"\n[base]\npath = \"root\"\n[[step]]\nrun = \"mkdir /made\"\n",
    );
    good(lab.bake(["build", "tiny.toml"]));
    let store = format!("oci:{}:tiny:1", lab.path("store").display());
    let at = |name: &str| lab.path(name).display().to_string();
    let skopeo = |to: &str| {
        good(run(Command::new("skopeo").args(["--insecure-policy", "copy", &store, to])));
    };
    skopeo(&format!("oci:{}:one", at("layout")));
    skopeo(&format!("oci-archive:{}", at("oci.tar")));
    skopeo(&format!("docker-archive:{}:tiny:1", at("docker.tar")));
    let layout = format!("{}:umoci", at("umoci"));
    for args in [["init", "--layout", &at("umoci")], ["new", "--image", &layout]] {
        good(run(Command::new("umoci").args(args)));
    }
    let (image, bundle) = (layout.as_str(), at("bundle"));
    good(run(Command::new("umoci").args(["unpack", "--rootless", "--image", image, &bundle])));
    lab.write("bundle/rootfs/etc/motd", "hello");
    good(run(Command::new("umoci").args(["repack", "--image", image, &bundle])));
    for (version, source) in ["layout", "oci.tar", "docker.tar", "umoci"].iter().enumerate() {
        good(lab.bake(["import", source, &format!("theirs:{version}")]));
    }
    for version in 0..3 {
        assert_eq!(names(&lab, &format!("theirs:{version}")), names(&lab, "tiny:1"));
    }
    assert!(names(&lab, "theirs:3").contains("motd"));
    good(lab.bake(["verify"]));
}
