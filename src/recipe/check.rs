//! What a string may be: names, durations, modes, owners, paths. One check a kind of text; each
//! says what is wrong and what to write.

use std::time::Duration;

use super::address::{address, probe_url, url};
use super::mistake::{Mistake, quote};
use crate::image::Reference;

/// The kinds of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Anything without NUL bytes.
    Any,
    /// Anything at all: content of files.
    Bytes,
    /// An argument of a program: anything without NUL bytes.
    Argument,
    /// Not empty.
    Filled,
    /// One line, not empty.
    Line,
    /// Visible ASCII without white space, not empty.
    Word,
    /// An OCI repository name.
    ImageName,
    /// An OCI tag.
    ImageVersion,
    /// A folder of the host: relative to the recipe, or absolute.
    Folder,
    /// A path below the context.
    Context,
    /// The same, or a glob.
    ContextGlob,
    /// An absolute path or glob in a stage.
    StageGlob,
    /// A place for a mount: an absolute path in the image that bake does not fill itself.
    MountPoint,
    /// A name of a stage.
    StageName,
    /// A version, a content or a channel of an image.
    ImageReference,
    /// Another recipe's file, relative to this one's directory.
    RecipeFile,
    /// An absolute path in the image; a trailing slash is fine.
    Inside,
    /// The same, but of something that is not a folder.
    InsideFile,
    /// An absolute path or glob in the image, and not all of it.
    InsideGlob,
    /// A pattern of gitignore over absolute paths in the image, and not all of it.
    Ignore,
    /// A target of a symlink.
    LinkTarget,
    /// An absolute path that fits into `/etc/passwd`.
    PasswdPath,
    /// A text that fits into `/etc/passwd`.
    PasswdField,
    /// A crypt(5) hash.
    PasswordHash,
    /// A user's or group's name.
    Account,
    /// `name:group` or `uid:gid`.
    Owner,
    /// `name`, `name:group` or ids.
    RunAs,
    /// Octal digits.
    Mode,
    /// `90s`, `1h30m`.
    Duration,
    /// http or https.
    Url,
    /// An http URL that a test asks.
    ProbeUrl,
    /// `host:port`.
    Address,
    /// A file below the context, or an https URL.
    SigningKey,
    /// A package in the manager's notation, or `./file`.
    Package,
    /// A base name of a file.
    FileName,
    /// A systemd unit.
    Unit,
    /// `SIGTERM`.
    Signal,
    /// A name of an environment variable.
    EnvName,
    /// A name of an OCI label.
    Label,
}

impl Check {
    /// Returns what is wrong with a text, if anything.
    pub(super) fn test(self, text: &str) -> Result<(), Mistake> {
        if self != Check::Bytes && text.contains('\0') {
            return Err(Mistake::new("a NUL byte where the kernel takes none")
                .help("NUL bytes are allowed in the content of a file only"));
        }
        match self {
            Check::Any | Check::Bytes | Check::Argument => Ok(()),
            Check::Filled => filled(text),
            Check::Line => line(text),
            Check::Word => word(text),
            Check::ImageName => image_name(text),
            Check::ImageVersion => image_version(text),
            Check::Folder => filled(text),
            Check::Context => context(text),
            Check::ContextGlob => context(text).and_then(|()| glob(text)),
            Check::StageGlob => inside(text).and_then(|()| glob(text)),
            Check::MountPoint => mount_point(text),
            Check::StageName => stage_name(text),
            Check::ImageReference => image_reference(text),
            Check::RecipeFile => recipe_file(text),
            Check::Inside => inside(text),
            Check::InsideFile => inside_file(text),
            Check::InsideGlob => inside_glob(text),
            Check::Ignore => ignore(text),
            Check::LinkTarget => line(text),
            Check::PasswdPath => inside(text).and_then(|()| passwd_field(text)),
            Check::PasswdField => passwd_field(text),
            Check::PasswordHash => password_hash(text),
            Check::Account => account(text),
            Check::Owner => owner(text),
            Check::RunAs => run_as(text),
            Check::Mode => mode(text).map(|_| ()),
            Check::Duration => duration(text).map(|_| ()),
            Check::Url => url(text, &["http://", "https://"]),
            Check::ProbeUrl => probe_url(text),
            Check::Address => address(text),
            Check::SigningKey => signing_key(text),
            Check::Package => package(text),
            Check::FileName => file_name(text),
            Check::Unit => unit(text),
            Check::Signal => signal(text),
            Check::EnvName => env_name(text),
            Check::Label => line(text),
        }
    }

