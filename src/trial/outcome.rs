//! How the one program of a job ended.

use super::error::Error;
use crate::job::{self, Ended};
use crate::sandbox::Failure;

/// How the program of a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

/// Returns what a job with one attached program came to.
pub(crate) fn outcome(ended: Ended) -> Result<Outcome, Error> {
    match ended {
        Ended::Done(_) => Ok(Outcome::Exit(0)),
        Ended::Cancelled => Err(job::Error::Interrupted.into()),
        Ended::Failed { how: Failure::Exit(status), .. } => Ok(Outcome::Exit(status)),
        Ended::Failed { how: Failure::Signal(signal), .. } => Ok(Outcome::Signal(signal)),
        Ended::Failed { how: Failure::Reached(reached), .. } => Err(Error::Limited(reached)),
        Ended::Failed { how, .. } => Err(Error::NotStarted { why: how.reasons() }),
    }
}
