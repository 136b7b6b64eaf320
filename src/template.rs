//! `bake new`: a directory with a recipe that bakes, from one of the templates in `templates/`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::suggest::{alike, near};

/// Stands for the image's name in the templates' files.
const NAME: &str = "@name@";

/// What recipes of templates call the JSON Schema beside them.
const SCHEMA: &str = "recipe.schema.json";

/// A template.
#[derive(Debug)]
pub struct Template {
    /// What `--template` calls it.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    files: &'static [Piece],
}

/// One file of a template.
#[derive(Debug)]
struct Piece {
    path: &'static str,
    text: &'static str,
    executable: bool,
}

macro_rules! template {
    ($name:literal, $about:literal, [$($path:literal $($executable:ident)?),+]) => {
        Template {
            name: $name,
            about: $about,
            files: &[$(Piece {
                path: $path,
                text: include_str!(concat!("../templates/", $name, "/", $path)),
                executable: template!(@ $($executable)?),
            }),+],
        }
    };
    (@ executable) => { true };
    (@) => { false };
}

/// The templates, the default one first.
pub const TEMPLATES: &[Template] = &[
    template!("minimal", "Debian with one package and one command", ["recipe.toml", "README.md"]),
    template!(
        "web-nginx",
        "NGINX with a site",
        ["recipe.toml", "README.md", "nginx.conf.j2", "site/index.html"]
    ),
    template!(
        "web-apache",
        "Apache with a site",
        ["recipe.toml", "README.md", "apache2.conf.j2", "site/index.html", "site/healthz"]
    ),
    template!("database-postgresql", "PostgreSQL with its data in a \
        volume", ["recipe.toml", "README.md", "entrypoint.sh" executable]),
    template!(
        "vm-web",
        "NGINX with a site, as a machine",
        ["recipe.toml", "README.md", "site/index.html"]
    ),
    template!("vm-database", "PostgreSQL as a machine, with its data on a disk of its \
        own", ["recipe.toml", "README.md", "make-cluster" executable, "postgresql.service"]),
    template!(
        "static-binary",
        "one statically linked program and nothing else",
        ["recipe.toml", "README.md", "src/main.c"]
    ),
];

/// Why there is no new directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No template has this name.
    #[error("there is no template \"{name}\"{}; there are {}", self::near(.near), known())]
    NoTemplate {
        /// As given.
        name: String,
        /// Names that look alike.
        near: Vec<String>,
    },
    /// Not a name an image can have.
    #[error(
        "\"{name}\" cannot be an image's name: lower-case letters and digits, with single `.`, \
            `_`, `-` or `/` between them"
    )]
    Name {
        /// As given.
        name: String,
    },
    /// Something would be overwritten.
    #[error("{} exists already; nothing was written", path.display())]
    Exists {
        /// The first such path.
        path: PathBuf,
    },
    /// Writing failed; what had been written was removed again.
    #[error("cannot write {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes the files of `template` for an image called `name` into the directory `dir`, which is
/// made if missing, with the JSON Schema of recipes that they name; returns their paths. Never
/// overwrites anything; all files are written or none.
///
/// # Errors
/// See [`Error`].
pub fn create(template: &str, dir: &Path, name: &str, schema: &str) -> Result<Vec<PathBuf>, Error> {
    let template =
        TEMPLATES.iter().find(|t| t.name == template).ok_or_else(|| Error::NoTemplate {
            name: template.to_owned(),
            near: alike(template, TEMPLATES.iter().map(|t| t.name)),
        })?;
    if !is_image_name(name) {
        return Err(Error::Name { name: name.to_owned() });
    }
    // Looked at first, for a message before anything is touched; `create_new` below is what makes
    // sure.
    for piece in template.files.iter().map(|piece| piece.path).chain([SCHEMA]) {
        let path = dir.join(piece);
        if path.symlink_metadata().is_ok() {
            return Err(Error::Exists { path });
        }
    }
    let mut made = Made::default();
    let files = template.files.iter();
    let files = files.map(|one| (one.path, one.text.replace(NAME, name), one.executable));
    for (path, text, executable) in files.chain([(SCHEMA, schema.to_owned(), false)]) {
        let path = dir.join(path);
        made.write(&path, &text, executable).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists { path: path.clone() },
            _ => Error::Write { path: path.clone(), source },
        })?;
    }
    made.directories.clear();
    Ok(std::mem::take(&mut made.files))
}

/// Writes one file, and the directories above it; never overwrites anything.
///
/// # Errors
/// [`Error::Exists`] and [`Error::Write`].
pub fn create_file(path: &Path, text: &str) -> Result<(), Error> {
    let mut made = Made::default();
    made.write(path, text, false).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists { path: path.to_owned() },
        _ => Error::Write { path: path.to_owned(), source },
    })?;
    made.directories.clear();
    made.files.clear();
    Ok(())
}

/// What has been made so far; removed again when dropped.
#[derive(Default)]
struct Made {
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

impl Made {
    fn write(&mut self, path: &Path, text: &str, executable: bool) -> io::Result<()> {
        self.make_directories(path.parent().unwrap_or(Path::new("")))?;
        let mode = if executable { 0o777 } else { 0o666 };
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        self.files.push(path.to_owned());
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }

    fn make_directories(&mut self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        self.make_directories(path.parent().unwrap_or(Path::new("")))?;
        fs::create_dir(path)?;
        self.directories.push(path.to_owned());
        Ok(())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // The error that led here is what the person needs; a leftover file is named by the next
        // try.
        for path in &self.files {
            let _ = fs::remove_file(path);
        }
        for path in self.directories.iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }
}

/// As repository names in the OCI distribution specification.
fn is_image_name(name: &str) -> bool {
    let word =
        |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    // `__` and any number of `-` count as one separator.
    let part = |part: &str| {
        part.replace("__", "_").split(['.', '_']).all(|p| {
            p.starts_with(|c| c != '-')
                && !p.ends_with('-')
                && p.split('-').all(|w| w.is_empty() || word(w))
        })
    };
    name.len() <= 255 && name.split('/').all(part)
}

fn known() -> String {
    TEMPLATES.iter().map(|t| t.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_a_registry_takes() {
        for good in ["web", "a", "team/web", "a.b_c-d", "a__b", "a--b", "1/2/3"] {
            assert!(is_image_name(good), "{good}");
        }
        for bad in [
            "", "Web", "a//b", "-a", "a-", "a..b", "a___b", "a b", "a:1", "/a", "a/", "a.-b", "ä",
            "a\n",
        ] {
            assert!(!is_image_name(bad), "{bad}");
        }
    }
}
