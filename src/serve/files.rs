//! The registry as files, which any web server serves.
//!
//! ```text
//! DIR/
//!   v2/index.html                      {}: what says that this is a registry
//!   v2/NAME/manifests/{TAG|DIGEST}
//!   v2/NAME/blobs/DIGEST
//!   v2/NAME/tags/list
//!   v2/NAME/referrers/DIGEST           one for each manifest, also where nothing speaks of it
//!   nginx.conf apache.conf Caddyfile   which media types manifests have (rule.rs)
//! ```
//! Every blob is hashed on its way, and what is hashed is what lies there: the same file as in the
//! store where the file system shares blocks or has hard links, otherwise a copy.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD};
use serde_json::json;

use super::error::Error;
use super::rule::rules;
use super::view::{Repository, View};
use crate::digest::{Digest, HashReader};
use crate::files::create_dirs;
use crate::image::Index;
use crate::output::NewDir;
use crate::store::{Store, Version};

/// What was written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Written {
    /// Images: name and tag.
    pub images: Vec<String>,
    /// Blobs and manifests.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of those that take no more room than before.
    pub shared: u64,
}

/// Writes `versions`, the channels that point at them and what speaks of them as the directory
/// `dest`, whole or not at all.
///
/// # Errors
/// Where a version cannot be read or is damaged, or the directory cannot be written.
pub fn write_files(
    store: &Store,
    versions: &[Version],
    dest: &Path,
    force: bool,
) -> Result<Written, Error> {
    let mut failed = None;
    let mut refused = |what, source| {
        failed.get_or_insert(Error::Store { what, source });
    };
    let view = View::of(store, versions, &mut refused);
    if let Some(error) = failed {
        return Err(error);
    }
    if view.names.is_empty() {
        return Err(Error::Empty);
    }
    for name in view.names.keys() {
        let taken = ["manifests", "blobs", "tags", "referrers", "index.html"];
        if let Some(part) = name.split('/').find(|part| taken.contains(part)) {
            return Err(Error::Name { name: name.clone(), part: part.to_owned() });
        }
    }
    let dir = NewDir::new(dest, force)?;
    let mut tree = Tree { store, placed: BTreeMap::new(), written: Written::default() };
    let top = dir.root().join("v2");
    make(&top)?;
    write(&top.join("index.html"), b"{}")?;
    for (name, repository) in &view.names {
        tree.repository(&top, name, repository)?;
    }
    for (file, text) in rules(&view) {
        write(&dir.root().join(file), text.as_bytes())?;
    }
    dir.keep()?;
    Ok(tree.written)
}

/// A tree being written.
struct Tree<'a> {
    store: &'a Store,
    /// Where blobs lie in it already.
    placed: BTreeMap<Digest, PathBuf>,
    written: Written,
}

impl Tree<'_> {
    fn repository(&mut self, top: &Path, name: &str, from: &Repository) -> Result<(), Error> {
        let dir = top.join(name);
        let [manifests, blobs, tags, referrers] =
            ["manifests", "blobs", "tags", "referrers"].map(|part| dir.join(part));
        for part in [&manifests, &blobs, &tags, &referrers] {
            make(part)?;
        }
        for (digest, manifest) in &from.manifests {
            self.blob(digest, manifest.size, &manifests.join(digest.to_string()))?;
            let about = from.referrers.get(digest).cloned().unwrap_or_default();
            let index = Index { manifests: about, ..Index::default() };
            write(&referrers.join(digest.to_string()), &index.to_json())?;
        }
        for (digest, size) in &from.blobs {
            self.blob(digest, *size, &blobs.join(digest.to_string()))?;
        }
        for (tag, manifest) in &from.tags {
            self.blob(&manifest.digest, manifest.size, &manifests.join(tag))?;
            self.written.images.push(format!("{name}:{tag}"));
        }
        let all: Vec<&String> = from.tags.keys().collect();
        write(&tags.join("list"), json!({ "name": name, "tags": all }).to_string().as_bytes())
    }

    /// Puts a blob at `to`.
    fn blob(&mut self, digest: &Digest, size: u64, to: &Path) -> Result<(), Error> {
        // In the tree it is a file of its own directories: another name costs nothing.
        if let Some(before) = self.placed.get(digest)
            && fs::hard_link(before, to).is_ok()
        {
            return Ok(());
        }
        let lost = |source| Error::Store { what: digest.to_string(), source };
        let mut reader = HashReader::new(self.store.blob(digest).map_err(lost)?);
        let path = self.store.blob_path(digest);
        let failed = |source| Error::System { what: "read", path: path.clone(), source };
        io::copy(&mut reader, &mut io::sink()).map_err(failed)?;
        let (mut file, found, read) = reader.finish();
        if found != *digest || read != size {
            return Err(Error::Corrupt { digest: *digest, found });
        }
        file.rewind().map_err(failed)?;
        if place(&mut file, to).map_err(|source| system("write", to, source))? {
            self.written.shared += read;
        }
        self.placed.insert(*digest, to.to_owned());
        self.written.blobs += 1;
        self.written.bytes += read;
        Ok(())
    }
}

/// Puts what `file` holds at `to`; returns whether it takes no room of its own.
fn place(file: &mut File, to: &Path) -> io::Result<bool> {
    // Blocks shared with a file of its own, first: whatever happens to it, the store's stays.
    let mut new = File::create_new(to)?;
    if rustix::fs::ioctl_ficlone(&new, &*file).is_ok() {
        new.set_permissions(Permissions::from_mode(0o644))?;
        return Ok(true);
    }
    // One that others may read as it is: its mode is that of the store's.
    if file.metadata()?.permissions().mode() & 0o444 == 0o444 {
        fs::remove_file(to)?;
        let open = format!("/proc/self/fd/{}", file.as_raw_fd());
        if rustix::fs::linkat(CWD, open, CWD, to, AtFlags::SYMLINK_FOLLOW).is_ok() {
            return Ok(true);
        }
        new = File::create_new(to)?;
    }
    io::copy(file, &mut new)?;
    new.set_permissions(Permissions::from_mode(0o644))?;
    Ok(false)
}

fn make(dir: &Path) -> Result<(), Error> {
    create_dirs(dir, 0o755).map_err(|source| Error::Output(source.into()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |source| system("write", path, source);
    fs::write(path, bytes).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o644)).map_err(failed)
}

fn system(what: &'static str, path: &Path, source: io::Error) -> Error {
    Error::System { what, path: path.to_owned(), source }
}
