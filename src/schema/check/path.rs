//! Paths: of the context, and inside an image.

use super::text::line;
use crate::schema::mistake::{Mistake, quote};

/// Whether a relative path climbs out of where it starts.
fn climbs_out(text: &str) -> bool {
    let mut depth = 0_i64;
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return true;
        }
    }
    false
}

pub(super) fn context(text: &str) -> Result<(), Mistake> {
    line(text)?;
    if text.starts_with('/') {
        return Err(Mistake::new(format!(
            "absolute path {} where a path of the context is \
            needed",
            quote(text)
        ))
        .label("relative to the context")
        .help(
            "nothing outside the context is read; `[image] context` says which directory \
                that is (default: the recipe's)",
        ));
    }
    if text == "~" || text.starts_with("~/") {
        return Err(Mistake::new(format!(
            "{} starts with `~`, which only a shell expands",
            quote(text)
        ))
        .help("paths are relative to the context, which `[image] context` names"));
    }
    if climbs_out(text) {
        return Err(Mistake::new(format!("{} leaves the context", quote(text)))
            .label("`..` climbs out")
            .help("set `[image] context` to a directory that holds everything the recipe reads"));
    }
    Ok(())
}

pub(super) fn glob(text: &str) -> Result<(), Mistake> {
    match globset::Glob::new(text) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(Mistake::new(format!("{} is not a glob", quote(text)))
                .label(error.kind().to_string()))
        }
    }
}

pub(super) fn inside(text: &str) -> Result<(), Mistake> {
    line(text)?;
    if !text.starts_with('/') {
        let tidy = format!("/{}", text.trim_start_matches("./"));
        return Err(Mistake::new(format!(
            "relative path {} where an absolute one is needed",
            quote(text)
        ))
        .label("a path in the image starts with `/`")
        .help(format!("write {}", quote(&tidy))));
    }
    if text.split('/').any(|part| part == "..") {
        return Err(Mistake::new(format!("{} holds `..`", quote(text)))
            .help("write the path as it is in the image"));
    }
    Ok(())
}

/// What bake fills itself in every step.
const OWN_MOUNTS: &[&str] = &["/proc", "/sys", "/dev"];

pub(super) fn mount_point(text: &str) -> Result<(), Mistake> {
    inside(text)?;
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let own = OWN_MOUNTS.iter().any(|own| parts.first() == Some(&&own[1..]));
    if parts.is_empty() || own {
        return Err(Mistake::new(format!("nothing can be mounted at {}", quote(text)))
            .label(if own { "bake fills it itself" } else { "this is the whole image" })
            .help("choose a directory of its own, such as `/src`"));
    }
    Ok(())
}

pub(super) fn recipe_file(text: &str) -> Result<(), Mistake> {
    line(text)?;
    if text == "~" || text.starts_with("~/") {
        return Err(Mistake::new(format!(
            "{} starts with `~`, which only a shell expands",
            quote(text)
        ))
        .help("the path is relative to the directory of this recipe"));
    }
    if matches!(text.rsplit('/').next(), None | Some("" | "." | "..")) {
        return Err(Mistake::new(format!("{} is a directory", quote(text)))
            .label("the file is meant")
            .help(format!(
                "write {}",
                quote(&format!("{}/recipe.toml", text.trim_end_matches('/')))
            )));
    }
    Ok(())
}

pub(super) fn inside_file(text: &str) -> Result<(), Mistake> {
    inside(text)?;
    if text.ends_with('/') {
        return Err(Mistake::new(format!(
            "{} is a directory; the name of a file is needed",
            quote(text)
        ))
        .label("ends in `/`"));
    }
    Ok(())
}

pub(super) fn inside_glob(text: &str) -> Result<(), Mistake> {
    inside(text)?;
    if text.chars().all(|c| c == '/' || c == '.' || c == '*') {
        return Err(Mistake::new(format!("{} is the whole image", quote(text)))
            .help("`base.scratch = true` starts from nothing"));
    }
    glob(text)
}

pub(super) fn ignore(text: &str) -> Result<(), Mistake> {
    line(text)?;
    let bare = text.strip_prefix('!').unwrap_or(text);
    if text.starts_with('#') || bare.trim() != bare || bare.is_empty() {
        return Err(Mistake::new(format!("{} is not a pattern", quote(text)))
            .label("a comment, or blanks around it"));
    }
    // gitignore takes a slash in the middle for one at the start; a reader of the recipe would not.
    if !bare.starts_with('/')
        && !bare.starts_with("**/")
        && bare.trim_end_matches('/').contains('/')
    {
        return Err(Mistake::new(format!(
            "relative pattern {} where an absolute one is needed",
            quote(text)
        ))
        .label("a path in the image starts with `/`")
        .help(format!(
            "write {}, or {} for anywhere",
            quote(&format!("/{bare}")),
            quote(&format!("**/{bare}"))
        )));
    }
    if bare.split('/').any(|part| part == "..") {
        return Err(Mistake::new(format!("{} holds `..`", quote(text)))
            .help("write the path as it is in the image"));
    }
    if !text.starts_with('!') && bare.chars().all(|c| c == '/' || c == '*') {
        return Err(Mistake::new(format!("{} is the whole image", quote(text)))
            .help("name what machines may change"));
    }
    let added = ignore::gitignore::GitignoreBuilder::new("").add_line(None, text).map(|_| ());
    added.map_err(|error| {
        Mistake::new(format!("{} is not a pattern", quote(text))).label(error.to_string())
    })
}

pub(super) fn member(text: &str) -> Result<(), Mistake> {
    line(text)?;
    if text.starts_with('/') || text == "~" || text.starts_with("~/") {
        return Err(Mistake::new(format!("{} is not a path of the workspace", quote(text)))
            .label("relative to `bake.toml`")
            .help("what lies elsewhere is named on the command line"));
    }
    if text.split('/').any(|part| part == "..") {
        return Err(Mistake::new(format!("{} leads out of the workspace", quote(text)))
            .label("`..` climbs out")
            .help("members lie beside `bake.toml` or below it: put it into a directory above"));
    }
    glob(text)
}
