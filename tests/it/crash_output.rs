//! SIGKILL at any moment of a build with outputs and a push: all outputs are of the one version
//! that is published last, and the tag is the old one or the new one.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bake::digest::Digest;
use bake::image::Manifest;

use crate::lab::{Lab, good, kills, run};
use crate::machine_lab::FakeMachine;
use crate::registry_lab::Fake;
use crate::tier;

/// What every version has a file of, and no other version: contents that are not compressed show
/// which one they are of.
fn mark(version: u32) -> String {
    format!("<this is version {version:05}>")
}

/// Which outputs a build has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Those that bake writes itself.
    Own,
    /// The same, and file systems that programs make.
    Programs,
    /// Machines.
    Machines,
}

/// Outputs in which the mark is seen.
fn files(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Own => &["oci.tar", "docker.tar", "tar", "mtree", "ext4"],
        Kind::Programs => &["oci.tar", "docker.tar", "tar", "mtree", "ext4", "erofs"],
        Kind::Machines => &["disk", "qcow2", "kernel/root.raw"],
    }
}

fn outputs(kind: Kind) -> String {
    let mut out = String::new();
    let mut one = |format: &str, path: &str, more: &str| {
        out += &format!("[[output]]\nformat = \"{format}\"\npath = \"out/{path}\"\n{more}");
    };
    if kind == Kind::Machines {
        one("disk", "disk", "slot = \"24MiB\"\n");
        one("qcow2", "qcow2", "");
        one("kernel", "kernel", "");
        one("partitions", "updates", "keep = 1\n");
        return out;
    }
    one("oci", "layout", "");
    one("oci-archive", "oci.tar", "");
    one("docker-archive", "docker.tar", "");
    one("tar", "tar", "");
    one("dir", "root", "owners = \"dropped\"\n");
    one("manifest", "mtree", "");
    one("ext4", "ext4", "");
    if kind == Kind::Programs {
        one("erofs", "erofs", "compression = \"none\"\n");
        one("squashfs", "squashfs", "");
    }
    out
}

struct Case {
    lab: Lab,
    registry: Fake,
    kind: Kind,
}

impl Case {
    fn new(kind: Kind) -> Self {
        let lab = Lab::new();
        fs::create_dir(lab.path("out")).expect("our own directory");
        Self { lab, registry: Fake::start(), kind }
    }

