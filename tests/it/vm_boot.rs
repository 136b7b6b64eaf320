//! A machine that bake made, started for real: firmware, kernel, root, service.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bake::digest::Digest;
use bake::store::Store;

use crate::disk_parts::succeeds;
use crate::lab::{Lab, run};
use crate::{base_lab, tier};

/// Longer than any machine takes to start, emulated beside other tests.
const PATIENCE: Duration = Duration::from_secs(400);

/// A machine that runs, and is ended when this is dropped.
struct Machine {
    qemu: Child,
    serial: PathBuf,
    port: u16,
}

impl Machine {
    /// Starts a machine of `disk`, which it cannot write to, with data disks by serial number.
    fn start(lab: &Lab, name: &str, disk: &Path, data: &[(&str, &Path)]) -> Self {
        let variables = lab.path(&format!("{name}.vars"));
        fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &variables).expect("the firmware's variables");
        let mut args = vec![];
        let mut file = |options: &str, path: &Path| {
            args.extend(["-drive".into(), format!("{options},format=raw,file={}", path.display())]);
        };
        file("if=pflash,readonly=on", Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd"));
        file("if=pflash", &variables);
        file("if=none,id=root,readonly=on", disk);
        for (n, (_, path)) in data.iter().enumerate() {
            file(&format!("if=none,id=data{n}"), path);
        }
        args.extend(["-device".into(), "virtio-blk-pci,drive=root,bootindex=0".into()]);
        for (n, (serial, _)) in data.iter().enumerate() {
            args.push("-device".into());
            args.push(format!("virtio-blk-pci,drive=data{n},serial={serial}"));
        }
        Self::launch(lab, name, &args)
    }

    /// Starts the machine whose parts are in `dir` as one that was booted over a network: its disk
    /// comes along with the initial RAM disk, and there is no other.
    fn of_parts(lab: &Lab, name: &str, dir: &Path) -> Self {
        let read = |name: &str| fs::read(dir.join(name)).expect("a part of the machine");
        let mut initrd = read("initrd");
        initrd.resize(initrd.len().next_multiple_of(4), 0);
        initrd.extend(archive("root.raw", &read("root.raw")));
        let both = lab.path(&format!("{name}.initrd"));
        fs::write(&both, initrd).expect("our own file");
        let line = String::from_utf8(read("cmdline")).expect("UTF-8");
        let path = |path: &Path| path.display().to_string();
        let args = [
            "-kernel".to_owned(),
            path(&dir.join("vmlinuz")),
            "-initrd".to_owned(),
            path(&both),
            "-append".to_owned(),
            format!("{} console=ttyS0", line.trim_end()),
        ];
        Self::launch(lab, name, &args)
    }

