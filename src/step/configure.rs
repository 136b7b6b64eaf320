//! What the kinds share that run a configuration management tool (`ansible`, `puppet`, `chef`):
//! their common keys, and what they show the tool of the context.
//!
//! docs/design/configuration-management.md says why.

use std::path::{Path, PathBuf};

use super::kind::{Findings, Work};
use super::op::Op;
use super::program::RunOptions;
use super::shown::Mount;
use super::tool::{CONFIGURATION, Configure, Tool, ToolFrom};
use crate::schema::{Check, Fields, Key, Mistake, Shape, may};

/// Where the directories of search paths are seen.
const BELOW: &str = "/dev/bake/below";

/// `tool`.
pub(super) const TOOL: Key = may(
    "tool",
    Shape::Text(Check::Filled),
    "Where the tool comes from. Default: packages of Debian that are in no image, of the suite of \
        the base (`trixie` where that is not Debian's); a suite by its code name; `image`, the \
        one in the image; or a directory of the image with the program in its `bin`. Examples: \
        `bookworm`, `image`, `/opt/tool`.",
);

/// `twice`.
pub(super) const TWICE: Key = may(
    "twice",
    Shape::Boolean,
    "Whether it runs a second time, which must change nothing: else the step fails and names what \
        changed. Default: `false`.",
);

/// `args`.
pub(super) const ARGS: Key =
    may("args", Shape::List(Check::Argument), "Further arguments of the tool.");

/// Returns where the tool comes from.
pub(super) fn tool_from(fields: &Fields, tool: Tool) -> ToolFrom {
    match fields.text("tool").as_deref() {
        None => ToolFrom::Layer(tool.name().to_owned()),
        Some("image") => ToolFrom::Image,
        Some(path) if path.starts_with('/') => {
            ToolFrom::Directory(path.trim_end_matches('/').to_owned())
        }
        Some(suite) => ToolFrom::Layer(format!("{} of {suite}", tool.name())),
    }
}

/// Finds what is wrong with `tool`.
pub(super) fn check_tool(fields: &Fields, findings: &mut Findings<'_>) {
    let (Some(text), Some(field)) = (fields.text("tool"), fields.get("tool")) else { return };
    let suite = text.bytes().all(|byte| byte.is_ascii_lowercase());
    if !suite && Check::Inside.test(&text).is_err() {
        let mistake = Mistake::new(format!("{text:?} is no place of a tool"))
            .help("write `image`, an absolute path in the image, or a suite such as `trixie`");
        findings.add(field.span.clone(), mistake);
    }
}

/// Finds a path that is to be relative to the directory of `what`, and leads out of it.
pub(super) fn check_inside(fields: &Fields, key: &str, what: &str, findings: &mut Findings<'_>) {
    let (Some(path), Some(field)) = (fields.text(key), fields.get(key)) else { return };
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        let mistake = Mistake::new(format!("{path:?} leads out of the directory of {what}"))
            .help(format!("it lies beside {what} or below; the path is relative to that"));
        findings.add(field.span.clone(), mistake);
    }
}

/// Returns the mount that shows the directory of `file`, and the path of `file` there.
pub(super) fn beside(file: &str) -> (Mount, String) {
    let file = Path::new(file);
    let directory = file.parent().filter(|path| !path.as_os_str().is_empty());
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let path = directory.map_or_else(|| PathBuf::from("."), Path::to_owned);
    (shown(CONFIGURATION.to_owned(), path), format!("{CONFIGURATION}/{name}"))
}

/// Returns mounts that show directories of the context for one search path, each in a place of its
/// own.
pub(super) fn search_path(fields: &Fields, key: &str) -> Vec<Mount> {
    let paths = fields.list(key).into_iter().enumerate();
    paths.map(|(at, path)| shown(format!("{BELOW}/{key}/{at}"), path.into())).collect()
}

pub(super) fn shown(at: String, path: PathBuf) -> Mount {
    Mount { at, stage: None, path }
}

/// Returns the places of mounts as one search path, `also` behind them.
pub(super) fn joined(mounts: &[Mount], also: &str) -> String {
    let places = mounts.iter().map(|mount| mount.at.as_str());
    places.chain((!also.is_empty()).then_some(also)).collect::<Vec<_>>().join(":")
}

/// Returns the step that does this.
pub(super) fn work(about: String, op: Configure, options: RunOptions) -> Work {
    let ops = vec![Op::Configure(Box::new(op))];
    Work { about, ops, run: Some(options), rest: vec![] }
}
