//! Which hosts a step may reach: what `network` of a recipe says, as a value, and what an entry of
//! its list holds for. Pure: nothing is looked up here.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// What a step may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Reach {
    /// Nothing but itself.
    #[default]
    None,
    /// Every host of the internet, and none of this host or of its networks.
    Internet,
    /// What these entries hold for; sorted, each once, never none.
    Only(Vec<Entry>),
    /// What this host reaches, as this host.
    Host,
}

impl Reach {
    /// Returns what a list says, in whatever order.
    #[must_use]
    pub fn only(mut entries: Vec<Entry>) -> Self {
        entries.sort();
        entries.dedup();
        if entries.is_empty() { Self::None } else { Self::Only(entries) }
    }

    /// Whether anything can be reached.
    #[must_use]
    pub fn is_some(&self) -> bool {
        *self != Self::None
    }
}

/// As recipes write it, and as it stands in the key of a step.
impl Serialize for Reach {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_bool(false),
            Self::Internet => serializer.serialize_bool(true),
            Self::Only(entries) => serializer.collect_seq(entries.iter().map(Entry::to_string)),
            Self::Host => serializer.serialize_str("host"),
        }
    }
}

/// For people: a word or the list.
impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no network"),
            Self::Internet => f.write_str("network"),
            Self::Host => f.write_str("host network"),
            Self::Only(entries) => {
                let entries: Vec<String> = entries.iter().map(Entry::to_string).collect();
                write!(f, "network: {}", entries.join(", "))
            }
        }
    }
}

/// One entry of the list: hosts, and perhaps one port of theirs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    hosts: Hosts,
    port: Option<u16>,
}

/// Which hosts an entry is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Hosts {
    /// All that are public.
    Any,
    /// One, by its name in lower case.
    Name(String),
    /// Those whose names end like this, a dot before it.
    Below(String),
    /// Addresses that begin with as many bits.
    Range(IpAddr, u8),
}

impl Entry {
    /// Whether it holds for a port of a host that was asked for by name.
    #[must_use]
    pub fn has_name(&self, name: &str, port: u16) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let held = match &self.hosts {
            Hosts::Any => true,
            Hosts::Name(own) => *own == name,
            Hosts::Below(end) => {
                name.strip_suffix(end.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
            Hosts::Range(..) => false,
        };
        held && self.has_port(port)
    }

    /// Whether it is about addresses.
    #[must_use]
    pub fn is_range(&self) -> bool {
        matches!(self.hosts, Hosts::Range(..))
    }

    /// Whether it holds for some port of a host that was asked for by name.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.has_name(name, self.port.unwrap_or_default())
    }

    /// Whether it lists an address itself, which then need not be a public one.
    #[must_use]
    pub fn has_address(&self, address: IpAddr, port: u16) -> bool {
        let held = match &self.hosts {
            Hosts::Range(first, bits) => prefix(*first, *bits) == prefix(address, *bits),
            _ => false,
        };
        held && self.has_port(port)
    }

    /// Whether it holds for every public host.
    #[must_use]
    pub fn has_any(&self, port: u16) -> bool {
        self.hosts == Hosts::Any && self.has_port(port)
    }

    fn has_port(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }
}

/// The first `bits` of an address, the others zero; `None` of one that has not so many. Addresses
/// of two families never begin alike.
fn prefix(address: IpAddr, bits: u8) -> Option<(bool, u128)> {
    let (v4, number, length) = match address {
        IpAddr::V4(address) => (true, u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (false, address.to_bits(), 128),
    };
    let cut = u32::from(u8::checked_sub(length, bits)?);
    Some((v4, number.checked_shr(cut).unwrap_or_default()))
}

/// Why a text is no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoEntry(&'static str);

impl FromStr for Entry {
    type Err = NoEntry;

    fn from_str(text: &str) -> Result<Self, NoEntry> {
        if text.contains("://") || (text.contains('/') && text.parse::<IpAddr>().is_err()) {
            if text.contains("://") {
                return Err(NoEntry("a host, not an address of the web: no `https://`"));
            }
            let (range, port) = port_of(text)?;
            return Ok(Self { hosts: range_of(range)?, port });
        }
        // An address of IPv6 has colons of its own.
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { hosts: whole(address), port: None });
        }
        let (host, port) = port_of(text)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Self { hosts: whole(address), port });
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let hosts = match host.strip_prefix("*.") {
            _ if host == "*" => Hosts::Any,
            Some(end) => Hosts::Below(name_of(end)?),
            None => Hosts::Name(name_of(&host)?),
        };
        Ok(Self { hosts, port })
    }
}

fn whole(address: IpAddr) -> Hosts {
    Hosts::Range(address, if address.is_ipv4() { 32 } else { 128 })
}

/// Splits off `:443`.
fn port_of(text: &str) -> Result<(&str, Option<u16>), NoEntry> {
    let bracketed = text.ends_with(']');
    match text.rsplit_once(':').filter(|_| !bracketed) {
        // A range of IPv6 addresses: "fd00::/8".
        Some((host, rest)) if rest.contains('/') || host.ends_with(':') => Ok((text, None)),
        Some((host, port)) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok((host, Some(port))),
            _ => Err(NoEntry("a port is a number from 1 to 65535")),
        },
        None => Ok((text, None)),
    }
}

