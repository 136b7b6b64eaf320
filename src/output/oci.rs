//! `oci` and `oci-archive`: an OCI image layout that holds one image, its blobs as they are stored,
//! as a directory and as a tar.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::error::{Error, system};
use super::options::{Exported, Options, Source};
use super::place::NewDir;
use super::source::{Image, manifests, raw};
use crate::image::{ANNOTATION_REF_NAME, Descriptor, Index};
use crate::layer::{Builder, Metadata};

/// What says that a directory is an OCI image layout.
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

pub(super) fn write(source: &Source<'_>, out: &mut dyn Write) -> Result<(), Error> {
    let failed = |source| Error::Write { format: "oci-archive", source };
    let (index, blobs) = (index(source), blobs(source)?);
    let (dir, file) = (
        Metadata { mode: 0o755, ..Metadata::default() },
        Metadata { mode: 0o644, ..Metadata::default() },
    );
    let mut tar = Builder::new(out, 0);
    tar.dir(b"blobs", &dir).map_err(failed)?;
    tar.dir(b"blobs/sha256", &dir).map_err(failed)?;
    for (hex, blob) in blobs {
        let path = format!("blobs/sha256/{hex}");
        raw(source, &blob, |bytes| {
            tar.file(path.as_bytes(), &file, blob.size, bytes).map_err(failed)
        })?;
    }
    tar.file(b"index.json", &file, index.len() as u64, &mut &index[..]).map_err(failed)?;
    tar.file(b"oci-layout", &file, LAYOUT.len() as u64, &mut &LAYOUT[..]).map_err(failed)?;
    tar.finish().map(|_| ()).map_err(failed)
}

/// Fills a directory that becomes `dest` with the same; modes are set whatever the umask says.
pub(super) fn dir(
    source: &Source<'_>,
    dest: &Path,
    options: &Options,
) -> Result<(NewDir, Exported), Error> {
    let blobs = blobs(source)?;
    let place = NewDir::new(dest, options.force)?;
    let root = place.root();
    let sha256 = root.join("blobs/sha256");
    for dir in [root.join("blobs"), sha256.clone()] {
        let made = fs::create_dir(&dir).and_then(|()| set_mode(&dir, 0o755));
        made.map_err(|e| system("make the directory", &dir, e))?;
    }
    let mut bytes = 0;
    for (hex, blob) in blobs {
        let path = sha256.join(hex);
        let mut file = File::create_new(&path).map_err(|e| system("make", &path, e))?;
        raw(source, &blob, |from| {
            io::copy(from, &mut file).map_err(|e| system("write", &path, e))
        })?;
        set_mode(&path, 0o644).map_err(|e| system("set the mode of", &path, e))?;
        bytes += blob.size;
    }
    for (name, content) in [("index.json", &index(source)[..]), ("oci-layout", LAYOUT)] {
        let path = root.join(name);
        let written = fs::write(&path, content).and_then(|()| set_mode(&path, 0o644));
        written.map_err(|e| system("write", &path, e))?;
        bytes += content.len() as u64;
    }
    Ok((place, Exported { bytes, digest: None, remarks: vec![] }))
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// The index of a layout that holds one image, or the images of one index, alone.
fn index(source: &Source<'_>) -> Vec<u8> {
    let mut descriptor = source.manifest.clone();
    // Annotations of the store's own index are not the image's.
    descriptor.annotations = match &source.reference.version {
        Some(_) => BTreeMap::from([(ANNOTATION_REF_NAME.to_owned(), named(source))]),
        None => BTreeMap::new(),
    };
    Index { manifests: vec![descriptor], ..Index::default() }.to_json()
}

/// The blobs of the image, or of all images of an index, each once, by their names.
fn blobs(source: &Source<'_>) -> Result<BTreeMap<String, Descriptor>, Error> {
    let mut all = vec![source.manifest.clone()];
    for manifest in &manifests(source)? {
        let one = Source { manifest, ..*source };
        let image = Image::open(&one)?;
        all.extend(image.manifest.layers.iter().chain([&image.manifest.config, manifest]).cloned());
    }
    Ok(all.into_iter().map(|blob| (blob.digest.hex(), blob)).collect())
}

/// The name in the archive: `name:version`, without the digest that may stand behind it.
pub(super) fn named(source: &Source<'_>) -> String {
    let reference = source.reference;
    format!("{}:{}", reference.name, reference.version.as_deref().unwrap_or_default())
}
