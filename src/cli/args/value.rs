//! Values of options that are more than a word: ages, volumes, ports, variables.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::trial::{Protocol, Publish, Volume};

pub(super) fn volume(text: &str) -> Result<Volume, String> {
    let (rest, read_only) = match text.strip_suffix(":ro") {
        Some(rest) => (rest, true),
        None => (text.strip_suffix(":rw").unwrap_or(text), false),
    };
    match rest.rsplit_once(':') {
        Some((from, at))
            if !from.is_empty()
                && at.starts_with('/')
                && !at.trim_matches('/').is_empty()
                && !at.split('/').any(|part| part == "..") =>
        {
            Ok(Volume { from: PathBuf::from(from), at: PathBuf::from(at), read_only })
        }
        _ => Err("expected DIR:PATH or FILE:PATH, or with :ro, PATH absolute and not /".to_owned()),
    }
}

pub(super) fn published(text: &str) -> Result<Publish, String> {
    let read = || {
        let (ports, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some(_) => return None,
        };
        let (outside, inside) = ports.rsplit_once(':')?;
        let inside = inside.parse().ok().filter(|port| *port > 0)?;
        let address = match outside.parse::<u16>() {
            Ok(port) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
            Err(_) => outside.parse().ok()?,
        };
        Some(Publish { address, inside, protocol })
    };
    read().ok_or_else(|| {
        "expected PORT:INSIDE or ADDRESS:PORT:INSIDE, such as 8080:80 or 0.0.0.0:5353:53/udp"
            .to_owned()
    })
}

pub(super) fn name_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Reads an age: `90m`, `12h`, `30d`, `2w`.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number and a unit, such as 12h, 30d or 2w".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (text, seconds) in
            [("0s", 0), ("90m", 5400), ("12h", 43_200), ("30d", 2_592_000), ("2w", 1_209_600)]
        {
            assert_eq!(age(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "d",
            "30",
            "30 d",
            "-1d",
            "1.5d",
            "30D",
            "1y",
            "30\u{e9}",
            "99999999999999999999d",
            "18446744073709551615w",
        ] {
            assert!(age(text).is_err(), "{text}");
        }
    }
}
