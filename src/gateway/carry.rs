//! The loop that takes the connections of a job, has others found, and carries bytes both ways: one
//! thread, whatever their number.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::outside::{Dialed, NotReached};
use super::policy::{Host, Target};
use super::pump::{Broken, Flow, Pipes, State};
use super::record::{Record, Report};
use super::resolve;
use super::shared::Shared;
use super::tasks::Tasks;
use crate::sandbox::{GATEWAY, Handed, Outlet};

/// Most connections at once.
const MOST: usize = 4096;
/// How long what a job has sent may take to go out after its end.
const LINGER: Duration = Duration::from_secs(2);
/// Pause where there is nothing to open anything with.
const PAUSE: Duration = Duration::from_millis(20);

const OUTLET: u64 = 0;
const WAKE: u64 = 1;
const NAMES: u64 = 2;
/// From here on ports, by their place.
const PORTS: u64 = 16;
/// From here on connections.
const CONNECTIONS: u64 = 1 << 32;

/// One connection.
struct Connection {
    target: Target,
    inner: TcpStream,
    /// Once there is one.
    outer: Option<TcpStream>,
    /// From the step, and to it.
    up: Flow,
    down: Flow,
    /// The outer side took no more while there was more.
    broken: bool,
}

/// The loop.
pub(super) struct Carrier {
    shared: Arc<Shared>,
    epoll: OwnedFd,
    outlet: Option<Outlet>,
    names: Option<Arc<UdpSocket>>,
    ports: Vec<TcpListener>,
    connections: HashMap<u64, Connection>,
    next: u64,
    /// Connections that have more to do at once.
    again: Vec<u64>,
    pipes: Pipes,
    tasks: Tasks,
    dialed: (mpsc::Sender<Answered>, mpsc::Receiver<Answered>),
    record: Record,
}

type Answer = Result<Dialed, NotReached>;

/// The number of a connection, and what became of dialing for it.
type Answered = (u64, Answer);

impl Carrier {
    pub(super) fn new(outlet: Outlet, shared: Arc<Shared>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let one = |fd: &dyn AsFd, token| {
            let data = epoll::EventData::new_u64(token);
            epoll::add(&epoll, fd.as_fd(), data, epoll::EventFlags::IN)
        };
        one(&outlet, OUTLET)?;
        one(&shared.wake, WAKE)?;
        Ok(Self {
            shared,
            epoll,
            outlet: Some(outlet),
            names: None,
            ports: vec![],
            connections: HashMap::new(),
            next: CONNECTIONS,
            again: vec![],
            pipes: Pipes::default(),
            tasks: Tasks::default(),
            dialed: mpsc::channel(),
            record: Record::default(),
        })
    }

