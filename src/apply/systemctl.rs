//! What stands in for `systemctl` in a step that runs a configuration management tool: units are
//! enabled, disabled and masked by the links that systemctl makes, and what is to be started is
//! noted, since no service runs while an image is made.
//!
//! ```text
//! a program ─► systemctl (a script) ─► ask ─► here, until the job ends ─► answer ─► the script
//! ask:    ask PID RUN · a line .WORD for each argument · end
//! answer: begin PID · lines .TEXT for standard output, !TEXT for standard error · end CODE
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::error::Error;
use super::root::Root;
use super::service;
use super::standing::{self, Standing};
use crate::sandbox;
use crate::step::ServiceState;

/// Where they see the name of the first process.
const FIRST: &str = "/proc/1/comm";
/// Longest question, in lines.
const MOST_WORDS: usize = 4096;

/// Makes what the stand-in needs in `directory`, which is mounted there, and has programs see the
/// service manager that the image will have.
pub(super) fn prepare(directory: &Path, notes: &Path) -> Result<(), Error> {
    for name in ["ask", "answer"] {
        let path = directory.join(name);
        // Programs of another user manage no services.
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .map_err(|error| Error::system("make the pipe", &path)(error.into()))?;
    }
    fs::write(notes, "").map_err(Error::system("write", notes))?;
    let comm = directory.join("comm");
    fs::write(&comm, "systemd\n").map_err(Error::system("write", &comm))?;
    sandbox::cover(&comm, Path::new(FIRST)).map_err(Error::system("cover", FIRST))
}

/// Answers until the job ends.
pub(super) fn serve(root: &Root, directory: &Path, notes: &Path) -> Result<(), Error> {
    let open = |name: &str| -> Result<File, Error> {
        let path = directory.join(name);
        // Open for both, so that neither side waits for the other and a program that dies in
        // between ends nothing.
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let pipe = rustix::fs::openat(CWD, &path, flags, Mode::empty());
        pipe.map(File::from).map_err(|error| Error::system("open", &path)(error.into()))
    };
    let (ask, mut answer) = (BufReader::new(open("ask")?), open("answer")?);
    let mut started = BTreeSet::new();
    let mut question: Option<Question> = None;
    for line in ask.lines() {
        let line = line.map_err(Error::system("read", directory))?;
        if let Some(rest) = line.strip_prefix("ask ") {
            question = Question::begun(rest);
        } else if let (Some(word), Some(question)) = (line.strip_prefix('.'), &mut question) {
            if question.words.len() < MOST_WORDS {
                question.words.push(word.to_owned());
            }
        } else if let ("end", Some(question)) = (line.as_str(), question.take()) {
            let reply = answered(root, &question, &mut started);
            for note in &reply.notes {
                let mut file = File::options()
                    .append(true)
                    .open(notes)
                    .map_err(Error::system("write", notes))?;
                writeln!(file, "{note}").map_err(Error::system("write", notes))?;
            }
            answer
                .write_all(reply.text(&question.asker).as_bytes())
                .map_err(Error::system("answer in", directory))?;
        }
    }
    Ok(())
}

/// What a program asks.
struct Question {
    /// Its process.
    asker: String,
    /// The tool runs a second time: what the first run started counts as started.
    again: bool,
    words: Vec<String>,
}

impl Question {
    fn begun(text: &str) -> Option<Self> {
        let (asker, run) = text.split_once(' ')?;
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let good = number(asker) && number(run);
        good.then(|| Self { asker: asker.to_owned(), again: run != "1", words: vec![] })
    }
}

/// What is answered.
#[derive(Default)]
struct Answer {
    out: Vec<String>,
    err: Vec<String>,
    code: u8,
    /// For people, when the step is over.
    notes: Vec<String>,
}

