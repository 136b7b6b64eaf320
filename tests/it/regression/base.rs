//! What was once reported wrong, as tests of what must hold: bases, and what packages leave.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use bake::layer::{Error, Form, Limits, Options, Wrong, unpack, unpack_with};

use crate::lab::Lab;
use crate::layer_lab::{Raw, listing, tar};
use crate::tier;

/// A recipe over `base` (the lines of `[base]`) with these further lines.
fn recipe(lab: &Lab, base: &str, rest: &str) {
    let text = format!("[image]\nname = \"x\"\nversion = \"1\"\n[base]\n{base}\n{rest}");
    lab.write("x.toml", &text);
}

/// The digest of the image `x` that a lab's store holds.
fn digest(lab: &Lab) -> String {
    let index = fs::read_to_string(lab.path("store/index.json")).expect("the index");
    let index: serde_json::Value = serde_json::from_str(&index).expect("JSON");
    index["manifests"][0]["digest"].as_str().expect("a digest").to_owned()
}

/// The tiny root of a lab as a tar, with these entries behind it.
fn base_tar(lab: &Lab, more: &[Raw]) -> Vec<u8> {
    let mut bytes = vec![];
    bake::layer::pack(&lab.tiny_root(), 0, &mut bytes).expect("our own root");
    bytes.truncate(bytes.len() - 1024);
    [bytes, tar(more)].concat()
}

/// A5
#[test]
fn an_attribute_that_overlay_would_obey_is_refused_by_name() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    for own in ["user.overlay.whiteout", "user.overlay.origin", "trusted.overlay.opaque"] {
        let key = format!("SCHILY.xattr.{own}");
        let entries = [Raw::pax(b'x', &[(&key, b"y")]), Raw::file("opt", b"").mode(0o6755)];
        fs::write(lab.path("base.tar"), base_tar(&lab, &entries)).expect("our own file");
        recipe(&lab, "path = \"base.tar\"", "");
        let built = lab.bake(["build", "x.toml"]);
        assert_eq!(built.code, 1, "{}", built.err);
        assert!(built.err.contains("opt") && built.err.contains(own), "{}", built.err);
    }
}

/// A5
#[test]
fn an_attribute_of_overlay_in_a_base_directory_is_refused_by_name() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    let dir = lab.path("root/etc");
    fs::create_dir_all(&dir).expect("our own directory");
    if xattr::set(&dir, "user.overlay.opaque", b"y").is_err() {
        tier::skip("the directory of temporary files has no attributes");
        return;
    }
    recipe(&lab, "path = \"root\"", "");
    let built = lab.bake(["build", "x.toml"]);
    assert_ne!(built.code, 0, "{}", built.err);
    assert!(built.err.contains("user.overlay.opaque"), "{}", built.err);
}

/// A5
#[test]
fn root_marks_in_the_tree_of_a_step_are_never_packed_as_if_nothing_were_hidden() {
    if !tier::root() {
        return;
    }
    for (name, value) in [("whiteout", &b""[..]), ("opaque", b"x"), ("redirect", b"/")] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("f");
        fs::create_dir(&file).expect("writable");
        xattr::set(&file, format!("user.overlay.{name}"), value).expect("ours");
        let error = bake::layer::pack(dir.path(), 0, &mut vec![]).expect_err("refused");
        assert!(matches!(error, Error::Pack { why: Wrong::Overlay, .. }), "{name}: {error:?}");
    }
}

/// A4
#[test]
fn the_umask_of_a_checkout_is_not_in_the_digest() {
    if !tier::sandbox() {
        return;
    }
    let build = |file: u32, dir: u32, modes: &str| {
        let lab = Lab::new();
        lab.tiny_root();
        lab.write("root/etc/conf", "x");
        let set = |name: &str, mode| {
            fs::set_permissions(lab.path(name), fs::Permissions::from_mode(mode)).expect("ours");
        };
        set("root/etc/conf", file);
        set("root/etc", dir);
        recipe(&lab, &format!("path = \"root\"\n{modes}"), "");
        let built = lab.bake(["build", "x.toml"]);
        assert_eq!(built.code, 0, "{}", built.err);
        digest(&lab)
    };
    assert_eq!(build(0o640, 0o750, ""), build(0o644, 0o755, ""));
    let kept = "modes = \"kept\"";
    assert_ne!(build(0o640, 0o750, kept), build(0o644, 0o755, kept));
}

