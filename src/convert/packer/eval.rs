//! What expressions come out as: constants, texts with variables of the recipe, or what only Packer
//! can know.

use std::collections::{BTreeMap, BTreeSet};

use super::functions::call;
use super::go;
use super::node::{Block, Kind, Node, Piece};
use super::value::{Value, Why, element, gather, secret_name, short, tidy, weight};
use crate::convert::arguments::Arguments;
use crate::convert::fault::Remark;
use crate::convert::text::Text;

/// How long a text may become.
const LONGEST: usize = 1 << 20;

/// How much all values together may be.
const MOST: usize = 1 << 26;

/// How deep expressions may be nested, those that they name included.
const DEPTH: usize = 100;

/// What something is, or why that is not known, and the secrets that it uses.
type Evaluated = (Result<Value, Why>, BTreeSet<String>);

/// A variable of the template.
#[derive(Debug, Clone)]
pub(super) struct Declared {
    pub(super) line: u32,
    pub(super) name: String,
    pub(super) default: Option<Node>,
    pub(super) sensitive: bool,
    pub(super) comments: Vec<String>,
}

/// What expressions may name.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) variables: Vec<Declared>,
    pub(super) locals: Vec<(String, Node, bool)>,
    /// Name and type of what is built.
    pub(super) source: (String, String),
    /// Way from the context to the template's directory.
    pub(super) root: String,
    /// Text of a shell is being made: a secret is a variable of its environment.
    pub(super) in_shell: bool,
    /// Secrets that were used since somebody asked.
    pub(super) used: BTreeSet<String>,
    pub(super) arguments: Arguments,
    pub(super) remarks: Vec<Remark>,
    /// Locals that are being read, to find circles.
    active: Vec<String>,
    /// By name, and by whether it is for a shell.
    known: BTreeMap<(String, bool), Evaluated>,
    /// How much was put together so far.
    spent: usize,
    depth: usize,
    reported: BTreeSet<String>,
}

impl Scope {
    /// Returns all texts in a block, as far as they are known; nothing of that is reported.
    pub(super) fn look(&mut self, block: &Block) -> Vec<String> {
        let mut found = vec![];
        for entry in &block.entries {
            if let Ok(value) = self.value(&entry.value) {
                gather(&value, &mut found);
            }
        }
        for inner in &block.blocks {
            found.append(&mut self.look(inner));
        }
        self.remarks.clear();
        self.reported.clear();
        self.known.clear();
        self.arguments = Arguments::default();
        found
    }

    /// Returns an expression as a text.
    pub(super) fn text(&mut self, node: &Node) -> Result<Text, Why> {
        self.value(node)?.text()
    }

    /// Returns the texts of a list; a lone text is a list of one.
    pub(super) fn texts(&mut self, node: &Node) -> Result<Vec<Text>, Why> {
        match self.value(node)? {
            Value::List(all) => all.into_iter().map(Value::text).collect(),
            Value::Null => Ok(vec![]),
            one => Ok(vec![one.text()?]),
        }
    }

    /// Returns what an expression comes out as.
    pub(super) fn value(&mut self, node: &Node) -> Result<Value, Why> {
        if self.depth >= DEPTH {
            return Err(Why::Left("its values are nested too deep".to_owned()));
        }
        self.depth += 1;
        let value = self.evaluated(node);
        self.depth -= 1;
        value
    }

    fn evaluated(&mut self, node: &Node) -> Result<Value, Why> {
        match &node.kind {
            Kind::Null => Ok(Value::Null),
            Kind::Bool(value) => Ok(Value::plain(value.to_string())),
            Kind::Number(number) => Ok(Value::plain(number.clone())),
            Kind::Text(pieces) => self.pieces(node.line, pieces),
            Kind::List(nodes) => {
                nodes.iter().map(|one| self.value(one)).collect::<Result<_, _>>().map(Value::List)
            }
            Kind::Object(entries) => {
                let one = |(name, node): &(String, Node)| Ok((name.clone(), self.value(node)?));
                entries.iter().map(one).collect::<Result<_, _>>().map(Value::Map)
            }
            Kind::Path(words) => self.path(node.line, words),
            Kind::Call(name, arguments) => self.call(name, arguments),
            Kind::If(all) => {
                let condition = self.text(&all[0])?;
                if condition.is_plain() {
                    return self.value(if condition.value() == "true" { &all[1] } else { &all[2] });
                }
                let (yes, no) = (self.text(&all[1])?, self.text(&all[2])?);
                let value = if condition.value() == "true" { yes.value() } else { no.value() };
                let (yes, no) = (yes.expression(), no.expression());
                let test = condition.expression();
                let expression = format!("({yes} if {test} == 'true' else {no})");
                Ok(Value::Text(Text::variable(expression, value)))
            }
            Kind::Same(both, same) => {
                let (one, other) = (self.text(&both[0])?, self.text(&both[1])?);
                let holds = (one.value() == other.value()) == *same;
                if one.is_plain() && other.is_plain() {
                    return Ok(Value::plain(holds.to_string()));
                }
                let sign = if *same { "==" } else { "!=" };
                let test = format!("{} {sign} {}", one.expression(), other.expression());
                let expression = format!("('true' if {test} else 'false')");
                Ok(Value::Text(Text::variable(expression, holds.to_string())))
            }
            Kind::Not(inner) => {
                let inner = self.text(inner)?;
                let value = (inner.value() != "true").to_string();
                if inner.is_plain() {
                    return Ok(Value::plain(value));
                }
                let expression =
                    format!("('false' if {} == 'true' else 'true')", inner.expression());
                Ok(Value::Text(Text::variable(expression, value)))
            }
            Kind::Element(both) => {
                let (all, at) = (self.value(&both[0])?, self.text(&both[1])?);
                element(all, &at.value())
            }
            Kind::Other(text) => Err(Why::Open(tidy(text), format!("`{}`", short(text)))),
        }
    }

