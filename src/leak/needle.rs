//! What is searched for.
//!
//! Of a value of up to 256 bytes it is all of it, of a longer one 256 bytes in its middle: where
//! they are, so is the rest, and they say less of other things than the beginning of a key file
//! does. Base64 and hexadecimal are broken into lines by what writes them, at no fewer than 60
//! characters: of these, two pieces are searched for that stand beside each other and are so short
//! that one of them is whole.

use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, AhoCorasickKind, BuildError, MatchKind};

use crate::secret::{Form, MIN, Secrets};

/// Bytes of a value that are searched for.
const PART: usize = 256;
/// Most characters of a piece of base64 or hexadecimal.
const PIECE: usize = 28;
/// Fewest characters that are two pieces.
const TWO: usize = 32;
/// Most bytes of all needles that are looked for by a table of every state: 1 KiB for each.
const TABLE: usize = 32 << 10;

/// What is searched for.
#[derive(Debug)]
pub struct Needles {
    find: AhoCorasick,
    /// The secret of each, and the form.
    of: Vec<(usize, Form)>,
    names: Vec<String>,
    longest: usize,
}

impl Needles {
    /// Makes ready to search for the values of `secrets`.
    ///
    /// # Errors
    /// Where they are more than can be searched for.
    pub fn new(secrets: &Secrets) -> Result<Self, BuildError> {
        let (mut patterns, mut of, mut seen) = (vec![], vec![], BTreeSet::new());
        let names: Vec<String> = secrets.iter().map(|(name, _)| name.to_owned()).collect();
        for (number, (_, value)) in secrets.iter().enumerate() {
            for part in parts(value.core()) {
                for form in Form::all() {
                    for piece in pieces(form, part) {
                        if piece.len() >= MIN && seen.insert(piece.clone()) {
                            patterns.push(piece);
                            of.push((number, form));
                        }
                    }
                }
            }
        }
        let bytes = patterns.iter().map(Vec::len).sum::<usize>();
        let kind = match bytes > TABLE {
            true => AhoCorasickKind::ContiguousNFA,
            false => AhoCorasickKind::DFA,
        };
        // Leftmost: only so the crate looks for several at once with vector instructions.
        let mut find = AhoCorasick::builder();
        find.match_kind(MatchKind::LeftmostFirst).kind(Some(kind));
        let longest = patterns.iter().map(Vec::len).max().unwrap_or(1);
        Ok(Self { find: find.build(&patterns)?, of, names, longest })
    }

    /// Returns the secrets that `bytes` holds, each with the form it was found in first.
    pub(super) fn find<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (usize, Form)> + 'a {
        self.find.find_iter(bytes).map(|found| self.of[found.pattern().as_usize()])
    }

    /// Returns the length of the longest needle.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Returns what secret `number` is called.
    pub(super) fn name(&self, number: usize) -> &str {
        &self.names[number]
    }
}

/// Returns the parts of a value that are searched for: its middle, and of a key in several lines
/// the line in its middle, as what carries keys changes how their lines end.
fn parts(core: &[u8]) -> impl Iterator<Item = &[u8]> {
    let line = core.starts_with(b"-----BEGIN ").then(|| {
        let lines: Vec<&[u8]> = core.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).collect();
        lines[lines.len() / 2]
    });
    let line = line.filter(|line| line.len() >= TWO && !line.starts_with(b"-----"));
    [middle(core, PART)].into_iter().chain(line)
}

fn middle(bytes: &[u8], most: usize) -> &[u8] {
    let from = bytes.len().saturating_sub(most) / 2;
    &bytes[from..bytes.len().min(from + most)]
}

fn pieces(form: Form, part: &[u8]) -> Vec<Vec<u8>> {
    let bytes: Vec<u8> = form.bytes(part).collect();
    match form {
        Form::Base64 { .. } | Form::Hex { .. } if bytes.len() >= TWO => {
            let piece = PIECE.min(bytes.len() / 2);
            middle(&bytes, 2 * piece).chunks(piece).map(<[u8]>::to_vec).collect()
        }
        _ => vec![bytes],
    }
}