    /// bake, with the programs that machines are made with here.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.lab.command(args);
        if self.kind == Kind::Machines {
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}", self.lab.path("tools").display()));
        }
        command
    }

    /// Writes the recipe of a version.
    fn write(&self, version: u32) {
        let (mark, push) = (mark(version), self.registry.address);
        // So that a push and the archives have something to do.
        let step = "[[step]]\nrun = \"seq 60000 > /numbers\"\n";
        self.lab.write(
            "web.toml",
            &format!(
                "[image]\nname = \"web\"\nversion = \"{version}\"\ncompression = \"none\"\n\
                    [base]\npath = \"root\"\n{step}[[step]]\nfile = \"/etc/motd\"\n\
                    content = \"{mark}\"\n{}[[output]]\npush = \"{push}/web:production\"\n",
                outputs(self.kind)
            ),
        );
    }

    fn published(&self, version: u32) -> bool {
        let listed = good(self.lab.bake(["list", "--json"])).out;
        listed.contains(&format!("\"version\":\"{version}\""))
    }

    /// Makes sure that every output is of this version; returns what they are.
    fn check(&self, version: u32, when: &str) -> BTreeMap<String, Digest> {
        let out = self.lab.path("out");
        if self.kind == Kind::Machines {
            let mut sums = Command::new("sha256sum");
            let sums = sums.args(["--check", "--strict", "SHA256SUMS"]);
            let sums = good(run(sums.current_dir(out.join("updates")))).out;
            let own = sums.lines().filter(|line| line.starts_with(&format!("web_{version}.")));
            assert_eq!((own.count(), sums.lines().count()), (3, 3), "{when}: {sums}");
        } else {
            let motd = fs::read_to_string(out.join("root/etc/motd")).expect("readable");
            assert_eq!(motd, mark(version), "{when}");
            let index = fs::read_to_string(out.join("layout/index.json")).expect("readable");
            assert!(index.contains(&format!("\"web:{version}\"")), "{when}: {index}");
        }
        let mut found = BTreeMap::new();
        let mark = mark(version);
        // The manifest has no contents, but their digests.
        let digest = Digest::of(&mark).hex();
        for name in files(self.kind) {
            let bytes = fs::read(out.join(name)).expect("readable");
            let mark = if *name == "mtree" { &digest } else { &mark };
            let holds = bytes.windows(mark.len()).any(|some| some == mark.as_bytes());
            assert!(holds, "{when}: {name} is not of {version}");
            found.insert((*name).to_owned(), Digest::of(bytes));
        }
        if self.kind == Kind::Programs {
            let bytes = fs::read(out.join("squashfs")).expect("readable");
            found.insert("squashfs".to_owned(), Digest::of(bytes));
        }
        for entry in walkdir::WalkDir::new(&out) {
            let name = entry.expect("readable").path().display().to_string();
            assert!(!name.contains(".bake-output"), "{when}: {name}");
        }
        found
    }

    /// Makes sure that what the tag names is all there; returns it.
    fn tag(&self, when: &str) -> Digest {
        let tag = self.registry.tags("web")["production"];
        let content = self.registry.content();
        let key = |digest: Digest| ("web".to_owned(), digest.to_string());
        let (_, bytes) = &content.manifests[&key(tag)];
        let manifest: Manifest = serde_json::from_slice(bytes).expect("a manifest");
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            assert!(content.blobs.contains_key(&key(blob.digest)), "{when}: {}", blob.digest);
        }
        tag
    }

    fn killed_at_any_moment(&self, kills: u32) {
        let lab = &self.lab;
        lab.tiny_root();
        let build: &[&str] = match self.kind {
            Kind::Machines => &["build", "-q", "--move-tag", "--tools", "host", "web.toml"],
            _ => &["build", "-q", "--move-tag", "web.toml"],
        };
        let whole = |version: u32| {
            self.write(version);
            let begun = Instant::now();
            good(run(&mut self.command(build)));
            begun.elapsed()
        };
        // The first one also bakes the programs.
        whole(0);
        let takes = whole(1);
        let (mut last, mut files, mut tag) = (1, self.check(1, "at first"), self.tag("at first"));
        let (mut published, mut pushed) = (0, 0);
        for n in 2..kills + 2 {
            let when = format!("after kill {}", n - 1);
            self.write(n);
            let mut command = self.command(build);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().expect("bake starts");
            // Moments, not synchronisation: wherever the kill falls, the same must hold.
            let moment = takes.mul_f64(f64::from(n - 1) / f64::from(kills) * 1.1);
            std::thread::sleep(moment + Duration::from_micros(u64::from(n) * 37 % 1000));
            child.kill().expect("our own child");
            child.wait().expect("our own child");
            // The next writer goes on or goes back, whatever it wants itself.
            good(lab.bake(["gc"]));
            let there = self.published(n);
            let now = self.check(if there { n } else { last }, &when);
            let tag_now = self.tag(&when);
            if there {
                (published, last) = (published + 1, n);
                assert!(now.iter().all(|(name, one)| files[name] != *one), "{when}");
                let new = lab.digest(&format!("web:{n}")).parse().expect("a digest");
                assert!(tag_now == tag || tag_now == new, "{when}: {tag_now}");
                pushed += u32::from(tag_now == new);
            } else {
                // Not a byte is another one.
                assert_eq!((&now, tag_now), (&files, tag), "{when}");
            }
            (files, tag) = (now, tag_now);
        }
        eprintln!("{kills} kills: {published} published, {pushed} of these pushed");
        assert!(published < kills, "no kill fell into a build");
        // Whatever came before, the next one just works.
        whole(kills + 2);
        self.check(kills + 2, "at last");
        let digest = lab.digest(&format!("web:{}", kills + 2));
        assert_eq!(self.tag("at last").to_string(), digest);
        assert_eq!(good(lab.bake(["verify"])).code, 0);
        assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
    }
}

#[test]
fn killed_at_any_moment_all_outputs_are_of_one_version_and_the_tag_is_old_or_new() {
    if tier::sandbox() {
        Case::new(Kind::Own).killed_at_any_moment(kills(25));
    }
}

/// The same with those that programs make, in the image that is baked for them.
#[test]
fn net_killed_at_any_moment_file_systems_are_of_one_version_too() {
    if tier::sandbox() {
        Case::new(Kind::Programs).killed_at_any_moment(kills(25));
    }
}

/// The same with machines, of an image that has the form of one.
#[test]
fn tools_killed_at_any_moment_machines_are_of_one_version_too() {
    if !tier::tool("qemu-img") {
        return;
    }
    let Some(FakeMachine { lab }) = FakeMachine::new() else { return };
    Case { lab, registry: Fake::start(), kind: Kind::Machines }.killed_at_any_moment(kills(20));
}
