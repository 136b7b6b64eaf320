//! One test: a throwaway copy of the image with a network of its own, what the test starts in it,
//! and the looks at it.
//!
//! ```text
//! start …        each service in the background, its output to the log
//! probe          again and again until it holds or the time is up; a service that ends meanwhile ends the test
//! still          a little later every service must be alive
//! probe, still   servers answer twice: one that dies of its first answer is no server
//! ```
//! Everything in the copy is killed at the end, and the copy is thrown away. Nothing is skipped:
//! what cannot be done fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::attest::Passed;
use crate::digest::Digest;
use crate::event::Event;
use crate::image::Config;
use crate::job::{
    Action, Call, Ended, Error, Job, JobContext, Log, Session, fresh_work, hosts, make_dir,
};
use crate::rootfs::PATH;
use crate::sandbox::{
    Allowance, Attempt, Exec, Failure, JobEvent, Network, Overlay, PolicyFile, Request,
    ShownSecrets, Until,
};
use crate::step::{LoweredTest, Manner, Probe, Service};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a service must outlive the look at it.
const SETTLE: Duration = Duration::from_millis(200);

/// A test in its container: what it needs.
pub(super) struct Trial<'a> {
    pub(super) context: &'a JobContext<'a>,
    pub(super) session: &'a Session,
    /// The image's layers unpacked, topmost first.
    pub(super) lower: &'a [PathBuf],
    /// A directory of the build's own.
    pub(super) scratch: &'a Path,
    /// Directory of the build's logs.
    pub(super) logs: &'a Path,
    /// How the image runs.
    pub(super) config: &'a Config,
    /// The scripts of the tests, by content.
    pub(super) scripts: &'a BTreeMap<Digest, Vec<u8>>,
}

/// A test that failed.
pub(super) struct Failed {
    /// Why, from the outside in.
    pub(super) why: Vec<String>,
    /// Last lines of output of the copy.
    pub(super) tail: Vec<String>,
    pub(super) log: PathBuf,
}

/// What an action of the job is for.
enum Part {
    Start(String),
    Probe(String),
    Still,
    Again(String),
}

/// Runs test `index` (from 1).
pub(super) fn run(
    trial: &Trial<'_>,
    index: usize,
    test: &LoweredTest,
) -> Result<Result<Passed, Failed>, Error> {
    let begun = Instant::now();
    let at = trial.scratch.join(format!("test-{index}"));
    let mut log = Log::of_test(trial.logs, index, &test.label, trial.context.sink)?;
    let ended = match prepare(trial, test, &at)? {
        Err(why) => Err(vec![why]),
        Ok((job, parts)) => carry_out(trial, job, &parts, &mut log)?,
    };
    // What the test wrote is of no use to anybody; should it not go now, it goes with the staging.
    let _ = trial.session.remove_tree(&at);
    let path = log.path().to_owned();
    let tail = log.finish();
    Ok(match ended {
        Ok(()) => {
            let took = begun.elapsed();
            let what = test.probes.iter().map(describe).collect();
            let seconds = (took.as_secs_f64() * 1000.0).round() / 1000.0;
            (trial.context.sink)(Event::TestDone { index, took });
            Ok(Passed { name: test.label.clone(), what, seconds })
        }
        Err(why) => Err(Failed { why, tail, log: path }),
    })
}

/// Makes the job of a test, and what each of its actions is for; an error is a reason for people.
fn prepare(
    trial: &Trial<'_>,
    test: &LoweredTest,
    at: &Path,
) -> Result<Result<(Job, Vec<Part>), String>, Error> {
    let upper = make_dir(&at.join("u"))?;
    let mut files = vec![hosts("bake")];
    let mut actions = vec![];
    let mut parts = vec![];
    let config = trial.config;
    for (at, service) in test.start.iter().enumerate() {
        let argv = match service {
            Service::Argv(argv) => argv.clone(),
            Service::Config => config.entrypoint.iter().chain(&config.cmd).cloned().collect(),
        };
        let Some(program) = argv.first() else {
            return Ok(Err(
                "the image's config names nothing to start: neither entrypoint nor cmd".to_owned(),
            ));
        };
        let program = program.rsplit('/').next().unwrap_or(program);
        let name = test.names.get(at).map_or(program, String::as_str);
        parts.push(Part::Start(name.to_owned()));
        let user = if config.user.is_empty() { "root" } else { &config.user };
        actions.push(Action::Start(program_in(
            config,
            argv,
            &Manner { user: user.to_owned(), env: BTreeMap::new(), cwd: None },
        )));
    }
    for probe in &test.probes {
        let attempt = match probe {
            Probe::Exec { argv, how } => Attempt::Exec(program_in(config, argv.clone(), how)),
            Probe::Script { content, shell, args, how, file } => {
                let Some(bytes) = content.and_then(|digest| trial.scripts.get(&digest)) else {
                    return Ok(Err(format!(
                        "the script {} was not kept with the tests",
                        file.display()
                    )));
                };
                let at = PathBuf::from(format!("/dev/bake/script-{}", files.len()));
                let argv = script_argv(bytes, &at, shell, args);
                files.push(PolicyFile { at, bytes: bytes.clone(), mode: 0o755 });
                Attempt::Exec(program_in(config, argv, how))
            }
            Probe::Http { .. } | Probe::Tcp { .. } | Probe::File { .. } | Probe::Absent { .. } => {
                look(probe)
            }
        };
        let alone = test.start.is_empty();
        parts.push(Part::Probe(describe(probe)));
        actions.push(Action::Until(Until {
            attempt,
            within: test.timeout,
            again: (!alone).then_some(PAUSE),
        }));
        if !alone {
            parts.push(Part::Still);
            actions.push(Action::Still(SETTLE));
            if matches!(probe, Probe::Http { .. } | Probe::Tcp { .. }) {
                parts.push(Part::Again(describe(probe)));
                actions.push(Action::Until(Until {
                    attempt: look(probe),
                    within: test.timeout,
                    again: None,
                }));
                parts.push(Part::Still);
                actions.push(Action::Still(Duration::ZERO));
            }
        }
    }
    let root = Some(Overlay { lower: trial.lower.to_vec(), upper, work: fresh_work(at)? });
    let job = Job {
        root,
        allowance: Allowance::default(),
        mounts: vec![],
        files,
        secrets: ShownSecrets::default(),
        hostname: "bake".to_owned(),
        network: Network::None,
        actions,
    };
    Ok(Ok((job, parts)))
}