impl Answer {
    fn text(&self, asker: &str) -> String {
        let mut text = format!("begin {asker}\n");
        let lines = |lines: &[String]| -> Vec<String> {
            lines.iter().flat_map(|one| one.lines().map(str::to_owned)).collect()
        };
        lines(&self.out).iter().for_each(|line| text += &format!(".{line}\n"));
        lines(&self.err).iter().for_each(|line| text += &format!("!{line}\n"));
        text + &format!("end {}\n", self.code)
    }

    fn failed(&mut self, why: String, code: u8) {
        self.err.push(why);
        self.code = code;
    }
}

/// A command line, as systemctl(1) reads it.
struct Asked<'q> {
    verb: &'q str,
    units: Vec<&'q str>,
    properties: Vec<&'q str>,
    value: bool,
    now: bool,
}

impl<'q> Asked<'q> {
    fn of(words: &'q [String]) -> Self {
        let mut asked =
            Self { verb: "", units: vec![], properties: vec![], value: false, now: false };
        let mut words = words.iter().map(String::as_str);
        let mut plain = false;
        while let Some(word) = words.next() {
            match word {
                "--" => plain = true,
                "--value" if !plain => asked.value = true,
                "--now" if !plain => asked.now = true,
                "-p" | "-P" | "--property" if !plain => {
                    asked.value |= word == "-P";
                    asked.properties.extend(words.next().unwrap_or_default().split(','));
                }
                // Options whose value is the next word.
                "-t" | "--type" | "--state" | "-n" | "--lines" | "-o" | "--output" | "--root"
                | "-H" | "--host" | "-M" | "--machine" | "-s" | "--signal" | "--job-mode"
                    if !plain =>
                {
                    words.next();
                }
                option if !plain && option.starts_with('-') => {
                    if let Some(names) = option.strip_prefix("--property=") {
                        asked.properties.extend(names.split(','));
                    } else if let Some(names) =
                        option.strip_prefix("-p").filter(|_| !option.starts_with("--"))
                    {
                        asked.properties.extend(names.split(','));
                    }
                }
                verb if asked.verb.is_empty() => asked.verb = verb,
                unit => asked.units.push(unit),
            }
        }
        asked
    }
}

fn answered(root: &Root, question: &Question, started: &mut BTreeSet<String>) -> Answer {
    let mut reply = Answer::default();
    if question.words.iter().any(|word| word == "--version") {
        reply.out.push("systemd 257 (what stands in for it while an image is made)".to_owned());
        return reply;
    }
    let asked = Asked::of(&question.words);
    let again = question.again;
    match asked.verb {
        "enable" | "reenable" | "preset" => set(root, &asked, ServiceState::Enabled, &mut reply),
        "disable" => set(root, &asked, ServiceState::Disabled, &mut reply),
        "mask" => set(root, &asked, ServiceState::Masked, &mut reply),
        "unmask" => {
            for unit in &asked.units {
                if let Err(error) = standing::unmask_named(root, unit) {
                    reply.failed(error.text(), 1);
                }
            }
        }
        "start"
        | "stop"
        | "restart"
        | "reload"
        | "try-restart"
        | "condrestart"
        | "reload-or-restart"
        | "try-reload-or-restart"
        | "force-reload"
        | "kill"
        | "isolate" => {
            change(root, asked.verb, &asked.units, started, &mut reply);
        }
        "is-active" | "is-failed" => {
            for unit in &asked.units {
                let active = again && started.contains(&standing::full_name(unit));
                let active = active && asked.verb == "is-active";
                reply.out.push(if active { "active" } else { "inactive" }.to_owned());
                reply.code = match (active, asked.verb) {
                    (true, _) => reply.code,
                    (false, "is-active") => 3,
                    (false, _) => 1,
                };
            }
        }
        "is-enabled" => {
            for unit in &asked.units {
                let standing = standing::standing(root, unit);
                reply.out.push(word(&standing).to_owned());
                reply.code = match standing {
                    Ok(Standing::Enabled | Standing::Static) => reply.code,
                    Ok(Standing::Missing) => 4,
                    _ => 1,
                };
            }
        }
        "is-system-running" => {
            reply.out.push("offline".to_owned());
            reply.code = 1;
        }
        "show" => show(root, &asked, (again, started), &mut reply),
        "status" => {
            for unit in &asked.units {
                reply
                    .out
                    .push(format!("{unit}: inactive (no service runs while an image is made)"));
            }
            reply.code = 3;
        }
        "cat" => {
            for unit in &asked.units {
                match standing::text(root, unit) {
                    Ok(Some((file, text))) => {
                        reply.out.push(format!("# {}\n{text}", file.display()))
                    }
                    Ok(None) => reply.failed(format!("No files found for {unit}."), 1),
                    Err(error) => reply.failed(error.text(), 1),
                }
            }
        }
        "list-unit-files" => {
            for (unit, standing) in standing::all(root).unwrap_or_default() {
                let wanted = asked.units.is_empty() || asked.units.contains(&unit.as_str());
                if wanted {
                    reply.out.push(format!("{unit} {} -", word(&Ok(standing))));
                }
            }
        }
        "get-default" => reply.out.push("multi-user.target".to_owned()),
        // The rest changes nothing of a root.
        _ => {}
    }
    if asked.now && matches!(asked.verb, "enable" | "reenable") && reply.code == 0 {
        change(root, "start", &asked.units, started, &mut reply);
    }
    reply
}

