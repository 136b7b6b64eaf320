//! What starts a machine: the boot partition of its disk against the image. The files of the root
//! say nothing of it: a disk with another kernel, another command line or an unchecked root has
//! drifted as well.
//!
//! ```text
//! .linux     the kernel of the image, by its digest      .uname    its release
//! .osrel     os-release of the image                     .initrd   bake's own: reported, by its digest
//! .cmdline   the root's partition and file system, its hash as it was found; then what a recipe may add
//! ```

use std::collections::BTreeMap;

use super::report::{AtBoot, OnDisk, PartChange};
use crate::digest::{Digest, Hasher};
use crate::dissect::{self, BootFile, Bytes, Checked, Section};
use crate::tree::{Kind, Tree};

/// What the boot partition is called in a report.
const ESP: &str = "esp";

/// Bytes that are hashed at once.
const CHUNK: u64 = 1 << 20;

/// Longest part of a boot program that is text.
const MOST_TEXT: u64 = 64 << 10;

/// What firmware starts by itself.
const FIRST: [&str; 2] = ["EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/BOOTAA64.EFI"];

/// systemd's boot loader and boot stub in an image, for each machine.
const LOADERS: [&str; 2] = [
    "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
    "usr/lib/systemd/boot/efi/systemd-bootaa64.efi",
];

/// What systemd-boot, and the machine that it starts, write; and firmware that has no store of its
/// own for its variables (EDK II, OvmfPkg/Library/NvVarsFileLib).
const WRITTEN: [&str; 4] =
    ["loader/random-seed", "loader/entries.srel", "loader/loader.conf", "NvVars"];

/// What a version should be started as.
pub(super) struct Expected<'a> {
    /// The image.
    pub(super) tree: &'a Tree,
    /// Names of the partitions with roots: of this version first.
    pub(super) roots: &'a [String],
    /// Of this version.
    pub(super) file_system: &'a str,
    /// What its hash tree says, if it has one.
    pub(super) checked: Option<&'a Checked>,
}

/// A unified kernel image.
struct Program<'a> {
    file: &'a BootFile,
    sections: Vec<Section>,
}

impl Program<'_> {
    fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    fn text(&self, name: &str) -> Result<Option<String>, dissect::Error> {
        let Some(section) = self.section(name).filter(|one| one.size <= MOST_TEXT) else {
            return Ok(None);
        };
        let mut bytes = vec![0; usize::try_from(section.size).unwrap_or(0)];
        self.file.content.read_at(section.start, &mut bytes)?;
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(Some(String::from_utf8_lossy(text).trim().to_owned()))
    }

    fn digest(&self, name: &str) -> Result<Option<(Digest, u64)>, dissect::Error> {
        let one = |section: &Section| {
            let digest = hash(&self.file.content, section.start, section.size)?;
            Ok((digest, section.size))
        };
        self.section(name).map(one).transpose()
    }
}

fn hash(of: &dyn Bytes, start: u64, size: u64) -> Result<Digest, dissect::Error> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; usize::try_from(CHUNK.min(size)).unwrap_or(0)];
    let mut done = 0;
    while done < size {
        let n = usize::try_from((size - done).min(CHUNK)).unwrap_or(0);
        of.read_at(start + done, &mut buffer[..n])?;
        hasher.update(&buffer[..n]);
        done += n as u64;
    }
    Ok(hasher.finish())
}

/// The words of a kernel's command line that bake writes, and the others; of the same word twice
/// the last one counts.
fn words(line: &str) -> (BTreeMap<&str, &str>, String) {
    let own = ["bake.root", "bake.fs", "bake.verity"];
    let (mut found, mut others) = (BTreeMap::new(), vec![]);
    for word in line.split_whitespace() {
        match word.split_once('=') {
            Some((key, value)) if own.contains(&key) => drop(found.insert(key, value)),
            // It goes with a root that is checked.
            _ if word == "systemd.verity=no" => {}
            _ => others.push(word),
        }
    }
    (found, others.join(" "))
}

