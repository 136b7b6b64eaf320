//! `Packages` indexes: scanned into a small catalog of the newest versions; the stanzas themselves
//! stay on disk and are read where they are needed.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::version;

/// A stanza longer than this is not one of a package index (the longest in Debian has about 60
/// KiB).
const LONGEST: usize = 1 << 20;

/// Where stanzas are.
#[derive(Debug)]
enum Text {
    File(fs::File),
    Memory(String),
}

/// A package's newest version.
#[derive(Debug, Clone)]
struct Entry {
    version: Box<str>,
    text: usize,
    offset: u64,
    length: u32,
}

/// The newest version of every package of some indexes.
#[derive(Debug, Default)]
pub struct Catalog {
    texts: Vec<Text>,
    newest: HashMap<Box<str>, Entry>,
    providers: HashMap<Box<str>, Vec<Box<str>>>,
    roots: Vec<Box<str>>,
}

/// A stanza and which index it came from.
#[derive(Debug, Clone)]
pub struct Found {
    /// The stanza's text.
    pub stanza: String,
    /// Place of its index in the order in which the indexes were added.
    pub index: usize,
}

impl Catalog {
    /// Adds the index in the file `path`; among equal versions the index added first wins.
    pub fn add_file(&mut self, path: &Path) -> io::Result<()> {
        let text = self.texts.len();
        let file = fs::File::open(path)?;
        each_stanza(&mut &file, &mut |offset, stanza| self.add(text, offset, stanza))?;
        self.texts.push(Text::File(file));
        Ok(())
    }

    /// Adds stanzas separated by empty lines.
    pub fn add_text(&mut self, text: String) -> io::Result<()> {
        let number = self.texts.len();
        each_stanza(&mut text.as_bytes(), &mut |offset, stanza| self.add(number, offset, stanza))?;
        self.texts.push(Text::Memory(text));
        Ok(())
    }

    fn add(&mut self, text: usize, offset: u64, stanza: &str) {
        // One pass over the lines: this runs for 60,000 stanzas and 50 MB.
        let (mut name, mut version, mut provides, mut root) = ("", "", "", false);
        for line in stanza.split('\n') {
            match line.as_bytes().first() {
                Some(b'P') => {
                    if let Some(value) = line.strip_prefix("Package: ") {
                        name = value;
                    } else if let Some(value) = line.strip_prefix("Provides: ") {
                        provides = value;
                    } else if line == "Priority: required" {
                        root = true;
                    }
                }
                Some(b'V') => version = line.strip_prefix("Version: ").unwrap_or(version),
                Some(b'E') => root |= line == "Essential: yes",
                _ => {}
            }
        }
        if name.is_empty() || version.is_empty() {
            return;
        }
        if self.newest.get(name).is_some_and(|had| version::compare(version, &had.version).is_le())
        {
            return;
        }
        let length = u32::try_from(stanza.len()).unwrap_or(u32::MAX);
        self.newest.insert(name.into(), Entry { version: version.into(), text, offset, length });
        for provided in provides.split(',') {
            let provided = provided.split('(').next().unwrap_or_default().trim();
            if !provided.is_empty() {
                let list = self.providers.entry(provided.into()).or_default();
                if list.last().is_none_or(|l| **l != *name) {
                    list.push(name.into());
                }
            }
        }
        if root {
            self.roots.push(name.into());
        }
    }

    /// Names of packages that some version says are essential or required; to be checked against
    /// the newest stanza.
    pub fn roots(&self) -> Vec<&str> {
        let mut roots: Vec<&str> = self.roots.iter().map(|r| &**r).collect();
        roots.sort_unstable();
        roots.dedup();
        roots
    }

    /// Returns the newest stanza of package `name`.
    pub fn newest(&self, name: &str) -> io::Result<Option<Found>> {
        let Some(entry) = self.newest.get(name) else { return Ok(None) };
        let length = entry.length as usize;
        let stanza = match &self.texts[entry.text] {
            Text::File(file) => {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, entry.offset)?;
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Text::Memory(text) => {
                let start = usize::try_from(entry.offset).unwrap_or(usize::MAX);
                text.get(start..start + length).unwrap_or_default().to_owned()
            }
        };
        Ok(Some(Found { stanza, index: entry.text }))
    }

