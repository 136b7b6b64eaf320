//! A step that only copies, made into a layer without being unpacked: the sandbox says where
//! everything goes in the image (`apply::survey`), then the layer is written straight from
//! the context. Each file is read once for it.
//!
//! Whether a step goes this way is decided by its operations alone, so that its bytes are the same
//! on every machine.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;

use super::build::Build;
use super::error::{NodeFailure, StepFailure, Trouble};
use crate::apply;
use crate::apply::survey::{self, Placed, Put};
use crate::context::{self, Context, PutError};
use crate::digest::Digest;
use crate::job::{self, Action, Call, Ended, Error, Job, Reply, fresh_work, make_dir};
use crate::layer::{self, Blob, Builder, Compression, MemberList, Metadata, Packed};
use crate::sandbox::Overlay;
use crate::step::Op;

/// Most paths by which a layer says what it has introduced.
const MOST: usize = 64;

/// What a direct copy is made with.
struct Work<'a> {
    /// The `Copy` operation.
    op: &'a Op,
    /// Directories of the layers below, topmost first; those that were not unpacked are left out,
    /// and stand in `unseen`.
    lower: &'a [PathBuf],
    /// [`Direct::touches`] of the layers below that are not in `lower`.
    unseen: &'a [String],
    /// A directory of this step's own, below the staging directory.
    at: &'a Path,
    /// Directory of the lists of members.
    members: &'a Path,
}

/// A step that became a layer and no directory.
pub(crate) struct Direct {
    /// The layer, in the staging directory; `None`: nothing changed.
    pub(crate) blob: Option<Blob>,
    /// At most 64 image paths: everything that the layer introduces or changes stands at or below
    /// one of them. Directories above, which it has as they were, do not count.
    pub(crate) touches: Vec<String>,
}

impl Build<'_> {
    /// Makes the layer of the copy `op`, which is all that step `index` does, over `lower` (topmost
    /// first) in the directory `at`. `unseen`: see [`Work`]; `None`: these layers must be
    /// unpacked first.
    ///
    /// # Errors
    /// [`NodeFailure`], with what it printed last.
    pub(crate) fn copy(
        &self,
        index: usize,
        op: &Op,
        lower: &[PathBuf],
        unseen: &[String],
        at: &Path,
    ) -> Result<Option<Direct>, NodeFailure> {
        let members = self.job.store.cache("members").map_err(job::Error::from)?;
        let work = Work { op, lower, unseen, at, members: &members };
        let direct = self.logged(index, |_| copy(self, &work))?;
        if let Some(blob) = direct.as_ref().and_then(|direct| direct.blob.as_ref()) {
            if let Some(guard) = &self.guard {
                let (label, path) = (self.root.label(index).0, self.staging.path(&blob.digest));
                guard.no_secret_in_layer(&label, &path, self.compression())?;
            }
            self.staging.sync(&blob.digest).map_err(job::Error::from)?;
        }
        Ok(direct)
    }
}

/// Whether the steps of `ops` are copied directly.
pub(crate) fn fits(ops: &[Op]) -> bool {
    matches!(ops, [Op::Copy { stage: None, .. }])
}

/// Makes the layer of a copy. `None`: it depends on what stands at or below one of the paths
/// `unseen`; with these layers unpacked, ask again.
fn copy(build: &Build<'_>, work: &Work<'_>) -> Result<Option<Direct>, Trouble> {
    let (root, staging, how) = (build.root, &build.staging, build.compression());
    let Op::Copy { from, to, owner, .. } = work.op else {
        return Err(Trouble::prepared(&context::Error::NotACopy));
    };
    let label = format!("copy {}", from.join(" "));
    let aside = || {
        tempfile::tempfile_in(staging.dir()).map_err(|source| Error::File {
            verb: "make a file in",
            path: staging.dir().to_owned(),
            source,
        })
    };
    let (asked, answer) = (aside()?, aside()?);
    root.context.ask(work.op, &asked).map_err(|error| Trouble::prepared(&error))?;
    let Some(answer) = survey_in(build, work, to, owner, asked, answer)? else { return Ok(None) };
    let touches = touches(&mut reader(&answer)?).map_err(answered)?;
    if touches.is_empty() {
        return Ok(Some(Direct { blob: None, touches }));
    }
    let mut blob = staging.blob().map_err(Error::from)?;
    let threads = thread::available_parallelism().map_or(1, usize::from);
    // What this step gave last time: what of it is still the same is not compressed again.
    let list = work.members.join(root.context.name_of(work.op).hex());
    let blob_path = |digest: &Digest| build.cache.blob_path(digest);
    let mut listed = MemberList::over(&list, blob_path);
    let made = layer::compress_with(&mut blob, how, threads, Some(&mut listed), |sink| {
        let known = sink.known();
        let tar = Builder::new(sink, root.epoch).noting(known);
        write_layer(&root.context, work.op, reader(&answer)?, tar, &|| build.job.cancel.fired())
            .map(|(_, packed)| packed)
    });
    let (made, packed) = made.map_err(|fault| fault.trouble(&label))?;
    // The two sides count the same stream: a difference means that bytes were lost between them.
    if packed.bytes != made.tar_size {
        let why = format!("{} bytes were packed, {} arrived", packed.bytes, made.tar_size);
        return Err(Error::Failed { what: format!("pack {label}"), why }.into());
    }
    blob.keep(&made.digest).map_err(Error::from)?;
    if how == Compression::Gzip {
        // Without its list the next layer is compressed whole, and that is all.
        let _ = listed.write(&list, &made.digest);
    }
    Ok(Some(Direct { blob: Some(made), touches }))
}