    /// Returns a pattern for the schema where the text has a fixed form; substitution may make any
    /// text fit.
    pub(super) fn pattern(self) -> Option<&'static str> {
        match self {
            Check::Mode => Some(r"^[0-7]{3,4}$|\{\{"),
            Check::Duration => Some(r"^([0-9]+(ms|s|m|h|d))+$|\{\{"),
            Check::Owner => Some(r"^[^:]+:[^:]+$|\{\{"),
            Check::Inside
            | Check::InsideFile
            | Check::InsideGlob
            | Check::StageGlob
            | Check::MountPoint
            | Check::PasswdPath => Some(r"^/|\{\{"),
            Check::Context | Check::ContextGlob => Some(r"^[^/]"),
            Check::Url => Some(r"^https?://|\{\{"),
            Check::ProbeUrl => Some(r"^http://|\{\{"),
            Check::Address => Some(r"^.+:[0-9]+$|\{\{"),
            Check::ImageVersion => Some(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$|\{\{"),
            Check::ImageName => Some(r"^[a-z0-9]+([._/-]+[a-z0-9]+)*$|\{\{"),
            Check::Signal => Some(r"^(SIG[A-Z0-9]+([+-][0-9]+)?|[0-9]+)$|\{\{"),
            Check::Filled
            | Check::Ignore
            | Check::Line
            | Check::Word
            | Check::Package
            | Check::Unit
            | Check::Account => Some("."),
            _ => None,
        }
    }
}

fn filled(text: &str) -> Result<(), Mistake> {
    if text.is_empty() {
        Err(Mistake::new("an empty string where a value is needed"))
    } else {
        Ok(())
    }
}

fn line(text: &str) -> Result<(), Mistake> {
    filled(text)?;
    if text.chars().any(char::is_control) {
        return Err(Mistake::new(format!("{} holds a control character", quote(text)))
            .label("one line of text is needed"));
    }
    Ok(())
}

fn word(text: &str) -> Result<(), Mistake> {
    line(text)?;
    if text.contains(char::is_whitespace) {
        return Err(
            Mistake::new(format!("{} holds white space", quote(text))).label("one word is needed")
        );
    }
    if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(Mistake::new(format!("{} is not a plain word", quote(text)))
            .label(format!("{c:?} is not allowed")));
    }
    Ok(())
}

fn image_name(text: &str) -> Result<(), Mistake> {
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
            let help = "OCI names are lower-case letters and digits, with `.`, `_`, `__`, `-` or `/` between";
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

fn image_version(text: &str) -> Result<(), Mistake> {
    let bad = |label: String| {
        let tidy: String = text
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' })
            .take(60)
            .collect::<String>();
        let help = "OCI tags are 1 to 128 of letters, digits, `_`, `.` and `-`, and start with a letter, a digit or `_`";
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

fn context(text: &str) -> Result<(), Mistake> {
    line(text)?;
    if text.starts_with('/') {
        return Err(Mistake::new(format!("absolute path {} where a path of the context is needed", quote(text)))
            .label("relative to the context")
            .help("nothing outside the context is read; `[image] context` says which folder that is (default: the recipe's)"));
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
            .help("set `[image] context` to a folder that holds everything the recipe reads"));
    }
    Ok(())
}

fn glob(text: &str) -> Result<(), Mistake> {
    match globset::Glob::new(text) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(Mistake::new(format!("{} is not a glob", quote(text)))
                .label(error.kind().to_string()))
        }
    }
}

fn inside(text: &str) -> Result<(), Mistake> {
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

/// What `from` could be thought to mean, or what may have been left out before it.
const NOT_A_STAGE: &[&str] = &["base", "defaults", "step", "context", "image", "scratch"];

fn stage_name(text: &str) -> Result<(), Mistake> {
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

/// What bake fills itself in every step.
const OWN_MOUNTS: &[&str] = &["/proc", "/sys", "/dev"];

fn mount_point(text: &str) -> Result<(), Mistake> {
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

fn image_reference(text: &str) -> Result<(), Mistake> {
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

fn recipe_file(text: &str) -> Result<(), Mistake> {
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

fn inside_file(text: &str) -> Result<(), Mistake> {
    inside(text)?;
    if text.ends_with('/') {
        return Err(Mistake::new(format!(
            "{} is a folder; the name of a file is needed",
            quote(text)
        ))
        .label("ends in `/`"));
    }
    Ok(())
}

fn inside_glob(text: &str) -> Result<(), Mistake> {
    inside(text)?;
    if text.chars().all(|c| c == '/' || c == '.' || c == '*') {
        return Err(Mistake::new(format!("{} is the whole image", quote(text)))
            .help("`base.scratch = true` starts from nothing"));
    }
    glob(text)
}

fn ignore(text: &str) -> Result<(), Mistake> {
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

fn passwd_field(text: &str) -> Result<(), Mistake> {
    if text.contains(':') || text.chars().any(char::is_control) {
        return Err(Mistake::new(format!("{} does not fit into /etc/passwd", quote(text)))
            .label("no `:` and no control characters"));
    }
    Ok(())
}

fn password_hash(text: &str) -> Result<(), Mistake> {
    let hash = text.trim_start_matches('!');
    let shape = hash.starts_with('$') && hash.matches('$').count() >= 3
        || matches!(text, "!" | "*" | "!!" | "!*");
    if !shape || passwd_field(text).is_err() || text.contains(char::is_whitespace) {
        // The text is not repeated: it may be a password.
        return Err(Mistake::new("not a crypt(5) hash")
            .label("never the password itself")
            .help("`openssl passwd -6` makes a hash; without `password` the account is locked"));
    }
    Ok(())
}

fn is_account(text: &str) -> bool {
    let mut chars = text.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let body = text.strip_suffix('$').unwrap_or(text);
    first
        && text.len() <= 32
        && body.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_digit())
        && text.parse::<u32>().is_ok_and(|id| id != u32::MAX)
}

fn account(text: &str) -> Result<(), Mistake> {
    if is_account(text) {
        return Ok(());
    }
    Err(Mistake::new(format!("{} is not a user or group name", quote(text)))
        .help("1 to 32 of letters, digits, `_`, `.` and `-`, starting with a letter or `_`"))
}

fn owner(text: &str) -> Result<(), Mistake> {
    let known = |part: &str| is_account(part) || is_id(part);
    match text.split_once(':') {
        Some((user, group)) if known(user) && known(group) => Ok(()),
        None if known(text) => Err(Mistake::new(format!("{} is not an owner", quote(text)))
            .label("the group is missing")
            .help(format!("write \"{text}:{text}\""))),
        _ => Err(Mistake::new(format!("{} is not an owner", quote(text)))
            .label("expected `name:group` or `uid:gid`")),
    }
}

fn run_as(text: &str) -> Result<(), Mistake> {
    let known = |part: &str| is_account(part) || is_id(part);
    let (user, group) = text.split_once(':').unwrap_or((text, "0"));
    if known(user) && known(group) {
        return Ok(());
    }
    Err(Mistake::new(format!("{} is not a user", quote(text)))
        .label("expected `name`, `name:group` or ids"))
}

/// Reads permission bits.
pub(super) fn mode(text: &str) -> Result<u32, Mistake> {
    let bad = |label: &str| {
        Mistake::new(format!("{} is not a mode", quote(text))).label(label.to_owned())
    };
    if let Some(digits) = text.strip_prefix("0o").or_else(|| text.strip_prefix("0O")) {
        return Err(
            bad("octal digits only").help(format!("write {}", quote(&format!("0{digits}"))))
        );
    }
    if !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_digit())
        && text.bytes().any(|b| b > b'7')
    {
        return Err(bad("octal digits are 0 to 7"));
    }
    if text.contains(['r', 'w', 'x']) || text.contains(['+', '=']) {
        return Err(bad("octal digits only, such as \"0644\"")
            .help("bits are set as a whole; \"0755\" is rwxr-xr-x, \"0644\" is rw-r--r--"));
    }
    if !(3..=4).contains(&text.len()) || !text.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return Err(bad("expected 3 or 4 octal digits, such as \"0644\""));
    }
    u32::from_str_radix(text, 8).map_err(|_| bad("expected 3 or 4 octal digits, such as \"0644\""))
}

/// Reads a duration: `90s`, `5m`, `1h30m`, `500ms`.
pub(super) fn duration(text: &str) -> Result<Duration, Mistake> {
    let bad =
        |label: String| Mistake::new(format!("{} is not a duration", quote(text))).label(label);
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad("the unit is missing".into()).help(format!(
            "write {} for seconds, {} for minutes",
            quote(&format!("{text}s")),
            quote(&format!("{text}m"))
        )));
    }
    let shape = || {
        bad("expected a number and its unit (`ms`, `s`, `m`, `h`, `d`), such as \"90s\" or \"1h30m\"".into())
    };
    let mut rest = text;
    let mut total = 0_u64;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits]
            .parse()
            .map_err(|_| if digits > 15 { bad("too long".into()) } else { shape() })?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(shape()),
        };
        if unit >= last {
            return Err(bad("units stand in falling order, each once".into()));
        }
        last = unit;
        rest = &rest[letters..];
        total = number
            .checked_mul(unit)
            .and_then(|ms| total.checked_add(ms))
            .ok_or_else(|| bad("too long".into()))?;
    }
    match total {
        _ if text.is_empty() => Err(shape()),
        0 => Err(bad("longer than nothing is needed".into())),
        // Longer than anything real, and far from overflowing whoever adds it to a clock.
        ms if ms > 366 * 86_400_000 => Err(bad("longer than a year".into())),
        ms => Ok(Duration::from_millis(ms)),
    }
}

