//! A root in flight: its corner of the store, its user namespace (made when the first node has to
//! run), its logs, what it pins, and what it gets of stages.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::asked;
use super::error::{NodeFailure, Trouble};
use super::guard::Guard;
use super::pins::Pins;
use super::root::{Node, Root};
use super::start::Start;
use crate::archive::{self, Line, fetch};
use crate::attest::HostTrace;
use crate::base;
use crate::context::Held;
use crate::digest::Digest;
use crate::gateway;
use crate::job::{
    self, JobContext, LayerBlob, Log, Session, Upper, clear, fresh_work, inside, make_dir,
    resolv_conf, resolver, unpack_layer,
};
use crate::layer::{Blob, Compression};
use crate::plan::artifact::Artifact;
use crate::plan::config;
use crate::plan::key::Table;
use crate::plan::lock::Lock;
use crate::reach::Reach;
use crate::rootfs::environment;
use crate::sandbox::{PolicyFile, ShownSecrets};
use crate::secret::Value;
use crate::step::Op;
use crate::store::{Staging, StepCache, UnpackedLayer};
use crate::trial::{Rescue, tree_name};

/// Largest `download`.
const MAX_DOWNLOAD: u64 = 64 << 30;

/// A root in flight: what all its nodes are carried out with.
pub(crate) struct Build<'a> {
    /// The store, this machine, the end from outside, and where the events of this root go.
    pub(crate) job: JobContext<'a>,
    pub(crate) root: &'a Root,
    pub(crate) pins: Pins,
    /// Whether somebody wants to look into what fails.
    pub(crate) rescue: Rescue,
    /// What keeps the secrets of its recipe, where steps use any.
    pub(super) guard: Option<Arc<Guard>>,
    pub(crate) staging: Staging,
    pub(crate) cache: StepCache,
    /// Directory of its logs.
    pub(crate) logs: PathBuf,
    session: OnceLock<Session>,
    /// What the stages gave that it may use, as far as they are done.
    stages: Mutex<BTreeMap<String, Arc<Artifact>>>,
    /// What steps get of stages, by step, as far as it is known.
    pub(super) named: Mutex<BTreeMap<usize, Vec<(String, Digest)>>>,
    /// Its steps see empty directories in place of the kept ones, so that what these hold shows
    /// where an image depends on it.
    pub(crate) forget_caches: bool,
    /// The socket of the SSH agent of who builds, where one is given.
    pub(crate) agent: Option<PathBuf>,
    /// Kept directories that its steps have used.
    pub(super) used: Mutex<BTreeSet<String>>,
    /// What its steps reached, by step.
    pub(super) reached: Mutex<BTreeMap<usize, Vec<HostTrace>>>,
}

impl<'a> Build<'a> {
    /// Begins to build `root`.
    ///
    /// # Errors
    /// Where this host cannot, before anything is done, or the store cannot be used.
    pub(crate) fn start(
        job: JobContext<'a>,
        root: &'a Root,
        pins: Pins,
        rescue: Rescue,
        guard: Option<Arc<Guard>>,
    ) -> Result<Self, job::Error> {
        job.host.get()?;
        let cache = job.store.step_cache()?;
        let staging = job.store.staging()?;
        let logs = job.store.logs(staging.id())?;
        let (session, stages, used) = (OnceLock::new(), Mutex::default(), Mutex::default());
        let (named, reached) = (Mutex::default(), Mutex::default());
        Ok(Self {
            job,
            root,
            pins,
            rescue,
            guard,
            staging,
            cache,
            logs,
            session,
            stages,
            named,
            forget_caches: false,
            agent: None,
            used,
            reached,
        })
    }

    /// Returns the user namespace of this root.
    pub(crate) fn session(&self) -> Result<&Session, job::Error> {
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        let arch = &self.root.platform.architecture;
        let session = self.job.session_for(self.staging.dir(), arch)?;
        Ok(self.session.get_or_init(|| session))
    }

