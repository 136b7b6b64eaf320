//! How the places of a copy are written down, to be asked and answered.
//!
//! Asked and answered in two files, as there may be half a million places:
//!
//! ```text
//! asked    for each place, a directory before what is in it: u32 mode, u16 length and bytes of the path below `to`, u8 kind;
//!          1 directory · 2 link: u16 length and bytes of its target · 3 file: u64 size, 32 bytes sha256
//! answered u32 uid, u32 gid of all that is new; then for each entry of the layer, in its order: u16 length and bytes of its path, u8 kind;
//!          1 a directory that is there, above something new: u32 mode, uid, gid, u16 count of attributes, each u16 name, u32 value
//!          2 a new directory, 0755, that the copy does not mention · 3 what was asked for: u32 its number
//! ```

use std::io::{self, Read, Write};

use crate::digest::Digest;
use crate::layer::Metadata;
use crate::rootfs::accounts::Ids;

/// One thing that is to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) mode: u32,
    /// Below the step's `to`; empty: `to` itself.
    pub(crate) place: Vec<u8>,
    pub(crate) what: What,
}

/// What is to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Directory,
    Link(Vec<u8>),
    File { size: u64, digest: Digest },
}

/// One entry of the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) path: Vec<u8>,
    pub(crate) what: Put,
}

/// What stands at a place of the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Put {
    /// A directory that the image has, above something new.
    Above(Box<Metadata>),
    /// A new directory that the copy needs and does not mention.
    Made,
    /// What was asked for, by its number.
    Asked(u32),
}

pub(super) fn short(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(
        &u16::try_from(bytes.len())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidFilename))?
            .to_le_bytes(),
    )?;
    out.write_all(bytes)
}

fn number<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn bytes(from: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The first number of a record; `None` at the end.
fn begin<const N: usize>(from: &mut impl Read) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    let mut got = 0;
    while got < N {
        match from.read(&mut bytes[got..])? {
            0 if got == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => got += n,
        }
    }
    Ok(Some(bytes))
}

fn unknown(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("an unknown kind of {what}"))
}

impl Asked {
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.mode.to_le_bytes())?;
        short(out, &self.place)?;
        match &self.what {
            What::Directory => out.write_all(&[1]),
            What::Link(target) => out.write_all(&[2]).and_then(|()| short(out, target)),
            What::File { size, digest } => {
                out.write_all(&[3])?;
                out.write_all(&size.to_le_bytes())?;
                out.write_all(digest.as_bytes())
            }
        }
    }

    pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some(mode) = begin(from)? else { return Ok(None) };
        let place = u16::from_le_bytes(number(from)?);
        let place = bytes(from, place.into())?;
        let what = match number(from)? {
            [1] => What::Directory,
            [2] => {
                let target = u16::from_le_bytes(number(from)?);
                What::Link(bytes(from, target.into())?)
            }
            [3] => What::File {
                size: u64::from_le_bytes(number(from)?),
                digest: Digest::from_bytes(number(from)?),
            },
            _ => return Err(unknown("place")),
        };
        Ok(Some(Self { mode: u32::from_le_bytes(mode), place, what }))
    }
}

/// Reads an answer: first the owner of all that is new.
pub(crate) fn read_ids(from: &mut impl Read) -> io::Result<Ids> {
    Ok(Ids { uid: u32::from_le_bytes(number(from)?), gid: u32::from_le_bytes(number(from)?) })
}

impl Placed {
    /// Reads the next entry; `None` at the end.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some(length) = begin(from)? else { return Ok(None) };
        let path = bytes(from, u16::from_le_bytes(length).into())?;
        let what = match number(from)? {
            [1] => {
                let mut next = || number(from).map(u32::from_le_bytes);
                let (mode, uid, gid) = (next()?, next()?, next()?);
                let mut meta = Metadata { mode, uid, gid, ..Metadata::default() };
                for _ in 0..u16::from_le_bytes(number(from)?) {
                    let name = u16::from_le_bytes(number(from)?);
                    let name = bytes(from, name.into())?;
                    let value = u32::from_le_bytes(number(from)?);
                    meta.xattrs.insert(name, bytes(from, value as usize)?);
                }
                Put::Above(Box::new(meta))
            }
            [2] => Put::Made,
            [3] => Put::Asked(u32::from_le_bytes(number(from)?)),
            _ => return Err(unknown("entry")),
        };
        Ok(Some(Self { path, what }))
    }
}
