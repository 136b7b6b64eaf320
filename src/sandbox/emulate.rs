//! Programs of other processors, run by qemu's user emulation: which this host can run, and how.
//!
//! The kernel hands a program to an interpreter by its first bytes (binfmt_misc). What the host has
//! registered with the flag F, which opens the interpreter then and there, works in every root.
//! Since Linux 6.7 each user namespace may have registrations of its own: a session makes them of
//! the host's qemu, as root and as an ordinary user, and the host is left as it is.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::host::TOOLS;
use super::plan::Interpreter;
use super::probe::version;
use super::spawn::word;

/// Where a host shows what is registered.
const REGISTERED: &str = "/proc/sys/fs/binfmt_misc";
/// Oldest kernel with registrations in user namespaces.
const KERNEL: (u32, u32) = (6, 7);

/// A processor as ELF files and qemu name it.
struct Processor {
    /// Go's name.
    arch: &'static str,
    qemu: &'static str,
    /// 32 or 64.
    bits: u8,
    big_endian: bool,
    /// `e_machine` of elf(5).
    machine: u16,
}

const PROCESSORS: &[Processor] = &[
    little("amd64", "x86_64", 64, 62),
    little("arm64", "aarch64", 64, 183),
    little("arm", "arm", 32, 40),
    little("386", "i386", 32, 3),
    little("riscv64", "riscv64", 64, 243),
    little("ppc64le", "ppc64le", 64, 21),
    Processor { arch: "s390x", qemu: "s390x", bits: 64, big_endian: true, machine: 22 },
    little("loong64", "loongarch64", 64, 258),
    little("mips64le", "mips64el", 64, 8),
];

const fn little(arch: &'static str, qemu: &'static str, bits: u8, machine: u16) -> Processor {
    Processor { arch, qemu, bits, big_endian: false, machine }
}

/// How programs of a processor run on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Emulation {
    /// They are its own.
    Native,
    /// By this program, which the host has registered for all.
    Registered(PathBuf),
    /// By this one, which each session registers for itself.
    Own(Interpreter),
    /// Not at all: why, and what helps.
    No {
        /// What is missing.
        why: String,
        /// A command.
        hint: String,
    },
}

/// Says how programs for `arch` (Go's name: `arm64`) run on this host.
#[must_use]
pub fn emulation(arch: &str) -> Emulation {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let own = version(&release).is_some_and(|have| have >= KERNEL);
    find(arch, native(), Path::new(REGISTERED), TOOLS, own.then_some(()).ok_or(&release))
}

/// Makes sure that programs for `arch` (Go's name) run on this host.
///
/// # Errors
/// Why they do not, and what helps.
pub fn can_run(arch: &str) -> Result<(), Error> {
    match emulation(arch) {
        Emulation::No { why, hint } => {
            Err(Error::Host { what: format!("cannot run programs for {arch}: {why}"), hint })
        }
        _ => Ok(()),
    }
}

/// Go's names of the processors that are known.
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    PROCESSORS.iter().map(|one| one.arch)
}

/// Go's name of this machine's processor.
fn native() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        "mips64" => "mips64le",
        other => other,
    }
}

/// `own`: whether sessions may register, else the kernel's release.
fn find(
    arch: &str,
    native: &str,
    registered: &Path,
    tools: &[&str],
    own: Result<(), &String>,
) -> Emulation {
    if arch == native {
        return Emulation::Native;
    }
    let Some(processor) = PROCESSORS.iter().find(|one| one.arch == arch) else {
        let hint = "bake knows no emulator for it".to_owned();
        return Emulation::No { why: format!("no program for {arch} can run here"), hint };
    };
    let entries = fs::read_dir(registered).into_iter().flatten().flatten();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let entry = texts.filter_map(|text| Entry::parse(&text)).find(|entry| entry.takes(processor));
    let fixed = entry.as_ref().filter(|entry| entry.flags.contains('F'));
    if let Some(entry) = fixed {
        return Emulation::Registered(entry.interpreter.clone());
    }
    let qemu = processor.qemu;
    let names = [format!("qemu-{qemu}-static"), format!("qemu-{qemu}")];
    let paths =
        names.iter().flat_map(|name| tools.iter().map(move |dir| Path::new(dir).join(name)));
    let program = paths.into_iter().find(|path| is_static(path));
    let install = "apt-get install qemu-user-static (or your distribution's static qemu-user)";
    let register = format!(
        "{install}, and have it registered with the flag F: binfmt-support or systemd-binfmt do \
            so; without them: mount -t binfmt_misc binfmt_misc {REGISTERED}; cat \
            /usr/lib/binfmt.d/qemu-{qemu}.conf > {REGISTERED}/register"
    );
    match (program, own, entry) {
        (Some(path), Ok(()), _) => {
            let line = processor.line(&path);
            Emulation::Own(Interpreter { path, line })
        }
        (None, Ok(()), _) => Emulation::No {
            why: format!("missing qemu-{qemu}-static, which runs programs for {arch}"),
            hint: install.to_owned(),
        },
        (_, Err(_), Some(entry)) => Emulation::No {
            why: format!(
                "{} is registered for {arch} without the flag F, and cannot be found in an image",
                entry.interpreter.display()
            ),
            hint: register,
        },
        (_, Err(release), None) => Emulation::No {
            why: format!(
                "no emulator for {arch} is registered, and Linux {release} registers none in a \
                    sandbox (6.7 does)"
            ),
            hint: register,
        },
    }
}

