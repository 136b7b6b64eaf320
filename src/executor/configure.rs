//! A configuration management tool run in a step: what it finds there besides the image, and what
//! it leaves behind for people. docs/design/configuration-management.md says why.
//!
//! ```text
//! /dev/bake/tool           the tool layer, read-only
//! /dev/bake/configuration  the directory that the step names
//! /dev/bake/settings       variables, inventory, the plugin that reports
//! /dev/bake/bin            what stands in for systemctl, first on PATH
//! /dev/bake/report         what the plugin writes, a line of JSON each: read when the job is over
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::build::Build;
use super::error::{StepFailure, Trouble};
use crate::apply;
use crate::event::chain;
use crate::files::{self, Links, RootDir};
use crate::job::{self, Action, Call, Log, make_dir};
use crate::rootfs::environment;
use crate::sandbox::{Failure, Mount, Owners, PolicyFile, Request};
use crate::step::{Configure, REPORT, SETTINGS, Tool, ToolFrom};

/// Where the stand-in for systemctl is.
const BIN: &str = "/dev/bake/bin";
/// Where it asks.
const SYSTEMCTL: &str = "/dev/bake/systemctl";
/// What programs look for to know which service manager there is.
const CANARY: &str = "/run/systemd/system";
/// The stand-in; the interpreter comes in front.
const STAND_IN: &str = include_str!("configure/systemctl.sh");
/// Ansible's plugin that reports.
const CALLBACK: &str = include_str!("configure/bake.py");
/// Puppet's processor of reports.
const PROCESSOR: &str = include_str!("configure/bake.rb");
/// What runs Puppet and the client of Chef; the interpreter comes in front.
const PUPPET: &str = include_str!("configure/puppet.sh");
const CHEF: &str = include_str!("configure/chef.sh");
/// What Facter complains of in every sandbox: its /sys is empty, and it has no address.
const NOISE: [&str; 4] = [
    "Error: Facter: No such file or directory @ dir_initialize - /sys/block",
    "Error: Facter: Resolving fact threads_per_core,",
    "Error: Facter: Resolving fact cores_per_socket,",
    "Warning: Could not retrieve either serverip or serverip6 fact",
];
/// Most bytes of a report that are read.
const MOST_REPORT: u64 = 16 << 20;

/// A tool that runs in a job.
pub(super) struct ToolRun {
    op: Configure,
    /// Where its reports are.
    report: PathBuf,
    /// What it printed of an error of its own.
    printed: RefCell<PrintedError>,
}

/// An error that a tool printed.
#[derive(Debug, Default)]
struct PrintedError {
    why: Option<String>,
    /// The file with line and column.
    at: Option<String>,
    /// How many resources each run of Chef's client updated.
    updated: Vec<u64>,
}

/// A line of a report.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line {
    /// A task changed something.
    Changed { task: String, at: String },
    /// A task failed, or its host could not be reached.
    Failed { task: String, at: String, why: String },
    /// A play was for no host that the image is.
    Nobody { play: String },
    /// Somebody was to be asked.
    Prompt { name: String },
    /// The end: how many tasks did what.
    Ended { ok: u64, changed: u64, failed: u64, unreachable: u64 },
}

/// What a job has for a tool.
pub(super) struct SetUp {
    pub(super) mounts: Vec<Mount>,
    pub(super) files: Vec<PolicyFile>,
    /// What is done before it runs.
    pub(super) actions: Vec<Action>,
    /// How it is started.
    pub(super) argv: Vec<String>,
    /// The environment of each of its runs.
    pub(super) runs: Vec<BTreeMap<String, String>>,
    pub(super) tool: ToolRun,
}

