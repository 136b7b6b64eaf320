//! Builds the root that a job sees, as pid 1 of its namespaces, and moves into it.
//!
//! ```text
//! staging tmpfs (over some folder of the host, in our mount namespace only)
//!   s/           folder that holds upper/ and work/: one mount, as overlayfs wants
//!   l/0 l/1 …    lower layers, topmost first
//!   m/0 m/1 …    read-only folders, to be shown through an overlay that hides their host paths
//!   f/0 f/1 …    policy files
//!   p/           stubs: mount points that the image lacks
//!   e/           empty
//!   r/           the root: overlay of s/upper over l/… over p
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use super::idmap::Sources;
use super::plan::{Blobs, Doing, Fault, JobPlan, RootPlan};
use super::stub::{Kind, View, alike, look_like, make_file};
use super::sys;
use crate::files::{dir_names, open_dir};

/// Devices bound from the host. No others can be opened or made inside.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];
/// Files and folders of /proc that tell or change things about the host.
const MASKED: &[&str] = &[
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
const READ_ONLY: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];
/// Somewhere to put the staging tmpfs; only that it is a folder matters.
const STAGING: &[&str] = &["/tmp", "/run", "/var", "/usr", "/etc"];

/// Stubs that had to be made in the image itself, to be taken away at the end.
#[derive(Debug, Default)]
pub(super) struct Debris(Vec<PathBuf>);

/// What is kept of a root that was built.
pub(super) struct Built {
    pub(super) debris: Debris,
    /// The upper folder, open as a path; none in a chore.
    pub(super) upper: Option<OwnedFd>,
}

/// Makes every mount private to this namespace.
pub(super) fn make_private() -> Result<(), Fault> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(|| "make mounts private".into())
}

/// Makes the empty staging tmpfs, which becomes the working directory.
pub(super) fn stage() -> Result<Devices, Fault> {
    // Before the staging tmpfs hides anything.
    let devices = DEVICES.iter().map(|name| {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        rustix::mount::open_tree(CWD, format!("/dev/{name}"), flags)
            .doing(|| format!("bind the host's /dev/{name}"))
    });
    let devices = devices.collect::<Result<Vec<_>, _>>()?;
    let place = STAGING
        .iter()
        .find(|place| Path::new(place).is_dir())
        .ok_or_else(|| Fault::new("find a folder to mount on", Errno::NOENT))?;
    tmpfs(Path::new(place), "mode=0755", MountFlags::empty())?;
    rustix::process::chdir(*place).doing(|| "enter the staging tmpfs".into())?;
    for name in ["s", "l", "m", "f", "p", "e", "r"] {
        mkdir(Path::new(name), 0o755)?;
    }
    Ok(Devices(devices))
}

/// The host's device nodes, cloned.
pub(super) struct Devices(Vec<OwnedFd>);

/// Builds the root in the staging tmpfs and pivots into it; from here on nothing of the host can be
/// named.
pub(super) fn build(
    plan: &JobPlan,
    blobs: &Blobs,
    sources: Sources,
    devices: &Devices,
) -> Result<Built, Fault> {
    let root = match &plan.root {
        Some(overlay) => Root::image(plan, overlay, sources)?,
        None => Root::chore(plan, sources)?,
    };
    root.dev(devices)?;
    root.proc(plan.root.is_some())?;
    if plan.root.is_some() {
        tmpfs(&root.at(&root.sys), "mode=0555,size=4k", MountFlags::RDONLY | MountFlags::NOEXEC)?;
        tmpfs(&root.at(&root.tmp), "mode=1777", MountFlags::empty())?;
    }
    root.extra_mounts(plan)?;
    root.policy_files(plan, blobs)?;
    let Root { debris, upper, .. } = root;
    let into = || "enter the new root".to_owned();
    rustix::process::chdir("r").doing(into)?;
    // Both on one place: the old root ends up on top of the new one and is then taken off, so no
    // folder is needed for it.
    rustix::process::pivot_root(".", ".").doing(into)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).doing(into)?;
    rustix::process::chdir("/").doing(into)?;
    Ok(Built { debris, upper })
}

/// Takes away what [`build`] had to put into the image; called when no other process is left.
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
                // The step put something beside our mount point: then the folder is its own.
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

