//! Where a copy goes: what of it would be in its layer, given the image below. Looks only; the
//! layer is written outside, from the context.
//!
//! The places are resolved as the kernel would if everything were really put there one after the
//! other: symlinks of the image are followed, and what the copy itself has put before counts. What
//! is there already, with the same content, mode and owner, is no change.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fd::OwnedFd;
use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::mapped::is_mapped;
use super::owner;
use super::places::short;
pub(crate) use super::places::{Asked, Placed, Put, What, read_ids};
use super::root::Root;
use super::spot::{Attr, Spot, parts};
use super::way::{
    directory_in_the_way, link_over_directory, link_to_directory_in_the_way, outside_the_ids,
};
use crate::digest::{Digest, HashReader};
use crate::layer;
use crate::rootfs::accounts::Ids;
use crate::rootfs::resolve;
use crate::sandbox::Passed;

/// What a copy wants to know.
#[derive(Debug, Serialize, Deserialize)]
pub struct Question {
    /// Of the step.
    pub to: String,
    /// Of the step.
    pub owner: String,
    /// Image paths that are not there although they should be.
    pub unseen: Vec<String>,
    /// The places, as above.
    pub asked: Passed,
    /// Where the answer goes.
    pub answer: Passed,
}

impl Question {
    /// Answers with the image as `/`. False: it would have had to look at or below one of the paths
    /// `unseen`.
    pub(super) fn answer(self) -> Result<bool, Error> {
        let Self { to, owner, unseen, asked, answer } = self;
        // The time does not matter: nothing is written.
        let root = Root::open(Path::new("/"), 0)?;
        survey(&root, &to, &owner, &unseen, asked.into_file(), answer.into_file())
    }
}

/// Resolves where everything that `asked` names would go in `root` and writes the entries of its
/// layer to `answer`. False: it would have had to look at or below one of the image paths `unseen`.
///
/// # Errors
/// Where something is in the way, or would not stay in the image; and what the owner's name is
/// wrong with.
pub fn survey(
    root: &Root,
    to: &str,
    owner: &str,
    unseen: &[String],
    asked: impl Read,
    answer: impl Write,
) -> Result<bool, Error> {
    let unseen = unseen.iter().map(|path| path.trim_matches('/').as_bytes().to_vec()).collect();
    let mut survey = Survey {
        root,
        ids: Ids { uid: 0, gid: 0 },
        unseen,
        blind: false,
        put: BTreeMap::new(),
        open: HashMap::new(),
    };
    for file in ["etc", "etc/passwd", "etc/group"] {
        survey.see(file.as_bytes());
    }
    if survey.blind {
        return Ok(false);
    }
    survey.ids = owner::ids(root, owner)?;
    if !is_mapped(survey.ids) {
        return Err(outside_the_ids(Path::new(to), survey.ids));
    }
    let broken = |e| Error::system("read the copied places for", to)(e);
    let mut asked = BufReader::with_capacity(256 << 10, asked);
    let mut number = 0;
    while let Some(one) = Asked::read(&mut asked).map_err(broken)? {
        let placed = survey.place(to, number, &one);
        // What is wrong without the rest of the image may be right with it.
        if survey.blind {
            return Ok(false);
        }
        placed?;
        number += 1;
    }
    survey.top_where_unusual()?;
    survey.answer(answer).map_err(Error::system("answer the copied places for", to))?;
    Ok(true)
}

/// A directory: of the image, or new.
#[derive(Debug)]
struct Dir {
    /// Its path, with no symlink in it.
    real: Vec<u8>,
    /// `None`: new, so there is nothing in it but what was put there.
    fd: Option<Rc<OwnedFd>>,
}

/// What stands at a place, seen through what was put before.
enum There {
    Nothing,
    Directory,
    Link(Vec<u8>),
    /// A file of the image, or anything else in it that a file can replace.
    Old(Attr, FileType),
    /// A file that was put there.
    New,
}