/// Makes ready what a tool needs; `at`: a directory of its own.
pub(super) fn set_up(build: &Build<'_>, op: &Configure, at: &Path) -> Result<SetUp, Trouble> {
    let at = make_dir(at)?;
    let report = make_dir(&at.join("report"))?;
    let mut mounts = vec![];
    let mut mount = |from: PathBuf, to: &str| {
        let at = PathBuf::from(to);
        mounts.push(Mount { from, at, read_only: false, owners: Owners::Image });
    };
    mount(report.clone(), REPORT);
    mount(make_dir(&at.join("systemctl"))?, SYSTEMCTL);
    mount(make_dir(&at.join("systemd"))?, CANARY);
    let file = |at: String, text: &str, mode| PolicyFile {
        at: PathBuf::from(at),
        bytes: text.as_bytes().to_vec(),
        mode,
    };
    let mut files: Vec<PolicyFile> =
        op.files.iter().map(|(at, text)| file(at.clone(), text, 0o644)).collect();
    let shell = match op.from {
        ToolFrom::Layer(_) => "/dev/bake/tool/usr/lib/bake/sh",
        _ => "/bin/sh",
    };
    files.push(file(format!("{BIN}/systemctl"), &format!("#!{shell}\n{STAND_IN}"), 0o755));
    let runner = |text: &str| file(format!("{BIN}/run"), &format!("#!{shell}\n{text}"), 0o755);
    let mut argv = op.argv();
    match op.tool {
        Tool::Ansible => {
            files.push(file(format!("{SETTINGS}/callback/bake.py"), CALLBACK, 0o644));
        }
        Tool::Puppet => {
            let at = format!("{SETTINGS}/ruby/puppet/reports/bake.rb");
            files.extend([file(at, PROCESSOR, 0o644), runner(PUPPET)]);
            argv.insert(0, format!("{BIN}/run"));
        }
        Tool::Chef => {
            files.push(runner(CHEF));
            argv.insert(0, format!("{BIN}/run"));
        }
    }
    let systemctl = |ask| {
        Call::Apply(apply::Call::Systemctl {
            directory: PathBuf::from(SYSTEMCTL),
            epoch: build.root.epoch,
            notes: PathBuf::from(REPORT).join("services"),
            ask,
        })
    };
    let actions =
        vec![Action::call(systemctl(false)), Action::Serve(Request::Call(systemctl(true)))];
    let all = environment(build.root.epoch, &build.root.environment);
    let path = all.get("PATH").map(String::as_str).unwrap_or_default();
    let run = |run: usize| {
        let mut env = op.env.clone();
        env.entry("PATH".to_owned()).or_insert_with(|| format!("{BIN}:{path}"));
        env.insert("BAKE_RUN".to_owned(), run.to_string());
        env
    };
    let runs = (1..=1 + usize::from(op.twice)).map(run).collect();
    let tool = ToolRun { op: op.clone(), report, printed: RefCell::default() };
    Ok(SetUp { mounts, files, actions, argv, runs, tool })
}

