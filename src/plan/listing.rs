//! What a set of files was: each name with a short digest of what it was. Only serves to explain a
//! miss, and may hold a million names, so it is one piece of memory.
//!
//! ```text
//! "bake listing 1\n"
//! rows of  u32 length of the name (little-endian), the name, the first 16 bytes of a sha256
//! ```

use std::cmp::Ordering;

use crate::digest::Digest;

const MAGIC: &[u8] = b"bake listing 1\n";
/// Bytes of a digest that are kept: no one gains anything by a wrong explanation.
const SHORT: usize = 16;

/// Names with what they stood for, in the order of a layer: as if `/` were the lowest byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing(Vec<u8>);

/// What differs between two listings.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Names in both that stand for something else now.
    pub changed: Names,
    /// Names that are new.
    pub added: Names,
    /// Names that are gone.
    pub removed: Names,
}

/// Some names of many.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The first of them, as text.
    pub first: Vec<String>,
    /// How many there are in all.
    pub count: usize,
}

impl Names {
    /// Most names that are kept.
    pub const SHOWN: usize = 5;

    /// Counts one more.
    pub fn add(&mut self, name: &[u8]) {
        if self.first.len() < Self::SHOWN {
            self.first.push(String::from_utf8_lossy(name).into_owned());
        }
        self.count += 1;
    }
}

impl Default for Listing {
    fn default() -> Self {
        Self(MAGIC.to_vec())
    }
}

impl Listing {
    /// Adds a name, which must come after all others in the order of a layer.
    pub fn add(&mut self, name: &[u8], digest: &Digest) {
        // No path is as long as that; nothing is lost if one were, but its explanation.
        let Ok(length) = u32::try_from(name.len()) else { return };
        self.0.extend(length.to_le_bytes());
        self.0.extend(name);
        self.0.extend(&digest.as_bytes()[..SHORT]);
    }

    /// Returns its form on disk.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads what [`Listing::bytes`] gave; `None` for anything else.
    pub fn parse(bytes: Vec<u8>) -> Option<Self> {
        let listing = Self(bytes.starts_with(MAGIC).then_some(bytes)?);
        let mut rows = listing.rows();
        while rows.next().is_some() {}
        rows.0.is_empty().then_some(listing)
    }

    fn rows(&self) -> Rows<'_> {
        Rows(&self.0[MAGIC.len()..])
    }

    /// Compares with what came after it.
    pub fn compare(&self, new: &Self) -> Difference {
        let mut out = Difference::default();
        let (mut olds, mut news) = (self.rows().peekable(), new.rows().peekable());
        loop {
            let order = match (olds.peek(), news.peek()) {
                (Some((old, _)), Some((new, _))) => order(old, new),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return out,
            };
            let old = if order.is_le() { olds.next() } else { None };
            let new = if order.is_ge() { news.next() } else { None };
            match (old, new) {
                (Some((_, was)), Some((name, is))) if was != is => out.changed.add(name),
                (Some((name, _)), None) => out.removed.add(name),
                (None, Some((name, _))) => out.added.add(name),
                _ => {}
            }
        }
    }
}

struct Rows<'a>(&'a [u8]);

impl<'a> Iterator for Rows<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (name, rest) = rest.split_at_checked(length)?;
        let (digest, rest) = rest.split_at_checked(SHORT)?;
        self.0 = rest;
        Some((name, digest))
    }
}

fn order(a: &[u8], b: &[u8]) -> Ordering {
    a.split(|byte| *byte == b'/').cmp(b.split(|byte| *byte == b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(rows: &[(&str, &str)]) -> Listing {
        let mut listing = Listing::default();
        for (name, what) in rows {
            listing.add(name.as_bytes(), &Digest::of(what));
        }
        listing
    }

    #[test]
    fn what_differs_is_named_and_counted() {
        let old = listing(&[("a", "1"), ("a/b", "1"), ("a/c", "1"), ("a-b", "1"), ("z", "1")]);
        let new = listing(&[
            ("a", "1"),
            ("a/b", "2"),
            ("a/d", "1"),
            ("a-b", "1"),
            ("a-c", "1"),
            ("z", "1"),
        ]);
        let names = |first: &[&str]| Names {
            first: first.iter().map(|name| (*name).to_owned()).collect(),
            count: first.len(),
        };
        let expected = Difference {
            changed: names(&["a/b"]),
            added: names(&["a/d", "a-c"]),
            removed: names(&["a/c"]),
        };
        assert_eq!(old.compare(&new), expected);
        assert_eq!(old.compare(&old), Difference::default());
        let all = Listing::default().compare(&listing(&[
            ("a", ""),
            ("b", ""),
            ("c", ""),
            ("d", ""),
            ("e", ""),
            ("f", ""),
        ]));
        assert_eq!((all.added.first.len(), all.added.count), (5, 6));
    }

    #[test]
    fn only_whole_listings_are_read() {
        let whole = listing(&[("a", "1"), ("b\n", "2")]);
        assert_eq!(Listing::parse(whole.bytes().to_vec()), Some(whole.clone()));
        let ends = [MAGIC.len(), MAGIC.len() + 4 + 1 + SHORT];
        for at in (0..whole.bytes().len()).filter(|at| !ends.contains(at)) {
            assert_eq!(Listing::parse(whole.bytes()[..at].to_vec()), None, "{at}");
        }
        assert_eq!(Listing::parse(br#"{"a":"sha256:00"}"#.to_vec()), None);
    }
}
