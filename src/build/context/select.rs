//! Which files a `copy` step takes, and what becomes of each.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use globset::GlobBuilder;
use globset::GlobMatcher;
use ignore::Match;
use ignore::gitignore::Gitignore;

use super::Context;
use super::Entry;
use super::Error;
use super::Kind;
use super::Mark;
use super::inside;
use super::patterns;
use super::special;
use crate::step::Op;

const WILD: [char; 4] = ['*', '?', '[', '{'];

/// A `Copy` operation being resolved.
struct Selection<'a> {
    context: &'a Context,
    to: &'a str,
    mode: Option<u32>,
    exclude: Gitignore,
    /// By place; parents come before what is in them. The number is the item of `from` that it came with.
    chosen: BTreeMap<PathBuf, (usize, Entry)>,
}

/// A path that an item of `from` names or matches.
struct Source {
    item: usize,
    path: PathBuf,
    /// Written with a slash at its end: a link is followed, and must lead to a folder.
    folder: bool,
}

pub(super) fn select(context: &Context, op: &Op) -> Result<Vec<Entry>, Error> {
    let Op::Copy { from, to, mode, exclude, .. } = op else { return Err(Error::NotACopy) };
    let exclude = patterns(exclude.iter().map(|p| ("exclude".to_owned(), p.as_str())))?;
    let mut selection = Selection { context, to, mode: *mode, exclude, chosen: BTreeMap::new() };
    let mut sources = vec![];
    for (item, source) in from.iter().enumerate() {
        selection.resolve(item, source, &mut sources)?;
    }
    if sources.len() > 1 && !to.ends_with('/') {
        return Err(Error::NeedsFolder { count: sources.len(), to: to.clone() });
    }
    for source in sources {
        selection.take(source)?;
    }
    Ok(selection.chosen.into_values().map(|(_, entry)| entry).collect())
}

