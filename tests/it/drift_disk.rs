//! `bake drift --disk`: the disk of a machine is read without mounting it; a disk as bake made it is
//! exact, whatever is done to it is named, and one that was made to do harm does none.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bake::disk::hypervisor;
use bake::disk::machine::{self, Boot, Machine};
use bake::disk::table::{self, Architecture, Kind, Partition};
use bake::dissect::{self, Bytes, FileSystem};
use serde_json::Value;
use uuid::Uuid;

use crate::disk_parts::{noise, partitions_of, stub};
use crate::drift_lab::*;
use crate::lab::{Lab, run};
use crate::layer_lab::{Raw, tar};
use crate::tier;

/// A lab whose store has `web:1.0.0`, and its root as an ext4 of some size.
fn exported() -> Lab {
    let lab = Lab::new();
    publish(&lab, "web:1.0.0", &layers("web", "1.0.0"), &Claims::default());
    let made = lab.bake(["export", "web:1.0.0", "-f", "ext4", "-o", "root.ext4"]);
    assert_eq!(made.code, 0, "{}", made.err);
    lab
}

/// A machine of an ext4 that is checked, and that a hypervisor starts.
fn a_machine(root: &File) -> Machine<'_> {
    Machine {
        label: "web_1.0.0".to_owned(),
        architecture: Architecture::Amd64,
        seed: [7; 32],
        time: 1_700_000_000,
        root,
        root_size: root.metadata().expect("our own file").len(),
        root_kind: "ext4",
        checked: true,
        kernel: vec![],
        release: String::new(),
        initrd: vec![],
        os_release: vec![],
        command_line: String::new(),
        size: None,
        boot: None,
    }
}

/// Puts an ext4 on a disk that a hypervisor starts, in a partition of this name.
fn disk(lab: &Lab, root: &str, label: &str, name: &str, checked: bool) -> PathBuf {
    let root = File::open(lab.path(root)).expect("our own file");
    let machine = Machine { label: label.to_owned(), checked, ..a_machine(&root) };
    let path = lab.path(name);
    machine::write(machine, &File::create_new(&path).expect("our own file")).expect("a disk");
    path
}

/// Where the root's partition begins on a disk of one partition.
const START: u64 = table::ALIGN;

#[track_caller]
fn succeeds(program: &str, args: &[&str]) -> String {
    let ran = run(Command::new(program).args(args));
    assert_eq!(ran.code, 0, "{program} {args:?}: {}{}", ran.out, ran.err);
    ran.out + &ran.err
}

/// Has debugfs(8) write to an ext4.
fn write(lab: &Lab, name: &str, commands: &[&str]) {
    lab.write("commands", &(commands.join("\n") + "\n"));
    let path = lab.path(name);
    let text = path.to_str().expect("UTF-8");
    let commands = lab.path("commands");
    let printed = succeeds("debugfs", &["-w", "-f", commands.to_str().expect("UTF-8"), text]);
    for trouble in ["not found", "nknown", "sage", "rror", "nvalid"] {
        assert!(!printed.contains(trouble), "{printed}");
    }
}

#[track_caller]
fn compared(lab: &Lab, args: &[&str]) -> Value {
    let args = ["drift", "--json"].iter().chain(args);
    report(&lab.bake(args.copied()))
}

