//! A tar or a folder of the context as base. A folder is turned into a canonical tar on the way: sorted, owners relative to the
//! folder's owner (who is root in the image), times set by us, so that two checkouts of one tree are one base.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;

use super::Error;
use super::PinnedPath;
use super::Workshop;
use crate::digest::Digest;
use crate::digest::HashReader;
use crate::digest::HashWriter;
use crate::digest::Hasher;
use crate::layer;
use crate::sandbox::Action;
use crate::sandbox::Call;
use crate::sandbox::CallIo;
use crate::sandbox::Job;
use crate::sandbox::Network;

/// Bounds for a base: far above any real one, far below a bomb.
const LIMITS: layer::Limits = layer::Limits { entries: 4_000_000, bytes: 256 << 30 };

/// Returns the digest of a tar (its bytes) or a folder (its tree, but for times).
pub(super) fn digest(path: &Path) -> Result<Digest, Error> {
    let meta = fs::metadata(path).map_err(Error::file("read", path))?;
    if meta.is_dir() {
        return stream(path, 0, &mut io::sink()).map_err(Error::file("read", path));
    }
    let mut reader = HashReader::new(File::open(path).map_err(Error::file("read", path))?);
    copy(&mut reader, &mut io::sink()).map_err(Error::file("read", path))?;
    Ok(reader.finish().1)
}

/// Unpacks the base into `upper`, and checks on the way that it is still what was pinned.
pub(super) fn build(pin: &PinnedPath, epoch: i64, context: &Path, upper: &Path, shop: &Workshop<'_>) -> Result<(), Error> {
    let path = context.join(&pin.path);
    let folder = fs::metadata(&path).map_err(Error::file("read", &path))?.is_dir();
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| Error::file("read", &path)(e.into()))?;
    let inside = shop.inside(upper)?;
    std::thread::scope(|scope| {
        let path = &path;
        let pump = scope.spawn(move || -> io::Result<Digest> {
            let mut pipe = io::BufWriter::with_capacity(1 << 16, File::from(writer));
            let digest = if folder {
                stream(path, epoch, &mut pipe)?
            } else {
                let mut reader = HashReader::new(File::open(path)?);
                copy(&mut reader, &mut pipe)?;
                reader.finish().1
            };
            pipe.flush()?;
            Ok(digest)
        });
        let call = Call { name: "base.unpack", args: json!({ "into": inside }), fds: vec![reader] };
        let job = Job {
            root: None,
            mounts: vec![],
            files: vec![],
            hostname: "bake".to_owned(),
            network: Network::None,
            actions: vec![Action::Call(call)],
        };
        let ended = shop.run(&format!("unpacking {}", pin.path.display()), job, &mut |_| {}, &mut |_| {});
        let found = pump.join().unwrap_or_else(|_| Err(io::Error::other("the reading thread died")));
        match (ended, found) {
            // The reader went away first: its reason is the better one.
            (Err(error), Err(broken)) if broken.kind() == io::ErrorKind::BrokenPipe => Err(error),
            (_, Err(source)) => Err(Error::File { doing: "read", path: path.clone(), source }),
            (Err(error), Ok(_)) => Err(error),
            (Ok(_), Ok(found)) if found != pin.sha256 => Err(Error::Changed { path: path.clone(), expected: pin.sha256, found }),
            (Ok(_), Ok(_)) => Ok(()),
        }
    })
}

/// The chore `base.unpack`: unpacks the (perhaps compressed) tar in the first file into the folder `into`.
pub(super) fn chore(io: CallIo<'_>) -> Result<Value, String> {
    let into: PathBuf = serde_json::from_value(io.args["into"].clone()).map_err(|e| e.to_string())?;
    let file = io.fds.into_iter().next().ok_or("no file was handed over")?;
    let mut tar = layer::decompress(Box::new(file)).map_err(chain)?;
    let packed = layer::unpack(&mut *tar, &into, layer::Form::Tree, &LIMITS).map_err(chain)?;
    // The rest (padding, trailing blocks) must be read, or the writer sees a broken pipe.
    copy(&mut *tar, &mut io::sink()).map_err(|e| e.to_string())?;
    serde_json::to_value(packed).map_err(|e| e.to_string())
}

fn chain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            n => to.write_all(&buffer[..n])?,
        }
    }
}

