//! The initial RAM disk: which modules of a kernel go in, and that what goes in comes out.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use bake::digest::Digest;
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
    let unit =
        read("units/systemd-makefs@dev-disk-by\\x2did-bake\\x2dapp\\x2ddata.service.d/bake.conf");
    assert!(
        unit.ends_with(
            "\nExecStart=\nExecStart=/run/bake-data/busybox sh \
        /run/bake-data/data.sh %f ext4\n"
        ),
        "{unit}"
    );
    for script in ["init", "data.sh"] {
        assert!(read(script).starts_with("#!/bin/busybox sh\n"));
        let ran = run(Command::new("busybox").args(["sh", "-n"]).arg(root.join(script)));
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{script} has a mistake");
    }
    made_where_it_is_blank(&lab, &read("data.sh"));
}

/// Runs the script that makes the file systems of data disks on files, with a program in place of
/// systemd-makefs.
fn made_where_it_is_blank(lab: &Lab, script: &str) {
    let makefs = lab.write("makefs", "#!/bin/sh\necho made $1 >\"$2.made\"\n");
    fs::set_permissions(&makefs, fs::Permissions::from_mode(0o755)).expect("our own file");
    let makefs = makefs.to_str().expect("UTF-8");
    let script = script.replace("/usr/lib/systemd/systemd-makefs", makefs);
    let script = lab.write("data/data.sh", &script.replace("/dev/kmsg", "/dev/null"));
    let busybox = run(Command::new("sh").args(["-c", "command -v busybox"]));
    symlink(busybox.out.trim(), lab.path("data/busybox")).expect("a link");
    // Bytes of the disk, and what is on it from where on.
    let (mib, ext) = (1 << 20, 1080);
    for (n, (size, at, what, code, made)) in [
        (64 * mib, 0, &b""[..], 0, true),
        (mib / 2, 0, b"", 0, true),
        (64 * mib, ext, b"\x53\xef", 0, false),
        (64 * mib, 0, b"rows of a program of its own", 1, false),
        (64 * mib, 54, b"FAT16   ", 1, false),
        (64 * mib, 4 * mib - 1, b"x", 1, false),
        // A table of partitions keeps its copy there.
        (64 * mib, 64 * mib - 512, b"EFI PART", 1, false),
        (64 * mib + 7000, 64 * mib + 6999, b"x", 1, false),
    ]
    .into_iter()
    .enumerate()
    {
        let disk = lab.path(&format!("bake-app-{n}"));
        let file = fs::File::create_new(&disk).expect("our own file");
        file.set_len(size).expect("our own file");
        file.write_all_at(what, at).expect("our own file");
        let bytes = |path: &Path| Digest::of(fs::read(path).expect("our own file"));
        let before = bytes(&disk);
        let ran = run(Command::new("busybox").arg("sh").arg(&script).arg(&disk).arg("ext4"));
        assert_eq!(ran.code, code, "{n}: {}", ran.err);
        assert_eq!(bytes(&disk), before, "{n}: it was written to");
        assert_eq!(lab.path(&format!("bake-app-{n}.made")).exists(), made, "{n}");
        let message =
            format!("cannot use the data disk app-{n}: it is not blank, and there is no ext4");
        assert_eq!(ran.err.starts_with(&message), code != 0, "{n}: {}", ran.err);
    }
    let gone = run(Command::new("busybox").arg("sh").arg(&script).args(["bake-gone", "ext4"]));
    assert_eq!(gone.code, 1, "{}", gone.err);
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
