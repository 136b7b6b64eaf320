//! Which files a `copy` step takes, and what becomes of each.

use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use ignore::gitignore::Gitignore;
use rustix::fs::{FileType, Mode, OFlags};

use super::error::Error;
use super::ignore::{excluded, patterns};
use super::list::{Listing, Text, What};
use super::tree::{Tree, inside, special};
use super::walk::{Modes, walk};
use crate::files::FileStamp;
use crate::step::Op;

const WILD: [char; 4] = ['*', '?', '[', '{'];

/// A `Copy` operation being resolved.
struct Selection<'a> {
    context: &'a Tree,
    to: &'a str,
    modes: Modes,
    exclude: Gitignore,
    listing: Listing,
}

/// A path that an item of `from` names or matches.
struct Source {
    item: usize,
    path: PathBuf,
    /// Written with a slash at its end: a symlink is followed, and must lead to a directory.
    directory: bool,
}

pub(super) fn select(context: &Tree, op: &Op) -> Result<Listing, Error> {
    let Op::Copy { from, to, mode, exclude, .. } = op else { return Err(Error::NotACopy) };
    let exclude = patterns(exclude.iter().map(|p| ("exclude".to_owned(), p.as_str())))?;
    let mut selection =
        Selection { context, to, modes: Modes(*mode), exclude, listing: Listing::new() };
    let mut sources = vec![];
    for (item, source) in from.iter().enumerate() {
        selection.resolve(item, source, &mut sources)?;
    }
    if sources.len() > 1 && !to.ends_with('/') {
        return Err(Error::NeedsDirectory { count: sources.len(), to: to.clone() });
    }
    // First row of each source, and its item.
    let mut starts = vec![];
    for source in sources {
        starts.push((selection.listing.rows.len(), source.item));
        selection.take(source)?;
    }
    let mut listing = selection.listing;
    // What one source gives is in order.
    if starts.len() > 1 {
        listing
            .merge(|row| starts[starts.partition_point(|(start, _)| *start <= row) - 1].1, to)?;
    }
    listing.number_files();
    Ok(listing)
}

impl Selection<'_> {
    /// Adds to `sources` what the item `text` of `from` names or matches.
    fn resolve(&self, item: usize, text: &str, sources: &mut Vec<Source>) -> Result<(), Error> {
        let path = inside(text, Path::new(text))?;
        if text.contains(WILD) {
            return self.resolve_glob(item, text, &path, sources);
        }
        let meta = if path.as_os_str().is_empty() {
            None
        } else {
            Some(self.context.look(&path)?.ok_or_else(|| self.context.missing(&path))?)
        };
        let mut above = PathBuf::new();
        let last = path.components().count();
        for (n, part) in path.components().enumerate() {
            above.push(part);
            let is_directory = n + 1 < last || meta.as_ref().is_some_and(Metadata::is_dir);
            if let Some(by) = excluded(&self.exclude, &above, is_directory)
                .or_else(|| self.context.leaves_out(&above, is_directory))
            {
                return Err(Error::LeftOut { path, by });
            }
        }
        sources.push(Source { item, path, directory: text.ends_with('/') || text.ends_with("/.") });
        Ok(())
    }

    fn resolve_glob(
        &self,
        item: usize,
        text: &str,
        clean: &Path,
        sources: &mut Vec<Source>,
    ) -> Result<(), Error> {
        let glob = glob(&clean.to_string_lossy())?;
        let fixed: PathBuf = clean
            .components()
            .take_while(|c| !c.as_os_str().to_string_lossy().contains(['*', '?', '[', '{', '\\']))
            .collect();
        let depth = if text.contains("**") { usize::MAX } else { clean.components().count() };
        let before = sources.len();
        let mut refused = 0;
        let mut directories = match self.context.dir.stat(&fixed) {
            Ok(meta) if meta.is_dir() => vec![fixed],
            Ok(_) => vec![],
            Err(e) => return Err(self.context.explain(&fixed, e)),
        };
        while let Some(directory) = directories.pop() {
            for name in self
                .context
                .dir
                .list(&directory)
                .map_err(|e| self.context.explain(&directory, e))?
            {
                let path = directory.join(name);
                let Some(meta) = self.context.look(&path)? else { continue };
                let out = excluded(&self.exclude, &path, meta.is_dir()).is_some()
                    || self.context.leaves_out(&path, meta.is_dir()).is_some();
                if glob.is_match(&path) {
                    // A directory that matches brings all that is in it; what else matches in there
                    // is not a source of its own.
                    match out {
                        true => refused += 1,
                        false => sources.push(Source { item, path, directory: false }),
                    }
                } else if meta.is_dir() && !out && path.components().count() < depth {
                    directories.push(path);
                }
            }
        }
        if sources.len() == before {
            return Err(Error::NothingMatches { pattern: text.to_owned(), left_out: refused });
        }
        sources[before..].sort_by(|a, b| a.path.cmp(&b.path));
        Ok(())
    }

    /// Takes one source with all that is in it.
    fn take(&mut self, source: Source) -> Result<(), Error> {
        let Source { path, directory, .. } = source;
        let followed = self.context.dir.open_at(&path, OFlags::PATH, Mode::empty());
        let is_link = !path.as_os_str().is_empty()
            && self.context.look(&path)?.is_some_and(|m| m.is_symlink());
        if is_link && !directory {
            // Only a symlink that leads out is refused: one to nothing may well lead to something
            // in the image.
            if let Err(e) = followed
                && !e.is_missing()
            {
                return Err(self.context.explain(&path, e));
            }
            let target =
                self.context.dir.read_link(&path).map_err(|e| self.context.explain(&path, e))?;
            let target = self.listing.add_text(target.as_os_str().as_bytes())?;
            return self.add_single(path, 0o777, What::Link(target));
        }
        let fd = followed.map_err(|e| self.context.explain(&path, e))?;
        let stat = rustix::fs::fstat(fd)
            .map_err(|e| Error::Content { path: path.clone(), source: e.into() })?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                walk(self.context, &path, &self.exclude, self.modes, &mut self.listing)
            }
            _ if directory => Err(Error::Kind { path, wanted: "a directory" }),
            FileType::RegularFile => {
                let what = What::File { mark: FileStamp::of(&stat), content: 0 };
                self.add_single(path, self.modes.file(&stat), what)
            }
            kind => Err(Error::Special { path, kind: special(kind) }),
        }
    }

    /// A file or symlink that is a source itself goes to `to`, or into it.
    fn add_single(&mut self, source: PathBuf, mode: u32, what: What) -> Result<(), Error> {
        let named = self.to.ends_with('/').then(|| source.file_name().map(PathBuf::from)).flatten();
        let itself = self.listing.add_directory(source, named.unwrap_or_default())?;
        self.listing.add(itself, Text::default(), mode, what);
        Ok(())
    }
}

fn glob(pattern: &str) -> Result<GlobMatcher, Error> {
    let built = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
    built.map(|g| g.compile_matcher()).map_err(|e| Error::Pattern {
        place: "copy".to_owned(),
        pattern: pattern.to_owned(),
        why: e.kind().to_string(),
    })
}
