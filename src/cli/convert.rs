//! `bake new --from`: a Dockerfile or a Packer template as a recipe.

use std::path::{Component, Path, PathBuf};

use serde_json::json;

use super::args::recipe::{FromArgs, NewArgs};
use super::ctx::Ctx;
use super::edge;
use super::request::absolute;
use crate::convert::{Around, Error, Notation, Options, Remark, dockerfile, template as packer};
use crate::recipe::Diagnostic;
use crate::template;
use crate::ui::report::Report;
use crate::ui::text::clean;

/// What a recipe is called where nobody says otherwise.
const RECIPE: &str = "recipe.toml";

/// What a Dockerfile is called in a directory.
const DOCKERFILE: &str = "Dockerfile";

/// Name of the ignore file that bake reads where it has none of its own.
const DOCKER_IGNORE: &str = ".dockerignore";

/// What `--from` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Dockerfile,
    Template(Notation),
}

impl Kind {
    /// Returns what messages call it.
    fn called(self) -> &'static str {
        match self {
            Kind::Dockerfile => "Dockerfile",
            Kind::Template(_) => "template",
        }
    }

    /// Returns what a file is, by its name, and by what is in it where that says nothing.
    fn of(path: &Path, text: &str) -> Self {
        let named = path.file_name().map(|name| name.to_string_lossy().to_lowercase());
        let named = named.unwrap_or_default();
        let ends = |end: &str| named.ends_with(end);
        let start = text.trim_start_matches('\u{feff}').trim_start();
        let object = start.starts_with('{');
        if ends(".hcl") {
            Kind::Template(Notation::Hcl)
        } else if ends(".pkr.json")
            || object && (ends(".json") || text.contains("\"builders\"") && !ends("dockerfile"))
        {
            Kind::Template(Notation::Json)
        } else {
            Kind::Dockerfile
        }
    }
}

/// Returns the file that is meant: of a directory its Dockerfile, or its only Packer template.
fn inside(from: &Path) -> Result<PathBuf, Report> {
    if !from.is_dir() {
        return Ok(from.to_owned());
    }
    let dockerfile = from.join(DOCKERFILE);
    let entries = std::fs::read_dir(from).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.ends_with(".pkr.hcl") || name.ends_with(".pkr.json")
        })
        .collect();
    found.sort();
    match found.as_slice() {
        [only] if !dockerfile.exists() => Ok(only.clone()),
        [_, _, ..] if !dockerfile.exists() => {
            let names: Vec<String> =
                found.iter().map(|path| clean(&path.to_string_lossy())).collect();
            let message = format!("{} has several templates", clean(&from.to_string_lossy()));
            let hint = format!("--from takes one of them: {}", names.join(", "));
            let hints = vec![hint];
            Err(Report { kind: "file", message, hints, exit: edge::USAGE, ..Report::default() })
        }
        _ => Ok(dockerfile),
    }
}

/// Makes a recipe of the Dockerfile or the template `from`.
pub(super) fn convert(ctx: &Ctx<'_>, args: &NewArgs, from: &Path) -> Result<u8, Report> {
    let FromArgs { output, context, target, debian } = &args.from_args;
    let from = &inside(from)?;
    let text = crate::inputs::text(from).map_err(|error| unreadable(ctx, &error, from))?;
    let kind = Kind::of(from, &text);
    let beside = from.parent().unwrap_or(Path::new(""));
    let around = context.as_deref().unwrap_or(beside);
    let around = if around.as_os_str().is_empty() { Path::new(".") } else { around };
    let recipe = output.as_deref().map_or_else(|| beside.join(RECIPE), file);
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(around),
    };
    let options = Options {
        file: clean(&from.to_string_lossy()),
        recipe: recipe.to_string_lossy().into_owned(),
        name,
        named: args.name.is_some(),
        root: way(around, beside),
        context: way(recipe.parent().unwrap_or(Path::new(".")), around),
        target: target.clone(),
        debian: *debian,
        around: Around::new(around),
    };
    let converted = match kind {
        Kind::Dockerfile => dockerfile(&text, &options),
        Kind::Template(notation) => packer(&text, notation, &options),
    };
    let converted = converted.map_err(|error| {
        let (Error::Dockerfile(found) | Error::Template(found) | Error::Recipe(found)) = &error;
        ctx.ui.diagnostics(found);
        let hints = vec!["nothing was written".to_owned()];
        let topic = if kind == Kind::Dockerfile { "dockerfile" } else { "template" };
        Report { hints, ..edge::report(topic, edge::USAGE, &error) }
    })?;
    let to_stdout = output.as_deref() == Some(Path::new("-"));
    if to_stdout && !ctx.ui.json() {
        ctx.ui.raw(converted.recipe.as_bytes());
    } else {
        template::create_file(&recipe, &converted.recipe)
            .map_err(|error| edge::report("new", edge::USAGE, &error))?;
        match ctx.ui.json() {
            true => ctx.ui.object("made", json!({ "path": absolute(&recipe) })),
            false => ctx.ui.result(&clean(&recipe.to_string_lossy())),
        }
    }
    let mut remarks = converted.remarks;
    if kind == Kind::Dockerfile {
        remarks.extend(ignored(from, around));
    }
    Ok(reported(ctx, kind, &options.file, &remarks))
}

