//! Reads `[matrix]`: which variants a recipe has.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::node::{Node, string_inside, wrong_type};
use super::table::entry;
use crate::recipe::value::Value;
use crate::recipe::variant::Variant;
use crate::recipe::vars::{Kind, kind, kind_name, literal, scalar, variable_name, wrong_default};
use crate::schema::{Mistake, Mistakes, Source, quote};

/// Names the combinations that are left out.
pub(crate) const EXCLUDE: &str = "exclude";

/// Most variants of a recipe.
const MOST: usize = 256;

/// What `[matrix]` says.
#[derive(Debug, Default)]
pub(super) struct Matrix {
    /// The values of each variable, in the order written, and where it stands.
    axes: Vec<Axis>,
    exclude: Vec<BTreeMap<String, Value>>,
}

#[derive(Debug)]
struct Axis {
    name: String,
    key: Range<usize>,
    values: Vec<Value>,
}

impl Matrix {
    /// Reads it; what is wrong is reported and left out.
    pub(super) fn read(source: &Source, table: &DeTable<'_>, mistakes: &mut Mistakes) -> Self {
        let mut matrix = Self::default();
        let Some((key, node)) = entry(table, "matrix") else { return matrix };
        let DeValue::Table(entries) = node.get_ref() else {
            mistakes.add(source, key, wrong_type("matrix", "a table", node.get_ref()));
            return matrix;
        };
        let in_order = || {
            let mut all: Vec<_> = entries.iter().collect();
            all.sort_by_key(|(key, _)| key.span().start);
            all.into_iter()
        };
        for (key, node) in in_order().filter(|(key, _)| key.get_ref() != EXCLUDE) {
            let name: &str = key.get_ref();
            if let Err(mistake) = variable_name(name) {
                mistakes.add(source, key.span(), mistake);
                continue;
            }
            let values = values(source, name, node, mistakes);
            matrix.axes.push(Axis { name: name.to_owned(), key: key.span(), values });
        }
        if matrix.axes.is_empty() {
            let help = "name a variable and its values, such as `php = [\"8.2\", \"8.4\"]`";
            mistakes.add(source, key, Mistake::new("a matrix without a variable").help(help));
            return matrix;
        }
        for (_, node) in in_order().filter(|(key, _)| key.get_ref() == EXCLUDE) {
            matrix.read_exclude(source, node, mistakes);
        }
        let count = matrix.axes.iter().try_fold(1_usize, |all, axis| {
            all.checked_mul(axis.values.len().max(1)).filter(|count| *count <= MOST)
        });
        if count.is_none() {
            let message = format!("a matrix of more than {MOST} variants");
            mistakes.add(source, key, Mistake::new(message));
            matrix.axes.iter_mut().for_each(|axis| axis.values.truncate(1));
        } else if matrix.variants().is_empty() {
            let help = "leave one of them in";
            let mistake = Mistake::new("`exclude` leaves no variant of the matrix").help(help);
            mistakes.add(source, key, mistake);
        }
        matrix
    }

    fn read_exclude(&mut self, source: &Source, node: &Node<'_>, mistakes: &mut Mistakes) {
        let DeValue::Array(list) = node.get_ref() else {
            let mistake = wrong_type(EXCLUDE, "a list of tables", node.get_ref());
            mistakes.add(source, node.span(), mistake);
            return;
        };
        for one in list {
            let DeValue::Table(entries) = one.get_ref() else {
                let mistake = wrong_type(EXCLUDE, "a list of tables", one.get_ref());
                mistakes.add(source, one.span(), mistake);
                continue;
            };
            let mut left_out = BTreeMap::new();
            for (key, node) in entries {
                let name: &str = key.get_ref();
                let Some(axis) = self.axes.iter().find(|axis| axis.name == name) else {
                    let names = self.axes.iter().map(|axis| axis.name.as_str());
                    let mistake = Mistake::new(format!("the matrix has no {}", quote(name)));
                    mistakes.add(source, key.span(), mistake.suggest(name, names));
                    continue;
                };
                match scalar(node.get_ref()) {
                    Ok(value) if axis.values.contains(&value) => {
                        left_out.insert(name.to_owned(), value);
                    }
                    _ => {
                        let message = format!("the matrix has no such value of `{name}`");
                        mistakes.add(source, node.span(), Mistake::new(message));
                    }
                }
            }
            if entries.is_empty() {
                let mistake = Mistake::new("an entry of `exclude` that names no value");
                mistakes.add(source, one.span(), mistake);
            } else if left_out.len() == entries.len() {
                self.exclude.push(left_out);
            }
        }
    }

