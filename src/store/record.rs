//! Append-only histories: one JSON object a line, never rewritten. A line counts once it is whole
//! and flushed; what a writer that died left of its last line is no line, and the next writer cuts
//! it off.
//!
//! Whoever appends holds the store's lock; readers take none and see a line whole or not at all.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::disk;
use super::error::{Error, reading, writing};

/// Format of the lines.
const FORMAT: u64 = 1;
/// Longest history that is read: some hundred thousand lines.
const LIMIT: u64 = 64 << 20;

/// Returns this moment, RFC 3339 in UTC with milliseconds: what two people do within a second has
/// an order too.
pub(super) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Format and content of a line.
#[derive(Serialize)]
struct Line<'a, T> {
    v: u64,
    #[serde(flatten)]
    entry: &'a T,
}

/// Reads a history, oldest first; one that does not exist is empty.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    let Some(bytes) = disk::read(path, LIMIT).map_err(reading)? else { return Ok(vec![]) };
    parse(path, &bytes[..whole(&bytes)])
}

/// Appends a line, durably: after an error it is not there.
pub(super) fn append<T: Serialize>(path: &Path, entry: &T) -> Result<(), Error> {
    let before = disk::read(path, LIMIT).map_err(reading)?;
    // The name first: once the line is flushed nothing may fail.
    if let (None, Some(dir)) = (&before, path.parent()) {
        disk::append(path, 0, b"").and_then(|()| disk::sync_dir(dir)).map_err(writing)?;
    }
    let mut line =
        serde_json::to_vec(&Line { v: FORMAT, entry }).expect("strings and digests are writable");
    line.push(b'\n');
    disk::append(path, whole(before.as_deref().unwrap_or_default()) as u64, &line).map_err(writing)
}

/// Returns how many bytes of a history are whole lines.
fn whole(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<Vec<T>, Error> {
    #[derive(Deserialize)]
    struct Format {
        v: u64,
    }
    let mut entries = vec![];
    for (n, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let damaged = |e: serde_json::Error| Error::Damaged {
            path: path.to_owned(),
            why: format!("line {}: {e}", n + 1),
        };
        let Format { v } = serde_json::from_slice(line).map_err(damaged)?;
        if v > FORMAT {
            return Err(Error::Newer {
                path: path.to_owned(),
                found: format!("format {v} in line {}", n + 1),
                needs: None,
            });
        }
        entries.push(serde_json::from_slice(line).map_err(damaged)?);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(path: &Path) -> Vec<String> {
        #[derive(Deserialize)]
        struct Entry {
            what: String,
        }
        read::<Entry>(path).expect("readable").into_iter().map(|entry| entry.what).collect()
    }

    fn add(path: &Path, what: &str) {
        append(path, &serde_json::json!({ "what": what })).expect("append");
    }

    #[test]
    fn a_torn_line_is_no_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = &dir.path().join("history");
        assert!(history(path).is_empty());
        add(path, "one");
        add(path, "two");
        let good = std::fs::read(path).expect("read");
        assert_eq!(good, b"{\"v\":1,\"what\":\"one\"}\n{\"v\":1,\"what\":\"two\"}\n");
        // Every way in which the second line can have been cut short, and what a disk leaves that
        // knew the length only.
        let first = b"{\"v\":1,\"what\":\"one\"}\n".len();
        let torn = (first..good.len()).map(|end| good[..end].to_vec());
        for bytes in torn.chain([[&good[..first], &[0; 30]].concat()]) {
            std::fs::write(path, &bytes).expect("write");
            assert_eq!(history(path), ["one"], "{bytes:?}");
            add(path, "two");
            assert_eq!(std::fs::read(path).expect("read"), good, "repaired");
        }
    }

    #[test]
    fn damage_and_newer_formats_are_reported() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = &dir.path().join("history");
        for (text, why) in [
            ("{}\n", "line 1"),
            ("x\n", "line 1"),
            ("{\"v\":1,\"what\":\"a\"}\n[]\n", "line 2"),
            ("{\"v\":2,\"later\":1}\n", "format 2"),
        ] {
            std::fs::write(path, text).expect("write");
            let error = read::<serde_json::Value>(path).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        std::fs::remove_file(path).expect("remove");
        std::os::unix::fs::symlink("/etc/passwd", path).expect("symlink");
        read::<serde_json::Value>(path).expect_err("a symlink");
        append(path, &serde_json::json!({})).expect_err("a symlink");
    }
}
