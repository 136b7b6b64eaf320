//! Tars and directories as bases: every packing gives the same tree, and what changed since it was
//! pinned is refused.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bake::archive::{self, Options};
use bake::base::{Error, Pinned};
use bake::recipe::{Base, BaseKind, Modes};

use crate::base_lab::{Builder, assert_same, source};
use crate::tier;

fn tar_bytes() -> Vec<u8> {
    let mut builder = tar::Builder::new(vec![]);
    let mut add = |kind: tar::EntryType, name: &str, mode: u32, uid: u64, text: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(uid);
        header.set_mtime(5);
        header.set_size(text.len() as u64);
        if kind == tar::EntryType::Symlink {
            header.set_size(0);
            return builder.append_link(&mut header, name, text).unwrap();
        }
        builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    };
    add(tar::EntryType::Directory, "etc/", 0o755, 0, "");
    add(tar::EntryType::Regular, "etc/shadow", 0o640, 42, "secret");
    add(tar::EntryType::Regular, "su", 0o4755, 0, "x");
    add(tar::EntryType::Char, "null", 0o666, 0, "");
    add(tar::EntryType::Symlink, "link", 0o777, 0, "/etc/shadow");
    builder.into_inner().unwrap()
}

fn pin(context: &Path, path: &str, cache: &Path) -> Pinned {
    let base = Base { line: 1, kind: BaseKind::Path(PathBuf::from(path)), modes: Modes::Kept };
    bake::base::pin(&base, "amd64", context, None, &source(cache, Options::default())).unwrap()
}

#[test]
fn root_every_packing_is_the_same_tree() {
    if !tier::root() {
        return;
    }
    let Some(builder) = Builder::new() else { return };
    let context = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let plain = tar_bytes();
    let mut gz = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    gz.write_all(&plain).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(vec![], 1);
    xz.write_all(&plain).unwrap();
    let zst = zstd::encode_all(&plain[..], 1).unwrap();
    let source = source(cache.path(), Options::default());
    let mut first: Option<PathBuf> = None;
    for (name, bytes) in [
        ("b.tar", plain),
        ("b.tar.gz", gz.finish().unwrap()),
        ("b.tar.xz", xz.finish().unwrap()),
        ("b.tar.zst", zst),
    ] {
        std::fs::write(context.path().join(name), &bytes).unwrap();
        let pinned = pin(context.path(), name, cache.path());
        let root = builder.build(&pinned, context.path(), 100, &source).unwrap();
        let meta = root.upper.join("etc/shadow").metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (42, 42, 0o640));
        assert_eq!(root.upper.join("su").metadata().unwrap().mode() & 0o7777, 0o4755);
        assert!(!root.upper.join("null").exists());
        if let Some(first) = &first {
            assert_same(first, &root.upper, 100);
        }
        first.get_or_insert(root.upper);

        // Changed since.
        std::fs::write(context.path().join(name), tar_bytes().len().to_string().repeat(2000))
            .unwrap();
        let error = builder.build(&pinned, context.path(), 100, &source).unwrap_err();
        assert!(
            matches!(error, Error::Changed { .. } | Error::Archive(archive::Error::Failed { .. })),
            "{error:?}"
        );
    }
}

#[test]
fn root_a_directory_is_its_tar() {
    if !tier::root() {
        return;
    }
    let Some(builder) = Builder::new() else { return };
    let context = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let source = source(cache.path(), Options::default());
    let directory = context.path().join("b");
    std::fs::create_dir_all(directory.join("etc")).unwrap();
    std::fs::write(directory.join("etc/shadow"), "secret").unwrap();
    std::os::unix::fs::chown(directory.join("etc/shadow"), Some(42), Some(42)).unwrap();
    std::fs::set_permissions(directory.join("etc/shadow"), std::fs::Permissions::from_mode(0o640))
        .unwrap();
    std::os::unix::fs::symlink("/etc/shadow", directory.join("link")).unwrap();
    let pinned = pin(context.path(), "b", cache.path());
    let root = builder.build(&pinned, context.path(), 100, &source).unwrap();
    let meta = root.upper.join("etc/shadow").metadata().unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777, meta.mtime()), (42, 0o640, 100));
    assert_eq!(std::fs::read_link(root.upper.join("link")).unwrap(), Path::new("/etc/shadow"));
    std::fs::write(context.path().join("b/new"), "x").unwrap();
    let error = builder.build(&pinned, context.path(), 100, &source).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error:?}");
}

#[test]
fn root_hostile_tars_are_refused() {
    if !tier::root() {
        return;
    }
    let Some(builder) = Builder::new() else { return };
    let context = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let source = source(cache.path(), Options::default());
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..9].copy_from_slice(b"../escape");
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    let climbing = [header.as_bytes().as_slice(), &[0; 1024]].concat();
    let half = tar_bytes()[..700].to_vec();
    for bytes in [climbing, half, b"not a tar at all".repeat(100)] {
        std::fs::write(context.path().join("b.tar"), bytes).unwrap();
        let error = builder
            .build(&pin(context.path(), "b.tar", cache.path()), context.path(), 0, &source)
            .unwrap_err();
        let Error::Archive(archive::Error::Failed { what, .. }) = &error else {
            panic!("{error:?}")
        };
        assert_eq!(what, "unpacking b.tar");
    }
    assert!(!builder.scratch.join("escape").exists());
}
