//! Reads `[[step]] include`: the steps of another file stand there.
//!
//! The file is read like a recipe that has `[vars]` and `[[step]]`s only, with mistakes at its own
//! lines, in a scope of its own. Depth, number and size are bounded, so that a few lines cannot
//! mean millions of steps.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::including::tidy;
use super::kind::condition;
use super::node::{Node, string_inside, type_name, unknown_key};
use super::reader::Reader;
use super::step::{kind_of, read_step};
use super::syntax;
use super::table::{entry, list};
use crate::recipe::keys;
use crate::recipe::model::Part;
use crate::recipe::parts::{Unread, shown};
use crate::recipe::value::Value;
use crate::recipe::vars::{BUILT_IN, Given, Includer, Scope, resolve_part, scalar};
use crate::schema::{Mistake, Source, quote};
use crate::step::{InPart, Lowered, Options};

/// Most files on the way from the recipe to an included one, it among them.
const DEPTH: usize = 16;

/// Most files that a recipe includes, each counted as often as it does.
const MOST: usize = 1000;

/// Most bytes of these together.
const BYTES: usize = 16 << 20;

/// Reads one entry of `[[step]]`: nearly always one step; none where it is off, or wrong, which is
/// reported.
pub(crate) fn read_entry(
    reader: &mut Reader<'_>,
    place: Range<usize>,
    table: &DeTable<'_>,
    defaults: &Options,
) -> Vec<Lowered> {
    let on = condition(reader, table) != Some(false);
    let Some((section, key)) = kind_of(reader, place, table) else { return vec![] };
    if section.name != keys::INCLUDE.name {
        return read_step(reader, (section, key), table, defaults, on);
    }
    let fields = reader.fields(section, key.clone(), table);
    let given = given(reader, table);
    let path = fields.text(keys::INCLUDE.name);
    // What it would give, nobody knows.
    let lost = table.get("vars").is_some_and(|vars| !vars.get_ref().is_table());
    match (on && !lost, path) {
        (true, Some(path)) => {
            let span = fields.get(keys::INCLUDE.name).map_or(key, |field| field.span.clone());
            let found = open(reader, span.clone(), &path);
            found.map_or(vec![], |found| steps(reader, span, found, given, defaults))
        }
        // One that is off is not read: nobody knows which stages it names.
        _ => {
            let all = reader.stages.clone();
            reader.named.extend(all);
            vec![]
        }
    }
}

