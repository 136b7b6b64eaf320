//! Who asks: credentials once they are wanted, and tokens of a scope for as long as they are good.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::Method;

use super::answer::Answer;
use super::challenge::{Scheme, scheme};
use super::credential;
use super::error::Error;
use super::secret::{Credential, Secret};
use super::transport::{Payload, Problem, Transport};
use crate::image::RemoteName;
use crate::web::Failure;

/// Longest answer of a token service.
const LARGEST: u64 = 1 << 20;

/// How long a token is good where its service does not say (distribution, "Token Authentication").
const GOOD_FOR: u64 = 60;

/// A token is renewed so long before its end.
const EARLY: Duration = Duration::from_secs(5);

/// What is to be done in which repositories: `repository:NAME:pull,push`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope(Vec<String>);

impl Scope {
    /// To read a repository.
    pub(super) fn pull(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull")])
    }

    /// To read and write a repository.
    pub(super) fn push(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull,push")])
    }

    /// To read another repository besides: for blobs that are mounted.
    pub(super) fn and_pull(mut self, repository: &str) -> Self {
        self.0.push(format!("repository:{repository}:pull"));
        self
    }
}

/// What is sent with a request.
pub(super) struct Authorization {
    /// The value of the header; nothing where nobody asked yet.
    pub(super) value: Option<String>,
    /// It was made for this request: another one would be no better.
    pub(super) fresh: bool,
}

struct Token {
    secret: Secret,
    until: Instant,
}

/// What is known of who asks at one registry.
pub(super) struct Auth {
    name: RemoteName,
    scheme: Mutex<Option<Scheme>>,
    credential: OnceLock<Option<Credential>>,
    tokens: Mutex<HashMap<Scope, Token>>,
}

impl Auth {
    pub(super) fn new(name: &RemoteName) -> Self {
        Self {
            name: name.clone(),
            scheme: Mutex::default(),
            credential: OnceLock::new(),
            tokens: Mutex::default(),
        }
    }

    /// Returns what to send with a request for `scope`.
    pub(super) fn authorization(
        &self,
        transport: &Transport,
        scope: &Scope,
    ) -> Result<Authorization, Problem> {
        let known = lock(&self.scheme).clone();
        match known {
            None => Ok(Authorization { value: None, fresh: false }),
            Some(Scheme::Basic) => match self.credential(transport)? {
                Some(Credential::Password { user, password }) => {
                    Ok(Authorization { value: Some(basic(user, password)), fresh: true })
                }
                Some(Credential::Token(token) | Credential::Identity(token)) => {
                    let value = Some(format!("Bearer {}", token.reveal()));
                    Ok(Authorization { value, fresh: true })
                }
                None => Err(self.no_credentials().into()),
            },
            Some(Scheme::Bearer { realm, service }) => {
                // Held while it is asked for: threads that start at once need one token.
                let mut tokens = lock(&self.tokens);
                if let Some(token) = tokens.get(scope).filter(|token| Instant::now() < token.until)
                {
                    let value = Some(format!("Bearer {}", token.secret.reveal()));
                    return Ok(Authorization { value, fresh: false });
                }
                let token = self.token(transport, &realm, service.as_deref(), scope)?;
                let value = Some(format!("Bearer {}", token.secret.reveal()));
                tokens.insert(scope.clone(), token);
                Ok(Authorization { value, fresh: true })
            }
        }
    }

    /// Takes in that `used` was not enough. What is returned is another try with what
    /// [`Auth::authorization`] gives next, or the reason why there is none.
    pub(super) fn refused(
        &self,
        transport: &Transport,
        scope: &Scope,
        used: &Authorization,
        answer: &Answer,
    ) -> Result<(), Error> {
        if used.fresh {
            return Err(match self.credential(transport)? {
                Some(_) => self.unauthorized(&self.name.registry),
                None => self.no_credentials(),
            });
        }
        if let Some(value) = &used.value {
            let mut tokens = lock(&self.tokens);
            // Another thread may have renewed it already.
            let spent = |token: &Token| value.ends_with(token.secret.reveal());
            if tokens.get(scope).is_some_and(spent) {
                tokens.remove(scope);
            }
            return Ok(());
        }
        let headers = answer.headers.get_all("www-authenticate");
        let found = scheme(headers.iter().filter_map(|value| value.to_str().ok()));
        let Some(found) = found else {
            return Err(self.token_service("it does not say how to ask it (WWW-Authenticate)"));
        };
        *lock(&self.scheme) = Some(found);
        Ok(())
    }

    /// Returns the credentials, read once.
    fn credential(&self, transport: &Transport) -> Result<Option<&Credential>, Error> {
        if let Some(known) = self.credential.get() {
            return Ok(known.as_ref());
        }
        let options = transport.options();
        let found = credential::find(&options.credentials, &self.name, &options.stop)?;
        Ok(self.credential.get_or_init(|| found).as_ref())
    }

