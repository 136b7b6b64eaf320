//! A tree as a text: mtree(5), with what that format has no word for in comments. The same tree is
//! always the same bytes.
//!
//! ```text
//! #mtree
//! #bake manifest 1                      format of the comments
//! #bake image web:2.0.0
//! #bake digest sha256:…                 of the image's manifest
//! #bake volume /var/lib/web             any number, sorted: data that is not the image's
//! #bake ignore *.pyc                    any number, in order: what drift leaves out
//! /set type=file uid=0 gid=0 mode=0644
//! ./etc type=dir mode=0755 time=1700000000.0
//! ./etc/hosts size=9 time=1700000000.0 sha256digest=…
//! ./usr/bin/ping mode=0755 size=77 nlink=2 inode=1 time=1700000000.0 sha256digest=…
//! #bake xattr security.capability 0100000200200000…
//! #bake end 3                           names above: a text that was cut off says so
//! ```
//! `xattr` belongs to the name above it. `inode` counts files with several names. Names, values of
//! comments and link targets are spelled by [`super::escape`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, Write};

use super::name::unescape;
use super::{Kind, Names, Node, Tree, escape};
use crate::digest::Digest;
use crate::layer::{MAX_ATTRIBUTE, MAX_PATH, Metadata};

const FIRST: &[u8] = b"#mtree";
const FORMAT: &str = "1";
/// An attribute of the largest size in hex, with its name.
const MAX_LINE: usize = 4 * MAX_ATTRIBUTE;

/// Which image a tree is of, and what on its machines is not its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Name of the image.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Absolute paths of directories whose data lives outside the image.
    pub volumes: Vec<String>,
    /// Patterns in gitignore notation over absolute paths.
    pub ignore: Vec<String>,
}

/// Why a text is not the manifest of an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// It is something else.
    #[error(
        "not a manifest made by bake (its first lines are `#mtree` and `#bake manifest {FORMAT}`)"
    )]
    Foreign,
    /// A later bake wrote it.
    #[error("a manifest of format {0}; this bake reads format {FORMAT}")]
    Newer(String),
    /// A line is not as bake writes it.
    #[error("line {line}: {why}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// It ends before its end.
    #[error("it was cut off: the last line is missing")]
    Cut,
    /// Reading failed.
    #[error("cannot be read")]
    Read(#[from] io::Error),
}

/// Writes the manifest of an image.
pub fn write(subject: &Subject, names: &impl Names, out: &mut dyn Write) -> io::Result<()> {
    let mut text = String::new();
    let Subject { name, version, digest, volumes, ignore } = subject;
    let _ = write!(text, "#mtree\n#bake manifest {FORMAT}\n");
    let image = format!("{name}:{version}");
    let _ = write!(text, "#bake image {}\n#bake digest {digest}\n", escape(image.as_bytes()));
    for (word, values) in [("volume", volumes), ("ignore", ignore)] {
        for value in values {
            let _ = writeln!(text, "#bake {word} {}", escape(value.as_bytes()));
        }
    }
    text.push_str("/set type=file uid=0 gid=0 mode=0644\n");
    let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
    let mut all = 0usize;
    names.each(&mut |_, node| {
        all += 1;
        if let Some(group) = node.group {
            *counts.entry(group).or_default() += 1;
        }
        Ok(())
    })?;
    names.each(&mut |path, node| {
        line(&mut text, path, node, &counts);
        if text.len() > 1 << 16 {
            out.write_all(text.as_bytes())?;
            text.clear();
        }
        Ok(())
    })?;
    let _ = writeln!(text, "#bake end {all}");
    out.write_all(text.as_bytes())
}

fn line(text: &mut String, path: &[u8], node: &Node, counts: &BTreeMap<u64, u32>) {
    let meta = &node.meta;
    text.push_str(if path.is_empty() { "." } else { "./" });
    text.push_str(&escape(path));
    let word = match &node.kind {
        Kind::Dir => Some("dir"),
        Kind::File { .. } => None,
        Kind::Symlink(_) => Some("link"),
        Kind::Fifo => Some("fifo"),
        Kind::Socket => Some("socket"),
        Kind::Device => Some("char"),
    };
    if let Some(word) = word {
        let _ = write!(text, " type={word}");
    }
    for (word, id) in [("uid", meta.uid), ("gid", meta.gid)] {
        if id != 0 {
            let _ = write!(text, " {word}={id}");
        }
    }
    if meta.mode != 0o644 {
        let _ = write!(text, " mode={:04o}", meta.mode);
    }
    if let Kind::File { size, .. } = &node.kind {
        let _ = write!(text, " size={size}");
    }
    if let Some(group) = node.group {
        let _ = write!(text, " nlink={} inode={group}", counts.get(&group).copied().unwrap_or(1));
    }
    let _ = write!(text, " time={}.0", meta.mtime);
    match &node.kind {
        Kind::File { digest: Some(digest), .. } => {
            let _ = write!(text, " sha256digest={}", digest.hex());
        }
        Kind::Symlink(target) => {
            let _ = write!(text, " link={}", escape(target));
        }
        _ => {}
    }
    text.push('\n');
    for (name, value) in &meta.xattrs {
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(text, "#bake xattr {} {hex}", escape(name));
    }
}