impl PrintedError {
    /// Takes a line: ansible-core 2.19 prints `[ERROR]: …` and `Origin: FILE:LINE:COLUMN`, before
    /// that it was `ERROR! …` and `The error appears to be in 'FILE': line LINE, column COLUMN`.
    /// Puppet prints `Error: … (file: FILE, line: LINE, column: COLUMN) …`. Chef's client ends with
    /// `[TIME] FATAL: …`, or with `… finished, N/M resources updated …`.
    fn line(&mut self, line: &str) {
        if let Some((_, why)) = line.split_once("] FATAL: ") {
            self.why = Some(why.trim_end().to_owned());
            return;
        }
        if let Some((_, counts)) = line.split_once(" finished, ")
            && let Some((updated, _)) = counts.split_once('/')
            && counts.contains(" resources updated")
        {
            self.updated.extend(updated.parse::<u64>());
        }
        // Facter complains of what a sandbox does not show; nothing fails of that.
        let puppet = line.strip_prefix("Error: ").filter(|why| !why.starts_with("Facter: "));
        if let (Some(why), None) = (puppet, &self.why) {
            self.why = Some(why.trim_end().to_owned());
            if let Some((why, place)) = why.split_once(" (file: ")
                && let Some((place, _)) = place.split_once(')')
            {
                self.why = Some(why.to_owned());
                let words = place.split(", ").map(|word| word.rsplit(": ").next().unwrap_or(word));
                self.at = Some(words.collect::<Vec<_>>().join(":"));
            }
        }
        let error = ["[ERROR]: ", "ERROR! "].iter().find_map(|start| line.strip_prefix(start));
        if let (Some(why), None) = (error, &self.why) {
            self.why = Some(why.trim_end().to_owned());
        }
        if self.at.is_some() || self.why.is_none() {
            return;
        }
        if let Some(at) = line.strip_prefix("Origin: ") {
            self.at = Some(at.trim().to_owned());
        } else if let Some(rest) = line.strip_prefix("The error appears to be in '")
            && let Some((file, rest)) = rest.split_once("': line ")
        {
            let mut numbers = rest.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty());
            let place = [Some(file), numbers.next(), numbers.next()];
            self.at = Some(place.into_iter().flatten().collect::<Vec<_>>().join(":"));
        }
    }

    /// Returns the error as bake's own.
    fn error(&self) -> Option<String> {
        let why = self.why.as_ref()?;
        Some(match &self.at {
            Some(at) => format!("{at}: {why}"),
            None => why.clone(),
        })
    }
}

impl ToolRun {
    /// Returns a line of its output as people read it, unless it says nothing to them; remembers an
    /// error of the tool's own.
    pub(super) fn shown(&self, text: &[u8]) -> Option<String> {
        let line = self.op.in_own_paths(&String::from_utf8_lossy(text));
        self.printed.borrow_mut().line(&line);
        let noise = self.op.tool == Tool::Puppet && NOISE.iter().any(|one| line.starts_with(one));
        (!noise).then_some(line)
    }

    /// Notes in the log what it did; where a second run changed something, that is a failure.
    pub(super) fn done(&self, log: &mut Log) -> Result<(), Trouble> {
        let (first, second) = (self.lines(1)?, self.lines(2)?);
        for line in &first {
            if let Line::Ended { ok, changed, failed, unreachable } = line {
                let counts = format!(
                    "{ok} ok, {changed} changed, {failed} failed, {unreachable} unreachable"
                );
                log.note(&format!("{}: {counts}", self.op.tool.name()));
            }
        }
        let nobody = first.iter().find_map(|line| match line {
            Line::Nobody { play } => Some(play),
            _ => None,
        });
        let did = |line: &Line| matches!(line, Line::Ended { ok, changed, .. } if ok + changed > 0);
        if let (Some(play), false) = (nobody, first.iter().any(did)) {
            let why =
                format!("nothing was done: the play \"{play}\" is for no host that the image is");
            let hint = "name the groups that the image is in: `groups = [\"…\"]`";
            let failure = StepFailure::prepared(why, vec![]).with_hint(Some(hint.to_owned()));
            return Err(Trouble::Step(failure));
        }
        let services = self.read("services")?;
        let mut services: Vec<&str> = services.lines().collect();
        services.dedup();
        if !services.is_empty() {
            log.note(&format!(
                "no service runs while an image is made; what is enabled starts when the image \
                    does. Asked for: {}",
                services.join(", ")
            ));
        }
        let changed: Vec<String> = second
            .iter()
            .filter_map(|line| match line {
                Line::Changed { task, at } => Some(self.task(task, at)),
                _ => None,
            })
            .collect();
        let updated = self.printed.borrow().updated.get(1).copied().unwrap_or(0);
        let many = updated.max(changed.len() as u64);
        if !self.op.twice || many == 0 {
            return Ok(());
        }
        let what = if self.op.tool == Tool::Ansible { "tasks" } else { "resources" };
        let why = format!("run a second time, it changed something ({many} of its {what})");
        let hint = match self.op.tool {
            Tool::Ansible => {
                "a task that cannot know whether it is done says so with `changed_when` or \
                    `creates`"
            }
            Tool::Puppet => {
                "an `exec` says when there is nothing to do with `creates`, `unless` or `onlyif`"
            }
            Tool::Chef => "a resource says when there is nothing to do with `not_if` or `only_if`",
        };
        let failure = StepFailure::prepared(why, changed).with_hint(Some(hint.to_owned()));
        Err(Trouble::Step(failure))
    }

