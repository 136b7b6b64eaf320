//! Paths and globs removed from the image.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::error::Error;
use super::root::Root;
use super::spot::{Spot, parts};
use crate::files::remove_at;

/// Removes `paths`, each a path or a glob (`*` matches dot files too, `**` any number of
/// directories). What is not there is fine, and so is what only the build shows (mounts), which
/// stays.
pub(super) fn remove(root: &Root, paths: &[String]) -> Result<(), Error> {
    for path in paths {
        if parts(Path::new(path))?.is_empty() {
            return Err(Error::BadPath { path: path.into(), why: "is the whole image" });
        }
        if !path.contains(['*', '?', '[', '{']) {
            if let Some(spot) = root.spot(Path::new(path))? {
                remove_tree(root, &spot)?;
            }
            continue;
        }
        for found in matches(root, path)? {
            // A match may have gone with a directory that matched before it.
            if let Some(spot) = root.spot(&found)? {
                remove_tree(root, &spot)?;
            }
        }
    }
    Ok(())
}

/// The paths in the image that the glob matches, sorted. Directories are walked, symlinks to
/// directories are not, past the pattern's fixed part.
fn matches(root: &Root, pattern: &str) -> Result<Vec<PathBuf>, Error> {
    let clean: PathBuf = std::iter::once("/".as_ref()).chain(parts(Path::new(pattern))?).collect();
    let glob = globset::GlobBuilder::new(&clean.to_string_lossy())
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|e| Error::refused(pattern, format!("is not a glob: {}", e.kind())))?
        .compile_matcher();
    let deep = pattern.contains("**");
    let depth = clean.components().count();
    let fixed: PathBuf = clean
        .components()
        .take_while(|c| !c.as_os_str().as_bytes().iter().any(|b| b"*?[{\\".contains(b)))
        .collect();
    let mut found = vec![];
    let mut directories = vec![fixed];
    while let Some(directory) = directories.pop() {
        for name in root.names(&directory)? {
            let path = directory.join(name);
            if glob.is_match(&path) {
                found.push(path);
            } else if (deep || path.components().count() < depth)
                && root.look_at(&path)?.is_some_and(|found| found.kind == FileType::Directory)
                && root
                    .spot(&path)?
                    .map_or(Ok(false), |spot| root.is_fleeting(&spot).map(|f| !f))?
            {
                directories.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Removes what is at `spot` with everything below.
fn remove_tree(root: &Root, spot: &Spot) -> Result<(), Error> {
    let Some(found) = root.look(spot)? else { return Ok(()) };
    if root.is_fleeting(spot)? {
        return Ok(());
    }
    if found.kind != FileType::Directory {
        return root.unlink(spot);
    }
    remove_at(spot.directory(), spot.name(), &spot.shown)?;
    root.stamp(spot.directory(), &spot.shown)
}
