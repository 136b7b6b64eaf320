//! Builds the root that a job sees, as pid 1 of its namespaces, and moves into it.
//!
//! ```text
//! staging tmpfs (over some directory of the host, in our mount namespace only)
//!   s/           directory that holds upper/ and work/: one mount, as overlayfs wants
//!   l/0 l/1 …    lower layers, topmost first
//!   m/0 m/1 …    read-only directories, to be shown through an overlay that hides their host paths
//!   f/0 f/1 …    policy files
//!   p/           stubs: mount points that the image lacks
//!   e/           empty
//!   n o/ b       an empty file, an empty directory, a number: shown in place of files of /proc
//!   r/           the root: overlay of s/upper over l/… over p
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags,
};

use super::basic::{attach, clone, dir_path, mkdir, mkdir_all, times_of, tmpfs};
use super::debris::Debris;
use super::idmap::Sources;
use super::overlay::overlay_mount;
use super::path::WirePath;
use super::plan::{Blobs, Doing, Fault, JobPlan, RootPlan};
use super::proc;
use super::stub::{Kind, View, alike, kind_of, look_like, make_file, make_place};
use crate::files::{dir_names, open_dir};
use crate::secret::DIRECTORY;

/// Devices bound from the host. No others can be opened or made inside.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];
/// Somewhere to put the staging tmpfs; only that it is a directory matters.
const STAGING: &[&str] = &["/tmp", "/run", "/var", "/usr", "/etc"];

/// What is kept of a root that was built.
pub(super) struct Built {
    pub(super) debris: Debris,
    /// The upper directory, open as a path; none without an image.
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
        .ok_or_else(|| Fault::new("find a directory to mount on", Errno::NOENT))?;
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
        None => Root::bare(plan, sources)?,
    };
    root.dev(plan, devices)?;
    proc::mount(&root.at(&root.proc), plan.root.is_some())?;
    if plan.root.is_some() {
        tmpfs(&root.at(&root.sys), "mode=0555,size=4k", MountFlags::RDONLY | MountFlags::NOEXEC)?;
        let options = sized("mode=1777", plan.ceiling.tmp());
        tmpfs(&root.at(&root.tmp), &options, MountFlags::empty())?;
    }
    root.extra_mounts(plan)?;
    if let Some(place) = &root.secrets {
        root.show_secrets(plan, blobs, place)?;
    }
    root.policy_files(plan, blobs)?;
    let Root { debris, upper, secrets, .. } = root;
    let into = || "enter the new root".to_owned();
    rustix::process::chdir("r").doing(into)?;
    // Both on one place: the old root ends up on top of the new one and is then taken off, so no
    // directory is needed for it.
    rustix::process::pivot_root(".", ".").doing(into)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).doing(into)?;
    rustix::process::chdir("/").doing(into)?;
    if let Some(place) = secrets {
        plan.secrets.hand_over(&Path::new("/").join(place))?;
    }
    Ok(Built { debris, upper })
}

/// The options of a tmpfs that holds at most so many bytes.
fn sized(options: &str, most: Option<u64>) -> String {
    most.map_or_else(|| options.to_owned(), |most| format!("{options},size={most}"))
}

/// The root in the making. Paths in it are relative to `r` and free of symlinks.
struct Root {
    view: View,
    dev: PathBuf,
    proc: PathBuf,
    sys: PathBuf,
    tmp: PathBuf,
    /// Where secrets are shown, if any.
    secrets: Option<PathBuf>,
    /// Resolved places of the plan's mounts and files.
    mounts: Vec<PathBuf>,
    files: Vec<PathBuf>,
    sources: Vec<OwnedFd>,
    upper: Option<OwnedFd>,
    debris: Debris,
}

impl Root {
    /// The root of a job without an image: a tmpfs with the session's two directories.
    fn bare(plan: &JobPlan, sources: Sources) -> Result<Self, Fault> {
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
        root.resolve_places(plan)?;
        Ok(root)
    }

