//! What each path of one tar is so far: the memory that refuses a tar which says two
//! things about one name.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::{Wrong, name};

/// What a tar has made of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A directory that was needed for something in it.
    Passed,
    /// A directory with an entry of its own.
    Dir,
    /// A regular file, by its own entry or as a hard link.
    File,
    /// A symlink or a fifo.
    Other,
    /// Deleted from what earlier layers have.
    Whiteout,
}

/// By clean path in which no part is a symlink: through a symlink one file would have two names.
///
/// Of each path 128 bits are kept, by two functions with keys that nobody knows before: a million
/// paths are a third of what they would be as text, and that two of them meet is less likely than
/// that the machine fails.
#[derive(Debug, Default)]
pub(crate) struct Once {
    seen: HashMap<[u8; 16], Seen>,
    keys: [RandomState; 2],
}

impl Once {
    fn short(&self, path: &[u8]) -> [u8; 16] {
        let [a, b] = &self.keys;
        ((u128::from(a.hash_one(path)) << 64) | u128::from(b.hash_one(path))).to_ne_bytes()
    }

    /// What `path` is so far.
    pub(crate) fn get(&self, path: &[u8]) -> Option<Seen> {
        self.seen.get(&self.short(path)).copied()
    }

    /// Notes that `path` now is `what`, and the directories above it in use; refused where that
    /// contradicts an earlier entry.
    pub(crate) fn claim(&mut self, path: &[u8], what: Seen) -> Result<(), Wrong> {
        match (self.get(path), what) {
            (None, _) | (Some(Seen::Passed | Seen::Dir), Seen::Dir) => {}
            (Some(Seen::Whiteout | Seen::Passed), _) | (_, Seen::Whiteout) => {
                return Err(Wrong::Conflict);
            }
            _ => return Err(Wrong::Duplicate),
        }
        // A deletion says that there is a directory above it, even if it need not be made.
        self.pass(name::split(path).0)?;
        self.seen.insert(self.short(path), what);
        Ok(())
    }

    /// Notes that the directory `path`, and those above it, are needed.
    pub(crate) fn pass(&mut self, path: &[u8]) -> Result<(), Wrong> {
        let mut path = path;
        while !path.is_empty() {
            match self.get(path) {
                // Whoever put it there noted those above it.
                Some(Seen::Passed | Seen::Dir) => break,
                Some(Seen::Whiteout) => return Err(Wrong::Conflict),
                Some(_) => return Err(Wrong::Way),
                None => self.seen.insert(self.short(path), Seen::Passed),
            };
            path = name::split(path).0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_about_one_name() {
        let check = |claims: &[(&str, Seen)], last: Result<(), Wrong>| {
            let mut once = Once::default();
            let mut outcome = Ok(());
            for (path, what) in claims {
                assert_eq!(outcome, Ok(()), "{path}");
                outcome = once.claim(path.as_bytes(), *what);
            }
            assert_eq!(outcome, last, "{claims:?}");
        };
        check(&[("d", Seen::Dir), ("d", Seen::Dir)], Ok(()));
        check(&[("d/f", Seen::File), ("d", Seen::Dir)], Ok(()));
        check(&[("d/f", Seen::File), ("d", Seen::File)], Err(Wrong::Conflict));
        check(&[("f", Seen::File), ("f", Seen::Other)], Err(Wrong::Duplicate));
        check(&[("f", Seen::File), ("f", Seen::Dir)], Err(Wrong::Duplicate));
        check(&[("f", Seen::File), ("f/g", Seen::File)], Err(Wrong::Way));
        check(&[("f", Seen::Whiteout), ("f", Seen::File)], Err(Wrong::Conflict));
        check(&[("f", Seen::Whiteout), ("f/g", Seen::File)], Err(Wrong::Conflict));
        check(&[("d/f", Seen::File), ("d", Seen::Whiteout)], Err(Wrong::Conflict));
        check(&[("d/f", Seen::Whiteout), ("d", Seen::Whiteout)], Err(Wrong::Conflict));
        check(&[("d/f", Seen::Whiteout), ("d", Seen::File)], Err(Wrong::Conflict));
        check(&[("d", Seen::Whiteout), ("d/f", Seen::Whiteout)], Err(Wrong::Conflict));
        check(&[("d", Seen::File), ("d/e/f", Seen::Whiteout)], Err(Wrong::Way));
    }
}
