//! Whether a finished image could be started as its config has it, before it is published.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::{Error, Unstartable};
use crate::apply::{self, Question};
use crate::image::Config;
use crate::job::{
    Action, Call, Job, JobContext, Reply, Session, fresh_work, make_dir, reply, unexpected,
};
use crate::rootfs::PATH;
use crate::sandbox::Overlay;

/// The recipe that an image is built from, as far as its `[config]` goes.
#[derive(Clone, Copy)]
pub(crate) struct Configured<'a> {
    /// The recipe.
    pub(crate) recipe: &'a Path,
    /// Lines of the keys of `[config]`, from 1.
    pub(crate) lines: &'a BTreeMap<&'static str, u32>,
}

/// Returns what of `config` is to be looked for in the image; `None`: it names nothing.
pub(super) fn question(config: &Config) -> Option<Question> {
    let mut programs = vec![];
    let first = config.entrypoint.first().map(|name| ("entrypoint", name));
    let first = first.or_else(|| config.cmd.first().map(|name| ("cmd", name)));
    programs.extend(first);
    if let Some([kind, name, ..]) = config.healthcheck.as_ref().map(|check| check.test.as_slice())
        && kind == "CMD"
    {
        programs.push(("healthcheck", name));
    }
    let user = Some(config.user.clone()).filter(|user| !user.is_empty());
    if programs.is_empty() && user.is_none() {
        return None;
    }
    let path = config.env.iter().find_map(|entry| entry.strip_prefix("PATH="));
    Some(Question {
        user,
        programs: programs.into_iter().map(|(key, name)| (key.to_owned(), name.clone())).collect(),
        path: path.unwrap_or(PATH).to_owned(),
        cwd: PathBuf::from(&config.working_dir),
        volumes: config.volumes.iter().map(PathBuf::from).collect(),
    })
}

/// Looks in the root of these layers (topmost first); what would not start is an error.
pub(super) fn check(
    context: &JobContext<'_>,
    session: &Session,
    lower: &[PathBuf],
    scratch: &Path,
    question: Question,
    configured: Configured<'_>,
) -> Result<(), Error> {
    let at = scratch.join("startable");
    let upper = make_dir(&at.join("u"))?;
    let root = Some(Overlay { lower: lower.to_vec(), upper, work: fresh_work(&at)? });
    let call = Call::Apply(apply::Call::Startable(question));
    let job = Job { root, ..Job::bare(Action::call(call)) };
    let what = "look at what the image starts";
    let found = match reply(session.run(job, context.cancel, &mut |_| {})?, what)? {
        Reply::Apply(apply::Reply::Startable(found)) => found,
        other => return Err(unexpected(what, &other).into()),
    };
    if found.is_empty() {
        return Ok(());
    }
    let why = found
        .into_iter()
        .map(|(key, why)| Unstartable {
            line: configured.lines.get(key.as_str()).copied(),
            key,
            why,
        })
        .collect();
    Err(Error::Unstartable { recipe: configured.recipe.to_owned(), why })
}