fn range_of(text: &str) -> Result<Hosts, NoEntry> {
    const WRONG: NoEntry = NoEntry("a range of addresses is `ADDRESS/BITS`, such as `10.0.0.0/8`");
    let text = text.strip_prefix('[').map_or(text, |rest| rest.trim_end_matches(']'));
    let (address, bits) = text.split_once('/').ok_or(WRONG)?;
    let address = address.trim_end_matches(']').parse::<IpAddr>().map_err(|_| WRONG)?;
    let bits = bits.parse::<u8>().map_err(|_| WRONG)?;
    if prefix(address, bits).is_none() {
        return Err(WRONG);
    }
    Ok(Hosts::Range(address, bits))
}

/// A name of a host (RFC 1123 section 2.1), and `_`, which some have.
fn name_of(name: &str) -> Result<String, NoEntry> {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() <= 253 && name.split('.').all(part) {
        Ok(name.to_owned())
    } else {
        Err(NoEntry("a host is `NAME`, `*.NAME`, `*`, an address or a range, and perhaps `:PORT`"))
    }
}

/// As recipes write it.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.hosts, self.port) {
            (Hosts::Any, _) => f.write_str("*")?,
            (Hosts::Name(name), _) => f.write_str(name)?,
            (Hosts::Below(end), _) => write!(f, "*.{end}")?,
            (Hosts::Range(IpAddr::V6(one), 128), None) => one.fmt(f)?,
            (Hosts::Range(IpAddr::V6(one), 128), Some(_)) => write!(f, "[{one}]")?,
            (Hosts::Range(IpAddr::V6(first), bits), Some(_)) => write!(f, "[{first}/{bits}]")?,
            (Hosts::Range(one, 32), _) if one.is_ipv4() => one.fmt(f)?,
            (Hosts::Range(first, bits), _) => write!(f, "{first}/{bits}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Entry {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn entries_are_read_and_written() {
        for text in [
            "deb.debian.org",
            "pypi.org:443",
            "*.example.org",
            "*",
            "*:443",
            "10.0.0.0/8",
            "10.0.0.0/8:443",
            "192.0.2.1",
            "192.0.2.1:80",
            "fd00::/8",
            "[fd00::/8]:443",
            "[::1]:80",
            "::1",
            "a_b.example",
        ] {
            assert_eq!(entry(text).to_string(), text);
        }
        assert_eq!(entry("Deb.Debian.ORG.").to_string(), "deb.debian.org");
        for text in [
            "",
            "https://pypi.org",
            "pypi.org/simple",
            "a b",
            "a..b",
            "pypi.org:0",
            "pypi.org:70000",
            "pypi.org:https",
            "10.0.0.0/33",
            "*foo.example",
            "10.0.0.0/",
        ] {
            assert!(text.parse::<Entry>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_entry_holds_for_its_hosts_and_ports() {
        let name = |text: &str, host: &str, port| entry(text).has_name(host, port);
        assert!(name("pypi.org", "PyPI.org.", 443) && name("pypi.org", "pypi.org", 80));
        assert!(name("pypi.org:443", "pypi.org", 443) && !name("pypi.org:443", "pypi.org", 80));
        assert!(!name("pypi.org", "files.pypi.org", 443) && !name("pypi.org", "notpypi.org", 443));
        assert!(name("*.pypi.org", "a.b.pypi.org", 443));
        assert!(!name("*.pypi.org", "pypi.org", 443) && !name("*.pypi.org", "xpypi.org", 443));
        assert!(name("*", "a", 1) && !name("0.0.0.0/0", "a", 1));
        let address = |text: &str, at: &str, port| {
            entry(text).has_address(at.parse().expect("an address"), port)
        };
        assert!(address("10.0.0.0/8:443", "10.200.0.1", 443));
        assert!(!address("10.0.0.0/8:443", "10.200.0.1", 80));
        assert!(!address("10.0.0.0/8", "11.0.0.1", 443));
        assert!(address("10.9.9.9/8", "10.0.0.1", 443), "bits behind the prefix do not count");
        assert!(address("0.0.0.0/0", "192.0.2.1", 1) && !address("0.0.0.0/0", "::1", 1));
        assert!(address("fd00::/8", "fd12::1", 1) && !address("fd00::/8", "fe80::1", 1));
        assert!(!address("*", "192.0.2.1", 1) && entry("*").has_any(1));
    }

    #[test]
    fn the_order_of_a_list_does_not_count() {
        let one = Reach::only(vec![entry("b"), entry("a"), entry("b")]);
        assert_eq!(one, Reach::only(vec![entry("a"), entry("b")]));
        let json = |reach: &Reach| serde_json::to_string(reach).expect("plain data");
        assert_eq!(json(&one), r#"["a","b"]"#);
        assert_eq!(json(&Reach::Internet), "true");
        assert_eq!(json(&Reach::None), "false");
        assert_eq!(json(&Reach::Host), r#""host""#);
        assert_eq!(Reach::only(vec![]), Reach::None);
    }
}
