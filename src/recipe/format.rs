//! bake's own format: tables and keys in the reference's order, `'''` for scripts, `env.A =` for
//! maps in steps, TOML 1.0.
//!
//! Every comment stays, and stays with what it was written at. The meaning never changes: the
//! result is parsed again and compared, and where the two differ the text is left as it was.

use std::path::Path;

use toml_edit::{Array, DocumentMut, InlineTable, Item, Key, RawString, Table, Value};

use super::keys::{self, Key as Known, Shape};
use super::mistake::{Mistake, Mistakes, Source};
use super::{Diagnostic, syntax};

/// Longer lists are written one entry a line.
const WIDTH: usize = 120;

/// Formats a recipe.
pub(super) fn format(text: &str, file: &Path) -> Result<String, Vec<Diagnostic>> {
    let source = Source::new(file, text);
    let mut mistakes = Mistakes::default();
    if syntax::parse(&source, &mut mistakes).is_none() {
        return Err(mistakes.into_sorted());
    }
    let document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        vec![source.diagnose(
            error.span().unwrap_or(0..0),
            Mistake::new("not TOML").label(error.message().to_owned()),
        )]
    })?;
    let formatted = document_text(&document);
    // The last word is the parser's: a formatter that changes what a recipe means is worse than
    // none.
    let same = match (text.parse::<toml::Table>(), formatted.parse::<toml::Table>()) {
        (Ok(before), Ok(after)) => before == after,
        _ => false,
    };
    Ok(if same { formatted } else { text.to_owned() })
}

/// A line of a table, with the comments above it.
#[derive(Debug, Default)]
struct Line {
    above: Vec<String>,
    /// First key, for the order.
    first: String,
    /// `key = value`.
    text: String,
    /// Comment at its end.
    beside: Option<String>,
}

/// A table with its header, or the top of the file.
#[derive(Debug, Default)]
struct Block {
    above: Vec<String>,
    header: Option<String>,
    beside: Option<String>,
    lines: Vec<Line>,
}

fn document_text(document: &DocumentMut) -> String {
    let root = document.as_table();
    let mut blocks = vec![];
    let mut top = Block { lines: lines(root, &[], keys::TOP), ..Block::default() };
    let mut tables: Vec<(usize, isize, Vec<Block>)> = vec![];
    for (name, item) in root.iter() {
        let Some(key) = root.key(name) else { continue };
        let rank = keys::TOP.iter().position(|known| *known == name).unwrap_or(keys::TOP.len());
        let mut found = vec![];
        collect(item, &[key], &mut found);
        if !found.is_empty() {
            tables.push((rank, position(item), found));
        }
    }
    let mut preamble = vec![];
    match top.lines.first_mut() {
        // The comment that opens the file belongs to the file, whatever comes first now.
        Some(line) => preamble = split_preamble(&mut line.above),
        None => {
            let first = tables
                .iter_mut()
                .min_by_key(|(_, position, _)| *position)
                .and_then(|(_, _, blocks)| blocks.first_mut());
            if let Some(block) = first {
                preamble = split_preamble(&mut block.above);
            }
        }
    }
    top.lines.sort_by_key(|line| {
        keys::TOP.iter().position(|known| *known == line.first).unwrap_or(keys::TOP.len())
    });
    tables.sort_by_key(|(rank, position, _)| (*rank, *position));
    if !top.lines.is_empty() {
        blocks.push(top);
    }
    blocks.extend(tables.into_iter().flat_map(|(_, _, blocks)| blocks));

    let mut text = String::new();
    push_comments(&mut text, &preamble, true);
    for block in &blocks {
        push_block(&mut text, block);
    }
    let trailing = comments(document.trailing());
    if trailing.iter().any(|line| !line.is_empty()) {
        if !text.is_empty() {
            text.push('\n');
        }
        push_comments(&mut text, &trailing, true);
    }
    text
}

/// Returns where a table first stands in the file.
fn position(item: &Item) -> isize {
    match item {
        Item::Table(table) => {
            let inner = table.iter().map(|(_, item)| position(item)).min().unwrap_or(isize::MAX);
            table.position().unwrap_or(isize::MAX).min(inner)
        }
        Item::ArrayOfTables(list) => {
            list.iter().filter_map(Table::position).min().unwrap_or(isize::MAX)
        }
        _ => isize::MAX,
    }
}

