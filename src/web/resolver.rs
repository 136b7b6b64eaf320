//! A resolver that remembers.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::address::is_public;

/// Looks each host up once a minute. By itself ureq does so for every request, pooled connection or
/// not: a hundred look-ups a base, each of which may lose a packet and then waits five seconds.
#[derive(Debug, Default)]
pub struct Remembering {
    resolver: DefaultResolver,
    known: Mutex<HashMap<String, (Instant, Vec<SocketAddr>)>>,
}

impl Remembering {
    /// Returns what was found for the authority of `uri`, if it was looked up.
    pub fn known(&self, uri: &http::Uri) -> Option<Vec<SocketAddr>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&key(uri)).map(|(_, found)| found.clone())
    }
}

fn key(uri: &http::Uri) -> String {
    format!("{:?} {:?}", uri.scheme_str(), uri.authority().map(|a| (a.host(), a.port_u16())))
}

impl Resolver for Remembering {
    fn resolve(
        &self,
        uri: &http::Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let name = key(uri);
        // Held during the look-up: eight threads that start at once need one answer.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
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

/// A host has an address that is not one of the public internet.
#[derive(Debug, thiserror::Error)]
#[error("{host} is at {address}, which is not a public address")]
pub struct NotPublic {
    host: String,
    address: IpAddr,
}

/// Finds public addresses only: for hosts that a server names. What a proxy looks up is not seen
/// here.
#[derive(Debug, Default)]
pub struct Public(DefaultResolver);

impl Resolver for Public {
    fn resolve(
        &self,
        uri: &http::Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.0.resolve(uri, config, timeout)?;
        // The proxy is named by a person, and may well be on this host.
        if config.proxy().is_some_and(|proxy| proxy.uri() == uri) {
            return Ok(found);
        }
        match found.iter().find(|found| !is_public(found.ip())) {
            Some(private) => {
                let host = uri.host().unwrap_or_default().to_owned();
                Err(ureq::Error::Other(Box::new(NotPublic { host, address: private.ip() })))
            }
            None => Ok(found),
        }
    }
}
