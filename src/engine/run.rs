//! Running the nodes of one build, in order: each is taken from the cache, or carried out and then
//! packed while the next one runs.
//!
//! ```text
//! node n     packages chosen, where it installs any
//!            key known? ─ hit ──────────────────────────────► its layer, unpacked only when a later node needs the folder
//!            └ miss: wait for another build that runs it now, look again, else carry it out ─► upper folder
//! beside n+1 packed ─► blob synced ─► entry in the cache: from here on a killed build need not run it again,
//!            and builds that wait for it go on
//! settle n   upper folder into cache/layers
//! ```
//! A key holds the layers below by content, so it is known only when these are packed. Where the
//! last build had this very step, that is waited for, since a hit is likely; else the step starts
//! at once and is named afterwards.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::direct::{self, Direct};
use super::error::Error;
use super::record::{self, Record};
use super::request::NoCache;
use super::work::{Node, Work};
use crate::digest::Digest;
use crate::event::{Event, Sink};
use crate::files;
use crate::job::{self, no_thread};
use crate::layer::{self, Blob, Compression};
use crate::plan::artifact::{Artifact, Built, Made};
use crate::plan::key::Table;
use crate::plan::lock::Lock as Pins;
use crate::plan::why::{StandsOn, Why};
use crate::step::Op;
use crate::store::{self, Entry, Found, Layer, UnpackedLayer};
use crate::threads;

/// The nodes run so far.
pub(super) struct Run<'scope, 'env> {
    work: &'env Work<'env>,
    scope: &'scope Scope<'scope, 'env>,
    /// The layers that the base did not have to make.
    below: Option<Arc<Artifact>>,
    /// What each node left, the base first.
    made: Vec<Made>,
    /// The layers so far, the lowest first.
    stack: Vec<Layered>,
    /// The node that was carried out last, until its layer is known.
    pending: Option<Pending>,
    /// The layer being packed: at most one, as packing uses every core.
    packing: Option<Packing<'scope>>,
    /// What the last build was made from.
    record: Record,
    /// Names the work up to the last node, whatever it gives: builds with the same name wait for
    /// each other.
    path: Digest,
    cache_broken: bool,
    at: String,
    /// The directory of a step that demonstrably did nothing to it, for the next one: making and
    /// removing directories is what such steps cost most.
    spare: Option<PathBuf>,
}

/// Where the identity of the image is written, and what is read for it.
const IDENTITY: &[&str] = &["/etc", "/usr/lib"];

/// One layer of the stack.
struct Layered {
    /// Node that made it.
    index: usize,
    /// Its blob, which is in the draft, and how it is compressed; none while it is being packed.
    blob: Option<(Blob, Compression)>,
    /// Bake has not made it.
    foreign: bool,
    /// Its unpacked folder, if there is one.
    folder: Option<PathBuf>,
    /// Where everything is that it introduces, if that is known: who looks elsewhere need not have
    /// it unpacked.
    touches: Option<Vec<String>>,
    /// Holds the folder, where it is one of the cache.
    _tree: Option<UnpackedLayer>,
}

/// A node that was carried out.
struct Pending {
    index: usize,
    /// Its whole table.
    table: Option<Table>,
    /// What it gave before, to compare with.
    expected: Option<Option<Layer>>,
}

struct Packing<'scope> {
    index: usize,
    handle: ScopedJoinHandle<'scope, Result<Packed, Error>>,
}

/// A blob, if there was anything to pack, and why the cache could not keep it.
type Packed = (Option<Blob>, Option<store::Error>);

impl<'scope, 'env> Run<'scope, 'env> {
    pub(super) fn new(work: &'env Work<'env>, scope: &'scope Scope<'scope, 'env>) -> Self {
        let at = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let stage = work.ready.stage.as_deref();
        let record = Record::open(&work.cache, &work.ready.recipe_path, stage);
        Self {
            work,
            scope,
            below: None,
            made: vec![],
            stack: vec![],
            pending: None,
            packing: None,
            record,
            path: Digest::of(b""),
            cache_broken: false,
            at,
            spare: None,
        }
    }