/// Takes off what belongs to the file rather than to the first table: `#:schema` and comments that
/// a blank line sets apart.
fn split_preamble(above: &mut Vec<String>) -> Vec<String> {
    let blank = above.iter().rposition(String::is_empty).map_or(0, |n| n + 1);
    let directives = above.iter().take_while(|line| line.starts_with("#:")).count();
    let rest = above.split_off(blank.max(directives));
    std::mem::replace(above, rest)
}

/// Collects the tables of an item in the order of the tree, which is always a valid order.
fn collect(item: &Item, path: &[&Key], blocks: &mut Vec<Block>) {
    match item {
        Item::Table(table) => collect_table(table, path, false, blocks),
        Item::ArrayOfTables(list) => {
            for table in list.iter() {
                collect_table(table, path, true, blocks);
            }
        }
        _ => {}
    }
}

fn collect_table(table: &Table, path: &[&Key], list: bool, blocks: &mut Vec<Block>) {
    let names: Vec<&str> = path.iter().map(|key| key.get()).collect();
    let dotted_maps =
        matches!(*names, ["step" | "test" | "defaults"] | ["stage", _, "step" | "defaults"]);
    let children: Vec<(&Key, &Item)> =
        table.iter().filter_map(|(name, item)| table.key(name).map(|key| (key, item))).collect();
    let is_map = |key: &Key, item: &Item| {
        dotted_maps
            && map_key(key.get())
            && item
                .as_table()
                .is_some_and(|t| !t.is_dotted() && t.iter().all(|(_, item)| item.is_value()))
    };
    if !table.is_dotted() {
        let section: Vec<&str> = order(path, table);
        let mut body = lines(table, if dotted_maps { &["env", "mount"] } else { &[] }, &section);
        for (key, map) in children.iter().filter(|(key, item)| is_map(key, item)) {
            if let Item::Table(map) = map {
                body.extend(dotted(&[key], map));
            }
        }
        body.sort_by_key(|line| {
            section.iter().position(|known| *known == line.first).unwrap_or(section.len())
        });
        if !table.is_implicit() || !body.is_empty() {
            let name = path.iter().map(|key| key_text(key)).collect::<Vec<_>>().join(".");
            blocks.push(Block {
                above: table.decor().prefix().map(comments).unwrap_or_default(),
                header: Some(if list { format!("[[{name}]]") } else { format!("[{name}]") }),
                beside: table.decor().suffix().and_then(beside),
                lines: body,
            });
        }
    }
    let mut children: Vec<(&Key, &Item)> =
        children.into_iter().filter(|(key, item)| !is_map(key, item)).collect();
    let rank = |key: &Key| match *names {
        ["stage", _] => keys::STAGE.iter().position(|known| *known == key.get()),
        _ => None,
    };
    children.sort_by_key(|(key, item)| (rank(key), position(item)));
    for (key, item) in children {
        let path: Vec<&Key> = path.iter().copied().chain([key]).collect();
        collect(item, &path, blocks);
    }
}

/// Whether the key of a step or of the defaults holds a map.
fn map_key(name: &str) -> bool {
    keys::DEFAULTS.key(name).is_some_and(|key| matches!(key.shape, Shape::Map(_) | Shape::Mounts))
}

/// Returns the reference's order of keys for a table.
fn order(path: &[&Key], table: &Table) -> Vec<&'static str> {
    let names = |known: &'static [Known]| known.iter().map(|key| key.name).collect();
    match path {
        [stage, _, inner] if stage.get() == "stage" => order(&[inner], table),
        [top] if top.get() == "step" => {
            match keys::KINDS.iter().find(|kind| table.contains_key(kind.name)) {
                Some(kind) => names(kind.keys),
                None => vec!["name", "when"],
            }
        }
        [top] if top.get() == "test" => {
            match keys::CHECKS.iter().find(|check| table.contains_key(check.name)) {
                Some(check) => names(check.keys),
                None => vec!["name", "when", "start"],
            }
        }
        [top] => keys::table(top.get()).map(|section| names(section.keys)).unwrap_or_default(),
        [.., last] if last.get() == keys::HEALTHCHECK.name => names(keys::HEALTHCHECK.keys),
        _ => vec![],
    }
}

/// Returns the direct lines of a table, sorted; `maps` are the keys whose inline tables are written
/// as dotted keys.
fn lines(table: &Table, maps: &[&str], order: &[&str]) -> Vec<Line> {
    let mut lines = vec![];
    for (path, value) in table.get_values() {
        lines.extend(line(&path, value, maps));
    }
    lines.sort_by_key(|line| {
        order.iter().position(|known| *known == line.first).unwrap_or(order.len())
    });
    lines
}

