//! `ext4`: the root file system as an ext4, which bake writes itself (see the room `disk`).

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};

use super::error::Error;
use super::filesystem;
use super::flat::Flat;
use super::options::{Format, Lost, Options};
use super::source::Image;
use crate::digest::{Digest, HashWriter};
use crate::disk::ext4::{Kind, Layout, Node, Volume};
use crate::disk::{self, Sparse};
use crate::layer::{Metadata, NodeKind};

/// Makes the ext4 of a root in `out`, an empty file; returns digest, bytes, and what it does not
/// hold.
pub(super) fn make(
    image: &Image<'_>,
    flat: &Flat,
    options: &Options,
    out: &File,
) -> Result<(Digest, u64, Vec<Lost>), Error> {
    let copied = |source| Error::Copy { source };
    let hashed = HashWriter::new(Sparse::new(out, 0));
    let mut buffer = BufWriter::with_capacity(1 << 20, hashed);
    let lost = write(image, flat, options, &mut buffer)?;
    let (_, digest, bytes) = buffer.into_inner().map_err(|e| copied(e.into_error()))?.finish();
    out.set_len(bytes).map_err(copied)?;
    Ok((digest, bytes, lost))
}

/// Writes it from front to back.
fn write(
    image: &Image<'_>,
    flat: &Flat,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Vec<Lost>, Error> {
    let top = flat.top();
    let (nodes, paths) = nodes(flat, &top);
    let volume = Volume {
        id: filesystem::identifier(image, Format::Ext4),
        label: options.label.as_deref().unwrap_or_default(),
        time: flat.newest(),
        size: options.size,
        nodes,
    };
    let wrong = |error| match error {
        disk::Error::TooSmall { size, needed, .. } => Error::TooSmall { size, least: needed },
        disk::Error::Unfit { node, why } => {
            let path = paths.get(node).copied().unwrap_or_default();
            let path = format!("/{}", String::from_utf8_lossy(path));
            Error::Unfit { format: Format::Ext4.name(), path, why }
        }
        source => Error::Disk { source },
    };
    let layout = Layout::new(volume).map_err(wrong)?;
    layout.write(out, &|at, buffer| flat.read_at(at, buffer)).map_err(wrong)?;
    Ok(filesystem::losses(flat, Format::Ext4))
}

/// Returns all files, each once, and the first name of each.
fn nodes<'a>(flat: &'a Flat, top: &'a Metadata) -> (Vec<Node<'a>>, Vec<&'a [u8]>) {
    let mut nodes = vec![node(top, Kind::Dir(vec![]))];
    let mut paths: Vec<&[u8]> = vec![b""];
    let mut dirs: HashMap<&[u8], usize> = HashMap::from([(&b""[..], 0)]);
    let mut known: HashMap<u32, usize> = HashMap::new();
    // A directory comes before what is in it.
    for (path, of_layer, _) in flat.nodes() {
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let (above, name) = slash.map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]));
        let own = *known.entry(of_layer.inode).or_insert_with(|| {
            let kind = match &of_layer.kind {
                NodeKind::Dir => Kind::Dir(vec![]),
                NodeKind::File { size, contents } => {
                    Kind::File { size: *size, contents: *contents }
                }
                NodeKind::Symlink(target) => Kind::Symlink(target),
                NodeKind::Fifo => Kind::Fifo,
            };
            nodes.push(node(flat.meta(of_layer), kind));
            paths.push(path);
            nodes.len() - 1
        });
        if matches!(of_layer.kind, NodeKind::Dir) {
            dirs.insert(path, own);
        }
        let above = dirs.get(above).copied().unwrap_or(0);
        if let Kind::Dir(names) = &mut nodes[above].kind {
            names.push((name, own));
        }
    }
    (nodes, paths)
}

fn node<'a>(meta: &'a Metadata, kind: Kind<'a>) -> Node<'a> {
    let Metadata { mode, uid, gid, mtime, xattrs } = meta;
    Node { mode: *mode, uid: *uid, gid: *gid, mtime: *mtime, xattrs, kind }
}
