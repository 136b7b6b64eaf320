//! Reports as they come: one JSON object a file, a list of them, or one a line; from files,
//! directories and a stream.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::model::{Kind, place};
use crate::digest::Digest;
use crate::files::open_regular;
use crate::image::epoch_of;
use crate::inspect::drift::{Place, Verdict};
use crate::inspect::error::Error;
use crate::threads;

/// Bytes of a file or stream at which it is refused: a hundred reports of a machine on which
/// everything differs.
const MAX_FILE: u64 = 1 << 30;

/// What was found at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A report.
    Row(Row),
    /// Something else, and where.
    Bad(Kind, String),
}

/// What counts of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) host: Option<String>,
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
    pub(super) digest: Option<Digest>,
    pub(super) claims: Option<String>,
    /// `None` where only the identity was reported.
    pub(super) verdict: Option<Verdict>,
    pub(super) time: i64,
    pub(super) changes: u64,
    /// What it is, where its report says so.
    pub(super) is: Option<Place>,
    pub(super) place: String,
}

/// Every field that is looked at; what else there is, the list of changes first of all, is read
/// over.
#[derive(Deserialize)]
struct Raw {
    v: u32,
    #[serde(rename = "type")]
    kind: Option<String>,
    verdict: Option<String>,
    name: Option<String>,
    version: Option<String>,
    digest: Option<Digest>,
    claims: Option<String>,
    host: Option<String>,
    place: Option<String>,
    time: Option<String>,
    counts: Option<RawCounts>,
    // Of an identity file.
    base: Option<String>,
    created: Option<String>,
}

#[derive(Deserialize)]
struct RawCounts {
    #[serde(default)]
    added: u64,
    #[serde(default)]
    removed: u64,
    #[serde(default)]
    changed: u64,
    #[serde(default)]
    parts: u64,
}

/// Reads all that is named, in order.
pub(super) fn read(paths: &[PathBuf], stdin: &mut dyn Read) -> Result<Vec<Found>, Error> {
    // A directory is taken with everything in it that has no leading dot, in order of names.
    let mut files: Vec<(PathBuf, bool)> = vec![];
    let mut found = vec![];
    let mut streams = vec![];
    for path in paths {
        let failed = |source| Error::Report { path: path.clone(), source };
        if path.as_os_str() == "-" {
            let mut text = vec![];
            stdin.take(MAX_FILE + 1).read_to_end(&mut text).map_err(failed)?;
            if text.len() as u64 > MAX_FILE {
                return Err(failed(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    "too long for reports",
                )));
            }
            streams.push(text);
        } else if std::fs::metadata(path).map_err(failed)?.is_dir() {
            let visible = |entry: &walkdir::DirEntry| {
                entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".")
            };
            for entry in
                walkdir::WalkDir::new(path).sort_by_file_name().into_iter().filter_entry(visible)
            {
                match entry {
                    Ok(entry) if entry.file_type().is_file() => {
                        files.push((entry.into_path(), false))
                    }
                    // Symlinks and fifos in a directory of reports are somebody's mistake,
                    // directories are walked.
                    Ok(entry) if entry.file_type().is_dir() => {}
                    Ok(entry) => {
                        found.push(Found::Bad(Kind::Unreadable, place(entry.path(), None)))
                    }
                    Err(error) => found.push(Found::Bad(
                        Kind::Unreadable,
                        place(error.path().unwrap_or(path), None),
                    )),
                }
            }
        } else {
            files.push((path.clone(), true));
        }
    }
    let all = || {
        files
            .par_iter()
            .map(|(path, named)| match text(path) {
                Ok(text) => Ok(parse(&text, path)),
                Err(source) if *named => Err(Error::Report { path: path.clone(), source }),
                Err(_) => Ok(vec![Found::Bad(Kind::Unreadable, place(path, None))]),
            })
            .collect()
    };
    let read: Vec<Result<Vec<Found>, Error>> = threads::in_pool(all);
    for part in read {
        found.extend(part?);
    }
    for text in streams {
        found.extend(parse(&text, Path::new("-")));
    }
    Ok(found)
}

fn text(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let meta = file.metadata()?;
    let mut text = Vec::with_capacity(usize::try_from(meta.len().min(MAX_FILE)).unwrap_or(0));
    file.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too long for reports"));
    }
    Ok(text)
}

