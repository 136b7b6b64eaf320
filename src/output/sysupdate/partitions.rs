//! A version of a machine that updates itself in place, as files for systemd-sysupdate, each for a
//! partition or for the boot partition:
//!
//! ```text
//! NAME_VERSION.root-x86-64.UUID.raw          the root file system
//! NAME_VERSION.root-x86-64-verity.UUID.raw   its hash tree
//! NAME_VERSION.efi                           the unified kernel image
//! ```
//! The types of partitions are called as in the Discoverable Partitions Specification. UUID is what
//! the partition is identified by (`@u` in sysupdate.d(5)): half of the root hash, so that a machine
//! that was updated has the partitions of one that was made anew.

use std::io::{BufWriter, Write};
use std::path::Path;

use super::name::{Name, New, ROOTS};
use crate::digest::HashWriter;
use crate::disk::Content;
use crate::disk::machine::{self, Machine};
use crate::output::disk::{versioned_label, with_machine};
use crate::output::error::Error;
use crate::output::filesystem::{Tools, no_program};
use crate::output::flat::Flat;
use crate::output::options::{Lack, Options, Remark, Source};
use crate::output::place::NewFile;
use crate::output::source::Image;

/// Makes the files of a version aside; what starts it comes last.
pub(super) fn make(
    source: &Source<'_>,
    name: &Name,
    dir: &Path,
    options: &Options,
    tools: Option<&dyn Tools>,
) -> Result<(Vec<New>, Vec<Remark>), Error> {
    let tools = tools.ok_or_else(|| no_program("mkfs.erofs"))?;
    let image = Image::open(source)?;
    versioned_label(&image)?;
    if options.disk.writable {
        let what = "its root is written to, and is not replaced by a version".to_owned();
        let mend = "make partitions of machines whose root is read-only".to_owned();
        return Err(Error::NoMachine { lacks: vec![Lack { what, mend }] });
    }
    let flat = Flat::read(&image, dir)?;
    with_machine(&image, &flat, options, (tools, dir), true, |machine| parts(machine, name, dir))
}

fn parts(mut machine: Machine<'_>, name: &Name, dir: &Path) -> Result<Vec<New>, Error> {
    let version = machine::version(&mut machine).map_err(|source| Error::Disk { source })?;
    let kind = ROOTS.iter().find(|(architecture, _)| *architecture == machine.architecture);
    let kind = kind.map_or("root", |(_, kind)| kind);
    let [root, tree] = version.ids;
    let copied = |source| Error::Copy { source };
    let whole = machine.root.try_clone().map_err(copied)?;
    let files = [
        (format!("{kind}.{root}.raw"), Content::File(whole, machine.root_size)),
        (format!("{kind}-verity.{tree}.raw"), Content::Bytes(version.tree)),
        ("efi".to_owned(), Content::Bytes(version.program.unwrap_or_default())),
    ];
    let one = |(kind, content): (String, Content)| {
        let file = name.file(&kind);
        let place = NewFile::new(&dir.join(&file), true)?;
        let mut out = HashWriter::new(BufWriter::with_capacity(1 << 20, place.file()));
        content.copy(&mut out).and_then(|()| out.flush()).map_err(copied)?;
        let (_, digest, bytes) = out.finish();
        Ok(New { file, place, digest, bytes })
    };
    files.into_iter().map(one).collect()
}
