//! One request over HTTP: redirects, which are followed here and never off the web, certificate
//! authorities, and a resolver that remembers.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::{self, Response, StatusCode, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body};

/// Redirects that are followed, one after the other.
const REDIRECTS: usize = 5;
/// Where systems keep the certificate authorities that they trust; the first that is there counts.
const STORES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

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
    /// It redirects to where bake does not follow.
    Redirect(&'static str),
    /// Anything else.
    Request(ureq::Error),
}

/// Makes what sends requests. `authorities`: files and directories of certificates (PEM) that are
/// trusted instead of the system's.
pub(super) fn agent(limits: &Limits, authorities: &[PathBuf]) -> Agent {
    let config = Agent::config_builder()
        .timeout_resolve(Some(limits.connect))
        .timeout_connect(Some(limits.connect))
        .timeout_per_read(Some(limits.stall))
        .timeout_per_write(Some(limits.stall))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections_per_host(limits.parallel)
        .max_idle_connections(limits.parallel * 2)
        .user_agent(concat!("bake/", env!("CARGO_PKG_VERSION")))
        .tls_config(TlsConfig::builder().root_certs(roots(authorities)).build())
        .build();
    Agent::with_parts(config, DefaultConnector::default(), Remembering::default())
}

/// The authorities of `named`, else of the system, else those that come with bake.
fn roots(named: &[PathBuf]) -> RootCerts {
    let found: Vec<Certificate<'static>> = if named.is_empty() {
        STORES.iter().map(|path| certificates(Path::new(path))).find(|found| !found.is_empty())
    } else {
        Some(named.iter().flat_map(|path| certificates(path)).collect())
    }
    .unwrap_or_default();
    if found.is_empty() && named.is_empty() {
        return RootCerts::WebPki;
    }
    RootCerts::Specific(Arc::new(found))
}

/// Reads the certificates of a file, or of the files of a directory. What cannot be read holds
/// none: a connection that needs it says then that it does not trust the server.
fn certificates(path: &Path) -> Vec<Certificate<'static>> {
    if let Ok(entries) = fs::read_dir(path) {
        let files = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
        return files.flat_map(|file| certificates(&file)).collect();
    }
    let Ok(bytes) = fs::read(path) else { return vec![] };
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    parse_pem(&bytes).filter_map(certificate).collect()
}

/// Asks for `url`, wherever on the web that leads, and returns a response of status 200 or an
/// error.
pub(super) fn get(agent: &Agent, url: &str) -> Result<Response<Body>, NoAnswer> {
    let mut url = url.to_owned();
    for _ in 0..=REDIRECTS {
        if !is_web(&url) {
            return Err(NoAnswer::BadUrl);
        }
        let response = agent.get(&url).call().map_err(NoAnswer::Request)?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response);
        }
        let location = response.headers().get(header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok());
        url = match (status.as_u16(), location) {
            (301 | 302 | 303 | 307 | 308, Some(location)) => {
                target(&url, location).map_err(NoAnswer::Redirect)?
            }
            (status, _) => return Err(NoAnswer::Request(ureq::Error::StatusCode(status))),
        };
    }
    Err(NoAnswer::Redirect("it redirects for ever"))
}

fn is_web(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

/// Where `location` leads from `url` (RFC 3986 section 5), if bake may go there: what is no web
/// address could be a file of this host, and what was asked for over https must not be answered
/// over http.
fn target(url: &str, location: &str) -> Result<String, &'static str> {
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, rest) = url.split_once("://").ok_or("it redirects to nowhere")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let colon = location.find(':').filter(|colon| {
        let name = &location[..*colon];
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    let found = if let Some(colon) = colon {
        let (named, rest) = (location[..colon].to_ascii_lowercase(), &location[colon + 1..]);
        if !matches!(named.as_str(), "http" | "https") || !rest.starts_with("//") {
            return Err("it redirects to something that is not a web address");
        }
        let host = rest[2..].split(['/', '?']).next().unwrap_or_default();
        let own = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if named == scheme && host == own {
            format!("{scheme}://{authority}{}", &rest[2 + host.len()..])
        } else {
            format!("{named}:{rest}")
        }
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') || location.is_empty() {
        format!("{scheme}://{authority}{path}{location}")
    } else {
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let (relative, query) = location.split_at(location.find('?').unwrap_or(location.len()));
        format!("{scheme}://{authority}{}{query}", without_dots(&format!("{directory}/{relative}")))
    };
    if scheme == "https" && !found.starts_with("https://") {
        return Err("it redirects from https to http");
    }
    Ok(found)
}

/// Takes `.` and `..` out of a path (RFC 3986 section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = vec![];
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => {
                kept.pop();
            }
            part => kept.push(part),
        }
    }
    format!("/{}", kept.join("/"))
}

/// Looks each host up once a minute. By itself ureq does so for every request, pooled connection or
/// not: a hundred look-ups a base, each of which may lose a packet and then waits five seconds.
#[derive(Debug, Default)]
struct Remembering {
    resolver: DefaultResolver,
    known: Mutex<HashMap<String, (Instant, Vec<SocketAddr>)>>,
}

impl Resolver for Remembering {
    fn resolve(
        &self,
        uri: &http::Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let name = format!(
            "{:?} {:?}",
            uri.scheme_str(),
            uri.authority().map(|a| (a.host(), a.port_u16()))
        );
        // Held during the look-up: eight threads that start at once need one answer.
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, found)) =
            known.get(&name).filter(|(when, _)| when.elapsed() < Duration::from_secs(60))
        {
            let mut addresses = self.empty();
            found.iter().for_each(|address| addresses.push(*address));
            return Ok(addresses);
        }
        let found = self.resolver.resolve(uri, config, timeout).map_err(|error| match error {
            ureq::Error::Io(_) => ureq::Error::HostNotFound,
            other => other,
        })?;
        known.insert(name, (Instant::now(), found.iter().copied().collect()));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_the_web() {
        for (url, location, leads) in [
            ("http://a/x/y?q", "http://b/z", Ok("http://b/z")),
            ("http://a/x/y?q", "HTTPS://b/z#f", Ok("https://b/z")),
            ("http://a/x/y?q", "//b/z", Ok("http://b/z")),
            ("http://a/x/y?q", "/z?r", Ok("http://a/z?r")),
            ("http://a/x/y?q", "z", Ok("http://a/x/z")),
            ("http://a/x/y", "../z?r", Ok("http://a/z?r")),
            ("http://a", "z", Ok("http://a/z")),
            ("http://a/x/y?q", "?r", Ok("http://a/x/y?r")),
            ("http://me:word@a/x", "http://a/y", Ok("http://me:word@a/y")),
            ("http://me:word@a/x", "http://b/y", Ok("http://b/y")),
            ("http://me:word@a/x", "https://a/y", Ok("https://a/y")),
            ("https://a/x", "/y", Ok("https://a/y")),
            ("https://a/x", "http://a/y", Err("it redirects from https to http")),
        ] {
            assert_eq!(target(url, location), leads.map(str::to_owned), "{url} {location}");
        }
        for location in ["file:///x", "FILE:/x", "ftp://a/x", "data:,x", "http:x"] {
            assert!(target("http://a/b", location).is_err(), "{location}");
        }
    }
}