/// Reads what [`write()`] wrote; other programs' mtree texts are refused, as they do not say which
/// image they are of. `bound` is the number of names at which it stops, against a text made to fill
/// the memory.
pub fn read(from: &mut dyn BufRead, bound: usize) -> Result<(Subject, Tree), Unreadable> {
    let mut lines = Lines { from, number: 0 };
    if lines.next()?.as_deref() != Some(FIRST) {
        return Err(Unreadable::Foreign);
    }
    match lines.next()?.as_deref().and_then(|line| line.strip_prefix(b"#bake manifest ")) {
        Some(format) if format == FORMAT.as_bytes() => {}
        Some(format) => {
            return Err(Unreadable::Newer(
                String::from_utf8_lossy(format).chars().take(20).collect(),
            ));
        }
        None => return Err(Unreadable::Foreign),
    }
    let mut head = Head::default();
    let mut names: BTreeMap<Vec<u8>, Node> = BTreeMap::new();
    let mut last: Option<Vec<u8>> = None;
    while let Some(line) = lines.next()? {
        let at = lines.number;
        let wrong = |why: &str| Unreadable::Line { line: at, why: why.to_owned() };
        if let Some(comment) = line.strip_prefix(b"#bake ") {
            let (word, value) = split(comment, b' ');
            match word {
                b"end" => {
                    if value != names.len().to_string().as_bytes() {
                        return Err(wrong("another number of names than there are"));
                    }
                    return match lines.next()? {
                        None => Ok((
                            head.subject().ok_or_else(|| wrong("the image was not named"))?,
                            Tree::new(names),
                        )),
                        Some(_) => Err(wrong("there is more behind the end")),
                    };
                }
                b"xattr" => {
                    let (name, value) = split(value, b' ');
                    let name = unescape(name).filter(|name| !name.is_empty());
                    let node = last
                        .as_ref()
                        .and_then(|path| names.get_mut(path))
                        .ok_or_else(|| wrong("an attribute of nothing"))?;
                    let (Some(name), Some(value)) = (name, hex(value)) else {
                        return Err(wrong("not an attribute"));
                    };
                    if node.meta.xattrs.insert(name, value).is_some() {
                        return Err(wrong("an attribute that was there already"));
                    }
                }
                _ => head.take(word, value).map_err(wrong)?,
            }
            continue;
        }
        if line.starts_with(b"#")
            || line.is_empty()
            || line == b"/set type=file uid=0 gid=0 mode=0644"
        {
            continue;
        }
        let (path, node) = entry(&line).map_err(wrong)?;
        if names.len() >= bound {
            return Err(wrong("too many names"));
        }
        last = Some(path.clone());
        if names.insert(path, node).is_some() {
            return Err(wrong("a name that was there already"));
        }
    }
    Err(Unreadable::Cut)
}

/// Lines of bounded length.
struct Lines<'a> {
    from: &'a mut dyn BufRead,
    number: usize,
}

impl Lines<'_> {
    /// Returns the next line without its end; a last line without an end was cut off.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Unreadable> {
        let mut line = vec![];
        self.number += 1;
        let limit = MAX_LINE as u64;
        io::Read::take(&mut *self.from, limit).read_until(b'\n', &mut line)?;
        match line.pop() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(line)),
            Some(_) if line.len() + 1 == MAX_LINE => {
                Err(Unreadable::Line { line: self.number, why: "too long".to_owned() })
            }
            // The very first line of something else entirely.
            Some(_) if self.number == 1 => Err(Unreadable::Foreign),
            Some(_) => Err(Unreadable::Cut),
        }
    }
}

#[derive(Default)]
struct Head {
    image: Option<(String, String)>,
    digest: Option<Digest>,
    volumes: Vec<String>,
    ignore: Vec<String>,
}

