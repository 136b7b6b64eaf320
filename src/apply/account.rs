//! Users and groups, written straight into the image's account files: no tool of the image is
//! needed, and the same step gives the same bytes.
//!
//! Ids that the recipe does not give are the lowest free: from 1000 up, for system accounts from
//! 100 up to 999 (0 to 99 belong to the distribution). No backup files, no lock files, and no
//! entries in `/etc/subuid`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::FileType;

use super::error::{Error, alike};
use super::reply::Reply;
use super::root::{Attr, Root, Spot, parts};
use crate::files::dir_names;
use crate::rootfs::accounts::{GROUP, Ids, MAX_FILE, PASSWD};
use crate::rootfs::table::Table;

const SHADOW: &str = "/etc/shadow";
const GSHADOW: &str = "/etc/gshadow";
const SKELETON: &str = "/etc/skel";
const MAX_SKELETON_DEPTH: usize = 32;

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

/// Makes a group or brings it to what is written.
pub(super) fn group(
    root: &Root,
    name: &str,
    gid: Option<u32>,
    system: bool,
) -> Result<Reply, Error> {
    check_name("group", name)?;
    let mut files = Files::load(root)?;
    let gid = files.group(name, gid, None, system)?;
    files.save(root)?;
    Ok(Reply::Group { gid })
}

/// Makes a user or brings him to what is written.
pub(super) fn user(root: &Root, user: &User<'_>) -> Result<Reply, Error> {
    check(user)?;
    let mut files = Files::load(root)?;
    let done = match files.passwd.find(user.name) {
        Some(line) => files.change(user, line)?,
        None => files.make(root, user)?,
    };
    for group in user.groups {
        files.join(user.name, group)?;
    }
    files.password(user, root.epoch())?;
    files.save(root)?;
    let home = Path::new(&done.home);
    if let Some(old) = done.was {
        give_home(root, home, old, done.ids)?;
    }
    // The folder of an account that a package made is the package's business.
    if !user.system && (done.new || user.home.is_some()) && home != Path::new("/") {
        make_home(root, home, done.ids)?;
    }
    if !user.ssh_keys.is_empty() {
        authorize(root, user, home, done.ids)?;
    }
    let Ids { uid, gid } = done.ids;
    Ok(Reply::User { uid, gid, home: done.home })
}

/// A user as the files now have him.
struct Done {
    ids: Ids,
    home: String,
    /// The ids he had before, where they changed.
    was: Option<Ids>,
    new: bool,
}

struct Files {
    passwd: Table,
    group: Table,
    shadow: Table,
    /// Kept up only where the image has it.
    gshadow: Option<Table>,
}

impl Files {
    fn load(root: &Root) -> Result<Self, Error> {
        let read = |path: &str| {
            root.read(Path::new(path), MAX_FILE).map(|bytes| bytes.map(|b| Table::parse(&b)))
        };
        Ok(Self {
            passwd: read(PASSWD)?.unwrap_or_default(),
            group: read(GROUP)?.unwrap_or_default(),
            shadow: read(SHADOW)?.unwrap_or_default(),
            gshadow: read(GSHADOW)?,
        })
    }

    fn save(&self, root: &Root) -> Result<(), Error> {
        let own = root.own();
        let shadow_group = self.group.find("shadow").and_then(|l| self.group.number(l, 2));
        let secret = match shadow_group {
            Some(gid) => Attr { ids: Ids { uid: own.uid, gid }, mode: 0o640 },
            None => Attr { ids: own, mode: 0o600 },
        };
        let open = Attr { ids: own, mode: 0o644 };
        let tables = [
            (PASSWD, Some(&self.passwd), open),
            (GROUP, Some(&self.group), open),
            (SHADOW, Some(&self.shadow), secret),
        ];
        for (path, table, attr) in
            tables.into_iter().chain([(GSHADOW, self.gshadow.as_ref(), secret)])
        {
            if let Some(table) = table.filter(|t| t.changed()) {
                root.rewrite(Path::new(path), &table.bytes(), attr)?;
            }
        }
        Ok(())
    }

