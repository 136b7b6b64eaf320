//! `bake diff`.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::args::image::DiffArgs;
use super::ctx::Ctx;
use super::reference::reference;
use super::{change, edge};
use crate::deb::version;
use crate::inspect::{self, Diff, FileChange, How, PackageChange, Side};
use crate::tree;
use crate::ui::report::Report;
use crate::ui::table;
use crate::ui::text::{clean, size};

/// Changes in one directory from which on they are counted rather than listed.
const MANY: usize = 20;
/// Lines of changes from which on deeper directories are counted, too: a screen.
const LONG: usize = 40;

/// `bake diff`.
pub(super) fn diff(ctx: &Ctx<'_>, args: &DiffArgs) -> Result<u8, Report> {
    let (before, after) = (reference(&args.before)?, reference(&args.after)?);
    let diff = inspect::diff(
        &ctx.store_to_read()?,
        &before,
        &after,
        args.platform.platform.as_ref(),
        args.all,
    )
    .map_err(|error| edge::inspect(&error))?;
    if ctx.ui.json() {
        ctx.ui.object("diff", json!(diff));
    } else if args.stat {
        ctx.ui.raw(stat(&diff).as_bytes());
    } else if diff.alike {
        ctx.ui.raw(alike(&diff).as_bytes());
    } else {
        ctx.ui.raw(describe(&diff, args.all).as_bytes());
    }
    Ok(if diff.alike { edge::OK } else { edge::DIFFERENT })
}

fn name(side: &Side) -> String {
    clean(&format!("{}:{}", side.name, side.version.as_deref().unwrap_or_default()))
}

fn alike(diff: &Diff) -> String {
    let (before, after) = (name(&diff.before), name(&diff.after));
    if diff.before.digest == diff.after.digest {
        return format!("{before} and {after} are one image, {}\n", diff.after.digest);
    }
    format!(
        "{before} and {after} hold the same packages, files and settings; their layers or history \
            differ\n"
    )
}

fn describe(diff: &Diff, all: bool) -> String {
    let mut out = format!("{} → {}\n", name(&diff.before), name(&diff.after));
    if !diff.packages.is_empty() {
        let count = |how| diff.packages.iter().filter(|package| package.change == how).count();
        out += &format!(
            "\npackages: {} added, {} removed, {} in another version\n",
            count(How::Added),
            count(How::Removed),
            count(How::Changed)
        );
        let rows: Vec<Vec<String>> = diff.packages.iter().map(package).collect();
        out += &indent(&table::columns(&["", "", "", ""], &rows, &[3]));
    }
    let counts = &diff.counts;
    if counts.added + counts.removed + counts.changed > 0 {
        out += &format!(
            "\nfiles: {} added, {} removed, {} changed\n",
            counts.added, counts.removed, counts.changed
        );
        for line in if all {
            diff.changes.iter().map(|one| change::line(&one.change)).collect()
        } else {
            grouped(&diff.changes)
        } {
            out += &format!("  {line}\n");
        }
        if counts.folded > 0 && !all {
            out += &format!(
                "  and {} that go with the packages above (--all names them)\n",
                counts.folded
            );
        }
    }
    if !diff.config.is_empty() {
        out += "\nconfig\n";
        for one in &diff.config {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
            out +=
                &clean(&format!("  {}  {} → {}", one.name, value(&one.before), value(&one.after)));
            out.push('\n');
        }
    }
    let shared = diff.after.steps.iter().filter(|step| step.shared).count();
    out += &format!(
        "\nstored: {} → {} ({}), {shared} of {} layers shared\n",
        size(diff.before.stored),
        size(diff.after.stored),
        difference(diff.before.stored, diff.after.stored),
        diff.after.steps.len()
    );
    out
}

/// `upgraded  openssl  3.0.15-1 → 3.0.16-1  +12 kB`
fn package(one: &PackageChange) -> Vec<String> {
    let (verb, versions) = match (&one.before, &one.after) {
        (Some(before), Some(after)) => {
            let verb = if version::compare(before, after) == Ordering::Greater {
                "downgraded"
            } else {
                "upgraded"
            };
            (verb, format!("{before} → {after}"))
        }
        (Some(version), None) => ("removed", version.clone()),
        (_, version) => ("added", version.clone().unwrap_or_default()),
    };
    vec![verb.to_owned(), one.name.clone(), versions, difference(one.bytes_before, one.bytes_after)]
}