impl Processor {
    /// The first bytes of its programs; `kind`: `e_type` of elf(5).
    fn head(&self, kind: u16) -> [u8; 20] {
        let mut head = [0; 20];
        let class = if self.bits == 64 { 2 } else { 1 };
        let order = if self.big_endian { 2 } else { 1 };
        head[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, order, 1]);
        let word = |value: u16| match self.big_endian {
            true => value.to_be_bytes(),
            false => value.to_le_bytes(),
        };
        head[16..18].copy_from_slice(&word(kind));
        head[18..].copy_from_slice(&word(self.machine));
        head
    }

    /// What the kernel reads from `register`: every program and shared program of it, of any
    /// system's convention.
    fn line(&self, path: &Path) -> String {
        let mut mask = [0xff; 20];
        mask[7] = 0;
        mask[if self.big_endian { 17 } else { 16 }] = 0xfe;
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("\\x{b:02x}")).collect::<String>();
        let (magic, mask) = (hex(&self.head(2)), hex(&mask));
        // P: argv[0] stays what it is; O: the program need not be readable; F: see above.
        format!(":qemu-{}:M::{magic}:{mask}:{}:POF", self.qemu, path.display())
    }
}

/// What is registered, as the kernel shows it.
struct Entry {
    interpreter: PathBuf,
    flags: String,
    magic: Vec<u8>,
    mask: Vec<u8>,
}

