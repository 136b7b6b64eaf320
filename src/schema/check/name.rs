//! Names of images, versions and stages.

use super::text::line;
use crate::image::{BadRemoteName, Platform, Reference, RemoteName};
use crate::schema::mistake::{Mistake, quote};

pub(super) fn image_name(text: &str) -> Result<(), Mistake> {
    let bad = |label: String| {
        Err(Mistake::new(format!("{} is not an image name", quote(text))).label(label))
    };
    if text.is_empty() {
        return bad("it is empty".into());
    }
    if text.len() > 255 {
        return bad(format!("it has {} characters; 255 are allowed", text.len()));
    }
    for part in text.split('/') {
        if !name_component(part) {
            let tidy = tidy_name(text);
            let label = match text
                .chars()
                .find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/'))
            {
                Some(':') => "the version has its own key, `version`".into(),
                Some(c) if c.is_uppercase() => format!("upper-case {c:?} is not allowed"),
                Some(c) => format!("{c:?} is not allowed"),
                None => "`.`, `_`, `-` and `/` may only stand between letters and digits".into(),
            };
            let help = "OCI names are lower-case letters and digits, with `.`, `_`, `__`, `-` or \
                `/` between";
            let help =
                if tidy.is_empty() { help.to_owned() } else { format!("{help}: \"{tidy}\"") };
            return Err(Mistake::new(format!("{} is not an image name", quote(text)))
                .label(label)
                .help(help));
        }
    }
    Ok(())
}

/// One part of an OCI name: letters and digits with `.`, `_`, `__` or any number of `-` between.
fn name_component(part: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators_fit = part
        .split(alphanumeric)
        .filter(|s| !s.is_empty())
        .all(|s| matches!(s, "." | "_" | "__") || s.chars().all(|c| c == '-'));
    part.starts_with(alphanumeric) && part.ends_with(alphanumeric) && separators_fit
}

/// Returns the nearest valid name, or nothing.
fn tidy_name(text: &str) -> String {
    let text = text.split(':').next().unwrap_or_default().to_lowercase();
    let parts: Vec<String> = text
        .split('/')
        .map(|part| {
            let words: Vec<&str> = part
                .split(|c: char| !c.is_ascii_alphanumeric())
                .filter(|w| !w.is_empty())
                .collect();
            words.join("-")
        })
        .filter(|part| !part.is_empty())
        .collect();
    parts.join("/").chars().take(60).collect::<String>().trim_end_matches(['-', '/']).to_owned()
}

pub(super) fn platform(text: &str) -> Result<(), Mistake> {
    if text.parse().is_ok_and(|platform: Platform| platform.to_build().is_some()) {
        return Ok(());
    }
    let all: Vec<String> = Platform::all().map(|one| one.to_string()).collect();
    let mistake = Mistake::new(format!("{} is no platform that bake builds for", quote(text)));
    let mistake = mistake.suggest(text, all.iter().map(String::as_str));
    let help = format!("they are {}", all.join(", "));
    Err(if mistake.has_label() { mistake } else { mistake.help(help) })
}

pub(super) fn image_version(text: &str) -> Result<(), Mistake> {
    let bad = |label: String| {
        let tidy: String = text
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' })
            .take(60)
            .collect::<String>();
        let help = "OCI tags are 1 to 128 of letters, digits, `_`, `.` and `-`, and start with a \
            letter, a digit or `_`";
        let tidy = tidy.trim_start_matches(['.', '-']);
        let help = if tidy.is_empty() { help.to_owned() } else { format!("{help}: \"{tidy}\"") };
        Err(Mistake::new(format!("{} is not a version", quote(text))).label(label).help(help))
    };
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "_.-".contains(*c))) {
        Some(c) => bad(format!("{c:?} is not allowed")),
        None if text.is_empty() => bad("it is empty".into()),
        None if text.len() > 128 => {
            bad(format!("it has {} characters; 128 are allowed", text.len()))
        }
        None if text.starts_with(['.', '-']) => bad("it may not start with `.` or `-`".into()),
        None => Ok(()),
    }
}

