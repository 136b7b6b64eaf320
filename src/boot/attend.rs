//! A person's machine while it runs: its console is shown, it is asked whether it is up, and once
//! somebody wants it to end its power button is pressed.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::event::{Event, Sink};
use crate::machine::{Button, CONSOLE, MONITOR, answers, for_want_of_ticks};
use crate::sandbox::terminal;
use crate::threads;

/// Ctrl-].
const LEAVE: u8 = 0x1d;

/// How long QEMU may take to open its console.
const STARTED: Duration = Duration::from_secs(30);

/// How long a machine may take to end that was asked to.
pub(super) const STOP: Duration = Duration::from_secs(300);

/// After how long it is asked again: one that still starts has not noticed.
const AGAIN: Duration = Duration::from_secs(5);

/// Between two questions whether it is up.
const PAUSE: Duration = Duration::from_millis(200);

/// How a machine that runs is asked to end.
#[derive(Debug, Default)]
pub struct Ending {
    running: AtomicBool,
    asked: AtomicBool,
}

impl Ending {
    /// Asks the machine to end by itself, as its power button does. Returns whether that is what
    /// happens now: not where none runs yet, nor where it was asked before.
    pub fn ask(&self) -> bool {
        self.running.load(Ordering::SeqCst) && !self.asked.swap(true, Ordering::SeqCst)
    }
}

/// How a console was left.
pub(super) enum Attended {
    /// The machine has ended.
    Ended,
    /// The person has left it.
    Left,
    /// It showed nothing in the time it had for that, or ended before it showed anything.
    Lifeless,
    /// It was asked to end and did not.
    Stubborn,
    /// The host had no time for its clock, of which its kernel despaired.
    Starved,
}

/// Who is with the machine.
pub(super) struct Attendant<'a> {
    /// What it is called.
    pub(super) name: String,
    /// Asked until it is answered.
    pub(super) url: Option<&'a str>,
    /// Whether it is to end.
    pub(super) ending: &'a Ending,
    /// Gets to know that it is up.
    pub(super) sink: &'a Sink,
}

impl Attendant<'_> {
    /// Shows the console of the machine whose sockets are in `dir`, until one of the two has
    /// enough, or `over` says so. `life`: how long it may show nothing at first.
    pub(super) fn attend(
        &self,
        dir: &Path,
        life: Option<Duration>,
        over: &dyn Fn() -> bool,
    ) -> io::Result<Attended> {
        let begun = Instant::now();
        let opened = File::open(dir)?;
        let connect = |name: &str| loop {
            // Its own path may be longer than that of a socket may be.
            match UnixStream::connect(format!("/proc/self/fd/{}/{name}", opened.as_raw_fd())) {
                Ok(stream) => return Ok(Some(stream)),
                Err(_) if over() => return Ok(None),
                Err(error) if begun.elapsed() > STARTED => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        // Where life is asked for an end without it is none.
        let ended = if life.is_some() { Attended::Lifeless } else { Attended::Ended };
        // The console last: QEMU waits for it.
        let Some(monitor) = connect(MONITOR)? else { return Ok(ended) };
        let Some(mut stream) = connect(CONSOLE)? else { return Ok(ended) };
        let mut first = vec![0; 4096];
        let mut read = 0;
        if let Some(life) = life {
            stream.set_read_timeout(Some(life))?;
            match stream.read(&mut first) {
                Ok(0) => return Ok(ended),
                Ok(bytes) => read = bytes,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionReset
                    ) =>
                {
                    return Ok(Attended::Lifeless);
                }
                Err(error) => return Err(error),
            }
            stream.set_read_timeout(None)?;
        }
        self.ending.running.store(true, Ordering::SeqCst);
        let _asks = self.asks(begun)?;
        let end = End::new(self.ending, Button::new(monitor));
        let despair = Despair::default();
        despair.read(&first[..read]);
        let is_over = || {
            if despair.seen.get() {
                // It would stand still for ever.
                end.pull();
            }
            over() || end.is_late()
        };
        let (first, mut shown) = (&first[..read], |text: &[u8]| despair.read(text));
        let left = terminal::console(&stream, first, LEAVE, &is_over, &mut shown)?;
        Ok(match left {
            true => Attended::Left,
            false if despair.seen.get() => Attended::Starved,
            false if end.is_late() => Attended::Stubborn,
            false => Attended::Ended,
        })
    }

    /// Asks on a thread whether the machine is up, until it is or what is returned is dropped; that
    /// may be in the middle of a question, which nobody waits for then.
    fn asks(&self, begun: Instant) -> io::Result<Over> {
        let over = Over::default();
        if let Some(url) = self.url.map(str::to_owned) {
            let (name, sink, over) = (self.name.clone(), Arc::clone(self.sink), over.0.clone());
            threads::free(move || {
                let is_over = || over.load(Ordering::SeqCst);
                while !is_over() && answers(&url).is_err() {
                    thread::sleep(PAUSE);
                }
                if !is_over() {
                    let seconds = begun.elapsed().as_secs_f64();
                    let message = format!("{name} is up after {seconds:.1} s: {url} answers");
                    sink(Event::Note { message });
                }
            })?;
        }
        Ok(over)
    }
}