#[test]
fn a_disk_as_it_was_made_is_exact_and_says_what_it_is() {
    let lab = exported();
    disk(&lab, "root.ext4", "web_1.0.0", "web.raw", false);
    for file in ["web.raw", "root.ext4"] {
        let plain = lab.bake(["drift", "--disk", file]);
        assert_eq!(plain.code, 0, "{}\n{}", plain.out, plain.err);
        assert!(plain.out.starts_with("exact  web:1.0.0  sha256:"), "{}", plain.out);
        assert!(plain.err.contains("23 names compared"), "{}", plain.err);
        let strict = compared(&lab, &["--disk", file, "--strict"]);
        assert_eq!(changes(&strict), ["added /lost+found"]);
        let json = compared(&lab, &["--disk", file, "--host", "alpha"]);
        assert_eq!((&json["verdict"], &json["host"]), (&"exact".into(), &"alpha".into()));
        assert_eq!((&json["place"], &json["claims"]), (&"disk".into(), &"web:1.0.0".into()));
        assert_eq!(
            (&json["disk"]["format"], &json["disk"]["file_system"]),
            (&"raw".into(), &"ext4".into())
        );
    }
    assert_eq!(compared(&lab, &["--disk", "web.raw"])["disk"]["partition"], "web_1.0.0");
    // With nothing but the manifest, and where nobody knows the image.
    let wrote = lab.bake(["export", "web:1.0.0", "--format", "manifest", "--output", "web.mtree"]);
    assert_eq!(wrote.code, 0, "{}", wrote.err);
    fs::rename(lab.path("store"), lab.path("away")).expect("rename");
    assert_eq!(compared(&lab, &["web.mtree", "--disk", "web.raw"])["verdict"], "exact");
    let none = lab.bake(["drift", "--disk", "web.raw"]);
    assert_eq!(none.code, 3, "{}", none.err);
    assert!(none.out.starts_with("unknown image  web:1.0.0"), "{}", none.out);
}

/// Has debugfs do something to the root of a fresh disk, and returns what drift makes of it.
#[track_caller]
fn after(commands: &[&str]) -> Vec<String> {
    let lab = exported();
    lab.write("new", "welcomf\n");
    let new = lab.path("new");
    let new = new.to_str().expect("UTF-8");
    let commands: Vec<String> = commands.iter().map(|one| one.replace("NEW", new)).collect();
    write(&lab, "root.ext4", &commands.iter().map(String::as_str).collect::<Vec<_>>());
    disk(&lab, "root.ext4", "web_1.0.0", "web.raw", false);
    let report = compared(&lab, &["--disk", "web.raw"]);
    let drifted = !report["changes"].as_array().expect("a list").is_empty();
    assert_eq!(report["verdict"], if drifted { "drifted" } else { "exact" });
    changes(&report)
}

#[test]
fn tools_what_was_written_to_a_disk_is_named_and_nothing_else() {
    if !tier::tool("debugfs") {
        return;
    }
    let check = |commands: &[&str], expected: &[&str]| assert_eq!(after(commands), expected);
    check(&["rm etc/motd", "write NEW etc/motd"], &["changed /etc/motd content"]);
    check(&["write NEW opt/new"], &["added /opt/new"]);
    check(&["rm etc/motd"], &["removed /etc/motd"]);
    check(&["sif bin/su mode 0100755"], &["changed /bin/su mode"]);
    check(&["sif srv/own uid 0"], &["changed /srv/own owner"]);
    check(&["sif srv/own uid 65569"], &["changed /srv/own owner"]);
    check(&["ea_rm bin/ping security.capability"], &["changed /bin/ping capability"]);
    check(&["ea_set opt/noted user.note m"], &["changed /opt/noted xattr"]);
    check(&["ea_set etc/motd security.selinux x"], &[]);
    check(&["rm bin/sh", "symlink bin/sh bash"], &["changed /bin/sh target"]);
    check(
        &["unlink usr/share/two", "write NEW usr/share/two"],
        &["changed /usr/share/two content,hard-link"],
    );
    check(&["ln etc/motd etc/again"], &["added /etc/again"]);
    check(&["rm opt/pipe", "cd opt", "mknod pipe c 1 3"], &["changed /opt/pipe kind"]);
    check(
        &["mkdir srv/more", "mkdir srv/more/deep", "write NEW srv/more/deep/x"],
        &["added /srv/more"],
    );
    check(&["write NEW var/log", "mkdir tmp/x", "write NEW lost+found/x"], &["added /var/log"]);
}

