//! The disk of a machine that does not run: which root is on it, and whether it is the image.
//!
//! Nothing is mounted, and no program or kernel reads it (see the room `dissect`): what a stolen
//! machine's disk holds is read by an ordinary user as well, and can do no harm.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::boot::Expected;
use super::comparison::Comparison;
use super::place::Place;
use super::report::{Claim, OnDisk, Options, PartChange, Report};
use super::rule::Rules;
use super::{MAX_IDENTITY, boot, drifted, identity, in_pool, report, still};
use crate::disk::machine::root_name;
use crate::disk::table::Kind;
use crate::disk::verity::BLOCK;
use crate::dissect::{self, Bytes, Checked, FileSystem, Part, Partition, Table};
use crate::event::Sink;
use crate::image::IDENTITY_FILE;
use crate::inspect::error::Error;
use crate::inspect::order::natural;
use crate::inspect::picture::Picture;
use crate::tree::{Subject, Tree};

/// What systemd-sysupdate calls a partition that holds no version.
const EMPTY: &str = "_empty";

/// A disk whose partitions are known.
pub struct Disk {
    path: PathBuf,
    file: File,
    stamp: Stamp,
    format: &'static str,
    bytes: Arc<dyn Bytes>,
    /// None where the file is a file system.
    table: Option<Table>,
}

/// What changes when the file is written to.
type Stamp = (u64, i64, i64, i64, i64);

/// A root on a disk.
pub struct DiskRoot {
    part: Part,
    system: Box<dyn FileSystem>,
    on: OnDisk,
}

impl Disk {
    /// Opens the file of a disk, or the disk itself.
    ///
    /// # Errors
    /// [`Error::Disk`] where it is none that can be read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Disk { path: path.to_owned(), source };
        let fail = |source| failed(dissect::Error::Io(source));
        // A fifo must not be waited for.
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty());
        let file = File::from(file.map_err(|errno| fail(errno.into()))?);
        let kind = file.metadata().map_err(fail)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(fail(io::Error::other("it is neither a file nor a disk")));
        }
        let stamp = stamp(&file).map_err(fail)?;
        let image = dissect::open(file.try_clone().map_err(fail)?).map_err(failed)?;
        let table = match dissect::read_table(&*image.bytes) {
            Ok(table) => Some(table),
            // The output `ext4` or `erofs` is a root without a disk around it.
            Err(error) => match dissect::whole(&image.bytes) {
                Ok(part) if dissect::file_system(&part).is_ok() => None,
                _ => return Err(failed(error)),
            },
        };
        let (path, dissect::Image { bytes, format }) = (path.to_owned(), image);
        Ok(Self { path, file, stamp, format, bytes, table })
    }

    /// Opens the root of an image, by the name of its partition; where no image is named, the one
    /// there is, and of several the newest version.
    ///
    /// # Errors
    /// [`Error::NoRoot`] where there is none, or several and none is of the image;
    /// [`Error::Disk`].
    pub fn root(&self, subject: Option<&Subject>) -> Result<DiskRoot, Error> {
        let failed = |source| Error::Disk { path: self.path.clone(), source };
        let mut on = OnDisk { format: self.format, ..OnDisk::default() };
        let part = match &self.table {
            None => dissect::whole(&self.bytes).map_err(failed)?,
            Some(table) => {
                let (chosen, others) = self.choose(table, subject)?;
                on.partition = Some(chosen.name.clone());
                on.number = Some(chosen.number);
                on.others = others;
                on.remarks.extend(table.copy_because.as_ref().map(|why| {
                    format!("its partition table was read from the copy at its end: {why}")
                }));
                chosen.of(&self.bytes).map_err(failed)?
            }
        };
        let system = dissect::file_system(&part).map_err(failed)?;
        on.file_system = system.name();
        on.remarks.extend(system.remark());
        Ok(DiskRoot { part, system, on })
    }

    fn choose<'a>(
        &self,
        table: &'a Table,
        subject: Option<&Subject>,
    ) -> Result<(&'a Partition, Vec<String>), Error> {
        let is_root =
            |one: &&Partition| matches!(one.kind, Some(Kind::Root(_))) && one.name != EMPTY;
        let roots: Vec<&Partition> = table.partitions.iter().filter(is_root).collect();
        let no_root = |why: String| Error::NoRoot { path: self.path.clone(), why };
        let wanted = subject.map(|one| root_name(&one.name, &one.version, &one.digest.hex()));
        let names = || roots.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
        let chosen = match (roots.as_slice(), &wanted) {
            ([], _) => return Err(no_root("no partition of it is a root".to_owned())),
            ([one], _) => *one,
            (several, Some(wanted)) => *several
                .iter()
                .find(|one| one.name == *wanted)
                .ok_or_else(|| no_root(format!("of its roots {} none is {wanted}", names())))?,
            (several, None) => several
                .iter()
                .max_by(|a, b| natural(&a.name, &b.name))
                .ok_or_else(|| no_root("no partition of it is a root".to_owned()))?,
        };
        let others = roots.iter().filter(|one| one.number != chosen.number);
        Ok((chosen, others.map(|one| one.name.clone()).collect()))
    }

    /// Compares a root of the disk with an image.
    ///
    /// # Errors
    /// As [`super::drift`]; [`Error::Disk`] where it is written to meanwhile.
    pub fn drift(
        &self,
        root: &DiskRoot,
        claim: &Claim,
        picture: &Picture,
        options: &Options,
        sink: &Sink,
    ) -> Result<Report, Error> {
        let failed = |source| Error::Disk { path: self.path.clone(), source };
        let Picture { subject, tree } = picture;
        let ignored = subject.ignore.iter().chain(&options.ignore);
        let rules = Rules::new(tree, &subject.volumes, ignored, options.strict)?;
        let names = Comparison::new(tree, &rules, options.all);
        let (mut done, what) = (Ok(()), self.path.display().to_string());
        in_pool(|| done = still::compare(&*root.system, &names, what, sink));
        done.map_err(failed)?;
        let mut on = root.on.clone();
        if let Some(table) = &self.table {
            self.parts(table, root, tree, &mut on).map_err(failed)?;
        }
        if stamp(&self.file).map_err(|source| failed(dissect::Error::Io(source)))? != self.stamp {
            let why = "it was written to while it was read; stop the machine first";
            return Err(failed(dissect::Error::Io(io::Error::other(why))));
        }
        let found = names.end();
        if !on.changes.is_empty() {
            return Ok(drifted(&self.path, claim, picture, found, options.now, on));
        }
        let report = report(&self.path, claim, picture, found, options.now)?;
        Ok(Report { disk: Some(on), ..report })
    }

    /// Compares what is on the disk besides the root: its hash tree, and what starts it.
    fn parts(
        &self,
        table: &Table,
        root: &DiskRoot,
        tree: &Tree,
        on: &mut OnDisk,
    ) -> Result<(), dissect::Error> {
        let own = on.partition.clone().unwrap_or_default();
        let called = format!("{own}_verity");
        let hashes = table.partitions.iter().find(|one| one.name == called);
        let mut checked = None;
        if let Some(hashes) = hashes {
            let found = dissect::check_root(&root.part, &hashes.of(&self.bytes)?)?;
            blocks(&found, root, &called, on);
            on.checked = true;
            checked = Some(found);
        }
        let esp = table.partitions.iter().find(|one| one.kind == Some(Kind::Esp));
        let Some(esp) = esp else { return Ok(()) };
        let files = dissect::boot_files(&esp.of(&self.bytes)?)?;
        let others = on.others.clone();
        let roots: Vec<String> = std::iter::once(own).chain(others).collect();
        let (checked, file_system) = (checked.as_ref(), on.file_system);
        boot::compare(&files, &Expected { tree, roots: &roots, file_system, checked }, on)
    }

    /// Returns the report of a root of the disk whose image nobody knows.
    pub fn unknown(&self, root: &DiskRoot, claim: &Claim, now: i64) -> Report {
        Report { disk: Some(root.on.clone()), ..super::unknown(&self.path, claim, now) }
    }
}

