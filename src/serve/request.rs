//! Requests of HTTP/1.1 (RFC 9112), as far as a registry that is only read needs them.

/// Largest head of a request.
pub(super) const MOST: usize = 16 << 10;

/// What a client asks for.
#[derive(Debug)]
pub(super) struct Request {
    /// `GET`, `HEAD`, ….
    pub(super) method: String,
    /// Path and query, as they came.
    pub(super) target: String,
    /// The path, percent-decoded.
    pub(super) path: String,
    /// `Range`.
    pub(super) range: Option<String>,
    /// `If-Range`.
    pub(super) range_of: Option<String>,
    /// `If-None-Match`.
    pub(super) unless: Option<String>,
    /// No other request follows on this connection.
    pub(super) last: bool,
}

/// Whether a request can begin with that byte: a method, or an empty line.
pub(super) fn begins(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'\r'
}

/// Reads the head of a request, its end mark left out; `Err`: the status that refuses it.
pub(super) fn parse(head: &[u8]) -> Result<Request, u16> {
    let text = std::str::from_utf8(head).map_err(|_| 400_u16)?;
    // One empty line in front is forgiven (RFC 9112, 2.2).
    let text = text.strip_prefix("\r\n").unwrap_or(text);
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (first.next(), first.next(), first.next(), first.next())
    else {
        return Err(400);
    };
    let token = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphabetic());
    let visible = target.bytes().all(|b| b.is_ascii_graphic());
    if !token(method) || !visible {
        return Err(400);
    }
    let path = path(target).ok_or(400_u16)?;
    let mut last = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        _ => return Err(505),
    };
    let (mut range, mut range_of, mut unless) = (None, None, None);
    let mut hosts = 0;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(400_u16)?;
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(400);
        }
        let value = value.trim_matches([' ', '\t']);
        if value.contains(|c: char| c.is_control() && c != '\t') {
            return Err(400);
        }
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "range" => range = Some(value.to_owned()),
            "if-range" => range_of = Some(value.to_owned()),
            "if-none-match" => unless = Some(value.to_owned()),
            "connection" => {
                let mut options = value.split(',').map(str::trim);
                last |= options.any(|option| option.eq_ignore_ascii_case("close"));
            }
            // A body would have to be read, and nothing here takes one.
            "content-length" if value != "0" => return Err(413),
            "transfer-encoding" => return Err(413),
            _ => {}
        }
    }
    // RFC 9112, 3.2: one, and only HTTP/1.0 may do without.
    if hosts > 1 || hosts == 0 && version == "HTTP/1.1" {
        return Err(400);
    }
    let (method, target) = (method.to_owned(), target.to_owned());
    Ok(Request { method, target, path, range, range_of, unless, last })
}

/// Returns the path of a target, percent-decoded. Targets may be absolute (RFC 9112, 3.2.2).
fn path(target: &str) -> Option<String> {
    let target = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
            &rest[rest.find('/').unwrap_or(rest.len())..]
        }
        _ => target,
    };
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    if path.starts_with('/') { decoded(path) } else { None }
}

impl Request {
    /// Returns a value of the query, percent-decoded.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).and_then(|(_, value)| decoded(value))
    }

    /// Returns the part of `size` bytes that is asked for: from, and behind its end. `None`: all of
    /// it, also where a range is asked for that is not one of bytes, or of other content than what
    /// is called `tag` (RFC 9110, 13.1.5 and 14.2); `Err`: there is no such part.
    pub(super) fn part(&self, size: u64, tag: &str) -> Result<Option<(u64, u64)>, ()> {
        // Only GET knows ranges.
        if self.method != "GET" || self.range_of.as_deref().is_some_and(|of| of != tag) {
            return Ok(None);
        }
        let Some(range) = self.range.as_deref().and_then(|range| range.strip_prefix("bytes="))
        else {
            return Ok(None);
        };
        let Some((from, to)) = range.split_once('-') else { return Ok(None) };
        let (from, end) = match (from.parse::<u64>(), to.parse::<u64>()) {
            (Ok(from), Ok(to)) if from <= to => (from, to.saturating_add(1).min(size)),
            (Ok(from), Err(_)) if to.is_empty() => (from, size),
            // The last so many bytes.
            (Err(_), Ok(0)) if from.is_empty() => return Err(()),
            (Err(_), Ok(count)) if from.is_empty() => (size.saturating_sub(count), size),
            // Several parts, or something else: the whole is an answer to that.
            _ => return Ok(None),
        };
        if from < size { Ok(Some((from, end))) } else { Err(()) }
    }
}

