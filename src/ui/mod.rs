//! What people and scripts see: the only room that prints. stdout is the result, stderr is the story.
//!
//! Three ways to tell the story: bars on a terminal, plain lines elsewhere, JSON lines on stdout for scripts.
//! Nothing that came from outside (output of steps, file names, messages of servers) reaches a terminal unescaped.

mod bars;
pub mod diagnostic;
mod json;
mod plain;
pub mod report;
pub mod table;
pub mod text;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

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

/// How to tell the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ProgressChoice {
    /// Bars on a terminal, plain lines otherwise.
    #[default]
    Auto,
    /// Bars.
    Bars,
    /// One line per thing that happens, every line of output.
    Plain,
    /// No story; errors only.
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
}

/// The voice of this run.
pub struct Ui {
    color: bool,
    json: bool,
    quiet: bool,
    teller: Teller,
}

enum Teller {
    Bars(Arc<bars::Bars>),
    Plain(Arc<plain::Plain>),
    Json,
    None,
}

impl Ui {
    /// Decides once how this run speaks.
    pub fn new(choices: Choices) -> Self {
        let terminal = io::stderr().is_terminal();
        let color = match choices.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !choices.no_color,
        };
        let teller = match choices.progress {
            _ if choices.json => Teller::Json,
            _ if choices.quiet => Teller::None,
            ProgressChoice::None => Teller::None,
            ProgressChoice::Bars => Teller::Bars(Arc::new(bars::Bars::new(color))),
            ProgressChoice::Auto if terminal => Teller::Bars(Arc::new(bars::Bars::new(color))),
            ProgressChoice::Auto | ProgressChoice::Plain => Teller::Plain(Arc::new(plain::Plain::new(color))),
        };
        Self { color, json: choices.json, quiet: choices.quiet, teller }
    }

    /// Whether `--json` was given.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Whether to colour.
    pub fn color(&self) -> bool {
        self.color
    }

    /// Where the rooms report to.
    pub fn sink(&self) -> Sink {
        match &self.teller {
            Teller::Bars(bars) => {
                let bars = Arc::clone(bars);
                Arc::new(move |event: Event| bars.tell(event))
            }
            Teller::Plain(plain) => {
                let plain = Arc::clone(plain);
                Arc::new(move |event: Event| plain.tell(&event))
            }
            Teller::Json => Arc::new(|event: Event| {
                if let Some(object) = json::event(&event) {
                    line(&mut io::stdout().lock(), &object.to_string());
                }
            }),
            Teller::None => crate::event::silent(),
        }
    }

    /// Ends bars and spinners, before anything else is printed.
    pub fn settle(&self) {
        if let Teller::Bars(bars) = &self.teller {
            bars.settle();
        }
    }

    /// Prints one line of result to stdout.
    pub fn result(&self, text: &str) {
        self.settle();
        line(&mut io::stdout().lock(), text);
    }

    /// Prints result bytes to stdout as they are.
    pub fn raw(&self, bytes: &[u8]) {
        self.settle();
        let mut out = io::stdout().lock();
        // A reader that went away (`bake list | head`) is not our failure.
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }

    /// Prints one JSON object to stdout, with `v` and `type` in front.
    pub fn object(&self, kind: &str, fields: Value) {
        line(&mut io::stdout().lock(), &json::object(kind, fields).to_string());
    }

    /// Tells one line of story, unless quiet.
    pub fn say(&self, text: &str) {
        if !self.quiet && !self.json {
            self.settle();
            line(&mut io::stderr().lock(), text);
        }
    }

    /// Tells what is wrong with recipes.
    pub fn diagnostics(&self, found: &[Diagnostic]) {
        self.settle();
        if self.json {
            for one in found {
                self.object("diagnostic", json::diagnostic(one));
            }
            return;
        }
        let shown: Vec<Diagnostic> = found.iter().filter(|one| !(self.quiet && one.warning)).cloned().collect();
        if !shown.is_empty() {
            line(&mut io::stderr().lock(), diagnostic::render(&shown, self.color).trim_end());
        }
    }

    /// Tells why the run failed.
    pub fn failure(&self, report: &Report) {
        self.settle();
        if self.json {
            self.object("failed", json::failure(report));
        } else {
            line(&mut io::stderr().lock(), report.render(self.color).trim_end());
        }
    }
}

/// Writes one line; a closed stdout or stderr cannot be reported anywhere, so it is let go.
fn line(out: &mut dyn Write, text: &str) {
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
