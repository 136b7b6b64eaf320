//! Packages, units, signals, variables of the environment, digests: what a system calls things.

use super::path::context;
use super::text::word;
use crate::reach::Entry;
use crate::schema::address::url;
use crate::schema::mistake::{Mistake, quote};

pub(super) fn signing_key(text: &str) -> Result<(), Mistake> {
    if text.starts_with("http://") {
        return Err(Mistake::new(format!("signing key over plain http: {}", quote(text)))
            .label("anyone on the way could replace it")
            .help("use an https URL, or a file of the context"));
    }
    if text.contains("://") { url(text, &["https://"]) } else { context(text) }
}

pub(super) fn package(text: &str) -> Result<(), Mistake> {
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

pub(super) fn reachable(text: &str) -> Result<(), Mistake> {
    text.parse::<Entry>().map(drop).map_err(|why| {
        Mistake::new(format!("{} is not a host that can be reached", quote(text)))
            .label(why.to_string())
            .help("such as \"deb.debian.org\", \"pypi.org:443\", \"*.example.org\", \"10.0.0.0/8\"")
    })
}

pub(super) fn file_name(text: &str) -> Result<(), Mistake> {
    let fits = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if fits && text.len() <= 100 {
        return Ok(());
    }
    Err(Mistake::new(format!("{} is not a name for a file", quote(text)))
        .help("letters, digits, `_`, `.` and `-`, starting with a letter or digit"))
}

/// Longest name of a machine that the kernel takes (`HOST_NAME_MAX`, hostname(5)).
const HOST_NAME: usize = 64;

pub(super) fn host_name(text: &str) -> Result<(), Mistake> {
    let part = |part: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !part.is_empty() && part.chars().all(fits) && !part.starts_with('-') && !part.ends_with('-')
    };
    if text.len() <= HOST_NAME && text.split('.').all(part) {
        return Ok(());
    }
    Err(Mistake::new(format!("{} is not a name of a machine", quote(text)))
        .help("at most 64 letters, digits and `-`, with `.` between parts"))
}

pub(super) fn unit(text: &str) -> Result<(), Mistake> {
    let fits = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.len() <= 255
        && text.chars().all(|c| c.is_ascii_alphanumeric() || r":-_.\@".contains(c));
    if fits {
        return Ok(());
    }
    Err(Mistake::new(format!("{} is not a unit name", quote(text)))
        .label("letters, digits and `:-_.\\@`"))
}

pub(super) fn signal(text: &str) -> Result<(), Mistake> {
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

pub(super) fn env_name(text: &str) -> Result<(), Mistake> {
    let fits = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if fits {
        return Ok(());
    }
    Err(Mistake::new(format!("{} is not a name of an environment variable", quote(text)))
        .label("letters, digits and `_`, not starting with a digit"))
}

/// A name of a file in `/run/secrets`, which stands on a command line before `=`.
pub(super) fn secret_name(text: &str) -> Result<(), Mistake> {
    let fits = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.len() <= 64
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if fits {
        return Ok(());
    }
    Err(Mistake::new(format!("{} is not a name of a secret", quote(text)))
        .label("at most 64 letters, digits, `_`, `.` and `-`, not starting with `.` or `-`"))
}

/// A name of a directory that is kept between builds.
pub(super) fn cache_name(text: &str) -> Result<(), Mistake> {
    let fits = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.len() <= 128
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if fits {
        return Ok(());
    }
    Err(Mistake::new(format!("{} is not a name of a cache", quote(text)))
        .label("at most 128 letters, digits, `_`, `.` and `-`, not starting with `.` or `-`"))
}

/// Reads a sha256.
pub(crate) fn sha256(text: &str) -> Result<String, Mistake> {
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
