//! Where mounts go in an image, and the mount points it lacks.
//!
//! A mount needs something to lie on. What the image does not have must not be made in it, so a
//! private lower layer holds empty stubs: below the image's layers, or, where the image deleted
//! what stood there, above them. The directories above stubs are made to look exactly as in the
//! image: should the step change such a directory, what the overlay copies up is the image's own.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, Timestamps};
use rustix::io::Errno;

use super::basic::mkdir_all;
use super::plan::{Doing, Fault};
use crate::files::open_dir;
use crate::rootfs::{attributes, resolve};

/// What is to be mounted there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dir,
    File,
}

/// The root as it is before anything is mounted on it.
pub(super) struct View {
    image: Stack,
    /// Places that will be covered by an empty tmpfs or the like, without symlinks, relative to the
    /// root.
    covers: Vec<PathBuf>,
}

/// The directories that make an image, topmost first, looked at the way overlayfs shows them. An
/// overlay of its own, only to look at, would cost as much as all the other mounts of a small job.
struct Stack(Vec<PathBuf>);

/// What a [`Stack`] shows at a place.
enum Found {
    /// Its path in the topmost directory that shows it, and what it is.
    There(PathBuf, Stat),
    /// Nothing; what an additional lowest directory had there would be seen.
    Absent,
    /// Nothing, also if an additional lowest directory had it: deleted, or below something else.
    Hidden,
}

impl Stack {
    /// Looks at `place`, which goes through no symlink.
    fn find(&self, place: &Path) -> rustix::io::Result<Found> {
        let mut merged: Vec<&Path> = self.0.iter().map(PathBuf::as_path).collect();
        let mut shown = None;
        let mut at = PathBuf::new();
        // Whether nothing so far hides what lies below all of these.
        let mut open = true;
        for name in place {
            at.push(name);
            shown = None;
            let mut below = vec![];
            for layer in merged {
                let path = layer.join(&at);
                let stat = match rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => continue,
                    stat => stat?,
                };
                let kind = FileType::from_raw_mode(stat.st_mode);
                let whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
                if kind != FileType::Directory {
                    // A file below a directory of the same name is not seen, and neither is what
                    // lies below it.
                    if shown.is_none() && !whiteout {
                        shown = Some((path, stat));
                    }
                    open = false;
                    break;
                }
                below.push(layer);
                let opaque = opaque(&path)?;
                shown = shown.or(Some((path, stat)));
                if opaque {
                    open = false;
                    break;
                }
            }
            if shown.is_none() {
                return Ok(if open { Found::Absent } else { Found::Hidden });
            }
            merged = below;
        }
        Ok(shown.map_or(Found::Absent, |(path, stat)| Found::There(path, stat)))
    }
}

/// Whether a directory hides those of its name further down.
fn opaque(dir: &Path) -> rustix::io::Result<bool> {
    let mut value = [0_u8; 1];
    match rustix::fs::lgetxattr(dir, attributes::OPAQUE, &mut value[..]) {
        Ok(size) => Ok(size == 1 && value == *b"y"),
        // Longer than one byte: not a mark of overlayfs.
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error),
    }
}

impl View {
    /// `layers`: the image's directories, topmost first.
    pub(super) fn new(layers: Vec<PathBuf>) -> Self {
        Self { image: Stack(layers), covers: vec![] }
    }

    pub(super) fn cover(&mut self, place: PathBuf) {
        self.covers.push(place);
    }

    /// Whether `place` lies in or below something that will be covered.
    pub(super) fn covered(&self, place: &Path) -> bool {
        self.covers.iter().any(|cover| place.starts_with(cover))
    }

    /// Where the absolute path `at` leads in this root, relative to it, with every symlink resolved
    /// inside it and also at the end. Parts that do not exist are taken as they are.
    pub(super) fn resolve(&self, at: &Path) -> Result<PathBuf, Fault> {
        let failed =
            |error: Errno| Fault::new(format!("resolve {} in the image", at.display()), error);
        let mut file: Option<PathBuf> = None;
        let symlink = |place: &[u8]| {
            let place = Path::new(OsStr::from_bytes(place));
            if file.as_ref().is_some_and(|file| place.starts_with(file)) {
                return Err(Fault::image(format!(
                    "{} lies below a file in the image",
                    at.display()
                )));
            }
            if self.covered(place) {
                return Ok(None);
            }
            let Found::There(path, stat) = self.image.find(place).map_err(failed)? else {
                return Ok(None);
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => rustix::fs::readlinkat(CWD, &path, vec![])
                    .map(|target| Some(target.into_bytes()))
                    .map_err(failed),
                FileType::Directory => Ok(None),
                _ => {
                    file = Some(place.to_owned());
                    Ok(None)
                }
            }
        };
        let found = resolve::path(at.as_os_str().as_bytes(), symlink);
        found.map(|path| PathBuf::from(OsString::from_vec(path))).map_err(|error| match error {
            resolve::Error::TooManySymlinks => Fault::image(format!(
                "{} leads through too many symbolic links in the image",
                at.display()
            )),
            resolve::Error::Look(fault) => fault,
        })
    }

