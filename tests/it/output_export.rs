//! A stored image as a file or a directory: what is in it, that it is always the same bytes, and
//! that it is whole or absent.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use bake::digest::Digest;
use bake::image::{
    Descriptor, History, ImageConfig, MEDIA_CONFIG, MEDIA_LAYER, MEDIA_LAYER_GZIP,
    MEDIA_LAYER_ZSTD, MEDIA_MANIFEST, Manifest, Platform, Reference,
};
use bake::layer::{Compression, Limits, TarReader, compress};
use bake::output::{Error, Exported, Format, Options, Source, export, write};

use crate::layer_lab::{Raw, listing, tar};
use crate::tier;

/// Blobs in a directory, and one image in them.
struct Image {
    dir: tempfile::TempDir,
    reference: Reference,
    manifest: Descriptor,
}

impl Image {
    fn of(layers: &[Vec<u8>]) -> Self {
        Self::with(layers, 3, |config| config.rootfs.diff_ids.clone())
    }

    /// Uses the first `kinds` of none, gzip and zstd in turn; `ids` may lie about the layers.
    fn with(layers: &[Vec<u8>], kinds: usize, ids: impl Fn(&ImageConfig) -> Vec<Digest>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let put = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            fs::write(dir.path().join(digest.hex()), bytes).expect("write");
            (digest, bytes.len() as u64)
        };
        let platform: Platform = "linux/amd64".parse().expect("a platform");
        let mut config = ImageConfig::new(1_700_000_000, &platform);
        let mut descriptors = vec![];
        for (n, layer) in layers.iter().enumerate() {
            let kind = [
                (Compression::None, MEDIA_LAYER),
                (Compression::Gzip, MEDIA_LAYER_GZIP),
                (Compression::Zstd, MEDIA_LAYER_ZSTD),
            ];
            let (how, media) = kind[n % kinds];
            let mut blob = vec![];
            let named = compress(&mut &layer[..], &mut blob, how, 2).expect("memory to memory");
            let (digest, size) = put(&blob);
            config.rootfs.diff_ids.push(named.diff_id);
            config.history.push(History::new(1_700_000_000, "bake", "a step", false));
            descriptors.push(Descriptor::new(media, digest, size));
        }
        config.rootfs.diff_ids = ids(&config);
        let (digest, size) = put(&config.to_json());
        let manifest = Manifest::new(Descriptor::new(MEDIA_CONFIG, digest, size), descriptors);
        let (digest, size) = put(&manifest.to_json());
        let manifest = Descriptor::new(MEDIA_MANIFEST, digest, size)
            .with_annotation("org.opencontainers.image.ref.name", "stored:name");
        Self { dir, reference: Reference::new("web", "2.0.0").expect("a reference"), manifest }
    }

    fn source<T>(&self, then: impl FnOnce(&Source<'_>) -> T) -> T {
        let blob = |digest: &Digest| File::open(self.dir.path().join(digest.hex()));
        then(&Source { reference: &self.reference, manifest: &self.manifest, blob: &blob })
    }

    fn export(&self, format: Format, dest: &Path, options: Options) -> Result<Exported, Error> {
        self.source(|source| export(source, format, dest, &options, None))
    }

    /// Exports to a new place, and returns the bytes.
    fn bytes(&self, format: Format) -> Vec<u8> {
        let dir = tempfile::tempdir().expect("a directory");
        let dest = dir.path().join("out");
        let exported = self.export(format, &dest, Options::default()).expect("exported");
        let bytes = fs::read(&dest).expect("read");
        assert_eq!(
            exported,
            Exported {
                bytes: bytes.len() as u64,
                digest: Some(Digest::of(&bytes)),
                remarks: vec![]
            }
        );
        assert_eq!(names(dir.path()), ["out"], "nothing else is left");
        let mut stream = vec![];
        self.source(|source| write(source, format, &mut stream)).expect("written");
        assert_eq!(stream, bytes, "a stream gets the same");
        bytes
    }

    /// Damages the blob that `choose` says yes to.
    fn damage(&self, blob: &Digest) {
        let path = self.dir.path().join(blob.hex());
        let mut bytes = fs::read(&path).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).expect("write");
    }

    fn read(&self) -> Manifest {
        Manifest::parse(&fs::read(self.dir.path().join(self.manifest.digest.hex())).expect("read"))
            .expect("a manifest")
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .expect("list")
        .map(|e| e.expect("list").file_name().into_string().expect("utf-8"))
        .collect();
    names.sort();
    names
}

