//! How much of something there may be: bytes, or hundredths of what there is.

use crate::schema::mistake::{Mistake, quote};

/// How much of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many bytes, at least one.
    Bytes(u64),
    /// Hundredths of what there is, 1 to 100.
    Percent(u8),
    /// No limit.
    Unlimited,
}

/// Most bytes: a number that is signed elsewhere.
const MOST: u64 = i64::MAX as u64;

/// Reads `512MiB`, `2GiB`, `80%`, `none`.
pub(crate) fn amount(text: &str) -> Result<Amount, Mistake> {
    let bad = |label: String| Mistake::new(format!("{} is not a limit", quote(text))).label(label);
    let shape = || {
        bad("expected a whole number and its unit (`KiB`, `MiB`, `GiB`, `TiB`), such as \
            \"512MiB\"; or a part of what there is, such as \"50%\"; or \"none\""
            .into())
    };
    if text == "none" {
        return Ok(Amount::Unlimited);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(match text.strip_prefix('-') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
                bad("more than nothing is needed".into())
            }
            _ => shape(),
        });
    }
    let large = || bad("more than a machine has: at most 8388607TiB".into());
    let number: u64 = number.parse().map_err(|_| large())?;
    let size: u64 = match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "%" => {
            return match u8::try_from(number) {
                Ok(percent @ 1..=100) => Ok(Amount::Percent(percent)),
                _ => Err(bad("it is 1% to 100%".into())),
            };
        }
        "" => {
            let help = format!("write {}", quote(&format!("{number}MiB")));
            return Err(bad("the unit is missing".into()).help(help));
        }
        "K" | "k" | "kB" | "KB" | "M" | "MB" | "m" | "G" | "GB" | "g" | "T" | "TB" => {
            let unit = unit[..1].to_uppercase();
            return Err(shape().help(format!("write {}", quote(&format!("{number}{unit}iB")))));
        }
        _ => return Err(shape()),
    };
    match number.checked_mul(size) {
        Some(0) => Err(bad("more than nothing is needed".into())),
        Some(bytes) if bytes <= MOST => Ok(Amount::Bytes(bytes)),
        _ => Err(large()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        let good = |text: &str, expected| assert_eq!(amount(text).unwrap(), expected, "{text}");
        good("512MiB", Amount::Bytes(512 << 20));
        good("2GiB", Amount::Bytes(2 << 30));
        good("1KiB", Amount::Bytes(1024));
        good("8388607TiB", Amount::Bytes(8_388_607 << 40));
        good("80%", Amount::Percent(80));
        good("none", Amount::Unlimited);
        for text in [
            "",
            "lots",
            "0",
            "0MiB",
            "-1",
            "-2GiB",
            "0%",
            "101%",
            "1.5GiB",
            "2 GiB",
            "2G",
            "2gib",
            "8388608TiB",
            "9223372036854775808KiB",
            "99999999999999999999999MiB",
            "MiB",
            "None",
        ] {
            assert!(amount(text).is_err(), "{text}");
        }
    }
}
