//! Reads `[[output]]` and `--output`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use toml::de::DeTable;

use super::kind::condition;
use super::reader::Reader;
use super::table::list;
use crate::image::RemoteName;
use crate::recipe::keys;
use crate::recipe::model::{DiskOutput, Output};
use crate::schema::{Fields, Mistake, Source, either, quote};

/// Formats that the boot of a test takes.
pub(super) const DISKS: &[&str] = &["disk", "qcow2"];

/// Formats that are machines: disks in all their formats, and what is started otherwise.
const MACHINES: &[&str] = &["disk", "qcow2", "vmdk", "vhd", "vhdx", "kernel"];

/// The same, and the parts of which machines are updated.
const PARTS: &[&str] = &["disk", "qcow2", "vmdk", "vhd", "vhdx", "kernel", "partitions"];

/// Those that firmware boots from.
const BOOTED: &[&str] = &["disk", "qcow2", "vmdk", "vhd", "vhdx"];

/// Keys that only some formats have.
const OPTIONS: [(&str, &[&str]); 11] = [
    ("owners", &["dir"]),
    ("size", &["ext4", "disk", "qcow2", "vmdk", "vhd", "vhdx", "kernel"]),
    ("label", &["ext4", "erofs"]),
    (
        "compression",
        &["squashfs", "erofs", "disk", "qcow2", "vmdk", "vhd", "vhdx", "kernel", "partitions"],
    ),
    ("root", MACHINES),
    ("cmdline", PARTS),
    ("esp", BOOTED),
    ("firmware", BOOTED),
    ("slot", BOOTED),
    ("keep", &["partitions"]),
    ("data", PARTS),
];

/// Most bytes of the serial number of a disk of virtio.
const SERIAL: usize = 20;

/// One `[[output]]`.
enum Entry {
    Output(Box<Output>),
    Push(RemoteName),
}

/// Whether it is a machine.
pub(super) fn is_machine(output: &Output) -> bool {
    MACHINES.contains(&output.format.as_str())
}

/// Whether firmware boots from it.
pub(super) fn is_booted(output: &Output) -> bool {
    BOOTED.contains(&output.format.as_str())
}

/// Whether it has a command line of the kernel: a machine, or the parts of which one is updated.
pub(super) fn has_command_line(output: &Output) -> bool {
    PARTS.contains(&output.format.as_str())
}

/// Reads the outputs of the recipe, and behind them those of the command line; and the pushes.
pub(super) fn read_outputs(
    reader: &mut Reader<'_>,
    table: &DeTable<'_>,
    given: &[String],
) -> Option<(Vec<Output>, Vec<RemoteName>)> {
    let (mut outputs, mut pushes) = (vec![], vec![]);
    for entry in list(reader, table, "output", "output", read_entry)? {
        match entry {
            Entry::Output(output) => outputs.push(*output),
            Entry::Push(to) => pushes.push(to),
        }
    }
    outputs.extend(given.iter().filter_map(|text| of_command_line(reader, text)));
    each_path_once(reader, &outputs);
    Some((outputs, pushes))
}

fn read_entry(reader: &mut Reader<'_>, place: Range<usize>, table: &DeTable<'_>) -> Option<Entry> {
    if !table.contains_key(keys::PUSH.name) {
        return read_output(reader, place, table).map(|output| Entry::Output(Box::new(output)));
    }
    reader.unknown_keys(&keys::PUSH, table);
    let on = condition(reader, table) != Some(false);
    let to = reader.fields(&keys::PUSH, place, table).text(keys::PUSH.name)?;
    // What is wrong with it is reported by its shape.
    let to = RemoteName::to_push_to(&to).ok().filter(|_| on)?;
    Some(Entry::Push(to))
}

