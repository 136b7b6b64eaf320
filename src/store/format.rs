//! What makes a directory a store: `bake.json`, `oci-layout`, an index and a few directories; made,
//! completed and judged here.
//!
//! `bake.json` is written first and says that the directory is ours: from then on whatever a crash
//! left out is made by the next open.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk;
use super::error::{Error, reading, writing};
use super::index::IndexFile;
use crate::files::{is_aside, system};

/// The format that this bake writes.
const FORMAT: u64 = 1;
/// Features that this bake knows besides the format; a store that uses another is refused.
const FEATURES: &[&str] = &[];
/// The oldest bake that reads what this one writes.
const NEEDS: &str = "0.1.0";
/// Longest `bake.json` and `oci-layout`.
const LIMIT: u64 = 64 << 10;

/// `bake.json`.
#[derive(Debug, Serialize, Deserialize)]
struct BakeFile {
    format: u64,
    #[serde(default)]
    features: Vec<String>,
    /// The oldest bake that can read the store: what an older one prints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    needs: Option<String>,
}

/// `oci-layout` (image-spec, "image-layout.md").
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutFile {
    image_layout_version: String,
}

/// The bytes of an `oci-layout` file.
pub(super) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// What a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not there, or nothing in it.
    Nothing,
    /// A store or a layout from elsewhere, with parts missing that are there to be made.
    Partial,
    /// A whole store.
    Whole,
}

/// Judges the directory `dir` without touching it.
pub(super) fn judge(dir: &Path) -> Result<State, Error> {
    let mut names = vec![];
    match fs::read_dir(dir) {
        Ok(entries) => {
            for entry in entries {
                names.push(entry.map_err(|e| reading(system("list", dir, e)))?.file_name());
            }
        }
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(State::Nothing),
        Err(e) if e.kind() == ErrorKind::NotADirectory => {
            return Err(Error::NotADirectory { path: dir.to_owned() });
        }
        Err(e) => return Err(reading(system("list", dir, e))),
    }
    // A list is no moment: another bake may be making the store just now. Each file is asked for
    // after whatever is made later than it.
    let has = |name: &str| dir.join(name).exists();
    let layout = has("oci-layout");
    let ours = has("bake.json");
    if !ours && !layout {
        // The lock and files aside are what a crash in the very first moment leaves.
        names.retain(|name| name != "lock" && name != "lost+found" && !is_aside(name));
        names.sort_unstable();
        return match names.first() {
            None => Ok(State::Nothing),
            Some(name) => Err(Error::NotAStore {
                path: dir.to_owned(),
                found: name.to_string_lossy().into_owned(),
            }),
        };
    }
    if let Some(bytes) = read(&dir.join("bake.json"))? {
        check_bake(&dir.join("bake.json"), &bytes)?;
    }
    if let Some(bytes) = read(&dir.join("oci-layout"))? {
        check_layout(&dir.join("oci-layout"), &bytes)?;
    }
    let blobs = dir.join("blobs/sha256");
    let filled = fs::read_dir(&blobs).is_ok_and(|mut blobs| blobs.next().is_some());
    if (filled || !ours) && !has("index.json") {
        return Err(Error::Damaged {
            path: dir.join("index.json"),
            why: "it is missing, though there are blobs or a layout".to_owned(),
        });
    }
    let whole = ["bake.json", "oci-layout", "index.json", "lock", "scratch", "cache", "logs"]
        .into_iter()
        .all(has)
        && blobs.is_dir();
    Ok(if whole { State::Whole } else { State::Partial })
}

/// Refuses the directory `dir`, which is there, where another user could replace what is in it by
/// something else: an empty one of theirs, or any that everybody may write to.
pub(super) fn check_owner(dir: &Path) -> Result<(), Error> {
    let found = fs::metadata(dir).map_err(|e| reading(system("look at", dir, e)))?;
    let (owner, mode) = (found.uid(), found.mode() & 0o7777);
    let trusted = owner == rustix::process::geteuid().as_raw() || owner == 0;
    let new = !dir.join("bake.json").exists() && !dir.join("oci-layout").exists();
    if trusted || !(new || mode & 0o002 != 0) {
        return Ok(());
    }
    Err(Error::OfAnother { path: dir.to_owned(), owner, mode })
}

