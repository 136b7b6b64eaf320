//! Variables: what `[vars]` declares, and who gives the values.
//!
//! `--var` wins over a later `--vars-file`, that over an earlier one, that over `BAKE_VAR_x`, that
//! over the default of the recipe, that over the workspace's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::name::{unknown_var, variable_name};
use crate::recipe::keys;
use crate::recipe::model::Inputs;
use crate::recipe::parse::{Node, string_inside, syntax, type_name, unknown_key, wrong_type};
use crate::recipe::value::Value;
use crate::schema::{Mistake, Mistakes, Source, either, quote};

/// Values, and the names whose value is wrong or missing (which has been reported).
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    pub(crate) values: BTreeMap<String, Value>,
    pub(crate) broken: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Boolean,
}

#[derive(Debug)]
pub(super) struct Variable {
    key: Range<usize>,
    /// `None`: a required one takes what it is given.
    pub(super) kind: Option<Kind>,
    pub(super) default: Option<Value>,
    values: Vec<Value>,
    help: Option<String>,
    /// Its declaration is wrong.
    pub(super) broken: bool,
    /// It is the workspace's.
    shared: bool,
}

impl Variable {
    /// Returns the end of a help: which values there are, and what they are for.
    pub(super) fn help(&self, name: &str) -> String {
        let mut help = String::new();
        if !self.values.is_empty() {
            let all = show_all(&self.values);
            help += &format!("; it is one of {}", either(all.iter().map(String::as_str)));
        }
        if let Some(text) = &self.help {
            help += &format!(" ({name}: {text})");
        }
        help
    }
}

/// `[vars]` of a file, and where the key stands.
type Declarations<'n> = Option<(Range<usize>, &'n Node<'n>)>;

