//! `kernel`: a machine in parts, for hypervisors that start a kernel by themselves (QEMU and libvirt
//! with direct kernel boot, Firecracker, Cloud Hypervisor) and for boot over a network:
//!
//! ```text
//! vmlinuz     the kernel, as it is in the image
//! vmlinux     the same as an ELF file, of a bzImage
//! initrd      bake's own initial RAM disk
//! cmdline     the kernel's command line
//! root.raw    a disk without a boot partition: the root file system, and its hash tree
//! ```

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::disk::with_machine;
use super::error::{Error, system};
use super::filesystem::Tools;
use super::flat::Flat;
use super::options::{Exported, Lost, Options, Source};
use super::place::NewDir;
use super::source::Image;
use crate::disk::{self, machine};
use crate::files::parent;

/// Fills a directory that becomes `dest`; modes are set whatever the umask says.
pub(super) fn dir(
    source: &Source<'_>,
    dest: &Path,
    options: &Options,
    tools: &dyn Tools,
) -> Result<(NewDir, Exported), Error> {
    let image = Image::open(source)?;
    let place = NewDir::new(dest, options.force)?;
    let root = place.root();
    let flat = Flat::read(&image, parent(dest))?;
    let (packed, mut remarks) =
        with_machine(&image, &flat, options, (tools, parent(dest)), false, |mut machine| {
            let kernel = std::mem::take(&mut machine.kernel);
            let vmlinux = disk::vmlinux(&kernel);
            let packed = vmlinux.is_none() && kernel.get(0x202..0x206) == Some(b"HdrS");
            write(&root.join("vmlinuz"), &kernel)?;
            if let Some(vmlinux) = vmlinux {
                write(&root.join("vmlinux"), &vmlinux)?;
            }
            write(&root.join("initrd"), &std::mem::take(&mut machine.initrd))?;
            let path = root.join("root.raw");
            let file = File::options().read(true).write(true).create_new(true).open(&path);
            let file = file.map_err(|e| system("make", &path, e))?;
            let made = machine::write(machine, &file).map_err(|source| Error::Disk { source })?;
            set_mode(&path)?;
            write(&root.join("cmdline"), format!("{}\n", made.command_line).as_bytes())?;
            Ok(packed)
        })?;
    if packed {
        let paths = vec!["/boot/vmlinuz".to_owned()];
        let what = "an ELF file of a kernel that is compressed like this".to_owned();
        remarks.push(Lost { what, paths }.into());
    }
    let mut bytes = 0;
    for entry in fs::read_dir(root).map_err(|e| system("list", root, e))? {
        let found = entry.and_then(|entry| entry.metadata());
        bytes += found.map_err(|e| system("list", root, e))?.len();
    }
    Ok((place, Exported { bytes, digest: None, remarks }))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(|e| system("write", path, e))?;
    set_mode(path)
}

fn set_mode(path: &Path) -> Result<(), Error> {
    let set = fs::set_permissions(path, Permissions::from_mode(0o644));
    set.map_err(|e| system("set the mode of", path, e))
}
