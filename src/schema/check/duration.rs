//! Durations.

use std::time::Duration;

use crate::schema::mistake::{Mistake, quote};

/// Reads a duration: `90s`, `5m`, `1h30m`, `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, Mistake> {
    let bad =
        |label: String| Mistake::new(format!("{} is not a duration", quote(text))).label(label);
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad("the unit is missing".into()).help(format!(
            "write {} for seconds, {} for minutes",
            quote(&format!("{text}s")),
            quote(&format!("{text}m"))
        )));
    }
    let shape = || {
        bad("expected a number and its unit (`ms`, `s`, `m`, `h`, `d`), such as \"90s\" \
            or \"1h30m\""
            .into())
    };
    let mut rest = text;
    let mut total = 0_u64;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits]
            .parse()
            .map_err(|_| if digits > 15 { bad("too long".into()) } else { shape() })?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(shape()),
        };
        if unit >= last {
            return Err(bad("units stand in falling order, each once".into()));
        }
        last = unit;
        rest = &rest[letters..];
        total = number
            .checked_mul(unit)
            .and_then(|ms| total.checked_add(ms))
            .ok_or_else(|| bad("too long".into()))?;
    }
    match total {
        _ if text.is_empty() => Err(shape()),
        0 => Err(bad("longer than nothing is needed".into())),
        // Longer than anything real, and far from overflowing whoever adds it to a clock.
        ms if ms > 366 * 86_400_000 => Err(bad("longer than a year".into())),
        ms => Ok(Duration::from_millis(ms)),
    }
}
