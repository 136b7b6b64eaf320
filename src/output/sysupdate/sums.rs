//! `SHA256SUMS`, as sha256sum(1) writes it and systemd-sysupdate reads it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::digest::Digest;
use crate::output::error::{Error, system};

/// What the list is called.
pub(super) const SUMS: &str = "SHA256SUMS";

/// Largest list that is read: systemd-pull(8) takes no larger one.
const MOST: u64 = 1 << 20;

/// Which files there are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sums(BTreeMap<String, Digest>);

impl Sums {
    /// Reads a list; one that is not there is empty.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_file() && meta.len() <= MOST => {
                let text = fs::read_to_string(path).map_err(|e| system("read", path, e))?;
                Self::parse(&text)
                    .map_err(|line| Error::Sums { path: path.to_owned(), line: line.to_owned() })
            }
            Ok(_) => Err(Error::Sums { path: path.to_owned(), line: "no list".to_owned() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(system("look at", path, e)),
        }
    }

    /// Reads lines of a digest, a space, a space or asterisk, and a name; `Err`: the line that is
    /// none.
    fn parse(text: &str) -> Result<Self, &str> {
        let one = |line| {
            let (hex, rest) = str::split_once(line, ' ')?;
            let name = rest.strip_prefix([' ', '*'])?;
            let plain = !name.is_empty() && !name.contains('/') && !name.starts_with('\\');
            let digest = format!("sha256:{hex}").parse().ok()?;
            plain.then(|| (name.to_owned(), digest))
        };
        text.lines().map(|line| one(line).ok_or(line)).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn text(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, (name, digest)| {
            // A string takes everything.
            let _ = writeln!(text, "{}  {name}", digest.hex());
            text
        })
    }

    pub(super) fn get(&self, file: &str) -> Option<Digest> {
        self.0.get(file).copied()
    }

    pub(super) fn set(&mut self, file: String, digest: Digest) {
        self.0.insert(file, digest);
    }

    pub(super) fn remove(&mut self, file: &str) {
        self.0.remove(file);
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_they_are_written() {
        let digest = Digest::of("x");
        let mut sums = Sums::default();
        sums.set("web_2.tar".to_owned(), digest);
        sums.set("a file".to_owned(), digest);
        assert_eq!(sums.text(), format!("{0}  a file\n{0}  web_2.tar\n", digest.hex()));
        assert_eq!(Sums::parse(&sums.text()), Ok(sums));
        let binary = format!("{} *x\n", digest.hex());
        assert_eq!(Sums::parse(&binary).map(|sums| sums.get("x")), Ok(Some(digest)));
        for wrong in ["x", "00  x", &format!("{}  ../x", digest.hex()), &digest.hex(), ""] {
            let list = format!("{binary}{wrong}\n");
            assert_eq!(Sums::parse(&list), Err(wrong));
        }
    }
}