/// The root in the making. Paths in it are relative to `r` and free of links.
struct Root {
    view: View,
    dev: PathBuf,
    proc: PathBuf,
    sys: PathBuf,
    tmp: PathBuf,
    /// Resolved places of the plan's mounts and files.
    mounts: Vec<PathBuf>,
    files: Vec<PathBuf>,
    sources: Vec<OwnedFd>,
    upper: Option<OwnedFd>,
    debris: Debris,
}

impl Root {
    /// The root of a chore: a tmpfs with the session's two folders.
    fn chore(plan: &JobPlan, sources: Sources) -> Result<Self, Fault> {
        tmpfs(Path::new("r"), "mode=0755", MountFlags::empty())?;
        for (name, mode) in [
            ("layers", 0o755),
            ("scratch", 0o755),
            ("proc", 0o755),
            ("dev", 0o755),
            ("tmp", 0o1777),
        ] {
            mkdir(&Path::new("r").join(name), mode)?;
        }
        attach(sources.first.as_fd(), Path::new("r/layers"))?;
        for scratch in &sources.rest {
            attach(scratch.as_fd(), Path::new("r/scratch"))?;
        }
        let mut view = View::new(vec![]);
        view.cover(PathBuf::new());
        let mut root = Self::new(view);
        root.sources = sources.mounts;
        root.mounts = plan
            .mounts
            .iter()
            .map(|mount| root.view.resolve(&mount.at.path()))
            .collect::<Result<_, _>>()?;
        root.files = plan
            .files
            .iter()
            .map(|file| root.view.resolve(&file.at.path()))
            .collect::<Result<_, _>>()?;
        Ok(root)
    }

    fn new(view: View) -> Self {
        Self {
            view,
            dev: "dev".into(),
            proc: "proc".into(),
            sys: "sys".into(),
            tmp: "tmp".into(),
            mounts: vec![],
            files: vec![],
            sources: vec![],
            upper: None,
            debris: Debris::default(),
        }
    }