    /// Returns a failure with the task that failed, where the tool reported one.
    pub(super) fn explained(&self, failure: StepFailure) -> StepFailure {
        if let StepFailure::Network { inner, reasons, hints } = failure {
            let inner = inner.map(|inner| Box::new(self.explained(*inner)));
            return StepFailure::Network { inner, reasons, hints };
        }
        let lines = [1, 2].iter().flat_map(|run| self.lines(*run).unwrap_or_default());
        let mut found = None;
        for line in lines {
            match line {
                Line::Failed { task, at, why } => {
                    let causes = why.lines().map(|line| self.op.in_own_paths(line));
                    found = Some((format!("{} failed", self.task(&task, &at)), causes.collect()));
                }
                Line::Prompt { name } => {
                    let why = format!("the playbook asks for \"{name}\", and nobody is there");
                    return StepFailure::prepared(why, vec![]).with_hint(Some(format!(
                        "give it in the recipe: `vars = {{ {name} = … }}`"
                    )));
                }
                _ => {}
            }
        }
        match (found, self.printed.borrow().error()) {
            (Some((why, causes)), _) => StepFailure::prepared(why, causes),
            (None, Some(error)) => StepFailure::prepared(error, failure.reasons()),
            (None, None) => self.not_there(failure),
        }
    }

    /// Adds to a failure what helps where there is no such tool.
    fn not_there(&self, failure: StepFailure) -> StepFailure {
        // A shell ends with 127 where it finds no program.
        let started =
            !matches!(&failure, StepFailure::Ran(Failure::Start(_) | Failure::Exit(127), _));
        if started || self.op.layer().is_some() {
            return failure;
        }
        let (mut why, program) = (failure.reasons(), self.op.tool.program());
        let hint = match self.op.tool {
            Tool::Chef => "install the client in a step before this one".to_owned(),
            _ => format!(
                "install {program} in a step before this one, or leave out `tool`: then it comes \
                    from packages that are in no image"
            ),
        };
        let first = match (why.remove(0), &self.op.from) {
            (status, ToolFrom::Directory(at)) if status.contains("127") => {
                format!("there is no program '{program}' in {at}/bin of the image")
            }
            (status, _) if status.contains("127") => {
                format!("there is no program '{program}' in the image")
            }
            (first, _) => first,
        };
        StepFailure::prepared(first, why).with_hint(Some(hint))
    }

    fn task(&self, task: &str, at: &str) -> String {
        let at = self.op.in_own_paths(at);
        if at.is_empty() { format!("\"{task}\"") } else { format!("\"{task}\" ({at})") }
    }

    /// Returns what run `run` reported. A line that was not finished is none.
    fn lines(&self, run: usize) -> Result<Vec<Line>, job::Error> {
        let text = self.read(&format!("run-{run}"))?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Returns what stands in a file of the reports; nothing where there is none. The step could
    /// have put anything there.
    fn read(&self, name: &str) -> Result<String, job::Error> {
        let failed = |error: files::Error| job::Error::Failed {
            what: format!("read what {} reports", self.op.tool.name()),
            why: chain(&error).join(": "),
        };
        let name = Path::new(name);
        let report = RootDir::open(&self.report, Links::Beneath).map_err(failed)?;
        if report.find(name).map_err(failed)?.is_none() {
            return Ok(String::new());
        }
        let bytes = report.read(name, MOST_REPORT).map_err(failed)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
