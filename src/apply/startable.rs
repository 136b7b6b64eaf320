//! Whether an image could be started as its config says: looked at inside its root, before it is
//! published. Looks only; nothing of the image is executed.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::owner_in_image;

/// What the config names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// `name`, `name:group`, `uid` or `uid:gid`.
    pub user: Option<String>,
    /// Programs, each with the key of the config that names it.
    pub programs: Vec<(String, String)>,
    /// `PATH` of the image.
    pub path: String,
    /// Where a relative program is looked for.
    pub cwd: PathBuf,
    /// Directories whose content is not the image's: what lies there is not looked for.
    pub volumes: Vec<PathBuf>,
}

impl Question {
    /// Looks in the root that this process sees. Returns what would not start: the key of the
    /// config, and why, as a fragment for people.
    pub(crate) fn answer(&self) -> Vec<(String, String)> {
        let user = self.user.iter().filter_map(|user| {
            let why = owner_in_image(user).err()?;
            Some(("user".to_owned(), why))
        });
        let programs = self.programs.iter().filter_map(|(key, name)| {
            let why = self.program(name).err()?;
            Some((key.clone(), why))
        });
        user.chain(programs).collect()
    }

    fn program(&self, name: &str) -> Result<(), String> {
        if name.contains('/') {
            return self.executable(&Path::new("/").join(&self.cwd).join(name));
        }
        let places = self.path.split(':').filter(|place| !place.is_empty());
        let mut reason = None;
        for place in places {
            let path = Path::new("/").join(&self.cwd).join(place).join(name);
            match self.executable(&path) {
                Ok(()) => return Ok(()),
                Err(why) if path.exists() => reason = reason.or(Some(why)),
                Err(_) => {}
            }
        }
        Err(reason.unwrap_or_else(|| {
            format!("there is no program {name:?} in {} of the image", self.path)
        }))
    }

    fn executable(&self, path: &Path) -> Result<(), String> {
        if self.volumes.iter().any(|volume| path.starts_with(volume)) {
            return Ok(());
        }
        let shown = path.display();
        let Ok(meta) = fs::metadata(path) else {
            return Err(format!("there is no program {shown} in the image"));
        };
        if meta.is_dir() {
            return Err(format!("{shown} is a directory, not a program"));
        }
        if meta.mode() & 0o111 == 0 {
            return Err(format!(
                "{shown} may not be executed: its mode is {:04o}",
                meta.mode() & 0o7777
            ));
        }
        // Of a script, what runs it. One that cannot be read is no script either.
        let mut head = vec![];
        let _ = File::open(path).and_then(|file| file.take(256).read_to_end(&mut head));
        let Some(line) = head.strip_prefix(b"#!") else { return Ok(()) };
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let words = line.split(|byte| *byte == b' ' || *byte == b'\t');
        let Some(interpreter) = words.into_iter().find(|word| !word.is_empty()) else {
            return Ok(());
        };
        if interpreter.ends_with(b"\r") {
            return Err(format!("the first line of {shown} ends in CR LF, which no system starts"));
        }
        let interpreter = Path::new(std::ffi::OsStr::from_bytes(interpreter));
        if !interpreter.exists() && !self.volumes.iter().any(|one| interpreter.starts_with(one)) {
            return Err(format!(
                "the interpreter {} of {shown} is not in the image",
                interpreter.display()
            ));
        }
        Ok(())
    }
}
