//! The context: the person's directory that a recipe's paths are relative to, read and never
//! written, and nothing outside it.
//!
//! Runs as the invoking user, outside the sandbox. What a `copy` step takes is listed once, sorted,
//! with modes that do not depend on a checkout's umask; [`Context::digest`] names it by content,
//! reading only files that the stat cache does not know.

use std::collections::HashMap;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use self::content::Content;
use self::list::Listing;
use crate::digest::{Digest, Hasher};
use crate::files::{Links, RootDir};
use crate::plan::listing::Listing as Listed;
use crate::step::Op;

mod content;
mod error;
mod held;
mod ignore;
mod list;
mod seen;
mod select;
mod source;
mod tar;
mod tree;
mod walk;

pub use self::error::{BAKE_IGNORE, Error};
pub use self::ignore::{DOCKER_IGNORE, Doubt};
pub use self::list::{Entry, Kind};
pub use self::tree::Tree;
pub use held::Held;
pub use source::PutError;
pub use tar::TarSummary;
pub(crate) use tar::take_from_root;

/// The context directory, held open. `Sync`: steps may be prepared from several threads.
#[derive(Debug)]
pub struct Context {
    tree: Tree,
    /// Directory of the stat caches, and what names this context in them.
    cache: Option<(PathBuf, Digest)>,
    /// What each `Copy` operation asked about so far takes: it is looked at once, and what a build
    /// copies is what its key named.
    taken: Arc<Mutex<HashMap<String, Arc<Taken>>>>,
}

/// What one `Copy` operation takes.
#[derive(Debug)]
pub(crate) struct Taken {
    listing: Listing,
    contents: OnceLock<(Vec<Content>, Digest)>,
}

impl Deref for Context {
    type Target = Tree;

    fn deref(&self) -> &Tree {
        &self.tree
    }
}

impl Context {
    /// Opens the directory `path`. `left_out`: paths below it that no step may copy, each with the
    /// reason as people read it: bake's own lock file (else the first build would change what the
    /// second one copies), a store or output inside the context. `unless_named`: what is left out
    /// unless a pattern of the ignore file takes it along: the recipe.
    pub fn open(
        path: &Path,
        left_out: &[(PathBuf, String)],
        unless_named: &[(PathBuf, String)],
    ) -> Result<Self, Error> {
        let tree = Tree::open(path, left_out, unless_named)?;
        Ok(Self { tree, cache: None, taken: Arc::default() })
    }

    /// The same context, as seen before, for a build: one more path may be `left_out`, and `cache`
    /// is as for [`Context::with_stat_cache`].
    pub(crate) fn for_build(
        &self,
        left_out: Option<(PathBuf, String)>,
        cache: PathBuf,
    ) -> Result<Self, Error> {
        let dir = RootDir::open(self.dir.path(), Links::Beneath)
            .map_err(|source| Error::Open { path: self.dir.path().to_owned(), source })?;
        // What was looked at without the path being left out may have it in it.
        let knew =
            |taken: &Taken| left_out.as_ref().is_some_and(|(path, _)| taken.listing.reaches(path));
        let known = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = known
            .iter()
            .filter(|(_, taken)| !knew(taken))
            .map(|(name, taken)| (name.clone(), taken.clone()))
            .collect();
        let taken = Arc::new(Mutex::new(kept));
        let left_out = self.left_out.iter().cloned().chain(left_out).collect();
        let tree = Tree { dir, ignored: self.ignored.clone(), left_out };
        Ok(Self { tree, cache: None, taken }.with_stat_cache(cache))
    }

    /// Remembers in files of the existing directory `directory` how the files that are copied
    /// looked and what they contained, so that the next build reads only what changed since.
    #[must_use]
    pub fn with_stat_cache(mut self, directory: PathBuf) -> Self {
        // Under another name it would be another context: nothing is lost but time.
        self.cache = self
            .dir
            .path()
            .canonicalize()
            .ok()
            .map(|path| (directory, Digest::of(path.as_os_str().as_bytes())));
        self
    }