/// Reads a text: whole, if it is one object or list; else line by line, so that one bad line costs
/// one report.
pub(super) fn parse(text: &[u8], path: &Path) -> Vec<Found> {
    let trimmed = text.trim_ascii();
    if trimmed.is_empty() {
        return vec![Found::Bad(Kind::NotJson, place(path, None))];
    }
    if trimmed.first() == Some(&b'[')
        && let Ok(entries) = serde_json::from_slice::<Vec<serde_json::Value>>(trimmed)
    {
        let entry = |entry: serde_json::Value| match entry
            .is_object()
            .then(|| serde_json::from_value::<Raw>(entry))
        {
            Some(Ok(raw)) => judge(raw, path, None),
            _ => Found::Bad(Kind::NotAReport, place(path, None)),
        };
        return entries.into_iter().map(entry).collect();
    }
    let lines: Vec<(usize, &[u8])> = trimmed
        .split(|b| *b == b'\n')
        .enumerate()
        .map(|(n, line)| (n, line.trim_ascii()))
        .filter(|(_, line)| !line.is_empty())
        .collect();
    // A text of many lines is one object written over them, or many objects: what the first line is
    // shows, whatever is wrong further down.
    let is_json = |line: &[u8]| serde_json::from_slice::<IgnoredAny>(line).is_ok();
    let whole = lines.len() == 1 || !lines.first().is_some_and(|(_, first)| is_json(first));
    if whole {
        let found = one(trimmed, path, None);
        if lines.len() == 1 || !matches!(found, Found::Bad(Kind::NotJson, _)) {
            return vec![found];
        }
    }
    let skipped = text.len() - text.trim_ascii_start().len();
    let before = text[..skipped].iter().filter(|b| **b == b'\n').count();
    // A text of which no line is an object is one thing that is not JSON, not a thousand.
    let found: Vec<Found> =
        lines.iter().map(|(n, line)| one(line, path, Some(before + n + 1))).collect();
    if found.iter().all(|one| matches!(one, Found::Bad(Kind::NotJson, _))) {
        return vec![Found::Bad(Kind::NotJson, place(path, None))];
    }
    found
}

fn one(text: &[u8], path: &Path, line: Option<usize>) -> Found {
    // A list would do for a struct, field by field.
    let is_object = text.first() == Some(&b'{');
    match serde_json::from_slice::<Raw>(text) {
        Ok(raw) if is_object => judge(raw, path, line),
        Err(error) if is_object && !error.is_data() => Found::Bad(Kind::NotJson, place(path, line)),
        _ if serde_json::from_slice::<IgnoredAny>(text).is_ok() => {
            Found::Bad(Kind::NotAReport, place(path, line))
        }
        _ => Found::Bad(Kind::NotJson, place(path, line)),
    }
}

fn judge(raw: Raw, path: &Path, line: Option<usize>) -> Found {
    let place = place(path, line);
    let drift = raw.kind.as_deref() == Some("drift");
    let identity = raw.kind.is_none() && raw.base.is_some();
    if !drift && !identity {
        return Found::Bad(Kind::NotAReport, place);
    }
    if raw.v != 1 {
        return Found::Bad(Kind::Newer, place);
    }
    let verdict = match raw.verdict.as_deref() {
        Some("exact") => Some(Verdict::Exact),
        Some("drifted") => Some(Verdict::Drifted),
        Some("unknown image") => Some(Verdict::Unknown),
        None if identity => None,
        _ => return Found::Bad(Kind::NotAReport, place),
    };
    let named = raw.name.is_some() && raw.version.is_some();
    let time = if drift { raw.time.as_deref() } else { raw.created.as_deref() }.and_then(epoch_of);
    let (true, Some(time)) = (named || verdict == Some(Verdict::Unknown), time) else {
        return Found::Bad(Kind::NotAReport, place);
    };
    let changes = raw.counts.map_or(0, |counts| {
        let names = counts.added.saturating_add(counts.removed).saturating_add(counts.changed);
        names.saturating_add(counts.parts)
    });
    let host = raw
        .host
        .or_else(|| if identity && line.is_none() { host_of(path) } else { None })
        .filter(|host| !host.is_empty());
    Found::Row(Row {
        host,
        name: raw.name,
        version: raw.version,
        digest: raw.digest,
        claims: raw.claims,
        verdict,
        time,
        changes,
        is: raw.place.as_deref().and_then(Place::of),
        place,
    })
}

