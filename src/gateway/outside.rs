//! How this host reaches others: names looked up, and connections made.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::names::Existence;
use super::policy::{Host, Policy, Refusal, Target};
use super::proxy::{Proxy, Route};
use super::requests::Rewriter;
use super::trust::HostTrust;
use crate::threads;

/// How long an answer to the question for a name counts.
const KEPT: Duration = Duration::from_secs(30);
/// How long a connection to one address may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a proxy may take to answer.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a name is looked up for a proxy.
const GLANCE: Duration = Duration::from_secs(2);
/// Addresses of one name that are tried.
const MOST: usize = 8;

/// The ways out of this host, as one job uses them.
#[derive(Debug)]
pub(super) struct Outside {
    trust: Arc<HostTrust>,
    known: Mutex<HashMap<String, (Instant, Found)>>,
    /// Names cannot be looked up here in time: that is left to the proxies.
    blind: AtomicBool,
}

/// What a name led to.
#[derive(Debug, Clone)]
enum Found {
    At(Vec<IpAddr>),
    Unknown,
    Unsure(String),
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NotReached {
    /// It may not be.
    Refused(Refusal),
    /// It cannot be.
    Failed(String),
}

/// A connection to somebody outside.
#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) stream: TcpStream,
    /// What is sent there are requests that a proxy is to be asked for.
    pub(super) rewriter: Option<Rewriter>,
}

impl Outside {
    pub(super) fn new(trust: Arc<HostTrust>) -> Arc<Self> {
        let (known, blind) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { trust, known, blind })
    }

    /// Looks a name up, if that was not just done.
    fn look_up(&self, name: &str) -> Found {
        let held = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = held().get(name).filter(|(when, _)| when.elapsed() < KEPT) {
            return found.clone();
        }
        let found = match (name, 0).to_socket_addrs() {
            Ok(addresses) => {
                let mut found = vec![];
                for address in addresses.map(|address| address.ip()) {
                    if !found.contains(&address) && found.len() < MOST {
                        found.push(address);
                    }
                }
                Found::At(found)
            }
            // What getaddrinfo(3) found has no number here: that it may be there later is in the
            // words of EAI_AGAIN.
            Err(error) => {
                let text = error.to_string();
                match ["Temporary failure", "Try again"].iter().any(|again| text.contains(again)) {
                    true => Found::Unsure(text),
                    false => Found::Unknown,
                }
            }
        };
        held().insert(name.to_owned(), (Instant::now(), found.clone()));
        found
    }

    /// Looks up a name that a proxy will look up too, for as long as that may take.
    fn glance(self: &Arc<Self>, name: &str) -> Option<Found> {
        if self.blind.load(Ordering::Relaxed) {
            return None;
        }
        let (send, receive) = mpsc::channel();
        let (own, wanted) = (Arc::clone(self), name.to_owned());
        threads::free(move || send.send(own.look_up(&wanted))).ok()?;
        let found = receive.recv_timeout(GLANCE).ok();
        if found.is_none() {
            self.blind.store(true, Ordering::Relaxed);
        }
        found
    }

    /// Whether there is a host of that name.
    pub(super) fn existence(&self, name: &str) -> Existence {
        // What a proxy finds, it finds when it is asked to connect.
        let target = Target { host: Host::Name(name.to_owned()), port: 443 };
        if self.trust.proxies.route(&target) != Route::Direct {
            return Existence::There;
        }
        match self.look_up(name) {
            Found::At(_) => Existence::There,
            Found::Unknown => Existence::Unknown,
            Found::Unsure(_) => Existence::Unsure,
        }
    }

    /// Connects to what `policy` has found good by its name, if it does by its address.
    pub(super) fn dial(
        self: &Arc<Self>,
        target: &Target,
        policy: &Policy,
    ) -> Result<Dialed, NotReached> {
        let proxy = match self.trust.proxies.route(target) {
            Route::Direct => return self.dial_directly(target, policy),
            Route::Tunnel(proxy) | Route::Requests(proxy) => proxy,
        };
        // The proxy may find what this host would not reach: what is known to lead inwards here is
        // refused all the same.
        if let Host::Name(name) = &target.host
            && let Some(Found::At(addresses)) = self.glance(name)
        {
            let judged = |address: &IpAddr| policy.judge_address(*address, target.port);
            if let Some(Err(why)) = addresses.iter().map(judged).find(Result::is_err) {
                return Err(NotReached::Refused(why));
            }
        }
        let failed =
            |error: io::Error| NotReached::Failed(format!("by the proxy: {}", words(&error)));
        let mut stream = to_proxy(proxy).map_err(failed)?;
        let rewriter = match self.trust.proxies.route(target) {
            Route::Requests(proxy) => {
                // To port 80, which is not written.
                Some(Rewriter::new(target.host.to_string(), proxy.authorization()))
            }
            _ => {
                proxy.tunnel(&mut stream, target).map_err(failed)?;
                None
            }
        };
        Ok(Dialed { stream, rewriter })
    }

    fn dial_directly(&self, target: &Target, policy: &Policy) -> Result<Dialed, NotReached> {
        let addresses = match &target.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => match self.look_up(name) {
                Found::At(addresses) => addresses,
                Found::Unknown => return Err(NotReached::Failed("unknown host".to_owned())),
                Found::Unsure(why) => return Err(NotReached::Failed(why)),
            },
        };
        let (mut refusal, mut failure) = (None, None);
        for address in addresses {
            if let Host::Name(_) = target.host
                && let Err(why) = policy.judge_address(address, target.port)
            {
                refusal = refusal.or(Some(why));
                continue;
            }
            let address = SocketAddr::new(address, target.port);
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => return Ok(Dialed { stream, rewriter: None }),
                // What the host says of the first is what people know.
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(match (failure, refusal) {
            (Some(error), _) => NotReached::Failed(words(&error)),
            (None, Some(why)) => NotReached::Refused(why),
            (None, None) => NotReached::Failed("it has no address".to_owned()),
        })
    }
}

/// Connects to a proxy, which a person has named: it may well be on this host.
fn to_proxy(proxy: &Proxy) -> io::Result<TcpStream> {
    let mut failure = io::ErrorKind::NotFound.into();
    for address in (proxy.host.as_str(), proxy.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(ANSWER))?;
                stream.set_write_timeout(Some(ANSWER))?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "no answer".to_owned(),
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    }
}
