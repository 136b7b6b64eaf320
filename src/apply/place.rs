//! Written and downloaded files, directories and symlinks put into place.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::owner;
use super::root::Root;
use super::spot::{Attr, parts};

/// Writes, or appends to, the file `path`.
pub(super) fn write(
    root: &Root,
    path: &str,
    content: &mut dyn Read,
    append: bool,
    owner: Option<&str>,
    mode: Option<u32>,
) -> Result<(), Error> {
    let ids = owner.map(|o| owner::ids(root, o)).transpose()?;
    let attr = Attr { ids: ids.unwrap_or(root.own()), mode: mode.unwrap_or(0o644) };
    let path = file_path(path)?;
    if !append {
        root.put_file(&root.make_spot(path)?, attr, content)?;
        return Ok(());
    }
    // As `>>` does, appending goes through a symlink; replacing puts a file in the symlink's place.
    root.make_spot(path)?;
    let spot = root.final_spot(path)?.ok_or_else(|| {
        Error::in_the_way(path, "is a symlink into a directory that does not exist")
    })?;
    if root.look(&spot)?.is_none() {
        root.put_file(&spot, attr, content)?;
        return Ok(());
    }
    let mut bytes = vec![];
    content.read_to_end(&mut bytes).map_err(Error::system("read the content of", path))?;
    if root.open_file(&spot)?.is_some() && !bytes.is_empty() {
        root.extend(&spot, &bytes)?;
    }
    root.settle_spot(&spot, ids, mode)
}

/// Places a downloaded file: at `to`, or under the URL's last name in `to` ending in `/`.
pub(super) fn download(
    root: &Root,
    url: &str,
    to: &str,
    owner: &str,
    mode: Option<u32>,
    file: &mut dyn Read,
) -> Result<(), Error> {
    let attr = Attr { ids: owner::ids(root, owner)?, mode: mode.unwrap_or(0o644) };
    let path =
        if to.ends_with('/') { Path::new(to).join(url_name(url)?) } else { PathBuf::from(to) };
    root.put_file(&root.make_spot(&path)?, attr, file)?;
    Ok(())
}

/// Makes directories, or brings existing ones to `owner` and `mode`; `kept`: leaves these alone.
pub(super) fn mkdir(
    root: &Root,
    paths: &[String],
    owner: &str,
    mode: u32,
    kept: bool,
) -> Result<(), Error> {
    let attr = Attr { ids: owner::ids(root, owner)?, mode };
    for path in paths {
        let path = Path::new(path);
        if parts(path)?.is_empty() {
            let fd = root.make_directories(path, None)?;
            if !kept {
                root.settle(fd.as_fd(), attr, path)?;
            }
            continue;
        }
        match root.spot(path)? {
            Some(spot) if kept && root.look(&spot)?.is_some() => {
                // What is no directory is in the way all the same.
                root.make_directories(path, None)?;
                continue;
            }
            // A mount point that only the build has would take owner and mode with it into nothing.
            Some(spot) if root.look(&spot)?.is_some() && root.is_fleeting(&spot)? => {
                return Err(Error::Fleeting { path: path.to_owned(), mount: path.to_owned() });
            }
            _ => {}
        }
        let fd = root.make_directories(path, Some(attr))?;
        root.settle(fd.as_fd(), attr, path)?;
    }
    Ok(())
}

/// Makes a symlink; replaces a file or symlink, never a directory.
pub(super) fn symlink(root: &Root, path: &str, target: &str) -> Result<(), Error> {
    if target.is_empty() || target.contains('\0') {
        return Err(Error::refused(path, "a symlink needs a target"));
    }
    root.put_link(&root.make_spot(file_path(path)?)?, target.as_ref(), root.own())
}

fn file_path(path: &str) -> Result<&Path, Error> {
    if path.ends_with('/') {
        return Err(Error::BadPath {
            path: path.into(),
            why: "ends in `/`, but a file is to be there; write its name",
        });
    }
    Ok(Path::new(path))
}

/// The file name in a URL: its last path segment, percent-decoded.
fn url_name(url: &str) -> Result<String, Error> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let last = path.split_once('/').and_then(|(_, path)| path.rsplit('/').next()).unwrap_or("");
    let bad = || {
        Error::refused(
            url,
            "has no file name at its end; give the download's `to` a file name instead of a \
                directory",
        )
    };
    let mut bytes = vec![];
    let mut rest = last.bytes();
    while let Some(b) = rest.next() {
        if b != b'%' {
            bytes.push(b);
            continue;
        }
        let hex = [rest.next().ok_or_else(bad)?, rest.next().ok_or_else(bad)?];
        let hex = std::str::from_utf8(&hex).map_err(|_| bad())?;
        bytes.push(u8::from_str_radix(hex, 16).map_err(|_| bad())?);
    }
    let name = String::from_utf8(bytes).map_err(|_| bad())?;
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(bad());
    }
    Ok(name)
}