    fn pieces(&mut self, line: u32, pieces: &[Piece]) -> Result<Value, Why> {
        // A lone expression keeps what it is.
        if let [Piece::Expression(only)] = pieces {
            return match self.value(only) {
                Err(Why::Open(name, what)) => Ok(Value::Text(self.open(line, &name, &what))),
                other => other,
            };
        }
        let mut out = Text::default();
        for piece in pieces {
            match piece {
                Piece::Plain(text) if text.contains("{{") => {
                    for inner in go::split(text, line) {
                        match inner {
                            Piece::Plain(text) => out.push_plain(&text),
                            Piece::Expression(node) => out.push(&self.piece(line, &node)?),
                        }
                    }
                }
                Piece::Plain(text) => out.push_plain(text),
                Piece::Expression(node) => out.push(&self.piece(line, node)?),
            }
            if out.value().len() > LONGEST {
                return Err(Why::Left("the text is longer than 1 MiB".to_owned()));
            }
        }
        Ok(Value::Text(out))
    }

    fn piece(&mut self, line: u32, node: &Node) -> Result<Text, Why> {
        match self.text(node) {
            Err(Why::Open(name, what)) => Ok(self.open(line, &name, &what)),
            other => other,
        }
    }

    /// A variable of the recipe for what only Packer knows.
    fn open(&mut self, line: u32, name: &str, what: &str) -> Text {
        if self.reported.insert(name.to_owned()) {
            let message = format!(
                "{what} is not known to a recipe: it is the variable `{name}`, empty until you \
                    change it"
            );
            self.remarks.push(Remark { line, topic: "unknown", message, harmless: false });
        }
        self.arguments.declare(name, &Text::default(), &[format!("In the template {what}.")])
    }

    fn path(&mut self, line: u32, words: &[String]) -> Result<Value, Why> {
        let all: Vec<&str> = words.iter().map(String::as_str).collect();
        let (head, rest) = match all.as_slice() {
            [kind @ ("var" | "local"), name, rest @ ..] => (self.named(line, kind, name)?, rest),
            ["source" | "build", "name"] => (Value::plain(self.source.0.clone()), &[][..]),
            ["source", "type"] => (Value::plain(self.source.1.clone()), &[][..]),
            ["path", "root"] => (Value::plain(self.root.clone()), &[][..]),
            ["path", "cwd"] => (Value::plain("."), &[][..]),
            _ => {
                let text = words.join(".");
                return Err(Why::Open(tidy(&text), format!("`{text}`")));
            }
        };
        rest.iter().try_fold(head, |all, name| element(all, name))
    }

    /// Returns what a variable or a local stands for; each is read once, as others may name it
    /// many times.
    fn named(&mut self, line: u32, kind: &str, name: &str) -> Result<Value, Why> {
        let key = (format!("{kind}.{name}"), self.in_shell);
        if !self.known.contains_key(&key) {
            if self.active.contains(&key.0) {
                return Err(Why::Left(format!("`{name}` is made of itself")));
            }
            let before = std::mem::take(&mut self.used);
            self.active.push(key.0.clone());
            let value = match kind {
                "var" => self.variable(line, name),
                _ => self.local(name),
            };
            self.active.pop();
            let used = std::mem::replace(&mut self.used, before);
            self.known.insert(key.clone(), (value, used));
        }
        let (value, used) = &self.known[&key];
        self.used.extend(used.iter().cloned());
        self.spent = self.spent.saturating_add(value.as_ref().map_or(1, weight));
        if self.spent > MOST {
            return Err(Why::Left("its values are too large".to_owned()));
        }
        value.clone()
    }

