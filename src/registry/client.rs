//! Requests to one repository: with credentials where they are wanted, and done again where the
//! failure may pass.

use std::borrow::Cow;
use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::Method;

use super::answer::Answer;
use super::auth::{Auth, Scope};
use super::backoff::Backoff;
use super::error::Error;
use super::options::{Limits, Options};
use super::transport::{Payload, Problem, Transport};
use crate::image::RemoteName;
use crate::web::Failure;

/// Bytes of an error's body that are read.
const ERROR_BYTES: u64 = 64 << 10;

/// Characters of a registry's message that are shown.
const MESSAGE: usize = 300;

/// A request.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// A path below the repository (`manifests/latest`), or a whole URL.
    pub(super) to: Cow<'a, str>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) payload: Payload<'a>,
    pub(super) scope: &'a Scope,
    /// For errors: `read registry.example/web:1`.
    pub(super) doing: String,
}

/// A request without an answer that can be used.
pub(super) struct Trouble {
    pub(super) error: Error,
    /// Another attempt may succeed.
    pub(super) passing: bool,
    /// What the registry asks to wait.
    pub(super) after: Option<Duration>,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self { error, passing: false, after: None }
    }
}

/// Requests to one repository.
pub(super) struct Client {
    pub(super) name: RemoteName,
    transport: Transport,
    auth: Auth,
}

impl Client {
    pub(super) fn new(name: &RemoteName, options: &Options) -> Self {
        let (transport, auth) = (Transport::new(name, options), Auth::new(name));
        Self { name: name.clone(), transport, auth }
    }

    pub(super) fn options(&self) -> &Options {
        self.transport.options()
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.options().limits
    }

    pub(super) fn backoff(&self) -> Backoff<'_> {
        Backoff::new(self.limits(), &self.options().stop)
    }

    /// Sends a request until it is answered, or was tried often enough.
    pub(super) fn send(&self, request: &Request<'_>) -> Result<Answer, Error> {
        let mut backoff = self.backoff();
        loop {
            match self.once(request) {
                Ok(answer) => return Ok(answer),
                Err(trouble) => self.again(&mut backoff, trouble)?,
            }
        }
    }

    /// Waits for the next attempt, or returns why there is none.
    pub(super) fn again(&self, backoff: &mut Backoff<'_>, trouble: Trouble) -> Result<(), Error> {
        let Trouble { error, passing, after } = trouble;
        if (self.options().stop)() {
            return Err(Error::Cancelled);
        }
        if passing && backoff.again(after) {
            return Ok(());
        }
        if (self.options().stop)() { Err(Error::Cancelled) } else { Err(error) }
    }

    /// Sends a request once, or more often where it is about who asks. The answer is neither that
    /// nor one of those that may pass.
    pub(super) fn once(&self, request: &Request<'_>) -> Result<Answer, Trouble> {
        let Request { method, to, headers, payload, scope, doing } = request;
        let problem = |problem| self.trouble(problem, doing);
        let url = if to.contains("://") {
            to.to_string()
        } else {
            format!("{}/v2/{}/{to}", self.transport.base()?, self.name.repository)
        };
        loop {
            let used = self.auth.authorization(&self.transport, scope).map_err(problem)?;
            let value = used.value.as_deref().filter(|_| self.transport.is_own(&url));
            let sent = self.transport.send(method, &url, headers, value, *payload);
            let answer = sent.map_err(problem)?;
            match answer.status {
                401 => {
                    self.auth.refused(&self.transport, scope, &used, &answer)?;
                    answer.drain();
                }
                403 => {
                    let message = message(answer);
                    return Err(Error::Denied { doing: doing.clone(), message }.into());
                }
                408 | 429 | 500.. => {
                    let (status, after) = (answer.status, answer.retry_after());
                    let mut trouble = self.trouble(Problem::Busy(status, after), doing);
                    if let Error::Status { message: text, .. } = &mut trouble.error {
                        *text = message(answer);
                    }
                    return Err(trouble);
                }
                _ => return Ok(answer),
            }
        }
    }

    fn trouble(&self, problem: Problem, doing: &str) -> Trouble {
        let doing = doing.to_owned();
        match problem {
            Problem::Error(error) => error.into(),
            Problem::Failure(source) => {
                let passing = source.may_pass();
                Trouble { error: Error::Request { doing, source }, passing, after: None }
            }
            Problem::Busy(_, Some(after)) if after > self.limits().wait => {
                Error::Later { doing, after }.into()
            }
            Problem::Busy(status, after) => {
                let error = Error::Status { doing, status, message: String::new() };
                // "Not implemented" and "version not supported" stay so.
                Trouble { error, passing: !matches!(status, 501 | 505), after }
            }
        }
    }

    /// Makes the trouble of a body that broke.
    pub(super) fn broken(&self, source: Failure, doing: &str) -> Trouble {
        self.trouble(Problem::Failure(source), doing)
    }

    /// Makes the error of an answer that is none of those that were expected.
    pub(super) fn unexpected(&self, answer: Answer, doing: &str) -> Error {
        let (doing, status) = (doing.to_owned(), answer.status);
        if status == 404 {
            answer.drain();
            return Error::NotFound { doing };
        }
        Error::Status { doing, status, message: message(answer) }
    }
}

/// Returns the message of a registry about an error (distribution-spec, "Error Codes"): in one
/// line, and not for long.
fn message(answer: Answer) -> String {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let mut bytes = vec![];
    // An error whose text breaks off is that error all the same.
    let _ = answer.into_reader().take(ERROR_BYTES).read_to_end(&mut bytes);
    let read: Option<Errors> = serde_json::from_slice(&bytes).ok();
    let one = read.and_then(|read| read.errors.into_iter().next());
    let text = match one {
        Some(One { code, message }) if message.is_empty() => code,
        Some(One { code, message }) if code.is_empty() => message,
        Some(One { code, message }) => format!("{message} ({code})"),
        None => String::new(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE).collect()
}