/// Writes the folder as a tar with `mtime` everywhere and returns the digest that it would have with a time of 0.
fn stream(folder: &Path, mtime: i64, out: &mut dyn Write) -> io::Result<Digest> {
    let top = fs::metadata(folder)?;
    let mut hasher = Hasher::new();
    let mut links: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    for entry in walkdir::WalkDir::new(folder).min_depth(1).sort_by(|a, b| a.file_name().cmp(b.file_name())) {
        let entry = entry.map_err(io::Error::from)?;
        let meta = fs::symlink_metadata(entry.path())?;
        let name = entry.path().strip_prefix(folder).map_err(io::Error::other)?.as_os_str().as_bytes().to_vec();
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", entry.path().display()));
        let kind = meta.file_type();
        let mut header = tar::Header::new_gnu();
        header.set_mode(meta.mode() & 0o7777);
        header.set_uid(owner(meta.uid(), top.uid()).map_err(named)?.into());
        header.set_gid(owner(meta.gid(), top.gid()).map_err(named)?.into());
        header.set_size(0);
        let mut target = None;
        let mut body = None;
        if kind.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
        } else if kind.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            target = Some(fs::read_link(entry.path())?.as_os_str().as_bytes().to_vec());
        } else if kind.is_fifo() {
            header.set_entry_type(tar::EntryType::Fifo);
        } else if kind.is_file() {
            let first = (meta.nlink() > 1).then(|| links.get(&(meta.dev(), meta.ino())).cloned()).flatten();
            match first {
                Some(first) => {
                    header.set_entry_type(tar::EntryType::Link);
                    target = Some(first);
                }
                None => {
                    links.insert((meta.dev(), meta.ino()), name.clone());
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_size(meta.len());
                    body = Some(File::open(entry.path()).map_err(named)?);
                }
            }
        } else if kind.is_socket() {
            continue;
        } else {
            return Err(named(io::Error::new(io::ErrorKind::InvalidInput, "a base folder cannot hold devices")));
        }
        let full = if kind.is_dir() { [&name[..], b"/"].concat() } else { name };
        let xattrs = xattrs(entry.path()).map_err(named)?;
        for (record, long) in [(&xattrs, b'x'), (&long(&full, 100), b'L'), (&long(target.as_deref().unwrap_or_default(), 100), b'K')] {
            if let Some(bytes) = record {
                both(&special(long, bytes.len()), bytes, mtime, &mut hasher, out)?;
            }
        }
        let fit = |field: &mut [u8], bytes: &[u8]| field[..bytes.len().min(100)].copy_from_slice(&bytes[..bytes.len().min(100)]);
        fit(&mut header.as_old_mut().name, &full);
        fit(&mut header.as_old_mut().linkname, target.as_deref().unwrap_or_default());
        put(&header, mtime, &mut hasher, out)?;
        if let Some(file) = body {
            let mut writer = HashWriter::new(&mut *out);
            let mut tee = Tee { hasher: &mut hasher, out: &mut writer };
            let copied = io::copy(&mut file.take(meta.len()), &mut tee).map_err(named)?;
            if copied != meta.len() {
                return Err(named(io::Error::new(io::ErrorKind::UnexpectedEof, "it shrank while it was read")));
            }
            pad(copied, &mut hasher, out)?;
        }
    }
    out.write_all(&[0; 1024])?;
    Ok(hasher.finish())
}

struct Tee<'a, W> {
    hasher: &'a mut Hasher,
    out: W,
}

