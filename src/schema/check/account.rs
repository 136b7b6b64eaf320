//! Users, groups, owners and modes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::schema::mistake::{Mistake, quote};

pub(super) fn passwd_field(text: &str) -> Result<(), Mistake> {
    if text.contains(':') || text.chars().any(char::is_control) {
        return Err(Mistake::new(format!("{} does not fit into /etc/passwd", quote(text)))
            .label("no `:` and no control characters"));
    }
    Ok(())
}

pub(super) fn password_hash(text: &str) -> Result<(), Mistake> {
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

/// Types of keys begin like this (sshd(8), "AUTHORIZED_KEYS FILE FORMAT").
const KEY_TYPES: &[&str] = &["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"];

pub(super) fn ssh_key(text: &str) -> Result<(), Mistake> {
    let help = "it is the line in the `.pub` file: `ssh-ed25519 AAAA… name`";
    // The text is not repeated: it may be a private key.
    let bad = |label: &str| Err(Mistake::new("not a public key of SSH").label(label).help(help));
    if text.contains("PRIVATE KEY") {
        return bad("the public half belongs here");
    }
    if text.chars().any(char::is_control) {
        return bad("one line is one key");
    }
    // Options may stand before the type, with white space in quotes; none looks like a type.
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_type = |word: &str| KEY_TYPES.iter().any(|start| word.starts_with(start));
    let Some(at) = words.iter().position(|word| is_type(word)) else {
        return bad("no type of key");
    };
    let Some(key) = words.get(at + 1) else { return bad("the key itself is missing") };
    // A type's name is the first string of the key (RFC 4253, 6.6): what was cut off or belongs
    // to another key does not begin with it.
    let kind = words[at].as_bytes();
    let Ok(bytes) = STANDARD.decode(key) else { return bad("it is cut off, or not base64") };
    let named = bytes.split_at_checked(4).is_some_and(|(length, rest)| {
        length == (kind.len() as u32).to_be_bytes()
            && rest.starts_with(kind)
            && rest.len() > kind.len()
    });
    if named { Ok(()) } else { bad("the key is of another type than it says") }
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

pub(super) fn account(text: &str) -> Result<(), Mistake> {
    if is_account(text) {
        return Ok(());
    }
    Err(Mistake::new(format!("{} is not a user or group name", quote(text)))
        .help("1 to 32 of letters, digits, `_`, `.` and `-`, starting with a letter or `_`"))
}

pub(super) fn owner(text: &str) -> Result<(), Mistake> {
    let known = |part: &str| is_account(part) || is_id(part);
    match text.split_once(':') {
        Some((user, group)) if known(user) && known(group) => Ok(()),
        // The primary group of an account is known, that of a number only where an account has it.
        None if is_account(text) => Ok(()),
        None if known(text) => Err(Mistake::new(format!("{} is not an owner", quote(text)))
            .label("the group is missing")
            .help(format!("write \"{text}:{text}\""))),
        _ => Err(Mistake::new(format!("{} is not an owner", quote(text)))
            .label("expected `name`, `name:group` or `uid:gid`")),
    }
}

pub(super) fn run_as(text: &str) -> Result<(), Mistake> {
    let known = |part: &str| is_account(part) || is_id(part);
    let (user, group) = text.split_once(':').unwrap_or((text, "0"));
    if known(user) && known(group) {
        return Ok(());
    }
    Err(Mistake::new(format!("{} is not a user", quote(text)))
        .label("expected `name`, `name:group` or ids"))
}

/// Reads permission bits.
pub(crate) fn mode(text: &str) -> Result<u32, Mistake> {
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
