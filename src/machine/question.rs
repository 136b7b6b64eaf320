//! The checks of a test as scripts for what answers inside, and what their answers mean.

use std::time::Instant;
use std::{fmt, io};

use super::agent::Agent;
use super::asked::Asked;
use crate::digest::Digest;
use crate::step::Probe;

/// Most lines of a program's output in a report.
const SHOWN: usize = 20;

/// Why a check does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotHeld {
    /// Why, from the outside in.
    pub(super) why: Vec<String>,
    /// What the program printed.
    pub(super) output: Vec<String>,
}

impl NotHeld {
    pub(super) fn because(why: impl Into<String>) -> Self {
        Self { why: vec![why.into()], output: vec![] }
    }
}

/// Asks inside whether a check holds that bake cannot look at from outside.
pub(super) fn inside(agent: &mut Agent, asked: &Asked, until: Instant) -> Result<(), NotHeld> {
    match asked {
        Asked::Run { .. } => run(agent, asked, until),
        Asked::Look(Probe::File { path, mode, owner, contains, sha256 }) => {
            let wanted = (*mode, owner.as_deref(), contains.as_deref(), sha256.as_deref());
            file(agent, path, wanted, until)
        }
        Asked::Look(Probe::Absent { path }) => {
            let found = ask(agent, &format!("test -e {0} || test -L {0}", quoted(path)), until)?;
            if found.0 == 0 { Err(NotHeld::because(format!("{path} is there"))) } else { Ok(()) }
        }
        Asked::Look(_) => Err(NotHeld::because("internal: this is looked at from outside")),
    }
}

fn ask(agent: &mut Agent, script: &str, until: Instant) -> Result<(i32, Vec<u8>), NotHeld> {
    match agent.ask(script, until) {
        Ok(answer) => Ok((answer.status, answer.output)),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            Err(NotHeld::because("the machine did not answer in time"))
        }
        Err(error) => Err(NotHeld::because(format!("the machine does not answer: {error}"))),
    }
}

/// Runs a program as it is asked for.
fn run(agent: &mut Agent, asked: &Asked, until: Instant) -> Result<(), NotHeld> {
    let (status, output) = ask(agent, &script(asked), until)?;
    if status == 0 {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output).into_owned();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let output = lines[lines.len().saturating_sub(SHOWN)..].to_vec();
    let how = match status {
        126 => "it cannot be run (exit status 126)".to_owned(),
        127 => "there is no such program (exit status 127)".to_owned(),
        129..=192 => format!("ended by signal {}", status - 128),
        _ => format!("exit status {status}"),
    };
    Err(NotHeld { why: vec![how], output })
}

/// The script that runs a program as somebody, somewhere, with an environment.
pub(super) fn script(asked: &Asked) -> String {
    let Asked::Run { argv, env, cwd, user, file } = asked else { return String::new() };
    let mut out = String::new();
    if let Some((path, bytes)) = file {
        let path = quoted(path);
        out.push_str(&format!("base64 -d >{path} <<'.'\n{}.\n", base64(bytes)));
        out.push_str(&format!("chmod 0755 {path}\nchmod 0711 /run/bake\n"));
    }
    out.push_str(&format!("cd {} || exit 126\n", quoted(cwd)));
    let (name, group) = user.split_once(':').unwrap_or((user, ""));
    for (key, text) in env {
        // A shell has no variable of another name.
        let fine = |c: char| c == '_' || c.is_ascii_alphanumeric();
        if !key.chars().all(fine) || key.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        match text.as_str() {
            "~" if key == "HOME" => {
                let home = format!("$(getent passwd {} | cut -d: -f6)", quoted(name));
                out.push_str(&format!("HOME={home}\nexport HOME=${{HOME:-/}}\n"));
            }
            text => out.push_str(&format!("export {key}={}\n", quoted(text))),
        }
    }
    let words: Vec<String> = argv.iter().map(|word| quoted(word)).collect();
    let words = words.join(" ");
    if name == "root" && group.is_empty() {
        out.push_str(&format!("exec {words}\n"));
        return out;
    }
    let name = quoted(name);
    let group = match group {
        "" => format!("\"$(id -g {name})\""),
        group => quoted(group),
    };
    let how = "--init-groups --inh-caps=-all --no-new-privs";
    out.push_str(&format!("exec setpriv --reuid={name} --regid={group} {how} {words}\n"));
    out
}

