//! A Packer template as a recipe.
//!
//! ```text
//! HCL2 ─► hcl ────────┐
//! JSON ─► json ─► legacy ─► node ─► template ─► lower ─► document
//!         lines              blocks  what there  shell, files, post; base
//!                                    is          eval, functions, go: expressions
//! ```
//!
//! One source becomes the recipe. Its provisioners are steps by the same state that a stage of a
//! Dockerfile has, so that packages, the network and `/tmp` come out alike.

mod ansible;
mod base;
mod configuration;
mod container;
mod env;
mod eval;
mod files;
mod functions;
mod go;
mod hcl;
mod json;
mod legacy;
mod lower;
mod manner;
mod node;
mod post;
mod shell;
mod start;
mod template;
mod value;

use super::document::Document;
use super::fault::{Fault, Remark};
use super::lowered::Wanted;

/// What came out of a template.
pub(super) struct Found {
    pub(super) document: Document,
    pub(super) remarks: Vec<Remark>,
    /// What the template calls the image, and its version.
    pub(super) name: Option<String>,
    pub(super) version: Option<String>,
}

/// Converts a template, HCL2 or, with `json`, JSON; `root`: the way from the context to it.
///
/// # Errors
/// Its mistakes, and what no recipe can say, each with its line.
pub(super) fn convert(
    text: &str,
    json: bool,
    root: &str,
    wanted: &Wanted<'_>,
) -> Result<Found, Vec<Fault>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let lines = node::Lines::new(&text);
    let read = if json { legacy::read(&lines) } else { hcl::read(&lines) };
    let blocks = read.map_err(|fault| vec![fault])?;
    let mut remarks = vec![];
    let mut template = template::template(blocks, &mut remarks)?;
    root.clone_into(&mut template.scope.root);
    let lower::Lowered { document, remarks, name, version } =
        lower::lower(template, remarks, wanted)?;
    Ok(Found { document, remarks, name, version })
}