    /// Finds where the mounts and files of the plan lead.
    fn resolve_places(&mut self, plan: &JobPlan) -> Result<(), Fault> {
        let resolve = |at: &WirePath| self.view.resolve(&at.path());
        self.mounts =
            plan.mounts.iter().map(|mount| resolve(&mount.at)).collect::<Result<_, _>>()?;
        self.files = plan.files.iter().map(|file| resolve(&file.at)).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn new(view: View) -> Self {
        Self {
            view,
            dev: "dev".into(),
            proc: "proc".into(),
            sys: "sys".into(),
            tmp: "tmp".into(),
            secrets: None,
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
            // The overlay's root looks like the upper directory: without this, what an earlier step
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
            // these three to be symlinks.
            if at != Path::new(name) && ["dev", "proc", "sys"].contains(&name) {
                return Err(Fault::image(format!(
                    "/{name} in the image is a symbolic link, not a directory"
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
        root.resolve_places(plan)?;
        if plan.secrets.has_files() {
            let place = root.view.resolve(Path::new(DIRECTORY))?;
            let taken = [&root.dev, &root.proc, &root.sys];
            if taken.into_iter().any(|other| place.starts_with(other)) || place == root.tmp {
                let place = place.display();
                return Err(Fault::image(format!("{DIRECTORY} in the image leads to /{place}")));
            }
            if !root.view.covered(&place) {
                wanted.push((place.clone(), Kind::Dir));
            }
            root.view.cover(place.clone());
            root.secrets = Some(place);
        }
        let kinds = sources.mounts.iter().map(kind_of).collect::<Result<Vec<_>, _>>()?;
        let places = root
            .mounts
            .iter()
            .zip(&kinds)
            .map(|(at, kind)| (at, *kind))
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
            // Happens without an error when the kernel cannot make its work directory.
            return Err(Fault::new("mount the overlay for writing", Errno::ROFS).hint(
                "the store must be on a file system with extended attributes that overlayfs can \
                    write to: ext4, xfs, btrfs or tmpfs",
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

    /// Makes `place` in the overlay if the stub does not show: hidden by a directory that the upper
    /// directory holds and marks opaque, or by a deletion there. Only uppers with content of
    /// earlier jobs have these.
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

    fn dev(&self, plan: &JobPlan, devices: &Devices) -> Result<(), Fault> {
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
        mount("tmpfs", "shm", &sized("mode=1777", plan.ceiling.shared_memory()))
            .doing(|| "mount /dev/shm".into())?;
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

    fn extra_mounts(&self, plan: &JobPlan) -> Result<(), Fault> {
        for (n, (mount, place)) in plan.mounts.iter().zip(&self.mounts).enumerate() {
            let at = self.at(place);
            let inside_another = self.mounts[..n].iter().any(|other| place.starts_with(other));
            let kind = kind_of(&self.sources[n])?;
            if self.view.covered(place) && !inside_another {
                match kind {
                    Kind::Dir => drop(mkdir_all(place)?),
                    Kind::File => make_place(place)?,
                }
            }
            let source = self.sources[n].as_fd();
            if mount.read_only && plan.root.is_some() && kind == Kind::Dir {
                let below = PathBuf::from(format!("m/{n}"));
                mkdir(&below, 0o755)?;
                attach(source, &below)?;
                let stack = [dir_path(&below)?, dir_path(Path::new("e"))?];
                // Seen through an overlay, /proc/self/mountinfo does not show the directory's host
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

    fn show_secrets(&self, plan: &JobPlan, blobs: &Blobs, place: &Path) -> Result<(), Fault> {
        if self.mounts.iter().any(|mount| place.starts_with(mount)) || place.starts_with(&self.tmp)
        {
            mkdir_all(place)?;
        }
        plan.secrets.mount(&self.at(place), blobs)
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
                make_place(place)?;
            }
            attach(clone(&staged, MountAttrFlags::MOUNT_ATTR_RDONLY)?.as_fd(), &at)?;
        }
        Ok(())
    }
}
