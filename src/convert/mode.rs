//! `--chmod`: permission bits, as numbers or as what chmod(1) reads.

/// Returns the mode that every file of a copy has: `Ok(None)` where each keeps the one that a
/// recipe gives it anyway.
///
/// # Errors
/// Where files come out with different modes, or it is no mode.
pub(super) fn mode(text: &str) -> Result<Option<String>, ()> {
    let digits = !text.is_empty() && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    if digits && text.len() <= 5 {
        let bits = u32::from_str_radix(text, 8).map_err(|_| ())?;
        return if bits > 0o7777 { Err(()) } else { Ok(Some(format!("{bits:04o}"))) };
    }
    // What a recipe gives files: plain ones, and those that can be executed.
    let (plain, program) = (changed(0o644, text)?, changed(0o755, text)?);
    match (plain, program) {
        (0o644, 0o755) => Ok(None),
        (one, other) if one == other => Ok(Some(format!("{one:04o}"))),
        _ => Err(()),
    }
}

/// Applies `u+rw,go=X` to a file's mode.
fn changed(before: u32, text: &str) -> Result<u32, ()> {
    let mut mode = before;
    for clause in text.split(',') {
        let at = clause.find(['+', '-', '=']).ok_or(())?;
        let (who, rest) = clause.split_at(at);
        let mut all = 0;
        for c in who.chars() {
            all |= match c {
                'u' => 0o700,
                'g' => 0o070,
                'o' => 0o007,
                'a' => 0o777,
                _ => return Err(()),
            };
        }
        if all == 0 {
            all = 0o777;
        }
        let mut bits = 0;
        for c in rest[1..].chars() {
            bits |= match c {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if before & 0o111 != 0 => 0o111,
                'X' => 0,
                _ => return Err(()),
            };
        }
        mode = match rest.as_bytes()[0] {
            b'+' => mode | (bits & all),
            b'-' => mode & !(bits & all),
            _ => (mode & !all) | (bits & all),
        };
    }
    Ok(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_every_file() {
        for (text, expected) in [
            ("755", Some("0755")),
            ("0644", Some("0644")),
            ("4755", Some("4755")),
            ("+x", Some("0755")),
            ("a+rx", Some("0755")),
            ("u=rwX,go=rX", None),
            ("u+w", None),
            ("a=r", Some("0444")),
        ] {
            assert_eq!(mode(text), Ok(expected.map(str::to_owned)), "{text}");
        }
        for text in ["", "rwx", "u+s", "99", "go-r", "z+x", "777777"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }
}
