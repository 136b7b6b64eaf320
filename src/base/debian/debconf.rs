//! debconf's database: ucf(1) leaves in it the name of the temporary file that it last asked about,
//! which is made up anew each time and gone when it is answered.

use std::fs;
use std::io;

use super::changed::{Tree, find, named};

const PLACE: &str = "var/cache/debconf/config.dat";
/// A variable of ucf's questions.
const MADE_UP: &str = " NEW = /tmp/";

/// Empties these variables where a step changed the database; returns whether there were any.
pub(super) fn settle(tree: &Tree<'_>) -> io::Result<u64> {
    let mut settled = 0;
    for path in find(tree, PLACE)? {
        let bytes = fs::read(&path).map_err(|error| named(&path, &error))?;
        if let Some(same) = timeless(&bytes) {
            fs::write(&path, same).map_err(|error| named(&path, &error))?;
            settled += 1;
        }
    }
    Ok(settled)
}

/// `None`: there is nothing to empty.
fn timeless(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut changed = false;
    let mut out = vec![];
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(MADE_UP.as_bytes()) {
            out.extend(b" NEW = \n");
            changed = true;
        } else {
            out.extend(line);
        }
    }
    changed.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E8
    #[test]
    fn names_of_temporary_files_are_not_kept() {
        let text = |new: &str| format!("Name: ucf/x\nVariables:\n FILE = /etc/x\n NEW = {new}\n\n");
        let expected = text("").into_bytes();
        assert_eq!(timeless(text("/tmp/x.WxUxnI").as_bytes()), Some(expected.clone()));
        assert_eq!(timeless(&expected), None);
        assert_eq!(timeless(text("/usr/share/x").as_bytes()), None);
    }
}
