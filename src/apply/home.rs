//! Home directories of accounts.

use std::path::Path;
use std::rc::Rc;

use rustix::fs::FileType;

use super::error::Error;
use super::root::Root;
use super::spot::{Attr, Spot, parts};
use super::user::User;
use crate::files::dir_names;
use crate::rootfs::accounts::{Ids, MAX_FILE};

const SKELETON: &str = "/etc/skel";
const MAX_SKELETON_DEPTH: usize = 32;

/// Makes the home directory, with the skeleton's files in it, unless it is there.
pub(super) fn make_home(root: &Root, home: &Path, ids: Ids) -> Result<(), Error> {
    if root.is_directory(home) {
        return Ok(());
    }
    root.make_directories(home, Some(Attr { ids, mode: 0o755 }))?;
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
                root.make_directories(&place, Some(attr))?;
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

/// Gives everything in the home directory that belonged to the old ids to the new ones, as usermod
/// does.
pub(super) fn give_home(root: &Root, home: &Path, old: Ids, new: Ids) -> Result<(), Error> {
    if parts(home)?.is_empty() || !root.is_directory(home) {
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
    while let Some(directory) = todo.pop() {
        let Some(fd) = root.directory(&directory)? else { continue };
        let dir = Rc::new(fd);
        for name in dir_names(&*dir).map_err(Error::system("list", &directory))? {
            let child = Spot::within(&dir, &directory, &name);
            if give(&child)? {
                todo.push(child.shown);
            }
        }
    }
    Ok(())
}

/// Adds the keys that are not yet in `~/.ssh/authorized_keys`.
pub(super) fn authorize(root: &Root, user: &User<'_>, home: &Path, ids: Ids) -> Result<(), Error> {
    if home == Path::new("/nonexistent") || parts(home)?.is_empty() {
        return Err(Error::refused(
            format!("user \"{}\"", user.name),
            "has no home directory for its ssh_keys; write `home`",
        ));
    }
    root.make_directories(home, Some(Attr { ids, mode: 0o755 }))?;
    let directory = home.join(".ssh");
    root.make_directories(&directory, Some(Attr { ids, mode: 0o700 }))?;
    let path = directory.join("authorized_keys");
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
