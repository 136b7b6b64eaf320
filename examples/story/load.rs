//! Asks a web server for `/version.json` at a constant rate, half of the times on new connections
//! and half on ones that are kept, and counts: how many requests were sent, how many failed, which
//! versions answered. Nothing is asked twice: whatever a browser would have shown as an error
//! counts as failed.
//!
//! ```text
//! load --to ADDRESS:PORT --rate REQUESTS_A_SECOND --for SECONDS --until FILE --progress FILE --summary FILE
//! ```
//! It stops by itself: when the file `--until` appears, when whoever has started it is gone, at the
//! latest after `--for` seconds. `--progress` is replaced several times a second: lines of a name
//! and a number. `--summary` is written at the end, as JSON, and as text to stdout. Exit status 1
//! if a request failed.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Clients that connect anew for every request, and clients that keep their connection: as many of
/// each.
const CLIENTS: u32 = 16;
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is told how far things are, and looked whether it is time to stop.
const TICK: Duration = Duration::from_millis(100);
/// More than any answer here has.
const MAX_BODY: u64 = 64 * 1024;

struct Args {
    to: SocketAddr,
    rate: u32,
    limit: Duration,
    until: PathBuf,
    progress: PathBuf,
    summary: PathBuf,
}

#[derive(Default)]
struct Counts {
    sent: u64,
    connections: u64,
    failed: u64,
    /// The first few reasons.
    failures: Vec<String>,
    /// Answers by version.
    versions: BTreeMap<String, u64>,
    /// How long each answer took, in microseconds.
    took: Vec<u64>,
}

fn main() -> Result<std::process::ExitCode, Box<dyn std::error::Error>> {
    let args = args()?;
    let (counts, over, start) =
        (Mutex::new(Counts::default()), AtomicBool::new(false), Instant::now());
    let parent = std::os::unix::process::parent_id();
    std::thread::scope(|scope| {
        for n in 0..CLIENTS {
            let (args, counts, over) = (&args, &counts, &over);
            scope.spawn(move || client(n, args, start, counts, over));
        }
        while start.elapsed() < args.limit
            && !args.until.exists()
            && std::os::unix::process::parent_id() == parent
        {
            if let Err(error) = write_whole(&args.progress, &lock(&counts).progress()) {
                eprintln!("load: cannot write {}: {error}", args.progress.display());
                break;
            }
            std::thread::sleep(TICK);
        }
        over.store(true, Ordering::SeqCst);
    });
    let mut counts = lock(&counts);
    counts.took.sort_unstable();
    write_whole(&args.progress, &counts.progress())?;
    write_whole(&args.summary, &counts.json(start.elapsed()))?;
    print!("{}", counts.text(start.elapsed()));
    Ok(u8::from(counts.failed > 0).into())
}

fn args() -> Result<Args, String> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let named = |name: &str| {
        let at = given
            .iter()
            .position(|word| word == name)
            .ok_or_else(|| format!("{name} is missing"))?;
        given.get(at + 1).ok_or_else(|| format!("{name} needs a value"))
    };
    let number = |name: &str| {
        named(name)?
            .parse::<u32>()
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| format!("{name} is a number above 0"))
    };
    Ok(Args {
        to: named("--to")?.parse().map_err(|error| format!("--to: {error}"))?,
        rate: number("--rate")?,
        limit: Duration::from_secs(number("--for")?.into()),
        until: named("--until")?.into(),
        progress: named("--progress")?.into(),
        summary: named("--summary")?.into(),
    })
}

/// Whole or absent: whoever reads it while it is replaced sees the one or the other.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let aside = path.with_extension("partial");
    std::fs::write(&aside, text)?;
    std::fs::rename(aside, path)
}

fn lock(counts: &Mutex<Counts>) -> std::sync::MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One client: asks when it is its turn, never earlier. One that had to wait for an answer asks
/// again at once, until it has caught up.
fn client(n: u32, args: &Args, start: Instant, counts: &Mutex<Counts>, over: &AtomicBool) {
    let every = Duration::from_secs(1) * CLIENTS / args.rate;
    let mut turn = start + every * n / CLIENTS;
    let keeps = n % 2 == 1;
    let mut kept = None;
    loop {
        while let Some(wait) =
            turn.checked_duration_since(Instant::now()).filter(|_| !over.load(Ordering::SeqCst))
        {
            std::thread::sleep(wait.min(TICK));
        }
        if over.load(Ordering::SeqCst) {
            return;
        }
        turn += every;
        let asked = Instant::now();
        let new = kept.is_none();
        lock(counts).sent += 1;
        let answer = ask(args.to, &mut kept, keeps);
        let took = asked.elapsed();
        let mut counts = lock(counts);
        counts.connections += u64::from(new);
        match answer {
            Ok(version) => {
                *counts.versions.entry(version).or_default() += 1;
                counts.took.push(took.as_micros().try_into().unwrap_or(u64::MAX));
            }
            Err(error) => {
                counts.failed += 1;
                kept = None;
                if counts.failures.len() < 5 {
                    let connection = if new { "a new connection" } else { "a kept connection" };
                    counts.failures.push(format!("on {connection}: {error}"));
                }
            }
        }
    }
}

