//! The log of one step: every line on disk, the last ones at hand for the failure report, each told
//! as it comes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::error::Error;
use crate::event::{Event, Sink};

/// Lines kept for the failure report.
const TAIL: usize = 20;

/// An open log.
pub(crate) struct StepLog {
    index: usize,
    path: PathBuf,
    file: BufWriter<File>,
    tail: VecDeque<String>,
    sink: Sink,
    /// The first failure to write: told once, at the end, as a full disk must not end a step that
    /// could go on.
    broken: Option<std::io::Error>,
}

impl StepLog {
    /// Starts `NN-label.log` in `logs`.
    pub(crate) fn start(
        logs: &Path,
        index: usize,
        label: &str,
        sink: &Sink,
    ) -> Result<Self, Error> {
        let path = logs.join(format!("{index:02}-{}.log", slug(label)));
        let file = File::create(&path).map_err(|source| Error::File {
            verb: "write",
            path: path.clone(),
            source,
        })?;
        Ok(Self {
            index,
            path,
            file: BufWriter::new(file),
            tail: VecDeque::new(),
            sink: Sink::clone(sink),
            broken: None,
        })
    }

    /// Takes one line as it came.
    pub(crate) fn line(&mut self, stderr: bool, text: &[u8]) {
        if let Err(error) = self
            .file
            .write_all(text)
            .and_then(|()| self.file.write_all(b"\n"))
            .and_then(|()| self.file.flush())
        {
            self.broken.get_or_insert(error);
        }
        let line = String::from_utf8_lossy(text).into_owned();
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.clone());
        (self.sink)(Event::StepOutput { index: self.index, line, stderr });
    }

    /// Notes between the outputs of several tries.
    pub(crate) fn note(&mut self, text: &str) {
        self.line(true, format!("bake: {text}").as_bytes());
    }

    /// Returns where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Ends it: returns the last lines, and tells if some could not be written.
    pub(crate) fn finish(mut self) -> Vec<String> {
        if let Some(error) = self.broken.take() {
            (self.sink)(Event::Warning {
                message: format!("the log {} is not whole: {error}", self.path.display()),
                hint: None,
            });
        }
        // Empty lines at the end say nothing.
        while self.tail.back().is_some_and(|line| line.trim().is_empty()) {
            self.tail.pop_back();
        }
        self.tail.into()
    }
}

/// Returns a label as a part of a file name: lower-case letters, digits and single dashes.
pub(crate) fn slug(label: &str) -> String {
    let text: String = label
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let mut name = text.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    name.truncate(60);
    name
}
