//! ext4 as bake writes it, judged by e2fsck and read back by debugfs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use bake::disk::Error;
use bake::disk::ext4::{Kind, Layout, Node, Volume};
use uuid::Uuid;

use crate::lab::{good, run};
use crate::tier;

const MIB: u64 = 1 << 20;

type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// A file that stays empty where zeros come.
struct Holes(File, u64);

impl Write for Holes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        const ZEROS: [u8; 4096] = [0; 4096];
        for some in bytes.chunks(ZEROS.len()) {
            if *some != ZEROS[..some.len()] {
                self.0.write_all_at(some, self.1)?;
            }
            self.1 += some.len() as u64;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A tree in the making.
struct Tree<'a> {
    nodes: Vec<Node<'a>>,
    none: &'a Attributes,
}

impl<'a> Tree<'a> {
    fn new(none: &'a Attributes) -> Self {
        let mut this = Self { nodes: vec![], none };
        this.nodes.push(this.node(0o755, Kind::Dir(vec![])));
        this
    }

    fn node(&self, mode: u32, kind: Kind<'a>) -> Node<'a> {
        Node { mode, uid: 0, gid: 0, mtime: 981_173_106, xattrs: self.none, kind }
    }

    /// Adds a node to a directory; names must come in order.
    fn add(&mut self, above: usize, name: &'a [u8], kind: Kind<'a>) -> usize {
        let own = self.nodes.len();
        self.nodes.push(self.node(0o644, kind));
        self.link(above, name, own);
        own
    }

    fn link(&mut self, above: usize, name: &'a [u8], own: usize) {
        let Kind::Dir(names) = &mut self.nodes[above].kind else { panic!("no directory") };
        names.push((name, own));
    }

    fn layout(self, size: Option<u64>) -> Result<Layout<'a>, Error> {
        let (id, time) =
            (Uuid::from_u128(0x8123_4567_89ab_8def_8123_4567_89ab_cdef), 1_000_000_000);
        Layout::new(Volume { id, label: "root", time, size, nodes: self.nodes })
    }
}

fn file(size: u64) -> Kind<'static> {
    Kind::File { size, contents: 0 }
}

/// Writes a file system whose files are all of the same byte, and has e2fsck look at it.
fn written(dir: &Path, layout: &Layout<'_>) -> PathBuf {
    let path = dir.join("ext4");
    let mut out = Holes(File::create(&path).expect("our own file"), 0);
    let read = |_, buffer: &mut [u8]| {
        buffer.fill(b'c');
        Ok(())
    };
    layout.write(&mut out, &read).expect("written");
    assert_eq!(out.1, layout.bytes());
    out.0.set_len(out.1).expect("our own file");
    let checked = good(run(Command::new("e2fsck").arg("-fn").arg(&path)));
    for word in ["Fix", "IGNORED", "Clear", "Optimize"] {
        assert!(!checked.out.contains(word), "{}", checked.out);
    }
    path
}

fn debugfs(path: &Path, what: &str) -> String {
    good(run(Command::new("debugfs").args(["-R", what]).arg(path))).out
}

fn tools() -> bool {
    ["e2fsck", "debugfs"].into_iter().all(tier::tool)
}

