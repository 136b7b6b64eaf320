//! Reads `[stage.NAME]`s and puts them into the order in which they are needed, whatever their
//! place in the file.
//!
//! A stage needs the stages that its base, its `copy` steps and its mounts name. What nothing needs
//! is left out, with a warning where nothing names it; a cycle is drawn.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::base;
use super::include::read_entry;
use super::node::{Node, unknown_key, wrong_type};
use super::reader::Reader;
use super::table::{entry, list};
use super::tool;
use crate::recipe::keys;
use crate::recipe::model::{Base, BaseKind, Stage};
use crate::schema::{Check, Fields, Mistake, quote};
use crate::step::{Lowered, Options};

/// A stage as read, and where its name stands.
#[derive(Debug)]
pub(crate) struct Read {
    stage: Stage,
    key: Range<usize>,
}

/// Returns the names of all stages, right or wrong.
pub(crate) fn names(table: &DeTable<'_>) -> BTreeSet<String> {
    let stages = table.get("stage").and_then(|node| node.get_ref().as_table());
    stages.into_iter().flat_map(DeTable::keys).map(|key| key.get_ref().to_string()).collect()
}

/// Reads all stages; `None` where the table is none. A stage without a good base is not in what
/// comes out.
pub(crate) fn read_stages(
    reader: &mut Reader<'_>,
    table: &DeTable<'_>,
    defaults: &Options,
) -> Option<Vec<Read>> {
    let Some((key, node)) = entry(table, "stage") else { return Some(vec![]) };
    let stages = match node.get_ref() {
        DeValue::Table(stages) => stages,
        DeValue::Array(_) => {
            let mistake = Mistake::new("expected a table of stages, found a list");
            let help = "write `[stage.NAME.base]` with single brackets, and `[[stage.NAME.step]]`";
            reader.report(key, mistake.help(help));
            return None;
        }
        other => {
            reader.report(node.span(), wrong_type("stage", "a table", other));
            return None;
        }
    };
    let mut found: Vec<Read> = stages
        .iter()
        .filter_map(|(key, node)| read_stage(reader, key.get_ref(), key.span(), node, defaults))
        .collect();
    found.sort_by_key(|read| read.key.start);
    Some(found)
}

/// Adds the stages that the tool layers of steps are.
pub(crate) fn tool_layers(
    reader: &mut Reader<'_>,
    base: Option<&Base>,
    steps: Option<&mut [Lowered]>,
    stages: Option<&mut [Read]>,
) {
    let stages = stages.unwrap_or_default();
    let bases: Vec<(String, Base)> =
        stages.iter().map(|read| (read.stage.name.clone(), read.stage.base.clone())).collect();
    tool::layers(reader, base, &bases, steps.unwrap_or_default());
    for read in stages {
        tool::layers(reader, Some(&read.stage.base), &bases, &mut read.stage.steps);
    }
}

fn read_stage(
    reader: &mut Reader<'_>,
    name: &str,
    key: Range<usize>,
    node: &Node<'_>,
    defaults: &Options,
) -> Option<Read> {
    let named = Check::StageName.test(name);
    let bad_name = named.is_err();
    if let Err(mistake) = named {
        reader.report(key.clone(), mistake);
    }
    let DeValue::Table(table) = node.get_ref() else {
        if !bad_name {
            let mistake = wrong_type(&format!("stage.{name}"), "a table", node.get_ref());
            reader.report(node.span(), mistake);
        }
        return None;
    };
    // `[stage.base]` lacks the name: what is in it would be called wrong for no reason.
    if bad_name && keys::STAGE.contains(&name) {
        return None;
    }
    unknown_keys(reader, name, table);
    let base = base::of_stage(reader, table, key.clone(), name);
    let own = match entry(table, "defaults") {
        Some((key, node)) => reader.section(&keys::DEFAULTS, key, node).unwrap_or_default(),
        None => Fields::default(),
    };
    let defaults = Options::of(&own).over(defaults);
    let steps =
        list(reader, table, "step", &format!("stage.{name}.step"), |reader, place, table| {
            read_entry(reader, place, table, &defaults)
        });
    let line = reader.source.line(key.start);
    let stage = Stage { name: name.to_owned(), line, base: base?, steps: steps? };
    Some(Read { stage, key })
}

fn unknown_keys(reader: &mut Reader<'_>, stage: &str, table: &DeTable<'_>) {
    for (key, _) in table {
        let name: &str = key.get_ref();
        if keys::STAGE.contains(&name) {
            continue;
        }
        let mistake = if keys::TOP.contains(&name) {
            Mistake::new(format!("a stage has no `{name}`"))
                .label("a stage is not an image")
                .help(format!("`[{name}]` stands at the top of a recipe, without `stage.{stage}`"))
        } else if keys::kinds().any(|kind| kind.name == name) {
            Mistake::new(format!("key {} outside of any step", quote(name)))
                .label("belongs into a step")
                .help(format!("start the step with a line `[[stage.{stage}.step]]`"))
        } else {
            unknown_key(name, "a stage", keys::STAGE.iter().copied())
        };
        reader.report(key.span(), mistake);
    }
}

