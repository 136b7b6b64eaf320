//! A build in flight: its corner of the store, its user namespace (made when the first step has to
//! run), its logs, and how each kind of node is carried out.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use super::direct::{self, Direct};
use super::error::Error;
use super::locking::Locking;
use super::node::{self, Trouble};
use super::run::Run;
use super::site::Site;
use super::{Ready, Request};
use crate::apply;
use crate::archive::{self, Line};
use crate::base;
use crate::digest::Digest;
use crate::event::{Event, Sink, chain};
use crate::job::{
    self, Action, Call, Job, JobContext, Log, Reply, Session, Upper, clear, fresh_work, inside,
    make_dir, unpack_layer,
};
use crate::layer::{Blob, Compression};
use crate::plan::key::Table;
use crate::plan::lock::Lock;
use crate::sandbox::Overlay;
use crate::step::{Lowered, Op};
use crate::store::{Staging, StepCache};
use crate::trial::{Rescue, tree_name};

/// A build in flight.
pub(super) struct Work<'a> {
    pub(super) hall: &'a JobContext<'a>,
    pub(super) sink: &'a Sink,
    pub(super) ready: &'a Ready,
    pub(super) locking: &'a Locking,
    pub(super) request: &'a Request,
    /// Set when another recipe of the same run has failed.
    pub(super) stop: &'a AtomicBool,
    pub(super) draft: Staging,
    pub(super) cache: StepCache,
    pub(super) logs: PathBuf,
    /// What is pinned: starts with what is known before anything runs, ends as the lock file.
    pub(super) pins: Mutex<Lock>,
    session: OnceLock<Session>,
}

/// One node of the build: the base, a step, or the files that say which image this is.
#[derive(Clone, Copy)]
pub(super) enum Node<'a> {
    Base,
    Step(&'a Lowered),
    Identity,
}

impl<'a> Work<'a> {
    pub(super) fn start(
        hall: &'a JobContext<'a>,
        sink: &'a Sink,
        ready: &'a Ready,
        locking: &'a Locking,
        request: &'a Request,
        stop: &'a AtomicBool,
    ) -> Result<Self, Error> {
        // A host that cannot is told before anything is done.
        hall.host.get()?;
        let cache = hall.store.step_cache()?;
        let draft = hall.store.staging()?;
        let logs = hall.store.logs(draft.id())?;
        let pins = Mutex::new(ready.pins.clone());
        Ok(Self {
            hall,
            sink,
            ready,
            locking,
            request,
            stop,
            draft,
            cache,
            logs,
            pins,
            session: OnceLock::new(),
        })
    }

