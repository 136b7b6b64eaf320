//! The parts of bootable disks, as other programs read them: partition tables, boot partitions,
//! hash trees, unified kernel images.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use bake::disk::machine::{self, Boot, Machine};
use bake::disk::table::{Architecture, Kind, Partition};
use bake::disk::{Content, Error, Sparse, fat, hypervisor, table, uki, verity};
use uuid::Uuid;

use crate::lab::{Lab, run};
use crate::tier;

/// Bytes that look like nothing and are the same each time.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn id(n: u8) -> Uuid {
    uuid::Builder::from_custom_bytes([n; 16]).into_uuid()
}

#[track_caller]
pub(crate) fn succeeds(program: &str, args: &[&str]) -> String {
    let ran = run(Command::new(program).args(args));
    assert_eq!(ran.code, 0, "{program} {args:?}: {}{}", ran.out, ran.err);
    ran.out + &ran.err
}

fn volume(files: &[(&str, Vec<u8>)]) -> fat::Volume {
    let files: BTreeMap<_, _> = files
        .iter()
        .map(|(path, bytes)| ((*path).to_owned(), Content::Bytes(bytes.clone())))
        .collect();
    fat::Volume { label: "WEB 2.0.0".replace('.', "-"), serial: 0xba4e, time: 1_700_000_000, files }
}

/// Writes a boot partition into a file.
fn boot_partition(lab: &Lab, name: &str, volume: &fat::Volume, size: u64) -> PathBuf {
    let path = lab.path(name);
    let file = File::create_new(&path).expect("our own file");
    file.set_len(size).expect("our own file");
    fat::write(volume, size, &mut Sparse::new(&file, 0)).expect("a boot partition");
    path
}