fn signing_key(text: &str) -> Result<(), Mistake> {
    if text.starts_with("http://") {
        return Err(Mistake::new(format!("signing key over plain http: {}", quote(text)))
            .label("anyone on the way could replace it")
            .help("use an https URL, or a file of the context"));
    }
    if text.contains("://") { url(text, &["https://"]) } else { context(text) }
}

fn package(text: &str) -> Result<(), Mistake> {
    word(text).map_err(|m| match text.contains(char::is_whitespace) {
        true => m.help("each package is an entry of its own: `packages = [\"a\", \"b\"]`"),
        false => m,
    })?;
    if text.starts_with('-') {
        return Err(Mistake::new(format!("{} is an option, not a package", quote(text)))
            .help("`recommends = true` also installs recommended packages"));
    }
    if text.starts_with("./") || text.starts_with("../") || text.starts_with('/') {
        return context(text);
    }
    if text.ends_with(".deb") {
        return Err(Mistake::new(format!("{} looks like a file", quote(text)))
            .label("a file starts with `./`")
            .help(format!("write {}", quote(&format!("./{text}")))));
    }
    Ok(())
}

fn file_name(text: &str) -> Result<(), Mistake> {
    let fits = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if fits && text.len() <= 100 {
        return Ok(());
    }
    Err(Mistake::new(format!("{} is not a name for a file", quote(text)))
        .help("letters, digits, `_`, `.` and `-`, starting with a letter or digit"))
}

