//! A network of a job's own, with a way out that the program decides about: two namespaces joined
//! by a pair of devices. What the job sends arrives at ordinary sockets of the other one, whatever
//! address and port it goes to, and the program holds these.
//!
//! ```text
//! job's namespace             gateway's namespace                  bake, in the host's network
//!   198.18.0.2 ── eth0 ═══ gate ── 198.18.0.1 :53 udp ───────────► [`Handed::Names`]
//!   route to everywhere by TCP     any address :80, :443, … tcp ─► [`Handed::Ports`]
//!   nothing else has a way         another port: the first SYN opens it, and is sent again
//! ```
//!
//! Connections are taken in the way of `IP_TRANSPARENT` (ip(7)): the local address of an accepted
//! socket is the one that the job asked for.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use serde::{Deserialize, Serialize};

use super::follow::enter;
use super::job::Network;
use super::netlink::{MARK, Netlink};
use super::plan::{Doing, Fault};
use super::{sys, wire};

/// The addresses of the two ends, of the range for measurements between networks (RFC 2544), which
/// no host has.
const STEP: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// Where the job finds the gateway: its router, and its name server.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// Ports that are open from the start: web, ssh, git, ftp, rsync, key servers, and what often
/// stands in for the web's.
const OPEN: &[u16] = &[53, 80, 443, 22, 9418, 21, 873, 8080, 8443, 11371];
/// Most ports that are opened because somebody asks for them.
const MOST: usize = 1024;
/// Connections that wait to be taken.
const BACKLOG: i32 = 1024;

/// The program's end of a job's network.
#[derive(Debug)]
pub struct Outlet(OwnedFd);

/// A socket that the job's network leads to.
#[derive(Debug)]
pub enum Handed {
    /// Datagrams to the name server.
    Names(UdpSocket),
    /// Connections to ports of any address.
    Ports(Vec<TcpListener>),
}

#[derive(Debug, Serialize, Deserialize)]
enum Kind {
    Names,
    Ports,
}

impl Outlet {
    /// Makes one, and the network of the job that it is for.
    ///
    /// # Errors
    /// Where this process may open no more files.
    pub fn new() -> io::Result<(Self, Network)> {
        let (ours, theirs) = wire::pair()?;
        Ok((Self(ours), Network::Outlet(theirs)))
    }

    /// Waits for the next socket; `None` once the job has ended.
    ///
    /// # Errors
    /// Where this process may open no more files.
    pub fn next(&self) -> io::Result<Option<Handed>> {
        let Some((kind, files)) = wire::receive::<Kind>(&self.0)? else { return Ok(None) };
        let mut files = files.into_iter();
        Ok(Some(match kind {
            Kind::Names => Handed::Names(files.next().ok_or(io::ErrorKind::UnexpectedEof)?.into()),
            Kind::Ports => Handed::Ports(files.map(TcpListener::from).collect()),
        }))
    }
}

impl AsFd for Outlet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The gateway's side of a job's network, in the process that keeps it.
pub(super) struct Gateway {
    netlink: Netlink,
    outlet: OwnedFd,
    /// Sees the first packet of each connection.
    first: OwnedFd,
    /// Sends such a packet again.
    again: OwnedFd,
    open: Vec<u16>,
}

impl Gateway {
    /// Makes both namespaces, as a process of the host's network; ends up in the gateway's. Returns
    /// the job's too.
    pub(super) fn make(userns: &OwnedFd, outlet: OwnedFd) -> Result<(Self, OwnedFd), Fault> {
        enter(userns)?;
        let gate = new_namespace()?;
        let step = new_namespace()?;
        let netlink = Netlink::open().doing(|| "open a socket".into())?;
        netlink.make_pair(gate.as_fd())?;
        netlink.set_up_step(STEP, GATEWAY)?;
        let of_step = netlink;
        rustix::thread::move_into_link_name_space(gate.as_fd(), Some(LinkNameSpaceType::Network))
            .doing(|| "enter a network namespace".into())?;
        let netlink = Netlink::open().doing(|| "open a socket".into())?;
        netlink.set_up_gate(GATEWAY, STEP)?;
        of_step.wait_until_up()?;
        netlink.wait_until_up()?;
        let sockets = || -> io::Result<(OwnedFd, OwnedFd)> {
            let number = NonZeroU32::new(ETH_P_IP.to_be().into());
            let ip = number.map(Protocol::from_raw);
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let (packets, kind) = (AddressFamily::PACKET, SocketType::DGRAM);
            let first = rustix::net::socket_with(packets, kind, flags, ip)?;
            sys::attach_filter(first.as_fd(), FIRST)?;
            let (inet, raw) = (AddressFamily::INET, SocketType::RAW);
            let again = rustix::net::socket_with(inet, raw, flags, Some(ipproto::RAW))?;
            sys::set_option(again.as_fd(), libc::SOL_SOCKET, libc::SO_MARK, MARK.cast_signed())?;
            Ok((first, again))
        };
        let (first, again) = sockets().doing(|| "open a socket".into())?;
        let mut gateway = Self { netlink, outlet, first, again, open: vec![] };
        let what = || "open the network of the step".to_owned();
        let names = UdpSocket::bind((GATEWAY, 53)).doing(what)?;
        wire::send(&gateway.outlet, &Kind::Names, &[names.as_fd()]).doing(what)?;
        gateway.open(OPEN).doing(what)?;
        Ok((gateway, step))
    }

    /// The descriptors that it works with.
    pub(super) fn files(&self) -> [BorrowedFd<'_>; 4] {
        [self.netlink.as_fd(), self.outlet.as_fd(), self.first.as_fd(), self.again.as_fd()]
    }