/// Three layers with every way to hide and replace.
fn layers() -> Vec<Vec<u8>> {
    vec![
        tar(&[
            Raw::dir("etc"),
            Raw::file("etc/a", b"1"),
            Raw::file("etc/b", b"1"),
            Raw::dir("opt"),
            Raw::file("opt/old", b"1"),
            Raw::dir("opt/sub"),
            Raw::file("opt/sub/old", b"1"),
            Raw::dir("usr"),
            Raw::dir("usr/bin"),
            Raw::file("usr/bin/one", b"hard"),
            Raw::link(b'1', "usr/bin/two", "usr/bin/one"),
            Raw::link(b'2', "bin", "usr/bin"),
            Raw::dir("var/lib/x"),
            Raw::file("was-file", b"1"),
            Raw::dir("was-dir/below"),
        ]),
        tar(&[
            Raw::file("etc/.wh.a", b""),
            Raw::file("etc/b", b"2").mode(0o4755),
            Raw::dir("opt").mode(0o700),
            Raw::file("opt/.wh..wh..opq", b""),
            Raw::file("opt/new", b"2"),
            Raw::file("usr/bin/.wh.one", b""),
            Raw::dir("was-file").mode(0o1777),
            Raw::file("was-dir", b"2"),
            Raw::file(".wh.nothing", b""),
        ]),
        tar(&[
            Raw::file("bin/three", b"3"),
            Raw::pax(b'x', &[("SCHILY.xattr.user.note", b"n")]),
            Raw::file("etc/c", b"3"),
            Raw::new(b'6', b"pipe").mode(0o622),
            Raw::file(".wh.var", b""),
            Raw::link(b'1', "etc/same", "opt/new"),
        ]),
    ]
}

fn expected() -> Vec<String> {
    let mut lines: Vec<String> = [
        "bin -> usr/bin",
        "etc/ 755",
        "etc/b 4755 2",
        "etc/c 644 3",
        "etc/same 644 2",
        "opt/ 700",
        "opt/new 644 2",
        "pipe | 622",
        "usr/ 755",
        "usr/bin/ 755",
        "usr/bin/three 644 3",
        "usr/bin/two 644 hard",
        "was-dir 644 2",
        "was-file/ 1777",
    ]
    .map(str::to_owned)
    .to_vec();
    lines.sort();
    lines
}

fn unpacked(bytes: &[u8]) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a directory");
    bake::layer::unpack(&mut &bytes[..], dir.path(), bake::layer::Form::Tree, &Limits::default())
        .expect("our own tar");
    listing(dir.path())
}

#[test]
fn a_flat_tar_holds_what_the_layers_mean() {
    let image = Image::of(&layers());
    let bytes = image.bytes(Format::Tar);
    assert_eq!(unpacked(&bytes), expected());
    let mut reader = TarReader::new(&bytes[..], &Limits::default());
    let mut paths = vec![];
    while let Some(entry) = reader.next().expect("our own tar") {
        if entry.path == b"opt/new" {
            assert_eq!(
                entry.kind,
                bake::layer::Kind::Link(b"etc/same".to_vec()),
                "the first name has the contents"
            );
        }
        if entry.path == b"etc/c" {
            assert_eq!(entry.meta.xattrs[&b"user.note"[..]], b"n");
        }
        assert_eq!(entry.meta.mtime, 1000, "times are the layers'");
        paths.push(entry.path);
    }
    assert!(paths.is_sorted_by(|a, b| bake::layer::compare(a, b).is_lt()), "sorted");
    assert_eq!(image.bytes(Format::Tar), bytes);
}