/// Set when it is dropped.
#[derive(Default)]
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Bytes of a console in which a kernel may give up: it does so before anything else runs. What a
/// person has it print later is nobody's end.
const EARLY: usize = 64 << 10;

/// Whether a kernel has given up for want of ticks, in a console that comes in pieces.
#[derive(Default)]
struct Despair {
    read: Cell<usize>,
    last: RefCell<Vec<u8>>,
    seen: Cell<bool>,
}

impl Despair {
    fn read(&self, text: &[u8]) {
        if self.read.get() > EARLY {
            return;
        }
        self.read.set(self.read.get() + text.len());
        let mut last = self.last.borrow_mut();
        last.extend(text);
        if for_want_of_ticks(&String::from_utf8_lossy(&last)) {
            self.seen.set(true);
        }
        // As much as a line that came in part may have.
        let behind = last.len().saturating_sub(200);
        last.drain(..behind);
    }
}

/// The end of a machine that somebody may have asked for.
struct End<'a> {
    ending: &'a Ending,
    button: RefCell<Button>,
    since: Cell<Option<Instant>>,
    pressed: Cell<Option<Instant>>,
}

impl<'a> End<'a> {
    fn new(ending: &'a Ending, button: Button) -> Self {
        Self {
            ending,
            button: RefCell::new(button),
            since: Cell::new(None),
            pressed: Cell::new(None),
        }
    }

    fn pull(&self) {
        // Where QEMU does not listen any more the console is about to say so.
        let _ = self.button.borrow_mut().pull();
    }

    /// Asks the machine once it is to be asked, and now and then again. Returns whether it has had
    /// its time.
    fn is_late(&self) -> bool {
        if !self.ending.asked.load(Ordering::SeqCst) {
            return false;
        }
        let now = Instant::now();
        let since = self.since.get().unwrap_or(now);
        self.since.set(Some(since));
        if self.pressed.get().is_none_or(|pressed| now - pressed > AGAIN) {
            // Where QEMU does not listen any more the console is about to say so.
            let _ = self.button.borrow_mut().press();
            self.pressed.set(Some(now));
        }
        now - since > STOP
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_kernel_that_despairs_is_noticed_in_whatever_pieces_it_is_read() {
        let text = b"[ 0.2] Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with";
        for size in [1, 7, 1000] {
            let despair = Despair::default();
            despair.read(&b"before ".repeat(100));
            text.chunks(size).for_each(|piece| despair.read(piece));
            assert!(despair.seen.get(), "{size}");
        }
        let despair = Despair::default();
        despair.read(b"Kernel panic - not syncing: Attempted to kill init!");
        assert!(!despair.seen.get());
        // A log of another machine, that a person looks at.
        despair.read(&b"x".repeat(EARLY));
        despair.read(text);
        assert!(!despair.seen.get());
    }

    #[test]
    fn a_machine_that_runs_can_be_asked_once() {
        let ending = Ending::default();
        assert!(!ending.ask(), "nothing runs");
        ending.running.store(true, Ordering::SeqCst);
        assert!(ending.ask());
        assert!(!ending.ask(), "it was asked already");
    }

    #[test]
    fn the_button_is_pressed_once_somebody_asks() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ending = Ending::default();
        ending.running.store(true, Ordering::SeqCst);
        let end = End::new(&ending, Button::new(ours));
        assert!(!end.is_late());
        assert!(end.pressed.get().is_none());
        ending.ask();
        assert!(!end.is_late() && !end.is_late());
        // As if it had been asked long ago.
        end.since.set(Instant::now().checked_sub(STOP * 2));
        assert!(end.is_late());
        drop(end);
        let mut written = String::new();
        theirs.read_to_string(&mut written).unwrap();
        assert_eq!(written.matches("system_powerdown").count(), 1, "{written}");
    }
}
