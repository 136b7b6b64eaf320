//! From instructions to a recipe: the stages one after the other.

use super::arguments::{Arguments, is_proxy, platform};
use super::assemble::{assemble, not_needed};
use super::document::{Document, Root, Value};
use super::fault::{Fault, Remark};
use super::instruction::{Instruction, Kind};
use super::lowered::{Lowered, Wanted};
use super::names::titles;
use super::source::Source;
use super::stage::{Shared, Stage, known_flags};
use super::start::{Start, built_for, fill, inherits, is_windows, nameless, start};
use super::state::Origin;
use super::text::Text;

/// The instructions of a stage, and its `FROM`.
struct Part<'i> {
    from: &'i Instruction,
    image: &'i str,
    body: &'i [Instruction],
}

/// Makes the recipe of the instructions.
pub(super) fn lower(
    source: &Source,
    instructions: &[Instruction],
    wanted: &Wanted<'_>,
) -> Result<(Document, Vec<Remark>), Vec<Fault>> {
    let first = instructions.iter().position(|one| matches!(one.kind, Kind::From { .. }));
    let Some(first) = first else {
        let fault = Fault::new(1, "no `FROM`: nothing to start from");
        return Err(vec![fault.help("`FROM scratch` starts from nothing")]);
    };
    let (globals, stages) = instructions.split_at(first);
    let parts = parts(stages);
    let names: Vec<Option<String>> = parts.iter().map(|part| named(part.from)).collect();
    let target = target(&names, wanted.target).map_err(|fault| vec![fault])?;
    let mut shared = Shared {
        kind: "dockerfile",
        file: wanted.file,
        escape: source.escape,
        around: wanted.around,
        stages: titles(&names),
        arguments: Arguments::new(instructions),
        archives: vec![],
        empty: false,
    };
    let mut faults = vec![];
    let globals = self::globals(globals, &mut shared, &mut faults);
    let mut lowered: Vec<Lowered> = vec![];
    for (index, part) in parts.iter().enumerate().take(target + 1) {
        let asked = (wanted, index == target);
        let done = stage(&mut shared, index, part, &globals, &lowered, asked, &mut faults);
        match done {
            Ok(done) => lowered.push(done),
            Err(fault) => {
                faults.push(fault);
                break;
            }
        }
    }
    if !faults.is_empty() {
        faults.sort_by_key(|fault| fault.line);
        return Err(faults);
    }
    let mut out = assemble(source, shared, lowered, target);
    let left = parts.iter().zip(&names).skip(target + 1);
    for (part, name) in left.filter(|_| wanted.target.is_none()) {
        let name = name.as_deref().unwrap_or("without a name");
        out.1.push(not_needed(part.from.line, name));
    }
    Ok(out)
}

fn named(from: &Instruction) -> Option<String> {
    match &from.kind {
        Kind::From { name, .. } => name.clone(),
        _ => None,
    }
}

fn parts(stages: &[Instruction]) -> Vec<Part<'_>> {
    let mut found = vec![];
    let mut rest = stages;
    while let Some((from, more)) = rest.split_first() {
        let Kind::From { image, .. } = &from.kind else { break };
        let end = more.iter().position(|one| matches!(one.kind, Kind::From { .. }));
        let (body, next) = more.split_at(end.unwrap_or(more.len()));
        found.push(Part { from, image, body });
        rest = next;
    }
    found
}

fn target(names: &[Option<String>], wanted: Option<&str>) -> Result<usize, Fault> {
    let Some(wanted) = wanted else { return Ok(names.len() - 1) };
    let lower = wanted.to_ascii_lowercase();
    let found = names.iter().rposition(|name| name.as_deref() == Some(&lower));
    let found = found.or_else(|| wanted.parse().ok().filter(|number| *number < names.len()));
    found.ok_or_else(|| {
        let all: Vec<&str> = names.iter().flatten().map(String::as_str).collect();
        let fault = Fault::new(1, format!("there is no stage `{wanted}`"));
        fault.help(format!("the stages are {}", all.join(", ")))
    })
}