    /// Works until it is stopped.
    pub(super) fn run(mut self) -> Report {
        let mut until = None;
        loop {
            if self.shared.stop.load(Ordering::SeqCst) {
                let until = *until.get_or_insert_with(|| Instant::now() + LINGER);
                self.end_idle();
                let hurry = self.shared.hurry.load(Ordering::SeqCst);
                if hurry || self.connections.is_empty() || until <= Instant::now() {
                    break;
                }
            }
            let pause = match (self.again.is_empty(), until) {
                (false, _) => Some(Timespec { tv_sec: 0, tv_nsec: 0 }),
                (true, Some(_)) => Some(Timespec { tv_sec: 0, tv_nsec: 50_000_000 }),
                (true, None) => None,
            };
            let mut events = Vec::with_capacity(256);
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                pause.as_ref(),
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                // There is no error for a descriptor of ours.
                Err(_) => break,
            }
            let mut ready = std::mem::take(&mut self.again);
            for event in &events {
                match event.data.u64() {
                    OUTLET => self.take_socket(),
                    WAKE => self.woken(),
                    NAMES => self.take_questions(),
                    id if id >= CONNECTIONS => ready.push(id),
                    port => self.accept((port - PORTS) as usize),
                }
            }
            ready.sort_unstable();
            ready.dedup();
            ready.into_iter().for_each(|id| self.move_on(id));
        }
        self.tasks.close();
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        ids.into_iter().for_each(|id| self.end(id, true));
        self.record.report()
    }

    /// Takes what the job's network leads to.
    fn take_socket(&mut self) {
        let taken = match self.outlet.as_ref().map(Outlet::next) {
            Some(Ok(Some(Handed::Names(socket)))) => {
                let set = socket.set_nonblocking(true).map_err(|_| Errno::IO);
                let added = set.and_then(|()| self.watch(&socket, NAMES));
                self.names = Some(Arc::new(socket));
                added
            }
            Some(Ok(Some(Handed::Ports(listeners)))) => {
                listeners.into_iter().try_for_each(|listener| {
                    let added = self.watch(&listener, PORTS + self.ports.len() as u64);
                    self.ports.push(listener);
                    added
                })
            }
            // The job has ended, or nothing more can be taken: its connections are refused then.
            Some(Ok(None) | Err(_)) | None => Err(Errno::PIPE),
        };
        if taken.is_err()
            && let Some(outlet) = self.outlet.take()
        {
            let _ = epoll::delete(&self.epoll, &outlet);
        }
    }

    fn watch(&self, fd: &impl AsFd, token: u64) -> Result<(), Errno> {
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)
    }

    /// Takes what other threads have brought.
    fn woken(&mut self) {
        let _ = rustix::io::read(&self.shared.wake, &mut [0; 8]);
        while let Ok((id, answer)) = self.dialed.1.try_recv() {
            self.connected(id, answer);
        }
    }

    /// Answers questions for names.
    fn take_questions(&mut self) {
        let Some(socket) = &self.names else { return };
        let mut message = [0; 2048];
        while let Ok((got, from)) = socket.recv_from(&mut message) {
            let (shared, socket) = (Arc::clone(&self.shared), Arc::clone(socket));
            let message = message[..got].to_vec();
            // A question that is lost is asked again.
            self.tasks.add(move || resolve::datagram(&shared, &socket, &message, from));
        }
    }

    fn accept(&mut self, port: usize) {
        loop {
            let taken = self.ports[port].accept();
            let stream = match taken {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // It gave up before it was taken.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // No descriptors, no memory: there may be some again when others end.
                Err(_) => return std::thread::sleep(PAUSE),
            };
            // One that is not carried is closed, and whoever asked sees that.
            let _ = self.begin(stream);
        }
    }

    /// Takes a connection of the step.
    fn begin(&mut self, stream: TcpStream) -> Option<()> {
        let to = stream.local_addr().ok()?;
        let IpAddr::V4(address) = to.ip() else { return None };
        if self.connections.len() >= MOST {
            reset(&stream);
            return None;
        }
        if address == GATEWAY && to.port() == 53 {
            let shared = Arc::clone(&self.shared);
            self.tasks.add(move || resolve::stream(&shared, stream));
            return Some(());
        }
        let host = match self.shared.names.name(address) {
            Some(name) => Host::Name(name),
            None => Host::Address(address.into()),
        };
        let target = Target { host, port: to.port() };
        if let Err(why) = self.shared.policy.judge(&target) {
            self.record.refused(target, why);
            reset(&stream);
            return None;
        }
        stream.set_nonblocking(true).ok()?;
        let _ = stream.set_nodelay(true);
        let id = self.next;
        self.next += 1;
        let (shared, send) = (Arc::clone(&self.shared), self.dialed.0.clone());
        let wanted = target.clone();
        let begun = self.tasks.add(move || {
            let answer = shared.outside.dial(&wanted, &shared.policy);
            // The job may have ended meanwhile.
            if send.send((id, answer)).is_ok() {
                shared.wake();
            }
        });
        if !begun {
            reset(&stream);
            return None;
        }
        let (up, down) = (Flow::default(), Flow::default());
        let connection = Connection { target, inner: stream, outer: None, up, down, broken: false };
        self.connections.insert(id, connection);
        Some(())
    }

    /// Joins a connection with what was found for it.
    fn connected(&mut self, id: u64, answer: Answer) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let target = connection.target.clone();
        match answer {
            Ok(Dialed { stream, rewriter }) => {
                connection.up.rewriter = rewriter;
                let _ = stream.set_nodelay(true);
                let flags = epoll::EventFlags::IN
                    | epoll::EventFlags::OUT
                    | epoll::EventFlags::RDHUP
                    | epoll::EventFlags::ET;
                let data = epoll::EventData::new_u64(id);
                let ready = stream.set_nonblocking(true).is_ok()
                    && epoll::add(&self.epoll, &stream, data, flags).is_ok()
                    && epoll::add(&self.epoll, &connection.inner, data, flags).is_ok();
                connection.outer = Some(stream);
                self.record.connected(&target);
                if ready { self.move_on(id) } else { self.end(id, true) }
            }
            Err(why) => {
                match why {
                    NotReached::Refused(why) => self.record.refused(target, why),
                    NotReached::Failed(why) => self.record.failed(target, why),
                }
                self.end(id, true);
            }
        }
    }

    /// Carries what can be carried.
    fn move_on(&mut self, id: u64) {
        let Some(Connection { inner, outer: Some(outer), up, down, broken, .. }) =
            self.connections.get_mut(&id)
        else {
            return;
        };
        let pipes = &mut self.pipes;
        let sent = up.pump(inner, outer, pipes);
        if sent == Err(Broken::To) {
            // Who takes no more may have answered all the same: that is carried to its end.
            up.give_up();
            *broken = true;
        }
        let got = down.pump(outer, inner, pipes);
        match (sent, got) {
            (Err(Broken::From), _) | (_, Err(_)) => self.end(id, true),
            (Ok(State::Done) | Err(Broken::To), Ok(State::Done)) => {
                let broken = *broken;
                self.end(id, broken);
            }
            (Ok(State::More), Ok(_)) | (_, Ok(State::More)) => self.again.push(id),
            (_, Ok(_)) => {}
        }
    }

    /// Ends a connection; `broken`: both sides see that it did not end by itself.
    fn end(&mut self, id: u64, broken: bool) {
        let Some(connection) = self.connections.remove(&id) else { return };
        let Connection { target, inner, outer, up, down, .. } = connection;
        self.record.carried(&target, up.carried, down.carried);
        if broken {
            [Some(&inner), outer.as_ref()].into_iter().flatten().for_each(reset);
        }
    }

    /// After the end of the job: ends what owes nobody anything.
    fn end_idle(&mut self) {
        let idle = |connection: &Connection| connection.outer.is_some() && !connection.up.owes();
        let ids: Vec<u64> =
            self.connections.iter().filter(|(_, one)| idle(one)).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.end(id, true));
    }
}

/// Has a socket say, when it is closed, that this was no end as it should be.
fn reset(stream: &TcpStream) {
    // Where that cannot be set, it is closed all the same.
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}