    /// Returns all variants: the first variable changes slowest.
    pub(super) fn variants(&self) -> Vec<Variant> {
        let mut all = vec![Variant::default()];
        for axis in self.axes.iter().filter(|axis| !axis.values.is_empty()) {
            let with = |one: &Variant, value: &Value| {
                let mut values = one.0.clone();
                values.insert(axis.name.clone(), value.clone());
                Variant(values)
            };
            all = all
                .iter()
                .flat_map(|one| axis.values.iter().map(move |value| with(one, value)))
                .collect();
        }
        all.retain(|one| {
            let is = |(name, value): (&String, &Value)| one.get(name) == Some(value);
            !self.exclude.iter().any(|left_out| left_out.iter().all(is))
        });
        all
    }

    /// Gives the variables of the matrix the values of `variant`, of which the empty one stands for
    /// the first; reports those that `[vars]` has as well.
    pub(super) fn give(
        &self,
        variant: &Variant,
        values: &mut BTreeMap<String, Value>,
        (source, mistakes): (&Source, &mut Mistakes),
        declared: &dyn Fn(&str) -> bool,
    ) {
        let first = self.variants().into_iter().next().unwrap_or_default();
        for Axis { name, key, values: all } in &self.axes {
            if declared(name) {
                let mistake = Mistake::new(format!("variable `{name}` is in `[vars]` as well"))
                    .help("leave one of them out: the matrix has all its values");
                mistakes.add(source, key.clone(), mistake);
            }
            let value = variant.get(name).or(first.get(name)).or(all.first());
            // Of a list that is wrong nothing is known; that is reported.
            values.insert(name.clone(), value.cloned().unwrap_or(Value::Text(String::new())));
        }
    }

    /// Whether it has a variable of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.axes.iter().any(|axis| axis.name == name)
    }
}

fn values(source: &Source, name: &str, node: &Node<'_>, mistakes: &mut Mistakes) -> Vec<Value> {
    let DeValue::Array(list) = node.get_ref() else {
        let help = format!("write `{name} = [\"…\", \"…\"]`: a variant for each value");
        let mistake = wrong_type(name, "a list of values", node.get_ref()).help(help);
        mistakes.add(source, node.span(), mistake);
        return vec![];
    };
    let mut all: Vec<Value> = vec![];
    let mut first: Option<Kind> = None;
    for one in list {
        let value = scalar(one.get_ref()).map_err(|()| wrong_default(source, name, one));
        match value.and_then(literal) {
            Ok(value) if all.contains(&value) => {
                let message = format!("the value {} twice", quote(&value.to_string()));
                mistakes.add(source, one.span(), Mistake::new(message));
            }
            Ok(value) if first.is_some_and(|first| first != kind(&value)) => {
                let first = first.map(kind_name).unwrap_or_default();
                let mistake = Mistake::new("values of different types");
                mistakes.add(source, one.span(), mistake.label(format!("the first is {first}")));
            }
            Ok(value) => {
                first = Some(kind(&value));
                all.push(value);
            }
            Err(mistake) => mistakes.add(source, string_inside(source, one), mistake),
        }
    }
    if list.is_empty() {
        let message = format!("the matrix has no value of `{name}`");
        mistakes.add(source, node.span(), Mistake::new(message).label("an empty list"));
    }
    all
}
