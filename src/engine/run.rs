//! Running the nodes of one root, in order: each is taken from the cache, or carried out and then
//! packed while the next one runs.
//!
//! ```text
//! node n     packages chosen, where it installs any
//!            key known? ─ hit ─────────────────────► its layer, unpacked only when a later node needs its directory
//!            └ miss: wait for another build that runs it now, look again, else carry it out ─► upper directory
//! beside n+1 packed ─► blob synced ─► entry in the cache: from here on a killed build need not run it again,
//!            and builds that wait for it go on
//! settle n   upper directory into cache/layers
//! ```
//! A key holds the layers below by content, so it is known only when these are packed. Where the
//! last build had this very step, that is waited for, since a hit is likely; else the step starts
//! at once and is named afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::Scope;
use std::time::{Duration, Instant};

use super::error::Error;
use super::keeper::{Keeper, Packing, Pending};
use super::work::Work;
use crate::digest::Digest;
use crate::event::{Event, chain};
use crate::executor::{Build, Direct, Node, NodeFailure, Record, Stack, fits};
use crate::files::Lock;
use crate::job;
use crate::layer::Blob;
use crate::plan::artifact::{Artifact, Built, Made};
use crate::plan::key::Table;
use crate::plan::why::Why;
use crate::step::Op;
use crate::store::{Entry, Layer};

/// The nodes run so far.
pub(super) struct Run<'scope, 'env> {
    pub(super) work: &'env Work<'env>,
    pub(super) build: &'env Build<'env>,
    pub(super) scope: &'scope Scope<'scope, 'env>,
    /// The layers that the base did not have to make.
    pub(super) below: Option<Arc<Artifact>>,
    /// What each node left, the base first.
    pub(super) made: Vec<Made>,
    /// The layers so far.
    pub(super) stack: Stack,
    /// The node that was carried out last, until its layer is known.
    pub(super) pending: Option<Pending>,
    /// The layer being packed: at most one, as packing uses every core.
    pub(super) packing: Option<Packing<'scope>>,
    /// What the last build was made from.
    pub(super) record: Record,
    /// Names the work up to the last node, whatever it gives: builds with the same name wait for
    /// each other.
    pub(super) path: Digest,
    pub(super) cache_broken: bool,
    /// When this run began (RFC 3339).
    pub(super) at: String,
    /// The directory of a step that demonstrably did nothing to it, for the next one: making and
    /// removing directories is what such steps cost most.
    spare: Option<PathBuf>,
}

/// Where the identity of the image is written, and what is read for it.
const IDENTITY: &[&str] = &["/etc", "/usr/lib"];

/// A node that the cache does not have.
pub(super) struct Miss {
    /// Its table but for the layers below, if everything that it needs is pinned.
    pub(super) table: Option<Table>,
    /// What it gave before, to compare with.
    pub(super) expected: Option<Option<Layer>>,
    /// Makes other builds of the same node wait.
    pub(super) lock: Option<Lock>,
    pub(super) why: Why,
    /// Since which build.
    pub(super) since: Option<String>,
}

/// What a node left that was carried out.
enum Left {
    Directory(PathBuf),
    Layer(Direct),
}

impl<'scope, 'env> Run<'scope, 'env> {
    pub(super) fn new(work: &'env Work<'env>, scope: &'scope Scope<'scope, 'env>) -> Self {
        let build = &work.build;
        let stage = build.root.stage.as_deref();
        Self {
            work,
            build,
            scope,
            below: None,
            made: vec![],
            stack: Stack::default(),
            pending: None,
            packing: None,
            record: Record::open(&build.cache, work.request.record(), stage),
            path: Digest::of(b""),
            cache_broken: false,
            at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            spare: None,
        }
    }

    /// Runs the base and the first `steps` steps, and with `identity`, where these are all, the
    /// identity. What was good stays cached when one fails.
    pub(super) fn nodes(&mut self, steps: usize, identity: bool) -> Result<(), Error> {
        let result = (0..=steps + usize::from(identity)).try_for_each(|index| self.one(index));
        let settled = self.settle();
        if identity && result.is_ok() {
            self.record.cut(steps + 2);
        }
        self.record.write(&self.build.cache);
        result?;
        settled
    }

