//! Lookup tables that mail servers compile into Berkeley DB files (`newaliases`, `postmap`): each
//! has a made-up identity in it, and the time at which it was made. Here the identity becomes one
//! of the file's own path, and the time 0, so that the same table is the same bytes.
//!
//! The format (Berkeley DB 5.3, `dbinc/db_page.h`): the first page of a hash begins, after the log
//! sequence number and the page number (12 bytes), with the magic number 0x061561 in the machine's
//! byte order; its identity (`uid`) is 20 bytes at 52.

use std::fs;
use std::io;
use std::path::Path;

use super::changed::{Tree, find, named};
use crate::digest::Digest;

const PLACES: &[&str] = &["etc/aliases.db", "etc/mail/*.db", "etc/postfix/*.db"];
const MAGIC: u32 = 0x0006_1561;
/// Smallest size of a page.
const STEP: usize = 512;
const IDENTITY: std::ops::Range<usize> = 52..72;
/// Of the record that says when the table was made; before it, the time in digits and a byte.
const STAMP: &[u8] = b"YP_LAST_MODIFIED";
const DIGITS: usize = 10;
/// Tables of a package are small; those of a postmaster come from elsewhere.
const MAX: u64 = 16 << 20;

/// Rewrites the tables that a step made; returns how many.
pub(super) fn settle(tree: &Tree<'_>) -> io::Result<u64> {
    let mut settled = 0;
    for pattern in PLACES {
        for path in find(tree, pattern)? {
            let fits = |meta: fs::Metadata| meta.is_file() && meta.len() <= MAX;
            if !fs::symlink_metadata(&path).is_ok_and(fits) {
                continue;
            }
            let bytes = fs::read(&path).map_err(|error| named(&path, &error))?;
            let place = path.strip_prefix(tree.root).unwrap_or(&path);
            if let Some(same) = timeless(&bytes, place).filter(|same| *same != bytes) {
                fs::write(&path, same).map_err(|error| named(&path, &error))?;
                settled += 1;
            }
        }
    }
    Ok(settled)
}

/// Returns the same table without chance and time; `None` if it is no hash of Berkeley DB.
fn timeless(bytes: &[u8], place: &Path) -> Option<Vec<u8>> {
    if bytes.get(12..16)? != MAGIC.to_ne_bytes() {
        return None;
    }
    let made_up = bytes.get(IDENTITY)?;
    let identity = Digest::of(place.as_os_str().as_encoded_bytes());
    let mut out = bytes.to_vec();
    // Also in what is left of the first page in the memory that later ones were made in.
    for page in out.chunks_mut(STEP) {
        if let Some(here) = page.get_mut(IDENTITY).filter(|here| *here == made_up) {
            here.copy_from_slice(&identity.as_bytes()[..made_up.len()]);
        }
    }
    let stamps = bytes.windows(STAMP.len()).enumerate().filter(|(_, window)| *window == STAMP);
    for (at, _) in stamps {
        let Some(from) = at.checked_sub(DIGITS + 1) else { continue };
        let digits = &mut out[from..from + DIGITS];
        if digits.iter().all(u8::is_ascii_digit) {
            digits.fill(b'0');
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(identity: u8, time: &str) -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        for page in [0, 512] {
            bytes[page + 52..page + 72].fill(identity);
        }
        bytes[12..16].copy_from_slice(&MAGIC.to_ne_bytes());
        bytes.extend(format!("\u{1}{time}\u{1}YP_LAST_MODIFIED\u{1}@").as_bytes());
        bytes
    }

    /// D4
    #[test]
    fn the_same_table_is_the_same_bytes() {
        let place = Path::new("etc/aliases.db");
        let one = timeless(&table(1, "1795709262"), place).expect("a table");
        assert_eq!(timeless(&table(2, "1795709999"), place).as_deref(), Some(&one[..]));
        assert_eq!(one.len(), table(1, "1795709262").len());
        assert_ne!(timeless(&table(1, "1795709262"), Path::new("etc/other.db")), Some(one));
        assert_eq!(timeless(b"text", place), None);
        assert_eq!(timeless(&[0; 600], place), None);
    }
}
