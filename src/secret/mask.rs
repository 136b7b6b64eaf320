//! Output without secrets: whatever is one, in any of its forms, becomes `***`.
//!
//! A program may print a value in pieces, and encoders break their lines (base64 after 76
//! characters), so white space does not count: it is left out of what is searched, and of what is
//! searched for. A line whose end could be the beginning of a value waits for the next one.
//!
//! A value is known by its first half, or 64 bytes of it, and what follows is hidden for as long as
//! it is what the value goes on with: so what is cut off is hidden as well, and of a long value
//! nothing has to wait.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, BuildError};

use super::form::Form;
use super::value::{MIN, Secrets, Value};

/// What stands for a secret.
const STARS: &[u8] = b"***";
/// Most and fewest bytes by which the beginning of a value is known.
const START: usize = 64;
const FEWEST: usize = 8;
/// Most bytes of a value of which forms are compared, so that each is there once.
const COMPARED: usize = 64 << 10;
/// Fewest bytes of a line that is searched for by itself.
const LINE: usize = 8;
/// Most lines of one value that are.
const LINES: usize = 256;
/// Most bytes and lines that wait.
const WAITING: (usize, usize) = (256 << 10, 64);

/// What is to be hidden.
pub struct Masked {
    find: AhoCorasick,
    /// In the order of the finder's patterns.
    all: Vec<Pattern>,
    /// The beginnings, sorted.
    starts: Vec<Vec<u8>>,
    /// Whether one of them begins with this byte.
    first: [bool; 256],
}

/// One form of one value, or of a line of it.
struct Pattern {
    value: Value,
    /// Which part of the value's core.
    part: (usize, usize),
    form: Form,
    /// Where the form goes on behind its beginning; none: that is all.
    rest: Option<usize>,
}

impl Pattern {
    fn part(&self) -> &[u8] {
        &self.value.core()[self.part.0..self.part.1]
    }

    /// Returns the next byte that is no white space.
    fn next(&self, at: &mut usize) -> Option<u8> {
        next(self.form, self.part(), at)
    }
}

fn next(form: Form, value: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        match form.next(value, at) {
            Some(byte) if byte.is_ascii_whitespace() => {}
            other => return other,
        }
    }
}

impl Masked {
    /// Makes ready to hide the values of `secrets`.
    ///
    /// # Errors
    /// Where they are more than can be searched for.
    pub fn new(secrets: &Secrets) -> Result<Self, BuildError> {
        let (mut all, mut patterns) = (vec![], vec![]);
        for (_, value) in secrets.iter() {
            for part in parts(value.core()) {
                let bytes = &value.core()[part.0..part.1];
                for (n, form) in Form::all().enumerate() {
                    // Most values need no encoding in a URL, and have few forms.
                    let same = |other: Form| other.bytes(bytes).eq(form.bytes(bytes));
                    if bytes.len() <= COMPARED && Form::all().take(n).any(same) {
                        continue;
                    }
                    let dense = |most: usize| {
                        let mut at = 0;
                        let next = std::iter::from_fn(|| next(form, bytes, &mut at));
                        (next.take(most).collect::<Vec<u8>>(), at)
                    };
                    let known = (dense(2 * START).0.len() / 2).max(FEWEST);
                    let (start, at) = dense(known);
                    let rest = Some(at).filter(|at| next(form, bytes, &mut { *at }).is_some());
                    if start.len() >= MIN {
                        patterns.push(start);
                        all.push(Pattern { value: value.clone(), part, form, rest });
                    }
                }
            }
        }
        let mut find = AhoCorasick::builder();
        let find = find.kind(Some(AhoCorasickKind::ContiguousNFA)).build(&patterns)?;
        let mut first = [false; 256];
        patterns.iter().for_each(|start| first[usize::from(start[0])] = true);
        patterns.sort_unstable();
        patterns.dedup();
        Ok(Self { find, all, starts: patterns, first })
    }

    /// Returns from where on `text` could be the beginning of something to be hidden.
    fn begins(&self, text: &[u8]) -> usize {
        let from = text.len().saturating_sub(START - 1);
        let could = |at: &usize| {
            let tail = &text[*at..];
            let place = self.starts.partition_point(|start| start.as_slice() < tail);
            self.first[usize::from(tail[0])]
                && self.starts[place..]
                    .iter()
                    .take_while(|start| start.starts_with(tail))
                    .any(|start| start.len() > tail.len())
        };
        (from..text.len()).find(could).unwrap_or(text.len())
    }
}