    /// The root of an image job: an overlay.
    fn image(plan: &JobPlan, overlay: &RootPlan, sources: Sources) -> Result<Self, Fault> {
        attach(sources.first.as_fd(), Path::new("s"))?;
        let mut lower = vec![];
        for (n, layer) in sources.rest.iter().enumerate() {
            let at = PathBuf::from(format!("l/{n}"));
            mkdir(&at, 0o755)?;
            attach(layer.as_fd(), &at)?;
            lower.push(dir_path(&at)?);
        }
        let (upper_path, work_path) =
            (Path::new("s").join(overlay.upper.path()), Path::new("s").join(overlay.work.path()));
        let upper = dir_path(&upper_path)?;
        let work = dir_path(&work_path)?;
        if !lower.is_empty() {
            // The overlay's root looks like the upper folder: without this, what an earlier step
            // did to `/` would be unseen.
            let inherit = || -> io::Result<()> {
                let (top, upper) = (open_dir(CWD, Path::new("l/0"))?, open_dir(CWD, &upper_path)?);
                if dir_names(&upper)?.is_empty() && !alike(top.as_fd(), upper.as_fd())? {
                    look_like(top.as_fd(), upper.as_fd())
                } else {
                    Ok(())
                }
            };
            inherit().doing(|| "make the root look like that of the layer below".into())?;
        }
        let layers = (0..lower.len()).map(|n| PathBuf::from(format!("l/{n}")));
        let mut root = Self::new(View::new([upper_path].into_iter().chain(layers).collect()));
        for name in ["dev", "proc", "sys", "tmp"] {
            let at = root.view.resolve(&Path::new("/").join(name))?;
            // A program that finds /proc elsewhere is fooled; and nothing that images do needs
            // these three to be links.
            if at != Path::new(name) && ["dev", "proc", "sys"].contains(&name) {
                return Err(Fault::image(format!(
                    "/{name} in the image is a symbolic link, not a folder"
                )));
            }
            if root.view.covered(&at) {
                return Err(Fault::image(format!(
                    "/{name} in the image leads to /{}",
                    at.display()
                )));
            }
            if name == "tmp" {
                root.tmp.clone_from(&at);
            }
            root.view.cover(at);
        }
        for at in
            plan.mounts.iter().map(|mount| &mount.at).chain(plan.files.iter().map(|file| &file.at))
        {
            let place = root.view.resolve(&at.path())?;
            if place.starts_with(&root.proc) || place.starts_with(&root.sys) {
                return Err(Fault::image(format!(
                    "{} leads to /{} in the image",
                    at.path().display(),
                    place.display()
                )));
            }
        }
        let mut wanted: Vec<_> =
            [&root.dev, &root.proc, &root.sys, &root.tmp].map(|p| (p.clone(), Kind::Dir)).into();
        root.mounts = plan
            .mounts
            .iter()
            .map(|mount| root.view.resolve(&mount.at.path()))
            .collect::<Result<_, _>>()?;
        root.files = plan
            .files
            .iter()
            .map(|file| root.view.resolve(&file.at.path()))
            .collect::<Result<_, _>>()?;
        let places = root
            .mounts
            .iter()
            .map(|at| (at, Kind::Dir))
            .chain(root.files.iter().map(|at| (at, Kind::File)));
        wanted.extend(
            places.filter(|(at, _)| !root.view.covered(at)).map(|(at, kind)| (at.clone(), kind)),
        );
        let stubs = dir_path(Path::new("p"))?;
        let (missing, above) = root.view.make_stubs(stubs.as_fd(), &wanted)?;

        let mut stack: Vec<_> = lower.iter().map(AsFd::as_fd).collect();
        stack.insert(if above { 0 } else { stack.len() }, stubs.as_fd());
        let mount = overlay_mount(&stack, Some((upper.as_fd(), work.as_fd())))?;
        let flags = rustix::fs::fstatvfs(&mount).doing(|| "look at the overlay".into())?.f_flag;
        if flags.contains(StatVfsMountFlags::RDONLY) {
            // Happens without an error when the kernel cannot make its work folder.
            return Err(Fault::new("mount the overlay for writing", Errno::ROFS).hint(
                "the store must be on a file system with extended attributes that overlayfs can write to: ext4, xfs, btrfs or tmpfs",
            ));
        }
        attach(mount.as_fd(), Path::new("r"))?;
        root.sources = sources.mounts;
        root.upper = Some(upper);
        for (place, kind) in missing {
            root.ensure(&place, kind)?;
        }
        Ok(root)
    }

    fn at(&self, place: &Path) -> PathBuf {
        Path::new("r").join(place)
    }

    /// Makes `place` in the overlay if the stub does not show: hidden by a folder that the upper
    /// folder holds and marks opaque, or by a deletion there. Only uppers with content of earlier
    /// jobs have these.
    fn ensure(&mut self, place: &Path, kind: Kind) -> Result<(), Fault> {
        let mut missing = vec![];
        for part in place.ancestors().filter(|p| !p.as_os_str().is_empty()) {
            match rustix::fs::statat(CWD, self.at(part), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => break,
                Err(Errno::NOENT) => missing.push(part.to_owned()),
                Err(error) => {
                    return Err(Fault::new(format!("look at /{}", part.display()), error));
                }
            }
        }
        for part in missing.into_iter().rev() {
            let what = || format!("make the mount point /{}", part.display());
            let at = self.at(&part);
            let parent = open_dir(CWD, at.parent().unwrap_or(Path::new("r"))).doing(what)?;
            let times = times_of(parent.as_fd()).doing(what)?;
            if kind == Kind::File && part == place {
                make_file(CWD.as_fd(), &at, 0o644).doing(what)?;
            } else {
                mkdir(&at, 0o755)?;
            }
            rustix::fs::futimens(&parent, &times).doing(what)?;
            self.debris.0.push(part);
        }
        Ok(())
    }

