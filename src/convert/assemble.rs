//! The recipe put together of the stages that the image needs.

use std::collections::BTreeSet;

use super::config::describe;
use super::document::{Document, Root, Value};
use super::fault::Remark;
use super::lowered::Lowered;
use super::source::Source;
use super::stage::{EMPTY, Shared};
use super::text::is_used;
use super::write::toml;

/// Puts the recipe together of the stages that the image needs.
pub(super) fn assemble(
    source: &Source,
    shared: Shared<'_>,
    mut lowered: Vec<Lowered>,
    target: usize,
) -> (Document, Vec<Remark>) {
    let mut needed = BTreeSet::from([target]);
    let mut todo = vec![target];
    while let Some(at) = todo.pop() {
        let more: Vec<usize> = lowered[at].needs.iter().copied().collect();
        todo.extend(more.into_iter().filter(|one| needed.insert(*one)));
    }
    // Steps of a stage stand in those that start from it, with what was remarked on.
    let mut spoken = needed.clone();
    for at in &needed {
        let mut above = lowered[*at].above;
        while let Some(one) = above {
            spoken.insert(one);
            above = lowered[one].above;
        }
    }
    let mut remarks = vec![];
    for (at, one) in lowered.iter().enumerate() {
        if spoken.contains(&at) {
            remarks.extend(one.remarks.iter().cloned());
        } else if let Some(name) = &shared.stages[at].name {
            remarks.push(not_needed(one.line, name));
        }
    }
    let about = format!("Made from {} by `bake new --from`.", shared.file);
    let mut document = Document { comments: vec![about], ..Document::default() };
    if let Some(platform) = &lowered[target].platform {
        document.image.push(("platforms", Value::List(vec![platform.clone()])));
    }
    describe(&mut document, &lowered[target].state);
    document.config_comments.extend(source.trailing.iter().cloned());
    document.roots.push(std::mem::take(&mut lowered[target].root));
    for at in needed.into_iter().filter(|at| *at != target) {
        let name = Some(shared.stages[at].title.clone());
        document.roots.push(Root { name, ..std::mem::take(&mut lowered[at].root) });
    }
    let further = |name: &str, base| {
        let name = Some(name.to_owned());
        Root { name, base: vec![base], ..Root::default() }
    };
    let used = |document: &Document, name: &str| toml(document).contains(&format!("\"{name}\""));
    for (name, path) in shared.archives {
        if used(&document, &name) {
            document.roots.push(further(&name, ("path", Value::Text(path))));
        }
    }
    if shared.empty && used(&document, EMPTY) {
        document.roots.push(further(EMPTY, ("scratch", Value::Yes)));
    }
    let text = toml(&document);
    let variables = shared.arguments.variables.into_iter();
    document.variables = variables.filter(|one| is_used(&text, &one.name)).collect();
    document.share_options();
    remarks.sort_by_key(|remark| remark.line);
    remarks.dedup();
    (document, remarks)
}

/// Notes that the image needs nothing of a stage.
pub(super) fn not_needed(line: u32, name: &str) -> Remark {
    let message = format!("the stage {name} is left out: the image needs nothing of it");
    Remark { line, topic: "stage", message, harmless: true }
}