    /// Returns what the nodes gave.
    pub(super) fn built(self) -> Built {
        Built { below: self.below, made: self.made }
    }

    fn one(&mut self, index: usize) -> Result<(), Error> {
        let work = self.work;
        work.go_on()?;
        if index == 0
            && let Some(below) = work.below()?
        {
            return self.stand_on(below);
        }
        work.await_wanted(index)?;
        let _permit = work.permit()?;
        match self.look_up(index)? {
            None => Ok(()),
            Some(miss) => {
                self.begins(index, false);
                self.say_why(index, &miss);
                self.carry_out(index, miss)
            }
        }
    }

    /// Takes the layers that the base does not have to make.
    fn stand_on(&mut self, below: Arc<Artifact>) -> Result<(), Error> {
        let build = self.build;
        self.begins(0, true);
        for layer in &below.layers {
            build.staging.adopt(&layer.path, &layer.blob.digest)?;
        }
        self.stack.stand_on(&below);
        self.path = Digest::of(format!("{} {}", self.path, build.asked(0).key()));
        let key = build.table(0).map(|table| table.above(&[]).key());
        self.made.push(Made { layer: None, key });
        let size = below.layers.iter().map(|layer| layer.blob.tar_size).sum();
        let layer = below.layers.last().map(|layer| layer.blob.digest);
        (build.job.sink)(Event::StepDone {
            index: 0,
            took: Duration::ZERO,
            layer,
            size,
            cached: true,
        });
        self.below = Some(below);
        Ok(())
    }

    /// Carries out a node that the cache does not have, and begins to pack what it left.
    fn carry_out(&mut self, index: usize, miss: Miss) -> Result<(), Error> {
        let (work, build) = (self.work, self.build);
        let start = Instant::now();
        let own = || build.staging.dir().join(format!("step-{index}"));
        let at = self.spare.take().unwrap_or_else(own);
        // Nothing that bake itself does to it moves this time.
        let fresh = job::modified(&job::make_dir(&at.join("u"))?)?;
        let left = match build.root.node(index) {
            Node::Step(step) if fits(&step.ops) => {
                Left::Layer(self.copy(index, &step.ops[0], &at)?)
            }
            node => {
                let interest = matches!(node, Node::Identity).then_some(IDENTITY);
                let lower = self.stack.lower(build, interest)?;
                let upper = match node {
                    Node::Base => build.base(&at),
                    Node::Step(step) => build.step(index, step, &lower, &at),
                    Node::Identity => build.identity(&lower, &at).map_err(NodeFailure::from),
                };
                Left::Directory(upper.map_err(|failed| work.failed(index, failed))?)
            }
        };
        let took = start.elapsed();
        // From here on the layers below are known, and with them the key.
        self.settle()?;
        let Miss { table, expected, lock, .. } = miss;
        let table = build.table(index).or(table).map(|table| table.above(&self.layers_below()));
        self.made.push(Made { layer: None, key: table.as_ref().map(Table::key) });
        let stays = expected.is_none() && !self.cache_broken;
        let key = table.as_ref().filter(|_| stays).map(Table::key);
        self.pending = Some(Pending { index, table, expected });
        let keeper = Keeper::new(build, index, key, took, lock);
        // By now where it stays: what was packed has been moved to the cache.
        let below = self.stack.directories().into_iter().next();
        match left {
            Left::Layer(Direct { blob, touches }) => {
                self.kept(keeper.keep(blob.as_ref(), Some(&touches)));
                if let Some(blob) = &blob {
                    let blob = (blob.clone(), build.compression());
                    self.stack.push_blob(index, blob, Some(touches));
                }
                self.made[index].layer = blob;
                self.settle()
            }
            Left::Directory(upper) if job::untouched(&upper, below.as_deref())? => {
                if self.may_be_used_again(index, &upper, &at) && job::modified(&upper)? == fresh {
                    self.spare = Some(at);
                }
                self.kept(keeper.keep(None, None));
                self.settle()
            }
            Left::Directory(upper) => self.pack(index, upper, below, keeper),
        }
    }

