//! What people and scripts see: the only room that prints. stdout is the result, stderr is the
//! progress.
//!
//! Three ways to report progress: bars on a terminal, plain lines elsewhere, JSON lines on stdout
//! for scripts. Nothing that came from outside (output of steps, file names, messages of servers)
//! reaches a terminal unescaped.

mod bars;
pub mod diagnostic;
mod json;
mod plain;
pub mod report;
pub mod table;
pub mod text;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::event::{Event, Sink};
use crate::recipe::Diagnostic;
use crate::ui::report::Report;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How to report progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ProgressChoice {
    /// Bars on a terminal, plain lines otherwise.
    #[default]
    Auto,
    /// Bars.
    Bars,
    /// One line per thing that happens, every line of output.
    Plain,
    /// No progress; errors only.
    None,
}

/// What the person chose.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choices {
    /// `--color`.
    pub color: ColorChoice,
    /// `--progress`.
    pub progress: ProgressChoice,
    /// `-q`.
    pub quiet: bool,
    /// `--json`.
    pub json: bool,
    /// `NO_COLOR` is set and not empty.
    pub no_color: bool,
    /// `TERM` says that the terminal knows neither colours nor moving the cursor.
    pub dumb: bool,
}

/// How this run prints.
pub struct Ui {
    /// Whether to colour stderr.
    progress_color: bool,
    /// Whether to colour stdout.
    color: bool,
    json: bool,
    quiet: bool,
    reporter: Reporter,
    /// Why part of the result could not be written: reported once, at the end.
    lost: Arc<Mutex<Option<io::Error>>>,
    /// What was published so far: `name:version digest`.
    published: Arc<Mutex<Vec<String>>>,
}

enum Reporter {
    Bars(Arc<bars::Bars>),
    Plain(Arc<plain::Plain>),
    Json,
    None,
}

impl Ui {
    /// Decides once how this run prints.
    pub fn new(choices: Choices) -> Self {
        let terminal = io::stderr().is_terminal() && !choices.dumb;
        let colors = |terminal| match choices.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !choices.no_color,
        };
        let progress_color = colors(terminal);
        let color = colors(io::stdout().is_terminal() && !choices.dumb);
        let reporter = match choices.progress {
            _ if choices.json => Reporter::Json,
            _ if choices.quiet => Reporter::None,
            ProgressChoice::None => Reporter::None,
            ProgressChoice::Bars => Reporter::Bars(Arc::new(bars::Bars::new(progress_color))),
            ProgressChoice::Auto if terminal => {
                Reporter::Bars(Arc::new(bars::Bars::new(progress_color)))
            }
            ProgressChoice::Auto | ProgressChoice::Plain => {
                Reporter::Plain(Arc::new(plain::Plain::new(progress_color)))
            }
        };
        Self {
            progress_color,
            color,
            json: choices.json,
            quiet: choices.quiet,
            reporter,
            lost: Arc::default(),
            published: Arc::default(),
        }
    }

    /// Whether `--json` was given.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Whether only errors are wanted.
    pub fn quiet(&self) -> bool {
        self.quiet
    }

    /// Whether to colour results: stdout may be a file while stderr is a terminal.
    pub fn color(&self) -> bool {
        self.color
    }

    /// Where the rooms report to.
    pub fn sink(&self) -> Sink {
        let (published, show) = (Arc::clone(&self.published), self.show());
        Arc::new(move |event: Event| {
            if let (_, Event::Published { image, digest, .. }) = event.apart() {
                let mut published = published.lock().unwrap_or_else(PoisonError::into_inner);
                published.push(format!("{image} {digest}"));
            }
            show(event);
        })
    }

    /// Returns what was published so far: `name:version digest`.
    pub fn published(&self) -> Vec<String> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show(&self) -> Sink {
        match &self.reporter {
            Reporter::Bars(bars) => {
                let bars = Arc::clone(bars);
                Arc::new(move |event: Event| bars.report(&event))
            }
            Reporter::Plain(plain) => {
                let plain = Arc::clone(plain);
                Arc::new(move |event: Event| plain.report(&event))
            }
            Reporter::Json => {
                let lost = Arc::clone(&self.lost);
                Arc::new(move |event: Event| {
                    if let Some(object) = json::event(&event) {
                        out(&lost, format!("{object}\n").as_bytes());
                    }
                })
            }
            Reporter::None => crate::event::silent(),
        }
    }

    /// Ends bars and spinners, before anything else is printed.
    pub fn settle(&self) {
        match &self.reporter {
            Reporter::Bars(bars) => bars.settle(),
            Reporter::Plain(plain) => plain.settle(),
            Reporter::Json | Reporter::None => {}
        }
    }

    /// Prints one line of result to stdout.
    pub fn result(&self, text: &str) {
        self.raw(format!("{text}\n").as_bytes());
    }

    /// Prints result bytes to stdout as they are.
    pub fn raw(&self, bytes: &[u8]) {
        self.settle();
        out(&self.lost, bytes);
    }

    /// Returns why part of the result did not get out, if so. A reader that went away (`bake list |
    /// head`) is not our failure.
    pub fn lost(&self) -> Option<String> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.as_ref()
            .filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
            .map(io::Error::to_string)
    }

    /// Prints one JSON object to stdout, with `v` and `type` in front.
    pub fn object(&self, kind: &str, fields: Value) {
        out(&self.lost, format!("{}\n", json::object(kind, fields)).as_bytes());
    }

    /// Prints one line of progress, unless quiet.
    pub fn say(&self, text: &str) {
        if !self.quiet && !self.json {
            self.settle();
            line(&mut io::stderr().lock(), text);
        }
    }

    /// Prints what is wrong with recipes.
    pub fn diagnostics(&self, found: &[Diagnostic]) {
        self.settle();
        if self.json {
            for one in found {
                self.object("diagnostic", json::diagnostic(one));
            }
            return;
        }
        let shown: Vec<Diagnostic> =
            found.iter().filter(|one| !(self.quiet && one.warning)).cloned().collect();
        if !shown.is_empty() {
            line(
                &mut io::stderr().lock(),
                diagnostic::render(&shown, self.progress_color).trim_end(),
            );
        }
    }

    /// Prints why the run failed.
    pub fn failure(&self, report: &Report) {
        self.settle();
        if self.json && self.lost().is_none() {
            self.object("failed", json::failure(report));
        } else {
            let shown = match &self.reporter {
                Reporter::Plain(plain) => plain.has_shown(&report.output),
                _ => false,
            };
            // What stands above already is not shown again.
            let output = if shown { vec![] } else { report.output.clone() };
            let report = Report { output, ..report.clone() };
            line(&mut io::stderr().lock(), report.render(self.progress_color).trim_end());
        }
    }
}

/// Writes to stdout; what cannot be written is noted in `lost`.
fn out(lost: &Mutex<Option<io::Error>>, bytes: &[u8]) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        lost.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// Writes one line of progress; a closed stderr cannot be reported anywhere, so it is let go.
fn line(out: &mut dyn Write, text: &str) {
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
