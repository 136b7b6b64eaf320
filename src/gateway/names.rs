//! The name server of a step: an address of its own for each name, by which a later connection is
//! known again. What is answered (RFC 1035):
//!
//! ```text
//! A       an address of 198.18.0.0/15 that stands for the name; NXDOMAIN where the host knows of no such name
//! AAAA    nothing: the step has no IPv6
//! PTR     the name that an address stands for, else NXDOMAIN
//! others  nothing
//! ```

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The first address that is given to a name; those before it are the step's and the gateway's.
const FIRST: u32 = Ipv4Addr::new(198, 18, 1, 0).to_bits();
/// The last.
const LAST: u32 = Ipv4Addr::new(198, 19, 255, 255).to_bits();
/// How long an answer may be kept, in seconds.
const KEPT: u32 = 60;
/// Longest message over TCP that is read.
pub(super) const LONGEST: usize = 4096;

const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;
const IN: u16 = 1;

const BAD_FORMAT: u8 = 1;
const FAILED: u8 = 2;
const UNKNOWN: u8 = 3;
const NOT_DONE: u8 = 4;

/// The names that a step asked for.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<Given>);

#[derive(Debug, Default)]
struct Given {
    addresses: HashMap<String, u32>,
    names: Vec<String>,
}

/// Whether a host of that name is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existence {
    /// It is, or may be.
    There,
    /// There is none.
    Unknown,
    /// Nobody could say.
    Unsure,
}

impl Names {
    fn held(&self) -> MutexGuard<'_, Given> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the address that stands for a name; `None` when all are given away.
    fn address(&self, name: &str) -> Option<Ipv4Addr> {
        let mut given = self.held();
        if let Some(address) = given.addresses.get(name) {
            return Some(Ipv4Addr::from_bits(*address));
        }
        let next = FIRST + u32::try_from(given.names.len()).ok()?;
        if next > LAST {
            return None;
        }
        given.names.push(name.to_owned());
        given.addresses.insert(name.to_owned(), next);
        Some(Ipv4Addr::from_bits(next))
    }

    /// Returns the name that an address stands for.
    pub(super) fn name(&self, address: Ipv4Addr) -> Option<String> {
        let at = address.to_bits().checked_sub(FIRST)?;
        self.held().names.get(usize::try_from(at).ok()?).cloned()
    }

    /// Answers a question; `None`: it is none. `exists` is asked about hosts.
    pub(super) fn answer(
        &self,
        message: &[u8],
        exists: impl FnOnce(&str) -> Existence,
    ) -> Option<Vec<u8>> {
        let head: &[u8; 12] = message.first_chunk()?;
        // What is an answer itself, or says so, gets none.
        if head[2] & 0x80 != 0 {
            return None;
        }
        if head[2] & 0x78 != 0 {
            return Some(reply(head, &[], NOT_DONE, None));
        }
        let Some(Question { name, kind, class, bytes }) = question(message) else {
            return Some(reply(head, &[], BAD_FORMAT, None));
        };
        let no = |code| Some(reply(head, bytes, code, None));
        if class != IN {
            return no(0);
        }
        match kind {
            A | AAAA if name == "localhost" || name.ends_with(".localhost") => {
                let own = Ipv4Addr::LOCALHOST.octets();
                Some(reply(head, bytes, 0, (kind == A).then_some((A, &own))))
            }
            A | AAAA if name.is_empty() => no(0),
            // An address in some notation is no name (URL Standard, "ends in a number").
            A | AAAA if ends_in_a_number(&name) => no(UNKNOWN),
            A | AAAA => match exists(&name) {
                Existence::Unknown => no(UNKNOWN),
                Existence::Unsure => no(FAILED),
                Existence::There if kind == AAAA => no(0),
                Existence::There => match self.address(&name) {
                    Some(address) => Some(reply(head, bytes, 0, Some((A, &address.octets())))),
                    None => no(FAILED),
                },
            },
            PTR => match reversed(&name).and_then(|address| self.name(address)) {
                Some(name) => {
                    let mut labels = vec![];
                    for label in name.split('.') {
                        labels.push(u8::try_from(label.len()).ok()?);
                        labels.extend_from_slice(label.as_bytes());
                    }
                    labels.push(0);
                    Some(reply(head, bytes, 0, Some((PTR, &labels))))
                }
                None => no(UNKNOWN),
            },
            _ => no(0),
        }
    }
}

/// The one question of a message.
struct Question<'a> {
    name: String,
    kind: u16,
    class: u16,
    /// As it stands there.
    bytes: &'a [u8],
}

fn question(message: &[u8]) -> Option<Question<'_>> {
    let number = |at: usize| {
        let two: [u8; 2] = message.get(at..at + 2)?.try_into().ok()?;
        Some(u16::from_be_bytes(two))
    };
    if number(4)? != 1 {
        return None;
    }
    let (mut at, mut labels) = (12, vec![]);
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => break,
            // The first name has nothing to point to.
            64.. => return None,
            _ => {}
        }
        let label = message.get(at..at + length)?;
        let fits = |byte: &u8| byte.is_ascii_graphic() && *byte != b'.';
        if !label.iter().all(fits) {
            return None;
        }
        labels.push(String::from_utf8(label.to_ascii_lowercase()).ok()?);
        at += length;
    }
    let name = labels.join(".");
    (name.len() <= 253).then_some(())?;
    let bytes = message.get(12..at + 4)?;
    Some(Question { name, kind: number(at)?, class: number(at + 2)?, bytes })
}