#[test]
fn tools_a_boot_partition_is_read_as_it_was_written() {
    if !["fsck.fat", "mcopy", "mdir"].into_iter().all(tier::tool) {
        return;
    }
    let lab = Lab::new();
    // Sizes around a cluster, names of every form, a directory of more entries than a cluster has.
    let mut files = vec![
        ("EFI/BOOT/BOOTX64.EFI".to_owned(), noise(3_000_001)),
        ("EFI/Linux/web_2.0.0+3-0.efi".to_owned(), noise(512)),
        ("EFI/Linux/web_2.0.0-rc.1.efi".to_owned(), noise(513)),
        ("loader/loader.conf".to_owned(), b"timeout 3\n".to_vec()),
        ("loader/empty".to_owned(), vec![]),
        ("loader/größe und ☕.txt".to_owned(), noise(1)),
        ("NAME.".trim_end_matches('.').to_owned(), noise(511)),
    ];
    files.extend((0..60).map(|n| (format!("many/a rather long name {n:02}.txt"), noise(n * 40))));
    let borrowed: Vec<(&str, Vec<u8>)> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let volume = volume(&borrowed);
    // The least there is, and sizes at which clusters become larger.
    let least = fat::least(&volume, 1 << 20);
    for (n, size) in [least, 300 << 20, 9 << 30].into_iter().enumerate() {
        let path = boot_partition(&lab, &format!("esp-{n}"), &volume, size);
        let image = path.to_str().expect("a path of ours");
        let printed = succeeds("fsck.fat", &["-n", "-v", image]);
        assert!(!printed.contains("differ") && !printed.contains("rong"), "{printed}");
        let copy = lab.path(&format!("copy-{n}"));
        fs::create_dir(&copy).expect("our own directory");
        succeeds(
            "mcopy",
            &["-s", "-m", "-i", image, "::*", copy.to_str().expect("a path of ours")],
        );
        for (name, bytes) in &files {
            let found = fs::read(copy.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(found == *bytes, "{name} has other bytes");
        }
        let time = fs::metadata(copy.join("loader/loader.conf")).expect("a file").mtime();
        // In the time zone of who reads it.
        assert!((time - 1_700_000_000).abs() <= 14 * 3600, "{time}");
        assert!(succeeds("mdir", &["-i", image, "::"]).contains("WEB 2-0-0"));
        // Only what is written takes room.
        let metadata = fs::metadata(&path).expect("our own file");
        assert!(metadata.blocks() * 512 < 80 << 20, "{}", metadata.blocks());
    }
}

#[test]
fn a_boot_partition_that_cannot_be_is_refused() {
    let file = |name: &str| volume(&[(name, vec![1])]);
    let write = |volume: &fat::Volume, size| fat::write(volume, size, &mut std::io::sink());
    let size = fat::least(&file("A"), 1 << 20);
    assert!(size < 35 << 20, "{size}");
    write(&file("A"), size).expect("it fits");
    assert!(matches!(write(&file("A"), 30 << 20), Err(Error::TooSmall { .. })));
    assert!(matches!(write(&file("A"), 0), Err(Error::TooSmall { .. })));
    for bad in ["a:b", "", "a/", "ends.", "tab\there", &"x".repeat(256)] {
        assert!(matches!(write(&file(bad), size), Err(Error::Name { .. })), "{bad:?}");
    }
    let twice = volume(&[("EFI", vec![1]), ("EFI/BOOT", vec![1])]);
    assert!(matches!(write(&twice, size), Err(Error::Name { .. })));
    let mut label = file("A");
    label.label = "much too long".to_owned();
    assert!(matches!(write(&label, size), Err(Error::Name { .. })));
    let large = tempfile::tempfile().expect("a file");
    large.set_len(60 << 20).expect("our own file");
    let mut full = file("A");
    full.files.insert("B".to_owned(), Content::File(large, 60 << 20));
    let Err(Error::TooSmall { needed, .. }) = write(&full, size) else { panic!("it fits") };
    write(&full, needed).expect("what it says is enough is enough");
}

#[test]
fn tools_a_hash_tree_is_the_one_that_veritysetup_makes() {
    if !tier::tool("veritysetup") {
        return;
    }
    let lab = Lab::new();
    let salt: [u8; 32] = std::array::from_fn(|n| n as u8);
    let hex = |bytes: &[u8]| bytes.iter().map(|n| format!("{n:02x}")).collect::<String>();
    // One block has no tree; 128 are one level, 129 two, 16,385 three.
    for blocks in [1, 2, 128, 129, 5_000, 16_385] {
        let (data, tree) =
            (lab.path(&format!("data-{blocks}")), lab.path(&format!("tree-{blocks}")));
        fs::write(&data, noise(blocks * 4096)).expect("our own file");
        let size = blocks as u64 * 4096;
        let file = File::create_new(&tree).expect("our own file");
        let root = verity::write(
            &File::open(&data).expect("our own file"),
            size,
            id(7),
            &salt,
            &mut Sparse::new(&file, 0),
        )
        .expect("a hash tree");
        file.set_len(verity::size(size)).expect("our own file");
        let theirs = lab.path(&format!("theirs-{blocks}"));
        let [data, tree, theirs] =
            [&data, &tree, &theirs].map(|path| path.to_str().expect("UTF-8"));
        let printed = succeeds(
            "veritysetup",
            &[
                "format",
                &format!("--salt={}", hex(&salt)),
                &format!("--uuid={}", id(7)),
                data,
                theirs,
            ],
        );
        assert!(
            printed.contains(&hex(&root)),
            "{blocks} blocks: {} is not in {printed}",
            hex(&root)
        );
        assert!(
            fs::read(tree).expect("ours") == fs::read(theirs).expect("theirs"),
            "{blocks} blocks: other bytes"
        );
        succeeds("veritysetup", &["verify", data, tree, &hex(&root)]);
    }
    let (file, mut sink) = (tempfile::tempfile().expect("a file"), std::io::sink());
    for size in [0, 1, 4097] {
        verity::write(&file, size, id(7), &salt, &mut sink).expect_err("no whole blocks");
    }
}

fn partitions() -> Vec<Partition> {
    let one = |name: &str, kind, n, size, read_only| {
        let name = name.to_owned();
        Partition { name, kind, id: id(n), size, read_only }
    };
    vec![
        one("esp", Kind::Esp, 1, 40 << 20, false),
        one("web_2.0.0", Kind::Root(Architecture::Amd64), 2, (3 << 20) + 1, true),
        one("web_2.0.0_verity", Kind::RootVerity(Architecture::Amd64), 3, 4096, true),
        one("größer ☕", Kind::Linux, 4, 1, false),
    ]
}

#[test]
fn tools_a_partition_table_is_valid_and_says_what_was_asked() {
    if !["sgdisk", "sfdisk"].into_iter().all(tier::tool) {
        return;
    }
    let lab = Lab::new();
    let partitions = partitions();
    let least = table::least(&partitions);
    for size in [least, 5 << 30, 3 << 40] {
        let path = lab.path(&format!("disk-{size}"));
        let file = File::create_new(&path).expect("our own file");
        let starts = table::write(&file, id(9), &partitions, size).expect("a table");
        assert_eq!(starts.iter().map(|at| at >> 20).collect::<Vec<_>>(), [1, 41, 45, 46]);
        file.write_all_at(b"root", starts[1]).expect("our own file");
        let path = path.to_str().expect("UTF-8");
        let printed = succeeds("sgdisk", &["-v", path]);
        assert!(printed.contains("No problems found"), "{printed}");
        let printed = succeeds("sfdisk", &["--json", path]);
        let printed: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
        let table = &printed["partitiontable"];
        assert_eq!(table["id"].as_str().map(str::to_lowercase), Some(id(9).to_string()));
        let found = table["partitions"].as_array().expect("a list");
        assert_eq!(found.len(), 4);
        for (found, made) in found.iter().zip(&partitions) {
            assert_eq!(found["name"], *made.name);
            assert_eq!(found["uuid"].as_str().map(str::to_lowercase), Some(made.id.to_string()));
            assert_eq!(found["attrs"].as_str(), made.read_only.then_some("GUID:60"));
        }
    }
}

#[test]
fn a_partition_table_that_cannot_be_is_refused() {
    let write = |partitions: &[Partition], size| {
        table::write(&tempfile::tempfile().expect("a file"), id(9), partitions, size)
    };
    let partitions = partitions();
    let least = table::least(&partitions);
    assert!(matches!(write(&partitions, least - (1 << 20)), Err(Error::TooSmall { .. })));
    assert!(matches!(write(&partitions, least + 512), Err(Error::TooSmall { .. })));
    let mut long = partitions;
    long[1].name = "x".repeat(37);
    assert!(matches!(write(&long, least), Err(Error::Name { .. })));
}

/// A PE32+ program with one section, as small as one can be.
pub(crate) fn stub(room: usize) -> Vec<u8> {
    let mut out = vec![0; 0x40];
    out[..2].copy_from_slice(b"MZ");
    out[0x3c] = 0x40;
    out.extend(b"PE\0\0");
    out.extend([0x64, 0x86, 1, 0]); // x86-64, one section
    out.extend([0; 12]);
    out.extend([112, 0, 0, 0]); // the size of the optional header
    let optional = out.len();
    out.resize(optional + 112, 0);
    out[optional..optional + 2].copy_from_slice(&0x20b_u16.to_le_bytes());
    let headers = (out.len() + 40 * (1 + room)).next_multiple_of(512);
    for (at, value) in [(32, 4096), (36, 512), (56, 8192), (60, headers as u32)] {
        out[optional + at..optional + at + 4].copy_from_slice(&u32::to_le_bytes(value));
    }
    out.extend(b".text\0\0\0");
    for value in [100, 4096, 512, headers as u32, 0, 0, 0, 0x6000_0020] {
        out.extend(value.to_le_bytes());
    }
    out.resize(headers, 0);
    out.extend([0xc3; 512]);
    out
}

fn sections(kernel: Vec<u8>) -> Vec<uki::Section> {
    let section = |name, bytes| uki::Section { name, content: Content::Bytes(bytes) };
    vec![
        section(".osrel", b"ID=debian\n".to_vec()),
        section(".cmdline", b"console=ttyS0 quiet\0".to_vec()),
        section(".initrd", noise(5000)),
        section(".linux", kernel),
    ]
}

#[test]
fn tools_a_unified_kernel_image_has_the_sections_it_was_given() {
    if !tier::tool("objdump") {
        return;
    }
    let lab = Lab::new();
    let systemd = Path::new("/usr/lib/systemd/boot/efi/linuxx64.efi.stub");
    let mut stubs = vec![stub(10)];
    stubs.extend(fs::read(systemd).ok());
    for (n, stub) in stubs.iter().enumerate() {
        let sections = sections(noise(100_001));
        let mut out = vec![];
        uki::write(stub, &sections, &mut out).expect("a kernel image");
        assert_eq!(out.len() as u64, uki::size(stub, &sections).expect("a size"));
        let path = lab.path(&format!("uki-{n}"));
        fs::write(&path, &out).expect("our own file");
        let path = path.to_str().expect("UTF-8");
        let listed = succeeds("objdump", &["-h", path]);
        let mut ends = vec![];
        for section in &sections {
            let row = listed
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>())
                .find(|row| row.get(1) == Some(&section.name))
                .unwrap_or_else(|| panic!("no {} in {listed}", section.name));
            let number = |n: usize| u64::from_str_radix(row[n], 16).expect("a hexadecimal number");
            let (size, memory, at) = (number(2), number(3), number(5));
            assert!(size >= section.content.len(), "{row:?}");
            ends.push((memory, memory + section.content.len()));
            let Content::Bytes(bytes) = &section.content else { panic!("not in memory") };
            let at = usize::try_from(at).expect("an offset");
            assert!(out[at..].starts_with(bytes), "{} has other bytes", section.name);
        }
        assert!(ends.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{ends:?}");
    }
}

#[test]
fn a_stub_that_is_none_is_refused() {
    let write = |stub: &[u8]| uki::write(stub, &sections(vec![1]), &mut std::io::sink());
    write(&stub(4)).expect("there is room for four");
    let whole = stub(4);
    // Cut anywhere, and with each byte of its headers changed: an error or an image, no panic.
    for end in 0..whole.len() {
        let _ = write(&whole[..end]);
    }
    for at in 0..0x140 {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bad = whole.clone();
            bad[at] = value;
            let _ = write(&bad);
        }
    }
    assert!(matches!(write(b""), Err(Error::Stub(_))));
    assert!(matches!(write(&whole[..100]), Err(Error::Stub(_))));
    let mut full = whole;
    // Headers as long as they are printed to be.
    let optional = 0x40 + 24;
    let taken = (optional + 112 + 40) as u32;
    full[optional + 60..optional + 64].copy_from_slice(&taken.to_le_bytes());
    assert!(matches!(write(&full), Err(Error::Stub("has no room for more sections"))));
}

