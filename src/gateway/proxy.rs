//! Proxies of the host: which one leads to a target, and how a connection is asked of it (CONNECT of
//! RFC 9110 section 9.3.6, and SOCKS 5 of RFC 1928).

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::policy::{Host, Target};
use crate::reach::Entry;

/// Longest answer of a proxy that is read.
const LONGEST: usize = 16 * 1024;

/// The proxies of a host, by the variables that programs know them from (curl(1), "ENVIRONMENT").
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    all: Option<Proxy>,
    direct: Vec<Direct>,
}

/// One proxy.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    kind: Kind,
    pub(super) host: String,
    pub(super) port: u16,
    /// `user:password`.
    credentials: Option<String>,
}

/// How a proxy is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Socks,
    /// Not at all: bake knows no such proxies.
    Unknown,
}

/// Without the password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}:{}", self.kind, self.host, self.port)
    }
}

/// What no proxy leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Direct {
    Everything,
    /// The name, and those below it.
    Below(String, Option<u16>),
    Range(Entry),
}

/// How a target is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Direct,
    /// By a connection that the proxy makes.
    Tunnel(&'a Proxy),
    /// Requests of HTTP are handed to the proxy.
    Requests(&'a Proxy),
}

impl Proxies {
    /// Reads them from variables of the environment, in small letters or capitals.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let value = |name: &str| {
            let given = variable(name).or_else(|| variable(&name.to_ascii_uppercase()));
            given.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let proxy = |name| value(name).map(|text| Proxy::read(&text));
        let direct = value("no_proxy").unwrap_or_default();
        let direct = direct.split([',', ' ']).map(str::trim).filter(|text| !text.is_empty());
        Self {
            http: proxy("http_proxy"),
            https: proxy("https_proxy"),
            all: proxy("all_proxy"),
            direct: direct.map(Direct::read).collect(),
        }
    }

    /// Returns the way to a target: to port 80 that of http, to others that of https.
    pub(super) fn route(&self, target: &Target) -> Route<'_> {
        if self.direct.iter().any(|direct| direct.has(target)) {
            return Route::Direct;
        }
        let first = if target.port == 80 { &self.http } else { &self.https };
        match first.as_ref().or(self.all.as_ref()) {
            None => Route::Direct,
            Some(proxy) if target.port == 80 && proxy.kind == Kind::Http => Route::Requests(proxy),
            Some(proxy) => Route::Tunnel(proxy),
        }
    }
}

impl Proxy {
    fn read(text: &str) -> Self {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "http" => Kind::Http,
            "socks5" | "socks5h" | "socks" => Kind::Socks,
            _ => Kind::Unknown,
        };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((credentials, place)) => (Some(unescaped(credentials)), place),
            None => (None, authority),
        };
        let usual = if kind == Kind::Socks { 1080 } else { 80 };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !place.ends_with(']') => (host, port.parse().unwrap_or(usual)),
            _ => (place, usual),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Self { kind, host, port, credentials }
    }

    /// Returns the value of `Proxy-Authorization`, if it wants one.
    pub(super) fn authorization(&self) -> Option<String> {
        self.credentials
            .as_ref()
            .map(|credentials| format!("Basic {}", STANDARD.encode(credentials)))
    }

    /// Asks for a connection to `target`.
    pub(super) fn tunnel(&self, stream: &mut TcpStream, target: &Target) -> io::Result<()> {
        match self.kind {
            Kind::Http => self.connect(stream, target),
            Kind::Socks => self.socks(stream, target),
            Kind::Unknown => Err(io::Error::other(
                "the host's proxy is neither http:// nor socks5://, and others are not supported",
            )),
        }
    }

    fn connect(&self, stream: &mut TcpStream, target: &Target) -> io::Result<()> {
        let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(authorization) = self.authorization() {
            head.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        // Byte by byte: what comes behind the head is not the proxy's.
        let (mut answer, mut byte) = (vec![], [0]);
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() >= LONGEST {
                return Err(io::Error::other("the proxy's answer is too long"));
            }
            stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        let first = String::from_utf8_lossy(&answer);
        let first = first.lines().next().unwrap_or_default();
        let status = first.split(' ').nth(1).unwrap_or_default();
        if first.starts_with("HTTP/1.") && status.len() == 3 && status.starts_with('2') {
            return Ok(());
        }
        let shown: String = first.chars().filter(|c| !c.is_control()).take(100).collect();
        Err(io::Error::other(format!("the proxy refused it: {shown}")))
    }

    fn socks(&self, stream: &mut TcpStream, target: &Target) -> io::Result<()> {
        let wrong = || io::Error::other("the proxy does not speak SOCKS 5");
        let ways: &[u8] = if self.credentials.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] };
        stream.write_all(ways)?;
        let mut chosen = [0; 2];
        stream.read_exact(&mut chosen)?;
        match (chosen, &self.credentials) {
            ([5, 0], _) => {}
            // RFC 1929.
            ([5, 2], Some(credentials)) => {
                let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
                let mut message = vec![1];
                for text in [user, password] {
                    message.push(u8::try_from(text.len()).map_err(|_| wrong())?);
                    message.extend_from_slice(text.as_bytes());
                }
                stream.write_all(&message)?;
                let mut answer = [0; 2];
                stream.read_exact(&mut answer)?;
                if answer[1] != 0 {
                    return Err(io::Error::other("the proxy refused the credentials"));
                }
            }
            _ => return Err(wrong()),
        }
        let mut message = vec![5, 1, 0];
        match &target.host {
            Host::Name(name) => {
                message.extend_from_slice(&[3, u8::try_from(name.len()).map_err(|_| wrong())?]);
                message.extend_from_slice(name.as_bytes());
            }
            Host::Address(IpAddr::V4(address)) => {
                message.push(1);
                message.extend_from_slice(&address.octets());
            }
            Host::Address(IpAddr::V6(address)) => {
                message.push(4);
                message.extend_from_slice(&address.octets());
            }
        }
        message.extend_from_slice(&target.port.to_be_bytes());
        stream.write_all(&message)?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        let length = match answer {
            [5, 0, _, 1] => 4,
            [5, 0, _, 4] => 16,
            [5, 0, _, 3] => {
                let mut length = [0];
                stream.read_exact(&mut length)?;
                usize::from(length[0])
            }
            [5, code, ..] => {
                return Err(io::Error::other(format!("the proxy refused it: SOCKS error {code}")));
            }
            _ => return Err(wrong()),
        };
        stream.read_exact(&mut vec![0; length + 2])
    }
}

