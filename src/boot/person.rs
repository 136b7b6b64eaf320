//! `bake boot`: a throwaway machine for a person, with its console on their terminal.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use super::attend::{Attendant, Attended, Ending, STOP};
use super::disk;
use super::qemu::{self, DIR, DISK, FIRMWARE, Qemu, Running};
use super::seed::Seed;
use crate::event::Event;
use crate::image::Reference;
use crate::job::{self, Action, Ended, Job, JobContext, clear, dead_builds, make_dir, no_thread};
use crate::machine::{
    Accelerator, CONSOLE, Credential, DataDisk, Hardware, Identity, MONITOR, Port,
};
use crate::output::{Format, Tools};
use crate::sandbox::dial::Dialer;
use crate::sandbox::{Allowance, Exec, JobEvent, Mount, Network, Owners, ShownSecrets, terminal};
use crate::step::BootDisk;
use crate::threads;
use crate::toolbox::Toolbox;
use crate::trial::{self, Error, Publish};

/// Lines of what QEMU printed that are reported where it fails.
const PRINTED: usize = 10;

/// What a machine is to boot from.
#[derive(Clone)]
pub enum From<'a> {
    /// A version of the store, of which a disk is made with these programs.
    Image(Reference, &'a dyn Tools),
    /// A disk: raw or qcow2.
    File(PathBuf),
}

/// A machine for a person.
#[derive(Clone)]
pub struct Boot<'a> {
    /// What it boots from; that is never written to.
    pub from: From<'a>,
    /// Disks for data, which are written to, and the serial number of each.
    pub data: Vec<(PathBuf, String)>,
    /// What it is given, and is not on any disk.
    pub credentials: Vec<Credential>,
    /// What cloud-init in it is given.
    pub seed: Option<Seed>,
    /// Ports of the host that lead inside.
    pub publish: Vec<Publish>,
    /// Bytes of memory.
    pub memory: u64,
    /// The file in which what the machine writes to its disk stays: a copy of the disk, made where
    /// it is not there.
    pub persist: Option<PathBuf>,
    /// Asked until it is answered: the machine is up then, which the context's sink gets to know.
    pub wait: Option<String>,
    /// How it is asked to end.
    pub ending: Arc<Ending>,
}

/// Boots a machine, with its console on this process's standard streams, until it ends, by itself
/// or as it was asked to, or the person leaves it.
///
/// # Errors
/// [`Error::NoMachine`] where it does not start; [`Error::NotEnded`] where it does not end when
/// asked; [`job::Error::Interrupted`] once the context's cancel handle fires.
pub fn boot(job: &JobContext<'_>, qemu: &Qemu<'_>, boot: &Boot<'_>) -> Result<(), Error> {
    dead_builds(job)?;
    let staging = job.store.staging()?;
    let done = (|| {
        let dir = make_dir(&staging.dir().join("boot"))?;
        let (made, path, identity);
        match &boot.from {
            From::File(file) => (path, identity) = (file.clone(), None),
            From::Image(reference, tools) => {
                let version = job.store.resolve(reference)?;
                // As the recipe has it, where a test says so.
                let options = disk::tested(job.store, &version.manifest.digest)?;
                let options = options.unwrap_or_else(|| disk::described(&BootDisk::default()).1);
                let as_disk = (Format::Disk, &options);
                made = disk::make(job, &version, None, as_disk, &dir, *tools)?;
                path = made.path().to_owned();
                identity = Some(disk::identity(&version));
            }
        }
        let path = match &boot.persist {
            None => path,
            Some(own) => copied(&path, own)?,
        };
        let seed = boot.seed.as_ref().map(|seed| {
            let path = staging.dir().join("seed");
            let written = seed.write(&path).map(|()| path);
            written.map_err(|e| trouble("write the seed of cloud-init", &e))
        });
        let (format, seed) = (format(&path)?, seed.transpose()?);
        let machine = Machine { boot, format, path, seed, identity };
        if terminal::there() {
            let message = "Ctrl-] ends the machine".to_owned();
            (job.sink)(Event::Note { message });
        }
        let started = |again| {
            if again {
                (job.sink)(Event::Note { message: qemu::AGAIN.to_owned() });
            }
            machine.start(job, qemu)
        };
        qemu::with_time(|had_time: &bool| !had_time, started).map(|_| ())
    })();
    clear(job.sink, &staging, None);
    done
}

/// Makes a copy of a disk, unless it is there; returns where.
fn copied(disk: &Path, own: &Path) -> Result<PathBuf, Error> {
    if !own.exists() {
        let dir = own.parent().filter(|dir| !dir.as_os_str().is_empty());
        let aside = tempfile::NamedTempFile::new_in(dir.unwrap_or(Path::new(".")));
        let aside = aside.map_err(|e| failed(&format!("write {}", own.display()), &e))?;
        fs::copy(disk, aside.path())
            .and_then(|_| aside.persist_noclobber(own).map_err(|error| error.error))
            .map_err(|e| failed(&format!("write {}", own.display()), &e))?;
    }
    Ok(own.to_owned())
}

