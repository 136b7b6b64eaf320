//! Disks in the formats of hypervisors, the same bytes each time: what their makers draw by chance
//! or take from the clock is derived from the image's digest instead.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crc::{CRC_32_ISCSI, Crc};

use super::error::{Error, doing};
use super::machine::identifier;

/// Bytes of the footer of a VHD.
pub const VHD_FOOTER: usize = 512;

/// Seconds between 1970 and 2000, from which a VHD counts.
const VHD_EPOCH: i64 = 946_684_800;

/// Returns what a raw disk of `size` bytes has behind it as a fixed VHD ("Virtual Hard Disk Image
/// Format Specification", Microsoft, 2006). Its geometry is the largest there is, which says that
/// the size counts. `time`: in seconds since 1970.
#[must_use]
pub fn vhd_footer(size: u64, seed: &[u8; 32], time: i64) -> [u8; VHD_FOOTER] {
    let time = u32::try_from(time - VHD_EPOCH).unwrap_or(0);
    let id = identifier(seed, "vhd");
    let fields: [&[u8]; 15] = [
        b"conectix",
        // The feature bit that is always set; version 1.0; no further header.
        &2_u32.to_be_bytes(),
        &0x1_0000_u32.to_be_bytes(),
        &u64::MAX.to_be_bytes(),
        &time.to_be_bytes(),
        // Who made it, in which version, on which system (the format knows two).
        b"bake",
        &0x1_0000_u32.to_be_bytes(),
        b"Wi2k",
        // The size at first and now.
        &size.to_be_bytes(),
        &size.to_be_bytes(),
        // Cylinders, heads, sectors of a track.
        &[0xff, 0xff, 16, 255],
        // Fixed.
        &2_u32.to_be_bytes(),
        // The checksum, below.
        &[0; 4],
        id.as_bytes(),
        &[0],
    ];
    let mut footer = [0; VHD_FOOTER];
    let bytes = fields.concat();
    footer[..bytes.len()].copy_from_slice(&bytes);
    let sum: u32 = footer.iter().map(|byte| u32::from(*byte)).sum();
    footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
    footer
}

/// Bytes of a sector, in which a VMDK counts.
const SECTOR: u64 = 512;

/// Most bytes of a descriptor that is looked at.
const VMDK_DESCRIPTOR: u64 = 1 << 20;

/// Sets the content identifier of a VMDK with an embedded descriptor ("Virtual Disk Format 5.0",
/// VMware, 2011), which qemu-img draws by chance.
///
/// # Errors
/// [`Error::Format`] where it is no such file; what reading and writing fails with.
pub fn settle_vmdk(disk: &File, seed: &[u8; 32]) -> Result<(), Error> {
    let failed = doing("set the identifier of a VMDK");
    let read = |at: u64, bytes: usize| read(disk, at, bytes, &failed);
    let head = read(0, SECTOR as usize)?;
    let at = u64_at(&head, 28).saturating_mul(SECTOR);
    let size = u64_at(&head, 36).saturating_mul(SECTOR);
    if !head.starts_with(b"KDMV") || at == 0 || !(1..=VMDK_DESCRIPTOR).contains(&size) {
        return Err(Error::Format("no VMDK with a descriptor in it"));
    }
    let descriptor = read(at, size as usize)?;
    let text = descriptor.split(|byte| *byte == 0).next().unwrap_or_default();
    let key = b"\nCID=";
    let found = text.windows(key.len()).position(|bytes| bytes == key);
    let number = found.ok_or(Error::Format("no VMDK with an identifier in its descriptor"))?;
    let (before, drawn) = text.split_at(number + key.len());
    // As many digits as it needs.
    let digits = drawn.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let id = u32::from_le_bytes([seed[0], seed[1], seed[2], seed[3]]);
    // ffffffff stands for no parent.
    let id = format!("{:08x}", id & 0x7fff_ffff);
    let mut settled = [before, id.as_bytes(), &drawn[digits..]].concat();
    if settled.len() >= descriptor.len() {
        return Err(Error::Format("no VMDK with room in its descriptor"));
    }
    // Behind the text is what a longer one left there.
    settled.resize(descriptor.len(), 0);
    disk.write_all_at(&settled, at).map_err(failed)
}

