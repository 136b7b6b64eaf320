//! Secrets of a job: files in a tmpfs that goes with it, and variables of its programs. Neither is
//! ever in the overlay, on a command line, or in the JSON of a plan.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::mount::{MountAttrFlags, MountFlags};
use rustix::process::{Resource, Rlimit};

use super::basic::tmpfs;
use super::job::ShownSecrets;
use super::passwd;
use super::plan::{Blobs, Doing, Fault, SecretsPlan};
use super::stub::make_file;
use super::sys;
use crate::files::open_dir;
use crate::secret::Value;

impl SecretsPlan {
    pub(super) fn new(shown: &ShownSecrets, blobs: &mut Blobs) -> Self {
        let mut all = |named: &[(String, Value)], line: bool| {
            let mut bytes = |value: &Value| match line {
                true => blobs.add(value.line()),
                false => blobs.add(value.bytes()),
            };
            named.iter().map(|(name, value)| (name.clone(), bytes(value))).collect()
        };
        let (files, variables) = (all(&shown.files, false), all(&shown.variables, true));
        Self { user: shown.user.clone(), files, variables }
    }

    /// Whether there are files.
    pub(super) fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// Returns the variables with their values.
    pub(super) fn variables<'a>(
        &'a self,
        blobs: &'a Blobs,
    ) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.variables.iter().map(|(name, value)| (name.as_str(), blobs.get(*value)))
    }

    /// Mounts the files on the directory `at` of the root in the making.
    pub(super) fn mount(&self, at: &Path, blobs: &Blobs) -> Result<(), Fault> {
        tmpfs(at, "mode=0755", MountFlags::NOEXEC)?;
        for (name, value) in &self.files {
            let what = || format!("show the secret {name}");
            let fd = make_file(CWD.as_fd(), &at.join(name), 0o400).doing(what)?;
            File::from(fd).write_all(blobs.get(*value)).doing(what)?;
        }
        Ok(())
    }

    /// Gives the files in the directory `at` of the finished root to their user, and makes that
    /// directory read-only.
    pub(super) fn hand_over(&self, at: &Path) -> Result<(), Fault> {
        let what = || "hand over the secrets of a step".to_owned();
        let directory = open_dir(CWD, at).doing(what)?;
        // Where there is no such user, the program is not started either, and that says why.
        if let Ok(who) = passwd::look_up(&self.user) {
            let (uid, gid) = (Uid::from_raw(who.ids.uid), Gid::from_raw(who.ids.gid));
            for (name, _) in &self.files {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&directory, name, flags, Mode::empty());
                let file = file.doing(what)?;
                let flags = rustix::fs::AtFlags::EMPTY_PATH;
                match rustix::fs::chownat(&file, "", Some(uid), Some(gid), flags) {
                    // The user namespace has no such id: as above.
                    Err(rustix::io::Errno::INVAL) => {}
                    other => other.doing(what)?,
                }
            }
        }
        let set = MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into();
        sys::mount_setattr(directory.as_fd(), set, false, None).doing(what)
    }
}

/// Has this process, and those that it starts from now on, leave no core dump: their memory holds
/// secrets.
///
/// # Errors
/// As setrlimit(2).
pub fn without_core_dumps() -> io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    Ok(rustix::process::setrlimit(Resource::Core, none)?)
}