#[test]
fn e2fsck_finds_nothing_wrong_whatever_is_in_it() {
    if !tools() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let none = Attributes::new();
    let some = |all: &[(&str, usize)]| -> Attributes {
        all.iter().map(|(name, size)| (name.as_bytes().to_vec(), vec![b'v'; *size])).collect()
    };
    let (small, large) = (some(&[("user.note", 4)]), some(&[("user.a", 60), ("user.large", 3000)]));
    let names: Vec<Vec<u8>> = (0..5000).map(|n| format!("name{n:05}").into_bytes()).collect();
    let long = vec![b'n'; 255];
    let target = vec![b't'; 300];
    let mut tree = Tree::new(&none);
    tree.add(0, b"a", file(1));
    let block = tree.add(0, b"block", file(4096));
    tree.nodes[block].xattrs = &small;
    let large_one = tree.add(0, b"large", file(20 * MIB + 1));
    tree.nodes[large_one].xattrs = &large;
    (tree.nodes[large_one].uid, tree.nodes[large_one].gid) = (70_000, 2_000_000_000);
    let many = tree.add(0, b"many", Kind::Dir(vec![]));
    for (n, name) in names.iter().enumerate() {
        let kind = if n % 50 == 0 { Kind::Dir(vec![]) } else { file(n as u64) };
        tree.add(many, name, kind);
    }
    tree.add(0, &long, Kind::Fifo);
    tree.link(0, b"second", block);
    tree.add(0, b"short", Kind::Symlink(&target[..59]));
    tree.add(0, b"target", Kind::Symlink(&target[..60]));
    let whole = tree.add(0, b"targets", Kind::Symlink(&target));
    tree.nodes[whole].mtime = 0x1_2345_6789;
    tree.add(0, b"\xff not text", file(0));
    let path = written(dir.path(), &tree.layout(None).expect("it fits"));
    let stat = |name: &str| debugfs(&path, &format!("stat {name}"));
    assert!(stat("/block").contains("Links: 2"), "{}", stat("/block"));
    assert!(stat("/block").contains("user.note (4) = \"vvvv\""), "{}", stat("/block"));
    let large = stat("/large");
    for word in ["User: 70000", "Group: 2000000000", "Size: 20971521", "user.large (3000)"] {
        assert!(large.contains(word), "{word}: {large}");
    }
    assert!(stat("/targets").contains("mtime: 0x23456789:00000001"), "{}", stat("/targets"));
    assert!(stat("/short").contains("Fast link dest"), "{}", stat("/short"));
    assert!(!stat("/target").contains("Fast link dest"), "{}", stat("/target"));
    let listed = debugfs(&path, "ls -p /many");
    assert!(names.iter().all(|name| listed.contains(std::str::from_utf8(name).expect("text"))));
    assert_eq!(debugfs(&path, "cat /a"), "c");
    assert_eq!(debugfs(&path, "cat /many/name04999").len(), 4999);
}

#[test]
fn e2fsck_finds_nothing_wrong_at_any_size() {
    if !tools() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let none = Attributes::new();
    let of = |size: u64| {
        let mut tree = Tree::new(&none);
        tree.add(0, b"file", file(size));
        tree
    };
    // A group is 128 MiB, and 16 of them keep their tables together.
    for mib in [8, 127, 128, 129, 130, 383, 2047, 2049, 3000] {
        let layout = of(MIB).layout(Some(mib * MIB)).expect("it fits");
        let lacks = mib * MIB - layout.bytes();
        // A last group too small for its own tables is left out.
        assert!(lacks < 4 * MIB, "{mib}: {lacks}");
        written(dir.path(), &layout);
    }
    // Around what is in the way: tables, copies of the superblock.
    for mib in [100, 130, 300, 700] {
        written(dir.path(), &of(mib * MIB).layout(None).expect("it fits"));
    }
    for mib in [10, 130, 300, 700] {
        let error = of(mib * MIB).layout(Some(8 * MIB)).expect_err("it does not fit in");
        let Error::TooSmall { needed, .. } = error else { panic!("{error}") };
        written(dir.path(), &of(mib * MIB).layout(Some(needed)).expect("as much as it says"));
        let error = of(mib * MIB).layout(Some(needed - MIB)).expect_err("one less");
        assert!(matches!(error, Error::TooSmall { .. }), "{error}");
    }
}

#[test]
fn a_lost_and_found_of_the_image_is_the_one() {
    if !tools() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let none = Attributes::new();
    let mut tree = Tree::new(&none);
    tree.add(0, b"a", file(1));
    let found = tree.add(0, b"lost+found", Kind::Dir(vec![]));
    tree.nodes[found].mode = 0o750;
    tree.add(found, b"inside", file(1));
    tree.add(0, b"z", file(1));
    let path = written(dir.path(), &tree.layout(None).expect("it fits"));
    let stat = debugfs(&path, "stat /lost+found");
    assert!(stat.contains("Inode: 11 ") && stat.contains("Mode:  0750"), "{stat}");
    assert_eq!(debugfs(&path, "cat /lost+found/inside"), "c");
    let mut tree = Tree::new(&none);
    let found = tree.add(0, b"lost+found", file(1));
    let error = tree.layout(None).expect_err("no directory");
    assert!(matches!(error, Error::Unfit { node, .. } if node == found), "{error}");
}

/// What resize2fs makes of it is as good.
#[test]
fn it_grows() {
    if !tools() || !tier::tool("resize2fs") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let none = Attributes::new();
    let mut tree = Tree::new(&none);
    tree.add(0, b"file", file(30 * MIB));
    let path = written(dir.path(), &tree.layout(None).expect("it fits"));
    for size in ["200M", "1G"] {
        good(run(Command::new("resize2fs").arg(&path).arg(size)));
        good(run(Command::new("e2fsck").arg("-fn").arg(&path)));
    }
    assert_eq!(debugfs(&path, "cat /file").len() as u64, 30 * MIB);
}