    /// Opens ports as the job asks for them, until nobody holds the other end of `until`.
    pub(super) fn keep(mut self, until: &OwnedFd) -> io::Result<()> {
        loop {
            let mut fds =
                [PollFd::new(until, PollFlags::empty()), PollFd::new(&self.first, PollFlags::IN)];
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if !fds[0].revents().is_empty() {
                return Ok(());
            }
            let mut packet = [0; 2048];
            match rustix::net::recv(&self.first, &mut packet[..], RecvFlags::empty()) {
                Ok((got, _)) => self.asked(&packet[..got])?,
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Looks at the first packet of a connection.
    fn asked(&mut self, packet: &[u8]) -> io::Result<()> {
        let Some((to, port)) = destination(packet) else { return Ok(()) };
        if self.open.contains(&port) || self.open.len() > MOST {
            return Ok(());
        }
        if self.open.len() < MOST {
            self.open(&[port])?;
        } else if self.open.len() == MOST {
            self.netlink.take_all_ports()?;
            self.open.push(port);
        }
        // It had nowhere to go. By the mark it finds the way that is there now, and nobody waits
        // the second that it takes until it is sent again.
        if let Some(packet) = summed(packet) {
            // What is lost comes again.
            let to = SocketAddrV4::new(to, 0);
            let _ = rustix::net::sendto(&self.again, &packet, SendFlags::empty(), &to);
        }
        Ok(())
    }

    fn open(&mut self, ports: &[u16]) -> io::Result<()> {
        let sockets = ports.iter().map(|port| listen(*port)).collect::<io::Result<Vec<_>>>()?;
        let ends: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
        wire::send(&self.outlet, &Kind::Ports, &ends)?;
        ports.iter().try_for_each(|port| self.netlink.take_port(*port))?;
        self.open.extend_from_slice(ports);
        Ok(())
    }
}

/// Listens on a port of any address.
fn listen(port: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sys::set_option(socket.as_fd(), libc::SOL_IP, libc::IP_TRANSPARENT, 1)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn new_namespace() -> Result<OwnedFd, Fault> {
    sys::unshare(UnshareFlags::NEWNET).map_err(net_fault)?;
    open_namespace("net")
}

/// Why there is no network namespace.
pub(super) fn net_fault(error: io::Error) -> Fault {
    let errno = error.raw_os_error();
    let fault = Fault::new("make a network namespace", error);
    if errno == Some(libc::ENOSPC) {
        fault.hint("raise the limit in /proc/sys/user/max_net_namespaces")
    } else {
        fault
    }
}

/// Opens a namespace that this process is in.
pub(super) fn open_namespace(kind: &str) -> Result<OwnedFd, Fault> {
    let path = format!("/proc/self/ns/{kind}");
    rustix::fs::openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| format!("open {path}"))
}

/// `ETH_P_IP` of packet(7).
const ETH_P_IP: u16 = 0x0800;

const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_HEADER: u16 = (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16;
const LOAD_BEHIND: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_IND) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const fn line(code: u16, jt: u8, jf: u8, k: u32) -> seccompiler::sock_filter {
    seccompiler::sock_filter { code, jt, jf, k }
}

/// Lets the first packets of connections through, seen from the head of IPv4: TCP, no later
/// fragment, SYN without ACK. The rest of what is carried costs nothing.
const FIRST: &[seccompiler::sock_filter] = &[
    line(LOAD_BYTE, 0, 0, 9),
    line(EQUAL, 0, 7, libc::IPPROTO_TCP as u32),
    line(LOAD_HALF, 0, 0, 6),
    line(ANY_BIT, 5, 0, 0x1fff),
    line(LOAD_HEADER, 0, 0, 0),
    line(LOAD_BEHIND, 0, 0, 13),
    line(AND, 0, 0, 0x12),
    line(EQUAL, 0, 1, 0x02),
    line(RETURN, 0, 0, 0xffff),
    line(RETURN, 0, 0, 0),
];

/// Where a packet of TCP goes to.
fn destination(packet: &[u8]) -> Option<(Ipv4Addr, u16)> {
    let head = usize::from(packet.first()? & 0xf) * 4;
    let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    let port: [u8; 2] = packet.get(head + 2..head + 4)?.try_into().ok()?;
    Some((to.into(), u16::from_be_bytes(port))).filter(|(_, port)| *port > 0)
}

/// A packet with the checksum of TCP (RFC 9293 section 3.1), which a device without wires leaves to
/// the other side.
fn summed(packet: &[u8]) -> Option<Vec<u8>> {
    let head = usize::from(packet.first()? & 0xf) * 4;
    let mut packet = packet.to_vec();
    packet.get_mut(head + 16..head + 18)?.fill(0);
    let (addresses, segment) = (packet.get(12..20)?, packet.get(head..)?);
    let words = |bytes: &[u8]| {
        let word = |pair: &[u8]| {
            u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or_default()]))
        };
        bytes.chunks(2).map(word).sum::<u32>()
    };
    let length = u32::try_from(segment.len()).ok()?;
    let mut sum = words(addresses) + words(segment) + length + libc::IPPROTO_TCP as u32;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[head + 16..head + 18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    Some(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_packet_goes_is_read_behind_options_too() {
        let mut packet = vec![0x46; 64];
        packet[16..20].copy_from_slice(&[203, 0, 113, 7]);
        packet[26..28].copy_from_slice(&8081_u16.to_be_bytes());
        assert_eq!(destination(&packet), Some((Ipv4Addr::new(203, 0, 113, 7), 8081)));
        for cut in 0..28 {
            assert_eq!(destination(&packet[..cut]), None);
            assert_eq!(summed(&packet[..cut]), None);
        }
    }
}