    fn dev(&self, devices: &Devices) -> Result<(), Fault> {
        let dev = self.at(&self.dev);
        tmpfs(&dev, "mode=0755,size=65536k", MountFlags::empty())?;
        for (name, node) in DEVICES.iter().zip(&devices.0) {
            let at = dev.join(name);
            make_file(CWD.as_fd(), &at, 0o666).doing(|| format!("make /dev/{name}"))?;
            attach(node.as_fd(), &at)?;
        }
        for name in ["pts", "mqueue", "shm", "bake"] {
            mkdir(&dev.join(name), 0o755)?;
        }
        let mount = |kind: &str, name: &str, options: &str| {
            let options = std::ffi::CString::new(options).expect("options hold no NUL");
            let flags = MountFlags::NOSUID
                | MountFlags::NOEXEC
                | if kind == "devpts" { MountFlags::empty() } else { MountFlags::NODEV };
            rustix::mount::mount(kind, dev.join(name), kind, flags, options.as_c_str())
        };
        // Group 5 is tty wherever there is one.
        mount("devpts", "pts", "newinstance,ptmxmode=0666,mode=0620,gid=5")
            .doing(|| "mount devpts".into())?;
        mount("tmpfs", "shm", "mode=1777").doing(|| "mount /dev/shm".into())?;
        match mount("mqueue", "mqueue", "") {
            // Kernels without message queues: nothing to show.
            Ok(()) | Err(Errno::NODEV) => {}
            Err(error) => return Err(Fault::new("mount /dev/mqueue", error)),
        }
        for (name, target) in [
            ("ptmx", "pts/ptmx"),
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            rustix::fs::symlinkat(target, CWD, dev.join(name))
                .doing(|| format!("make /dev/{name}"))?;
        }
        Ok(())
    }

    fn proc(&self, masked: bool) -> Result<(), Fault> {
        let proc = self.at(&self.proc);
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount("proc", &proc, "proc", flags, None).map_err(|error| {
            let fault = Fault::new("mount /proc", error);
            if error == Errno::PERM {
                fault.hint("inside a container whose own /proc is masked this is forbidden: start it with `--privileged` or `--security-opt systempaths=unconfined`")
            } else {
                fault
            }
        })?;
        if !masked {
            return Ok(());
        }
        for name in READ_ONLY {
            let at = proc.join(name);
            match clone(&at, MountAttrFlags::MOUNT_ATTR_RDONLY) {
                Ok(mount) => attach(mount.as_fd(), &at)?,
                Err(error) if error.errno() == libc::ENOENT => {}
                Err(error) => return Err(error),
            }
        }
        for name in MASKED {
            let at = proc.join(name);
            let kind = match rustix::fs::statat(CWD, &at, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => rustix::fs::FileType::from_raw_mode(stat.st_mode),
                Err(_) => continue,
            };
            let cover = match kind {
                rustix::fs::FileType::Directory => {
                    clone(Path::new("e"), MountAttrFlags::MOUNT_ATTR_RDONLY)?
                }
                _ => clone(&self.at(&self.dev).join("null"), MountAttrFlags::MOUNT_ATTR_RDONLY)?,
            };
            attach(cover.as_fd(), &at)?;
        }
        Ok(())
    }

    fn extra_mounts(&self, plan: &JobPlan) -> Result<(), Fault> {
        for (n, (mount, place)) in plan.mounts.iter().zip(&self.mounts).enumerate() {
            let at = self.at(place);
            let inside_another = self.mounts[..n].iter().any(|other| place.starts_with(other));
            if self.view.covered(place) && !inside_another {
                mkdir_all(place)?;
            }
            let source = self.sources[n].as_fd();
            if mount.read_only && plan.root.is_some() {
                let below = PathBuf::from(format!("m/{n}"));
                mkdir(&below, 0o755)?;
                attach(source, &below)?;
                let stack = [dir_path(&below)?, dir_path(Path::new("e"))?];
                // Seen through an overlay, /proc/self/mountinfo does not tell the folder's host
                // path. Not every file system can.
                let (shown, hidden) =
                    match overlay_mount(&[stack[0].as_fd(), stack[1].as_fd()], None) {
                        Ok(shown) => (shown, true),
                        Err(_) => (clone(&below, MountAttrFlags::MOUNT_ATTR_RDONLY)?, false),
                    };
                attach(shown.as_fd(), &at)?;
                if !hidden {
                    rustix::mount::unmount(&below, UnmountFlags::DETACH)
                        .doing(|| "tidy up the staging tmpfs".into())?;
                }
            } else {
                attach(source, &at)?;
            }
        }
        Ok(())
    }

