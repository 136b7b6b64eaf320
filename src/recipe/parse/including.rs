//! Which of a recipe's files is read, and what the paths in it are below the context: those of an
//! included file are relative to itself.

use std::path::PathBuf;
use std::sync::Arc;

use crate::recipe::model::{Inputs, Part};
use crate::recipe::parts::Parts;
use crate::schema::Check;

/// Which of a recipe's files is read, and what is known of those that it includes.
#[derive(Debug, Default)]
pub(crate) struct Including {
    /// Where texts come from.
    pub(crate) texts: Option<Arc<dyn Parts>>,
    /// The recipe's path.
    pub(crate) recipe: PathBuf,
    /// `[image] context`, where it is right.
    pub(crate) context: Option<PathBuf>,
    /// The included files on the way to this one, it last, below the context; of the recipe none.
    pub(crate) way: Vec<String>,
    /// Line of the recipe with the step that leads here; of the recipe none.
    pub(crate) line: Option<u32>,
    /// Those that were included so far, each as often as it was.
    pub(crate) parts: Vec<Part>,
    /// Bytes of their texts.
    pub(crate) bytes: usize,
}

impl Including {
    /// Returns what is known where nothing is included yet.
    pub(crate) fn of_recipe(inputs: &Inputs, context: Option<PathBuf>) -> Self {
        let (texts, recipe) = (inputs.parts.clone(), inputs.file.clone());
        Self { texts, recipe, context, ..Self::default() }
    }

    /// Returns a path as it is below the context, where `text`, which is to pass `check`, is one
    /// that an included file writes. `of_stage`: a source is a path of a stage.
    pub(crate) fn of_context(&self, check: Check, of_stage: bool, text: String) -> String {
        let Some((dir, _)) = self.way.last().and_then(|file| file.rsplit_once('/')) else {
            return text;
        };
        let dotted = text.starts_with("./") || text.starts_with("../");
        match check {
            Check::Context | Check::ContextGlob => below(dir, &text),
            Check::Source if !of_stage => below(dir, &text),
            Check::Exclude if !of_stage => pattern(dir, text),
            Check::SigningKey if !text.contains("://") => below(dir, &text),
            Check::Package | Check::OciSource if dotted => match below(dir, &text) {
                out if out.starts_with("../") => out,
                inside => format!("./{inside}"),
            },
            _ => text,
        }
    }
}

/// Returns the path `text`, which is relative to the directory `dir`, relative to what `dir` is
/// relative to. What is no such path stays as it is, for the mistake that it is.
fn below(dir: &str, text: &str) -> String {
    if text.is_empty() || text.starts_with('/') || text == "~" || text.starts_with("~/") {
        return text.to_owned();
    }
    let mut above: Vec<&str> = dir.split('/').collect();
    let mut rest = text;
    loop {
        let (first, more) = rest.split_once('/').unwrap_or((rest, ""));
        match first {
            "" | "." => {}
            ".." if above.last().is_some_and(|last| *last != "..") => drop(above.pop()),
            ".." => above.push(".."),
            _ => break,
        }
        rest = more;
        if rest.is_empty() {
            break;
        }
    }
    match (above.is_empty(), rest.is_empty()) {
        (true, true) => ".".to_owned(),
        (true, false) => rest.to_owned(),
        (false, true) => above.join("/"),
        (false, false) => format!("{}/{rest}", above.join("/")),
    }
}

/// Returns a pattern of gitignore, relative to the directory `dir`, relative to what that is
/// relative to: one with a slash before its end is anchored.
fn pattern(dir: &str, text: String) -> String {
    let (not, body) = match text.strip_prefix('!') {
        Some(body) => ("!", body),
        None => ("", text.as_str()),
    };
    if body.starts_with('#') || !body.trim_end_matches('/').contains('/') {
        return text;
    }
    format!("{not}/{dir}/{}", body.trim_start_matches('/'))
}

/// Returns a path below the context without `.` and `..`; none where it names no file there.
pub(crate) fn tidy(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = vec![];
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    let named = !parts.is_empty() && !path.ends_with('/');
    named.then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_an_included_file_are_relative_to_it() {
        let including = Including { way: vec!["parts/web/host.toml".into()], ..Default::default() };
        let check = |check, text: &str, expected: &str| {
            assert_eq!(including.of_context(check, false, text.to_owned()), expected, "{text}");
        };
        for (text, expected) in [
            ("a", "parts/web/a"),
            ("./a/", "parts/web/a/"),
            (".", "parts/web"),
            ("..", "parts"),
            ("../a", "parts/a"),
            ("../../a", "a"),
            ("../..", "."),
            ("../../../a", "../a"),
            ("a/../b", "parts/web/a/../b"),
            ("/a", "/a"),
            ("~/a", "~/a"),
            ("", ""),
        ] {
            check(Check::Context, text, expected);
            check(Check::Source, text, expected);
        }
        check(Check::Package, "nginx", "nginx");
        check(Check::Package, "./a.deb", "./parts/web/a.deb");
        check(Check::Package, "../../../a.deb", "../a.deb");
        check(Check::OciSource, "host/a:1", "host/a:1");
        check(Check::OciSource, "../layout", "./parts/layout");
        check(Check::SigningKey, "https://a/b", "https://a/b");
        check(Check::SigningKey, "a.asc", "parts/web/a.asc");
        check(Check::Exclude, "*.map", "*.map");
        check(Check::Exclude, "tmp/", "tmp/");
        check(Check::Exclude, "/tmp", "/parts/web/tmp");
        check(Check::Exclude, "!a/b", "!/parts/web/a/b");
        check(Check::Inside, "a", "a");
        // What is taken of a stage is no path of the context.
        for text in ["/out", "/out/*.map"] {
            assert_eq!(including.of_context(Check::Source, true, text.to_owned()), text);
            assert_eq!(including.of_context(Check::Exclude, true, text.to_owned()), text);
        }
        let beside = Including { way: vec!["host.toml".into()], ..Default::default() };
        assert_eq!(beside.of_context(Check::Context, false, "./a".into()), "./a");
    }

    #[test]
    fn paths_are_tidied() {
        for (text, expected) in [
            ("a/./b//c", Some("a/b/c")),
            ("a/../b", Some("b")),
            ("./a", Some("a")),
            ("a/", None),
            (".", None),
            ("../a", None),
        ] {
            assert_eq!(tidy(text).as_deref(), expected, "{text}");
        }
    }
}
