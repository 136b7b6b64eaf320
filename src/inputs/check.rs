//! Mistakes that only the context can show: a source that is not there, a symlink out of the tree,
//! a template with an unknown name. They are reported with the recipe's other mistakes: all at
//! once, at the line of the step, before anything runs.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Error;
use super::facts::{MAX_TEXT, is_url};
use super::parts::HeldParts;
use super::workspace::workspace_of;
use super::{read, wanted};
use crate::context::{self, Context, Doubt};
use crate::event::chain;
use crate::image::Platform;
use crate::recipe::{
    self, Base, BaseKind, Diagnostic, Inputs, Oci, OciSource, Output, Parts, Recipe, Right, Value,
    Variant, WORKSPACE, WorkspaceFile,
};
use crate::step::{Content, Op, Probe};

/// Bytes of a script that are looked at for its line ends: the kernel takes no longer first line.
const FIRST_LINE: u64 = 4096;

/// Reads the recipe at `path` and looks at everything of its context that its base and steps name.
///
/// # Errors
/// [`Error::File`] where the recipe cannot be read, [`Error::Recipe`] with every mistake of it, of
/// the files that it includes and of those of the context that it names.
pub fn check(path: &Path, inputs: &Inputs) -> Result<Recipe, Error> {
    look_over(path, inputs).map(|looked| looked.recipe)
}

/// What [`check`] made of a recipe, with the context as it was found: a build after it looks at
/// nothing twice.
#[derive(Debug, Clone)]
pub struct Looked {
    /// The recipe.
    pub recipe: Recipe,
    /// Its text, as it was read: what is evaluated again is not read again.
    pub text: Arc<str>,
    /// What it includes, as it was read.
    pub parts: Arc<HeldParts>,
    /// Its context.
    pub context: Arc<Context>,
    /// The workspace that it was read with.
    pub workspace: Option<Arc<WorkspaceFile>>,
    /// The Debian archive that the workspace names.
    pub mirror: Option<String>,
    /// The names of all builds of the recipe ([`recipe::Variant`]).
    pub builds: Arc<[String]>,
}

/// One of the builds of a recipe.
#[derive(Debug, Clone)]
pub struct Found {
    /// Which of its variants.
    pub variant: Variant,
    /// For which platform.
    pub platform: Platform,
    /// What was read of it.
    pub looked: Looked,
}

/// As [`check`], for those who build next.
///
/// # Errors
/// As [`check`].
pub fn look_over(path: &Path, inputs: &Inputs) -> Result<Looked, Error> {
    look_over_variants(path, inputs).and_then(|mut found| {
        found.truncate(1);
        found.pop().map(|found| found.looked).ok_or_else(|| Error::Recipe(vec![]))
    })
}

/// As [`look_over`], for each of the recipe's variants that is meant, and each platform: what is
/// right may depend on both.
///
/// # Errors
/// As [`check`], each mistake once; [`Error::Recipe`] also where two variants make one version.
pub fn look_over_variants(path: &Path, inputs: &Inputs) -> Result<Vec<Found>, Error> {
    let text: Arc<str> = read::text(path)?.into();
    let directory = path.parent().unwrap_or(Path::new(""));
    let workspace = match &inputs.workspaces {
        Some(known) => workspace_of(directory, known)?,
        None => None,
    };
    let inputs = inputs.for_platform(&Platform::host());
    let parts = Arc::new(HeldParts::of(path));
    let held: Option<Arc<dyn Parts>> = Some(parts.clone());
    let inputs = Inputs { file: path.to_owned(), workspace, parts: held, ..inputs };
    let all = recipe::all_variants(&text, &inputs);
    let builds: Arc<[String]> = all.iter().map(Variant::to_string).collect();
    let variants = recipe::meant(all, &inputs).map_err(Error::Recipe)?;
    let (mut found, mut mistakes): (Vec<Found>, Vec<Diagnostic>) = (vec![], vec![]);
    for variant in variants {
        let inputs = Inputs { variant: variant.clone(), ..inputs.clone() };
        for platform in platforms(&text, &inputs) {
            let inputs = inputs.for_platform(&platform);
            match look_over_text(path, Arc::clone(&text), (&parts, &builds), &inputs) {
                Ok(looked) => found.push(Found { variant: variant.clone(), platform, looked }),
                Err(Error::Recipe(more)) => {
                    let new = more.into_iter().filter(|one| !mistakes.contains(one));
                    let new: Vec<Diagnostic> = new.collect();
                    mistakes.extend(new);
                }
                Err(other) => return Err(other),
            }
        }
    }
    let mut images: BTreeMap<String, &Variant> = BTreeMap::new();
    for Found { variant, looked: Looked { recipe, .. }, .. } in &found {
        let image = format!("{}:{}", recipe.image.name, recipe.image.version);
        if let Some(first) = images.insert(image.clone(), variant)
            && first != variant
        {
            let line = recipe.matrix_line;
            mistakes.push(Diagnostic {
                message: format!("{image} comes from two variants: {first} and {variant}"),
                help: Some("use the variables of the matrix in `name` or `version`".to_owned()),
                ..at_line(path, &text, line, &std::fmt::Error)
            });
            break;
        }
    }
    if mistakes.iter().any(|one| !one.warning) { Err(Error::Recipe(mistakes)) } else { Ok(found) }
}

