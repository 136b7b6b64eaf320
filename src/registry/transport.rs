//! One request: TLS, proxies, redirects, and the end of it all when the person wants it.
//!
//! What goes to the registry and what goes elsewhere are different agents: the client certificate
//! is for the registry alone, and from a public registry no way leads to a private address.

use std::fs;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::{Method, Request, Uri, header};
use ureq::tls::{Certificate, ClientCert, PrivateKey, TlsConfig};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, AsSendBody, Body, SendBody};

use super::answer::Answer;
use super::error::Error;
use super::options::Options;
use crate::image::{DOCKER_HUB, RemoteName, host_of};
use crate::threads;
use crate::web::{self, Failure, Public, Remembering};

/// Redirects that are followed, one after the other.
const REDIRECTS: usize = 5;

/// What can be read from its beginning more than once.
pub(super) trait Reopen {
    /// Opens it.
    fn open(&self) -> io::Result<Box<dyn Read + '_>>;
}

/// What is sent.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    /// Nothing.
    Nothing,
    /// Bytes.
    Bytes(&'a [u8]),
    /// So many bytes of what can be opened again for another attempt.
    Open(&'a dyn Reopen, u64),
}

/// The agents of one registry.
pub(super) struct Transport {
    /// `https://host:port`, without a slash.
    base: OnceLock<String>,
    authority: String,
    options: Options,
    agents: Arc<Agents>,
}

#[derive(Default)]
struct Agents {
    /// To the registry, without TLS.
    plain: OnceLock<Agent>,
    /// To the registry.
    own: OnceLock<Agent>,
    /// To hosts that it names.
    other: OnceLock<Agent>,
    /// To hosts that it names, where those have to be public.
    public: OnceLock<Agent>,
    /// To this host, where it names that: as to the registry, without a proxy.
    near: OnceLock<Agent>,
    /// What the registry's name leads to.
    resolver: Arc<Remembering>,
    over: AtomicBool,
    watched: OnceLock<()>,
    /// A connection broke: those that are left of earlier requests may be about to.
    broke: AtomicBool,
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.agents.over.store(true, Ordering::Relaxed);
    }
}

