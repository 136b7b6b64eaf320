//! A small image root and a context in a temporary directory, for the tests of what steps do.

use std::fmt::Write as _;
use std::fs;
use std::io::{Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bake::apply;
use bake::context::Context;
use bake::executor::write_layer;
use bake::layer::{Builder, Form, Limits, Ownership, Packed, TarReader, unpack_with};
use bake::step::Op;
use serde_json::{Value, json};

/// Time of everything that steps make in these tests.
pub(crate) const EPOCH: i64 = 1_700_000_000;

pub(crate) struct Lab {
    pub(crate) dir: tempfile::TempDir,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("context")).unwrap();
        let lab = Self { dir };
        lab.put("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n");
        lab.put("/etc/group", "root:x:0:\nwww-data:x:33:\nsudo:x:27:\n");
        lab
    }

    /// With the group that owns /etc/shadow, which only root can give a file to.
    pub(crate) fn with_shadow_group() -> Self {
        let lab = Self::new();
        lab.put("/etc/group", "root:x:0:\nshadow:x:42:\nwww-data:x:33:\nsudo:x:27:\n");
        lab
    }

    /// Host path of an image path.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path.trim_start_matches('/'))
    }

    /// Host path of a path below the context.
    pub(crate) fn source(&self, path: &str) -> PathBuf {
        self.dir.path().join("context").join(path)
    }

    pub(crate) fn put(&self, path: &str, text: impl AsRef<[u8]>) {
        put(&self.at(path), text);
    }

    pub(crate) fn put_source(&self, path: &str, text: impl AsRef<[u8]>) {
        put(&self.source(path), text);
    }

    pub(crate) fn link(&self, path: &str, target: &str) {
        link(&self.at(path), target);
    }

    pub(crate) fn directory(&self, path: &str) {
        directories(&self.at(path));
    }

    pub(crate) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    pub(crate) fn target(&self, path: &str) -> String {
        fs::read_link(self.at(path)).unwrap().to_str().unwrap().to_owned()
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.at(path)).is_ok()
    }

    /// Permission bits of an image path.
    pub(crate) fn mode(&self, path: &str) -> u32 {
        fs::symlink_metadata(self.at(path)).unwrap().permissions().mode() & 0o7777
    }

    /// Owner and group of an image path.
    pub(crate) fn owner(&self, path: &str) -> (u32, u32) {
        let meta = fs::symlink_metadata(self.at(path)).unwrap();
        (meta.uid(), meta.gid())
    }

    pub(crate) fn context(&self) -> Context {
        Context::open(&self.dir.path().join("context"), &[], &[]).unwrap()
    }

    /// Carries out an operation written as JSON, with `bytes` as the open file.
    pub(crate) fn apply_with(&self, op: Value, bytes: &[u8]) -> Result<Value, String> {
        let op: Op = serde_json::from_value(op).unwrap();
        let root = apply::Root::open(&self.dir.path().join("root"), EPOCH).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        let reply = apply::carry_out(&root, &op, Some(file), &mut |_| {}).map_err(|e| e.text())?;
        Ok(match reply {
            apply::Reply::Done => Value::Null,
            apply::Reply::Group { gid } => json!({ "gid": gid }),
            apply::Reply::User { uid, gid, home } => {
                json!({ "uid": uid, "gid": gid, "home": home })
            }
            apply::Reply::Unpacked { files, bytes } => json!({ "files": files, "bytes": bytes }),
            apply::Reply::Surveyed(_) | apply::Reply::Startable(_) => {
                panic!("no operation says so")
            }
        })
    }

    pub(crate) fn apply(&self, op: Value) -> Result<Value, String> {
        self.apply_with(op, b"")
    }

    /// A copy step, from the context's listing through its layer to the image. Returns the layer's
    /// entries.
    pub(crate) fn copy(&self, from: &[&str], to: &str, more: Value) -> Result<Vec<String>, String> {
        let mut op = json!({ "op": "copy", "from": from, "to": to, "owner": me(), "mode": null, "exclude": [] });
        for (key, value) in more.as_object().unwrap() {
            op[key] = value.clone();
        }
        let (op, mut tar): (Op, _) = (serde_json::from_value(op).unwrap(), vec![]);
        let packed = self.layer(&self.context(), &op, &mut tar)?;
        if packed.entries > 0 {
            let owners = if rustix::process::geteuid().is_root() {
                Ownership::Kept
            } else {
                Ownership::Dropped
            };
            let options =
                bake::layer::Options { owners, ..bake::layer::Options::layer(Form::Tree) };
            unpack_with(&mut &tar[..], &self.dir.path().join("root"), &options).unwrap();
        }
        Ok(names(&tar))
    }

    /// Writes the layer of a copy over this root.
    pub(crate) fn layer(
        &self,
        context: &Context,
        op: &Op,
        out: impl Write,
    ) -> Result<Packed, String> {
        let Op::Copy { to, owner, .. } = op else { panic!("{op:?}") };
        let root = apply::Root::open(&self.dir.path().join("root"), EPOCH).unwrap();
        let (mut asked, mut answer) = (vec![], vec![]);
        context.ask(op, &mut asked).map_err(|e| e.to_string())?;
        assert!(
            apply::survey(&root, to, owner, &[], &asked[..], &mut answer).map_err(|e| e.text())?
        );
        let tar = Builder::new(out, EPOCH);
        write_layer(context, op, &answer[..], tar, &|| false)
            .map(|(_, packed)| packed)
            .map_err(|e| e.to_string())
    }

    /// What is below an image path, one line each, sorted: path, kind, mode, content or target.
    pub(crate) fn tree(&self, path: &str) -> String {
        let mut out = String::new();
        self.walk(&self.at(path), &mut |path, meta| {
            let name = path.strip_prefix(self.at("/")).unwrap().display();
            let mode = meta.mode() & 0o7777;
            let rest = match meta.file_type() {
                t if t.is_symlink() => format!("-> {}", fs::read_link(path).unwrap().display()),
                t if t.is_dir() => format!("{mode:o} /"),
                _ => format!(
                    "{mode:o} {}",
                    String::from_utf8_lossy(&fs::read(path).unwrap()).escape_debug()
                ),
            };
            writeln!(out, "{name} {rest}").unwrap();
        });
        out
    }

    /// Everything that an overlay would notice: inode, change time and names of all that is in the
    /// root.
    pub(crate) fn marks(&self) -> Vec<(PathBuf, u64, i64, i64)> {
        let mut marks = vec![];
        self.walk(&self.at("/"), &mut |path, meta| {
            marks.push((path.to_owned(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
        });
        marks
    }

    /// Checks that doing `op` once more changes nothing at all.
    pub(crate) fn settled(&self, op: Value) {
        let before = self.marks();
        self.apply(op.clone()).unwrap();
        assert_eq!(before, self.marks(), "{op} changed something the second time");
    }

    fn walk(&self, path: &Path, each: &mut dyn FnMut(&Path, &fs::Metadata)) {
        let meta = fs::symlink_metadata(path).unwrap();
        each(path, &meta);
        if meta.is_dir() {
            let mut names: Vec<_> =
                fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
            names.sort();
            names.iter().for_each(|n| self.walk(n, each));
        }
    }
}

/// The test's own ids as an owner that needs no rights to set.
pub(crate) fn me() -> String {
    format!("{}:{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// Checks that `result` is an error that has all of `parts` in its text.
#[track_caller]
pub(crate) fn fails<T: std::fmt::Debug>(result: Result<T, String>, parts: &[&str]) {
    let text = result.expect_err("it worked");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

/// Modes are set, so that the tests do not depend on the umask.
fn put(path: &Path, text: impl AsRef<[u8]>) {
    directories(path.parent().unwrap());
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

fn directories(path: &Path) {
    if !path.exists() {
        directories(path.parent().unwrap());
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

pub(crate) fn link(path: &Path, target: &str) {
    directories(path.parent().unwrap());
    std::os::unix::fs::symlink(target, path).unwrap();
}

/// The paths of a tar's entries, in order.
fn names(tar: &[u8]) -> Vec<String> {
    let (mut reader, mut names) = (TarReader::new(tar, &Limits::default()), vec![]);
    while let Some(entry) = reader.next().unwrap() {
        names.push(String::from_utf8_lossy(&entry.path).into_owned());
    }
    names
}
