//! qcow2, versions 2 and 3 (QEMU, docs/interop/qcow2.rst): clusters that are somewhere in the file,
//! packed, or nowhere.
//!
//! ```text
//! header ─► L1 table (in memory) ─► L2 tables (a few are kept) ─► clusters
//! ```
//! What a snapshot in the file holds is not looked at: the disk is what the next boot would see.

use std::collections::VecDeque;
use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};

use super::bytes::{Bytes, read, within};
use super::error::{Error, damaged, foreign};
use super::record::Record;

const WHAT: &str = "the qcow2 file";

/// Most bytes of the L1 table, as in QEMU.
const MOST_L1: u64 = 32 << 20;

/// Bits of an entry that are an offset.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

const PACKED: u64 = 1 << 62;

/// The cluster reads as zeros.
const ZERO: u64 = 1;

/// Tables, and clusters that were packed, that are kept.
const KEPT: usize = 16;

/// How clusters are packed.
#[derive(Clone, Copy)]
enum Packing {
    Deflate,
    Zstd,
}

pub(super) struct Qcow2 {
    file: Arc<dyn Bytes>,
    size: u64,
    cluster_bits: u32,
    packing: Packing,
    l1: Vec<u64>,
    /// What was read last, by offset in the file or entry.
    kept: Mutex<VecDeque<(u64, Arc<[u8]>)>>,
}

impl Qcow2 {
    pub(super) fn open(file: Arc<dyn Bytes>) -> Result<Self, Error> {
        let bytes = read(&*file, 0, usize::try_from(file.size().min(512)).unwrap_or(0))?;
        let head = Record::new(WHAT, &bytes);
        let version = head.be32(4)?;
        if !matches!(version, 2 | 3) {
            return Err(foreign(WHAT, format!("version {version}")));
        }
        let backing = head.be64(8)?;
        if backing != 0 {
            let length = head.be32(16)?.min(1023) as usize;
            let name = read(&*file, backing, length).unwrap_or_default();
            return Err(Error::Foreign {
                what: WHAT,
                why: format!("it stands on another file, {:?}", String::from_utf8_lossy(&name)),
                hint: Some("`qemu-img convert -O qcow2 FILE whole.qcow2` joins both".to_owned()),
            });
        }
        if head.be32(32)? != 0 {
            return Err(foreign(WHAT, "it is encrypted"));
        }
        let features = if version == 3 { head.be64(72)? } else { 0 };
        if features & 2 != 0 {
            return Err(damaged(WHAT, "QEMU has marked it as corrupt"));
        }
        for (bit, name) in [(4, "its data is in another file"), (16, "it has extended L2 entries")]
        {
            if features & bit != 0 {
                return Err(foreign(WHAT, name));
            }
        }
        // 1: not closed properly, which only counts of clusters suffer from. 8: how it is packed.
        if features & !0x1f != 0 {
            return Err(foreign(WHAT, format!("features {features:#x}")));
        }
        let packing = match (features & 8 != 0).then(|| head.byte(104)).transpose()? {
            None | Some(0) => Packing::Deflate,
            Some(1) => Packing::Zstd,
            Some(other) => return Err(foreign(WHAT, format!("packed by method {other}"))),
        };
        let (cluster_bits, size) = (head.be32(20)?, head.be64(24)?);
        let (count, table) = (u64::from(head.be32(36)?), head.be64(40)?);
        if !(9..=21).contains(&cluster_bits) {
            return Err(damaged(WHAT, format!("clusters of 2^{cluster_bits} bytes")));
        }
        // A table of the second level is a cluster of entries of eight bytes.
        let covered = 1_u64 << (2 * cluster_bits - 3);
        if size.div_ceil(covered) > count || count * 8 > MOST_L1 {
            return Err(damaged(WHAT, format!("{size} bytes in {count} tables")));
        }
        let table = read(&*file, table, usize::try_from(count * 8).unwrap_or(usize::MAX))?;
        let l1 = table.as_chunks().0.iter().map(|entry| u64::from_be_bytes(*entry)).collect();
        Ok(Self { file, size, cluster_bits, packing, l1, kept: Mutex::default() })
    }

    fn cluster(&self) -> usize {
        1 << self.cluster_bits
    }

    /// Returns what was kept under a number, or makes it.
    fn keep(
        &self,
        number: u64,
        make: impl FnOnce() -> Result<Vec<u8>, Error>,
    ) -> Result<Arc<[u8]>, Error> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = kept().iter().find(|(known, _)| *known == number) {
            return Ok(found.clone());
        }
        let made: Arc<[u8]> = make()?.into();
        let mut kept = kept();
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((number, made.clone()));
        Ok(made)
    }

    /// Returns the entry of the second level for the cluster at a byte of the disk; 0 for none.
    fn entry(&self, at: u64) -> Result<u64, Error> {
        let entries = u64::from(self.cluster_bits) - 3;
        let number = at >> self.cluster_bits;
        let first = usize::try_from(number >> entries).unwrap_or(usize::MAX);
        let table = self.l1.get(first).copied().unwrap_or(0) & OFFSET;
        if table == 0 {
            return Ok(0);
        }
        let table = self.keep(table, || read(&*self.file, table, self.cluster()))?;
        let place = (number & ((1 << entries) - 1)) * 8;
        Record::new(WHAT, &table).be64(usize::try_from(place).unwrap_or(usize::MAX))
    }

    fn unpack(&self, entry: u64) -> Result<Vec<u8>, Error> {
        let bits = 62 - (self.cluster_bits - 8);
        let at = entry & ((1 << bits) - 1);
        let sectors = ((entry & !PACKED) >> bits) + 1;
        // The last sector may be cut at the end of the file.
        let end = ((at & !511) + sectors * 512).min(self.file.size());
        let size = end.checked_sub(at).and_then(|size| usize::try_from(size).ok());
        let packed =
            read(&*self.file, at, size.ok_or_else(|| damaged(WHAT, "a cluster is gone"))?)?;
        let mut out = vec![0; self.cluster()];
        let unpacked = match self.packing {
            Packing::Deflate => flate2::read::DeflateDecoder::new(&packed[..]).read_exact(&mut out),
            Packing::Zstd => zstd::stream::read::Decoder::new(&packed[..])
                .and_then(|mut decoder| decoder.read_exact(&mut out)),
        };
        unpacked.map_err(|error| damaged(WHAT, format!("a packed cluster: {error}")))?;
        Ok(out)
    }
}

impl Bytes for Qcow2 {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<(), Error> {
        if !within(self.size, at, buffer.len()) {
            return Err(damaged("the disk", "something lies beyond its end"));
        }
        let (mut at, mut rest) = (at, buffer);
        while !rest.is_empty() {
            let within = usize::try_from(at).unwrap_or(0) & (self.cluster() - 1);
            let (now, later) = rest.split_at_mut((self.cluster() - within).min(rest.len()));
            let entry = self.entry(at)?;
            if entry & PACKED != 0 {
                let cluster = self.keep(entry, || self.unpack(entry))?;
                now.copy_from_slice(&cluster[within..within + now.len()]);
            } else if entry & OFFSET == 0 || entry & ZERO != 0 {
                now.fill(0);
            } else {
                self.file.read_at((entry & OFFSET) + within as u64, now)?;
            }
            at += now.len() as u64;
            rest = later;
        }
        Ok(())
    }
}
