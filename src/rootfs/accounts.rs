//! Users and groups of an image, as its own `/etc/passwd` and `/etc/group` say, never the host's
//! (passwd(5), group(5)).
//!
//! A user is written `name`, `name:group`, `uid`, `uid:gid` or a mix of both, and means the same
//! wherever it is written: who runs a program, who owns a file, who must own it. Names go before
//! numbers, as a number may be somebody's name. A lone user has the primary group of the account; a
//! lone number that no account has is in group 0, as in the containers of others.

use super::table::{Table, number};

/// Where users stand in an image.
pub const PASSWD: &str = "/etc/passwd";
/// Where groups stand in an image.
pub const GROUP: &str = "/etc/group";
/// Account files are small: what has more bytes than this is not one.
pub const MAX_FILE: u64 = 16 << 20;

/// Owner ids as the image sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Why no ids could be found for a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not of the form.
    #[error("\"{0}\" is not of the form `name:group` or `uid:gid`")]
    Form(String),
    /// A name that the image does not have.
    #[error("the image has no {kind} \"{name}\"")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// As written.
        name: String,
        /// All names of this kind that the image has.
        known: Vec<String>,
    },
    /// The line of an account is not as passwd(5) or group(5) want it.
    #[error("{file} has a broken line for \"{name}\"")]
    Broken {
        /// Path in the image.
        file: &'static str,
        /// Whose line.
        name: String,
    },
}

/// The accounts of one image.
#[derive(Debug, Default)]
pub struct Accounts {
    users: Table,
    groups: Table,
}

/// Who a program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// User and primary group.
    pub ids: Ids,
    /// Supplementary groups, without the primary one, sorted.
    pub groups: Vec<u32>,
}

impl Accounts {
    /// Takes the bytes of the two files; empty ones where the image has none.
    #[must_use]
    pub fn new(passwd: &[u8], group: &[u8]) -> Self {
        Self { users: Table::parse(passwd), groups: Table::parse(group) }
    }

    /// Whether the ids of `user` are known without the account files: root's are, also in an image
    /// that has no accounts.
    #[must_use]
    pub fn is_root(user: &str) -> bool {
        ["root", "0", "0:0", "root:root"].contains(&user)
    }

    /// Returns the ids of `user`.
    ///
    /// # Errors
    /// Where the image has no such user or group.
    pub fn ids(&self, user: &str) -> Result<Ids, Error> {
        self.find(user).map(|(ids, _)| ids)
    }

    /// Returns who a program of `user` runs as; the groups are those that list the account.
    ///
    /// # Errors
    /// As [`Self::ids`].
    pub fn login(&self, user: &str) -> Result<Login, Error> {
        let (ids, account) = self.find(user)?;
        let mut groups = vec![];
        if let Some(line) = account {
            let name = self.users.field(line, 0);
            groups = (0..self.groups.len())
                .filter(|group| self.groups.field(*group, 3).split(',').any(|m| m == name))
                .filter_map(|group| self.groups.number(group, 2))
                .filter(|gid| *gid != ids.gid)
                .collect();
            groups.sort_unstable();
            groups.dedup();
        }
        Ok(Login { ids, groups })
    }

    /// Returns the home directory of user `uid`; root's is `/root` where no other is given,
    /// anybody else's `/`.
    #[must_use]
    pub fn home(&self, uid: u32) -> String {
        let line = self.users.lines_with(2, uid).into_iter().next();
        let home = line.map(|line| self.users.field(line, 5)).filter(|home| home.starts_with('/'));
        home.unwrap_or_else(|| if uid == 0 { "/root" } else { "/" }.to_owned())
    }

    /// Returns the home directories of all users, sorted, each once.
    #[must_use]
    pub fn homes(&self) -> Vec<String> {
        let mut homes: Vec<String> = (0..self.users.len())
            .map(|line| self.users.field(line, 5))
            .filter(|home| home.starts_with('/') && home.len() > 1)
            .collect();
        homes.push("/root".to_owned());
        homes.sort();
        homes.dedup();
        homes
    }

