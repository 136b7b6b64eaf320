//! QEMU and its firmware: those of the machine toolbox, run in the sandbox, or the host's.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crate::job::{self, Action, Call, Ended, Job, JobContext, Log, Reply, Session, replies};
use crate::machine::{self, Accelerator, DataDisk, Hardware, Identity, LOG, Visit, Visited};
use crate::sandbox::{Allowance, Exec, JobEvent, Mount, Network, Overlay, Owners, ShownSecrets};
use crate::threads;
use crate::toolbox::{HostTools, Toolbox};

/// Where a job finds the directory of its machine.
pub(super) const DIR: &str = "/dev/bake/machine";

/// Where a job finds the disk.
pub(super) const DISK: &str = "/dev/bake/disk";

/// UEFI firmware in the toolbox.
pub(super) const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";

/// Where distributions put it.
const FIRMWARES: [&str; 6] = [
    FIRMWARE,
    "/usr/share/OVMF/OVMF_CODE.fd",
    "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
    "/usr/share/edk2/ovmf/OVMF_CODE.fd",
    "/usr/share/qemu/ovmf-x86_64-code.bin",
    "/usr/share/qemu/edk2-x86_64-code.fd",
];

/// Bytes of a blank disk for data; it takes no room before it is written to.
const BLANK: u64 = 2 << 30;

/// How long a machine may show nothing where the processor computes.
pub(super) const LIFE: Duration = Duration::from_secs(5);

/// How often a machine is started at most whose clock the host has no time for.
const STARTS: usize = 3;

/// What is noted then.
pub(super) const AGAIN: &str = "the host was too busy for the machine's clock: it is started again";

/// Who starts machines.
pub enum Qemu<'a> {
    /// That of the toolbox.
    Toolbox(Box<Toolbox<'a>>),
    /// The host's, and its firmware.
    Host(PathBuf),
}

/// A machine to be tested.
pub(super) struct Machine<'a> {
    /// The file of its disk.
    pub(super) disk: &'a Path,
    /// `raw`, `qcow2`.
    pub(super) format: &'static str,
    /// Bytes of memory.
    pub(super) memory: u64,
    /// Serial numbers of blank disks for data.
    pub(super) data: Vec<String>,
    /// What it is.
    pub(super) identity: Identity,
}

impl<'a> Qemu<'a> {
    /// Finds QEMU and its firmware on this host.
    ///
    /// # Errors
    /// Why there are none that can be used, and what to do about it.
    pub fn host() -> Result<Self, Vec<String>> {
        HostTools::find(&["qemu-system-x86_64"]).map_err(|error| match error {
            crate::output::Error::Tools { why } => why,
            other => vec![other.to_string()],
        })?;
        let found = FIRMWARES.iter().map(Path::new).find(|path| path.is_file());
        let missing = || {
            let hint = "install it (Debian: ovmf); without `--tools host` bake brings its own";
            vec!["this host has no UEFI firmware for QEMU".to_owned(), hint.to_owned()]
        };
        Ok(Self::Host(found.ok_or_else(missing)?.to_owned()))
    }

    /// Starts a machine and visits it. Where the processor is to compute and shows no life, QEMU
    /// computes. Returns as well who did.
    pub(super) fn visit(
        &self,
        context: &JobContext<'_>,
        machine: &Machine<'_>,
        visit: &Visit,
        log: &mut Log,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Visited, Accelerator), job::Error> {
        if matches!(self, Self::Host(_)) && kvm() {
            let mut tried = visit.clone();
            tried.patience.life = Some(LIFE);
            let visited = self.once(context, machine, Accelerator::Kvm, &tried, log, progress)?;
            if !visited.trouble.as_ref().is_some_and(|trouble| trouble.lifeless) {
                return Ok((visited, Accelerator::Kvm));
            }
            log.note("under KVM it shows no life: it is emulated");
        }
        let starved = |it: &Visited| it.trouble.as_ref().is_some_and(|trouble| trouble.starved);
        let once = |again| {
            if again {
                log.note(AGAIN);
            }
            self.once(context, machine, Accelerator::Tcg, visit, log, progress)
        };
        let visited = with_time(starved, once)?;
        Ok((visited, Accelerator::Tcg))
    }

