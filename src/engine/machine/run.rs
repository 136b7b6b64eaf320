//! `bake run`: a throwaway machine of a stored image. Its root is a fresh overlay over the image's
//! layers; whatever is done in it is gone when its program ends.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::{publish, read, unpacked};
use crate::engine::call::{Action, Ended, Job, Session};
use crate::engine::error::{Error, no_thread};
use crate::engine::gate::environment;
use crate::engine::{Hall, pack, sweep};
use crate::event::Event;
use crate::image::{ImageConfig, Reference};
use crate::sandbox::dial::Dialer;
use crate::sandbox::{
    Attach, Cancel, Exec, Failure, Mount, Network, Overlay, Owners, PolicyFile, stream, terminal,
};
use crate::threads;

/// What is to run, and how.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The image.
    pub image: Reference,
    /// In place of the image's cmd; empty: what the image says.
    pub args: Vec<String>,
    /// In place of the image's entrypoint; an empty one: none.
    pub entrypoint: Option<String>,
    /// Added to the image's environment.
    pub env: Vec<(String, String)>,
    /// In place of the image's user.
    pub user: Option<String>,
    /// In place of the image's folder.
    pub workdir: Option<String>,
    /// Folders of the host.
    pub volumes: Vec<Volume>,
    /// The host's network, instead of one with nothing but `lo`.
    pub host_network: bool,
    /// Ports of the host that lead inside.
    pub publish: Vec<(SocketAddr, u16)>,
}

/// A folder of the host, shown inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The folder.
    pub from: PathBuf,
    /// Where it appears: an absolute path.
    pub at: PathBuf,
    /// Refuse writes.
    pub read_only: bool,
}

/// How the program of a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

/// Runs a machine until its program ends, with this process's own standard streams: as a terminal
/// where they are one, else as pipes. Each byte read from `signals` is the number of a signal for
/// the program.
///
/// # Errors
/// [`Error::NotStarted`] where the program cannot be started; [`Error::Interrupted`] once the
/// hall's cancel handle fires.
pub fn run(hall: &Hall<'_>, machine: &Machine, signals: OwnedFd) -> Result<Outcome, Error> {
    sweep::dead_builds(hall)?;
    let version = hall.store.resolve(&machine.image)?;
    let (manifest, config) = read(hall.store, &version.manifest)?;
    let exec = program(machine, &config, &version.reference)?;
    let listeners = publish::listen(&machine.publish)?;
    let draft = hall.store.draft()?;
    let mut session = None;
    let outcome = (|| {
        let opened = Session::open(hall.host.get()?, &hall.store.cache("layers")?, draft.dir())?;
        let session: &Session = session.insert(opened);
        let layers = unpacked(hall, session, &draft, &manifest, &config)?;
        let at = draft.dir().join("machine");
        let upper = pack::make_dir(&at.join("u"))?;
        let root =
            Some(Overlay { lower: layers.lower.clone(), upper, work: pack::fresh_work(&at)? });
        let (dialer, serve) =
            Dialer::new().map_err(|source| system("make a pair of sockets", source))?;
        let mut job = Job {
            root,
            mounts: mounts(machine)?,
            files: files(machine.host_network, &hostname(&version.reference), hall)?,
            hostname: hostname(&version.reference),
            network: if machine.host_network { Network::Host } else { Network::None },
            actions: vec![],
        };
        if !listeners.is_empty() {
            job.actions.push(Action::Serve(serve.into()));
        }
        let ended = publish::during(listeners, &dialer, || {
            attached(session, job, exec, vec![], Some(signals), hall.cancel)
        });
        verdict(ended.map_err(no_thread)??)
    })();
    sweep::clear(hall.sink, &draft, session.as_ref());
    outcome
}

/// Runs `job` with one more action at its end: `exec`, else the first of `or_else` that can be
/// started, attached to this process's own standard streams.
pub(in crate::engine) fn attached(
    session: &Session,
    mut job: Job,
    exec: Exec,
    or_else: Vec<Exec>,
    signals: Option<OwnedFd>,
    cancel: &Cancel,
) -> Result<Ended, Error> {
    let hear = &mut |_: crate::sandbox::JobEvent<'_>| {};
    if terminal::there() {
        let (socket, lent) =
            terminal::lend().map_err(|source| system("lend the terminal", source))?;
        job.actions.push(Action::Attach(Attach {
            exec,
            or_else,
            streams: crate::sandbox::Streams::Terminal(socket),
            signals,
        }));
        return std::thread::scope(|scope| {
            let relay = threads::scoped(scope, move || lent.relay()).map_err(no_thread)?;
            let ended = session.run(job, cancel, hear);
            // A terminal that has gone takes with it whoever might be told.
            let _ = relay.join();
            Ok(ended?)
        });
    }
    let (streams, carrier) = stream::carry().map_err(|source| system("make pipes", source))?;
    job.actions.push(Action::Attach(Attach { exec, or_else, streams, signals }));
    Ok(carrier.during(|| session.run(job, cancel, hear)).map_err(no_thread)??)
}