/// Returns what a recipe is to be built for: what the caller says, else what the recipe says,
/// whatever else is wrong with it, else this machine.
fn platforms(text: &str, inputs: &Inputs) -> Vec<Platform> {
    if !inputs.platforms.is_empty() {
        return inputs.platforms.clone();
    }
    let host = || vec![Platform::host()];
    if !text.contains("platforms") {
        return host();
    }
    let found = match recipe::read_what_is_right(text, inputs) {
        Ok(recipe) => recipe.image.platforms,
        Err(broken) => broken.right.platforms,
    };
    if found.is_empty() { host() } else { found }
}

/// As [`look_over`], of a recipe that was read, with what it includes and the workspace it is in.
fn look_over_text(
    path: &Path,
    text: Arc<str>,
    (parts, builds): (&Arc<HeldParts>, &Arc<[String]>),
    inputs: &Inputs,
) -> Result<Looked, Error> {
    let read = recipe::read_what_is_right(&text, inputs);
    let open = |dir: &Path, outputs: &[Output]| {
        let dir = path.parent().unwrap_or(Path::new("")).join(dir);
        let mut own = own_files(path, &text, inputs, &dir);
        let include =
            |path: PathBuf| Some((below(&path, &dir)?, "the recipe includes it".to_owned()));
        own.extend(parts.files().into_iter().filter_map(include));
        own.extend(outputs.iter().filter_map(|output| {
            let file = if output.given { Path::new("") } else { path.parent().unwrap_or(&dir) };
            let file = file.join(&output.path);
            Some((below(&file, &dir)?, "it is an output of the recipe".to_owned()))
        }));
        Context::open(&dir, &lock_file(path, &dir), &own).map(|context| (dir, context))
    };
    let mut recipe = match read {
        Ok(recipe) => recipe,
        Err(broken) => {
            let recipe::Broken { mut mistakes, right } = *broken;
            // A context that cannot be read is a mistake of its own, for when these are mended.
            if let Some(Ok((_, context))) = right.context.as_deref().map(|dir| open(dir, &[])) {
                mistakes.extend(missing(path, &text, &context, &right));
                in_order(&mut mistakes, path);
            }
            return Err(Error::Recipe(mistakes));
        }
    };
    let (dir, context) = open(&recipe.image.context, &recipe.outputs)
        .map_err(|source| Error::Context { recipe: path.to_owned(), source })?;
    let found = missing(path, &text, &context, &recipe.right());
    let bases = recipe.right().bases;
    recipe.warnings.extend(bases.iter().filter_map(|base| is_here(path, &text, &dir, base)));
    recipe.warnings.extend(context.doubts().iter().map(|doubt| doubted(&dir, doubt)));
    if found.is_empty() {
        let workspace = inputs.workspace.clone();
        let read = workspace.as_ref().map(|file| recipe::read_workspace(file));
        let mirror = read.transpose().map_err(Error::Recipe)?.and_then(|one| one.mirror);
        let (parts, context) = (Arc::clone(parts), Arc::new(context));
        let builds = Arc::clone(builds);
        Ok(Looked { recipe, text, parts, context, workspace, mirror, builds })
    } else {
        Err(Error::Recipe(found))
    }
}