    fn variable(&mut self, line: u32, name: &str) -> Result<Value, Why> {
        let Some(found) = self.variables.iter().find(|one| one.name == name).cloned() else {
            return Err(Why::Open(
                tidy(name),
                format!("the variable `{name}`, which the template does not declare,"),
            ));
        };
        if found.sensitive {
            return self.hidden(name);
        }
        let default = match &found.default {
            None => {
                let text = self.arguments.declare(&tidy(name), &Text::default(), &found.comments);
                let called = text.expression();
                let mut all = self.arguments.variables.iter_mut();
                if let Some(one) = all.find(|one| one.name == called) {
                    one.value = None;
                }
                return Ok(Value::Text(text));
            }
            Some(default) => default,
        };
        let of_environment = match &default.kind {
            Kind::Call(name, _) => name == "env",
            Kind::Text(pieces) => matches!(pieces.as_slice(),
                [Piece::Plain(text)] if text.contains("{{") && text.contains("env ")),
            _ => false,
        };
        let value = if of_environment { Ok(Value::plain("")) } else { self.value(default) };
        match value? {
            value @ (Value::List(_) | Value::Map(_)) => {
                if self.reported.insert(format!("var.{name}")) {
                    let message = format!(
                        "`{name}` is a list or an object, which variables of a recipe are not: its \
                            default stands where it is used"
                    );
                    self.remarks.push(Remark { line, topic: "variable", message, harmless: false });
                }
                Ok(value)
            }
            value => {
                let text = value.text()?;
                if of_environment && self.reported.insert(format!("var.{name}")) {
                    let message = format!(
                        "`{name}` comes of the environment: --var {0}=… or BAKE_VAR_{0} gives it",
                        tidy(name)
                    );
                    let line = found.line;
                    self.remarks.push(Remark {
                        line,
                        topic: "environment",
                        message,
                        harmless: true,
                    });
                }
                let value = Text::plain(text.value());
                Ok(Value::Text(self.arguments.declare(&tidy(name), &value, &found.comments)))
            }
        }
    }

    fn hidden(&mut self, name: &str) -> Result<Value, Why> {
        if !self.in_shell {
            return Err(Why::Left(format!(
                "`{name}` is sensitive: a recipe has it as a secret of a step and nowhere else"
            )));
        }
        let name = secret_name(name);
        self.used.insert(name.clone());
        Ok(Value::plain(format!("${{{name}}}")))
    }

    fn local(&mut self, name: &str) -> Result<Value, Why> {
        let Some((_, node, sensitive)) = self.locals.iter().find(|(one, ..)| one == name).cloned()
        else {
            return Err(Why::Open(
                tidy(name),
                format!("the local `{name}`, which the template does not have,"),
            ));
        };
        if sensitive {
            return self.hidden(name);
        }
        self.value(&node)
    }

    fn call(&mut self, name: &str, arguments: &[Node]) -> Result<Value, Why> {
        match (name, arguments) {
            ("env", [only]) => {
                let name = self.text(only)?.value();
                Err(Why::Open(tidy(&name), format!("the environment's `{name}`")))
            }
            ("timestamp" | "isotime" | "uuid" | "packer_version" | "uuidv4" | "formatdate", _) => {
                Err(Why::Open(tidy(name), format!("`{name}`")))
            }
            // The first one that can be had.
            ("try", all) => {
                let mut last = Err(Why::Left("`try` has nothing to try".to_owned()));
                for one in all {
                    last = self.value(one);
                    if last.is_ok() {
                        break;
                    }
                }
                last
            }
            _ => {
                let values: Vec<Value> =
                    arguments.iter().map(|one| self.value(one)).collect::<Result<_, _>>()?;
                let variable =
                    |value: &Value| matches!(value, Value::Text(text) if !text.is_plain());
                let moved = values.iter().any(variable);
                let found = call(name, values)
                    .ok_or_else(|| Why::Open(tidy(name), format!("what `{name}(…)` returns")))?;
                let fixed = matches!(&found, Value::Text(text) if text.is_plain());
                if moved && fixed && self.reported.insert(format!("{name}()")) {
                    let message = format!(
                        "what `{name}(…)` returns follows the defaults of its variables, not \
                            what --var sets"
                    );
                    let line = arguments.first().map_or(1, |one| one.line).max(1);
                    self.remarks.push(Remark { line, topic: "function", message, harmless: false });
                }
                Ok(found)
            }
        }
    }
}
