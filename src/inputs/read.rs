//! Reading a recipe and what it is read with from disk.

use std::io::{self, Read};
use std::path::Path;

use super::error::Error;
use crate::files::open_regular;
use crate::recipe::{self, Diagnostic, Inputs, Recipe};

/// Largest recipe read: a recipe is written by hand.
pub(super) const MOST: u64 = 16 << 20;

/// Checks a recipe of this text. The file name in `inputs` is set to `path`; what it includes comes
/// from where `inputs` says.
///
/// # Errors
/// [`Error::Recipe`] with every mistake where it is not right.
pub fn parse(text: &str, path: &Path, inputs: &Inputs) -> Result<Recipe, Error> {
    let inputs = Inputs { file: path.to_owned(), ..inputs.clone() };
    recipe::read(text, &inputs).map_err(Error::Recipe)
}

/// Reads a file of a person's directory that is small by nature: a recipe, a vars file, a lock
/// file.
///
/// Opened without waiting and looked at before it is read, so that a FIFO does not block and a
/// device is not read for ever; at most 16 MiB are read, whatever its size is reported to be.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for what is not a regular file, [`io::ErrorKind::FileTooLarge`]
/// for what is too large; what opening and reading fails with.
pub fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let mut bytes = vec![];
    file.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        let why = format!("more than {MOST} bytes; such a file is written by hand");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// Returns the text of a recipe or vars file; a file that is not UTF-8 is a mistake in it, at the
/// first wrong byte.
///
/// # Errors
/// [`Error::File`] where it cannot be read, [`Error::Recipe`] where it is not text.
pub fn text(path: &Path) -> Result<String, Error> {
    text_of(path, path)
}

/// As [`text`], of what messages call `path`.
pub(super) fn text_of(file: &Path, path: &Path) -> Result<String, Error> {
    let fail = |source| Error::File { path: path.to_owned(), source };
    utf8(path, bytes(file).map_err(fail)?).map_err(|mistake| Error::Recipe(vec![mistake]))
}

/// Returns the text of the file `path`; where it is none, the mistake at the first wrong byte.
pub(super) fn utf8(path: &Path, bytes: Vec<u8>) -> Result<String, Diagnostic> {
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let source: String = String::from_utf8_lossy(good).into_owned();
        let line = source.matches('\n').count() + 1;
        let column = source.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Diagnostic {
            file: path.to_owned(),
            span: source.len()..source.len(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            message: "not UTF-8 text".to_owned(),
            label: Some("the first wrong byte comes here".to_owned()),
            help: Some("TOML files are UTF-8".to_owned()),
            warning: false,
            source: source.into(),
        }
    })
}