/// Warns of an image of a registry that is called as a file of the context.
fn is_here(path: &Path, text: &Arc<str>, dir: &Path, base: &Base) -> Option<Diagnostic> {
    let BaseKind::Oci(oci @ Oci { source: OciSource::Registry(name), .. }) = &base.kind else {
        return None;
    };
    if !dir.join(&oci.from).exists() {
        return None;
    }
    Some(Diagnostic {
        message: format!("`{}` is the image {name} of a registry", oci.from),
        help: Some(format!("for what lies here under that name write \"./{}\"", oci.from)),
        warning: true,
        ..at_line(path, text, base.line, &std::fmt::Error)
    })
}

/// Looks at every file of the context that a recipe names, and returns what is wrong, by line.
fn missing(path: &Path, text: &Arc<str>, context: &Context, named: &Right) -> Vec<Diagnostic> {
    let mut found = vec![];
    for base in &named.bases {
        match &base.kind {
            BaseKind::Path(file) => {
                let error = context.find(file).err();
                found.extend(error.map(|error| at_line(path, text, base.line, &error)));
            }
            BaseKind::Recipe(file) => {
                let error = no_recipe(path, file);
                found.extend(error.map(|error| at_line(path, text, base.line, &error)));
            }
            _ => {}
        }
    }
    for step in &named.steps {
        let part = step.part.as_ref().map(|part| &named.parts[part.number]);
        let (path, text) = part.map_or((path, text), |part| (&*part.file, &part.text));
        for op in &step.ops {
            let mounted = wanted::of(op).into_iter().filter(|one| one.stage.is_none());
            let missing = mounted.filter_map(|one| context.look_over(&one.op).err());
            found.extend(missing.map(|error| at_line(path, text, step.line, &error)));
            if let Err(error) = look(context, op) {
                found.push(at_line(path, text, step.line, &error));
                continue;
            }
            match op {
                Op::Write { content: Content::Template(file), .. } => {
                    let vars = match part {
                        Some(part) => Some(&part.vars).filter(|_| part.vars_known),
                        None => named.vars.as_ref(),
                    };
                    found.extend(vars.and_then(|vars| template(context, file, vars)));
                }
                Op::Script { file, .. } => {
                    found.extend(line_ends(path, text, context, file, step.line));
                }
                _ => {}
            }
        }
    }
    for test in &named.tests {
        for probe in &test.probes {
            let Probe::Script { file, .. } = probe else { continue };
            match context.open_file(file) {
                Err(error) => found.push(at_line(path, text, test.line, &error)),
                Ok(_) => found.extend(line_ends(path, text, context, file, test.line)),
            }
        }
    }
    in_order(&mut found, path);
    found
}

/// Sorts mistakes: those of the recipe `path` first, then those of each other file, by line; a file
/// that is included twice has each of its own once.
fn in_order(mistakes: &mut Vec<Diagnostic>, path: &Path) {
    let mut files = vec![path.to_owned()];
    for one in mistakes.iter() {
        if !files.contains(&one.file) {
            files.push(one.file.clone());
        }
    }
    mistakes.sort_by_key(|one| (files.iter().position(|file| *file == one.file), one.line));
    mistakes.dedup();
}

/// Returns why the recipe `path` cannot stand on the recipe `base`, which its directory has not.
fn no_recipe(path: &Path, base: &Path) -> Option<Error> {
    let base = path.parent().unwrap_or(Path::new("")).join(base);
    let source = match fs::metadata(&base) {
        Ok(there) if there.is_dir() => io::ErrorKind::IsADirectory.into(),
        Ok(_) => return None,
        Err(error) => error,
    };
    Some(Error::File { path: base, source })
}

/// Reports a script of a system whose lines end in CR LF: the kernel takes the CR for a part of
/// the interpreter's name, a shell for a part of each command.
fn line_ends(
    path: &Path,
    text: &Arc<str>,
    context: &Context,
    script: &Path,
    line: u32,
) -> Option<Diagnostic> {
    let mut head = vec![];
    // One that cannot be read has been reported.
    context.open_file(script).ok()?.take(FIRST_LINE).read_to_end(&mut head).ok()?;
    let first = head.split(|byte| *byte == b'\n').next()?;
    if first.len() == head.len() || !first.ends_with(b"\r") {
        return None;
    }
    Some(Diagnostic {
        message: format!("the lines of {} end in CR LF", script.display()),
        help: Some("save it with LF alone: a CR is a part of what stands before it".to_owned()),
        ..at_line(path, text, line, &std::fmt::Error)
    })
}

