//! `squashfs`, `erofs`: the root file system as a file system image, made by the programs of these
//! file systems of the same tar that the format `tar` is. What bake writes itself is in ext4.rs.
//!
//! The same image is the same bytes: identifiers are made of its digest, times are its own, and
//! what the programs decide by the machine (workers, profiles) is given to them.

use std::fs::File;
use std::io::{self, Read, Write};

use uuid::Uuid;

use super::error::Error;
use super::flat::Flat;
use super::options::{Format, Lost, Options};
use super::source::Image;
use crate::digest::{Digest, HashReader};
use crate::disk::{self, Sparse, ext4};

/// Writes what a program reads.
pub type Feed<'a> = dyn FnMut(&mut dyn Write) -> Result<(), Error> + 'a;

/// Who runs programs that make file systems.
pub trait Tools {
    /// Names the programs: others may give other bytes.
    fn digest(&self) -> Digest;

    /// Runs a program, with what `feed` writes as its input, and returns the file that it made.
    ///
    /// # Errors
    /// [`Error::Tools`] where it cannot be run, [`Error::Program`] where it fails, and what `feed`
    /// returns.
    fn run(&self, program: &Program, feed: &mut Feed<'_>) -> Result<File, Error>;
}

/// A program that makes a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    argv: Vec<String>,
    /// Its environment, besides what everybody has.
    pub env: Vec<(String, String)>,
}

/// Stands for the path of what is made.
const IMAGE: &str = "\0image";

impl Program {
    /// A script for `sh`, in which `$0` is the path of what is to be made.
    pub(super) fn shell(script: &str) -> Self {
        let argv = ["sh", "-euc", script, IMAGE].map(str::to_owned).to_vec();
        Self { argv, env: vec![("LC_ALL".to_owned(), "C.UTF-8".to_owned())] }
    }

    /// Returns program and arguments, for a file at `image`.
    #[must_use]
    pub fn argv_for(&self, image: &str) -> Vec<String> {
        let word = |word: &String| if word == IMAGE { image.to_owned() } else { word.clone() };
        self.argv.iter().map(word).collect()
    }

    /// Returns the error of a program that failed: how, and what it printed.
    #[must_use]
    pub fn failed(&self, how: Vec<String>, printed: Vec<String>, no_room: bool) -> Error {
        Error::Program { program: self.argv[0].clone(), how, printed, no_room }
    }
}

/// Returns the error of a program that nobody has.
pub(super) fn no_program(program: &str) -> Error {
    Error::Tools { why: vec![format!("there is no {program}")] }
}

/// Makes the file system of a root, and copies it to `out`; returns digest, bytes, and what the
/// format does not hold.
pub(super) fn make(
    image: &Image<'_>,
    flat: &Flat,
    format: Format,
    options: &Options,
    tools: &dyn Tools,
    out: &File,
) -> Result<(Digest, u64, Vec<Lost>), Error> {
    let (made, lost) = made(image, flat, format, options, tools)?;
    let (digest, bytes) = copy(made, out).map_err(|source| Error::Copy { source })?;
    Ok((digest, bytes, lost))
}

/// Makes the file system of a root, and leaves it where it was made; returns also what the format
/// does not hold.
pub(super) fn made(
    image: &Image<'_>,
    flat: &Flat,
    format: Format,
    options: &Options,
    tools: &dyn Tools,
) -> Result<(File, Vec<Lost>), Error> {
    let lost = losses(flat, format);
    let program = program(image, flat, format, options);
    let mut feed = |to: &mut dyn Write| flat.write(to, true);
    Ok((tools.run(&program, &mut feed)?, lost))
}

/// What a file system is identified by.
pub(super) fn identifier(image: &Image<'_>, format: Format) -> Uuid {
    let digest = image.source.manifest.digest;
    disk::identifier(&[format!("{} {digest}", format.name()).as_bytes()])
}

