//! A machine in a few bytes: an image that has a file for all that a disk is made of, though nothing
//! in it runs, and a program in place of mkfs.erofs. What is made of it has the form of a disk.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::disk_parts::stub;
use crate::lab::{Lab, Run, run};
use crate::tier;

/// The release of its kernel.
pub(crate) const RELEASE: &str = "6.1-t";

/// What its kernel has, as no module.
pub(crate) const BUILTIN: &str = "kernel/fs/erofs/erofs.ko\nkernel/fs/ext4/ext4.ko\n\
    kernel/drivers/md/dm-verity.ko\nkernel/fs/overlayfs/overlay.ko\n\
    kernel/drivers/block/virtio_blk.ko\n";

/// A lab with such an image's root at `root/`.
pub(crate) struct FakeMachine {
    pub(crate) lab: Lab,
}

impl FakeMachine {
    /// Nothing where this machine lacks a program that it takes.
    pub(crate) fn new() -> Option<Self> {
        if !tier::sandbox() || !["busybox", "dmsetup", "ldd"].into_iter().all(tier::tool) {
            return None;
        }
        let bench = Self { lab: Lab::new() };
        fs::create_dir(bench.lab.path("out")).expect("our own directory");
        bench.kernel(RELEASE);
        symlink("usr/lib", bench.lab.path("root/lib")).expect("a link");
        for name in ["linuxx64.efi.stub", "systemd-bootx64.efi"] {
            bench.file(&format!("usr/lib/systemd/boot/efi/{name}"), &stub(10));
        }
        bench.file("sbin/init", b"#!/bin/sh\n");
        bench.file("usr/lib/os-release", b"ID=tiny\n");
        for dir in ["etc", "var", "dev", "proc", "sys", "run", "tmp"] {
            fs::create_dir_all(bench.lab.path("root").join(dir)).expect("our own directory");
        }
        // The file system is the tar that it is made of.
        bench.program(
            "mkfs.erofs",
            "[ \"$1\" = --version ] && echo mkfs.erofs 1.8.6 && exit\n\
                for last; do :; done\ncat >\"$last\"\ntruncate -s %4096 \"$last\"",
        );
        Some(bench)
    }

    /// Puts a kernel into the image.
    pub(crate) fn kernel(&self, release: &str) {
        self.file(&format!("boot/vmlinuz-{release}"), &[0xee; 5000]);
        let dir = format!("usr/lib/modules/{release}");
        for name in ["modules.dep", "modules.alias", "modules.softdep"] {
            self.file(&format!("{dir}/{name}"), b"");
        }
        self.file(&format!("{dir}/modules.builtin"), BUILTIN.as_bytes());
    }

    /// Puts a file into the image.
    pub(crate) fn file(&self, path: &str, bytes: &[u8]) {
        let path = self.lab.path("root").join(path);
        fs::create_dir_all(path.parent().expect("below it")).expect("our own directory");
        fs::write(path, bytes).expect("our own file");
    }

    /// Puts a program before those of this machine.
    pub(crate) fn program(&self, name: &str, script: &str) {
        let path = self.lab.write(&format!("tools/{name}"), &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own file");
    }

    /// Writes the recipe of a version as `web.toml`.
    pub(crate) fn write(&self, version: &str, more: &str) {
        self.lab.write(
            "web.toml",
            &format!(
                "[image]\nname = \"web\"\nversion = \"{version}\"\n[base]\npath = \"root\"\n\
                    [[step]]\nfile = \"/etc/motd\"\ncontent = \"<this is {version}>\"\n{more}"
            ),
        );
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.lab.command(args);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.lab.path("tools").display()));
        command
    }

    /// Builds `web.toml` with this machine's programs.
    pub(crate) fn build(&self, more: &[&str]) -> Run {
        let args = [&["build", "--tools", "host", "web.toml"], more].concat();
        run(&mut self.command(&args))
    }

    /// What lies in `out/`, sorted.
    pub(crate) fn outputs(&self) -> Vec<String> {
        let mut names: Vec<String> = walkdir::WalkDir::new(self.lab.path("out"))
            .min_depth(1)
            .into_iter()
            .map(|entry| {
                let entry = entry.expect("readable");
                let path = entry.path().strip_prefix(self.lab.path("out")).expect("below it");
                path.display().to_string()
            })
            .collect();
        names.sort();
        names
    }

    /// Makes sure that a build fails at a line of the recipe, in these words, and leaves nothing.
    #[track_caller]
    pub(crate) fn refused(&self, more: &[&str], words: &[&str]) -> Run {
        let before = (self.outputs(), self.lab.bake(["list"]).out);
        let built = self.build(more);
        assert_eq!(built.code, 1, "{}{}", built.out, built.err);
        for word in words {
            assert!(built.err.contains(word), "{word:?} is not in {}", built.err);
        }
        assert_eq!((self.outputs(), self.lab.bake(["list"]).out), before);
        assert!(self.lab.scratch().is_empty(), "{:?}", self.lab.scratch());
        built
    }
}

/// One partition of a disk, as sfdisk(8) sees it: name, UUID, and its bytes.
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) bytes: Vec<u8>,
}

/// Reads the partitions of a raw disk.
pub(crate) fn partitions(disk: &Path) -> Vec<Found> {
    let all = fs::read(disk).expect("a disk");
    let one = |found: &serde_json::Value| {
        let number = |key: &str| found[key].as_u64().expect("a number") as usize * 512;
        let text = |key: &str| found[key].as_str().expect("a text").to_owned();
        let bytes = all[number("start")..][..number("size")].to_vec();
        Found { name: text("name"), id: text("uuid").to_lowercase(), bytes }
    };
    crate::disk_parts::partitions_of(disk).iter().map(one).collect()
}
