//! Which server a URL is of.

use ureq::http::Uri;

/// Returns scheme, host and port of a URL, in lower case and the port written out: two URLs of the
/// same server have the same (RFC 6454 section 4). `None`: it has none of them.
pub fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_with_their_ports() {
        assert_eq!(origin("https://A.example/x"), origin("https://a.example:443/y"));
        assert_ne!(origin("https://a.example/x"), origin("https://a.example:444/x"));
        assert_ne!(origin("https://a.example/x"), origin("http://a.example/x"));
    }
}