/// Returns a key with its value; several lines where an inline table is better written as dotted
/// keys.
fn line(path: &[&Key], value: &Value, maps: &[&str]) -> Vec<Line> {
    let first = path.first().map(|key| key.get().to_owned()).unwrap_or_default();
    let mut above =
        path.last().and_then(|key| key.leaf_decor().prefix()).map(comments).unwrap_or_default();
    let beside = value.decor().suffix().and_then(beside);
    if let Value::InlineTable(table) = value
        && !table.is_empty()
        && (path.len() == 1 && maps.contains(&first.as_str())
            || has_comments(table)
            || has_line_ends(table) && inline_width(path, table) > WIDTH)
    {
        let mut lines = expand(path, table);
        if let (Some(comment), [only]) = (&beside, lines.as_mut_slice())
            && only.beside.is_none()
        {
            only.beside = Some(comment.clone());
        } else {
            above.extend(beside);
        }
        if let Some(line) = lines.first_mut() {
            above.append(&mut line.above);
            line.above = above;
        }
        return lines;
    }
    let mut hoisted = vec![];
    let name = path.iter().map(|key| key_text(key)).collect::<Vec<_>>().join(".");
    let text = format!("{name} = {}", value_text(value, name.len() + 3, &mut hoisted));
    above.extend(hoisted);
    vec![Line { above, first, text, beside }]
}

/// Writes an inline table as dotted keys.
fn expand(path: &[&Key], table: &InlineTable) -> Vec<Line> {
    let first = path.first().map(|key| key.get().to_owned()).unwrap_or_default();
    let mut lines: Vec<Line> = vec![];
    let mut loose = vec![];
    for (inner, value) in table.get_values() {
        let (beside_last, above) =
            inner.last().and_then(|key| key.leaf_decor().prefix()).map(around).unwrap_or_default();
        attach(&mut lines, &mut loose, beside_last);
        let full: Vec<&Key> = path.iter().copied().chain(inner.iter().copied()).collect();
        let mut hoisted: Vec<String> = between(&inner, value)
            .into_iter()
            .flat_map(|raw| {
                let (beside, above) = around(raw);
                beside.into_iter().chain(above)
            })
            .collect();
        let name = full.iter().map(|key| key_text(key)).collect::<Vec<_>>().join(".");
        let text = format!("{name} = {}", value_text(value, name.len() + 3, &mut hoisted));
        let (beside, after) = value.decor().suffix().map(around).unwrap_or_default();
        let above = loose
            .drain(..)
            .chain(above)
            .chain(hoisted)
            .filter(|line: &String| !line.is_empty())
            .collect();
        loose.extend(after);
        lines.push(Line { above, first: first.clone(), text, beside });
    }
    let (beside_last, after) = around(table.trailing());
    attach(&mut lines, &mut loose, beside_last);
    if let Some(line) = lines.last_mut() {
        line.above.extend(loose.into_iter().chain(after).filter(|line| !line.is_empty()));
    }
    lines
}

/// Puts a comment at the end of the last line, or above the next one where there is none yet.
fn attach(lines: &mut [Line], loose: &mut Vec<String>, comment: Option<String>) {
    match (lines.last_mut(), comment) {
        (_, None) => {}
        (Some(line), Some(comment)) if line.beside.is_none() => line.beside = Some(comment),
        (_, Some(comment)) => loose.push(comment),
    }
}

/// Returns the lines of a `[step.env]` table as dotted keys, its own comments above the first.
fn dotted(path: &[&Key], table: &Table) -> Vec<Line> {
    let mut above = table.decor().prefix().map(comments).unwrap_or_default();
    above.extend(table.decor().suffix().and_then(beside));
    let mut lines = vec![];
    for (inner, value) in table.get_values() {
        let full: Vec<&Key> = path.iter().copied().chain(inner).collect();
        lines.extend(line(&full, value, &[]));
    }
    if lines.is_empty() {
        let first = path.first().map(|key| key.get().to_owned()).unwrap_or_default();
        lines.push(Line { text: format!("{first} = {{}}"), first, ..Line::default() });
    }
    if let Some(line) = lines.first_mut() {
        above.append(&mut line.above);
        // A blank line set the table apart; among the keys of a step it would tear it in two.
        above.retain(|line| !line.is_empty());
        line.above = above;
    }
    lines
}

