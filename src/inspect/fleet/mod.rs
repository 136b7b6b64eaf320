//! Many machines at a glance: drift and identity reports, counted by image, version and verdict.
//!
//! Each machine counts once, with its newest report. Nothing is dropped without a word: what could
//! not be read, what did not count and what looks wrong is a [`Note`] with its number and the first
//! places.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Error, Verdict};
use crate::digest::Digest;
use crate::image::rfc3339;

mod order;
mod read;
mod svg;

use order::natural;
use read::{Found, Row};

/// Seconds that a clock may be ahead before its reports are called from the future.
const AHEAD: i64 = 300;
/// Places named in a note.
const EXAMPLES: usize = 5;

/// All machines of which there are reports.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Fleet {
    /// Machines that count.
    pub machines: u64,
    /// Reports that were understood, also of machines that have a newer one.
    pub reports: u64,
    /// Time of the oldest report that counts, RFC 3339.
    pub from: Option<String>,
    /// Time of the newest.
    pub to: Option<String>,
    /// By verdict.
    pub verdicts: Tally,
    /// By image and version: names in order, versions as people count, what names no image last.
    pub groups: Vec<Group>,
    /// The machines that are not exact, by image, version and host.
    pub astray: Vec<Astray>,
    /// What is to be said about the reports.
    pub notes: Vec<Note>,
}

/// Machines by verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// Every name is what the image says.
    pub exact: u64,
    /// Some are not.
    pub drifted: u64,
    /// Nobody knows the image.
    pub unknown: u64,
    /// Only the identity was reported: nobody compared.
    pub unchecked: u64,
}

impl Tally {
    /// All of them.
    pub fn all(&self) -> u64 {
        self.exact + self.drifted + self.unknown + self.unchecked
    }

    /// The counts with their words, in the order in which they are drawn.
    pub fn parts(&self) -> [(&'static str, u64); 4] {
        [
            ("exact", self.exact),
            ("drifted", self.drifted),
            ("unknown image", self.unknown),
            ("unchecked", self.unchecked),
        ]
    }

    fn add(&mut self, verdict: Option<Verdict>) {
        match verdict {
            Some(Verdict::Exact) => self.exact += 1,
            Some(Verdict::Drifted) => self.drifted += 1,
            Some(Verdict::Unknown) => self.unknown += 1,
            None => self.unchecked += 1,
        }
    }
}

/// The machines of one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Name of the image; `None` where the root says nothing.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// How many, by verdict.
    #[serde(flatten)]
    pub tally: Tally,
}

/// A machine that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Astray {
    /// The machine, if its report says.
    pub host: Option<String>,
    /// Name of the image.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// `drifted` or `unknown image`.
    pub verdict: Verdict,
    /// Names that differ.
    pub changes: u64,
    /// Time of its report, RFC 3339.
    pub time: String,
}

/// What kind of thing is to be said about reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A file in a folder that cannot be read; did not count.
    Unreadable,
    /// Not JSON; did not count.
    NotJson,
    /// JSON of something else; did not count.
    NotAReport,
    /// Of a format this bake does not know; did not count.
    Newer,
    /// A newer report of the same host counts instead.
    Older,
    /// Its time is still to come; counts, unless the host has one that is not.
    Future,
    /// Compared with another image than the root says it is.
    OtherImage,
    /// Without a host: counts as a machine of its own.
    NoHost,
    /// One version with two digests: somebody baked other content under the same name.
    TwoDigests,
}

impl Kind {
    /// Whether such a report is not among the machines.
    pub fn is_left_out(self) -> bool {
        matches!(
            self,
            Self::Unreadable | Self::NotJson | Self::NotAReport | Self::Newer | Self::Older
        )
    }

    /// What it says, after a number: `not JSON`.
    pub fn text(self) -> &'static str {
        match self {
            Self::Unreadable => "cannot be read",
            Self::NotJson => "not JSON",
            Self::NotAReport => "not a report",
            Self::Newer => "of a newer format",
            Self::Older => "older than another of the same host",
            Self::Future => "from the future",
            Self::OtherImage => "compared with another image than the root says it is",
            Self::NoHost => "without a host",
            Self::TwoDigests => "versions with more than one digest",
        }
    }
}

/// Something to be said about reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// What.
    pub kind: Kind,
    /// How many.
    pub count: u64,
    /// The first of them: `FILE`, `FILE:LINE`, or what it is about.
    pub examples: Vec<String>,
}