/// Changes one byte of a file.
fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).expect("our own file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], at).expect("our own file");
}

/// Where these bytes are in a file, from a place on.
fn find(path: &Path, bytes: &[u8], from: u64) -> u64 {
    let all = fs::read(path).expect("our own file");
    let from = usize::try_from(from).expect("an offset");
    let found = all[from..].windows(bytes.len()).position(|some| some == bytes);
    (from + found.expect("they are there")) as u64
}

#[test]
fn tools_a_machine_that_was_killed_is_read_as_its_kernel_would() {
    if !tier::tool("debugfs") {
        return;
    }
    let lab = exported();
    let ext4 = lab.path("root.ext4");
    let text = ext4.to_str().expect("UTF-8");
    let block = run(Command::new("debugfs").args(["-R", "blocks /etc/motd", text])).out;
    let block = block.trim();
    let mut new = b"welcomf\n".to_vec();
    new.resize(4096, 0);
    fs::write(lab.path("new"), new).expect("our own file");
    let new = lab.path("new");
    let into = format!("jw -b {block} {}", new.to_str().expect("UTF-8"));
    write(&lab, "root.ext4", &["jo -c -v 3", &into, "jc"]);
    let json = compared(&lab, &["--disk", "root.ext4"]);
    assert_eq!(changes(&json), ["changed /etc/motd content"]);
    let remark = json["disk"]["remarks"][0].as_str().expect("a remark");
    assert!(remark.starts_with("it was not unmounted: 1 blocks"), "{remark}");
    // The file itself was only read.
    let found = succeeds("debugfs", &["-R", "cat /etc/motd", text]);
    assert!(found.contains("welcome"), "{found}");
}

#[test]
fn tools_formats_of_hypervisors_are_read_or_refused_by_name() {
    if !tier::tool("qemu-img") {
        return;
    }
    let lab = exported();
    let raw = disk(&lab, "root.ext4", "web_1.0.0", "web.raw", false);
    let raw = raw.to_str().expect("UTF-8");
    let made = |name: &str, options: &[&str]| {
        let path = lab.path(name);
        let path = path.to_str().expect("UTF-8");
        let args = [&["convert", "-q", "-f", "raw"], options, &[raw, path]].concat();
        succeeds("qemu-img", &args);
    };
    made("plain.qcow2", &["-O", "qcow2"]);
    made("packed.qcow2", &["-c", "-O", "qcow2"]);
    made("zstd.qcow2", &["-c", "-O", "qcow2", "-o", "compression_type=zstd"]);
    made("small.qcow2", &["-O", "qcow2", "-o", "cluster_size=512"]);
    made("old.qcow2", &["-O", "qcow2", "-o", "compat=0.10"]);
    for name in ["plain.qcow2", "packed.qcow2", "zstd.qcow2", "small.qcow2", "old.qcow2"] {
        let json = compared(&lab, &["--disk", name]);
        assert_eq!(
            (&json["verdict"], &json["disk"]["format"]),
            (&"exact".into(), &"qcow2".into()),
            "{name}"
        );
    }
    let bytes = fs::read(raw).expect("our own file");
    let footer = hypervisor::vhd_footer(bytes.len() as u64, &[7; 32], 1_700_000_000);
    fs::write(lab.path("web.vhd"), [&bytes[..], &footer].concat()).expect("our own file");
    assert_eq!(compared(&lab, &["--disk", "web.vhd"])["disk"]["format"], "vhd");

    made("web.vmdk", &["-O", "vmdk"]);
    made("web.vhdx", &["-O", "vhdx"]);
    made("grows.vhd", &["-O", "vpc"]);
    made("subs.qcow2", &["-O", "qcow2", "-o", "extended_l2=on"]);
    let above = lab.path("above.qcow2");
    let above = above.to_str().expect("UTF-8");
    succeeds("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", raw, above]);
    fs::write(lab.path("web.gz"), b"\x1f\x8b rest").expect("our own file");
    for (name, why, hint) in [
        ("web.vmdk", "VMDK", "qemu-img convert -f vmdk"),
        ("web.vhdx", "VHDX", "qemu-img convert -f vhdx"),
        ("grows.vhd", "VHD that grows", "qemu-img convert -f vpc"),
        ("subs.qcow2", "extended L2", ""),
        ("above.qcow2", "stands on another file", "qemu-img convert -O qcow2"),
        ("web.gz", "gzip", ""),
    ] {
        let ran = lab.bake(["drift", "--disk", name]);
        assert_eq!(ran.code, 1, "{name}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains(why) && ran.err.contains(hint), "{name}: {}", ran.err);
    }
}