/// Reads one; none where it is off, or wrong, which is reported.
fn read_output(
    reader: &mut Reader<'_>,
    place: Range<usize>,
    table: &DeTable<'_>,
) -> Option<Output> {
    reader.unknown_keys(&keys::OUTPUT, table);
    let on = condition(reader, table) != Some(false);
    let fields = reader.fields(&keys::OUTPUT, place, table);
    let (format, path) = (fields.text("format")?, fields.text("path")?);
    let span = fields.get("path")?.span.clone();
    options_that_fit(reader, &format, &fields);
    let (size, disk) = (size_of(reader, &fields, "size"), disk(reader, &fields));
    let (label, compression) = (fields.text("label"), fields.text("compression"));
    let keep = fields.integer("keep");
    if let Some(mistake) = no_name(&path) {
        reader.report(span, mistake);
        return None;
    }
    let place = reader.source.diagnose(span, Mistake::new(""));
    let drop_owners = fields.text("owners").as_deref() == Some("dropped");
    let (path, given) = (path.into(), false);
    let output =
        Output { format, path, given, drop_owners, size, label, compression, keep, disk, place };
    on.then_some(output)
}

/// Reads a size, if there is one; a mistake in it is reported.
pub(super) fn size_of(reader: &mut Reader<'_>, fields: &Fields, key: &str) -> Option<u64> {
    match size(&fields.text(key)?) {
        Ok(size) => Some(size),
        Err(mistake) => {
            reader.report(fields.get(key)?.span.clone(), mistake);
            None
        }
    }
}

/// Reads what disks have besides.
fn disk(reader: &mut Reader<'_>, fields: &Fields) -> DiskOutput {
    let data = fields.map("data");
    if let Some(field) = fields.get("data") {
        let mut serials = BTreeMap::new();
        for (mount, serial) in &data {
            let path = Path::new(mount);
            let straight = path.is_absolute()
                && path.components().all(|part| !matches!(part, Component::ParentDir))
                && path.parent().is_some()
                && !mount.contains(char::is_whitespace);
            let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let mistake = if !straight {
                format!("{} is no directory that a disk can be mounted on", quote(mount))
            } else if serial.len() > SERIAL {
                format!(
                    "{} has {} bytes: a serial number has at most {SERIAL}",
                    quote(serial),
                    serial.len()
                )
            } else if serial.is_empty() || !serial.chars().all(fine) {
                format!("{} is no serial number of a disk", quote(serial))
            } else if let Some(first) = serials.insert(serial, mount) {
                format!("{first} and {mount} have the same disk, {}", quote(serial))
            } else {
                continue;
            };
            let help = "a mount point, and a serial number of at most 20 letters, digits, `-`, \
                `_` and `.`, each one once";
            reader.report(field.span.clone(), Mistake::new(mistake).help(help));
        }
    }
    DiskOutput {
        writable: fields.text("root").as_deref() == Some("ext4"),
        command_line: fields.text("cmdline").unwrap_or_default(),
        esp: size_of(reader, fields, "esp"),
        slot: size_of(reader, fields, "slot"),
        data,
    }
}

/// Reads `FORMAT=PATH` of the command line.
fn of_command_line(reader: &mut Reader<'_>, text: &str) -> Option<Output> {
    let start = "--output ".len();
    let line = Source::new(Path::new("<command line>"), &format!("--output {text}"));
    let whole = start..start + text.len();
    let Some((format, path)) = text.split_once('=') else {
        let mistake = Mistake::new("an output without a path").label("write FORMAT=PATH");
        reader.mistakes.add(&line, whole, mistake);
        return None;
    };
    if !keys::FORMATS.contains(&format) {
        let names = || keys::FORMATS.iter().copied();
        let mistake = Mistake::new(format!("unknown format {}", quote(format)))
            .suggest(format, names())
            .help(format!("it is one of {}", either(names())));
        reader.mistakes.add(&line, start..start + format.len(), mistake);
        return None;
    }
    let at = start + format.len() + 1;
    let span = at..at + path.len();
    let path = match reader.scope.fill(path) {
        Ok(path) => path?,
        Err(mistakes) => {
            for (part, mistake) in mistakes {
                reader.mistakes.add(&line, at + part.start..at + part.end, mistake);
            }
            return None;
        }
    };
    if let Some(mistake) = no_name(&path) {
        reader.mistakes.add(&line, span, mistake);
        return None;
    }
    let place = line.diagnose(span, Mistake::new(""));
    let (format, path, given) = (format.to_owned(), path.into(), true);
    let disk = DiskOutput::default();
    Some(Output {
        format,
        path,
        given,
        drop_owners: false,
        size: None,
        label: None,
        compression: None,
        keep: None,
        disk,
        place,
    })
}

