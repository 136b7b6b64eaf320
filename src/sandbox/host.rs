//! What a host can do.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde::Serialize;

use super::allowance::Allowance;

/// What this host can do, found out once per process by [`super::probe()`].
#[derive(Debug, Clone)]
pub struct Host {
    /// How user ids are mapped.
    pub id_mode: IdMode,
    /// The program started as helper; `/proc/self/exe` unless a test names another.
    pub helper: PathBuf,
    /// What who started bake lets jobs use, whatever they ask for.
    pub allowance: Allowance,
    /// That program, shielded or copied when the first session is opened: a build with nothing to
    /// do opens none.
    pub(super) program: Arc<OnceLock<OwnedFd>>,
}

/// The id-mapping modes: how a host gives a sandbox its ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdMode {
    /// Root with all capabilities: idmapped mounts, ids stay real on disk.
    Root,
    /// An unprivileged user with subordinate ids (newuidmap).
    Subids {
        /// First subordinate user id and how many.
        uids: (u32, u32),
        /// First subordinate group id and how many.
        gids: (u32, u32),
    },
}

/// One line of `bake doctor`.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: String,
    /// Whether it is as bake needs it.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// A command that helps, when not ok, or where there could be more.
    pub hint: Option<String>,
}

/// Where programs of the host are looked for.
pub(super) const TOOLS: &[&str] =
    &["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/run/wrappers/bin"];

/// A program of the host, in the usual places.
pub(super) fn find_tool(name: &str) -> Option<PathBuf> {
    TOOLS.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}
