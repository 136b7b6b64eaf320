//! How an image is started: `CMD`, `ENTRYPOINT`, `EXPOSE` and the like, as `[config]`.

use std::fmt::Write;

use super::document::{Document, Value};
use super::fault::Fault;
use super::instruction::{Form, Instruction};
use super::stage::{Stage, flag, known_flags};
use super::state::{Origin, State, docker_shell};
use super::text::{Text, escaped};

impl Stage<'_, '_> {
    /// Returns the words that a command is started with.
    fn words(&self, form: &Form) -> Vec<String> {
        match form {
            Form::Exec(words) => words.iter().map(|word| escaped(word)).collect(),
            Form::Shell(text) => {
                let mut words = self.state.shell.clone().unwrap_or_else(docker_shell);
                words.push(escaped(text));
                words
            }
        }
    }

    pub(super) fn cmd(&mut self, form: &Form) {
        self.state.config.cmd = Some(self.words(form));
        self.state.config.own_cmd = true;
    }

    /// An entrypoint makes an end of the command that was there before the stage.
    pub(super) fn entrypoint(&mut self, form: &Form) {
        self.state.config.entrypoint = Some(self.words(form));
        if !self.state.config.own_cmd {
            self.state.config.cmd = None;
        }
    }

    pub(super) fn labels(&mut self, line: u32, pairs: &[(String, String)]) -> Result<(), Fault> {
        for (name, value) in pairs {
            let (name, value) = (self.fixed(line, name, "the name")?, self.fill(line, value)?);
            self.label(&name, value);
        }
        Ok(())
    }

    pub(super) fn label(&mut self, name: &str, value: Text) {
        let labels = &mut self.state.config.labels;
        labels.retain(|(one, _)| one != name);
        labels.push((name.to_owned(), value));
    }

    pub(super) fn ports(&mut self, line: u32, words: &[String]) -> Result<(), Fault> {
        for word in words {
            let port = self.fill(line, word)?;
            match port.is_plain() {
                // A variable may stand for several.
                true => {
                    let value = port.value();
                    let each = value.split_whitespace().map(Text::plain);
                    self.state.config.ports.extend(each);
                }
                false => self.state.config.ports.push(port),
            }
        }
        Ok(())
    }

    pub(super) fn volumes(&mut self, line: u32, words: &[String]) -> Result<(), Fault> {
        for word in words {
            let path = self.fill(line, word)?;
            let path = self.state.absolute(&path);
            self.state.config.volumes.push(path);
        }
        Ok(())
    }

    pub(super) fn stop_signal(&mut self, line: u32, word: &str) -> Result<(), Fault> {
        let signal = self.fill(line, word)?;
        let value = signal.value();
        let bare = signal.is_plain() && !value.starts_with(|c: char| c.is_ascii_digit());
        self.state.config.stop_signal = Some(match bare {
            true => {
                let upper = value.to_ascii_uppercase();
                Text::plain(format!("SIG{}", upper.trim_start_matches("SIG")))
            }
            false => signal,
        });
        Ok(())
    }

    pub(super) fn healthcheck(
        &mut self,
        one: &Instruction,
        form: Option<&Form>,
    ) -> Result<(), Fault> {
        let known = ["interval", "timeout", "start-period", "start-interval", "retries"];
        known_flags(one, &known)?;
        let Some(form) = form else {
            self.state.config.healthcheck = None;
            if let Origin::Image { name, .. } = &self.state.origin {
                let message = format!(
                    "`HEALTHCHECK NONE` is left out: where {name} has a check, the image has it too"
                );
                self.remark(one.line, "healthcheck", message);
            }
            return Ok(());
        };
        let cmd = match (form, &self.state.shell) {
            (Form::Shell(text), None) => Value::Text(escaped(text)),
            _ => Value::List(self.words(form)),
        };
        let mut keys = vec![("cmd", cmd)];
        for (name, key) in
            [("interval", "interval"), ("timeout", "timeout"), ("start-period", "start_period")]
        {
            let Some(text) = flag(one, name) else { continue };
            match milliseconds(text) {
                Some(0) => {}
                Some(time) => keys.push((key, Value::Text(written(time)))),
                None => return Err(Fault::new(one.line, format!("`{text}` is not a duration"))),
            }
        }
        if flag(one, "start-interval").is_some() {
            let message = "`--start-interval` is left out: a recipe has no key for it";
            self.remark(one.line, "healthcheck", message);
        }
        if let Some(text) = flag(one, "retries") {
            match text.parse() {
                Ok(0) => {}
                Ok(number) => keys.push(("retries", Value::Number(number))),
                Err(_) => return Err(Fault::new(one.line, format!("`{text}` is not a number"))),
            }
        }
        self.state.config.healthcheck = Some(Value::Table(keys));
        Ok(())
    }
}

/// Fills in how the image is started.
pub(super) fn describe(document: &mut Document, state: &State) {
    let config = &state.config;
    let texts = |all: &[Text]| all.iter().map(Text::written).collect::<Vec<_>>();
    let mut keys = vec![];
    keys.extend(config.entrypoint.clone().map(|words| ("entrypoint", Value::List(words))));
    keys.extend(config.cmd.clone().map(|words| ("cmd", Value::List(words))));
    keys.extend(state.user.as_ref().map(|user| ("user", Value::Text(user.written()))));
    let inherited = !config.workdir || state.origin == Origin::Made && state.workdir.value() == "/";
    if !inherited {
        keys.push(("workdir", Value::Text(state.workdir.written())));
    }
    if !config.ports.is_empty() {
        keys.push(("ports", Value::Ports(texts(&config.ports))));
    }
    if !config.volumes.is_empty() {
        keys.push(("volumes", Value::List(texts(&config.volumes))));
    }
    let signal = config.stop_signal.as_ref();
    keys.extend(signal.map(|signal| ("stop_signal", Value::Text(signal.written()))));
    keys.extend(config.healthcheck.clone().map(|check| ("healthcheck", check)));
    document.config = keys;
    document.config_comments.clone_from(&config.comments);
    let map = |all: &[(String, Text)]| {
        all.iter().map(|(name, value)| (name.clone(), value.written())).collect::<Vec<_>>()
    };
    document.config_maps = vec![("env", map(&state.env)), ("labels", map(&config.labels))];
}

/// Reads a duration as Go writes it (`1m30s`, `1.5h`, `500ms`), to milliseconds.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut total) = (text, 0.0_f64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "h" => 3_600_000.0,
                "m" => 60_000.0,
                "s" => 1000.0,
                "ms" => 1.0,
                "us" | "µs" | "ns" => 0.0,
                _ => return None,
            };
        rest = &rest[end..];
    }
    let fits = !text.is_empty() && total.is_finite() && total < 1e12;
    fits.then_some(total as u64)
}

/// Writes a duration as recipes have it.
pub(super) fn written(mut milliseconds: u64) -> String {
    let mut out = String::new();
    for (unit, length) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        let count = milliseconds / length;
        milliseconds %= length;
        if count > 0 {
            let _ = write!(out, "{count}{unit}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, expected) in [
            ("30s", "30s"),
            ("1m30s", "1m30s"),
            ("90s", "1m30s"),
            ("1.5s", "1s500ms"),
            ("2h", "2h"),
        ] {
            assert_eq!(milliseconds(text).map(written).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(milliseconds("0s"), Some(0));
        for text in ["", "30", "s", "1x", "1.2.3s", "99999999999999999999h", "-1s"] {
            assert_eq!(milliseconds(text), None, "{text}");
        }
    }
}