/// The partitions of a disk whose table is valid, as sfdisk(8) lists them.
#[track_caller]
pub(crate) fn partitions_of(disk: &Path) -> Vec<serde_json::Value> {
    let shown = disk.to_str().expect("UTF-8");
    assert!(succeeds("sgdisk", &["-v", shown]).contains("No problems found"));
    let printed = succeeds("sfdisk", &["--json", shown]);
    let printed: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    printed["partitiontable"]["partitions"].as_array().expect("a list").clone()
}

fn a_machine(root: &File, checked: bool) -> Machine<'_> {
    Machine {
        label: "web_2.0.0".to_owned(),
        architecture: Architecture::Amd64,
        seed: std::array::from_fn(|n| n as u8),
        time: 1_700_000_000,
        root,
        root_size: root.metadata().expect("our own file").len(),
        root_kind: "erofs",
        checked,
        kernel: noise(2_000_000),
        release: "6.1.0-test".to_owned(),
        initrd: noise(1_000_000),
        os_release: b"ID=debian\n".to_vec(),
        command_line: "console=ttyS0".to_owned(),
        size: None,
        boot: Some(Boot { stub: stub(10), esp: None, next: None }),
    }
}

#[test]
fn tools_a_disk_holds_what_it_was_made_of() {
    if !["sgdisk", "sfdisk", "mcopy", "veritysetup", "objcopy"].into_iter().all(tier::tool) {
        return;
    }
    let lab = Lab::new();
    let root_path = lab.path("root");
    fs::write(&root_path, noise(700 * 4096)).expect("our own file");
    let root = File::open(&root_path).expect("our own file");
    let path = lab.path("disk");
    let disk = File::create_new(&path).expect("our own file");
    let made = machine::write(a_machine(&root, true), &disk).expect("a disk");
    let again = lab.path("again");
    machine::write(a_machine(&root, true), &File::create_new(&again).expect("our own file"))
        .expect("a disk");
    let bytes = fs::read(&path).expect("our own file");
    assert!(bytes == fs::read(&again).expect("our own file"), "twice, and not the same bytes");
    assert_eq!(bytes.len() as u64, made.size);

    let found = partitions_of(&path);
    let names: Vec<&str> = found.iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["esp", "web_2.0.0", "web_2.0.0_verity"]);
    let part = |n: usize, name: &str| {
        let number = |key: &str| found[n][key].as_u64().expect("a number") as usize * 512;
        let out = lab.path(name);
        fs::write(&out, &bytes[number("start")..][..number("size")]).expect("our own file");
        out
    };
    let (esp, data, tree) = (part(0, "esp"), part(1, "data"), part(2, "tree"));
    let hash = made.root_hash.expect("it is checked");
    let hex = hash.iter().map(|n| format!("{n:02x}")).collect::<String>();
    // By these systemd finds a root and its tree.
    let ids: String = found[1..].iter().filter_map(|one| one["uuid"].as_str()).collect();
    assert_eq!(ids.replace('-', "").to_lowercase(), hex);
    let [esp, data, tree] = [&esp, &data, &tree].map(|path| path.to_str().expect("UTF-8"));
    assert!(fs::read(data).expect("ours").starts_with(&noise(700 * 4096)));
    succeeds("veritysetup", &["verify", data, tree, &hex]);
    let image = lab.path("uki");
    let image = image.to_str().expect("UTF-8");
    succeeds("mcopy", &["-i", esp, "::EFI/BOOT/BOOTX64.EFI", image]);
    let line = lab.path("line");
    let line = line.to_str().expect("UTF-8");
    succeeds("objcopy", &["-O", "binary", "-j", ".cmdline", image, line]);
    let line = fs::read_to_string(line).expect("ours");
    assert_eq!(line.trim_end_matches('\0'), made.command_line);
    assert!(
        line.starts_with(&format!("bake.root=web_2.0.0 bake.fs=erofs bake.verity=700:{hex}:"))
            && made.command_line.ends_with(" console=ttyS0"),
        "{line}"
    );

    // One byte of the root, anywhere, is noticed.
    let damaged = lab.path("damaged");
    let mut bad = fs::read(data).expect("ours");
    bad[123_456] ^= 1;
    fs::write(&damaged, bad).expect("our own file");
    let damaged = damaged.to_str().expect("UTF-8");
    let ran = run(Command::new("veritysetup").args(["verify", damaged, tree, &hex]));
    assert_ne!(ran.code, 0, "{}{}", ran.out, ran.err);
}