fn system(what: &str, source: std::io::Error) -> Error {
    Error::Chore { what: what.to_owned(), why: source.to_string() }
}

/// What a job with one attached program came to.
pub(in crate::engine) fn verdict(ended: Ended) -> Result<Outcome, Error> {
    match ended {
        Ended::Done(_) => Ok(Outcome::Exit(0)),
        Ended::Cancelled => Err(Error::Interrupted),
        Ended::Failed { how: Failure::Exit(status), .. } => Ok(Outcome::Exit(status)),
        Ended::Failed { how: Failure::Signal(signal), .. } => Ok(Outcome::Signal(signal)),
        Ended::Failed { how, .. } => Err(Error::NotStarted { why: how.reasons() }),
    }
}

fn program(machine: &Machine, config: &ImageConfig, image: &Reference) -> Result<Exec, Error> {
    let config = &config.config;
    let entrypoint = match &machine.entrypoint {
        None => config.entrypoint.clone(),
        Some(program) if program.is_empty() => vec![],
        Some(program) => vec![program.clone()],
    };
    // Another entrypoint has other arguments.
    let cmd = if machine.args.is_empty() && machine.entrypoint.is_none() {
        &config.cmd
    } else {
        &machine.args
    };
    let argv: Vec<String> = entrypoint.into_iter().chain(cmd.iter().cloned()).collect();
    if argv.is_empty() {
        return Err(Error::NothingToRun { image: image.to_string() });
    }
    let mut env = environment(config);
    if terminal::there() {
        env.entry("TERM".to_owned()).or_insert_with(|| "xterm".to_owned());
    }
    env.extend(machine.env.clone());
    let given = |text: &Option<String>, said: &str, default: &str| match (text, said) {
        (Some(text), _) => text.clone(),
        (None, "") => default.to_owned(),
        (None, said) => said.to_owned(),
    };
    let cwd = PathBuf::from(given(&machine.workdir, &config.working_dir, "/"));
    Ok(Exec { argv, env, cwd, user: given(&machine.user, &config.user, "root"), timeout: None })
}

fn mounts(machine: &Machine) -> Result<Vec<Mount>, Error> {
    let mount = |volume: &Volume| {
        let fail = |source| Error::File { verb: "use", path: volume.from.clone(), source };
        let from = volume.from.canonicalize().map_err(fail)?;
        if !from.is_dir() {
            return Err(fail(std::io::ErrorKind::NotADirectory.into()));
        }
        Ok(Mount {
            from,
            at: volume.at.clone(),
            read_only: volume.read_only,
            owners: Owners::Image,
        })
    };
    machine.volumes.iter().map(mount).collect()
}

/// Files that only the machine sees.
fn files(host_network: bool, hostname: &str, hall: &Hall<'_>) -> Result<Vec<PolicyFile>, Error> {
    let file = |at: &str, bytes: Vec<u8>| PolicyFile { at: PathBuf::from(at), bytes, mode: 0o644 };
    let mut out = vec![
        file("/etc/hosts", format!("127.0.0.1 localhost {hostname}\n::1 localhost\n").into_bytes()),
        file("/etc/hostname", format!("{hostname}\n").into_bytes()),
    ];
    if host_network {
        match std::fs::read("/etc/resolv.conf") {
            Ok(bytes) => out.push(file("/etc/resolv.conf", bytes)),
            Err(error) => {
                let message = format!(
                    "cannot read /etc/resolv.conf ({error}): the machine has no name service"
                );
                (hall.sink)(Event::Warning { message, hint: None });
            }
        }
    }
    Ok(out)
}

/// What a machine of an image calls itself: the last part of the image's name, as far as host names
/// allow it.
fn hostname(image: &Reference) -> String {
    let last = image.name.rsplit('/').next().unwrap_or_default();
    let text: String =
        last.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
    let text = text.trim_matches('-');
    if text.is_empty() { "bake".to_owned() } else { text.to_owned() }
}
