//! The network of a step: its own with a way out, the host's, or none; and what the step did with
//! it.

use std::sync::Arc;

use super::build::{Build, held};
use super::error::{StepFailure, Trouble};
use crate::attest::{self, HostTrace, NetworkTrace, StepTrace};
use crate::digest::Digest;
use crate::event::Event;
use crate::gateway::{Gateway, Reached, Report};
use crate::job::{self, Ended};
use crate::plan::artifact::Built;
use crate::reach::Reach;
use crate::sandbox::Network;

/// The way out of a job's network, if it has one of its own.
pub(super) struct Way {
    gateway: Option<Gateway>,
    reach: Reach,
}

impl Way {
    /// Makes the network of a job that reaches `reach`. `whose` is what people call whatever runs
    /// in it.
    pub(super) fn open(
        build: &Build<'_>,
        reach: &Reach,
        whose: &str,
    ) -> Result<(Self, Network), Trouble> {
        let (gateway, network) = match reach {
            Reach::None => (None, Network::None),
            Reach::Host => {
                let message = format!(
                    "{whose} has the network of this host: its own services, private addresses \
                        and whatever else listens there can be reached"
                );
                let hint = "`network = true` or a list of hosts gives it a network of its own";
                (build.job.sink)(Event::Warning { message, hint: Some(hint.to_owned()) });
                (None, Network::Host)
            }
            Reach::Internet | Reach::Only(_) => {
                let opened = Gateway::open(reach.clone(), Arc::clone(&build.root.trust));
                let (gateway, network) = opened.map_err(|error| job::Error::Failed {
                    what: "make a network for the step".to_owned(),
                    why: error.to_string(),
                })?;
                (Some(gateway), network)
            }
        };
        Ok((Self { gateway, reach: reach.clone() }, network))
    }

    /// Ends it after the job, which `ended` like this: what was refused is the step's failure, also
    /// where it went on.
    /// What was reached is noted for step `index`.
    pub(super) fn close(
        self,
        (build, index): (&Build<'_>, usize),
        ended: Ended,
    ) -> Result<(), Trouble> {
        let outcome = match ended {
            Ended::Done(_) => Ok(()),
            Ended::Failed { how, seen, .. } => Err(Trouble::Step(StepFailure::Ran(how, seen))),
            Ended::Cancelled => Err(job::Error::Interrupted.into()),
        };
        let Self { gateway, reach } = self;
        let Some(gateway) = gateway else { return outcome };
        let Report { reached, refused, failed } = gateway.finish(outcome.is_ok());
        held(&build.reached).entry(index).or_default().extend(reached.into_iter().map(trace));
        let inner = match outcome {
            Ok(()) if refused.is_empty() => return Ok(()),
            Ok(()) => None,
            Err(Trouble::Step(failure)) => Some(Box::new(failure)),
            Err(other) => return Err(other),
        };
        let mut reasons: Vec<String> = refused.iter().map(ToString::to_string).collect();
        let unreached = failed.into_iter().map(|(target, why)| format!("{target}: {why}"));
        reasons.extend(unreached);
        let hints = refused.iter().map(|one| one.hint(&reach)).collect();
        Err(Trouble::Step(StepFailure::Network { inner, reasons, hints }))
    }
}

fn trace(reached: Reached) -> HostTrace {
    let Reached { host, port, connections, sent, received } = reached;
    HostTrace { host, port, connections, sent, received }
}

/// Directory of the cache with what steps reached, by their keys.
const ROOM: &str = "reached";

impl Build<'_> {
    /// Keeps what step `index` reached, which has this key: a later build that takes it from the
    /// cache says the same of it.
    pub(crate) fn keep_reached(&self, index: usize, key: &Digest) {
        if let Some(reached) = held(&self.reached).remove(&index) {
            let bytes = serde_json::to_vec(&reached).expect("plain data always has a JSON form");
            // It is stated with the image where it is there: failing to keep it fails no build.
            let _ = self.cache.write_record(ROOM, key, &bytes);
        }
    }

    /// Returns the statement about the image `name` with this manifest that says what its steps
    /// reached; none where they reached nothing.
    pub(crate) fn stated_network(
        &self,
        built: &Built,
        name: &str,
        manifest: &Digest,
    ) -> Option<Vec<u8>> {
        let mut steps = vec![];
        for (node, index) in self.root.plan.nodes.iter().zip(1..) {
            let key = built.made.get(index).and_then(|made| made.key);
            let read = key.and_then(|key| self.cache.record(ROOM, &key));
            let reached: Vec<HostTrace> =
                read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
            if !reached.is_empty() {
                steps.push(StepTrace { step: index, label: node.label.clone(), reached });
            }
        }
        let trace = NetworkTrace { bake: env!("CARGO_PKG_VERSION").to_owned(), steps };
        let any = !trace.steps.is_empty();
        any.then(|| attest::network_statement(name, manifest, &trace))
    }
}