    fn once(
        &self,
        context: &JobContext<'_>,
        machine: &Machine<'_>,
        accelerator: Accelerator,
        visit: &Visit,
        log: &mut Log,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Visited, job::Error> {
        match self {
            Self::Toolbox(toolbox) => toolbox.with_root(|session, root, dir| {
                let own = Own { dir, seen: Path::new(DIR), disk: Path::new(DISK) };
                let visit = with_ports_of_its_own(visit);
                let argv = own.furnish(machine, accelerator, &visit, Path::new(FIRMWARE))?;
                in_sandbox(context, session, root, (machine, dir), argv, &visit, log, progress)
            }),
            Self::Host(firmware) => {
                // Paths of sockets are short.
                let dir = tempfile::tempdir().map_err(|e| trouble("make a directory", &e))?;
                let dir = dir.path();
                let visit = with_free_ports(visit).map_err(|e| trouble("find a port", &e))?;
                let own = Own { dir, seen: dir, disk: machine.disk };
                let argv = own.furnish(machine, accelerator, &visit, firmware)?;
                on_host(context, dir, argv, &visit, log, progress)
            }
        }
    }
}

/// Starts a machine until the host has had time for it, as far as `starved` sees from what came
/// of it; `once` is given whether that is not the first time.
pub(super) fn with_time<T, E>(
    starved: impl Fn(&T) -> bool,
    mut once: impl FnMut(bool) -> Result<T, E>,
) -> Result<T, E> {
    let mut starts = 1;
    loop {
        let came = once(starts > 1)?;
        if starts == STARTS || !starved(&came) {
            return Ok(came);
        }
        starts += 1;
    }
}

/// The directory of a machine: here, and as QEMU sees it; and the disk as QEMU sees it.
struct Own<'a> {
    dir: &'a Path,
    seen: &'a Path,
    disk: &'a Path,
}

impl Own<'_> {
    /// Puts into the directory what has to be there; returns QEMU's command line.
    fn furnish(
        &self,
        machine: &Machine<'_>,
        accelerator: Accelerator,
        visit: &Visit,
        firmware: &Path,
    ) -> Result<Vec<String>, job::Error> {
        machine::furnish(self.dir).map_err(|e| trouble("write what answers inside", &e))?;
        let mut data = vec![];
        for (n, serial) in machine.data.iter().enumerate() {
            let name = format!("data-{n}");
            File::create(self.dir.join(&name))
                .and_then(|file| file.set_len(BLANK))
                .map_err(|e| trouble("make a blank disk", &e))?;
            let path = self.seen.join(name);
            data.push(DataDisk { path, serial: serial.clone(), snapshot: false });
        }
        let hardware = Hardware {
            accelerator,
            processors: thread::available_parallelism().map_or(1, |n| n.get().min(2)),
            memory: machine.memory,
            firmware,
            disk: self.disk,
            format: machine.format,
            snapshot: true,
            data: &data,
            seed: None,
            credentials: &[],
            identity: Some(&machine.identity),
            ports: &visit.ports,
            alone: true,
            visited: true,
            dir: self.seen,
        };
        Ok(hardware.argv())
    }
}