fn ends_in_a_number(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()))
}

/// The address of a name such as `7.1.18.198.in-addr.arpa`.
fn reversed(name: &str) -> Option<Ipv4Addr> {
    let parts = name.strip_suffix(".in-addr.arpa")?.split('.').rev().collect::<Vec<_>>();
    parts.join(".").parse().ok()
}

fn reply(head: &[u8; 12], question: &[u8], code: u8, answer: Option<(u16, &[u8])>) -> Vec<u8> {
    // The id; an answer, with what was asked of the recursion, which is available.
    let mut out = vec![head[0], head[1], 0x80 | (head[2] & 0x79), 0x80 | code];
    let questions = u16::from(!question.is_empty());
    for count in [questions, u16::from(answer.is_some()), 0, 0] {
        out.extend_from_slice(&count.to_be_bytes());
    }
    out.extend_from_slice(question);
    if let Some((kind, data)) = answer {
        // The name of the question.
        out.extend_from_slice(&[0xc0, 12]);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&IN.to_be_bytes());
        out.extend_from_slice(&KEPT.to_be_bytes());
        out.extend_from_slice(&u16::try_from(data.len()).unwrap_or_default().to_be_bytes());
        out.extend_from_slice(data);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(label.len() as u8);
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&IN.to_be_bytes());
        message
    }

    fn there(_: &str) -> Existence {
        Existence::There
    }

    #[test]
    fn a_name_has_one_address_and_is_known_by_it() {
        let names = Names::default();
        let one = names.answer(&ask("Pypi.Org", A), there).unwrap();
        assert_eq!(one[..4], [0xab, 0xcd, 0x81, 0x80]);
        assert_eq!(one[4..8], [0, 1, 0, 1]);
        assert!(one[12..].starts_with(b"\x04Pypi\x03Org\0"), "the case of the question stays");
        let address = Ipv4Addr::from(*one.last_chunk::<4>().unwrap());
        assert_eq!(names.name(address).as_deref(), Some("pypi.org"));
        assert_eq!(
            names.answer(&ask("pypi.org", A), there).unwrap().last_chunk(),
            Some(&address.octets())
        );
        let other = names.answer(&ask("deb.debian.org", A), there).unwrap();
        assert_ne!(other.last_chunk(), Some(&address.octets()));
        assert_eq!(names.name(Ipv4Addr::new(198, 19, 0, 0)), None);
        let [a, b, c, d] = address.octets();
        let back =
            names.answer(&ask(&format!("{d}.{c}.{b}.{a}.in-addr.arpa"), PTR), there).unwrap();
        assert!(back.ends_with(b"\x04pypi\x03org\0"));
    }

    #[test]
    fn what_has_no_answer_says_so() {
        let names = Names::default();
        let code = |name: &str, kind, exists| {
            let reply = names.answer(&ask(name, kind), |_| exists).unwrap();
            (reply[3] & 0xf, reply[7])
        };
        assert_eq!(code("a.example", A, Existence::There), (0, 1));
        assert_eq!(code("a.example", AAAA, Existence::There), (0, 0));
        assert_eq!(code("a.example", A, Existence::Unknown), (UNKNOWN, 0));
        assert_eq!(code("a.example", AAAA, Existence::Unknown), (UNKNOWN, 0));
        assert_eq!(code("a.example", A, Existence::Unsure), (FAILED, 0));
        assert_eq!(code("a.example", 33, Existence::There), (0, 0), "SRV");
        assert_eq!(code("1.1.1.1.in-addr.arpa", PTR, Existence::There), (UNKNOWN, 0));
        assert_eq!(code("localhost", A, Existence::Unknown), (0, 1));
        for address in ["127.0.0.1", "127.1", "2130706433", "a.0x7f"] {
            assert_eq!(code(address, A, Existence::There), (UNKNOWN, 0), "{address}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let names = Names::default();
        let whole = ask("a.example", A);
        for cut in 0..12 {
            assert_eq!(names.answer(&whole[..cut], there), None);
        }
        for cut in 12..whole.len() {
            assert_eq!(names.answer(&whole[..cut], there).unwrap()[3] & 0xf, BAD_FORMAT);
        }
        let mut answer = whole.clone();
        answer[2] |= 0x80;
        assert_eq!(names.answer(&answer, there), None, "an answer gets no answer");
        let mut update = whole.clone();
        update[2] |= 0x28;
        assert_eq!(names.answer(&update, there).unwrap()[3] & 0xf, NOT_DONE);
        let mut pointer = whole;
        pointer[12] = 0xc0;
        assert_eq!(names.answer(&pointer, there).unwrap()[3] & 0xf, BAD_FORMAT);
    }
}