/// A4
#[test]
fn a_bit_that_no_checkout_sets_is_not_dropped_unsaid() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    let file = lab.write("root/bin/su", "x");
    fs::set_permissions(file, fs::Permissions::from_mode(0o4755)).expect("ours");
    recipe(&lab, "path = \"root\"", "");
    let built = lab.bake(["build", "x.toml"]);
    assert_ne!(built.code, 0);
    for part in ["bin/su", "setuid", "modes = \"kept\""] {
        assert!(built.err.contains(part), "{part}: {}", built.err);
    }
    recipe(&lab, "path = \"root\"\nmodes = \"kept\"", "[[test]]\nrun = \"test -u /bin/su\"\n");
    let built = lab.bake(["build", "x.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
}

/// D9
#[test]
fn symlinks_may_have_several_names() {
    let entries = [
        Raw::link(b'2', "sh", "busybox"),
        Raw::link(b'1', "ash", "sh"),
        Raw::new(b'6', b"pipe"),
        Raw::link(b'1', "tube", "pipe"),
    ];
    let expected = ["ash -> busybox", "pipe | 644", "sh -> busybox", "tube | 644"];
    for form in [Form::Tree, Form::Overlay] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        unpack(&mut &tar(&entries)[..], dir.path(), form, &Limits::default()).expect("accepted");
        assert_eq!(listing(dir.path()), expected);
    }
    let mut merged = bake::layer::Merged::new();
    let bytes = tar(&entries);
    let mut reader = bake::layer::TarReader::new(&bytes[..], &Limits::default());
    merged.apply(&mut reader, &mut |_, _| Ok(0)).expect("accepted");
    assert_eq!(merged.len(), expected.len());
}

/// D12
#[test]
fn sparse_files_of_every_format_are_whole() {
    if !tier::tool("tar") {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let name = "s".repeat(120);
    let mut expected = vec![0; 3_000_000];
    for at in (0..40).map(|n| n * 70_000 + 4096) {
        expected[at..at + 3].copy_from_slice(b"xyz");
    }
    let file = fs::File::create(dir.path().join(&name)).expect("writable");
    file.set_len(3_000_000).expect("writable");
    for at in (0..40).map(|n| n * 70_000 + 4096) {
        std::os::unix::fs::FileExt::write_at(&file, b"xyz", at).expect("writable");
    }
    fs::File::create(dir.path().join("empty"))
        .and_then(|file| file.set_len(100_000))
        .expect("writable");
    for format in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let output = Command::new("tar")
            .args(["--create", "--sparse", "--file=-", "--owner=0", "--group=0"])
            .args(format)
            .arg("--directory")
            .arg(dir.path())
            .args([&*name, "empty"])
            .output()
            .expect("tar runs");
        assert!(output.stdout.len() < 1_000_000, "{format:?}: the tar has no holes");
        let out = tempfile::tempdir().expect("a temporary directory");
        let owners = bake::layer::Ownership::Dropped;
        let options = Options { owners, ..Options::layer(Form::Tree) };
        unpack_with(&mut &output.stdout[..], out.path(), &options)
            .unwrap_or_else(|error| panic!("{format:?}: {error}"));
        assert!(fs::read(out.path().join(&name)).expect("there") == expected, "{format:?}");
        assert!(fs::read(out.path().join("empty")).expect("there") == vec![0; 100_000]);
    }
}

/// E4
#[test]
fn an_image_is_no_root() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    recipe(&lab, "path = \"root\"", "");
    assert_eq!(lab.bake(["build", "x.toml"]).code, 0);
    for (format, what) in
        [("oci-archive", "OCI image layout"), ("docker-archive", "docker archive")]
    {
        let exported =
            lab.bake(["export", "x:1", "--format", format, "--output", "image.tar", "--force"]);
        assert_eq!(exported.code, 0, "{}", exported.err);
        let text = "[image]\nname = \"y\"\nversion = \"1\"\n[base]\npath = \"image.tar\"\n";
        lab.write("y.toml", text);
        let built = lab.bake(["build", "y.toml"]);
        assert_eq!(built.code, 1, "{}", built.err);
        assert!(built.err.contains(what) && built.err.contains("--format tar"), "{}", built.err);
        assert!(!lab.bake(["list"]).out.contains('y'));
    }
    // A directory can be one, too.
    let layout = lab.path("layout");
    fs::create_dir(&layout).expect("our own directory");
    for name in ["oci-layout", "index.json"] {
        fs::copy(lab.path("store").join(name), layout.join(name)).expect("our own store");
    }
    lab.write("y.toml", "[image]\nname = \"y\"\nversion = \"1\"\n[base]\npath = \"layout\"\n");
    let built = lab.bake(["build", "y.toml"]);
    assert!(built.code == 1 && built.err.contains("OCI image layout"), "{}", built.err);
}

