//! Where a redirect leads.

/// Where `location` leads from `url` (RFC 3986 section 5), if bake may go there: what is no web
/// address could be a file of this host, and what was asked for over https must not be answered
/// over http.
pub fn target(url: &str, location: &str) -> Result<String, &'static str> {
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, rest) = url.split_once("://").ok_or("it redirects to nowhere")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let colon = location.find(':').filter(|colon| {
        let name = &location[..*colon];
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    });
    let found = if let Some(colon) = colon {
        let (named, rest) = (location[..colon].to_ascii_lowercase(), &location[colon + 1..]);
        if !matches!(named.as_str(), "http" | "https") || !rest.starts_with("//") {
            return Err("it redirects to something that is not a web address");
        }
        let host = rest[2..].split(['/', '?']).next().unwrap_or_default();
        let own = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if named == scheme && host == own {
            format!("{scheme}://{authority}{}", &rest[2 + host.len()..])
        } else {
            format!("{named}:{rest}")
        }
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') || location.is_empty() {
        format!("{scheme}://{authority}{path}{location}")
    } else {
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let (relative, query) = location.split_at(location.find('?').unwrap_or(location.len()));
        format!("{scheme}://{authority}{}{query}", without_dots(&format!("{directory}/{relative}")))
    };
    if scheme == "https" && !found.starts_with("https://") {
        return Err("it redirects from https to http");
    }
    Ok(found)
}

/// Takes `.` and `..` out of a path (RFC 3986 section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = vec![];
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => {
                kept.pop();
            }
            part => kept.push(part),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_the_web() {
        for (url, location, leads) in [
            ("http://a/x/y?q", "http://b/z", Ok("http://b/z")),
            ("http://a/x/y?q", "HTTPS://b/z#f", Ok("https://b/z")),
            ("http://a/x/y?q", "//b/z", Ok("http://b/z")),
            ("http://a/x/y?q", "/z?r", Ok("http://a/z?r")),
            ("http://a/x/y?q", "z", Ok("http://a/x/z")),
            ("http://a/x/y", "../z?r", Ok("http://a/z?r")),
            ("http://a", "z", Ok("http://a/z")),
            ("http://a/x/y?q", "?r", Ok("http://a/x/y?r")),
            ("http://me:word@a/x", "http://a/y", Ok("http://me:word@a/y")),
            ("http://me:word@a/x", "http://b/y", Ok("http://b/y")),
            ("http://me:word@a/x", "https://a/y", Ok("https://a/y")),
            ("https://a/x", "/y", Ok("https://a/y")),
            ("https://a/x", "http://a/y", Err("it redirects from https to http")),
        ] {
            assert_eq!(target(url, location), leads.map(str::to_owned), "{url} {location}");
        }
        for location in ["file:///x", "FILE:/x", "ftp://a/x", "data:,x", "http:x"] {
            assert!(target("http://a/b", location).is_err(), "{location}");
        }
    }
}
