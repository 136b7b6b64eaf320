//! The partition table: GPT (UEFI specification 2.10, chapter 5), with the types of the
//! Discoverable Partitions Specification, by which systemd finds what is what.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{OperatingSystem, Type};
use gpt::{GptConfig, GptError};
use uuid::{Uuid, uuid};

use super::error::{Error, doing};

/// Bytes to which partitions are aligned, and of which a disk has a whole number, as clouds want
/// it.
pub const ALIGN: u64 = 1 << 20;

/// Bytes of a sector.
const SECTOR: u64 = 512;

/// Most UTF-16 units of a partition's name.
const NAME: usize = 36;

/// What a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What the firmware starts.
    Esp,
    /// The root file system of this architecture.
    Root(Architecture),
    /// Its hash tree.
    RootVerity(Architecture),
    /// Anything else that Linux reads.
    Linux,
}

/// A machine that disks are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Kind {
    /// Returns what a partition of this type holds, if it is known here.
    #[must_use]
    pub fn of(guid: Uuid) -> Option<Self> {
        let machines = [Architecture::Amd64, Architecture::Arm64];
        let roots = machines.map(|machine| [Self::Root(machine), Self::RootVerity(machine)]);
        let all = roots.into_iter().flatten().chain([Self::Esp, Self::Linux]);
        all.into_iter().find(|kind| kind.guid() == guid)
    }

    /// Returns the type under which it is found.
    fn guid(self) -> Uuid {
        match self {
            Self::Esp => uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
            Self::Root(Architecture::Amd64) => uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
            Self::Root(Architecture::Arm64) => uuid!("b921b045-1df0-41c3-af44-4c6f280d3fae"),
            Self::RootVerity(Architecture::Amd64) => uuid!("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"),
            Self::RootVerity(Architecture::Arm64) => uuid!("df3300ce-d69f-4c92-978c-9bfb0f38d820"),
            Self::Linux => uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4"),
        }
    }
}

/// A partition of a disk.
#[derive(Debug, Clone)]
pub struct Partition {
    /// What it is called: at most 36 UTF-16 units.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// Its own identifier.
    pub id: Uuid,
    /// Bytes; rounded up to [`ALIGN`].
    pub size: u64,
    /// It is never written to.
    pub read_only: bool,
}

/// Returns how many bytes a disk has at least that holds these partitions.
#[must_use]
pub fn least(partitions: &[Partition]) -> u64 {
    // The table in front and the copy behind take less than the alignment.
    let used: u64 = partitions.iter().map(|one| one.size.next_multiple_of(ALIGN)).sum();
    ALIGN + used + ALIGN
}

/// Gives `file`, which is empty, `size` bytes (a multiple of [`ALIGN`]) and a partition table;
/// returns where each partition begins, in bytes.
///
/// # Errors
/// [`Error::TooSmall`], [`Error::Name`]; what writing fails with.
pub fn write(
    file: &File,
    id: Uuid,
    partitions: &[Partition],
    size: u64,
) -> Result<Vec<u64>, Error> {
    let needed = least(partitions);
    if size < needed || !size.is_multiple_of(ALIGN) {
        return Err(Error::TooSmall { what: "the partitions", size, needed });
    }
    let failed = doing("write a partition table");
    file.set_len(size).map_err(&failed)?;
    let mut device = file;
    let sectors = u32::try_from(size / SECTOR - 1).unwrap_or(u32::MAX);
    let mbr = ProtectiveMBR::with_lb_size(sectors).overwrite_lba0(&mut device);
    mbr.map_err(io::Error::other).map_err(&failed)?;
    let (mut table, mut starts, mut at) = (BTreeMap::new(), vec![], ALIGN);
    for (number, one) in (1..).zip(partitions) {
        if one.name.encode_utf16().count() > NAME {
            let (what, name) = ("a partition", one.name.clone());
            return Err(Error::Name { what, name, why: "more than 36 characters" });
        }
        let size = one.size.next_multiple_of(ALIGN);
        let partition = gpt::partition::Partition {
            part_type_guid: Type { guid: one.kind.guid(), os: OperatingSystem::None },
            part_guid: one.id,
            first_lba: at / SECTOR,
            last_lba: (at + size) / SECTOR - 1,
            // Discoverable Partitions Specification, "Partition Flags".
            flags: if one.read_only { 1 << 60 } else { 0 },
            name: one.name.clone(),
        };
        table.insert(number, partition);
        starts.push(at);
        at += size;
    }
    let written = || -> Result<(), GptError> {
        let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
        let mut gpt = config.create_from_device(device, Some(id))?;
        gpt.update_partitions(table)?;
        gpt.write()?;
        Ok(())
    };
    written().map_err(|error| failed(io::Error::other(error)))?;
    Ok(starts)
}
