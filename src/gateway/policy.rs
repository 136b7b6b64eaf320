//! What a step may reach, connection by connection.

use std::fmt;
use std::net::IpAddr;

use crate::reach::{Entry, Reach};
use crate::web::is_public;

/// Whom a step asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// By its name, in lower case.
    Name(String),
    /// By its address.
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// A port of a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why a step may not reach something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The list does not have it.
    NotListed,
    /// It is at this address, which is one of this host or of its networks.
    NotPublic(IpAddr),
}

/// Something that a step asked for and may not reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    /// What.
    pub target: Target,
    /// Why not.
    pub why: Refusal,
}

/// For people: what the step did.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, why } = self;
        match (why, &target.host) {
            (Refusal::NotListed, _) => {
                write!(f, "the step asked for {target}, which `network` does not list")
            }
            (Refusal::NotPublic(_), Host::Address(_)) => {
                write!(f, "the step asked for {target}, which is not a public address")
            }
            (Refusal::NotPublic(at), Host::Name(_)) => {
                write!(f, "the step asked for {target}, which is at {at}: not a public address")
            }
        }
    }
}

impl Refused {
    /// Returns what to write where the step is to reach it.
    #[must_use]
    pub fn hint(&self, reach: &Reach) -> String {
        let Self { target, why } = self;
        let wanted = match (why, &target.host) {
            (Refusal::NotListed, _) | (_, Host::Address(_)) => format!("\"{target}\""),
            (Refusal::NotPublic(at), Host::Name(_)) => {
                let at = Host::Address(*at);
                format!("\"{target}\" and \"{at}:{}\"", target.port)
            }
        };
        match reach {
            Reach::Only(_) => format!("if it is meant to be reached, add {wanted} to `network`"),
            _ => format!(
                "`network = true` reaches public hosts only; if this is meant to be reached, list \
                    {wanted} in `network`, beside \"*\" for all public hosts"
            ),
        }
    }
}

/// What a step may reach.
#[derive(Debug, Clone)]
pub(super) struct Policy(pub(super) Reach);

impl Policy {
    fn entries(&self) -> &[Entry] {
        match &self.0 {
            Reach::Only(entries) => entries,
            Reach::None | Reach::Internet | Reach::Host => &[],
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.0, Reach::Internet | Reach::Host)
    }

    /// Whether a name may be looked up: of another one nobody outside gets to know.
    pub(super) fn may_look_up(&self, name: &str) -> bool {
        self.is_open() || self.entries().iter().any(|entry| entry.names(name))
    }

    /// Judges what is asked for, before anything is looked up.
    pub(super) fn judge(&self, target: &Target) -> Result<(), Refusal> {
        let Target { host, port } = target;
        match host {
            Host::Name(name) => {
                let listed = self.entries().iter().any(|entry| entry.has_name(name, *port));
                if self.is_open() || listed { Ok(()) } else { Err(Refusal::NotListed) }
            }
            Host::Address(address) => {
                let any = self.is_open() || self.entries().iter().any(|one| one.has_any(*port));
                match self.lists(*address, *port) {
                    true => Ok(()),
                    false if !any => Err(Refusal::NotListed),
                    false if is_public(*address) => Ok(()),
                    false => Err(Refusal::NotPublic(*address)),
                }
            }
        }
    }

    /// Judges where a name that may be asked for leads.
    pub(super) fn judge_address(&self, address: IpAddr, port: u16) -> Result<(), Refusal> {
        if is_public(address) || self.lists(address, port) {
            Ok(())
        } else {
            Err(Refusal::NotPublic(address))
        }
    }

    fn lists(&self, address: IpAddr, port: u16) -> bool {
        // What stands for an address of IPv4 is as that one.
        let address = address.to_canonical();
        self.entries().iter().any(|entry| entry.has_address(address, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(list: &[&str]) -> Policy {
        let entries = list.iter().map(|text| text.parse().expect("an entry")).collect();
        Policy(Reach::only(entries))
    }

    fn target(host: &str, port: u16) -> Target {
        let host = match host.parse() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name(host.to_owned()),
        };
        Target { host, port }
    }

    #[test]
    fn the_internet_is_what_is_public() {
        let policy = Policy(Reach::Internet);
        for host in ["203.0.113.7", "8.8.8.8", "example.org"] {
            assert_eq!(policy.judge(&target(host, 443)), Ok(()), "{host}");
        }
        for host in ["127.0.0.1", "169.254.169.254", "10.0.0.1", "100.64.0.1", "192.168.0.1"] {
            let address = host.parse().expect("an address");
            let refused = Err(Refusal::NotPublic(address));
            assert_eq!(policy.judge(&target(host, 80)), refused);
            assert_eq!(policy.judge_address(address, 80), refused);
        }
    }

    #[test]
    fn a_list_is_all_there_is() {
        let policy = only(&["deb.debian.org", "pypi.org:443", "*.example.org", "10.0.0.0/8:443"]);
        let ok = |host: &str, port| policy.judge(&target(host, port)) == Ok(());
        assert!(ok("deb.debian.org", 80) && ok("pypi.org", 443) && ok("a.example.org", 22));
        assert!(ok("10.1.2.3", 443));
        for (host, port) in
            [("pypi.org", 80), ("example.org", 80), ("10.1.2.3", 80), ("203.0.113.7", 443)]
        {
            assert_eq!(policy.judge(&target(host, port)), Err(Refusal::NotListed), "{host}");
        }
        let private = "10.1.2.3".parse().expect("an address");
        assert_eq!(policy.judge_address(private, 443), Ok(()));
        assert_eq!(policy.judge_address(private, 80), Err(Refusal::NotPublic(private)));
        let mapped = "::ffff:10.1.2.3".parse().expect("an address");
        assert_eq!(policy.judge_address(mapped, 443), Ok(()));
        assert!(policy.may_look_up("pypi.org") && !policy.may_look_up("evil.example"));
    }

    #[test]
    fn a_star_is_every_public_host() {
        let policy = only(&["*", "10.0.0.1"]);
        let judged = |host: &str| policy.judge(&target(host, 1));
        assert_eq!(
            (judged("a.b"), judged("203.0.113.7"), judged("10.0.0.1")),
            (Ok(()), Ok(()), Ok(()))
        );
        let private = "10.0.0.2".parse().expect("an address");
        assert_eq!(judged("10.0.0.2"), Err(Refusal::NotPublic(private)));
    }

    #[test]
    fn a_refusal_names_what_was_asked_for_and_what_helps() {
        let refused = Refused { target: target("pypi.org", 443), why: Refusal::NotListed };
        assert_eq!(
            refused.to_string(),
            "the step asked for pypi.org:443, which `network` does not list"
        );
        let at = "10.0.0.5".parse().expect("an address");
        let refused = Refused { target: target("db", 5432), why: Refusal::NotPublic(at) };
        assert!(refused.hint(&Reach::Internet).contains("\"db:5432\" and \"10.0.0.5:5432\""));
    }
}