fn push_block(text: &mut String, block: &Block) {
    if !text.is_empty() && !text.ends_with("\n\n") {
        text.push('\n');
    }
    if let Some(header) = &block.header {
        push_comments(text, &block.above, true);
        text.push_str(header);
        push_beside(text, block.beside.as_deref());
    }
    for (n, line) in block.lines.iter().enumerate() {
        push_comments(text, &line.above, n == 0);
        text.push_str(&line.text);
        push_beside(text, line.beside.as_deref());
    }
}

fn push_beside(text: &mut String, comment: Option<&str>) {
    if let Some(comment) = comment {
        text.push_str("  ");
        text.push_str(comment);
    }
    text.push('\n');
}

/// Writes comment lines, blank ones among them single; `first`: no blank line at the start.
fn push_comments(text: &mut String, lines: &[String], first: bool) {
    let mut blank = first;
    for line in lines {
        if !line.is_empty() || !blank {
            text.push_str(line);
            text.push('\n');
        }
        blank = line.is_empty();
    }
}

/// Returns the comment lines of what stands before something; empty ones are blank lines.
fn comments(raw: &RawString) -> Vec<String> {
    let text = raw.as_str().unwrap_or_default();
    let mut lines: Vec<String> = text.split('\n').map(|line| line.trim().to_owned()).collect();
    // What follows the last line end is the indent of the thing itself, or a comment that ends the
    // file.
    if lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// Returns the comment at the end of a line.
fn beside(raw: &RawString) -> Option<String> {
    let comment = raw.as_str()?.trim();
    comment.starts_with('#').then(|| comment.to_owned())
}

/// Splits what stands between two entries: the comment beside the first, and the lines above the
/// second.
fn around(raw: &RawString) -> (Option<String>, Vec<String>) {
    let text = raw.as_str().unwrap_or_default();
    let mut parts = text.split('\n').map(|line| line.trim().to_owned());
    let beside = parts.next().filter(|line| !line.is_empty());
    (beside, parts.filter(|line| !line.is_empty()).collect())
}

/// Returns a key as TOML writes it: bare where it can be.
fn key_text(key: &Key) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.get().is_empty() && key.get().chars().all(bare) {
        return key.get().to_owned();
    }
    let default = key.default_repr();
    default.as_raw().as_str().map_or_else(|| key.display_repr().into_owned(), str::to_owned)
}

/// Returns a value as text; `column` is where it starts. Comments inside that have no place any
/// more go to `hoisted`.
fn value_text(value: &Value, column: usize, hoisted: &mut Vec<String>) -> String {
    match value {
        Value::String(string) => string_text(string.value(), &string.display_repr()),
        Value::Datetime(time) => time.value().to_string(),
        Value::Integer(number) => number.display_repr().into_owned(),
        Value::Float(number) => number.display_repr().into_owned(),
        Value::Boolean(yes) => yes.value().to_string(),
        Value::Array(list) => array_text(list, column, hoisted),
        Value::InlineTable(table) => inline_text(table, hoisted),
    }
}

/// Returns a string: text of several lines between `'''`, everything else as it was written.
fn string_text(text: &str, written: &str) -> String {
    let several = text.trim_end_matches('\n').contains('\n')
        || written.starts_with("'''")
        || written.starts_with("\"\"\"") && text.contains('\n');
    let literal = !text.contains("'''")
        && !text.ends_with('\'')
        && !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t');
    // Lines joined by a backslash have no other way to be written that is as easy to read.
    let continued = written.starts_with("\"\"\"")
        && written.lines().any(|line| line.trim_end().ends_with('\\'));
    let newer = written.starts_with('"') && (written.contains("\\e") || written.contains("\\x"));
    if several && literal && !continued {
        return format!("'''\n{text}'''");
    }
    if newer {
        // Escapes that TOML 1.0 does not know.
        return Value::from(text).to_string();
    }
    written.to_owned()
}

