//! A machine under test, from its start to its end: is it up, do the checks hold, does it end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::agent::Agent;
use super::asked::{Asked, Check};
use super::button::Button;
use super::console::{Reader, Sign};
use super::hardware::{CONSOLE, MONITOR, PORT, Port};
use super::question::{self, NotHeld, quoted};
use super::refused;
use crate::apply::probe;
use crate::step::Probe;

/// In the directory of a machine: what it printed.
pub const LOG: &str = "console.log";

/// How long QEMU may take to open its sockets.
const STARTED: Duration = Duration::from_secs(30);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// How long one small question may take.
const QUESTION: Duration = Duration::from_secs(30);

/// Lines of the journal of a unit that failed, in the report.
const JOURNAL: usize = 15;

/// Last lines of it that are read for what was refused.
const READ: usize = 500;

/// How long is waited for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patience {
    /// For the first byte on the console; as long as for the machine, where there is none.
    pub life: Option<Duration>,
    /// For the machine to be up.
    pub up: Duration,
    /// For its end; at least as long as it took to be up.
    pub off: Duration,
}

/// A test of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// What is asked, one after the other.
    pub checks: Vec<Check>,
    /// Units that may fail.
    pub may_fail: BTreeSet<String>,
    /// Ports that lead inside.
    pub ports: Vec<Port>,
    /// How long is waited.
    pub patience: Patience,
}

/// Why a test of a machine failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Why, from the outside in.
    pub why: Vec<String>,
    /// The lines that show it: a unit's journal, what a program printed, the console.
    pub tail: Vec<String>,
    /// What to do about it, where that is known.
    pub hints: Vec<String>,
    /// It showed no life at all, though it had a time for that.
    pub lifeless: bool,
    /// The host had no time for the machine's clock: that says nothing about the image.
    pub starved: bool,
}

/// Whether the kernel panicked for want of ticks. It waits for some in a loop and gives up where
/// none has come meanwhile, as under an emulator that is not scheduled (`check_timer` in Linux's
/// arch/x86/kernel/apic/io_apic.c).
#[must_use]
pub fn for_want_of_ticks(printed: &str) -> bool {
    printed.contains("IO-APIC + timer doesn't work")
}

/// What a visit gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visited {
    /// From the start until the machine was up.
    pub up: Option<Duration>,
    /// How long each check took that held.
    pub held: Vec<Duration>,
    /// What went wrong, in the check behind those that held.
    pub trouble: Option<Trouble>,
}

impl Visit {
    /// Visits the machine whose sockets are, or soon will be, in `dir`. Reports with `progress` how
    /// many checks have held so far, once it is up.
    pub fn carry_out(&self, dir: &Path, progress: &mut dyn FnMut(u64)) -> Visited {
        let mut visited = Visited { up: None, held: vec![], trouble: None };
        let trouble = self.try_out(dir, progress, &mut visited).err();
        Visited { trouble, ..visited }
    }

    fn try_out(
        &self,
        dir: &Path,
        progress: &mut dyn FnMut(u64),
        visited: &mut Visited,
    ) -> Result<(), Trouble> {
        let begun = Instant::now();
        let no_sockets = |error: io::Error| Trouble {
            why: vec!["QEMU did not start".to_owned(), error.to_string()],
            lifeless: self.patience.life.is_some(),
            ..Trouble::default()
        };
        let mut guest = Guest::meet(dir).map_err(no_sockets)?;
        guest.comes_up(self, begun)?;
        let up = begun.elapsed();
        visited.up = Some(up);
        progress(0);
        for check in &self.checks {
            let begun = Instant::now();
            for (what, asked) in &check.asked {
                guest.holds(self, what, asked, begun + check.within)?;
            }
            visited.held.push(begun.elapsed());
            progress(visited.held.len() as u64);
        }
        guest.state(self)?;
        // Where the start took its time, on a busy host, the end may as well.
        guest.goes_down(self.patience.off.max(up))
    }

    /// How a port inside is reached.
    fn through(&self) -> BTreeMap<u16, u16> {
        self.ports.iter().map(|port| (port.inside, port.outside)).collect()
    }
}

/// A machine that runs.
struct Guest {
    console: Reader,
    button: Button,
    agent: Agent,
    /// Whether anybody answers inside, as far as is known.
    answers: Option<bool>,
    /// Units that the console says have failed.
    failed: Vec<String>,
    /// A unit that the end waits for.
    stopping: Option<String>,
}

