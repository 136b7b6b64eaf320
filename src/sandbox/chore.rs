//! The calls that every bake program has, whatever table it brings.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::CWD;
use serde_json::Value;

use super::CallIo;
use super::Chores;
use super::tree;

/// Removes a tree below `/scratch`.
pub(super) const REMOVE_TREE: &str = "sandbox.remove-tree";
/// Gives back what it got.
pub(super) const PING: &str = "sandbox.ping";

/// Looked up after the program's own table.
pub(super) const BUILT_IN: Chores = &[(REMOVE_TREE, remove_tree), (PING, ping)];

fn remove_tree(io: CallIo<'_>) -> Result<Value, String> {
    let path = io.args.as_str().ok_or("the path is not a string")?;
    let (base, name) = match Path::new(path).parent().zip(Path::new(path).file_name()) {
        Some(split) => split,
        None => return Err(format!("'{path}' names no folder below scratch")),
    };
    let failed = |error: &dyn std::fmt::Display| format!("remove {path}: {error}");
    let scratch = tree::open_dir(CWD, "/scratch").map_err(|e| failed(&e))?;
    let base = if base.as_os_str().is_empty() { Path::new(".") } else { base };
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let resolve = rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_SYMLINKS;
    let parent = match rustix::fs::openat2(&scratch, base, flags, rustix::fs::Mode::empty(), resolve) {
        Ok(parent) => parent,
        Err(rustix::io::Errno::NOENT) => return Ok(Value::Null),
        Err(error) => return Err(failed(&error)),
    };
    tree::remove(parent.as_fd(), Path::new(name)).map_err(|e| failed(&e))?;
    Ok(Value::Null)
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