/// Asks once, and returns the version that answered.
fn ask(to: SocketAddr, kept: &mut Option<BufReader<TcpStream>>, keep: bool) -> io::Result<String> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            BufReader::new(stream)
        }
    };
    let connection = if keep { "keep-alive" } else { "close" };
    let question =
        format!("GET /version.json HTTP/1.1\r\nHost: {to}\r\nConnection: {connection}\r\n\r\n");
    stream.get_mut().write_all(question.as_bytes())?;
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let status = line(&mut stream)?;
    if !status.starts_with("HTTP/1.1 200 ") {
        return Err(wrong(format!("the answer is {status:?}")));
    }
    let (mut length, mut header, mut closes) = (None, None, false);
    loop {
        let text = line(&mut stream)?;
        let Some((name, value)) = text.split_once(':') else { break };
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("content-length", value) => {
                length = value.parse::<u64>().ok().filter(|length| *length <= MAX_BODY)
            }
            ("x-app-version", value) => header = Some(value.to_owned()),
            ("connection", value) => closes = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let length = length.ok_or_else(|| wrong("the answer has no good length".to_owned()))?;
    let mut body = vec![0; usize::try_from(length).unwrap_or(0)];
    stream.read_exact(&mut body)?;
    let version = header.ok_or_else(|| wrong("the answer names no version".to_owned()))?;
    // The server's configuration and the app's file each say which version they are of: in a
    // machine that is whole they agree.
    if !String::from_utf8_lossy(&body).contains(&format!("\"version\": \"{version}\"")) {
        return Err(wrong(format!("the server is version {version}, the app is not")));
    }
    if keep && !closes {
        *kept = Some(stream);
    }
    Ok(version)
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    from.take(8192).read_line(&mut text)?;
    match text.strip_suffix("\r\n") {
        Some(text) => Ok(text.to_owned()),
        None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed")),
    }
}

impl Counts {
    fn progress(&self) -> String {
        let answered: u64 = self.versions.values().sum();
        let versions: String =
            self.versions.iter().map(|(version, n)| format!("{version} {n}\n")).collect();
        format!("sent {}\nanswered {answered}\nfailed {}\n{versions}", self.sent, self.failed)
    }

    /// The answer slower than `share` of all, in milliseconds.
    fn slowest(&self, share: f64) -> f64 {
        let last = self.took.len().saturating_sub(1);
        self.took.get((last as f64 * share) as usize).map_or(0.0, |micros| *micros as f64 / 1000.0)
    }

    fn json(&self, time: Duration) -> String {
        let versions: Vec<String> =
            self.versions.iter().map(|(version, n)| format!("{version:?}: {n}")).collect();
        format!(
            "{{\"sent\": {}, \"failed\": {}, \"connections\": {}, \"versions\": {{{}}}, \"seconds\": {:.1}, \"median_ms\": {:.1}, \"slowest_ms\": {:.1}}}\n",
            self.sent,
            self.failed,
            self.connections,
            versions.join(", "),
            time.as_secs_f64(),
            self.slowest(0.5),
            self.slowest(1.0)
        )
    }

    fn text(&self, time: Duration) -> String {
        let versions: Vec<String> =
            self.versions.iter().map(|(version, n)| format!("{n} by {version}")).collect();
        let mut text = format!(
            "requests     {} sent in {:.0} s, {} failed\nanswered     {}\nconnections  {}\ntimes        half within {:.1} ms, 99 % within {:.1} ms, all within {:.0} ms\n",
            self.sent,
            time.as_secs_f64(),
            self.failed,
            versions.join(", "),
            self.connections,
            self.slowest(0.5),
            self.slowest(0.99),
            self.slowest(1.0)
        );
        for failure in &self.failures {
            text += &format!("failed       {failure}\n");
        }
        text
    }
}
