//! A downloaded archive unpacked into a directory of the image, which none of its entries can
//! leave.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::owner;
use super::reply::Reply;
use super::root::Root;
use super::spot::Attr;
use crate::event::chain;
use crate::layer::{self, Kind, Limits, TarReader};

/// No release archive comes near these.
const LIMITS: Limits = Limits { entries: 2_000_000, bytes: 64 << 30 };
const REPORT_EVERY: u64 = 4 << 20;

/// How a `download` step wants its archive unpacked.
pub(super) struct Plan<'a> {
    /// The archive's URL, for messages.
    pub(super) url: &'a str,
    /// Directory to unpack into; made if missing.
    pub(super) to: &'a str,
    /// Owner of everything; the archive's own owners do not count.
    pub(super) owner: &'a str,
    /// Mode of files (directories get x where they get r); else the archive's permission bits
    /// without set-id and sticky bits.
    pub(super) mode: Option<u32>,
    /// Leading components dropped; an entry with no more than these is left out.
    pub(super) strip: u32,
}

/// Unpacks a tar, plain or compressed with gzip, xz or zstd. Returns `{"files": n, "bytes": n}`;
/// reports `{"bytes": n}` on the way.
pub(super) fn unpack(
    root: &Root,
    plan: &Plan<'_>,
    mut archive: File,
    progress: &mut dyn FnMut(u64),
) -> Result<Reply, Error> {
    let refuse = |why: String| Error::refused(plan.url, why);
    let broken = |e: layer::Error| refuse(chain(&e).join(": "));
    let ids = owner::ids(root, plan.owner)?;
    known_form(&mut archive).map_err(refuse)?;
    let inside = root.beneath(
        Path::new(plan.to),
        Attr { ids, mode: plan.mode.map_or(0o755, |mode| mode_of(&Kind::Dir, 0, Some(mode))) },
    )?;
    let reader = layer::decompress_foreign(
        Box::new(std::io::BufReader::new(archive)),
        layer::Ratio::default(),
    )
    .map_err(broken)?;
    let mut tar = TarReader::new(reader, &LIMITS).foreign();
    let (mut files, mut bytes, mut reported) = (0_u64, 0_u64, 0_u64);
    // Modes of directories come last: a read-only directory must be filled first.
    let mut directories: BTreeMap<PathBuf, Attr> = BTreeMap::new();
    while let Some(entry) = tar.next().map_err(broken)? {
        let refuse_entry =
            |why: &str| refuse(format!("entry \"{}\" {why}", String::from_utf8_lossy(&entry.path)));
        let Some(path) = stripped(&entry.path, plan.strip) else { continue };
        let attr = Attr { ids, mode: mode_of(&entry.kind, entry.meta.mode, plan.mode) };
        match &entry.kind {
            // What the archive says about its own top directory does not change the one it is
            // unpacked into.
            Kind::Dir if path.as_os_str().is_empty() => {}
            Kind::Dir => {
                if inside.directory(&path)?.is_none() {
                    inside.make_directories(&path, Some(Attr { mode: 0o700, ..attr }))?;
                    directories.insert(path, attr);
                } else if let Some(known) = directories.get_mut(&path) {
                    *known = attr;
                }
            }
            Kind::Symlink(target) => {
                inside.put_link(&inside.make_spot(&path)?, OsStr::from_bytes(target), ids)?;
                files += 1;
            }
            Kind::Link(target) => {
                let original =
                    stripped(target, plan.strip).map(|o| inside.spot(&o)).transpose()?.flatten();
                let original = original.ok_or_else(|| refuse_entry("is a hard link to nothing"))?;
                if inside.open_file(&original)?.is_none() {
                    return Err(refuse_entry(
                        "is a hard link to a file that the archive does not have before it",
                    ));
                }
                let spot = inside.make_spot(&path)?;
                if spot.shown != original.shown {
                    inside.put_hard_link(&spot, &original)?;
                }
                files += 1;
            }
            Kind::File => {
                bytes += inside.put_file(&inside.make_spot(&path)?, attr, &mut tar)?;
                files += 1;
            }
            Kind::Fifo | Kind::Device => {
                return Err(refuse_entry(
                    "is a device or fifo; only files, directories, symlinks and hard links are \
                        unpacked",
                ));
            }
            Kind::Whiteout | Kind::Opaque => {
                return Err(refuse_entry(
                    "has a whiteout: this is the layer of an image, which a `download` does not \
                        unpack",
                ));
            }
        }
        if bytes - reported >= REPORT_EVERY {
            reported = bytes;
            progress(bytes);
        }
    }
    if tar.counted().entries == 0 {
        return Err(refuse("is an empty archive".to_owned()));
    }
    for (path, attr) in directories.iter().rev() {
        if let Some(fd) = inside.directory(path)? {
            inside.settle(fd.as_fd(), *attr, path)?;
            inside.stamp(fd.as_fd(), path)?;
        }
    }
    Ok(Reply::Unpacked { files, bytes })
}

/// Refuses forms that cannot be unpacked by name, before a reader takes them for a broken tar.
fn known_form(archive: &mut File) -> Result<(), String> {
    let mut start = vec![];
    let read = Read::by_ref(archive).take(8).read_to_end(&mut start).and_then(|_| archive.rewind());
    read.map_err(|e| format!("cannot be read: {e}"))?;
    let name = match start.as_slice() {
        [b'P', b'K', 3 | 5 | 7, ..] => "a zip archive",
        [b'7', b'z', 0xbc, 0xaf, ..] => "a 7z archive",
        [0x04, 0x22, 0x4d, 0x18, ..] => "compressed with lz4",
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => {
            "an ar archive (a Debian package is installed in a `packages` step)"
        }
        _ => return Ok(()),
    };
    Err(format!(
        "is {name}; bake unpacks tar, plain or with gzip, xz or zstd. Leave `unpack` out and \
            unpack it in a `run` step"
    ))
}

/// The clean path of an entry without its first `strip` components; `None` if nothing is left of
/// it.
fn stripped(path: &[u8], strip: u32) -> Option<PathBuf> {
    let parts: Vec<&OsStr> = Path::new(OsStr::from_bytes(path)).iter().collect();
    let strip = usize::try_from(strip).unwrap_or(usize::MAX);
    (strip == 0 || parts.len() > strip).then(|| parts[strip..].iter().collect())
}

/// Set-id and sticky bits of an archive do not count; those of the recipe do, for files.
fn mode_of(kind: &Kind, archived: u32, wanted: Option<u32>) -> u32 {
    match wanted {
        Some(mode) if *kind == Kind::Dir => (mode & 0o777) | ((mode & 0o444) >> 2),
        Some(mode) => mode,
        None => archived & 0o777,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_dropped() {
        let check = |path: &str, strip, expected: Option<&str>| {
            assert_eq!(
                stripped(path.as_bytes(), strip),
                expected.map(PathBuf::from),
                "{path} {strip}"
            );
        };
        check("tool-1.4/bin/x", 1, Some("bin/x"));
        check("tool-1.4", 1, None);
        check("", 0, Some(""));
        check("", 1, None);
        check("a/b", 7, None);
        check("a/b", 0, Some("a/b"));
    }
}
