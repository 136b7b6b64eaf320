//! The power button of a machine: a person's hand on it, by way of QEMU's monitor (QMP,
//! docs/interop/qmp-spec.rst of QEMU). Whether anybody inside notices is the image's business; of
//! systemd it is logind, and that needs dbus.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long QEMU may take to read it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The power button of a machine.
#[derive(Debug)]
pub struct Button(UnixStream);

impl Button {
    /// Takes the connection to QEMU's monitor, which has none else.
    #[must_use]
    pub fn new(monitor: UnixStream) -> Self {
        Self(monitor)
    }

    /// Presses it. A machine that does not listen yet, or never, goes on.
    ///
    /// # Errors
    /// Where QEMU has ended, or does not listen.
    pub fn press(&mut self) -> io::Result<()> {
        self.execute("system_powerdown")
    }

    /// Pulls the plug: the machine ends whatever it does.
    ///
    /// # Errors
    /// As [`Button::press`].
    pub fn pull(&mut self) -> io::Result<()> {
        self.execute("quit")
    }

    fn execute(&mut self, command: &str) -> io::Result<()> {
        self.0.set_write_timeout(Some(PATIENCE))?;
        // Nothing else is read before the first; from the second time on it is an error that
        // nobody reads.
        let commands = ["qmp_capabilities", command];
        let lines = commands.map(|command| format!("{{\"execute\":\"{command}\"}}\n"));
        self.0.write_all(lines.concat().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn it_speaks_as_the_monitor_wants_it() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut button = Button::new(ours);
        button.press().unwrap();
        button.press().unwrap();
        drop(button);
        let mut written = String::new();
        theirs.read_to_string(&mut written).unwrap();
        let once = "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"system_powerdown\"}\n";
        assert_eq!(written, once.repeat(2));
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        Button::new(ours).pull().unwrap();
        written.clear();
        theirs.read_to_string(&mut written).unwrap();
        assert!(written.ends_with("\n{\"execute\":\"quit\"}\n"), "{written}");
    }

    #[test]
    fn a_machine_that_has_ended_notices_nothing() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert_eq!(Button::new(ours).press().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