    /// Returns the user namespace, where one was needed.
    pub(super) fn session_if_any(&self) -> Option<&Session> {
        self.session.get()
    }

    /// Returns what jobs about packages are run with.
    pub(super) fn packages<'s>(&'s self, session: &'s Session) -> archive::JobContext<'s> {
        archive::JobContext {
            source: &self.root.source,
            session,
            scratch: self.staging.dir(),
            cancel: self.job.cancel,
            sink: self.job.sink,
        }
    }

    /// Hands over what a stage gave.
    pub(crate) fn give_stage(&self, name: &str, artifact: Arc<Artifact>) {
        held(&self.stages).insert(name.to_owned(), artifact);
    }

    /// Returns what the stage `name` gave.
    pub(super) fn stage(&self, name: &str) -> Result<Arc<Artifact>, job::Error> {
        held(&self.stages).get(name).cloned().ok_or_else(|| job::Error::Failed {
            what: format!("use the stage {name}"),
            why: "it is not part of this run".to_owned(),
        })
    }

    /// Returns what step `index` gets of stages, once it is known.
    pub(crate) fn named(&self, index: usize) -> Option<Vec<(String, Digest)>> {
        held(&self.named).get(&index).cloned()
    }

    /// Returns the table of node `index` but for the layers below; `None` while something it needs
    /// is not pinned.
    pub(crate) fn table(&self, index: usize) -> Option<Table> {
        let facts = &self.root.facts;
        match self.root.node(index) {
            Node::Base => Some(facts.base().clone()),
            Node::Identity => Some(facts.identity().clone()),
            Node::Step(_) => facts.step(index, &self.pins.known(), self.named(index).as_deref()),
        }
    }

    /// Returns what names the node's work before anything is pinned.
    pub(crate) fn asked(&self, index: usize) -> Table {
        let facts = &self.root.facts;
        match self.root.node(index) {
            Node::Base => facts.base().clone(),
            Node::Identity => facts.identity().clone(),
            Node::Step(_) => facts.asked(index, &self.named(index).unwrap_or_default()),
        }
    }

    /// Takes over what is pinned for node `index`, as if it had run.
    pub(crate) fn take_pins(&self, index: usize, from: &Lock) {
        if matches!(self.root.node(index), Node::Step(_)) {
            self.pins.add(self.root.facts.pins_of(index, from));
        }
    }

    /// Does `work` with the log of step `index`; where it fails, its last lines come along.
    pub(super) fn logged<T>(
        &self,
        index: usize,
        work: impl FnOnce(&mut Log) -> Result<T, Trouble>,
    ) -> Result<T, NodeFailure> {
        let (label, _) = self.root.label(index);
        let mut log = Log::of_step(&self.logs, index, &label, self.job.sink)?;
        log.hide(self.guard.as_ref().and_then(|guard| guard.masks(self.root, index)));
        let ended = work(&mut log);
        let path = log.path().to_owned();
        let tail = log.finish();
        self.guard.as_ref().map_or(Ok(()), |guard| guard.no_secret_in_log(&path))?;
        ended.map_err(|trouble| {
            let trouble = asked::named(trouble, &tail);
            NodeFailure { trouble, tail, log: Some(path) }
        })
    }

    /// Makes the base in a fresh upper directory below `at`; returns that.
    ///
    /// # Errors
    /// [`NodeFailure`], with what it printed last.
    pub(crate) fn base(&self, at: &Path) -> Result<PathBuf, NodeFailure> {
        self.logged(0, |log| self.make_base(at, log))
    }

    fn make_base(&self, at: &Path, log: &mut Log) -> Result<PathBuf, Trouble> {
        let (upper, work) = (make_dir(&at.join("u"))?, fresh_work(at)?);
        let mut listener = |line: Line<'_>| log.line(line.stderr, line.text);
        let Root { start, epoch, context_dir, .. } = self.root;
        let Start::Made(base) = start else {
            let (what, why) = ("make the base".to_owned(), "its layers are there".to_owned());
            return Err(job::Error::Failed { what, why }.into());
        };
        let packages = self.packages(self.session()?);
        base::build(base, *epoch, context_dir, &upper, &work, &packages, &mut listener).map_err(
            |error| match error {
                base::Error::Archive(archive::Error::Cancelled) => job::Error::Interrupted.into(),
                base::Error::Archive(archive::Error::Sandbox(error)) => error.into(),
                error => Trouble::Base(error),
            },
        )?;
        Ok(upper)
    }

