//! What a root starts from: something that is made (packages, a tar, nothing), or layers that are
//! there already or come from another root of the run.

use std::collections::BTreeMap;

use crate::base;
use crate::digest::Digest;
use crate::image::{Config, History};
use crate::import;
use crate::inputs::BaseInputs;
use crate::layer::{Blob, Compression};
use crate::plan::lock::{Lock, LockedBase, StageLock, VERSION};

/// What a root starts from.
pub(crate) enum Start {
    /// Made by this run, as one layer.
    Made(base::Pinned),
    /// What a stage of the same recipe holds at its end.
    Stage {
        /// Its name.
        name: String,
        /// The key of the stage.
        key: Digest,
    },
    /// An image: of the store, or of another recipe of this run.
    Image(Box<StartImage>),
}

/// An image as base.
pub(crate) struct StartImage {
    /// What the lock file says of it. None: it is another recipe's.
    pub(crate) locked: Option<LockedBase>,
    /// Names it: the digest of its manifest, or the key of the build that will make it.
    pub(crate) key: Digest,
    /// When it was made, seconds since 1970: the epoch of what stands on it.
    pub(crate) epoch: i64,
    /// How it is started: what is inherited.
    pub(crate) config: Config,
    /// What its history says.
    pub(crate) history: Vec<History>,
    /// Its layers, the lowest first; none while they are to be made.
    pub(crate) layers: Vec<(Blob, Compression)>,
    /// What has the blobs of its layers where these are not published; None: they are.
    pub(crate) elsewhere: Option<import::Image>,
}

impl Start {
    /// Names what it is. The same name gives the same layers.
    pub(crate) fn key(&self, epoch: i64) -> Digest {
        match self {
            Self::Made(base) => base.key(epoch),
            Self::Stage { key, .. } => Digest::of(format!("stage {key}")),
            Self::Image(image) => Digest::of(format!("image {}", image.key)),
        }
    }

    /// Returns the date of the newest input, seconds since 1970.
    pub(crate) fn date(&self) -> Option<i64> {
        match self {
            Self::Made(base) => base.date(),
            Self::Stage { .. } => None,
            Self::Image(image) => Some(image.epoch),
        }
    }

    /// Whether the lock file has to pin it.
    pub(crate) fn needs_lock(&self) -> bool {
        match self {
            Self::Made(base) => base::lock::needs_lock(base),
            Self::Stage { .. } => false,
            Self::Image(image) => image.locked.is_some(),
        }
    }

    /// Returns what the lock file says of it.
    pub(crate) fn to_lock(&self) -> Option<LockedBase> {
        match self {
            Self::Made(base) => base::lock::to_lock(base),
            Self::Stage { .. } => None,
            Self::Image(image) => image.locked.clone(),
        }
    }

    /// Returns the environment that steps on it see before their own.
    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        let Self::Image(image) = self else { return BTreeMap::new() };
        let split = |variable: &String| {
            variable.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        image.config.env.iter().filter_map(split).collect()
    }

    /// Returns what keys and the lock file are made from.
    pub(crate) fn inputs(&self, epoch: i64) -> BaseInputs {
        BaseInputs {
            holds: self.key(0),
            key: self.key(epoch),
            locked: self.to_lock(),
            needs_lock: self.needs_lock(),
            environment: self.environment(),
        }
    }

    /// Returns what is pinned before anything runs.
    pub(crate) fn pins(&self, stage: Option<&str>) -> Lock {
        let locked = self.to_lock();
        let mut lock = Lock { version: VERSION, ..Lock::default() };
        match stage {
            None => (lock.epoch, lock.base) = (self.date().filter(|_| self.needs_lock()), locked),
            Some(stage) => {
                lock.stage.extend(locked.map(|base| (stage.to_owned(), StageLock { base })));
            }
        }
        lock
    }
}
