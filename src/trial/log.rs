//! The log of one test: what its services and checks say, each line with who said it; the last ones
//! at hand for the report. A service that floods its log costs no more than so much disk and no
//! memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::event::{Event, Sink};
use crate::job::{Error, slug};

/// Lines kept for the failure report.
const TAIL: usize = 20;

/// Longest line kept for the failure report, in characters.
const WIDE: usize = 400;

/// Bytes kept on disk.
const MOST: u64 = 16 << 20;

/// Lines told as they come.
const TOLD: usize = 2000;

/// An open log.
pub(super) struct TrialLog {
    index: usize,
    path: PathBuf,
    file: BufWriter<File>,
    tail: VecDeque<String>,
    sink: Sink,
    most: u64,
    written: u64,
    left_out: u64,
    lines: usize,
    /// The first failure to write: told once, at the end, as a full disk says nothing about the
    /// image.
    broken: Option<std::io::Error>,
}

impl TrialLog {
    /// Starts `test-NN-label.log` in `logs`.
    pub(super) fn start(
        logs: &Path,
        index: usize,
        label: &str,
        sink: &Sink,
    ) -> Result<Self, Error> {
        let path = logs.join(format!("test-{index:02}-{}.log", slug(label)));
        let file = File::create(&path).map_err(|source| Error::File {
            verb: "write",
            path: path.clone(),
            source,
        })?;
        let (file, tail, sink) = (BufWriter::new(file), VecDeque::new(), Sink::clone(sink));
        Ok(Self {
            index,
            path,
            file,
            tail,
            sink,
            most: MOST,
            written: 0,
            left_out: 0,
            lines: 0,
            broken: None,
        })
    }

    /// Takes one line as `who` said it.
    pub(super) fn line(&mut self, who: &str, text: &[u8]) {
        let bytes = (who.len() + text.len() + 3) as u64;
        if self.written + bytes <= self.most {
            self.written += bytes;
            let wrote =
                self.file.write_all(who.as_bytes()).and_then(|()| self.file.write_all(b"| "));
            if let Err(error) = wrote
                .and_then(|()| self.file.write_all(text))
                .and_then(|()| self.file.write_all(b"\n"))
            {
                self.broken.get_or_insert(error);
            }
        } else {
            self.left_out += bytes;
        }
        let text = String::from_utf8_lossy(text);
        let cut: String = text.chars().take(WIDE).collect();
        let line = if cut.len() < text.len() {
            format!("{who}| {cut}…")
        } else {
            format!("{who}| {cut}")
        };
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.lines += 1;
        if self.lines <= TOLD {
            (self.sink)(Event::TestOutput { index: self.index, line: line.clone() });
        }
        self.tail.push_back(line);
    }

    /// Returns where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Ends it: returns the last lines, and tells if some could not be written.
    pub(super) fn finish(mut self) -> Vec<String> {
        if self.left_out > 0 {
            let note =
                format!("bake: the log ends here; {} more bytes were not kept\n", self.left_out);
            if let Err(error) = self.file.write_all(note.as_bytes()) {
                self.broken.get_or_insert(error);
            }
        }
        if let Err(error) = self.file.flush() {
            self.broken.get_or_insert(error);
        }
        if let Some(error) = self.broken.take() {
            (self.sink)(Event::Warning {
                message: format!("the log {} is not whole: {error}", self.path.display()),
                hint: None,
            });
        }
        self.tail.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_said_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut log =
            TrialLog::start(dir.path(), 3, "Serves / well", &crate::event::silent()).unwrap();
        log.most = 100;
        for n in 0..1000 {
            log.line("web", format!("line {n}").as_bytes());
        }
        let path = log.path().to_owned();
        assert!(path.ends_with("test-03-serves-well.log"), "{path:?}");
        let tail = log.finish();
        assert_eq!((tail.len(), tail[TAIL - 1].as_str()), (TAIL, "web| line 999"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("web| line 0\nweb| line 1\n") && text.len() < 200, "{text}");
        assert!(text.ends_with("more bytes were not kept\n"), "{text}");
    }

    #[test]
    fn a_long_line_is_cut_for_the_report_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = TrialLog::start(dir.path(), 1, "x", &crate::event::silent()).unwrap();
        log.line("web", &vec![b'a'; 60_000]);
        let path = log.path().to_owned();
        assert!(log.finish()[0].chars().count() < 500);
        assert!(std::fs::metadata(path).unwrap().len() > 60_000);
    }
}
