//! Where mounts go in an image, and the mount points it lacks.
//!
//! A mount needs something to lie on. What the image does not have must not be made in it, so a private topmost lower layer holds
//! empty stubs, with the folders above them made to look exactly as in the image: should the step change such a folder, what the
//! overlay copies up is the image's own.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Timestamps;
use rustix::io::Errno;

use super::plan::Doing;
use super::plan::Fault;
use super::tree::open_dir;

/// What is to be mounted there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dir,
    File,
}

/// The root as it is before anything is mounted on it.
pub(super) struct View {
    /// The image; `None` if it has nothing at all.
    image: Option<OwnedFd>,
    /// Places that will be covered by an empty tmpfs or the like, without links, relative to the root.
    covers: Vec<PathBuf>,
}

impl View {
    pub(super) fn new(image: Option<OwnedFd>) -> Self {
        Self { image, covers: vec![] }
    }

    pub(super) fn cover(&mut self, place: PathBuf) {
        self.covers.push(place);
    }

    /// Whether `place` lies in or below something that will be covered.
    pub(super) fn covered(&self, place: &Path) -> bool {
        self.covers.iter().any(|cover| place.starts_with(cover))
    }

    /// Where the absolute path `at` leads in this root, relative to it, with every link resolved inside it and also at the end.
    /// Parts that do not exist are taken as they are.
    pub(super) fn resolve(&self, at: &Path) -> Result<PathBuf, Fault> {
        let names = |path: &Path| -> Vec<OsString> {
            let name = |part: Component<'_>| match part {
                Component::Normal(name) => Some(name.to_owned()),
                Component::ParentDir => Some("..".into()),
                _ => None,
            };
            path.components().filter_map(name).collect()
        };
        let mut todo = VecDeque::from(names(at));
        let mut done = PathBuf::new();
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                done.pop();
                continue;
            }
            done.push(name);
            let Some(image) = self.image.as_ref().filter(|_| !self.covered(&done)) else { continue };
            let target = match rustix::fs::readlinkat(image, &done, vec![]) {
                Ok(target) => target,
                Err(Errno::INVAL | Errno::NOENT) => continue,
                Err(Errno::NOTDIR) => return Err(Fault::image(format!("{} lies below a file in the image", at.display()))),
                Err(error) => return Err(Fault::new(format!("resolve {} in the image", at.display()), error)),
            };
            links += 1;
            if links > 40 {
                return Err(Fault::image(format!("{} leads through too many symbolic links in the image", at.display())));
            }
            let target = PathBuf::from(<OsString as std::os::unix::ffi::OsStringExt>::from_vec(target.into_bytes()));
            done.pop();
            if target.is_absolute() {
                done = PathBuf::new();
            }
            for name in names(&target).into_iter().rev() {
                todo.push_front(name);
            }
        }
        Ok(done)
    }

    /// Whether the image has `place`; an error if it is of the wrong kind.
    fn has(&self, place: &Path, kind: Kind) -> Result<bool, Fault> {
        let Some(image) = &self.image else { return Ok(false) };
        match rustix::fs::statat(image, place, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                match (kind, is_dir) {
                    (Kind::Dir, false) => Err(Fault::image(format!("/{} in the image is not a folder", place.display()))),
                    (Kind::File, true) => Err(Fault::image(format!("/{} in the image is a folder", place.display()))),
                    _ => Ok(true),
                }
            }
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(Fault::new(format!("look at /{} in the image", place.display()), error)),
        }
    }

    /// Makes stubs in the folder `layer` for those of `places` that the image lacks. Returns these.
    pub(super) fn make_stubs(&self, layer: BorrowedFd<'_>, places: &[(PathBuf, Kind)]) -> Result<Vec<(PathBuf, Kind)>, Fault> {
        let mut missing = vec![];
        let mut parents = BTreeSet::new();
        for (place, kind) in places {
            if place.as_os_str().is_empty() {
                return Err(Fault::image("a mount would cover the whole root of the image"));
            }
            if self.has(place, *kind)? {
                continue;
            }
            // The empty path at the end stands for the root, whose look comes from the upper folder.
            parents.extend(place.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).map(Path::to_owned));
            missing.push((place.clone(), *kind));
        }
        // In order, so a folder comes before what is in it.
        for parent in &parents {
            ignore_exists(rustix::fs::mkdirat(layer, parent, Mode::from_raw_mode(0o755))).doing(|| stub(parent))?;
        }
        for (place, kind) in &missing {
            let made = match kind {
                Kind::Dir => rustix::fs::mkdirat(layer, place, Mode::from_raw_mode(0o755)),
                Kind::File => make_file(layer, place, 0o644).map(drop),
            };
            ignore_exists(made).doing(|| stub(place))?;
        }
        if let Some(image) = &self.image {
            // Times last and from the inside out: every other change to a folder would move them.
            for parent in parents.iter().rev() {
                match open_dir(image.as_fd(), parent) {
                    Ok(from) => {
                        let to = open_dir(layer, parent).doing(|| stub(parent))?;
                        look_like(from.as_fd(), to.as_fd()).doing(|| stub(parent))?;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(Fault::new(stub(parent), error)),
                }
            }
        }
        Ok(missing)
    }
}

