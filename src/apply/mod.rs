//! What steps do besides running programs: one [`Op`] carried out inside the image root.
//!
//! Runs in the sandbox as root inside the namespaces, with the image as `/` (a test gives another
//! directory). Nothing of the image is executed. An operation whose result is there already changes
//! nothing, so that it does not become part of a layer.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod account;
mod error;
mod fill;
mod home;
mod identity;
mod mapped;
mod owner;
mod place;
mod places;
pub(crate) mod probe;
mod remove;
mod reply;
mod repository;
mod root;
mod service;
mod spot;
mod standing;
mod startable;
pub(crate) mod survey;
mod systemctl;
mod unit;
mod unpack;
mod user;
mod way;
mod write;

pub use error::Error;
pub use reply::Reply;
pub use root::Root;
pub use startable::Question;
pub use survey::survey;

use crate::image::Identity;
pub use crate::rootfs::accounts::Ids;
use crate::sandbox::{self, CallError, Inside, Passed};
use crate::step::{Content, Op, called};

/// What can be asked inside the image root, which is `/` there.
#[derive(Debug, Serialize, Deserialize)]
pub enum Call {
    /// Writes the identity of the image.
    Identity {
        /// What to write.
        identity: Identity,
        /// Time of everything made, seconds since 1970.
        epoch: i64,
    },
    /// Carries out one operation.
    Operation {
        /// Which.
        op: Op,
        /// Time of everything made, seconds since 1970.
        epoch: i64,
        /// Of `Write` with a template: the rendered text; of `Download`: the file, seekable; of
        /// `Repository`: the key.
        content: Option<Passed>,
    },
    /// Fills a mounted directory.
    Fill {
        /// Absolute path of the directory.
        at: PathBuf,
        /// Whose the files become: `name:group` or `uid:gid`.
        owner: String,
        /// Time of everything made, seconds since 1970.
        epoch: i64,
        /// What it is filled with.
        tar: Passed,
    },
    /// Gives a mounted directory, without what is in it, to someone.
    Own {
        /// Absolute path of the directory.
        at: PathBuf,
        /// Whose it becomes: a user, or `name:group`, `uid:gid`.
        owner: String,
    },
    /// Answers what stands in for systemctl.
    Systemctl {
        /// Where it asks: a directory that is mounted there.
        directory: PathBuf,
        /// Time of everything made, seconds since 1970.
        epoch: i64,
        /// The file in which it is noted what would have been started.
        notes: PathBuf,
        /// Answers, until the job ends; else makes what that needs.
        ask: bool,
    },
    /// Finds out where a copy would go.
    Survey(survey::Question),
    /// Finds out whether the image could be started as its config says.
    Startable(Question),
}

impl sandbox::Call for Call {
    type Reply = Reply;

    fn run(self, inside: Inside<'_>) -> Result<Reply, CallError> {
        let done = match self {
            Self::Identity { identity, epoch } => Root::open(Path::new("/"), epoch)
                .and_then(|root| identity::write(&root, &identity))
                .map(|()| Reply::Done),
            Self::Operation { op, epoch, content } => {
                Root::open(Path::new("/"), epoch).and_then(|root| {
                    carry_out(&root, &op, content.map(Passed::into_file), inside.progress)
                })
            }
            Self::Fill { at, owner, epoch, tar } => {
                fill::fill(&at, &owner, epoch, tar.into_file(), inside.progress)
            }
            Self::Own { at, owner } => fill::own(&at, &owner),
            Self::Systemctl { directory, notes, ask: false, .. } => {
                systemctl::prepare(&directory, &notes).map(|()| Reply::Done)
            }
            Self::Systemctl { directory, epoch, notes, ask: true } => {
                Root::open(Path::new("/"), epoch)
                    .and_then(|root| systemctl::serve(&root, &directory, &notes))
                    .map(|()| Reply::Done)
            }
            Self::Survey(question) => question.answer().map(Reply::Surveyed),
            Self::Startable(question) => Ok(Reply::Startable(question.answer())),
        };
        done.map_err(|error| CallError::of(&error))
    }
}

/// Returns the ids of `owner` as the account files of the root that this process sees say, as a
/// fragment for people where they do not.
pub(crate) fn owner_in_image(owner: &str) -> Result<Ids, String> {
    let root = Root::open(Path::new("/"), 0).map_err(|e| e.text())?;
    owner::ids(&root, owner).map_err(|e| e.text())
}

/// Carries out `op` in `root`.
///
/// # Errors
/// What is in the way, or cannot be.
pub fn carry_out(
    root: &Root,
    op: &Op,
    file: Option<File>,
    progress: &mut dyn FnMut(u64),
) -> Result<Reply, Error> {
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
            return unpack::unpack(root, &plan, handed()?, progress);
        }
        Op::Download { url, to, owner, mode, unpack: false, .. } => {
            place::download(root, url, to, owner, *mode, &mut handed()?)?
        }
        Op::Mkdir { paths, owner, mode, kept } => {
            place::mkdir(root, paths, owner, *mode, *kept)?;
        }
        Op::Symlink { path, target } => place::symlink(root, path, target)?,
        Op::Remove { paths } => remove::remove(root, paths)?,
        Op::Group { name, gid, system } => return account::group(root, name, *gid, *system),
        Op::User { name, uid, gid, home, shell, groups, system, comment, password, ssh_keys } => {
            let user = user::User {
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
        Op::Repository { name, url, suite, components, key } => {
            repository::add(
                root,
                &repository::Source { name, url, suite, components, key },
                &mut handed()?,
            )?;
        }
        Op::Copy { from, stage: Some(stage), to, owner, .. } => {
            let what = format!("{} of {}", from.join(" "), called(stage));
            let plan = unpack::Plan { url: &what, to, owner, mode: None, strip: 0 };
            return unpack::unpack(root, &plan, handed()?, progress);
        }
        Op::Copy { .. } => return Err(Error::Call("a copy is surveyed, not applied".to_owned())),
        Op::Exec { .. } | Op::Script { .. } | Op::Packages { .. } | Op::Configure(_) => {
            return Err(Error::Call("an operation that runs programs is not for apply".to_owned()));
        }
    }
    Ok(Reply::Done)
}
