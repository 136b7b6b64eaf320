//! What a machine prints on its serial console: kept as far as there is room, and read for signs of
//! what went wrong.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most bytes that are kept: of a flood the first ones, and the last lines.
const MOST: usize = 4 << 20;

/// Longest line that is looked at.
const WIDE: usize = 4096;

/// Last lines that are at hand for a report.
const TAIL: usize = 20;

/// What a line of the console can mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sign {
    /// Nothing goes on from here; why.
    Fatal(String),
    /// A unit of systemd failed: its description, or its name.
    Failed(String),
    /// The end of the machine waits for this unit.
    Stopping(String),
    /// Nobody will answer inside.
    NoAgent,
}

/// Returns what a line means, if anything; `line`: without colors.
pub(super) fn sign(line: &str) -> Option<Sign> {
    let after = |word: &str| line.split_once(word).map(|(_, rest)| rest.trim());
    if let Some(why) = after("Kernel panic - not syncing:") {
        return Some(Sign::Fatal(format!("the kernel panicked: {why}")));
    }
    if let Some(why) = after("bake: cannot start:") {
        return Some(Sign::Fatal(format!("the initial RAM disk cannot start the machine: {why}")));
    }
    if after("bake: nobody answers inside").is_some() {
        return Some(Sign::NoAgent);
    }
    let emergency = [
        "You are in emergency mode",
        "You are in rescue mode",
        "Cannot open access to console, the root account is locked",
    ];
    if emergency.iter().any(|words| line.contains(words)) {
        return Some(Sign::Fatal("it is in emergency mode".to_owned()));
    }
    if let Some(rest) = after("A stop job is running for ") {
        let name = rest.rsplit_once(" (").map_or(rest, |(name, _)| name);
        return Some(Sign::Stopping(name.to_owned()));
    }
    let failed = after("[FAILED] Failed to ")?;
    let what = failed.split_once(' ').map_or(failed, |(_, what)| what);
    Some(Sign::Failed(what.trim_end_matches('.').to_owned()))
}

/// Returns a line without the sequences by which terminals are steered (ECMA-48).
pub(super) fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let (mut out, mut chars) = (String::with_capacity(text.len()), text.chars().peekable());
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.next_if_eq(&'[').is_some() {
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            } else {
                chars.next();
            }
        } else if c == '\t' || !c.is_control() {
            out.push(c);
        }
    }
    out
}

/// What was read so far.
#[derive(Default)]
struct Seen {
    signs: VecDeque<Sign>,
    tail: VecDeque<String>,
    alive: bool,
    fatal: bool,
    ended: bool,
}

/// A console that is being read, on a thread.
#[derive(Clone)]
pub(super) struct Reader(Arc<Mutex<Seen>>);

impl Reader {
    /// Begins to read; what comes is written to a new file `log`, each line behind `console| `.
    pub(super) fn start(stream: UnixStream, log: &Path) -> io::Result<Self> {
        let reader = Self(Arc::default());
        let (log, own) = (Kept { file: File::create(log)?, room: MOST }, reader.clone());
        crate::threads::free(move || own.read(stream, log))?;
        Ok(reader)
    }

    fn read(&self, mut from: impl Read, mut log: Kept) {
        let (mut line, mut some) = (vec![], vec![0; 16 << 10]);
        loop {
            let read = match from.read(&mut some) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            self.seen().alive = true;
            for byte in &some[..read] {
                match byte {
                    b'\n' => self.line(&mut line, &mut log),
                    _ if line.len() < WIDE => line.push(*byte),
                    _ => {}
                }
            }
        }
        if !line.is_empty() {
            self.line(&mut line, &mut log);
        }
        let tail: Vec<String> = self.seen().tail.iter().cloned().collect();
        log.end(&tail);
        self.seen().ended = true;
    }

