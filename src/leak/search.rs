//! A stream searched as it passes, and the gzip in it.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};

use super::needle::Needles;
use crate::secret::Form;

/// How many gzip within gzip are looked into.
const DEPTH: usize = 3;
/// How much is read at once.
const CHUNK: usize = 256 << 10;

/// Where a secret was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leak {
    /// What the secret is called.
    pub secret: String,
    /// The place: a path in a layer, a document, a log.
    pub place: String,
    /// How it stands there: `in base64`, `as it is, compressed`.
    pub form: String,
}

/// Secrets that were found, with the form of the first and whether it was compressed.
pub(super) type Found = BTreeMap<usize, (Form, bool)>;

/// Searches all that `from` gives; `place` says what it is.
///
/// # Errors
/// Where it cannot be read.
pub fn stream(from: &mut dyn Read, place: &str, needles: &Needles) -> io::Result<Vec<Leak>> {
    let mut buffer = vec![0; CHUNK];
    let found = contents(from, needles, &mut buffer)?;
    Ok(leaks(needles, place, &found))
}

/// Puts what was found into words.
pub(super) fn leaks(needles: &Needles, place: &str, found: &Found) -> Vec<Leak> {
    let leak = |(secret, (form, compressed)): (&usize, &(Form, bool))| {
        let more = if *compressed { ", compressed" } else { "" };
        let form = format!("{}{more}", form.called());
        Leak { secret: needles.name(*secret).to_owned(), place: place.to_owned(), form }
    };
    found.iter().map(leak).collect()
}

/// Searches the contents of a file, and, where that is gzip, what comes out of it. `buffer` is
/// there to be used again.
pub(super) fn contents(
    from: &mut dyn Read,
    needles: &Needles,
    buffer: &mut [u8],
) -> io::Result<Found> {
    let mut found = Found::new();
    level(from, needles, buffer, 0, &mut found)?;
    Ok(found)
}

fn level(
    from: &mut dyn Read,
    needles: &Needles,
    buffer: &mut [u8],
    depth: usize,
    found: &mut Found,
) -> io::Result<()> {
    let mut start = [0; 3];
    let (got, end) = fill(from, &mut start);
    end?;
    let mut all = start[..got].chain(from);
    if !start.starts_with(&[0x1f, 0x8b, 8]) || depth == DEPTH {
        let mut window = Window::new(needles, depth > 0, found);
        return window.all(&mut all, buffer);
    }
    let mut window = Window::new(needles, depth > 0, found);
    let mut inner = Found::new();
    let mut own = vec![0; buffer.len()];
    {
        let passing = Passing { from: &mut all, window: &mut window };
        let passing = BufReader::with_capacity(64 << 10, passing);
        let mut inside = flate2::bufread::MultiGzDecoder::new(passing);
        // What is no whole gzip is searched as far as it is one.
        let _ = level(&mut inside, needles, buffer, depth + 1, &mut inner);
    }
    // What stands behind it, or behind where it is damaged.
    window.all(&mut all, &mut own)?;
    for (secret, how) in inner {
        found.entry(secret).or_insert(how);
    }
    Ok(())
}

/// What was read last, so that nothing is missed between two reads.
struct Window<'a> {
    needles: &'a Needles,
    compressed: bool,
    found: &'a mut Found,
    /// The end of what was searched, one byte shorter than the longest needle.
    tail: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(needles: &'a Needles, compressed: bool, found: &'a mut Found) -> Self {
        Self { needles, compressed, found, tail: vec![] }
    }

    /// Searches the rest of `from`.
    fn all(&mut self, from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let (got, end) = fill(from, buffer);
            self.take(&buffer[..got]);
            // What came before an error counts.
            end?;
            if got < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Searches the next bytes.
    fn take(&mut self, bytes: &[u8]) {
        let kept = self.needles.longest() - 1;
        if !self.tail.is_empty() {
            self.tail.extend_from_slice(&bytes[..bytes.len().min(kept)]);
            let tail = std::mem::take(&mut self.tail);
            self.search(&tail);
            self.tail = tail;
        }
        self.search(bytes);
        if bytes.len() >= kept {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - kept..]);
        } else if self.tail.is_empty() {
            self.tail.extend_from_slice(bytes);
        } else {
            let old = self.tail.len().saturating_sub(kept);
            self.tail.drain(..old);
        }
    }

    fn search(&mut self, bytes: &[u8]) {
        for (secret, form) in self.needles.find(bytes) {
            self.found.entry(secret).or_insert((form, self.compressed));
        }
    }
}

