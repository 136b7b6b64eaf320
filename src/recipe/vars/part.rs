//! Variables of an included file: what its `[vars]` declares, and what the step that includes it
//! gives. Nothing else does: neither `--var` nor vars files nor the environment reach it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use super::name::BUILT_IN;
use super::resolve::{Resolved, Variable, allowed, declare_all, from_text, kind, kind_name};
use crate::recipe::parse::Node;
use crate::recipe::value::Value;
use crate::schema::{Mistake, Mistakes, Source, quote};

/// A value that an including step gives a variable.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) name: String,
    /// Where the name stands, and where the value.
    pub(crate) key: Range<usize>,
    pub(crate) span: Range<usize>,
    /// None: what is wrong with it has been reported.
    pub(crate) value: Option<Value>,
    /// It came out of `{{ }}`, which makes text of everything.
    pub(crate) filled: bool,
}

/// The step that includes a file.
#[derive(Debug)]
pub(crate) struct Includer<'a> {
    /// The file that it stands in.
    pub(crate) source: &'a Source,
    /// Where in it.
    pub(crate) key: Range<usize>,
    /// What it gives.
    pub(crate) given: Vec<Given>,
}

/// Reads the `[vars]` of an included file (`source`, which people call `file`), and takes values
/// from the step that includes it.
pub(crate) fn resolve_part(
    file: &Path,
    source: &Source,
    node: Option<(Range<usize>, &Node<'_>)>,
    includer: Includer<'_>,
    mistakes: &mut Mistakes,
) -> Resolved {
    let declared = declare_all(source, node, mistakes);
    let mut values = BTreeMap::new();
    let mut broken: BTreeSet<String> =
        declared.iter().filter(|(_, v)| v.broken).map(|(name, _)| name.clone()).collect();
    for Given { name, key, span, value, filled } in includer.given {
        let Some(variable) = declared.get(&name) else {
            let mistake = unknown(file, &name, &declared);
            mistakes.add(includer.source, key, mistake);
            continue;
        };
        match value.map(|value| of_kind(file, &name, variable, value, filled)) {
            Some(Ok(value)) => drop(values.insert(name, value)),
            Some(Err(mistake)) => {
                mistakes.add(includer.source, span, mistake);
                broken.insert(name);
            }
            None => drop(broken.insert(name)),
        }
    }
    for (name, variable) in declared {
        if values.contains_key(&name) || broken.contains(&name) {
            continue;
        }
        if let Some(value) = variable.default {
            values.insert(name, value);
            continue;
        }
        let what = format!("variable `{name}` of {} has no value", file.display());
        let help = format!("give it here: vars.{name} = …{}", variable.help(&name));
        let mistake = Mistake::new(what).label("required: no default").help(help);
        mistakes.add(includer.source, includer.key.clone(), mistake);
        broken.insert(name);
    }
    Resolved { values, broken }
}

/// Holds a value against the type and the closed set of a variable.
fn of_kind(
    file: &Path,
    name: &str,
    variable: &Variable,
    value: Value,
    filled: bool,
) -> Result<Value, Mistake> {
    match (&value, variable.kind) {
        (Value::Text(text), _) if filled => from_text(name, variable, text),
        (_, Some(wanted)) if wanted != kind(&value) => {
            let (wanted, found) = (kind_name(wanted), kind_name(kind(&value)));
            let what = format!("expected {wanted} for variable `{name}`, found {found}");
            let help = format!("its default in {} fixes the type", file.display());
            Err(Mistake::new(what).label(format!("expected {wanted}")).help(help))
        }
        _ => allowed(name, variable, value),
    }
}

fn unknown(file: &Path, name: &str, declared: &BTreeMap<String, Variable>) -> Mistake {
    if BUILT_IN.contains(&name) {
        return Mistake::new(format!("`{name}` is built in and cannot be set"));
    }
    let what = format!("{} has no variable {}", file.display(), quote(name));
    let mistake = Mistake::new(what).suggest(name, declared.keys().map(String::as_str));
    match mistake.has_label() {
        true => mistake,
        false => mistake.label(format!("not in the `[vars]` of {}", file.display())),
    }
}
