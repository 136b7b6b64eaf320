//! Mount points that had to be made in the image itself, and are taken away at the end.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::basic::times_of;
use super::plan::{Doing, Fault};
use crate::files::open_dir;

/// Stubs that had to be made in the image itself, to be taken away at the end.
#[derive(Debug, Default)]
pub(super) struct Debris(pub(super) Vec<PathBuf>);

/// Takes away what [`super::mounts::build`] had to put into the image; called when no other process
/// is left.
pub(super) fn clean(debris: Debris) -> Result<(), Fault> {
    // Innermost last made, first removed.
    for place in debris.0.into_iter().rev() {
        let place = Path::new("/").join(place);
        let what = || format!("take away the mount point {}", place.display());
        while rustix::mount::unmount(&place, UnmountFlags::DETACH).is_ok() {}
        let parent = open_dir(CWD, place.parent().unwrap_or(Path::new("/"))).doing(what)?;
        let times = times_of(parent.as_fd()).doing(what)?;
        let name = place.file_name().unwrap_or_default();
        match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => match rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR) {
                // The step put something beside our mount point: then the directory is its own.
                Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(error) => return Err(Fault::new(what(), error)),
            },
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(Fault::new(what(), error)),
        }
        rustix::fs::futimens(&parent, &times).doing(what)?;
    }
    Ok(())
}