/// Reads the arguments before the first stage.
fn globals(
    instructions: &[Instruction],
    shared: &mut Shared<'_>,
    faults: &mut Vec<Fault>,
) -> Vec<(String, Text)> {
    let mut found: Vec<(String, Text)> = vec![];
    for one in instructions {
        let Kind::Arg(args) = &one.kind else {
            faults.push(Fault::new(one.line, "only `ARG` may stand before the first `FROM`"));
            continue;
        };
        for (name, default) in args {
            if is_proxy(name) {
                continue;
            }
            let filled =
                default.as_deref().map(|default| fill(one.line, default, shared.escape, &found));
            let default = match filled.transpose() {
                Ok(default) => default.unwrap_or_default(),
                Err(fault) => {
                    faults.push(fault);
                    continue;
                }
            };
            let value = match platform(name) {
                Some(text) => text,
                None => shared.arguments.declare(name, &default, &one.comments),
            };
            found.push((name.clone(), value));
        }
    }
    found
}

/// Converts one stage.
fn stage(
    shared: &mut Shared<'_>,
    index: usize,
    part: &Part<'_>,
    globals: &[(String, Text)],
    before: &[Lowered],
    (wanted, is_image): (&Wanted<'_>, bool),
    faults: &mut Vec<Fault>,
) -> Result<Lowered, Fault> {
    let line = part.from.line;
    known_flags(part.from, &["platform"])?;
    let image = fill(line, part.image, shared.escape, globals)?;
    if image.value().is_empty() {
        return Err(Fault::new(line, format!("`{}` is empty: it names no image", part.image)));
    }
    if is_windows(&image.value()) {
        let fault = Fault::new(line, format!("`{}` is an image of Windows", image.value()));
        return Err(fault.help("recipes build images of Linux"));
    }
    let start = start(shared, index, &image, before, wanted);
    let missing = nameless(shared, &start.base, &image);
    let Start { base, state, above, needs, on_build, scratch } = start;
    let mut stage = Stage {
        shared,
        index,
        state,
        needs,
        remarks: vec![],
        pending: vec![],
        scratch,
        archive: None,
        directory: None,
    };
    if wanted.debian && !image.is_plain() && base.iter().any(|(key, _)| *key == "debian") {
        let message =
            format!("the suite is what the default of its variables makes it: {}", image.value());
        stage.remark(line, "argument", message);
    }
    for name in missing {
        let message =
            format!("`{name}` has no default: `--var {name}=…` gives the recipe its value");
        stage.note(line, "argument", message);
    }
    let platform = built_for(&mut stage, part.from, globals)?;
    let unknown = matches!(&stage.state.origin, Origin::Image { known: None, .. });
    if unknown && above.is_none() && inherits(part.body) {
        let message = format!(
            "which user and directory {} sets is not known: until `USER` and `WORKDIR` say \
                otherwise, steps run as root and in /",
            image.value()
        );
        stage.remark(line, "base", message);
    }
    // What was remarked on where the steps began that stand here again.
    let mut comments: Vec<String> = above.map(|at| before[at].spoken.clone()).unwrap_or_default();
    comments.extend(stage.pending.iter().cloned());
    let spoken = comments.clone();
    comments.splice(0..0, part.from.comments.iter().cloned());
    stage.pending.clear();
    let mut triggers = vec![];
    for one in on_build.iter().chain(part.body) {
        if let Kind::OnBuild(inner) = &one.kind {
            triggers.push((**inner).clone());
            continue;
        }
        if let Err(fault) = stage.instruction(one, globals) {
            faults.push(fault);
        }
    }
    stage.make_directory();
    if is_image {
        for one in &triggers {
            let message = "`ONBUILD` is left out: a recipe says nothing of images on this one";
            stage.remark(one.line, "onbuild", message);
        }
    }
    let base = match stage.archive.take() {
        Some(path) => vec![("path", Value::Text(path))],
        None => base,
    };
    let pending = std::mem::take(&mut stage.pending);
    stage.state.config.comments.extend(pending);
    let root = Root { comments, base, steps: stage.state.steps.clone(), ..Root::default() };
    let Stage { state, needs, remarks, .. } = stage;
    Ok(Lowered { line, spoken, root, state, needs, above, remarks, on_build: triggers, platform })
}
