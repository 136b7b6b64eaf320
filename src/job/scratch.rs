//! Removing scratch directories: our own at the end, and those of builds that died. Both inside the
//! user namespace, as their files may belong to ids that only exist there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::call::Session;
use super::context::JobContext;
use super::error::Error;
use crate::event::{Event, Sink, chain};
use crate::store::Staging;

/// Removes what builds that died left in `scratch/`. Where nothing is left, as nearly always, no
/// namespace is made.
pub(crate) fn dead_builds(context: &JobContext<'_>) -> Result<(), Error> {
    let all = context.store.dead_stagings()?;
    if all.is_empty() {
        return Ok(());
    }
    let staging = context.store.staging()?;
    let session = context.session(staging.dir())?;
    let mut swept = 0;
    for (n, dead) in all.into_iter().enumerate() {
        let path = dead.dir().to_owned();
        match dead_build(&session, &staging, n, dead) {
            Ok(()) => swept += 1,
            // Of another user, or on a disk that fails: no build is worse for it.
            Err(error) => {
                let why = chain(&error).join(": ");
                let message = format!(
                    "cannot remove {}, which a build that died has left ({why})",
                    path.display()
                );
                (context.sink)(Event::Warning { message, hint: None });
            }
        }
    }
    staging.discard()?;
    let what = match swept {
        0 => return Ok(()),
        1 => "a build that died".to_owned(),
        _ => format!("{swept} builds that died"),
    };
    (context.sink)(Event::Note { message: format!("swept the scratch of {what}") });
    Ok(())
}

/// Removes what one build left. The session reaches its own scratch directory only: the remains
/// move in there first.
fn dead_build(session: &Session, staging: &Staging, n: usize, dead: Staging) -> Result<(), Error> {
    let moved = staging.dir().join(format!("dead-{n}"));
    let failed = |verb: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { verb, path, source }
    };
    fs::create_dir(&moved).map_err(failed("make", &moved))?;
    let entries = fs::read_dir(dead.dir()).map_err(failed("read", dead.dir()))?;
    for entry in entries.flatten().filter(|entry| entry.file_name() != "lock") {
        let from = entry.path();
        match fs::rename(&from, moved.join(entry.file_name())) {
            // The one had another work directory than the other: what is ours alone can be removed
            // without a session.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
            result => result.map_err(failed("move", &from))?,
        }
    }
    session.remove_tree(&moved)?;
    Ok(dead.discard()?)
}

/// Removes this build's own scratch directory. What cannot be removed is warned of and swept by the
/// next run.
pub(crate) fn clear(sink: &Sink, staging: &Staging, session: Option<&Session>) {
    // Without a session nothing ran, and everything is plain files of ours.
    let Some(session) = session else { return };
    let Ok(entries) = fs::read_dir(staging.dir()) else { return };
    // The lock stays until the staging is dropped; blobs are plain files of ours, removed with it.
    let kept = |entry: &fs::DirEntry| entry.file_name() == "lock" || entry.file_name() == "blobs";
    let paths: Vec<PathBuf> =
        entries.flatten().filter(|entry| !kept(entry)).map(|entry| entry.path()).collect();
    if paths.is_empty() {
        return;
    }
    if let Err(error) =
        session.remove_trees(&paths.iter().map(PathBuf::as_path).collect::<Vec<_>>())
    {
        let why = chain(&error).join(": ");
        let message = format!(
            "cannot remove all of {} ({why}); the next build sweeps it",
            staging.dir().display()
        );
        (sink)(Event::Warning { message, hint: None });
    }
}
