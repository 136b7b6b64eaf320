//! Which host a step without a network wanted: the kernel counts that something could not leave,
//! and the programs themselves print what they looked for.

use super::error::{StepFailure, Trouble};

/// What programs print before the name of a host that they cannot find.
const BEFORE: &[&str] = &[
    // curl, git, Cargo
    "Could not resolve host: ",
    // ssh
    "Could not resolve hostname ",
    // apt
    "Temporary failure resolving '",
    "Could not resolve '",
    // wget, in two sets of quotation marks
    "unable to resolve host address '",
    "unable to resolve host address ‘",
    // busybox
    "bad address '",
    // Node
    "getaddrinfo ENOTFOUND ",
    "getaddrinfo EAI_AGAIN ",
    // Python's urllib3, pip
    "Failed to resolve '",
    "(host='",
    // Go
    "dial tcp: lookup ",
];

/// Adds to the failure of a step which host it wanted, where it had no network and its last lines
/// have the name.
pub(super) fn named(trouble: Trouble, lines: &[String]) -> Trouble {
    let Trouble::Step(StepFailure::Ran(how, mut seen)) = trouble else { return trouble };
    let host = lines.iter().find_map(|line| host(line)).filter(|_| seen.no_network);
    let Some(host) = host else { return Trouble::Step(StepFailure::Ran(how, seen)) };
    // What stands below says it better.
    seen.no_network = false;
    let hint = format!(
        "the step has no network: give it `network = [\"{host}\"]`, or `network = true` for all \
            public hosts"
    );
    let inner = Some(Box::new(StepFailure::Ran(how, seen)));
    let reasons = vec![format!("it asked for {host}")];
    Trouble::Step(StepFailure::Network { inner, reasons, hints: vec![hint] })
}

/// Returns the name of a host that a line is about.
fn host(line: &str) -> Option<&str> {
    let rest = BEFORE.iter().find_map(|before| Some(line.split_once(before)?.1))?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-.".contains(c));
    let name = rest[..end.unwrap_or(rest.len())].trim_end_matches('.');
    let is_name = name.contains(|c: char| c.is_ascii_alphabetic()) && name.len() <= 253;
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_name_the_host_that_they_look_for() {
        for (line, expected) in [
            ("curl: (6) Could not resolve host: example.org", Some("example.org")),
            ("fatal: unable to access 'https://a.b/': Could not resolve host: a.b", Some("a.b")),
            ("  Temporary failure resolving 'deb.debian.org'", Some("deb.debian.org")),
            ("wget: unable to resolve host address ‘files.example.org’", Some("files.example.org")),
            ("wget: bad address 'example.org'", Some("example.org")),
            (
                "npm error request failed, reason: getaddrinfo EAI_AGAIN registry.npmjs.org",
                Some("registry.npmjs.org"),
            ),
            (
                "HTTPSConnectionPool(host='pypi.org', port=443): Max retries exceeded",
                Some("pypi.org"),
            ),
            ("go: dial tcp: lookup proxy.golang.org: connection refused", Some("proxy.golang.org")),
            ("ssh: Could not resolve hostname git.example.org: Name", Some("git.example.org")),
            ("Could not resolve host: ", None),
            ("Could not resolve host: 203.0.113.7", None),
            ("make: *** [all] Error 2", None),
            ("", None),
        ] {
            assert_eq!(host(line), expected, "{line}");
        }
    }
}
