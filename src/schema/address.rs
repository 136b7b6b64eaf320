//! What a string of the network may be: URLs, addresses, ports.

use super::mistake::{Mistake, quote};

pub(crate) fn url(text: &str, schemes: &[&str]) -> Result<(), Mistake> {
    let bad = |label: String| Mistake::new(format!("{} is not a URL", quote(text))).label(label);
    let Some(rest) = schemes.iter().find_map(|s| text.strip_prefix(s)) else {
        let wanted: Vec<String> = schemes.iter().map(|s| format!("`{s}`")).collect();
        return Err(bad(format!("expected {}…", wanted.join(" or "))));
    };
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(bad("white space or control characters".into()));
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        return Err(bad("the host is missing".into()));
    }
    if host.contains('@') {
        return Err(Mistake::new("a URL with a user name or password")
            .help("credentials in a recipe end up in its history; use a URL without"));
    }
    Ok(())
}

pub(crate) fn probe_url(text: &str) -> Result<(), Mistake> {
    if text.starts_with("https://") {
        return Err(Mistake::new(format!("{} is not plain http", quote(text)))
            .label("bake's own client speaks http only")
            .help(
                "ask with a `run` check and a program of the image, such as `run = \"curl -fk \
                https://127.0.0.1/\"`",
            ));
    }
    url(text, &["http://"])?;
    let authority =
        text.trim_start_matches("http://").split(['/', '?', '#']).next().unwrap_or_default();
    match split_port(authority) {
        (host, None) if host_fits(host) && authority == host => Ok(()),
        (host, Some(port)) if host_fits(host) && port_fits(port) => Ok(()),
        _ => Err(Mistake::new(format!("{} is not a URL", quote(text)))
            .label("expected `http://HOST` or `http://HOST:PORT`, then a path")),
    }
}

pub(crate) fn address(text: &str) -> Result<(), Mistake> {
    let bad = |label: &str| {
        Mistake::new(format!("{} is not an address with a port", quote(text)))
            .label(label.to_owned())
    };
    if port_fits(text) {
        return Err(bad("the address is missing").help(format!("write \"127.0.0.1:{text}\"")));
    }
    match split_port(text) {
        (host, Some(port)) if host_fits(host) && port_fits(port) => Ok(()),
        (_, Some(_)) => {
            Err(bad("expected an IP address or a name, `:`, and a port from 1 to 65535"))
        }
        (_, None) => Err(bad("the port is missing").help(format!("write \"{text}:80\""))),
    }
}

/// Splits `host:port`; an IPv6 address stands in brackets.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    }
}

fn port_fits(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_digit())
        && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn host_fits(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !text.is_empty()
                && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        }
    }
}

/// Reads a port or a range of ports, `80`, `53/udp`, `8000-8010/udp`; returns each with its
/// protocol.
pub(crate) fn ports(text: &str) -> Result<Vec<String>, Mistake> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let Some((first, last)) = range.split_once('-') else { return port(text).map(|one| vec![one]) };
    port(&format!("{first}/{protocol}"))?;
    port(&format!("{last}/{protocol}"))?;
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if first <= last => {
            Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
        }
        _ => Err(Mistake::new(format!("{} is not a range of ports", quote(text)))
            .label("the first is above the last")),
    }
}

/// Reads a port: `80`, `53/udp`; returns it with its protocol.
pub(crate) fn port(text: &str) -> Result<String, Mistake> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let bad = |label: &str| {
        Mistake::new(format!("{} is not a port", quote(text))).label(label.to_owned())
    };
    if text.contains(':') {
        return Err(bad("an image says only what it listens on")
            .help("publishing on a host's port is up to whoever runs the image"));
    }
    if !["tcp", "udp", "sctp"].contains(&protocol) {
        return Err(bad("the protocol is `tcp`, `udp` or `sctp`"));
    }
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad("expected an integer or a string such as \"53/udp\""));
    }
    match number.parse::<u16>() {
        Ok(n) if n > 0 => Ok(format!("{n}/{protocol}")),
        _ => Err(bad("ports are 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges() {
        assert_eq!(port("80").unwrap(), "80/tcp");
        assert_eq!(port("053/udp").unwrap(), "53/udp");
        assert_eq!(ports("80").unwrap(), ["80/tcp"]);
        assert_eq!(ports("8000-8002/udp").unwrap(), ["8000/udp", "8001/udp", "8002/udp"]);
        for bad in ["2-1", "1-", "-1", "1-2-3", "0-1", "1-65536", "1-2/x"] {
            assert!(ports(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "0", "65536", "80/foo", "80:80", "a", "+80", "80/"] {
            assert!(port(bad).is_err(), "{bad:?}");
        }
    }
}