fn reader(file: &File) -> Result<BufReader<File>, Error> {
    let again =
        file.try_clone().and_then(|mut file| file.rewind().map(|()| file)).map_err(answered)?;
    Ok(BufReader::with_capacity(256 << 10, again))
}

fn answered(source: io::Error) -> Error {
    Error::Failed { what: "read where a copy goes".to_owned(), why: source.to_string() }
}

/// Asks in the sandbox where everything goes; `None`: it does not know.
fn survey_in(
    build: &Build<'_>,
    work: &Work<'_>,
    to: &str,
    owner: &str,
    asked: File,
    answer: File,
) -> Result<Option<File>, Trouble> {
    let mut asked = asked;
    asked.rewind().map_err(answered)?;
    let keep = answer.try_clone().map_err(answered)?;
    let upper = make_dir(&work.at.join("u"))?;
    let root = Overlay { lower: work.lower.to_vec(), upper, work: fresh_work(work.at)? };
    let question = survey::Question {
        to: to.to_owned(),
        owner: owner.to_owned(),
        unseen: work.unseen.to_vec(),
        asked: asked.into(),
        answer: answer.into(),
    };
    let call = Call::Apply(apply::Call::Survey(question));
    let job = Job { root: Some(root), ..Job::bare(Action::call(call)) };
    match build.session()?.run(job, build.job.cancel, &mut |_| {})? {
        Ended::Done(replies) => {
            let complete =
                matches!(replies.first(), Some(Some(Reply::Apply(apply::Reply::Surveyed(true)))));
            Ok(complete.then_some(keep))
        }
        Ended::Failed { how, seen, .. } => Err(Trouble::Step(StepFailure::Ran(how, seen))),
        Ended::Cancelled => Err(Error::Interrupted.into()),
    }
}

/// Why a layer could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A file of the context cannot be read, or has changed.
    #[error(transparent)]
    Context(#[from] context::Error),
    /// A layer cannot hold something, or the layer cannot be written.
    #[error(transparent)]
    Layer(#[from] layer::Error),
    /// Anything that ends the build.
    #[error(transparent)]
    Build(Box<Error>),
}

impl From<PutError> for Fault {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Context(error) => Self::Context(error),
            PutError::Layer(error) => Self::Layer(error),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Build(Box::new(error))
    }
}

impl Fault {
    fn trouble(self, label: &str) -> Trouble {
        match self {
            Self::Context(error) => Trouble::prepared(&error),
            Self::Layer(source) => Error::Layer { label: label.to_owned(), source }.into(),
            Self::Build(error) => (*error).into(),
        }
    }
}

/// Writes the layer of the `Copy` operation `op` as a survey has answered, until `stop` says so;
/// returns what [`Builder::finish`] returns.
pub fn write_layer<W: Write>(
    context: &Context,
    op: &Op,
    answer: impl Read,
    tar: Builder<W>,
    stop: &dyn Fn() -> bool,
) -> Result<(W, Packed), Fault> {
    let (mut answer, mut tar) = (answer, tar);
    let ids = survey::read_ids(&mut answer).map_err(answered)?;
    let source = context.source(op)?;
    let mtime = tar.epoch();
    let new = |mode| Metadata { mode, uid: ids.uid, gid: ids.gid, mtime, ..Metadata::default() };
    let mut left = 0_u64;
    while let Some(Placed { path, what }) = Placed::read(&mut answer).map_err(answered)? {
        match what {
            Put::Above(meta) => tar.dir(&path, &meta)?,
            Put::Made => tar.dir(&path, &Metadata { mode: 0o755, mtime, ..Metadata::default() })?,
            Put::Asked(number) => {
                left = left.saturating_sub(source.put(number, &path, new, &mut tar)?)
            }
        }
        // Asking costs a system call.
        if left == 0 {
            if stop() {
                return Err(Error::Interrupted.into());
            }
            left = 1 << 20;
        }
    }
    Ok(tar.finish()?)
}

