//! Tars written byte by byte, so that a test can hold every mistake; and a listing of a directory
//! to compare with.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use proptest::prelude::*;
use rustix::process::{getgid, getuid};

/// A header block being made. Owner and group are the caller's, so that anyone can unpack it.
#[derive(Clone)]
pub(crate) struct Raw {
    block: [u8; 512],
    body: Vec<u8>,
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |from: usize| {
            self.block[from..]
                .iter()
                .take(100)
                .take_while(|b| **b != 0)
                .map(|b| char::from(*b))
                .collect::<String>()
        };
        write!(
            f,
            "{} {:?} -> {:?} mode {} {:?}",
            char::from(self.block[156]),
            text(0),
            text(157),
            text(100),
            self.body
        )
    }
}

impl Raw {
    /// An entry of type `kind` with a name of at most 100 bytes.
    pub(crate) fn new(kind: u8, name: &[u8]) -> Self {
        let mut raw = Self { block: [0; 512], body: vec![] };
        raw.block[..name.len()].copy_from_slice(name);
        raw.block[156] = kind;
        raw.block[257..265].copy_from_slice(b"ustar\x0000");
        raw.octal(100, 8, if kind == b'5' { 0o755 } else { 0o644 })
            .octal(108, 8, getuid().as_raw().into())
            .octal(116, 8, getgid().as_raw().into())
            .octal(124, 12, 0)
            .octal(136, 12, 1000)
    }

    /// A file.
    pub(crate) fn file(name: &str, data: &[u8]) -> Self {
        Self::new(b'0', name.as_bytes()).data(data)
    }

    /// A directory.
    pub(crate) fn dir(name: &str) -> Self {
        Self::new(b'5', name.as_bytes())
    }

    /// A symbolic (`2`) or hard (`1`) link.
    pub(crate) fn link(kind: u8, name: &str, target: &str) -> Self {
        Self::new(kind, name.as_bytes()).field(157, target.as_bytes())
    }

    /// An extended header with these records.
    pub(crate) fn pax(kind: u8, records: &[(&str, &[u8])]) -> Self {
        let mut body = vec![];
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length =
                (rest + 1..).find(|n| n.to_string().len() + rest == *n).expect("some length fits");
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        Self::new(kind, b"pax").data(&body)
    }

    /// With contents, and their size in the header.
    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.body = data.to_vec();
        self.octal(124, 12, data.len() as u64)
    }

    /// With bytes put somewhere.
    pub(crate) fn field(mut self, at: usize, bytes: &[u8]) -> Self {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// With a number put somewhere.
    pub(crate) fn octal(self, at: usize, width: usize, value: u64) -> Self {
        self.field(at, format!("{value:0w$o}\0", w = width - 1).as_bytes())
    }

    /// With permission bits.
    pub(crate) fn mode(self, mode: u64) -> Self {
        self.octal(100, 8, mode)
    }

    /// Its blocks, with a right checksum.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut raw = self.clone().field(148, b"        ");
        let sum: u32 = raw.block.iter().map(|b| u32::from(*b)).sum();
        raw = raw.field(148, format!("{sum:06o}\0 ").as_bytes());
        let mut bytes = [&raw.block[..], &raw.body].concat();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

/// A whole tar.
pub(crate) fn tar(entries: &[Raw]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.iter().flat_map(Raw::bytes).collect();
    bytes.extend([0; 1024]);
    bytes
}

/// Lists a tree: path, kind, mode, contents or target; sorted.
pub(crate) fn listing(dir: &Path) -> Vec<String> {
    let mut lines = vec![];
    let mut left = vec![dir.to_owned()];
    while let Some(here) = left.pop() {
        for entry in fs::read_dir(&here).expect("list") {
            let path = entry.expect("list").path();
            let name = path.strip_prefix(dir).expect("below").as_os_str().as_bytes();
            let name = String::from_utf8_lossy(name).into_owned();
            let meta = fs::symlink_metadata(&path).expect("stat");
            let mode = meta.permissions().mode() & 0o7777;
            let kind = meta.file_type();
            lines.push(if kind.is_dir() {
                left.push(path);
                format!("{name}/ {mode:o}")
            } else if kind.is_symlink() {
                format!("{name} -> {}", fs::read_link(&path).expect("link").display())
            } else if kind.is_file() {
                format!(
                    "{name} {mode:o} {}",
                    String::from_utf8_lossy(&fs::read(&path).expect("read"))
                )
            } else if kind.is_fifo() {
                format!("{name} | {mode:o}")
            } else {
                format!("{name} dev {}", meta.rdev())
            });
        }
    }
    lines.sort();
    lines
}

/// Any entry, often a mistake, always about the same few names so that they meet.
pub(crate) fn any_entry() -> impl Strategy<Value = Raw> {
    let name = prop::collection::vec(
        prop::sample::select(vec!["a", "b", ".", "..", ".wh.a", ".wh..wh..opq", "", "l", "..a"]),
        1..4,
    );
    let kind = prop::sample::select(b"0000555512226713xgLKS".to_vec());
    let target =
        prop::sample::select(vec!["a", "/a", "../../outside", "/../outside/f", "b/../..", "l", ""]);
    (name, kind, target, any::<u16>(), prop::collection::vec(any::<u8>(), 0..30)).prop_map(
        |(name, kind, target, mode, data)| {
            let raw = Raw::link(kind, &name.join("/"), target).mode(u64::from(mode) & 0o7777);
            if matches!(kind, b'0' | b'x' | b'L' | b'K') { raw.data(&data) } else { raw }
        },
    )
}

/// An entry that is well formed by itself; whether it goes with the others is another matter.
pub(crate) fn fair_entry() -> impl Strategy<Value = Raw> {
    let names = prop::collection::vec(prop::sample::select(vec!["a", "b", "l"]), 1..4);
    let target = prop::sample::select(vec!["a", "/b", "../b", "a/b", "/", ".."]);
    (names, target, 0u8..10).prop_map(|(names, target, what)| {
        let (path, above) = (names.join("/"), names[..names.len() - 1].join("/"));
        let under =
            |name: &str| if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
        match what {
            0..=2 => Raw::file(&path, path.as_bytes()),
            3..=5 => Raw::dir(&path),
            6 => Raw::link(b'2', &under("l"), target),
            7 => Raw::link(b'1', &path, "a"),
            8 => Raw::file(&under(&format!(".wh.{}", names[names.len() - 1])), b""),
            _ => Raw::file(&format!("{path}/.wh..wh..opq"), b""),
        }
    })
}