impl Transport {
    pub(super) fn new(name: &RemoteName, options: &Options) -> Self {
        let authority = match name.registry.as_str() {
            DOCKER_HUB => "registry-1.docker.io".to_owned(),
            other => other.to_owned(),
        };
        let agents = Arc::default();
        Self { base: OnceLock::new(), authority, options: options.clone(), agents }
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// Returns `https://host:port`. A registry on a loopback address is asked whether it speaks
    /// TLS, unless the person decided that.
    pub(super) fn base(&self) -> Result<&str, Error> {
        if let Some(base) = self.base.get() {
            return Ok(base);
        }
        let host = host_of(&self.authority);
        let named = |named: &String| *named == self.authority || named == host;
        let plain = self.options.plain.iter().any(named)
            || (is_loopback(host) && !self.has_certificates() && self.speaks_plain()?);
        let scheme = if plain { "http" } else { "https" };
        Ok(self.base.get_or_init(|| format!("{scheme}://{}", self.authority)))
    }

    /// Whether the person has certificates for this registry: then it speaks TLS.
    fn has_certificates(&self) -> bool {
        let Options { authority, certificate, directories, .. } = &self.options;
        authority.is_some()
            || certificate.is_some()
            || directories.iter().any(|dir| dir.join(&self.authority).is_dir())
    }

    /// Asks in plain HTTP, without credentials. What does not answer that is spoken to in TLS;
    /// where nobody answers at all it makes no difference.
    fn speaks_plain(&self) -> Result<bool, Error> {
        let url = format!("http://{}/v2/", self.authority);
        Ok(match self.agent(&url, true)?.get(&url).call() {
            // Go's servers say so to those who do not speak TLS; others hang up.
            Ok(answer) => answer.status() != 400,
            Err(error) => {
                matches!(Failure::of(error, self.options.limits.patience()), Failure::Refused)
            }
        })
    }

    /// Whether `url` is one of the registry itself.
    pub(super) fn is_own(&self, url: &str) -> bool {
        self.base().is_ok_and(|base| web::origin(base) == web::origin(url))
    }

    /// Sends a request and follows where it is redirected to: only what is read is asked for
    /// elsewhere, and never with `authorization`, which is for the host of `url`.
    pub(super) fn send(
        &self,
        method: &Method,
        url: &str,
        headers: &[(&'static str, String)],
        authorization: Option<&str>,
        payload: Payload<'_>,
    ) -> Result<Answer, Problem> {
        let base = self.base()?.to_owned();
        let mut url = url.to_owned();
        let mut authorization = authorization;
        let mut redirect = None;
        for _ in 0..=REDIRECTS {
            let own = web::origin(&url) == web::origin(&base);
            let agent = self.agent(&url, own)?;
            let mut request = Request::builder().method(method.clone()).uri(&url);
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            if let Some(value) = authorization {
                request = request.header(header::AUTHORIZATION, value);
            }
            let answer = self.one(agent, request, payload)?;
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            let reads = *method == Method::GET || *method == Method::HEAD;
            let (301 | 302 | 303 | 307 | 308, Some(location)) = (status, location) else {
                // Some addresses of storage are signed for GET alone: that the registry leads
                // there says that it is there.
                if let Some(redirect) =
                    redirect.filter(|_| *method == Method::HEAD && status >= 400)
                {
                    return Ok(redirect);
                }
                return Ok(Answer { status, headers, url, body: answer.into_body() });
            };
            if !reads {
                return Err(Failure::Redirect("what is sent to it is redirected").into());
            }
            let next = web::target(&url, location).map_err(Failure::Redirect)?;
            if web::origin(&next) != web::origin(&url) {
                authorization = None;
                redirect = Some(Answer { status, headers, url, body: answer.into_body() });
            }
            url = next;
        }
        Err(Failure::Redirect("it redirects for ever").into())
    }

    fn one(
        &self,
        agent: &Agent,
        request: ureq::http::request::Builder,
        payload: Payload<'_>,
    ) -> Result<ureq::http::Response<Body>, Problem> {
        let sized = |request: ureq::http::request::Builder, length: u64| {
            request.header(header::CONTENT_LENGTH, length)
        };
        match payload {
            Payload::Nothing => self.run(agent, request.body(())),
            Payload::Bytes(mut bytes) => {
                let request = sized(request, bytes.len() as u64);
                self.run(agent, request.body(SendBody::from_reader(&mut bytes)))
            }
            Payload::Open(open, length) => {
                let doing = "read what is to be sent".to_owned();
                let mut reader = open.open().map_err(|source| Error::Local { doing, source })?;
                self.run(agent, sized(request, length).body(SendBody::from_reader(&mut reader)))
            }
        }
    }

    /// Sends a request; on the connection of an earlier one only while none has broken.
    fn run<B: AsSendBody>(
        &self,
        agent: &Agent,
        request: Result<Request<B>, ureq::http::Error>,
    ) -> Result<ureq::http::Response<Body>, Problem> {
        let request = request.map_err(|error| Failure::Protocol(error.to_string()))?;
        let answer = match self.agents.broke.load(Ordering::Relaxed) {
            true => {
                let anew = agent.configure_request(request).max_idle_age(Duration::ZERO);
                agent.run(anew.build())
            }
            false => agent.run(request),
        };
        answer.map_err(|error| {
            self.agents.broke.store(true, Ordering::Relaxed);
            match (self.options.stop)() {
                true => Problem::Error(Error::Cancelled),
                false => Failure::of(error, self.options.limits.patience()).into(),
            }
        })
    }

    /// Returns the agent for `url`, made for the first request: it reads every certificate that
    /// the system trusts, which nobody who asks for nothing waits for.
    fn agent(&self, url: &str, own: bool) -> Result<&Agent, Error> {
        if (self.options.stop)() {
            return Err(Error::Cancelled);
        }
        self.watch();
        let remembering = || Shared(Arc::clone(&self.agents.resolver));
        if own {
            let tls = !url.starts_with("http://");
            let cell = if tls { &self.agents.own } else { &self.agents.plain };
            if let Some(agent) = cell.get() {
                return Ok(agent);
            }
            let tls = if tls { self.tls(true)? } else { TlsConfig::default() };
            let config = config(&self.options, tls, url);
            let connector = DefaultConnector::default();
            return Ok(cell.get_or_init(|| Agent::with_parts(config, connector, remembering())));
        }
        let from_public = self.is_public();
        if from_public && is_private(url) {
            let doing = "go where the registry leads".to_owned();
            return Err(Error::Request { doing, source: Failure::Private(None) });
        }
        let cell = match from_public {
            true => &self.agents.public,
            false if web::origin(url).is_some_and(|(_, host, _)| is_loopback(&host)) => {
                &self.agents.near
            }
            false => &self.agents.other,
        };
        if let Some(agent) = cell.get() {
            return Ok(agent);
        }
        let config = config(&self.options, self.tls(false)?, url);
        let connector = DefaultConnector::default();
        Ok(cell.get_or_init(|| match from_public {
            true => Agent::with_parts(config, connector, Public::default()),
            false => Agent::with_parts(config, connector, remembering()),
        }))
    }

    /// Whether the registry is one of the public internet. What a proxy finds for a name is not
    /// known; that counts as public.
    fn is_public(&self) -> bool {
        let host = host_of(&self.authority);
        if let Ok(address) = host.parse() {
            return web::is_public(address);
        }
        if is_loopback(host) {
            return false;
        }
        let schemes = ["https", "http"].map(|scheme| format!("{scheme}://{}/", self.authority));
        let uris = schemes.iter().filter_map(|url| url.parse::<Uri>().ok());
        let found: Vec<_> =
            uris.filter_map(|uri| self.agents.resolver.known(&uri)).flatten().collect();
        found.is_empty() || found.iter().any(|address| web::is_public(address.ip()))
    }

    /// What to trust, and, towards the registry itself, what to show.
    fn tls(&self, own: bool) -> Result<TlsConfig, Error> {
        let Options { authority, certificate, key, directories, .. } = &self.options;
        let mut authorities = vec![];
        if let Some(path) = authority {
            let found = read_certificates(path)?;
            authorities.extend(found);
        }
        let mut pair = match (certificate, key) {
            (Some(certificate), key) => {
                // Both may stand in one file.
                Some((certificate.clone(), key.as_ref().unwrap_or(certificate).clone()))
            }
            (None, _) => None,
        };
        for directory in directories.iter().map(|dir| dir.join(&self.authority)) {
            for path in files(&directory)? {
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => authorities.extend(read_certificates(&path)?),
                    Some("cert") if pair.is_none() => {
                        pair = Some((path.clone(), path.with_extension("key")));
                    }
                    _ => {}
                }
            }
        }
        let client = match pair.filter(|_| own) {
            Some((certificate, key)) => {
                let chain = read_certificates(&certificate)?;
                Some(ClientCert::new_with_certs(&chain, read_key(&key)?))
            }
            None => None,
        };
        let roots = web::roots_and(authorities, self.options.no_host_trust);
        Ok(TlsConfig::builder().root_certs(roots).client_cert(client).build())
    }

    /// Starts the thread that ends requests in flight when the person wants that: it closes their
    /// connections. It ends with the last request.
    fn watch(&self) {
        self.agents.watched.get_or_init(|| {
            let (agents, stop) = (Arc::clone(&self.agents), Arc::clone(&self.options.stop));
            // Where the host gives no thread, requests end by their timeouts.
            let _ = threads::free(move || {
                while !agents.over.load(Ordering::Relaxed) {
                    if stop() {
                        agents.shut_down();
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
        });
    }
}

impl Agents {
    fn shut_down(&self) {
        let all = [&self.plain, &self.own, &self.other, &self.public, &self.near];
        all.iter().filter_map(|cell| cell.get()).for_each(|agent| agent.clone().shutdown());
    }
}

/// A resolver that several agents have.
#[derive(Debug)]
struct Shared(Arc<Remembering>);

impl Resolver for Shared {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        self.0.resolve(uri, config, timeout)
    }
}

/// Why a request was not answered.
pub(super) enum Problem {
    /// Another attempt may be answered, where the failure may pass.
    Failure(Failure),
    /// The server has no time: its status, and when to come back.
    Busy(u16, Option<Duration>),
    /// It makes no sense to try.
    Error(Error),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Returns how to speak to the host of `url`. No proxy leads to this one, whatever the variables
/// say: what it calls localhost is itself.
fn config(options: &Options, tls: TlsConfig, url: &str) -> Config {
    let (limits, mut config) = (&options.limits, Agent::config_builder());
    if options.no_host_trust || web::origin(url).is_some_and(|(_, host, _)| is_loopback(&host)) {
        config = config.proxy(None);
    }
    config
        .timeout_resolve(Some(limits.connect))
        .timeout_connect(Some(limits.connect))
        .timeout_per_read(Some(limits.stall))
        .timeout_per_write(Some(limits.stall))
        .timeout_recv_response(Some(limits.stall * 5))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections_per_host(limits.parallel)
        .max_idle_connections(limits.parallel * 3)
        .user_agent(concat!("bake/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls)
        .build()
}

fn is_loopback(host: &str) -> bool {
    let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    host == "localhost"
        || host.ends_with(".localhost")
        || address.is_some_and(|address| address.is_loopback())
}

/// Whether the host of a URL is written as an address that is not public, or is this one.
fn is_private(url: &str) -> bool {
    let Some((_, host, _)) = web::origin(url) else { return true };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    is_loopback(host) || host.parse().is_ok_and(|address| !web::is_public(address))
}

/// Returns the files of a directory by name; one that is not there has none.
fn files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(Error::certificate(directory, error)),
    };
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(|error| Error::certificate(directory, error))?;
    paths.sort();
    Ok(paths)
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    fs::metadata(path).map_err(|error| Error::certificate(path, error))?;
    let found = web::certificates(path);
    if found.is_empty() {
        return Err(Error::certificate(path, "it has no certificate (PEM)"));
    }
    Ok(found)
}

fn read_key(path: &Path) -> Result<PrivateKey<'static>, Error> {
    let bytes = fs::read(path).map_err(|error| Error::certificate(path, error))?;
    // The message of the reader would show what stands there.
    PrivateKey::from_pem(&bytes).map_err(|_| Error::certificate(path, "it has no key (PEM)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_hosts_are_known_by_how_they_are_written() {
        for url in [
            "http://127.0.0.1/x",
            "http://[::1]:1/x",
            "http://localhost/",
            "http://10.1.1.1",
            "http://169.254.169.254/latest",
            "no url",
        ] {
            assert!(is_private(url), "{url}");
        }
        for url in ["https://blobs.example/x", "http://8.8.8.8/"] {
            assert!(!is_private(url), "{url}");
        }
    }
}