    fn line(&self, line: &mut Vec<u8>, log: &mut Kept) {
        let text = plain(line);
        line.clear();
        log.line(&text);
        let mut seen = self.seen();
        if !text.trim().is_empty() {
            if seen.tail.len() == TAIL {
                seen.tail.pop_front();
            }
            seen.tail.push_back(text.clone());
        }
        if let Some(sign) = sign(&text) {
            seen.fatal |= matches!(sign, Sign::Fatal(_));
            // Of a machine that does nothing but fail the first signs are enough, and what is
            // fatal.
            if seen.signs.len() < 1000 || matches!(sign, Sign::Fatal(_)) {
                seen.signs.push_back(sign);
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the signs that have come since the last time.
    pub(super) fn signs(&self) -> Vec<Sign> {
        self.seen().signs.drain(..).collect()
    }

    /// Whether anything has come.
    pub(super) fn alive(&self) -> bool {
        self.seen().alive
    }

    /// Whether nothing will come any more: QEMU has ended.
    pub(super) fn ended(&self) -> bool {
        self.seen().ended
    }

    /// Whether nothing that is asked of the machine will be answered any more.
    pub(super) fn over(&self) -> bool {
        let seen = self.seen();
        seen.ended || seen.fatal
    }

    /// Returns the last lines.
    pub(super) fn tail(&self) -> Vec<String> {
        self.seen().tail.iter().cloned().collect()
    }
}

/// The file with what a machine printed.
struct Kept {
    file: File,
    room: usize,
}

impl Kept {
    fn line(&mut self, text: &str) {
        let bytes = text.len() + 1;
        if bytes > self.room {
            self.room = 0;
            return;
        }
        self.room -= bytes;
        // A full disk ends no test; what is missing is missing.
        let _ = self.file.write_all(format!("{text}\n").as_bytes());
    }

    fn end(&mut self, tail: &[String]) {
        if self.room == 0 {
            let tail = tail.join("\n");
            let _ = writeln!(self.file, "bake: the machine printed more than is kept\n{tail}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn signs_are_read_off_the_console() {
        let fatal = |why: &str| Some(Sign::Fatal(why.to_owned()));
        for (line, found) in [
            (
                "[    1.5] Kernel panic - not syncing: VFS: Unable to mount root fs",
                fatal("the kernel panicked: VFS: Unable to mount root fs"),
            ),
            (
                "[    2.0] bake: cannot start: the image has no init",
                fatal("the initial RAM disk cannot start the machine: the image has no init"),
            ),
            (
                "You are in emergency mode. After logging in, type \"journalctl -xb\"",
                fatal("it is in emergency mode"),
            ),
            (
                "[\u{1b}[0;1;31mFAILED\u{1b}[0m] Failed to start \
                    \u{1b}[0;1;39mbad.service\u{1b}[0m - Bad.",
                Some(Sign::Failed("bad.service - Bad".to_owned())),
            ),
            (
                "[ ***  ] A stop job is running for Stubborn (12s / 1min 30s)",
                Some(Sign::Stopping("Stubborn".to_owned())),
            ),
            ("[  OK  ] Started nginx.service.", None),
            ("[    0.9] bake: nobody answers inside: no systemd", Some(Sign::NoAgent)),
        ] {
            assert_eq!(sign(&plain(line.as_bytes())), found, "{line}");
        }
    }

    #[test]
    fn of_a_flood_the_beginning_and_the_end_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let reader = Reader::start(ours, &log).unwrap();
        theirs.write_all(b"first\n").unwrap();
        let line = [b"x".repeat(1000), b"\r\n".to_vec()].concat();
        for _ in 0..6000 {
            theirs.write_all(&line).unwrap();
        }
        // A line without end takes no memory either.
        theirs.write_all(&b"y".repeat(1 << 20)).unwrap();
        theirs.write_all(b"\nlast").unwrap();
        drop(theirs);
        let until = Instant::now() + Duration::from_secs(60);
        while !reader.ended() {
            assert!(Instant::now() < until, "it is never read");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(reader.tail().last().unwrap(), "last");
        let kept = std::fs::read_to_string(&log).unwrap();
        assert!(kept.len() < MOST + (64 << 10), "{}", kept.len());
        assert!(kept.starts_with("first\nxxx") && kept.ends_with("last\n"));
        assert!(kept.contains("printed more than is kept"));
    }
}
