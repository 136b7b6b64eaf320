//! What a step sees by `mount`, put into the place where it is mounted.

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::error::Error;
use super::owner;
use super::reply::Reply;
use super::root::Root;
use super::unpack;
use crate::rootfs::accounts::Ids;

/// Unpacks a tar into the directory `at`, which is mounted there and no part of the image.
pub(super) fn fill(
    at: &Path,
    owner: &str,
    epoch: i64,
    tar: File,
    progress: &mut dyn FnMut(u64),
) -> Result<Reply, Error> {
    let ids = owner::ids(&Root::open(Path::new("/"), epoch)?, owner)?;
    let owner = format!("{}:{}", ids.uid, ids.gid);
    if at.is_file() {
        return fill_file(at, ids, epoch, tar);
    }
    let (root, url) = (Root::open(at, epoch)?, at.to_string_lossy());
    let plan = unpack::Plan { url: &url, to: "/", owner: &owner, mode: None, strip: 0 };
    unpack::unpack(&root, &plan, tar, progress)
}

/// Gives the directory `at`, which is mounted there and no part of the image, to `owner`.
pub(super) fn own(at: &Path, owner: &str) -> Result<Reply, Error> {
    let ids = owner::ids(&Root::open(Path::new("/"), 0)?, owner)?;
    let failed = || Error::system("give away", at);
    // Links are followed: the mount is where they lead.
    let directory = File::open(at).map_err(failed())?;
    let meta = directory.metadata().map_err(failed())?;
    if (meta.uid(), meta.gid()) != (ids.uid, ids.gid) {
        fchown(&directory, Some(ids.uid), Some(ids.gid)).map_err(failed())?;
    }
    Ok(Reply::Done)
}

/// Writes the one file of a tar into the file `at`, which is mounted there.
fn fill_file(at: &Path, ids: Ids, epoch: i64, tar: File) -> Result<Reply, Error> {
    let failed = || Error::system("fill", at);
    let mut archive = tar::Archive::new(tar);
    let mut entries = archive.entries().map_err(failed())?;
    let mut entry = match entries.next() {
        Some(entry) => entry.map_err(failed())?,
        None => return Ok(Reply::Done),
    };
    if !entry.header().entry_type().is_file() {
        let why = "is to be a symlink; mount the file that it leads to";
        return Err(Error::refused(at.display().to_string(), why));
    }
    let mode = entry.header().mode().map_err(failed())?;
    let mut file = File::options().write(true).open(at).map_err(failed())?;
    std::io::copy(&mut entry, &mut file).map_err(failed())?;
    file.set_permissions(Permissions::from_mode(mode & 0o7777)).map_err(failed())?;
    fchown(&file, Some(ids.uid), Some(ids.gid)).map_err(failed())?;
    let time = UNIX_EPOCH + Duration::from_secs(epoch.try_into().unwrap_or(0));
    file.set_modified(time).map_err(failed())?;
    Ok(Reply::Done)
}