/// Bytes of a header of a VHDX that its checksum covers, and where the two headers are.
const VHDX_HEADER: usize = 4096;
const VHDX_HEADERS: [u64; 2] = [64 << 10, 128 << 10];

/// Where the first region table is, and which region holds the metadata.
const VHDX_REGIONS: u64 = 192 << 10;
const VHDX_METADATA: [u8; 16] =
    *b"\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";

/// Which item of the metadata names the disk.
const VHDX_PAGE83: [u8; 16] = *b"\xab\x12\xca\xbe\xe6\xb2\x23\x45\x93\xef\xc3\x09\xe0\x00\xc7\x46";

/// Most entries of a region table, and of a metadata table.
const VHDX_ENTRIES: usize = 2047;

/// Sets what a VHDX that was closed properly (\[MS-VHDX\] 2.2 to 2.6) has of chance: sequence
/// numbers and identifiers of its headers, the name of the disk, and a log that is not in use.
///
/// # Errors
/// [`Error::Format`] where it is no such file; what reading and writing fails with.
pub fn settle_vhdx(disk: &File, seed: &[u8; 32]) -> Result<(), Error> {
    let failed = doing("set the identifiers of a VHDX");
    let read = |at: u64, bytes: usize| read(disk, at, bytes, &failed);
    let id = |role: &str| identifier(seed, role).to_bytes_le();
    let crc = Crc::<u32>::new(&CRC_32_ISCSI);
    for (number, at) in (1_u64..).zip(VHDX_HEADERS) {
        let mut header = read(at, VHDX_HEADER)?;
        if !header.starts_with(b"head") {
            return Err(Error::Format("no VHDX"));
        }
        if header[48..64] != [0; 16] {
            return Err(Error::Format("a VHDX whose log is in use"));
        }
        let (log_bytes, log) = (u32_at(&header, 68), u64_at(&header, 72));
        header[4..8].fill(0);
        header[8..16].copy_from_slice(&number.to_le_bytes());
        header[16..32].copy_from_slice(&id("vhdx file"));
        header[32..48].copy_from_slice(&id("vhdx data"));
        let sum = crc.checksum(&header);
        header[4..8].copy_from_slice(&sum.to_le_bytes());
        disk.write_all_at(&header, at).map_err(&failed)?;
        let unused = vec![0; log_bytes.min(64 << 20) as usize];
        disk.write_all_at(&unused, log).map_err(&failed)?;
    }
    let table = read(VHDX_REGIONS, 64 << 10)?;
    let count = (u32_at(&table, 8) as usize).min(VHDX_ENTRIES - 1);
    let region = table[16..].chunks_exact(32).take(count);
    let region = region.map(|entry| (&entry[..16], u64_at(entry, 16)));
    let metadata = find(region, &VHDX_METADATA).ok_or(Error::Format("a VHDX without metadata"))?;
    let table = read(metadata, 64 << 10)?;
    let count = (usize::from(table[10]) | usize::from(table[11]) << 8).min(VHDX_ENTRIES);
    let item = table[32..].chunks_exact(32).take(count);
    let item = item.map(|entry| (&entry[..16], u64::from(u32_at(entry, 16))));
    let name = find(item, &VHDX_PAGE83).ok_or(Error::Format("a VHDX without a name"))?;
    disk.write_all_at(&id("vhdx disk"), metadata.saturating_add(name)).map_err(failed)
}

/// Reads so many bytes.
fn read(
    disk: &File,
    at: u64,
    bytes: usize,
    failed: &dyn Fn(io::Error) -> Error,
) -> Result<Vec<u8>, Error> {
    let mut found = vec![0; bytes];
    match disk.read_exact_at(&mut found, at) {
        Ok(()) => Ok(found),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(Error::Format("cut short")),
        Err(e) => Err(failed(e)),
    }
}

fn find<'a>(entries: impl Iterator<Item = (&'a [u8], u64)>, id: &[u8; 16]) -> Option<u64> {
    entries.into_iter().find(|(found, _)| found == id).map(|(_, at)| at)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