fn array_text(list: &Array, column: usize, hoisted: &mut Vec<String>) -> String {
    let mut entries: Vec<(Vec<String>, String, Option<String>)> = vec![];
    let mut broken = has_newline(list.trailing());
    let mut loose = vec![];
    for value in list.iter() {
        let prefix = value.decor().prefix();
        broken |=
            prefix.is_some_and(has_newline) || value.decor().suffix().is_some_and(has_newline);
        let (beside_last, above) = prefix.map(around).unwrap_or_default();
        match (entries.last_mut(), beside_last) {
            (_, None) => {}
            (Some((_, _, beside @ None)), Some(comment)) => *beside = Some(comment),
            (_, Some(comment)) => loose.push(comment),
        }
        let mut inner = vec![];
        let text = value_text(value, column, &mut inner);
        let (beside, after) = value.decor().suffix().map(around).unwrap_or_default();
        let above = loose.drain(..).chain(above).chain(inner).collect();
        loose.extend(after);
        entries.push((above, text, beside));
    }
    let (beside_last, after) = around(list.trailing());
    match (entries.last_mut(), beside_last) {
        (_, None) => {}
        (Some((_, _, beside @ None)), Some(comment)) => *beside = Some(comment),
        (_, Some(comment)) => loose.push(comment),
    }
    loose.extend(after);
    if entries.is_empty() {
        hoisted.append(&mut loose);
        return "[]".into();
    }
    let commented = !loose.is_empty()
        || entries.iter().any(|(above, _, beside)| !above.is_empty() || beside.is_some());
    let flat = format!(
        "[{}]",
        entries.iter().map(|(_, text, _)| text.as_str()).collect::<Vec<_>>().join(", ")
    );
    let wide = !flat.contains('\n') && column + flat.chars().count() > WIDTH && entries.len() > 1;
    if !broken && !commented && !wide {
        return flat;
    }
    let mut text = String::from("[\n");
    for (above, entry, beside) in entries {
        for comment in above {
            text.push_str(&format!("    {comment}\n"));
        }
        text.push_str(&format!("    {entry},"));
        push_beside(&mut text, beside.as_deref());
    }
    for comment in loose {
        text.push_str(&format!("    {comment}\n"));
    }
    text.push(']');
    text
}

fn inline_text(table: &InlineTable, hoisted: &mut Vec<String>) -> String {
    let mut parts = vec![];
    let keep = |raw: Option<&RawString>, hoisted: &mut Vec<String>| {
        let (beside, above) = raw.map(around).unwrap_or_default();
        hoisted.extend(beside.into_iter().chain(above));
    };
    for (path, value) in table.get_values() {
        keep(path.last().and_then(|key| key.leaf_decor().prefix()), hoisted);
        for raw in between(&path, value) {
            keep(Some(raw), hoisted);
        }
        let name = path.iter().map(|key| key_text(key)).collect::<Vec<_>>().join(".");
        let mut inner = vec![];
        parts.push(format!("{name} = {}", value_text(value, 0, &mut inner)));
        hoisted.append(&mut inner);
        keep(value.decor().suffix(), hoisted);
    }
    keep(Some(table.trailing()), hoisted);
    if parts.is_empty() { "{}".into() } else { format!("{{ {} }}", parts.join(", ")) }
}

/// Returns what stands around the dots and the `=` of an entry, where an inline table may hold line
/// ends and comments too.
fn between<'t>(path: &[&'t Key], value: &'t Value) -> Vec<&'t RawString> {
    let dots = path.iter().flat_map(|key| {
        [key.dotted_decor().prefix(), key.dotted_decor().suffix(), key.leaf_decor().suffix()]
    });
    dots.chain([value.decor().prefix()]).flatten().collect()
}

/// Returns what stands between an inline table's entries: white space, line ends, comments.
fn decors(table: &InlineTable) -> Vec<&RawString> {
    let mut all = vec![table.trailing()];
    for (path, value) in table.get_values() {
        all.extend(path.last().and_then(|key| key.leaf_decor().prefix()));
        all.extend(between(&path, value));
        all.extend(value.decor().suffix());
    }
    all
}

fn has_comments(table: &InlineTable) -> bool {
    decors(table).into_iter().any(|raw| raw.as_str().is_some_and(|text| text.contains('#')))
}

fn has_line_ends(table: &InlineTable) -> bool {
    decors(table).into_iter().any(has_newline)
}

fn inline_width(path: &[&Key], table: &InlineTable) -> usize {
    let name: usize = path.iter().map(|key| key.get().len() + 1).sum();
    name + 2 + inline_text(table, &mut vec![]).chars().count()
}

