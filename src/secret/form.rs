//! The forms in which a value may appear, byte by byte: a value of 10 MiB has a dozen of them, and
//! none is ever held whole.

/// A form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// As it is.
    Raw,
    /// In base64, of either alphabet, as it looks where so many bytes (0, 1 or 2) stand before it
    /// in the same three. Only what the value alone decides: the characters at its ends depend on
    /// what stands beside it.
    Base64 {
        /// Bytes before it.
        offset: u8,
        /// With `-` and `_`.
        url: bool,
    },
    /// In hexadecimal.
    Hex {
        /// With capital letters.
        upper: bool,
    },
    /// URL-encoded.
    Url {
        /// Characters that stay as they are, besides those of RFC 3986 (2.3).
        kept: &'static [u8],
        /// A space is `+`.
        plus: bool,
        /// The codes have capital letters.
        upper: bool,
    },
}

/// What stays as it is in practice: RFC 3986 itself, Python's `quote` and paths,
/// `encodeURIComponent`, and whole addresses (`encodeURI`, `curl`).
const KEPT: [&[u8]; 4] = [b"", b"/", b"!*'()", b"!*'();/?:@&=+$,#"];

impl Form {
    /// Returns every form.
    pub fn all() -> impl Iterator<Item = Self> {
        let both = [false, true];
        let base64 =
            both.into_iter().flat_map(|url| (0..3).map(move |offset| Self::Base64 { offset, url }));
        let url = KEPT.into_iter().flat_map(move |kept| {
            let cases = both.into_iter().flat_map(move |plus| both.map(|upper| (plus, upper)));
            cases.map(move |(plus, upper)| Self::Url { kept, plus, upper })
        });
        let hex = both.map(|upper| Self::Hex { upper });
        [Self::Raw].into_iter().chain(base64).chain(hex).chain(url)
    }

    /// Returns what people call it.
    pub fn called(self) -> &'static str {
        match self {
            Self::Raw => "as it is",
            Self::Base64 { .. } => "in base64",
            Self::Hex { .. } => "in hexadecimal",
            Self::Url { .. } => "URL-encoded",
        }
    }

    /// Returns the bytes of this form of `value`.
    pub fn bytes(self, value: &[u8]) -> impl Iterator<Item = u8> {
        let mut at = 0;
        std::iter::from_fn(move || self.next(value, &mut at))
    }

    /// Returns the byte at the cursor `at`, which begins at 0, and moves it on.
    pub(super) fn next(self, value: &[u8], at: &mut usize) -> Option<u8> {
        match self {
            Self::Raw => {
                *at += 1;
                value.get(*at - 1).copied()
            }
            Self::Hex { upper } => {
                let byte = value.get(*at / 2)?;
                let half = if at.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
                *at += 1;
                Some(digit(half, upper))
            }
            Self::Base64 { offset, url } => {
                // The first bit that begins a character.
                let first = [0, 4, 2][usize::from(offset % 3)] + *at * 6;
                if first + 6 > value.len() * 8 {
                    return None;
                }
                let pair = [value[first / 8], value.get(first / 8 + 1).copied().unwrap_or(0)];
                let six = u16::from_be_bytes(pair) >> (10 - first % 8) & 63;
                *at += 1;
                Some(character(six as u8, url))
            }
            Self::Url { kept, plus, upper } => {
                let byte = *value.get(*at / 3)?;
                let stays = byte.is_ascii_alphanumeric()
                    || b"-._~".contains(&byte)
                    || kept.contains(&byte)
                    || plus && byte == b' ';
                let part = *at % 3;
                *at += if stays { 3 } else { 1 };
                Some(match part {
                    _ if stays && byte == b' ' => b'+',
                    _ if stays => byte,
                    0 => b'%',
                    1 => digit(byte >> 4, upper),
                    _ => digit(byte & 15, upper),
                })
            }
        }
    }
}

fn digit(half: u8, upper: bool) -> u8 {
    match half {
        0..=9 => b'0' + half,
        _ if upper => b'A' + half - 10,
        _ => b'a' + half - 10,
    }
}

fn character(six: u8, url: bool) -> u8 {
    match six {
        0..=25 => b'A' + six,
        26..=51 => b'a' + six - 26,
        52..=61 => b'0' + six - 52,
        62 => {
            if url {
                b'-'
            } else {
                b'+'
            }
        }
        _ => {
            if url {
                b'_'
            } else {
                b'/'
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    fn text(form: Form, value: &[u8]) -> String {
        String::from_utf8(form.bytes(value).collect()).expect("ASCII")
    }

    #[test]
    fn forms_are_those_of_others() {
        let check = |form, value: &str, expected: &str| {
            assert_eq!(text(form, value.as_bytes()), expected, "{form:?}");
        };
        check(Form::Raw, "a b/c", "a b/c");
        check(Form::Hex { upper: false }, "aJ\x7f\n", "614a7f0a");
        check(Form::Hex { upper: true }, "aJ\x7f\n", "614A7F0A");
        let url = |kept, plus, upper| Form::Url { kept, plus, upper };
        check(url(b"", false, true), "a b/c~ü", "a%20b%2Fc~%C3%BC");
        check(url(b"/", true, false), "a b/c~ü", "a+b/c~%c3%bc");
        assert_eq!(Form::all().count(), 1 + 6 + 2 + 16);
    }

    proptest! {
        #[test]
        fn base64_is_found_in_whatever_was_encoded(
            before in proptest::collection::vec(any::<u8>(), 0..9),
            value in proptest::collection::vec(any::<u8>(), 1..40),
            after in proptest::collection::vec(any::<u8>(), 0..4),
        ) {
            let offset = (before.len() % 3) as u8;
            let all = [before, value.clone(), after].concat();
            let standard = BASE64_STANDARD.encode(&all);
            let safe = BASE64_URL_SAFE_NO_PAD.encode(&all);
            let core = text(Form::Base64 { offset, url: false }, &value);
            prop_assert!(standard.contains(&core), "{standard} {core}");
            let core = text(Form::Base64 { offset, url: true }, &value);
            prop_assert!(safe.contains(&core), "{safe} {core}");
            // All that the value decides: at most a part of a character is lost at each end.
            prop_assert!(core.len() * 6 + 10 >= value.len() * 8);
        }
    }
}