fn stub(place: &Path) -> String {
    format!("make a mount point for /{}", place.display())
}

fn ignore_exists(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Makes an empty file that did not exist.
pub(super) fn make_file(dir: BorrowedFd<'_>, name: &Path, mode: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode))
}

/// Gives a folder the owner, mode, extended attributes and times of another.
fn look_like(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> std::io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    rustix::fs::fchown(to, Some(rustix::fs::Uid::from_raw(stat.st_uid)), Some(rustix::fs::Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let size = match rustix::fs::flistxattr_query(from) {
        Err(Errno::OPNOTSUPP) => 0,
        size => size?,
    };
    let mut names = vec![0_u8; size];
    let size = if size == 0 { 0 } else { rustix::fs::flistxattr(from, &mut names[..])? };
    for name in names[..size].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; rustix::fs::fgetxattr_query(from, name)?];
        let size = if value.is_empty() { 0 } else { rustix::fs::fgetxattr(from, name, &mut value[..])? };
        match rustix::fs::fsetxattr(to, name, &value[..size], rustix::fs::XattrFlags::empty()) {
            // Labels of the host's security module are the host's business.
            Err(_) if name.starts_with(b"security.") => {}
            result => result?,
        }
    }
    let time = |sec, nsec| rustix::fs::Timespec { tv_sec: sec, tv_nsec: nsec };
    let times = Timestamps {
        last_access: time(stat.st_atime as i64, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime as i64, stat.st_mtime_nsec as _),
    };
    Ok(rustix::fs::futimens(to, &times)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::fs::symlink;

    fn image() -> (tempfile::TempDir, View) {
        let dir = tempfile::tempdir().unwrap();
        for made in ["real/etc", "run/old", "usr"] {
            fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        symlink("/real/etc", dir.path().join("etc")).unwrap();
        symlink("../../run/old/resolv.conf", dir.path().join("real/etc/resolv.conf")).unwrap();
        symlink("/../../../out", dir.path().join("escape")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        symlink("/nowhere/else", dir.path().join("run/old/resolv.conf")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let mut view = View::new(Some(open_dir(rustix::fs::CWD, dir.path()).unwrap()));
        view.cover("run".into());
        (dir, view)
    }

    #[test]
    fn links_are_resolved_inside() {
        let (_dir, view) = image();
        let check = |at: &str, expected: &str| assert_eq!(view.resolve(Path::new(at)).unwrap(), Path::new(expected), "{at}");
        check("/usr/sbin/policy-rc.d", "usr/sbin/policy-rc.d");
        check("/etc/hosts", "real/etc/hosts");
        check("/etc/resolv.conf", "run/old/resolv.conf");
        check("/escape/x", "out/x");
        check("/usr/../../etc/x", "real/etc/x");
        assert!(view.resolve(Path::new("/loop")).unwrap_err().image);
        assert!(view.resolve(Path::new("/file/x/y")).unwrap_err().image);
    }

    #[test]
    fn stubs_and_their_parents() {
        let (dir, view) = image();
        fs::set_permissions(dir.path().join("real/etc"), PermissionsExt::from_mode(0o2711)).unwrap();
        let layer_dir = tempfile::tempdir().unwrap();
        let layer = open_dir(rustix::fs::CWD, layer_dir.path()).unwrap();
        let places = [("real/etc/hosts".into(), Kind::File), ("usr/sbin/x".into(), Kind::File), ("usr".into(), Kind::Dir)];
        let made = view.make_stubs(layer.as_fd(), &places).unwrap();
        assert_eq!(made.len(), 2);
        let (from, to) = (fs::metadata(dir.path().join("real/etc")).unwrap(), fs::metadata(layer_dir.path().join("real/etc")).unwrap());
        assert_eq!((from.mode(), from.mtime(), from.mtime_nsec()), (to.mode(), to.mtime(), to.mtime_nsec()));
        assert!(layer_dir.path().join("usr/sbin/x").is_file());
        assert!(view.make_stubs(layer.as_fd(), &[("usr".into(), Kind::File)]).unwrap_err().image);
        assert!(view.make_stubs(layer.as_fd(), &[("file".into(), Kind::Dir)]).unwrap_err().image);
        assert!(view.make_stubs(layer.as_fd(), &[(PathBuf::new(), Kind::Dir)]).unwrap_err().image);
    }
}