#[test]
fn a_flat_tar_and_a_tree_unpacked_layer_by_layer_agree() {
    let image = Image::of(&layers());
    let dir = tempfile::tempdir().expect("a directory");
    for layer in layers() {
        bake::layer::unpack(
            &mut &layer[..],
            dir.path(),
            bake::layer::Form::Tree,
            &Limits::default(),
        )
        .expect("a layer");
    }
    assert_eq!(listing(dir.path()), unpacked(&image.bytes(Format::Tar)));
}

#[test]
fn root_a_directory_holds_what_the_layers_mean() {
    if !tier::root() {
        return;
    }
    let mut all = layers();
    all.push(tar(&[
        Raw::dir("./").mode(0o711),
        Raw::file("etc/d", b"4").mode(0o6755).octal(108, 8, 33).octal(116, 8, 42),
    ]));
    let image = Image::of(&all);
    let dir = tempfile::tempdir().expect("a directory");
    let dest = dir.path().join("rootfs");
    image.export(Format::Dir, &dest, Options::default()).expect("exported");
    let mut lines = expected();
    lines.push("etc/d 6755 4".to_owned());
    lines.sort();
    assert_eq!(listing(&dest), lines);
    let stat = |path: &str| fs::symlink_metadata(dest.join(path)).expect("stat");
    assert_eq!((stat("etc/d").uid(), stat("etc/d").gid()), (33, 42));
    assert_eq!(stat("").permissions().mode() & 0o7777, 0o711);
    assert_eq!(stat("etc/same").ino(), stat("opt/new").ino());
    assert_eq!(names(dir.path()), ["rootfs"]);
    let again = image.export(Format::Dir, &dest, Options::default()).expect_err("exists");
    assert!(matches!(again, Error::Exists { .. }), "{again}");
    fs::write(dest.join("more"), "x").expect("write");
    image
        .export(
            Format::Dir,
            &dest,
            Options { force: true, drop_owners: true, ..Options::default() },
        )
        .expect("replaced");
    assert_eq!((names(dir.path()), dest.join("more").exists()), (vec!["rootfs".to_owned()], false));
    assert_eq!(
        (stat("etc/d").uid(), stat("etc/d").permissions().mode() & 0o7777),
        (0, 0o755),
        "owners dropped, and setuid with them"
    );
}

#[test]
fn the_top_directory_is_reported_where_it_is_unusual() {
    let image = Image::of(&[tar(&[Raw::dir(".").mode(0o700), Raw::file("f", b"x")])]);
    let bytes = image.bytes(Format::Tar);
    let first =
        TarReader::new(&bytes[..], &Limits::default()).next().expect("our own").expect("an entry");
    assert_eq!((first.path, first.meta.mode), (vec![], 0o700));
}

#[test]
fn an_oci_archive_is_a_layout_with_one_image() {
    let image = Image::of(&layers());
    let bytes = image.bytes(Format::OciArchive);
    let mut files = contents(&bytes);
    assert_eq!(files.remove("oci-layout").expect("there"), br#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: serde_json::Value =
        serde_json::from_slice(&files.remove("index.json").expect("there")).expect("JSON");
    assert_eq!(index["manifests"][0]["digest"], image.manifest.digest.to_string());
    assert_eq!(
        index["manifests"][0]["annotations"],
        serde_json::json!({"org.opencontainers.image.ref.name": "web:2.0.0"})
    );
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1));
    let mut blobs: Vec<_> = files.keys().cloned().collect();
    blobs.sort();
    let mut stored: Vec<_> =
        names(image.dir.path()).iter().map(|hex| format!("blobs/sha256/{hex}")).collect();
    stored.sort();
    assert_eq!(blobs, stored);
    for (name, bytes) in files {
        assert_eq!(format!("blobs/sha256/{}", Digest::of(bytes).hex()), name);
    }
    assert_eq!(image.bytes(Format::OciArchive), bytes);
}

