//! `bake run`: a throwaway container of a stored image. Its root is a fresh overlay over the
//! image's layers; whatever is done in it is gone when its program ends.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::attach::{attached, system};
use super::error::Error;
use super::image::{read, unpacked};
use super::outcome::{Outcome, outcome};
use super::ports::{self, Publish};
use super::test::environment;
use crate::event::Event;
use crate::image::{ImageConfig, Platform, Reference};
use crate::job::{
    self, Action, Job, JobContext, Session, clear, dead_builds, fresh_work, hosts, make_dir,
    no_thread, resolv_conf,
};
use crate::sandbox::dial::Dialer;
use crate::sandbox::{
    self, Allowance, Exec, Mount, Network, Overlay, Owners, PolicyFile, ShownSecrets, terminal,
};

/// What is to run, and how.
#[derive(Debug, Clone)]
pub struct Container {
    /// The image.
    pub image: Reference,
    /// Which of an image for several; none: this machine's.
    pub platform: Option<Platform>,
    /// In place of the image's cmd; empty: the image's own.
    pub args: Vec<String>,
    /// In place of the image's entrypoint; an empty one: none.
    pub entrypoint: Option<String>,
    /// Added to the image's environment.
    pub env: Vec<(String, String)>,
    /// In place of the image's user.
    pub user: Option<String>,
    /// In place of the image's working directory.
    pub workdir: Option<String>,
    /// Directories and files of the host.
    pub volumes: Vec<Volume>,
    /// The host's network, instead of one with nothing but `lo`.
    pub host_network: bool,
    /// Ports of the host that lead inside.
    pub publish: Vec<Publish>,
}

/// A directory or a file of the host, shown inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Which.
    pub from: PathBuf,
    /// Where it appears: an absolute path.
    pub at: PathBuf,
    /// Refuse writes.
    pub read_only: bool,
}

/// Runs a container until its program ends, with this process's own standard streams: as a terminal
/// where they are one, else as pipes. Each byte read from `signals` is the number of a signal for
/// the program.
///
/// # Errors
/// [`Error::NotStarted`] where the program cannot be started; [`job::Error::Interrupted`] once the
/// context's cancel handle fires.
pub fn run(
    context: &JobContext<'_>,
    container: &Container,
    signals: OwnedFd,
    started: &AtomicBool,
) -> Result<Outcome, Error> {
    dead_builds(context)?;
    let version = context.store.resolve(&container.image)?;
    let (manifest, config) = read(context.store, &version.manifest, container.platform.as_ref())?;
    sandbox::can_run(&config.architecture).map_err(job::Error::from)?;
    let exec = program(container, &config, &version.reference)?;
    if container.host_network {
        warn_of_low_ports(context, &config);
    }
    let listeners = ports::listen(&container.publish)?;
    let staging = context.store.staging()?;
    let mut session = None;
    let ended = (|| {
        let opened = context.session_for(staging.dir(), &config.architecture)?;
        let session: &Session = session.insert(opened);
        let layers = unpacked(context, session, &staging, &manifest, &config)?;
        let at = staging.dir().join("container");
        let upper = make_dir(&at.join("u"))?;
        let root = Some(Overlay { lower: layers.lower.clone(), upper, work: fresh_work(&at)? });
        let (dialer, serve) =
            Dialer::new().map_err(|source| system("make a pair of sockets", source))?;
        let mut job = Job {
            root,
            allowance: Allowance::default(),
            mounts: mounts(container)?,
            files: files(container.host_network, &hostname(&version.reference), context),
            secrets: ShownSecrets::default(),
            hostname: hostname(&version.reference),
            network: if container.host_network { Network::Host } else { Network::None },
            actions: vec![],
        };
        if !listeners.is_empty() {
            job.actions.push(Action::Serve(serve.into()));
        }
        started.store(true, Ordering::SeqCst);
        let ended = ports::during(listeners, &dialer, || {
            attached(session, job, exec, vec![], Some(signals), context.cancel)
        });
        outcome(ended.map_err(no_thread)??)
    })();
    clear(context.sink, &staging, session.as_ref());
    ended
}

