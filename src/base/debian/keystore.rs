//! Java's store of trusted certificates (`cacerts`), which the package `ca-certificates-java` makes
//! when it is configured: each entry has the time at which it was added. Here these become 1970 and
//! the entries are sorted, so that the same certificates are the same bytes.
//!
//! The format, JKS (OpenJDK, `sun.security.provider.JavaKeyStore`), numbers big-endian:
//!
//! ```text
//! u32 0xfeedfeed, u32 version 2, u32 entries
//! for each  u32 kind (2: a trusted certificate), text alias, i64 milliseconds since 1970,
//!           text type, u32 length, certificate           (text: u16 length, bytes)
//! sha1 over the password in UTF-16, "Mighty Aphrodite", and all that
//! ```

use std::fs;
use std::io;

use sha1::{Digest as _, Sha1};

use super::changed::{Tree, find, named};

/// Where Debian has it.
const PLACE: &str = "etc/ssl/certs/java/cacerts";
/// Everybody's password for certificates that are no secret.
const PASSWORD: &str = "changeit";
const MAGIC: u32 = 0xfeed_feed;
const VERSION: u32 = 2;
const TRUSTED: u32 = 2;
const SUM: usize = 20;

/// Rewrites the store, if a step made or changed it; returns how many were rewritten.
pub(super) fn settle(tree: &Tree<'_>) -> io::Result<u64> {
    let mut settled = 0;
    for path in find(tree, PLACE)? {
        let bytes = fs::read(&path).map_err(|error| named(&path, &error))?;
        // What is of another form, or has another password, is somebody's own.
        if let Some(same) = timeless(&bytes).filter(|same| *same != bytes) {
            fs::write(&path, same).map_err(|error| named(&path, &error))?;
            settled += 1;
        }
    }
    Ok(settled)
}

/// Returns the same store without times, sorted; `None` if it is none of trusted certificates only.
fn timeless(bytes: &[u8]) -> Option<Vec<u8>> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM)?)?;
    if signed(body) != *sum {
        return None;
    }
    let mut rest = body;
    if (number(&mut rest)?, number(&mut rest)?) != (MAGIC, VERSION) {
        return None;
    }
    let count = number(&mut rest)?;
    let mut entries = vec![];
    for _ in 0..count {
        if number(&mut rest)? != TRUSTED {
            return None;
        }
        let alias = text(&mut rest)?;
        take(&mut rest, 8)?;
        let kind = text(&mut rest)?;
        let length = number(&mut rest)?;
        let certificate = take(&mut rest, usize::try_from(length).ok()?)?;
        entries.push((alias, kind, length, certificate));
    }
    if !rest.is_empty() {
        return None;
    }
    entries.sort();
    let mut out = vec![];
    for word in [MAGIC, VERSION, count] {
        out.extend(word.to_be_bytes());
    }
    for (alias, kind, length, certificate) in entries {
        out.extend(TRUSTED.to_be_bytes());
        out.extend(alias);
        out.extend([0; 8]);
        out.extend(kind);
        out.extend(length.to_be_bytes());
        out.extend(certificate);
    }
    let sum = signed(&out);
    out.extend(sum);
    Some(out)
}

fn signed(body: &[u8]) -> [u8; SUM] {
    let mut hasher = Sha1::new();
    for unit in PASSWORD.encode_utf16() {
        hasher.update(unit.to_be_bytes());
    }
    hasher.update(b"Mighty Aphrodite");
    hasher.update(body);
    hasher.finalize().into()
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    take(rest, 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// Takes a text, its length included.
fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u16::from_be_bytes(rest.get(..2)?.try_into().ok()?);
    take(rest, 2 + usize::from(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(entries: &[(&str, u64)]) -> Vec<u8> {
        let mut out = vec![];
        for word in [MAGIC, VERSION, u32::try_from(entries.len()).expect("few")] {
            out.extend(word.to_be_bytes());
        }
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
            out.extend(text.as_bytes());
        };
        for (alias, time) in entries {
            out.extend(TRUSTED.to_be_bytes());
            text(&mut out, alias);
            out.extend(time.to_be_bytes());
            text(&mut out, "X.509");
            out.extend(3_u32.to_be_bytes());
            out.extend(b"DER");
        }
        let sum = signed(&out);
        out.extend(sum);
        out
    }

    /// E8
    #[test]
    fn the_same_certificates_are_the_same_bytes() {
        let one = timeless(&store(&[("b", 1_700_000_000_000), ("a", 5)])).expect("a store");
        assert_eq!(one, store(&[("a", 0), ("b", 0)]));
        assert_eq!(timeless(&one).as_deref(), Some(&one[..]));
    }

    #[test]
    fn what_is_no_store_of_certificates_is_left_alone() {
        let good = store(&[("a", 5)]);
        assert_eq!(timeless(b""), None);
        assert_eq!(timeless(&good[..good.len() - 1]), None, "cut");
        let mut other = good;
        other[20] ^= 1;
        assert_eq!(timeless(&other), None, "another password, or damaged");
    }
}