#[test]
fn a_damaged_partition_table_is_read_from_its_copy_or_refused() {
    let lab = exported();
    let path = disk(&lab, "root.ext4", "web_1.0.0", "web.raw", false);
    flip(&path, 512 + 16);
    let json = compared(&lab, &["--disk", "web.raw"]);
    assert_eq!(json["verdict"], "exact");
    let remark = json["disk"]["remarks"][0].as_str().expect("a remark");
    assert!(remark.contains("the checksum of its header is wrong"), "{remark}");
    let size = fs::metadata(&path).expect("our own file").len();
    flip(&path, size - 512 + 16);
    let refused = |why: &str| {
        let ran = lab.bake(["drift", "--disk", "web.raw"]);
        assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
        assert!(ran.err.contains(why), "{}", ran.err);
    };
    refused("the partition table is damaged");
    // Whole again, and cut short in the middle of the root.
    flip(&path, 512 + 16);
    let file = File::options().write(true).open(&path).expect("our own file");
    file.set_len(START + (1 << 20)).expect("our own file");
    refused("reaches beyond the end");
    file.set_len(700).expect("our own file");
    refused("cut short");
    file.set_len(0).expect("our own file");
    refused("");
    for other in ["", "gone"] {
        let ran = lab.bake(["drift", "--disk", lab.path(other).to_str().expect("UTF-8")]);
        assert_eq!(ran.code, 1, "{}", ran.err);
    }
}

