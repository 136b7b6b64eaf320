//! Names for texts: every byte sequence has one spelling without blanks, controls or anything a
//! terminal or a parser would act on.

/// Returns a name as mtree(5) spells it: letters, digits and harmless marks stand for themselves,
/// every other byte is `\ooo`.
pub fn escape(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'/'
            | b'.'
            | b'_'
            | b'-'
            | b'+'
            | b','
            | b':'
            | b'@'
            | b'%'
            | b'~' => {
                text.push(char::from(*byte));
            }
            _ => text.push_str(&format!("\\{byte:03o}")),
        }
    }
    text
}

/// Returns the name that [`escape`] spelled; `None` for what it never writes.
pub(super) fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, more)) = rest.split_first() {
        if *first != b'\\' {
            name.push(*first);
            rest = more;
            continue;
        }
        let digits = more.get(..3)?;
        let value = digits.iter().try_fold(0u32, |sum, digit| {
            matches!(digit, b'0'..=b'7').then(|| sum * 8 + u32::from(digit - b'0'))
        })?;
        name.push(u8::try_from(value).ok()?);
        rest = &more[3..];
    }
    Some(name)
}

/// Returns a path for people, with a `/` in front: what can be read stays, controls and characters
/// that hide or turn text become `\u{…}`, bytes that are not UTF-8 `\xNN`, and a backslash two, so
/// that no two names look alike.
pub fn shown(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len() + 1);
    text.push('/');
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            let hidden = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202f}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() || hidden => text.extend(c.escape_unicode()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings() {
        assert_eq!(escape(b"usr/bin/[ #=\n\xff"), "usr/bin/\\133\\040\\043\\075\\012\\377");
        for bad in ["\\", "\\12", "\\8aa", "\\777", "\\04x"] {
            assert_eq!(unescape(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(shown(b"a\x1b[31m\nb\\n\xff\xc3\xa4 c"), "/a\\u{1b}[31m\\u{a}b\\\\n\\xffä c");
        assert_eq!(shown("a\u{202e}b".as_bytes()), "/a\\u{202e}b");
    }

    proptest! {
        #[test]
        fn every_name_has_one_spelling(name in prop::collection::vec(any::<u8>(), 0..40)) {
            let text = escape(&name);
            prop_assert!(text.bytes().all(|b| b.is_ascii_graphic()));
            prop_assert_eq!(unescape(text.as_bytes()), Some(name.clone()));
            prop_assert!(!shown(&name).chars().any(char::is_control));
        }
    }
}
