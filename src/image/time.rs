//! Times in images: whole seconds since 1970, written in UTC as RFC 3339.

use jiff::Timestamp;

/// Returns `epoch` (seconds since 1970) as RFC 3339 in UTC, for example `2026-11-23T09:00:00Z`.
/// What lies outside the years 0000 to 9999, which that format cannot say, becomes the nearest time
/// that it can.
pub fn rfc3339(epoch: i64) -> String {
    const YEAR_0: i64 = -62_167_219_200;
    let seconds = epoch.clamp(YEAR_0, Timestamp::MAX.as_second());
    Timestamp::from_second(seconds).expect("clamped to what a timestamp can hold").to_string()
}

/// Returns the seconds since 1970 of an RFC 3339 time, fractions cut off, or nothing when it is no
/// such time.
pub fn epoch_of(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    // jiff reads more notations than RFC 3339 has: the date and the T must stand where they belong.
    if bytes.len() < 20
        || bytes[4] != b'-'
        || bytes[7] != b'-'
        || !matches!(bytes[10], b'T' | b't')
        || text.contains('[')
    {
        return None;
    }
    text.parse::<Timestamp>().ok().map(|time| time.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip() {
        for (epoch, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(epoch), text);
            assert_eq!(epoch_of(text), Some(epoch));
        }
        assert_eq!(epoch_of("2023-11-14T23:13:20.5+01:00"), Some(1_700_000_000));
    }

    #[test]
    fn extremes_do_not_panic() {
        assert_eq!(rfc3339(i64::MIN), "0000-01-01T00:00:00Z");
        assert!(rfc3339(i64::MAX).starts_with("9999-12-"));
    }

    #[test]
    fn other_texts_are_no_times() {
        for text in [
            "",
            "yesterday",
            "2023-11-14",
            "2023-11-14 22:13:20Z",
            "2023-11-14T22:13:20",
            "2023-13-14T22:13:20Z",
            "2023-11-14T22:13:20Z[UTC]",
        ] {
            assert_eq!(epoch_of(text), None, "{text}");
        }
    }
}