impl<W: Write> Write for Tee<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.out.write(buf)?;
        self.hasher.update(&buf[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The folder's owner is root in the image. In a folder of root's, others keep their ids; else nobody else may own anything.
fn owner(id: u32, top: u32) -> io::Result<u32> {
    match id {
        _ if id == top => Ok(0),
        _ if top == 0 => Ok(id),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it belongs to somebody else than the folder")),
    }
}

fn xattrs(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut record = vec![];
    let mut names: Vec<_> = xattr::list(path)?.filter(|n| n == "security.capability" || n.as_bytes().starts_with(b"user.")).collect();
    names.sort();
    for name in names {
        let Some(value) = xattr::get(path, &name)? else { continue };
        // A PAX record counts its own length, digits included.
        let rest = [b" SCHILY.xattr.", name.as_bytes(), b"=", &value, b"\n"].concat();
        let mut length = rest.len() + 1;
        while length.to_string().len() + rest.len() != length {
            length = length.to_string().len() + rest.len();
        }
        record.extend_from_slice(length.to_string().as_bytes());
        record.extend_from_slice(&rest);
    }
    Ok((!record.is_empty()).then_some(record))
}

fn long(bytes: &[u8], room: usize) -> Option<Vec<u8>> {
    (bytes.len() > room).then(|| [bytes, b"\0"].concat())
}

fn special(kind: u8, size: usize) -> tar::Header {
    let mut header = if kind == b'x' { tar::Header::new_ustar() } else { tar::Header::new_gnu() };
    let name: &[u8] = if kind == b'x' { b"PaxHeaders/x" } else { b"././@LongLink" };
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size as u64);
    header
}

fn both(header: &tar::Header, bytes: &[u8], mtime: i64, hasher: &mut Hasher, out: &mut dyn Write) -> io::Result<()> {
    put(header, mtime, hasher, out)?;
    hasher.update(bytes);
    out.write_all(bytes)?;
    pad(bytes.len() as u64, hasher, out)
}

fn put(header: &tar::Header, mtime: i64, hasher: &mut Hasher, out: &mut dyn Write) -> io::Result<()> {
    let with = |time: u64| {
        let mut header = header.clone();
        header.set_mtime(time);
        header.set_cksum();
        header
    };
    hasher.update(with(0).as_bytes());
    out.write_all(with(u64::try_from(mtime).unwrap_or(0)).as_bytes())
}

fn pad(size: u64, hasher: &mut Hasher, out: &mut dyn Write) -> io::Result<()> {
    let zeros = [0_u8; 512];
    let n = usize::try_from((512 - size % 512) % 512).unwrap_or(0);
    hasher.update(&zeros[..n]);
    out.write_all(&zeros[..n])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("below")).expect("writable");
            fs::write(&path, text).expect("writable");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("ours");
        };
        write("etc/conf", "text");
        write(&format!("deep/{}/{}", "x".repeat(90), "y".repeat(90)), "long");
        fs::hard_link(dir.path().join("etc/conf"), dir.path().join("etc/hard")).expect("one file system");
        std::os::unix::fs::symlink("conf", dir.path().join("etc/soft")).expect("writable");
        dir
    }

    #[test]
    fn a_folder_is_its_tree_and_not_its_times() {
        let (one, two) = (tree(), tree());
        let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        File::open(two.path().join("etc/conf")).expect("there").set_times(old).expect("ours");
        let digest = super::digest(one.path()).expect("readable");
        assert_eq!(super::digest(two.path()).expect("readable"), digest);
        for change in [
            &(|p: &Path| fs::write(p.join("etc/conf"), "TEXT")) as &dyn Fn(&Path) -> io::Result<()>,
            &|p| fs::set_permissions(p.join("etc/conf"), fs::Permissions::from_mode(0o600)),
            &|p| fs::rename(p.join("etc/soft"), p.join("etc/softer")),
            &|p| fs::remove_file(p.join("etc/hard")),
            &|p| fs::create_dir(p.join("new")),
        ] {
            let changed = tree();
            change(changed.path()).expect("ours");
            assert_ne!(super::digest(changed.path()).expect("readable"), digest);
        }
    }

    #[test]
    fn the_stream_is_a_tar_that_others_read() {
        let dir = tree();
        let mut bytes = vec![];
        let digest = stream(dir.path(), 7, &mut bytes).expect("readable");
        assert_eq!(digest, super::digest(dir.path()).expect("readable"));
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut names = vec![];
        for entry in archive.entries().expect("a tar") {
            let entry = entry.expect("a tar");
            assert_eq!((entry.header().mtime().ok(), entry.header().uid().ok()), (Some(7), Some(0)));
            names.push((entry.header().entry_type(), String::from_utf8_lossy(&entry.path_bytes()).into_owned()));
        }
        let long = format!("deep/{}/{}", "x".repeat(90), "y".repeat(90));
        assert!(names.contains(&(tar::EntryType::Regular, long)), "{names:?}");
        assert!(names.contains(&(tar::EntryType::Link, "etc/hard".to_owned())), "{names:?}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = super::digest(Path::new("/nonexistent/base.tar")).expect_err("missing");
        assert_eq!(error.to_string(), "cannot read /nonexistent/base.tar");
    }
}