fn contents(tar: &[u8]) -> HashMap<String, Vec<u8>> {
    let mut reader = TarReader::new(tar, &Limits::default());
    let mut files = HashMap::new();
    while let Some(entry) = reader.next().expect("our own tar") {
        let mut bytes = vec![];
        reader.read_to_end(&mut bytes).expect("our own tar");
        if entry.kind == bake::layer::Kind::File {
            files.insert(String::from_utf8(entry.path).expect("ascii"), bytes);
        }
    }
    files
}

#[test]
fn a_docker_archive_lists_plain_layers() {
    let mut all = layers();
    // The same layer twice is one file, listed twice.
    all.push(all[2].clone());
    let image = Image::of(&all);
    let files = contents(&image.bytes(Format::DockerArchive));
    let listed: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).expect("JSON");
    let names: Vec<_> =
        all.iter().map(|layer| format!("{}.tar", Digest::of(layer).hex())).collect();
    let config = format!("{}.json", image.read().config.digest.hex());
    assert_eq!(
        listed,
        serde_json::json!([{"Config": config, "RepoTags": ["web:2.0.0"], "Layers": names}])
    );
    assert_eq!(files.len(), 5);
    for (name, layer) in names.iter().zip(&all) {
        assert_eq!(&files[name], layer);
    }
    assert!(files.contains_key(&config));
}

#[test]
fn an_image_without_a_version_has_no_name_in_the_archive() {
    let mut image = Image::of(&layers());
    image.reference.version = None;
    let index: serde_json::Value =
        serde_json::from_slice(&contents(&image.bytes(Format::OciArchive))["index.json"])
            .expect("JSON");
    assert_eq!(index["manifests"][0].get("annotations"), None);
    let listed: serde_json::Value =
        serde_json::from_slice(&contents(&image.bytes(Format::DockerArchive))["manifest.json"])
            .expect("JSON");
    assert_eq!(listed[0]["RepoTags"], serde_json::json!([]));
}

fn failed(image: &Image, format: Format) -> Error {
    let dir = tempfile::tempdir().expect("a directory");
    let error = image
        .export(
            format,
            &dir.path().join("out"),
            Options { drop_owners: true, ..Options::default() },
        )
        .expect_err("must fail");
    assert_eq!(
        names(dir.path()),
        Vec::<String>::new(),
        "{format:?}: a failed export leaves nothing"
    );
    error
}

#[test]
fn damaged_and_missing_blobs_are_named() {
    for format in Format::ALL.into_iter().filter(|format| format.program().is_none()) {
        let manifest = Image::of(&layers()).read();
        let layers_and_config = manifest.layers.iter().chain([&manifest.config]);
        for blob in layers_and_config.map(|b| b.digest) {
            let image = Image::of(&layers());
            image.damage(&blob);
            let error = failed(&image, format);
            let text = format!(
                "{error} {}",
                std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
            );
            assert!(text.contains(&blob.to_string()), "{format:?}: {text}");
            let image = Image::of(&layers());
            fs::remove_file(image.dir.path().join(blob.hex())).expect("remove");
            let error = failed(&image, format);
            assert!(
                matches!(&error, Error::Blob { digest, .. } if *digest == blob),
                "{format:?}: {error:?}"
            );
            let image = Image::of(&layers());
            let path = image.dir.path().join(blob.hex());
            fs::OpenOptions::new().write(true).open(path).expect("open").set_len(20).expect("cut");
            let error = failed(&image, format);
            assert!(
                matches!(&error, Error::Corrupt { digest, .. } if *digest == blob),
                "{format:?}: {error:?}"
            );
        }
    }
}