    /// Looks for `place` in the image; an error if it is of the wrong kind.
    fn look(&self, place: &Path, kind: Kind) -> Result<Found, Fault> {
        let found = self
            .image
            .find(place)
            .doing(|| format!("look at /{} in the image", place.display()))?;
        if let Found::There(_, stat) = &found {
            let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            match (kind, is_dir) {
                (Kind::Dir, false) => {
                    return Err(Fault::image(format!(
                        "/{} in the image is not a directory",
                        place.display()
                    )));
                }
                (Kind::File, true) => {
                    return Err(Fault::image(format!(
                        "/{} in the image is a directory",
                        place.display()
                    )));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Makes stubs in the directory `layer` for those of `places` that the image lacks. Returns
    /// these, and whether `layer` has to lie above the image to be seen.
    ///
    /// Below is better: directories that the image has keep their inode numbers.
    pub(super) fn make_stubs(
        &self,
        layer: BorrowedFd<'_>,
        places: &[(PathBuf, Kind)],
    ) -> Result<(Vec<(PathBuf, Kind)>, bool), Fault> {
        let mut missing = vec![];
        let mut above = false;
        let mut parents = BTreeSet::new();
        for (place, kind) in places {
            if place.as_os_str().is_empty() {
                return Err(Fault::image("a mount would cover the whole root of the image"));
            }
            match self.look(place, *kind)? {
                Found::There(..) => continue,
                Found::Absent => {}
                Found::Hidden => above = true,
            }
            // The empty path at the end stands for the root, whose look comes from the upper
            // directory.
            parents.extend(
                place.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).map(Path::to_owned),
            );
            missing.push((place.clone(), *kind));
        }
        // In order, so a directory comes before what is in it.
        for parent in &parents {
            ignore_exists(rustix::fs::mkdirat(layer, parent, Mode::from_raw_mode(0o755)))
                .doing(|| stub(parent))?;
        }
        for (place, kind) in &missing {
            let made = match kind {
                Kind::Dir => rustix::fs::mkdirat(layer, place, Mode::from_raw_mode(0o755)),
                Kind::File => make_file(layer, place, 0o644).map(drop),
            };
            ignore_exists(made).doing(|| stub(place))?;
        }
        // Times last and from the inside out: every other change to a directory would move them.
        for parent in parents.iter().rev() {
            let look = || -> std::io::Result<()> {
                let Found::There(path, _) = self.image.find(parent)? else { return Ok(()) };
                let (from, to) = (open_dir(CWD, &path)?, open_dir(layer, parent)?);
                look_like(from.as_fd(), to.as_fd())
            };
            look().doing(|| stub(parent))?;
        }
        Ok((missing, above))
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

/// Whether two directories have the same owner and mode, and no extended attributes of their own.
pub(super) fn alike(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> std::io::Result<bool> {
    let look = |fd| -> std::io::Result<_> {
        let (stat, xattrs) =
            (rustix::fs::fstat(fd)?, rustix::fs::flistxattr_query(fd).unwrap_or(0));
        Ok(((stat.st_uid, stat.st_gid, stat.st_mode), xattrs == 0))
    };
    let ((one, plain), (other, also_plain)) = (look(one)?, look(other)?);
    Ok(one == other && plain && also_plain)
}

/// Gives a directory the owner, mode, extended attributes and times of another, but for what
/// overlayfs notes on it (opaque, origin).
pub(super) fn look_like(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> std::io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    rustix::fs::fchown(
        to,
        Some(rustix::fs::Uid::from_raw(stat.st_uid)),
        Some(rustix::fs::Gid::from_raw(stat.st_gid)),
    )?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let size = match rustix::fs::flistxattr_query(from) {
        Err(Errno::OPNOTSUPP) => 0,
        size => size?,
    };
    let mut names = vec![0_u8; size];
    let size = if size == 0 { 0 } else { rustix::fs::flistxattr(from, &mut names[..])? };
    for name in names[..size].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        // A name like that which a step gave is kept in an escaped form, which a layer may hold.
        if attributes::is_overlay_own(name) {
            continue;
        }
        let mut value = vec![0_u8; rustix::fs::fgetxattr_query(from, name)?];
        let size =
            if value.is_empty() { 0 } else { rustix::fs::fgetxattr(from, name, &mut value[..])? };
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

/// Whether a mount shows a directory or a single file.
pub(super) fn kind_of(mount: &OwnedFd) -> Result<Kind, Fault> {
    let stat = rustix::fs::fstat(mount).doing(|| "look at a mount".into())?;
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Ok(if directory { Kind::Dir } else { Kind::File })
}

/// Makes an empty file of the root, and the directories above it, where a file is to appear.
pub(super) fn make_place(place: &Path) -> Result<(), Fault> {
    let what = || format!("make the mount point /{}", place.display());
    let parent = mkdir_all(place.parent().unwrap_or(Path::new("")))?;
    let name = Path::new(place.file_name().unwrap_or_default());
    match make_file(parent.as_fd(), name, 0o644) {
        Ok(_) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(Fault::new(what(), error)),
    }
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
        let mut view = View::new(vec![dir.path().to_owned()]);
        view.cover("run".into());
        (dir, view)
    }

    #[test]
    fn links_are_resolved_inside() {
        let (_dir, view) = image();
        let check = |at: &str, expected: &str| {
            assert_eq!(view.resolve(Path::new(at)).unwrap(), Path::new(expected), "{at}")
        };
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
        fs::set_permissions(dir.path().join("real/etc"), PermissionsExt::from_mode(0o2711))
            .unwrap();
        let layer_dir = tempfile::tempdir().unwrap();
        let layer = open_dir(rustix::fs::CWD, layer_dir.path()).unwrap();
        let places = [
            ("real/etc/hosts".into(), Kind::File),
            ("usr/sbin/x".into(), Kind::File),
            ("usr".into(), Kind::Dir),
        ];
        let (made, above) = view.make_stubs(layer.as_fd(), &places).unwrap();
        assert_eq!((made.len(), above), (2, false));
        let (from, to) = (
            fs::metadata(dir.path().join("real/etc")).unwrap(),
            fs::metadata(layer_dir.path().join("real/etc")).unwrap(),
        );
        assert_eq!(
            (from.mode(), from.mtime(), from.mtime_nsec()),
            (to.mode(), to.mtime(), to.mtime_nsec())
        );
        assert!(layer_dir.path().join("usr/sbin/x").is_file());
        assert!(view.make_stubs(layer.as_fd(), &[("usr".into(), Kind::File)]).unwrap_err().image);
        assert!(view.make_stubs(layer.as_fd(), &[("file".into(), Kind::Dir)]).unwrap_err().image);
        assert!(view.make_stubs(layer.as_fd(), &[(PathBuf::new(), Kind::Dir)]).unwrap_err().image);
    }

    #[test]
    fn layers_are_seen_as_overlayfs_shows_them() {
        let dir = tempfile::tempdir().unwrap();
        let layer = |name: &str, files: &[&str]| {
            for file in files {
                let path = dir.path().join(name).join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, name).unwrap();
            }
            dir.path().join(name)
        };
        let layers = vec![
            layer("top", &["etc/top", "shut/top", "was-dir"]),
            layer("middle", &["etc/middle", "shut/middle", "was-dir/x", "was-file/middle"]),
            layer("low", &["etc/low", "etc/top", "shut/low", "was-file", "under/low"]),
        ];
        let mark = rustix::fs::lsetxattr(
            layers[1].join("shut"),
            attributes::OPAQUE,
            b"y",
            rustix::fs::XattrFlags::empty(),
        );
        let marked = mark.is_ok();
        let whiteout = rustix::fs::mknodat(
            CWD,
            layers[0].join("etc/low"),
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        );
        let stack = Stack(layers);
        let check = |place: &str, expected: &str| {
            let found = match stack.find(Path::new(place)).unwrap() {
                Found::There(path, _) => path,
                Found::Absent => "absent".into(),
                Found::Hidden => "hidden".into(),
            };
            let expected = if matches!(expected, "absent" | "hidden") {
                expected.into()
            } else {
                dir.path().join(expected).join(place)
            };
            assert_eq!(found, expected, "{place}");
        };
        check("etc", "top");
        check("etc/top", "top");
        check("etc/middle", "middle");
        check("under/low", "low");
        check("no/such", "absent");
        check("etc/new", "absent");
        check("shut/new", if marked { "hidden" } else { "absent" });
        check("was-file/new", "hidden");
        check("was-dir", "top");
        check("was-dir/x", "hidden");
        check("was-file/middle", "middle");
        check("shut/middle", "middle");
        check("shut/low", if marked { "hidden" } else { "low" });
        check("etc/low", if whiteout.is_ok() { "hidden" } else { "low" });
    }
}
