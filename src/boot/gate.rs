//! The tests of an image that look at it as a machine: its disk, found among its outputs or made
//! aside, and who boots it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::disk;
use super::qemu::{self, Qemu};
use crate::delivery::{Delivered, Planned};
use crate::digest::{Digest, HashReader};
use crate::job::{self, JobContext, Log, make_dir};
use crate::output::{Format, Options, Tools};
use crate::store::Version;
use crate::trial::{Booted, Error, Machine, Machines};

/// Memory of a machine of which no test says how much it has.
const MEMORY: u64 = 1 << 30;

/// What machines are booted with.
pub struct Ready<'a> {
    /// QEMU.
    pub qemu: Qemu<'a>,
    /// The programs that make disks.
    pub tools: Box<dyn Tools + 'a>,
}

/// Finds, or makes, what machines are booted with; the error says why, from the outside in.
type Open<'a> = Box<dyn Fn() -> Result<Ready<'a>, Vec<String>> + 'a>;

/// A disk of an image that is there.
struct Disk {
    /// The manifest of the image.
    image: Digest,
    format: Format,
    options: Options,
    path: PathBuf,
    /// sha256 of the file.
    digest: Digest,
}

/// Who boots the machines of a run.
pub struct Gate<'a> {
    job: JobContext<'a>,
    open: Open<'a>,
    ready: OnceLock<Ready<'a>>,
    /// Disks that need not be made.
    disks: Vec<Disk>,
}

impl<'a> Gate<'a> {
    /// Nothing is opened before a machine is to be booted.
    pub fn new(
        job: JobContext<'a>,
        open: impl Fn() -> Result<Ready<'a>, Vec<String>> + 'a,
    ) -> Self {
        Self { job, open: Box::new(open), ready: OnceLock::new(), disks: vec![] }
    }

    /// Takes note of the outputs of an image: those that are disks need not be made.
    pub fn has(&mut self, image: &Version, outputs: &[Planned], delivered: &[Delivered]) {
        for (planned, made) in outputs.iter().zip(delivered) {
            if let (Format::Disk | Format::Qcow2, Some(digest)) = (planned.format, made.digest) {
                let (image, format, path) =
                    (image.manifest.digest, planned.format, made.at.clone());
                let options = planned.options().clone();
                self.disks.push(Disk { image, format, options, path, digest });
            }
        }
    }

    /// Finds what machines are booted with.
    ///
    /// # Errors
    /// [`Error::NoMachine`] where it cannot be found or made.
    pub fn ready(&self) -> Result<&Ready<'a>, Error> {
        if let Some(ready) = self.ready.get() {
            return Ok(ready);
        }
        let ready = (self.open)().map_err(|why| Error::NoMachine { why })?;
        Ok(self.ready.get_or_init(|| ready))
    }
}

impl Machines for Gate<'_> {
    fn boot(
        &self,
        image: &Machine<'_>,
        log: &mut Log,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Booted, Error> {
        let (format, options) = disk::described(&image.boot.disk);
        let digest = image.version.manifest.digest;
        let there = self
            .disks
            .iter()
            .find(|disk| disk.image == digest && disk.format == format && disk.options == options);
        let (made, path, before);
        match there {
            Some(disk) => (path, before) = (disk.path.clone(), disk.digest),
            None => {
                let dir = make_dir(&image.staging.dir().join("boot"))?;
                let tools = &*self.ready()?.tools;
                let staging = Some(image.staging);
                made =
                    disk::make(&self.job, image.version, staging, (format, &options), &dir, tools)?;
                path = made.path().to_owned();
                before = made.exported().digest.ok_or_else(|| failed("a disk has no digest"))?;
            }
        }
        let machine = qemu::Machine {
            disk: &path,
            format: if format == Format::Qcow2 { "qcow2" } else { "raw" },
            memory: image.boot.memory.unwrap_or(MEMORY),
            data: image.boot.disk.data.values().cloned().collect(),
            identity: disk::identity(image.version),
        };
        let qemu = &self.ready()?.qemu;
        let (visited, who) = qemu.visit(&self.job, &machine, &image.visit, log, progress)?;
        let after = hash(&path).map_err(|error| failed(&error.to_string()))?;
        if after != before {
            return Err(failed("the machine has written to its disk").into());
        }
        Ok(Booted { visited, how: who.name() })
    }
}

fn hash(path: &Path) -> io::Result<Digest> {
    let mut reader = HashReader::new(File::open(path)?);
    io::copy(&mut reader, &mut io::sink())?;
    Ok(reader.finish().1)
}

fn failed(why: &str) -> job::Error {
    job::Error::Failed { what: "boot the image".to_owned(), why: why.to_owned() }
}