#[test]
fn a_disk_of_a_given_size_has_it_or_is_refused() {
    let root = tempfile::tempfile().expect("a file");
    root.set_len(8 << 20).expect("our own file");
    let make = |size: Option<u64>, esp: Option<u64>| {
        let mut machine = a_machine(&root, false);
        (machine.size, machine.boot) = (size, Some(Boot { stub: stub(10), esp, next: None }));
        machine::write(machine, &tempfile::tempfile().expect("a file"))
    };
    let least = make(None, None).expect("as small as can be");
    assert_eq!((least.root_hash, least.size % (1 << 20)), (None, 0));
    assert!(!least.command_line.contains("verity"), "{}", least.command_line);
    assert_eq!(make(Some(1 << 30), Some(200 << 20)).expect("a disk").size, 1 << 30);
    for (size, esp) in [(Some(least.size - (1 << 20)), None), (None, Some(1 << 20))] {
        let Err(Error::TooSmall { size, needed, .. }) = make(size, esp) else { panic!("it fits") };
        assert!(needed > size);
    }
}

#[test]
fn tools_a_disk_for_a_kernel_that_is_started_otherwise_has_no_boot_partition() {
    if !["sgdisk", "sfdisk"].into_iter().all(tier::tool) {
        return;
    }
    let lab = Lab::new();
    let root = tempfile::tempfile().expect("a file");
    root.write_all_at(&noise(4096), 0).expect("our own file");
    let path = lab.path("disk");
    let disk = File::create_new(&path).expect("our own file");
    let machine = Machine { boot: None, ..a_machine(&root, true) };
    machine::write(machine, &disk).expect("a disk");
    let found = partitions_of(&path);
    let names: Vec<&str> = found.iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["web_2.0.0", "web_2.0.0_verity"]);
}