/// Reads `[vars]` of the workspace, if there is one, and of the recipe, and takes values from
/// everywhere. The second of `inputs` knows the variables of the matrix, whose values come from
/// there.
pub(crate) fn resolve(
    of_all: Option<(&Source, Declarations<'_>)>,
    source: &Source,
    node: Declarations<'_>,
    (inputs, of_matrix): (&Inputs, &dyn Fn(&str) -> bool),
    mistakes: &mut Mistakes,
) -> Resolved {
    let mut declared = match of_all.clone() {
        Some((source, node)) => declare_all(source, node, mistakes),
        None => BTreeMap::new(),
    };
    declared.values_mut().for_each(|variable| variable.shared = true);
    declared.retain(|name, _| !of_matrix(name));
    declared.extend(declare_all(source, node, mistakes));
    let mut given: BTreeMap<String, Value> = BTreeMap::new();
    let mut broken: BTreeSet<String> =
        declared.iter().filter(|(_, v)| v.broken).map(|(name, _)| name.clone()).collect();
    let mut take = |name: &str,
                    result: Result<Value, Mistake>,
                    place: &dyn Fn() -> (Source, Range<usize>),
                    mistakes: &mut Mistakes| match result {
        Ok(value) => drop(given.insert(name.to_owned(), value)),
        Err(mistake) => {
            let (source, span) = place();
            mistakes.add(&source, span, mistake);
            broken.insert(name.to_owned());
        }
    };

    if let Some((source, Some((_, node)))) = &of_all {
        for (key, node) in node.get_ref().as_table().into_iter().flatten() {
            let name: &str = key.get_ref();
            let default = match node.get_ref() {
                DeValue::Table(table) => table.get("default"),
                _ => Some(node),
            };
            // A recipe that gives no value of its own takes the workspace's.
            let open = |variable: &&Variable| {
                !variable.shared && !variable.broken && variable.default.is_none()
            };
            if let (Some(node), Some(variable)) = (default, declared.get(name).filter(open)) {
                let place =
                    || (Source::new(source.file(), source.text()), string_inside(source, node));
                take(name, from_toml(name, variable, node.get_ref()), &place, mistakes);
            }
        }
    }
    for (name, text) in &inputs.env_vars {
        // Unknown names are none of our business: the environment is shared.
        if let Some(variable) = declared.get(name) {
            let place = || {
                let left = format!("BAKE_VAR_{name}=");
                (
                    Source::new(Path::new("<environment>"), &format!("{left}{text}")),
                    left.len()..left.len() + text.len(),
                )
            };
            take(name, from_text(name, variable, text), &place, mistakes);
        }
    }
    for (path, text) in &inputs.vars_files {
        let file = Source::new(path, text);
        let Some(table) = syntax::parse(&file, mistakes) else { continue };
        for (key, node) in table.get_ref() {
            let name: &str = key.get_ref();
            // Unknown names are fine: such files are shared between recipes.
            if let Some(variable) = declared.get(name) {
                let place = || (Source::new(path, text), string_inside(&file, node));
                take(name, from_toml(name, variable, node.get_ref()), &place, mistakes);
            }
        }
    }
    for (name, text) in &inputs.vars {
        let place = |part: usize| {
            (Source::new(Path::new("<command line>"), &format!("--var {name}={text}")), part)
        };
        match declared.get(name) {
            Some(variable) => {
                let at = || {
                    let (source, start) = place("--var ".len() + name.len() + 1);
                    (source, start..start + text.len())
                };
                take(name, from_text(name, variable, text), &at, mistakes);
            }
            None => {
                let (source, start) = place("--var ".len());
                let mistake = if of_matrix(name) {
                    Mistake::new(format!("variable `{name}` has its values from the matrix"))
                        .help(format!("to have one of its variants use `--variant {name}={text}`"))
                } else {
                    unknown_var(name, declared.keys().map(String::as_str))
                };
                mistakes.add(&source, start..start + name.len(), mistake);
            }
        }
    }

    let mut values = BTreeMap::new();
    for (name, variable) in declared {
        match given.remove(&name).or(variable.default.clone()) {
            Some(value) => drop(values.insert(name, value)),
            None if broken.contains(&name) => {}
            None => {
                let mistake = Mistake::new(format!("variable `{name}` has no value"))
                    .label("required: no default");
                let mut help =
                    format!("set it with `--var {name}=…`, a vars file or `BAKE_VAR_{name}`");
                help += &variable.help(&name);
                let source = match &of_all {
                    Some((shared, _)) if variable.shared => shared,
                    _ => source,
                };
                mistakes.add(source, variable.key, mistake.help(help));
                broken.insert(name);
            }
        }
    }
    Resolved { values, broken }
}

/// Reads what `[vars]` declares.
pub(super) fn declare_all(
    source: &Source,
    node: Declarations<'_>,
    mistakes: &mut Mistakes,
) -> BTreeMap<String, Variable> {
    let mut declared = BTreeMap::new();
    match node.map(|(key, node)| (key, node.get_ref())) {
        None => {}
        Some((_, DeValue::Table(table))) => {
            for (key, node) in table {
                if let Some(variable) = declare(source, key.get_ref(), key.span(), node, mistakes) {
                    declared.insert(key.get_ref().to_string(), variable);
                }
            }
        }
        Some((key, other)) => mistakes.add(source, key, wrong_type("vars", "a table", other)),
    }
    declared
}

fn declare(
    source: &Source,
    name: &str,
    key: Range<usize>,
    node: &Node<'_>,
    mistakes: &mut Mistakes,
) -> Option<Variable> {
    if let Err(mistake) = variable_name(name) {
        mistakes.add(source, key, mistake);
        return None;
    }
    let mut variable = Variable {
        key,
        kind: None,
        default: None,
        values: vec![],
        help: None,
        broken: false,
        shared: false,
    };
    match node.get_ref() {
        DeValue::Table(table) => long_form(source, name, &mut variable, table, mistakes),
        value => {
            match scalar(value).map_err(|()| wrong_default(source, name, node)).and_then(literal) {
                Ok(value) => {
                    variable.kind = Some(kind(&value));
                    variable.default = Some(value);
                }
                Err(mistake) => {
                    mistakes.add(source, string_inside(source, node), mistake);
                    variable.broken = true;
                }
            }
        }
    }
    Some(variable)
}

/// `{ default = …, values = […], help = "…" }`.
fn long_form(
    source: &Source,
    name: &str,
    variable: &mut Variable,
    table: &DeTable<'_>,
    mistakes: &mut Mistakes,
) {
    let mut fail = |variable: &mut Variable, span, mistake| {
        mistakes.add(source, span, mistake);
        variable.broken = true;
    };
    for (key, node) in table {
        let key_name: &str = key.get_ref();
        match (key_name, node.get_ref()) {
            ("default", value) => match scalar(value)
                .map_err(|()| wrong_default(source, name, node))
                .and_then(literal)
            {
                Ok(value) => variable.default = Some(value),
                Err(mistake) => fail(variable, string_inside(source, node), mistake),
            },
            ("values", DeValue::Array(list)) => {
                for entry in list {
                    match scalar(entry.get_ref())
                        .map_err(|()| wrong_default(source, name, entry))
                        .and_then(literal)
                    {
                        Ok(value)
                            if variable
                                .values
                                .first()
                                .is_none_or(|first| kind(first) == kind(&value)) =>
                        {
                            variable.values.push(value)
                        }
                        Ok(_) => fail(
                            variable,
                            entry.span(),
                            Mistake::new("values of different types").label(format!(
                                "the first is {}",
                                kind_name(kind(&variable.values[0]))
                            )),
                        ),
                        Err(mistake) => fail(variable, string_inside(source, entry), mistake),
                    }
                }
                if list.is_empty() {
                    fail(
                        variable,
                        node.span(),
                        Mistake::new(format!("variable `{name}` can have no value at all"))
                            .label("an empty set")
                            .help("leave `values` out to allow everything"),
                    );
                }
            }
            ("values", other) => fail(variable, node.span(), wrong_type("values", "a list", other)),
            ("help", DeValue::String(text)) => variable.help = Some(text.to_string()),
            ("help", other) => fail(variable, node.span(), wrong_type("help", "a string", other)),
            _ => {
                let mistake =
                    unknown_key(key_name, "a variable", keys::VAR.keys.iter().map(|k| k.name));
                fail(variable, key.span(), mistake);
            }
        }
    }
    variable.kind = variable.default.as_ref().or(variable.values.first()).map(kind);
    if let Some(default) = &variable.default
        && let Some(node) = table.get("default")
        && !variable.broken
        && let Err(mistake) = allowed(name, variable, default.clone())
    {
        fail(variable, string_inside(source, node), mistake);
    }
}

/// Variables are plain: what would `{{ }}` in one see of the others?
pub(crate) fn literal(value: Value) -> Result<Value, Mistake> {
    match &value {
        Value::Text(text) if text.contains("{{") => {
            Err(Mistake::new("a variable cannot use other variables")
                .label("`{{ }}` is not replaced here")
                .help("put the parts together where they are used"))
        }
        _ => Ok(value),
    }
}

pub(crate) fn wrong_default(source: &Source, name: &str, node: &Node<'_>) -> Mistake {
    let mistake = Mistake::new(format!(
        "expected a string, an integer or a boolean for variable `{name}`, found {}",
        type_name(node.get_ref())
    ));
    match node.get_ref() {
        DeValue::Float(_) | DeValue::Datetime(_) => {
            mistake.help(format!("write it in quotes: \"{}\"", source.slice(&node.span())))
        }
        _ => mistake,
    }
}

pub(crate) fn scalar(value: &DeValue<'_>) -> Result<Value, ()> {
    match value {
        DeValue::String(text) => Ok(Value::Text(text.to_string())),
        DeValue::Boolean(yes) => Ok(Value::Boolean(*yes)),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map(Value::Integer).map_err(|_| ())
        }
        _ => Err(()),
    }
}

