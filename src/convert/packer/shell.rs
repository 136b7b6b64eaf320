//! `shell` provisioners as `run`, `script` and `packages` steps.

use super::lower::Lower;
use super::manner::{Manner, manner, without_sudo};
use super::node::{Block, Kind, Node};
use super::template::raw;
use super::value::Why;
use crate::convert::apt::{changes_sources, install};
use crate::convert::config::{milliseconds, written};
use crate::convert::document::{Options, Step, Value};
use crate::convert::instruction::{self, Form, Instruction, Run};
use crate::convert::run::INTERPRETERS;
use crate::convert::text::{Text, escaped};

/// What a step waits for: nothing.
const WAITS: &[&str] = &["pause_before", "pause_after", "expect_disconnect", "start_retry_timeout"];

impl Lower<'_, '_> {
    /// Converts a `shell` provisioner.
    pub(super) fn shell(&mut self, block: &Block) -> Result<(), Why> {
        let line = block.line;
        let manner = match block.get("execute_command") {
            None => Manner { shell: None, user: None },
            Some(node) => match raw(node).as_deref().and_then(manner) {
                Some(manner) => manner,
                None => {
                    let message = "`execute_command` is left out: a step runs its command itself";
                    self.stage.remark(node.line, "execute_command", message);
                    Manner { shell: None, user: None }
                }
            },
        };
        let keys = self.limits(block);
        let mut options = self.stage.state.options();
        options.shell = None;
        if manner.user.is_some() {
            options.run_as = manner.user;
        }
        self.environment(block, &mut options);
        match block.get("inline") {
            Some(inline) => {
                let mut shell = manner.shell;
                if shell.is_none() {
                    let first = match block.get("inline_shebang") {
                        Some(node) => self.scope.text(node)?.value(),
                        None => "/bin/sh -e".to_owned(),
                    };
                    shell = Some(first.split_whitespace().map(str::to_owned).collect());
                }
                let mut shell = shell.unwrap_or_default();
                let mut names = shell.iter().map(|word| word.rsplit('/').next().unwrap_or(word));
                let program = names.find(|name| *name != "env" && !name.starts_with('-'));
                let Some((_, option)) =
                    INTERPRETERS.iter().find(|(name, _)| Some(*name) == program)
                else {
                    let message =
                        format!("`{}` runs no script that is an argument", shell.join(" "));
                    return Err(Why::Left(message));
                };
                shell.push((*option).to_owned());
                options.shell = Some(shell);
                self.inline(line, inline, options, keys)?;
            }
            None if block.get("script").is_some() || block.get("scripts").is_some() => {
                if let Some(mut words) = manner.shell {
                    words.push("-c".to_owned());
                    options.shell = Some(words);
                }
                self.scripts(block, &options, &keys)?;
            }
            None => return Err(Why::Left("it has neither `inline` nor `script`".to_owned())),
        }
        Ok(())
    }

