//! `RUN`: as a `run` step, or as a `packages` step where it does no more than that.

use super::apt::{Install, changes_sources, install};
use super::document::{Options, Step, Value};
use super::fault::Fault;
use super::instruction::{Form, Instruction, Run};
use super::shell::{joined, needs_network, temporary};
use super::stage::{Stage, flag, known_flags};
use super::state::{Directory, Temporary};
use super::text::escaped;

/// Programs that run a script which is given as an argument, and the option for it.
pub(super) const INTERPRETERS: [(&str, &str); 9] = [
    ("sh", "-c"),
    ("bash", "-c"),
    ("dash", "-c"),
    ("ash", "-c"),
    ("python3", "-c"),
    ("python", "-c"),
    ("perl", "-e"),
    ("ruby", "-e"),
    ("node", "-e"),
];

impl Stage<'_, '_> {
    pub(super) fn run(&mut self, one: &Instruction, run: &Run) -> Result<(), Fault> {
        known_flags(one, &["mount", "network", "security", "device"])?;
        let mut options = self.state.options();
        let only_caches_of_apt = self.mounts(one, &mut options)?;
        let script = match &run.form {
            Form::Exec(words) => {
                // Nobody reads what the shell would be.
                options.shell = None;
                let argv = Value::List(words.iter().map(|word| escaped(word)).collect());
                return self.command(one, argv, &words.join(" "), options);
            }
            Form::Shell(text) if one.heredocs.is_empty() => {
                let text = if run.pieces.is_empty() { text.clone() } else { joined(&run.pieces) };
                Some((text.clone(), text))
            }
            Form::Shell(text) => self.script(one, text, &run.tail, &mut options),
        };
        let Some((text, seen)) = script else { return Ok(()) };
        let apt = only_caches_of_apt && self.state.plain_apt && self.state.is_root();
        let (text, seen) = match install(&text).filter(|_| apt) {
            Some(found) => match self.packages(found) {
                Some(rest) => (rest.clone(), rest),
                None => return Ok(()),
            },
            None => (text, seen),
        };
        self.command(one, Value::Text(escaped(&text)), &seen, options)
    }

    /// Adds a `packages` step, and returns what is left to do.
    pub(super) fn packages(&mut self, found: Install) -> Option<String> {
        let mut keys = vec![("packages", Value::List(found.packages))];
        if found.recommends {
            keys.push(("recommends", Value::Yes));
        }
        self.add(Step::new(keys));
        found.rest
    }

    /// Returns the script of a command with here-documents, and what of it are commands; `None`
    /// where nothing runs it.
    fn script(
        &mut self,
        one: &Instruction,
        text: &str,
        tail: &str,
        options: &mut Options,
    ) -> Option<(String, String)> {
        let alone = one.heredocs.len() == 1 && text.split_whitespace().count() == 1;
        let content = &one.heredocs[0].content;
        if !alone {
            let whole = format!("{}\n{}", text.trim_end(), tail.trim_end_matches('\n'));
            return Some((whole, text.to_owned()));
        }
        let Some(first) = content.lines().next().and_then(|line| line.strip_prefix("#!")) else {
            return Some((content.clone(), content.clone()));
        };
        let mut words: Vec<String> = first.split_whitespace().map(str::to_owned).collect();
        let mut program = words.iter().map(|word| word.rsplit('/').next().unwrap_or(word));
        let program = program.find(|name| *name != "env" && !name.starts_with('-'));
        match INTERPRETERS.iter().find(|(name, _)| Some(*name) == program) {
            Some((_, option)) => {
                words.push((*option).to_owned());
                options.shell = Some(words);
                Some((content.clone(), content.clone()))
            }
            None => {
                let message = format!(
                    "a script for `{}` is left out: put it into a file of the context, as a \
                        `script` step",
                    first.trim()
                );
                self.remark(one.line, "interpreter", message);
                None
            }
        }
    }

