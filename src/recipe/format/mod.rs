//! bake's own format: tables and keys in the reference's order, `'''` for scripts, `env.A =` for
//! maps in steps, TOML 1.0.
//!
//! Every comment stays, and stays with what it was written at. The meaning never changes: the
//! result is parsed again and compared, and where the two differ the text is left as it was.

mod decor;
mod line;
mod value;

use std::path::Path;

use toml_edit::{DocumentMut, Item, Key, Table};

use self::decor::{beside, comments, push_comments};
use self::line::{Block, dotted, lines, push_block};
use self::value::key_text;
use super::keys;
use super::parse::syntax;
use super::workspace::WORKSPACE;
use super::workspace_keys::workspace_top;
use crate::schema::{Diagnostic, Key as Known, Mistake, Mistakes, Shape, Source};

/// Formats a recipe, or a workspace file: what is called so.
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
    let formatted = match file.ends_with(WORKSPACE) {
        true => document_text(&document, &workspace_top().collect::<Vec<_>>()),
        false => document_text(&document, keys::TOP),
    };
    // The last word is the parser's: a formatter that changes what a recipe means is worse than
    // none.
    let same = match (text.parse::<toml::Table>(), formatted.parse::<toml::Table>()) {
        (Ok(before), Ok(after)) => before == after,
        _ => false,
    };
    Ok(if same { formatted } else { text.to_owned() })
}

/// Formats a document whose keys and tables stand in the order `top`.
fn document_text(document: &DocumentMut, top_keys: &[&str]) -> String {
    let root = document.as_table();
    let mut blocks = vec![];
    let mut top = Block { lines: lines(root, &[], &[]), ..Block::default() };
    let mut tables: Vec<(usize, isize, Vec<Block>)> = vec![];
    for (name, item) in root.iter() {
        let Some(key) = root.key(name) else { continue };
        let rank = top_keys.iter().position(|known| *known == name).unwrap_or(top_keys.len());
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
        top_keys.iter().position(|known| *known == line.first).unwrap_or(top_keys.len())
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
    let maps: Vec<&str> = if dotted_maps { maps() } else { vec![] };
    let children: Vec<(&Key, &Item)> =
        table.iter().filter_map(|(name, item)| table.key(name).map(|key| (key, item))).collect();
    let is_map = |key: &Key, item: &Item| {
        dotted_maps
            && maps.contains(&key.get())
            && item
                .as_table()
                .is_some_and(|t| !t.is_dotted() && t.iter().all(|(_, item)| item.is_value()))
    };
    if !table.is_dotted() {
        let section: Vec<&str> = order(path, table);
        let mut body = lines(table, &maps, &section);
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

/// Returns the keys of steps and of the defaults that hold maps.
fn maps() -> Vec<&'static str> {
    let map = |key: &&Known| {
        matches!(
            key.shape,
            Shape::Map(_)
                | Shape::Vars
                | Shape::Data
                | Shape::Mounts
                | Shape::Targets(_)
                | Shape::Table(_)
        )
    };
    let sections = keys::kinds().chain([&keys::DEFAULTS]);
    sections.flat_map(|section| section.keys).filter(map).map(|key| key.name).collect()
}

/// Returns the reference's order of keys for a table.
fn order(path: &[&Key], table: &Table) -> Vec<&'static str> {
    let names = |known: &'static [Known]| known.iter().map(|key| key.name).collect();
    match path {
        [stage, _, inner] if stage.get() == "stage" => order(&[inner], table),
        [top] if top.get() == "step" => {
            match keys::kinds().find(|kind| table.contains_key(kind.name)) {
                Some(kind) => names(kind.keys),
                None => vec!["name", "when"],
            }
        }
        [top] if top.get() == "test" => {
            match keys::checks().find(|check| table.contains_key(check.name)) {
                Some(check) => names(check.keys),
                None => vec!["name", "when", "start"],
            }
        }
        [top] if top.get() == "output" => match table.contains_key(keys::PUSH.name) {
            true => names(keys::PUSH.keys),
            false => names(keys::OUTPUT.keys),
        },
        [top] => keys::table(top.get()).map(|section| names(section.keys)).unwrap_or_default(),
        [.., last] if last.get() == keys::HEALTHCHECK.name => names(keys::HEALTHCHECK.keys),
        _ => vec![],
    }
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
            "[[step]]\nto='/a'  # to\n# what\ncopy = \
                'x'\nname=\"n\"\n[base]\nscratch=true\n[image]\nversion = '1'\nname = 'a'\n",
            "[image]\nname = 'a'\nversion = '1'\n\n[base]\nscratch = true\n\n[[step]]\nname \
                = \"n\"\n# what\ncopy = 'x'\nto = '/a'  # to\n",
        );
    }

    #[test]
    fn the_head_of_the_file_stays_there() {
        check(
            "#:schema ./x.json\n# about\n\n# base\n[base]\nscratch=true\n[image]\nname='a'\n# \
                end\n",
            "#:schema ./x.json\n# about\n\n[image]\nname = 'a'\n\n# base\n[base]\nscratch = \
                true\n\n# end\n",
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
        let targets = "[[step]]\ncopy.\"/b/\" = ['y']\ncopy.\"/a\" = 'x'\nmode = '0600'\n";
        check("[[step]]\nmode = '0600'\ncopy = { '/b/' = ['y'], '/a' = 'x' }\n", targets);
        check("[[step]]\nmode = '0600'\n[step.copy]\n'/b/' = ['y']\n'/a' = 'x'\n", targets);
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
            "[[step]]\npackages = [\n    # p\n    'a',  # a\n    # b\n    'b',  # bb\n    \
                'c',\n    # end\n]  # after\n",
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