#[expect(clippy::too_many_arguments, reason = "one call of one function, split for its length")]
fn in_sandbox(
    context: &JobContext<'_>,
    session: &Session,
    root: Overlay,
    (machine, dir): (&Machine<'_>, &Path),
    argv: Vec<String>,
    visit: &Visit,
    log: &mut Log,
    progress: &mut dyn FnMut(u64),
) -> Result<Visited, job::Error> {
    let mut env = crate::toolbox::environment();
    // Where QEMU keeps what is written to the disk.
    env.insert("TMPDIR".to_owned(), DIR.to_owned());
    let qemu = Exec { argv, env, cwd: PathBuf::from("/"), user: "root".to_owned(), timeout: None };
    let mount = |from: &Path, at: &str, read_only, owners| Mount {
        from: from.to_owned(),
        at: PathBuf::from(at),
        read_only,
        owners,
    };
    let visiting = Call::Visit { dir: PathBuf::from(DIR), visit: visit.clone() };
    let job = Job {
        root: Some(root),
        allowance: Allowance::default(),
        mounts: vec![
            mount(dir, DIR, false, Owners::Image),
            mount(machine.disk, DISK, true, Owners::Mine),
        ],
        files: vec![],
        secrets: ShownSecrets::default(),
        hostname: "bake".to_owned(),
        network: Network::None,
        actions: vec![Action::Start(qemu), Action::call(visiting)],
    };
    let mut seen = Seen::new(dir);
    let mut printed = vec![];
    let ended = session.run(job, context.cancel, &mut |event| match event {
        JobEvent::Service { text, .. } => {
            let line = String::from_utf8_lossy(text).into_owned();
            if !is_as_it_should(&line) {
                printed.push(line);
                log.line_of("qemu", text);
            }
        }
        JobEvent::Progress(count) => {
            seen.show(log);
            progress(count);
        }
        _ => {}
    })?;
    seen.show(log);
    if let Ended::Cancelled = ended {
        return Err(job::Error::Interrupted);
    }
    match replies(ended, "visit the machine")?.into_iter().next() {
        Some(Reply::Visited(visited)) => Ok(of_qemu(visited, &printed)),
        other => Err(trouble("visit the machine", &io::Error::other(format!("{other:?}")))),
    }
}

fn on_host(
    context: &JobContext<'_>,
    dir: &Path,
    argv: Vec<String>,
    visit: &Visit,
    log: &mut Log,
    progress: &mut dyn FnMut(u64),
) -> Result<Visited, job::Error> {
    let output = dir.join("qemu.log");
    let file = File::create(&output).map_err(|e| trouble("make a file", &e))?;
    let also = file.try_clone().map_err(|e| trouble("make a file", &e))?;
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).env("TMPDIR", dir).current_dir("/");
    command.stdin(Stdio::null()).stdout(file).stderr(also);
    let child = command.spawn().map_err(|e| trouble("run QEMU", &e))?;
    let running = Running::new(child);
    let mut seen = Seen::new(dir);
    let mut visited = thread::scope(|scope| {
        let (counted, counts) = std::sync::mpsc::channel();
        let own = dir.to_owned();
        let work = move || {
            visit.carry_out(&own, &mut |count| {
                // Whoever counts outlives the visit.
                let _ = counted.send(count);
            })
        };
        let visiting = threads::scoped(scope, work).map_err(job::no_thread)?;
        while !visiting.is_finished() {
            if let Ok(count) = counts.recv_timeout(Duration::from_millis(200)) {
                seen.show(log);
                progress(count);
            }
            if context.cancel.fired() {
                // The visit ends with the machine.
                running.end();
            }
        }
        counts.try_iter().for_each(&mut *progress);
        Ok::<_, job::Error>(visiting.join().expect("a visit does not panic"))
    })?;
    seen.show(log);
    if let Some(trouble) = &mut visited.trouble
        && let Some(status) = running.gone().filter(|status| !status.success())
    {
        trouble.why.push(format!("QEMU failed: {status}"));
        // QEMU itself gives up where a processor lacks what it wants of it.
        let printed = fs::metadata(dir.join(LOG)).is_ok_and(|log| log.len() > 0);
        trouble.lifeless |= visit.patience.life.is_some() && !printed;
    }
    running.end();
    if context.cancel.fired() {
        return Err(job::Error::Interrupted);
    }
    let printed = fs::read(&output).unwrap_or_default();
    let printed = String::from_utf8_lossy(&printed[..printed.len().min(64 << 10)]).into_owned();
    let printed = printed.lines().filter(|line| !is_as_it_should(line));
    let printed: Vec<String> = printed.map(str::to_owned).collect();
    printed.iter().for_each(|line| log.line_of("qemu", line.as_bytes()));
    Ok(of_qemu(visited, &printed))
}

/// Whether a line of QEMU says nothing but that it waits for the visit.
fn is_as_it_should(line: &str) -> bool {
    line.contains("QEMU waiting for connection on")
}

