//! Which of two versions systemd-sysupdate takes for the newer one (UAPI group, "Version Format
//! Specification").

use std::cmp::Ordering;

/// Compares two versions.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let known = |c: char| c.is_ascii_alphanumeric() || "-.~^".contains(c);
    let (mut a, mut b) = (a, b);
    loop {
        a = a.trim_start_matches(|c| !known(c));
        b = b.trim_start_matches(|c| !known(c));
        // Older than its own beginning.
        match (a.strip_prefix('~'), b.strip_prefix('~')) {
            (Some(rest), Some(other)) => {
                (a, b) = (rest, other);
                continue;
            }
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (None, None) => {}
        }
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        if let Some(mark) = ['-', '^', '.'].into_iter().find(|&mark| starts(a, b, mark)) {
            match (a.strip_prefix(mark), b.strip_prefix(mark)) {
                (Some(rest), Some(other)) => {
                    (a, b) = (rest, other);
                    continue;
                }
                (Some(_), None) => return Ordering::Less,
                _ => return Ordering::Greater,
            }
        }
        let digit = |c: char| c.is_ascii_digit();
        let number = a.starts_with(digit) || b.starts_with(digit);
        let fits = |c: char| if number { digit(c) } else { c.is_ascii_alphabetic() };
        let (first, rest) = split(a, fits);
        let (second, other) = split(b, fits);
        let order = if number { numbers(first, second) } else { first.cmp(second) };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest, other);
    }
}

fn starts(a: &str, b: &str, mark: char) -> bool {
    a.starts_with(mark) || b.starts_with(mark)
}

fn split(text: &str, fits: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !fits(c)).unwrap_or(text.len()))
}

/// Compares runs of digits of any length; none is zero.
fn numbers(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_the_order_of_the_specification() {
        let check = |a: &str, order: Ordering, b: &str| {
            assert_eq!(compare(a, b), order, "{a} {b}");
            assert_eq!(compare(b, a), order.reverse(), "{b} {a}");
        };
        // The specification's examples.
        check("11", Ordering::Equal, "11");
        check("systemd-123", Ordering::Equal, "systemd-123");
        check("bar-123", Ordering::Less, "foo-123");
        check("123a", Ordering::Greater, "123");
        check("123.a", Ordering::Greater, "123");
        check("123.a", Ordering::Less, "123.b");
        check("123a", Ordering::Greater, "123.a");
        check("11α", Ordering::Equal, "11β");
        check("A", Ordering::Less, "a");
        check("", Ordering::Less, "0");
        check("0.", Ordering::Greater, "0");
        check("0.0", Ordering::Greater, "0");
        check("0", Ordering::Greater, "~");
        check("", Ordering::Greater, "~");
        check("1_", Ordering::Equal, "1");
        check("_1", Ordering::Equal, "1");
        check("1_", Ordering::Less, "1.2");
        check("1_2_3", Ordering::Greater, "1.3.3");
        check("1+", Ordering::Equal, "1");
        check("+1", Ordering::Equal, "1");
        check("1+", Ordering::Less, "1.2");
        check("1+2+3", Ordering::Greater, "1.3.3");
        // Ours.
        check("2.0.0", Ordering::Less, "10.0.0");
        check("1.0.0~rc1", Ordering::Less, "1.0.0");
        check("1.0.0-1", Ordering::Greater, "1.0.0");
        check("007", Ordering::Equal, "7");
    }
}
