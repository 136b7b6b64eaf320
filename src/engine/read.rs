//! Reading a recipe and what it is read with from disk.

use std::fs;
use std::path::Path;

use super::error::Error;
use crate::recipe::{self, Diagnostic, Inputs, Recipe};

/// Largest recipe read: a recipe is written by hand.
const MOST: u64 = 16 << 20;

/// Reads and checks the recipe at `path`. The file name in `inputs` is set to `path`.
///
/// # Errors
/// [`Error::File`] where it cannot be read, [`Error::Recipe`] with every mistake where it is not
/// right.
pub fn read(path: &Path, inputs: &Inputs) -> Result<Recipe, Error> {
    parse(&text(path)?, path, inputs)
}

/// As [`read`], from the text of the file.
pub(super) fn parse(text: &str, path: &Path, inputs: &Inputs) -> Result<Recipe, Error> {
    let inputs = Inputs { file: path.to_owned(), ..inputs.clone() };
    recipe::read(text, &inputs).map_err(Error::Recipe)
}

/// Returns the text of a recipe or vars file; a file that is not UTF-8 is a mistake in it, at the
/// first wrong byte.
pub fn text(path: &Path) -> Result<String, Error> {
    let fail = |source| Error::File { verb: "read", path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(fail)?.len();
    if size > MOST {
        return Err(fail(std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            format!("{size} bytes; a recipe has at most {MOST}"),
        )));
    }
    String::from_utf8(fs::read(path).map_err(fail)?).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let source: String = String::from_utf8_lossy(good).into_owned();
        let line = source.matches('\n').count() + 1;
        let column = source.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Error::Recipe(vec![Diagnostic {
            file: path.to_owned(),
            span: source.len()..source.len(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            message: "not UTF-8 text".to_owned(),
            label: Some("the first wrong byte comes here".to_owned()),
            help: Some("TOML files are UTF-8".to_owned()),
            warning: false,
            source: source.into(),
        }])
    })
}