#[derive(Default)]
struct Notes(BTreeMap<Kind, (u64, Vec<String>)>);

impl Notes {
    fn add(&mut self, kind: Kind, example: String) {
        let (count, examples) = self.0.entry(kind).or_default();
        *count += 1;
        if examples.len() < EXAMPLES {
            examples.push(example);
        }
    }
}

/// Reads reports: files, folders with all that is in them, or `-` for `stdin`; JSON, or JSON lines.
/// `now` is in seconds since 1970. An error means that something named cannot be read.
pub fn fleet(paths: &[PathBuf], stdin: &mut dyn std::io::Read, now: i64) -> Result<Fleet, Error> {
    Ok(count(read::read(paths, stdin)?, now))
}

/// Draws the histogram as an SVG file of its own, light and dark.
pub fn draw(fleet: &Fleet) -> String {
    svg::draw(fleet)
}

fn count(found: Vec<Found>, now: i64) -> Fleet {
    let mut notes = Notes::default();
    let mut rows: Vec<Row> = vec![];
    for one in found {
        match one {
            Found::Row(row) => rows.push(row),
            Found::Bad(kind, place) => notes.add(kind, place),
        }
    }
    let reports = rows.len() as u64;
    // Per host the newest report that is not from the future, else the newest; of two of one moment
    // the later one read.
    let rank = |row: &Row| (row.time <= now + AHEAD, row.time);
    let mut newest: BTreeMap<String, usize> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        if let Some(host) = &row.host {
            newest
                .entry(host.clone())
                .and_modify(|best| *best = if rank(row) >= rank(&rows[*best]) { at } else { *best })
                .or_insert(at);
        }
    }
    let mut fleet = Fleet { reports, ..Fleet::default() };
    let mut groups: BTreeMap<(Option<String>, Option<String>), Tally> = BTreeMap::new();
    let mut digests: BTreeMap<(String, String), BTreeMap<Digest, u64>> = BTreeMap::new();
    let mut span: Option<(i64, i64)> = None;
    for (at, row) in rows.iter().enumerate() {
        match &row.host {
            Some(host) if newest[host] != at => {
                notes.add(Kind::Older, row.place.clone());
                continue;
            }
            Some(_) => {}
            None => notes.add(Kind::NoHost, row.place.clone()),
        }
        if row.time > now + AHEAD {
            notes.add(Kind::Future, row.place.clone());
        }
        if let (Some(claims), Some(name), Some(version)) = (&row.claims, &row.name, &row.version)
            && *claims != format!("{name}:{version}")
        {
            notes.add(Kind::OtherImage, row.place.clone());
        }
        if let (Some(name), Some(version), Some(digest)) = (&row.name, &row.version, row.digest) {
            *digests
                .entry((name.clone(), version.clone()))
                .or_default()
                .entry(digest)
                .or_default() += 1;
        }
        let (from, to) = span.unwrap_or((row.time, row.time));
        span = Some((from.min(row.time), to.max(row.time)));
        fleet.machines += 1;
        fleet.verdicts.add(row.verdict);
        groups.entry((row.name.clone(), row.version.clone())).or_default().add(row.verdict);
        if let Some(verdict) = row.verdict.filter(|verdict| *verdict != Verdict::Exact) {
            let (host, name, version) = (row.host.clone(), row.name.clone(), row.version.clone());
            fleet.astray.push(Astray {
                host,
                name,
                version,
                verdict,
                changes: row.changes,
                time: rfc3339(row.time),
            });
        }
    }
    for ((name, version), digests) in digests.iter().filter(|(_, digests)| digests.len() > 1) {
        let digests: Vec<String> = digests
            .iter()
            .map(|(digest, machines)| format!("{} on {machines}", digest.short()))
            .collect();
        notes.add(Kind::TwoDigests, format!("{name}:{version}: {}", digests.join(", ")));
    }
    fleet.from = span.map(|(from, _)| rfc3339(from));
    fleet.to = span.map(|(_, to)| rfc3339(to));
    fleet.groups =
        groups.into_iter().map(|((name, version), tally)| Group { name, version, tally }).collect();
    // No name sorts last; versions as people count.
    let key = |name: &Option<String>| (name.is_none(), name.clone());
    let by_image = |a: (&Option<String>, &Option<String>),
                    b: (&Option<String>, &Option<String>)| {
        let versions =
            || natural(a.1.as_deref().unwrap_or_default(), b.1.as_deref().unwrap_or_default());
        key(a.0).cmp(&key(b.0)).then_with(versions)
    };
    fleet.groups.sort_by(|a, b| by_image((&a.name, &a.version), (&b.name, &b.version)));
    fleet.astray.sort_by(|a, b| {
        by_image((&a.name, &a.version), (&b.name, &b.version)).then_with(|| a.host.cmp(&b.host))
    });
    fleet.notes = notes
        .0
        .into_iter()
        .map(|(kind, (count, examples))| Note { kind, count, examples })
        .collect();
    fleet
}