/// Returns what no step may copy: the lock file, which the first build writes.
fn lock_file(recipe: &Path, context: &Path) -> Vec<(PathBuf, String)> {
    let lock = below(recipe, context).map(|path| {
        (path.with_extension("lock"), "bake itself: it is the recipe's lock file".to_owned())
    });
    lock.into_iter().collect()
}

/// Returns what goes along with a copy of everything only where an ignore file says so: the recipe
/// (`text`: what it says), the JSON Schema that it names, its workspace's file, and the files of
/// its variables. A comment in them, or another bake, would be other content of the image.
fn own_files(recipe: &Path, text: &str, inputs: &Inputs, context: &Path) -> Vec<(PathBuf, String)> {
    let vars = inputs.vars_files.iter().map(|(path, _)| (path.clone(), "variables of the recipe"));
    let workspace =
        inputs.workspace.iter().map(|one| (one.directory.join(WORKSPACE), "the workspace's file"));
    let schema = text.lines().next().and_then(|line| line.strip_prefix("#:schema "));
    let schema = schema.map(|schema| recipe.with_file_name("").join(schema.trim()));
    std::iter::once((recipe.to_owned(), "the recipe"))
        .chain(schema.map(|schema| (schema, "the JSON Schema of the recipe")))
        .chain(workspace)
        .chain(vars)
        .filter_map(|(path, what)| Some((below(&path, context)?, format!("it is {what}"))))
        .collect()
}

/// Shows a pattern of an ignore file that cannot do what it says.
fn doubted(context: &Path, doubt: &Doubt) -> Diagnostic {
    let text: Arc<str> = doubt.text.as_str().into();
    Diagnostic {
        message: doubt.message.clone(),
        help: Some(doubt.help.clone()),
        warning: true,
        ..at_line(&context.join(doubt.file), &text, doubt.line, &std::fmt::Error)
    }
}

/// Where `path` lies below the context, if it does.
pub fn below(path: &Path, context: &Path) -> Option<PathBuf> {
    // What does not exist yet cannot be copied yet: the next build leaves it out.
    let (path, context) = (path.canonicalize().ok()?, context.canonicalize().ok()?);
    path.strip_prefix(&context)
        .ok()
        .map(Path::to_owned)
        .filter(|path| path.components().next().is_some())
}

fn look(context: &Context, op: &Op) -> Result<(), context::Error> {
    match op {
        Op::Copy { stage: None, .. } => context.look_over(op),
        Op::Configure(tool) => {
            tool.file.as_ref().map_or(Ok(()), |file| context.open_file(file).map(|_| ()))
        }
        Op::Script { file, .. } | Op::Write { content: Content::Template(file), .. } => {
            context.open_file(file).map(|_| ())
        }
        Op::Packages { files, .. } => {
            files.iter().try_for_each(|file| context.open_file(file).map(|_| ()))
        }
        Op::Repository { key, .. } if !is_url(key) => context.open_file(Path::new(key)).map(|_| ()),
        _ => Ok(()),
    }
}

/// Renders a template for its mistakes only.
fn template(context: &Context, file: &Path, vars: &BTreeMap<String, Value>) -> Option<Diagnostic> {
    let bytes = context.read(file, MAX_TEXT).ok()?;
    // A template that is not UTF-8 is reported when it is written.
    let text = String::from_utf8(bytes).ok()?;
    recipe::render_template(&text, file, vars).err()
}

fn at_line(path: &Path, text: &Arc<str>, line: u32, error: &dyn std::error::Error) -> Diagnostic {
    let before: usize =
        text.split_inclusive('\n').take(line.saturating_sub(1) as usize).map(str::len).sum();
    let row = text[before..].lines().next().unwrap_or_default();
    let indent = row.len() - row.trim_start().len();
    let mut texts = chain(error);
    let message = texts.remove(0);
    Diagnostic {
        file: path.to_owned(),
        source: Arc::clone(text),
        span: before + indent..before + row.trim_end().len().max(indent),
        line,
        column: u32::try_from(row[..indent].chars().count() + 1).unwrap_or(1),
        message,
        label: None,
        help: (!texts.is_empty()).then(|| texts.join(": ")),
        warning: false,
    }
}
