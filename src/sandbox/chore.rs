//! The calls that every bake program has, whatever table it brings.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::CWD;
use serde_json::Value;

use super::plan::WirePath;
use super::{CallIo, Chores, dial};
use crate::files::{open_dir, remove_at};

/// Removes trees below `/scratch`.
pub(super) const REMOVE_TREES: &str = "sandbox.remove-trees";
/// Gives back what it got.
pub(super) const PING: &str = "sandbox.ping";

/// Threads that remove.
const REMOVERS: usize = 8;

/// Looked up after the program's own table.
pub(super) const BUILT_IN: Chores =
    &[(REMOVE_TREES, remove_trees), (PING, ping), (dial::DIAL, dial::dial)];

fn remove_trees(io: CallIo<'_>) -> Result<Value, String> {
    let paths: Vec<WirePath> = serde_json::from_value(io.args).map_err(|e| e.to_string())?;
    let scratch =
        open_dir(CWD, "/scratch").map_err(|e| format!("cannot open the scratch directory: {e}"))?;
    let todo = Mutex::new(paths.into_iter());
    let failure = Mutex::new(None);
    // Where removing waits for the disk, several at once wait less.
    std::thread::scope(|scope| {
        for _ in 0..REMOVERS {
            scope.spawn(|| {
                loop {
                    let next = todo.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(path) = next.map(|path| path.path()) else { return };
                    if let Err(error) = remove_tree(&scratch, &path) {
                        let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                        failure.get_or_insert_with(|| {
                            format!("cannot remove {}: {error}", path.display())
                        });
                    }
                }
            });
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(Value::Null), Err)
}

fn remove_tree(scratch: &OwnedFd, path: &Path) -> std::io::Result<()> {
    let (base, name) =
        path.parent().zip(path.file_name()).ok_or(std::io::ErrorKind::InvalidInput)?;
    let base = if base.as_os_str().is_empty() { Path::new(".") } else { base };
    let flags =
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let resolve = rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(scratch, base, flags, rustix::fs::Mode::empty(), resolve) {
        Ok(parent) => remove_at(parent.as_fd(), name, path).map_err(std::io::Error::other),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn ping(io: CallIo<'_>) -> Result<Value, String> {
    use std::io::Read;
    use std::io::Write;
    (io.progress)(Value::from("ping"));
    match io.args.as_str() {
        Some("panic") => panic!("asked to panic"),
        Some("fail") => return Err("asked to fail".into()),
        _ => {}
    }
    // Files are echoed from the first to the second, so that a test sees both arrive in order.
    let mut files = io.fds.into_iter();
    if let (Some(from), Some(mut to)) = (files.next(), files.next()) {
        let mut text = vec![];
        from.take(1 << 20).read_to_end(&mut text).map_err(|e| e.to_string())?;
        to.write_all(&text).map_err(|e| e.to_string())?;
    }
    // A thread, as product calls use them.
    std::thread::scope(|scope| scope.spawn(|| ()).join()).map_err(|_| "no threads".to_owned())?;
    Ok(io.args)
}