    fn launch(lab: &Lab, name: &str, args: &[String]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        let serial = lab.path(&format!("{name}.log"));
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1024", "-M", "q35,smm=off"])
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-device", "virtio-rng-pci"])
            .args(args)
            .arg("-netdev")
            .arg(format!("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:80"))
            .args(["-device", "virtio-net-pci,netdev=net,romfile="])
            .arg("-serial")
            .arg(format!("file:{}", serial.display()));
        drop(free);
        let output = fs::File::create(lab.path(&format!("{name}.qemu"))).expect("our own file");
        let qemu = qemu
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("our own file"))
            .stderr(output)
            .spawn()
            .expect("QEMU");
        Self { qemu, serial, port }
    }

    fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.serial).unwrap_or_default()).into_owned()
    }

    /// Waits for an answer to a request for `path`.
    #[track_caller]
    fn answers(&mut self, path: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        loop {
            let answer = ask().unwrap_or_default();
            if answer.starts_with("HTTP/1.1 200") {
                return answer;
            }
            let ended = self.qemu.try_wait().expect("our own child");
            let (late, console) = (Instant::now() > end, self.console());
            assert!(ended.is_none() && !late, "no answer: {ended:?} {answer}\n{console}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until all these words are on the console.
    #[track_caller]
    fn prints(&mut self, words: &[&str]) {
        let end = Instant::now() + PATIENCE;
        loop {
            let console = self.console();
            let Some(missing) = words.iter().find(|words| !console.contains(**words)) else {
                return;
            };
            let ended = self.qemu.try_wait().expect("our own child");
            let late = Instant::now() > end;
            assert!(ended.is_none() && !late, "{missing:?} is not in\n{console}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until the machine has ended by itself.
    #[track_caller]
    fn ends(&mut self) {
        let end = Instant::now() + PATIENCE;
        while self.qemu.try_wait().expect("our own child").is_none() {
            assert!(Instant::now() < end, "it does not end\n{}", self.console());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// An archive that holds one file, as kernels read it (cpio "newc").
fn archive(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    for (name, mode, bytes) in [(name, 0o100_644, bytes), ("TRAILER!!!", 0, &[][..])] {
        let (name, size) = (format!("{name}\0"), bytes.len());
        out.extend(b"070701");
        for field in [1, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name.len(), 0] {
            out.extend(format!("{field:08X}").bytes());
        }
        for part in [name.as_bytes(), bytes] {
            out.extend(part);
            out.resize(out.len().next_multiple_of(4), 0);
        }
    }
    out
}

pub(crate) fn ready() -> bool {
    tier::sandbox() && base_lab::net() && tier::tool("qemu-system-x86_64")
}

/// The recipe and its site, in a directory of the lab.
pub(crate) fn recipe(lab: &Lab) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/vm");
    let to = lab.path("vm");
    let copied = run(Command::new("cp").arg("-r").arg(from).arg(&to));
    assert_eq!(copied.code, 0, "{}", copied.err);
    share_packages(lab);
    to.join("web.toml")
}

/// Makes a lab's store, whose packages are those that other tests have downloaded already.
pub(crate) fn share_packages(lab: &Lab) {
    let store = lab.path("store");
    drop(Store::open(&store).expect("a store"));
    let packages = base_lab::cache().join("packages");
    fs::create_dir_all(&packages).expect("our own directory");
    fs::create_dir_all(store.join("cache")).expect("our own directory");
    symlink(packages, store.join("cache/packages")).expect("a link");
}

#[test]
fn net_a_machine_boots_from_what_was_baked_and_from_nothing_else() {
    if !ready() {
        return;
    }
    let lab = Lab::new();
    let recipe = recipe(&lab);
    // It knows from its firmware which version it is.
    let text = fs::read_to_string(&recipe).expect("the example");
    let knows = "[[test]]\nboot = true\nrun = \"\"\"\ncd /sys/class/dmi/id\n\
        test \\\"$(cat product_name product_version | xargs)\\\" = 'vm-web 2.0.0'\n\
        grep -q ^sha256: product_sku\n\"\"\"\n\n[[output]]";
    fs::write(&recipe, text.replacen("[[output]]", knows, 1)).expect("our own file");
    let built = lab.bake(["build", recipe.to_str().expect("UTF-8")]);
    assert_eq!(built.code, 0, "{}", built.err);
    // The gate has booted it already.
    assert!(built.err.contains("[test 5/5] passed"), "{}", built.err);
    assert!(built.err.contains("vm-web:2.0.0 was up after "), "{}", built.err);
    assert!(!built.err.contains("update-initramfs: Generating"), "{}", built.err);
    let disk = lab.path("vm/vm-web_2.0.0.raw");
    let before = fs::read(&disk).expect("the disk");
    let qcow2 = lab.path("vm/vm-web_2.0.0.qcow2");
    for args in [&["check"][..], &["compare", disk.to_str().expect("UTF-8")]] {
        let checked = run(Command::new("qemu-img").args(args).arg(&qcow2));
        assert_eq!(checked.code, 0, "{}{}", checked.out, checked.err);
    }

    let mut machine = Machine::start(&lab, "good", &disk, &[]);
    let answer = machine.answers("/version.json");
    assert!(answer.contains(r#""version": "2.0.0""#), "{answer}");
    let console = machine.console();
    assert!(!console.contains("FAILED"), "{console}");
    drop(machine);
    assert!(fs::read(&disk).expect("the disk") == before, "the machine has written to its disk");

    // One byte of the root, in what is read first: the machine does not start, and says why.
    let table = run(Command::new("sgdisk").args(["-i", "2"]).arg(&disk));
    let start =
        table.out.lines().find_map(|line| line.strip_prefix("First sector: ")).expect("one");
    let start: usize = start.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    let mut bad = before;
    bad[start * 512 + 1024] ^= 1;
    let damaged = lab.path("damaged.raw");
    fs::write(&damaged, bad).expect("our own file");
    let mut machine = Machine::start(&lab, "bad", &damaged, &[]);
    machine.ends();
    let console = machine.console();
    assert!(console.contains("bake: cannot start: "), "{console}");
    assert!(!console.contains("Welcome to Debian"), "{console}");

    // The machine in parts is the same one, and needs no disk.
    let export = ["export", "vm-web:2.0.0", "--format", "kernel", "--output", "parts"];
    let exported = lab.bake(export);
    assert_eq!(exported.code, 0, "{}", exported.err);
    let dir = lab.path("parts");
    let mut names: Vec<_> = fs::read_dir(&dir)
        .expect("our own directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert_eq!(names, ["cmdline", "initrd", "root.raw", "vmlinux", "vmlinuz"]);
    let before = fs::read(dir.join("root.raw")).expect("a part");
    let mut machine = Machine::of_parts(&lab, "parts", &dir);
    let answer = machine.answers("/version.json");
    assert!(answer.contains(r#""version": "2.0.0""#), "{answer}");
    drop(machine);
    assert!(lab.bake([&export[..], &["--force"]].concat()).code == 0);
    assert!(fs::read(dir.join("root.raw")).expect("a part") == before, "other bytes");
}

/// The smallest machine with data disks.
const DATA: &str = r#"
[image]
name = "m"
version = "1"

[base]
debian = "bookworm"

[[step]]
packages = ["linux-image-cloud-amd64", "systemd-sysv", "systemd-boot-efi", "udev"]

[[step]]
mkdir = ["/srv/fat", "/srv/rows", "/srv/table", "/srv/blank"]

[machine]
network = "none"

[[output]]
format = "disk"
path = "m.raw"
data."/srv/fat" = "fat"
data."/srv/rows" = "its-rows"
data."/srv/table" = "table"
data."/srv/blank" = "blank"
"#;

#[test]
fn net_a_data_disk_that_is_not_blank_is_left_as_it_is() {
    if !ready() || !["mkfs.fat", "sgdisk"].into_iter().all(tier::tool) {
        return;
    }
    let lab = Lab::new();
    share_packages(&lab);
    let recipe = lab.write("m.toml", DATA);
    let built = lab.bake(["build", recipe.to_str().expect("UTF-8")]);
    assert_eq!(built.code, 0, "{}", built.err);
    let [fat, rows, table, blank] = ["fat", "rows", "table", "blank"].map(|name| {
        let path = lab.path(name);
        fs::File::create_new(&path).and_then(|file| file.set_len(64 << 20)).expect("our own file");
        path
    });
    // What another system keeps there; what a program writes for itself; partitions, of which the
    // second table, at the end, is what is left.
    succeeds("mkfs.fat", &["-n", "KEEP", fat.to_str().expect("UTF-8")]);
    let file = |path: &Path| fs::File::options().write(true).open(path).expect("our own file");
    file(&rows).write_all_at(b"rows of a database", 0).expect("our own file");
    succeeds("sgdisk", &["-n", "1", table.to_str().expect("UTF-8")]);
    file(&table).write_all_at(&[0; 34 * 512], 0).expect("our own file");
    let bytes = || [&fat, &rows, &table].map(|path| Digest::of(fs::read(path).expect("a disk")));
    let before = bytes();

    let data = [("fat", &*fat), ("its-rows", &*rows), ("table", &*table), ("blank", &*blank)];
    let mut machine = Machine::start(&lab, "data", &lab.path("m.raw"), &data);
    let why = |serial| {
        format!("bake: cannot use the data disk {serial}: it is not blank, and there is no ext4")
    };
    let reasons = ["fat", "its-rows", "table"].map(why);
    machine.prints(&reasons.each_ref().map(String::as_str));
    // It does not go on without its disks, and the blank one is one of them.
    machine.prints(&["emergency mode", "EXT4-fs (vde): mounted filesystem"]);
    drop(machine);
    assert!(bytes() == before, "a disk that was not blank was written to");
}
