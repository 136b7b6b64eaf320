//! The story as plain lines: for CI logs, pipes and files. Every line of output is shown, so the
//! log is whole.

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;

use crate::event::Event;
use crate::ui::line;
use crate::ui::text::{Style, clean, paint, size, took};

/// Where the labels of tests are kept, behind those of any number of steps.
const TESTS: usize = 1 << 32;

/// State between lines: how far each bar had come when it was last told.
pub(super) struct Plain {
    color: bool,
    /// By image, where there are several in one run; else under no name.
    builds: Mutex<HashMap<String, State>>,
}

#[derive(Default)]
struct State {
    total: usize,
    tests: usize,
    told: HashMap<&'static str, u64>,
    labels: HashMap<usize, String>,
}

impl Plain {
    pub(super) fn new(color: bool) -> Self {
        Self { color, builds: Mutex::default() }
    }

    pub(super) fn tell(&self, event: &Event) {
        let mut builds = self.builds.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (image, event) = match event {
            Event::Of { image, event } => (image.as_str(), &**event),
            event => ("", event),
        };
        let state = builds.entry(image.to_owned()).or_default();
        if let Some(text) = say(state, event, self.color) {
            let of = if image.is_empty() {
                String::new()
            } else {
                format!("{} ", paint(&clean(image), Style::Bold, self.color))
            };
            line(&mut io::stderr().lock(), &format!("{of}{text}"));
        }
    }
}

/// Returns `[2/5]`, or `base` for step 0.
pub(super) fn place(index: usize, total: usize) -> String {
    if index == 0 { "base".to_owned() } else { format!("[{index}/{total}]") }
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

fn say(state: &mut State, event: &Event, color: bool) -> Option<String> {
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
            format!("{} {}", paint(&place(*index, state.total), Style::Bold, color), clean(label))
        }
        Event::StepMissed { kind, why, since, .. } => {
            format!("  {}", paint(&missed(kind, why, since.as_deref())?, Style::Dim, color))
        }
        // Taken apart by the caller.
        Event::Of { .. } => return None,
        Event::StepOutput { line, .. } => {
            format!("{} {}", paint("  |", Style::Blue, color), clean(line))
        }
        Event::StepDone { index, took, layer, size, cached } => {
            let label = state.labels.remove(index).unwrap_or_default();
            let place = paint(&place(*index, state.total), Style::Good, color);
            if *cached {
                return Some(format!("{place} cached: {label}"));
            }
            format!("{place} done: {label} ({})", outcome(*took, layer.is_some(), *size))
        }
        Event::Progress { task, what, done, total: Some(total), bytes } => {
            // Quarters are enough for a log.
            let quarter = if *total == 0 { 4 } else { done * 4 / total };
            let told = state.told.insert(task, quarter);
            if told == Some(quarter) || (quarter == 0 && told.is_some()) {
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
            state.told.remove(task);
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
        Event::TestOutput { line, .. } => {
            format!("{} {}", paint("  |", Style::Blue, color), clean(line))
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

/// Returns what is said before a shell opens.
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
        "{failed}a shell in {}, {network}; whatever is done here is thrown away when it is left (`exit`)",
        clean(place)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let told: Vec<String> =
            (0..=100).filter_map(|done| say(&mut state, &at(done), false)).collect();
        assert_eq!(told, [0, 25, 50, 75, 100].map(|n| format!("  download packages: {n} of 100")));
    }
}