impl Direct {
    fn read(text: &str) -> Self {
        if text == "*" {
            return Self::Everything;
        }
        let entry = text.parse::<Entry>().ok().filter(Entry::is_range);
        if let Some(entry) = entry {
            return Self::Range(entry);
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().ok()),
            None => (text, None),
        };
        let name = name.trim_start_matches('*').trim_matches('.').to_ascii_lowercase();
        Self::Below(name, port)
    }

    fn has(&self, Target { host, port }: &Target) -> bool {
        match (self, host) {
            (Self::Everything, _) => true,
            (Self::Below(end, only), Host::Name(name)) => {
                let rest = name.strip_suffix(end.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                    && only.is_none_or(|only| only == *port)
            }
            (Self::Range(entry), Host::Address(address)) => entry.has_address(*address, *port),
            _ => false,
        }
    }
}

/// Takes `%40` for `@`, and so on (RFC 3986 section 2.1).
fn unescaped(text: &str) -> String {
    let (mut out, mut rest) = (vec![], text.as_bytes());
    while let Some((&first, more)) = rest.split_first() {
        let escaped = more
            .get(..2)
            .filter(|_| first == b'%')
            .and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        out.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &more[2..] } else { more };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(given: &[(&str, &str)]) -> Proxies {
        Proxies::of(|name| {
            given.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn target(host: &str, port: u16) -> Target {
        let host = match host.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name(host.to_owned()),
        };
        Target { host, port }
    }

    #[test]
    fn variables_decide_which_proxy_leads_where() {
        let found = proxies(&[
            ("http_proxy", "http://one:3128"),
            ("HTTPS_PROXY", "two"),
            ("no_proxy", "localhost, .inner.example,10.0.0.0/8 plain.example:8080"),
        ]);
        let way = |host: &str, port| match found.route(&target(host, port)) {
            Route::Direct => "direct".to_owned(),
            Route::Tunnel(proxy) => format!("tunnel {proxy:?}"),
            Route::Requests(proxy) => format!("requests {proxy:?}"),
        };
        assert_eq!(way("a.example", 80), "requests Http one:3128");
        assert_eq!(way("a.example", 443), "tunnel Http two:80");
        assert_eq!(way("a.example", 9418), "tunnel Http two:80");
        for (host, port) in [
            ("inner.example", 443),
            ("a.inner.example", 443),
            ("10.1.2.3", 80),
            ("plain.example", 8080),
        ] {
            assert_eq!(way(host, port), "direct", "{host}");
        }
        assert_eq!(way("plain.example", 443), "tunnel Http two:80");
        assert_eq!(way("notinner.example", 443), "tunnel Http two:80");
        let socks = proxies(&[("all_proxy", "socks5h://u%40x:p@[::1]:99/"), ("no_proxy", "")]);
        let Route::Tunnel(proxy) = socks.route(&target("a", 80)) else { panic!("a tunnel") };
        assert_eq!((proxy.host.as_str(), proxy.port), ("::1", 99));
        assert_eq!(proxy.credentials.as_deref(), Some("u@x:p"));
        assert!(!format!("{socks:?}").contains("u@x"), "nobody sees the password");
        assert_eq!(proxies(&[]).route(&target("a", 80)), Route::Direct);
        let none = proxies(&[("http_proxy", "http://one"), ("NO_PROXY", "*")]);
        assert_eq!(none.route(&target("a", 80)), Route::Direct);
    }

    /// Lets `proxy` ask for a connection where the other side reads `wanted` and says `answer`.
    fn asked(proxy: &str, to: &Target, answer: &'static [u8]) -> (Vec<u8>, io::Result<()>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        other.write_all(answer).unwrap();
        let result = Proxy::read(proxy).tunnel(&mut stream, to);
        drop(stream);
        let mut got = vec![];
        let _ = other.read_to_end(&mut got);
        (got, result)
    }

    #[test]
    fn a_tunnel_is_asked_for() {
        let to = target("a.example", 443);
        let (sent, result) = asked("http://u:p@x", &to, b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n");
        result.unwrap();
        let sent = String::from_utf8(sent).unwrap();
        assert_eq!(
            sent,
            "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\nProxy-Authorization: Basic \
                dTpw\r\n\r\n"
        );
        let (_, result) = asked("http://x", &to, b"HTTP/1.1 403 No\r\n\r\n");
        assert!(result.unwrap_err().to_string().contains("403 No"));
        let (sent, result) = asked("socks5://x", &to, b"\x05\0\x05\0\0\x01\0\0\0\0\0\0");
        result.unwrap();
        assert_eq!(sent, b"\x05\x01\0\x05\x01\0\x03\x09a.example\x01\xbb");
        let (_, result) = asked("socks5://x", &to, b"\x05\0\x05\x02\0\x01");
        assert!(result.unwrap_err().to_string().contains("SOCKS error 2"));
        let (_, result) = asked("ftp://x", &to, b"");
        assert!(result.is_err());
    }
}
