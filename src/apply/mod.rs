//! What steps do besides running programs: one [`Op`] carried out inside the image root.
//!
//! Runs in the sandbox as root inside the namespaces, with the image as `/` (a test gives another
//! folder). Nothing of the image is executed. An operation whose result is there already changes
//! nothing, so that it does not become part of a layer.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

mod account;
mod error;
mod identity;
mod owner;
mod place;
mod remove;
mod repository;
mod root;
mod service;
pub(crate) mod survey;
mod unit;
mod unpack;

pub use error::Error;
pub(crate) use error::{alike, near};
pub use identity::identity;
pub use root::Root;
pub use survey::survey;

pub use crate::rootfs::accounts::Ids;
use crate::sandbox::CallIo;
use crate::step::{Content, Op};

/// Argument of the chore `apply`: `{"op": …, "epoch": n}`.
#[derive(Debug, Deserialize)]
struct Args {
    op: Op,
    /// Time of everything made, seconds since 1970.
    epoch: i64,
}

/// The chore: carries out `args.op` in `/`. One open file is handed over for these: `Write` of a
/// template: the rendered text; `Download`: the file, seekable; `Repository`: the key.
pub fn apply(io: CallIo<'_>) -> Result<Value, String> {
    let args: Args = serde_json::from_value(io.args)
        .map_err(|e| format!("internal: arguments of apply: {e}"))?;
    let root = Root::open(Path::new("/"), args.epoch).map_err(|e| e.text())?;
    carry_out(&root, &args.op, io.fds.into_iter().next(), io.progress).map_err(|e| e.text())
}

/// Returns the ids of `owner` as the account files of the root that this process sees say, as a
/// fragment for people where they do not.
pub(crate) fn owner_in_image(owner: &str) -> Result<Ids, String> {
    let root = Root::open(Path::new("/"), 0).map_err(|e| e.text())?;
    owner::ids(&root, owner).map_err(|e| e.text())
}

/// Carries out `op` in `root`. Returns `{"files", "bytes"}` for unpacked archives, ids for users
/// and groups, else null.
pub fn carry_out(
    root: &Root,
    op: &Op,
    file: Option<File>,
    tell: &mut dyn FnMut(Value),
) -> Result<Value, Error> {
    let handed = || file.ok_or_else(|| Error::Call("the operation needs an open file".to_owned()));
    match op {
        Op::Write { path, content, append, owner, mode } => {
            let mut content: Box<dyn Read> = match content {
                Content::Text(text) => Box::new(text.as_bytes()),
                Content::Template(_) => Box::new(handed()?),
            };
            place::write(root, path, &mut content, *append, owner.as_deref(), *mode)?;
        }
        Op::Download { url, to, owner, mode, unpack: true, strip, .. } => {
            let plan = unpack::Plan { url, to, owner, mode: *mode, strip: *strip };
            return unpack::unpack(root, &plan, handed()?, tell);
        }
        Op::Download { url, to, owner, mode, unpack: false, .. } => {
            place::download(root, url, to, owner, *mode, &mut handed()?)?
        }
        Op::Mkdir { paths, owner, mode } => place::mkdir(root, paths, owner, *mode)?,
        Op::Symlink { path, target } => place::symlink(root, path, target)?,
        Op::Remove { paths } => remove::remove(root, paths)?,
        Op::Group { name, gid, system } => return account::group(root, name, *gid, *system),
        Op::User { name, uid, gid, home, shell, groups, system, comment, password, ssh_keys } => {
            let user = account::User {
                name,
                uid: *uid,
                gid: *gid,
                home: home.as_deref(),
                shell: shell.as_deref(),
                groups,
                system: *system,
                comment: comment.as_deref(),
                password: password.as_deref(),
                ssh_keys,
            };
            return account::user(root, &user);
        }
        Op::Service { units, state } => service::set(root, units, *state)?,
        Op::Repository { name, url, suite, components, key: _ } => {
            repository::add(
                root,
                &repository::Source { name, url, suite, components },
                &mut handed()?,
            )?;
        }
        Op::Copy { .. } => return Err(Error::Call("a copy is surveyed, not applied".to_owned())),
        Op::Exec { .. } | Op::Script { .. } | Op::Packages { .. } => {
            return Err(Error::Call("an operation that runs programs is not for apply".to_owned()));
        }
    }
    Ok(Value::Null)
}
