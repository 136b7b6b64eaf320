//! What a program was refused because the root is read-only, read from the lines of its journal.

/// What the C library calls `EROFS`; other languages have it from there, or write a capital.
const READ_ONLY: &str = "read-only file system";

/// What to do about it.
pub(super) const HINT: &str = "what is written to belongs on a data disk (`data.\"/path\" = \
    \"serial\"` of the output) or into memory (a line with tmpfs in /etc/fstab); `root = \"ext4\"` \
    makes a root that is written to";

/// Returns the path that a line of a journal says could not be written to, if it says so: the last
/// one before the reason (`cannot create /opt/x: Read-only file system`), else the first one behind
/// it (`[Errno 30] Read-only file system: '/opt/x'`).
pub(super) fn path(line: &str) -> Option<String> {
    let (before, behind) = line.split_at(line.to_ascii_lowercase().find(READ_ONLY)?);
    paths(before).last().or_else(|| paths(behind).next())
}

/// Returns the absolute paths of a text, without what stands around them.
fn paths(text: &str) -> impl Iterator<Item = String> {
    let around = |c: char| c.is_whitespace() || "'\"`()[]{}<>,;=‘’“”".contains(c);
    let path = |word: &str| {
        let word = word.trim_end_matches([':', '.']);
        (word.starts_with('/') && word.len() > 1).then(|| word.to_owned())
    };
    text.split(around).filter_map(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_were_refused_are_found_in_what_programs_say() {
        for (line, expected) in [
            ("sh: 1: cannot create /opt/app/log: Read-only file system", "/opt/app/log"),
            ("/bin/sh: 1: cannot create /opt/x: Read-only file system", "/opt/x"),
            ("touch: cannot touch '/srv/a.pid': Read-only file system", "/srv/a.pid"),
            ("mkdir: cannot create directory ‘/opt/x’: Read-only file system", "/opt/x"),
            ("nginx: [emerg] mkdir() \"/usr/x\" failed (30: Read-only file system)", "/usr/x"),
            ("OSError: [Errno 30] Read-only file system: '/opt/cache'", "/opt/cache"),
            ("open /data/db.lock: read-only file system", "/data/db.lock"),
            (
                "x.service: Failed to set up mount namespacing: /srv/state: Read-only file system",
                "/srv/state",
            ),
        ] {
            assert_eq!(path(line).as_deref(), Some(expected), "{line}");
        }
        for line in ["", "cannot create /opt/x: No space left on device", "Read-only file system"] {
            assert_eq!(path(line), None, "{line}");
        }
    }
}