    /// Returns node `index`: 0 is the base, behind the last step comes the identity.
    pub(super) fn node(&self, index: usize) -> Node<'a> {
        match index.checked_sub(1).map(|at| self.ready.plan.nodes.get(at)) {
            None => Node::Base,
            Some(Some(step)) => Node::Step(step),
            Some(None) => Node::Identity,
        }
    }

    /// Returns what the node is called, and its line in the recipe.
    pub(super) fn label(&self, index: usize) -> (String, u32) {
        match self.node(index) {
            Node::Base => (self.ready.plan.base.clone(), self.ready.plan.base_line),
            Node::Step(step) => (step.label.clone(), step.line),
            Node::Identity => ("the identity".to_owned(), 0),
        }
    }

    /// Returns the table of the node but for the layers below; `None` while something it needs is
    /// not pinned.
    pub(super) fn table(&self, index: usize) -> Option<Table> {
        match self.node(index) {
            Node::Base => Some(self.ready.facts.base().clone()),
            Node::Identity => Some(self.ready.facts.identity().clone()),
            Node::Step(_) => self.ready.facts.step(index, &self.known_pins()),
        }
    }

    /// Returns what names the node's work before anything is pinned.
    pub(super) fn asked(&self, index: usize) -> Table {
        match self.node(index) {
            Node::Base => self.ready.facts.base().clone(),
            Node::Identity => self.ready.facts.identity().clone(),
            Node::Step(_) => self.ready.facts.asked(index),
        }
    }

    /// What this build has pinned so far, and what the lock file pins for what is still to come.
    pub(super) fn known_pins(&self) -> Lock {
        let mut known = self.pins().clone();
        if let Some(lock) = self.locking.lock() {
            known.packages.extend(lock.packages.iter().cloned());
            known.download.extend(lock.download.iter().cloned());
        }
        known
    }

    /// What this build has pinned so far: in the end, the lock file.
    pub(super) fn known_pins_of_this_build(&self) -> Lock {
        self.pins().clone()
    }

    /// Takes over what is pinned for step `index`, as if it had run.
    pub(super) fn take_pins(&self, index: usize, from: &Lock) {
        if !matches!(self.node(index), Node::Step(_)) {
            return;
        }
        let found = self.ready.facts.pins_of(index, from);
        self.pins().add(found);
    }

    fn pins(&self) -> std::sync::MutexGuard<'_, Lock> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the user namespace of this build.
    pub(super) fn session(&self) -> Result<&Session, job::Error> {
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        let session = self.hall.session(self.draft.dir())?;
        Ok(self.session.get_or_init(|| session))
    }

    /// Returns the name of an unpacked layer in the cache.
    pub(super) fn tree_name(&self, digest: &Digest, diff_id: &Digest) -> Result<String, Error> {
        Ok(tree_name(self.hall.host.get()?, digest, diff_id))
    }

    pub(super) fn compression(&self) -> Compression {
        super::compression(self.ready.recipe.image.compression)
    }

    fn workshop<'s>(&'s self, session: &'s Session) -> archive::JobContext<'s> {
        archive::JobContext {
            source: &self.ready.source,
            session,
            scratch: self.draft.dir(),
            cancel: self.hall.cancel,
            sink: self.sink,
        }
    }

    /// Makes the layer of the copy `op`, which is all that step `index` does, over `lower` (topmost
    /// first) in the folder `at`. `unseen`: see [`direct::Work`]; `None`: these layers must be
    /// unpacked first.
    pub(super) fn copy(
        &self,
        index: usize,
        op: &Op,
        lower: &[PathBuf],
        unseen: &[String],
        at: &Path,
    ) -> Result<Option<Direct>, Error> {
        let blob = |digest: &Digest| self.cache.blob_path(digest);
        let members = self.hall.store.cache("members")?;
        let (how, members, blob) =
            (self.compression(), members.as_path(), &blob as &dyn Fn(&Digest) -> PathBuf);
        let work = direct::Work { op, lower, unseen, at, how, members, blob };
        let (label, _) = self.label(index);
        let session = self.session()?;
        let workshop = self.workshop(session);
        let log = Log::of_step(&self.logs, index, &label, self.sink)?;
        let ended = direct::copy(&self.site(session, &workshop), &self.draft, &work);
        let path = log.path().to_owned();
        let tail = log.finish();
        let direct = ended.map_err(|trouble| self.failed(index, trouble, tail, path))?;
        if let Some(blob) = direct.as_ref().and_then(|direct| direct.blob.as_ref()) {
            self.draft.sync(&blob.digest)?;
        }
        Ok(direct)
    }

    fn site<'s>(&'s self, session: &'s Session, workshop: &'s archive::JobContext<'s>) -> Site<'s> {
        let ready = self.ready;
        Site {
            session,
            context: &ready.context,
            cancel: self.hall.cancel,
            sink: self.sink,
            epoch: ready.epoch,
            workshop,
            base: &ready.recipe.base,
            locking: self.locking,
            pins: &self.pins,
            facts: &ready.facts,
            plan: &ready.plan,
            steps: &ready.recipe.steps,
            rescue: Rescue::new(self.request.shell_on_failure),
        }
    }

    /// Makes the base, runs the first `steps` steps, and lets `look` see the root that is there
    /// then: its layers, topmost first.
    pub(super) fn root<T>(
        &self,
        steps: usize,
        look: impl FnOnce(&Site<'_>, &[PathBuf]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        (self.sink)(Event::Started {
            image: self.ready.plan.image.clone(),
            steps,
            logs: self.logs.clone(),
        });
        let session = self.session()?;
        let workshop = self.workshop(session);
        let site = self.site(session, &workshop);
        thread::scope(|scope| Run::new(self, scope).root(steps, |lower| look(&site, lower)))
    }

    /// Carries out a node over `lower` (topmost first) in the folder `at`; returns the upper folder
    /// with what it changed.
    pub(super) fn carry_out(
        &self,
        index: usize,
        lower: &[PathBuf],
        at: &Path,
    ) -> Result<PathBuf, Error> {
        let session = self.session()?;
        let workshop = self.workshop(session);
        let site = self.site(session, &workshop);
        let node = self.node(index);
        if let Node::Identity = node {
            return self.identity(&site, lower, at);
        }
        let (label, _) = self.label(index);
        let mut log = Log::of_step(&self.logs, index, &label, self.sink)?;
        let ended = match node {
            Node::Step(step) => {
                node::run(&site, index, step, lower, at, &mut log).map(|ran| ran.upper)
            }
            _ => self.base(&site, at, &mut log),
        };
        let path = log.path().to_owned();
        let tail = log.finish();
        ended.map_err(|trouble| self.failed(index, trouble, tail, path))
    }

    /// Packs, names and compresses an upper folder that was made over the layer folder `below`, and
    /// syncs the blob. `None`: nothing was in it.
    pub(super) fn pack(
        &self,
        upper: &Path,
        below: Option<&Path>,
        label: &str,
    ) -> Result<Option<Blob>, Error> {
        let upper = Upper { dir: upper, below: below.map(|below| self.inside(below)).transpose()? };
        let blob = job::pack(
            self.session()?,
            &self.draft,
            &upper,
            self.ready.epoch,
            self.compression(),
            label,
            self.hall.cancel,
        )?;
        if let Some(blob) = &blob {
            self.draft.sync(&blob.digest)?;
        }
        Ok(blob)
    }

    /// Where the folder of a layer is inside the sandbox: one of the cache, or of this build.
    fn inside(&self, folder: &Path) -> Result<PathBuf, Error> {
        match folder.strip_prefix(self.hall.store.cache("layers")?) {
            Ok(below) => Ok(Path::new("/layers").join(below)),
            Err(_) => Ok(inside(&self.draft, folder)?),
        }
    }

    /// Unpacks the layer of `blob`, which is in the draft, into the new folder `into`.
    pub(super) fn unpack(&self, blob: &Blob, into: &Path) -> Result<(), Error> {
        let path = self.draft.path(&blob.digest);
        Ok(unpack_layer(
            self.session()?,
            &self.draft,
            &path,
            &blob.digest,
            None,
            self.compression(),
            into,
            self.hall.cancel,
        )?)
    }

    /// Removes the scratch folder. What cannot be removed now is swept by the next run.
    pub(super) fn clear(&self) {
        clear(self.sink, &self.draft, self.session.get());
    }

    /// Makes the base in a fresh upper folder.
    fn base(&self, site: &Site<'_>, at: &Path, log: &mut Log) -> Result<PathBuf, Trouble> {
        let upper = make_dir(&at.join("u"))?;
        let work = fresh_work(at)?;
        let mut hear = |line: Line<'_>| log.line(line.stderr, line.text);
        let Ready { base, epoch, context_dir, .. } = self.ready;
        base::build(base, *epoch, context_dir, &upper, &work, site.workshop, &mut hear).map_err(
            |error| match error {
                base::Error::Archive(archive::Error::Cancelled) => {
                    Trouble::Build(Error::Interrupted)
                }
                base::Error::Archive(archive::Error::Sandbox(error)) => {
                    Trouble::Build(Error::Sandbox(error))
                }
                error => Trouble::Base(error),
            },
        )?;
        Ok(upper)
    }

    /// Writes the identity files over the last step.
    fn identity(&self, site: &Site<'_>, lower: &[PathBuf], at: &Path) -> Result<PathBuf, Error> {
        let upper = make_dir(&at.join("u"))?;
        let identity = super::identity_of(&self.ready.recipe, &self.ready.plan, self.ready.epoch);
        let call = apply::Call::Identity { identity, epoch: self.ready.epoch };
        let overlay =
            Overlay { lower: lower.to_vec(), upper: upper.clone(), work: fresh_work(at)? };
        let job = Job {
            root: Some(overlay),
            actions: vec![
                Action::call(Call::Apply(call)),
                Action::call(Call::Archive(archive::Call::Remarks)),
            ],
            ..Job::bare(Action::call(Call::Archive(archive::Call::Remarks)))
        };
        let what = "write the identity of the image";
        let replies = job::replies(site.session.run(job, site.cancel, &mut |_| {})?, what)?;
        for reply in replies {
            if let Reply::Archive(archive::Reply::Remarks(remarks)) = reply {
                remarks.into_iter().try_for_each(|remark| self.remark(remark))?;
            }
        }
        Ok(upper)
    }

    /// Passes on what there is to say of the finished image; an image that cannot work ends the
    /// build.
    fn remark(&self, remark: archive::Remark) -> Result<(), Error> {
        let archive::Remark { message, hint, broken } = remark;
        if broken {
            return Err(Error::Broken { image: self.ready.plan.image.clone(), why: message, hint });
        }
        (self.sink)(Event::Warning { message, hint: Some(hint) });
        Ok(())
    }

    /// Turns a step's trouble into the error that ends the build.
    fn failed(&self, index: usize, trouble: Trouble, tail: Vec<String>, log: PathBuf) -> Error {
        let ready = self.ready;
        let why = match trouble {
            Trouble::Build(error) => return error,
            Trouble::Step(_) | Trouble::Base(_) if self.hall.cancel.fired() => {
                return Error::Interrupted;
            }
            Trouble::Base(source) => {
                let (recipe, base, line) =
                    (ready.recipe_path.clone(), ready.plan.base.clone(), ready.plan.base_line);
                return Error::Base { base, recipe, line, source, tail, log: Some(log) };
            }
            Trouble::Step(why) => why,
        };
        let (label, line) = self.label(index);
        Error::Step {
            place: self.place(index),
            label,
            recipe: ready.recipe_path.clone(),
            line,
            why,
            tail,
            log: Some(log),
        }
    }

    /// Returns `step 3 of 5`.
    pub(super) fn place(&self, index: usize) -> String {
        match self.node(index) {
            Node::Base => "the base".to_owned(),
            _ => format!("step {index} of {}", self.ready.plan.nodes.len()),
        }
    }

    /// Tells, once, that the cache cannot be used: the build goes on without it.
    pub(super) fn without_cache(&self, error: &dyn std::error::Error) {
        let message = format!("the cache of steps cannot be used: {}", chain(error).join(": "));
        (self.sink)(Event::Warning { message, hint: None });
    }
}