/// The topmost paths of what is new in an answer, fewer and shorter ones where there are more than
/// [`MOST`].
fn touches(answer: &mut impl Read) -> io::Result<Vec<String>> {
    survey::read_ids(answer)?;
    let mut found: Vec<Vec<u8>> = vec![];
    while let Some(Placed { path, what }) = Placed::read(answer)? {
        let below =
            |above: &Vec<u8>| path.starts_with(above) && path.get(above.len()) == Some(&b'/');
        if !matches!(what, Put::Above(_)) && !found.last().is_some_and(below) {
            found.push(path);
            // A flat directory with half a million files is one path in the end.
            if found.len() > 16 * MOST {
                shorten(&mut found);
            }
        }
    }
    shorten(&mut found);
    let text = |path: Vec<u8>| {
        // Where a name is no text, its directory stands for it.
        let valid = match std::str::from_utf8(&path) {
            Ok(text) => text,
            Err(e) => {
                let text = std::str::from_utf8(&path[..e.valid_up_to()]).unwrap_or_default();
                text.rsplit_once('/').map_or("", |(above, _)| above)
            }
        };
        format!("/{valid}")
    };
    Ok(found.into_iter().map(text).collect())
}

/// Brings sorted paths, none below another, to at most [`MOST`], by saying only where the deepest
/// ones are.
fn shorten(paths: &mut Vec<Vec<u8>>) {
    while paths.len() > MOST {
        let depth = |path: &[u8]| path.iter().filter(|b| **b == b'/').count();
        let deepest = paths.iter().map(|path| depth(path)).max().unwrap_or(0);
        for path in paths.iter_mut().filter(|path| depth(path) == deepest) {
            let above = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
            path.truncate(above);
        }
        paths.sort_by(|a, b| layer::compare(a, b));
        let mut kept: Vec<Vec<u8>> = vec![];
        for path in paths.drain(..) {
            let within = |above: &Vec<u8>| {
                path.starts_with(above) && matches!(path.get(above.len()), None | Some(b'/'))
                    || above.is_empty()
            };
            if !kept.last().is_some_and(within) {
                kept.push(path);
            }
        }
        *paths = kept;
    }
}

/// Whether nothing that stands at or below a path of `touches` is at, below or above one of
/// `interest`.
pub(crate) fn apart(touches: &[String], interest: &[&str]) -> bool {
    let within = |path: &str, above: &str| {
        let above = above.trim_end_matches('/');
        path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    !touches
        .iter()
        .any(|touched| interest.iter().any(|path| within(path, touched) || within(touched, path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(paths: &[&str]) -> Vec<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn apart_is_by_whole_names() {
        let check = |touches: &[&str], interest: &[&str], expected| {
            assert_eq!(apart(&texts(touches), interest), expected, "{touches:?} {interest:?}");
        };
        check(&["/srv/tree"], &["/etc/passwd", "/srv/trees", "/srv/tre"], true);
        check(&["/srv/tree"], &["/srv/tree"], false);
        check(&["/srv/tree"], &["/srv/tree/"], false);
        check(&["/srv/tree"], &["/srv"], false);
        check(&["/srv/tree"], &["/srv/tree/a/b"], false);
        check(&["/"], &["/etc"], false);
        check(&["/srv"], &["/"], false);
        check(&[], &["/"], true);
    }

    #[test]
    fn few_paths_say_where_everything_is() {
        let check = |paths: Vec<String>, expected: &[&str]| {
            let mut bytes: Vec<Vec<u8>> =
                paths.iter().map(|path| path.clone().into_bytes()).collect();
            shorten(&mut bytes);
            let found: Vec<String> =
                bytes.into_iter().map(|path| String::from_utf8(path).expect("text")).collect();
            assert_eq!(found, expected);
        };
        check(vec!["a".into(), "b/c".into()], &["a", "b/c"]);
        check(
            (0..100).map(|n| format!("srv/tree/f{n:03}")).chain(["usr/bin/x".into()]).collect(),
            &["srv/tree", "usr/bin"],
        );
        let mut wide: Vec<String> = (0..40)
            .map(|n| format!("a{n:02}/x/y"))
            .chain((0..40).map(|n| format!("b{n:02}")))
            .collect();
        let expected: Vec<String> = vec![String::new()];
        wide.sort();
        check(wide, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