    /// Makes the group, or brings it to `gid`; `prefer` is taken when free and nothing else is
    /// said.
    fn group(
        &mut self,
        name: &str,
        gid: Option<u32>,
        prefer: Option<u32>,
        system: bool,
    ) -> Result<u32, Error> {
        let line = self.group.find(name);
        let old = line.and_then(|l| self.group.number(l, 2));
        if let (Some(old), None) = (old, gid) {
            return Ok(old);
        }
        if let (Some(gid), true) = (gid, old != gid) {
            self.free("group", name, &self.group, gid)?;
        }
        let used = self.group.numbers(2);
        let gid = match gid.or(prefer.filter(|p| !used.contains(p))) {
            Some(gid) => gid,
            None => lowest_free("group", name, &used, system)?,
        };
        match (line, old) {
            (Some(line), old) => {
                self.group.set(line, 2, &gid.to_string());
                // As with groupmod, whoever had it as primary group still does.
                for line in old
                    .filter(|old| *old != gid)
                    .map(|old| self.passwd.lines_with(3, old))
                    .unwrap_or_default()
                {
                    self.passwd.set(line, 3, &gid.to_string());
                }
            }
            (None, _) => {
                self.group.push(&format!("{name}:x:{gid}:"));
                if let Some(gshadow) = self.gshadow.as_mut().filter(|g| g.find(name).is_none()) {
                    gshadow.push(&format!("{name}:!::"));
                }
            }
        }
        Ok(gid)
    }

    /// Refuses an id that another account has.
    fn free(&self, kind: &str, name: &str, table: &Table, id: u32) -> Result<(), Error> {
        match table.holder(2, id).filter(|holder| holder != name) {
            Some(holder) => Err(Error::refused(
                format!("{kind} \"{name}\""),
                format!("id {id} already belongs to \"{holder}\"; choose another"),
            )),
            None => Ok(()),
        }
    }

    fn make(&mut self, root: &Root, user: &User<'_>) -> Result<Done, Error> {
        let uid = match user.uid {
            Some(uid) => {
                self.free("user", user.name, &self.passwd, uid)?;
                uid
            }
            None => lowest_free("user", user.name, &self.passwd.numbers(2), user.system)?,
        };
        let gid = self.primary(user, uid)?;
        let home = match user.home {
            Some(home) => home.to_owned(),
            None if user.system => "/nonexistent".to_owned(),
            None => format!("/home/{}", user.name),
        };
        let shells: &[&str] = if user.system {
            &["/usr/sbin/nologin", "/sbin/nologin", "/bin/false"]
        } else {
            &["/bin/bash", "/bin/sh"]
        };
        let has = |shell: &&&str| matches!(root.final_spot(Path::new(shell)), Ok(Some(spot)) if matches!(root.look(&spot), Ok(Some(_))));
        let shell = user
            .shell
            .or_else(|| shells.iter().find(has).copied())
            .unwrap_or(shells[shells.len() - 1]);
        self.passwd.push(&format!(
            "{}:x:{uid}:{gid}:{}:{home}:{shell}",
            user.name,
            user.comment.unwrap_or("")
        ));
        Ok(Done { ids: Ids { uid, gid }, home, was: None, new: true })
    }

    fn change(&mut self, user: &User<'_>, line: usize) -> Result<Done, Error> {
        let broken = || Error::refused(PASSWD, format!("has a broken line for \"{}\"", user.name));
        let was = Ids {
            uid: self.passwd.number(line, 2).ok_or_else(broken)?,
            gid: self.passwd.number(line, 3).ok_or_else(broken)?,
        };
        let uid = user.uid.unwrap_or(was.uid);
        if uid != was.uid {
            self.free("user", user.name, &self.passwd, uid)?;
        }
        let gid = if user.gid.is_some() { self.primary(user, uid)? } else { was.gid };
        let (uid_text, gid_text) = (uid.to_string(), gid.to_string());
        let written = [
            (2, Some(uid_text.as_str())),
            (3, Some(&gid_text)),
            (4, user.comment),
            (5, user.home),
            (6, user.shell),
        ];
        for (field, value) in written {
            if let Some(value) = value {
                self.passwd.set(line, field, value);
            }
        }
        let ids = Ids { uid, gid };
        Ok(Done {
            ids,
            home: self.passwd.field(line, 5),
            was: Some(was).filter(|was| *was != ids),
            new: false,
        })
    }

