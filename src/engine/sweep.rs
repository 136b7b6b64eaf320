//! Removing scratch folders: our own at the end, and those of builds that died. Both inside the
//! user namespace, as their files may belong to ids that only exist there.

use std::fs;
use std::path::PathBuf;

use super::Hall;
use super::call::Session;
use super::error::Error;
use crate::event::{Event, Sink, chain};
use crate::store::Draft;

/// Removes what builds that died left in `scratch/`. Where nothing is left, as nearly always, no
/// namespace is made.
pub(super) fn dead_builds(hall: &Hall<'_>) -> Result<(), Error> {
    let all = hall.store.dead_drafts()?;
    if all.is_empty() {
        return Ok(());
    }
    let draft = hall.store.draft()?;
    let session = Session::open(hall.host.get()?, &hall.store.cache("layers")?, draft.dir())?;
    let mut swept = 0;
    for (n, dead) in all.into_iter().enumerate() {
        // The session reaches its own scratch folder only: the remains move in there first.
        let grave = draft.dir().join(format!("dead-{n}"));
        fs::create_dir(&grave).map_err(|source| Error::File {
            verb: "make",
            path: grave.clone(),
            source,
        })?;
        let entries = fs::read_dir(dead.dir()).map_err(|source| Error::File {
            verb: "read",
            path: dead.dir().to_owned(),
            source,
        })?;
        for entry in entries.flatten().filter(|entry| entry.file_name() != "lock") {
            let to = grave.join(entry.file_name());
            fs::rename(entry.path(), &to).map_err(|source| Error::File {
                verb: "move",
                path: entry.path(),
                source,
            })?;
        }
        session.remove_tree(&grave)?;
        dead.discard()?;
        swept += 1;
    }
    draft.discard()?;
    let what = if swept == 1 {
        "a build that died".to_owned()
    } else {
        format!("{swept} builds that died")
    };
    (hall.sink)(Event::Note { message: format!("swept the scratch of {what}") });
    Ok(())
}

/// Removes this build's own scratch folder. What cannot be removed is told and swept by the next
/// run.
pub(super) fn clear(sink: &Sink, draft: &Draft, session: Option<&Session>) {
    // Without a session nothing ran, and everything is plain files of ours.
    let Some(session) = session else { return };
    let Ok(entries) = fs::read_dir(draft.dir()) else { return };
    // The lock stays until the draft is dropped; blobs are plain files of ours, removed with it.
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
            draft.dir().display()
        );
        (sink)(Event::Warning { message, hint: None });
    }
}
