//! The recipe as text: TOML, which `recipe::format` brings into bake's own form.

use std::fmt::Write;

use super::document::{Document, Options, Root, Step, Value};

/// Returns the recipe as TOML.
pub(super) fn toml(document: &Document) -> String {
    let mut out = String::new();
    comments(&mut out, &document.comments);
    out.push('\n');
    table(&mut out, "[image]", &document.image);
    if !document.variables.is_empty() {
        out.push_str("\n[vars]\n");
        for one in &document.variables {
            comments(&mut out, &one.comments);
            match &one.value {
                Some(value) => line(&mut out, &one.name, &Value::text(value.as_str())),
                None => line(&mut out, &one.name, &Value::Table(vec![])),
            }
        }
    }
    for root in &document.roots {
        self::root(&mut out, root);
    }
    config(&mut out, document);
    for (header, keys) in &document.tables {
        out.push('\n');
        table(&mut out, header, keys);
    }
    out
}

fn root(out: &mut String, root: &Root) {
    let prefix = root.name.as_ref().map(|name| format!("stage.{name}.")).unwrap_or_default();
    out.push('\n');
    comments(out, &root.comments);
    table(out, &format!("[{prefix}base]"), &root.base);
    if root.defaults != Options::default() {
        let _ = writeln!(out, "\n[{prefix}defaults]");
        options(out, &root.defaults);
    }
    for step in &root.steps {
        out.push('\n');
        self::step(out, step, &format!("[[{prefix}step]]"));
    }
}

fn step(out: &mut String, step: &Step, header: &str) {
    comments(out, &step.comments);
    table(out, header, &step.keys);
    if let Some(own) = &step.options {
        options(out, own);
    }
}

fn options(out: &mut String, options: &Options) {
    let texts = [("as", &options.run_as), ("workdir", &options.workdir)];
    for (key, text) in texts {
        if let Some(text) = text {
            line(out, key, &Value::text(text.as_str()));
        }
    }
    if let Some(words) = &options.shell {
        line(out, "shell", &Value::List(words.clone()));
    }
    for (name, value) in &options.env {
        line(out, &format!("env.{name}"), &Value::text(value.as_str()));
    }
    for (place, source) in &options.mounts {
        line(out, &format!("mount.{}", quoted(place)), source);
    }
    if !options.caches.is_empty() {
        line(out, "cache", &Value::Several(options.caches.values().cloned().collect()));
    }
    if !options.secrets.is_empty() {
        line(out, "secrets", &Value::List(options.secrets.iter().cloned().collect()));
    }
    for (variable, name) in &options.secret_env {
        line(out, &format!("secret_env.{variable}"), &Value::text(name.as_str()));
    }
    if options.ssh {
        line(out, "ssh", &Value::Yes);
    }
    if options.network {
        line(out, "network", &Value::Yes);
    }
}

fn config(out: &mut String, document: &Document) {
    let maps = &document.config_maps;
    let nothing = document.config.is_empty() && maps.iter().all(|(_, map)| map.is_empty());
    if nothing && document.config_comments.is_empty() {
        return;
    }
    out.push('\n');
    comments(out, &document.config_comments);
    table(out, "[config]", &document.config);
    for (name, map) in maps {
        for (key, value) in map {
            let bare = key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
            let key = if bare { key.clone() } else { quoted(key) };
            line(out, &format!("{name}.{key}"), &Value::text(value.as_str()));
        }
    }
}

fn table(out: &mut String, header: &str, keys: &[(&'static str, Value)]) {
    let _ = writeln!(out, "{header}");
    for (key, value) in keys {
        line(out, key, value);
    }
}

fn line(out: &mut String, key: &str, value: &Value) {
    let _ = writeln!(out, "{key} = {}", written(value));
}

fn comments(out: &mut String, lines: &[String]) {
    for line in lines.iter().flat_map(|text| text.lines()) {
        // TOML has no control characters in comments.
        let line: String = line.chars().filter(|c| !c.is_control()).collect();
        let _ = writeln!(out, "{}", format!("# {line}").trim_end());
    }
}

fn written(value: &Value) -> String {
    match value {
        Value::Text(text) => quoted(text),
        Value::List(words) => {
            format!("[{}]", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", "))
        }
        Value::Several(values) => {
            format!("[{}]", values.iter().map(written).collect::<Vec<_>>().join(", "))
        }
        Value::Ports(ports) => {
            let number = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
            // A leading zero is none of a number.
            let bare = |port: &str| !port.is_empty() && number(port) && !port.starts_with('0');
            let one = |port: &String| if bare(port) { port.clone() } else { quoted(port) };
            format!("[{}]", ports.iter().map(one).collect::<Vec<_>>().join(", "))
        }
        Value::Yes => "true".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Table(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Table(entries) => {
            let one = |(key, value): &(&str, Value)| format!("{key} = {}", written(value));
            format!("{{ {} }}", entries.iter().map(one).collect::<Vec<_>>().join(", "))
        }
    }
}

/// Returns a text as a TOML string, as legible as it can be.
fn quoted(text: &str) -> String {
    let control = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(control) {
        if text.contains('\n') && !text.contains("'''") {
            return format!("'''\n{text}'''");
        }
        if !text.contains(['\n', '\t', '\'']) && text.contains(['"', '\\']) {
            return format!("'{text}'");
        }
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_comes_back() {
        for text in [
            "",
            "plain",
            "it's",
            "a \"b\" \\c",
            "a\nb \"c\" \\\n",
            "a'''\nb",
            "\u{1}\u{7f}\r\n",
            "\t'",
            "ends'\nwith'",
            "é\u{85}",
        ] {
            let table: toml::Table = format!("x = {}\n", quoted(text)).parse().expect("TOML");
            assert_eq!(table["x"].as_str(), Some(text), "{text:?}");
        }
    }
}