impl Selection<'_> {
    /// Adds to `sources` what the item `text` of `from` names or matches.
    fn resolve(&self, item: usize, text: &str, sources: &mut Vec<Source>) -> Result<(), Error> {
        let path = inside(text, Path::new(text))?;
        if text.contains(WILD) {
            return self.resolve_glob(item, text, &path, sources);
        }
        let meta =
            if path.as_os_str().is_empty() { None } else { Some(self.context.look(&path)?.ok_or_else(|| self.context.missing(&path))?) };
        let mut above = PathBuf::new();
        let last = path.components().count();
        for (n, part) in path.components().enumerate() {
            above.push(part);
            let is_folder = n + 1 < last || meta.as_ref().is_some_and(Metadata::is_dir);
            if let Some(by) = self.left_out(&above, is_folder) {
                return Err(Error::LeftOut { path, by });
            }
        }
        sources.push(Source { item, path, folder: text.ends_with('/') || text.ends_with("/.") });
        Ok(())
    }

    fn resolve_glob(&self, item: usize, text: &str, clean: &Path, sources: &mut Vec<Source>) -> Result<(), Error> {
        let glob = glob(&clean.to_string_lossy())?;
        let fixed: PathBuf =
            clean.components().take_while(|c| !c.as_os_str().to_string_lossy().contains(['*', '?', '[', '{', '\\'])).collect();
        let depth = if text.contains("**") { usize::MAX } else { clean.components().count() };
        let before = sources.len();
        let mut left_out = 0;
        let mut folders = match self.context.dir.stat(&fixed) {
            Ok(meta) if meta.is_dir() => vec![fixed],
            Ok(_) => vec![],
            Err(e) => return Err(self.context.explain(&fixed, e)),
        };
        while let Some(folder) = folders.pop() {
            for name in self.context.dir.list(&folder).map_err(|e| self.context.explain(&folder, e))? {
                let path = folder.join(name);
                let Some(meta) = self.context.look(&path)? else { continue };
                let out = self.left_out(&path, meta.is_dir()).is_some();
                if glob.is_match(&path) {
                    // A folder that matches brings all that is in it; what else matches in there is not a source of its own.
                    match out {
                        true => left_out += 1,
                        false => sources.push(Source { item, path, folder: false }),
                    }
                } else if meta.is_dir() && !out && path.components().count() < depth {
                    folders.push(path);
                }
            }
        }
        if sources.len() == before {
            return Err(Error::NothingMatches { pattern: text.to_owned(), left_out });
        }
        sources[before..].sort_by(|a, b| a.path.cmp(&b.path));
        Ok(())
    }

    /// Takes one source with all that is in it.
    fn take(&mut self, source: Source) -> Result<(), Error> {
        let Source { item, path, folder } = source;
        let followed = self.context.dir.stat(&path);
        let is_link = !path.as_os_str().is_empty() && self.context.look(&path)?.is_some_and(|m| m.is_symlink());
        if is_link && !folder {
            // Only a link that leads out is refused: one to nothing may well lead to something in the image.
            if let Err(e) = followed
                && !e.is_missing()
            {
                return Err(self.context.explain(&path, e));
            }
            let entry = self.link(&path)?;
            return self.add_single(item, entry);
        }
        let meta = followed.map_err(|e| self.context.explain(&path, e))?;
        if meta.is_dir() {
            return self.take_folder(item, &path);
        }
        if folder {
            return Err(Error::Kind { path, wanted: "a folder" });
        }
        let entry = self.file(&path, &meta)?;
        self.add_single(item, entry)
    }

    /// A file or link that is a source itself goes to `to`, or into it.
    fn add_single(&mut self, item: usize, mut entry: Entry) -> Result<(), Error> {
        if self.to.ends_with('/') {
            entry.place = entry.source.file_name().map(PathBuf::from).unwrap_or_default();
        }
        self.add(item, entry)
    }

    fn take_folder(&mut self, item: usize, top: &Path) -> Result<(), Error> {
        self.add(item, self.folder(top, PathBuf::new()))?;
        let mut folders = vec![(top.to_owned(), PathBuf::new())];
        while let Some((folder, place)) = folders.pop() {
            for name in self.context.dir.list(&folder).map_err(|e| self.context.explain(&folder, e))? {
                let (path, place) = (folder.join(&name), place.join(&name));
                // Whatever goes between listing and looking was being removed; taking half of it would be a guess.
                let meta = self.context.look(&path)?.ok_or_else(|| Error::Changed { path: path.clone() })?;
                if self.left_out(&path, meta.is_dir()).is_some() {
                    continue;
                }
                let entry = if meta.is_dir() {
                    folders.push((path.clone(), place.clone()));
                    self.folder(&path, place)
                } else if meta.is_symlink() {
                    Entry { place, ..self.link(&path)? }
                } else {
                    Entry { place, ..self.file(&path, &meta)? }
                };
                self.add(item, entry)?;
            }
        }
        Ok(())
    }

    fn folder(&self, path: &Path, place: PathBuf) -> Entry {
        // x where r is; set-id bits are for programs.
        let mode = self.mode.map_or(0o755, |mode| (mode & 0o777) | ((mode & 0o444) >> 2));
        Entry { source: path.to_owned(), place, kind: Kind::Folder, mode }
    }

    fn file(&self, path: &Path, meta: &Metadata) -> Result<Entry, Error> {
        if !meta.is_file() {
            return Err(Error::Special { path: path.to_owned(), kind: special(meta) });
        }
        let executable = meta.permissions().mode() & 0o100 != 0;
        let mode = self.mode.unwrap_or(if executable { 0o755 } else { 0o644 });
        let kind = Kind::File { size: meta.len(), executable, mark: Mark::of(meta) };
        Ok(Entry { source: path.to_owned(), place: PathBuf::new(), kind, mode })
    }

    fn link(&self, path: &Path) -> Result<Entry, Error> {
        let target = self.context.dir.read_link(path).map_err(|e| self.context.explain(path, e))?;
        Ok(Entry { source: path.to_owned(), place: PathBuf::new(), kind: Kind::Link(target), mode: 0o777 })
    }

    fn add(&mut self, item: usize, entry: Entry) -> Result<(), Error> {
        if let Some((other_item, other)) = self.chosen.get(&entry.place) {
            let folders = (entry.kind == Kind::Folder, other.kind == Kind::Folder);
            if folders == (true, true) {
                return Ok(());
            }
            // Of two items the later one wins, as if they were two steps; within one glob nobody said which.
            if folders != (false, false) || *other_item == item {
                let to = Path::new(self.to).join(&entry.place).display().to_string();
                return Err(Error::Clash { first: other.source.clone(), second: entry.source, to });
            }
        }
        self.chosen.insert(entry.place.clone(), (item, entry));
        Ok(())
    }

    /// Which pattern leaves `path` out, if any; folders above it have been looked at already.
    fn left_out(&self, path: &Path, is_folder: bool) -> Option<String> {
        if let Some((_, why)) = self.context.left_out.iter().find(|(p, _)| p == path) {
            return Some(why.clone());
        }
        [&self.exclude, &self.context.ignored].into_iter().find_map(|patterns| match patterns.matched(path, is_folder) {
            Match::Ignore(glob) => {
                let place = glob.from().map(|p| p.display().to_string()).unwrap_or_default();
                Some(format!("{place}, pattern \"{}\"", glob.original()))
            }
            _ => None,
        })
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
