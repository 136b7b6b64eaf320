//! What a template declares: variables, locals, what it builds from, and how.

use super::eval::{Declared, Scope};
use super::go;
use super::node::{Block, Kind, Node, Piece};
use crate::convert::fault::{Fault, Remark};

/// Something that can be built: a source, with what a build says of it.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) block: Block,
    /// Which build it is of.
    pub(super) build: Option<usize>,
}

impl Candidate {
    /// Whether a name in `only`, `except` or `--target` means it.
    pub(super) fn is(&self, name: &str) -> bool {
        let name = name.strip_prefix("source.").unwrap_or(name);
        name == self.name || name == format!("{}.{}", self.kind, self.name)
    }
}

/// A template.
#[derive(Debug, Default)]
pub(super) struct Template {
    pub(super) scope: Scope,
    pub(super) candidates: Vec<Candidate>,
    pub(super) builds: Vec<Block>,
    pub(super) comments: Vec<String>,
}

/// Sorts the blocks of a template.
///
/// # Errors
/// Builds of sources that are not there, or nothing to build.
pub(super) fn template(root: Block, remarks: &mut Vec<Remark>) -> Result<Template, Vec<Fault>> {
    let mut found = Template { comments: root.comments, ..Template::default() };
    let (mut sources, mut faults): (Vec<Block>, Vec<Fault>) = (vec![], vec![]);
    let mut remark = |line, topic, message: String, harmless| {
        remarks.push(Remark { line, topic, message, harmless });
    };
    for entry in &root.entries {
        faults.push(Fault::new(entry.line, format!("unknown key `{}`", entry.name)));
    }
    for block in root.blocks {
        let line = block.line;
        match block.kind.as_str() {
            "source" => sources.push(block),
            "build" => found.builds.push(block),
            "variable" => {
                if block.blocks.iter().any(|inner| inner.kind == "validation") {
                    let message = format!(
                        "what `{}` may be is not checked: a recipe has `values` for a closed set",
                        block.label(0)
                    );
                    remark(line, "validation", message, false);
                }
                found.scope.variables.push(declared(block));
            }
            // The old form: names and their defaults.
            "variables" => {
                for entry in block.entries {
                    found.scope.variables.push(Declared {
                        line: entry.line,
                        name: entry.name,
                        default: Some(entry.value),
                        sensitive: false,
                        comments: vec![],
                    });
                }
            }
            "locals" => {
                let all = block.entries.into_iter().map(|one| (one.name, one.value, false));
                found.scope.locals.extend(all);
            }
            "local" => {
                let name = block.label(0).to_owned();
                let sensitive = is_true(block.get("sensitive"));
                if let Some(value) = block.get("expression") {
                    found.scope.locals.push((name, value.clone(), sensitive));
                }
            }
            "packer" => remark(
                line,
                "packer",
                "which Packer and plugins are needed is left out: a recipe needs bake alone"
                    .to_owned(),
                true,
            ),
            // What uses it is reported where it does.
            "data" => {}
            kind => {
                let message = format!("unknown block `{kind}`");
                faults.push(Fault::new(line, message));
            }
        }
    }
    for (at, build) in found.builds.iter().enumerate() {
        for (name, line) in built(build) {
            match source(&sources, &name) {
                Some(source) => found.candidates.push(candidate(source.clone(), Some(at))),
                None => faults.push(no_source(&name, line)),
            }
        }
        for inner in build.all("source") {
            let name = inner.labels.join(".");
            let Some(mut merged) = source(&sources, &name).cloned() else {
                faults.push(no_source(&name, inner.line));
                continue;
            };
            for entry in &inner.entries {
                match entry.name.as_str() {
                    "name" => {
                        if let Some(name) = entry.value.as_plain() {
                            merged.labels[1] = name;
                        }
                    }
                    name => merged.set(name, entry.value.clone()),
                }
            }
            merged.line = inner.line;
            found.candidates.push(candidate(merged, Some(at)));
        }
    }
    if found.candidates.is_empty() && faults.is_empty() {
        found.candidates = sources.into_iter().map(|one| candidate(one, None)).collect();
        if found.candidates.is_empty() {
            let fault = Fault::new(1, "there is nothing to build: no source, no builder");
            faults.push(fault.help("--from takes one file; a template may be spread over several"));
        }
    }
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

fn no_source(name: &str, line: u32) -> Fault {
    let fault = Fault::new(line, format!("there is no source `{name}` in this file"));
    fault.help("--from takes one file; put the template's blocks into one")
}

fn candidate(block: Block, build: Option<usize>) -> Candidate {
    let (kind, name) = (block.label(0).to_owned(), block.label(1).to_owned());
    Candidate { kind, name, block, build }
}

/// Returns the names in `sources` of a build.
fn built(build: &Block) -> Vec<(String, u32)> {
    let Some(Node { kind: Kind::List(all), .. }) = build.get("sources") else { return vec![] };
    let name = |node: &Node| match &node.kind {
        Kind::Path(words) => Some((words.join("."), node.line)),
        _ => node.as_plain().map(|text| (text, node.line)),
    };
    all.iter().filter_map(name).collect()
}

fn source<'s>(sources: &'s [Block], name: &str) -> Option<&'s Block> {
    let name = name.strip_prefix("source.").unwrap_or(name);
    sources
        .iter()
        .find(|one| one.labels.len() == 2 && name == format!("{}.{}", one.label(0), one.label(1)))
}

