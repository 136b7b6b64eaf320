//! What a step reached, and what it asked for in vain.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::policy::Refusal;
use super::policy::{Host, Refused, Target};

/// Most hosts that are noted.
const MOST: usize = 10_000;

/// A port of a host that was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Its name, or its address where the step asked for that.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How many connections there were.
    pub connections: u64,
    /// Bytes that the step sent there.
    pub sent: u64,
    /// Bytes that the step got from there.
    pub received: u64,
}

/// What a job did with its network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What was reached, by host and port.
    pub reached: Vec<Reached>,
    /// What was asked for and refused.
    pub refused: Vec<Refused>,
    /// What was asked for, may be reached and could not be, with the reason.
    pub failed: Vec<(Target, String)>,
}

/// A report in the making.
#[derive(Debug, Default)]
pub(super) struct Record {
    reached: BTreeMap<Target, (u64, u64, u64)>,
    refused: BTreeSet<Refused>,
    failed: BTreeMap<Target, String>,
}

impl Record {
    /// Notes a connection that was made.
    pub(super) fn connected(&mut self, target: &Target) {
        if self.reached.len() < MOST || self.reached.contains_key(target) {
            self.reached.entry(target.clone()).or_default().0 += 1;
        }
    }

    /// Notes what a connection carried.
    pub(super) fn carried(&mut self, target: &Target, sent: u64, received: u64) {
        if let Some((_, up, down)) = self.reached.get_mut(target) {
            *up += sent;
            *down += received;
        }
    }

    /// Notes a refusal.
    pub(super) fn refused(&mut self, target: Target, why: Refusal) {
        if self.refused.len() < MOST {
            self.refused.insert(Refused { target, why });
        }
    }

    /// Notes that something could not be reached.
    pub(super) fn failed(&mut self, target: Target, why: String) {
        if self.failed.len() < MOST {
            self.failed.insert(target, why);
        }
    }

    /// Returns what was noted.
    pub(super) fn report(self) -> Report {
        let reached = self.reached.into_iter().map(|(target, (connections, sent, received))| {
            let host = match target.host {
                Host::Name(name) => name,
                Host::Address(address) => address.to_string(),
            };
            Reached { host, port: target.port, connections, sent, received }
        });
        Report {
            reached: reached.collect(),
            refused: self.refused.into_iter().collect(),
            failed: self.failed.into_iter().collect(),
        }
    }
}