fn look(probe: &Probe) -> Attempt<Call> {
    Attempt::Call(Request::Call(Call::Probe(probe.clone())))
}

/// How a file is run by its `#!` line, else by the shell.
pub(super) fn script_argv(
    bytes: &[u8],
    at: &Path,
    shell: &[String],
    args: &[String],
) -> Vec<String> {
    let runs_itself = bytes.starts_with(b"#!") || bytes.starts_with(b"\x7fELF");
    let shell = if runs_itself { &[] } else { shell };
    let words = shell.iter().filter(|arg| *arg != "-c").cloned();
    words.chain([at.to_string_lossy().into_owned()]).chain(args.iter().cloned()).collect()
}

/// A program in the environment that the image's config describes.
pub(super) fn program_in(config: &Config, argv: Vec<String>, how: &Manner) -> Exec {
    let mut env = environment(config);
    env.extend(how.env.clone());
    let cwd = how.cwd.clone().unwrap_or_else(|| config.working_dir.clone());
    let cwd = if cwd.is_empty() { PathBuf::from("/") } else { PathBuf::from(cwd) };
    Exec { argv, env, cwd, user: how.user.clone(), timeout: None }
}

/// The environment of whatever runs in an image: that of its config, and what every runtime adds
/// where it is missing.
pub(super) fn environment(config: &Config) -> BTreeMap<String, String> {
    let mut env =
        BTreeMap::from([("PATH".to_owned(), PATH.to_owned()), ("HOME".to_owned(), "~".to_owned())]);
    for entry in &config.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        env.insert(name.to_owned(), value.to_owned());
    }
    env
}

fn carry_out(
    trial: &Trial<'_>,
    job: Job,
    parts: &[Part],
    log: &mut Log,
) -> Result<Result<(), Vec<String>>, Error> {
    let ended = trial.session.run(job, trial.context.cancel, &mut |event| match event {
        JobEvent::Line { text, .. } => log.line_of("check", text),
        JobEvent::Service { action, text } => {
            if let Some(Part::Start(name)) = parts.get(action) {
                log.line_of(name, text);
            }
        }
        JobEvent::Action(_) | JobEvent::Progress(_) | JobEvent::Rescue(_) => {}
    })?;
    match ended {
        Ended::Done(_) => Ok(Ok(())),
        Ended::Cancelled => Err(Error::Interrupted),
        Ended::Failed { action, how, .. } => Ok(Err(reasons(parts, action, how))),
    }
}

/// Why a test failed, from the outside in.
fn reasons(parts: &[Part], action: usize, how: Failure) -> Vec<String> {
    if let Failure::Reached(reached) = how {
        return vec![reached.reason(), reached.flag()];
    }
    if let Failure::Lost { action: service, how } = how {
        let name =
            if let Some(Part::Start(name)) = parts.get(service) { name } else { "the service" };
        // Whatever was being waited for when it was noticed: has any look held so far?
        let held = parts[..action].iter().any(|part| matches!(part, Part::Probe(_)));
        let when = if held { "after the check had held" } else { "before the check held" };
        let how = match *how {
            Failure::Exit(0) => {
                "it ended (exit status 0); what a test starts must stay in the foreground"
                    .to_owned()
            }
            other => other.reasons().join(": "),
        };
        return vec![format!("{name} did not stay alive: it ended {when}"), how];
    }
    match (parts.get(action), how) {
        (Some(Part::Start(name)), how) => {
            let mut why = vec![format!("{name} could not be started")];
            why.extend(how.reasons());
            why
        }
        (Some(Part::Again(what)), Failure::NotHeld { last: Some(last), .. }) => {
            let mut why = vec![format!("it held once, but not a second time, that {what}")];
            why.extend(last.reasons());
            why
        }
        (Some(Part::Probe(what) | Part::Again(what)), how) => {
            let mut why = vec![format!("it does not hold that {what}")];
            why.extend(how.reasons());
            why
        }
        (_, how) => how.reasons(),
    }
}

/// What a probe looks at, in a few words.
pub(super) fn describe(probe: &Probe) -> String {
    let text = match probe {
        Probe::Http { url, status, contains: None } => format!("{url} answers {status}"),
        Probe::Http { url, status, contains: Some(text) } => {
            format!("{url} answers {status} with {text:?}")
        }
        Probe::Tcp { address } => format!("{address} accepts connections"),
        Probe::Exec { argv, .. } => format!(
            "`{}` succeeds",
            argv.last().map_or("", |word| word.lines().next().unwrap_or_default())
        ),
        Probe::Script { file, .. } => format!("{} succeeds", file.display()),
        Probe::File { path, .. } => format!("{path} is as it should be"),
        Probe::Absent { path } => format!("{path} is not there"),
    };
    if text.chars().count() <= 120 { text } else { text.chars().take(119).chain(['…']).collect() }
}
