//! What travels to the process of a call, and how it is carried out there.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::builtin::BuiltIn;
use super::call::{self, Call, CallError, Inside};

/// What can be called: the program's own, or what every program has.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request<C> {
    /// Of the program.
    Call(C),
    /// Of this room.
    BuiltIn(BuiltIn),
}

impl<C> From<BuiltIn> for Request<C> {
    fn from(built_in: BuiltIn) -> Self {
        Self::BuiltIn(built_in)
    }
}

impl<C> Request<C> {
    /// The same request of a larger set of calls.
    pub(super) fn map<D>(self, wider: impl Fn(C) -> D) -> Request<D> {
        match self {
            Self::Call(call) => Request::Call(wider(call)),
            Self::BuiltIn(built_in) => Request::BuiltIn(built_in),
        }
    }
}

/// Carries out a request as the helper gets it: its JSON, and the files that came with it. Returns
/// the JSON of the reply; `None` for what is built in.
pub(super) type Dispatch = fn(Value, Vec<OwnedFd>, Inside<'_>) -> Result<Option<Value>, CallError>;

/// See [`Dispatch`].
pub(super) fn dispatch<C: Call>(
    request: Value,
    files: Vec<OwnedFd>,
    inside: Inside<'_>,
) -> Result<Option<Value>, CallError> {
    let malformed = |error: serde_json::Error| CallError::Malformed(error.to_string());
    match call::read(request, files).map_err(malformed)? {
        Request::<C>::Call(call) => {
            serde_json::to_value(call.run(inside)?).map(Some).map_err(malformed)
        }
        Request::BuiltIn(built_in) => built_in.run(inside).map(|()| None),
    }
}