    /// The primary group: the one with the id written, else the one of the user's name; made if
    /// missing.
    fn primary(&mut self, user: &User<'_>, uid: u32) -> Result<u32, Error> {
        let Some(gid) = user.gid else {
            return self.group(user.name, None, Some(uid), user.system);
        };
        if self.group.holder(2, gid).is_some() {
            return Ok(gid);
        }
        if let Some(other) = self.group.find(user.name).and_then(|l| self.group.number(l, 2)) {
            let why = format!(
                "no group has the id {gid}, and the group \"{}\" has {other}; make the group in a `group` step first",
                user.name
            );
            return Err(Error::refused(format!("user \"{}\"", user.name), why));
        }
        self.group(user.name, Some(gid), None, user.system)
    }

    /// Adds the user to a group; groups that are not written are left alone.
    fn join(&mut self, user: &str, group: &str) -> Result<(), Error> {
        let Some(line) = self.group.find(group) else {
            let names = self.group.names();
            let near = alike(group, names.iter().map(String::as_str));
            return Err(Error::NoSuchName { kind: "group", name: group.to_owned(), near });
        };
        self.group.add_member(line, 3, user);
        if let Some(gshadow) = &mut self.gshadow
            && let Some(line) = gshadow.find(group)
        {
            gshadow.add_member(line, 3, user);
        }
        Ok(())
    }

    /// Brings the password to the hash written; without one, no password opens the account.
    fn password(&mut self, user: &User<'_>, epoch: i64) -> Result<(), Error> {
        if let Some(line) = self.passwd.find(user.name) {
            self.passwd.set(line, 1, "x");
        }
        // sshd takes a leading `!` for a locked account and refuses keys, too, where PAM does not
        // decide; `*` only says: no password.
        let locked = if user.ssh_keys.is_empty() { "!" } else { "*" };
        // Day 0 would mean: must be changed at the next login. Empty means: nobody counts the days.
        let day = if epoch < 86_400 { String::new() } else { (epoch / 86_400).to_string() };
        match self.shadow.find(user.name) {
            None => self.shadow.push(&format!(
                "{}:{}:{day}:0:99999:7:::",
                user.name,
                user.password.unwrap_or(locked)
            )),
            Some(line) => {
                let old = self.shadow.field(line, 1);
                let new = match user.password {
                    Some(hash) => hash,
                    None if old.starts_with(['!', '*']) => &old,
                    None => locked,
                };
                if old != new {
                    self.shadow.set(line, 1, new);
                    self.shadow.set(line, 2, &day);
                }
            }
        }
        Ok(())
    }
}

fn lowest_free(kind: &str, name: &str, used: &BTreeSet<u32>, system: bool) -> Result<u32, Error> {
    let mut range = if system { 100..=999 } else { 1000..=59_999 };
    range.find(|id| !used.contains(id)).ok_or_else(|| {
        Error::refused(format!("{kind} \"{name}\""), "no id is free; write one into the step")
    })
}

/// Makes the home folder, with the skeleton's files in it, unless it is there.
fn make_home(root: &Root, home: &Path, ids: Ids) -> Result<(), Error> {
    if root.is_folder(home) {
        return Ok(());
    }
    root.make_folders(home, Some(Attr { ids, mode: 0o755 }))?;
    copy_skeleton(root, Path::new(SKELETON), home, ids, 0)
}

