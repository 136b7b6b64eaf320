//! The log of one step or test: what is printed, on disk up to a limit, the last lines at hand for
//! the failure report, each line reported as it comes.
//!
//! ```text
//! 01-run-make.log     the first part │ bake: … bytes are cut out here │ the last part
//! ```
//! A program that prints for ever costs so much disk and no more. Lines are written together; what
//! waits is written out soon, so that whoever follows the log sees it although nothing more comes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::Error;
use crate::event::{Event, Sink};
use crate::secret::Mask;
use crate::threads;

/// Lines kept for the failure report.
const TAIL: usize = 20;

/// Longest line kept for the failure report, in characters.
const WIDE: usize = 400;

/// Most bytes of a log.
const LIMIT: usize = 64 << 20;

/// How much of these are its last ones; they are held in memory until it ends.
const END: usize = 1 << 20;

/// How long a line may wait to be written.
const SOON: Duration = Duration::from_millis(200);

/// Whose output it is.
#[derive(Clone, Copy)]
enum Of {
    Step(usize),
    Test(usize),
}

/// An open log.
pub(crate) struct Log {
    of: Of,
    path: PathBuf,
    out: Arc<Mutex<Out>>,
    /// Writes out what waits, until this is dropped.
    writer: Option<Sender<()>>,
    written_out: Instant,
    tail: VecDeque<String>,
    sink: Sink,
    /// Bytes that the first part still takes; 0 once a line did not fit.
    room: usize,
    end: End,
    /// What hides secrets in the two streams.
    masks: Option<[Mask; 2]>,
}

/// The first part of a log.
struct Out {
    file: BufWriter<File>,
    /// The first failure to write: reported once, at the end, as a full disk must not end a step
    /// that could go on.
    broken: Option<io::Error>,
}

impl Out {
    fn write(&mut self, parts: &[&[u8]]) {
        let written = parts.iter().try_for_each(|part| self.file.write_all(part));
        self.broken = self.broken.take().or(written.err());
    }

    fn flush(&mut self) {
        let written = self.file.flush();
        self.broken = self.broken.take().or(written.err());
    }
}

/// The last part of a log that has outgrown its first.
struct End {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    most: usize,
    /// Bytes that are in neither part.
    cut: u64,
}

impl End {
    fn push(&mut self, line: Vec<u8>) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > self.most
            && let Some(first) = self.lines.pop_front()
        {
            self.bytes -= first.len();
            self.cut += first.len() as u64;
        }
    }
}

impl Log {
    /// Starts `NN-label.log` of a step in the directory `logs`.
    pub(crate) fn of_step(
        logs: &Path,
        index: usize,
        label: &str,
        sink: &Sink,
    ) -> Result<Self, Error> {
        let name = format!("{index:02}-{}.log", slug(label));
        Self::start(Of::Step(index), logs.join(name), sink)
    }

    /// Starts `test-NN-label.log` of a test in the directory `logs`.
    pub(crate) fn of_test(
        logs: &Path,
        index: usize,
        label: &str,
        sink: &Sink,
    ) -> Result<Self, Error> {
        let name = format!("test-{index:02}-{}.log", slug(label));
        Self::start(Of::Test(index), logs.join(name), sink)
    }

    fn start(of: Of, path: PathBuf, sink: &Sink) -> Result<Self, Error> {
        let file = File::create(&path).map_err(|source| Error::File {
            verb: "write",
            path: path.clone(),
            source,
        })?;
        let out = Out { file: BufWriter::with_capacity(64 << 10, file), broken: None };
        Ok(Self {
            of,
            path,
            out: Arc::new(Mutex::new(out)),
            writer: None,
            written_out: Instant::now(),
            tail: VecDeque::new(),
            sink: Sink::clone(sink),
            room: LIMIT - END,
            end: End { lines: VecDeque::new(), bytes: 0, most: END, cut: 0 },
            masks: None,
        })
    }

    /// Hides secrets in what comes from now on, on standard output and on standard error.
    pub(crate) fn hide(&mut self, masks: Option<[Mask; 2]>) {
        self.masks = masks;
    }

    /// Takes one line as it came.
    pub(crate) fn line(&mut self, stderr: bool, text: &[u8]) {
        self.take("", stderr, text);
    }

    /// Takes one line as `who` printed it.
    pub(crate) fn line_of(&mut self, who: &str, text: &[u8]) {
        self.take(&format!("{who}| "), false, text);
    }

    /// Notes something between the outputs of several tries.
    pub(crate) fn note(&mut self, text: &str) {
        self.put_waiting();
        self.line(true, format!("bake: {text}").as_bytes());
    }

    /// Puts down what the masks hold back.
    fn put_waiting(&mut self) {
        for (stderr, mask) in [(false, 0), (true, 1)] {
            let mut lines = vec![];
            if let Some(masks) = &mut self.masks {
                masks[mask].finish(&mut |line| lines.push(line.to_owned()));
            }
            lines.iter().for_each(|line| self.put("", stderr, line));
        }
    }

    fn take(&mut self, who: &str, stderr: bool, text: &[u8]) {
        let Some(masks) = &mut self.masks else { return self.put(who, stderr, text) };
        let mut lines = vec![];
        masks[usize::from(stderr)].line(text, &mut |line| lines.push(line.to_owned()));
        lines.iter().for_each(|line| self.put(who, stderr, line));
    }