/// Finds out what a disk is.
fn format(path: &Path) -> Result<&'static str, Error> {
    let mut first = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut first));
    read.map_err(|e| failed(&format!("read the disk {}", path.display()), &e))?;
    // QEMU's docs/interop/qcow2.txt.
    Ok(if first == *b"QFI\xfb" { "qcow2" } else { "raw" })
}

struct Machine<'a> {
    boot: &'a Boot<'a>,
    path: PathBuf,
    format: &'static str,
    seed: Option<PathBuf>,
    identity: Option<Identity>,
}

/// What a machine is made of beside its own disk, as QEMU sees it.
struct Parts {
    data: Vec<DataDisk>,
    seed: Option<PathBuf>,
    credentials: Vec<Credential>,
    ports: Vec<Port>,
}

impl Machine<'_> {
    /// Starts it and stays with it to its end. False where it never came to anything, as the host
    /// had no time for it.
    fn start(&self, job: &JobContext<'_>, qemu: &Qemu<'_>) -> Result<bool, Error> {
        match qemu {
            Qemu::Toolbox(toolbox) => self.in_sandbox(job, toolbox),
            Qemu::Host(firmware) => self.on_host(job, firmware),
        }
    }

    fn attendant<'a>(&'a self, context: &'a JobContext<'_>) -> Attendant<'a> {
        let name = match &self.boot.from {
            From::Image(reference, _) => reference.to_string(),
            From::File(path) => path.display().to_string(),
        };
        let (url, ending) = (self.boot.wait.as_deref(), &*self.boot.ending);
        Attendant { name, url, ending, sink: context.sink }
    }

    fn hardware<'a>(
        &'a self,
        accelerator: Accelerator,
        (firmware, disk, dir): (&'a Path, &'a Path, &'a Path),
        Parts { data, seed, credentials, ports }: &'a Parts,
    ) -> Hardware<'a> {
        Hardware {
            accelerator,
            processors: thread::available_parallelism().map_or(1, |n| n.get().min(4)),
            memory: self.boot.memory,
            firmware,
            disk,
            format: self.format,
            snapshot: self.boot.persist.is_none(),
            data,
            seed: seed.as_deref(),
            credentials,
            identity: self.identity.as_ref(),
            ports,
            alone: false,
            visited: false,
            dir,
        }
    }

    fn in_sandbox(&self, context: &JobContext<'_>, toolbox: &Toolbox<'_>) -> Result<bool, Error> {
        let (mut ports, mut listeners) = (vec![], vec![]);
        for (outside, published) in (20_000..).zip(&self.boot.publish) {
            let address = "127.0.0.1".to_owned();
            ports.push(Port { address, outside, inside: published.inside });
            listeners.push(Publish { inside: outside, ..*published });
        }
        let listeners = trial::listen(&listeners)?;
        let (mut data, mut credentials) = (vec![], vec![]);
        let mount = |from: &Path, at: &str, read_only, owners| Mount {
            from: from.to_owned(),
            at: PathBuf::from(at),
            read_only,
            owners,
        };
        let kept = self.boot.persist.is_some();
        let mut mounts = vec![mount(&self.path, DISK, !kept, Owners::Mine)];
        for (n, (path, serial)) in self.boot.data.iter().enumerate() {
            let at = format!("/dev/bake/data-{n}");
            mounts.push(mount(path, &at, false, Owners::Mine));
            data.push(DataDisk { path: at.into(), serial: serial.clone(), snapshot: false });
        }
        let seed = self.seed.as_ref().map(|path| {
            let at = "/dev/bake/seed";
            mounts.push(mount(path, at, true, Owners::Mine));
            at.into()
        });
        for (n, Credential { name, path }) in self.boot.credentials.iter().enumerate() {
            let at = format!("/dev/bake/credential-{n}");
            mounts.push(mount(path, &at, true, Owners::Mine));
            credentials.push(Credential { name: name.clone(), path: at.into() });
        }
        let places = (Path::new(FIRMWARE), Path::new(DISK), Path::new(DIR));
        let parts = Parts { data, seed, credentials, ports };
        let argv = self.hardware(Accelerator::Tcg, places, &parts).argv();
        let ended = toolbox.with_root(|session, root, dir| {
            mounts.push(mount(dir, DIR, false, Owners::Image));
            let mut env = crate::toolbox::environment();
            env.insert("TMPDIR".to_owned(), DIR.to_owned());
            let cwd = PathBuf::from("/");
            let qemu = Exec { argv, env, cwd, user: "root".to_owned(), timeout: None };
            let (dialer, serve) = Dialer::new().map_err(|e| trouble("make sockets", &e))?;
            let job = Job {
                root: Some(root),
                allowance: Allowance::default(),
                mounts,
                files: vec![],
                secrets: ShownSecrets::default(),
                hostname: "bake".to_owned(),
                network: Network::None,
                actions: vec![Action::Serve(serve.into()), Action::Exec(qemu)],
            };
            let mut printed = vec![];
            let ran = trial::during(listeners, &dialer, || {
                thread::scope(|scope| {
                    let printed = &mut printed;
                    let run = move || {
                        session.run(job, context.cancel, &mut |event| {
                            if let JobEvent::Line { text, .. } = event {
                                printed.push(String::from_utf8_lossy(text).into_owned());
                            }
                        })
                    };
                    let running = threads::scoped(scope, run).map_err(no_thread)?;
                    let over = || running.is_finished();
                    let left = self.attendant(context).attend(dir, None, &over);
                    if !matches!(left, Ok(Attended::Ended | Attended::Starved)) {
                        context.cancel.fire();
                    }
                    let ended = running.join().expect("a job does not panic")?;
                    Ok::<_, job::Error>((left, ended))
                })
            });
            let (left, ended) = ran.map_err(no_thread)??;
            Ok((left, ended, printed))
        });
        match ended? {
            (Ok(Attended::Stubborn), ..) => Err(Error::NotEnded { within: STOP }),
            (Ok(Attended::Starved), Ended::Done(_), _) => Ok(false),
            (Ok(Attended::Left), ..) | (_, Ended::Done(_), _) => Ok(true),
            (Err(error), Ended::Cancelled, _) => Err(failed("show the console", &error)),
            (_, Ended::Cancelled, _) => Err(job::Error::Interrupted.into()),
            (_, Ended::Failed { how, .. }, printed) => Err(not_started(how.reasons(), &printed)),
        }
    }

    fn on_host(&self, context: &JobContext<'_>, firmware: &Path) -> Result<bool, Error> {
        let dir = tempfile::tempdir().map_err(|e| failed("make a directory", &e))?;
        let port = |one: &Publish| Port {
            address: one.address.ip().to_string(),
            outside: one.address.port(),
            inside: one.inside,
        };
        let ports = self.boot.publish.iter().map(port).collect();
        let disk = |(path, serial): &(PathBuf, String)| DataDisk {
            path: path.clone(),
            serial: serial.clone(),
            snapshot: false,
        };
        let data = self.boot.data.iter().map(disk).collect();
        let (seed, credentials) = (self.seed.clone(), self.boot.credentials.clone());
        let parts = Parts { data, seed, credentials, ports };
        let kinds: &[Accelerator] = match qemu::kvm() {
            true => &[Accelerator::Kvm, Accelerator::Tcg],
            false => &[Accelerator::Tcg],
        };
        for kind in kinds {
            let places = (firmware, self.path.as_path(), dir.path());
            let argv = self.hardware(*kind, places, &parts).argv();
            let log = dir.path().join("qemu.log");
            let output = File::create(&log).map_err(|e| failed("make a file", &e))?;
            let also = output.try_clone().map_err(|e| failed("make a file", &e))?;
            let mut command = Command::new(&argv[0]);
            command.args(&argv[1..]).env("TMPDIR", dir.path());
            command.stdin(Stdio::null()).stdout(output).stderr(also);
            let child = command.spawn().map_err(|e| failed("run QEMU", &e))?;
            let running = Running::new(child);
            let over = || context.cancel.fired() || running.ended().is_some();
            let life = (*kind == Accelerator::Kvm).then_some(qemu::LIFE);
            let attended = self.attendant(context).attend(dir.path(), life, &over);
            if context.cancel.fired() {
                return Err(job::Error::Interrupted.into());
            }
            match attended {
                Ok(Attended::Lifeless) => {
                    drop(running);
                    for name in [MONITOR, CONSOLE] {
                        let _ = fs::remove_file(dir.path().join(name));
                    }
                    let message = "under KVM it shows no life: it is emulated".to_owned();
                    (context.sink)(Event::Note { message });
                }
                Ok(Attended::Left) => return Ok(true),
                Ok(Attended::Starved) => return Ok(false),
                Ok(Attended::Stubborn) => return Err(Error::NotEnded { within: STOP }),
                Ok(Attended::Ended) => {
                    // It has closed its console, and is about to go.
                    return match running.wait() {
                        Ok(status) if status.success() => Ok(true),
                        Ok(status) => {
                            let printed = fs::read_to_string(&log).unwrap_or_default();
                            let printed: Vec<String> = printed.lines().map(str::to_owned).collect();
                            Err(not_started(vec![status.to_string()], &printed))
                        }
                        Err(error) => Err(failed("wait for QEMU", &error)),
                    };
                }
                Err(error) => return Err(failed("show the console", &error)),
            }
        }
        Ok(true)
    }
}

fn not_started(mut why: Vec<String>, printed: &[String]) -> Error {
    why.insert(0, "QEMU failed".to_owned());
    why.extend_from_slice(&printed[printed.len().saturating_sub(PRINTED)..]);
    Error::NoMachine { why }
}

fn trouble(what: &str, error: &io::Error) -> job::Error {
    job::Error::Failed { what: what.to_owned(), why: error.to_string() }
}

fn failed(what: &str, error: &io::Error) -> Error {
    trouble(what, error).into()
}