/// A reader whose bytes are searched as they pass.
struct Passing<'a, 'w> {
    from: &'a mut dyn Read,
    window: &'a mut Window<'w>,
}

impl Read for Passing<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.from.read(buf)?;
        self.window.take(&buf[..got]);
        Ok(got)
    }
}

/// Reads until `buffer` is full or nothing more comes; returns how much that was, and why no more.
fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> (usize, io::Result<()>) {
    let mut got = 0;
    while got < buffer.len() {
        match from.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (got, Err(error)),
        }
    }
    (got, Ok(()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;
    use crate::secret::{Secrets, Value};

    const TOKEN: &[u8] = b"s3cr3t/canary+0123456789-abcdefghijklmnop~~~??>>";

    fn needles(values: &[&[u8]]) -> Needles {
        let value = |(n, bytes): (usize, &&[u8])| {
            (format!("s{n}"), Value::new(bytes.to_vec()).expect("a value"))
        };
        Needles::new(&values.iter().enumerate().map(value).collect::<Secrets>()).expect("needles")
    }

    fn zipped(bytes: &[u8]) -> Vec<u8> {
        let mut out = GzEncoder::new(vec![], Compression::fast());
        out.write_all(bytes).expect("memory");
        out.finish().expect("memory")
    }

    fn check(text: &[u8], needles: &Needles, expected: &[&str]) {
        let found = stream(&mut &*text, "place", needles).expect("memory");
        let found: Vec<String> =
            found.iter().map(|one| format!("{} {}", one.secret, one.form)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn gzip_is_looked_into_and_what_is_damaged_too() {
        let needles = needles(&[TOKEN]);
        let text = [&b"before "[..], TOKEN, b" after"].concat();
        check(&text, &needles, &["s0 as it is"]);
        check(b"before s3cr3t/canary+0123456789", &needles, &[]);
        check(&zipped(&text), &needles, &["s0 as it is, compressed"]);
        check(&zipped(&zipped(&text)), &needles, &["s0 as it is, compressed"]);
        check(&[zipped(b"one"), zipped(&text)].concat(), &needles, &["s0 as it is, compressed"]);
        check(&[zipped(b"one"), text.clone()].concat(), &needles, &["s0 as it is"]);
        let mut cut = zipped(&[&text[..], &[7; 4000]].concat());
        cut.truncate(cut.len() - 8);
        check(&cut, &needles, &["s0 as it is, compressed"]);
        check(b"\x1f\x8b\x08", &needles, &[]);
    }

    #[test]
    fn of_a_long_value_the_middle_is_enough() {
        let long: Vec<u8> =
            (0..200_000_u32).flat_map(|n| n.wrapping_mul(n).to_be_bytes()).collect();
        let needles = needles(&[&long]);
        check(&long, &needles, &["s0 as it is"]);
        check(&long[..300_000], &needles, &[]);
    }

    #[test]
    fn a_key_is_found_however_its_lines_end() {
        let line = |n: u8| format!("{}\n", char::from(b'a' + n).to_string().repeat(64));
        let key = format!(
            "-----BEGIN KEY-----\n{}-----END KEY-----\n",
            (0..9).map(line).collect::<String>()
        );
        let needles = needles(&[key.as_bytes()]);
        check(key.replace('\n', "\\n").as_bytes(), &needles, &["s0 as it is"]);
        check(key.replace('\n', "\r\n").as_bytes(), &needles, &["s0 as it is"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn wherever_it_stands_and_however_it_comes_it_is_found(
            value in proptest::collection::vec(any::<u8>(), 8..400),
            form in 0..25_usize,
            before in 0..1000_usize,
            reads in 1..700_usize,
            width in 60..90_usize,
        ) {
            prop_assume!(value.trim_ascii().len() >= 6);
            let form = Form::all().nth(form).expect("a form");
            let secret = Value::new(value).expect("a value");
            let mut text: Vec<u8> = vec![b'.'; before];
            text.extend(form.bytes(secret.core()));
            text.extend(b"...");
            if matches!(form, Form::Base64 { .. } | Form::Hex { .. }) {
                text = text.chunks(width).collect::<Vec<_>>().join(&b'\n');
            }
            let needles = needles(&[secret.bytes()]);
            let mut slow = Slow(&text, reads);
            let found = stream(&mut slow, "place", &needles).expect("memory");
            // Short texts may be broken where they are one piece.
            let whole = form.bytes(secret.core()).count() >= 58 || before % width + 60 < width;
            prop_assert!(!found.is_empty() || !whole, "{form:?}");
        }
    }

    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let most = buf.len().min(self.1);
            self.0.read(&mut buf[..most])
        }
    }
}