    /// The ids of `user`, and the line of the account where there is one.
    fn find(&self, user: &str) -> Result<(Ids, Option<usize>), Error> {
        let (name, group) = match user.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (user, None),
        };
        if name.is_empty() || group == Some("") {
            return Err(Error::Form(user.to_owned()));
        }
        let (uid, primary, line) = self.user(name)?;
        let gid = group.map_or(Ok(primary), |group| self.group(group))?;
        Ok((Ids { uid, gid }, line))
    }

    fn user(&self, name: &str) -> Result<(u32, u32, Option<usize>), Error> {
        let broken = || Error::Broken { file: PASSWD, name: name.to_owned() };
        if let Some(line) = self.users.find(name) {
            let uid = self.users.number(line, 2).ok_or_else(broken)?;
            let gid = self.users.number(line, 3).ok_or_else(broken)?;
            return Ok((uid, gid, Some(line)));
        }
        match number(name) {
            Some(uid) => match self.users.lines_with(2, uid).first() {
                Some(line) => {
                    Ok((uid, self.users.number(*line, 3).ok_or_else(broken)?, Some(*line)))
                }
                None => Ok((uid, 0, None)),
            },
            None if name == "root" => Ok((0, 0, None)),
            None => Err(Error::Unknown {
                kind: "user",
                name: name.to_owned(),
                known: self.users.names(),
            }),
        }
    }

    fn group(&self, name: &str) -> Result<u32, Error> {
        if let Some(line) = self.groups.find(name) {
            let broken = || Error::Broken { file: GROUP, name: name.to_owned() };
            return self.groups.number(line, 2).ok_or_else(broken);
        }
        match number(name) {
            Some(gid) => Ok(gid),
            None if name == "root" => Ok(0),
            None => Err(Error::Unknown {
                kind: "group",
                name: name.to_owned(),
                known: self.groups.names(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:34::/var/www:/bin/false\n7:x:70:71::/:\nbroken\nhuge:x:70000:1::/:\nodd:x:+5:1::rel:\n";
    const GROUP: &[u8] = b"root:x:0:\nwww-data:x:33:\nadm:x:4:www-data,other\nssl:x:101:other,www-data\nbad:x:y:www-data\n";

    fn check(user: &str, expected: Result<(u32, u32, &[u32]), &str>) {
        let accounts = Accounts::new(PASSWD, GROUP);
        match (accounts.login(user), expected) {
            (Ok(login), Ok((uid, gid, groups))) => {
                assert_eq!(login, Login { ids: Ids { uid, gid }, groups: groups.into() }, "{user}");
                assert_eq!(accounts.ids(user), Ok(login.ids), "{user}");
            }
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{user}: {error}");
                assert_eq!(accounts.ids(user), Err(error), "{user}");
            }
            (got, expected) => panic!("{user}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn users() {
        check("root", Ok((0, 0, &[])));
        check("www-data", Ok((33, 34, &[4, 101])));
        check("33", Ok((33, 34, &[4, 101])));
        check("www-data:adm", Ok((33, 4, &[101])));
        check("www-data:9", Ok((33, 9, &[4, 101])));
        check("1000", Ok((1000, 0, &[])));
        check("1000:1001", Ok((1000, 1001, &[])));
        check("1000:adm", Ok((1000, 4, &[])));
        check("7", Ok((70, 71, &[])));
        check("huge", Ok((70000, 1, &[])));
        check("nobody", Err("no user \"nobody\""));
        check("root:staff", Err("no group \"staff\""));
        check("+5", Err("no user \"+5\""));
        check("1000:+5", Err("no group \"+5\""));
        check("broken", Err("broken line"));
        check("odd", Err("broken line"));
        check("root:bad", Err("broken line"));
        for bad in ["", ":", "root:", ":root"] {
            check(bad, Err("is not of the form"));
        }
        check("99999999999", Err("no user"));
        check("4294967295", Err("no user"));
    }

    #[test]
    fn root_needs_no_account_files() {
        let none = Accounts::default();
        for user in ["root", "0", "0:0", "root:root"] {
            assert!(Accounts::is_root(user));
            assert_eq!(none.ids(user), Ok(Ids { uid: 0, gid: 0 }), "{user}");
        }
        assert_eq!((none.home(0), none.home(7)), ("/root".to_owned(), "/".to_owned()));
        let accounts = Accounts::new(PASSWD, GROUP);
        assert_eq!(accounts.home(33), "/var/www");
    }
}
