//! One blob, read to its end: what its bytes are, against what manifests say of them.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};

use crate::digest::{Digest, HashReader, Hasher};
use crate::image::{MEDIA_DOCKER_LAYER_GZIP, MEDIA_LAYER_GZIP, MEDIA_LAYER_ZSTD, wrong_size};
use crate::inspect::error::describe;
use crate::layer::{self, Kind, Limits, TarReader};
use crate::store::{Error, Store};

/// What a manifest says about a blob.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    /// Bytes.
    pub(super) size: u64,
    /// Media type.
    pub(super) media_type: String,
    /// sha256 of the uncompressed bytes, where a config says so.
    pub(super) diff_id: Option<Digest>,
    /// It is a layer.
    pub(super) layer: bool,
}

/// What a blob is.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Why it could not be read at all.
    unreadable: Option<String>,
    /// Bytes.
    pub(super) size: u64,
    digest: Option<Digest>,
    form: Form,
    /// sha256 of the uncompressed bytes.
    diff_id: Option<Digest>,
    /// What is wrong with it as a layer.
    layer: Vec<String>,
}

/// How bytes are compressed, by how they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Form {
    #[default]
    Plain,
    Gzip,
    Zstd,
    Other(&'static str),
}

const BUFFER: usize = 1 << 20;

/// Reads the blob, reporting to `progress` how many bytes it has got through; looks inside where a
/// claim says that it is a layer.
pub(super) fn read<'a>(
    store: &Store,
    digest: &Digest,
    claims: impl Iterator<Item = &'a Claim>,
    progress: &dyn Fn(u64),
) -> Seen {
    let mut seen = Seen::default();
    let open = || store.blob(digest);
    if let Err(error) = seen.read_raw(open, progress) {
        seen.unreadable = Some(error);
        return seen;
    }
    // Bytes that are not what they are named for are not worth a look inside, nor safe to.
    if seen.digest != Some(*digest) || !claims.into_iter().any(|claim| claim.layer) {
        return seen;
    }
    match open().map_err(|e| describe(&e)).and_then(|file| {
        layer::decompress_foreign(Box::new(file), layer::Ratio::default()).map_err(|e| describe(&e))
    }) {
        Ok(tar) => seen.read_tar(tar),
        Err(error) => seen.layer.push(error),
    }
    seen
}

impl Seen {
    fn read_raw(
        &mut self,
        open: impl Fn() -> Result<File, Error>,
        progress: &dyn Fn(u64),
    ) -> Result<(), String> {
        let mut file = open().map_err(|e| describe(&e))?;
        let mut buffer = vec![0; BUFFER];
        let mut hasher = Hasher::new();
        let mut start = vec![];
        loop {
            let n = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(format!("cannot be read: {e}")),
            };
            if start.len() < 6 {
                start.extend_from_slice(&buffer[..n.min(6)]);
            }
            hasher.update(&buffer[..n]);
            self.size += n as u64;
            progress(n as u64);
        }
        self.digest = Some(hasher.finish());
        self.form = form(&start);
        Ok(())
    }

    /// Reads the uncompressed bytes to their end, as a tar as far as they are one.
    fn read_tar(&mut self, tar: Box<dyn Read + Send + '_>) {
        let mut hashed = HashReader::new(tar);
        let judged = judge_tar(&mut hashed);
        // The diff_id is of all bytes, also of what follows a damaged entry.
        let rest = io::copy(&mut hashed, &mut io::sink());
        if let Err(error) = &judged {
            self.layer.push(error.clone());
        }
        match rest {
            Ok(_) => self.diff_id = Some(hashed.finish().1),
            // The tar reader has met the same error, unless it had stopped before.
            Err(error) if judged.is_ok() => {
                self.layer.push(format!("cannot be decompressed: {error}"))
            }
            Err(_) => {}
        }
    }

    /// Returns what is not as the claim says.
    pub(super) fn judge(&self, digest: &Digest, claim: &Claim) -> Vec<String> {
        if let Some(error) = &self.unreadable {
            return vec![error.clone()];
        }
        let mut flaws = vec![];
        if self.size != claim.size {
            flaws.push(wrong_size(self.size, claim.size));
        }
        if self.digest != Some(*digest) {
            flaws.push(format!(
                "is corrupt: its bytes are {}",
                self.digest.map_or_else(String::new, |found| found.to_string())
            ));
            return flaws;
        }
        if !claim.layer {
            return flaws;
        }
        let expected = match claim.media_type.as_str() {
            MEDIA_LAYER_GZIP | MEDIA_DOCKER_LAYER_GZIP => Form::Gzip,
            MEDIA_LAYER_ZSTD => Form::Zstd,
            _ => Form::Plain,
        };
        if self.form != expected {
            flaws.push(format!("is {}, its media type says {}", self.form.name(), expected.name()));
        }
        flaws.extend(self.layer.iter().cloned());
        if let (Some(found), Some(expected)) = (self.diff_id, claim.diff_id)
            && found != expected
        {
            flaws.push(format!(
                "is {found} when uncompressed, the config's diff_id says {expected}"
            ));
        }
        flaws
    }
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "not compressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Other(name) => name,
        }
    }
}

