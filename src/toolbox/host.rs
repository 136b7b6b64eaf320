//! The host's own programs (`--tools host`): for hosts that have them anyway, and where nothing can
//! be baked. Their versions are looked at, and what they make is named by these.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use super::tail;
use crate::digest::Digest;
use crate::output::{self, Feed, Program, Tools};

/// A program, how it is asked for its version, and the first that can do what is asked of it.
struct Known {
    name: &'static str,
    ask: &'static str,
    least: (u32, u32, u32),
    package: &'static str,
}

const PROGRAMS: [Known; 3] = [
    Known {
        name: "qemu-system-x86_64",
        ask: "-version",
        least: (7, 0, 0),
        package: "qemu-system-x86",
    },
    Known { name: "mkfs.erofs", ask: "--version", least: (1, 8, 0), package: "erofs-utils" },
    Known { name: "sqfstar", ask: "-version", least: (4, 6, 0), package: "squashfs-tools" },
];

/// The programs of the host.
#[derive(Debug)]
pub struct HostTools {
    versions: String,
}

impl HostTools {
    /// Finds out what the host has of `programs`.
    ///
    /// # Errors
    /// [`output::Error::Tools`] where one is missing or too old.
    pub fn find(programs: &[&str]) -> Result<Self, output::Error> {
        let mut versions = String::new();
        for Known { name, ask, least, package } in
            PROGRAMS.iter().filter(|one| programs.contains(&one.name))
        {
            let wrong = |why: String| {
                let least = format!("{}.{}.{}", least.0, least.1, least.2);
                let need = format!(
                    "{package} {least} or newer has it; without `--tools host` bake \
                    brings its own"
                );
                output::Error::Tools { why: vec![why, need] }
            };
            let asked = command(name).arg(ask).stdin(Stdio::null()).output();
            let asked = asked.map_err(|e| wrong(format!("cannot run {name}: {e}")))?;
            let text = [asked.stdout, asked.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            let Some(found) = version(&text) else {
                return Err(wrong(format!("cannot find out the version of {name}")));
            };
            if found < *least {
                let (a, b, c) = found;
                return Err(wrong(format!("the host's {name} is {a}.{b}.{c}")));
            }
            let line = text.lines().next().unwrap_or_default();
            versions.push_str(&format!("{name} {line}\n"));
        }
        Ok(Self { versions })
    }
}

impl Tools for HostTools {
    fn digest(&self) -> Digest {
        Digest::of(format!("host\n{}", self.versions))
    }

    fn run(&self, program: &Program, feed: &mut Feed<'_>) -> Result<File, output::Error> {
        let trouble = |what: &str, e: io::Error| output::Error::Tools {
            why: vec![format!("cannot {what}: {e}")],
        };
        let dir = tempfile::tempdir().map_err(|e| trouble("make a temporary directory", e))?;
        let path = dir.path().join("image");
        let argv = program.argv_for(&path.to_string_lossy());
        let mut command = command(&argv[0]);
        command.args(&argv[1..]).envs(program.env.iter().cloned());
        let (from_program, printed) = io::pipe().map_err(|e| trouble("make a pipe", e))?;
        let also = printed.try_clone().map_err(|e| trouble("make a pipe", e))?;
        command.stdin(Stdio::piped()).stdout(printed).stderr(also);
        let mut child = command.spawn().map_err(|e| trouble(&format!("run {}", argv[0]), e))?;
        // Our ends of the program's output, or it would never end.
        drop(command);
        let mut input = child.stdin.take().expect("it was asked for");
        let mut from_program = from_program;
        let (fed, text) = std::thread::scope(|scope| {
            let reading = crate::threads::scoped(scope, move || {
                let mut text = vec![];
                // What cannot be read is missing in a report.
                let _ = from_program.read_to_end(&mut text);
                text
            });
            let mut buffer = io::BufWriter::with_capacity(256 << 10, &mut input);
            let fed = feed(&mut buffer);
            drop(buffer);
            drop(input);
            let reading = reading.map_err(|e| trouble("start a thread", e));
            (fed, reading.map(|reading| reading.join().unwrap_or_default()))
        });
        let status = child.wait().map_err(|e| trouble("wait for a program", e))?;
        if !status.success() {
            return Err(program.failed(vec![status.to_string()], tail(&text?), false));
        }
        fed?;
        File::open(&path).map_err(|e| trouble("open what was made", e))
    }
}

/// A program with nothing of the caller's environment but its search path, in `/`.
fn command(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut path: Vec<_> = std::env::split_paths(&path).collect();
    path.extend(["/usr/sbin", "/sbin"].map(|dir| Path::new(dir).to_owned()));
    let path = std::env::join_paths(path).unwrap_or_default();
    command.env_clear().env("PATH", path).current_dir("/");
    command
}

/// Returns the first version number in a text: `mke2fs 1.47.2 (1-Jan-2025)`.
fn version(text: &str) -> Option<(u32, u32, u32)> {
    let words = text.split_whitespace();
    words.map(|word| word.trim_start_matches('v')).find_map(|word| {
        let mut parts = word.split(['.', '-', '+']).map(str::parse::<u32>);
        let (major, minor) = (parts.next()?.ok()?, parts.next()?.ok()?);
        Some((major, minor, parts.next().and_then(Result::ok).unwrap_or(0)))
    })
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_found_in_what_programs_print() {
        for (text, found) in [
            ("mke2fs 1.47.2 (1-Jan-2025)", Some((1, 47, 2))),
            ("mkfs.erofs (erofs-utils) 1.8.6\navailable", Some((1, 8, 6))),
            ("mkfs.erofs 1.5", Some((1, 5, 0))),
            ("sqfstar version 4.6.1 (2023/03/25)", Some((4, 6, 1))),
            ("no number", None),
        ] {
            assert_eq!(version(text), found, "{text}");
        }
    }
}
