//! What answers inside a machine under test, and how it is asked.
//!
//! The script and its unit lie in QEMU's firmware configuration (`fw_cfg`), where the initial RAM
//! disk finds them; they talk over a port of virtio-serial. See docs/design/machines.md.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The script that answers.
pub(super) const AGENT: &str = include_str!("agent.sh");

/// The unit of systemd that runs it.
pub(super) const UNIT: &str = include_str!("agent.service");

/// Where the script lies in the firmware configuration.
pub(super) const FW_CFG_AGENT: &str = "opt/bake/agent";

/// Where the unit lies there.
pub(super) const FW_CFG_UNIT: &str = "opt/bake/unit";

/// Most bytes of an answer; the script has the same number.
const MOST: u64 = 16 << 20;

/// How long a read waits before it is looked whether waiting still makes sense.
const SOON: Duration = Duration::from_millis(100);

/// What a script inside came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its exit status.
    pub(super) status: i32,
    /// What it printed.
    pub(super) output: Vec<u8>,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }
}

/// The way to the script inside.
pub(super) struct Agent {
    reader: BufReader<Patient>,
    greeted: bool,
}

impl Agent {
    /// Takes the connection to QEMU's end of the port. Once `over` says so nothing is waited for.
    pub(super) fn new(
        stream: UnixStream,
        over: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        stream.set_read_timeout(Some(SOON))?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        let patient = Patient { stream, until: Instant::now(), over: Box::new(over) };
        Ok(Self { reader: BufReader::new(patient), greeted: false })
    }

    /// Whether it has announced itself; waits for a moment.
    pub(super) fn is_there(&mut self) -> io::Result<bool> {
        if !self.greeted {
            self.reader.get_mut().until = Instant::now() + SOON;
            let mut line = String::new();
            match self.reader.by_ref().take(80).read_line(&mut line) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => self.greeted = line.starts_with("bake "),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.greeted)
    }

    /// Has a script run inside; waits for its end, but no longer than until `until`.
    pub(super) fn ask(&mut self, script: &str, until: Instant) -> io::Result<Answer> {
        let script = script.strip_suffix('\n').unwrap_or(script);
        let question = format!("{}\n{script}\n", script.split('\n').count());
        let reader = &mut self.reader;
        reader.get_mut().until = until;
        reader.get_mut().stream.write_all(question.as_bytes())?;
        let mut head = String::new();
        reader.by_ref().take(80).read_line(&mut head)?;
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, format!("it says {head:?}"));
        let (status, bytes) = head.trim_end().split_once(' ').ok_or_else(malformed)?;
        let status = status.parse().map_err(|_| malformed())?;
        let bytes: u64 = bytes.trim().parse().map_err(|_| malformed())?;
        if bytes > MOST {
            return Err(malformed());
        }
        let mut output = vec![];
        reader.by_ref().take(bytes).read_to_end(&mut output)?;
        if output.len() as u64 != bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Answer { status, output })
    }
}

/// Reads until a moment.
struct Patient {
    stream: UnixStream,
    until: Instant,
    over: Box<dyn Fn() -> bool + Send>,
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) =>
                {
                    if Instant::now() >= self.until || (self.over)() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                read => return read,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// The script itself, with a socket in place of the port.
    #[test]
    fn the_script_answers() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display().to_string();
        let (_, talk) = AGENT.split_once("cd /run/bake || exit 1\n").unwrap();
        let talk = talk.replace("3<>\"/dev/${port##*/}\"", "3<&0").replace("/run/bake", &at);
        let talk = talk.replace(">&3", ">&1");
        let script = format!("most=100\ncd {at}\n{talk}");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs.try_clone().unwrap())))
            .stdout(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        let mut agent = Agent::new(ours, || false).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while !agent.is_there().unwrap() {
            assert!(Instant::now() < until, "it never says that it listens");
        }
        let answer = agent.ask("echo 'a  b'\necho c >&2\nexit 3", until).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (3, "a  b\nc\n"));
        let answer = agent.ask("cat; echo '\\'", until).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (0, "\\\n"));
        // What prints without end is cut off.
        let answer = agent.ask("while echo flood; do :; done", until).unwrap();
        assert_eq!(answer.output.len(), 100);
        let answer = agent.ask("kill -9 $$", until).unwrap();
        assert_eq!(answer.status, 137);
        drop(agent);
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn what_does_not_answer_is_not_waited_for_without_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut agent = Agent::new(ours, || false).unwrap();
        assert!(!agent.is_there().unwrap());
        let late = agent.ask("true", Instant::now()).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        theirs.write_all(b"nonsense\n").unwrap();
        let wrong = agent.ask("true", Instant::now()).unwrap_err();
        assert_eq!(wrong.kind(), io::ErrorKind::InvalidData);
        theirs.write_all(b"0 99999999999\n").unwrap();
        let wrong = agent.ask("true", Instant::now()).unwrap_err();
        assert_eq!(wrong.kind(), io::ErrorKind::InvalidData);
    }
}
