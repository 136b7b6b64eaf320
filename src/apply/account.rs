//! Users and groups, written straight into the image's account files: no tool of the image is
//! needed, and the same step gives the same bytes.
//!
//! Ids that the recipe does not give are the lowest free: from 1000 up, for system accounts from
//! 100 up to 999 (0 to 99 belong to the distribution). No backup files, no lock files, and no
//! entries in `/etc/subuid`.

use std::collections::BTreeSet;
use std::path::Path;

use super::error::Error;
use super::home::{authorize, give_home, make_home};
use super::reply::Reply;
use super::root::Root;
use super::spot::Attr;
use super::user::{User, check, check_name};
use crate::rootfs::accounts::{GROUP, Ids, MAX_FILE, PASSWD};
use crate::rootfs::table::Table;
use crate::suggest::alike;

const SHADOW: &str = "/etc/shadow";
const GSHADOW: &str = "/etc/gshadow";

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
    // The directory of an account that a package made is the package's business.
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

    /// Makes the group, or brings it to `gid`; `prefer` is taken when free and no other is
    /// given.
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
        let has = |shell: &&&str| match root.final_spot(Path::new(shell)) {
            Ok(Some(spot)) => matches!(root.look(&spot), Ok(Some(_))),
            _ => false,
        };
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
                "no group has the id {gid}, and the group \"{}\" has {other}; make the group in a \
                    `group` step first",
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
