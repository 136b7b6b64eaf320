//! A build in flight: its corner of the store, its user namespace (made when the first step has to
//! run), its logs, and how each kind of node is carried out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use super::direct::{self, Direct};
use super::error::Error;
use super::error::StepFailure;
use super::locking::Locking;
use super::node::{self, Trouble};
use super::pool::Pool;
use super::request::Request;
use super::roots::Ready;
use super::run::Run;
use super::site::Site;
use super::start::Start;
use crate::apply;
use crate::archive::{self, Line};
use crate::base;
use crate::digest::Digest;
use crate::event::{Event, Sink, chain};
use crate::job::{
    self, Action, Call, Job, JobContext, LayerBlob, Log, Reply, Session, Upper, clear, fresh_work,
    inside, make_dir, unpack_layer,
};
use crate::layer::{Blob, Compression};
use crate::plan::artifact::{Artifact, ArtifactLayer, Built};
use crate::plan::config;
use crate::plan::key::Table;
use crate::plan::lock::Lock;
use crate::sandbox::Overlay;
use crate::step::{Lowered, Op};
use crate::store::{Staging, StepCache, UnpackedLayer};
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
    /// The roots of the run, this one's number, and those of the stages it may use.
    pub(super) pool: &'a Pool,
    number: usize,
    others: Others,
    /// What steps get of stages, by step, as far as it is known.
    named: Mutex<BTreeMap<usize, Vec<(String, Digest)>>>,
}