    /// Runs the base and the first `steps` steps, and with `identity`, where these are all, the
    /// identity. What was good stays cached when one fails.
    pub(super) fn all(mut self, steps: usize, identity: bool) -> Result<Built, Error> {
        self.nodes(steps, identity)?;
        Ok(Built { below: self.below, made: self.made })
    }

    /// Runs the base and the first `steps` steps, and hands the folders of all layers, topmost
    /// first, to `look`.
    pub(super) fn root<T>(
        mut self,
        steps: usize,
        look: impl FnOnce(&[PathBuf]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.nodes(steps, false)?;
        let lower = self.lower(None)?;
        look(&lower)
    }

    fn nodes(&mut self, steps: usize, identity: bool) -> Result<(), Error> {
        let result = (0..=steps + usize::from(identity)).try_for_each(|index| self.one(index));
        let settled = self.settle();
        if identity && result.is_ok() {
            self.record.cut(steps + 2);
        }
        self.record.write(&self.work.cache);
        result?;
        settled
    }

    fn one(&mut self, index: usize) -> Result<(), Error> {
        if self.work.hall.cancel.fired() {
            return Err(Error::Interrupted);
        }
        if self.work.stop.load(Ordering::Relaxed) {
            return Err(Error::OtherFailed);
        }
        let work = self.work;
        if index == 0
            && let Some(below) = work.below()?
        {
            return self.stand_on(below);
        }
        work.await_wanted(index)?;
        let _permit = work.pool.permit(work.stop, work.hall.cancel)?;
        let (label, line) = work.label(index);
        let told = !matches!(work.node(index), Node::Identity);
        let begins = |cached| {
            if told {
                (work.sink)(Event::StepStarted { index, label: label.clone(), line, cached });
            }
        };
        self.path = Digest::of(format!("{} {}", self.path, work.asked(index).key()));
        let mut table = work.table(index);
        if self.packing.as_ref().is_some_and(|packing| packing.handle.is_finished())
            || table.as_ref().is_some_and(|table| self.record.may_hit(index, table))
        {
            self.settle()?;
        }
        let mut found = self.find(index, table.as_ref());
        let mut lock = None;
        if !matches!(found, Looked::Hit(_)) && told && !work.request.paranoid {
            (lock, found) = self.wait(index, &mut table, found)?;
        }
        if matches!(found, Looked::Missed(..)) && work.chooses(index) {
            // The packages are part of the name, and whoever knows it may find that an earlier
            // build, which failed later, has left them.
            let at = work.draft.dir().join(format!("choose-{index}"));
            let chosen = self.lower(None).and_then(|lower| work.choose(index, &lower, &at));
            chosen.inspect_err(|_| begins(false))?;
            table = work.table(index);
            if table.as_ref().is_some_and(|table| self.record.may_hit(index, table)) {
                self.settle()?;
            }
            found = self.find(index, table.as_ref());
            if let (Looked::Hit(_), Some(lock)) = (&found, &lock) {
                write_pins(lock, &work.ready.facts.pins_of(index, &work.known_pins()));
            }
        }
        let (expected, why, since) = match found {
            Looked::Hit(entry) if work.request.paranoid => (Some(entry.layer), Why::Paranoid, None),
            Looked::Hit(entry) => {
                begins(true);
                self.take(index, &entry);
                return Ok(());
            }
            Looked::Missed(why, since) => (None, why, since),
        };
        begins(false);
        if told {
            let rows = why.rows().into_iter().map(str::to_owned).collect();
            (work.sink)(Event::StepMissed {
                index,
                kind: why.kind(),
                why: why.text(),
                rows,
                since,
            });
        }
        let start = Instant::now();
        let at =
            self.spare.take().unwrap_or_else(|| work.draft.dir().join(format!("step-{index}")));
        // Nothing that bake itself does to it moves this time.
        let fresh = job::modified(&job::make_dir(&at.join("u"))?)?;
        let ran = match work.node(index) {
            Node::Step(step) if direct::fits(&step.ops) => {
                Ran::Layer(self.copy(index, &step.ops[0], &at)?)
            }
            node => {
                let apart = matches!(node, Node::Identity).then_some(IDENTITY);
                Ran::Folder(work.carry_out(index, &self.lower(apart)?, &at)?)
            }
        };
        let took = start.elapsed();
        // From here on the layers below are known, and with them the key.
        self.settle()?;
        let table = work.table(index).or(table).map(|table| table.above(&self.layers_below()));
        self.made.push(Made { layer: None, key: table.as_ref().map(Table::key) });
        let key =
            table.as_ref().filter(|_| expected.is_none() && !self.cache_broken).map(Table::key);
        self.pending = Some(Pending { index, table, expected });
        let sink = Sink::clone(work.sink);
        let pins = matches!(work.node(index), Node::Step(_))
            .then(|| work.ready.facts.pins_of(index, &work.known_pins()));
        let keep = move |blob: Option<&Blob>, touches: Option<&[String]>| {
            let entry = Entry::new(
                blob.map(layer_of),
                touches.map(<[String]>::to_vec),
                took,
                work.draft.id(),
            );
            let kept = key.map_or(Ok(()), |key| work.cache.keep(&key, entry, &work.draft));
            // From here on others find what this one gave. They go on at once, beside the next step
            // of this build: it would cost them more to wait for its folder than to unpack the blob.
            if let (Some(lock), Some(pins)) = (&lock, &pins) {
                write_pins(lock, pins);
            }
            drop(lock);
            if told {
                let (layer, size) =
                    (blob.map(|blob| blob.digest), blob.map_or(0, |blob| blob.tar_size));
                sink(Event::StepDone { index, took, layer, size, cached: false });
            }
            kept.err()
        };
        // By now where it stays: what was packed has been moved to the cache.
        let below = self.folders().into_iter().next();
        let upper = match ran {
            Ran::Layer(Direct { blob, touches }) => {
                if let Some(error) = keep(blob.as_ref(), Some(&touches)) {
                    self.broken(&error);
                }
                if let Some(blob) = &blob {
                    self.stack.push(Layered {
                        index,
                        blob: Some((blob.clone(), work.compression())),
                        foreign: false,
                        folder: None,
                        touches: Some(touches),
                        _tree: None,
                    });
                }
                self.made[index].layer = blob;
                return self.settle();
            }
            Ran::Folder(upper) if job::untouched(&upper, below.as_deref())? => {
                let leaves_more = |op: &Op| matches!(op, Op::Packages { .. });
                if matches!(work.node(index), Node::Step(step) if !step.ops.iter().any(leaves_more))
                    && upper == at.join("u")
                    && job::modified(&upper)? == fresh
                {
                    self.spare = Some(at);
                }
                if let Some(error) = keep(None, None) {
                    self.broken(&error);
                }
                return self.settle();
            }
            Ran::Folder(upper) => upper,
        };
        job::settle(work.session()?, &work.draft, &upper, work.ready.epoch, work.hall.cancel)?;
        self.stack.push(Layered {
            index,
            blob: None,
            foreign: false,
            folder: Some(upper.clone()),
            touches: None,
            _tree: None,
        });
        let pack = move || {
            let blob = work.pack(&upper, below.as_deref(), &label)?;
            let trouble = keep(blob.as_ref(), None);
            Ok((blob, trouble))
        };
        let handle = threads::scoped(self.scope, pack).map_err(no_thread)?;
        self.packing = Some(Packing { index, handle });
        Ok(())
    }

    /// Returns the layers below the next node by content, unless one is still being packed.
    fn chain(&self) -> Option<Vec<Digest>> {
        self.packing.is_none().then(|| self.layers_below())
    }

    /// Returns all layers so far by content.
    fn layers_below(&self) -> Vec<Digest> {
        let mut chain = self.below.as_ref().map_or_else(Vec::new, |below| below.chain());
        chain
            .extend(self.made.iter().filter_map(|one| one.layer.as_ref()).map(|blob| blob.diff_id));
        chain
    }

    /// Takes the layers that the base does not have to make.
    fn stand_on(&mut self, below: Arc<Artifact>) -> Result<(), Error> {
        let work = self.work;
        let (label, line) = work.label(0);
        (work.sink)(Event::StepStarted { index: 0, label, line, cached: true });
        for layer in &below.layers {
            work.draft.adopt(&layer.path, &layer.blob.digest)?;
            self.stack.push(Layered {
                index: 0,
                blob: Some((layer.blob.clone(), layer.compression)),
                foreign: layer.foreign,
                folder: None,
                touches: None,
                _tree: None,
            });
        }
        let key = work.table(0).map(|table| table.above(&[]).key());
        self.path = Digest::of(format!("{} {}", self.path, work.asked(0).key()));
        self.made.push(Made { layer: None, key });
        let size = below.layers.iter().map(|layer| layer.blob.tar_size).sum();
        let (took, layer) = (Duration::ZERO, below.layers.last().map(|layer| layer.blob.digest));
        (work.sink)(Event::StepDone { index: 0, took, layer, size, cached: true });
        self.below = Some(below);
        Ok(())
    }

    fn why(&self, index: usize, table: &Table) -> (Why, Option<String>) {
        let work = self.work;
        let ops = if let Node::Step(step) = work.node(index) { step.ops.as_slice() } else { &[] };
        let name = &work.ready.plan.base;
        let base = self.below.as_ref().map(|all| StandsOn { name, layers: all.layers.len() });
        self.record.why(index, table, &work.cache, ops, &work.ready.context, base)
    }

    /// Whether the person wants this node run although it is cached.
    fn unwanted(&self, index: usize) -> bool {
        let (label, _) = self.work.label(index);
        no_cache(&self.work.request.no_cache, self.work.ready.stage.as_deref(), index, &label)
    }

    fn find(&mut self, index: usize, table: Option<&Table>) -> Looked {
        let Some(table) = table else { return Looked::Missed(Why::Unpinned, None) };
        let Some(chain) = self.chain() else {
            let (why, since) = self.why(index, table);
            // All that is known of it is as it was: it is what lies below that changed.
            return Looked::Missed(if why == Why::Gone { Why::First } else { why }, since);
        };
        if self.unwanted(index) {
            return Looked::Missed(Why::Asked, None);
        }
        let table = table.above(&chain);
        match self.work.cache.find(&table.key(), &self.work.draft) {
            Ok(Found::Hit(entry)) => Looked::Hit(entry),
            Ok(Found::Damaged(what)) => {
                let message = format!("{}: {what}; the step runs again", self.work.label(index).0);
                (self.work.sink)(Event::Warning { message, hint: None });
                Looked::Missed(Why::Damaged(what), None)
            }
            Ok(Found::Miss) => {
                let (why, since) = self.why(index, &table);
                Looked::Missed(why, since)
            }
            Err(error) => {
                self.broken(&error);
                Looked::Missed(Why::Gone, None)
            }
        }
    }

    /// Waits while another build does the same work, and takes what it gave.
    fn wait(
        &mut self,
        index: usize,
        table: &mut Option<Table>,
        found: Looked,
    ) -> Result<(Option<files::Lock>, Looked), Error> {
        let work = self.work;
        let told = std::cell::Cell::new(false);
        let stop = || {
            if !told.replace(true) {
                (work.sink)(Event::Note {
                    message: format!("waiting for another build of {}", work.label(index).0),
                });
            }
            work.hall.cancel.fired() || work.stop.load(Ordering::Relaxed)
        };
        let (lock, waited) = match work.cache.lock(&self.path, &stop) {
            Ok(Some(held)) => held,
            Ok(None) => {
                return Err(if work.hall.cancel.fired() {
                    Error::Interrupted
                } else {
                    Error::OtherFailed
                });
            }
            Err(error) => {
                self.broken(&error);
                return Ok((None, found));
            }
        };
        if waited {
            self.settle()?;
            if table.is_none() {
                // It has pinned just now what this build would pin.
                if let Some(pins) = read_pins(&lock) {
                    work.take_pins(index, &pins);
                    *table = work.table(index);
                }
            }
        }
        // Between the first look and the lock another build may have ended. Why it is a miss is
        // known already, and told once.
        if let (Some(table), Some(chain)) = (table.as_ref(), self.chain())
            && !self.unwanted(index)
            && let Ok(Found::Hit(entry)) = work.cache.find(&table.above(&chain).key(), &work.draft)
        {
            return Ok((None, Looked::Hit(entry)));
        }
        // What an earlier holder wrote is not of this run.
        let _ = lock.file().set_len(0);
        Ok((Some(lock), found))
    }

    /// Takes a layer from the cache.
    fn take(&mut self, index: usize, entry: &Entry) {
        let work = self.work;
        work.take_pins(index, &work.known_pins());
        let table = work.table(index).zip(self.chain()).map(|(table, chain)| table.above(&chain));
        if let Some(table) = &table {
            self.record.set(index, table, work.draft.id(), &self.at);
        }
        if let Some(layer) = entry.layer {
            self.stack.push(Layered {
                index,
                blob: Some((blob_of(layer), work.compression())),
                foreign: false,
                folder: None,
                touches: entry.touches.clone(),
                _tree: None,
            });
        }
        let layer = entry.layer.map(blob_of);
        let (digest, size) = (
            layer.as_ref().map(|blob| blob.digest),
            layer.as_ref().map_or(0, |blob| blob.tar_size),
        );
        self.made.push(Made { layer, key: table.as_ref().map(Table::key) });
        if !matches!(work.node(index), Node::Identity) {
            (work.sink)(Event::StepDone {
                index,
                took: Duration::ZERO,
                layer: digest,
                size,
                cached: true,
            });
        }
    }

    /// Makes the layer of a copy without its folder; layers below that are not unpacked stay so,
    /// unless it turns out that it needs them.
    fn copy(&mut self, index: usize, op: &Op, at: &Path) -> Result<Direct, Error> {
        let mut unseen = vec![];
        for at in 0..self.stack.len() {
            match self.stack[at].touches.clone() {
                Some(touches) if self.stack[at].folder.is_none() => unseen.extend(touches),
                _ => self.folder(at)?,
            }
        }
        let found = self.work.copy(index, op, &self.folders(), &unseen, &at.join("0"))?;
        if let Some(direct) = found {
            return Ok(direct);
        }
        let lower = self.lower(None)?;
        let direct = self.work.copy(index, op, &lower, &[], &at.join("1"))?;
        direct.ok_or_else(|| Error::Chore {
            what: "place a copy".to_owned(),
            why: "everything is there, and it still cannot tell".to_owned(),
        })
    }

    /// Returns the folders of all layers, topmost first; those that are only blobs are unpacked,
    /// but for those that are known to have nothing to do with the image paths `interest`.
    fn lower(&mut self, interest: Option<&[&str]>) -> Result<Vec<PathBuf>, Error> {
        for at in 0..self.stack.len() {
            let touches = self.stack[at].touches.as_ref().zip(interest);
            if !touches.is_some_and(|(touches, interest)| direct::apart(touches, interest)) {
                self.folder(at)?;
            }
        }
        Ok(self.folders())
    }

    fn folders(&self) -> Vec<PathBuf> {
        self.stack.iter().rev().filter_map(|layered| layered.folder.clone()).collect()
    }

    /// Makes sure that layer `at` of the stack has its folder.
    fn folder(&mut self, at: usize) -> Result<(), Error> {
        let work = self.work;
        let layered = &mut self.stack[at];
        let Some((blob, how)) = layered.blob.as_ref().filter(|_| layered.folder.is_none()) else {
            return Ok(());
        };
        let own = work.draft.dir().join(format!("layer-{at}"));
        let (folder, tree) = work.unpacked(blob, *how, layered.foreign, &own)?;
        layered.folder = Some(folder);
        layered._tree = tree;
        Ok(())
    }

    /// Waits for the layer that is being packed, moves its folder to where others find it, and lets
    /// them go on.
    fn settle(&mut self) -> Result<(), Error> {
        if let Some(Packing { index, handle }) = self.packing.take() {
            let packed = handle.join().map_err(|_| Error::Chore {
                what: "pack a layer".to_owned(),
                why: "the packer panicked".to_owned(),
            });
            let (blob, trouble) = match packed.flatten() {
                Ok(packed) => packed,
                Err(error) => {
                    self.pending = None;
                    return Err(error);
                }
            };
            if let Some(error) = trouble {
                self.broken(&error);
            }
            if blob.is_none() {
                self.stack.retain(|layered| layered.index != index);
            }
            self.made[index].layer = blob;
        }
        self.pending.take().map_or(Ok(()), |pending| self.settle_one(pending))
    }

    fn settle_one(&mut self, pending: Pending) -> Result<(), Error> {
        let Pending { index, table, expected } = pending;
        let work = self.work;
        let Some(table) = table else { return Ok(()) };
        let layer = self.made[index].layer.as_ref().map(layer_of);
        if let Some(expected) = expected
            && expected.map(|layer| layer.diff_id) != layer.map(|layer| layer.diff_id)
        {
            return Err(self.unreproducible(index, expected, layer));
        }
        self.record.set(index, &table, work.draft.id(), &self.at);
        if let Node::Step(step) = work.node(index) {
            record::keep_listings(&work.cache, &work.ready.context, &step.ops, &table);
        }
        if let (Some(layer), Some(layered)) =
            (layer, self.stack.iter_mut().find(|layered| layered.index == index))
            && let Some(folder) =
                layered.folder.clone().filter(|folder| folder.starts_with(work.draft.dir()))
        {
            let grave = work.draft.dir().join(format!("grave-{index}"));
            let name = work.tree_name(&layer.digest, &layer.diff_id)?;
            match work.cache.keep_unpacked(&name, &folder, &grave) {
                Ok(Some(tree)) => {
                    layered.folder = Some(tree.path.clone());
                    layered._tree = Some(tree);
                }
                Ok(None) => {}
                Err(error) => self.broken(&error),
            }
        }
        Ok(())
    }

    fn unreproducible(&self, index: usize, expected: Option<Layer>, now: Option<Layer>) -> Error {
        let work = self.work;
        let (label, line) = work.label(index);
        let paths = match (expected, now) {
            (Some(before), Some(now)) => {
                let open = |path: PathBuf| job::open(&path).map_err(Error::from);
                let found = open(work.cache.blob_path(&before.digest)).and_then(|before| {
                    let now = open(work.draft.path(&now.digest))?;
                    let fail = |source| Error::Layer { label: label.clone(), source };
                    layer::differences(before, now, work.compression()).map_err(fail)
                });
                match found {
                    Ok(paths) => paths,
                    Err(error) => return error,
                }
            }
            (Some(_), None) => vec!["it changed something before, and nothing now".to_owned()],
            _ => vec!["it changed nothing before".to_owned()],
        };
        Error::Unreproducible {
            place: work.place(index),
            label,
            recipe: work.ready.recipe_path.clone(),
            line,
            paths,
        }
    }

    fn broken(&mut self, error: &dyn std::error::Error) {
        if !self.cache_broken {
            self.cache_broken = true;
            self.work.without_cache(error);
        }
    }
}

/// What a node left that was carried out.
enum Ran {
    Folder(PathBuf),
    Layer(Direct),
}

/// What the cache says of a node.
enum Looked {
    Hit(Entry),
    Missed(Why, Option<String>),
}

fn blob_of(layer: Layer) -> Blob {
    Blob {
        diff_id: layer.diff_id,
        digest: layer.digest,
        size: layer.size,
        tar_size: layer.tar_size,
    }
}

fn layer_of(blob: &Blob) -> Layer {
    Layer { digest: blob.digest, size: blob.size, diff_id: blob.diff_id, tar_size: blob.tar_size }
}

/// Whether the person wants this node run although it is cached.
pub(super) fn no_cache(what: &NoCache, stage: Option<&str>, index: usize, label: &str) -> bool {
    match what {
        NoCache::No => false,
        NoCache::All => true,
        NoCache::Steps(names) => names.iter().any(|name| names_step(name, stage, index, label)),
    }
}

/// Whether `name` (a number, `base`, or what the step is called; of a stage with its name in front,
/// `build/2`) means this step.
pub(super) fn names_step(name: &str, stage: Option<&str>, index: usize, label: &str) -> bool {
    let name = match stage {
        None => name,
        Some(stage) => match name.split_once('/') {
            Some((of, name)) if of == stage => name,
            _ => return false,
        },
    };
    name == label || name.parse() == Ok(index) || (index == 0 && name == "base")
}

fn read_pins(lock: &files::Lock) -> Option<Pins> {
    let mut file: &File = lock.file();
    let mut bytes = vec![];
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Leaves what was pinned for those who wait; without it they pin for themselves.
fn write_pins(lock: &files::Lock, pins: &Pins) {
    let mut file: &File = lock.file();
    let bytes = serde_json::to_vec(pins).expect("plain data always has a JSON form");
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&bytes));
}