/// How a place is written in notes.
fn place(path: &Path, line: Option<usize>) -> String {
    let path = path.display();
    line.map_or_else(|| path.to_string(), |line| format!("{path}:{line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(host: &str, version: &str, time: i64) -> Row {
        Row {
            host: (!host.is_empty()).then(|| host.to_owned()),
            name: Some("web".to_owned()),
            version: Some(version.to_owned()),
            digest: Some(Digest::of(version)),
            claims: Some(format!("web:{version}")),
            verdict: Some(Verdict::Exact),
            time,
            changes: 0,
            place: format!("{host}@{time}"),
        }
    }

    fn noted(fleet: &Fleet) -> Vec<(Kind, u64)> {
        fleet.notes.iter().map(|note| (note.kind, note.count)).collect()
    }

    #[test]
    fn each_machine_counts_once_with_its_newest_report() {
        let rows = [
            row("a", "1", 10),
            row("b", "1", 10),
            row("a", "2", 20),
            row("a", "1", 15),
            row("", "1", 5),
            row("", "1", 5),
        ];
        let fleet = count(rows.map(Found::Row).to_vec(), 100);
        assert_eq!((fleet.machines, fleet.reports), (4, 6));
        let groups: Vec<_> = fleet
            .groups
            .iter()
            .map(|group| (group.version.as_deref(), group.tally.all()))
            .collect();
        assert_eq!(groups, [(Some("1"), 3), (Some("2"), 1)]);
        assert_eq!(noted(&fleet), [(Kind::Older, 2), (Kind::NoHost, 2)]);
        assert_eq!(fleet.notes[0].examples, ["a@10", "a@15"]);
        assert_eq!(
            (fleet.from.as_deref(), fleet.to.as_deref()),
            (Some("1970-01-01T00:00:05Z"), Some("1970-01-01T00:00:20Z"))
        );
    }

    #[test]
    fn the_future_is_told_and_hides_nothing() {
        let fleet = count(
            [row("a", "9", 1_000_000), row("a", "1", 50), row("b", "9", 1_000_000)]
                .map(Found::Row)
                .to_vec(),
            100,
        );
        let groups: Vec<_> = fleet
            .groups
            .iter()
            .map(|group| (group.version.as_deref(), group.tally.all()))
            .collect();
        assert_eq!(groups, [(Some("1"), 1), (Some("9"), 1)]);
        assert_eq!(noted(&fleet), [(Kind::Older, 1), (Kind::Future, 1)]);
    }

    #[test]
    fn what_looks_wrong_is_told() {
        let mut other = row("b", "1", 10);
        other.digest = Some(Digest::of("other content"));
        let mut wrong = row("c", "1", 10);
        wrong.claims = Some("db:3".to_owned());
        wrong.verdict = Some(Verdict::Drifted);
        let mut nothing = row("d", "1", 10);
        (nothing.name, nothing.version, nothing.digest, nothing.claims) = (None, None, None, None);
        nothing.verdict = Some(Verdict::Unknown);
        let fleet = count([row("a", "1", 10), other, wrong, nothing].map(Found::Row).to_vec(), 100);
        assert_eq!(noted(&fleet), [(Kind::OtherImage, 1), (Kind::TwoDigests, 1)]);
        assert!(fleet.notes[1].examples[0].starts_with("web:1: "));
        assert_eq!(fleet.verdicts, Tally { exact: 2, drifted: 1, unknown: 1, unchecked: 0 });
        let last = fleet.groups.last().expect("a group");
        assert_eq!((&last.name, last.tally.unknown), (&None, 1));
        let hosts: Vec<_> = fleet.astray.iter().map(|one| one.host.as_deref()).collect();
        assert_eq!(hosts, [Some("c"), Some("d")]);
    }
}
