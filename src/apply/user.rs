//! What a `user` step says, and which of it no account file may hold.

use std::path::PathBuf;

use super::error::Error;
use super::spot::parts;

/// What a `user` step says.
pub(super) struct User<'a> {
    pub(super) name: &'a str,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) home: Option<&'a str>,
    pub(super) shell: Option<&'a str>,
    pub(super) groups: &'a [String],
    pub(super) system: bool,
    pub(super) comment: Option<&'a str>,
    pub(super) password: Option<&'a str>,
    pub(super) ssh_keys: &'a [String],
}

pub(super) fn check(user: &User<'_>) -> Result<(), Error> {
    check_name("user", user.name)?;
    let what = || format!("user \"{}\"", user.name);
    for (field, value) in [("home", user.home), ("shell", user.shell), ("comment", user.comment)] {
        let Some(value) = value else { continue };
        if value.chars().any(|c| c == ':' || c.is_control()) {
            return Err(Error::refused(
                what(),
                format!("{field} may not hold a colon or a line break"),
            ));
        }
        if field != "comment" && !value.starts_with('/') {
            return Err(Error::refused(
                what(),
                format!("{field} \"{value}\" is not an absolute path"),
            ));
        }
    }
    if let Some(home) = user.home {
        parts(&PathBuf::from(home))?;
    }
    if let Some(hash) = user.password
        && !is_hash(hash)
    {
        let why = "password is not a crypt hash such as `openssl passwd -6` prints; a recipe never \
            holds a password in clear";
        return Err(Error::refused(what(), why));
    }
    match user.ssh_keys.iter().position(|key| !is_public_key(key)) {
        Some(n) => Err(Error::refused(
            what(),
            format!("line {} of ssh_keys is not a public key as in a `.pub` file", n + 1),
        )),
        None => Ok(()),
    }
}

pub(super) fn check_name(kind: &str, name: &str) -> Result<(), Error> {
    let body = name.strip_suffix('$').unwrap_or(name);
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if name.len() <= 32
        && body.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && body.bytes().all(good)
    {
        return Ok(());
    }
    let why =
        "a name has at most 32 letters, digits, `_`, `.` and `-`, and begins with a letter or `_`";
    Err(Error::refused(format!("{kind} \"{}\"", name.escape_debug()), why))
}

/// Whether `text` looks like what crypt(5) calls a hash: `$id$…`. The old DES form is left out: it
/// looks like any 13 letters.
fn is_hash(text: &str) -> bool {
    let fields: Vec<&str> = text.split('$').collect();
    let known = ["1", "2a", "2b", "2x", "2y", "5", "6", "7", "y", "gy", "sha1", "md5"];
    fields.len() >= 3
        && fields[0].is_empty()
        && known.contains(&fields[1])
        && fields[fields.len() - 1].len() >= 20
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"./$=,_+-".contains(&b))
}

/// Whether `line` is a line of authorized_keys: a key type and its base64, options before, a
/// comment behind.
fn is_public_key(line: &str) -> bool {
    let line = line.trim();
    if line.starts_with('#') || line.contains("PRIVATE KEY") || line.chars().any(char::is_control) {
        return false;
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_type = |word: &str| {
        ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|start| word.starts_with(start))
    };
    words.windows(2).any(|pair| is_type(pair[0]) && pair[1].starts_with("AAAA"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_distinguished_from_passwords() {
        for good in [
            "$6$rounds=5000$abcd$0123456789012345678901234567890123456789",
            "$y$j9T$8JHSq0gKJMnbUzYqk5w3b0$4k6l7gGQ2uM0Vn3ZL1UuZt0J5p0rJ2mZ0mRk0mC0r5A",
            "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
            "$1$abc$0123456789012345678901",
        ] {
            assert!(is_hash(good), "{good}");
        }
        for bad in [
            "secret",
            "",
            "!",
            "*",
            "$6$",
            "$6$x",
            "$9$abc$0123456789012345678901234",
            "$6$a:b$01234567890123456789012",
            "$6$a$0123456789012345678901\n",
        ] {
            assert!(!is_hash(bad), "{bad}");
        }
    }

    #[test]
    fn public_keys_are_distinguished_from_other_lines() {
        for good in [
            "ssh-ed25519 AAAAC3Nz someone@somewhere",
            "  ssh-rsa AAAAB3 ",
            "restrict,command=\"/bin/x y\" ecdsa-sha2-nistp256 AAAAE2",
            "sk-ssh-ed25519@openssh.com AAAAG",
        ] {
            assert!(is_public_key(good), "{good}");
        }
        for bad in [
            "",
            "ssh-ed25519",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "ssh-rsa AAAA\nroot:x",
            "# ssh-rsa AAAA",
            "ssh-ed25519 BBBB",
        ] {
            assert!(!is_public_key(bad), "{bad}");
        }
    }

    #[test]
    fn names_that_break_account_files_are_refused() {
        for good in ["app", "_apt", "www-data", "host$", "a.b", "systemd-network"] {
            assert!(check_name("user", good).is_ok(), "{good}");
        }
        for bad in ["", "-x", "0", "1000", "a:b", "a\nb", "a b", "ä", "$", &"x".repeat(33), "../x"]
        {
            assert!(check_name("user", bad).is_err(), "{bad}");
        }
    }
}
