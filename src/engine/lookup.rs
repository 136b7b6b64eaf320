//! Whether the cache has a node, or another build is making it; and why not.

use std::cell::Cell;

use super::error::Error;
use super::keeper::{read_pins, write_pins};
use super::names::no_cache;
use super::run::{Miss, Run};
use crate::digest::Digest;
use crate::event::Event;
use crate::executor::Node;
use crate::files::Lock;
use crate::plan::key::Table;
use crate::plan::why::{StandsOn, Why};
use crate::step::Op;
use crate::store::{Entry, Found};

/// What the cache says of a node.
enum Looked {
    Hit(Entry),
    Missed(Why, Option<String>),
}

impl Run<'_, '_> {
    /// Takes node `index` from the cache, if it is there or another build is making it; else
    /// returns what is known of it.
    pub(super) fn look_up(&mut self, index: usize) -> Result<Option<Miss>, Error> {
        let (build, paranoid) = (self.build, self.work.request.paranoid);
        self.path = Digest::of(format!("{} {}", self.path, build.asked(index).key()));
        let mut table = build.table(index);
        if self.packing.as_ref().is_some_and(|packing| packing.handle.is_finished()) {
            self.settle()?;
        }
        let mut found = self.find(index, table.as_ref())?;
        let mut lock = None;
        let shared = !paranoid && !matches!(build.root.node(index), Node::Identity);
        if shared && matches!(found, Looked::Missed(..)) {
            (lock, found) = self.wait(index, &mut table, found)?;
        }
        if matches!(found, Looked::Missed(..)) && self.chooses(index) {
            // The packages are part of the name, and whoever knows it may find that an earlier
            // build, which failed later, has left them.
            self.choose(index)?;
            table = build.table(index);
            found = self.find(index, table.as_ref())?;
            if let (Looked::Hit(_), Some(lock)) = (&found, &lock) {
                write_pins(lock, &build.root.facts.pins_of(index, &build.pins.known()));
            }
        }
        let (expected, why, since) = match found {
            Looked::Hit(entry) if paranoid => (Some(entry.layer), Why::Paranoid, None),
            Looked::Hit(entry) => {
                self.begins(index, true);
                self.take(index, &entry);
                return Ok(None);
            }
            Looked::Missed(why, since) => (None, why, since),
        };
        Ok(Some(Miss { table, expected, lock, why, since }))
    }

    /// Whether the node begins with packages, which must be chosen before it has a name.
    fn chooses(&self, index: usize) -> bool {
        let packages = |op: Option<&Op>| matches!(op, Some(Op::Packages { .. }));
        matches!(self.build.root.node(index), Node::Step(step) if packages(step.ops.first()))
    }

    /// Chooses the packages of such a node.
    fn choose(&mut self, index: usize) -> Result<(), Error> {
        let (work, build) = (self.work, self.build);
        let Node::Step(step) = build.root.node(index) else { return Ok(()) };
        let at = build.staging.dir().join(format!("choose-{index}"));
        let chosen = self.stack.lower(build, None).map_err(Error::from).and_then(|lower| {
            build.choose(index, step, &lower, &at).map_err(|failed| work.failed(index, failed))
        });
        chosen.inspect_err(|_| self.begins(index, false))
    }

    /// Looks into the cache. Where the last build had this very node, what is below it is waited
    /// for, since a hit is likely.
    fn find(&mut self, index: usize, table: Option<&Table>) -> Result<Looked, Error> {
        let build = self.build;
        let Some(table) = table else { return Ok(Looked::Missed(Why::Unpinned, None)) };
        if self.record.may_hit(index, table) {
            self.settle()?;
        }
        let Some(below) = self.known_below() else {
            let (why, since) = self.why(index, table);
            // All that is known of it is as it was: it is what lies below that changed.
            let why = if why == Why::Gone { Why::First } else { why };
            return Ok(Looked::Missed(why, since));
        };
        if self.unwanted(index) {
            return Ok(Looked::Missed(Why::Asked, None));
        }
        let table = table.above(&below);
        Ok(match build.cache.find(&table.key(), &build.staging) {
            Ok(Found::Hit(entry)) => Looked::Hit(entry),
            Ok(Found::Damaged(what)) => {
                let (label, _) = build.root.label(index);
                let message = format!("{label}: {what}; the step runs again");
                (build.job.sink)(Event::Warning { message, hint: None });
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
        })
    }

    fn why(&self, index: usize, table: &Table) -> (Why, Option<String>) {
        let root = self.build.root;
        let ops = if let Node::Step(step) = root.node(index) { step.ops.as_slice() } else { &[] };
        let name = &root.plan.base;
        let base = self.below.as_ref().map(|all| StandsOn { name, layers: all.layers.len() });
        self.record.why(index, table, &self.build.cache, ops, &root.context, base)
    }

    /// Whether the person wants this node run although it is cached.
    fn unwanted(&self, index: usize) -> bool {
        let root = self.build.root;
        let (label, _) = root.label(index);
        no_cache(&self.work.request.no_cache, root.stage.as_deref(), index, &label)
    }

    /// Waits while another build does the same work, and takes what it gave.
    fn wait(
        &mut self,
        index: usize,
        table: &mut Option<Table>,
        found: Looked,
    ) -> Result<(Option<Lock>, Looked), Error> {
        let (work, build) = (self.work, self.build);
        let reported = Cell::new(false);
        let stop = || {
            if !reported.replace(true) {
                let message = format!("waiting for another build of {}", build.root.label(index).0);
                (build.job.sink)(Event::Note { message });
            }
            work.go_on().is_err()
        };
        let (lock, waited) = match build.cache.lock(&self.path, &stop) {
            Ok(Some(held)) => held,
            Ok(None) => return Err(work.go_on().err().unwrap_or(Error::OtherFailed)),
            Err(error) => {
                self.broken(&error);
                return Ok((None, found));
            }
        };
        if waited {
            self.settle()?;
            // It has pinned just now what this build would pin.
            if table.is_none()
                && let Some(pins) = read_pins(&lock)
            {
                build.take_pins(index, &pins);
                *table = build.table(index);
            }
        }
        // Between the first look and the lock another build may have ended. Why it is a miss is
        // known already, and reported once.
        if let (Some(table), Some(below)) = (table.as_ref(), self.known_below())
            && !self.unwanted(index)
            && let Ok(Found::Hit(entry)) =
                build.cache.find(&table.above(&below).key(), &build.staging)
        {
            return Ok((None, Looked::Hit(entry)));
        }
        // What an earlier holder wrote is not of this run.
        let _ = lock.file().set_len(0);
        Ok((Some(lock), found))
    }
}