    fn policy_files(&self, plan: &JobPlan, blobs: &Blobs) -> Result<(), Fault> {
        for (n, (file, place)) in plan.files.iter().zip(&self.files).enumerate() {
            let what = || format!("show the file {}", file.at.path().display());
            let staged = PathBuf::from(format!("f/{n}"));
            let fd = make_file(CWD.as_fd(), &staged, 0o600).doing(what)?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(file.mode & 0o7777)).doing(what)?;
            File::from(fd).write_all(blobs.get(file.bytes)).doing(what)?;
            let at = self.at(place);
            let inside_a_mount = self.mounts.iter().any(|other| place.starts_with(other));
            if self.view.covered(place) && !inside_a_mount {
                let parent = mkdir_all(place.parent().unwrap_or(Path::new("")))?;
                match make_file(
                    parent.as_fd(),
                    Path::new(place.file_name().unwrap_or_default()),
                    0o644,
                ) {
                    Ok(_) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(Fault::new(what(), error)),
                }
            }
            attach(clone(&staged, MountAttrFlags::MOUNT_ATTR_RDONLY)?.as_fd(), &at)?;
        }
        Ok(())
    }
}

fn times_of(dir: BorrowedFd<'_>) -> io::Result<rustix::fs::Timestamps> {
    let stat = rustix::fs::fstat(dir)?;
    let last_modification =
        rustix::fs::Timespec { tv_sec: stat.st_mtime as i64, tv_nsec: stat.st_mtime_nsec as _ };
    Ok(rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification,
    })
}

fn mkdir(path: &Path, mode: u32) -> Result<(), Fault> {
    rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(mode))
        .doing(|| format!("make the folder {}", path.display()))
}

/// Makes `place` and the folders above it in the root, through no link, and opens it.
fn mkdir_all(place: &Path) -> Result<OwnedFd, Fault> {
    let mut at = open_dir(CWD, "r").doing(|| "open the root".into())?;
    for part in place {
        match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => {
                return Err(Fault::new(format!("make the folder /{}", place.display()), error));
            }
        }
        at = open_dir(at.as_fd(), part).map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP | libc::ENOTDIR) => {
                Fault::image(format!("/{} lies behind a link", place.display()))
            }
            _ => Fault::new(format!("open the folder /{}", place.display()), error),
        })?;
    }
    Ok(at)
}

