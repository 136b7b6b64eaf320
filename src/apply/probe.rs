//! The looks that bake itself takes at a running copy, as calls in the copy's own network and root:
//! a server's answer, an open port, a file. Nothing of the image is executed or trusted for it:
//! names of hosts are not looked up, answers are read up to a limit.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use super::owner_in_image;
use crate::digest::HashReader;
use crate::files::open_regular;
use crate::step::Probe;

/// Longest answer or file that is searched.
const MOST: u64 = 16 << 20;

/// How long one question may take; it is asked again as long as the test's own time lasts.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a connection into a machine must stay open where nothing is sent.
const CLOSED: Duration = Duration::from_secs(3);

/// How much of an answer is shown when it is not the right one.
const SHOWN: usize = 200;

/// Takes one look, of the kinds that need no program of the image, in the root that this process
/// sees. The error says what is otherwise.
pub(crate) fn look(probe: &Probe) -> Result<(), String> {
    match probe {
        Probe::Http { url, status, contains } => http(&HERE, url, *status, contains.as_deref())?,
        Probe::Tcp { address } => tcp(address)?,
        Probe::File { path, mode, owner, contains, sha256 } => {
            let wanted = Wanted {
                mode: *mode,
                owner: owner.as_deref(),
                contains: contains.as_deref(),
                sha256: sha256.as_deref(),
            };
            file(Path::new(path), &wanted)?;
        }
        Probe::Absent { path } => absent(Path::new(path))?,
        Probe::Exec { .. } | Probe::Script { .. } => {
            return Err("internal: a program is no look".to_owned());
        }
    }
    Ok(())
}

/// Takes one look at a server of a machine whose ports are reached through others of this host; the
/// map is from those inside to these. The name or address in the probe is the machine, whatever it
/// is.
pub(crate) fn look_through(probe: &Probe, ports: &BTreeMap<u16, u16>) -> Result<(), String> {
    let way = Way(Some(ports.clone()));
    match probe {
        Probe::Http { url, status, contains } => http(&way, url, *status, contains.as_deref()),
        Probe::Tcp { address } => tcp_through(address, &way),
        _ => look(probe),
    }
}

/// Returns the port that a look at a server asks.
pub(crate) fn port(probe: &Probe) -> Option<u16> {
    match probe {
        Probe::Http { url, .. } => Some(url.parse::<Uri>().ok()?.port_u16().unwrap_or(80)),
        Probe::Tcp { address } => address.rsplit_once(':')?.1.parse().ok(),
        _ => None,
    }
}

/// Where a host name leads inside the copy: an address to itself, any other name to the copy.
/// Asking the image's own resolver would run its libraries with more rights than a program of the
/// image has.
fn addresses(host: &str, port: u16) -> Vec<SocketAddr> {
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            .map(|address| SocketAddr::new(address, port))
            .into(),
    }
}

/// Where the servers are that are asked: in the copy, or behind ports.
#[derive(Debug, Clone)]
struct Way(Option<BTreeMap<u16, u16>>);

/// In the copy.
const HERE: Way = Way(None);

impl Way {
    fn addresses(&self, host: &str, port: u16) -> Vec<SocketAddr> {
        let Self(Some(ports)) = self else { return addresses(host, port) };
        let outside =
            ports.get(&port).map(|port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), *port));
        outside.into_iter().collect()
    }
}

impl Resolver for Way {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let mut found = self.empty();
        for address in self.addresses(host, uri.port_u16().unwrap_or(80)) {
            found.push(address);
        }
        Ok(found)
    }
}

fn http(way: &Way, url: &str, status: u16, contains: Option<&str>) -> Result<(), String> {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(concat!("bake/", env!("CARGO_PKG_VERSION")))
        .build();
    let agent = ureq::Agent::with_parts(config, DefaultConnector::default(), way.clone());
    let mut answer = agent.get(url).call().map_err(|error| no_answer(url, &error))?;
    let found = answer.status();
    let location = answer
        .headers()
        .get("location")
        .map(|to| format!(" (to {})", shown(to.as_bytes())))
        .unwrap_or_default();
    let body = answer.body_mut().with_config().limit(MOST).read_to_vec();
    if found.as_u16() != status {
        let body = body.map(|body| starts(&body)).unwrap_or_default();
        return Err(format!("{url} answered {found}{location} instead of {status}{body}"));
    }
    let Some(wanted) = contains else {
        // The answer must be whole all the same; one that is longer than anybody would search is
        // whole enough.
        return match body {
            Ok(_) | Err(ureq::Error::BodyExceedsLimit(_)) => Ok(()),
            Err(error) => Err(format!("the answer of {url} broke off: {error}")),
        };
    };
    match body {
        Ok(body) if holds(&body, wanted.as_bytes()) => Ok(()),
        Ok(body) => {
            Err(format!("the answer of {url} does not contain {wanted:?}{}", starts(&body)))
        }
        Err(ureq::Error::BodyExceedsLimit(_)) => {
            Err(format!("the answer of {url} has more than {} MiB, too many to search", MOST >> 20))
        }
        Err(error) => Err(format!("the answer of {url} broke off: {error}")),
    }
}