#[test]
fn a_wrong_diff_id_is_found() {
    let image = Image::with(&layers(), 3, |_| vec![Digest::of("other"); 3]);
    for format in [Format::DockerArchive, Format::Tar, Format::Dir, Format::Manifest] {
        let error = failed(&image, format);
        assert!(
            matches!(&error, Error::Corrupt { what, .. } if what.contains("the config says")),
            "{format:?}: {error}"
        );
    }
    let image = Image::with(&layers(), 3, |_| vec![]);
    assert!(
        failed(&image, Format::Tar)
            .to_string()
            .contains("has 0 diff_ids, the manifest has 3 layers")
    );
}

#[test]
fn hostile_layers_are_named() {
    for bad in [
        tar(&[Raw::file("../f", b"")]),
        tar(&[Raw::file("f", b""), Raw::file("f", b"")]),
        tar(&[Raw::new(b'3', b"null")]),
        tar(&[Raw::link(b'1', "a", "b")]),
        tar(&[Raw::link(b'2', "a", "a"), Raw::file("a/b", b"")]),
        tar(&[Raw::file("f", b""), Raw::file("f/g", b"")]),
        tar(&[Raw::file("f", b"x")])[..512].to_vec(),
        b"not a tar at all".to_vec(),
    ] {
        let image = Image::of(&[layers()[0].clone(), bad]);
        for format in [Format::Tar, Format::Dir, Format::Manifest] {
            let error = failed(&image, format);
            let digest = image.read().layers[1].digest;
            assert!(
                matches!(&error, Error::Layer { digest: found, .. } if *found == digest),
                "{format:?}: {error:?}"
            );
        }
    }
}

#[test]
fn what_is_no_image_is_refused() {
    let image = Image::of(&layers());
    let mut manifest = image.read();
    manifest.config.media_type = "application/vnd.oci.empty.v1+json".to_owned();
    let mut other = Image::of(&layers());
    let bytes = manifest.to_json();
    let digest = Digest::of(&bytes);
    fs::write(other.dir.path().join(digest.hex()), &bytes).expect("write");
    other.manifest = Descriptor::new(MEDIA_MANIFEST, digest, bytes.len() as u64);
    assert!(matches!(failed(&other, Format::OciArchive), Error::Flawed(_)));
}

#[test]
fn destinations_are_whole_or_untouched() {
    let image = Image::of(&layers());
    let dir = tempfile::tempdir().expect("a directory");
    let dest = dir.path().join("web.tar");
    let force = Options { force: true, ..Options::default() };
    fs::write(&dest, "precious").expect("write");
    let error = image.export(Format::Tar, &dest, Options::default()).expect_err("exists");
    assert_eq!(
        error.to_string(),
        format!("cannot write {}: a file or directory of that name exists", dest.display())
    );
    assert_eq!(fs::read(&dest).expect("read"), b"precious");
    image.export(Format::Tar, &dest, force.clone()).expect("replaced");
    assert_eq!(fs::read(&dest).expect("read"), image.bytes(Format::Tar));
    assert_eq!(names(dir.path()), ["web.tar"]);
    fs::create_dir(dir.path().join("d")).expect("mkdir");
    let error =
        image.export(Format::Tar, &dir.path().join("d"), force.clone()).expect_err("a directory");
    assert!(matches!(error, Error::Kind { found: "a directory", .. }), "{error}");
    for dest in ["no/such/out", "..", "/"] {
        image.export(Format::Tar, &dir.path().join(dest), Options::default()).expect_err(dest);
    }
    let mut stream = vec![];
    assert!(matches!(
        image.source(|source| write(source, Format::Dir, &mut stream)),
        Err(Error::Stream { .. })
    ));
}