/// Returns what of a value is searched for: all of it, and, where it has several lines, those that
/// are long enough; not those that begin and end a key, which say nothing.
fn parts(core: &[u8]) -> Vec<(usize, usize)> {
    let mut out = vec![(0, core.len())];
    let mut at = 0;
    for line in core.split(|byte| *byte == b'\n') {
        let start = at + line.len() - line.trim_ascii_start().len();
        let end = start + line.trim_ascii().len();
        at += line.len() + 1;
        let armor = core[start..end].starts_with(b"-----");
        if end - start >= LINE && end - start < core.len() && !armor && out.len() <= LINES {
            out.push((start, end));
        }
    }
    out
}

/// A value that goes on behind what was seen of it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Following {
    /// Where it goes on, in what waits.
    from: usize,
    pattern: usize,
    at: usize,
}

/// A line that waits, and what of it is hidden.
struct Line {
    text: Vec<u8>,
    hidden: Vec<bool>,
}

/// One stream of output, line by line.
pub struct Mask {
    masked: Arc<Masked>,
    waiting: Vec<Line>,
    following: Vec<Following>,
}

impl Mask {
    /// Begins a stream.
    pub fn new(masked: Arc<Masked>) -> Self {
        Self { masked, waiting: vec![], following: vec![] }
    }

    /// Takes a line and passes on what can be passed on, without secrets.
    pub fn line(&mut self, text: &[u8], out: &mut dyn FnMut(&[u8])) {
        self.waiting.push(Line { text: text.to_vec(), hidden: vec![false; text.len()] });
        let (view, places) = self.view();
        let masked = Arc::clone(&self.masked);
        let mut ranges = vec![];
        let mut following = std::mem::take(&mut self.following);
        for found in masked.find.find_overlapping_iter(&view) {
            let pattern = found.pattern().as_usize();
            ranges.push(wider(masked.all[pattern].form, found.range(), &places));
            if let Some(at) = masked.all[pattern].rest {
                following.push(Following { from: found.end(), pattern, at });
            }
        }
        let begins = masked.begins(&view);
        // Whole lines wait: from the one in which a value may begin.
        let lines = places.get(begins).map_or(self.waiting.len(), |place| place.0);
        let lines = lines.max(self.too_many());
        let passed = places.partition_point(|place| place.0 < lines);
        let mut reached: BTreeMap<usize, usize> = BTreeMap::new();
        for mut one in following {
            let pattern = &masked.all[one.pattern];
            // A value that repeats itself begins again in what was just seen of it.
            if reached.get(&one.pattern).is_some_and(|end| one.from < *end) {
                continue;
            }
            let mut at = one.at;
            let mut end = one.from;
            let mut kept = (end >= passed).then_some(at);
            while view.get(end).is_some_and(|byte| pattern.next(&mut at) == Some(*byte)) {
                end += 1;
                if end == passed {
                    kept = Some(at);
                }
            }
            reached.insert(one.pattern, end);
            // With the byte before, so that the white space between is hidden too.
            let range = one.from.saturating_sub(1).min(view.len())..end.min(view.len());
            ranges.push(wider(pattern.form, range, &places));
            if let Some(at) = kept {
                one = Following { from: one.from.max(passed) - passed, at, ..one };
                if !self.following.contains(&one) {
                    self.following.push(one);
                }
            }
        }
        for range in ranges {
            self.hide(&places[range]);
        }
        for line in self.waiting.drain(..lines) {
            pass_on(&line, out);
        }
    }

    /// Passes on what waits: nothing more comes.
    pub fn finish(&mut self, out: &mut dyn FnMut(&[u8])) {
        self.following.clear();
        for line in self.waiting.drain(..) {
            pass_on(&line, out);
        }
    }

    /// Returns what waits without white space, and line and column of each byte.
    fn view(&self) -> (Vec<u8>, Vec<(usize, usize)>) {
        let bytes = self.waiting.iter().enumerate().flat_map(|(line, one)| {
            let columns = one.text.iter().copied().enumerate();
            columns.map(move |(column, byte)| (byte, (line, column)))
        });
        bytes.filter(|(byte, _)| !byte.is_ascii_whitespace()).unzip()
    }

