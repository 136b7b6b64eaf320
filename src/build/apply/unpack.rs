//! A downloaded archive unpacked into a folder of the image, which none of its entries can leave.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;

use super::error::Error;
use super::owner;
use super::root::Attr;
use super::root::Root;
use crate::layer;

/// Bounds against bombs: no release archive comes near them.
const MAX_ENTRIES: u64 = 2_000_000;
const MAX_BYTES: u64 = 64 << 30;
const MAX_NAME: usize = 4096;
const TELL_EVERY: u64 = 4 << 20;

/// How a `download` step wants its archive unpacked.
pub(super) struct Plan<'a> {
    /// The archive's URL, for messages.
    pub(super) url: &'a str,
    /// Folder to unpack into; made if missing.
    pub(super) to: &'a str,
    /// Owner of everything; the archive's own owners do not count.
    pub(super) owner: &'a str,
    /// Mode of files (folders get x where they get r); else the archive's permission bits without set-id and sticky bits.
    pub(super) mode: Option<u32>,
    /// Leading components dropped; an entry with no more than these is left out.
    pub(super) strip: u32,
}

/// Unpacks a tar, plain or compressed with gzip, xz or zstd. Returns `{"files": n, "bytes": n}`; tells `{"bytes": n}` on the way.
pub(super) fn unpack(root: &Root, plan: &Plan<'_>, mut archive: File, tell: &mut dyn FnMut(Value)) -> Result<Value, Error> {
    let refuse = |why: String| Error::refused(plan.url, why);
    let ids = owner::ids(root, plan.owner)?;
    let own = Attr { ids: root.own(), mode: 0o755 };
    let inside = root.beneath(Path::new(plan.to))?;
    known_form(&mut archive).map_err(refuse)?;
    let broken = |e: std::io::Error| Error::refused(plan.url, format!("is not a whole tar archive: {e}"));
    let reader = layer::decompress(Box::new(std::io::BufReader::new(archive))).map_err(|e| refuse(cause_chain(&e)))?;
    let mut tar = tar::Archive::new(reader.take(MAX_BYTES));
    let (mut files, mut bytes, mut told, mut count) = (0_u64, 0_u64, 0_u64, 0_u64);
    // Modes of folders come last: a read-only folder must be filled first. The one of the archive's own root is the image's business.
    let mut folders: BTreeMap<PathBuf, Attr> = BTreeMap::new();
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        count += 1;
        if count > MAX_ENTRIES {
            return Err(refuse(format!("has more than {MAX_ENTRIES} entries")));
        }
        let kind = entry.header().entry_type();
        if matches!(kind, tar::EntryType::XGlobalHeader) {
            continue;
        }
        let raw = PathBuf::from(OsString::from_vec(entry.path_bytes().into_owned()));
        let refuse_entry = |why: &str| refuse(format!("entry \"{}\" {why}", raw.display()));
        let Some(path) = stripped(&raw, plan.strip).map_err(|why| refuse_entry(why))? else { continue };
        let executable = entry.header().mode().map_err(broken)?;
        let attr = Attr { ids, mode: mode_of(kind, executable, plan.mode) };
        let at = |path: &Path| -> Result<_, Error> {
            let parent = path.parent().unwrap_or(Path::new(""));
            inside.make_folders(parent, Some(own))?;
            inside.make_spot(path)
        };
        match kind {
            tar::EntryType::Directory => {
                if path.as_os_str().is_empty() {
                    continue;
                }
                if inside.folder(&path)?.is_none() {
                    inside.make_folders(&path, Some(Attr { mode: 0o700, ..attr }))?;
                    folders.insert(path, attr);
                } else if let Some(known) = folders.get_mut(&path) {
                    *known = attr;
                }
            }
            _ if path.as_os_str().is_empty() => return Err(refuse_entry("would take the place of the folder it is unpacked into")),
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().ok_or_else(|| refuse_entry("is a symlink without a target"))?.into_owned();
                if target.is_empty() || target.contains(&0) || target.len() >= MAX_NAME {
                    return Err(refuse_entry("is a symlink without a usable target"));
                }
                inside.put_link(&at(&path)?, &OsString::from_vec(target), ids)?;
                files += 1;
            }
            tar::EntryType::Link => {
                let target = entry.link_name_bytes().ok_or_else(|| refuse_entry("is a hard link without a target"))?.into_owned();
                let target = PathBuf::from(OsString::from_vec(target));
                let original = stripped(&target, plan.strip).map_err(|why| refuse_entry(why))?;
                let original = original.map(|o| inside.spot(&o)).transpose()?.flatten();
                let original = original.ok_or_else(|| refuse_entry("is a hard link to nothing"))?;
                if inside.open_file(&original)?.is_none() {
                    return Err(refuse_entry("is a hard link to a file that the archive does not have before it"));
                }
                let spot = at(&path)?;
                if spot.shown != original.shown {
                    inside.put_hard_link(&spot, &original)?;
                }
                files += 1;
            }
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                bytes += inside.put_file(&at(&path)?, attr, &mut entry)?;
                files += 1;
            }
            _ => return Err(refuse_entry("is a device, fifo or other special file; only files, folders and links are unpacked")),
        }
        if bytes - told >= TELL_EVERY {
            told = bytes;
            tell(json!({ "bytes": bytes }));
        }
    }
    if count == 0 {
        return Err(refuse("is an empty archive".to_owned()));
    }
    let mut rest = tar.into_inner();
    if std::io::copy(&mut rest, &mut std::io::sink()).map_err(broken)? > 0 && rest.limit() == 0 {
        return Err(refuse(format!("unpacks to more than {MAX_BYTES} bytes")));
    }
    for (path, attr) in folders.iter().rev() {
        if let Some(fd) = inside.folder(path)? {
            inside.settle(fd.as_fd(), *attr, path)?;
            inside.stamp(fd.as_fd(), path)?;
        }
    }
    Ok(json!({ "files": files, "bytes": bytes }))
}