    /// Adds a `run` step; `text`: what can be seen of the command.
    pub(super) fn command(
        &mut self,
        one: &Instruction,
        run: Value,
        text: &str,
        mut options: Options,
    ) -> Result<(), Fault> {
        let as_root = options.run_as.is_none();
        let makes = |one: &Directory| Some(one.path.written()) == options.workdir;
        if as_root && self.directory.as_ref().is_some_and(makes) {
            // A working directory is made where it is missing.
            self.directory = None;
        }
        if !as_root {
            self.make_directory();
        }
        self.limits(one, text, &mut options);
        let run = self.with_temporary(one.line, run, text, &mut options);
        if changes_sources(text) {
            self.state.plain_apt = false;
        }
        self.add(Step { options: Some(options), ..Step::new(vec![("run", run)]) });
        Ok(())
    }

    /// What a command may do: the network, and more than others.
    fn limits(&mut self, one: &Instruction, text: &str, options: &mut Options) {
        options.network = match flag(one, "network") {
            Some("none") => false,
            Some("host") => {
                let message = "`--network=host` becomes `network = true`, which reaches no service \
                    of this host: `network = \"host\"` does";
                self.note(one.line, "network", message);
                true
            }
            _ => needs_network(text),
        };
        if flag(one, "security").is_some_and(|level| level != "sandbox") {
            let message =
                "`--security=insecure` is left out: a step has no more rights than others";
            self.remark(one.line, "security", message);
        }
        if flag(one, "device").is_some() {
            self.remark(one.line, "device", "`--device` is left out: a step sees no devices");
        }
    }

    /// Brings what a `COPY` put below `/tmp` to the command that uses it: there nothing stays from
    /// one step to the next.
    fn with_temporary(
        &mut self,
        line: u32,
        run: Value,
        text: &str,
        options: &mut Options,
    ) -> Value {
        let names = temporary(text);
        for name in &names {
            if let Some(before) = self.state.left.remove(name) {
                let message = format!(
                    "`/tmp/{name}` of line {before} is gone: /tmp is empty for each step; join the \
                        two commands, or use another directory"
                );
                self.remark(line, "tmp", message);
            }
        }
        if !(text.contains("rm ") && text.contains("/tmp")) {
            self.state.left.extend(names.into_iter().map(|name| (name, line)));
        }
        if !self.state.temporary.iter().any(|one| names_temporary(text, &one.to)) {
            return run;
        }
        let Value::Text(command) = run else {
            let message = "files that a `COPY` puts below /tmp are not there for this command: \
                copy them elsewhere";
            self.remark(line, "tmp", message);
            return run;
        };
        let mut before = String::new();
        let used = |one: &&Temporary| names_temporary(text, &one.to);
        for (n, one) in self.state.temporary.iter().enumerate().filter(|(_, one)| used(one)) {
            let at = format!("/mnt/{}-{}-{n}", self.shared.kind, one.line);
            let to = one.to.as_str();
            before += &match one.directory {
                true => format!("mkdir -p {to} && cp -R {at}/. {to} || exit\n"),
                false => match to.rsplit_once('/') {
                    Some((above, _)) if above != "/tmp" => {
                        format!("mkdir -p {above} && cp {at} {to} || exit\n")
                    }
                    _ => format!("cp {at} {to} || exit\n"),
                },
            };
            options.mounts.insert(at, one.source.clone());
        }
        Value::Text(before + &command)
    }
}

/// Whether a command names something below `/tmp`, or all that is there.
fn names_temporary(text: &str, path: &str) -> bool {
    let below = path.trim_start_matches("/tmp").trim_matches('/');
    let first = below.split('/').next().unwrap_or_default();
    let named = |rest: &str| match rest.strip_prefix('/') {
        Some(rest) if rest.starts_with(|c: char| c.is_alphanumeric() || "_.-".contains(c)) => {
            rest.starts_with(first)
        }
        _ => true,
    };
    text.match_indices("/tmp").any(|(at, found)| named(&text[at + found.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_are_named_are_brought() {
        let to = "/tmp/setup/a.sh";
        for text in
            ["sh /tmp/setup/a.sh", "cd /tmp/setup && sh a.sh", "cd /tmp; x", "ls /tmp/*", "x /tmp"]
        {
            assert!(names_temporary(text, to), "{text}");
        }
        for text in ["cat /tmp/log", "x"] {
            assert!(!names_temporary(text, to), "{text}");
        }
    }
}
