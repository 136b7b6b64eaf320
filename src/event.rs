//! What happened, as data: the rooms report through a [`Sink`]; only `ui` turns
//! events into text.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::digest::Digest;

/// Where events go. Called from several threads; must not block for long.
pub type Sink = Arc<dyn Fn(Event) + Send + Sync>;

/// Returns a sink that forgets everything, for tests and for reads without progress.
pub fn silent() -> Sink {
    Arc::new(|_| {})
}

/// Returns `error` and its causes as text, outermost first: what a report or a line of progress is
/// made of.
pub fn chain(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect()
}

/// Returns a sink that marks events as those of one of several builds of a run.
pub fn of_image(sink: &Sink, image: &str) -> Sink {
    of(sink, Origin { image: Some(image.to_owned()), stage: None })
}

/// Returns a sink that marks events as those of a stage of a build. The number of a step then is
/// its place in that stage.
pub fn of_stage(sink: &Sink, stage: &str) -> Sink {
    of(sink, Origin { image: None, stage: Some(stage.to_owned()) })
}

fn of(sink: &Sink, origin: Origin) -> Sink {
    let sink = Sink::clone(sink);
    Arc::new(move |event| sink(Event::Of { origin: origin.clone(), event: Box::new(event) }))
}

/// Where an event comes from, where a run has several builds or a build several roots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// `name:version`; `None` where a run builds one image only.
    pub image: Option<String>,
    /// The stage; `None` in the root that is published.
    pub stage: Option<String>,
}

/// One thing that happened during a build.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A build of `image` (`name:version`) with `steps` steps starts.
    Started {
        /// `name:version`.
        image: String,
        /// Steps in the plan, without the base.
        steps: usize,
        /// Directory with a log file per step.
        logs: PathBuf,
    },
    /// A long piece of work with a countable size begins or moves on.
    Progress {
        /// What is being done; one word for one bar, for example `download`.
        task: &'static str,
        /// What it is being done to, for people.
        what: String,
        /// Units done.
        done: u64,
        /// Units in all, where known.
        total: Option<u64>,
        /// Whether units are bytes (else: things).
        bytes: bool,
    },
    /// A piece of work that `Progress` announced is over.
    ProgressEnd {
        /// As in `Progress`.
        task: &'static str,
    },
    /// Step `index` (0 = the base) starts.
    StepStarted {
        /// Place in the plan, from 1; 0 is the base.
        index: usize,
        /// What the step is called.
        label: String,
        /// Line of the recipe, or of `part`, from 1.
        line: u32,
        /// The included file that the line is of.
        part: Option<Arc<Path>>,
        /// It is in the cache: `StepDone` follows at once.
        cached: bool,
    },
    /// Step `index`, which was started, has to run: it is not in the cache.
    StepMissed {
        /// As in `StepStarted`.
        index: usize,
        /// A word for the reason: `first`, `unpinned`, `changed`, `gone`, `damaged`, `no-cache`,
        /// `paranoid`.
        kind: &'static str,
        /// The reason, for people.
        why: String,
        /// Rows of the key's table that changed.
        rows: Vec<String>,
        /// The build that had it last: time and id.
        since: Option<String>,
    },
    /// A line of output of step `index`, without its line end, as it was written (not necessarily
    /// UTF-8 when it was).
    StepOutput {
        /// As in `StepStarted`.
        index: usize,
        /// The line.
        line: String,
        /// Whether it came from standard error.
        stderr: bool,
    },
    /// Step `index` is over and good.
    StepDone {
        /// As in `StepStarted`.
        index: usize,
        /// How long it took.
        took: Duration,
        /// Its layer, unless it changed nothing.
        layer: Option<Digest>,
        /// Uncompressed bytes of the layer.
        size: u64,
        /// Taken from the cache.
        cached: bool,
    },
    /// A shell opens for the person at the terminal: nothing else may be shown until it is left.
    Shell {
        /// What it opens in, for people: `what step 3 left`.
        place: String,
        /// Why, from the outside in; empty where it was asked for.
        why: Vec<String>,
        /// Whether the network can be reached.
        network: bool,
    },
    /// Test `index` of the finished image starts.
    TestStarted {
        /// Place in the recipe, from 1.
        index: usize,
        /// How many there are.
        total: usize,
        /// What the test is called.
        label: String,
        /// Line of the recipe, from 1; 0 where there is none.
        line: u32,
    },
    /// A line of output in the copy that test `index` looks at: `who| text`.
    TestOutput {
        /// As in `TestStarted`.
        index: usize,
        /// The line.
        line: String,
    },
    /// Test `index` passed.
    TestDone {
        /// As in `TestStarted`.
        index: usize,
        /// How long it took.
        took: Duration,
    },
    /// Something the person should know, though the build goes on.
    Warning {
        /// A sentence fragment.
        message: String,
        /// A command or change that helps.
        hint: Option<String>,
    },
    /// Something worth a line in the story (for example "swept the scratch of a build that died").
    Note {
        /// A sentence fragment.
        message: String,
    },
    /// An event of one of several builds of this run, or of one of several roots of a build. These
    /// nest: what is named further outside holds for everything inside.
    Of {
        /// Where it comes from.
        origin: Origin,
        /// What happened there.
        event: Box<Event>,
    },
    /// The version is published: from this moment anyone can see it.
    Published {
        /// `name:version`.
        image: String,
        /// The manifest's digest.
        digest: Digest,
        /// It was there already, with this very content.
        already: bool,
    },
}

impl Event {
    /// Returns where the event comes from, and the event itself (never [`Event::Of`]).
    pub fn apart(&self) -> (Origin, &Self) {
        let (mut origin, mut event) = (Origin::default(), self);
        while let Self::Of { origin: outer, event: inner } = event {
            origin.image = origin.image.or_else(|| outer.image.clone());
            origin.stage = origin.stage.or_else(|| outer.stage.clone());
            event = inner;
        }
        (origin, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_of_an_image_and_a_stage() {
        let seen = Arc::new(std::sync::Mutex::new(vec![]));
        let sink: Sink = {
            let seen = Arc::clone(&seen);
            Arc::new(move |event| seen.lock().expect("not poisoned").push(event))
        };
        let image = of_image(&sink, "web:1.0.0");
        let both = of_stage(&image, "build");
        for sink in [&sink, &image, &both] {
            sink(Event::Note { message: "x".to_owned() });
        }
        let seen = seen.lock().expect("not poisoned");
        let origins: Vec<Origin> = seen.iter().map(|event| event.apart().0).collect();
        let origin = |image: Option<&str>, stage: Option<&str>| Origin {
            image: image.map(str::to_owned),
            stage: stage.map(str::to_owned),
        };
        assert_eq!(
            origins,
            [
                origin(None, None),
                origin(Some("web:1.0.0"), None),
                origin(Some("web:1.0.0"), Some("build"))
            ]
        );
        assert!(seen.iter().all(|event| matches!(event.apart().1, Event::Note { .. })));
    }

    #[test]
    fn causes_follow_their_error() {
        let inner = std::io::Error::other("inner");
        let outer = std::io::Error::other(std::io::Error::other(inner));
        assert_eq!(chain(&outer).last().map(String::as_str), Some("inner"));
        assert_eq!(chain(&std::io::Error::other("alone")), ["alone"]);
    }
}