fn unit(text: &str) -> Result<(), Mistake> {
    let fits = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.len() <= 255
        && text.chars().all(|c| c.is_ascii_alphanumeric() || r":-_.\@".contains(c));
    if fits {
        return Ok(());
    }
    Err(Mistake::new(format!("{} is not a unit name", quote(text)))
        .label("letters, digits and `:-_.\\@`"))
}

fn signal(text: &str) -> Result<(), Mistake> {
    const NAMES: &[&str] = &[
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    let real_time = text
        .strip_prefix("SIGRTMIN")
        .or_else(|| text.strip_prefix("SIGRTMAX"))
        .is_some_and(|offset| {
            offset.is_empty()
                || offset
                    .strip_prefix(['+', '-'])
                    .is_some_and(|n| n.parse::<u8>().is_ok_and(|n| n <= 30) && !n.starts_with('+'))
        });
    let number = text.bytes().all(|b| b.is_ascii_digit())
        && text.parse::<u8>().is_ok_and(|n| (1..=64).contains(&n));
    if NAMES.contains(&text) || real_time || number {
        return Ok(());
    }
    let full = format!("SIG{}", text.to_uppercase().trim_start_matches("SIG"));
    let mistake = Mistake::new(format!("{} is not a signal", quote(text)))
        .suggest(&full, NAMES.iter().copied());
    Err(match NAMES.iter().find(|n| **n == full) {
        Some(name) => mistake.label(format!("did you mean \"{name}\"?")),
        None => mistake,
    })
}

fn env_name(text: &str) -> Result<(), Mistake> {
    let fits = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if fits {
        return Ok(());
    }
    Err(Mistake::new(format!("{} is not a name of an environment variable", quote(text)))
        .label("letters, digits and `_`, not starting with a digit"))
}

/// Reads a sha256.
pub(super) fn sha256(text: &str) -> Result<String, Mistake> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let bad = |label: String| {
        Mistake::new(format!("{} is not a sha256", quote(text))).label(label).help(
            "`sha256sum FILE` prints it; without the key the lock remembers the first build's",
        )
    };
    if let Some(c) = hex.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(bad(format!("{c:?} is not a hex digit")));
    }
    if hex.len() != 64 {
        return Err(bad(format!("it has {} digits instead of 64", hex.len())));
    }
    Ok(hex.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Check, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(kind.test(text), Ok(()), "{kind:?} {text:?}");
        }
        for text in bad {
            assert!(kind.test(text).is_err(), "{kind:?} took {text:?}");
        }
    }

    #[test]
    fn names() {
        check(
            Check::ImageName,
            &["web", "a/b/c", "a.b", "a_b", "a__b", "a---b", "0"],
            &[
                "", "Web", "a b", "-a", "a-", "a..b", "a___b", "a//b", "/a", "a/", "a:1", "ä",
                "a._b",
            ],
        );
        check(
            Check::ImageVersion,
            &["1", "2.0.0", "v1_x-y", "_", &"a".repeat(128)],
            &["", ".1", "-1", "1/2", "1 2", "1+2", "ä", &"a".repeat(129)],
        );
        check(
            Check::Account,
            &["app", "_apt", "www-data", "a.b", "smb$"],
            &["", "0a", "-a", "a:b", "a b", "ä", &"a".repeat(33)],
        );
        check(
            Check::Unit,
            &["nginx", "getty@tty1.service", "a-b_c.timer"],
            &["", "-x", "a b", "../x", "a/b"],
        );
        check(Check::EnvName, &["A", "_", "http_proxy"], &["", "1A", "A-B", "A=B", "A B"]);
        check(
            Check::Signal,
            &["SIGTERM", "SIGRTMIN+3", "9"],
            &["", "TERM", "SIGFOO", "0", "65", "SIGRTMIN++1", "sigterm"],
        );
    }

    #[test]
    fn paths() {
        check(
            Check::Context,
            &["a", "./a", ".", "a/../b", "a/", "..a", "a..b"],
            &["", "/a", "..", "../a", "a/../../b", "~/a", "a\nb"],
        );
        check(
            Check::Inside,
            &["/", "/a", "/a/", "/..a"],
            &["", "a", "./a", "/a/../b", "/..", "/a\0"],
        );
        check(Check::InsideFile, &["/a"], &["/", "/a/"]);
        check(
            Check::InsideGlob,
            &["/a/*", "/usr/share/doc/*"],
            &["/", "/*", "//", "/**", "/./*", "/a/[x"],
        );
        check(Check::ContextGlob, &["a/*.c", "{a,b}"], &["a/[", "../*"]);
        check(
            Check::Package,
            &["nginx", "nginx=1.2", "x/suite", "./a/x.deb", "g++", "libc6:i386"],
            &["", "a b", "-y", "../x.deb", "/x.deb", "x.deb"],
        );
        check(
            Check::SigningKey,
            &["keys/a.asc", "https://a/b"],
            &["http://a/b", "ftp://a/b", "/etc/key", "https://"],
        );
        check(
            Check::Url,
            &["http://a", "https://a/b?c"],
            &["", "a", "ftp://a", "http://", "http:///x", "http://a b", "http://u:p@a/"],
        );
    }

    #[test]
    fn what_tests_ask() {
        check(
            Check::ProbeUrl,
            &[
                "http://127.0.0.1/",
                "http://localhost:80",
                "http://[::1]:8080/a?b",
                "http://blue.example/x",
                "http://a?b:c",
            ],
            &[
                "",
                "127.0.0.1",
                "https://127.0.0.1/",
                "http://",
                "http://a:b/",
                "http://a:/",
                "http://a:0/",
                "http://::1/",
                "http://u@a/",
                "http://a b/",
            ],
        );
        check(
            Check::Address,
            &["127.0.0.1:5432", "localhost:1", "[::1]:65535"],
            &["", "5432", "localhost", ":80", "a:0", "a:65536", "::1:80", "a b:80", "a:+80"],
        );
    }

    #[test]
    fn owners_modes_durations() {
        check(
            Check::Owner,
            &["a:b", "0:0", "app:0", "1000:www-data"],
            &["", "a", "0", ":", "a:", ":b", "a:b:c", "a b:c", "4294967295:0"],
        );
        check(Check::RunAs, &["a", "0", "a:b", "1:1"], &["", ":", "a:", "a b"]);
        check(
            Check::Mode,
            &["644", "0644", "1777", "4755"],
            &["", "64", "00644", "0o644", "u+x", "rwxr-xr-x", "888", "-644", "+644"],
        );
        check(
            Check::Duration,
            &["90s", "5m", "1h30m", "500ms", "2d"],
            &[
                "",
                "90",
                "s",
                "5 m",
                "1.5h",
                "30m1h",
                "1s1s",
                "0s",
                "-1s",
                "99999999999999999999s",
                "400d",
                "5min",
            ],
        );
        assert_eq!(duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(mode("0640").unwrap(), 0o640);
        assert!(sha256(&"a".repeat(64)).is_ok());
        assert!(sha256(&"A".repeat(64)).is_ok());
        assert!(sha256(&"g".repeat(64)).is_err());
        assert!(sha256("ab").is_err());
    }

    #[test]
    fn a_password_is_never_repeated() {
        let mistake = Check::PasswordHash.test("hunter2").unwrap_err();
        assert!(!format!("{mistake:?}").contains("hunter2"));
        check(
            Check::PasswordHash,
            &["$6$salt$hash", "$y$j9T$a$b", "!", "*"],
            &["", "x", "$6$a:b$c", "$1"],
        );
    }
}
