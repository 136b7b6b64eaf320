//! The few messages of rtnetlink(7) that a network of a step is made with.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::plan::{Doing, Fault};

/// Number that both ends of the pair get, each in its namespace.
const INDEX: u32 = 77;
/// Table of the routes that make foreign addresses this machine's.
const FOREIGN: u8 = 5;
/// `RT_TABLE_MAIN`.
const MAIN: u8 = 254;
/// What goes to a port that just got a listener is marked so.
pub(super) const MARK: u32 = 5;
/// Addresses on the hardware's level, so that nobody has to ask for them.
const STEP_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const GATE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A socket for messages to the kernel, of the namespace that it was made in.
pub(super) struct Netlink(OwnedFd);

/// A message in the making.
struct Message {
    bytes: Vec<u8>,
}

/// `NLM_F_REQUEST | NLM_F_ACK`.
const SET: u16 = 0x5;
/// The same, with `NLM_F_CREATE | NLM_F_EXCL`.
const MAKE: u16 = 0x605;

const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const SET_LINK: u16 = 19;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const NEW_NEIGHBOUR: u16 = 28;
const NEW_RULE: u16 = 32;

const INET: u8 = libc::AF_INET as u8;

impl Message {
    /// Begins one with the fixed part that its kind has.
    fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(fixed);
        Self { bytes }
    }

    /// Adds an attribute.
    fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).expect("attributes are short");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    fn with_number(self, kind: u16, number: u32) -> Self {
        self.with(kind, &number.to_ne_bytes())
    }

    /// Adds an attribute that holds others.
    fn nested(self, kind: u16, inner: impl FnOnce(Self) -> Self) -> Self {
        let inner = inner(Self { bytes: vec![] });
        self.with(kind, &inner.bytes)
    }

    /// Adds an attribute that begins with a fixed part and holds others.
    fn nested_after(self, kind: u16, fixed: &[u8], inner: impl FnOnce(Self) -> Self) -> Self {
        let inner = inner(Self { bytes: fixed.to_vec() });
        self.with(kind, &inner.bytes)
    }
}

/// `struct ifinfomsg`: of any family.
fn link(index: u32, flags: u32) -> Vec<u8> {
    let mut fixed = vec![0; 4];
    for word in [index, flags, flags] {
        fixed.extend_from_slice(&word.to_ne_bytes());
    }
    fixed
}