/// `+12.0 kB`, `-3 B`, `=`.
fn difference(before: u64, after: u64) -> String {
    match after.cmp(&before) {
        Ordering::Equal => "=".to_owned(),
        Ordering::Greater => format!("+{}", size(after - before)),
        Ordering::Less => format!("-{}", size(before - after)),
    }
}

/// A table below a heading of its own: without its heads, moved in.
fn indent(table: &str) -> String {
    table.lines().skip(1).map(|line| format!("  {line}\n")).collect()
}

/// The lines of the changes: of a directory with many of them one, with their numbers; and where
/// these still are too many for a screen, of directories as far up as it takes.
fn grouped(changes: &[FileChange]) -> Vec<String> {
    let deepest = changes.iter().map(|one| depth(&one.change.path)).max().unwrap_or(1);
    let mut lines = folded(changes, deepest);
    for most in (1..deepest).rev() {
        if lines.len() <= LONG {
            break;
        }
        lines = folded(changes, most);
    }
    lines
}

fn depth(path: &[u8]) -> usize {
    path.split(|byte| *byte == b'/').count()
}

/// The lines, with all that lies deeper than `most` names in the directory of that depth.
fn folded(changes: &[FileChange], most: usize) -> Vec<String> {
    let above = |path: &[u8]| -> Vec<u8> {
        match depth(path) > most {
            true => path.split(|byte| *byte == b'/').take(most).collect::<Vec<_>>().join(&b'/'),
            false => tree::parent(path).to_owned(),
        }
    };
    let mut dirs: BTreeMap<Vec<u8>, BTreeMap<How, u64>> = BTreeMap::new();
    let mut deep: BTreeSet<Vec<u8>> = BTreeSet::new();
    for one in changes {
        let dir = above(&one.change.path);
        if depth(&one.change.path) > most + 1 {
            deep.insert(dir.clone());
        }
        *dirs.entry(dir).or_default().entry(one.change.how).or_default() += 1;
    }
    let all = |counts: &BTreeMap<How, u64>| counts.values().sum::<u64>();
    // With something of a deeper directory in it, a line stands for several already.
    dirs.retain(|dir, counts| all(counts) > if deep.contains(dir) { 1 } else { MANY as u64 });
    let mut lines = vec![];
    for one in changes {
        let dir = above(&one.change.path);
        // Once, where the first of them stands.
        match dirs.get_mut(&dir).map(std::mem::take) {
            None => lines.push(change::line(&one.change)),
            Some(counts) if counts.is_empty() => {}
            Some(counts) => lines.push(many(&dir, &counts)),
        }
    }
    lines
}

/// `many     etc/  12 added, 3 changed (--all names them)`
fn many(dir: &[u8], counts: &BTreeMap<How, u64>) -> String {
    let word = |how: &How| match how {
        How::Added => "added",
        How::Removed => "removed",
        How::Changed => "changed",
    };
    let counts: Vec<String> =
        counts.iter().map(|(how, count)| format!("{count} {}", word(how))).collect();
    let slash = if dir.is_empty() { "" } else { "/" };
    format!("many     {}{slash}  {} (--all names them)", tree::shown(dir), counts.join(", "))
}

