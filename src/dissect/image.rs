//! What the file of a disk is: the disk itself, or a format of a hypervisor.

use std::fs::File;
use std::sync::Arc;

use super::bytes::{Bytes, Part, Raw, read};
use super::error::Error;
use super::qcow2::Qcow2;

/// Bytes at the end of a VHD of a fixed size, which begin with [`CONECTIX`].
const VHD_FOOTER: u64 = 512;
const CONECTIX: &[u8] = b"conectix";

/// The kind of a VHD that is of a fixed size ("Virtual Hard Disk Image Format Specification" 1.0).
const VHD_FIXED: [u8; 4] = [0, 0, 0, 2];

/// What is not read: where its mark is, the mark, its name, and what qemu-img calls it.
const FOREIGN: &[(usize, &[u8], &str, Option<&str>)] = &[
    (0, b"KDMV", "VMDK", Some("vmdk")),
    (0, b"COWD", "VMDK", Some("vmdk")),
    (0, b"# Disk DescriptorFile", "VMDK", Some("vmdk")),
    (0, b"vhdxfile", "VHDX", Some("vhdx")),
    (0, CONECTIX, "VHD that grows", Some("vpc")),
    (0x40, b"\x7f\x10\xda\xbe", "VDI", Some("vdi")),
    (0, b"QED\0", "QED", Some("qed")),
    (0, b"LUKS\xba\xbe", "LUKS", None),
    (0, b"\xfd7zXZ\0", "xz; unpack it first", None),
    (0, b"\x1f\x8b", "gzip; unpack it first", None),
    (0, b"\x28\xb5\x2f\xfd", "zstd; unpack it first", None),
];

/// The bytes of a disk, and the format of the file that they are in.
pub struct Image {
    /// The disk.
    pub bytes: Arc<dyn Bytes>,
    /// `raw`, `qcow2`, `vhd`.
    pub format: &'static str,
}

/// Opens the file of a disk.
///
/// # Errors
/// [`Error::Foreign`] for a format that is not read, [`Error::Damaged`]; what reading fails with.
pub fn open(file: File) -> Result<Image, Error> {
    let raw: Arc<dyn Bytes> = Arc::new(Raw::new(file)?);
    let size = raw.size();
    let head = read(&*raw, 0, usize::try_from(size.min(512)).unwrap_or(0))?;
    if head.starts_with(b"QFI\xfb") {
        return Ok(Image { bytes: Arc::new(Qcow2::open(raw)?), format: "qcow2" });
    }
    for (at, mark, name, converts) in FOREIGN {
        if head.get(*at..).is_some_and(|rest| rest.starts_with(mark)) {
            let hint = converts.map(|format| {
                format!("`qemu-img convert -f {format} -O qcow2 FILE disk.qcow2` makes one that is")
            });
            return Err(Error::Foreign {
                what: "a file of this format",
                why: (*name).into(),
                hint,
            });
        }
    }
    if size > VHD_FOOTER {
        let footer = read(&*raw, size - VHD_FOOTER, VHD_FOOTER as usize)?;
        if footer.starts_with(CONECTIX) && footer[60..64] == VHD_FIXED {
            let disk = Part::new("the disk", &raw, 0, size - VHD_FOOTER)?;
            return Ok(Image { bytes: Arc::new(disk), format: "vhd" });
        }
    }
    Ok(Image { bytes: raw, format: "raw" })
}