    fn inline(
        &mut self,
        line: u32,
        inline: &Node,
        mut options: Options,
        keys: Vec<(&'static str, Value)>,
    ) -> Result<(), Why> {
        let lines = self.in_shell(|scope| scope.texts(inline))?;
        let mut text = Text::default();
        for (n, one) in lines.0.iter().enumerate() {
            if n > 0 {
                text.push_plain("\n");
            }
            text.push(one);
        }
        for secret in lines.1 {
            let message = format!(
                "`{secret}` is a secret, which whoever builds gives: --secret {secret}=…; the \
                    command has it as `${{{secret}}}`, which a shell fills in unless it stands \
                    between single quotes"
            );
            self.stage.remark(line, "secret", message);
            options.secret_env.insert(secret.clone(), secret);
        }
        let sudo = self.sudo;
        let change = |text: &str| if sudo { without_sudo(text) } else { text.to_owned() };
        // Only what is plain all through can be an installation of packages and nothing else.
        let seen = change(&text.value());
        let command = change(&text.written());
        let apt = self.stage.state.plain_apt && self.stage.state.is_root() && text.is_plain();
        let (command, seen) = match install(&seen).filter(|_| apt) {
            Some(found) => {
                let rest = self.stage.packages(found);
                self.limit(&keys);
                match rest {
                    Some(rest) => (escaped(&rest), rest),
                    None => return Ok(()),
                }
            }
            None => (command, seen),
        };
        for (sign, name) in [
            ("PACKER_BUILD_NAME", &self.scope.source.0),
            ("PACKER_BUILDER_TYPE", &self.scope.source.1),
        ] {
            if seen.contains(sign) {
                options.env.insert(sign.to_owned(), escaped(name));
            }
        }
        if seen.contains("PACKER_HTTP_") {
            let message = "`PACKER_HTTP_ADDR` is not there: a recipe serves no files while it \
                builds; have them copied";
            self.stage.remark(line, "http", message);
        }
        self.command(line, Value::Text(command), &seen, options)?;
        self.limit(&keys);
        Ok(())
    }

    fn scripts(
        &mut self,
        block: &Block,
        options: &Options,
        keys: &[(&'static str, Value)],
    ) -> Result<(), Why> {
        let mut paths: Vec<(u32, Text)> = vec![];
        for name in ["script", "scripts"] {
            if let Some(node) = block.get(name) {
                for path in self.scope.texts(node)? {
                    paths.push((node.line, self.below(&path)?));
                }
            }
        }
        for (n, (line, path)) in paths.into_iter().enumerate() {
            let mut options = options.clone();
            self.stage.state.plain_apt &= !changes_sources(&path.value());
            // A script may do anything.
            if self.stage.state.temporary.is_empty() {
                options.network = true;
                let step = Step::new(vec![("script", Value::Text(path.written()))]);
                self.stage.add(Step { options: Some(options), ..step });
            } else {
                // What files below /tmp it wants is not known: all of them are brought.
                let at = format!("/mnt/packer-script-{}-{n}", block.line);
                options.mounts.insert(at.clone(), Value::Text(path.written()));
                let to = "/tmp/packer-script";
                let run = format!("cp {at} {to} && chmod 0755 {to} || exit\n{to}");
                self.command(line, Value::Text(run), "script /tmp", options)?;
            }
            self.limit(keys);
        }
        Ok(())
    }

    /// Adds a `run` step.
    fn command(&mut self, line: u32, run: Value, seen: &str, options: Options) -> Result<(), Why> {
        let kind = instruction::Kind::Run(Run {
            form: Form::Shell(String::new()),
            pieces: vec![],
            tail: String::new(),
        });
        let one = Instruction { line, comments: vec![], flags: vec![], kind, heredocs: vec![] };
        self.stage.command(&one, run, seen, options).map_err(|fault| Why::Left(fault.message))
    }

    /// Gives the last step its limits.
    fn limit(&mut self, keys: &[(&'static str, Value)]) {
        if let Some(step) = self.stage.state.steps.last_mut() {
            step.keys.extend(keys.iter().cloned());
        }
    }

    /// Returns how long a step may take, and how often it is tried; what else stands there is
    /// reported.
    fn limits(&mut self, block: &Block) -> Vec<(&'static str, Value)> {
        let mut keys = vec![];
        for entry in &block.entries {
            let (line, name) = (entry.line, entry.name.as_str());
            let value = || {
                entry.value.as_plain().or_else(|| match &entry.value.kind {
                    Kind::Number(number) => Some(number.clone()),
                    _ => None,
                })
            };
            match name {
                "timeout" => match value().as_deref().and_then(milliseconds) {
                    Some(0) => {}
                    Some(time) => keys.push(("timeout", Value::Text(written(time)))),
                    None => self.stage.remark(
                        line,
                        "timeout",
                        "`timeout` is left out: it is no duration",
                    ),
                },
                "max_retries" => match value().and_then(|text| text.parse::<u32>().ok()) {
                    Some(0) => {}
                    Some(count) if count <= 100 => keys.push(("retries", Value::Number(count))),
                    _ => self.stage.remark(
                        line,
                        "retries",
                        "`max_retries` is left out: it is no number up to 100",
                    ),
                },
                name if WAITS.contains(&name) => {
                    let message = format!("`{name}` is left out: nothing has to be waited for");
                    self.stage.note(line, "wait", message);
                }
                "valid_exit_codes" => {
                    let message = "`valid_exit_codes` is left out: a step has to end with 0";
                    self.stage.remark(line, "exit", message);
                }
                "inline" | "inline_shebang" | "script" | "scripts" | "environment_vars" | "env"
                | "execute_command" | "skip_clean" | "use_env_var_file" | "env_var_format"
                | "binary" => {}
                // Where Packer puts the script.
                name if name.starts_with("remote_") => {}
                name => {
                    let message = format!("`{name}` is left out: a recipe has no key for it");
                    self.stage.remark(line, "key", message);
                }
            }
        }
        keys
    }
}
