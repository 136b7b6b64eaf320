//! The initial RAM disk: which modules of a kernel go in, and that what goes in comes out.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use bake::disk::initrd::{DataDisk, Error, Modules, Parts, make};

use crate::lab::{Lab, run};
use crate::tier;

const DEP: &str = "\
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/virtio/virtio.ko:
kernel/drivers/md/dm-verity.ko.gz: kernel/drivers/md/dm-mod.ko.xz
kernel/drivers/md/dm-mod.ko.xz:
kernel/fs/erofs/erofs.ko.zst: kernel/lib/libcrc32c.ko
kernel/fs/ext4/ext4.ko:
kernel/lib/libcrc32c.ko:
kernel/crypto/crc32c_generic.ko:
kernel/drivers/gpu/huge.ko:
";
const ALIAS: &str = "\
# Aliases extracted from modules themselves.
alias virtio:d00000002v* virtio_blk
alias pci:v00001234d* huge
alias fs-erofs erofs
alias fs-ext4 ext4
";
const SOFTDEP: &str = "softdep libcrc32c pre: crc32c_generic\n";
const BUILTIN: &str = "kernel/fs/overlayfs/overlay.ko\nkernel/drivers/virtio/virtio_pci.ko\n";

fn packed(path: &str) -> io::Result<Vec<u8>> {
    let bytes = format!("module {path}").into_bytes();
    let mut out = vec![];
    match path.rsplit('.').next() {
        Some("xz") => {
            liblzma::read::XzEncoder::new(&bytes[..], 1).read_to_end(&mut out)?;
        }
        Some("gz") => {
            flate2::read::GzEncoder::new(&bytes[..], flate2::Compression::fast())
                .read_to_end(&mut out)?;
        }
        Some("zst") => out = zstd::encode_all(&bytes[..], 1)?,
        _ => out = bytes,
    }
    Ok(out)
}

fn modules<'a>(read: &'a dyn Fn(&str) -> io::Result<Vec<u8>>) -> Modules<'a> {
    let (dep, alias, softdep, builtin) = (DEP, ALIAS, SOFTDEP, BUILTIN);
    Modules { release: "6.1.0-test", dep, alias, softdep, builtin, read }
}

fn data_disk(fs: &str) -> DataDisk {
    DataDisk { mount: "/srv".to_owned(), serial: "app-data".to_owned(), fs: fs.to_owned() }
}

fn parts<'a>(root: &'a str, data: &'a [DataDisk]) -> Parts<'a> {
    let programs = BTreeMap::from([("bin/busybox".to_owned(), b"\x7fELF".to_vec())]);
    Parts { programs, root, checked: root == "erofs", data }
}

#[test]
fn tools_what_the_root_needs_goes_in_and_nothing_else() {
    if !tier::tool("busybox") {
        return;
    }
    let data = [data_disk("ext4")];
    let made = make(&modules(&packed), &parts("erofs", &data)).expect("an archive");
    assert_eq!(made, make(&modules(&packed), &parts("erofs", &data)).expect("an archive"));
    let lab = Lab::new();
    let root = lab.path("initrd");
    fs::create_dir(&root).expect("our own directory");
    // Devices need root; their names are listed.
    let busybox = |args: &[&str]| {
        let mut child = Command::new("busybox")
            .arg("cpio")
            .args(args)
            .current_dir(&root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("busybox");
        child.stdin.take().expect("a pipe").write_all(&made).expect("it reads all");
        let out = child.wait_with_output().expect("it ends");
        (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let (fine, listed) = busybox(&["-t"]);
    assert!(fine && listed.contains("dev/console\n"), "{listed}");
    let (_, _) = busybox(&["-i", "-m"]);
    let read = |path: &str| fs::read_to_string(root.join(path)).expect(path);
    let dir = "lib/modules/6.1.0-test";
    for (path, from) in [
        ("kernel/drivers/block/virtio_blk.ko", "kernel/drivers/block/virtio_blk.ko"),
        ("kernel/drivers/virtio/virtio.ko", "kernel/drivers/virtio/virtio.ko"),
        ("kernel/drivers/md/dm-verity.ko", "kernel/drivers/md/dm-verity.ko.gz"),
        ("kernel/drivers/md/dm-mod.ko", "kernel/drivers/md/dm-mod.ko.xz"),
        ("kernel/fs/erofs/erofs.ko", "kernel/fs/erofs/erofs.ko.zst"),
        ("kernel/crypto/crc32c_generic.ko", "kernel/crypto/crc32c_generic.ko"),
    ] {
        assert_eq!(read(&format!("{dir}/{path}")), format!("module {from}"));
    }
    assert!(!root.join(dir).join("kernel/drivers/gpu").exists(), "what no root needs is in it");
    let dep = read(&format!("{dir}/modules.dep"));
    assert!(dep.contains("kernel/drivers/md/dm-verity.ko: kernel/drivers/md/dm-mod.ko\n"), "{dep}");
    let alias = read(&format!("{dir}/modules.alias"));
    assert!(alias.contains("virtio:d00000002v* virtio_blk") && !alias.contains("huge"), "{alias}");
    // Those that are part of the kernel are not loaded.
    assert_eq!(read("modules"), "dm_verity\nerofs\next4\n");
    let fstab = read("fstab");
    assert!(fstab.starts_with("/dev/disk/by-id/bake-app-data /srv ext4 "), "{fstab}");
    assert!(fstab.contains(" defaults,x-systemd.makefs,x-systemd.growfs,"), "{fstab}");
    assert!(fstab.ends_with(" 0 2\n"), "{fstab}");
    let rules = read("udev.rules");
    for property in ["ID_SERIAL", "ID_SERIAL_SHORT", "ID_SCSI_SERIAL"] {
        let rule =
            format!("ENV{{{property}}}==\"app-data\", SYMLINK+=\"disk/by-id/bake-app-data\"\n");
        assert!(rules.contains(&rule), "{rules}");
    }
    assert!(read("init").starts_with("#!/bin/busybox sh\n"));
    let ran = run(Command::new("busybox").args(["sh", "-n"]).arg(root.join("init")));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "the script has a mistake");
}

#[test]
fn a_kernel_that_cannot_read_its_root_is_refused() {
    let missing = |root: &str, data: &[DataDisk]| match make(&modules(&packed), &parts(root, data))
    {
        Err(Error::Missing { module, .. }) => module,
        other => panic!("{:?}", other.map(|bytes| bytes.len())),
    };
    assert_eq!(missing("btrfs", &[]), "btrfs");
    assert_eq!(missing("erofs", &[data_disk("xfs")]), "xfs");
    let gone = |path: &str| Err(io::Error::new(io::ErrorKind::NotFound, path.to_owned()));
    let failed = make(&modules(&gone), &parts("erofs", &[])).expect_err("no modules");
    assert!(failed.to_string().contains("/lib/modules/6.1.0-test/kernel/"), "{failed}");
    // A module that is not what its name says.
    let bad = |path: &str| Ok(if path.ends_with(".xz") { vec![1, 2, 3] } else { packed(path)? });
    let failed = make(&modules(&bad), &parts("erofs", &[])).expect_err("no xz");
    assert!(failed.to_string().contains("dm-mod.ko.xz"), "{failed}");
}