/// Says which blocks are not what the hash tree has, and of which files they are.
fn blocks(checked: &Checked, root: &DiskRoot, tree: &str, on: &mut OnDisk) {
    let part = on.partition.clone().unwrap_or_default();
    let files = still::files_at(&*root.system, &checked.wrong, BLOCK);
    for (block, path) in checked.wrong.iter().zip(files) {
        let what = format!("block {block} is not what its hash says");
        on.changes.push(PartChange { part: part.clone(), path, what, ..PartChange::default() });
    }
    let more = checked.wrong_count - checked.wrong.len() as u64;
    for (part, count, what) in [
        (&*part, more, "more blocks are not what their hashes say"),
        (tree, checked.wrong_hashes, "of its blocks are not what their hashes say"),
    ] {
        if count > 0 {
            let (part, what) = (part.to_owned(), format!("{count} {what}"));
            on.changes.push(PartChange { part, what, ..PartChange::default() });
        }
    }
}

fn stamp(file: &File) -> io::Result<Stamp> {
    let found = file.metadata()?;
    Ok((found.len(), found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()))
}

impl DiskRoot {
    /// Reads what the root says of itself.
    pub fn claim(&self) -> Claim {
        let identity = self.small(IDENTITY_FILE, MAX_IDENTITY).and_then(|text| identity(&text));
        let host = self.small("/etc/hostname", 1024).and_then(|text| String::from_utf8(text).ok());
        let host = host.map(|host| host.trim().to_owned()).filter(|host| !host.is_empty());
        Claim { host, identity, place: Place::Disk }
    }

    /// Reads a small file by its path, in which no symlink is followed.
    fn small(&self, path: &str, most: u64) -> Option<Vec<u8>> {
        let mut number = self.system.top();
        for word in path.split('/').filter(|word| !word.is_empty()) {
            let list = self.system.list(number).ok()?;
            number = list.into_iter().find(|(name, _)| name == word.as_bytes())?.1;
        }
        let inode = self.system.inode(number).ok()?;
        if inode.kind != dissect::Kind::File || inode.size > most {
            return None;
        }
        let mut out = vec![];
        self.system.read(number, &mut |bytes| out.extend(bytes)).ok()?;
        Some(out)
    }
}