struct Survey<'a> {
    root: &'a Root,
    ids: Ids,
    unseen: Vec<Vec<u8>>,
    /// Something was looked for where the image is not complete.
    blind: bool,
    /// By path, with 0 for `/`: then the order of the bytes is that of a layer. Directories above
    /// what was put are in it too.
    put: BTreeMap<Vec<u8>, (Put, There)>,
    /// Directories by the path under which they were looked for; emptied when it grows, or when a
    /// symlink was replaced.
    open: HashMap<PathBuf, Rc<Dir>>,
}

fn key(real: &[u8]) -> Vec<u8> {
    real.iter().map(|b| if *b == b'/' { 0 } else { *b }).collect()
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_owned() } else { [dir, b"/", name].concat() }
}

impl Survey<'_> {
    fn place(&mut self, to: &str, number: u32, one: &Asked) -> Result<(), Error> {
        let path = if one.place.is_empty() {
            PathBuf::from(to)
        } else {
            Path::new(to).join(OsStr::from_bytes(&one.place))
        };
        if one.what == What::Directory {
            self.directories(&path, Some(number))?;
            return Ok(());
        }
        let mut parts = parts(&path)?;
        let name = parts.pop().ok_or_else(|| Error::BadPath {
            path: path.clone(),
            why: "names the root directory itself",
        })?;
        let dir = self.directories(&parts.iter().collect::<PathBuf>(), None)?;
        let shown = Path::new("/").join(parts.iter().collect::<PathBuf>()).join(name);
        let spot = self.stays(&dir, name, &shown)?;
        let there = self.look(&dir, name, &shown)?;
        match &one.what {
            What::File { size, digest } => match there {
                There::Directory => return Err(directory_in_the_way(&shown)),
                There::Link(_) if self.find(&path).is_ok_and(|found| found.is_some()) => {
                    return Err(link_to_directory_in_the_way(&shown));
                }
                There::Link(_) => self.open.clear(),
                There::Old(attr, FileType::RegularFile)
                    if attr == (Attr { ids: self.ids, mode: one.mode }) =>
                {
                    if let Some(spot) = spot
                        && self.same(&spot, *size, digest)?
                    {
                        return Ok(());
                    }
                }
                There::Nothing | There::Old(..) | There::New => {}
            },
            What::Link(target) => match there {
                There::Directory => return Err(link_over_directory(&shown)),
                There::Link(old) if old == *target && self.owns(&dir, name, spot.as_ref())? => {
                    return Ok(());
                }
                There::Nothing => {}
                _ => self.open.clear(),
            },
            What::Directory => unreachable!("done above"),
        }
        let stands = match &one.what {
            What::Link(target) => There::Link(target.clone()),
            _ => There::New,
        };
        self.put(&dir, name, Put::Asked(number), stands)
    }

    /// Whether the symlink there already has the owner.
    fn owns(&self, dir: &Dir, name: &OsStr, spot: Option<&Spot>) -> Result<bool, Error> {
        if self.put.contains_key(&key(&join(&dir.real, name.as_bytes()))) {
            return Ok(true);
        }
        let Some(spot) = spot else { return Ok(true) };
        Ok(self.root.look(spot)?.is_some_and(|found| found.attr.ids == self.ids))
    }

    /// Whether a file of the image has this content.
    fn same(&self, spot: &Spot, size: u64, digest: &Digest) -> Result<bool, Error> {
        let Some(file) = self.root.open_file(spot)? else { return Ok(false) };
        if file.metadata().map_err(Error::system("look at", &spot.shown))?.len() != size {
            return Ok(false);
        }
        let mut reader = HashReader::new(file);
        io::copy(&mut reader, &mut io::sink()).map_err(Error::system("read", &spot.shown))?;
        Ok(reader.finish().1 == *digest)
    }

    /// Returns the directory `path`, made where missing: by the row `asked` at its end, plain
    /// above.
    fn directories(&mut self, path: &Path, asked: Option<u32>) -> Result<Rc<Dir>, Error> {
        if let Some(dir) = self.find(path)? {
            return Ok(dir);
        }
        let parts = parts(path)?;
        let mut at = PathBuf::new();
        let mut dir = self.top()?;
        for (n, part) in parts.iter().enumerate() {
            at.push(part);
            if let Some(next) = self.find(&at)? {
                dir = next;
                continue;
            }
            let shown = Path::new("/").join(&at);
            self.stays(&dir, part, &shown)?;
            if !matches!(self.look(&dir, part, &shown)?, There::Nothing) {
                return Err(Error::in_the_way(
                    &shown,
                    "is a symlink to nowhere; remove it in a `remove` step first",
                ));
            }
            let put = asked.filter(|_| n + 1 == parts.len()).map_or(Put::Made, Put::Asked);
            self.put(&dir, part, put, There::Directory)?;
            dir = Rc::new(Dir { real: join(&dir.real, part.as_bytes()), fd: None });
            self.open.insert(at.clone(), dir.clone());
        }
        Ok(dir)
    }

    fn top(&self) -> Result<Rc<Dir>, Error> {
        let fd = self
            .root
            .directory(Path::new(""))?
            .ok_or_else(|| Error::system("open", "/")(io::ErrorKind::NotFound.into()))?;
        Ok(Rc::new(Dir { real: vec![], fd: Some(Rc::new(fd)) }))
    }

    /// Finds the directory `path`, following symlinks; `None` if there is nothing.
    fn find(&mut self, path: &Path) -> Result<Option<Rc<Dir>>, Error> {
        if let Some(dir) = self.open.get(path) {
            return Ok(Some(dir.clone()));
        }
        let shown = || Path::new("/").join(path.strip_prefix("/").unwrap_or(path));
        let path_in_root: PathBuf = parts(path)?.into_iter().collect();
        let top = self.top()?;
        let found = resolve::follow(top, path_in_root.as_os_str().as_bytes(), |dir, name| {
            Ok(match self.look(dir, OsStr::from_bytes(name), &shown())? {
                There::Nothing => return Err(None),
                There::Directory => resolve::Step::Enter(self.enter(dir, name, &shown())?),
                There::Link(target) => resolve::Step::Symlink(target),
                There::Old(..) | There::New => {
                    return Err(Some(Error::in_the_way(
                        shown(),
                        "is not a directory, or lies in something that is none",
                    )));
                }
            })
        });
        let found = match found {
            Ok(found) => found,
            Err(resolve::Error::Look(None)) => return Ok(None),
            Err(resolve::Error::Look(Some(error))) => return Err(error),
            Err(resolve::Error::TooManySymlinks) => {
                return Err(Error::in_the_way(shown(), "is a symlink that leads in a circle"));
            }
        };
        if self.open.len() >= 256 {
            self.open.clear();
        }
        self.open.insert(path.to_owned(), found.clone());
        Ok(Some(found))
    }

    fn enter(&self, dir: &Dir, name: &[u8], shown: &Path) -> Result<Rc<Dir>, Error> {
        let real = join(&dir.real, name);
        let new = matches!(self.put.get(&key(&real)), Some((Put::Made | Put::Asked(_), _)));
        let fd = match &dir.fd {
            Some(fd) if !new => {
                let flags = rustix::fs::OFlags::RDONLY
                    | rustix::fs::OFlags::DIRECTORY
                    | rustix::fs::OFlags::NOFOLLOW
                    | rustix::fs::OFlags::CLOEXEC;
                let opened = rustix::fs::openat(&**fd, name, flags, rustix::fs::Mode::empty());
                Some(Rc::new(opened.map_err(|e| Error::system("open", shown)(e.into()))?))
            }
            _ => None,
        };
        Ok(Rc::new(Dir { real, fd }))
    }

    fn look(&mut self, dir: &Dir, name: &OsStr, shown: &Path) -> Result<There, Error> {
        let real = join(&dir.real, name.as_bytes());
        match self.put.get(&key(&real)) {
            Some((_, There::Directory)) => return Ok(There::Directory),
            Some((_, There::Link(target))) => return Ok(There::Link(target.clone())),
            Some(_) => return Ok(There::New),
            None => {}
        }
        let Some(fd) = &dir.fd else { return Ok(There::Nothing) };
        self.see(&real);
        let spot = Spot::within(fd, shown.parent().unwrap_or(Path::new("/")), name);
        Ok(match self.root.look(&spot)? {
            None => There::Nothing,
            Some(found) if found.kind == FileType::Directory => There::Directory,
            Some(found) if found.kind == FileType::Symlink => {
                There::Link(self.root.read_link(&spot)?.as_bytes().to_vec())
            }
            Some(found) => There::Old(found.attr, found.kind),
        })
    }

    /// Notes that the image was looked at here.
    fn see(&mut self, real: &[u8]) {
        let below = |path: &[u8]| {
            path.is_empty()
                || (real.starts_with(path) && matches!(real.get(path.len()), None | Some(b'/')))
        };
        self.blind |= self.unseen.iter().any(|path| below(path));
    }

    /// Refuses places that are not part of the image. Returns the place, where its directory is not
    /// new.
    fn stays(&self, dir: &Dir, name: &OsStr, shown: &Path) -> Result<Option<Spot>, Error> {
        let Some(fd) = &dir.fd else { return Ok(None) };
        let spot = Spot::within(fd, shown.parent().unwrap_or(Path::new("/")), name);
        self.root.stays(&spot)?;
        Ok(Some(spot))
    }

    fn put(&mut self, dir: &Dir, name: &OsStr, put: Put, stands: There) -> Result<(), Error> {
        let mut above = dir.real.as_slice();
        while !above.is_empty() && !self.put.contains_key(&key(above)) {
            let path = Path::new(OsStr::from_bytes(above));
            let gone =
                || Error::system("open", Path::new("/").join(path))(io::ErrorKind::NotFound.into());
            let fd = self.root.directory(path)?.ok_or_else(gone)?;
            let meta = layer::directory_meta(&fd, path).map_err(|e| {
                Error::refused(Path::new("/").join(path).display().to_string(), text(&e))
            })?;
            self.put.insert(key(above), (Put::Above(Box::new(meta)), There::Directory));
            above = above.iter().rposition(|b| *b == b'/').map_or(&[], |at| &above[..at]);
        }
        self.put.insert(key(&join(&dir.real, name.as_bytes())), (put, stands));
        Ok(())
    }

    /// Adds the root directory where a layer that is silent about it would mean something else than
    /// what is there.
    fn top_where_unusual(&mut self) -> Result<(), Error> {
        let Some(fd) = self.top()?.fd.clone().filter(|_| !self.put.is_empty()) else {
            return Ok(());
        };
        let meta = layer::directory_meta(&*fd, Path::new("/"))
            .map_err(|e| Error::refused("/", text(&e)))?;
        if !layer::is_usual(&meta) {
            self.put.insert(vec![], (Put::Above(Box::new(meta)), There::Directory));
        }
        Ok(())
    }

    fn answer(&self, out: impl Write) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(256 << 10, out);
        out.write_all(&self.ids.uid.to_le_bytes())?;
        out.write_all(&self.ids.gid.to_le_bytes())?;
        for (key, (put, _)) in &self.put {
            let path: Vec<u8> = key.iter().map(|b| if *b == 0 { b'/' } else { *b }).collect();
            short(&mut out, &path)?;
            match put {
                Put::Above(meta) => {
                    out.write_all(&[1])?;
                    for number in [meta.mode, meta.uid, meta.gid] {
                        out.write_all(&number.to_le_bytes())?;
                    }
                    out.write_all(
                        &u16::try_from(meta.xattrs.len()).map_err(io::Error::other)?.to_le_bytes(),
                    )?;
                    for (name, value) in &meta.xattrs {
                        short(&mut out, name)?;
                        out.write_all(
                            &u32::try_from(value.len()).map_err(io::Error::other)?.to_le_bytes(),
                        )?;
                        out.write_all(value)?;
                    }
                }
                Put::Made => out.write_all(&[2])?,
                Put::Asked(number) => {
                    out.write_all(&[3])?;
                    out.write_all(&number.to_le_bytes())?;
                }
            }
        }
        out.flush()
    }
}

fn text(e: &layer::Error) -> String {
    crate::event::chain(e).join(": ")
}