/// An identity file does not say where it was: `alpha.json`, or `alpha/image.json`, is alpha's.
fn host_of(path: &Path) -> Option<String> {
    let stem = path.file_stem()?;
    let name = if stem == "image" { path.parent()?.file_name()? } else { stem };
    (path != Path::new("-")).then(|| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"{"v":1,"type":"drift","verdict":"drifted","name":"web","version":"1","host":"a","time":"2026-11-01T00:00:00Z","counts":{"added":1,"changed":2},"changes":[{"path":"/x"}]}"#;

    fn kinds(text: &str) -> Vec<Option<Kind>> {
        let kind = |found: &Found| match found {
            Found::Row(_) => None,
            Found::Bad(kind, _) => Some(*kind),
        };
        parse(text.as_bytes(), Path::new("f")).iter().map(kind).collect()
    }

    #[test]
    fn every_way_to_write_reports() {
        assert_eq!(kinds(GOOD), [None]);
        assert_eq!(kinds(&format!("\n\n{GOOD}\r\n\n{GOOD}\n")), [None, None]);
        assert_eq!(kinds(&format!(" [{GOOD},\n{GOOD}, 3]")), [None, None, Some(Kind::NotAReport)]);
        assert_eq!(kinds(&GOOD.replace(',', ",\n")), [None], "one over many lines");
        let Found::Row(row) = &parse(GOOD.as_bytes(), Path::new("f"))[0] else { panic!("a row") };
        assert_eq!((row.changes, row.time, row.host.as_deref()), (3, 1_793_491_200, Some("a")));
    }

    #[test]
    fn bad_ones_cost_themselves() {
        let text = format!("{GOOD}\n{{\"cut\nplain text\n{{\"v\":1,\"type\":\"note\"}}\n{GOOD}");
        assert_eq!(
            kinds(&text),
            [None, Some(Kind::NotJson), Some(Kind::NotJson), Some(Kind::NotAReport), None]
        );
        let Found::Bad(_, place) = &parse(format!("\n{text}").as_bytes(), Path::new("f"))[1] else {
            panic!("bad")
        };
        assert_eq!(place, "f:3");
        for (from, to, kind) in [
            ("\"v\":1", "\"v\":2", Kind::Newer),
            ("\"v\":1", "\"v\":\"x\"", Kind::NotAReport),
            ("\"drift\"", "\"image\"", Kind::NotAReport),
            ("drifted", "fine", Kind::NotAReport),
            ("2026-11-01T00:00:00Z", "yesterday", Kind::NotAReport),
            ("\"name\":\"web\",", "", Kind::NotAReport),
            ("\"name\":\"web\"", "\"name\":3", Kind::NotAReport),
        ] {
            assert_eq!(kinds(&GOOD.replacen(from, to, 1)), [Some(kind)], "{to}");
        }
        for text in ["", "\n", "hello", "{", "\u{0}\u{1}", "a\nb\nc", &"[".repeat(1000)] {
            assert_eq!(kinds(text), [Some(Kind::NotJson)], "{text}");
        }
        assert_eq!(kinds("[]"), []);
        assert_eq!(kinds("3"), [Some(Kind::NotAReport)]);
    }

    #[test]
    fn an_identity_file_is_a_machine_nobody_compared() {
        let text = r#"{
            "v": 1, "name": "web", "version": "2.0.0", "base": "debian",
            "created": "2026-11-01T00:00:00Z"
        }"#;
        for (path, host) in
            [("in/alpha.json", Some("alpha")), ("in/beta/image.json", Some("beta")), ("-", None)]
        {
            let Found::Row(row) = &parse(text.as_bytes(), Path::new(path))[0] else {
                panic!("a row")
            };
            assert_eq!(
                (row.verdict, row.host.as_deref(), row.version.as_deref()),
                (None, host, Some("2.0.0")),
                "{path}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_recognised_or_not(text in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&text, Path::new("f"));
        }

        #[test]
        fn damage_does_no_harm(at in 0usize..200, len in 0usize..20, with in "[\\[\\]{}\",:0-9a-z\n-]{0,12}") {
            let mut text = GOOD.as_bytes().to_vec();
            let at = at.min(text.len());
            let end = (at + len).min(text.len());
            text.splice(at..end, with.into_bytes());
            prop_assert!(!parse(&text, Path::new("f")).is_empty() || text.is_empty());
        }
    }
}
