//! How Packer runs a script: what stands in `execute_command`, and `sudo` in commands.

/// How a script is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manner {
    /// The interpreter with its options, where the script's own first line does not count.
    pub(super) shell: Option<Vec<String>>,
    pub(super) user: Option<String>,
}

/// Reads what runs a script: interpreters, `sudo` and `su` before its path.
pub(super) fn manner(text: &str) -> Option<Manner> {
    let text = text.replace("{{ .Path }}", "{{.Path}}").replace("{{ .Vars }}", "{{.Vars}}");
    let text = text.replace("chmod +x {{.Path}};", "").replace("chmod +x {{.Path}} &&", "");
    // A password on the way in is nothing that a step needs.
    let text = match text.split_once('|') {
        Some((before, rest)) if before.trim_start().starts_with("echo ") => rest.to_owned(),
        Some(_) => return None,
        None => text,
    };
    let quotes = |c: char| c == '\'' || c == '"';
    let mut words =
        text.split_whitespace().map(|word| word.trim_matches(quotes)).filter(|w| !w.is_empty());
    let mut found = Manner { shell: None, user: None };
    let mut shell: Option<Vec<String>> = None;
    while let Some(word) = words.next() {
        let name = word.rsplit('/').next().unwrap_or(word);
        match name {
            "{{.Path}}" => {
                found.shell = shell;
                return words.next().is_none().then_some(found);
            }
            "{{.Vars}}" | "env" | "exec" => {}
            _ if crate::convert::shell::is_assignment(word) => {}
            "sudo" | "doas" => {}
            // Options of sudo, or of the interpreter.
            "-u" if shell.is_none() => {
                found.user = Some(words.next()?.to_owned()).filter(|u| u != "root")
            }
            _ if word.starts_with('-') => {
                if let Some(all) = &mut shell {
                    all.push(word.to_owned());
                }
            }
            "sh" | "bash" | "dash" | "ash" => {
                let path =
                    if word.contains('/') { word.to_owned() } else { format!("/bin/{word}") };
                shell = Some(vec![path]);
            }
            _ => return None,
        }
    }
    None
}

/// Returns commands without `sudo` in front of them: a step's are root's.
pub(super) fn without_sudo(text: &str) -> String {
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let mut rest = line;
        // Where a command begins: at the start of a line, and behind what separates two.
        let mut begins = true;
        while !rest.is_empty() {
            let blank = rest.len() - rest.trim_start_matches([' ', '\t']).len();
            out.push_str(&rest[..blank]);
            rest = &rest[blank..];
            if begins && let Some(mut after) = rest.strip_prefix("sudo ") {
                loop {
                    after = after.trim_start();
                    let word = after.split(' ').next().unwrap_or("");
                    // Options without an argument, and those whose meaning a step has anyway.
                    if ["-E", "-H", "-n", "-S", "-i", "--", "-EH", "-HE"].contains(&word) {
                        after = &after[word.len()..];
                    } else {
                        break;
                    }
                }
                if !after.starts_with('-') {
                    rest = after;
                }
            }
            let end = rest.find([';', '&', '|', '(', ' ']).map_or(rest.len(), |at| at + 1);
            let piece = &rest[..end];
            begins = piece.ends_with([';', '&', '|', '('])
                || ["then ", "do ", "else ", "! "].contains(&piece);
            out.push_str(piece);
            rest = &rest[end..];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_run_a_script_are_seen() {
        for (text, shell, user) in [
            ("chmod +x {{ .Path }}; {{ .Vars }} {{ .Path }}", None, None),
            ("sudo -E bash '{{ .Path }}'", Some("/bin/bash"), None),
            (
                "echo 'vagrant' | {{.Vars}} sudo -S -E sh -eux '{{.Path}}'",
                Some("/bin/sh -eux"),
                None,
            ),
            ("{{.Vars}} sudo -u app {{.Path}}", None, Some("app")),
            ("sudo env {{ .Vars }} {{ .Path }}", None, None),
        ] {
            let found = manner(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(found.shell.map(|all| all.join(" ")).as_deref(), shell, "{text}");
            assert_eq!(found.user.as_deref(), user, "{text}");
        }
        for text in ["powershell {{.Path}}", "{{.Path}} | tee log", "su - app -c '{{.Path}}'", ""] {
            assert_eq!(manner(text), None, "{text}");
        }
    }

    #[test]
    fn sudo_is_taken_off_where_a_command_begins() {
        for (text, expected) in [
            ("sudo apt-get update", "apt-get update"),
            ("a && sudo -E b\n  sudo c", "a && b\n  c"),
            ("echo sudo x", "echo sudo x"),
            ("sudo -u app x", "sudo -u app x"),
            ("echo a | sudo tee /b", "echo a | tee /b"),
            ("if sudo true; then sudo b; fi", "if sudo true; then b; fi"),
        ] {
            assert_eq!(without_sudo(text), expected, "{text}");
        }
    }
}
