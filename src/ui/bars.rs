//! Progress on a terminal: finished steps stay as lines, the running one has a spinner and its
//! last lines of output, and whatever can be counted has a bar.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rustix::termios::{self, LocalModes, OptionalActions};

use crate::event::{Event, Origin};
use crate::ui::plain::{missed, outcome, place, shell};
use crate::ui::text::{Style, clean, paint, took};

/// Where running tests are kept, behind any number of steps.
const TESTS: usize = 1 << 32;

/// Lines of output shown below the running step.
const TAIL: usize = 6;

/// What a running step looks like: its name, the time, and in the message its last lines.
const STEP: &str = "{spinner} {prefix} {elapsed}{msg}";

pub(super) struct Bars {
    color: bool,
    multi: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Steps of each image of this run.
    totals: HashMap<Origin, usize>,
    running: HashMap<(Origin, usize), Running>,
    bars: HashMap<(Origin, &'static str), ProgressBar>,
    /// Held while anything moves on the terminal, where that can be.
    hush: Option<Option<Hush>>,
}

/// While it lives the terminal shows no `^C` for Ctrl-C: that would move the cursor, and what is
/// drawn would be cleared a line too low.
struct Hush;

impl Hush {
    /// `None`: there is nothing to do, or it cannot be done.
    fn new() -> Option<Self> {
        echo_control(false).then_some(Self)
    }
}

impl Drop for Hush {
    fn drop(&mut self) {
        echo_control(true);
    }
}

/// Says whether control characters are shown as `^X`; returns whether that was otherwise before,
/// and is so now.
fn echo_control(show: bool) -> bool {
    let stderr = std::io::stderr();
    // To change a terminal from the background stops the process.
    if !termios::tcgetpgrp(&stderr).is_ok_and(|group| group == rustix::process::getpgrp()) {
        return false;
    }
    let Ok(mut modes) = termios::tcgetattr(&stderr) else { return false };
    if modes.local_modes.contains(LocalModes::ECHOCTL) == show {
        return false;
    }
    modes.local_modes.set(LocalModes::ECHOCTL, show);
    termios::tcsetattr(&stderr, OptionalActions::Now, &modes).is_ok()
}

struct Running {
    spinner: ProgressBar,
    label: String,
    tail: VecDeque<String>,
}

impl Bars {
    pub(super) fn new(color: bool) -> Self {
        Self { color, multi: MultiProgress::new(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stay(&self, text: String) {
        // The terminal may be gone; the build goes on.
        let _ = self.multi.println(text);
    }

    fn spinner(&self, label: &str) -> ProgressBar {
        let spinner = self.multi.add(ProgressBar::new_spinner());
        spinner.set_style(style(STEP));
        // Spinner, blanks and time need some room too.
        spinner.set_prefix(cut(label, width().saturating_sub(10)));
        spinner.enable_steady_tick(Duration::from_millis(120));
        spinner
    }

    pub(super) fn report(&self, event: &Event) {
        let (of, event) = event.apart();
        let mut state = self.state();
        let color = self.color;
        let test = matches!(event, Event::TestOutput { .. });
        if matches!(
            event,
            Event::StepStarted { .. } | Event::TestStarted { .. } | Event::Progress { .. }
        ) {
            state.hush.get_or_insert_with(Hush::new);
        }
        match event {
            Event::Started { image, steps, .. } => {
                state.totals.insert(of, *steps);
                self.stay(format!("baking {}", paint(&clean(image), Style::Bold, color)));
            }
            Event::StepStarted { index, label, .. } => {
                let whole = Origin { stage: None, ..of.clone() };
                let total = state.totals.get(&whole).copied().unwrap_or_default();
                let place = place(of.stage.as_deref(), *index, total);
                let label = titled(&of, &format!("{place} {}", clean(label)));
                // What ran before it has ended: its layer is being packed.
                for (_, before) in state.running.iter_mut().filter(|((one, _), _)| *one == of) {
                    before.tail.clear();
                    before.spinner.set_message(format!(" {}", paint("packing", Style::Dim, color)));
                }
                let spinner = self.spinner(&label);
                state
                    .running
                    .insert((of, *index), Running { spinner, label, tail: VecDeque::new() });
            }
            Event::StepMissed { index, kind, why, since, .. } => {
                if let (Some(text), Some(running)) =
                    (missed(kind, why, since.as_deref()), state.running.get(&(of, *index)))
                {
                    self.stay(format!("  {} {}", running.label, paint(&text, Style::Dim, color)));
                }
            }
            // Taken apart above.
            Event::Of { .. } => {}
            Event::Shell { place, why, network } => {
                drop(state);
                // From here on the terminal is the shell's.
                self.settle();
                self.stay(shell(place, why, *network, color));
            }
            Event::TestStarted { index, total, label, .. } => {
                let label = titled(&of, &format!("[test {index}/{total}] {}", clean(label)));
                let spinner = self.spinner(&label);
                state
                    .running
                    .insert((of, TESTS + index), Running { spinner, label, tail: VecDeque::new() });
            }
            Event::TestDone { index, took: time } => {
                if let Some(running) = state.running.remove(&(of, TESTS + index)) {
                    running.spinner.finish_and_clear();
                    let (mark, time) =
                        (paint("✓", Style::Good, color), paint(&took(*time), Style::Dim, color));
                    self.stay(format!("{mark} {} {time}", running.label));
                }
            }
            Event::StepOutput { index, line, .. } | Event::TestOutput { index, line } => {
                let index = if test { TESTS + index } else { *index };
                if let Some(running) = state.running.get_mut(&(of, index)) {
                    if running.tail.len() == TAIL {
                        running.tail.pop_front();
                    }
                    running.tail.push_back(clean(line));
                    let most = width().saturating_sub(5);
                    let tail = running.tail.iter().map(|line| {
                        format!("\n    {}", paint(&cut(line, most), Style::Dim, color))
                    });
                    running.spinner.set_message(tail.collect::<String>());
                }
            }
            Event::StepDone { index, took, layer, size, cached } => {
                if let Some(running) = state.running.remove(&(of, *index)) {
                    running.spinner.finish_and_clear();
                    let mark = paint("✓", Style::Good, color);
                    let outcome = if *cached {
                        "cached".to_owned()
                    } else {
                        outcome(*took, layer.is_some(), *size)
                    };
                    let outcome = paint(&outcome, Style::Dim, color);
                    self.stay(format!("{mark} {} {outcome}", running.label));
                }
            }
            Event::Progress { task, what, done, total, bytes } => {
                let bar = state.bars.entry((of, task)).or_insert_with(|| {
                    let bar = self.multi.add(ProgressBar::new(total.unwrap_or(0)));
                    let counts = if *bytes {
                        "{decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}"
                    } else {
                        "{pos}/{len}"
                    };
                    let bar_width = if width() < 80 { 10 } else { 24 };
                    bar.set_style(style(&format!(
                        "    {task:<9} {{bar:{bar_width}}} {counts} {{wide_msg}}"
                    )));
                    bar
                });
                if let Some(total) = total {
                    bar.set_length(*total);
                }
                bar.set_position(*done);
                bar.set_message(clean(what));
            }
            Event::ProgressEnd { task } => {
                if let Some(bar) = state.bars.remove(&(of, *task)) {
                    bar.finish_and_clear();
                }
            }
            Event::Warning { message, hint } => {
                let hint = hint
                    .as_ref()
                    .map(|hint| {
                        format!("\n  {} {}", paint("hint:", Style::Good, color), clean(hint))
                    })
                    .unwrap_or_default();
                self.stay(format!(
                    "{}: {}{hint}",
                    paint("warning", Style::Warn, color),
                    clean(message)
                ));
            }
            Event::Note { message } => self.stay(format!("note: {}", clean(message))),
            Event::Published { image, already, .. } => {
                let verb = if *already { "already baked" } else { "baked" };
                self.stay(format!(
                    "{} {verb} {}",
                    paint("✓", Style::Good, color),
                    paint(&clean(image), Style::Bold, color)
                ));
            }
        }
    }

    pub(super) fn settle(&self) {
        let mut state = self.state();
        for (_, running) in state.running.drain() {
            running.spinner.finish_and_clear();
        }
        for (_, bar) in state.bars.drain() {
            bar.finish_and_clear();
        }
        state.hush = None;
    }
}

/// Puts the image in front, where there are several.
fn titled(of: &Origin, text: &str) -> String {
    of.image.as_ref().map_or_else(|| text.to_owned(), |image| format!("{} {text}", clean(image)))
}

/// Returns the columns of the terminal that stderr is.
fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
    size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Returns at most `most` characters of `line`, and at least one.
fn cut(line: &str, most: usize) -> String {
    let most = most.max(1);
    if line.chars().count() <= most {
        line.to_owned()
    } else {
        line.chars().take(most - 1).chain(['…']).collect()
    }
}