/// Mode, owner, part of the content and sha256 that a file must have.
type Wanted<'a> = (Option<u32>, Option<&'a str>, Option<&'a str>, Option<&'a str>);

fn file(
    agent: &mut Agent,
    path: &str,
    (mode, owner, contains, sha256): Wanted<'_>,
    until: Instant,
) -> Result<(), NotHeld> {
    let at = quoted(path);
    let (status, output) = ask(agent, &format!("stat -L -c '%a %u %g' -- {at}"), until)?;
    if status != 0 {
        return Err(NotHeld::because(format!("{path} is not there")));
    }
    let text = String::from_utf8_lossy(&output).into_owned();
    let found: Vec<&str> = text.split_whitespace().collect();
    let [bits, uid, gid] = found[..] else {
        return Err(NotHeld::because(format!("the machine says {text:?} of {path}")));
    };
    let bits = u32::from_str_radix(bits, 8).unwrap_or(u32::MAX);
    let mut wrong = vec![];
    if let Some(mode) = mode.filter(|mode| *mode != bits) {
        wrong.push(format!("{path} has mode {bits:04o} instead of {mode:04o}"));
    }
    if let Some(owner) = owner {
        let (name, group) = owner.split_once(':').unwrap_or((owner, ""));
        let number = |table: &str, name: &str| match name.parse::<u32>() {
            Ok(id) => format!("echo {id}\n"),
            Err(_) => format!("getent {table} {} | cut -d: -f3\n", quoted(name)),
        };
        let script = format!("{}{}", number("passwd", name), number("group", group));
        let ids = ask(agent, &script, until)?.1;
        let ids = String::from_utf8_lossy(&ids).into_owned();
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if ids != [uid, gid] {
            wrong.push(format!("{path} belongs to {uid}:{gid} instead of {owner}"));
        }
    }
    if contains.is_some() || sha256.is_some() {
        let (status, bytes) = ask(agent, &format!("cat -- {at}"), until)?;
        if status != 0 {
            return Err(NotHeld::because(format!("{path} cannot be read")));
        }
        let holds = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
        if let Some(text) = contains.filter(|text| !holds(text.as_bytes())) {
            wrong.push(format!("{path} does not contain {text:?}"));
        }
        let digest = Digest::of(&bytes);
        if let Some(sha256) = sha256.filter(|sha256| *sha256 != digest.hex()) {
            wrong.push(format!("{path} has the sha256 {} instead of {sha256}", digest.hex()));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(NotHeld { why: wrong, output: vec![] }) }
}

/// A word of the shell that means itself.
pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// RFC 4648, in lines.
fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    let mut out = String::with_capacity(text.len() + text.len() / 76 + 1);
    for line in text.as_bytes().chunks(76) {
        out.extend(line.iter().map(|byte| char::from(*byte)));
        out.push('\n');
    }
    out
}

impl fmt::Display for NotHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why.join(": "))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::process::Command;

    use super::*;

    fn asked(argv: &[&str], file: Option<(String, Vec<u8>)>) -> Asked {
        Asked::Run {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            env: BTreeMap::from([
                ("A".to_owned(), "it's $HOME\nand more".to_owned()),
                ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
                ("not-a-name".to_owned(), "x".to_owned()),
            ]),
            cwd: "/tmp".to_owned(),
            user: "root".to_owned(),
            file,
        }
    }

    #[test]
    fn words_reach_the_program_as_they_are() {
        let asked =
            asked(&["sh", "-c", "printf '%s|%s|%s' \"$A\" \"$1\" \"$PWD\"", "-", "a 'b"], None);
        let out = Command::new("sh").args(["-c", &script(&asked)]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "it's $HOME\nand more|a 'b|/tmp");
    }

    #[test]
    fn a_file_is_brought_along_byte_by_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it's").display().to_string();
        let bytes: Vec<u8> = (0..=255).collect();
        let asked = asked(&["cat", &path], Some((path.clone(), bytes.clone())));
        let script = script(&asked).replace("chmod 0711 /run/bake", "true");
        let out = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(out.stdout, bytes);
    }
}
