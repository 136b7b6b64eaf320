//! Owners by name, looked up in the image's own account files.

use std::path::Path;

use super::error::Error;
use super::root::Root;
use crate::rootfs::accounts::{self, Accounts, GROUP, Ids, MAX_FILE, PASSWD};
use crate::suggest::alike;

/// Returns the ids of `owner` (see [`accounts`] for how it may be written).
pub(super) fn ids(root: &Root, owner: &str) -> Result<Ids, Error> {
    if Accounts::is_root(owner) {
        return Ok(Ids { uid: 0, gid: 0 });
    }
    let read = |path: &str| root.read(Path::new(path), MAX_FILE).map(Option::unwrap_or_default);
    Accounts::new(&read(PASSWD)?, &read(GROUP)?).ids(owner).map_err(|error| match error {
        accounts::Error::Unknown { kind, name, known } => {
            let near = alike(&name, known.iter().map(String::as_str));
            Error::NoSuchName { kind, name, near }
        }
        accounts::Error::Form(_) => Error::refused(
            format!("owner \"{owner}\""),
            "is not of the form `name:group` or `uid:gid`",
        ),
        accounts::Error::Broken { file, name } => {
            Error::refused(file, format!("has a broken line for \"{name}\""))
        }
    })
}