fn form(start: &[u8]) -> Form {
    match start {
        [0x1f, 0x8b, ..] => Form::Gzip,
        // A frame, or a skippable frame before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Form::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Form::Other("xz"),
        _ => Form::Plain,
    }
}

/// Reads a tar to its end mark. The reader refuses each entry that is unsafe by itself; what only
/// shows between entries (one name that is two things) is found here, by the rule that holds
/// when layers are unpacked.
fn judge_tar(tar: &mut dyn Read) -> Result<(), String> {
    let mut reader = TarReader::new(tar, &Limits::default());
    let mut names = Names { keys: RandomState::new(), kinds: HashMap::new() };
    while let Some(entry) = reader.next().map_err(|e| describe(&e))? {
        let wrong = |what: &str| {
            Err(format!("tar entry {:?}: {what}", String::from_utf8_lossy(&entry.path)))
        };
        let kind = match entry.kind {
            Kind::Opaque => continue,
            Kind::Device => return wrong("a device node"),
            Kind::Dir => NameKind::Dir,
            Kind::Whiteout => NameKind::Gone,
            Kind::File | Kind::Link(_) | Kind::Symlink(_) | Kind::Fifo => NameKind::Other,
        };
        if !names.add(&entry.path, kind) {
            return wrong("the tar says two things about this name");
        }
    }
    Ok(())
}

/// What a tar says about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameKind {
    /// A directory, or something is in it.
    Dir,
    /// Deleted from what lower layers have.
    Gone,
    Other,
}

/// The names so far. Names are kept as eight bytes, hashed with keys that no author of a tar
/// can know: millions of them in little memory.
struct Names {
    keys: RandomState,
    kinds: HashMap<u64, NameKind>,
}

impl Names {
    /// Adds a name; returns whether it agrees with those before.
    fn add(&mut self, path: &[u8], kind: NameKind) -> bool {
        let before = self.kinds.insert(self.keys.hash_one(path), kind);
        if before.is_some() && (before, kind) != (Some(NameKind::Dir), NameKind::Dir) {
            return false;
        }
        // A deletion needs no directory: what is not there is deleted already.
        let mut rest = path;
        while kind != NameKind::Gone
            && let Some(slash) = rest.iter().rposition(|byte| *byte == b'/')
        {
            rest = &rest[..slash];
            match self.kinds.insert(self.keys.hash_one(rest), NameKind::Dir) {
                // Whatever added it first added those above, too.
                Some(NameKind::Dir) => break,
                Some(_) => return false,
                None => {}
            }
        }
        true
    }
}