/// Refuses forms that cannot be unpacked by name, before a reader takes them for a broken tar.
fn known_form(archive: &mut File) -> Result<(), String> {
    let mut start = vec![];
    let read = Read::by_ref(archive).take(8).read_to_end(&mut start).and_then(|_| archive.rewind());
    read.map_err(|e| format!("cannot be read: {e}"))?;
    let name = match start.as_slice() {
        [b'P', b'K', 3 | 5 | 7, ..] => "a zip archive",
        [b'B', b'Z', b'h', ..] => "compressed with bzip2",
        [b'7', b'z', 0xbc, 0xaf, ..] => "a 7z archive",
        [0x04, 0x22, 0x4d, 0x18, ..] => "compressed with lz4",
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => "an ar archive (a Debian package is installed in a `packages` step)",
        _ => return Ok(()),
    };
    Err(format!("is {name}; bake unpacks tar, plain or with gzip, xz or zstd. Leave `unpack` out and unpack it in a `run` step"))
}

/// The path of an entry without its first `strip` components; `None` if nothing is left of it.
fn stripped(path: &Path, strip: u32) -> Result<Option<PathBuf>, &'static str> {
    if path.as_os_str().len() > MAX_NAME {
        return Err("has a name that is too long");
    }
    let mut parts = vec![];
    for component in path.components() {
        match component {
            Component::Normal(part) if part.as_encoded_bytes().contains(&0) => return Err("has a zero byte in its name"),
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            Component::ParentDir => return Err("has `..` in its path"),
            Component::RootDir | Component::Prefix(_) => return Err("has an absolute path"),
        }
    }
    let strip = usize::try_from(strip).unwrap_or(usize::MAX);
    if strip > 0 && parts.len() <= strip {
        return Ok(None);
    }
    Ok(Some(parts[strip..].iter().collect()))
}

fn mode_of(kind: tar::EntryType, archived: u32, wanted: Option<u32>) -> u32 {
    match wanted {
        Some(mode) if kind == tar::EntryType::Directory => mode | ((mode & 0o444) >> 2),
        Some(mode) => mode,
        None => archived & 0o777,
    }
}

fn cause_chain(e: &dyn std::error::Error) -> String {
    let mut text = format!("cannot be unpacked: {e}");
    let mut cause = e.source();
    while let Some(e) = cause {
        text.push_str(&format!(": {e}"));
        cause = e.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_dropped_and_ways_out_refused() {
        let check = |path: &str, strip, expected: Result<Option<&str>, ()>| {
            let got = stripped(Path::new(path), strip).map_err(|_| ());
            assert_eq!(got, expected.map(|p| p.map(PathBuf::from)), "{path} {strip}");
        };
        check("./tool-1.4/bin/x", 1, Ok(Some("bin/x")));
        check("tool-1.4/", 1, Ok(None));
        check("README", 1, Ok(None));
        check("./", 0, Ok(Some("")));
        check("a/b", 7, Ok(None));
        check("../a", 0, Err(()));
        check("a/../../b", 1, Err(()));
        check("/etc/passwd", 0, Err(()));
    }
}
