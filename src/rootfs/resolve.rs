//! Follows the symlinks in a path inside a root, the way the kernel does in a process whose root it
//! is (path_resolution(7)): an absolute target starts at the root, and the root is its own parent.

use std::borrow::Cow;

/// Symlinks that are followed in one path; as many as Linux follows (`MAXSYMLINKS`).
pub const MAX_SYMLINKS: usize = 40;

/// What a name in a directory leads to.
#[derive(Debug)]
pub enum Step<D> {
    /// Here: a directory to go on from, or the end of the path.
    Enter(D),
    /// Where this symlink points, as written.
    Symlink(Vec<u8>),
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error<E> {
    /// More than [`MAX_SYMLINKS`] symlinks, or a circle of them.
    TooManySymlinks,
    /// What looking at a name returned.
    Look(E),
}

impl<E> From<E> for Error<E> {
    fn from(error: E) -> Self {
        Self::Look(error)
    }
}

/// Follows `path` from `top`, which is never left, and returns where it ends.
///
/// `step` is asked for one name in one directory at a time, never for an empty name, `.` or `..`.
///
/// # Errors
/// [`Error::TooManySymlinks`], and whatever `step` returns.
pub fn follow<D, E>(
    top: D,
    path: &[u8],
    mut step: impl FnMut(&D, &[u8]) -> Result<Step<D>, E>,
) -> Result<D, Error<E>> {
    // Texts to go through, the innermost last, and how far each has been read.
    let mut left = vec![(Cow::Borrowed(path), 0)];
    let mut way = vec![top];
    let mut symlinks = 0;
    while let Some((text, start)) = left.last_mut() {
        let from = *start;
        if from >= text.len() {
            left.pop();
            continue;
        }
        let end = text[from..].iter().position(|b| *b == b'/').map_or(text.len(), |n| from + n);
        *start = end + 1;
        match &text[from..end] {
            b"" | b"." => {}
            b".." => {
                if way.len() > 1 {
                    way.pop();
                }
            }
            name => match step(way.last().expect("the top stays"), name)? {
                Step::Enter(next) => way.push(next),
                Step::Symlink(target) => {
                    symlinks += 1;
                    if symlinks > MAX_SYMLINKS {
                        return Err(Error::TooManySymlinks);
                    }
                    if target.starts_with(b"/") {
                        way.truncate(1);
                    }
                    left.push((Cow::Owned(target), 0));
                }
            },
        }
    }
    Ok(way.pop().expect("the top stays"))
}

/// Follows `path` by names alone and returns the path it leads to: relative to the root, without
/// symlinks, `.` and `..`; empty for the root itself. What does not exist is taken as it is
/// written.
///
/// `symlink` returns the target of the symlink at such a path, or `None` where none is.
///
/// # Errors
/// [`Error::TooManySymlinks`], and whatever `symlink` returns.
pub fn path<E>(
    path: &[u8],
    mut symlink: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>, E>,
) -> Result<Vec<u8>, Error<E>> {
    follow(vec![], path, |dir: &Vec<u8>, name| {
        let next = join(dir, name);
        Ok(match symlink(&next)? {
            Some(target) => Step::Symlink(target),
            None => Step::Enter(next),
        })
    })
}

/// Puts a name under a directory; the empty directory is the root.
#[must_use]
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if dir.is_empty() { b"" } else { b"/" };
    [dir, slash, name].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;

    fn check(links: &[(&str, &str)], from: &str, to: Result<&str, Error<Infallible>>) {
        let links: BTreeMap<&[u8], &str> =
            links.iter().map(|(at, target)| (at.as_bytes(), *target)).collect();
        let found = path(from.as_bytes(), |at| {
            Ok::<_, Infallible>(links.get(at).map(|target| target.as_bytes().to_vec()))
        });
        let found = found.map(|path| String::from_utf8(path).unwrap());
        assert_eq!(found, to.map(str::to_owned), "{from}");
    }

    #[test]
    fn symlinks_are_followed_inside_the_root() {
        let links = [
            ("etc", "/real/etc"),
            ("real/etc/resolv.conf", "../../run/resolv.conf"),
            ("out", "/../../../x"),
            ("here", "."),
            ("a", "b/"),
            ("b", "c//d"),
        ];
        check(&links, "/etc/hosts", Ok("real/etc/hosts"));
        check(&links, "etc/resolv.conf", Ok("run/resolv.conf"));
        check(&links, "/out/y", Ok("x/y"));
        check(&links, "usr/../../etc/x", Ok("real/etc/x"));
        check(&links, "here/here/./a", Ok("c/d"));
        // `..` behind a symlink is the parent of where it leads.
        check(&links, "/etc/../x", Ok("real/x"));
        for root in ["", "/", "..", "/../.", "here"] {
            check(&links, root, Ok(""));
        }
    }

    #[test]
    fn forty_symlinks_are_followed_and_no_more() {
        let names: Vec<(String, String)> =
            (0..41).map(|n| (format!("l{n}"), format!("l{}", n + 1))).collect();
        let links: Vec<(&str, &str)> =
            names.iter().map(|(at, target)| (at.as_str(), target.as_str())).collect();
        check(&links, "l1", Ok("l41"));
        check(&links, "l0", Err(Error::TooManySymlinks));
        check(&[("loop", "loop")], "/loop/x", Err(Error::TooManySymlinks));
    }
}
