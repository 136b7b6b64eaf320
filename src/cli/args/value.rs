//! Values of options that are more than a word: ages, volumes, ports, variables.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::boot::{CREDENTIAL_NAME, Credential};
use crate::image::Platform;
use crate::trial::{Protocol, Publish, Volume};

/// A platform that bake builds for.
pub(super) fn platform(text: &str) -> Result<Platform, String> {
    let all = || Platform::all().map(|one| one.to_string()).collect::<Vec<_>>().join(", ");
    let found = text.parse::<Platform>().ok().and_then(|one| one.to_build());
    found.ok_or_else(|| format!("no platform that bake builds for; they are {}", all()))
}

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

/// As [`published`], without datagrams.
pub(super) fn published_tcp(text: &str) -> Result<Publish, String> {
    let publish = published(text)?;
    match publish.protocol {
        Protocol::Tcp => Ok(publish),
        _ => Err("a machine has ports of tcp only".to_owned()),
    }
}

/// Reads a disk for data: its file, and the serial number by which the machine finds it.
pub(super) fn data_disk(text: &str) -> Result<(PathBuf, String), String> {
    let (file, serial) = match text.rsplit_once(':') {
        Some((file, serial)) => (file, Some(serial.to_owned())),
        None => (text, None),
    };
    let file = PathBuf::from(file);
    let own = || Some(file.file_stem()?.to_str()?.to_owned());
    let serial = serial.or_else(own).unwrap_or_default();
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if file.as_os_str().is_empty() || !(1..=20).contains(&serial.len()) || !serial.chars().all(fine)
    {
        let what = "at most 20 letters, digits, `-`, `_` and `.`";
        return Err(format!("expected FILE or FILE:SERIAL, the serial number {what}"));
    }
    Ok((file, serial))
}

/// Reads `NAME:FILE`.
pub(super) fn credential(text: &str) -> Result<Credential, String> {
    let (name, file) = text.split_once(':').unwrap_or((text, ""));
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if file.is_empty() || !(1..=CREDENTIAL_NAME).contains(&name.len()) || !name.chars().all(fine) {
        let what = format!("at most {CREDENTIAL_NAME} letters, digits, `-`, `_` and `.`");
        return Err(format!("expected NAME:FILE, the name {what}"));
    }
    Ok(Credential { name: name.to_owned(), path: PathBuf::from(file) })
}

/// Reads a URL that is asked as it is.
pub(super) fn answered_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (authority, Some(80)),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    match port {
        Some(1..=u16::MAX)
            if !host.is_empty()
                && text.chars().all(|c| c.is_ascii_graphic())
                && host.chars().all(fits) =>
        {
            Ok(text.to_owned())
        }
        _ => Err("expected http://ADDRESS:PORT/PATH".to_owned()),
    }
}

/// Reads a size of memory: `512MiB`, `2GiB`.
pub(super) fn memory(text: &str) -> Result<u64, String> {
    let read = |unit: &str, bytes: u64| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(bytes)
    };
    let size = read("MiB", 1 << 20).or_else(|| read("GiB", 1 << 30));
    let size = size.filter(|size| (128 << 20..=16 << 40).contains(size));
    size.ok_or_else(|| "expected 128MiB or more, such as 512MiB or 2GiB".to_owned())
}

pub(super) fn name_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Reads a size: `500MB`, `20GiB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "expected a number and a unit, such as 500MB or 20GiB".to_owned();
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit: u64 = match &text[at..] {
        "B" => 1,
        "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..at].parse().map_err(|_| wrong())?;
    number.checked_mul(unit).ok_or_else(|| "that is too much".to_owned())
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
    fn sizes() {
        assert_eq!(size("20GiB"), Ok(20 << 30));
        assert_eq!(size("500MB"), Ok(500_000_000));
        assert_eq!(size("0B"), Ok(0));
        for wrong in ["", "5", "GiB", "-1GiB", "1.5GiB", "1gib", "99999999TiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

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
    #[test]
    fn urls_that_are_asked() {
        for text in ["http://127.0.0.1:8080/healthz", "http://localhost", "http://[::1]:80/?a=b"] {
            assert_eq!(answered_url(text).as_deref(), Ok(text));
        }
        for text in [
            "",
            "127.0.0.1:80",
            "https://a/",
            "http://",
            "http://:80/",
            "http://a:0/",
            "http://a:x/",
            "http://a b/",
            "http://u@a/",
            "http://a:99999/",
        ] {
            assert!(answered_url(text).is_err(), "{text}");
        }
    }
}
