//! The directories of an overlay, and where they are for a job.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::Error;
use crate::store::Staging;

/// Returns where a directory below the staging is inside the sandbox: `/scratch/…`.
pub(crate) fn inside(staging: &Staging, path: &Path) -> Result<PathBuf, Error> {
    let below = path.strip_prefix(staging.dir()).map_err(|_| Error::Failed {
        what: format!("find {} in the sandbox", path.display()),
        why: "it is not below the scratch directory".to_owned(),
    })?;
    Ok(Path::new("/scratch").join(below))
}

/// Makes a directory that becomes the root of an image, and the directories above it.
pub(crate) fn make_dir(path: &Path) -> Result<PathBuf, Error> {
    let fail = |source| Error::File { verb: "make", path: path.to_owned(), source };
    fs::create_dir_all(path).map_err(fail)?;
    // Whatever the umask: the root directory of an image is 0755.
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(fail)?;
    Ok(path.to_owned())
}

/// Makes a work directory for one mount of an overlay in `at`. Each mount needs its own: the kernel
/// refuses a work directory that was mounted `volatile` before, and takes a new one beside the same
/// upper directory. It goes with the scratch directory.
pub(crate) fn fresh_work(at: &Path) -> Result<PathBuf, Error> {
    // Steps that change nothing share a directory: to count from 0 in it each time would be
    // quadratic in their number.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let path = at.join(format!("w-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::File { verb: "make", path, source }),
        }
    }
}

/// Opens a file to hand to a call.
pub(crate) fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|source| Error::File { verb: "read", path: path.to_owned(), source })
}
