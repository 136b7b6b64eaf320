//! What a systemd unit file's `[Install]` section says.

/// The `[Install]` section.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Install {
    pub(super) wanted_by: Vec<String>,
    pub(super) required_by: Vec<String>,
    pub(super) upheld_by: Vec<String>,
    pub(super) alias: Vec<String>,
    pub(super) also: Vec<String>,
    pub(super) default_instance: Option<String>,
}

impl Install {
    /// Whether enabling the unit would do nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.wanted_by.is_empty()
            && self.required_by.is_empty()
            && self.upheld_by.is_empty()
            && self.alias.is_empty()
            && self.also.is_empty()
    }
}

/// Reads the section out of a unit file's text.
pub(super) fn install(text: &str) -> Install {
    let mut install = Install::default();
    let mut inside = false;
    let mut joined = String::new();
    for line in text.lines() {
        let line = line.trim_end();
        let start = line.trim_start();
        // A comment inside a continued line is skipped, and the line goes on after it.
        if start.starts_with(['#', ';']) {
            continue;
        }
        if let Some(part) = line.strip_suffix('\\') {
            joined.push_str(part);
            joined.push(' ');
            continue;
        }
        joined.push_str(line);
        let whole = std::mem::take(&mut joined);
        let whole = whole.trim();
        if whole.starts_with('[') {
            inside = whole == "[Install]";
        } else if let Some((key, value)) = whole.split_once('=').filter(|_| inside) {
            let list = match key.trim() {
                "WantedBy" => &mut install.wanted_by,
                "RequiredBy" => &mut install.required_by,
                "UpheldBy" => &mut install.upheld_by,
                "Alias" => &mut install.alias,
                "Also" => &mut install.also,
                "DefaultInstance" => {
                    install.default_instance =
                        Some(value.trim().to_owned()).filter(|v| !v.is_empty());
                    continue;
                }
                _ => continue,
            };
            // An empty value resets the list before it.
            if value.trim().is_empty() {
                list.clear();
            }
            list.extend(value.split_whitespace().map(|word| word.trim_matches('"').to_owned()));
        }
    }
    install
}

/// A unit's name in its parts: `getty@tty1.service`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// `getty`
    pub(super) prefix: String,
    /// `Some("tty1")`; `Some("")` for the template itself; `None` for a plain unit.
    pub(super) instance: Option<String>,
    /// `service`
    pub(super) kind: String,
}

const KINDS: [&str; 11] = [
    "service",
    "socket",
    "timer",
    "path",
    "target",
    "mount",
    "automount",
    "swap",
    "slice",
    "scope",
    "device",
];

impl Name {
    /// Reads a unit name; without a kind it is a service. `None` if it cannot be one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (stem, kind) = match text.rsplit_once('.') {
            Some((stem, kind)) if KINDS.contains(&kind) => (stem, kind),
            _ => (text, "service"),
        };
        let good = |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric() || b":_.\\-".contains(&b));
        let (prefix, instance) = match stem.split_once('@') {
            Some((prefix, instance)) => (prefix, Some(instance)),
            None => (stem, None),
        };
        let valid = !prefix.is_empty() && !prefix.starts_with('.') && good(prefix);
        let valid = valid
            && instance
                .is_none_or(|i| i.bytes().all(|b| b == b'@' || good(&(b as char).to_string())))
            && text.len() <= 255;
        valid.then(|| Self {
            prefix: prefix.into(),
            instance: instance.map(Into::into),
            kind: kind.into(),
        })
    }

    /// The whole name.
    pub(super) fn full(&self) -> String {
        match &self.instance {
            Some(instance) => format!("{}@{instance}.{}", self.prefix, self.kind),
            None => format!("{}.{}", self.prefix, self.kind),
        }
    }

    /// The name of the file of which this is an instance.
    pub(super) fn template(&self) -> Option<String> {
        self.instance.as_ref().map(|_| format!("{}@.{}", self.prefix, self.kind))
    }

    /// Whether this is a template without an instance.
    pub(super) fn is_template(&self) -> bool {
        self.instance.as_deref() == Some("")
    }

    /// `text` with its `%` specifiers replaced; `None` if there is one that an installed unit
    /// cannot have.
    pub(super) fn expand(&self, text: &str) -> Option<String> {
        let mut out = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let full = self.full();
            match chars.next()? {
                'i' | 'I' => out.push_str(self.instance.as_deref().unwrap_or("")),
                'j' | 'J' => out.push_str(self.prefix.rsplit('-').next().unwrap_or("")),
                'p' | 'P' => out.push_str(&self.prefix),
                'n' => out.push_str(&full),
                'N' => out.push_str(full.rsplit_once('.').map_or(full.as_str(), |(stem, _)| stem)),
                '%' => out.push('%'),
                _ => return None,
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn only_the_install_section_counts() {
        let text = "[Unit]\nAlso=no.service\n[Service]\nExecStart=/bin/x \\\n  [Install]\n# \
            c\n[Install]\nWantedBy=multi-user.target \\\n; in between\n \
            graphical.target\nAlias=\nAlias=a.service \
            b.service\nDefaultInstance=tty1\nWhat=else\n[X-More]\nWantedBy=no.target\n";
        let expected = Install {
            wanted_by: words(&["multi-user.target", "graphical.target"]),
            alias: words(&["a.service", "b.service"]),
            default_instance: Some("tty1".into()),
            ..Install::default()
        };
        assert_eq!(install(text), expected);
        assert!(!install(text).is_empty());
        assert!(install("[Install]\nWantedBy=x.target\nWantedBy=\n").is_empty());
    }

    #[test]
    fn names_have_a_kind_and_maybe_an_instance() {
        let full = |text: &str| Name::parse(text).map(|n| n.full());
        assert_eq!(full("nginx").as_deref(), Some("nginx.service"));
        assert_eq!(full("systemd-networkd.socket").as_deref(), Some("systemd-networkd.socket"));
        assert_eq!(full("org.example").as_deref(), Some("org.example.service"));
        assert_eq!(full("getty@tty1").as_deref(), Some("getty@tty1.service"));
        assert_eq!(
            Name::parse("getty@tty1").and_then(|n| n.template()).as_deref(),
            Some("getty@.service")
        );
        for bad in ["", ".service", "a/b", "../x", "a b", "@x", "a\nb", "x@a/b"] {
            assert_eq!(full(bad), None, "{bad}");
        }
    }

    #[test]
    fn specifiers_are_replaced() {
        let name = Name::parse("my-app@one.service").unwrap();
        let expand = |text: &str| name.expand(text);
        assert_eq!(expand("dev-%i.device").as_deref(), Some("dev-one.device"));
        assert_eq!(
            expand("%p-%j-%n-%N-%%").as_deref(),
            Some("my-app-app-my-app@one.service-my-app@one-%")
        );
        assert_eq!(expand("%H.target"), None);
        assert_eq!(expand("x%"), None);
    }
}