/// E2
#[test]
fn directories_below_run_stay_and_are_seen_by_tests() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    lab.write("root/etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:7:8::/:/bin/sh\n");
    recipe(
        &lab,
        "path = \"root\"",
        "[[step]]\nmkdir = \"/run/made\"\nowner = \"7:8\"\nmode = \"2750\"\n\
         [[step]]\nrun = \"mkdir -p /run/app/sub /usr/lib/tmpfiles.d /usr/lib/systemd/system; echo 1 > /run/app/x.pid; \
         echo 'd /run/declared 0700 app - -' > /usr/lib/tmpfiles.d/x.conf\"\n\
         [[step]]\nrun = \"test -d /run/made; test -d /run/declared; test ! -e /run/app/x.pid; echo 2 > /run/app/y.pid\"\n\
         [[test]]\nrun = \"test -d /run/made; test -d /run/app/sub; test ! -e /run/app/y.pid; echo 3 > /run/app/z.pid\"\n",
    );
    let built = lab.bake(["build", "x.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
    let exported = lab.bake(["export", "x:1", "--format", "tar", "--output", "out.tar"]);
    assert_eq!(exported.code, 0, "{}", exported.err);
    let tar = fs::read(lab.path("out.tar")).expect("exported");
    let mut found = vec![];
    for entry in tar::Archive::new(&tar[..]).entries().expect("a tar") {
        let entry = entry.expect("a tar");
        let path = String::from_utf8_lossy(&entry.path_bytes()).trim_matches('/').to_owned();
        let header = entry.header();
        if path.starts_with("run/") {
            let (mode, uid) = (header.mode().expect("a mode"), header.uid().expect("an id"));
            let gid = header.gid().expect("an id");
            found.push(format!("{path} {mode:o} {uid}:{gid}"));
        }
    }
    let expected =
        ["run/app 755 0:0", "run/app/sub 755 0:0", "run/declared 700 7:0", "run/made 2750 7:8"];
    assert_eq!(found, expected);
}

/// D10, D5
#[test]
fn programs_see_no_service_manager_and_a_host_name_with_a_domain() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    recipe(
        &lab,
        "path = \"root\"",
        "[[step]]\nrun = \"test $SYSTEMD_OFFLINE$SYSTEMD_IN_CHROOT = 11; \
         case $(cat /etc/hosts) in *' bake.localdomain bake'*) ;; *) exit 1;; esac\"\n",
    );
    let built = lab.bake(["build", "x.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
}

/// E9
#[test]
fn logs_and_caches_of_tools_are_in_no_layer() {
    if !tier::sandbox() {
        return;
    }
    let build = || {
        let lab = Lab::new();
        lab.tiny_root();
        recipe(
            &lab,
            "path = \"root\"",
            "[[step]]\nrun = \"mkdir -p /root/.npm/_logs /root/.cache/pip; now=$(date +%s%N); echo $now > /root/.npm/_logs/$now; \
             echo $now > /root/.cache/pip/x; echo kept > /root/kept\"\n",
        );
        let built = lab.bake(["build", "x.toml"]);
        assert_eq!(built.code, 0, "{}", built.err);
        digest(&lab)
    };
    assert_eq!(build(), build());
}

/// D1, E8, E17
#[test]
fn what_an_image_lacks_or_shares_is_named_when_it_is_built() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    lab.write("root/usr/sbin/make-ssl-cert", "");
    lab.write("root/usr/sbin/sshd", "");
    lab.write("root/var/lib/postgresql/15/main/PG_VERSION", "15");
    let names = "[[step]]\nfile = \"/etc/x.conf\"\ncontent = \"key=/etc/ssl/private/ssl-cert-snakeoil.key\"\n";
    recipe(&lab, "path = \"root\"", names);
    let built = lab.bake(["build", "x.toml"]);
    assert_eq!(built.code, 1, "{}", built.err);
    for part in ["/etc/x.conf names", "not in the image", "make-ssl-cert generate", "still free"] {
        assert!(built.err.contains(part), "{part}: {}", built.err);
    }
    recipe(&lab, "path = \"root\"", "");
    let built = lab.bake(["build", "x.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
    for part in ["no host keys", "ssh-keygen -A", "/var/lib/postgresql/15/main holds data"] {
        assert!(built.err.contains(part), "{part}: {}", built.err);
    }
}
