//! What a job with a single call came to.

use super::call::{Ended, Reply};
use super::error::Error;

/// Returns the reply of a job's single call.
pub(crate) fn reply(ended: Ended, what: &str) -> Result<Reply, Error> {
    replies(ended, what).map(|all| all.into_iter().next().unwrap_or(Reply::Done))
}

/// Returns the replies of a job's calls, in order.
pub(crate) fn replies(ended: Ended, what: &str) -> Result<Vec<Reply>, Error> {
    match ended {
        Ended::Done(replies) => Ok(replies.into_iter().flatten().collect()),
        Ended::Cancelled => Err(Error::Interrupted),
        Ended::Failed { how, seen, .. } => Err(Error::Call { what: what.to_owned(), how, seen }),
    }
}

/// A call replied to another question.
pub(crate) fn unexpected(what: &str, reply: &Reply) -> Error {
    Error::Failed { what: what.to_owned(), why: format!("internal: it replied {reply:?}") }
}
