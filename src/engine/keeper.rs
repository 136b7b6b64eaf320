//! Keeping what a node gave in the cache, once it is packed.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use crate::digest::Digest;
use crate::event::Event;
use crate::executor::{Build, Node, NodeFailure};
use crate::files;
use crate::layer::Blob;
use crate::plan::key::Table;
use crate::plan::lock::Lock;
use crate::store::{self, Entry, Layer};

/// A node that was carried out.
pub(super) struct Pending {
    pub(super) index: usize,
    /// Its whole table.
    pub(super) table: Option<Table>,
    /// What it gave before, to compare with.
    pub(super) expected: Option<Option<Layer>>,
}

/// A layer that is being packed.
pub(super) struct Packing<'scope> {
    pub(super) index: usize,
    pub(super) handle: ScopedJoinHandle<'scope, Result<Packed, NodeFailure>>,
}

/// A blob, if there was anything to pack, and why the cache could not keep it.
pub(super) type Packed = (Option<Blob>, Option<store::Error>);

/// Keeps what a node gave, and lets those go on that wait for it.
pub(super) struct Keeper<'a> {
    build: &'a Build<'a>,
    index: usize,
    /// Under which it is kept; none: not at all.
    key: Option<Digest>,
    took: Duration,
    lock: Option<files::Lock>,
    /// What is pinned for it, for those who wait.
    pins: Option<Lock>,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(
        build: &'a Build<'a>,
        index: usize,
        key: Option<Digest>,
        took: Duration,
        lock: Option<files::Lock>,
    ) -> Self {
        let step = matches!(build.root.node(index), Node::Step(_));
        let pins = step.then(|| build.root.facts.pins_of(index, &build.pins.known()));
        Self { build, index, key, took, lock, pins }
    }

    /// Keeps the layer `blob`, if there is one, with where everything is that it introduces;
    /// returns why the cache could not.
    pub(super) fn keep(
        self,
        blob: Option<&Blob>,
        touches: Option<&[String]>,
    ) -> Option<store::Error> {
        let Self { build, index, key, took, lock, pins } = self;
        let staging = &build.staging;
        let touches = touches.map(<[String]>::to_vec);
        let entry = Entry::new(blob.map(layer_of), touches, took, staging.id());
        let kept = key.map_or(Ok(()), |key| build.cache.keep(&key, entry, staging));
        // From here on others find what this one gave. They go on at once, beside the next step of
        // this build: it would cost them more to wait for its directory than to unpack the blob.
        if let (Some(lock), Some(pins)) = (&lock, &pins) {
            write_pins(lock, pins);
        }
        drop(lock);
        if !matches!(build.root.node(index), Node::Identity) {
            let layer = blob.map(|blob| blob.digest);
            let size = blob.map_or(0, |blob| blob.tar_size);
            (build.job.sink)(Event::StepDone { index, took, layer, size, cached: false });
        }
        kept.err()
    }
}

/// Returns a blob as the cache writes it down.
pub(super) fn layer_of(blob: &Blob) -> Layer {
    Layer { digest: blob.digest, size: blob.size, diff_id: blob.diff_id, tar_size: blob.tar_size }
}

/// Returns what the build that held this lock before has pinned.
pub(super) fn read_pins(lock: &files::Lock) -> Option<Lock> {
    let mut file: &File = lock.file();
    let mut bytes = vec![];
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Leaves what was pinned for those who wait; without it they pin for themselves.
pub(super) fn write_pins(lock: &files::Lock, pins: &Lock) {
    let mut file: &File = lock.file();
    let bytes = serde_json::to_vec(pins).expect("plain data always has a JSON form");
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&bytes));
}