fn program(image: &Image<'_>, flat: &Flat, format: Format, options: &Options) -> Program {
    let uuid = identifier(image, format).to_string();
    // No file is newer: nothing is taken for one of the future, and no time is cut.
    let epoch = flat.newest().clamp(0, i64::from(u32::MAX)).to_string();
    let label = options.label.clone().unwrap_or_default();
    let compression = options.compression.as_deref();
    let mut argv: Vec<String> = vec![];
    let mut say = |words: &[&str]| argv.extend(words.iter().map(|word| (*word).to_owned()));
    let env = vec![("LC_ALL".to_owned(), "C.UTF-8".to_owned())];
    match format {
        Format::Squashfs => {
            say(&["sqfstar", "-quiet", "-no-progress", "-mkfs-time", &epoch]);
            // Else it takes a quarter of the machine's memory; the bytes are the same.
            say(&["-mem", "64M"]);
            match compression.unwrap_or("zstd") {
                "none" => say(&["-no-compression"]),
                "zstd" => say(&["-comp", "zstd", "-Xcompression-level", "6"]),
                other => say(&["-comp", other]),
            }
            // The top of a tar has no name, and is passed over.
            let top = flat.top();
            let (mode, uid, gid) =
                (format!("{:o}", top.mode), top.uid.to_string(), top.gid.to_string());
            say(&["-root-mode", &mode, "-root-uid", &uid, "-root-gid", &gid]);
            let time = top.mtime.clamp(0, i64::from(u32::MAX)).to_string();
            say(&["-root-time", &time, IMAGE]);
        }
        _ => {
            say(&["mkfs.erofs", "--quiet", "--workers=2", "-U", &uuid, "-T", &epoch]);
            say(&["--mkfs-time", "--preserve-mtime"]);
            match compression.unwrap_or("lz4") {
                "none" => {}
                how => say(&[&format!("-z{how}"), "-C65536"]),
            }
            if !label.is_empty() {
                say(&["-L", &label]);
            }
            say(&["--tar=f", IMAGE]);
        }
    }
    Program { argv, env }
}

/// Finds what a format does not hold and leaves out.
pub(super) fn losses(flat: &Flat, format: Format) -> Vec<Lost> {
    let mut lost: Vec<Lost> = vec![];
    let mut lose = |what: &str, path: &[u8]| {
        let path = format!("/{}", String::from_utf8_lossy(path));
        match lost.iter_mut().find(|one| one.what == what) {
            Some(one) => one.paths.push(path),
            None => lost.push(Lost { what: what.to_owned(), paths: vec![path] }),
        }
    };
    let top = flat.top();
    let all = flat.nodes().map(|(path, node, _)| (path, flat.meta(node)));
    for (path, meta) in std::iter::once((&b""[..], &top)).chain(all) {
        for name in meta.xattrs.keys() {
            let name = String::from_utf8_lossy(name);
            let acl = name.starts_with("system.posix_acl_");
            match format {
                Format::Ext4 if !ext4::holds_attribute(name.as_bytes()) => {
                    lose("extended attributes", path);
                }
                Format::Squashfs if acl => lose("access control lists", path),
                Format::Squashfs if path.is_empty() => lose("extended attributes", path),
                _ => {}
            }
        }
        let seconds = match format {
            Format::Squashfs => 0..=i64::from(u32::MAX),
            Format::Ext4 => ext4::TIMES,
            _ => i64::MIN..=i64::MAX,
        };
        if !seconds.contains(&meta.mtime) {
            lose("times", path);
        }
    }
    lost
}

/// Copies a file, zeros as holes; returns its digest and bytes.
pub(super) fn copy(from: File, to: &File) -> io::Result<(Digest, u64)> {
    let mut reader = HashReader::new(from);
    let (mut buffer, mut sparse) = (vec![0; 1 << 20], Sparse::new(to, 0));
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        sparse.write_all(&buffer[..read])?;
    }
    let (_, digest, bytes) = reader.finish();
    to.set_len(bytes)?;
    Ok((digest, bytes))
}