    /// Lists what the `Copy` operation takes, sorted by place.
    pub fn list(&self, op: &Op) -> Result<Vec<Entry>, Error> {
        let taken = self.take(op)?;
        Ok(taken.listing.rows.iter().map(|row| taken.listing.entry(row)).collect())
    }

    /// Looks whether the `Copy` operation can take what it says.
    pub fn look_over(&self, op: &Op) -> Result<(), Error> {
        self.take(op).map(|_| ())
    }

    /// Names by content what the `Copy` operation takes: places, kinds, modes, bytes, symlink
    /// targets; not times, owners, or the umask.
    pub fn digest(&self, op: &Op) -> Result<Digest, Error> {
        Ok(self.contents(op, &*self.take(op)?)?.1)
    }

    /// Returns what makes [`Context::digest`]: the place of everything that is taken with the
    /// digest of its kind, mode and content.
    pub fn listing(&self, op: &Op) -> Result<Listed, Error> {
        let taken = self.take(op)?;
        let (listing, (contents, _)) = (&taken.listing, self.contents(op, &taken)?);
        let (mut out, mut place, mut bytes) = (Listed::default(), vec![], vec![]);
        for row in &listing.rows {
            listing.place_into(row, &mut place);
            bytes.clear();
            content::describe(listing, contents, row, &mut bytes);
            out.add(&place, &Digest::of(&bytes));
        }
        Ok(out)
    }

    /// Looks at everything that the `Copy` operation takes, or returns what was found before.
    pub(super) fn take(&self, op: &Op) -> Result<Arc<Taken>, Error> {
        let name = canonical(op);
        // What is in the map is whole at any time.
        let known = || self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = known().get(&name) {
            return Ok(taken.clone());
        }
        let taken =
            Arc::new(Taken { listing: select::select(self, op)?, contents: OnceLock::new() });
        known().insert(name, taken.clone());
        Ok(taken)
    }

    /// Forgets what files of `op` contained: one of them has other bytes than its marks say, so the
    /// next build reads them all.
    fn distrust(&self, op: &Op) {
        if let Some(cache) = self.cache_file(op) {
            // Where it cannot be removed the next build fails as this one, and says so.
            let _ = std::fs::remove_file(cache);
        }
    }

    /// Returns the contents of what `op` takes, and their digest; read now or before.
    fn contents<'t>(&self, op: &Op, taken: &'t Taken) -> Result<&'t (Vec<Content>, Digest), Error> {
        if let Some(known) = taken.contents.get() {
            return Ok(known);
        }
        let contents = content::contents(self, &taken.listing, self.cache_file(op).as_deref())?;
        let digest = content::digest(&taken.listing, &contents);
        Ok(taken.contents.get_or_init(|| (contents, digest)))
    }

    /// The stat cache of what `op` selects. Another selection has another one, so that they do not
    /// push each other out.
    fn cache_file(&self, op: &Op) -> Option<PathBuf> {
        let (directory, context) = self.cache.as_ref()?;
        let Op::Copy { from, to, exclude, .. } = op else { return None };
        // The cache of another format is another file, which is left alone.
        Some(
            directory.join(
                named(&[
                    seen::MAGIC,
                    context.as_bytes(),
                    canonical(&(from, to.ends_with('/'), exclude)).as_bytes(),
                ])
                .hex(),
            ),
        )
    }

    /// Names this operation on this context, whatever its files contain.
    pub(crate) fn name_of(&self, op: &Op) -> Digest {
        let context = self.cache.as_ref().map_or([0; 32], |(_, context)| *context.as_bytes());
        named(&[b"copy", &context, canonical(op).as_bytes()])
    }
}

/// Returns the one form of `value` in which it is part of a name.
fn canonical(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data with string keys always has a JSON form")
}

fn named(parts: &[&[u8]]) -> Digest {
    let mut name = Hasher::new();
    parts.iter().for_each(|part| name.update(part));
    name.finish()
}
