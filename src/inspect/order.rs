//! Versions in the order in which people count: `1.9.0` before `1.10.0`.

use std::cmp::Ordering;

/// Compares two versions: runs of digits by value, all else by bytes; texts that are equal so are
/// compared as they stand.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(x), Some(y)) = (left.first(), right.first()) else {
            return left.len().cmp(&right.len()).then_with(|| a.cmp(b));
        };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let number = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
            let (m, n) = (number(left), number(right));
            let bare =
                |text: &[u8]| text.iter().copied().skip_while(|b| *b == b'0').collect::<Vec<u8>>();
            let (p, q) = (bare(&left[..m]), bare(&right[..n]));
            match p.len().cmp(&q.len()).then_with(|| p.cmp(&q)) {
                Ordering::Equal => (left, right) = (&left[m..], &right[n..]),
                other => return other,
            }
        } else if x == y {
            (left, right) = (&left[1..], &right[1..]);
        } else {
            return x.cmp(y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_count() {
        let mut versions = [
            "10",
            "1.10.0",
            "1.9.0",
            "1.9",
            "1.9.0-rc1",
            "01.9.0",
            "2",
            "a",
            "1.99999999999999999999999",
        ];
        versions.sort_by(|a, b| natural(a, b));
        assert_eq!(
            versions,
            [
                "1.9",
                "01.9.0",
                "1.9.0",
                "1.9.0-rc1",
                "1.10.0",
                "1.99999999999999999999999",
                "2",
                "10",
                "a"
            ]
        );
    }
}
