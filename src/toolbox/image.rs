//! The programs of the toolbox image, run in the sandbox.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

use super::tail;
use crate::digest::Digest;
use crate::event::chain;
use crate::job::{
    self, Action, Ended, Job, JobContext, Session, clear, fresh_work, make_dir, no_thread,
};
use crate::output::{self, Feed, Program, Tools};
use crate::sandbox::{
    Allowance, Attach, Exec, JobEvent, Mount, Network, Overlay, Owners, ShownSecrets, Streams,
};
use crate::store::{Staging, Version};
use crate::threads;
use crate::trial;

/// Where programs find the directory that they write to.
const INSIDE: &str = "/dev/bake/tools";

/// The toolbox image, unpacked once and for as long as this lives.
pub struct Toolbox<'a> {
    job: JobContext<'a>,
    version: Version,
    open: OnceLock<Open>,
}

struct Open {
    staging: Staging,
    session: Session,
    layers: trial::Layers,
}

impl<'a> Toolbox<'a> {
    /// Names a published toolbox; nothing is done before it is needed.
    #[must_use]
    pub fn new(job: JobContext<'a>, version: Version) -> Self {
        Self { job, version, open: OnceLock::new() }
    }

    fn opened(&self) -> Result<&Open, job::Error> {
        if let Some(open) = self.open.get() {
            return Ok(open);
        }
        let job = &self.job;
        let (manifest, config) = trial::read(job.store, &self.version.manifest, None)?;
        let staging = job.store.staging()?;
        let session = job.session(staging.dir())?;
        let layers = trial::unpacked(job, &session, &staging, &manifest, &config);
        let layers = layers.inspect_err(|_| clear(job.sink, &staging, Some(&session)))?;
        Ok(self.open.get_or_init(|| Open { staging, session, layers }))
    }

    /// Lets `work` run jobs in the toolbox's root: it gets a session, a fresh overlay, and a
    /// directory of its own, which is gone afterwards.
    ///
    /// # Errors
    /// Those of `work`; where the toolbox cannot be unpacked.
    pub fn with_root<T>(
        &self,
        work: impl FnOnce(&Session, Overlay, &Path) -> Result<T, job::Error>,
    ) -> Result<T, job::Error> {
        let Open { staging, session, layers } = self.opened()?;
        let at = staging.dir().join("machine");
        let (dir, upper) = (make_dir(&at.join("own"))?, make_dir(&at.join("u"))?);
        let root = Overlay { lower: layers.lower.clone(), upper, work: fresh_work(&at)? };
        let done = work(session, root, &dir);
        session.remove_tree(&at)?;
        done
    }

    fn made(&self, program: &Program, feed: &mut Feed<'_>) -> Result<File, output::Error> {
        let trouble = |error: job::Error| output::Error::Tools { why: chain(&error) };
        let Open { staging, session, layers } = self.opened().map_err(trouble)?;
        let at = staging.dir().join("tools");
        let out = make_dir(&at.join("out")).map_err(trouble)?;
        let upper = make_dir(&at.join("u")).map_err(trouble)?;
        let work = fresh_work(&at).map_err(trouble)?;
        let pipe = || io::pipe().map_err(|e| trouble(system(e)));
        let ((input, to_program), (from_program, printed)) = (pipe()?, pipe()?);
        let also = printed.try_clone().map_err(|e| trouble(system(e)))?;
        let streams: [OwnedFd; 3] = [input.into(), printed.into(), also.into()];
        let attach = Attach {
            exec: exec(program),
            or_else: vec![],
            streams: Streams::Pipes(streams),
            signals: None,
        };
        let mount = Mount {
            from: out.clone(),
            at: PathBuf::from(INSIDE),
            read_only: false,
            owners: Owners::Image,
        };
        let job = Job {
            root: Some(Overlay { lower: layers.lower.clone(), upper, work }),
            allowance: Allowance::default(),
            mounts: vec![mount],
            files: vec![],
            secrets: ShownSecrets::default(),
            hostname: "bake".to_owned(),
            network: Network::None,
            actions: vec![Action::Attach(attach)],
        };
        let (fed, ended, text) = thread::scope(|scope| {
            let run = || session.run(job, self.job.cancel, &mut |_: JobEvent<'_>| {});
            let running = threads::scoped(scope, run).map_err(no_thread)?;
            let reading = threads::scoped(scope, || read(from_program)).map_err(no_thread)?;
            // Dropped at its end, which is the end of the program's input.
            let mut to_program = io::BufWriter::with_capacity(256 << 10, to_program);
            let fed = feed(&mut to_program);
            drop(to_program);
            let ended = running.join().expect("a job does not panic")?;
            Ok::<_, job::Error>((fed, ended, reading.join().unwrap_or_default()))
        })
        .map_err(trouble)?;
        match ended {
            Ended::Done(_) => fed?,
            Ended::Cancelled => return Err(trouble(job::Error::Interrupted)),
            Ended::Failed { how, .. } => {
                return Err(program.failed(how.reasons(), tail(&text), how.no_room()));
            }
        }
        let path = out.join("image");
        let file = File::open(&path).map_err(|e| trouble(system(e)))?;
        Ok(file)
    }
}

impl Tools for Toolbox<'_> {
    fn digest(&self) -> Digest {
        self.version.manifest.digest
    }

    fn run(&self, program: &Program, feed: &mut Feed<'_>) -> Result<File, output::Error> {
        let made = self.made(program, feed);
        if let Some(open) = self.open.get() {
            // The file that was opened keeps its bytes.
            let used = open.staging.dir().join("tools");
            if let Err(error) = open.session.remove_tree(&used) {
                return Err(output::Error::Tools { why: chain(&error) });
            }
        }
        made
    }
}

impl Drop for Toolbox<'_> {
    fn drop(&mut self) {
        if let Some(open) = self.open.get() {
            clear(self.job.sink, &open.staging, Some(&open.session));
        }
    }
}

/// Returns the environment of programs of the toolbox.
#[must_use]
pub fn environment() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("HOME".to_owned(), "/".to_owned()),
        ("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
    ])
}

fn exec(program: &Program) -> Exec {
    let mut env = environment();
    env.extend(program.env.iter().cloned());
    let argv = program.argv_for(&format!("{INSIDE}/image"));
    Exec { argv, env, cwd: PathBuf::from("/"), user: "root".to_owned(), timeout: None }
}

fn read(mut from: impl Read) -> Vec<u8> {
    let mut text = vec![];
    let mut some = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut some) {
        text.extend_from_slice(&some[..read]);
        let over = text.len().saturating_sub(2 * super::MOST_TEXT);
        text.drain(..over);
    }
    text
}

fn system(error: io::Error) -> job::Error {
    job::Error::Failed {
        what: "run the programs of the toolbox".to_owned(),
        why: error.to_string(),
    }
}