/// Opens something below the staging tmpfs, through no link: a link of the image could lead
/// anywhere, above all one of /proc.
fn open_path(path: &Path, more: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    rustix::fs::openat2(
        CWD,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
}

fn dir_path(path: &Path) -> Result<OwnedFd, Fault> {
    open_path(path, OFlags::DIRECTORY).doing(|| format!("open the folder {}", path.display()))
}

fn tmpfs(at: &Path, options: &str, more: MountFlags) -> Result<(), Fault> {
    let options = std::ffi::CString::new(options).expect("options hold no NUL");
    rustix::mount::mount(
        "tmpfs",
        at,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV | more,
        options.as_c_str(),
    )
    .doing(|| format!("mount a tmpfs on {}", at.display()))
}

/// Clones the mount of what lies at `path`.
fn clone(path: &Path, set: MountAttrFlags) -> Result<OwnedFd, Fault> {
    let what = || format!("clone the mount of {}", path.display());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let place = open_path(path, OFlags::empty()).doing(what)?;
    let mount = rustix::mount::open_tree(&place, "", flags).doing(what)?;
    sys::mount_setattr(mount.as_fd(), set.bits().into(), false, None).doing(what)?;
    Ok(mount)
}

/// Puts a detached mount at `at`, which is no link.
fn attach(mount: BorrowedFd<'_>, at: &Path) -> Result<(), Fault> {
    let what = || format!("mount on {}", at.display());
    let to = open_path(at, OFlags::empty()).doing(what)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", &to, "", flags).doing(what)
}

/// Makes an overlay of `lower` (topmost first), writable over `(upper, work)` or read-only, as a
/// detached mount.
fn overlay_mount(
    lower: &[BorrowedFd<'_>],
    upper: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
) -> Result<OwnedFd, Fault> {
    // Descriptors since Linux 6.13 (`lowerdir+` since 6.8); before that paths, for which
    // /proc/self/fd serves.
    let context = match overlay_by_fd(lower, upper) {
        Some(context) => context,
        None => overlay_by_path(lower, upper)?,
    };
    let configured = || -> rustix::io::Result<()> {
        // Without userxattr a user namespace cannot mark deletions of folders: EIO on `rm -r`.
        rustix::mount::fsconfig_set_flag(&context, "userxattr")?;
        if upper.is_some() {
            // The stubs lie on another file system than the rest. Without this a file's inode
            // number could change when it is first written to, and its device not be that of the
            // folder it is in; with it all are as if the stubs were not there.
            rustix::mount::fsconfig_set_string(&context, "xino", "on")?;
            // No flush of the whole file system at the end; a dead build's upper folder is never
            // used again anyway.
            rustix::mount::fsconfig_set_flag(&context, "volatile")?;
        }
        rustix::mount::fsconfig_create(&context)
    };
    configured().map_err(|error| overlay_fault(&context, error))?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    if upper.is_none() {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .doing(|| "mount the overlay".into())
}

fn overlay_by_fd(
    lower: &[BorrowedFd<'_>],
    upper: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
) -> Option<OwnedFd> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
    for layer in lower {
        rustix::mount::fsconfig_set_fd(&context, "lowerdir+", layer).ok()?;
    }
    if let Some((upper, work)) = upper {
        rustix::mount::fsconfig_set_fd(&context, "upperdir", upper).ok()?;
        rustix::mount::fsconfig_set_fd(&context, "workdir", work).ok()?;
    }
    Some(context)
}

fn overlay_by_path(
    lower: &[BorrowedFd<'_>],
    upper: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
) -> Result<OwnedFd, Fault> {
    let path = |fd: &BorrowedFd<'_>| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let context =
        rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| {
            let fault = Fault::new("use overlayfs", error);
            if error == Errno::NODEV {
                fault.hint("load the kernel module: modprobe overlay")
            } else {
                fault
            }
        })?;
    let configured = || -> rustix::io::Result<()> {
        // Kernels with `lowerdir+` limit the length of one string to 256 bytes; older ones do not
        // know that name.
        let each = || {
            lower.iter().try_for_each(|layer| {
                rustix::mount::fsconfig_set_string(&context, "lowerdir+", path(layer))
            })
        };
        if each().is_err() {
            let all = lower.iter().map(path).collect::<Vec<_>>().join(":");
            rustix::mount::fsconfig_set_string(&context, "lowerdir", all)?;
        }
        if let Some((upper, work)) = upper {
            rustix::mount::fsconfig_set_string(&context, "upperdir", path(&upper))?;
            rustix::mount::fsconfig_set_string(&context, "workdir", path(&work))?;
        }
        Ok(())
    };
    configured().map_err(|error| overlay_fault(&context, error))?;
    Ok(context)
}

/// Why the kernel refuses an overlay, in its own words where it has any.
fn overlay_fault(context: &OwnedFd, error: Errno) -> Fault {
    let said = messages(context);
    let fault = Fault::new(
        if said.is_empty() {
            "mount the overlay".into()
        } else {
            format!("mount the overlay ({said})")
        },
        error,
    );
    match error {
        Errno::INVAL | Errno::NODEV | Errno::OPNOTSUPP | Errno::PERM => fault.hint(
            "the store must be on a file system that overlayfs can write to: ext4, xfs, btrfs or tmpfs (inside a container: a volume); \
             the kernel must have overlayfs and allow it in user namespaces (5.11 or newer)",
        ),
        _ => fault,
    }
}

/// What the kernel has to say about a failed configuration.
fn messages(context: &OwnedFd) -> String {
    let mut said = vec![];
    let Ok(fd) = context.try_clone() else { return String::new() };
    let mut file = File::from(fd);
    let mut message = [0; 512];
    while let Ok(n @ 1..) = file.read(&mut message) {
        let text = String::from_utf8_lossy(&message[..n]);
        // "e " for an error, "w " for a warning, "i " for information.
        said.push(text.trim().trim_start_matches(['e', 'w', 'i']).trim().to_owned());
    }
    said.join("; ")
}
