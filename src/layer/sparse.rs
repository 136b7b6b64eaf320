//! Files with holes in a tar, in GNU tar's four formats (GNU tar manual, "Storing Sparse Files"):
//!
//! ```text
//! old   type `S`; pieces in the header and in blocks behind it; the size of the file in the header
//! 0.0   PAX records GNU.sparse.size, and .offset and .numbytes once for each piece
//! 0.1   PAX records GNU.sparse.size, .name, and .map=offset,length,offset,length…
//! 1.0   PAX records GNU.sparse.major=1, .minor=0, .realsize, .name; the contents begin with the
//!       number of pieces, then offset and length of each, a line each, padded to whole blocks
//! ```
//!
//! What is read from the tar is the file with its holes filled with zeros.

use std::collections::{BTreeMap, VecDeque};

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::fault::Fault;
use super::record::{LENGTH, OFFSET, number};
use super::{Error, Wrong};

const BLOCK: usize = 512;
/// More pieces than this no honest file has.
const MAX_PIECES: usize = 1 << 20;

/// What the headers say of a file with holes.
#[derive(Debug)]
pub(super) struct Sparse {
    /// The file's name, where the header has another one.
    pub(super) name: Option<Vec<u8>>,
    size: u64,
    map: Map,
}

/// Where the list of pieces is.
#[derive(Debug)]
enum Map {
    /// In the header, and in blocks behind it.
    Header,
    /// In the extended header.
    Records(Vec<(u64, u64)>),
    /// In front of the contents.
    Contents,
}