fn declared(block: Block) -> Declared {
    let default = block.get("default").cloned();
    let mut comments = block.comments.clone();
    comments.extend(block.get("description").and_then(Node::as_plain).map(one_line));
    Declared {
        line: block.line,
        name: block.label(0).to_owned(),
        // `null` is what a variable is that nobody needs.
        default: default.map(|node| match node.kind {
            Kind::Null => Node::plain(node.line, ""),
            _ => node,
        }),
        sensitive: is_true(block.get("sensitive")),
        comments,
    }
}

fn one_line(text: String) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a key is `true`.
pub(super) fn is_true(node: Option<&Node>) -> bool {
    let Some(node) = node else { return false };
    node.kind == Kind::Bool(true) || node.as_plain().as_deref() == Some("true")
}

/// Returns the names of a list.
pub(super) fn names(node: Option<&Node>) -> Vec<String> {
    match node.map(|node| &node.kind) {
        Some(Kind::List(all)) => all.iter().filter_map(Node::as_plain).collect(),
        _ => vec![],
    }
}

/// Whether a provisioner or post-processor is one of a candidate: by `only` and `except`.
pub(super) fn applies(block: &Block, candidate: &Candidate) -> bool {
    let only = names(block.get("only"));
    let except = names(block.get("except"));
    (only.is_empty() || only.iter().any(|name| candidate.is(name)))
        && !except.iter().any(|name| candidate.is(name))
}

/// Returns a block with what `override` says of a candidate.
pub(super) fn overridden(block: &Block, candidate: &Candidate) -> Block {
    let mut made = block.clone();
    if let Some(Kind::Object(all)) = block.get("override").map(|node| &node.kind) {
        for (_, own) in all.iter().filter(|(name, _)| candidate.is(name)) {
            if let Kind::Object(entries) = &own.kind {
                entries.iter().for_each(|(name, value)| made.set(name, value.clone()));
            }
        }
    }
    made.entries.retain(|entry| !["override", "only", "except"].contains(&entry.name.as_str()));
    made
}

/// Returns a block in few words, for a comment.
pub(super) fn shown(block: &Block) -> Vec<String> {
    let title: Vec<&str> = std::iter::once(block.kind.as_str())
        .chain(block.labels.iter().map(String::as_str))
        .collect();
    let mut out = vec![title.join(" ")];
    for entry in block.entries.iter().take(20) {
        out.push(format!("    {} = {}", entry.name, written(&entry.value, 0)));
    }
    out
}

fn written(node: &Node, depth: usize) -> String {
    if depth > 3 {
        return "…".to_owned();
    }
    let text = match &node.kind {
        Kind::Null => "null".to_owned(),
        Kind::Bool(value) => value.to_string(),
        Kind::Number(number) => number.clone(),
        Kind::Text(pieces) => {
            let one = |piece: &Piece| match piece {
                Piece::Plain(text) => text.escape_debug().to_string(),
                Piece::Expression(node) => format!("${{{}}}", written(node, depth + 1)),
            };
            format!("\"{}\"", pieces.iter().map(one).collect::<String>())
        }
        Kind::List(all) => {
            let all: Vec<String> = all.iter().take(20).map(|one| written(one, depth + 1)).collect();
            format!("[{}]", all.join(", "))
        }
        Kind::Object(all) => {
            let one =
                |(name, node): &(String, Node)| format!("{name} = {}", written(node, depth + 1));
            format!("{{ {} }}", all.iter().take(20).map(one).collect::<Vec<_>>().join(", "))
        }
        Kind::Path(words) => words.join("."),
        Kind::Call(name, all) => {
            let all: Vec<String> = all.iter().map(|one| written(one, depth + 1)).collect();
            format!("{name}({})", all.join(", "))
        }
        Kind::Other(text) => super::value::short(text),
        _ => "…".to_owned(),
    };
    match text.char_indices().nth(400) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// Returns a text as it is written, expressions of Go's templates included.
pub(super) fn raw(node: &Node) -> Option<String> {
    let text = node.as_plain()?;
    let mut out = String::new();
    for piece in go::split(&text, node.line) {
        match piece {
            Piece::Plain(text) => out.push_str(&text),
            Piece::Expression(Node { kind: Kind::Other(text), .. }) => out.push_str(&text),
            Piece::Expression(_) => return None,
        }
    }
    Some(out)
}
