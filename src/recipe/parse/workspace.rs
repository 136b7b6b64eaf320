//! Reads `bake.toml`: what it says of itself, and the defaults that recipes below it are read with.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeTable;

use super::node::unknown_key;
use super::reader::Reader;
use super::syntax;
use super::table::entry;
use crate::recipe::keys;
use crate::recipe::vars::Scope;
use crate::recipe::workspace::{Pattern, Registry, Workspace, WorkspaceFile};
use crate::recipe::workspace_keys::{WORKSPACE, WORKSPACE_DEFAULTS, workspace_top};
use crate::schema::{Diagnostic, Mistake, Mistakes, Source};
use crate::step::Options;

/// A workspace file that was parsed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared<'a> {
    pub(crate) source: &'a Source,
    pub(crate) table: &'a DeTable<'a>,
}

/// Reads what a workspace file says besides variables and defaults; these are judged with each
/// recipe.
pub(crate) fn read(file: &WorkspaceFile) -> Result<Workspace, Vec<Diagnostic>> {
    let source = Source::new(&file.file, &file.text);
    let mut mistakes = Mistakes::default();
    let table = syntax::parse(&source, &mut mistakes);
    let read = table
        .map(|table| settings(&Shared { source: &source, table: table.get_ref() }, &mut mistakes));
    match read {
        Some(workspace) if !mistakes.any_error() => Ok(workspace),
        _ => Err(mistakes.into_sorted()),
    }
}

/// Reads the same of a file that was parsed, and reports its unknown keys.
pub(crate) fn settings(shared: &Shared<'_>, mistakes: &mut Mistakes) -> Workspace {
    unknown_tables(shared, mistakes);
    // Where members and the store are does not depend on a recipe's variables.
    let scope = Scope::new(BTreeMap::new(), BTreeSet::new());
    let fields = reader(shared, &scope, "", mistakes).fields(&WORKSPACE, 0..0, shared.table);
    let patterns = |name| {
        let entries = fields.entries(name).into_iter();
        let place = |span| shared.source.diagnose(span, Mistake::new(""));
        entries.map(|one| Pattern { glob: one.text, place: place(one.span) }).collect()
    };
    Workspace {
        members: patterns("members"),
        exclude: patterns("exclude"),
        store: fields.text("store").map(Into::into),
        mirror: fields.text("mirror"),
        registry: fields.text("registry").map(|text| Registry::new(&text)),
    }
}

/// Reads the options that the workspace gives to programs of a recipe, whose names `scope` knows.
pub(crate) fn defaults(
    shared: &Shared<'_>,
    scope: &Scope,
    arch: &str,
    mistakes: &mut Mistakes,
) -> Options {
    let Some((key, node)) = entry(shared.table, "defaults") else { return Options::default() };
    let fields = reader(shared, scope, arch, mistakes).section(&WORKSPACE_DEFAULTS, key, node);
    Options::of(&fields.unwrap_or_default())
}

fn reader<'a>(
    shared: &Shared<'a>,
    scope: &'a Scope,
    arch: &'a str,
    mistakes: &'a mut Mistakes,
) -> Reader<'a> {
    Reader::new(shared.source, scope, arch, mistakes)
}

fn unknown_tables(shared: &Shared<'_>, mistakes: &mut Mistakes) {
    for key in shared.table.keys() {
        let name: &str = key.get_ref();
        if workspace_top().any(|known| known == name) {
            continue;
        }
        let mistake = if keys::TOP.contains(&name) {
            Mistake::new(format!("`bake.toml` has no `{name}`"))
                .label("belongs into a recipe")
                .help("`bake.toml` says what recipes have in common; call a recipe recipe.toml")
        } else {
            unknown_key(name, "`bake.toml`", workspace_top())
        };
        mistakes.add(shared.source, key.span(), mistake);
    }
}