/// The sizes as tables: the images, their steps, their packages.
fn stat(diff: &Diff) -> String {
    let Diff { before, after, counts, .. } = diff;
    let (left, right) = (name(before), name(after));
    let heads = ["", left.as_str(), right.as_str(), "CHANGE"];
    let mut rows = vec![vec![
        "stored".to_owned(),
        size(before.stored),
        size(after.stored),
        difference(before.stored, after.stored),
    ]];
    if let (Some(old), Some(new)) = (before.bytes, after.bytes) {
        rows.push(vec!["files, unpacked".to_owned(), size(old), size(new), difference(old, new)]);
    }
    if let (Some(old), Some(new)) = (before.names, after.names) {
        let change = format!("+{} -{} ~{}", counts.added, counts.removed, counts.changed);
        rows.push(vec!["names".to_owned(), old.to_string(), new.to_string(), change]);
    }
    let mut out = table::columns(&heads, &rows, &[1, 2, 3]);
    let mut steps = vec![];
    let by = |step: &inspect::Step| step.created_by.clone().unwrap_or_default();
    let own =
        |side: &'_ Side| side.steps.iter().filter(|step| !step.shared).cloned().collect::<Vec<_>>();
    for step in after.steps.iter().filter(|step| step.shared) {
        steps.push(vec![by(step), size(step.size), size(step.size), "=".to_owned()]);
    }
    let (old, new) = (own(before), own(after));
    // The same words are the same step, in the order of the second image; what only the first has
    // comes before it.
    let mut rest = old.iter().peekable();
    for step in &new {
        if let Some(at) = rest.clone().position(|other| by(other) == by(step)) {
            for gone in rest.by_ref().take(at) {
                steps.push(vec![
                    by(gone),
                    size(gone.size),
                    String::new(),
                    difference(gone.size, 0),
                ]);
            }
            if let Some(same) = rest.next() {
                steps.push(vec![
                    by(step),
                    size(same.size),
                    size(step.size),
                    difference(same.size, step.size),
                ]);
            }
        } else {
            steps.push(vec![by(step), String::new(), size(step.size), difference(0, step.size)]);
        }
    }
    steps.extend(
        rest.map(|gone| vec![by(gone), size(gone.size), String::new(), difference(gone.size, 0)]),
    );
    out.push('\n');
    out += &table::columns(&["STEP", &left, &right, "CHANGE"], &steps, &[1, 2, 3]);
    if !diff.packages.is_empty() {
        let rows: Vec<Vec<String>> = diff
            .packages
            .iter()
            .map(|one| {
                let side = |version: &Option<String>, bytes| {
                    version.as_ref().map(|_| size(bytes)).unwrap_or_default()
                };
                let (old, new) =
                    (side(&one.before, one.bytes_before), side(&one.after, one.bytes_after));
                vec![one.name.clone(), old, new, difference(one.bytes_before, one.bytes_after)]
            })
            .collect();
        out.push('\n');
        out += &table::columns(&["PACKAGE", &left, &right, "CHANGE"], &rows, &[1, 2, 3]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::Change;
    use crate::layer::Metadata;
    use crate::tree::{Kind, Node};

    #[test]
    fn many_in_a_directory_are_counted() {
        let node = || Node {
            kind: Kind::File { size: 1, digest: None },
            meta: Metadata { mode: 0o644, ..Metadata::default() },
            group: None,
        };
        let own = |change| FileChange { change, package: None };
        let mut changes: Vec<FileChange> =
            (0..25).map(|n| own(Change::added(format!("a/{n:02}").as_bytes(), node()))).collect();
        changes.push(own(Change::removed(b"a/x\x1b", node())));
        changes.push(own(Change::added(b"b/x", node())));
        assert_eq!(
            grouped(&changes),
            ["many     /a/  25 added, 1 removed (--all names them)", "added    /b/x  1 B"]
        );
    }

    /// E16
    #[test]
    fn more_than_a_screen_is_counted_further_up() {
        let node = || Node {
            kind: Kind::File { size: 1, digest: None },
            meta: Metadata { mode: 0o644, ..Metadata::default() },
            group: None,
        };
        let own = |change| FileChange { change, package: None };
        let mut changes = vec![own(Change::added(b"etc/x", node()))];
        for n in 0..100 {
            for file in ["a", "b"] {
                let path = format!("usr/share/doc/p{n:02}/{file}");
                changes.push(own(Change::added(path.as_bytes(), node())));
            }
        }
        changes.push(own(Change::removed(b"usr/share/one/only", node())));
        assert_eq!(
            grouped(&changes),
            [
                "added    /etc/x  1 B",
                "many     /usr/share/doc/  200 added (--all names them)",
                "removed  /usr/share/one/only  1 B"
            ]
        );
    }

    #[test]
    fn sizes_and_verbs() {
        assert_eq!(
            [difference(1, 1), difference(1, 2001), difference(5, 0)],
            ["=", "+2.0 kB", "-5 B"]
        );
        let of = |before: Option<&str>, after: Option<&str>| {
            let one = PackageChange {
                name: "x".to_owned(),
                change: How::Changed,
                before: before.map(str::to_owned),
                after: after.map(str::to_owned),
                bytes_before: 0,
                bytes_after: 0,
                files: 0,
            };
            package(&one)[0].clone()
        };
        assert_eq!(of(Some("1.9"), Some("1.10")), "upgraded");
        assert_eq!(of(Some("2:1.0"), Some("9.0")), "downgraded");
        assert_eq!([of(None, Some("1")), of(Some("1"), None)], ["added", "removed"]);
    }
}
