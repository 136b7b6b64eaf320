//! The root of a running process: of a container, or of `bake run`, without anyone
//! having to know where its files lie.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::shift::Shift;
use crate::inspect::error::Error;

/// The root that a process lives in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Living {
    /// Its directory, as this process reaches it; gone when the process ends.
    pub root: PathBuf,
    /// How much higher user and group ids are there than in the image.
    pub shift: Shift,
}

/// Finds the root of the process `pid`; where that has started another pid namespace (as `bake run`
/// and the monitors of containers do, which stay outside), of the first process in it.
///
/// # Errors
/// [`Error::Process`] where there is no such process, it may not be looked at, or its ids are not
/// all higher by one number.
pub fn living(pid: u32) -> Result<Living, Error> {
    let fail = |source: io::Error| {
        let gone = source.kind() == io::ErrorKind::NotFound;
        Error::Process {
            pid,
            source: if gone { io::Error::other("there is no such process") } else { source },
        }
    };
    let proc = Path::new("/proc");
    let inside = first_inside(proc, pid).map_err(fail)?;
    let at = proc.join(inside.to_string());
    let shift = |map: &str| shift(&fs::read_to_string(at.join(map))?);
    let (users, groups) = (shift("uid_map").map_err(fail)?, shift("gid_map").map_err(fail)?);
    if users != groups {
        return Err(fail(io::Error::other(format!(
            "its users are {users} higher and its groups {groups}"
        ))));
    }
    let root = at.join("root");
    // Whoever may not follow this symlink would be shown that the directory is missing.
    fs::read_link(&root).map_err(fail)?;
    Ok(Living { root, shift: users })
}

/// The nearest process at or below `pid` whose pid namespace is not that of `pid`; `pid` itself
/// where there is none, or where it is in one already.
fn first_inside(proc: &Path, pid: u32) -> io::Result<u32> {
    let namespace = |pid: u32| fs::read_link(proc.join(pid.to_string()).join("ns/pid"));
    let outside = namespace(pid)?;
    if outside != fs::read_link(proc.join("self/ns/pid"))? {
        return Ok(pid);
    }
    let mut parents: Vec<(u32, u32)> = vec![];
    for entry in fs::read_dir(proc)? {
        let Some(child) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has just ended is nobody's child.
        let Ok(stat) = fs::read_to_string(proc.join(format!("{child}/stat"))) else { continue };
        parents.extend(parent(&stat).map(|parent| (parent, child)));
    }
    parents.sort_unstable();
    let mut next = VecDeque::from([pid]);
    while let Some(one) = next.pop_front() {
        for (_, child) in parents.iter().filter(|(parent, _)| *parent == one) {
            match namespace(*child) {
                Ok(found) if found != outside => return Ok(*child),
                Ok(_) => next.push_back(*child),
                Err(_) => {}
            }
        }
    }
    Ok(pid)
}

/// Reads the parent from `/proc/PID/stat`: `pid (name) state parent …`, where the name may hold
/// anything.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Reads how much higher ids are outside from `/proc/PID/uid_map`: lines of `inside outside count`.
/// One line maps all; of two the second maps the ids that accounts of directory services have.
fn shift(map: &str) -> io::Result<Shift> {
    let line =
        |line: &str| line.split_whitespace().map(str::parse::<u32>).collect::<Result<Vec<_>, _>>();
    let lines = map.lines().map(line).collect::<Result<Vec<_>, _>>().unwrap_or_default();
    match lines.iter().map(Vec::as_slice).collect::<Vec<_>>().as_slice() {
        [[0, by, _]] => Ok(Shift::from(*by)),
        // With a smaller first part an id between the two could be either.
        [[0, by, count], [from, to, _]]
            if *count >= 1 << 16 && from == count && to > from && to - from > *by =>
        {
            Ok(Shift { by: *by, from: *to, high: to - from })
        }
        _ => Err(io::Error::other("its user namespace maps ids in a way that is not known here")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_of_hostile_names() {
        assert_eq!(parent("12 (cat) S 7 12 12 0"), Some(7));
        assert_eq!(parent("12 (a) S 1) R 7 12 12 0"), Some(7));
        assert_eq!(parent("12 (\n) Z 1 (x) R 8 1"), Some(8));
        assert_eq!((parent(""), parent("12 (cat"), parent("12 (cat) S x")), (None, None, None));
    }

    #[test]
    fn shifts() {
        assert_eq!(shift("         0          0 4294967295\n").unwrap(), Shift::from(0));
        let one = shift("0 100000 65536\n").unwrap();
        assert_eq!((one.inside(100_000), one.inside(100_033)), (0, 33));
        let two = shift("0 1879244800 65536\n65536 2147549184 2147418111\n").unwrap();
        assert_eq!(two.inside(1_879_244_800 + 33), 33);
        assert_eq!(two.inside(2_147_549_184 + 7), 65_543);
        for map in ["", "0 1000 1\n1 100000 65536\n", "5 100005 10\n", "0 x 1\n", "0 1\n"] {
            assert!(shift(map).is_err(), "{map:?}");
        }
    }

    #[test]
    fn this_process_lives_here() {
        let own = living(std::process::id()).unwrap();
        assert_eq!(own.root, Path::new("/proc").join(std::process::id().to_string()).join("root"));
        // No process has this number: it is above the kernel's highest.
        assert!(matches!(living(1 << 23), Err(Error::Process { .. })));
    }
}