/// Makes what is missing in `dir`; the caller holds the lock.
pub(super) fn complete(dir: &Path) -> Result<(), Error> {
    let missing = |name: &str| -> Result<bool, Error> {
        let path = dir.join(name);
        path.try_exists().map(|there| !there).map_err(|e| reading(system("look at", &path, e)))
    };
    if missing("bake.json")? {
        let file = BakeFile { format: FORMAT, features: vec![], needs: Some(NEEDS.to_owned()) };
        let bytes = serde_json::to_vec(&file).expect("numbers and strings are writable");
        disk::write(&dir.join("bake.json"), &bytes).map_err(writing)?;
    }
    for (name, mode) in [
        ("blobs", disk::PUBLIC_DIR),
        ("blobs/sha256", disk::PUBLIC_DIR),
        ("cache", disk::PRIVATE_DIR),
        ("scratch", disk::PRIVATE_DIR),
        ("logs", disk::PRIVATE_DIR),
    ] {
        disk::make_dir(&dir.join(name), mode).map_err(writing)?;
    }
    disk::sync_dir(&dir.join("blobs")).map_err(writing)?;
    if missing("index.json")? {
        disk::write(&dir.join("index.json"), &IndexFile::empty().to_json()).map_err(writing)?;
    }
    if missing("oci-layout")? {
        disk::write(&dir.join("oci-layout"), LAYOUT).map_err(writing)?;
    }
    disk::sync_dir(dir).map_err(writing)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    disk::read(path, LIMIT).map_err(reading)
}

fn check_bake(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let damaged = |why: String| Error::Damaged { path: path.to_owned(), why };
    let file: BakeFile = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
    let newer =
        |found: String| Error::Newer { path: path.to_owned(), found, needs: file.needs.clone() };
    if file.format == 0 {
        return Err(damaged("format is 0".to_owned()));
    }
    if file.format > FORMAT {
        return Err(newer(format!("format {}", file.format)));
    }
    match file.features.iter().find(|feature| !FEATURES.contains(&feature.as_str())) {
        Some(feature) => Err(newer(format!("feature {feature:?}"))),
        None => Ok(()),
    }
}

fn check_layout(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let file: LayoutFile = serde_json::from_slice(bytes)
        .map_err(|e| Error::Damaged { path: path.to_owned(), why: e.to_string() })?;
    if file.image_layout_version.starts_with("1.") {
        return Ok(());
    }
    Err(Error::Newer {
        path: path.to_owned(),
        found: format!("layout version {:?}", file.image_layout_version),
        needs: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let found = match check_bake(Path::new("bake.json"), text.as_bytes()) {
            Ok(()) => "fine".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(found.contains(expected), "{text}: {found}");
    }

    #[test]
    fn formats() {
        check(r#"{"format":1}"#, "fine");
        check(r#"{"format":1,"features":[],"needs":"0.1.0","later":true}"#, "fine");
        check(
            r#"{"format":2,"needs":"1.4.0"}"#,
            "says format 2, which this bake cannot read; bake 1.4.0 or newer can",
        );
        check(r#"{"format":1,"features":["chunks"]}"#, r#"says feature "chunks""#);
        check(r#"{"format":0}"#, "damaged");
        check("{", "damaged");
        check("", "damaged");
    }

    #[test]
    fn layouts() {
        check_layout(Path::new("oci-layout"), LAYOUT).expect("our own");
        check_layout(Path::new("oci-layout"), br#"{"imageLayoutVersion":"2.0.0"}"#)
            .expect_err("later");
        check_layout(Path::new("oci-layout"), b"{}").expect_err("empty");
    }
}