/// Puts the stages that the image needs into the order of need; reports cycles, and warns of those
/// that nothing names. The images that files are taken from are stages too, which need nothing.
/// `base` and `steps` are the image's, where they could be read.
pub(crate) fn sort(
    reader: &mut Reader<'_>,
    stages: Option<Vec<Read>>,
    base: Option<&Base>,
    steps: Option<&[Lowered]>,
) -> Option<Vec<Stage>> {
    let mut stages = stages?;
    let images = std::mem::take(&mut reader.images).into_values();
    stages.extend(images.map(|stage| Read { stage, key: 0..0 }));
    for read in stages.iter().filter(|read| !reader.named.contains(&read.stage.name)) {
        let mistake = Mistake::new(format!("stage `{}` is not used", read.stage.name))
            .label("it is not built")
            .help(
                "a `copy` step takes files out of it with `from`, a `run` step sees it by `mount`",
            );
        reader.mistakes.add(reader.source, read.key.clone(), mistake.warn());
    }
    let at = |name: &str| stages.iter().position(|read| read.stage.name == name);
    let needs: Vec<Vec<usize>> = stages
        .iter()
        .map(|read| needed(Some(&read.stage.base), &read.stage.steps).filter_map(at).collect())
        .collect();
    let (_, cycles) = by_need(0..stages.len(), &needs);
    for cycle in &cycles {
        let names: Vec<&str> = cycle.iter().map(|n| stages[*n].stage.name.as_str()).collect();
        let mistake = Mistake::new(format!("stages need each other: {}", names.join(" -> ")))
            .label("it would have to be built before itself");
        reader.report(stages[cycle[0]].key.clone(), mistake);
    }
    let wanted: Vec<usize> = needed(base, steps.unwrap_or_default()).filter_map(at).collect();
    let (order, _) = by_need(wanted, &needs);
    let mut stages: Vec<Option<Stage>> = stages.into_iter().map(|read| Some(read.stage)).collect();
    cycles.is_empty().then(|| order.into_iter().filter_map(|n| stages[n].take()).collect())
}

/// Returns the names of the stages that a base and steps need.
fn needed<'s>(base: Option<&'s Base>, steps: &'s [Lowered]) -> impl Iterator<Item = &'s str> {
    let base = base.and_then(|base| match &base.kind {
        BaseKind::Stage(name) => Some(name.as_str()),
        _ => None,
    });
    let ops = steps.iter().flat_map(|step| &step.ops);
    base.into_iter().chain(ops.flat_map(|op| op.stages()))
}

/// Returns what is needed for the `wanted` ones, them included, each after what it needs; and every
/// cycle met, its first one repeated at the end. Not recursive: a chain may be as long as a recipe.
fn by_need(
    wanted: impl IntoIterator<Item = usize>,
    needs: &[Vec<usize>],
) -> (Vec<usize>, Vec<Vec<usize>>) {
    let (mut order, mut cycles) = (vec![], vec![]);
    let mut done = vec![false; needs.len()];
    // The way to where we are: a stage, and how many of its needs have been looked at.
    let mut way: Vec<(usize, usize)> = vec![];
    let mut on_way = vec![false; needs.len()];
    for first in wanted {
        if !done[first] {
            on_way[first] = true;
            way.push((first, 0));
        }
        while let Some((stage, looked)) = way.last_mut() {
            let stage = *stage;
            let Some(next) = needs[stage].get(*looked).copied() else {
                way.pop();
                on_way[stage] = false;
                done[stage] = true;
                order.push(stage);
                continue;
            };
            *looked += 1;
            if on_way[next] {
                let start = way.iter().position(|(on, _)| *on == next).unwrap_or(0);
                cycles.push(way[start..].iter().map(|(on, _)| *on).chain([next]).collect());
            } else if !done[next] {
                on_way[next] = true;
                way.push((next, 0));
            }
        }
    }
    (order, cycles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_comes_first_and_cycles_are_drawn() {
        // 0 needs 1 and 2, 1 needs 2, 3 is needed by nobody.
        let needs = [vec![1, 2], vec![2], vec![], vec![0]];
        assert_eq!(by_need([0], &needs), (vec![2, 1, 0], vec![]));
        assert_eq!(by_need([1, 0], &needs).0, [2, 1, 0]);
        assert_eq!(by_need([0], &[vec![1], vec![2], vec![1]]).1, [vec![1, 2, 1]]);
        assert_eq!(by_need([0], &[vec![0]]).1, [vec![0, 0]]);
    }

    #[test]
    fn a_long_chain_overflows_nothing() {
        let mut needs: Vec<Vec<usize>> = (1..300_000).map(|n| vec![n]).collect();
        needs.push(vec![]);
        assert_eq!(by_need([0], &needs).0.len(), 300_000);
    }
}