#[test]
fn tools_disks_of_hypervisors_are_the_same_bytes_and_hold_the_same() {
    if !tier::tool("qemu-img") {
        return;
    }
    let lab = Lab::new();
    let raw = lab.path("raw");
    let mut bytes = noise(3 << 20);
    bytes.resize(40 << 20, 0);
    bytes.extend(noise(1 << 20));
    fs::write(&raw, &bytes).expect("our own file");
    let raw = raw.to_str().expect("UTF-8");
    let seed: [u8; 32] = std::array::from_fn(|n| n as u8);
    let open = |path: &Path| File::options().read(true).write(true).open(path);
    let made = |format: &str, options: &str, name: &str| {
        let path = lab.path(name);
        let shown = path.to_str().expect("UTF-8");
        let args = ["convert", "-f", "raw", "-O", format, "-o", options, raw, shown];
        succeeds("qemu-img", &args);
        path
    };
    let settled = |format: &str, options: &str, settle: &dyn Fn(&File) -> Result<(), Error>| {
        // The program names the file in the file.
        fs::create_dir(lab.path(format)).expect("our own directory");
        let twice = ["one", "two"].map(|dir| {
            let dir = format!("{format}/{dir}");
            fs::create_dir(lab.path(&dir)).expect("our own directory");
            let path = made(format, options, &format!("{dir}/disk"));
            settle(&open(&path).expect("our own file")).expect("as it is expected");
            path
        });
        let [one, two] = &twice;
        assert!(fs::read(one).expect("ours") == fs::read(two).expect("ours"), "{format}");
        let shown = one.to_str().expect("UTF-8");
        succeeds("qemu-img", &["compare", "-f", "raw", "-F", format, raw, shown]);
        if format != "vmdk" {
            succeeds("qemu-img", &["check", "-f", format, shown]);
        }
    };
    settled("vmdk", "subformat=streamOptimized", &|disk| hypervisor::settle_vmdk(disk, &seed));
    settled("vhdx", "subformat=dynamic", &|disk| hypervisor::settle_vhdx(disk, &seed));

    let size = bytes.len() as u64;
    let vhd = lab.path("vhd");
    bytes.extend(hypervisor::vhd_footer(size, &seed, 1_700_000_000));
    fs::write(&vhd, bytes).expect("our own file");
    let vhd = vhd.to_str().expect("UTF-8");
    succeeds("qemu-img", &["compare", "-f", "raw", "-F", "vpc", raw, vhd]);
    let info = succeeds("qemu-img", &["info", "--output=json", "-f", "vpc", vhd]);
    let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
    assert_eq!(info["virtual-size"], size, "{info}");
}

