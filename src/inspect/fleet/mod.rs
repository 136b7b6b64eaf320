//! Many machines at a glance: drift and identity reports, counted by image, version and verdict.
//!
//! Each machine counts once, with its newest report. Nothing is dropped without a word: what could
//! not be read, what did not count and what looks wrong is a [`Note`] with its number and the first
//! places.

use std::collections::BTreeMap;
use std::path::PathBuf;

use self::model::Astray;
use self::read::{Found, Row};
use super::drift::{Place, Verdict};
use super::error::Error;
use super::order::natural;
use crate::digest::Digest;
use crate::image::rfc3339;

mod model;
mod read;
mod svg;

pub use model::{Fleet, Group, Kind, Note, Tally};

/// How many machines are what.
type Places = BTreeMap<Place, u64>;

/// Seconds that a clock may be ahead before its reports are called from the future.
const AHEAD: i64 = 300;
/// Places named in a note.
const EXAMPLES: usize = 5;

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

/// Reads reports: files, directories with all that is in them, or `-` for `stdin`; JSON, or JSON
/// lines. `now` is in seconds since 1970. An error means that something named cannot be read.
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
    let mut groups: BTreeMap<(Option<String>, Option<String>), (Tally, Places)> = BTreeMap::new();
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
        let (tally, places) = groups.entry((row.name.clone(), row.version.clone())).or_default();
        tally.add(row.verdict);
        if let Some(place) = row.is {
            *places.entry(place).or_default() += 1;
            *fleet.places.entry(place).or_default() += 1;
        }
        if let Some(verdict) = row.verdict.filter(|verdict| *verdict != Verdict::Exact) {
            let (host, name, version) = (row.host.clone(), row.name.clone(), row.version.clone());
            fleet.astray.push(Astray {
                host,
                place: row.is,
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
    fleet.groups = groups
        .into_iter()
        .map(|((name, version), (tally, places))| Group { name, version, tally, places })
        .collect();
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
            is: None,
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
    fn the_future_is_reported_and_hides_nothing() {
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
    fn what_looks_wrong_is_reported() {
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