fn set(root: &Root, asked: &Asked<'_>, state: ServiceState, reply: &mut Answer) {
    for unit in &asked.units {
        if let Err(error) = service::set(root, &[(*unit).to_owned()], state) {
            reply.failed(format!("Failed to {} unit: {}", asked.verb, error.text()), 1);
        }
    }
}

/// Notes what is to be done to units that run.
fn change(
    root: &Root,
    verb: &str,
    units: &[&str],
    started: &mut BTreeSet<String>,
    reply: &mut Answer,
) {
    for unit in units {
        let name = standing::full_name(unit);
        if matches!(standing::standing(root, unit), Ok(Standing::Missing)) {
            reply.failed(format!("Failed to {verb} {name}: Unit {name} not found."), 5);
            continue;
        }
        match verb {
            "stop" | "kill" => drop(started.remove(&name)),
            _ => drop(started.insert(name)),
        }
        reply.notes.push(format!("{verb} {}", unit.trim_end_matches(".service")));
    }
}

fn show(
    root: &Root,
    asked: &Asked<'_>,
    (again, started): (bool, &BTreeSet<String>),
    reply: &mut Answer,
) {
    for unit in &asked.units {
        let (name, standing) = (standing::full_name(unit), standing::standing(root, unit));
        let active = again && started.contains(&name);
        let load = match standing {
            Ok(Standing::Missing) | Err(_) => "not-found",
            Ok(Standing::Masked) => "masked",
            Ok(_) => "loaded",
        };
        let file = standing::text(root, unit).ok().flatten();
        let path = file.map(|(file, _)| file.display().to_string()).unwrap_or_default();
        let (state, sub) = if active { ("active", "running") } else { ("inactive", "dead") };
        let unit_file = if load == "not-found" { "" } else { word(&standing) };
        let all = [
            ("Id", name.as_str()),
            ("Names", name.as_str()),
            ("LoadState", load),
            ("ActiveState", state),
            ("SubState", sub),
            ("FragmentPath", path.as_str()),
            ("UnitFileState", unit_file),
            ("UnitFilePreset", "enabled"),
            ("NeedDaemonReload", "no"),
        ];
        for (key, value) in all {
            if asked.properties.is_empty() || asked.properties.contains(&key) {
                reply.out.push(match asked.value {
                    true => value.to_owned(),
                    false => format!("{key}={value}"),
                });
            }
        }
    }
}

fn word(standing: &Result<Standing, Error>) -> &'static str {
    match standing {
        Ok(Standing::Enabled) => "enabled",
        Ok(Standing::Disabled) => "disabled",
        Ok(Standing::Masked) => "masked",
        Ok(Standing::Static) => "static",
        Ok(Standing::Missing) | Err(_) => "not-found",
    }
}
