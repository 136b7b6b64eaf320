//! What is checked of outputs before anything runs: whether there is a place for each.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::fs::Access;

use super::Planned;
use super::error::Error;
use super::note::Notes;
use crate::files::parent;
use crate::output::Format;
use crate::recipe::Diagnostic;
use crate::store::Store;

/// Looks for the places of the outputs of recipes, each with the file that it was read from;
/// returns what is wrong with them.
///
/// # Errors
/// Where the store cannot be used.
pub fn check(store: &Store, all: &[(&Path, &[Planned])]) -> Result<Vec<Diagnostic>, Error> {
    let mut found = vec![];
    if all.iter().all(|(_, outputs)| outputs.is_empty()) {
        return Ok(found);
    }
    let notes = Notes::open(store)?;
    let own = store.dir().canonicalize().unwrap_or_else(|_| store.dir().to_owned());
    let mut recipes = vec![];
    for (recipe, _) in all {
        recipes.push((real(recipe), "the recipe"));
        recipes.push((real(&recipe.with_extension("lock")), "its lock file"));
    }
    let mut seen: BTreeMap<&Path, &Planned> = BTreeMap::new();
    for output in all.iter().flat_map(|(_, outputs)| *outputs) {
        let shown = output.shown.display();
        let mut wrong = |message: String, help: Option<String>| {
            found.push(Diagnostic { message, help, ..output.place.clone() });
        };
        if let Some(other) = seen.insert(&output.path, output) {
            let (file, line) = (other.place.file.display(), other.place.line);
            let help = match (&other.place.file, line) == (&output.place.file, output.place.line) {
                // The same line, for another platform.
                true => "one is made for each platform: write `{{ arch }}` in its path".to_owned(),
                false => format!("the other is {file}:{line}"),
            };
            wrong(format!("two outputs at {shown}"), Some(help));
        } else if let Some((_, what)) = recipes.iter().find(|(path, _)| *path == output.path) {
            wrong(format!("{shown} is {what}: an output would replace it"), None);
        } else if output.path.starts_with(&own) || own.starts_with(&output.path) {
            let help = "name a path outside of the store".to_owned();
            wrong(format!("{shown} is in the store"), Some(help));
        } else if output.path.to_str().is_none() {
            wrong(format!("{shown} is not UTF-8"), None);
        } else if let Some((message, help)) = no_place(output, &notes) {
            wrong(message, help);
        } else if output.format == Format::Dir
            && !output.options.drop_owners
            && !rustix::process::geteuid().is_root()
        {
            let help = "write `owners = \"dropped\"`, or take the format `tar`";
            let message = "only root can make a directory whose files have owners";
            wrong(message.to_owned(), Some(help.to_owned()));
        }
    }
    for output in all.iter().flat_map(|(_, outputs)| *outputs) {
        let above = output.path.ancestors().skip(1).find_map(|dir| seen.get(dir));
        if let Some(above) = above {
            let message = format!("{} is in another output", output.shown.display());
            let help = Some(format!("{} is one", above.shown.display()));
            found.push(Diagnostic { message, help, ..output.place.clone() });
        }
    }
    Ok(found)
}

/// Says why nothing can be put at an output's path.
fn no_place(output: &Planned, notes: &Notes) -> Option<(String, Option<String>)> {
    let (shown, dir) = (output.shown.display(), parent(&output.path));
    let above = parent(&output.shown).display();
    match fs::metadata(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let help = format!("`mkdir -p {above}`");
            return Some((format!("missing the directory {above}"), Some(help)));
        }
        Err(e) => return Some((format!("cannot open the directory {above}"), Some(e.to_string()))),
        Ok(found) if !found.is_dir() => {
            return Some((format!("{above} is not a directory"), None));
        }
        Ok(_) => {}
    }
    if let Err(e) = rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK) {
        return Some((format!("cannot write into the directory {above}"), Some(e.to_string())));
    }
    let found = match fs::symlink_metadata(&output.path) {
        Ok(found) => found,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
        Err(e) => return Some((format!("cannot look at {shown}"), Some(e.to_string()))),
    };
    let format = output.format.name();
    match (output.format.is_dir(), found.is_dir()) {
        (false, true) => {
            let help = format!("the format {format} is a file: name one, or remove the directory");
            Some((format!("{shown} is a directory"), Some(help)))
        }
        (true, true) => {
            let inode = std::os::unix::fs::MetadataExt::ino(&found);
            let help = "a directory is replaced only where bake has written it: remove it, or name \
                another";
            let other = || {
                (format!("{shown} is a directory that bake did not write"), Some(help.to_owned()))
            };
            (!notes.of(&output.path).wrote(inode)).then(other)
        }
        (true, false) => {
            let help = format!("the format {format} is a directory: name one, or remove the file");
            Some((format!("{shown} is not a directory"), Some(help)))
        }
        (false, false) if found.is_file() || found.is_symlink() => None,
        (false, false) => Some((format!("{shown} is not a regular file"), None)),
    }
}

/// Where a file that is there, or will be, really is.
fn real(path: &Path) -> std::path::PathBuf {
    let dir = std::path::absolute(parent(path)).unwrap_or_else(|_| parent(path).to_owned());
    dir.canonicalize().unwrap_or(dir).join(path.file_name().unwrap_or_default())
}
