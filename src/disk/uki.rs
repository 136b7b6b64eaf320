//! A unified kernel image: kernel, initrd and command line in one program that UEFI firmware
//! starts.
//!
//! It is systemd's boot stub with further sections (UAPI.5, "Unified Kernel Images"; the file is
//! as in Microsoft's "PE Format"). Nothing of the stub moves: the headers of the new sections go
//! into the room behind its own, their bytes behind its last one.

use std::io::Write;

use super::content::Content;
use super::error::{Error, doing};

/// Bytes of a section header.
const HEADER: usize = 40;

/// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`.
const DATA: u32 = 0x4000_0040;

/// A section that is added.
#[derive(Debug)]
pub struct Section {
    /// Its name, with the dot: at most eight bytes.
    pub name: &'static str,
    /// What it holds.
    pub content: Content,
}

/// Fields of the stub that are looked at.
struct Stub {
    /// Where the COFF header begins.
    coff: usize,
    /// Where the optional header begins.
    optional: usize,
    /// Where the next section header goes.
    next: usize,
    sections: u16,
    /// Alignment in memory and in the file.
    memory: u32,
    file: u32,
    /// Where memory and file are free.
    free: (u32, u32),
    /// Up to where headers may reach.
    headers: u32,
}

/// Writes the stub with `sections` added, in their order; the kernel comes last, as it may want
/// room behind it.
///
/// # Errors
/// [`Error::Stub`] where the stub is none for 64-bit machines or has no room; what reading the
/// contents and writing fails with.
pub fn write(stub: &[u8], sections: &[Section], out: &mut dyn Write) -> Result<(), Error> {
    let parsed = parse(stub).ok_or(Error::Stub("is no PE32+ program"))?;
    let (mut memory, mut file) = parsed.free;
    let end = parsed.next + sections.len() * HEADER;
    if end > parsed.headers as usize || end > parsed.free.1 as usize {
        return Err(Error::Stub("has no room for more sections"));
    }
    let mut head = stub.to_vec();
    head.resize(file as usize, 0);
    let too_large = || Error::Stub("cannot address so large a kernel and initrd");
    for (n, section) in sections.iter().enumerate() {
        let size = u32::try_from(section.content.len()).map_err(|_| too_large())?;
        let padded = size.checked_next_multiple_of(parsed.file).ok_or_else(too_large)?;
        let name = section.name.as_bytes();
        if name.len() > 8 {
            let (what, name) = ("a section", section.name.to_owned());
            return Err(Error::Name { what, name, why: "more than 8 bytes" });
        }
        let at = parsed.next + n * HEADER;
        head[at..at + name.len()].copy_from_slice(name);
        for (offset, value) in [(8, size), (12, memory), (16, padded), (20, file), (36, DATA)] {
            put32(&mut head, at + offset, value);
        }
        memory = memory
            .checked_add(size)
            .and_then(|end| end.checked_next_multiple_of(parsed.memory))
            .ok_or_else(too_large)?;
        file = file.checked_add(padded).ok_or_else(too_large)?;
    }
    let count = parsed.sections + u16::try_from(sections.len()).unwrap_or(u16::MAX);
    head[parsed.coff + 2..parsed.coff + 4].copy_from_slice(&count.to_le_bytes());
    put32(&mut head, parsed.optional + 56, memory); // SizeOfImage
    put32(&mut head, parsed.optional + 64, 0); // CheckSum: not looked at
    let failed = doing("write a unified kernel image");
    out.write_all(&head).map_err(&failed)?;
    for section in sections {
        section.content.copy(out).map_err(&failed)?;
        let size = section.content.len();
        let rest = size.next_multiple_of(parsed.file.into()) - size;
        out.write_all(&vec![0; usize::try_from(rest).unwrap_or(0)]).map_err(&failed)?;
    }
    Ok(())
}

/// Returns the number of bytes that [`write`] writes.
///
/// # Errors
/// [`Error::Stub`].
pub fn size(stub: &[u8], sections: &[Section]) -> Result<u64, Error> {
    let parsed = parse(stub).ok_or(Error::Stub("is no PE32+ program"))?;
    let padded = |section: &Section| section.content.len().next_multiple_of(parsed.file.into());
    Ok(u64::from(parsed.free.1) + sections.iter().map(padded).sum::<u64>())
}

/// Reads what is needed of the stub's headers; nothing where it is no program of 64-bit UEFI.
fn parse(stub: &[u8]) -> Option<Stub> {
    let pe = usize::try_from(get32(stub, 0x3c)?).ok()?;
    let coff = pe.checked_add(4)?;
    let optional = coff.checked_add(20)?;
    if stub.get(..2)? != b"MZ"
        || stub.get(pe..coff)? != b"PE\0\0"
        || get16(stub, optional)? != 0x20b
    {
        return None;
    }
    let sections = get16(stub, coff + 2)?;
    let table = optional.checked_add(get16(stub, coff + 16)?.into())?;
    let next = table.checked_add(usize::from(sections) * HEADER)?;
    let (memory, file) = (get32(stub, optional + 32)?, get32(stub, optional + 36)?);
    // "PE Format", FileAlignment: at most 64 KiB. Of the other, more than this is nonsense.
    let fine = |n: u32, most| n.is_power_of_two() && n <= most;
    if !fine(memory, 1 << 24) || !fine(file, 1 << 16) {
        return None;
    }
    let (mut end, mut first) = (0, u32::MAX);
    for n in 0..usize::from(sections) {
        let at = table + n * HEADER;
        let (size, address) = (get32(stub, at + 8)?, get32(stub, at + 12)?);
        let (raw, from) = (get32(stub, at + 16)?, get32(stub, at + 20)?);
        end = address.checked_add(size.max(raw))?.max(end);
        if raw > 0 {
            first = first.min(from);
            if from.checked_add(raw)? as usize > stub.len() {
                return None;
            }
        }
    }
    // The headers are mapped as one piece; what they say they take, or less if a section begins.
    let headers = get32(stub, optional + 60)?.min(first);
    let length = u32::try_from(stub.len()).ok()?;
    let free = (end.checked_next_multiple_of(memory)?, length.checked_next_multiple_of(file)?);
    Some(Stub { coff, optional, next, sections, memory, file, free, headers })
}

fn get16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn get32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}