impl Guest {
    fn meet(dir: &Path) -> io::Result<Self> {
        let until = Instant::now() + STARTED;
        let connect = |name: &str| loop {
            match UnixStream::connect(dir.join(name)) {
                Ok(stream) => return Ok(stream),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        // The console last: QEMU waits for it.
        let (button, port) = (Button::new(connect(MONITOR)?), connect(PORT)?);
        let console = Reader::start(connect(CONSOLE)?, &dir.join(LOG))?;
        let over = console.clone();
        let agent = Agent::new(port, move || over.over())?;
        Ok(Self { console, button, agent, answers: None, failed: vec![], stopping: None })
    }

    /// Fails where the console shows that nothing will come of it.
    fn look(&mut self) -> Result<(), Trouble> {
        if !self.has_ended()? {
            return Ok(());
        }
        let mut trouble = self.trouble(vec!["the machine ended by itself".to_owned()]);
        // Linux says so, however it ends (kernel/reboot.c).
        if !trouble.tail.iter().any(|line| line.contains("reboot: ")) {
            let killed = "nothing on its console announced that: QEMU may have been killed";
            trouble.why.push(killed.to_owned());
        }
        Err(trouble)
    }

    /// Fails as [`Self::look`] does, once the console has had the time to end as well.
    fn look_at_the_end(&mut self) -> Result<(), Trouble> {
        let until = Instant::now() + PAUSE * 10;
        while !self.console.ended() && Instant::now() < until {
            thread::sleep(PAUSE / 10);
        }
        self.look()
    }

    /// Whether the machine has ended; fails where it did not end well, or will not.
    fn has_ended(&mut self) -> Result<bool, Trouble> {
        // Asked first: what it printed before is all there then.
        let ended = self.console.ended();
        for sign in self.console.signs() {
            match sign {
                Sign::Fatal(why) => {
                    // What follows explains it.
                    thread::sleep(PAUSE);
                    let starved = for_want_of_ticks(&why);
                    return Err(Trouble { starved, ..self.trouble(vec![why]) });
                }
                Sign::Failed(unit) => self.failed.push(unit),
                Sign::Stopping(unit) => self.stopping = Some(unit),
                Sign::NoAgent => self.answers = Some(false),
            }
        }
        Ok(ended)
    }

    fn trouble(&self, why: Vec<String>) -> Trouble {
        let tail = self.console.tail().into_iter().map(|line| format!("console| {line}"));
        Trouble { why, tail: tail.collect(), ..Trouble::default() }
    }

    /// Waits until everything that is to start has started.
    fn comes_up(&mut self, visit: &Visit, begun: Instant) -> Result<(), Trouble> {
        let Patience { life, up, .. } = visit.patience;
        loop {
            // A processor that cannot may end QEMU at once as well.
            let lifeless = |guest: &Self| life.is_some() && !guest.console.alive();
            self.look().map_err(|trouble| Trouble { lifeless: lifeless(self), ..trouble })?;
            if life.is_some_and(|life| begun.elapsed() > life) && !self.console.alive() {
                let why = vec!["the machine shows no life".to_owned()];
                return Err(Trouble { lifeless: true, ..self.trouble(why) });
            }
            if self.answers == Some(false) {
                return Ok(());
            }
            // What the console says of an end is reported by the next look.
            if self.agent.is_there().unwrap_or(false) {
                self.answers = Some(true);
                if self.state(visit)? {
                    return Ok(());
                }
            }
            if begun.elapsed() > up {
                return Err(self.not_up(up));
            }
            thread::sleep(PAUSE);
        }
    }

    fn not_up(&mut self, up: Duration) -> Trouble {
        let mut why = vec![format!("the machine was not up within {} s", up.as_secs())];
        if self.answers == Some(true) {
            let jobs = self.jobs("start");
            if !jobs.is_empty() {
                why.push(format!("it still starts {}", jobs.join(", ")));
            }
        } else if !self.console.alive() {
            why.push("it has printed nothing: is `console=ttyS0` in `cmdline`?".to_owned());
        }
        self.trouble(why)
    }

    /// Whether the machine is up; fails where a unit has failed that may not.
    fn state(&mut self, visit: &Visit) -> Result<bool, Trouble> {
        if self.answers != Some(true) {
            return match self.failed.first() {
                Some(unit) => Err(self.trouble(vec![format!("failed to start: {unit}")])),
                None => Ok(true),
            };
        }
        let script = "systemctl is-system-running\n\
            systemctl list-units --failed --plain --no-legend --no-pager\n";
        let answer = match self.agent.ask(script, Instant::now() + QUESTION) {
            Ok(answer) => answer.text(),
            Err(error) => {
                match error.kind() {
                    io::ErrorKind::TimedOut => self.look()?,
                    _ => self.look_at_the_end()?,
                }
                return Err(self.trouble(vec!["the machine does not answer any more".to_owned()]));
            }
        };
        let mut lines = answer.lines();
        let state = lines.next().unwrap_or_default().trim();
        let failed = failed_units(lines);
        let bad: Vec<&str> =
            failed.into_iter().filter(|unit| !visit.may_fail.contains(*unit)).collect();
        if bad.is_empty() {
            return Ok(matches!(state, "running" | "degraded"));
        }
        let why = match bad[..] {
            [one] => format!("{one} failed"),
            _ => format!("{} units failed: {}", bad.len(), bad.join(", ")),
        };
        let (mut why, mut tail, mut hints) = (vec![why], vec![], vec![]);
        for unit in bad.iter().take(5) {
            let script = format!("journalctl -b -n {READ} --no-pager -o cat -u {}", quoted(unit));
            let journal = self.agent.ask(&script, Instant::now() + QUESTION);
            let journal = journal.map(|answer| answer.text()).unwrap_or_default();
            let lines: Vec<&str> = journal.lines().collect();
            let refused: BTreeSet<String> =
                lines.iter().filter_map(|line| refused::path(line)).collect();
            if !refused.is_empty() {
                let paths = refused.into_iter().take(5).collect::<Vec<_>>().join(", ");
                why.push(format!("{unit} could not write to {paths}: the root is read-only"));
                hints = vec![refused::HINT.to_owned()];
            }
            let last = &lines[lines.len().saturating_sub(JOURNAL)..];
            tail.extend(last.iter().map(|line| format!("{unit}| {line}")));
        }
        Err(Trouble { why, tail, hints, ..Trouble::default() })
    }

    /// Asks until it holds, or the time is up.
    fn holds(
        &mut self,
        visit: &Visit,
        what: &str,
        asked: &Asked,
        until: Instant,
    ) -> Result<(), Trouble> {
        let outside = matches!(asked, Asked::Look(Probe::Http { .. } | Probe::Tcp { .. }));
        loop {
            self.look()?;
            let held = match asked {
                Asked::Look(looked) if outside => {
                    probe::look_through(looked, &visit.through()).map_err(NotHeld::because)
                }
                _ if self.answers == Some(true) => {
                    let until = until.max(Instant::now() + PAUSE);
                    question::inside(&mut self.agent, asked, until)
                }
                _ => Err(NotHeld::because("nobody answers inside: the image has no systemd")),
            };
            let Err(not) = held else { return Ok(()) };
            if Instant::now() >= until || self.answers != Some(true) && !outside {
                self.look()?;
                let mut why = vec![format!("it does not hold that {what}")];
                why.extend(not.why);
                let output = not.output.into_iter().map(|line| format!("check| {line}"));
                let mut trouble = self.trouble(why);
                if !outside {
                    trouble.tail = output.collect();
                }
                return Err(trouble);
            }
            self.state(visit)?;
            thread::sleep(PAUSE);
        }
    }

    /// Ends the machine as a person would.
    fn goes_down(&mut self, within: Duration) -> Result<(), Trouble> {
        let asked = self.answers == Some(true)
            && self.agent.ask("systemctl poweroff --no-block", Instant::now() + QUESTION).is_ok();
        if !asked {
            // Whoever cannot be reached any more has ended.
            let _ = self.button.press();
        }
        let (until, mut ask) = (Instant::now() + within, Instant::now() + PAUSE * 10);
        loop {
            if self.has_ended()? {
                return Ok(());
            }
            if Instant::now() >= until {
                break;
            }
            if Instant::now() >= ask && self.answers == Some(true) {
                if let Some(unit) = self.jobs("stop").into_iter().next() {
                    self.stopping = Some(unit);
                }
                ask = Instant::now() + PAUSE * 10;
            }
            thread::sleep(PAUSE);
        }
        let mut why = vec![format!("the machine did not end within {} s", within.as_secs())];
        why.extend(self.stopping.iter().map(|unit| format!("{unit} does not stop")));
        Err(self.trouble(why))
    }

    /// Returns the units whose jobs of this kind run.
    fn jobs(&mut self, kind: &str) -> Vec<String> {
        let script = "systemctl list-jobs --plain --no-legend --no-pager";
        let answer = self.agent.ask(script, Instant::now() + QUESTION / 6);
        let answer = answer.map(|answer| answer.text()).unwrap_or_default();
        running_jobs(&answer, kind)
    }
}

/// Reads `systemctl list-units --plain --no-legend`: the first word of each line.
fn failed_units<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let unit = |line: &'a str| {
        let mut words = line.split_whitespace();
        let (unit, _load, active) = (words.next()?, words.next()?, words.next()?);
        (active == "failed").then_some(unit)
    };
    lines.filter_map(unit).collect()
}

/// Reads `systemctl list-jobs --plain --no-legend`: number, unit, kind, state.
fn running_jobs(text: &str, kind: &str) -> Vec<String> {
    let unit = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, unit, of, "running"] if of == kind => Some(unit.to_owned()),
            _ => None,
        }
    };
    text.lines().filter_map(unit).collect()
}

/// Asks a machine through a port of this host, once: `url` is one of http, with an address of this
/// host. What it answers must be 200, and whole.
///
/// # Errors
/// Why that is not so.
pub fn answers(url: &str) -> Result<(), String> {
    probe::look(&Probe::Http { url: url.to_owned(), status: 200, contains: None })
}

/// Makes the files of a machine's directory that are there before it starts.
///
/// # Errors
/// Where they cannot be written.
pub fn furnish(dir: &Path) -> io::Result<()> {
    use super::agent::{AGENT, UNIT};
    use super::hardware::{AGENT_FILE, UNIT_FILE};
    for (name, text) in [(AGENT_FILE, AGENT), (UNIT_FILE, UNIT)] {
        File::create(dir.join(name))?.write_all(text.as_bytes())?;
    }
    Ok(())
}