#[test]
fn a_short_identifier_of_a_vmdk_is_replaced_as_a_long_one() {
    // qemu-img draws it, and writes no leading zeros; where it drew twice, the end of the longer
    // text is behind the shorter one.
    let settled = |id: &str, left: &[u8]| {
        let file = tempfile::tempfile().expect("a file");
        let mut head = b"KDMV".to_vec();
        head.resize(28, 0);
        head.extend([1_u64.to_le_bytes(), 20_u64.to_le_bytes()].concat());
        file.write_all_at(&head, 0).expect("our own file");
        let text = format!("# Disk DescriptorFile\nversion=1\nCID={id}\nparentCID=ffffffff\n");
        file.write_all_at(&[text.as_bytes(), left].concat(), 512).expect("our own file");
        file.set_len(21 << 9).expect("our own file");
        hypervisor::settle_vmdk(&file, &[7; 32]).expect("a descriptor");
        let mut bytes = vec![0; 21 << 9];
        file.read_exact_at(&mut bytes, 0).expect("our own file");
        bytes
    };
    let long = settled("89abcdef", b"");
    assert!(long[512..].starts_with(b"# Disk DescriptorFile\nversion=1\nCID=07070707\nparentCID="));
    for id in ["0", "9abcdef", "abcd"] {
        for left in [&b""[..], b"\0\n", b"\0ff\n"] {
            assert!(settled(id, left) == long, "{id} {left:?}");
        }
    }
}

#[test]
fn what_is_no_disk_of_a_hypervisor_is_refused() {
    let seed = [0; 32];
    let file = tempfile::tempfile().expect("a file");
    for size in [0, 100, 70_000, 200_000, 1 << 20] {
        file.set_len(size).expect("our own file");
        for settle in [hypervisor::settle_vmdk, hypervisor::settle_vhdx] {
            assert!(matches!(settle(&file, &seed), Err(Error::Format(_))), "{size}");
        }
    }
    // Headers that are, and tables that lie.
    for at in [64 << 10, 128 << 10] {
        file.write_all_at(b"head", at).expect("our own file");
    }
    file.write_all_at(&[0xff; 64 << 10], 192 << 10).expect("our own file");
    assert!(matches!(hypervisor::settle_vhdx(&file, &seed), Err(Error::Format(_))));
}
