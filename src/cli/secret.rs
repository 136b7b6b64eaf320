//! `--secret NAME=SOURCE`: the values of secrets, read from where the person keeps them. No message
//! shows one, nor what stands where a source should: that may be one.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::args::recipe::SecretArgs;
use super::edge;
use crate::recipe;
use crate::sandbox;
use crate::secret::{MAX, Secrets, Value};
use crate::ui::report::Report;

/// Where a value is.
enum Source<'a> {
    Variable(&'a str),
    File(&'a str),
    Command(&'a str),
}

/// Returns the secrets that the arguments give.
pub(super) fn secrets(args: &SecretArgs) -> Result<Secrets, Report> {
    let agent = agent(args)?;
    if args.secrets.is_empty() {
        return Ok(Secrets::default().with_agent(agent));
    }
    // What is read from here on is in memory, of this process and those that it starts.
    sandbox::without_core_dumps().map_err(|error| {
        edge::usage(format!("cannot switch off core dumps: {error}"), "see `ulimit -c`")
    })?;
    let mut found: Vec<(String, Value)> = vec![];
    for arg in &args.secrets {
        let (name, source) = parse(arg)?;
        if found.iter().any(|(other, _)| other == name) {
            let message = format!("the secret `{name}` is given twice");
            return Err(edge::usage(message, "leave one of them out"));
        }
        let bytes = read(name, &source)?;
        let value = Value::new(bytes).map_err(|error| {
            let message = format!("cannot use the secret `{name}`: {error}");
            edge::usage(message, format!("look at {}", called(&source)))
        })?;
        found.push((name.to_owned(), value));
    }
    Ok(found.into_iter().collect::<Secrets>().with_agent(agent))
}

/// Returns the socket of the SSH agent that the arguments give.
fn agent(args: &SecretArgs) -> Result<Option<PathBuf>, Report> {
    match &args.ssh {
        None => Ok(None),
        Some(Some(socket)) => Ok(Some(socket.clone())),
        Some(None) => match std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()) {
            Some(socket) => Ok(Some(socket.into())),
            None => Err(edge::usage(
                "there is no SSH agent: SSH_AUTH_SOCK is not set",
                "eval \"$(ssh-agent)\" && ssh-add starts one, --ssh=SOCKET names one",
            )),
        },
    }
}

fn parse(arg: &str) -> Result<(&str, Source<'_>), Report> {
    let how = "sources are env:VARIABLE, file:PATH and cmd:COMMAND";
    let Some((name, source)) = arg.split_once('=') else {
        return Err(edge::usage("--secret is not of the form NAME=SOURCE", how));
    };
    if !recipe::is_secret_name(name) {
        let hint = "it is the name in the recipe: letters, digits, `_`, `.` and `-`";
        return Err(edge::usage("--secret has no name of a secret before its `=`", hint));
    }
    let source = match source.split_once(':') {
        Some(("env", variable)) if !variable.is_empty() => Source::Variable(variable),
        Some(("file", path)) if !path.is_empty() => Source::File(path),
        Some(("cmd", command)) if !command.is_empty() => Source::Command(command),
        _ => {
            let message = "--secret does not say where the value is";
            let hint = format!("{how}; a value is none of them, as everybody sees arguments");
            return Err(edge::usage(message, hint));
        }
    };
    Ok((name, source))
}

fn called(source: &Source<'_>) -> String {
    match source {
        Source::Variable(variable) => format!("the variable {variable}"),
        Source::File(path) => format!("the file {path}"),
        Source::Command(_) => "what the command prints".to_owned(),
    }
}

fn read(name: &str, source: &Source<'_>) -> Result<Vec<u8>, Report> {
    let failed = |why: String, hint: &str| {
        let message = format!("cannot read the secret `{name}`: {why}");
        edge::usage(message, hint)
    };
    match source {
        Source::Variable(variable) => match std::env::var_os(variable) {
            Some(value) => Ok(value.into_vec()),
            None => Err(failed(
                format!("there is no variable {variable}"),
                "set it and export it; `env:` takes its name, without `$`",
            )),
        },
        Source::File(path) => File::open(path).and_then(|file| all(&file)).map_err(|error| {
            failed(format!("{path}: {error}"), "the path is relative to the current directory")
        }),
        Source::Command(command) => {
            let hint = "the command is run by /bin/sh; run it by hand to see why";
            output(command).map_err(|why| failed(why, hint))
        }
    }
}

/// Reads to the end, or one byte more than a secret may have.
fn all(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    from.take(MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Runs a command and returns what it prints, without the line end. What it asks and complains of
/// goes to the person.
fn output(command: &str) -> Result<Vec<u8>, String> {
    let started =
        Command::new("/bin/sh").arg("-c").arg(OsStr::new(command)).stdout(Stdio::piped()).spawn();
    let mut child = started.map_err(|error| format!("cannot start /bin/sh: {error}"))?;
    let got = child.stdout.take().map_or(Ok(vec![]), all);
    // It ends: its output is read to the end, or closed.
    let status = child.wait().map_err(|error| format!("cannot wait for its command: {error}"))?;
    let mut bytes = got.map_err(|error| format!("cannot read from its command: {error}"))?;
    if bytes.len() <= MAX {
        match (status.code(), status.signal()) {
            (Some(0), _) => {}
            (Some(code), _) => return Err(format!("its command ended with exit code {code}")),
            (None, signal) => {
                return Err(format!("its command was ended by signal {}", signal.unwrap_or(0)));
            }
        }
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Ok(bytes)
}