#[test]
fn directories_are_whole_or_untouched() {
    let image = Image::of(&layers());
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    let options = Options { force: true, drop_owners: true, ..Options::default() };
    image.export(Format::Dir, &at("root"), options.clone()).expect("exported");
    image.export(Format::Dir, &at("root"), options.clone()).expect("replaced");
    assert_eq!(names(dir.path()), ["root"]);
    let once = Options { force: false, ..options.clone() };
    let error = image.export(Format::Dir, &at("root"), once).expect_err("it exists");
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    fs::write(at("file"), "x").expect("write");
    assert!(matches!(
        image.export(Format::Dir, &at("file"), options).expect_err("a file"),
        Error::Kind { found: "a file", .. }
    ));
    assert_eq!(names(dir.path()), ["file", "root"]);
}

#[test]
fn a_full_stream_is_an_error() {
    let image = Image::of(&layers());
    for format in [Format::OciArchive, Format::DockerArchive, Format::Tar, Format::Manifest] {
        let mut full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let error = image.source(|source| write(source, format, &mut full)).expect_err("full");
        assert!(matches!(error, Error::Write { .. }), "{error:?}");
    }
}

#[test]
fn a_manifest_names_what_the_layers_mean() {
    let mut image = Image::of(&layers());
    let bytes = image.bytes(Format::Manifest);
    assert_eq!(image.bytes(Format::Manifest), bytes);
    let (subject, tree) = bake::tree::read(&mut &bytes[..], 100).expect("own text");
    assert_eq!(
        (subject.name.as_str(), subject.version.as_str(), subject.digest),
        ("web", "2.0.0", image.manifest.digest)
    );
    assert_eq!((subject.volumes, subject.ignore), (vec![], Vec::<String>::new()));
    let lines: Vec<String> = tree
        .iter()
        .map(|(path, node)| {
            let (path, mode) = (String::from_utf8_lossy(path), node.meta.mode);
            match &node.kind {
                bake::tree::Kind::Dir => format!("{path}/ {mode:o}"),
                bake::tree::Kind::Symlink(target) => {
                    format!("{path} -> {}", String::from_utf8_lossy(target))
                }
                bake::tree::Kind::Fifo => format!("{path} | {mode:o}"),
                bake::tree::Kind::File { digest, .. } => {
                    let text = ["2", "3", "hard"]
                        .into_iter()
                        .find(|text| Some(Digest::of(text)) == *digest)
                        .expect("known");
                    format!("{path} {mode:o} {text}")
                }
                other => panic!("{other:?}"),
            }
        })
        .collect();
    let mut sorted = lines.clone();
    sorted.sort();
    assert_eq!(sorted, expected());
    let group = |path: &str| tree.get(path.as_bytes()).expect(path).group;
    assert_eq!((group("etc/same"), group("opt/new"), group("etc/b")), (Some(1), Some(1), None));
    assert_eq!(tree.get(b"etc/c").expect("etc/c").meta.xattrs[&b"user.note"[..]], b"n");
    // What the config and the annotations say about drift is in the text too.
    let mut manifest = image.read();
    let path = image.dir.path().join(manifest.config.digest.hex());
    let mut config = ImageConfig::parse(&fs::read(path).expect("read")).expect("a config");
    config.config.volumes.insert("/var/lib/web".to_owned());
    let put = |bytes: Vec<u8>| {
        let digest = Digest::of(&bytes);
        fs::write(image.dir.path().join(digest.hex()), &bytes).expect("write");
        (digest, bytes.len() as u64)
    };
    let (digest, size) = put(config.to_json());
    manifest.config = Descriptor::new(MEDIA_CONFIG, digest, size);
    manifest
        .annotations
        .insert(bake::image::ANNOTATION_DRIFT_IGNORE.to_owned(), r#"["*.pyc","!/x y"]"#.to_owned());
    let (digest, size) = put(manifest.to_json());
    image.manifest = Descriptor::new(MEDIA_MANIFEST, digest, size);
    let (subject, _) =
        bake::tree::read(&mut &image.bytes(Format::Manifest)[..], 100).expect("own text");
    assert_eq!(
        (subject.volumes, subject.ignore),
        (vec!["/var/lib/web".to_owned()], vec!["*.pyc".to_owned(), "!/x y".to_owned()])
    );
}

/// The same files as a tar made from the manifest: bsdtar takes names, kinds, modes, owners, sizes
/// and links from it.
#[test]
fn tools_bsdtar_reads_a_manifest() {
    if !tier::tool("bsdtar") {
        return;
    }
    let mut all = layers();
    all.push(tar(&[
        Raw::file("odd #=[\\]*?\u{1b}[31m\n", b"3"),
        Raw::link(b'2', "odd link", "to # \\ \n"),
    ]));
    let image = Image::of(&all);
    let dir = tempfile::tempdir().expect("a directory");
    image
        .export(Format::Manifest, &dir.path().join("web.mtree"), Options::default())
        .expect("exported");
    // `-t` reads the entries without asking for contents.
    let listed = run("bsdtar", &["-tvf", "web.mtree"], dir.path());
    for line in
        ["drwx------", "prw--w--w-", "-rwsr-xr-x", "./bin -> usr/bin", "./etc/b", "./usr/bin/three"]
    {
        assert!(listed.contains(line), "{line}: {listed}");
    }
    let quiet = Command::new("bsdtar")
        .args(["-tf", "web.mtree"])
        .current_dir(dir.path())
        .output()
        .expect("run");
    assert!(
        quiet.status.success() && quiet.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&quiet.stderr)
    );
    assert_eq!(String::from_utf8_lossy(&quiet.stdout).lines().count(), 16);
}