    fn token(
        &self,
        transport: &Transport,
        realm: &str,
        service: Option<&str>,
        scope: &Scope,
    ) -> Result<Token, Problem> {
        if !realm.starts_with("https://")
            && (!realm.starts_with("http://") || transport.base()?.starts_with("https://"))
        {
            return Err(self.token_service("it is not asked over https").into());
        }
        let mut fields: Vec<(&str, &str)> = scope.0.iter().map(|one| ("scope", &**one)).collect();
        fields.extend(service.map(|service| ("service", service)));
        let answer = match self.credential(transport)? {
            Some(Credential::Token(token)) => {
                let until = Instant::now() + Duration::from_secs(GOOD_FOR);
                return Ok(Token { secret: token.clone(), until });
            }
            Some(Credential::Identity(token)) => {
                fields.extend([("grant_type", "refresh_token"), ("refresh_token", token.reveal())]);
                post(transport, realm, fields)?
            }
            Some(Credential::Password { user, password }) => {
                let (user, value) = (user.as_str(), basic(user, password));
                let mut query = fields.clone();
                query.push(("account", user));
                let answer = get(transport, realm, &query, Some(&value))?;
                if matches!(answer.status, 404 | 405) {
                    answer.drain();
                    fields.extend([("grant_type", "password"), ("username", user)]);
                    fields.push(("password", password.reveal()));
                    post(transport, realm, fields)?
                } else {
                    answer
                }
            }
            None => get(transport, realm, &fields, None)?,
        };
        match answer.status {
            200 => {}
            401 | 403 => {
                return Err(match self.credential(transport)? {
                    Some(_) => self.unauthorized(&self.name.registry),
                    None => self.no_credentials(),
                }
                .into());
            }
            status if status == 429 || status >= 500 => {
                return Err(Problem::Busy(status, answer.retry_after()));
            }
            status => return Err(self.token_service(&format!("it answers {status}")).into()),
        }
        let mut bytes = vec![];
        let limits = &transport.options().limits;
        answer
            .into_reader()
            .take(LARGEST)
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::of_io(error, limits.patience()))?;
        self.read_token(&bytes).map_err(Into::into)
    }

    fn read_token(&self, bytes: &[u8]) -> Result<Token, Error> {
        #[derive(Deserialize)]
        struct Given {
            #[serde(default)]
            token: Option<Secret>,
            #[serde(default)]
            access_token: Option<Secret>,
            #[serde(default)]
            expires_in: Option<u64>,
        }
        let given: Option<Given> = serde_json::from_slice(bytes).ok();
        let (secret, seconds) = given
            .and_then(|given| {
                let seconds = given.expires_in.unwrap_or(GOOD_FOR).clamp(1, 24 * 3600);
                given.token.or(given.access_token).map(|secret| (secret, seconds))
            })
            // A token that is no header would show up in the error about it.
            .filter(|(secret, _)| {
                !secret.reveal().is_empty() && secret.reveal().bytes().all(|b| b.is_ascii_graphic())
            })
            .ok_or_else(|| self.token_service("its answer has no token"))?;
        let good = Duration::from_secs(seconds);
        let until = Instant::now() + good.saturating_sub(EARLY).max(good / 2);
        Ok(Token { secret, until })
    }

    fn no_credentials(&self) -> Error {
        Error::NoCredentials { registry: self.name.registry.clone(), place: self.name.place() }
    }

    fn unauthorized(&self, registry: &str) -> Error {
        Error::Unauthorized { registry: registry.to_owned(), place: self.name.place() }
    }

    fn token_service(&self, why: &str) -> Error {
        Error::TokenService { registry: self.name.registry.clone(), why: why.to_owned() }
    }
}

fn get(
    transport: &Transport,
    realm: &str,
    fields: &[(&str, &str)],
    authorization: Option<&str>,
) -> Result<Answer, Problem> {
    let joint = if realm.contains('?') { '&' } else { '?' };
    let url = format!("{realm}{joint}{}", form(fields));
    transport.send(&Method::GET, &url, &[], authorization, Payload::Nothing)
}

fn post(transport: &Transport, realm: &str, fields: Vec<(&str, &str)>) -> Result<Answer, Problem> {
    // OAuth 2 has one scope with blanks between (RFC 6749 section 3.3).
    let (scopes, fields): (Vec<_>, Vec<_>) =
        fields.into_iter().partition(|(name, _)| *name == "scope");
    let scopes: Vec<&str> = scopes.into_iter().map(|(_, value)| value).collect();
    let scope = scopes.join(" ");
    let own = [("scope", scope.as_str()), ("client_id", "bake")];
    let body = form(&fields.into_iter().chain(own).collect::<Vec<_>>());
    let headers = [("content-type", "application/x-www-form-urlencoded".to_owned())];
    transport.send(&Method::POST, realm, &headers, None, Payload::Bytes(body.as_bytes()))
}

/// Writes fields as a query or a form.
fn form(fields: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in fields {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        escape(value, &mut out);
    }
    out
}

/// Writes what is not unreserved (RFC 3986 section 2.3) with percent signs.
pub(super) fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

fn basic(user: &str, password: &Secret) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.reveal())))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