/// What `from` could be thought to mean, or what may have been left out before it.
const NOT_A_STAGE: &[&str] = &["base", "defaults", "step", "context", "image", "scratch"];

pub(super) fn stage_name(text: &str) -> Result<(), Mistake> {
    let fits = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
    if !fits {
        return Err(Mistake::new(format!("{} is not a name of a stage", quote(text)))
            .help("1 to 64 of lower-case letters, digits, `_` and `-`, starting with a letter"));
    }
    if !NOT_A_STAGE.contains(&text) {
        return Ok(());
    }
    let mistake = Mistake::new(format!("a stage cannot be called `{text}`"));
    Err(match text {
        "base" | "defaults" | "step" => mistake
            .label("the name of the stage is missing")
            .help(format!("write `stage.NAME.{text}`")),
        _ => mistake.label("choose another name"),
    })
}

/// What other tools write before the place of an image in files.
const TRANSPORTS: &[&str] = &["oci:", "oci-archive:", "docker-archive:", "dir:"];

/// Whether a text that says where an image is names files; else it names an image of a registry.
pub(crate) fn is_oci_path(text: &str) -> bool {
    ["./", "../", "/"].iter().any(|start| text.starts_with(start))
}

pub(super) fn oci_source(text: &str) -> Result<(), Mistake> {
    line(text)?;
    if is_oci_path(text) {
        return Ok(());
    }
    if let Some(place) = TRANSPORTS.iter().find_map(|one| text.strip_prefix(one)) {
        let place = match place.starts_with(['/', '.']) {
            true => place.to_owned(),
            false => format!("./{place}"),
        };
        return Err(Mistake::new(format!("{} is not where an image is", quote(text)))
            .label("what it is, is seen by what is in it")
            .help(format!("write {}; `named` says which image of several", quote(&place))));
    }
    text.parse::<RemoteName>().map(|_| ()).map_err(|error| {
        let help = "a registry is written host[:port]/name[:tag][@sha256:…]; a path starts with \
            `./`, `../` or `/`";
        no_remote_name(&error).help(help)
    })
}

pub(super) fn push_target(text: &str) -> Result<(), Mistake> {
    line(text)?;
    RemoteName::to_push_to(text).map(|_| ()).map_err(|error| {
        no_remote_name(&error).help("an example is registry.example/web:{{ version }}")
    })
}

pub(super) fn registry(text: &str) -> Result<(), Mistake> {
    line(text)?;
    // A tag or a digest is one of an image, and none can follow it.
    let name = format!("{}/name", text.strip_suffix('/').unwrap_or(text));
    RemoteName::to_push_to(&name).map(|_| ()).map_err(|_| {
        Mistake::new(format!("{} is not a registry", quote(text)))
            .label("written host[:port], perhaps with a path")
            .help("an example is registry.example/team")
    })
}

fn no_remote_name(error: &BadRemoteName) -> Mistake {
    let error: &dyn std::error::Error = error;
    let mistake = Mistake::new(error.to_string());
    match error.source() {
        Some(why) => mistake.label(why.to_string()),
        None => mistake,
    }
}

pub(super) fn image_reference(text: &str) -> Result<(), Mistake> {
    line(text)?;
    match text.parse::<Reference>() {
        Ok(reference) if reference.is_exact() => Ok(()),
        Ok(reference) => {
            let name = reference.name;
            Err(Mistake::new(format!("{} does not say which version is meant", quote(text)))
                .label("the version, the channel or the digest is missing")
                .help(format!(
                    "write \"{name}:1.0.0\", \"{name}@production\" or \"{name}@sha256:…\""
                )))
        }
        Err(error) => Err(Mistake::new(error.to_string())),
    }
}