/// Adds what QEMU printed where the machine did not start, or has ended.
fn of_qemu(mut visited: Visited, printed: &[String]) -> Visited {
    if let Some(trouble) = &mut visited.trouble {
        let last = printed.iter().rev().take(5).rev();
        trouble.tail.extend(last.map(|line| format!("qemu| {line}")));
    }
    visited
}

/// A program that is ended when this is dropped.
pub(super) struct Running(RefCell<Child>);

impl Running {
    pub(super) fn new(child: Child) -> Self {
        Self(RefCell::new(child))
    }

    /// Returns how it has ended, if it has.
    pub(super) fn ended(&self) -> Option<ExitStatus> {
        self.0.borrow_mut().try_wait().ok().flatten()
    }

    /// Returns how it has ended, if it has or is about to.
    fn gone(&self) -> Option<ExitStatus> {
        (0..10).find_map(|_| {
            let ended = self.ended();
            ended.is_none().then(|| thread::sleep(Duration::from_millis(20)));
            ended
        })
    }

    /// Waits until it ends by itself.
    pub(super) fn wait(&self) -> io::Result<ExitStatus> {
        self.0.borrow_mut().wait()
    }

    fn end(&self) {
        let mut child = self.0.borrow_mut();
        // One that has ended needs no ending.
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// The console's file, as far as it was shown.
struct Seen {
    path: PathBuf,
    reader: Option<BufReader<File>>,
}

impl Seen {
    fn new(dir: &Path) -> Self {
        Self { path: dir.join(LOG), reader: None }
    }

    /// Copies lines that have come to the log.
    fn show(&mut self, log: &mut Log) {
        if self.reader.is_none() {
            self.reader = File::open(&self.path).ok().map(BufReader::new);
        }
        let Some(reader) = &mut self.reader else { return };
        let mut line = vec![];
        while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            log.line_of("console", text);
            line.clear();
        }
    }
}

/// Whether the processor may be used.
pub(super) fn kvm() -> bool {
    File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

/// Numbers the ports of a network that nobody else is in; the first thousand are not for QEMU.
fn with_ports_of_its_own(visit: &Visit) -> Visit {
    let mut visit = visit.clone();
    for (number, port) in (20_000..).zip(&mut visit.ports) {
        port.outside = number;
    }
    visit
}

/// Finds ports of the host that nobody listens on.
fn with_free_ports(visit: &Visit) -> io::Result<Visit> {
    let mut visit = visit.clone();
    let mut held = vec![];
    for port in &mut visit.ports {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        port.outside = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(visit)
}

fn trouble(what: &str, error: &io::Error) -> job::Error {
    job::Error::Failed { what: what.to_owned(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::machine::Trouble;

    #[test]
    fn a_machine_that_had_no_time_is_started_again_and_no_other() {
        let visited = |trouble| Visited { up: None, held: vec![], trouble };
        let starved = || Some(Trouble { starved: true, ..Trouble::default() });
        let is_starved = |it: &Visited| it.trouble.as_ref().is_some_and(|trouble| trouble.starved);
        let starts = |troubles: [Option<Trouble>; 4]| {
            let (mut seen, mut troubles) = (vec![], troubles.into_iter());
            let last = with_time(is_starved, |again| {
                seen.push(again);
                Ok::<_, Infallible>(visited(troubles.next().expect("not so often")))
            });
            (seen, last.unwrap_or_else(|never| match never {}).trouble)
        };
        let failed = Some(Trouble { why: vec!["no".to_owned()], ..Trouble::default() });
        assert_eq!(starts([None, None, None, None]), (vec![false], None));
        let (seen, last) = starts([failed.clone(), None, None, None]);
        assert_eq!((seen, last), (vec![false], failed.clone()));
        let (seen, last) = starts([starved(), failed.clone(), None, None]);
        assert_eq!((seen, last), (vec![false, true], failed));
        let (seen, last) = starts([starved(), starved(), starved(), None]);
        assert_eq!((seen, last), (vec![false, true, true], starved()));
    }
}