/// Undoes percent-encoding (RFC 3986, 2.1). A `+` stays one: media types have them, and clients
/// write them as they are.
fn decoded(text: &str) -> Option<String> {
    let mut out = vec![];
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
            }
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_strictly() {
        let good = parse(
            b"GET /v2/%61/tags/list?n=2&last=a%2Fb+c HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2",
        )
        .expect("a request");
        assert_eq!((good.path.as_str(), good.last), ("/v2/a/tags/list", false));
        assert_eq!(good.query("last").as_deref(), Some("a/b+c"));
        assert_eq!(good.query("n").as_deref(), Some("2"));
        let absolute =
            parse(b"\r\nGET HTTP://x:1/v2/?n=1 HTTP/1.1\r\nHost: x\r\nConnection: TE, close");
        let absolute = absolute.expect("a request");
        assert_eq!((absolute.path.as_str(), absolute.last), ("/v2/", true));
        assert!(parse(b"GET /v2/ HTTP/1.0").is_ok_and(|old| old.last), "needs no Host");
        let check = |head: &str, status: u16| {
            assert_eq!(parse(head.as_bytes()).map(|_| ()), Err(status), "{head:?}");
        };
        check("", 400);
        check("GET /", 400);
        check("GET  / HTTP/1.1", 400);
        check("GET x HTTP/1.1", 400);
        check("GET /\u{7f} HTTP/1.1", 400);
        check("GET http://x HTTP/1.1\r\nHost: x", 400);
        check("GET /% HTTP/1.1\r\nHost: x", 400);
        check("GET /%ff HTTP/1.1\r\nHost: x", 400);
        check("GET / HTTP/1.1", 400);
        check("GET / HTTP/1.1\r\nHost: x\r\nHost: y", 400);
        check("GET / HTTP/1.1\r\nHost: x\ny: z", 400);
        check("GET / HTTP/2", 505);
        check("GET / HTTP/1.1\r\nno colon", 400);
        check("GET / HTTP/1.1\r\n folded: x", 400);
        check("POST / HTTP/1.1\r\nContent-Length: 5", 413);
        check("POST / HTTP/1.1\r\nTransfer-Encoding: chunked", 413);
    }

    #[test]
    fn ranges_are_parts() {
        let check = |range: &str, expected: Result<Option<(u64, u64)>, ()>| {
            let head = format!("GET / HTTP/1.1\r\nHost: x\r\nRange: {range}");
            let mut request = parse(head.as_bytes()).expect("a request");
            assert_eq!(request.part(10, "t"), expected, "{range}");
            request.range_of = Some("t".to_owned());
            assert_eq!(request.part(10, "t"), expected, "{range}");
            request.range_of = Some("other".to_owned());
            assert_eq!(request.part(10, "t"), Ok(None), "{range}");
            let head = head.replace("GET", "HEAD");
            assert_eq!(parse(head.as_bytes()).expect("a request").part(10, "t"), Ok(None));
        };
        check("bytes=0-3", Ok(Some((0, 4))));
        check("bytes=2-", Ok(Some((2, 10))));
        check("bytes=-3", Ok(Some((7, 10))));
        check("bytes=-30", Ok(Some((0, 10))));
        check("bytes=5-99", Ok(Some((5, 10))));
        check("bytes=10-", Err(()));
        check("bytes=-0", Err(()));
        check("bytes=3-2", Ok(None));
        check("bytes=0-1,4-5", Ok(None));
        check("lines=0-1", Ok(None));
    }
}
