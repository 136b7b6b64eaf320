//! `bake new --from`: a recipe made of a Dockerfile or a Packer template, and what of it has no
//! equal.
//!
//! ```text
//! text ─► source ─► instruction ─► lower ─► document ─► write ─► recipe::format ─► recipe::read
//!         lines,    what each      stage    the recipe  TOML                       the parser has
//!         comments  takes          by stage                                        the last word
//! ```
//!
//! `lower` goes through the stages, each begun by `start`; `body`, `run`, `mounts`, `transfer` and
//! `config` are what it does for each instruction, and `assemble` puts together what is needed.
//! `packer` does the same for templates, with the same state and document.
//! What comes out builds the same root; whatever would not is a [`Remark`], and a comment at that
//! place of the recipe. Nothing is written here, and nothing run.

mod apt;
mod arguments;
mod around;
mod assemble;
mod bases;
mod body;
mod config;
mod document;
mod fault;
mod fill;
mod instruction;
mod lower;
mod lowered;
mod mode;
mod mounts;
mod names;
mod packer;
mod run;
mod shell;
mod source;
mod stage;
mod start;
mod state;
mod text;
mod transfer;
mod write;

use std::path::Path;

use self::document::{Document, Value};
use self::fault::Fault;
use self::lowered::Wanted;
use crate::recipe::{self, Diagnostic, Inputs};
use crate::schema::{Mistake, Source};

pub use self::around::Around;
pub use self::fault::Remark;

/// What is asked for besides the file.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What messages call the Dockerfile or template.
    pub file: String,
    /// What messages call the recipe.
    pub recipe: String,
    /// Name of the image.
    pub name: String,
    /// Whoever asks gave the name: what a template calls the image does not count.
    pub named: bool,
    /// The way from the context to the template's directory; none: it is that directory.
    pub root: Option<String>,
    /// The recipe's context, relative to its directory; none: that directory.
    pub context: Option<String>,
    /// The stage, or the source of a template, that becomes the image; none: the last stage, the
    /// first container.
    pub target: Option<String>,
    /// Debian's own images become Debians that bake makes.
    pub debian: bool,
    /// What lies around it.
    pub around: Around,
}

/// A recipe, and what it does not say as the Dockerfile does.
#[derive(Debug, Clone)]
pub struct Converted {
    /// The recipe, in bake's own format.
    pub recipe: String,
    /// In the order of the lines.
    pub remarks: Vec<Remark>,
}

/// Why there is no recipe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The Dockerfile has mistakes.
    #[error("{}", recipe::summary(.0))]
    Dockerfile(Vec<Diagnostic>),
    /// The template has mistakes, or is none of Linux.
    #[error("{}", recipe::summary(.0))]
    Template(Vec<Diagnostic>),
    /// What came out is no recipe: the file says something that a recipe cannot.
    #[error("what the file says makes no right recipe: {}", recipe::summary(.0))]
    Recipe(Vec<Diagnostic>),
}

/// The version of a new image, as in the templates.
const VERSION: &str = "0.1.0";

/// Makes a recipe of a Dockerfile.
///
/// # Errors
/// Every mistake of the Dockerfile, or of the recipe that came out.
pub fn dockerfile(text: &str, options: &Options) -> Result<Converted, Error> {
    let faults = |found: Vec<Fault>| Error::Dockerfile(diagnostics(text, &options.file, found));
    let source = source::read(text).map_err(|fault| faults(vec![fault]))?;
    let instructions = instruction::read(&source).map_err(faults)?;
    let (document, remarks) =
        lower::lower(&source, &instructions, &wanted(options)).map_err(faults)?;
    finished(document, remarks, (&options.name, VERSION), options)
}

/// How a Packer template is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notation {
    /// HCL2, `*.pkr.hcl`.
    Hcl,
    /// JSON: `*.pkr.json`, or one with `builders`.
    Json,
}

/// Makes a recipe of a Packer template.
///
/// # Errors
/// Every mistake of the template, or of the recipe that came out.
pub fn template(text: &str, notation: Notation, options: &Options) -> Result<Converted, Error> {
    let root = options.root.as_deref().unwrap_or(".");
    let json = notation == Notation::Json;
    let found = packer::convert(text, json, root, &wanted(options))
        .map_err(|found| Error::Template(diagnostics(text, &options.file, found)))?;
    let name = found.name.as_deref().filter(|_| !options.named).unwrap_or(&options.name);
    let version = found.version.as_deref().unwrap_or(VERSION);
    finished(found.document, found.remarks, (name, version), options)
}

fn wanted(options: &Options) -> Wanted<'_> {
    Wanted {
        file: &options.file,
        around: &options.around,
        target: options.target.as_deref(),
        debian: options.debian,
    }
}

/// Writes the recipe, and has the parser look at it.
fn finished(
    mut document: Document,
    remarks: Vec<Remark>,
    (name, version): (&str, &str),
    options: &Options,
) -> Result<Converted, Error> {
    let mut image = vec![("name", Value::text(name)), ("version", Value::text(version))];
    image.extend(options.context.as_ref().map(|context| ("context", Value::text(&**context))));
    image.append(&mut document.image);
    document.image = image;
    let file = Path::new(&options.recipe);
    let toml = write::toml(&document);
    let recipe = recipe::format(&toml, file).map_err(Error::Recipe)?;
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    // What has no value yet gets one, for the parser to look at everything else.
    let open = document.variables.iter().filter(|one| one.value.is_none());
    let vars = open.map(|one| (one.name.clone(), "1".to_owned())).collect();
    let inputs = Inputs { file: file.to_owned(), arch: arch.to_owned(), vars, ..Inputs::default() };
    recipe::read(&recipe, &inputs).map_err(Error::Recipe)?;
    Ok(Converted { recipe, remarks })
}

/// Returns faults with the lines that they are in.
fn diagnostics(text: &str, file: &str, faults: Vec<Fault>) -> Vec<Diagnostic> {
    let source = Source::new(Path::new(file), text);
    let place = |fault: Fault| {
        let mistake = Mistake::new(fault.message);
        let mistake = match fault.help {
            Some(help) => mistake.help(help),
            None => mistake,
        };
        source.diagnose(source.line_span(fault.line as usize), mistake)
    };
    faults.into_iter().map(place).collect()
}