fn run(program: &str, args: &[&str], cwd: &Path) -> String {
    let output = Command::new(program).args(args).current_dir(cwd).output().expect("run");
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// One image in every format; without zstd, which umoci does not know.
fn archives() -> (tempfile::TempDir, PathBuf) {
    let image = Image::with(&layers(), 2, |config| config.rootfs.diff_ids.clone());
    let dir = tempfile::tempdir().expect("a directory");
    for format in [Format::OciArchive, Format::DockerArchive, Format::Tar] {
        image
            .export(format, &dir.path().join(format.name()), Options::default())
            .expect("exported");
    }
    let path = dir.path().to_owned();
    (dir, path)
}

#[test]
fn tools_skopeo_reads_both_archives() {
    if !tier::tool("skopeo") {
        return;
    }
    let (_dir, at) = archives();
    for (archive, image) in [
        ("oci-archive", "oci-archive:oci-archive:web:2.0.0"),
        ("docker-archive", "docker-archive:docker-archive:web:2.0.0"),
    ] {
        let seen: serde_json::Value =
            serde_json::from_str(&run("skopeo", &["inspect", image], &at)).expect("JSON");
        assert_eq!(seen["Layers"].as_array().map(Vec::len), Some(3), "{archive}");
        assert_eq!((&seen["Os"], &seen["Architecture"]), (&"linux".into(), &"amd64".into()));
        run(
            "skopeo",
            &["copy", "--insecure-policy", image, &format!("oci:copy-{archive}:web")],
            &at,
        );
    }
}

#[test]
fn root_tools_umoci_unpacks_the_same_tree() {
    if !tier::root() || !tier::tool("umoci") || !tier::tool("tar") {
        return;
    }
    let (_dir, at) = archives();
    fs::create_dir(at.join("layout")).expect("mkdir");
    run("tar", &["-xf", "oci-archive", "-C", "layout"], &at);
    run("umoci", &["unpack", "--image", "layout:web:2.0.0", "bundle"], &at);
    fs::create_dir(at.join("flat")).expect("mkdir");
    run("tar", &["-xpf", "tar", "-C", "flat"], &at);
    assert_eq!(listing(&at.join("bundle/rootfs")), expected());
    assert_eq!(listing(&at.join("flat")), expected());
}
