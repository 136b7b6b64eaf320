//! What the calls of the program do; they run inside.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use super::call::{Call, Reply};
use super::settle;
use crate::apply::probe;
use crate::archive::manager::{self, Manager};
use crate::archive::view;
use crate::context;
use crate::digest::{Digest, HashReader};
use crate::files;
use crate::layer::{self, Compression, Packed};
use crate::sandbox::{self, CallError, Inside};

impl sandbox::Call for Call {
    type Reply = Reply;

    fn run(self, inside: Inside<'_>) -> Result<Reply, CallError> {
        match self {
            Self::Pack { dir, epoch, below, to } => {
                pack(&dir, epoch, below.as_deref(), to.into_file()).map(Reply::Packed)
            }
            Self::Unpack { into, how, name, blob } => {
                unpack(&into, how, name, blob.into_file()).map(Reply::Unpacked)
            }
            Self::Settle { dir, epoch } => settle::times(dir, epoch).map(|()| Reply::Done),
            Self::Weigh { dirs } => {
                Ok(Reply::Weighed(dirs.iter().map(|dir| files::weigh(dir)).collect()))
            }
            Self::Look { paths, native } => look(paths, &native),
            Self::Take { op, single, epoch, to } => {
                context::take_from_root(&op, &single, epoch, to.into_file())
                    .map(Reply::Taken)
                    .map_err(|error| {
                        let why = match &error {
                            context::PutError::Context(error) => error.of_a_root(),
                            _ => None,
                        };
                        why.map_or_else(|| CallError::of(&error), CallError::refused)
                    })
            }
            Self::Probe(probe) => {
                probe::look(&probe).map(|()| Reply::Done).map_err(CallError::refused)
            }
            Self::Visit { dir, visit } => {
                Ok(Reply::Visited(visit.carry_out(&dir, inside.progress)))
            }
            Self::Apply(call) => call.run(inside).map(Reply::Apply),
            Self::Archive(call) => call.run(inside).map(Reply::Archive),
        }
    }
}

fn pack(dir: &Path, epoch: i64, below: Option<&Path>, mut to: File) -> Result<Packed, CallError> {
    let packed = match below {
        Some(below) => layer::pack_over(dir, epoch, below, &mut to),
        None => layer::pack(dir, epoch, &mut to),
    };
    let packed = packed.map_err(|error| CallError::of(&error))?;
    to.flush().map_err(|error| CallError::of(&error))?;
    Ok(packed)
}

fn unpack(
    into: &Path,
    how: Compression,
    name: bool,
    blob: File,
) -> Result<Option<Digest>, CallError> {
    let failed = |error: layer::Error| CallError::of(&error);
    let mut tar = layer::decompress_as(Box::new(blob), how).map_err(failed)?;
    let unpack = |tar: &mut dyn Read| {
        layer::unpack(tar, into, layer::Form::Overlay, &layer::Limits::default()).map_err(failed)
    };
    if !name {
        return unpack(&mut *tar).map(|_| None);
    }
    let mut tar = HashReader::new(tar);
    unpack(&mut tar)?;
    // The name is that of all bytes, also of what follows the end mark.
    io::copy(&mut tar, &mut io::sink()).map_err(|error| CallError::of(&error))?;
    Ok(Some(tar.finish().1))
}

/// Which of `paths` exist in the root that this process sees, what its os-release says, and what
/// its apt sees.
fn look(paths: Vec<String>, native: &str) -> Result<Reply, CallError> {
    let root = Path::new("/");
    let there: Vec<String> = paths.into_iter().filter(|path| root.join(path).exists()).collect();
    let view = manager::find(&mut |path| there.iter().any(|one| one == path), true)
        .filter(|manager| *manager == Manager::Apt)
        .map(|_| view::read(root, native))
        .transpose()
        .map_err(|error| CallError::of(&error))?;
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    Ok(Reply::Seen { there, os_release, view })
}
