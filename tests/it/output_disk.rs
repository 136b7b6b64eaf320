//! Disks of images: what an image lacks, what does not fit, disks that are full, and versions of
//! machines that update themselves in place.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::disk_parts::succeeds;
use crate::lab::{good, run};
use crate::machine_lab::{BUILTIN, FakeMachine, RELEASE, partitions};
use crate::tier;

fn output(format: &str, path: &str, more: &str) -> String {
    format!("[[output]]\nformat = \"{format}\"\npath = \"out/{path}\"\n{more}\n")
}

#[test]
fn tools_an_image_that_lacks_something_is_no_machine() {
    let Some(bench) = FakeMachine::new() else { return };
    let mut version = 0;
    // As the image is now.
    let mut disk = |words: &[&str]| {
        version += 1;
        bench.write(&version.to_string(), "");
        good(bench.build(&[]));
        let image = format!("web:{version}");
        let args = ["export", &image, "--tools", "host", "-f", "disk", "-o", "out/disk"];
        let made = run(&mut bench.command(&args));
        if words.is_empty() {
            good(made);
            fs::remove_file(bench.lab.path("out/disk")).expect("the disk");
            return;
        }
        assert_eq!(made.code, 1, "{}", made.err);
        for word in words {
            assert!(made.err.contains(word), "{word:?} is not in {}", made.err);
        }
        assert!(bench.outputs().is_empty(), "{:?}", bench.outputs());
    };
    let without = |path: &str, disk: &mut dyn FnMut(&[&str]), words: &[&str]| {
        let path = bench.lab.path("root").join(path);
        let bytes = fs::read(&path).expect("a file of the image");
        fs::remove_file(&path).expect("our own file");
        disk(words);
        fs::write(&path, bytes).expect("our own file");
    };
    disk(&[]);
    let kernel = format!("boot/vmlinuz-{RELEASE}");
    without(&kernel, &mut disk, &["it has no kernel with modules", "linux-image-cloud-amd64"]);
    without("sbin/init", &mut disk, &["it has no init", "systemd-sysv"]);
    let stub = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";
    without(stub, &mut disk, &["it has no boot stub", "systemd-boot-efi"]);
    // A kernel that cannot read the disk, or the root on it.
    let builtin = format!("usr/lib/modules/{RELEASE}/modules.builtin");
    for (module, words) in [
        ("erofs", "the kernel 6.1-t has no erofs: it cannot mount what it is to"),
        ("dm-verity", "the kernel 6.1-t has no dm_verity"),
        ("overlay", "the kernel 6.1-t has no overlay"),
        ("virtio_blk", "the kernel 6.1-t has no module for any disk"),
    ] {
        let rest: String = BUILTIN
            .split_inclusive('\n')
            .filter(|line| !line.ends_with(&format!("/{module}.ko\n")))
            .collect();
        assert_ne!(rest, BUILTIN, "{module}");
        bench.file(&builtin, rest.as_bytes());
        disk(&[words]);
    }
    bench.file(&builtin, BUILTIN.as_bytes());
    bench.kernel("6.2-t");
    disk(&["it has several kernels (6.1-t, 6.2-t)", "keep one"]);
}

#[test]
fn tools_a_disk_that_cannot_be_made_is_reported_by_its_line() {
    let Some(bench) = FakeMachine::new() else { return };
    bench.file("big", &[7; 3 << 20]);
    let refused = |version: &str, output: &str, words: &[&str]| {
        bench.write(version, output);
        bench.refused(&[], &[words, &["cannot make the output out/x", "web.toml:"]].concat());
    };
    // How much is missing stands there.
    let size = &["cannot fit the partitions in 37748736 bytes", "are needed", " more"];
    refused("1", &output("disk", "x", "size = \"36MiB\""), size);
    let esp = &["cannot fit the boot partition in 1048576 bytes", " more"];
    refused("1", &output("disk", "x", "esp = \"1MiB\""), esp);
    let slot = &["cannot fit the root in 1048576 bytes", " more"];
    refused("1", &output("disk", "x", "slot = \"1MiB\""), slot);
    let root = "root = \"ext4\"\nsize = \"36MiB\"";
    refused("1", &output("qcow2", "x", root), &["37748736 bytes are too few: the files need"]);
    // What systemd-sysupdate does not read as a version, and what no partition can be called.
    let word = &["its version must be letters and digits"];
    refused("1_2", &output("disk", "x", "slot = \"16MiB\""), word);
    let long = "1.0.0-and.twenty.more.characters";
    let named = format!("is named web_{long}, which has 36 characters");
    refused(long, &output("disk", "x", "slot = \"16MiB\""), &[&named]);
    refused(long, &output("partitions", "x", ""), &[&named]);
    // A disk that nothing is updated on is called otherwise then.
    bench.write(long, &output("disk", "x", ""));
    good(bench.build(&[]));
    let name = partitions(&bench.lab.path("out/x"))[1].name.clone();
    assert!(name.starts_with("web_1.0.0-and.twenty_") && name.len() == 29, "{name}");
    // The boot loader that chooses the version is of the image.
    let loader = "root/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
    fs::remove_file(bench.lab.path(loader)).expect("our own file");
    let missing = &["it has no boot loader", "systemd-boot-efi"];
    refused("2", &output("disk", "x", "slot = \"16MiB\""), missing);
}

