//! One request over HTTP: redirects are followed here, and never off the web.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ureq::http::{HeaderValue, Response, StatusCode, header};
use ureq::tls::TlsConfig;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body};

use crate::secret::Value;
use crate::web::{self, Authorities, Patience, Remembering};

/// Redirects that are followed, one after the other.
const REDIRECTS: usize = 5;

/// How to download.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Downloads at once.
    pub parallel: usize,
    /// To make a connection.
    pub connect: Duration,
    /// Without a single byte.
    pub stall: Duration,
    /// Attempts in all, when the failure may pass.
    pub tries: u32,
    /// Before the second attempt; doubled for each further one.
    pub pause: Duration,
}

impl Limits {
    pub(super) fn patience(&self) -> Patience {
        Patience { connect: self.connect, stall: self.stall }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            parallel: 8,
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            tries: 3,
            pause: Duration::from_millis(500),
        }
    }
}

/// Why there was no answer.
pub(super) enum NoAnswer {
    /// It is not the address of something on the web.
    BadUrl,
    /// They cannot be shown in a header.
    BadCredentials,
    /// It redirects to where bake does not follow.
    Redirect(&'static str),
    /// Anything else.
    Request(ureq::Error),
}

/// Makes what sends requests. `authorities`: whom https trusts.
pub(super) fn agent(limits: &Limits, authorities: &Authorities) -> Agent {
    let mut config = Agent::config_builder();
    if *authorities == Authorities::BuiltIn {
        config = config.proxy(None);
    }
    let config = config
        .timeout_resolve(Some(limits.connect))
        .timeout_connect(Some(limits.connect))
        .timeout_per_read(Some(limits.stall))
        .timeout_per_write(Some(limits.stall))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections_per_host(limits.parallel)
        .max_idle_connections(limits.parallel * 2)
        .user_agent(concat!("bake/", env!("CARGO_PKG_VERSION")))
        .tls_config(TlsConfig::builder().root_certs(web::roots(authorities)).build())
        .build();
    Agent::with_parts(config, DefaultConnector::default(), Remembering::default())
}

/// Asks for `url`, wherever on the web that leads, and returns a response of status 200 or an
/// error.
///
/// `credentials` are shown to the server of `url` and to none that it leads to.
pub(super) fn get(
    agent: &Agent,
    url: &str,
    credentials: Option<&Value>,
) -> Result<Response<Body>, NoAnswer> {
    let authorization = credentials.map(authorization).transpose()?;
    let first = web::origin(url);
    let mut url = url.to_owned();
    for _ in 0..=REDIRECTS {
        if !is_web(&url) {
            return Err(NoAnswer::BadUrl);
        }
        let mut request = agent.get(&url);
        if let Some(value) =
            authorization.as_ref().filter(|_| first.is_some() && web::origin(&url) == first)
        {
            request = request.header(header::AUTHORIZATION, value);
        }
        let response = request.call().map_err(NoAnswer::Request)?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response);
        }
        let location = response.headers().get(header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok());
        url = match (status.as_u16(), location) {
            (301 | 302 | 303 | 307 | 308, Some(location)) => {
                web::target(&url, location).map_err(NoAnswer::Redirect)?
            }
            (status, _) => return Err(NoAnswer::Request(ureq::Error::StatusCode(status))),
        };
    }
    Err(NoAnswer::Redirect("it redirects for ever"))
}

/// Returns the header that shows credentials: with a colon they are a user and a password.
fn authorization(credentials: &Value) -> Result<HeaderValue, NoAnswer> {
    let value = credentials.line();
    let text = match value.contains(&b':') {
        true => [b"Basic ", BASE64_STANDARD.encode(value).as_bytes()].concat(),
        false => [b"Bearer ", value].concat(),
    };
    let mut header = HeaderValue::from_bytes(&text).map_err(|_| NoAnswer::BadCredentials)?;
    header.set_sensitive(true);
    Ok(header)
}

fn is_web(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}
