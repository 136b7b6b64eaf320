//! Reads `[machine]`: steps behind those of the recipe, and the console of its outputs.

use std::ops::Range;

use toml::de::DeTable;

use super::output;
use super::reader::Reader;
use super::table::entry;
use crate::recipe::model::Output;
use crate::schema::Fields;
use crate::step::{Lowered, MACHINE, machine};

/// A `[machine]` as read.
pub(super) struct Machine {
    fields: Fields,
    /// Where it stands.
    place: Range<usize>,
}

/// Reads it, and gives those outputs its console that are machines, or parts of them, and have
/// none. None where there is none, or it is no table, which is reported.
pub(super) fn read(
    reader: &mut Reader<'_>,
    table: &DeTable<'_>,
    outputs: Option<&mut [Output]>,
) -> Option<Machine> {
    let (place, node) = entry(table, MACHINE.name)?;
    let fields = reader.section(&MACHINE, place.clone(), node)?;
    let console = format!("console={}", machine::console(&fields, reader.arch));
    for output in outputs.into_iter().flatten().filter(|one| output::has_command_line(one)) {
        let line = &mut output.disk.command_line;
        if !line.split_whitespace().any(|word| word.starts_with("console=")) {
            *line = format!("{console} {line}").trim_end().to_owned();
        }
    }
    Some(Machine { fields, place })
}

/// Adds its steps to those of the recipe, where there is one.
pub(super) fn join(machine: Option<&Machine>, steps: &mut Vec<Lowered>, reader: &Reader<'_>) {
    if let Some(Machine { fields, place }) = machine {
        machine::spare(steps);
        steps.extend(machine::steps(fields, place, &|at| reader.source.line(at)));
    }
}

impl Machine {
    /// Whether its network is what bake makes it; then where that stands.
    pub(super) fn network(&self) -> Option<Range<usize>> {
        let key = self.fields.get("network").map_or(&self.place, |field| &field.key);
        machine::has_network(&self.fields).then(|| key.clone())
    }
}
