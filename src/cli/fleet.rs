//! `bake fleet`.

use std::io;

use serde_json::json;

use super::args::image::FleetArgs;
use super::ctx::{Ctx, now};
use super::edge;
use crate::files;
use crate::inspect::{self, Fleet, Group, NoteKind, Tally};
use crate::ui::report::Report;
use crate::ui::text::clean;

/// Cells of the longest bar.
const BAR: u64 = 40;
/// Machines named in the terminal; `--json` has all.
const NAMED: usize = 20;
/// How each verdict is drawn, distinct without colour; in the order of [`Tally::parts`].
const MARKS: [char; 4] = ['█', '▒', '░', '·'];

/// `bake fleet`.
pub(super) fn fleet(ctx: &Ctx<'_>, args: &FleetArgs) -> Result<u8, Report> {
    let fleet = inspect::fleet(&args.reports, &mut io::stdin().lock(), now())
        .map_err(|error| edge::inspect(&error))?;
    if let Some(path) = &args.svg {
        files::rewrite(path, inspect::draw(&fleet).as_bytes(), 0o644)
            .map_err(|error| edge::report("file", edge::FAILED, &error))?;
    }
    if ctx.ui.json() {
        ctx.ui.object("fleet", json!(fleet));
    } else {
        ctx.ui.raw(describe(&fleet).as_bytes());
        for line in remarks(&fleet) {
            ctx.ui.say(&line);
        }
    }
    if fleet.reports == 0 {
        return Err(edge::missing("no reports were found"));
    }
    Ok(edge::OK)
}

/// The histogram and the machines that are not exact, as text.
fn describe(fleet: &Fleet) -> String {
    let mut out =
        format!("{} machine{}", fleet.machines, if fleet.machines == 1 { "" } else { "s" });
    match (&fleet.from, &fleet.to) {
        (Some(from), Some(to)) if from == to => out += &format!(", reported {from}"),
        (Some(from), Some(to)) => out += &format!(", reported {from} to {to}"),
        _ => {}
    }
    out.push('\n');
    let most = fleet.groups.iter().map(|group| group.tally.all()).max().unwrap_or(0);
    let version = |group: &Group| clean(group.version.as_deref().unwrap_or("?"));
    let width = fleet.groups.iter().map(|group| version(group).chars().count()).max().unwrap_or(0);
    let digits = most.to_string().len();
    let mut name = None;
    for group in &fleet.groups {
        if name != Some(&group.name) {
            out += &format!(
                "\n{}\n",
                group.name.as_deref().map_or_else(|| "no image".to_owned(), clean)
            );
            name = Some(&group.name);
        }
        let version = version(group);
        let gap = " ".repeat(width - version.chars().count());
        let bar = bar(&group.tally, most);
        let rest = " ".repeat((BAR as usize + 3).saturating_sub(bar.chars().count()));
        let line = format!(
            "  {version}{gap}  {bar}{rest} {:>digits$}  {}",
            group.tally.all(),
            words(&group.tally)
        );
        out += line.trim_end();
        out.push('\n');
    }
    if fleet.machines > 0 {
        let legend =
            fleet.verdicts.parts().into_iter().zip(MARKS).filter(|((_, count), _)| *count > 0);
        let legend: Vec<String> =
            legend.map(|((word, count), mark)| format!("{mark} {word} {count}")).collect();
        out += &format!("\n{}\n", legend.join("   "));
    }
    for one in fleet.astray.iter().take(NAMED) {
        let image = match (&one.name, &one.version) {
            (Some(name), Some(version)) => format!("{name}:{version}"),
            _ => "no image".to_owned(),
        };
        let changes = match one.changes {
            0 => String::new(),
            1 => ", 1 difference".to_owned(),
            n => format!(", {n} differences"),
        };
        let host = one.host.as_deref().unwrap_or("a machine without a name");
        out += &clean(&format!("{}  {host}  {image}{changes}", one.verdict.name()));
        out.push('\n');
    }
    if fleet.astray.len() > NAMED {
        out += &format!("and {} more (--json names all)\n", fleet.astray.len() - NAMED);
    }
    out
}

/// One cell for every part that is there, so that one machine of ten thousand is seen.
fn bar(tally: &Tally, most: u64) -> String {
    let mut bar = String::new();
    for ((_, count), mark) in
        tally.parts().into_iter().zip(MARKS).filter(|((_, count), _)| *count > 0)
    {
        let cells = (u128::from(count) * u128::from(BAR) / u128::from(most.max(1))).max(1);
        bar.extend(std::iter::repeat_n(mark, usize::try_from(cells).unwrap_or(usize::MAX)));
    }
    bar
}

/// `20 exact, 3 drifted`; nothing where all are exact.
fn words(tally: &Tally) -> String {
    let parts: Vec<String> = tally
        .parts()
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    if tally.exact == tally.all() { String::new() } else { parts.join(", ") }
}

/// Remarks on the reports: first what did not count.
fn remarks(fleet: &Fleet) -> Vec<String> {
    let line = |note: &inspect::Note| {
        let more = if note.count > note.examples.len() as u64 { ", …" } else { "" };
        clean(&format!("  {} {}: {}{more}", note.count, note.kind.text(), note.examples.join(", ")))
    };
    let left_out = |kind: NoteKind| kind.is_left_out();
    let mut lines = vec![];
    for (head, out) in [("not counted:", true), ("to be looked at:", false)] {
        let part: Vec<String> =
            fleet.notes.iter().filter(|note| left_out(note.kind) == out).map(line).collect();
        if !part.is_empty() {
            lines.push(head.to_owned());
            lines.extend(part);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_every_verdict() {
        let tally = Tally { exact: 9_999, drifted: 1, unknown: 0, unchecked: 0 };
        let drawn = bar(&tally, 10_000);
        assert_eq!((drawn.matches('█').count(), drawn.matches('▒').count()), (39, 1));
        assert_eq!(words(&tally), "9999 exact, 1 drifted");
        assert_eq!(words(&Tally { exact: 3, ..Tally::default() }), "");
        assert_eq!(bar(&Tally::default(), 0), "");
    }

    #[test]
    fn the_picture_of_a_fleet() {
        let group = |name: Option<&str>, version: &str, tally| Group {
            name: name.map(str::to_owned),
            version: name.map(|_| version.to_owned()),
            tally,
            places: Default::default(),
        };
        let groups = vec![
            group(Some("web"), "1.0.0", Tally { exact: 50, ..Tally::default() }),
            group(Some("web"), "2.0.0", Tally { exact: 20, drifted: 3, ..Tally::default() }),
            group(None, "", Tally { unknown: 1, ..Tally::default() }),
        ];
        let fleet = Fleet {
            machines: 74,
            groups,
            verdicts: Tally { exact: 70, drifted: 3, unknown: 1, unchecked: 0 },
            ..Fleet::default()
        };
        let expected = "\
74 machines

web
  1.0.0  ████████████████████████████████████████    50
  2.0.0  ████████████████▒▒                          23  20 exact, 3 drifted

no image
  ?      ░                                            1  1 unknown image

█ exact 70   ▒ drifted 3   ░ unknown image 1
";
        assert_eq!(describe(&fleet), expected);
    }
}