fn no_answer(url: &str, error: &ureq::Error) -> String {
    let why = match error {
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "nobody listens there (connection refused)".to_owned()
        }
        ureq::Error::ConnectionFailed => "nobody listens there (connection refused)".to_owned(),
        ureq::Error::Timeout(_) => format!("no whole answer within {} s", PATIENCE.as_secs()),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    };
    format!("{url} did not answer: {why}")
}

fn tcp(address: &str) -> Result<(), String> {
    let (host, port) = address.rsplit_once(':').ok_or_else(|| format!("{address} has no port"))?;
    let port = port.parse().map_err(|_| format!("{port} is no port"))?;
    let mut why = String::new();
    for place in addresses(host, port) {
        match TcpStream::connect_timeout(&place, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "nobody listens there (connection refused)".clone_into(&mut why)
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(format!("cannot connect to {address}: {why}"))
}

/// Connects to a port that QEMU has open whether or not anybody listens inside: where nobody does,
/// it closes the connection at once.
fn tcp_through(address: &str, way: &Way) -> Result<(), String> {
    let (host, port) = address.rsplit_once(':').ok_or_else(|| format!("{address} has no port"))?;
    let port = port.parse().map_err(|_| format!("{port} is no port"))?;
    let cannot = |error: io::Error| format!("cannot connect to {address}: {error}");
    for place in way.addresses(host, port) {
        let mut stream = TcpStream::connect_timeout(&place, PATIENCE).map_err(cannot)?;
        stream.set_read_timeout(Some(CLOSED)).map_err(cannot)?;
        match stream.read(&mut [0]) {
            Ok(1..) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Ok(0) | Err(_) => {}
        }
    }
    Err(format!("cannot connect to {address}: nobody listens there (connection closed)"))
}

/// What is asked of a file.
struct Wanted<'a> {
    mode: Option<u32>,
    owner: Option<&'a str>,
    contains: Option<&'a str>,
    sha256: Option<&'a str>,
}

fn file(path: &Path, wanted: &Wanted<'_>) -> Result<(), String> {
    let name = path.display();
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_ok() =>
        {
            return Err(format!("{name} is a symlink to nothing"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("{name} is not there"));
        }
        Err(error) => return Err(format!("cannot look at {name}: {error}")),
    };
    let mut wrong = vec![];
    if let Some(mode) = wanted.mode
        && meta.mode() & 0o7777 != mode
    {
        wrong.push(format!("{name} has mode {:04o} instead of {mode:04o}", meta.mode() & 0o7777));
    }
    if let Some(owner) = wanted.owner {
        let ids = owner_in_image(owner)?;
        if (meta.uid(), meta.gid()) != (ids.uid, ids.gid) {
            wrong.push(format!(
                "{name} belongs to {}:{} instead of {owner} ({}:{})",
                meta.uid(),
                meta.gid(),
                ids.uid,
                ids.gid
            ));
        }
    }
    if wanted.contains.is_some() || wanted.sha256.is_some() {
        if meta.is_file() {
            let fail = |error: io::Error| format!("cannot read {name}: {error}");
            if let Some(text) = wanted.contains {
                let mut bytes = vec![];
                open_regular(path)
                    .and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes))
                    .map_err(fail)?;
                if bytes.len() as u64 > MOST {
                    wrong.push(format!(
                        "{name} has more than {} MiB, too many to search",
                        MOST >> 20
                    ));
                } else if !holds(&bytes, text.as_bytes()) {
                    wrong.push(format!("{name} does not contain {text:?}{}", starts(&bytes)));
                }
            }
            if let Some(sha256) = wanted.sha256 {
                let mut reader = HashReader::new(open_regular(path).map_err(fail)?);
                io::copy(&mut reader, &mut io::sink()).map_err(fail)?;
                let found = reader.finish().1.hex();
                if found != sha256 {
                    wrong.push(format!("{name} has sha256 {found} instead of {sha256}"));
                }
            }
        } else {
            wrong.push(format!("{name} is not a file"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

fn absent(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Ok(meta) => {
            let what = if meta.is_dir() {
                "directory"
            } else if meta.is_symlink() {
                "symlink"
            } else {
                "file"
            };
            Err(format!("{} is there (a {what})", path.display()))
        }
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(())
        }
        Err(error) => Err(format!("cannot look at {}: {error}", path.display())),
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}

/// Returns how something begins, for a message.
fn starts(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        "; it is empty".to_owned()
    } else {
        format!("; it begins {}", shown(bytes))
    }
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let cut: String = text.chars().take(SHOWN).collect();
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers one request with these bytes, and returns where.
    fn server(answer: &'static str) -> (u16, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let handle = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![];
            let mut piece = [0; 1024];
            while !holds(&asked, b"\r\n\r\n") {
                let n = stream.read(&mut piece).unwrap();
                asked.extend_from_slice(&piece[..n]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(asked).unwrap()
        });
        (port, handle)
    }

    #[test]
    fn answers() {
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nblue", 200, Some("lu"), ""),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: \
                    chunked\r\n\r\n2\r\nbl\r\n2\r\nue\r\n0\r\n\r\n",
                200,
                Some("blue"),
                "",
            ),
            ("HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, Some("the end"), ""),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, None, ""),
            ("HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", 302, None, ""),
            (
                "HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n",
                200,
                None,
                "answered 302 Found (to \"/login\") instead of 200",
            ),
            (
                "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops",
                200,
                None,
                "500 Internal Server Error instead of 200; it begins \"oops\"",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ngreen",
                200,
                Some("blue"),
                "does not contain \"blue\"; it begins \"green\"",
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", 200, None, "broke off"),
            ("no http at all\r\n\r\n", 200, None, "did not answer"),
        ];
        for (answer, status, contains, expected) in cases {
            let (port, handle) = server(answer);
            let found = http(&HERE, &format!("http://blue.example:{port}/a?b"), status, contains);
            let asked = handle.join().unwrap();
            assert!(asked.starts_with("GET /a?b HTTP/1.1\r\n"), "{asked}");
            assert!(
                asked.to_lowercase().contains(&format!("host: blue.example:{port}\r\n")),
                "{asked}"
            );
            match (expected, found) {
                ("", Ok(())) => {}
                (part, Err(why)) if !part.is_empty() => {
                    assert!(why.contains(part), "{answer}: {why}")
                }
                (_, other) => panic!("{answer}: {other:?}"),
            }
        }
    }

    #[test]
    fn nobody_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(tcp(&format!("localhost:{port}")), Ok(()));
        drop(listener);
        let why = tcp(&format!("127.0.0.1:{port}")).unwrap_err();
        assert!(why.contains("nobody listens there"), "{why}");
        let why = http(&HERE, &format!("http://localhost:{port}/"), 200, None).unwrap_err();
        assert!(why.contains("nobody listens there"), "{why}");
        assert!(tcp(&format!("[::1]:{port}")).is_err());
    }

    #[test]
    fn files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "blue").unwrap();
        let any = || Wanted { mode: None, owner: None, contains: None, sha256: None };
        assert_eq!(file(&path, &any()), Ok(()));
        assert_eq!(file(&path, &Wanted { contains: Some("lu"), ..any() }), Ok(()));
        let sum = crate::digest::Digest::of("blue").hex();
        assert_eq!(file(&path, &Wanted { sha256: Some(&sum), ..any() }), Ok(()));
        let why = file(
            &path,
            &Wanted { mode: Some(0o7), contains: Some("red"), sha256: Some("00"), ..any() },
        )
        .unwrap_err();
        assert!(
            why.contains("instead of 0007")
                && why.contains("does not contain \"red\"")
                && why.contains("instead of 00"),
            "{why}"
        );
        assert!(
            file(dir.path(), &Wanted { contains: Some("x"), ..any() })
                .unwrap_err()
                .ends_with("is not a file")
        );
        assert!(file(&dir.path().join("g"), &any()).unwrap_err().ends_with("is not there"));
        std::os::unix::fs::symlink("nowhere", dir.path().join("l")).unwrap();
        assert!(
            file(&dir.path().join("l"), &any()).unwrap_err().ends_with("is a symlink to nothing")
        );
        assert!(absent(&dir.path().join("l")).unwrap_err().contains("(a symlink)"));
        assert!(absent(dir.path()).is_err());
        assert_eq!(absent(&dir.path().join("g")), Ok(()));
        assert_eq!(absent(&path.join("below")), Ok(()));
    }
}