#[test]
fn of_several_roots_the_one_of_the_image_is_compared() {
    let lab = exported();
    publish(&lab, "web:1.10.0", &layers("web", "1.10.0"), &Claims::default());
    let made = lab.bake(["export", "web:1.10.0", "-f", "ext4", "-o", "next.ext4"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let roots = [("web_1.0.0", "root.ext4"), ("web_1.10.0", "next.ext4"), ("_empty", "")];
    let bytes = |file: &str| match file {
        "" => vec![0; 1 << 20],
        file => fs::read(lab.path(file)).expect("our own file"),
    };
    let partitions: Vec<Partition> = (1..)
        .zip(roots)
        .map(|(n, (name, file))| Partition {
            name: name.to_owned(),
            kind: Kind::Root(Architecture::Amd64),
            id: Uuid::from_bytes([n; 16]),
            size: bytes(file).len() as u64,
            read_only: false,
        })
        .collect();
    let out = File::create_new(lab.path("web.raw")).expect("our own file");
    let size = table::least(&partitions);
    let starts = table::write(&out, Uuid::from_bytes([9; 16]), &partitions, size).expect("a table");
    for (start, (_, file)) in starts.into_iter().zip(roots) {
        out.write_all_at(&bytes(file), start).expect("our own file");
    }
    let newest = compared(&lab, &["--disk", "web.raw"]);
    assert_eq!((&newest["verdict"], &newest["version"]), (&"exact".into(), &"1.10.0".into()));
    assert_eq!(newest["disk"]["others"], serde_json::json!(["web_1.0.0"]));
    let named = compared(&lab, &["web:1.0.0", "--disk", "web.raw"]);
    assert_eq!((&named["verdict"], &named["disk"]["number"]), (&"exact".into(), &1.into()));
    publish(&lab, "db:3", &layers("db", "3"), &Claims::default());
    let other = lab.bake(["drift", "db:3", "--disk", "web.raw"]);
    assert_eq!(other.code, 1, "{}", other.err);
    assert!(other.err.contains("of its roots web_1.0.0, web_1.10.0 none is db_3"), "{}", other.err);
}

#[test]
fn a_flipped_byte_of_a_checked_root_is_named_by_block_and_file() {
    let lab = exported();
    let path = disk(&lab, "root.ext4", "web_1.0.0", "web.raw", true);
    let json = compared(&lab, &["--disk", "web.raw"]);
    assert_eq!((&json["verdict"], &json["disk"]["checked"]), (&"exact".into(), &true.into()));
    let at = find(&path, b"the same file", START);
    flip(&path, at);
    let ran = lab.bake(["drift", "--disk", "web.raw"]);
    assert_eq!(ran.code, 3, "{}{}", ran.out, ran.err);
    let block = (at - START) / 4096;
    let line =
        format!("changed  web_1.0.0  /usr/share/one: block {block} is not what its hash says");
    assert!(ran.out.contains(&line), "{}", ran.out);
    assert!(ran.out.contains("changed  /usr/share/one  content"), "{}", ran.out);
    flip(&path, at);
    // Room that no file has: no name has changed, and it is drift all the same.
    let size = fs::metadata(lab.path("root.ext4")).expect("our own file").len();
    flip(&path, START + size - 100);
    let json = compared(&lab, &["--disk", "web.raw"]);
    assert_eq!((&json["verdict"], &json["counts"]["parts"]), (&"drifted".into(), &1.into()));
    assert_eq!(changes(&json), Vec::<String>::new());
    flip(&path, START + size - 100);
    // A hash of the lowest level, which is behind the superblock and the levels above.
    let tree = find(&path, b"verity\0\0", START + size);
    flip(&path, tree + 4096 + 5);
    assert_eq!(compared(&lab, &["--disk", "web.raw"])["verdict"], "drifted");
}

/// A lab with an image that has a kernel, and the parts of its disk.
fn with_kernel() -> (Lab, Vec<u8>) {
    let (lab, kernel) = (Lab::new(), noise(200_000));
    let mut all = layers("web", "1.0.0");
    all.push(tar(&[
        Raw::dir("boot"),
        Raw::file("boot/vmlinuz-6.1.0-test", &kernel),
        Raw::file("etc/os-release", b"ID=debian\n"),
        Raw::dir("usr/lib/modules"),
        Raw::dir("usr/lib/modules/6.1.0-test"),
    ]));
    publish(&lab, "web:1.0.0", &all, &Claims::default());
    let made = lab.bake(["export", "web:1.0.0", "-f", "ext4", "-o", "root.ext4"]);
    assert_eq!(made.code, 0, "{}", made.err);
    (lab, kernel)
}

/// What drift says of a disk that something was done to before it was made.
fn started(change: impl FnOnce(&mut Machine<'_>)) -> Vec<String> {
    then_started(change, |_| {})
}

/// As above, of a disk that something was done to afterwards as well.
fn then_started(change: impl FnOnce(&mut Machine<'_>), then: impl FnOnce(&Path)) -> Vec<String> {
    let (lab, kernel) = with_kernel();
    let root = File::open(lab.path("root.ext4")).expect("our own file");
    let mut machine = Machine {
        kernel,
        release: "6.1.0-test".to_owned(),
        initrd: noise(1000),
        os_release: b"ID=debian\n".to_vec(),
        command_line: "console=ttyS0".to_owned(),
        boot: Some(Boot { stub: stub(10), esp: None, next: None }),
        ..a_machine(&root)
    };
    change(&mut machine);
    let disk = File::create_new(lab.path("web.raw")).expect("our own file");
    machine::write(machine, &disk).expect("a disk");
    then(&lab.path("web.raw"));
    let json = compared(&lab, &["--disk", "web.raw"]);
    let boot = &json["disk"]["boot"];
    if !boot.is_null() {
        assert!(boot["initrd"].as_str().is_some_and(|one| one.starts_with("sha256:")), "{boot}");
    }
    let changes = json["disk"]["changes"].as_array().expect("a list");
    assert_eq!(json["verdict"] == "exact", changes.is_empty());
    changes.iter().map(|one| one["what"].as_str().expect("what").to_owned()).collect()
}

#[test]
fn what_starts_a_machine_is_compared_with_the_image() {
    let none = Vec::<String>::new();
    assert_eq!(started(|_| {}), none);
    // What a recipe adds is nothing that the image knows.
    assert_eq!(started(|machine| machine.command_line = "init=/bin/sh".to_owned()), none);
    assert_eq!(started(|machine| machine.kernel[7] ^= 1), ["kernel"]);
    assert_eq!(started(|machine| machine.release = "6.1.1".to_owned()), ["release of the kernel"]);
    assert_eq!(started(|machine| machine.os_release.clear()), ["os-release"]);
    assert_eq!(started(|machine| machine.root_kind = "xfs"), ["file system of the root"]);
    let line = |line: &str| {
        let line = line.to_owned();
        started(|machine| machine.command_line = line)
    };
    assert_eq!(line("bake.verity=1:00:00"), ["hash of the root"]);
    let other = line("bake.root=other");
    assert_eq!(other.len(), 2, "{other:?}");
    assert!(other[0].contains("neither a boot loader"), "{other:?}");
    assert!(other[1].contains("nothing in the boot partition starts this version"), "{other:?}");
}

#[test]
fn tools_what_firmware_and_a_boot_loader_write_is_left_out_and_nothing_else() {
    if !["sfdisk", "mcopy", "mmd"].into_iter().all(tier::tool) {
        return;
    }
    let written = |names: &[&str]| {
        then_started(
            |_| {},
            |disk| {
                let start = partitions_of(disk)[0]["start"].as_u64().expect("a sector");
                let volume = format!("{}@@{}", disk.display(), start * 512);
                for name in names {
                    if let Some((dir, _)) = name.rsplit_once('/') {
                        // It may be there already.
                        run(Command::new("mmd").args(["-i", &volume, &format!("::{dir}")]));
                    }
                    let file = disk.with_extension("new");
                    fs::write(&file, "new").expect("our own file");
                    let file = file.to_str().expect("UTF-8");
                    succeeds("mcopy", &["-i", &volume, file, &format!("::{name}")]);
                }
            },
        )
    };
    let none = Vec::<String>::new();
    assert_eq!(written(&["NvVars", "loader/random-seed", "loader/entries.srel"]), none);
    assert_eq!(written(&["NvVars2"]), ["is not bake's"]);
}

/// A disk in memory.
struct Memory(Vec<u8>);

impl Bytes for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<(), dissect::Error> {
        let at = usize::try_from(at).expect("in memory");
        buffer.copy_from_slice(&self.0[at..at + buffer.len()]);
        Ok(())
    }
}

/// Reads all that there is of a file system, as far as it can be read; returns how many names.
fn read_all(bytes: Vec<u8>) -> Result<usize, dissect::Error> {
    let disk: Arc<dyn Bytes> = Arc::new(Memory(bytes));
    let system: Box<dyn FileSystem> = dissect::file_system(&dissect::whole(&disk)?)?;
    let (mut left, mut met) = (vec![system.top()], 0);
    while let Some(number) = left.pop() {
        met += 1;
        // A loop of directories is the caller's to find.
        if met > 5_000 {
            break;
        }
        let Ok(inode) = system.inode(number) else { continue };
        let _ = (system.attributes(number), system.places(number), system.target(number));
        match inode.kind {
            dissect::Kind::Dir => {
                left.extend(system.list(number).unwrap_or_default().into_iter().map(|one| one.1));
            }
            dissect::Kind::File if inode.size < 8 << 20 => {
                let _ = system.read(number, &mut |_| {});
            }
            _ => {}
        }
    }
    Ok(met)
}

/// Damages a file system in many ways: it is read in part or refused, and nothing worse.
fn damaged(bytes: &[u8], times: usize) {
    let blocks: Vec<usize> = (0..bytes.len())
        .step_by(512)
        .filter(|at| bytes[*at..].iter().take(512).any(|b| *b != 0))
        .collect();
    let mut state = 0x2545_f491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as usize
    };
    for _ in 0..times {
        let mut bad = bytes.to_vec();
        for _ in 0..1 + next() % 12 {
            let at = (blocks[next() % blocks.len()] + next() % 512).min(bad.len() - 1);
            bad[at] = [0, 0xff, bad[at] ^ 1 << (next() % 8), next() as u8][next() % 4];
        }
        let _ = read_all(bad);
    }
}

#[test]
fn a_file_system_that_was_damaged_does_no_harm() {
    let lab = exported();
    let bytes = fs::read(lab.path("root.ext4")).expect("our own file");
    let whole = read_all(bytes.clone()).expect("a file system");
    assert!(whole >= 24, "{whole}");
    damaged(&bytes, 300);
    for end in [0, 1024, 2000, 4096, 8192, bytes.len() / 2] {
        assert!(read_all(bytes[..end].to_vec()).is_err(), "{end}");
    }
}

#[test]
fn tools_directories_in_a_circle_come_to_an_end() {
    if !tier::tool("debugfs") {
        return;
    }
    let lab = exported();
    write(&lab, "root.ext4", &["ln usr usr/share/circle", "ln opt srv/again"]);
    let json = compared(&lab, &["--disk", "root.ext4", "--all"]);
    let found = changes(&json);
    assert!(found.contains(&"added /usr/share/circle".to_owned()), "{found:?}");
    let why = json["unreadable"][0]["why"].as_str().expect("a reason");
    assert!(why.contains("somewhere else as well"), "{why}");
    // A name that no kernel would make.
    write(&lab, "root.ext4", &["mknod opt/null c 1 3"]);
    let ran = lab.bake(["drift", "--disk", "root.ext4"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.err.contains("it has a name that cannot be"), "{}", ran.err);
}

#[test]
fn net_an_erofs_is_read_however_it_is_packed() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    let text: Vec<u8> =
        (0..400_000_u32).flat_map(|n| format!("line {}\n", n / 3).into_bytes()).collect();
    fs::write(lab.path("text"), &text).expect("our own file");
    fs::write(lab.path("noise"), noise(300_001)).expect("our own file");
    fs::create_dir(lab.path("out")).expect("our own directory");
    let mut recipe = String::from(
        "[image]\nname = \"web\"\nversion = \"1\"\n[base]\nscratch = true\n\
        [[step]]\ncopy = [\"text\", \"noise\"]\nto = \"/srv/\"\n\
        [[step]]\nmkdir = [\"/empty\"]\n",
    );
    let ways = ["none", "lz4", "lz4hc", "zstd"];
    for way in ways {
        recipe += &format!(
            "[[output]]\nformat = \"erofs\"\npath = \"out/{way}\"\ncompression = \"{way}\"\n"
        );
    }
    lab.write("web.toml", &recipe);
    let built = lab.bake(["build", "web.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
    for way in ways {
        let file = format!("out/{way}");
        let json = compared(&lab, &["--disk", &file, "--strict"]);
        assert_eq!(
            (&json["verdict"], &json["disk"]["file_system"]),
            (&"exact".into(), &"erofs".into()),
            "{way}"
        );
        damaged(&fs::read(lab.path(&file)).expect("an output"), 40);
    }
}