/// Numbers of other roots of a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Others {
    /// The stages of the same recipe, by name.
    pub(super) stages: BTreeMap<String, usize>,
    /// The image of another recipe that is the base.
    pub(super) base: Option<usize>,
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
        (pool, number, others): (&'a Pool, usize, Others),
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
            pool,
            number,
            others,
            named: Mutex::default(),
        })
    }

    /// Returns what the stage `name` gave; waits for it.
    pub(super) fn artifact(&self, name: &str) -> Result<Arc<Artifact>, Error> {
        let number = self.others.stages.get(name).ok_or_else(|| Error::Chore {
            what: format!("use the stage {name}"),
            why: "it is not part of this run".to_owned(),
        })?;
        self.pool.wait(*number, self.stop, self.hall.cancel)
    }

    /// Returns the layers that this root stands on, where it does not make its base; waits for them.
    pub(super) fn below(&self) -> Result<Option<Arc<Artifact>>, Error> {
        match &self.ready.start {
            Start::Made(_) => Ok(None),
            Start::Stage { name, .. } => self.artifact(name).map(Some),
            Start::Image(image) => match self.others.base {
                Some(number) => self.pool.wait(number, self.stop, self.hall.cancel).map(Some),
                None => {
                    let layer = |(blob, compression): &(Blob, Compression)| ArtifactLayer {
                        path: self.hall.store.blob_path(&blob.digest),
                        blob: blob.clone(),
                        compression: *compression,
                        foreign: true,
                    };
                    let layers = image.layers.iter().map(layer).collect();
                    Ok(Some(Arc::new(Artifact { layers, history: image.history.clone() })))
                }
            },
        }
    }

    /// Hands what this root gave, or that it failed, to those that wait for it.
    pub(super) fn give(&self, built: Option<&Built>) {
        let artifact = built.map(|built| {
            let below = built.below.iter().flat_map(|below| &below.layers);
            let below = below.map(|layer| ArtifactLayer {
                blob: layer.blob.clone(),
                compression: layer.compression,
                foreign: layer.foreign,
                path: self.draft.path(&layer.blob.digest),
            });
            let own = built.made.iter().filter_map(|one| one.layer.as_ref()).map(|blob| {
                let path = self.draft.path(&blob.digest);
                ArtifactLayer {
                    blob: blob.clone(),
                    compression: self.compression(),
                    foreign: false,
                    path,
                }
            });
            let history = match &self.ready.stage {
                Some(_) => vec![],
                None => {
                    let entries = self.ready.skeleton.entries(self.ready.epoch, built);
                    entries.into_iter().map(|(entry, _)| entry).collect()
                }
            };
            Artifact { layers: below.chain(own).collect(), history }
        });
        self.pool.set(self.number, artifact);
    }

    /// Returns what step `index` gets of stages, once it is known.
    pub(super) fn named(&self, index: usize) -> Option<Vec<(String, Digest)>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).get(&index).cloned()
    }

    pub(super) fn set_named(&self, index: usize, named: Vec<(String, Digest)>) {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).insert(index, named);
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
            Node::Step(_) => {
                let named = self.named(index);
                self.ready.facts.step(index, &self.known_pins(), named.as_deref())
            }
        }
    }

    /// Returns what names the node's work before anything is pinned.
    pub(super) fn asked(&self, index: usize) -> Table {
        match self.node(index) {
            Node::Base => self.ready.facts.base().clone(),
            Node::Identity => self.ready.facts.identity().clone(),
            Node::Step(_) => self.ready.facts.asked(index, &self.named(index).unwrap_or_default()),
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
        config::compression(self.ready.recipe.image.compression)
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
            environment: &ready.environment,
            work: self,
            locking: self.locking,
            pins: &self.pins,
            facts: &ready.facts,
            plan: &ready.plan,
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
        self.started(steps);
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

    /// Whether the node begins with packages that must be chosen before it has a name.
    pub(super) fn chooses(&self, index: usize) -> bool {
        matches!(self.node(index), Node::Step(step) if matches!(step.ops.first(), Some(Op::Packages { .. })))
    }

    /// Chooses and pins the packages of such a node, over `lower` (topmost first) in the directory
    /// `at`.
    pub(super) fn choose(&self, index: usize, lower: &[PathBuf], at: &Path) -> Result<(), Error> {
        let Node::Step(step) = self.node(index) else { return Ok(()) };
        let session = self.session()?;
        let workshop = self.workshop(session);
        let site = self.site(session, &workshop);
        let (label, _) = self.label(index);
        let mut log = Log::of_step(&self.logs, index, &label, self.sink)?;
        let ended = node::choose(&site, index, step, lower, at, &mut log);
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

    /// Returns the directory of the layer of `blob`, which is in the draft, and what holds it where
    /// it is one of the cache. `foreign`: bake has not made it, so that its tar is checked against
    /// its diff_id as well. `at`: a directory of its own for when it has to be unpacked.
    pub(super) fn unpacked(
        &self,
        blob: &Blob,
        how: Compression,
        foreign: bool,
        at: &Path,
    ) -> Result<(PathBuf, Option<UnpackedLayer>), Error> {
        let name = self.tree_name(&blob.digest, &blob.diff_id)?;
        if let Some(tree) = self.cache.unpacked(&name)? {
            return Ok((tree.path.clone(), Some(tree)));
        }
        let (path, into) = (self.draft.path(&blob.digest), at.join("u"));
        let diff_id = foreign.then_some(&blob.diff_id);
        let layer = LayerBlob { path: &path, digest: &blob.digest, diff_id, how };
        unpack_layer(self.session()?, &self.draft, &layer, &into, self.hall.cancel)?;
        match self.cache.keep_unpacked(&name, &into, &at.join("grave"))? {
            Some(tree) => Ok((tree.path.clone(), Some(tree))),
            None => Ok((into, None)),
        }
    }

    /// Reports that the root is begun; of a stage its steps are enough.
    pub(super) fn started(&self, steps: usize) {
        if self.ready.stage.is_none() {
            let image = self.ready.plan.image.clone();
            (self.sink)(Event::Started { image, steps, logs: self.logs.clone() });
        }
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
        let Ready { start, epoch, context_dir, .. } = self.ready;
        let Start::Made(base) = start else {
            let why = "its layers are there".to_owned();
            return Err(Error::Chore { what: "make the base".to_owned(), why }.into());
        };
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
        let identity = config::identity_of(&self.ready.recipe, &self.ready.plan, self.ready.epoch);
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
        self.failed_at(index, why, tail, Some(log))
    }

    /// Returns the error of a step that failed before it ran.
    pub(super) fn step_failed(&self, index: usize, why: StepFailure) -> Error {
        self.failed_at(index, why, vec![], None)
    }

    fn failed_at(
        &self,
        index: usize,
        why: StepFailure,
        tail: Vec<String>,
        log: Option<PathBuf>,
    ) -> Error {
        let (label, line) = self.label(index);
        let recipe = self.ready.recipe_path.clone();
        Error::Step { place: self.place(index), label, recipe, line, why, tail, log }
    }

    /// Returns `step 3 of 5`.
    pub(super) fn place(&self, index: usize) -> String {
        match self.node(index) {
            Node::Base => match &self.ready.stage {
                Some(stage) => format!("the base of stage {stage}"),
                None => "the base".to_owned(),
            },
            _ => {
                let total = self.ready.plan.nodes.len();
                match &self.ready.stage {
                    Some(stage) => format!("step {index} of {total} of stage {stage}"),
                    None => format!("step {index} of {total}"),
                }
            }
        }
    }

    /// Tells, once, that the cache cannot be used: the build goes on without it.
    pub(super) fn without_cache(&self, error: &dyn std::error::Error) {
        let message = format!("the cache of steps cannot be used: {}", chain(error).join(": "));
        (self.sink)(Event::Warning { message, hint: None });
    }
}
