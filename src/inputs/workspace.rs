//! The workspace that a recipe is in: the nearest `bake.toml` above it, read once in a run; and the
//! recipes that are its members.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};

use super::error::Error;
use super::read;
use crate::recipe::{Diagnostic, Pattern, WORKSPACE, Workspace, WorkspaceFile, Workspaces};

/// What a recipe is called where only its directory is named.
pub const RECIPE: &str = "recipe.toml";

/// What a part of a glob has that matches more than itself.
const WILD: [char; 5] = ['*', '?', '[', '{', '\\'];

/// Finds the workspace of a directory: the nearest `bake.toml` in it or above, not beyond one with
/// `.git`. An empty path is the current directory.
///
/// # Errors
/// As [`text`](read::text); [`io::ErrorKind::PermissionDenied`] for a file of somebody else in a
/// directory where everybody can write.
pub fn workspace_of(
    directory: &Path,
    known: &Workspaces,
) -> Result<Option<Arc<WorkspaceFile>>, Error> {
    let real = match here(directory).canonicalize() {
        Ok(real) => real,
        // A directory that is not there is reported by who reads the recipe in it.
        Err(error) if missing(&error) => return Ok(None),
        Err(source) => return Err(Error::File { path: directory.join(WORKSPACE), source }),
    };
    for (up, at) in real.ancestors().enumerate() {
        let found = known.once(at, || look(&real, at, || shown(directory, up, at)))?;
        if found.is_some() {
            return Ok(found);
        }
        if at.join(".git").symlink_metadata().is_ok() {
            return Ok(None);
        }
    }
    Ok(None)
}

/// Reads the workspace file in the directory `at`, if there is one, for a recipe in `below`.
fn look(
    below: &Path,
    at: &Path,
    shown: impl Fn() -> PathBuf,
) -> Result<Option<WorkspaceFile>, Error> {
    let file = at.join(WORKSPACE);
    let itself = match file.symlink_metadata() {
        Ok(itself) => itself,
        Err(error) if missing(&error) => return Ok(None),
        // Where nobody may look no recipe can be read either.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(source) => return Err(Error::File { path: shown(), source }),
    };
    let shown = shown();
    let fail = |source| Error::File { path: shown.clone(), source };
    if let Some(why) = foreign(&itself, &file, at, below) {
        return Err(fail(io::Error::new(io::ErrorKind::PermissionDenied, why)));
    }
    let text = read::text_of(&file, &shown)?.into();
    Ok(Some(WorkspaceFile { file: shown, directory: at.to_owned(), text }))
}

/// Whether nothing is there.
fn missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Says whose a file is that lies where everybody can write, such as in /tmp, where it belongs
/// neither to the user, nor to root, nor to the owner of the recipe's directory.
fn foreign(itself: &Metadata, file: &Path, at: &Path, below: &Path) -> Option<String> {
    const WRITABLE_BY_ALL: u32 = 0o002;
    if fs::metadata(at).is_ok_and(|directory| directory.mode() & WRITABLE_BY_ALL == 0) {
        return None;
    }
    let own = fs::metadata(below).map(|meta| meta.uid());
    let trusted = [0, rustix::process::geteuid().as_raw(), own.unwrap_or(0)];
    let owners = [Some(itself.uid()), fs::metadata(file).ok().map(|meta| meta.uid())];
    let owner = owners.into_iter().flatten().find(|owner| !trusted.contains(owner))?;
    Some(format!(
        "it belongs to user {owner}, in a directory where everybody can write; a directory of \
            yours with a `bake.toml` or a `.git` ends the search for one"
    ))
}

/// Returns how a person at the current directory would write the workspace file in `at`, which is
/// `up` directories above `directory`.
fn shown(directory: &Path, up: usize, at: &Path) -> PathBuf {
    let mut path = directory.to_owned();
    for _ in 0..up {
        match path.components().next_back() {
            Some(Component::Normal(_)) => _ = path.pop(),
            Some(Component::CurDir) => path = "..".into(),
            _ => path.push(".."),
        }
    }
    // Above a symlink is not where its target is.
    let same = here(&path).canonicalize().is_ok_and(|real| real == at);
    if same { path.join(WORKSPACE) } else { at.join(WORKSPACE) }
}

/// Returns a directory as the kernel takes it.
fn here(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
}

