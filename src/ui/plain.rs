//! Progress as plain lines: for CI logs, pipes and files. Every line of output is shown, so the
//! log is whole.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::{Event, Origin};
use crate::ui::line;
use crate::ui::text::{Style, clean, paint, size, took};

/// Where the labels of tests are kept, behind those of any number of steps.
const TESTS: usize = 1 << 32;

/// Events of a step that are held back at most while the step before it is being packed.
const HELD: usize = 10_000;

/// Lines of output that are remembered as shown, of each root.
const SHOWN: usize = 200;

/// State between lines: how far each bar had come when it was last reported.
pub(super) struct Plain {
    color: bool,
    builds: Mutex<HashMap<Origin, State>>,
}

#[derive(Default)]
struct State {
    total: usize,
    tests: usize,
    quarters: HashMap<&'static str, u64>,
    labels: HashMap<usize, String>,
    /// The step whose lines are shown; the next one may run already, beside its packing.
    current: Option<usize>,
    /// What happened in later steps.
    held: Vec<Event>,
    /// The last lines of output.
    shown: VecDeque<String>,
}

impl Plain {
    pub(super) fn new(color: bool) -> Self {
        Self { color, builds: Mutex::default() }
    }

    fn builds(&self) -> MutexGuard<'_, HashMap<Origin, State>> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn report(&self, event: &Event) {
        let (origin, event) = event.apart();
        let mut builds = self.builds();
        // The number of steps is that of the whole image.
        let whole = Origin { stage: None, ..origin.clone() };
        let total = builds.get(&whole).map_or(0, |state| state.total);
        let state = builds.entry(origin.clone()).or_default();
        if origin.stage.is_some() {
            state.total = total;
        }
        for event in state.in_order(event) {
            self.print(&origin, state, &event);
        }
    }

    fn print(&self, origin: &Origin, state: &mut State, event: &Event) {
        if let Some(text) = say(origin.stage.as_deref(), state, event, self.color) {
            let image = origin.image.as_ref().map_or_else(String::new, |image| {
                format!("{} ", paint(&clean(image), Style::Bold, self.color))
            });
            line(&mut io::stderr().lock(), &format!("{image}{text}"));
        }
    }

    /// Prints what is held back: the step before it is not going to be done.
    pub(super) fn settle(&self) {
        let mut builds = self.builds();
        for (origin, state) in builds.iter_mut() {
            for event in std::mem::take(&mut state.held) {
                self.print(origin, state, &event);
            }
        }
    }

    /// Whether all these lines of output were printed, one after the other.
    pub(super) fn has_shown(&self, lines: &[String]) -> bool {
        self.builds().values().any(|state| {
            let shown: Vec<&String> = state.shown.iter().collect();
            shown.windows(lines.len().max(1)).any(|some| some.iter().copied().eq(lines))
        })
    }
}

impl State {
    /// Returns the events that can be shown now that `event` has happened: a step is packed while
    /// the next one runs, and is over for the reader before that begins.
    fn in_order(&mut self, event: &Event) -> Vec<Event> {
        let index = match event {
            Event::StepStarted { index, .. }
            | Event::StepMissed { index, .. }
            | Event::StepOutput { index, .. }
            | Event::StepDone { index, .. } => *index,
            _ => return vec![event.clone()],
        };
        if self.current.is_some_and(|current| current != index) {
            self.held.push(event.clone());
            if self.held.len() < HELD {
                return vec![];
            }
            self.current = Some(index);
            return std::mem::take(&mut self.held);
        }
        self.current = (!matches!(event, Event::StepDone { .. })).then_some(index);
        let mut now = vec![event.clone()];
        if self.current.is_none() {
            for held in std::mem::take(&mut self.held) {
                now.extend(self.in_order(&held));
            }
        }
        now
    }
}

/// Returns `[2/5]`, or `base` for step 0; of a stage `[build/2]` and `build/base`.
pub(super) fn place(stage: Option<&str>, index: usize, total: usize) -> String {
    match (stage.map(clean), index) {
        (None, 0) => "base".to_owned(),
        (None, _) => format!("[{index}/{total}]"),
        (Some(stage), 0) => format!("{stage}/base"),
        (Some(stage), _) => format!("[{stage}/{index}]"),
    }
}

/// Returns what is written below a step that is not in the cache; nothing where it never was, or
/// cannot have been.
pub(super) fn missed(kind: &str, why: &str, since: Option<&str>) -> Option<String> {
    let since = since.map(|since| format!(" since {}", clean(since))).unwrap_or_default();
    (!matches!(kind, "first" | "unpinned")).then(|| format!("not cached: {}{since}", clean(why)))
}

/// Returns what is written behind a finished step.
pub(super) fn outcome(time: std::time::Duration, layer: bool, bytes: u64) -> String {
    let what = if layer { size(bytes) } else { "no change".to_owned() };
    format!("{} · {what}", took(time))
}

