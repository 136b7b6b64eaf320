//! The tests of an image that look at it as a machine: all of them look at one, in the order of the
//! recipe, as starting it is what takes its time. Who starts it stands above (the room `boot`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::Error;
use super::test::{describe, program_in, script_argv};
use crate::apply::probe;
use crate::attest::Passed;
use crate::digest::Digest;
use crate::event::Event;
use crate::image::Config;
use crate::job::{JobContext, Log};
use crate::machine::{Asked, Check, Patience, Port, Trouble, Visit, Visited};
use crate::sandbox::Exec;
use crate::step::{Boot, LoweredTest, Probe};
use crate::store::{Staging, Version};

/// How long the end of a machine may take.
const OFF: Duration = Duration::from_secs(60);

/// How long a machine may take to be up that no `boot` test speaks of.
const UP: Duration = Duration::from_secs(300);

/// What boots the disk of an image.
pub(crate) trait Machines {
    /// Boots the machine and visits it; lines of its console, and of QEMU, go to `log`. Reports
    /// with `progress` how many checks have held, once it is up. The ports of the visit are numbers
    /// inside, for which it finds others outside.
    ///
    /// # Errors
    /// Where there is no disk, no QEMU, or it cannot be run.
    fn boot(
        &self,
        image: &Machine<'_>,
        log: &mut Log,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Booted, Error>;
}

/// Of images without such tests.
pub(crate) struct NoMachines;

impl Machines for NoMachines {
    fn boot(
        &self,
        image: &Machine<'_>,
        _: &mut Log,
        _: &mut dyn FnMut(u64),
    ) -> Result<Booted, Error> {
        let why = format!("{} is not booted here", image.version.reference);
        Err(Error::NoMachine { why: vec![why] })
    }
}

/// The machine of an image.
pub(crate) struct Machine<'a> {
    /// What the image is published as, or will be.
    pub(crate) version: &'a Version,
    /// Where its blobs are that the store has not yet.
    pub(crate) staging: &'a Staging,
    /// What it is made of.
    pub(crate) boot: Boot,
    /// What is asked of it.
    pub(crate) visit: Visit,
}

/// What a machine came to.
pub(crate) struct Booted {
    /// What the visit gave.
    pub(crate) visited: Visited,
    /// Who computed: `KVM`, `emulated`.
    pub(crate) how: &'static str,
}

/// The tests of a machine, with their numbers in the recipe, from 1.
pub(super) struct Boots<'a> {
    pub(super) tests: Vec<(usize, &'a LoweredTest)>,
    /// How many there are with those of containers.
    pub(super) total: usize,
    pub(super) scripts: &'a BTreeMap<Digest, Vec<u8>>,
    pub(super) config: &'a Config,
    pub(super) logs: &'a Path,
    pub(super) recipe: Option<&'a Path>,
}

