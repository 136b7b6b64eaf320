//! The story on a terminal: finished steps stay as lines, the running one has a spinner and its last lines of output,
//! and whatever can be counted has a bar.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::event::Event;
use crate::ui::plain::{missed, outcome, place};
use crate::ui::text::{Style, clean, paint};

/// Lines of output shown below the running step.
const TAIL: usize = 6;

pub(super) struct Bars {
    color: bool,
    multi: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Steps of each image of this run; of one alone under no name.
    totals: HashMap<String, usize>,
    running: HashMap<(String, usize), Running>,
    bars: HashMap<&'static str, ProgressBar>,
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

    pub(super) fn tell(&self, event: Event) {
        match event {
            Event::Of { image, event } => self.tell_of(image, *event),
            event => self.tell_of(String::new(), event),
        }
    }

    /// Tells an event of one of several images; of the only one where `of` is empty.
    fn tell_of(&self, of: String, event: Event) {
        let mut state = self.state();
        let color = self.color;
        match event {
            Event::Started { image, steps, .. } => {
                state.totals.insert(of, steps);
                self.stay(format!("baking {}", paint(&clean(&image), Style::Bold, color)));
            }
            Event::StepStarted { index, label, .. } => {
                let total = state.totals.get(&of).copied().unwrap_or_default();
                let label = format!("{} {}", place(index, total), clean(&label));
                let label = if of.is_empty() { label } else { format!("{} {label}", clean(&of)) };
                let spinner = self.multi.add(ProgressBar::new_spinner());
                spinner.set_style(style("{spinner} {wide_msg} {elapsed}"));
                spinner.set_message(label.clone());
                spinner.enable_steady_tick(Duration::from_millis(120));
                state.running.insert((of, index), Running { spinner, label, tail: VecDeque::new() });
            }
            Event::StepMissed { index, kind, why, since, .. } => {
                if let (Some(text), Some(running)) = (missed(kind, &why, since.as_deref()), state.running.get(&(of, index))) {
                    self.stay(format!("  {} {}", running.label, paint(&text, Style::Dim, color)));
                }
            }
            Event::Of { image, event } => {
                drop(state);
                self.tell_of(image, *event);
            }
            Event::StepOutput { index, line, .. } => {
                if let Some(running) = state.running.get_mut(&(of, index)) {
                    if running.tail.len() == TAIL {
                        running.tail.pop_front();
                    }
                    running.tail.push_back(clean(&line));
                    let tail: String =
                        running.tail.iter().map(|line| format!("\n    {}", paint(&cut(line, 110), Style::Dim, color))).collect();
                    running.spinner.set_style(style("{spinner} {msg}"));
                    running.spinner.set_message(format!("{}{tail}", running.label));
                }
            }
            Event::StepDone { index, took, layer, size, cached } => {
                if let Some(running) = state.running.remove(&(of, index)) {
                    running.spinner.finish_and_clear();
                    let mark = paint("✓", Style::Good, color);
                    let outcome = if cached { "cached".to_owned() } else { outcome(took, layer.is_some(), size) };
                    let outcome = paint(&outcome, Style::Dim, color);
                    self.stay(format!("{mark} {} {outcome}", running.label));
                }
            }
            Event::Progress { task, what, done, total, bytes } => {
                let bar = state.bars.entry(task).or_insert_with(|| {
                    let bar = self.multi.add(ProgressBar::new(total.unwrap_or(0)));
                    let counts = if bytes { "{decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}" } else { "{pos}/{len}" };
                    bar.set_style(style(&format!("    {task:<9} {{bar:24}} {counts} {{wide_msg}}")));
                    bar
                });
                if let Some(total) = total {
                    bar.set_length(total);
                }
                bar.set_position(done);
                bar.set_message(clean(&what));
            }
            Event::ProgressEnd { task } => {
                if let Some(bar) = state.bars.remove(task) {
                    bar.finish_and_clear();
                }
            }
            Event::Warning { message, hint } => {
                let hint = hint.map(|hint| format!("\n  {} {}", paint("hint:", Style::Good, color), clean(&hint))).unwrap_or_default();
                self.stay(format!("{}: {}{hint}", paint("warning", Style::Warn, color), clean(&message)));
            }
            Event::Note { message } => self.stay(format!("note: {}", clean(&message))),
            Event::Published { image, already, .. } => {
                let verb = if already { "already baked" } else { "baked" };
                self.stay(format!("{} {verb} {}", paint("✓", Style::Good, color), paint(&clean(&image), Style::Bold, color)));
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
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Returns at most `most` characters of `line`.
fn cut(line: &str, most: usize) -> String {
    if line.chars().count() <= most { line.to_owned() } else { line.chars().take(most - 1).chain(['…']).collect() }
}