fn say(stage: Option<&str>, state: &mut State, event: &Event, color: bool) -> Option<String> {
    Some(match event {
        Event::Started { image, steps, logs } => {
            state.total = *steps;
            format!(
                "baking {} (logs: {})",
                paint(&clean(image), Style::Bold, color),
                clean(&logs.to_string_lossy())
            )
        }
        Event::StepStarted { index, label, cached, .. } => {
            state.labels.insert(*index, clean(label));
            if *cached {
                return None;
            }
            format!(
                "{} {}",
                paint(&place(stage, *index, state.total), Style::Bold, color),
                clean(label)
            )
        }
        Event::StepMissed { kind, why, since, .. } => {
            format!("  {}", paint(&missed(kind, why, since.as_deref())?, Style::Dim, color))
        }
        // Taken apart by the caller.
        Event::Of { .. } => return None,
        Event::StepOutput { line, .. } | Event::TestOutput { line, .. } => {
            if state.shown.len() == SHOWN {
                state.shown.pop_front();
            }
            state.shown.push_back(line.clone());
            format!("{} {}", paint("  |", Style::Blue, color), clean(line))
        }
        Event::StepDone { index, took, layer, size, cached } => {
            let label = state.labels.remove(index).unwrap_or_default();
            let place = paint(&place(stage, *index, state.total), Style::Good, color);
            if *cached {
                return Some(format!("{place} cached: {label}"));
            }
            format!("{place} done: {label} ({})", outcome(*took, layer.is_some(), *size))
        }
        Event::Progress { task, what, done, total: Some(total), bytes } => {
            // Quarters are enough for a log.
            let quarter = if *total == 0 { 4 } else { done * 4 / total };
            let before = state.quarters.insert(task, quarter);
            if before == Some(quarter) || (quarter == 0 && before.is_some()) {
                return None;
            }
            let (done, total) = if *bytes {
                (size(*done), size(*total))
            } else {
                (done.to_string(), total.to_string())
            };
            format!("  {task} {}: {done} of {total}", clean(what))
        }
        Event::Progress { .. } => return None,
        Event::ProgressEnd { task } => {
            state.quarters.remove(task);
            return None;
        }
        Event::TestStarted { index, total, label, .. } => {
            state.tests = *total;
            state.labels.insert(TESTS + index, clean(label));
            format!(
                "{} {}",
                paint(&format!("[test {index}/{total}]"), Style::Bold, color),
                clean(label)
            )
        }
        Event::TestDone { index, took: time } => {
            let label = state.labels.remove(&(TESTS + index)).unwrap_or_default();
            let place = paint(&format!("[test {index}/{}]", state.tests), Style::Good, color);
            format!("{place} passed: {label} ({})", took(*time))
        }
        Event::Shell { place, why, network } => shell(place, why, *network, color),
        Event::Warning { message, hint } => {
            let hint =
                hint.as_ref().map(|hint| format!(" (hint: {})", clean(hint))).unwrap_or_default();
            format!("{}: {}{hint}", paint("warning", Style::Warn, color), clean(message))
        }
        Event::Note { message } => format!("note: {}", clean(message)),
        Event::Published { image, digest, already } => {
            let verb = if *already { "already baked" } else { "baked" };
            format!("{verb} {} {digest}", paint(&clean(image), Style::Bold, color))
        }
    })
}

/// Returns what is printed before a shell opens.
pub(super) fn shell(place: &str, why: &[String], network: bool, color: bool) -> String {
    let failed = match why {
        [] => String::new(),
        [what, rest @ ..] => {
            let because: String =
                rest.iter().map(|cause| format!("  because: {}\n", clean(cause))).collect();
            format!(
                "{}: {}\n{because}",
                paint("error", Style::Bad, color),
                paint(&clean(what), Style::Bold, color)
            )
        }
    };
    let network = if network { "with network" } else { "without network" };
    format!(
        "{failed}a shell in {}, {network}; whatever is done here is thrown away when it is left \
            (`exit`)",
        clean(place)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(index: usize) -> Event {
        Event::StepStarted {
            index,
            label: format!("run {index}"),
            line: 1,
            part: None,
            cached: false,
        }
    }

    fn done(index: usize) -> Event {
        let took = std::time::Duration::ZERO;
        Event::StepDone { index, took, layer: None, size: 0, cached: false }
    }

    fn output(index: usize, line: &str) -> Event {
        Event::StepOutput { index, line: line.to_owned(), stderr: false }
    }

    /// E16
    #[test]
    fn a_step_is_done_before_the_next_begins() {
        let mut state = State { total: 3, ..State::default() };
        let events = [
            started(1),
            output(1, "one"),
            started(2),
            output(2, "two"),
            started(3),
            done(2),
            done(1),
            output(3, "three"),
            done(3),
        ];
        let lines: Vec<String> = events
            .iter()
            .flat_map(|event| state.in_order(event))
            .filter_map(|event| {
                say(None, &mut State { total: 3, ..State::default() }, &event, false)
            })
            .map(|line| line.replace(" done:  (0.0s · no change)", " done"))
            .collect();
        let expected = [
            "[1/3] run 1",
            "  | one",
            "[1/3] done",
            "[2/3] run 2",
            "  | two",
            "[2/3] done",
            "[3/3] run 3",
            "  | three",
            "[3/3] done",
        ];
        assert_eq!(lines, expected);
        assert!(state.held.is_empty());
    }

    #[test]
    fn steps_of_a_stage_are_named_by_it() {
        let say = |stage, event: &Event| {
            say(stage, &mut State { total: 3, ..State::default() }, event, false)
        };
        assert_eq!(say(None, &started(0)).as_deref(), Some("base run 0"));
        assert_eq!(say(Some("build"), &started(0)).as_deref(), Some("build/base run 0"));
        assert_eq!(say(Some("build"), &started(2)).as_deref(), Some("[build/2] run 2"));
    }

    #[test]
    fn bars_become_quarters() {
        let mut state = State::default();
        let at = |done| Event::Progress {
            task: "download",
            what: "packages".to_owned(),
            done,
            total: Some(100),
            bytes: false,
        };
        let lines: Vec<String> =
            (0..=100).filter_map(|done| say(None, &mut state, &at(done), false)).collect();
        assert_eq!(lines, [0, 25, 50, 75, 100].map(|n| format!("  download packages: {n} of 100")));
    }
}