impl Boots<'_> {
    /// Boots the machine and makes the checks; returns what passed, with its number.
    pub(super) fn run(
        &self,
        context: &JobContext<'_>,
        (version, staging): (&Version, &Staging),
        machines: &dyn Machines,
    ) -> Result<Vec<(usize, Passed)>, Error> {
        let Some((first, _)) = self.tests.first() else { return Ok(vec![]) };
        let image = Machine { version, staging, boot: self.machine(), visit: self.visit()? };
        let mut log = Log::of_test(self.logs, *first, "boot", context.sink)?;
        let path = log.path().to_owned();
        let begun = Instant::now();
        let started = |at: usize| {
            if let Some((index, test)) = self.tests.get(at) {
                let (label, line) = (test.label.clone(), test.line);
                (context.sink)(Event::TestStarted {
                    index: *index,
                    total: self.total,
                    label,
                    line,
                });
            }
        };
        started(0);
        let (mut held, mut since) = (0, begun);
        let booted = machines.boot(&image, &mut log, &mut |count| {
            while (held as u64) < count {
                if let Some((index, _)) = self.tests.get(held) {
                    (context.sink)(Event::TestDone { index: *index, took: since.elapsed() });
                }
                (held, since) = (held + 1, Instant::now());
                started(held);
            }
        });
        let tail = log.finish();
        let booted = booted.map_err(|error| match error {
            Error::NotBootable { why, hints } => {
                self.failed(0, Trouble { why, hints, ..Trouble::default() }, vec![], path.clone())
            }
            other => other,
        });
        let Booted { visited: Visited { up, held, trouble }, how } = booted?;
        if let Some(trouble) = trouble {
            return Err(self.failed(held.len(), trouble, tail, path));
        }
        let up = up.unwrap_or_default();
        let message =
            format!("{} was up after {:.1} s ({how})", version.reference, up.as_secs_f64());
        (context.sink)(Event::Note { message });
        let passed = self.tests.iter().zip(&held).enumerate().map(|(at, ((index, test), took))| {
            let mut what: Vec<String> = test.probes.iter().map(describe).collect();
            let mut took = *took;
            if at == 0 {
                what.insert(
                    0,
                    format!("the machine was up after {:.1} s ({how})", up.as_secs_f64()),
                );
                took += up;
            }
            let seconds = (took.as_secs_f64() * 1000.0).round() / 1000.0;
            (*index, Passed { name: test.label.clone(), what, seconds })
        });
        Ok(passed.collect())
    }

    /// Returns the machine that all tests describe together.
    fn machine(&self) -> Boot {
        let mut all = self.tests.iter().filter_map(|(_, test)| test.boot.as_deref().cloned());
        let mut one = all.next().unwrap_or_default();
        for other in all {
            one.memory = one.memory.or(other.memory);
            one.may_fail.extend(other.may_fail);
        }
        one
    }

    fn visit(&self) -> Result<Visit, Error> {
        let mut ports = vec![];
        let mut checks = vec![];
        for (_, test) in &self.tests {
            let mut asked = vec![];
            for probe in &test.probes {
                ports.extend(probe::port(probe));
                asked.push((describe(probe), self.asked(probe, asked.len())?));
            }
            checks.push(Check { asked, within: test.timeout });
        }
        ports.sort_unstable();
        ports.dedup();
        let port = |inside| Port { address: "127.0.0.1".to_owned(), outside: inside, inside };
        let alone = self.tests.iter().find(|(_, test)| test.probes.is_empty());
        let up = alone.map_or(UP, |(_, test)| test.timeout);
        Ok(Visit {
            checks,
            may_fail: self.machine().may_fail.into_iter().collect(),
            ports: ports.into_iter().map(port).collect(),
            patience: Patience { life: None, up, off: OFF },
        })
    }

    fn asked(&self, probe: &Probe, number: usize) -> Result<Asked, Error> {
        let run = |argv: Vec<String>, how, file| {
            let Exec { argv, env, cwd, user, .. } = program_in(self.config, argv, how);
            Asked::Run { argv, env, cwd: cwd.to_string_lossy().into_owned(), user, file }
        };
        Ok(match probe {
            Probe::Exec { argv, how } => run(argv.clone(), how, None),
            Probe::Script { content, shell, args, how, file } => {
                let bytes = content.and_then(|digest| self.scripts.get(&digest));
                let bytes = bytes.ok_or_else(|| crate::job::Error::Failed {
                    what: "boot the image".to_owned(),
                    why: format!("the script {} was not kept with the tests", file.display()),
                })?;
                let at = format!("/run/bake/test-{number}");
                let argv = script_argv(bytes, Path::new(&at), shell, args);
                run(argv, how, Some((at, bytes.clone())))
            }
            Probe::Http { .. } | Probe::Tcp { .. } | Probe::File { .. } | Probe::Absent { .. } => {
                Asked::Look(probe.clone())
            }
        })
    }

    /// Says which test failed: the one behind those that held; of what fails when all have held,
    /// the one that is about the machine itself.
    fn failed(&self, held: usize, trouble: Trouble, log: Vec<String>, path: PathBuf) -> Error {
        let alone = || self.tests.iter().find(|(_, test)| test.probes.is_empty());
        let found = self.tests.get(held).or_else(alone).or_else(|| self.tests.last());
        let (index, test) = *found.expect("there is one, as it failed");
        Error::Test {
            place: format!("test {index} of {}", self.total),
            label: test.label.clone(),
            recipe: self.recipe.map(Path::to_owned),
            line: (test.line > 0).then_some(test.line),
            why: trouble.why,
            tail: if trouble.tail.is_empty() { log } else { trouble.tail },
            hints: trouble.hints,
            log: path,
        }
    }
}