    /// Packs, names and compresses an upper directory that node `index` made over the layer
    /// directory `below`, and syncs the blob. `None`: nothing was in it.
    ///
    /// # Errors
    /// [`NodeFailure`]; where it holds a secret that is the step's own.
    pub(crate) fn pack(
        &self,
        index: usize,
        upper: &Path,
        below: Option<&Path>,
        label: &str,
    ) -> Result<Option<Blob>, NodeFailure> {
        let below = below.map(|below| self.inside(below)).transpose()?;
        let (session, cancel) = (self.session()?, self.job.cancel);
        let (epoch, how) = (self.root.epoch, self.compression());
        let pack = |copy: Option<Box<dyn Write + Send>>| {
            let upper = Upper { dir: upper, mount: None, below, copy };
            job::pack(session, &self.staging, upper, epoch, how, label, cancel)
        };
        let blob = match self.guard.as_ref().filter(|_| index > 0) {
            None => pack(None)?,
            Some(guard) => guard.packed(label, |tap| pack(Some(Box::new(tap))))?,
        };
        if let Some(blob) = &blob {
            self.staging.sync(&blob.digest).map_err(job::Error::from)?;
        }
        Ok(blob)
    }

    /// Returns the secrets that a step of these operations sees.
    pub(super) fn shown_secrets(&self, ops: &[Op]) -> ShownSecrets {
        self.guard.as_ref().map(|guard| guard.shown(ops)).unwrap_or_default()
    }

