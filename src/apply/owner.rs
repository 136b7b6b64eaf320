//! Owners by name, looked up in the image's own `/etc/passwd` and `/etc/group`.

use std::path::Path;

use super::error::{Error, alike};
use super::root::{Ids, Root};

/// Account files are small; anything beyond this is not one.
pub(super) const MAX_ACCOUNT_FILE: u64 = 16 << 20;

/// Returns the ids of `owner`: `name:group`, `uid:gid`, a mix of both, or a lone name (its primary
/// group) or number (the same group).
pub(super) fn ids(root: &Root, owner: &str) -> Result<Ids, Error> {
    let (user, group) = match owner.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (owner, None),
    };
    if user.is_empty() || group == Some("") {
        return Err(Error::refused(
            format!("owner \"{owner}\""),
            "is not of the form `name:group` or `uid:gid`",
        ));
    }
    let users = table(root, "/etc/passwd")?;
    let (uid, primary) = match user.parse::<u32>() {
        Ok(uid) => (uid, uid),
        Err(_) => {
            let line = find(&users, user).ok_or_else(|| unknown("user", user, &users))?;
            (number(line, 2, "/etc/passwd")?, number(line, 3, "/etc/passwd")?)
        }
    };
    let gid = match group.map(|g| (g, g.parse::<u32>())) {
        None => primary,
        Some((_, Ok(gid))) => gid,
        Some((name, Err(_))) => {
            let groups = table(root, "/etc/group")?;
            number(
                find(&groups, name).ok_or_else(|| unknown("group", name, &groups))?,
                2,
                "/etc/group",
            )?
        }
    };
    Ok(Ids { uid, gid })
}

fn table(root: &Root, path: &str) -> Result<Vec<String>, Error> {
    let bytes = root.read(Path::new(path), MAX_ACCOUNT_FILE)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
}

fn find<'a>(lines: &'a [String], name: &str) -> Option<&'a str> {
    lines.iter().map(String::as_str).find(|l| l.split(':').next() == Some(name))
}

fn number(line: &str, field: usize, file: &str) -> Result<u32, Error> {
    line.split(':')
        .nth(field)
        .and_then(|n| n.parse().ok())
        .ok_or_else(|| Error::refused(file, format!("has a broken line \"{line}\"")))
}

fn unknown(kind: &'static str, name: &str, lines: &[String]) -> Error {
    let known = lines.iter().filter_map(|l| l.split(':').next());
    Error::NoSuchName { kind, name: name.to_owned(), near: alike(name, known) }
}
