//! Names of entries: what is accepted, the one form they are held in, whiteouts, and their order.

use std::cmp::Ordering;

use super::{MAX_NAME, MAX_PATH, Wrong};

/// How the name of a whiteout begins.
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// The name of the mark of an opaque directory.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";

/// What the last part of a name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    /// A file, directory, … at this path.
    Plain(Vec<u8>),
    /// The path is deleted.
    Whiteout(Vec<u8>),
    /// The directory hides what is below.
    Opaque(Vec<u8>),
}

/// Brings a name into the form without leading `./`, doubled or trailing slashes; the top directory
/// is the empty path.
pub(crate) fn clean(name: &[u8]) -> Result<Vec<u8>, Wrong> {
    if name.is_empty() || name.contains(&0) {
        return Err(Wrong::Empty);
    }
    // umoci writes the top itself so; of anything below it a leading slash may mean two things.
    if name[0] == b'/' && name.len() > 1 {
        return Err(Wrong::Absolute);
    }
    let mut path = Vec::with_capacity(name.len());
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(Wrong::DotDot),
            _ if part.len() > MAX_NAME => return Err(Wrong::TooLong),
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    if path.len() > MAX_PATH { Err(Wrong::TooLong) } else { Ok(path) }
}

/// Splits whiteouts from plain paths; `path` is clean.
pub(crate) fn named(path: Vec<u8>) -> Result<Named, Wrong> {
    let (directory, last) = split(&path);
    if directory.split(|b| *b == b'/').any(|part| part.starts_with(WHITEOUT)) {
        return Err(Wrong::Whiteout);
    }
    let Some(hidden) = last.strip_prefix(WHITEOUT) else {
        return Ok(Named::Plain(path));
    };
    if last == OPAQUE {
        return Ok(Named::Opaque(directory.to_owned()));
    }
    // `.wh.`, `.wh..` and `.wh...` would delete nothing, the directory itself, and its parent.
    if matches!(hidden, b"" | b"." | b"..") || hidden.starts_with(WHITEOUT) {
        return Err(Wrong::Whiteout);
    }
    Ok(Named::Whiteout(join(directory, hidden)))
}

/// Splits a clean path into its directory and its last name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Puts a name under a directory; the empty directory is the top.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    if !directory.is_empty() {
        path.extend_from_slice(directory);
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Compares two clean paths in the order of a layer: by bytes, level by level, a directory before
/// what is in it.
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    // As if `/` were the lowest byte; no name contains a zero byte.
    let low = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    a.iter().map(low).cmp(b.iter().map(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        for (name, path) in [
            ("./", ""),
            (".", ""),
            ("/", ""),
            ("./a//b/./c/", "a/b/c"),
            ("a", "a"),
            ("...", "..."),
            ("a/..b", "a/..b"),
        ] {
            assert_eq!(clean(name.as_bytes()), Ok(path.as_bytes().to_vec()), "{name}");
        }
        let long = "x".repeat(256);
        let deep = "y/".repeat(2049);
        for (name, why) in [
            ("", Wrong::Empty),
            ("a\0b", Wrong::Empty),
            ("/a", Wrong::Absolute),
            ("..", Wrong::DotDot),
            ("a/../b", Wrong::DotDot),
            (&long, Wrong::TooLong),
            (&deep, Wrong::TooLong),
        ] {
            assert_eq!(clean(name.as_bytes()), Err(why), "{name}");
        }
    }

    #[test]
    fn whiteouts_name_one_file() {
        let check = |name: &str| named(name.as_bytes().to_vec());
        assert_eq!(check("a/.wh.b"), Ok(Named::Whiteout(b"a/b".to_vec())));
        assert_eq!(check(".wh.b"), Ok(Named::Whiteout(b"b".to_vec())));
        assert_eq!(check("a/.wh..wh..opq"), Ok(Named::Opaque(b"a".to_vec())));
        assert_eq!(check(".wh..wh..opq"), Ok(Named::Opaque(b"".to_vec())));
        assert_eq!(check("a/.what"), Ok(Named::Plain(b"a/.what".to_vec())));
        for name in [
            ".wh.",
            ".wh..",
            ".wh...",
            ".wh..wh.aufs",
            ".wh..wh.plnk/x",
            "a/.wh.b/c",
            ".wh..wh..opq/x",
        ] {
            assert_eq!(check(name), Err(Wrong::Whiteout), "{name}");
        }
    }

    #[test]
    fn a_directories_comes_before_what_is_in_it() {
        let mut paths = ["a-b", "a/c", "a", "a/b/c", "b", "a/b", "A"].map(str::as_bytes);
        paths.sort_by(|x, y| compare(x, y));
        assert_eq!(paths, ["A", "a", "a/b", "a/b/c", "a/c", "a-b", "b"].map(str::as_bytes));
    }
}