impl Sparse {
    /// Takes what says that the entry of `header` has holes out of its PAX records; `None` if it
    /// has none.
    pub(super) fn of(
        header: &Header,
        records: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<Option<Self>, Wrong> {
        // star's own format.
        if records.keys().any(|key| key.starts_with(b"SCHILY.realsize")) {
            return Err(Wrong::Sparse);
        }
        let keys: BTreeMap<Vec<u8>, Vec<u8>> =
            records.extract_if(.., |key, _| key.starts_with(b"GNU.sparse.")).collect();
        let of = |key: &str| keys.get(format!("GNU.sparse.{key}").as_bytes());
        let size = |key: &str| of(key).and_then(|text| number(text)).ok_or(Wrong::Sparse);
        let old = header.entry_type().is_gnu_sparse();
        let version = (of("major").map(|v| &**v), of("minor").map(|v| &**v));
        let (size, map) = match version {
            _ if old => {
                let size = header.as_gnu().ok_or(Wrong::Sparse)?.real_size();
                (size.map_err(|_| Wrong::Sparse)?, Map::Header)
            }
            _ if keys.is_empty() => return Ok(None),
            (Some(b"1"), Some(b"0")) => (size("realsize")?, Map::Contents),
            (None, None) | (Some(b"0"), _) => {
                let list = |text: &[u8]| -> Result<Vec<u64>, Wrong> {
                    match text {
                        b"" => Ok(vec![]),
                        text => text
                            .split(|b| *b == b',')
                            .map(|digits| number(digits).ok_or(Wrong::Sparse))
                            .collect(),
                    }
                };
                let found: Vec<(u64, u64)> = match of("map") {
                    Some(map) => {
                        let numbers = list(map)?;
                        let (pairs, rest) = numbers.as_chunks();
                        if !rest.is_empty() {
                            return Err(Wrong::Sparse);
                        }
                        pairs.iter().map(|[offset, length]| (*offset, *length)).collect()
                    }
                    None => {
                        let (offsets, lengths) = (
                            list(keys.get(OFFSET).map_or(&b""[..], |v| v))?,
                            list(keys.get(LENGTH).map_or(&b""[..], |v| v))?,
                        );
                        if offsets.len() != lengths.len() {
                            return Err(Wrong::Sparse);
                        }
                        offsets.into_iter().zip(lengths).collect()
                    }
                };
                if of("numblocks").is_some_and(|n| number(n) != Some(found.len() as u64)) {
                    return Err(Wrong::Sparse);
                }
                (size("size")?, Map::Records(found))
            }
            _ => return Err(Wrong::Sparse),
        };
        if old && !keys.is_empty() {
            return Err(Wrong::Sparse);
        }
        Ok(Some(Self { name: of("name").cloned(), size, map }))
    }

    /// Returns where the stored bytes belong, and how many of the `stored` bytes of the entry are
    /// left to be read. `next` reads the blocks that follow.
    pub(super) fn pieces(
        self,
        header: &Header,
        stored: u64,
        next: &mut dyn FnMut(&mut [u8]) -> Result<(), Error>,
    ) -> Result<(Pieces, u64), Fault> {
        let (list, stored) = match self.map {
            Map::Records(list) => (list, stored),
            Map::Header => (in_header(header, next)?, stored),
            Map::Contents => in_contents(stored, next)?,
        };
        let mut end = 0;
        let mut held = 0_u64;
        for (offset, length) in &list {
            if *offset < end {
                return Err(Wrong::Sparse.into());
            }
            end = offset.checked_add(*length).ok_or(Wrong::Sparse)?;
            held = held.checked_add(*length).ok_or(Wrong::Sparse)?;
        }
        if end > self.size || held != stored {
            return Err(Wrong::Sparse.into());
        }
        let list = list.into_iter().filter(|(_, length)| *length > 0).collect();
        Ok((Pieces { size: self.size, at: 0, list }, stored))
    }
}

fn in_header(
    header: &Header,
    next: &mut dyn FnMut(&mut [u8]) -> Result<(), Error>,
) -> Result<Vec<(u64, u64)>, Fault> {
    let header = header.as_gnu().ok_or(Wrong::Sparse)?;
    let mut list = vec![];
    let mut add = |pieces: &[GnuSparseHeader]| -> Result<(), Fault> {
        for piece in pieces.iter().take_while(|piece| !piece.is_empty()) {
            let numbers = piece.offset().and_then(|offset| Ok((offset, piece.length()?)));
            list.push(numbers.map_err(|_| Wrong::Sparse)?);
        }
        if list.len() > MAX_PIECES { Err(Wrong::Sparse.into()) } else { Ok(()) }
    };
    add(&header.sparse)?;
    let mut more = header.is_extended();
    while more {
        let mut block = GnuExtSparseHeader::new();
        next(block.as_mut_bytes()).map_err(Fault::Error)?;
        add(&block.sparse)?;
        more = block.is_extended();
    }
    Ok(list)
}

fn in_contents(
    stored: u64,
    next: &mut dyn FnMut(&mut [u8]) -> Result<(), Error>,
) -> Result<(Vec<(u64, u64)>, u64), Fault> {
    let mut left = stored;
    let mut lines: VecDeque<u64> = VecDeque::new();
    let mut line = vec![];
    let mut wanted = None;
    loop {
        let mut block = [0; BLOCK];
        left = left.checked_sub(BLOCK as u64).ok_or(Wrong::Sparse)?;
        next(&mut block).map_err(Fault::Error)?;
        for byte in block {
            // What follows the list is padding.
            if wanted.is_some_and(|wanted| lines.len() == wanted) {
                break;
            }
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            let value = number(&line).ok_or(Wrong::Sparse)?;
            line.clear();
            match wanted {
                Some(_) => lines.push_back(value),
                None => {
                    let pieces = usize::try_from(value).ok().filter(|n| *n <= MAX_PIECES);
                    wanted = Some(2 * pieces.ok_or(Wrong::Sparse)?);
                }
            }
        }
        if line.len() > 20 {
            return Err(Wrong::Sparse.into());
        }
        if wanted.is_some_and(|wanted| lines.len() == wanted) {
            break;
        }
    }
    let mut list = vec![];
    while let (Some(offset), Some(length)) = (lines.pop_front(), lines.pop_front()) {
        list.push((offset, length));
    }
    Ok((list, left))
}

/// The pieces of a file that are stored; between them it has holes.
#[derive(Debug)]
pub(super) struct Pieces {
    size: u64,
    /// How far the file was read.
    at: u64,
    list: VecDeque<(u64, u64)>,
}

impl Pieces {
    /// Bytes of the file, holes included.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buffer` with the zeros of the hole at this place; returns how many there were.
    pub(super) fn hole(&mut self, buffer: &mut [u8]) -> usize {
        let until = self.list.front().map_or(self.size, |(offset, _)| *offset);
        let zeros = usize::try_from(until - self.at).unwrap_or(usize::MAX).min(buffer.len());
        buffer[..zeros].fill(0);
        self.at += zeros as u64;
        zeros
    }

    /// Returns how many of `want` bytes are of the piece at this place.
    pub(super) fn piece(&self, want: usize) -> usize {
        self.list.front().map_or(0, |(offset, length)| {
            usize::try_from(offset + length - self.at).unwrap_or(usize::MAX).min(want)
        })
    }

    /// Notes that `count` bytes of a piece were read.
    pub(super) fn passed(&mut self, count: usize) {
        self.at += count as u64;
        if self.list.front().is_some_and(|(offset, length)| offset + length <= self.at) {
            self.list.pop_front();
        }
    }
}
