//! The edge: typed errors of the rooms become one [`Report`] with a kind, a message, hints and an
//! exit code.

use std::error::Error as StdError;
use std::io;
use std::path::Path;

use crate::delivery;
use crate::engine::error::Error as BuildError;
use crate::event::chain;
use crate::import;
use crate::inspect;
use crate::job;
use crate::output;
use crate::recipe::WORKSPACE;
use crate::sandbox;
use crate::serve;
use crate::store;
use crate::trial;
use crate::ui::report::Report;

/// Done.
pub(super) const OK: u8 = 0;
/// A step, test or output failed.
pub(super) const FAILED: u8 = 1;
/// Bad command line or recipe.
pub(super) const USAGE: u8 = 2;
/// Differences found.
pub(super) const DIFFERENT: u8 = 3;
/// This host cannot.
pub(super) const HOST: u8 = 10;
/// Store busy or unreadable.
pub(super) const STORE: u8 = 11;
/// Done, but the result cannot be written.
pub(super) const UNWRITTEN: u8 = 12;
/// The program of a container cannot be started: what shells say.
pub(super) const NOT_STARTED: u8 = 127;
/// Interrupted.
pub(super) const INTERRUPTED: u8 = 130;

/// Returns a report of `error` and its causes.
pub(super) fn report(kind: &'static str, exit: u8, error: &dyn StdError) -> Report {
    let mut texts = chain(error);
    let message = texts.remove(0);
    Report { kind, message, causes: texts, exit, ..Report::default() }
}

/// What to do about a full disk.
const ROOM: &str = "make room, or name a store on another disk with --store DIR";

/// Returns the report with what to do about a full disk, where that is the reason.
fn with_room(mut report: Report, no_room: bool) -> Report {
    if no_room {
        report.hints.insert(0, ROOM.to_owned());
    }
    report
}