    /// Returns how many lines cannot wait any longer.
    fn too_many(&self) -> usize {
        let (mut bytes, (most, lines)) = (0, WAITING);
        let fits = |line: &&Line| {
            bytes += line.text.len() + 1;
            bytes <= most
        };
        let kept = self.waiting.iter().rev().take(lines).take_while(fits).count();
        self.waiting.len() - kept
    }

    /// Hides the bytes at these places, and the white space between those of one line.
    fn hide(&mut self, places: &[(usize, usize)]) {
        let mut last: Option<(usize, usize)> = None;
        for (line, column) in places {
            let from = match last {
                Some((before, at)) if before == *line => at,
                _ => *column,
            };
            self.waiting[*line].hidden[from..=*column].fill(true);
            last = Some((*line, *column));
        }
    }
}

/// Returns the range with what stands beside it in the same line, where that holds a few bits of
/// the value.
fn wider(form: Form, range: Range<usize>, places: &[(usize, usize)]) -> Range<usize> {
    let beside = |one: usize, other: usize| {
        let line = |at: usize| places.get(at).map(|place| place.0);
        usize::from(line(one).is_some() && line(one) == line(other))
    };
    match (form, range.start.checked_sub(1)) {
        (Form::Base64 { .. }, before) if !range.is_empty() => {
            let start = range.start - before.map_or(0, |before| beside(before, range.start));
            start..range.end + beside(range.end - 1, range.end)
        }
        _ => range,
    }
}