impl Head {
    fn take(&mut self, word: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let value =
            unescape(value).and_then(|value| String::from_utf8(value).ok()).ok_or("not a value")?;
        match word {
            b"image" => {
                let (name, version) = value.rsplit_once(':').ok_or("not NAME:VERSION")?;
                self.image = Some((name.to_owned(), version.to_owned()));
            }
            b"digest" => self.digest = Some(value.parse().map_err(|_| "not a digest")?),
            b"volume" => self.volumes.push(value),
            b"ignore" => self.ignore.push(value),
            // A later word that can be done without would be a plain comment; one that cannot would
            // be another format.
            _ => return Err("a word that format 1 does not have"),
        }
        Ok(())
    }

    fn subject(self) -> Option<Subject> {
        let (name, version) = self.image?;
        Some(Subject {
            name,
            version,
            digest: self.digest?,
            volumes: self.volumes,
            ignore: self.ignore,
        })
    }
}

fn entry(line: &[u8]) -> Result<(Vec<u8>, Node), &'static str> {
    let (name, words) = split(line, b' ');
    let path = match name.strip_prefix(b"./") {
        Some(path) => unescape(path).ok_or("not a name")?,
        None if name == b"." => vec![],
        None => return Err("not a name that starts with `./`"),
    };
    let parts_fit = path.split(|b| *b == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
    if path.len() > MAX_PATH || path.contains(&0) || !(parts_fit || name == b".") {
        return Err("not a clean name");
    }
    let mut meta = Metadata { mode: 0o644, ..Metadata::default() };
    let (mut kind, mut size, mut digest, mut target, mut group) =
        (&b"file"[..], None, None, None, None);
    for word in words.split(|b| *b == b' ').filter(|word| !word.is_empty()) {
        let (key, value) = split(word, b'=');
        match key {
            b"type" => kind = value,
            b"uid" => meta.uid = number(value, 10)?,
            b"gid" => meta.gid = number(value, 10)?,
            b"mode" => meta.mode = number(value, 8)?,
            b"size" => size = Some(number(value, 10)?),
            b"inode" => group = Some(number(value, 10)?),
            b"nlink" => {}
            b"time" => {
                let seconds = split(value, b'.').0;
                let text = std::str::from_utf8(seconds).map_err(|_| "not a time")?;
                meta.mtime = text.parse().map_err(|_| "not a time")?;
            }
            b"sha256digest" => {
                let text = std::str::from_utf8(value).map_err(|_| "not a sha256")?;
                digest = Some(Digest::from_hex(text).map_err(|_| "not a sha256")?);
            }
            b"link" => {
                target = Some(
                    unescape(value)
                        .filter(|target| !target.is_empty())
                        .ok_or("not a symlink target")?,
                )
            }
            _ => return Err("a word that bake does not write"),
        }
    }
    if meta.mode > 0o7777 {
        return Err("not permission bits");
    }
    let kind = match (kind, size, digest, target) {
        (b"file", Some(size), Some(digest), None) => Kind::File { size, digest: Some(digest) },
        (b"dir", None, None, None) => Kind::Dir,
        (b"link", None, None, Some(target)) => Kind::Symlink(target),
        (b"fifo", None, None, None) => Kind::Fifo,
        _ => return Err("words that do not go with its type, or one is missing"),
    };
    if path.is_empty() && kind != Kind::Dir {
        return Err("the top is not a directory");
    }
    Ok((path, Node { kind, meta, group }))
}

/// Splits at the first `at`; without one the second part is empty.
fn split(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    match text.iter().position(|b| *b == at) {
        Some(place) => (&text[..place], &text[place + 1..]),
        None => (text, b""),
    }
}

fn number<T: TryFrom<u64>>(text: &[u8], radix: u32) -> Result<T, &'static str> {
    let digits = std::str::from_utf8(text).ok().filter(|text| !text.starts_with('+'));
    let number = digits.and_then(|digits| u64::from_str_radix(digits, radix).ok());
    number.and_then(|number| T::try_from(number).ok()).ok_or("not a number, or too large")
}

