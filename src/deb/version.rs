//! Debian version numbers and their order (Debian Policy 5.6.12, deb-version(7)).

use std::cmp::Ordering;

/// Compares two version numbers as dpkg does: epoch, upstream version, revision.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (split(a), split(b));
    number(a.0).cmp(&number(b.0)).then_with(|| part(a.1, b.1)).then_with(|| part(a.2, b.2))
}

/// Whether `version` stands in the relation `op` (`<<`, `<=`, `=`, `>=`, `>>`) to `wanted`; an
/// unknown operator holds never.
pub fn satisfies(version: &str, op: &str, wanted: &str) -> bool {
    let order = compare(version, wanted);
    match op {
        "<<" => order == Ordering::Less,
        // A lone `<` or `>` is an old spelling of `<=` and `>=`.
        "<=" | "<" => order != Ordering::Greater,
        "=" => order == Ordering::Equal,
        ">=" | ">" => order != Ordering::Less,
        ">>" => order == Ordering::Greater,
        _ => false,
    }
}

/// Whether `text` can be a version number; anything else must not reach a file name or a command
/// line.
pub fn is_valid(text: &str) -> bool {
    text.len() <= 256
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".+-~:".contains(&b))
}

/// Epoch, upstream version, revision. A missing part counts as `0`, which equals an empty one.
fn split(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Compares digit strings of any length: without leading zeros the longer one is the larger.
fn number(digits: &str) -> (usize, &str) {
    let digits = digits.trim_start_matches('0');
    (digits.len(), digits)
}

fn part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() || !b.is_empty() {
        let (text_a, rest_a) = a.split_at(a.find(|c: char| c.is_ascii_digit()).unwrap_or(a.len()));
        let (text_b, rest_b) = b.split_at(b.find(|c: char| c.is_ascii_digit()).unwrap_or(b.len()));
        let text = weights(text_a).cmp_padded(weights(text_b));
        if text != Ordering::Equal {
            return text;
        }
        let (digits_a, next_a) =
            rest_a.split_at(rest_a.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest_a.len()));
        let (digits_b, next_b) =
            rest_b.split_at(rest_b.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest_b.len()));
        let numbers = number(digits_a).cmp(&number(digits_b));
        if numbers != Ordering::Equal {
            return numbers;
        }
        (a, b) = (next_a, next_b);
    }
    Ordering::Equal
}

struct Weights<'a>(&'a [u8]);

fn weights(text: &str) -> Weights<'_> {
    Weights(text.as_bytes())
}

impl Weights<'_> {
    /// `~` sorts before the end of a part, the end before letters, letters before everything else.
    fn at(&self, index: usize) -> i32 {
        match self.0.get(index) {
            None => 0,
            Some(b'~') => -1,
            Some(letter) if letter.is_ascii_alphabetic() => i32::from(*letter),
            Some(other) => i32::from(*other) + 256,
        }
    }

    fn cmp_padded(&self, other: Weights<'_>) -> Ordering {
        (0..self.0.len().max(other.0.len()))
            .map(|i| self.at(i).cmp(&other.at(i)))
            .find(|o| o.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_order_is_the_policy_manuals() {
        // Each line is in ascending order; equal versions are joined by `=`.
        for line in [
            "1.0~~ 1.0~~a 1.0~ 1.0 1.0a 1.0+b",
            "1.0~rc1-1 1.0-1 1.0-1+deb12u1 1.0-1+deb12u2 1.0-2",
            "0.9 1.0=0:1.0=1.0-0=1.0- 1:0.1 2:0",
            "1.2 1.2.1 1.10 1.20",
            "2.36-9+deb12u10 2.36-9+deb12u13 2.36-10",
        ] {
            let groups: Vec<Vec<&str>> = line.split(' ').map(|g| g.split('=').collect()).collect();
            for (i, left) in groups.iter().enumerate() {
                for (j, right) in groups.iter().enumerate() {
                    for (a, b) in left.iter().flat_map(|a| right.iter().map(move |b| (a, b))) {
                        assert_eq!(compare(a, b), i.cmp(&j), "{a} {b}");
                    }
                }
            }
        }
    }

    #[test]
    fn pairs() {
        for (a, b, order) in [
            ("1.99999999999999999999999", "1.100000000000000000000000", Ordering::Less),
            ("1.0-1", "1.0-1.0", Ordering::Less),
            ("1.002", "1.2", Ordering::Equal),
            ("1a", "1.", Ordering::Less),
            ("1Z", "1a", Ordering::Less),
            ("2:1", "10:0", Ordering::Less),
            ("1-2-3", "1-2-4", Ordering::Less),
            ("1.2-", "1.2", Ordering::Equal),
            ("", "~", Ordering::Greater),
        ] {
            assert_eq!(compare(a, b), order, "{a} {b}");
            assert_eq!(compare(b, a), order.reverse(), "{b} {a}");
        }
    }

    #[test]
    fn relations() {
        for (version, op, wanted, holds) in [
            ("1", "=", "1", true),
            ("1", ">=", "1", true),
            ("1", ">>", "1", false),
            ("1~", "<<", "1", true),
            ("1", "<=", "0:1-0", true),
            ("1", "==", "1", false),
        ] {
            assert_eq!(satisfies(version, op, wanted), holds, "{version} {op} {wanted}");
        }
    }

    proptest! {
        #[test]
        fn it_is_an_order(a in "([0-9]:)?[0-9a-c.+~-]{0,8}", b in "([0-9]:)?[0-9a-c.+~-]{0,8}", c in "([0-9]:)?[0-9a-c.+~-]{0,8}") {
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }
    }
}