#[test]
fn tools_a_machine_has_room_for_its_next_version_and_gets_it_as_files() {
    let Some(bench) = FakeMachine::new() else { return };
    if !["sgdisk", "sfdisk", "mcopy"].into_iter().all(tier::tool) {
        return;
    }
    let slot = "slot = \"16MiB\"\ncmdline = \"quiet\"";
    let parts = "cmdline = \"quiet\"\nkeep = 2";
    let outputs = output("disk", "disk", slot) + &output("partitions", "updates", parts);
    let build = |version: &str| {
        bench.write(version, &outputs);
        good(bench.build(&[]));
    };
    let updates = bench.lab.path("out/updates");
    let names = || -> Vec<String> {
        let all = fs::read_dir(&updates).expect("a directory").flatten();
        let mut all: Vec<String> =
            all.map(|one| one.file_name().into_string().expect("UTF-8")).collect();
        all.sort();
        let mut sums = Command::new("sha256sum");
        good(run(sums.args(["--check", "--strict", "SHA256SUMS"]).current_dir(&updates)));
        let listed = fs::read_to_string(updates.join("SHA256SUMS")).expect("a list");
        assert_eq!(listed.lines().count() + 1, all.len(), "{listed}");
        all
    };
    build("1.0.0");
    let disk = bench.lab.path("out/disk");
    let found = partitions(&disk);
    let labels: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(labels, ["esp", "web_1.0.0", "web_1.0.0_verity", "_empty", "_empty"]);
    let sizes: Vec<usize> = found.iter().map(|one| one.bytes.len() >> 20).collect();
    assert_eq!(sizes[1..], [16, 1, 16, 1]);
    let ids: std::collections::BTreeSet<&String> = found.iter().map(|one| &one.id).collect();
    assert_eq!(ids.len(), 5);
    // The files are what the partitions hold, called by what these are identified by.
    let root = format!("web_1.0.0.root-x86-64.{}.raw", found[1].id);
    let tree = format!("web_1.0.0.root-x86-64-verity.{}.raw", found[2].id);
    assert_eq!(names(), ["SHA256SUMS", "web_1.0.0.efi", &tree, &root]);
    for (file, partition) in [(&root, &found[1]), (&tree, &found[2])] {
        let bytes = fs::read(updates.join(file)).expect("a file");
        assert!(!bytes.is_empty() && partition.bytes.starts_with(&bytes), "{file}");
        assert!(partition.bytes[bytes.len()..].iter().all(|byte| *byte == 0), "{file}");
    }
    let esp = bench.lab.path("esp");
    fs::write(&esp, &found[0].bytes).expect("our own file");
    let esp = esp.to_str().expect("UTF-8");
    let of_esp = |path: &str| {
        let to = bench.lab.path("copy");
        let to = to.to_str().expect("UTF-8");
        succeeds("mcopy", &["-n", "-i", esp, &format!("::{path}"), to]);
        fs::read(to).expect("a copy")
    };
    let program = of_esp("EFI/Linux/web_1.0.0.efi");
    assert_eq!(program, fs::read(updates.join("web_1.0.0.efi")).expect("a file"));
    let loader = "root/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
    assert_eq!(of_esp("EFI/BOOT/BOOTX64.EFI"), fs::read(bench.lab.path(loader)).expect("ours"));
    assert_eq!(of_esp("loader/loader.conf"), b"timeout 0\neditor no\n");
    // There is room for another such program, and more.
    assert!(found[0].bytes.len() > 3 * program.len());

    // The same again is nothing to do; versions come, and go.
    let inode = || fs::metadata(&updates).expect("a directory").ino();
    let before = inode();
    build("1.0.0");
    assert_eq!(inode(), before);
    build("2.0.0");
    assert_eq!(names().len(), 1 + 3 + 3);
    build("10.0.0");
    let now = names();
    assert!(now.iter().all(|name| !name.starts_with("web_1.0.0")), "{now:?}");
    assert_eq!(now.len(), 1 + 3 + 3);
    let other = bench.lab.path("other");
    let export = |output: &str, more: &[&str]| {
        let args = ["export", "web:2.0.0", "web:10.0.0", "--tools", "host", "-f", "sysupdate"];
        let more = [&["--files", "partitions", "-o", output], more].concat();
        run(&mut bench.command(&[&args[..], &more].concat()))
    };
    // Another command line is another program, and the same partitions.
    let refused = export("out/updates", &[]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    let words = ["out/updates/web_2.0.0.efi is listed with other content", "--force replaces it"];
    assert!(words.iter().all(|word| refused.err.contains(word)), "{}", refused.err);
    assert_eq!(names(), now);
    good(export("other", &["--keep", "1"]));
    let listed = fs::read_to_string(other.join("SHA256SUMS")).expect("a list");
    assert_eq!(listed.lines().count(), 3, "{listed}");
    let newest: Vec<&String> = now.iter().filter(|name| name.starts_with("web_10.0.0")).collect();
    assert!(newest.iter().all(|name| listed.contains(name.as_str())), "{listed}");
    good(export("out/updates", &["--force"]));
    assert_eq!(names(), now);
    // As part of a build it is refused as well: machines may have taken it.
    bench.refused(&[], &["is listed with other content", "web.toml:", "another version"]);
    // Only bake's own directory is replaced.
    fs::create_dir(bench.lab.path("mine")).expect("our own directory");
    bench.write("11.0.0", &output("partitions", "../mine", ""));
    let built = bench.build(&[]);
    assert_eq!(built.code, 2, "{}", built.err);
    assert!(built.err.contains("is a directory that bake did not write"), "{}", built.err);
}

#[test]
fn root_tools_a_full_disk_under_a_disk_publishes_nothing() {
    if !tier::root() || !["unshare", "qemu-img"].into_iter().all(tier::tool) {
        return;
    }
    let Some(bench) = FakeMachine::new() else { return };
    bench.file("big", &[7; 3 << 20]);
    let lab = &bench.lab;
    for format in ["disk", "qcow2", "vmdk", "vhdx", "kernel", "partitions"] {
        // No room for what waits, for the root, for the last parts.
        for size in ["4k", "3m", "5m"] {
            let case = format!("{format} on {size}");
            bench.write("1", &(output("tar", "../first.tar", "") + &output(format, "x", "")));
            // A file system of its own on `out/`, in a mount namespace that takes it along.
            let script = format!(
                "mount -t tmpfs -o size={size} none out
                \"$0\" build --tools host web.toml >&2; code=$?
                find out -mindepth 1 | sort; exit $code"
            );
            let mut command = Command::new("unshare");
            let with = bench.command(&[]);
            let env = with.get_envs().filter_map(|(key, value)| Some((key, value?)));
            command.args(["-m", "sh", "-c", &script, env!("CARGO_BIN_EXE_bake")]);
            let ran = run(command.env_clear().envs(env).current_dir(lab.path("")));
            assert_eq!(ran.code, 1, "{case}: {}{}", ran.out, ran.err);
            let words = ["cannot make the output out/x", "web.toml:", "No space left", "make room"];
            for word in words {
                assert!(ran.err.contains(word), "{case}: {word} is not in {}", ran.err);
            }
            assert_eq!(ran.out, "", "{case}: something is left");
            assert!(!lab.path("first.tar").exists(), "{case}");
            assert!(!lab.bake(["list"]).out.contains("web"), "{case}");
            assert!(lab.scratch().is_empty(), "{case}: {:?}", lab.scratch());
        }
    }
}
