//! Templates in JSON: those with `builders`, and HCL2 written as JSON. Both come out as the blocks
//! of HCL2.

use super::json;
use super::node::{Block, Entry, Kind, Node};
use super::{hcl, node};
use crate::convert::fault::Fault;

/// Reads a template in JSON.
///
/// # Errors
/// The first mistake, with its line.
pub(super) fn read(lines: &node::Lines<'_>) -> Result<Block, Fault> {
    let whole = json::read(lines)?;
    let Kind::Object(entries) = &whole.kind else {
        return Err(Fault::new(whole.line, "a template is an object"));
    };
    if entries.iter().any(|(name, _)| name == "builders") {
        return Ok(builders(&whole));
    }
    let mut root = Block { line: 1, ..Block::default() };
    for (name, value) in entries {
        let text = |text: &str, line: u32| hcl::text(text, line);
        let value = json::map(value.clone(), &text);
        match labels(name) {
            Some(count) => nested(&mut root, name, &value, &mut vec![], count),
            None if name.starts_with('_') || name.starts_with("//") => {
                root.comments.extend(value.as_plain());
            }
            None => nested(&mut root, name, &value, &mut vec![], 0),
        }
    }
    Ok(root)
}

/// How many labels a block of a kind has.
fn labels(kind: &str) -> Option<usize> {
    match kind {
        "source" | "data" => Some(2),
        "variable" | "local" | "provisioner" | "error-cleanup-provisioner" | "post-processor" => {
            Some(1)
        }
        "locals" | "variables" | "build" | "packer" | "post-processors" | "hcp_packer_registry" => {
            Some(0)
        }
        _ => None,
    }
}

fn nested(into: &mut Block, kind: &str, value: &Node, above: &mut Vec<String>, count: usize) {
    match &value.kind {
        Kind::List(all) => {
            for one in all {
                nested(into, kind, one, above, count);
            }
        }
        Kind::Object(entries) if count > 0 => {
            for (name, inner) in entries {
                above.push(name.clone());
                nested(into, kind, inner, above, count - 1);
                above.pop();
            }
        }
        Kind::Object(entries) => {
            let mut made = Block {
                line: value.line,
                kind: kind.to_owned(),
                labels: above.clone(),
                ..Block::default()
            };
            for (name, inner) in entries {
                let blocks = kind == "build" || kind == "post-processors";
                match labels(name).filter(|_| blocks) {
                    Some(count) => nested(&mut made, name, inner, &mut vec![], count),
                    None if name.starts_with('_') || name.starts_with("//") => {
                        made.comments.extend(inner.as_plain());
                    }
                    None => made.entries.push(Entry {
                        line: inner.line,
                        name: name.clone(),
                        value: inner.clone(),
                    }),
                }
            }
            into.blocks.push(made);
        }
        _ => {}
    }
}

/// Returns the blocks of a template with `builders`.
fn builders(whole: &Node) -> Block {
    let top = json::block("", whole);
    let mut root = Block { line: 1, comments: top.comments.clone(), ..Block::default() };
    let hidden = top.get("sensitive-variables").map(names).unwrap_or_default();
    if let Some(Kind::Object(entries)) = top.get("variables").map(|node| &node.kind) {
        for (name, value) in entries.iter().filter(|(name, _)| !name.starts_with('_')) {
            let mut made = Block {
                line: value.line,
                kind: "variable".to_owned(),
                labels: vec![name.clone()],
                ..Block::default()
            };
            if value.kind != Kind::Null {
                made.set("default", value.clone());
            }
            if hidden.contains(name) {
                made.set("sensitive", Node::new(value.line, Kind::Bool(true)));
            }
            root.blocks.push(made);
        }
    }
    let mut build = Block { line: whole.line, kind: "build".to_owned(), ..Block::default() };
    let mut sources = vec![];
    for one in items(top.get("builders")) {
        let mut source = json::block("source", one);
        let kind = source.get("type").and_then(Node::as_plain).unwrap_or_default();
        let name = source.get("name").and_then(Node::as_plain).unwrap_or_else(|| kind.clone());
        source.labels = vec![kind.clone(), name.clone()];
        sources.push(Node::plain(one.line, format!("source.{kind}.{name}")));
        root.blocks.push(source);
    }
    build.set("sources", Node::new(whole.line, Kind::List(sources)));
    for one in items(top.get("provisioners")) {
        build.blocks.push(typed("provisioner", one));
    }
    for one in items(top.get("post-processors")) {
        match &one.kind {
            Kind::List(all) => {
                let kind = "post-processors".to_owned();
                let blocks = all.iter().map(|one| typed("post-processor", one)).collect();
                let made = Block { line: one.line, kind, blocks, ..Block::default() };
                build.blocks.push(made);
            }
            _ => build.blocks.push(typed("post-processor", one)),
        }
    }
    root.blocks.push(build);
    root
}

fn items(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.kind) {
        Some(Kind::List(all)) => all,
        _ => &[],
    }
}

fn names(node: &Node) -> Vec<String> {
    items(Some(node)).iter().filter_map(Node::as_plain).collect()
}

/// A provisioner or post-processor: an object with `type`, or the type alone.
fn typed(kind: &str, node: &Node) -> Block {
    let mut made = json::block(kind, node);
    let name = node.as_plain().or_else(|| made.get("type").and_then(Node::as_plain));
    made.entries.retain(|entry| entry.name != "type");
    made.labels = vec![name.unwrap_or_default()];
    made
}
