//! The contents of a file of a tar, to the file that they become.

use std::fs::File;
use std::io::{self, Read, Write};

use super::metadata::system;
use super::read::Entry;
use super::{Error, Wrong};

/// Writes as many bytes of `data` into `file` as `entry` says that there are; fewer are an error.
pub(super) fn fill(
    file: &mut File,
    entry: &Entry,
    data: &mut dyn Read,
    buffer: &mut [u8],
) -> Result<(), Error> {
    let mut left = entry.size;
    while left > 0 {
        let got = match data.read(buffer) {
            Ok(0) => return Err(Error::Tar { why: Wrong::Truncated }),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Error::Tar { why: Wrong::Truncated });
            }
            Err(source) => return Err(Error::Read { source }),
        };
        file.write_all(&buffer[..got]).map_err(|e| system("write", &entry.path, e))?;
        left -= got as u64;
    }
    Ok(())
}
