//! Reads values of any type for a program: what is a number in the recipe is one there.

use serde_json::{Map, Number, Value};
use toml::de::DeValue;

use super::node::{Node, type_name};
use super::reader::Reader;
use crate::schema::Mistake;

impl Reader<'_> {
    /// Reads a value with all that is in it; variables are put into its strings. `None` where
    /// something in it is wrong, which is reported.
    pub(crate) fn data(&mut self, node: &Node<'_>) -> Option<Value> {
        match node.get_ref() {
            DeValue::String(_) => self.filled(node).map(Value::String),
            DeValue::Boolean(yes) => Some(Value::Bool(*yes)),
            DeValue::Integer(number) => {
                let read = i64::from_str_radix(number.as_str(), number.radix());
                self.number(node, read.ok().map(Number::from))
            }
            DeValue::Float(number) => {
                let read = number.as_str().parse().ok().and_then(Number::from_f64);
                self.number(node, read)
            }
            DeValue::Array(list) => {
                // Every mistake is reported, not the first alone.
                let all: Vec<Option<Value>> = list.iter().map(|one| self.data(one)).collect();
                all.into_iter().collect::<Option<Vec<Value>>>().map(Value::Array)
            }
            DeValue::Table(table) => {
                let mut all = Map::new();
                let mut whole = true;
                for (key, node) in table {
                    match self.data(node) {
                        Some(value) => drop(all.insert(key.get_ref().to_string(), value)),
                        None => whole = false,
                    }
                }
                whole.then_some(Value::Object(all))
            }
            other @ DeValue::Datetime(_) => {
                let mistake = Mistake::new(format!("{} cannot be handed on", type_name(other)))
                    .help("write it in quotes");
                self.report(node.span(), mistake);
                None
            }
        }
    }

    fn number(&mut self, node: &Node<'_>, read: Option<Number>) -> Option<Value> {
        if read.is_none() {
            let text = self.source.slice(&node.span()).to_owned();
            let mistake = Mistake::new(format!("{text} is no number that can be handed on"))
                .help("write it in quotes");
            self.report(node.span(), mistake);
        }
        read.map(Value::Number)
    }
}