/// Shows what was remarked on, and returns the exit code.
fn reported(ctx: &Ctx<'_>, kind: Kind, file: &str, remarks: &[Remark]) -> u8 {
    for one in remarks {
        let Remark { line, topic, message, harmless } = one;
        if ctx.ui.json() {
            ctx.ui.object(
                "remark",
                json!({ "file": file, "line": line, "topic": topic, "message": message,
                    "harmless": harmless }),
            );
        } else {
            let note = if *harmless { "note: " } else { "" };
            ctx.ui.say(&clean(&format!("{file}:{line}: {note}{message}")));
        }
    }
    let count = remarks.iter().filter(|one| !one.harmless).count();
    match count {
        0 => edge::OK,
        count => {
            let what = if count == 1 { "remark" } else { "remarks" };
            let called = kind.called();
            ctx.ui.say(&format!("{count} {what}: the recipe is not all that the {called} is"));
            edge::DIFFERENT
        }
    }
}

fn unreadable(ctx: &Ctx<'_>, error: &crate::inputs::Error, from: &Path) -> Report {
    if let crate::inputs::Error::Recipe(found) = error {
        let help = || Some("Dockerfiles and templates are UTF-8".to_owned());
        let found = found.iter().map(|one| Diagnostic { help: help(), ..one.clone() });
        ctx.ui.diagnostics(&found.collect::<Vec<_>>());
    }
    let hint = format!(
        "--from names a Dockerfile or a Packer template: {}",
        clean(&from.to_string_lossy())
    );
    Report { hints: vec![hint], ..edge::report("file", edge::USAGE, error) }
}

/// Returns the file that `--output` means: `-` and what ends in `.toml` are one, all else is a
/// directory.
fn file(output: &Path) -> PathBuf {
    let toml = output.extension().is_some_and(|end| end == "toml") && !output.is_dir();
    if toml || output == Path::new("-") { output.to_owned() } else { output.join(RECIPE) }
}

/// Returns a name for an image made in `directory`.
fn name_of(directory: &Path) -> String {
    let whole = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let name = whole.file_name().map(|name| name.to_string_lossy().to_lowercase());
    let tidy: String = name
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .collect();
    let words: Vec<&str> = tidy.split('-').filter(|word| !word.is_empty()).collect();
    if words.is_empty() { "image".to_owned() } else { words.join("-") }
}

/// Returns the way from one directory to another, where they are not the same.
fn way(from: &Path, to: &Path) -> Option<String> {
    let (from, to) = (whole(from), whole(to));
    if from == to {
        return None;
    }
    let same = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(same).map(|_| Component::ParentDir);
    let way: PathBuf = up.chain(to.components().skip(same)).collect();
    Some(way.to_string_lossy().into_owned())
}

/// Returns an absolute path without symlinks, as far as it is there.
fn whole(path: &Path) -> PathBuf {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut missing = vec![];
    for above in path.ancestors() {
        if let Ok(found) = above.canonicalize() {
            return missing.into_iter().rev().fold(found, |found, name| found.join(name));
        }
        missing.extend(above.file_name());
    }
    path
}

/// Remarks on an ignore file that counts for this Dockerfile alone: bake reads `.bakeignore` and
/// `.dockerignore` of the context.
fn ignored(from: &Path, around: &Path) -> Option<Remark> {
    let name = from.file_name()?.to_string_lossy().into_owned();
    let own = from.with_file_name(format!("{name}{DOCKER_IGNORE}"));
    own.is_file().then(|| {
        let own = own.display();
        let place = around.join(DOCKER_IGNORE);
        let message = format!("{own} is not read: only {} is", place.display());
        Remark { line: 1, topic: "ignore", message, harmless: false }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ways() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let app = dir.path().join("My_App");
        std::fs::create_dir(&app).expect("made");
        assert_eq!(name_of(&app), "my-app");
        assert_eq!(way(&app, &app), None);
        assert_eq!(way(&app.join("new/deep"), &app).as_deref(), Some("../.."));
        assert_eq!(way(dir.path(), &app).as_deref(), Some("My_App"));
        assert_eq!(file(Path::new("x.toml")), Path::new("x.toml"));
        assert_eq!(file(Path::new("x")), Path::new("x/recipe.toml"));
    }

    #[test]
    fn files_are_known_by_name_and_content() {
        for (name, text, expected) in [
            ("Dockerfile", "FROM x", Kind::Dockerfile),
            ("a.pkr.hcl", "", Kind::Template(Notation::Hcl)),
            ("a.pkr.json", "", Kind::Template(Notation::Json)),
            ("a.json", "\u{feff} {}", Kind::Template(Notation::Json)),
            ("template", "{ \"builders\": [] }", Kind::Template(Notation::Json)),
            ("build", "{}", Kind::Dockerfile),
        ] {
            assert_eq!(Kind::of(Path::new(name), text), expected, "{name}");
        }
    }
}
