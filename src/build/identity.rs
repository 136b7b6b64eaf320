//! The identity of an image, inside it: `IMAGE_ID` and `IMAGE_VERSION` in os-release(5), and `/usr/lib/bake/image.json`.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

/// What `/usr/lib/bake/image.json` says. Deterministic: the same inputs give the same bytes.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Identity<'a> {
    /// Format of this file.
    pub(super) v: u32,
    /// Image name.
    pub(super) name: &'a str,
    /// Image version.
    pub(super) version: &'a str,
    /// What it was made from.
    pub(super) base: &'a str,
    /// RFC 3339 time of its newest input.
    pub(super) created: &'a str,
}

/// Path of the identity file in the image.
pub(super) const FILE: &str = "/usr/lib/bake/image.json";

/// Returns the text of the identity file.
pub(super) fn text(identity: &Identity<'_>) -> String {
    let mut text = serde_json::to_string_pretty(identity).expect("plain strings always have a JSON form");
    text.push('\n');
    text
}

/// Returns os-release with the two fields set: replaced where they are, else added at the end.
pub(super) fn os_release(text: &str, name: &str, version: &str) -> String {
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.starts_with("IMAGE_ID=") && !line.starts_with("IMAGE_VERSION=")) {
        out += line;
        out.push('\n');
    }
    // os-release(5) allows lower-case letters, digits, `.`, `_` and `-` in IMAGE_ID; a name may have a `/`.
    let id = name.replace('/', "-");
    out + &format!("IMAGE_ID={id}\nIMAGE_VERSION={version}\n")
}

/// Finds os-release below `root`: the file itself, not the symlink in `/etc`. `None` where the image has none.
pub(super) fn read_os_release(root: &Path) -> io::Result<Option<(String, String)>> {
    for path in ["usr/lib/os-release", "etc/os-release"] {
        match fs::symlink_metadata(root.join(path)) {
            Ok(meta) if meta.is_file() => return Ok(Some((format!("/{path}"), fs::read_to_string(root.join(path))?))),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_gets_each_field_once() {
        let once = os_release("ID=debian\nVERSION_ID=\"12\"\n", "team/web", "2.0.0");
        assert_eq!(once, "ID=debian\nVERSION_ID=\"12\"\nIMAGE_ID=team-web\nIMAGE_VERSION=2.0.0\n");
        assert_eq!(os_release(&once, "team/web", "2.0.0"), once);
    }
}