fn hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if !text.len().is_multiple_of(2) || text.len() / 2 > MAX_ATTRIBUTE {
        return None;
    }
    text.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subject() -> Subject {
        Subject {
            name: "team/web".to_owned(),
            version: "2.0.0".to_owned(),
            digest: Digest::of("an image"),
            volumes: vec!["/var/lib/web".to_owned(), "/with blank".to_owned()],
            ignore: vec!["*.pyc".to_owned(), "!/keep #it".to_owned()],
        }
    }

    fn tree() -> Tree {
        let meta = |mode, uid| Metadata {
            mode,
            uid,
            gid: uid,
            mtime: 1_700_000_000,
            ..Metadata::default()
        };
        let file =
            |text: &str| Kind::File { size: text.len() as u64, digest: Some(Digest::of(text)) };
        let mut ping = Node { kind: file("ping"), meta: meta(0o755, 0), group: Some(1) };
        ping.meta.xattrs.insert(b"security.capability".to_vec(), vec![1, 0, 0, 2]);
        ping.meta.xattrs.insert(b"user.\xff =".to_vec(), vec![]);
        let names: [(&[u8], Node); 7] = [
            (b"", Node { kind: Kind::Dir, meta: meta(0o755, 0), group: None }),
            (b"bin", Node { kind: Kind::Dir, meta: meta(0o1777, 7), group: None }),
            (b"bin/ping", ping.clone()),
            (b"bin/pong", ping),
            (
                b"bin/sh",
                Node {
                    kind: Kind::Symlink(b"a b\n\\".to_vec()),
                    meta: meta(0o777, 0),
                    group: None,
                },
            ),
            (b"e\x1b[31m\n\xff=#", Node { kind: file(""), meta: meta(0o644, 0), group: None }),
            (b"pipe", Node { kind: Kind::Fifo, meta: meta(0o600, 1), group: None }),
        ];
        Tree::new(names.into_iter().map(|(path, node)| (path.to_vec(), node)).collect())
    }

    fn text() -> Vec<u8> {
        let mut text = vec![];
        write(&subject(), &tree(), &mut text).expect("to memory");
        text
    }

    #[test]
    fn what_is_written_is_read() {
        let text = text();
        assert_eq!(read(&mut &text[..], 100).expect("own text"), (subject(), tree()));
        let lines: Vec<_> = std::str::from_utf8(&text).expect("ASCII").lines().collect();
        assert_eq!(lines[2], "#bake image team/web:2.0.0");
        assert_eq!(lines[5], "#bake volume /with\\040blank");
        assert!(lines.contains(&"./bin type=dir uid=7 gid=7 mode=1777 time=1700000000.0"));
        assert!(
            lines
                .contains(&"./bin/sh type=link mode=0777 time=1700000000.0 link=a\\040b\\012\\134")
        );
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("./e\\033\\13331m\\012\\377\\075\\043 size=0 time="))
        );
        assert_eq!(lines.last(), Some(&"#bake end 7"));
    }

    #[test]
    fn every_cut_is_noticed() {
        let text = text();
        for end in 0..text.len() {
            assert!(read(&mut &text[..end], 100).is_err(), "{end}");
        }
        assert!(matches!(read(&mut &text[..], 3), Err(Unreadable::Line { .. })));
    }

    #[test]
    fn other_texts_are_refused() {
        let good = String::from_utf8(text()).expect("ASCII");
        let bad = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            read(&mut good.replacen(from, to, 1).as_bytes(), 100).expect_err(to).to_string()
        };
        assert!(bad("#mtree", "#mtree v2").starts_with("not a manifest"));
        assert!(bad("manifest 1", "manifest 2").starts_with("a manifest of format 2"));
        for (from, to) in [
            ("./bin ", "./../bin "),
            ("./bin/ping", "./bin//ping"),
            ("./pipe", "/pipe"),
            ("./pipe", "./bin"),
            ("type=fifo", "type=fifo size=3"),
            ("type=fifo", "type=char"),
            ("mode=1777", "mode=17777"),
            ("uid=7", "uid=+7"),
            ("time=1700000000.0", "time=x"),
            ("size=4", "size=-4"),
            ("link=a\\040b", "link=a\\04"),
            ("#bake xattr security.capability 0100", "#bake xattr security.capability 010"),
            ("#bake image team/web:2.0.0", "#bake image web"),
            ("#bake digest ", "#bake digest x"),
            ("#bake volume /var", "#bake unheard /var"),
            ("#bake end 7", "#bake end 6"),
            ("#bake end 7\n", "#bake end 7\nmore\n"),
        ] {
            bad(from, to);
        }
        for text in ["", "x", "#mtree\n", "\0\0\0"] {
            assert!(read(&mut text.as_bytes(), 100).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn damage_does_no_harm(at in 0usize..2000, len in 0usize..30, with in prop::collection::vec(any::<u8>(), 0..20)) {
            let mut text = text();
            let at = at.min(text.len());
            let end = (at + len).min(text.len());
            text.splice(at..end, with);
            if let Ok((subject, tree)) = read(&mut &text[..], 100) {
                let mut again = vec![];
                write(&subject, &tree, &mut again).expect("to memory");
                prop_assert_eq!(read(&mut &again[..], 100).expect("own text"), (subject, tree));
            }
        }
    }
}
