//! The records of a PAX extended header (POSIX.1-2017, pax, "pax Extended Header").

use std::collections::BTreeMap;

use super::Wrong;

/// Where a piece begins, in format 0.0.
pub(super) const OFFSET: &[u8] = b"GNU.sparse.offset";
/// How long a piece is, in format 0.0.
pub(super) const LENGTH: &[u8] = b"GNU.sparse.numbytes";
/// Records that GNU tar's sparse format 0.0 repeats for each piece of a file.
const REPEATED: [&[u8]; 2] = [OFFSET, LENGTH];

/// Parses PAX records: length, space, key, `=`, value, line end. Values of a record that may be
/// repeated are joined by commas.
pub(super) fn records(mut body: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Wrong> {
    const BAD: Wrong = Wrong::Extended("a record is malformed");
    let mut found = BTreeMap::new();
    while !body.is_empty() {
        let space = body.iter().take(20).position(|b| *b == b' ').ok_or(BAD)?;
        let length = usize::try_from(number(&body[..space]).ok_or(BAD)?).map_err(|_| BAD)?;
        if length <= space + 1 || length > body.len() || body[length - 1] != b'\n' {
            return Err(BAD);
        }
        let record = &body[space + 1..length - 1];
        let equals = record.iter().position(|b| *b == b'=').ok_or(BAD)?;
        if equals == 0 {
            return Err(BAD);
        }
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match found.get_mut(key) {
            Some(earlier) if REPEATED.contains(&key) => {
                Vec::push(earlier, b',');
                earlier.extend_from_slice(value);
            }
            // POSIX says the last one wins, some readers take the first.
            Some(_) => return Err(Wrong::Extended("a record is there twice")),
            None => {
                found.insert(key.to_vec(), value.to_vec());
            }
        }
        body = &body[length..];
    }
    Ok(found)
}

/// Parses decimal digits and nothing else.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Parses seconds with an optional sign and fraction, rounding down.
pub(super) fn seconds(text: &[u8]) -> Option<i64> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|b| *b == b'.') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let whole = i64::try_from(number(whole)?).ok()?;
    if !negative {
        return Some(whole);
    }
    Some(-whole - i64::from(fraction.iter().any(|b| *b != b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_records_are_read_to_the_letter() {
        let check = |text: &str| records(text.as_bytes());
        let found = check("12 path=abc\n17 comment=a=b c\n").expect("well formed");
        assert_eq!(found[&b"path"[..]], b"abc");
        assert_eq!(found[&b"comment"[..]], b"a=b c");
        for bad in [
            "x",
            "5 a=b",
            "6 a=b",
            "5 =b\n",
            "6 ab\n\n",
            "0 a=b\n",
            "+6 a=b\n",
            "99999999999999999999999 a=b\n",
            "6 a=b\nx",
            " 6 a=b\n",
            "06",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert_eq!(check("6 a=b\n6 a=c\n"), Err(Wrong::Extended("a record is there twice")));
    }

    #[test]
    fn times_are_rounded_down() {
        for (text, time) in
            [("0", 0), ("12.9", 12), ("-1.5", -2), ("-1.0", -1), ("-3", -3), ("7.", 7)]
        {
            assert_eq!(seconds(text.as_bytes()), Some(time), "{text}");
        }
        for text in ["", "-", "1e3", "1.x", ".5", "--1", "1.2.3"] {
            assert_eq!(seconds(text.as_bytes()), None, "{text}");
        }
    }
}
