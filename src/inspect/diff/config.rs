//! How two images run: setting by setting.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::image::{Config, ImageConfig};

/// A setting of running the image that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Which: `cmd`, `env PATH`, `label org.example.tier`.
    pub name: String,
    /// Before; `None` where it was not set.
    pub before: Option<String>,
    /// After.
    pub after: Option<String>,
}

/// Returns what differs, in the order in which `bake show` prints it.
pub(super) fn compare(before: &ImageConfig, after: &ImageConfig) -> Vec<Setting> {
    let (old, new) = (settings(before), settings(after));
    let mut names: Vec<&(usize, String)> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    let setting = |key: &(usize, String)| Setting {
        name: key.1.clone(),
        before: old.get(key).cloned(),
        after: new.get(key).cloned(),
    };
    names.into_iter().map(setting).filter(|setting| setting.before != setting.after).collect()
}

/// By place in the order, and name.
fn settings(image: &ImageConfig) -> BTreeMap<(usize, String), String> {
    let Config {
        user,
        exposed_ports,
        env,
        entrypoint,
        cmd,
        volumes,
        working_dir,
        labels,
        stop_signal,
        healthcheck,
        extra,
    } = &image.config;
    let list =
        |words: &mut dyn Iterator<Item = &String>| words.cloned().collect::<Vec<_>>().join(" ");
    let quoted =
        |words: &[String]| if words.is_empty() { String::new() } else { format!("{words:?}") };
    let mut found = BTreeMap::new();
    let mut say = |place: usize, name: &str, value: String| {
        if !value.is_empty() {
            found.insert((place, name.to_owned()), value);
        }
    };
    say(0, "platform", image.platform().to_string());
    say(1, "entrypoint", quoted(entrypoint));
    say(2, "cmd", quoted(cmd));
    say(3, "user", user.clone());
    say(4, "workdir", working_dir.clone());
    say(5, "ports", list(&mut exposed_ports.iter()));
    say(6, "volumes", list(&mut volumes.iter()));
    say(7, "stop signal", stop_signal.clone());
    say(
        8,
        "healthcheck",
        healthcheck.as_ref().map(|check| serde_json::json!(check).to_string()).unwrap_or_default(),
    );
    for entry in env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        // A variable that is empty is not one that is missing.
        say(9, &format!("env {name}"), format!("{value:?}"));
    }
    for (name, value) in labels {
        say(10, &format!("label {name}"), format!("{value:?}"));
    }
    for (name, value) in extra {
        say(11, name, value.to_string());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Platform;

    #[test]
    fn settings_are_named_one_by_one() {
        let mut old = ImageConfig::new(0, &Platform::linux("amd64"));
        old.config.cmd = vec!["nginx".to_owned(), "a b".to_owned()];
        old.config.env = vec!["A=1".to_owned(), "B=".to_owned()];
        old.config.labels.insert("x".to_owned(), "1".to_owned());
        let mut new = old.clone();
        assert_eq!(compare(&old, &new), []);
        new.created = Some("2030-01-01T00:00:00Z".to_owned());
        new.config.cmd.pop();
        new.config.env = vec!["B=2".to_owned(), "A=1".to_owned()];
        new.config.labels.clear();
        new.config.exposed_ports.insert("80/tcp".to_owned());
        new.architecture = "arm64".to_owned();
        let lines: Vec<String> = compare(&old, &new)
            .into_iter()
            .map(|one| format!("{}: {:?} {:?}", one.name, one.before, one.after))
            .collect();
        assert_eq!(
            lines,
            [
                r#"platform: Some("linux/amd64") Some("linux/arm64")"#,
                r#"cmd: Some("[\"nginx\", \"a b\"]") Some("[\"nginx\"]")"#,
                r#"ports: None Some("80/tcp")"#,
                r#"env B: Some("\"\"") Some("\"2\"")"#,
                r#"label x: Some("\"1\"") None"#,
            ]
        );
    }
}
