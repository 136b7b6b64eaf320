//! What a job reports while it runs, and how it ends.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::allowance::Reached;
use super::call::{CallError, is_no_room};

/// What happens in a running job.
#[derive(Debug)]
pub enum JobEvent<'a> {
    /// Action `.0` starts.
    Action(usize),
    /// A line of output without its line end; a last line without one counts too; over-long lines
    /// come in pieces of 64 KiB.
    Line {
        /// From standard error.
        stderr: bool,
        /// The bytes.
        text: &'a [u8],
    },
    /// A line of output of a program of [`super::Action::Start`].
    Service {
        /// Its index in `Job::actions`.
        action: usize,
        /// As in `Line`.
        text: &'a [u8],
    },
    /// How far a call has come, in a unit of its own.
    Progress(u64),
    /// An action failed like this, and [`super::Action::Rescue`] is about to run.
    Rescue(&'a Failure),
}

/// How a job ended.
#[derive(Debug)]
pub enum Ended<R> {
    /// All actions succeeded: the replies of the calls, one an action; `None` for what is no call
    /// or was skipped.
    Done(Vec<Option<R>>),
    /// Action `action` failed.
    Failed {
        /// Index in `Job::actions`.
        action: usize,
        /// How.
        how: Failure,
        /// What else was seen.
        seen: Circumstances,
    },
    /// The cancel handle fired; everything inside is dead.
    Cancelled,
}

/// What was seen beside a failure and may explain it: facts of the kernel's, never what a program
/// printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Circumstances {
    /// The action tried to reach another machine or a name server, in a job without a network.
    pub no_network: bool,
    /// No room was left where the changes of the job's root go.
    pub no_room: bool,
    /// A file was to belong to this id, which the session does not have.
    pub unmapped: Option<u32>,
}

/// The processes of an action, by the names that the kernel has for them (`comm` of
/// proc_pid_stat(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// The program, and what it waits for or has in the background.
    pub below: Vec<String>,
    /// Those whose parent has ended.
    pub orphans: Vec<String>,
}

/// How an action failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Exit status other than 0.
    Exit(i32),
    /// Ended by a signal.
    Signal(i32),
    /// It ended well, although it was refused to give a file to this id, which the session does not
    /// have: the file kept its owner.
    Unmapped(u32),
    /// Ran out of time and was killed.
    TimedOut {
        /// The time it had.
        after: Duration,
        /// What ran then.
        alive: Alive,
    },
    /// Used more than it may, and was killed.
    Reached(Reached),
    /// The program could not be started, or the user is not in the image.
    Start(String),
    /// A call returned an error.
    Call(CallError),
    /// What was tried until it succeeds did not, in all this time.
    NotHeld {
        /// How long it was tried.
        within: Duration,
        /// How the last try failed, where one came to an end.
        last: Option<Box<Failure>>,
    },
    /// A program of [`super::Action::Start`] ended.
    Lost {
        /// Its index in `Job::actions`.
        action: usize,
        /// How: [`Failure::Exit`] (0 as well) or [`Failure::Signal`].
        how: Box<Failure>,
    },
}

impl Failure {
    /// Returns which error of the system is behind it, as in errno(3), where that is known.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Call(error) => error.errno(),
            Self::NotHeld { last: Some(how), .. } | Self::Lost { how, .. } => how.errno(),
            _ => None,
        }
    }

    /// Whether a full disk or quota is behind it.
    #[must_use]
    pub fn no_room(&self) -> bool {
        self.errno().is_some_and(is_no_room)
    }

    /// Returns the reason and further causes, as fragments for people, from the outside in.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::Exit(127) => vec!["exit status 127 (command not found)".to_owned()],
            Self::Exit(code) => vec![format!("exit status {code}")],
            Self::Signal(signal) => vec![format!("killed by signal {signal}")],
            Self::Unmapped(id) => vec![format!(
                "it gave a file to the id {id}, which this host does not give to the sandbox, and \
                    went on although that was refused"
            )],
            Self::TimedOut { after, alive } => {
                let seconds = after.as_secs_f64();
                let late = format!("it ran longer than its timeout of {seconds} s and was killed");
                let named = |what: &str, names: &[String]| {
                    (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
                };
                let running = named("these ran:", &alive.below);
                let orphans = named("left running by programs that have ended:", &alive.orphans);
                [Some(late), running, orphans].into_iter().flatten().collect()
            }
            Self::Reached(reached) => vec![reached.reason()],
            Self::Start(why) => vec![why.clone()],
            Self::Call(error) => error.reasons(),
            Self::NotHeld { within, last: None } => {
                vec![format!("it came to no end within {} s", within.as_secs_f64())]
            }
            Self::NotHeld { within, last: Some(last) } => {
                let tried = format!("tried for {} s; the last time:", within.as_secs_f64());
                std::iter::once(tried).chain(last.reasons()).collect()
            }
            Self::Lost { how, .. } => {
                std::iter::once("a program in the background ended".to_owned())
                    .chain(how.reasons())
                    .collect()
            }
        }
    }
}
