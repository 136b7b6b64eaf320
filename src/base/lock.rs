//! Between a pinned base and the lock file: the lock knows plain text and numbers only.

use super::{Pinned, PinnedDebian};
use crate::archive::{Archive, Package};
use crate::digest::Digest;
use crate::plan::lock::{self, LockedBase};
use crate::recipe::{BaseKind, Debian, DebianVariant};

/// Whether the lock file has to pin this base: a tar or directory of the context is pinned by its
/// content anyway.
pub fn needs_lock(base: &Pinned) -> bool {
    matches!(base, Pinned::Debian(_))
}

/// Returns the entry of a base in the lock file.
pub fn to_lock(base: &Pinned) -> Option<LockedBase> {
    let Pinned::Debian(pin) = base else { return None };
    Some(LockedBase::Debian {
        suite: pin.suite.clone(),
        arch: pin.arch.clone(),
        components: pin.components.clone(),
        date: pin.date,
        packages: packages_to_lock(&pin.packages),
    })
}

/// Returns the pinned base that a lock file and the recipe make together. The variant and the
/// mirror are the recipe's: they do not change which packages are meant.
pub fn from_lock(locked: &LockedBase, recipe: &BaseKind) -> Result<Option<Pinned>, String> {
    let (
        LockedBase::Debian { suite, arch, components, date, packages },
        BaseKind::Debian(Debian { variant, mirror, .. }),
    ) = (locked, recipe)
    else {
        return Ok(None);
    };
    Ok(Some(Pinned::Debian(PinnedDebian {
        suite: suite.clone(),
        arch: arch.clone(),
        slim: *variant == DebianVariant::Slim,
        components: components.clone(),
        mirror: mirror.clone(),
        date: *date,
        packages: packages_from_lock(packages)?,
    })))
}

/// Returns packages as the lock file writes them.
pub fn packages_to_lock(packages: &[Package]) -> Vec<lock::Package> {
    let one = |package: &Package| lock::Package {
        name: package.name.clone(),
        version: package.version.clone(),
        arch: package.arch.clone(),
        sha256: package.sha256.hex(),
        size: package.size,
        archive: package.archive.to_string(),
        path: package.path.clone(),
    };
    packages.iter().map(one).collect()
}

/// Returns the packages that a lock file pins.
pub fn packages_from_lock(packages: &[lock::Package]) -> Result<Vec<Package>, String> {
    let one = |package: &lock::Package| {
        let wrong = |why: String| format!("package {}: {why}", package.name);
        Ok(Package {
            name: package.name.clone(),
            version: package.version.clone(),
            arch: package.arch.clone(),
            sha256: Digest::from_hex(&package.sha256).map_err(|error| wrong(error.to_string()))?,
            size: package.size,
            archive: package.archive.parse::<Archive>().map_err(wrong)?,
            path: package.path.clone(),
        })
    };
    packages.iter().map(one).collect()
}