    /// Whether a step that left `upper` as it was has left nothing else in its directory `at`.
    fn may_be_used_again(&self, index: usize, upper: &Path, at: &Path) -> bool {
        let leaves_more = |op: &Op| matches!(op, Op::Packages { .. });
        matches!(self.build.root.node(index), Node::Step(step) if !step.ops.iter().any(leaves_more))
            && upper == at.join("u")
    }

    /// Makes the layer of a copy without unpacking it; layers below that are not unpacked stay so,
    /// unless it turns out that it needs them.
    fn copy(&mut self, index: usize, op: &Op, at: &Path) -> Result<Direct, Error> {
        let (work, build) = (self.work, self.build);
        let failed = |error| work.failed(index, error);
        let (lower, unseen) = self.stack.lower_or_touches(build)?;
        let found = build.copy(index, op, &lower, &unseen, &at.join("0")).map_err(failed)?;
        if let Some(direct) = found {
            return Ok(direct);
        }
        let lower = self.stack.lower(build, None)?;
        let direct = build.copy(index, op, &lower, &[], &at.join("1")).map_err(failed)?;
        direct.ok_or_else(|| {
            let why = "everything is there, and its place is still unknown".to_owned();
            job::Error::Failed { what: "place a copy".to_owned(), why }.into()
        })
    }

    /// Takes a layer from the cache.
    pub(super) fn take(&mut self, index: usize, entry: &Entry) {
        let build = self.build;
        build.take_pins(index, &build.pins.known());
        let below = self.known_below();
        let table = build.table(index).zip(below).map(|(table, below)| table.above(&below));
        if let Some(table) = &table {
            self.record.set(index, table, build.staging.id(), &self.at);
        }
        let layer = entry.layer.map(blob_of);
        if let Some(blob) = &layer {
            let blob = (blob.clone(), build.compression());
            self.stack.push_blob(index, blob, entry.touches.clone());
        }
        if !matches!(build.root.node(index), Node::Identity) {
            let size = layer.as_ref().map_or(0, |blob| blob.tar_size);
            let digest = layer.as_ref().map(|blob| blob.digest);
            (build.job.sink)(Event::StepDone {
                index,
                took: Duration::ZERO,
                layer: digest,
                size,
                cached: true,
            });
        }
        self.made.push(Made { layer, key: table.as_ref().map(Table::key) });
    }

    /// Returns the layers below the next node by content, unless one is still being packed.
    pub(super) fn known_below(&self) -> Option<Vec<Digest>> {
        self.packing.is_none().then(|| self.layers_below())
    }

    /// Returns all layers so far by content.
    fn layers_below(&self) -> Vec<Digest> {
        let mut below = self.below.as_ref().map_or_else(Vec::new, |below| below.chain());
        let made = self.made.iter().filter_map(|one| one.layer.as_ref());
        below.extend(made.map(|blob| blob.diff_id));
        below
    }

    /// Reports that a node begins; the identity is no step that people know.
    pub(super) fn begins(&self, index: usize, cached: bool) {
        if !matches!(self.build.root.node(index), Node::Identity) {
            let (label, line) = self.build.root.label(index);
            let part = self.build.root.part(index);
            (self.build.job.sink)(Event::StepStarted { index, label, line, part, cached });
        }
    }

    /// Reports why a node is not taken from the cache.
    fn say_why(&self, index: usize, Miss { why, since, .. }: &Miss) {
        if !matches!(self.build.root.node(index), Node::Identity) {
            let rows = why.rows().into_iter().map(str::to_owned).collect();
            let (kind, why, since) = (why.kind(), why.text(), since.clone());
            (self.build.job.sink)(Event::StepMissed { index, kind, why, rows, since });
        }
    }

    /// Reports, once, that the cache cannot be used: the build goes on without it.
    pub(super) fn broken(&mut self, error: &dyn std::error::Error) {
        if !self.cache_broken {
            self.cache_broken = true;
            let message = format!("the cache of steps cannot be used: {}", chain(error).join(": "));
            (self.build.job.sink)(Event::Warning { message, hint: None });
        }
    }
}

/// Returns a layer of the cache as a blob.
fn blob_of(layer: Layer) -> Blob {
    let Layer { digest, size, diff_id, tar_size } = layer;
    Blob { diff_id, digest, size, tar_size }
}