/// Warns where the image means to listen on ports that a container may not have in the host's own
/// network: its root is none there (user_namespaces(7), CAP_NET_BIND_SERVICE).
fn warn_of_low_ports(context: &JobContext<'_>, config: &ImageConfig) {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first: u16 = first.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    let low = |port: &&String| {
        let number = port.split('/').next().and_then(|number| number.parse::<u16>().ok());
        number.is_some_and(|number| number < first)
    };
    if let Some(port) = config.config.exposed_ports.iter().find(low) {
        let number = port.trim_end_matches("/tcp");
        let message = format!(
            "the image listens on {port}, and in this host's network its programs may not have \
                ports below {first}"
        );
        let inside = number.trim_end_matches("/udp");
        let hint = format!("leave --network host out: --publish {inside}:{number}");
        (context.sink)(Event::Warning { message, hint: Some(hint) });
    }
}

fn program(container: &Container, config: &ImageConfig, image: &Reference) -> Result<Exec, Error> {
    let config = &config.config;
    let entrypoint = match &container.entrypoint {
        None => config.entrypoint.clone(),
        Some(program) if program.is_empty() => vec![],
        Some(program) => vec![program.clone()],
    };
    // Another entrypoint has other arguments.
    let cmd = if container.args.is_empty() && container.entrypoint.is_none() {
        &config.cmd
    } else {
        &container.args
    };
    let argv: Vec<String> = entrypoint.into_iter().chain(cmd.iter().cloned()).collect();
    if argv.is_empty() {
        return Err(Error::NothingToRun { image: image.to_string() });
    }
    let mut env = environment(config);
    if terminal::there() {
        env.entry("TERM".to_owned()).or_insert_with(|| "xterm".to_owned());
    }
    env.extend(container.env.clone());
    let given = |text: &Option<String>, own: &str, default: &str| match (text, own) {
        (Some(text), _) => text.clone(),
        (None, "") => default.to_owned(),
        (None, own) => own.to_owned(),
    };
    let cwd = PathBuf::from(given(&container.workdir, &config.working_dir, "/"));
    Ok(Exec { argv, env, cwd, user: given(&container.user, &config.user, "root"), timeout: None })
}

fn mounts(container: &Container) -> Result<Vec<Mount>, Error> {
    let mount = |volume: &Volume| {
        let fail = |source| job::Error::File { verb: "use", path: volume.from.clone(), source };
        let from = match volume.from.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_name(&volume.from) => {
                let why = "there is no such directory here, and bake keeps no volumes by name";
                return Err(fail(io::Error::other(why)).into());
            }
            found => found.map_err(fail)?,
        };
        if !from.is_dir() && !from.is_file() {
            let why = "it is neither a directory nor a regular file";
            return Err(fail(io::Error::other(why)).into());
        }
        Ok(Mount {
            from,
            at: volume.at.clone(),
            read_only: volume.read_only,
            owners: Owners::Image,
        })
    };
    container.volumes.iter().map(mount).collect()
}

/// Whether other tools would take this for the name of a volume that they keep.
fn is_name(from: &Path) -> bool {
    from.components().count() == 1 && from.is_relative()
}

/// Files that only the container sees.
fn files(host_network: bool, hostname: &str, context: &JobContext<'_>) -> Vec<PolicyFile> {
    let name = format!("{hostname}\n").into_bytes();
    let mut out = vec![
        hosts(hostname),
        PolicyFile { at: PathBuf::from("/etc/hostname"), bytes: name, mode: 0o644 },
    ];
    if host_network {
        out.extend(resolv_conf(context.sink, "the container has"));
    }
    out
}

/// What a container of an image calls itself: the last part of the image's name, as far as host
/// names allow it.
fn hostname(image: &Reference) -> String {
    let last = image.name.rsplit('/').next().unwrap_or_default();
    let text: String =
        last.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
    let text = text.trim_matches('-');
    if text.is_empty() { "bake".to_owned() } else { text.to_owned() }
}