/// Returns the recipes that are members of a workspace, as a person would write them, in the order
/// of their names.
///
/// # Errors
/// [`Error::Recipe`] for a glob that matches nothing, or something that a symlink leads out of the
/// workspace; [`Error::File`] for a directory that cannot be read.
pub fn members(file: &WorkspaceFile, workspace: &Workspace) -> Result<Vec<PathBuf>, Error> {
    let exclude: Vec<GlobMatcher> = workspace.exclude.iter().map(matcher).collect();
    let excluded =
        |path: &Path| path.ancestors().any(|part| exclude.iter().any(|glob| glob.is_match(part)));
    let mut found = BTreeSet::new();
    let mut mistakes = vec![];
    for pattern in &workspace.members {
        let mut matching = Walk { file, pattern, matcher: matcher(pattern), found: vec![] };
        matching.all()?;
        if matching.found.is_empty() {
            let message = format!("\"{}\" matches no recipe", pattern.glob);
            mistakes.push(mistake(pattern, message, "nothing is there".to_owned()));
        }
        for path in matching.found.into_iter().filter(|path| !excluded(path)) {
            let real = file.directory.join(&path).canonicalize();
            // What cannot be found is reported when it is read.
            if real.is_ok_and(|real| !real.starts_with(&file.directory)) {
                let message = format!("{} leads out of the workspace", path.display());
                mistakes.push(mistake(pattern, message, "by a symlink".to_owned()));
            } else {
                found.insert(path);
            }
        }
    }
    if !mistakes.is_empty() {
        return Err(Error::Recipe(mistakes));
    }
    let beside = file.file.parent().unwrap_or(Path::new(""));
    let mut seen = BTreeSet::new();
    // By way of a symlink it is the same recipe.
    let first = |path: &PathBuf| {
        let path = file.directory.join(path);
        seen.insert(path.canonicalize().unwrap_or(path))
    };
    Ok(found.into_iter().filter(first).map(|path| beside.join(path)).collect())
}

fn mistake(pattern: &Pattern, message: String, label: String) -> Diagnostic {
    Diagnostic { message, label: Some(label), ..pattern.place.clone() }
}

/// Returns what a pattern matches: whole paths, as the shell has it.
fn matcher(pattern: &Pattern) -> GlobMatcher {
    let clean: PathBuf = clean(&pattern.glob).collect();
    GlobBuilder::new(&clean.to_string_lossy())
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .expect("the glob was checked when it was read")
        .compile_matcher()
}

/// Returns the parts of a relative glob or path.
fn clean(glob: &str) -> impl Iterator<Item = &str> {
    glob.split('/').filter(|part| !matches!(*part, "" | "."))
}

/// One glob over a workspace.
struct Walk<'a> {
    file: &'a WorkspaceFile,
    pattern: &'a Pattern,
    matcher: GlobMatcher,
    /// Relative to the directory of the workspace.
    found: Vec<PathBuf>,
}

impl Walk<'_> {
    fn all(&mut self) -> Result<(), Error> {
        let parts: Vec<&str> = clean(&self.pattern.glob).collect();
        let fixed: PathBuf = parts.iter().take_while(|part| !part.contains(WILD)).collect();
        if fixed.components().count() == parts.len() {
            self.take(fixed);
            return Ok(());
        }
        // Through symlinks the way could go on for ever.
        let deep = self.pattern.glob.contains("**");
        let depth = if deep { usize::MAX } else { parts.len() };
        let hidden = parts.iter().any(|part| part.starts_with('.'));
        let mut directories = vec![fixed];
        while let Some(directory) = directories.pop() {
            for name in self.names(&directory)? {
                let path = directory.join(&name);
                if name.as_encoded_bytes().starts_with(b".") && !hidden {
                    continue;
                }
                let whole = self.file.directory.join(&path);
                let meta = if deep { whole.symlink_metadata() } else { whole.metadata() };
                let is_directory = meta.is_ok_and(|meta| meta.is_dir());
                if self.matcher.is_match(&path) {
                    self.take(path.clone());
                }
                if is_directory && path.components().count() < depth {
                    directories.push(path);
                }
            }
        }
        Ok(())
    }

    /// Adds what a path of the workspace means: a recipe, or the one in a directory.
    fn take(&mut self, path: PathBuf) {
        if path.file_name().is_some_and(|name| name == WORKSPACE) {
            return;
        }
        let whole = self.file.directory.join(&path);
        match whole.metadata() {
            Ok(meta) if meta.is_dir() => {
                if whole.join(RECIPE).symlink_metadata().is_ok() {
                    self.found.push(path.join(RECIPE));
                }
            }
            // A symlink to nothing is reported when it is read.
            Ok(_) => self.found.push(path),
            Err(_) if whole.symlink_metadata().is_ok() => self.found.push(path),
            Err(_) => {}
        }
    }

    /// Returns the names in a directory; none where there is no such directory.
    fn names(&self, directory: &Path) -> Result<Vec<std::ffi::OsString>, Error> {
        let whole = self.file.directory.join(directory);
        let beside = self.file.file.parent().unwrap_or(Path::new(""));
        let fail = |source| Error::File { path: beside.join(directory), source };
        match fs::read_dir(&whole) {
            Ok(entries) => entries.map(|entry| Ok(entry.map_err(fail)?.file_name())).collect(),
            Err(error) if missing(&error) => Ok(vec![]),
            Err(error) => Err(fail(error)),
        }
    }
}