impl Netlink {
    /// Opens one in the network namespace that this process is in.
    pub(super) fn open() -> io::Result<Self> {
        let (kind, flags) = (SocketType::RAW, SocketFlags::CLOEXEC);
        // `NETLINK_ROUTE` is the number 0.
        Ok(Self(rustix::net::socket_with(AddressFamily::NETLINK, kind, flags, None)?))
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Sends a message and waits for the kernel's answer.
    fn ask(&self, message: Message) -> io::Result<()> {
        let mut bytes = message.bytes;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        rustix::net::send(&self.0, &bytes, SendFlags::empty())?;
        let mut answer = [0; 4096];
        let (got, _) = rustix::net::recv(&self.0, &mut answer[..], RecvFlags::empty())?;
        // `struct nlmsghdr`, then the number of the error, negative, or 0.
        let errno = answer.get(16..20).filter(|_| got >= 20).and_then(|word| word.try_into().ok());
        match errno.map(i32::from_ne_bytes) {
            Some(0) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Waits until the end in this namespace sends what it is given: the kernel learns later, by
    /// itself, that the other end is up, and drops until then.
    pub(super) fn wait_until_up(&self) -> Result<(), Fault> {
        let begun = Instant::now();
        while !self.is_up().doing(set_up)? {
            if begun.elapsed() > PATIENCE {
                return Err(Fault::new(set_up(), rustix::io::Errno::NETDOWN));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Whether the end in this namespace is in operation (RFC 2863, `IF_OPER_UP`).
    fn is_up(&self) -> io::Result<bool> {
        const STATE: u16 = 16;
        const UP: u8 = 6;
        // Of this one the answer is the link, and no number of an error.
        let mut bytes = Message::new(GET_LINK, 1, &link(INDEX, 0)).bytes;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        rustix::net::send(&self.0, &bytes, SendFlags::empty())?;
        let mut answer = [0; 16 * 1024];
        let (got, _) = rustix::net::recv(&self.0, &mut answer[..], RecvFlags::empty())?;
        // `struct nlmsghdr` and `struct ifinfomsg`, then the attributes.
        Ok(attribute(answer.get(32..got).unwrap_or_default(), STATE) == Some(&[UP]))
    }

    /// Makes the pair of which one end is in this namespace and the other in `gate`.
    pub(super) fn make_pair(&self, gate: BorrowedFd<'_>) -> Result<(), Fault> {
        const NAME: u16 = 3;
        const ADDRESS: u16 = 1;
        const NAMESPACE: u16 = 28;
        const INFO: u16 = 18;
        let gate = gate.as_raw_fd().cast_unsigned();
        let message = Message::new(NEW_LINK, MAKE, &link(INDEX, 0))
            .with(NAME, b"eth0\0")
            .with(ADDRESS, &STEP_MAC)
            .nested(INFO, |info| {
                info.with(1, b"veth\0").nested(2, |data| {
                    data.nested_after(1, &link(INDEX, 0), |peer| {
                        peer.with(NAME, b"gate\0")
                            .with(ADDRESS, &GATE_MAC)
                            .with_number(NAMESPACE, gate)
                    })
                })
            });
        self.ask(message).map_err(|error| {
            let missing = matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS));
            let fault = Fault::new("make a network for the step", error);
            if missing { fault.hint(NO_VETH) } else { fault }
        })
    }

    /// Configures the step's end.
    pub(super) fn set_up_step(&self, step: Ipv4Addr, gate: Ipv4Addr) -> Result<(), Fault> {
        self.set_up_end(step, gate, GATE_MAC)?;
        // struct rtmsg: the route to everywhere, `RTPROT_STATIC`, of the type unicast.
        let route = [INET, 0, 0, 0, MAIN, 4, 0, 1, 0, 0, 0, 0];
        let route = Message::new(NEW_ROUTE, MAKE, &route).with(5, &gate.octets());
        self.ask(route.with_number(4, INDEX)).doing(set_up)?;
        // The gateway, any address by TCP, and nothing else: other protocols have no way, which a
        // program gets to know at once.
        let to_gate = rule(32, MAIN, TO_TABLE).with(1, &gate.octets());
        self.ask(to_gate.with_number(PRIORITY, 10)).doing(set_up).map_err(ruled)?;
        self.ask(tcp(rule(0, MAIN, TO_TABLE)).with_number(PRIORITY, 20))
            .doing(set_up)
            .map_err(ruled)?;
        self.ask(rule(0, 0, UNREACHABLE).with_number(PRIORITY, 30)).doing(set_up).map_err(ruled)
    }

    /// Configures the gateway's end: what comes to a port that is open is for this machine, to
    /// whatever address it goes. Anything else is dropped.
    pub(super) fn set_up_gate(&self, gate: Ipv4Addr, step: Ipv4Addr) -> Result<(), Fault> {
        const INET_CONF: u16 = 1;
        const FORWARDING: u16 = 1;
        // A new namespace has this from the host's settings, and nothing is to go through here.
        let off = Message::new(SET_LINK, SET, &link(INDEX, 0)).nested(AF_SPEC, |spec| {
            spec.nested(INET.into(), |own| {
                own.nested(INET_CONF, |conf| conf.with_number(FORWARDING, 0))
            })
        });
        self.ask(off).doing(set_up)?;
        self.set_up_end(gate, step, STEP_MAC)?;
        // `RT_SCOPE_HOST`, of the type local.
        let route = [INET, 0, 0, 0, FOREIGN, 4, 254, 2, 0, 0, 0, 0];
        let route = Message::new(NEW_ROUTE, MAKE, &route).with_number(4, INDEX);
        self.ask(route).doing(set_up)?;
        let marked = rule(0, FOREIGN, TO_TABLE).with_number(PRIORITY, 10);
        self.ask(marked.with_number(10, MARK)).doing(set_up).map_err(ruled)
    }

    /// Takes in what comes to this port by TCP, to whatever address.
    pub(super) fn take_port(&self, port: u16) -> io::Result<()> {
        let range = [port.to_ne_bytes(), port.to_ne_bytes()].concat();
        let rule = tcp(rule(0, FOREIGN, TO_TABLE)).with(24, &range);
        self.ask(rule.with_number(PRIORITY, 20))
    }

    /// Takes in what comes to any port by TCP: where nobody listens the kernel says so.
    pub(super) fn take_all_ports(&self) -> io::Result<()> {
        self.ask(tcp(rule(0, FOREIGN, TO_TABLE)).with_number(PRIORITY, 30))
    }

    fn set_up_end(&self, own: Ipv4Addr, other: Ipv4Addr, mac: [u8; 6]) -> Result<(), Fault> {
        const INET6: u16 = libc::AF_INET6 as u16;
        const GENERATED: u16 = 8;
        // No address of IPv6, so that nothing is sent by itself. A kernel without IPv6 refuses.
        let _ = self.ask(
            Message::new(SET_LINK, SET, &link(INDEX, 0))
                .nested(AF_SPEC, |spec| spec.nested(INET6, |own| own.with(GENERATED, &[1]))),
        );
        let up = |index| Message::new(SET_LINK, SET, &link(index, libc::IFF_UP as u32));
        self.ask(up(1)).doing(set_up)?;
        // struct ifaddrmsg: 30 bits, which hold both ends.
        let mut fixed = vec![INET, 30, 0, 0];
        fixed.extend_from_slice(&INDEX.to_ne_bytes());
        let address = Message::new(NEW_ADDRESS, MAKE, &fixed);
        self.ask(address.with(2, &own.octets()).with(1, &own.octets())).doing(set_up)?;
        self.ask(up(INDEX)).doing(set_up)?;
        // struct ndmsg, `NUD_PERMANENT`.
        let mut fixed = vec![INET, 0, 0, 0];
        fixed.extend_from_slice(&INDEX.to_ne_bytes());
        fixed.extend_from_slice(&[0x80, 0, 0, 0]);
        let neighbour = Message::new(NEW_NEIGHBOUR, MAKE, &fixed);
        self.ask(neighbour.with(1, &other.octets()).with(2, &mac)).doing(set_up)
    }
}

/// How long the kernel may take to have both ends up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Finds the value of an attribute.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (head, _) = attributes.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([head[2], head[3]]) == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

/// `IFLA_AF_SPEC`.
const AF_SPEC: u16 = 26;
/// `FRA_PRIORITY`.
const PRIORITY: u16 = 6;
/// `FR_ACT_TO_TBL`.
const TO_TABLE: u8 = 1;
/// `FR_ACT_UNREACHABLE`.
const UNREACHABLE: u8 = 7;

/// What helps where the kernel cannot make the pair.
const NO_VETH: &str = "the kernel needs virtual network devices: `modprobe veth` as root; or write \
    `network = \"host\"`, which lets the step reach whatever this host reaches";
/// What helps where it does not route by port.
const NO_RULES: &str = "the kernel needs routing by policy (CONFIG_IP_MULTIPLE_TABLES, Linux 4.17 \
    or newer); or write `network = \"host\"`, which lets the step reach whatever this host reaches";

fn set_up() -> String {
    "set up the network of the step".to_owned()
}

fn ruled(fault: Fault) -> Fault {
    fault.hint(NO_RULES)
}

/// `struct fib_rule_hdr`.
fn rule(length: u8, table: u8, action: u8) -> Message {
    Message::new(NEW_RULE, MAKE, &[INET, length, 0, 0, table, 0, 0, action, 0, 0, 0, 0])
}

/// A rule of TCP alone.
fn tcp(rule: Message) -> Message {
    rule.with(22, &[libc::IPPROTO_TCP as u8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let message = Message::new(NEW_RULE, SET, &[1, 2, 3, 4])
            .with(7, b"ab\0")
            .nested(9, |inner| inner.with_number(1, 6));
        let (fixed, rest) = message.bytes.split_at(20);
        assert_eq!(&fixed[16..], &[1, 2, 3, 4]);
        let mut wanted = vec![];
        for (length, kind) in [(7_u16, 7_u16), (12, 9), (8, 1)] {
            wanted.extend_from_slice(&length.to_ne_bytes());
            wanted.extend_from_slice(&kind.to_ne_bytes());
            match kind {
                7 => wanted.extend_from_slice(b"ab\0\0"),
                1 => wanted.extend_from_slice(&6_u32.to_ne_bytes()),
                _ => {}
            }
        }
        assert_eq!(rest, wanted);
        assert_eq!(attribute(rest, 7), Some(&b"ab\0"[..]));
        assert_eq!(
            attribute(rest, 9).and_then(|inner| attribute(inner, 1)),
            Some(&6_u32.to_ne_bytes()[..])
        );
        assert_eq!((attribute(rest, 8), attribute(&rest[..5], 9)), (None, None));
    }
}