    fn put(&mut self, who: &str, stderr: bool, text: &[u8]) {
        let line = format!("{who}{}", String::from_utf8_lossy(text));
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(short(&line));
        let bytes = who.len() + text.len() + 1;
        if bytes > self.room {
            self.room = 0;
            self.end.push([who.as_bytes(), text, b"\n"].concat());
            return;
        }
        self.room -= bytes;
        self.out().write(&[who.as_bytes(), text, b"\n"]);
        self.write_out_soon();
        (self.sink)(match self.of {
            Of::Step(index) => Event::StepOutput { index, line, stderr },
            Of::Test(index) => Event::TestOutput { index, line: short(&line) },
        });
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes out what waits, now where that was not done for a while.
    fn write_out_soon(&mut self) {
        if self.written_out.elapsed() >= SOON {
            self.out().flush();
            self.written_out = Instant::now();
        } else if self.writer.is_none() {
            let (sender, ended) = channel();
            let out = Arc::clone(&self.out);
            let write = move || {
                while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(SOON) {
                    out.lock().unwrap_or_else(PoisonError::into_inner).flush();
                }
            };
            match threads::free(write) {
                Ok(_) => self.writer = Some(sender),
                // Where the host gives no thread each line is written by itself.
                Err(_) => self.out().flush(),
            }
        }
    }

    /// Returns where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Ends it: returns the last lines, and reports what is not in it.
    pub(crate) fn finish(mut self) -> Vec<String> {
        self.put_waiting();
        drop(self.writer.take());
        let End { lines, cut, .. } = &self.end;
        let mut out = self.out();
        if *cut > 0 {
            let note = format!("bake: {cut} bytes are cut out here\n");
            out.write(&[note.as_bytes()]);
        }
        for line in lines {
            out.write(&[line]);
        }
        out.flush();
        let broken = out.broken.take();
        drop(out);
        let path = self.path.display();
        let warn = |message: String| (self.sink)(Event::Warning { message, hint: None });
        if *cut > 0 {
            warn(format!("{cut} bytes are cut out of the middle of the log {path}"));
        }
        if let Some(error) = broken {
            warn(format!("the log {path} is not whole: {error}"));
        }
        // Empty lines at the end say nothing.
        while self.tail.back().is_some_and(|line| line.trim().is_empty()) {
            self.tail.pop_back();
        }
        self.tail.into()
    }
}

/// Returns a line as far as a report shows it.
fn short(line: &str) -> String {
    match line.char_indices().nth(WIDE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// Returns a label as a part of a file name: lower-case letters, digits and single dashes.
fn slug(label: &str) -> String {
    let text: String = label
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let mut name = text.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    name.truncate(60);
    name
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn of_a_flood_the_beginning_and_the_end_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let warned = Arc::new(Mutex::new(vec![]));
        let sink_warned = Arc::clone(&warned);
        let sink: Sink = Arc::new(move |event| {
            if let Event::Warning { message, .. } = event {
                sink_warned.lock().unwrap().push(message);
            }
        });
        let mut log = Log::of_test(dir.path(), 3, "Serves / well", &sink).unwrap();
        (log.room, log.end.most) = (100, 40);
        for n in 0..1000 {
            log.line_of("web", format!("line {n}").as_bytes());
        }
        let path = log.path().to_owned();
        assert!(path.ends_with("test-03-serves-well.log"), "{path:?}");
        let tail = log.finish();
        assert_eq!((tail.len(), tail[TAIL - 1].as_str()), (TAIL, "web| line 999"));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("web| line 0\nweb| line 1\n") && text.len() < 250, "{text}");
        assert!(text.ends_with("web| line 998\nweb| line 999\n"), "{text}");
        assert!(text.contains("bytes are cut out here\n"), "{text}");
        let warned = warned.lock().unwrap();
        assert!(warned.len() == 1 && warned[0].contains("bytes are cut out of"), "{warned:?}");
    }

    #[test]
    fn a_log_that_fits_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::of_step(dir.path(), 1, "x", &crate::event::silent()).unwrap();
        log.room = 10;
        log.line(false, b"12345");
        log.line(true, b"abcdefgh");
        let path = log.path().to_owned();
        assert_eq!(log.finish(), ["12345", "abcdefgh"]);
        assert_eq!(fs::read_to_string(path).unwrap(), "12345\nabcdefgh\n");
    }

    #[test]
    fn a_long_line_is_cut_for_the_report_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::of_test(dir.path(), 1, "x", &crate::event::silent()).unwrap();
        log.line_of("web", &vec![b'a'; 60_000]);
        let path = log.path().to_owned();
        assert!(log.finish()[0].chars().count() < 500);
        assert!(fs::metadata(path).unwrap().len() > 60_000);
    }

    #[test]
    fn what_waits_is_written_out_although_nothing_follows() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::of_step(dir.path(), 1, "x", &crate::event::silent()).unwrap();
        log.line(false, b"building");
        let begun = Instant::now();
        while fs::read_to_string(log.path()).unwrap() != "building\n" {
            assert!(begun.elapsed() < Duration::from_secs(60), "it is never written");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