    /// Returns the names of packages of which some version provides `name`; to be checked against
    /// their newest stanzas.
    pub fn providers(&self, name: &str) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.providers.get(name).map(|l| l.iter().map(|n| &**n).collect()).unwrap_or_default();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Calls `each` with offset and text of every stanza. Works on pieces: an index has 50 MB.
fn each_stanza(from: &mut dyn Read, each: &mut dyn FnMut(u64, &str)) -> io::Result<()> {
    let mut buffer: Vec<u8> = Vec::with_capacity(LONGEST + (1 << 20));
    let mut offset = 0_u64;
    loop {
        let had = buffer.len();
        let n = (&mut *from).take(1 << 20).read_to_end(&mut buffer)?;
        let whole = if n == 0 { buffer.len() } else { last_break(&buffer, had) };
        if whole == 0 && buffer.len() > LONGEST {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a stanza is longer than 1 MiB",
            ));
        }
        let text = String::from_utf8_lossy(&buffer[..whole]);
        // Offsets are those of the bytes on disk: text that is not UTF-8 would shift them.
        if let std::borrow::Cow::Owned(_) = text {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"));
        }
        let mut at = 0;
        while at < text.len() {
            let end = text[at..].find("\n\n").map_or(text.len(), |i| at + i + 1);
            if end > at && !text[at..end].trim().is_empty() {
                each(offset + at as u64, &text[at..end]);
            }
            at = (end + 1).min(text.len()).max(end);
            if end == text.len() {
                break;
            }
        }
        drop(text);
        offset += whole as u64;
        buffer.drain(..whole);
        if n == 0 {
            return Ok(());
        }
    }
}

/// Length of the part of `buffer` that ends with the last empty line; before `had - 1` there is
/// none.
fn last_break(buffer: &[u8], had: usize) -> usize {
    let from = had.saturating_sub(1);
    buffer[from..].windows(2).rposition(|w| w == b"\n\n").map_or(0, |i| from + i + 2)
}

/// Finds the stanzas whose `Filename` is one of `paths` in the index file `path`.
pub fn by_filename(path: &Path, paths: &HashSet<String>) -> io::Result<HashMap<String, String>> {
    let mut found = HashMap::new();
    let mut file = fs::File::open(path)?;
    each_stanza(&mut file, &mut |_, stanza| {
        let Some(at) = stanza.find("\nFilename: ") else { return };
        let line = stanza[at + 11..].split('\n').next().unwrap_or_default();
        if paths.contains(line) {
            found.insert(line.to_owned(), stanza.to_owned());
        }
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deb::stanza::field;

    const TEXT: &str = "Package: a\nVersion: 1\nDescription: x\n y\nDepends: b,\n c\n\nPackage: \
        b\nVersion: 2\nProvides: v (= 1), w\nFilename: pool/b.deb\n\nPackage: a\nVersion: \
        1.1\nEssential: yes\n\nPackage: a\nVersion: 1.0\nPriority: required\n";

    #[test]
    fn the_newest_wins_wherever_it_is() {
        let mut catalog = Catalog::default();
        catalog.add_text(TEXT.to_owned()).expect("well-formed");
        catalog.add_text("Package: b\nVersion: 2\nX: second\n".to_owned()).expect("well-formed");
        let a = catalog.newest("a").expect("in memory").expect("there");
        assert_eq!(field(&a.stanza, "Version"), Some("1.1"));
        let b = catalog.newest("b").expect("in memory").expect("there");
        assert_eq!((b.index, field(&b.stanza, "X")), (0, None));
        assert_eq!(catalog.providers("v"), ["b"]);
        assert_eq!(catalog.roots(), ["a"]);
        assert!(catalog.newest("v").expect("in memory").is_none());
    }

    #[test]
    fn files_are_read_in_pieces_and_found_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("Packages");
        let mut text = String::new();
        for i in 0..30_000 {
            text.push_str(&format!(
                "Package: p{i}\nVersion: {i}\nFilename: pool/p{i}.deb\nDescription: {}\n\n",
                "x".repeat(100)
            ));
        }
        fs::write(&path, &text).expect("writable");
        let mut catalog = Catalog::default();
        catalog.add_file(&path).expect("well-formed");
        for i in [0, 7_000, 14_999, 29_999] {
            let found = catalog.newest(&format!("p{i}")).expect("readable").expect("there");
            assert_eq!(field(&found.stanza, "Version"), Some(i.to_string().as_str()));
        }
        let found =
            by_filename(&path, &HashSet::from(["pool/p29999.deb".to_owned()])).expect("readable");
        assert_eq!(field(&found["pool/p29999.deb"], "Package"), Some("p29999"));
        assert!(!found["pool/p29999.deb"].contains("p29998"));
    }

    #[test]
    fn hostile_indexes_are_refused() {
        let mut catalog = Catalog::default();
        assert!(catalog.add_text("Package: a\n".repeat(200_000)).is_err());
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("P"), b"Package: \xff\n").expect("writable");
        assert!(catalog.add_file(&dir.path().join("P")).is_err());
    }
}
