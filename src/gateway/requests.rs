//! Requests of HTTP/1.1 as a proxy wants them: with the whole address of what is asked for (RFC
//! 9112 section 3.2.2).
//!
//! The host is the one that was judged, whatever a request says; and what could be read in two ways
//! (RFC 9112 section 11.2) is refused, as a second request could hide there that nobody has judged.

/// Longest head of a request.
const LONGEST: usize = 64 * 1024;

/// What was sent is no request that can be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotClear;

/// Rewrites one connection's requests.
#[derive(Debug)]
pub(super) struct Rewriter {
    authority: String,
    authorization: Option<String>,
    state: State,
    /// What is not yet whole.
    held: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A request begins.
    Head,
    /// So many bytes of a body follow.
    Body(u64),
    /// The length of a chunk follows.
    Chunk,
    /// So many bytes of a chunk follow.
    Data(u64),
    /// The end of a chunk's line follows.
    End,
    /// Lines behind the last chunk.
    Trailer,
}

impl Rewriter {
    /// `authority`: host and, unless it is 80, port; `authorization`: for the proxy.
    pub(super) fn new(authority: String, authorization: Option<String>) -> Self {
        Self { authority, authorization, state: State::Head, held: vec![] }
    }

    /// Takes what was sent; adds to `out` what is to be passed on.
    pub(super) fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), NotClear> {
        while !bytes.is_empty() {
            match self.state {
                State::Body(left) | State::Data(left) => {
                    let part = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    out.extend_from_slice(&bytes[..part]);
                    bytes = &bytes[part..];
                    let left = left - part as u64;
                    self.state = match self.state {
                        State::Body(_) if left == 0 => State::Head,
                        State::Body(_) => State::Body(left),
                        _ if left == 0 => State::End,
                        _ => State::Data(left),
                    };
                }
                State::Head | State::Chunk | State::End | State::Trailer => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let part = end.map_or(bytes.len(), |end| end + 1);
                    self.held.extend_from_slice(&bytes[..part]);
                    bytes = &bytes[part..];
                    if self.held.len() > LONGEST {
                        return Err(NotClear);
                    }
                    if end.is_some() {
                        self.line(out)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks at what is held, which ends with a line.
    fn line(&mut self, out: &mut Vec<u8>) -> Result<(), NotClear> {
        match self.state {
            State::Head => {
                // Empty lines before a request are skipped (RFC 9112 section 2.2).
                if self.held == b"\r\n" {
                    self.held.clear();
                } else if self.held.ends_with(b"\r\n\r\n") {
                    let held = std::mem::take(&mut self.held);
                    self.state = self.head(&held, out)?;
                }
            }
            State::Chunk => {
                let held = std::mem::take(&mut self.held);
                let text = std::str::from_utf8(&held).map_err(|_| NotClear)?;
                let size = text.strip_suffix("\r\n").ok_or(NotClear)?;
                let size = size.split(';').next().unwrap_or_default().trim_end();
                let fits = !size.is_empty()
                    && size.len() <= 12
                    && size.bytes().all(|byte| byte.is_ascii_hexdigit());
                let size = u64::from_str_radix(size, 16).ok().filter(|_| fits).ok_or(NotClear)?;
                // Without what may stand behind the number.
                out.extend_from_slice(format!("{size:x}\r\n").as_bytes());
                self.state = if size == 0 { State::Trailer } else { State::Data(size) };
            }
            State::End if self.held == b"\r\n" => {
                self.held.clear();
                out.extend_from_slice(b"\r\n");
                self.state = State::Chunk;
            }
            State::End => return Err(NotClear),
            // What may stand there is left out.
            State::Body(_) | State::Data(_) | State::Trailer => {
                let over = self.held == b"\r\n";
                self.held.clear();
                if over {
                    out.extend_from_slice(b"\r\n");
                    self.state = State::Head;
                }
            }
        }
        Ok(())
    }

    /// Writes a whole head, and says what follows it.
    fn head(&self, head: &[u8], out: &mut Vec<u8>) -> Result<State, NotClear> {
        let text = std::str::from_utf8(head).map_err(|_| NotClear)?;
        let text = text.strip_suffix("\r\n\r\n").ok_or(NotClear)?;
        let mut lines = text.split("\r\n");
        let parts: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let [method, target, version @ ("HTTP/1.1" | "HTTP/1.0")] = parts[..] else {
            return Err(NotClear);
        };
        let clear = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if !clear(method) || !clear(target) || method.eq_ignore_ascii_case("CONNECT") {
            return Err(NotClear);
        }
        let path = match target.split_once("://") {
            _ if target == "*" => "",
            _ if target.starts_with('/') => target,
            Some((_, rest)) => rest.find(['/', '?']).map_or("/", |at| &rest[at..]),
            None => return Err(NotClear),
        };
        let mut made = format!("{method} http://{}{path} {version}\r\n", self.authority);
        made.push_str(&format!("Host: {}\r\n", self.authority));
        if let Some(authorization) = &self.authorization {
            made.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        let (mut length, mut chunked) = (None, false);
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(NotClear)?;
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            let control = |b: u8| b.is_ascii_control() && b != b'\t';
            if name.is_empty() || !name.bytes().all(token) || value.bytes().any(control) {
                return Err(NotClear);
            }
            let value = value.trim_matches([' ', '\t']);
            match name.to_ascii_lowercase().as_str() {
                // Another protocol could ask for anything.
                "host"
                | "proxy-authorization"
                | "proxy-connection"
                | "upgrade"
                | "http2-settings" => continue,
                "content-length" => {
                    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
                    let number = value.parse().ok().filter(|_| digits).ok_or(NotClear)?;
                    if length.replace(number).is_some() {
                        return Err(NotClear);
                    }
                }
                "transfer-encoding" => {
                    if chunked || !value.eq_ignore_ascii_case("chunked") {
                        return Err(NotClear);
                    }
                    chunked = true;
                }
                _ => {}
            }
            made.push_str(&format!("{name}: {value}\r\n"));
        }
        made.push_str("\r\n");
        let next = match (length, chunked) {
            (Some(_), true) => return Err(NotClear),
            (None, true) if version == "HTTP/1.0" => return Err(NotClear),
            (None, true) => State::Chunk,
            (Some(0) | None, false) => State::Head,
            (Some(length), false) => State::Body(length),
        };
        out.extend_from_slice(made.as_bytes());
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a text, whole and in pieces of every size alike.
    fn rewritten(text: &str) -> Result<String, NotClear> {
        let once = |size: usize| {
            let mut rewriter = Rewriter::new("a.example".to_owned(), None);
            let mut out = vec![];
            for piece in text.as_bytes().chunks(size) {
                rewriter.take(piece, &mut out)?;
            }
            Ok(String::from_utf8(out).unwrap())
        };
        let whole = once(text.len());
        for size in [1, 2, 3, 7, 50] {
            assert_eq!(once(size), whole, "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn requests_get_the_whole_address() {
        assert_eq!(
            rewritten("GET /x?y HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\nGET /z HTTP/1.1\r\n\r\n")
                .unwrap(),
            "GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\n\r\nGET \
                http://a.example/z HTTP/1.1\r\nHost: a.example\r\n\r\n"
        );
        let other = "GET http://evil.example/x HTTP/1.1\r\nHost: evil.example\r\n\r\n";
        assert_eq!(
            rewritten(other).unwrap(),
            "GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n"
        );
        assert_eq!(
            rewritten("OPTIONS * HTTP/1.1\r\n\r\n").unwrap(),
            "OPTIONS http://a.example HTTP/1.1\r\nHost: a.example\r\n\r\n"
        );
    }

    #[test]
    fn bodies_pass_and_requests_behind_them_are_rewritten() {
        let get = "GET /z HTTP/1.1\r\n\r\n";
        let got = "GET http://a.example/z HTTP/1.1\r\nHost: a.example\r\n\r\n";
        let post = "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\n";
        assert_eq!(
            rewritten(&format!("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /{get}")).unwrap(),
            format!("{post}Content-Length: 5\r\n\r\nGET /{got}")
        );
        let chunks = "5;x=y\r\nGET /\r\n0\r\nA: b\r\n\r\n";
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(
            rewritten(&format!("{head}{chunks}{get}")).unwrap(),
            format!("{post}Transfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n{got}")
        );
    }

    #[test]
    fn what_could_hide_another_request_is_refused() {
        for head in [
            "CONNECT evil:443 HTTP/1.1",
            "GET /",
            "GET / HTTP/2.0",
            "GET  / HTTP/1.1",
            "GET evil HTTP/1.1",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
            "GET / HTTP/1.1\r\nContent-Length: +1",
            "GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked",
            "GET / HTTP/1.0\r\nTransfer-Encoding: chunked",
            "GET / HTTP/1.1\r\nA : b",
            "GET / HTTP/1.1\r\nA: b\r\n c",
            "GET / HTTP/1.1\r\nA: b\rGET http://evil/ HTTP/1.1",
            "GET / HTTP/1.1\nA: b",
        ] {
            assert_eq!(rewritten(&format!("{head}\r\n\r\n")), Err(NotClear), "{head:?}");
        }
        for chunks in ["x\r\n", "1\r\nab\r\n", "-1\r\n", "5\n", "\r\n", "1234567890123\r\n"] {
            let head = "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
            assert_eq!(rewritten(&format!("{head}{chunks}")), Err(NotClear), "{chunks:?}");
        }
        assert_eq!(rewritten(&"x".repeat(LONGEST + 2)), Err(NotClear));
        let upgrade = rewritten("GET / HTTP/1.1\r\nUpgrade: x\r\nProxy-Authorization: y\r\n\r\n");
        assert!(!upgrade.unwrap().to_lowercase().contains("upgrade"));
    }
}
