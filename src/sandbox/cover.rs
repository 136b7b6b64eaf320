//! A file that programs of a job see in place of another, for calls of a job: in the job's own mount
//! namespace, so that nothing else sees it and nothing of it is left.

use std::io;
use std::path::Path;

/// Shows `file` in place of the file `at`, both paths inside, until the job ends.
///
/// # Errors
/// Those of mount(2).
pub fn cover(file: &Path, at: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_bind(file, at)?)
}