/// Reports options that the format does not have, or not like this.
fn options_that_fit(reader: &mut Reader<'_>, format: &str, fields: &Fields) {
    for (key, formats) in OPTIONS {
        if let Some(field) = fields.get(key).filter(|_| !formats.contains(&format)) {
            let mistake = Mistake::new(format!("`{key}` does not go with the format `{format}`"))
                .label(format!("only for {}", either(formats.iter().copied())));
            reader.report(field.key.clone(), mistake);
        }
    }
    let most = if format == "erofs" { 15 } else { 16 };
    if let (Some(label), Some(field)) = (fields.text("label"), fields.get("label"))
        && label.len() > most
    {
        let mistake = Mistake::new(format!("the label {} is too long", quote(&label)));
        reader.report(field.span.clone(), mistake.label(format!("at most {most} bytes")));
    }
    if let (Some(firmware), Some(field)) = (fields.text("firmware"), fields.get("firmware"))
        && firmware != "uefi"
    {
        let mistake = match firmware.as_str() {
            "bios" => Mistake::new("a disk cannot be booted by BIOS")
                .label("there is no boot loader for it")
                .help(
                    "take UEFI firmware, which every hypervisor has (QEMU and Proxmox: OVMF; \
                    Hyper-V and Azure: generation 2; OpenStack: hw_firmware_type=uefi), or start \
                    the kernel without firmware: `format = \"kernel\"`",
                ),
            other => Mistake::new(format!("unknown firmware {}", quote(other)))
                .help("it is `uefi`, which is the default"),
        };
        reader.report(field.span.clone(), mistake);
    }
    if let (Some("ext4"), Some(field)) = (fields.text("root").as_deref(), fields.get("slot")) {
        let mistake = Mistake::new("`slot` does not go with a root that is written to")
            .label("a version that is replaced whole is only read")
            .help("leave out `root = \"ext4\"`, and give what is written a disk: `data.\"/srv\"`");
        reader.report(field.key.clone(), mistake);
    }
    let fits = match format {
        _ if format == "erofs" || PARTS.contains(&format) => &["none", "lz4", "lz4hc", "zstd"][..],
        _ => &["none", "zstd", "gzip", "xz", "lz4"],
    };
    if let (Some(how), Some(field)) = (fields.text("compression"), fields.get("compression"))
        && !fits.contains(&how.as_str())
    {
        let mistake = Mistake::new(format!("`{format}` is not compressed with {how}"));
        let help = format!("it is one of {}", either(fits.iter().copied()));
        reader.report(field.span.clone(), mistake.help(help));
    }
}

/// Reads a size: `512MiB`, `2GiB`.
fn size(text: &str) -> Result<u64, Mistake> {
    let mistake = Mistake::new(format!("{} is not a size", quote(text)));
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => {
            let help = "write a whole number of MiB, GiB or TiB, such as \"512MiB\"";
            return Err(mistake.help(help));
        }
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes
        .filter(|bytes| (1 << 20..=16 << 40).contains(bytes))
        .ok_or_else(|| mistake.help("it is a whole number, and at most 16TiB"))
}

/// Returns what is wrong with a path that names no file.
fn no_name(path: &str) -> Option<Mistake> {
    let wrong = |what: &str| Some(Mistake::new(format!("{} {what}", quote(path))));
    if path.contains(['\0', '\n']) {
        return wrong("cannot be a path");
    }
    match Path::new(path).file_name() {
        None => wrong("is not the name of a file or directory to be made"),
        Some(_) if path.ends_with("/.") => {
            wrong("is not the name of a file or directory to be made")
        }
        Some(_) => None,
    }
}

/// Reports outputs of one path.
fn each_path_once(reader: &mut Reader<'_>, outputs: &[Output]) {
    let mut seen: BTreeMap<(bool, PathBuf), &Output> = BTreeMap::new();
    for output in outputs {
        // Two ways of writing one path are found when the build looks at the disk.
        let path: PathBuf = output.path.components().collect();
        let Some(first) = seen.insert((output.given, path), output) else { continue };
        let message =
            format!("two outputs with the path {}", quote(&output.path.to_string_lossy()));
        let mut place = output.place.clone();
        place.message = message;
        place.label = Some(format!("{} goes there already", first.format));
        reader.mistakes.add_placed(place);
    }
}