/// Compares what is in a boot partition with what the version should be started by; the
/// differences go to `on`.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn compare(
    files: &[BootFile],
    expected: &Expected<'_>,
    on: &mut OnDisk,
) -> Result<(), dissect::Error> {
    let own = expected.roots.first().map_or("", String::as_str);
    let mut starts = vec![];
    for file in files {
        let sections = dissect::sections(&file.content).unwrap_or_default();
        let program = Program { file, sections };
        let line = program.text(".cmdline")?;
        let root = line.as_deref().and_then(|line| words(line).0.get("bake.root").copied());
        match root {
            Some(root) if root == own => starts.push(program),
            // That of another version, which has a root of its own on the disk.
            Some(root) if expected.roots.iter().any(|known| known == root) => {}
            _ => on.changes.extend(stray(&program, expected.tree)?),
        }
    }
    if starts.is_empty() {
        let what = "nothing in the boot partition starts this version".to_owned();
        let path = on.boot.take().map_or_else(|| FIRST[0].to_owned(), |boot| boot.program);
        on.changes.push(PartChange {
            part: ESP.to_owned(),
            path: Some(path),
            what,
            ..<_>::default()
        });
    }
    for program in &starts {
        version(program, expected, on)?;
    }
    Ok(())
}

/// Says what is wrong with a file that starts no version.
fn stray(program: &Program<'_>, tree: &Tree) -> Result<Option<PartChange>, dissect::Error> {
    let BootFile { path, content } = program.file;
    if WRITTEN.contains(&path.as_str()) {
        return Ok(None);
    }
    let size = content.size();
    let same = |loader: &str| match tree.get(loader.as_bytes()).map(|node| &node.kind) {
        Some(Kind::File { size: should, digest: Some(digest) }) if *should == size => {
            Ok(hash(content, 0, size)? == *digest)
        }
        _ => Ok(false),
    };
    for loader in LOADERS {
        if same(loader)? {
            return Ok(None);
        }
    }
    let what = match FIRST.contains(&path.as_str()) {
        true => "is neither a boot loader of the image nor a kernel of it",
        false => "is not bake's",
    };
    let (part, path) = (ESP.to_owned(), Some(path.clone()));
    Ok(Some(PartChange { part, path, what: what.to_owned(), ..PartChange::default() }))
}

/// Compares the parts of what starts this version.
fn version(
    program: &Program<'_>,
    expected: &Expected<'_>,
    on: &mut OnDisk,
) -> Result<(), dissect::Error> {
    let tree = expected.tree;
    let mut differ = |what: &str, before: Option<String>, after: Option<String>| {
        if before != after {
            let (part, path) = (ESP.to_owned(), Some(program.file.path.clone()));
            on.changes.push(PartChange { part, path, what: what.to_owned(), before, after });
        }
    };
    let digest_of = |path: &[u8]| match tree.get(&tree.resolve(path)).map(|node| &node.kind) {
        Some(Kind::File { digest, .. }) => *digest,
        _ => None,
    };
    let text = |digest: Option<Digest>| digest.map(|digest| digest.to_string());
    let section = |name: &str| Ok(program.digest(name)?.map(|(digest, _)| digest));

    let kernel = kernel(tree);
    let release = kernel.as_ref().map(|(release, _)| release.clone());
    differ("release of the kernel", release.clone(), program.text(".uname")?);
    differ("kernel", text(kernel.map(|(_, digest)| digest)), text(section(".linux")?));
    let os_release = digest_of(b"etc/os-release").or_else(|| digest_of(b"usr/lib/os-release"));
    differ("os-release", text(os_release), text(section(".osrel")?));

    let line = program.text(".cmdline")?.unwrap_or_default();
    let (own, others) = words(&line);
    let given = |key: &str| own.get(key).map(|value| (*value).to_owned());
    differ("file system of the root", Some(expected.file_system.to_owned()), given("bake.fs"));
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let hash = expected.checked.map(|checked| {
        format!("{}:{}:{}", checked.blocks, hex(&checked.root_hash), hex(&checked.salt))
    });
    differ("hash of the root", hash, given("bake.verity"));
    on.boot = Some(AtBoot {
        program: program.file.path.clone(),
        command_line: others,
        release,
        initrd: section(".initrd")?,
    });
    Ok(())
}

/// Finds the one kernel of an image, as when its disk is made; returns release and digest.
fn kernel(tree: &Tree) -> Option<(String, Digest)> {
    let modules = b"usr/lib/modules/".as_slice();
    let file = |path: &str| match tree.get(&tree.resolve(path.as_bytes())).map(|node| &node.kind) {
        Some(Kind::File { digest, .. }) => *digest,
        _ => None,
    };
    let mut releases = tree.iter().filter_map(|(path, node)| {
        let release = path.strip_prefix(modules)?;
        let here = node.kind == Kind::Dir && !release.contains(&b'/');
        here.then(|| String::from_utf8_lossy(release).into_owned())
    });
    releases.find_map(|release| {
        let boot = file(&format!("boot/vmlinuz-{release}"));
        let found = boot.or_else(|| file(&format!("usr/lib/modules/{release}/vmlinuz")));
        found.map(|digest| (release, digest))
    })
}