/// Whether a full disk or quota is among the causes of `error`.
fn is_no_room(error: &(dyn StdError + 'static)) -> bool {
    sandbox::errno_of(error).is_some_and(sandbox::is_no_room)
}

/// Returns a report of a command line that clap could not refuse.
pub(super) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Report {
    Report {
        kind: "usage",
        message: message.into(),
        hints: vec![hint.into()],
        exit: USAGE,
        ..Report::default()
    }
}

/// Reports that nothing of what was asked for is there.
pub(super) fn missing(message: impl Into<String>) -> Report {
    Report { kind: "missing", message: message.into(), exit: FAILED, ..Report::default() }
}

/// Reports that something is used by another process.
pub(super) fn busy(message: impl Into<String>) -> Report {
    Report { kind: "busy", message: message.into(), exit: STORE, ..Report::default() }
}

/// Reports a file that cannot be written.
pub(super) fn file(error: &crate::files::Error) -> Report {
    report("file", FAILED, error)
}

/// Reports a file of variables that cannot be read.
pub(super) fn vars_file(error: &BuildError) -> Report {
    let hint = "a vars file is TOML, `name = value` per line; --var NAME=VALUE sets one variable";
    Report { hints: vec![hint.to_owned()], ..report("file", USAGE, error) }
}

/// Reports that stdout takes no more, with what is published all the same; `code` is how the
/// command ended otherwise.
pub(super) fn unwritten(why: String, published: &[String], code: u8) -> Report {
    let hints = match published {
        [] if code == OK => {
            vec!["what the command does is done; only its result is lost".to_owned()]
        }
        all => all.iter().map(|one| format!("published nevertheless: {one}")).collect(),
    };
    Report {
        kind: "file",
        message: "cannot write the result to stdout".to_owned(),
        causes: vec![why],
        hints,
        exit: if code == OK { UNWRITTEN } else { code },
        ..Report::default()
    }
}

/// Reports a failed build.
pub(super) fn build(error: &BuildError, recipe: &Path) -> Report {
    failed(error, recipe, Some("nothing was published; the version is still free"))
}

/// Reports what went wrong with a published image: nobody would have published anything.
pub(super) fn image(error: &BuildError) -> Report {
    failed(error, Path::new(""), None)
}

/// Reports a build error; `nothing` says what did not happen, where anything could have.
fn failed(error: &BuildError, lock_hint: &Path, nothing: Option<&str>) -> Report {
    let nothing = || nothing.map(str::to_owned);
    match error {
        BuildError::Recipe(_) => report("recipe", USAGE, error),
        BuildError::Job(job::Error::File { path, .. }) if path.ends_with(WORKSPACE) => {
            let hint = format!("{WORKSPACE} in a recipe's directory or above is its workspace");
            Report { hints: vec![hint], ..report("recipe", USAGE, error) }
        }
        BuildError::Job(job::Error::File { path, .. }) if path == lock_hint => {
            let hint = "`bake new NAME` starts a recipe from a template".to_owned();
            Report { hints: vec![hint], ..report("recipe", USAGE, error) }
        }
        BuildError::Lock { path, .. } => {
            let hint = format!(
                "remove {} and run `bake lock {}` to make it \
                anew",
                path.display(),
                lock_hint.display()
            );
            Report { hints: vec![hint], ..report("lock", USAGE, error) }
        }
        BuildError::NotLocked { .. } => {
            let hint = format!("run `bake lock {}` and commit the lock file", lock_hint.display());
            Report { hints: vec![hint], ..report("lock", USAGE, error) }
        }
        BuildError::OtherToolbox { .. } => {
            let recipe = lock_hint.display();
            let hint = format!("`bake lock --update {recipe}` pins the one that is there");
            Report { hints: vec![hint], ..report("lock", USAGE, error) }
        }
        BuildError::Broken { hint, .. } => Report {
            hints: [hint.clone()].into_iter().chain(nothing()).collect(),
            ..report("image", FAILED, error)
        },
        BuildError::Step { label, recipe, line, part, why, tail, log, .. } => {
            let report = Report {
                causes: why.reasons(),
                recipe: Some(recipe.clone()),
                line: Some(*line),
                file: part.as_deref().map(Path::to_owned),
                step: Some(label.clone()),
                output: tail.clone(),
                log: log.clone(),
                hints: why.hints().into_iter().chain(nothing()).collect(),
                ..report("step", FAILED, error)
            };
            with_room(report, error.no_room())
        }
        BuildError::Trial(error) => trial(error, nothing()),
        BuildError::Base { recipe, line, source, tail, log, .. } => {
            let mut report =
                report(if source.is_network() { "network" } else { "base" }, FAILED, error);
            report.recipe = Some(recipe.clone());
            report.line = Some(*line);
            report.output = tail.clone();
            report.log = log.clone();
            report.hints.extend(source.hint());
            report.hints.extend(nothing());
            with_room(report, error.no_room())
        }
        BuildError::BaseImage { recipe, line, why, .. } => Report {
            causes: why.clone(),
            recipe: Some(recipe.clone()),
            line: Some(*line),
            hints: nothing().into_iter().collect(),
            ..report("base", FAILED, error)
        },
        BuildError::BaseImport { recipe, line, source, .. } => Report {
            recipe: Some(recipe.clone()),
            line: Some(*line),
            hints: source
                .hints(&|name| format!("named = {name:?}"))
                .into_iter()
                .chain(nothing())
                .collect(),
            ..report(if source.is_network() { "network" } else { "base" }, FAILED, error)
        },
        BuildError::Output(error) => undelivered(error, nothing()),
        BuildError::RecipeCycle { .. } | BuildError::SameImage { .. } => {
            report("recipe", USAGE, error)
        }
        BuildError::Context { recipe, .. } => {
            Report { recipe: Some(recipe.clone()), ..report("context", USAGE, error) }
        }
        BuildError::VersionTaken { image, have, recipe } => {
            let name = image.split_once(':').map_or(image.as_str(), |(name, _)| name);
            Report {
                causes: vec![format!(
                    "{image} is {have}, and the result differs from it; a version \
                    is one content, for ever"
                )],
                recipe: Some(recipe.clone()),
                hints: vec![
                    "raise `version` in the recipe, or give --set-version".to_owned(),
                    format!(
                        "if nobody uses it yet: `bake rm {image}`; what is published: `bake \
                        list {name}`"
                    ),
                ],
                ..report("version-taken", FAILED, error)
            }
        }
        BuildError::Unreproducible { label, recipe, line, part, paths, .. } => Report {
            causes: paths.clone(),
            recipe: Some(recipe.clone()),
            line: Some(*line),
            file: part.as_deref().map(Path::to_owned),
            step: Some(label.clone()),
            hints: std::iter::once(
                "pin what the step takes from the world (time, network, random numbers), then \
                    `bake build --no-cache=STEP`"
                    .to_owned(),
            )
            .chain(nothing())
            .collect(),
            ..report("unreproducible", FAILED, error)
        },
        BuildError::NoStep { steps, recipe, .. } => {
            let named = steps.iter().enumerate().skip(1).map(|(at, label)| {
                format!(
                    "{at} \
                ({label})"
                )
            });
            let all: Vec<String> = std::iter::once("base".to_owned()).chain(named).collect();
            Report {
                recipe: Some(recipe.clone()),
                hints: vec![format!(
                    "it has \
                {}",
                    all.join(", ")
                )],
                ..report("usage", USAGE, error)
            }
        }
        BuildError::OtherFailed => {
            Report { hints: nothing().into_iter().collect(), ..report("step", FAILED, error) }
        }
        BuildError::Job(source) => job(source, error.no_room(), nothing()),
    }
}

/// Reports what every job needs and could not be had; `nothing`: what did not happen because of it.
fn job(error: &job::Error, no_room: bool, nothing: Option<String>) -> Report {
    let hints = nothing.into_iter().collect();
    match error {
        job::Error::File { .. } => with_room(report("file", FAILED, error), no_room),
        job::Error::Store(source) => store(source),
        job::Error::Sandbox(source) => sandbox(source),
        job::Error::Layer { .. } => {
            with_room(Report { hints, ..report("layer", FAILED, error) }, no_room)
        }
        job::Error::Failed { why, .. } => {
            Report { causes: vec![why.clone()], hints, ..report("sandbox", FAILED, error) }
        }
        job::Error::Call { how, .. } => {
            let report =
                Report { causes: how.reasons(), hints, ..report("sandbox", FAILED, error) };
            with_room(report, no_room)
        }
        job::Error::Interrupted => Report { hints, ..report("interrupted", INTERRUPTED, error) },
    }
}

/// Reports what went wrong with programs in an image; `nothing`: what did not happen because of it.
fn trial(error: &trial::Error, nothing: Option<String>) -> Report {
    match error {
        trial::Error::Test { label, recipe, line, why, tail, hints, log, .. } => Report {
            causes: why.clone(),
            recipe: recipe.clone(),
            line: *line,
            step: Some(label.clone()),
            output: tail.clone(),
            log: Some(log.clone()).filter(|log| !log.as_os_str().is_empty()),
            hints: match recipe {
                Some(_) => hints.iter().cloned().chain(nothing).collect(),
                None => {
                    let nothing = "nothing was recorded; the image is as it was".to_owned();
                    hints.iter().cloned().chain([nothing]).collect()
                }
            },
            ..report("test", FAILED, error)
        },
        trial::Error::Unstartable { recipe, why } => Report {
            causes: why.iter().map(|one| format!("{}: {}", one.key, one.why)).collect(),
            recipe: Some(recipe.clone()),
            line: why.iter().find_map(|one| one.line),
            hints: nothing.into_iter().collect(),
            ..report("config", FAILED, error)
        },
        trial::Error::NoTests { .. } => {
            let hint = "add `[[test]]` to its recipe and run `bake build` again: the image is not \
                made anew for that"
                .to_owned();
            Report { hints: vec![hint], ..report("no-tests", FAILED, error) }
        }
        trial::Error::NothingToRun { image } => {
            let hint = format!("say what to run: bake run {image} -- PROGRAM");
            Report { hints: vec![hint], ..report("usage", USAGE, error) }
        }
        trial::Error::Limited(reached) => {
            Report { hints: vec![reached.flag()], ..report("limit", FAILED, error) }
        }
        trial::Error::NotStarted { why } => {
            Report { causes: why.clone(), ..report("not-started", NOT_STARTED, error) }
        }
        trial::Error::Port { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
            let hint = "another program listens there; take another port".to_owned();
            Report { hints: vec![hint], ..report("port", FAILED, error) }
        }
        trial::Error::Port { .. } => {
            let hint =
                "take another port; those below 1024 are for root, unless this host says otherwise"
                    .to_owned();
            Report { hints: vec![hint], ..report("port", HOST, error) }
        }
        trial::Error::NoMachine { why } => {
            let hint =
                "`--no-test` publishes it untested; `bake test` does later what was left out";
            // Of what is there already nothing is published.
            let hints = nothing.map(|nothing| vec![nothing, hint.to_owned()]).unwrap_or_default();
            Report { causes: why.clone(), hints, ..report("machine", HOST, error) }
        }
        trial::Error::NotBootable { hints, .. } => Report {
            hints: hints.iter().cloned().chain(nothing).collect(),
            ..report("machine", FAILED, error)
        },
        trial::Error::NotEnded { .. } => {
            let hint = "systemd-logind notices the power button where the image has dbus";
            Report { hints: vec![hint.to_owned()], ..report("machine", FAILED, error) }
        }
        // `From` takes it out: it is an error of a build as it is.
        trial::Error::Job(source) => report("sandbox", FAILED, source),
    }
}

/// Reports an image that was not imported.
pub(super) fn import(error: &import::Error) -> Report {
    let nothing = || Some("nothing was published".to_owned());
    match error {
        import::Error::Which { .. } => {
            let hints = error.hints(&|name| format!("--named {name}"));
            Report { hints, ..report("import", FAILED, error) }
        }
        import::Error::Job(job::Error::Store(source @ store::Error::VersionTaken { .. })) => {
            let hint = "import it under another version".to_owned();
            Report { hints: vec![hint], ..report("version", FAILED, source) }
        }
        import::Error::Registry(source) => {
            let hints = source.hint().into_iter().chain(nothing()).collect();
            let kind = if source.is_network() { "network" } else { "import" };
            Report { hints, ..report(kind, FAILED, error) }
        }
        import::Error::Job(source) => job(source, is_no_room(error), nothing()),
        import::Error::Trial(source) => trial(source, nothing()),
        _ => Report { hints: nothing().into_iter().collect(), ..report("import", FAILED, error) },
    }
}

/// Reports a sandbox that cannot work.
pub(super) fn sandbox(error: &sandbox::Error) -> Report {
    match error {
        sandbox::Error::Host { what, hint } => {
            let hints = vec![
                hint.clone(),
                "`bake doctor` looks at everything bake needs of this host".to_owned(),
            ];
            let message = "this host cannot run bake's sandbox".to_owned();
            Report { message, causes: vec![what.clone()], hints, ..report("host", HOST, error) }
        }
        sandbox::Error::System { .. } => {
            with_room(report("sandbox", FAILED, error), is_no_room(error))
        }
    }
}

/// Reports what could not be inspected.
pub(super) fn inspect(error: &inspect::Error) -> Report {
    match error {
        inspect::Error::Store(source) => store(source),
        inspect::Error::Layer(_) => {
            let hint =
                "`bake verify` looks at everything; `bake rm` and a new build repair a version"
                    .to_owned();
            Report { hints: vec![hint], ..report("store", FAILED, error) }
        }
        inspect::Error::Manifest { .. } => {
            let hint = "`bake export IMAGE --format manifest --output FILE` writes one".to_owned();
            Report { hints: vec![hint], ..report("manifest", USAGE, error) }
        }
        inspect::Error::Pattern { .. } | inspect::Error::Root { .. } => {
            report("usage", USAGE, error)
        }
        inspect::Error::Process { .. } => {
            let hint =
                "give the pid of a running process, as root; `--root DIR` compares a directory"
                    .to_owned();
            Report { hints: vec![hint], ..report("usage", USAGE, error) }
        }
        inspect::Error::Disk { .. } => {
            Report { hints: error.hint().into_iter().collect(), ..report("disk", FAILED, error) }
        }
        inspect::Error::NoRoot { .. } => {
            let hint = "name a version that is on the disk: `bake drift NAME:VERSION --disk FILE`";
            Report { hints: vec![hint.to_owned()], ..report("disk", FAILED, error) }
        }
        inspect::Error::Unreadable { .. } => {
            let hint = "compare as root; what cannot be read cannot be compared".to_owned();
            Report { hints: vec![hint], ..report("unreadable", FAILED, error) }
        }
        _ => report("file", FAILED, error),
    }
}

/// Reports what was not exported.
pub(super) fn output(error: &output::Error) -> Report {
    let hints = match error {
        output::Error::Exists { .. } | output::Error::Listed { .. } => {
            vec!["--force replaces it".to_owned()]
        }
        output::Error::Stream { .. } => {
            let formats = "oci-archive, docker-archive, tar and manifest";
            vec![format!("name a directory; formats for a stream are {formats}")]
        }
        output::Error::NotRoot => vec![
            "--drop-owners: everything belongs to you".to_owned(),
            "--format tar keeps owners, in a file".to_owned(),
        ],
        other => other.hints(),
    };
    let report = Report { hints, output: printed(error), ..report("export", FAILED, error) };
    with_room(report, is_no_room(error))
}

/// What a program that failed has printed.
fn printed(error: &output::Error) -> Vec<String> {
    match error {
        output::Error::Program { printed, .. } => printed.clone(),
        _ => vec![],
    }
}

/// Reports an output that could not be made.
fn undelivered(error: &delivery::Error, nothing: Option<String>) -> Report {
    let mut report = report("output", FAILED, error);
    if let delivery::Error::Make { recipe, line, source, .. } = error {
        (report.recipe, report.line) = (Some(recipe.clone()), Some(*line));
        report.output = printed(source);
        report.hints.extend(source.hints());
    }
    report.hints.extend(nothing);
    with_room(report, is_no_room(error))
}

/// Reports a registry that is not written as files.
pub(super) fn written(error: &serve::Error) -> Report {
    match error {
        serve::Error::Output(error) => output(error),
        _ => with_room(report("export", FAILED, error), is_no_room(error)),
    }
}

/// Reports a store that cannot be used.
pub(super) fn store(error: &store::Error) -> Report {
    let mut report = report("store", if error.is_store_unusable() { STORE } else { FAILED }, error);
    if let store::Error::NoEarlier { passed, .. } = error {
        report.causes.extend(passed.iter().map(|one| format!("passed over {one}")));
    }
    report.hints.extend(match error {
        store::Error::NotFound { near, .. } if !near.is_empty() => Some(format!(
            "did you mean \
            {}?",
            near.join(" or ")
        )),
        store::Error::NotFound { .. } => Some("`bake list` shows what is there".to_owned()),
        store::Error::NoVersion { .. } => Some("write NAME:VERSION".to_owned()),
        store::Error::NoChannel { near, .. } if !near.is_empty() => Some(format!(
            "did you mean \
            {}?",
            near.join(" or ")
        )),
        store::Error::NoChannel { reference, .. } => {
            let channel = reference.channel.as_deref().unwrap_or("CHANNEL");
            Some(format!("`bake promote {}:VERSION {channel}` makes it", reference.name))
        }
        store::Error::NotAChannel { reference } => Some(format!(
            "write {}@CHANNEL; `bake list \
            --channels` shows them",
            reference.name
        )),
        store::Error::ChannelGone { reference, .. } => {
            let (name, channel) =
                (&reference.name, reference.channel.as_deref().unwrap_or("CHANNEL"));
            Some(format!(
                "`bake promote --back {reference}` or `bake promote {name}:VERSION \
                {channel}`"
            ))
        }
        store::Error::NoEarlier { reference, .. } => Some(format!(
            "`bake list --history \
            {reference}` shows where it has pointed"
        )),
        store::Error::Untested { reference } => Some(format!(
            "`bake test {reference}` runs its \
            tests"
        )),
        store::Error::Revoked { reference, revocation } => {
            let who = format!("by {} at {}", revocation.by, revocation.at);
            Some(format!("revoked {who}; `bake revoke --undo {reference} --why …` takes that back"))
        }
        store::Error::NotRevoked { .. } => Some(
            "`bake list --history` shows what was \
            revoked"
                .to_owned(),
        ),
        store::Error::InChannel { channels, .. } => {
            let first = channels.first().cloned().unwrap_or_default();
            Some(format!(
                "point it elsewhere with `bake promote`, end it with `bake promote --end \
                {first}`, or give --force"
            ))
        }
        store::Error::Corrupt { .. } | store::Error::MissingBlob { .. } => Some(
            "`bake verify` looks at everything; `bake rm` and a new build repair a \
                version"
                .to_owned(),
        ),
        store::Error::Unwritable { .. }
        | store::Error::NotAStore { .. }
        | store::Error::NotADirectory { .. }
        | store::Error::Disk { .. } => {
            Some("name another store with --store DIR or BAKE_STORE".to_owned())
        }
        store::Error::Full { .. } => Some(ROOM.to_owned()),
        _ => None,
    });
    report
}
