//! Control stanzas (deb822(5)): fields with their continuation lines.

/// Returns a field's value with its continuation lines, without surrounding white space.
pub fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    let mut at = 0;
    for line in stanza.split_inclusive('\n') {
        let matches = line.len() > name.len()
            && line.as_bytes()[name.len()] == b':'
            && line.as_bytes()[..name.len()].eq_ignore_ascii_case(name.as_bytes());
        if matches {
            let start = at + name.len() + 1;
            let mut end = at + line.len();
            for more in stanza[end..].split_inclusive('\n') {
                if !more.starts_with([' ', '\t']) {
                    break;
                }
                end += more.len();
            }
            return Some(stanza[start..end].trim());
        }
        at += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_continuation_lines_and_no_case() {
        let text = "Package: a\nVersion: 1\nDescription: x\n y\nDepends: b,\n c\n\nPackage: b\n";
        assert_eq!(field(text, "depends"), Some("b,\n c"));
        assert_eq!(field(text, "Description"), Some("x\n y"));
        assert_eq!(field(text, "Dep"), None);
    }
}