fn has_newline(raw: &RawString) -> bool {
    raw.as_str().is_some_and(|text| text.contains('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let formatted = format(text, Path::new("x.toml")).unwrap();
        assert_eq!(formatted, expected);
        assert_eq!(format(&formatted, Path::new("x.toml")).unwrap(), formatted, "not stable");
    }

    #[test]
    fn tables_and_keys_stand_in_order() {
        check(
            "[[step]]\nto='/a'  # to\n# what\ncopy = 'x'\nname=\"n\"\n[base]\nscratch=true\n[image]\nversion = '1'\nname = 'a'\n",
            "[image]\nname = 'a'\nversion = '1'\n\n[base]\nscratch = true\n\n[[step]]\nname = \"n\"\n# what\ncopy = 'x'\nto = '/a'  # to\n",
        );
    }

    #[test]
    fn the_head_of_the_file_stays_there() {
        check(
            "#:schema ./x.json\n# about\n\n# base\n[base]\nscratch=true\n[image]\nname='a'\n# end\n",
            "#:schema ./x.json\n# about\n\n[image]\nname = 'a'\n\n# base\n[base]\nscratch = true\n\n# end\n",
        );
        check("#:schema x\n[image]\nname='a'", "#:schema x\n\n[image]\nname = 'a'\n");
        check("", "");
        check("# only\n", "# only\n");
    }

    #[test]
    fn maps_of_steps_are_dotted() {
        let dotted = "[[step]]\nrun = 'x'\nenv.A = 1\nenv.B = 'c'\n";
        check("[[step]]\nenv = { A = 1, B = 'c' }\nrun = 'x'\n", dotted);
        check("[[step]]\nrun = 'x'\n\n[step.env]\nA = 1\nB = 'c'\n", dotted);
        check("[[step]]\nenv.A = 1\nrun = 'x'\nenv.B = 'c'\n", dotted);
        check(
            "[[step]]\nrun = 'x'\n# e\n[step.env] # f\nA = 1 # g\n",
            "[[step]]\nrun = 'x'\n# e\n# f\nenv.A = 1  # g\n",
        );
        check("[[step]]\nrun = 'x'\n[step.env]\n", "[[step]]\nrun = 'x'\nenv = {}\n");
        check("[config]\nenv={A=1,B=2}\n", "[config]\nenv = { A = 1, B = 2 }\n");
        check(
            "[image]\n[image.labels]\n\"a.b\"='c'\n",
            "[image]\n\n[image.labels]\n\"a.b\" = 'c'\n",
        );
    }

    #[test]
    fn scripts_stand_between_quotes() {
        check(
            "[[step]]\nrun = \"\"\"\na \\\"b\\\"\nc\n\"\"\"\n",
            "[[step]]\nrun = '''\na \"b\"\nc\n'''\n",
        );
        check("[[step]]\nrun = \"a\\nb\"\n", "[[step]]\nrun = '''\na\nb'''\n");
        check(
            "[[step]]\nfile = '/a'\nappend = \"a\\n\"\n",
            "[[step]]\nfile = '/a'\nappend = \"a\\n\"\n",
        );
        check("[[step]]\nrun = \"a'''b\\nc\"\n", "[[step]]\nrun = \"a'''b\\nc\"\n");
        check(
            "[[step]]\nrun = \"\"\"\na \\\n  b\"\"\"\n",
            "[[step]]\nrun = \"\"\"\na \\\n  b\"\"\"\n",
        );
        check(
            "[[step]]\nrun = \"\\e[1m\"\n",
            "[[step]]\nrun = \"\\u001b[1m\"\n".replace("001b", "001B").as_str(),
        );
    }

    #[test]
    fn lists_keep_their_comments() {
        check("[config]\ncmd=['a' , 'b',]\n", "[config]\ncmd = ['a', 'b']\n");
        check(
            "[[step]]\npackages = [ # p\n 'a', # a\n # b\n 'b' # bb\n , 'c'\n # end\n] # after\n",
            "[[step]]\npackages = [\n    # p\n    'a',  # a\n    # b\n    'b',  # bb\n    'c',\n    # end\n]  # after\n",
        );
        check("[[step]]\npackages = [\n # none\n]\n", "[[step]]\n# none\npackages = []\n");
    }

    #[test]
    fn newer_toml_becomes_older() {
        check(
            "[vars]\np = { # a\n default = 'x', # b\n values = ['x',], # c\n # d\n}\n",
            "[vars]\n# a\np.default = 'x'  # b\n# d\np.values = ['x']  # c\n",
        );
        check("[vars]\np = {\n default = 'x',\n}\n", "[vars]\np = { default = 'x' }\n");
    }

    #[test]
    fn what_is_no_toml_is_an_error() {
        assert_eq!(format("a = \nb", Path::new("x")).unwrap_err()[0].line, 1);
    }
}