pub(crate) fn kind(value: &Value) -> Kind {
    match value {
        Value::Text(_) => Kind::Text,
        Value::Integer(_) => Kind::Integer,
        Value::Boolean(_) => Kind::Boolean,
    }
}

pub(crate) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "a string",
        Kind::Integer => "an integer",
        Kind::Boolean => "a boolean",
    }
}

fn show_all(values: &[Value]) -> Vec<String> {
    values.iter().map(Value::to_string).collect()
}

/// Takes a value from the command line or the environment.
pub(super) fn from_text(name: &str, variable: &Variable, text: &str) -> Result<Value, Mistake> {
    let value = match variable.kind {
        Some(Kind::Boolean) => text.parse().ok().map(Value::Boolean),
        Some(Kind::Integer) => text.parse().ok().map(Value::Integer),
        Some(Kind::Text) | None => Some(Value::Text(text.to_owned())),
    };
    match value {
        Some(value) => allowed(name, variable, value),
        None => {
            let wanted = variable.kind.map_or("a value", kind_name);
            let mistake = Mistake::new(format!("{} is not {wanted}", quote(text)))
                .label(format!("`{name}` is {wanted}, as its default is"));
            Err(if variable.kind == Some(Kind::Boolean) {
                mistake.help("it is `true` or `false`")
            } else {
                mistake
            })
        }
    }
}

/// Takes a value from a vars file.
fn from_toml(name: &str, variable: &Variable, found: &DeValue<'_>) -> Result<Value, Mistake> {
    let wanted = variable.kind.map_or("a string, an integer or a boolean", kind_name);
    match scalar(found) {
        Ok(value) if variable.kind.is_none_or(|k| k == kind(&value)) => {
            allowed(name, variable, value)
        }
        _ => Err(Mistake::new(format!(
            "expected {wanted} for variable `{name}`, found {}",
            type_name(found)
        ))
        .label(format!("expected {wanted}"))
        .help("the default in the recipe's `[vars]` fixes the type")),
    }
}

/// Holds a value against the closed set.
pub(super) fn allowed(name: &str, variable: &Variable, value: Value) -> Result<Value, Mistake> {
    if variable.values.is_empty() || variable.values.contains(&value) {
        return Ok(value);
    }
    let all = show_all(&variable.values);
    let names = || all.iter().map(String::as_str);
    let mut help = format!("it is one of {}", either(names()));
    if let Some(text) = &variable.help {
        help += &format!(" ({name}: {text})");
    }
    let text = value.to_string();
    Err(Mistake::new(format!("{} is not a value of `{name}`", quote(&text)))
        .suggest(&text, names())
        .help(help))
}