fn pass_on(line: &Line, out: &mut dyn FnMut(&[u8])) {
    if !line.hidden.contains(&true) {
        return out(&line.text);
    }
    let mut text = vec![];
    let mut before = false;
    for (byte, hidden) in line.text.iter().zip(&line.hidden) {
        match (*hidden, before) {
            (true, false) => text.extend_from_slice(STARS),
            (true, true) => {}
            (false, _) => text.push(*byte),
        }
        before = *hidden;
    }
    out(&text);
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn mask(values: &[&[u8]]) -> Mask {
        let value = |(n, bytes): (usize, &&[u8])| {
            (format!("s{n}"), Value::new(bytes.to_vec()).expect("a value"))
        };
        let secrets: Secrets = values.iter().enumerate().map(value).collect();
        Mask::new(Arc::new(Masked::new(&secrets).expect("a mask")))
    }

    fn masked(mask: &mut Mask, lines: &[&[u8]]) -> Vec<String> {
        let mut got = vec![];
        let mut out = |line: &[u8]| got.push(String::from_utf8_lossy(line).into_owned());
        for line in lines {
            mask.line(line, &mut out);
        }
        mask.finish(&mut out);
        got
    }

    fn check(values: &[&str], lines: &[&str], expected: &[&str]) {
        let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        assert_eq!(masked(&mut mask(&values), &lines), expected, "{lines:?}");
    }

    const TOKEN: &str = "canary/7f3a 9b";

    #[test]
    fn every_form_is_hidden() {
        let base64 = |before: &str| BASE64_STANDARD.encode(format!("{before}{TOKEN}"));
        check(&[TOKEN], &["a canary/7f3a 9b z"], &["a *** z"]);
        check(&[TOKEN], &["plain", "", "x"], &["plain", "", "x"]);
        let (zero, one, two) = (base64(""), base64("a"), base64("ab"));
        check(&[TOKEN], &[&zero], &["***="]);
        let out = masked(&mut mask(&[TOKEN.as_bytes()]), &[one.as_bytes(), two.as_bytes()]);
        assert!(out.iter().all(|line| line.contains("***") && line.len() < 8), "{out:?}");
        check(&[TOKEN], &["63616e6172792f3766336120396", "2"], &["***", "***"]);
        check(&[TOKEN], &["x63 61 6E 61 72 79 2F 37 66 33 61 20 39 62"], &["x***"]);
        check(&[TOKEN], &["?t=canary%2F7f3a%209b&u"], &["?t=***&u"]);
        check(&[TOKEN], &["?t=canary%2f7f3a+9b&u"], &["?t=***&u"]);
        check(&[TOKEN], &["?t=canary/7f3a%209b&u"], &["?t=***&u"]);
    }

    #[test]
    fn what_may_begin_a_value_waits_and_no_more() {
        let mut mask = mask(&[b"canary-123456"]);
        let mut got = vec![];
        let mut take = |mask: &mut Mask, line: &str| {
            let mut out = |line: &[u8]| got.push(String::from_utf8_lossy(line).into_owned());
            mask.line(line.as_bytes(), &mut out);
            got.len()
        };
        assert_eq!(take(&mut mask, "one"), 1);
        assert_eq!(take(&mut mask, "two can"), 1);
        assert_eq!(take(&mut mask, "ary-"), 1);
        assert_eq!(take(&mut mask, "123456 three"), 4);
        assert_eq!(take(&mut mask, "four can"), 4);
        assert_eq!(take(&mut mask, "not"), 6);
        // However many empty lines follow.
        assert_eq!(take(&mut mask, "can"), 6);
        for _ in 0..1000 {
            take(&mut mask, "");
        }
        assert!(take(&mut mask, "") > 900);
        assert_eq!(&got[..6], ["one", "two ***", "***", "*** three", "four can", "not"]);
    }

    #[test]
    fn lines_of_a_value_are_hidden_by_themselves() {
        let key = "-----BEGIN KEY-----\nabcdefghijkl\nshort\nmnopqrstuvwx\n-----END KEY-----\n";
        check(
            &[key],
            &["-----BEGIN KEY-----", "> mnopqrstuvwx", "short", "abcdefg."],
            &["-----BEGIN KEY-----", "> ***", "short", "abcdefg."],
        );
        let stars = ["***"; 5];
        check(&[key], &key.lines().collect::<Vec<_>>(), &stars);
    }

    #[test]
    fn long_values_are_hidden_to_their_end() {
        let long: Vec<u8> =
            (0..100_000_u32).map(|n| b'!' + (u64::from(n).pow(2) / 7 % 90) as u8).collect();
        let encoded = BASE64_STANDARD.encode(&long);
        let mut pieces: Vec<&[u8]> = long.chunks(64 << 10).collect();
        pieces.extend(encoded.as_bytes().chunks(76));
        pieces.push(b"an end");
        let out = masked(&mut mask(&[&long]), &pieces);
        let shown: usize = out.iter().filter(|line| *line != "***").map(String::len).sum();
        assert!(shown < 20, "{out:?}");
        assert_eq!(out.last().map(String::as_str), Some("an end"));
    }

    #[test]
    fn two_values_and_one_within_the_other() {
        check(&["abcdefgh", "cdefgh1234"], &["abcdefgh1234 abcdefgh"], &["*** ***"]);
        check(&["abcdefgh"], &["abcdefghabcdefgh"], &["***"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn wherever_it_is_cut_nothing_remains(
            value in "[ -~]{8,120}",
            form in 0..25_usize,
            before in "[ -~]{0,6}",
            after in "[ -~]{0,6}",
            cuts in proptest::collection::vec(0..400_usize, 0..6),
        ) {
            prop_assume!(value.trim().len() >= MIN);
            let value = Value::new(value.into_bytes()).expect("a value");
            let form = Form::all().nth(form).expect("a form");
            let mut text: Vec<u8> = before.into_bytes();
            text.extend(form.bytes(value.core()));
            text.extend(after.into_bytes());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at % (text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let lines: Vec<&[u8]> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            let secrets: Secrets = [("s".to_owned(), value.clone())].into_iter().collect();
            let mut mask = Mask::new(Arc::new(Masked::new(&secrets).expect("a mask")));
            let out = masked(&mut mask, &lines);
            prop_assert_eq!(out.len(), lines.len());
            let dense = |text: &str| text.split_ascii_whitespace().collect::<String>();
            let shown = dense(&out.concat().replace("***", "\u{0}"));
            let hidden: Vec<u8> =
                form.bytes(value.core()).filter(|b| !b.is_ascii_whitespace()).collect();
            prop_assume!(hidden.len() >= MIN);
            let hidden = String::from_utf8(hidden).expect("ASCII");
            prop_assert!(!shown.contains(&hidden), "{out:?} shows {hidden}");
            prop_assert!(out.iter().any(|line| line.contains("***")), "{out:?}");
        }

        #[test]
        fn other_lines_stay_as_they_are(lines in proptest::collection::vec("[ -/:-~]{0,30}", 0..8)) {
            let bytes: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            // No form of this value is without a digit.
            prop_assert_eq!(masked(&mut mask(&[b"1122334455"]), &bytes), lines);
        }
    }
}