/// Reads `vars`, in the order written.
fn given(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Vec<Given> {
    let vars = table.get("vars").and_then(|node| node.get_ref().as_table());
    let mut entries: Vec<_> = vars.into_iter().flatten().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut all = vec![];
    for (key, node) in entries {
        let filled = node.get_ref().as_str().is_some_and(|text| text.contains("{{"));
        let value = match filled {
            true => reader.filled(node).map(Value::Text),
            false => plain(reader, key.get_ref(), node),
        };
        let (name, span) = (key.get_ref().to_string(), string_inside(reader.source, node));
        all.push(Given { name, key: key.span(), span, value, filled });
    }
    all
}

fn plain(reader: &mut Reader<'_>, name: &str, node: &Node<'_>) -> Option<Value> {
    let value = scalar(node.get_ref()).ok();
    if value.is_none() {
        let mistake = Mistake::new(format!(
            "expected a string, an integer or a boolean for variable `{name}`, found {}",
            type_name(node.get_ref())
        ));
        reader.report(node.span(), mistake);
    }
    value
}

/// A file that is included: its path below the context, and what it says.
struct Found {
    path: String,
    text: Arc<str>,
}

/// Gets the text of the file `path`, which the step at `span` names.
fn open(reader: &mut Reader<'_>, span: Range<usize>, path: &str) -> Option<Found> {
    let name = quote(path);
    let Some(path) = tidy(path) else {
        reader.report(span, Mistake::new(format!("{name} is a directory, not a file")));
        return None;
    };
    let including = &reader.including;
    let bad = |what: String, help: &str| Some(Mistake::new(what).help(help));
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let mistake = if let Some(at) = including.way.iter().position(|one| *one == path) {
        let way = including.way[at..].iter().chain([&path]).cloned().collect::<Vec<_>>();
        let mistake = Mistake::new(format!("files include each other: {}", way.join(" -> ")));
        Some(mistake.label("it would stand within itself"))
    } else if including.way.len() == DEPTH {
        let what = format!("more than {DEPTH} files include each other");
        bad(what, "include them in the recipe, one after the other")
    } else if including.parts.len() == MOST {
        bad(format!("more than {MOST} included files"), "a recipe is no program")
    } else if directory.contains(['*', '?', '[', ']', '{', '}', '\\']) {
        // Paths in there become globs of the context.
        let what = format!("a directory of {name} has a character of globs in its name");
        bad(what, "give the directory another name")
    } else {
        None
    };
    if let Some(mistake) = mistake {
        reader.report(span, mistake);
        return None;
    }
    // A context that is wrong is reported.
    let context = including.context.clone()?;
    let Some(texts) = including.texts.clone() else {
        reader.report(span, Mistake::new("no file can be included here"));
        return None;
    };
    match texts.text(&context, Path::new(&path)) {
        Ok(text) if including.bytes + text.len() > BYTES => {
            let mistake = Mistake::new("the included files are more than 16 MiB together");
            reader.report(span, mistake.help("they are written by hand, as recipes are"));
            None
        }
        Ok(text) => Some(Found { path, text }),
        Err(Unread::Text(mistake)) => {
            reader.mistakes.add_placed(*mistake);
            None
        }
        Err(Unread::File(why)) => {
            let mistake = Mistake::new(format!("cannot include {name}"));
            reader.report(span, mistake.label(why.join(": ")));
            None
        }
    }
}

/// Reads the steps of a file that the step at `span` includes.
fn steps(
    reader: &mut Reader<'_>,
    span: Range<usize>,
    found: Found,
    given: Vec<Given>,
    defaults: &Options,
) -> Vec<Lowered> {
    let Found { path, text } = found;
    let including = &mut reader.including;
    let context = including.context.clone().unwrap_or_default();
    let file: Arc<_> = shown(&including.recipe, &context, Path::new(&path)).into();
    including.bytes += text.len();
    let source = Source::new(&file, &text);
    let Some(table) = syntax::parse(&source, reader.mistakes) else { return vec![] };
    let table = table.get_ref();
    only_its_own(reader, &source, table);
    let includer = Includer { source: reader.source, key: span.clone(), given };
    let mut resolved =
        resolve_part(&file, &source, entry(table, "vars"), includer, reader.mistakes);
    for name in BUILT_IN.iter().map(|name| (*name).to_owned()) {
        if let Some(value) = reader.scope.values().get(&name) {
            resolved.values.insert(name, value.clone());
        } else if reader.scope.broken().contains(&name) {
            resolved.broken.insert(name);
        }
    }
    let vars_known = resolved.broken.is_empty();
    let scope: Scope = reader.scope.of_part(resolved.values, resolved.broken);
    let mut including = std::mem::take(&mut reader.including);
    let number = including.parts.len();
    let vars = scope.values().clone();
    including.parts.push(Part { file: Arc::clone(&file), text, vars, vars_known });
    including.way.push(path);
    let line = including.line;
    including.line = line.or_else(|| Some(reader.source.line(span.start)));
    let mut inner = Reader::new(&source, &scope, reader.arch, reader.mistakes);
    inner.including = including;
    inner.stages = std::mem::take(&mut reader.stages);
    inner.named = std::mem::take(&mut reader.named);
    inner.images = std::mem::take(&mut reader.images);
    let mut steps = list(&mut inner, table, "step", "step", |reader, place, table| {
        read_entry(reader, place, table, defaults)
    })
    .unwrap_or_default();
    for step in &mut steps {
        step.part.get_or_insert_with(|| InPart { file: Arc::clone(&file), number });
    }
    let Reader { including, stages, named, images, .. } = inner;
    (reader.stages, reader.named, reader.images) = (stages, named, images);
    reader.including = including;
    reader.including.way.pop();
    reader.including.line = line;
    steps
}

/// Reports what an included file cannot hold.
fn only_its_own(reader: &mut Reader<'_>, source: &Source, table: &DeTable<'_>) {
    for (key, node) in table {
        let name: &str = key.get_ref();
        if keys::PART.contains(&name) {
            continue;
        }
        let table = matches!(node.get_ref(), DeValue::Table(_) | DeValue::Array(_));
        let mistake = if keys::TOP.contains(&name) {
            let help = "it holds `[vars]` and `[[step]]`s, which stand in the recipe; all else \
                stands there itself";
            Mistake::new(format!("an included file has no `{name}`"))
                .label("an included file is not a recipe")
                .help(help)
        } else if keys::kinds().any(|kind| kind.name == name) && !table {
            Mistake::new(format!("key \"{name}\" outside of any step"))
                .label("belongs into a step")
                .help("start the step with a line `[[step]]`")
        } else {
            unknown_key(name, "an included file", keys::PART.iter().copied())
        };
        reader.mistakes.add(source, key.span(), mistake);
    }
}
