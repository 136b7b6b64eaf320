//! Who a step runs as: names looked up in the image's own `/etc/passwd` and `/etc/group`, never the
//! host's.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Larger files are not account files.
const LIMIT: u64 = 16 << 20;

/// The ids of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups, without `gid`, sorted.
    pub(super) groups: Vec<u32>,
}

/// Looks up `user` (`name`, `name:group`, `uid`, `uid:gid`) in the root that this process sees.
pub(super) fn look_up(user: &str) -> Result<Who, String> {
    if user == "root" || user == "0" || user == "0:0" || user == "root:root" {
        // Root exists in every image, also in one without account files, and its groups do not
        // change what it may do.
        return Ok(Who { uid: 0, gid: 0, groups: vec![] });
    }
    resolve(user, &account_file("/etc/passwd")?, &account_file("/etc/group")?)
}

/// Returns the home folder of the account that is user `uid`; root's is `/root` where nothing else
/// is said.
pub(super) fn home(uid: u32) -> String {
    let passwd = account_file("/etc/passwd").unwrap_or_default();
    home_in(&passwd, uid).unwrap_or_else(|| if uid == 0 { "/root" } else { "/" }.to_owned())
}

fn home_in(passwd: &[u8], uid: u32) -> Option<String> {
    let row = rows(passwd).find(|row| row.get(2).and_then(|text| number(text)) == Some(uid))?;
    let home = String::from_utf8(row.get(5)?.to_vec()).ok()?;
    home.starts_with('/').then_some(home)
}

/// Reads an account file of a hostile image: a fifo or device there must not stop us.
fn account_file(path: &str) -> Result<Vec<u8>, String> {
    let read = || -> io::Result<Vec<u8>> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(Path::new(path))?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a file"));
        }
        let mut bytes = vec![];
        file.take(LIMIT).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(format!("{path} of the image cannot be read: {error}")),
    }
}

fn rows(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    file.split(|b| *b == b'\n')
        .filter(|row| !row.is_empty())
        .map(|row| row.split(|b| *b == b':').collect())
}

fn number(text: &[u8]) -> Option<u32> {
    // Only digits: `parse` alone would take a leading plus.
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn resolve(user: &str, passwd: &[u8], group: &[u8]) -> Result<Who, String> {
    let (name, wanted_group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    // name:password:uid:gid:…; a number may still be somebody's name, so names go first.
    let account = |row: &Vec<&[u8]>| {
        Some((row.first()?.to_vec(), number(row.get(2)?)?, number(row.get(3)?)?))
    };
    let by_number = number(name.as_bytes());
    let found = rows(passwd)
        .filter_map(|row| account(&row))
        .find(|(who, _, _)| who == name.as_bytes())
        .or_else(|| {
            rows(passwd).filter_map(|row| account(&row)).find(|(_, uid, _)| Some(*uid) == by_number)
        });
    let (login, uid, mut gid) = match (found, by_number) {
        (Some((login, uid, gid)), _) => (Some(login), uid, gid),
        (None, Some(uid)) => (None, uid, 0),
        (None, None) if name == "root" => (Some(b"root".to_vec()), 0, 0),
        (None, None) => {
            return Err(format!("there is no user '{name}' in the image's /etc/passwd"));
        }
    };
    if let Some(wanted) = wanted_group {
        let named = rows(group)
            .find(|row| row.first() == Some(&wanted.as_bytes()))
            .and_then(|row| number(row.get(2)?));
        gid = match named.or_else(|| number(wanted.as_bytes())) {
            Some(gid) => gid,
            None if wanted == "root" => 0,
            None => return Err(format!("there is no group '{wanted}' in the image's /etc/group")),
        };
    }
    let is_member = |row: &Vec<&[u8]>| match (&login, row.get(3)) {
        (Some(login), Some(members)) => {
            members.split(|b| *b == b',').any(|member| member == login.as_slice())
        }
        _ => false,
    };
    let mut groups: Vec<u32> = rows(group)
        .filter(is_member)
        .filter_map(|row| number(row.get(2)?))
        .filter(|g| *g != gid)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    for id in [uid, gid].iter().chain(&groups) {
        if *id > 65535 {
            return Err(format!(
                "the id {id} of user '{user}' does not exist inside: ids go up to 65535"
            ));
        }
    }
    Ok(Who { uid, gid, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\n7:x:70:71::/:\nbroken\nhuge:x:70000:1::/:\n";
    const GROUP: &[u8] = b"root:x:0:\nwww-data:x:33:\nadm:x:4:www-data,other\nssl:x:101:other,www-data\nbad:x:y:www-data\n";

    fn check(user: &str, expected: Result<(u32, u32, &[u32]), &str>) {
        match (resolve(user, PASSWD, GROUP), expected) {
            (Ok(who), Ok((uid, gid, groups))) => {
                assert_eq!(who, Who { uid, gid, groups: groups.to_vec() }, "{user}")
            }
            (Err(error), Err(part)) => assert!(error.contains(part), "{user}: {error}"),
            (got, expected) => panic!("{user}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn users() {
        check("root", Ok((0, 0, &[])));
        check("www-data", Ok((33, 33, &[4, 101])));
        check("33", Ok((33, 33, &[4, 101])));
        check("www-data:adm", Ok((33, 4, &[101])));
        check("www-data:9", Ok((33, 9, &[4, 101])));
        check("1000", Ok((1000, 0, &[])));
        check("1000:1001", Ok((1000, 1001, &[])));
        check("7", Ok((70, 71, &[])));
        check("nobody", Err("no user 'nobody'"));
        check("root:staff", Err("no group 'staff'"));
        check("huge", Err("70000"));
        check("+5", Err("no user '+5'"));
        check("", Err("no user ''"));
        check("99999999999", Err("no user"));
    }
}