    /// Makes sure that documents of the image hold no secret.
    ///
    /// # Errors
    /// Which does.
    pub(crate) fn no_secret_in<'d>(
        &self,
        documents: impl Iterator<Item = (&'d str, &'d [u8])>,
    ) -> Result<(), job::Error> {
        let Some(guard) = &self.guard else { return Ok(()) };
        guard.no_secret_in(&self.root.plan.image, documents)
    }

    /// Where the directory of a layer is inside the sandbox: one of the cache, or of this build.
    fn inside(&self, directory: &Path) -> Result<PathBuf, job::Error> {
        match directory.strip_prefix(self.job.store.layers()?) {
            Ok(below) => Ok(Path::new("/layers").join(below)),
            Err(_) => inside(&self.staging, directory),
        }
    }

    /// Returns the name of an unpacked layer in the cache.
    pub(crate) fn tree_name(
        &self,
        digest: &Digest,
        diff_id: &Digest,
    ) -> Result<String, job::Error> {
        Ok(tree_name(self.job.host.get()?, digest, diff_id))
    }

    /// Returns the directory of the layer of `blob`, which is in the staging directory, and what
    /// holds it where it is one of the cache. `foreign`: bake has not made it, so that its tar is
    /// checked against its diff_id as well. `at`: a directory of its own for when it has to be
    /// unpacked.
    pub(crate) fn unpacked(
        &self,
        blob: &Blob,
        how: Compression,
        foreign: bool,
        at: &Path,
    ) -> Result<(PathBuf, Option<UnpackedLayer>), job::Error> {
        let name = self.tree_name(&blob.digest, &blob.diff_id)?;
        if let Some(tree) = self.cache.unpacked(&name)? {
            return Ok((tree.path.clone(), Some(tree)));
        }
        let (path, into) = (self.staging.path(&blob.digest), at.join("u"));
        let diff_id = foreign.then_some(&blob.diff_id);
        let layer = LayerBlob { path: &path, digest: &blob.digest, diff_id, how };
        unpack_layer(self.session()?, &self.staging, &layer, &into, self.job.cancel)?;
        match self.cache.keep_unpacked(&name, &into, &at.join("removed"))? {
            Some(tree) => Ok((tree.path.clone(), Some(tree))),
            None => Ok((into, None)),
        }
    }

    /// Returns how its layers are compressed.
    pub(crate) fn compression(&self) -> Compression {
        config::compression(self.root.recipe.image.compression)
    }

    /// Removes the scratch directory. What cannot be removed now is swept by the next run.
    pub(crate) fn clear(&self) {
        self.limit_kept();
        clear(self.job.sink, &self.staging, self.session.get());
    }

    /// Fetches `url` and pins its checksum: the recipe's, else the lock's, else what came. One
    /// build gets one content from an address, whatever the server says when it is asked again.
    /// `credentials`: the secret that the server is given.
    pub(super) fn download(
        &self,
        url: &str,
        credentials: Option<&str>,
        sha256: Option<&str>,
    ) -> Result<PathBuf, Trouble> {
        let guard = self.guard.as_ref();
        let credentials = credentials.and_then(|name| guard.and_then(|guard| guard.value(name)));
        let pinned = sha256.map(str::to_owned).or_else(|| self.pins.sha256_of(url));
        if pinned.is_none() {
            self.pins.may_choose(&format!("the download {url}"))?;
        }
        let digest = |hex: &str| Digest::from_hex(hex).map_err(|error| Trouble::prepared(&error));
        let got = self.fetch(url, credentials, pinned.as_deref().map(digest).transpose()?)?;
        // What the recipe says itself need not be remembered.
        if sha256.is_some() {
            return Ok(got.path);
        }
        let mine = got.sha256.hex();
        let first = self.pins.set_sha256(url, &mine);
        if first == mine {
            return Ok(got.path);
        }
        // Another step of this build was faster, and was given something else.
        Ok(self.fetch(url, credentials, Some(digest(&first)?))?.path)
    }

    fn fetch(
        &self,
        url: &str,
        credentials: Option<&Value>,
        wanted: Option<Digest>,
    ) -> Result<fetch::Got, Trouble> {
        let got = self.root.source.download_as(url, credentials, wanted, MAX_DOWNLOAD);
        got.map_err(|error| match error {
            _ if self.job.cancel.fired() => job::Error::Interrupted.into(),
            error => Trouble::prepared(&error),
        })
    }

    /// Returns the key of a repository: as it is held, or fetched.
    pub(super) fn repository_key(&self, key: &str, held: &[Held]) -> Result<Vec<u8>, Trouble> {
        match held {
            [held] => {
                Ok(held.read().map_err(|error| Trouble::prepared(&error))?.as_ref().to_owned())
            }
            _ => {
                let path = self.download(key, None, None)?;
                let read = fs::read(&path);
                read.map_err(|source| job::Error::File { verb: "read", path, source }.into())
            }
        }
    }

    /// Returns what programs get as environment that reach `reach`: what is set for all, and by
    /// which the host trusts others. What a step sets itself comes after it.
    pub(super) fn environment(&self, reach: &Reach) -> BTreeMap<String, String> {
        let mut all = environment(self.root.epoch, &self.root.environment);
        if reach.is_some() {
            all.extend(self.root.trust.environment(*reach == Reach::Host));
        }
        all
    }

    /// Returns the files that programs see while they run and that never reach the image.
    pub(super) fn policy(&self, reach: &Reach) -> Vec<PolicyFile> {
        let mut out = archive::policy_files();
        if reach.is_some() {
            let files = self.root.trust.files().into_iter();
            out.extend(files.map(|(at, bytes)| PolicyFile { at: at.into(), bytes, mode: 0o444 }));
        }
        match reach {
            Reach::None => {}
            Reach::Host => out.extend(resolv_conf(self.job.sink, "steps with network have")),
            Reach::Internet | Reach::Only(_) => out.push(resolver(gateway::resolv_conf())),
        }
        out
    }
}

/// Locks; what a thread that panicked left is as good as any: every change here is one insertion.
pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
