//! How systemd units stand: what `systemctl is-enabled` says of them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::error::Error;
use super::root::Root;
use super::service::{DEPENDENCIES, DIRECTORIES, MAX_UNIT, OURS, find, unmask};
use super::spot::Found;
use super::unit::Name;

/// How a unit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The image has none of this name.
    Missing,
    /// It is started at boot, or by what it is another name of.
    Enabled,
    /// It could be enabled, and is not.
    Disabled,
    /// It cannot be started.
    Masked,
    /// It cannot be enabled.
    Static,
}

/// Returns the whole name of a unit; without a kind it is a service.
pub(super) fn full_name(unit: &str) -> String {
    Name::parse(unit).map_or_else(|| unit.to_owned(), |name| name.full())
}

/// Returns how a unit stands.
pub(super) fn standing(root: &Root, unit: &str) -> Result<Standing, Error> {
    let Some(name) = Name::parse(unit) else { return Ok(Standing::Missing) };
    let Some(unit) = find(root, &name)? else {
        // A mask may stand where no unit is.
        let path = Path::new(OURS).join(name.full());
        let masked = target(root, &path)?.is_some_and(|target| target == "/dev/null");
        return Ok(if masked { Standing::Masked } else { Standing::Missing });
    };
    if unit.masked {
        return Ok(Standing::Masked);
    }
    if linked(root, &unit.name.full())? {
        return Ok(Standing::Enabled);
    }
    Ok(if unit.install.is_empty() { Standing::Static } else { Standing::Disabled })
}

/// Whether something makes the unit start: a link to it among what others need, or as an alias.
fn linked(root: &Root, full: &str) -> Result<bool, Error> {
    for name in root.names(Path::new(OURS))? {
        let path = Path::new(OURS).join(&name);
        let text = name.to_string_lossy();
        if DEPENDENCIES.iter().any(|kind| text.ends_with(&format!(".{kind}"))) {
            if root.names(&path)?.iter().any(|one| one.to_str() == Some(full)) {
                return Ok(true);
            }
        } else if text != full
            && let Some(target) = target(root, &path)?
            && Path::new(&target).file_name().and_then(OsStr::to_str) == Some(full)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn target(root: &Root, path: &Path) -> Result<Option<std::ffi::OsString>, Error> {
    let Some(spot) = root.spot(path)? else { return Ok(None) };
    match root.look(&spot)? {
        Some(Found { kind: FileType::Symlink, .. }) => root.read_link(&spot).map(Some),
        _ => Ok(None),
    }
}

/// Returns the file of a unit with its text; none where the image has no such unit.
pub(super) fn text(root: &Root, unit: &str) -> Result<Option<(PathBuf, String)>, Error> {
    let Some(unit) = Name::parse(unit).map(|name| find(root, &name)).transpose()?.flatten() else {
        return Ok(None);
    };
    let bytes = root.read(&unit.file, MAX_UNIT)?.unwrap_or_default();
    Ok(Some((unit.file, String::from_utf8_lossy(&bytes).into_owned())))
}

/// Takes a mask away.
pub(super) fn unmask_named(root: &Root, unit: &str) -> Result<(), Error> {
    match Name::parse(unit) {
        Some(name) => unmask(root, &name),
        None => Ok(()),
    }
}

/// Returns all units that are files of the image, by name.
pub(super) fn all(root: &Root) -> Result<Vec<(String, Standing)>, Error> {
    let mut names = BTreeSet::new();
    for directory in DIRECTORIES {
        let found = root.names(Path::new(directory))?;
        names.extend(found.into_iter().filter_map(|name| name.into_string().ok()));
    }
    names.retain(|name| Name::parse(name).is_some_and(|parsed| parsed.full() == *name));
    names.into_iter().map(|name| standing(root, &name).map(|how| (name, how))).collect()
}