impl Entry {
    /// `None` where it is off, or goes by the name of files.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        (lines.next()? == "enabled").then_some(())?;
        let mut entry =
            Self { interpreter: PathBuf::new(), flags: String::new(), magic: vec![], mask: vec![] };
        for line in lines {
            match line.split_once(' ')? {
                ("interpreter", path) => entry.interpreter = path.into(),
                ("flags:", flags) => flags.clone_into(&mut entry.flags),
                ("offset", at) if at != "0" => return None,
                ("magic", bytes) => entry.magic = unhex(bytes)?,
                ("mask", bytes) => entry.mask = unhex(bytes)?,
                _ => {}
            }
        }
        (!entry.magic.is_empty()).then_some(entry)
    }

    /// Whether it takes programs and shared programs of a processor.
    fn takes(&self, processor: &Processor) -> bool {
        [2, 3].into_iter().all(|kind| {
            let head = processor.head(kind);
            let masked = |at: usize, byte: u8| byte & self.mask.get(at).unwrap_or(&0xff);
            self.magic.len() <= head.len()
                && (0..self.magic.len())
                    .all(|at| masked(at, self.magic[at]) == masked(at, head[at]))
        })
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

/// Whether a file is a program that needs no loader: in an image there is none for it.
fn is_static(path: &Path) -> bool {
    const INTERPRETER: u64 = 3;
    let mut head = vec![];
    let read = File::open(path).and_then(|file| file.take(4096).read_to_end(&mut head));
    if read.is_err() || !path.is_file() || !head.starts_with(b"\x7fELF\x02\x01") {
        return false;
    }
    let table = (word(&head, 32, 8), word(&head, 54, 2), word(&head, 56, 2));
    let (Some(table), Some(each), Some(count)) = table else { return false };
    let kind = |row: u64| {
        let at = usize::try_from(table.checked_add(row.checked_mul(each)?)?).ok()?;
        word(&head, at, 4)
    };
    (0..count).all(|row| kind(row).is_some_and(|kind| kind != INTERPRETER))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program of 64 bits with one program header of this kind.
    fn program(dir: &Path, name: &str, kind: u8) {
        let mut bytes = vec![0; 120];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (bytes[32], bytes[54], bytes[56], bytes[64]) = (64, 56, 1, kind);
        fs::write(dir.join(name), bytes).expect("written");
    }

    fn shown(found: &Emulation) -> String {
        match found {
            Emulation::Native => "native".to_owned(),
            Emulation::Registered(path) => format!("registered {}", path.display()),
            Emulation::Own(own) => format!("own {}", own.path.file_name().unwrap().display()),
            Emulation::No { why, hint } => format!("no: {why}; {hint}"),
        }
    }

    #[test]
    fn what_a_host_can_run() {
        let dir = tempfile::tempdir().expect("a directory");
        let (tools, registered) = (dir.path().join("bin"), dir.path().join("binfmt"));
        fs::create_dir(&tools).expect("made");
        fs::create_dir(&registered).expect("made");
        let old = "5.10.0".to_owned();
        let tool = tools.to_str().expect("UTF-8").to_owned();
        let look = |arch: &str, own: Result<(), &String>| {
            shown(&find(arch, "amd64", &registered, &[&tool], own))
        };
        assert_eq!(look("amd64", Ok(())), "native");
        assert!(look("vax", Ok(())).starts_with("no: no program for vax"));
        let missing = look("arm64", Ok(()));
        assert!(missing.starts_with("no: missing qemu-aarch64-static"), "{missing}");
        assert!(missing.contains("apt-get install qemu-user-static"), "{missing}");
        // What needs a loader cannot run in an image.
        program(&tools, "qemu-aarch64-static", 3);
        assert!(look("arm64", Ok(())).starts_with("no: missing"));
        program(&tools, "qemu-aarch64", 1);
        assert_eq!(look("arm64", Ok(())), "own qemu-aarch64");
        program(&tools, "qemu-aarch64-static", 1);
        assert_eq!(look("arm64", Ok(())), "own qemu-aarch64-static");
        let none = look("arm64", Err(&old));
        assert!(none.contains("Linux 5.10.0 registers none"), "{none}");
        assert!(none.contains("qemu-aarch64.conf > /proc/sys/fs/binfmt_misc/register"), "{none}");
        let entry = |flags: &str, state: &str| {
            let text = format!(
                "{state}\ninterpreter /q\nflags: {flags}\noffset 0\nmagic \
                    7f454c460201010000000000000000000200b700\nmask \
                    ffffffffffffff00fffffffffffffffffeffffff\n"
            );
            fs::write(registered.join("qemu-aarch64"), text).expect("written");
        };
        entry("OC", "enabled");
        assert!(look("arm64", Err(&old)).contains("/q is registered for arm64 without the flag F"));
        assert_eq!(look("arm64", Ok(())), "own qemu-aarch64-static");
        entry("POCF", "enabled");
        assert_eq!(look("arm64", Err(&old)), "registered /q");
        assert!(look("riscv64", Err(&old)).starts_with("no: no emulator for riscv64"));
        entry("POCF", "disabled");
        assert_eq!(look("arm64", Ok(())), "own qemu-aarch64-static");
    }

    #[test]
    fn lines_for_the_kernel() {
        let line = |arch: &str| {
            let processor = PROCESSORS.iter().find(|one| one.arch == arch).expect("known");
            processor.line(Path::new("/q")).replace("\\x", "")
        };
        assert_eq!(
            line("arm64"),
            ":qemu-aarch64:M::7f454c460201010000000000000000000200b700:\
                ffffffffffffff00fffffffffffffffffeffffff:/q:POF"
        );
        assert_eq!(
            line("s390x"),
            ":qemu-s390x:M::7f454c4602020100000000000000000000020016:\
                ffffffffffffff00fffffffffffffffffffeffff:/q:POF"
        );
        assert!(line("arm").starts_with(":qemu-arm:M::7f454c4601010100000000000000000002002800:"));
        for one in PROCESSORS {
            let magic = one.head(3).to_vec();
            let entry = Entry {
                interpreter: PathBuf::new(),
                flags: String::new(),
                mask: vec![0xff; 16],
                magic: magic[..16].to_vec(),
            };
            assert!(entry.takes(one), "{}", one.arch);
        }
    }
}