fn copy_skeleton(root: &Root, from: &Path, to: &Path, ids: Ids, depth: usize) -> Result<(), Error> {
    if depth > MAX_SKELETON_DEPTH {
        return Err(Error::in_the_way(from, "is nested too deeply for a skeleton"));
    }
    for name in root.names(from)? {
        let (source, place) = (from.join(&name), to.join(&name));
        let Some(spot) = root.spot(&source)? else { continue };
        let Some(found) = root.look(&spot)? else { continue };
        let attr = Attr { ids, mode: found.attr.mode & 0o777 };
        match found.kind {
            FileType::Directory => {
                root.make_folders(&place, Some(attr))?;
                copy_skeleton(root, &source, &place, ids, depth + 1)?;
            }
            FileType::RegularFile => {
                if let Some(mut file) = root.open_file(&spot)? {
                    root.put_file(&root.make_spot(&place)?, attr, &mut file)?;
                }
            }
            FileType::Symlink => {
                root.put_link(&root.make_spot(&place)?, &root.read_link(&spot)?, ids)?
            }
            _ => {}
        }
    }
    Ok(())
}

/// Gives everything in the home folder that belonged to the old ids to the new ones, as usermod
/// does.
fn give_home(root: &Root, home: &Path, old: Ids, new: Ids) -> Result<(), Error> {
    if parts(home)?.is_empty() || !root.is_folder(home) {
        return Ok(());
    }
    let mut todo = vec![home.to_owned()];
    let give = |spot: &Spot| -> Result<bool, Error> {
        let Some(found) = root.look(spot)? else { return Ok(false) };
        let swap = |has: u32, old: u32, new: u32| if has == old { new } else { has };
        let ids = Ids {
            uid: swap(found.attr.ids.uid, old.uid, new.uid),
            gid: swap(found.attr.ids.gid, old.gid, new.gid),
        };
        if ids != found.attr.ids {
            root.give(spot, ids)?;
        }
        Ok(found.kind == FileType::Directory)
    };
    if let Some(spot) = root.spot(home)? {
        give(&spot)?;
    }
    while let Some(folder) = todo.pop() {
        let Some(fd) = root.folder(&folder)? else { continue };
        let dir = Rc::new(fd);
        for name in dir_names(&*dir).map_err(Error::system("list", &folder))? {
            let child = Spot::within(&dir, &folder, &name);
            if give(&child)? {
                todo.push(child.shown);
            }
        }
    }
    Ok(())
}

/// Adds the keys that are not yet in `~/.ssh/authorized_keys`.
fn authorize(root: &Root, user: &User<'_>, home: &Path, ids: Ids) -> Result<(), Error> {
    if home == Path::new("/nonexistent") || parts(home)?.is_empty() {
        return Err(Error::refused(
            format!("user \"{}\"", user.name),
            "has no home folder for its ssh_keys; write `home`",
        ));
    }
    root.make_folders(home, Some(Attr { ids, mode: 0o755 }))?;
    let folder = home.join(".ssh");
    root.make_folders(&folder, Some(Attr { ids, mode: 0o700 }))?;
    let path = folder.join("authorized_keys");
    let mut text = root.read(&path, MAX_FILE)?.unwrap_or_default();
    for key in user.ssh_keys {
        let key = key.trim();
        if text.split(|b| *b == b'\n').any(|line| line.trim_ascii() == key.as_bytes()) {
            continue;
        }
        if text.last().is_some_and(|b| *b != b'\n') {
            text.push(b'\n');
        }
        text.extend_from_slice(key.as_bytes());
        text.push(b'\n');
    }
    let spot = root
        .final_spot(&path)?
        .ok_or_else(|| Error::in_the_way(&path, "is a symlink to nowhere"))?;
    root.put_file(&spot, Attr { ids, mode: 0o600 }, &mut &text[..])?;
    Ok(())
}

fn check(user: &User<'_>) -> Result<(), Error> {
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
        let why = "password is not a crypt hash such as `openssl passwd -6` prints; a recipe never holds a password in clear";
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

fn check_name(kind: &str, name: &str) -> Result<(), Error> {
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
    fn hashes_are_told_from_passwords() {
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
    fn public_keys_are_told_from_other_lines() {
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
