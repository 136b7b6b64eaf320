//! Reads `[[output]]` and `--output`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::kind::condition;
use super::reader::Reader;
use super::table::list;
use crate::image::RemoteName;
use crate::recipe::keys;
use crate::recipe::model::Output;
use crate::schema::{Mistake, Source, either, quote};

/// One `[[output]]`.
enum Entry {
    Output(Output),
    Push(RemoteName),
}

/// Reads the outputs of the recipe, and behind them those of the command line; and the pushes.
pub(super) fn read_outputs(
    reader: &mut Reader<'_>,
    table: &DeTable<'_>,
    given: &[String],
) -> Option<(Vec<Output>, Vec<RemoteName>)> {
    let (mut outputs, mut pushes) = (vec![], vec![]);
    for entry in list(reader, table, "output", "output", read_entry)? {
        match entry {
            Entry::Output(output) => outputs.push(output),
            Entry::Push(to) => pushes.push(to),
        }
    }
    outputs.extend(given.iter().filter_map(|text| of_command_line(reader, text)));
    each_path_once(reader, &outputs);
    Some((outputs, pushes))
}

fn read_entry(reader: &mut Reader<'_>, place: Range<usize>, table: &DeTable<'_>) -> Option<Entry> {
    if !table.contains_key(keys::PUSH.name) {
        return read_output(reader, place, table).map(Entry::Output);
    }
    reader.unknown_keys(&keys::PUSH, table);
    let on = condition(reader, table) != Some(false);
    let to = reader.fields(&keys::PUSH, place, table).text(keys::PUSH.name)?;
    // What is wrong with it is reported by its shape.
    let to = RemoteName::to_push_to(&to).ok().filter(|_| on)?;
    Some(Entry::Push(to))
}

/// Reads one; none where it is off, or wrong, which is reported.
fn read_output(
    reader: &mut Reader<'_>,
    place: Range<usize>,
    table: &DeTable<'_>,
) -> Option<Output> {
    reader.unknown_keys(&keys::OUTPUT, table);
    let on = condition(reader, table) != Some(false);
    let fields = reader.fields(&keys::OUTPUT, place, table);
    let (format, path) = (fields.text("format")?, fields.text("path")?);
    let span = fields.get("path")?.span.clone();
    if let (Some(owners), true) = (fields.get("owners"), format != "dir") {
        let mistake = Mistake::new(format!("`owners` does not go with the format `{format}`"))
            .label("only for `dir`");
        reader.report(owners.key.clone(), mistake);
    }
    if let Some(mistake) = no_name(&path) {
        reader.report(span, mistake);
        return None;
    }
    let place = reader.source.diagnose(span, Mistake::new(""));
    let drop_owners = fields.text("owners").as_deref() == Some("dropped");
    on.then(|| Output { format, path: path.into(), given: false, drop_owners, place })
}

/// Reads `FORMAT=PATH` of the command line.
fn of_command_line(reader: &mut Reader<'_>, text: &str) -> Option<Output> {
    let start = "--output ".len();
    let line = Source::new(Path::new("<command line>"), &format!("--output {text}"));
    let whole = start..start + text.len();
    let Some((format, path)) = text.split_once('=') else {
        let mistake = Mistake::new("an output without a path").label("write FORMAT=PATH");
        reader.mistakes.add(&line, whole, mistake);
        return None;
    };
    if !keys::FORMATS.contains(&format) {
        let names = || keys::FORMATS.iter().copied();
        let mistake = Mistake::new(format!("unknown format {}", quote(format)))
            .suggest(format, names())
            .help(format!("it is one of {}", either(names())));
        reader.mistakes.add(&line, start..start + format.len(), mistake);
        return None;
    }
    let at = start + format.len() + 1;
    let span = at..at + path.len();
    let path = match reader.scope.fill(path) {
        Ok(path) => path?,
        Err(mistakes) => {
            for (part, mistake) in mistakes {
                reader.mistakes.add(&line, at + part.start..at + part.end, mistake);
            }
            return None;
        }
    };
    if let Some(mistake) = no_name(&path) {
        reader.mistakes.add(&line, span, mistake);
        return None;
    }
    let place = line.diagnose(span, Mistake::new(""));
    let format = format.to_owned();
    Some(Output { format, path: path.into(), given: true, drop_owners: false, place })
}

/// Returns what is wrong with a path that names no file.
fn no_name(path: &str) -> Option<Mistake> {
    let wrong = |what: &str| Some(Mistake::new(format!("{} {what}", quote(path))));
    if path.contains(['\0', '\n']) {
        return wrong("cannot be a path");
    }
    match Path::new(path).file_name() {
        None => wrong("is not the name of a file or directory to be made"),
        Some(_) if path.ends_with("/.") => {
            wrong("is not the name of a file or directory to be made")
        }
        Some(_) => None,
    }
}

/// Reports outputs of one path.
fn each_path_once(reader: &mut Reader<'_>, outputs: &[Output]) {
    let mut seen: BTreeMap<(bool, PathBuf), &Output> = BTreeMap::new();
    for output in outputs {
        // Two ways of writing one path are found when the build looks at the disk.
        let path: PathBuf = output.path.components().collect();
        let Some(first) = seen.insert((output.given, path), output) else { continue };
        let message =
            format!("two outputs with the path {}", quote(&output.path.to_string_lossy()));
        let mut place = output.place.clone();
        place.message = message;
        place.label = Some(format!("{} goes there already", first.format));
        reader.mistakes.add_placed(place);
    }
}
