//! The instructions of a stage, one by one.

use super::arguments::{is_proxy, platform};
use super::document::{Step, Value};
use super::fault::Fault;
use super::instruction::{Instruction, Kind};
use super::stage::Stage;
use super::state::Directory;
use super::text::Text;

impl Stage<'_, '_> {
    pub(super) fn instruction(
        &mut self,
        one: &Instruction,
        globals: &[(String, Text)],
    ) -> Result<(), Fault> {
        let line = one.line;
        // What says how the image is started stands in `[config]`, and so do comments on it.
        let starts = matches!(
            one.kind,
            Kind::Cmd(_)
                | Kind::Entrypoint(_)
                | Kind::Expose(_)
                | Kind::Volume(_)
                | Kind::Label(_)
                | Kind::StopSignal(_)
                | Kind::Healthcheck(_)
                | Kind::Maintainer(_)
        );
        match &one.kind {
            Kind::Arg(_) => {}
            _ if starts => self.state.config.comments.extend(one.comments.iter().cloned()),
            _ => self.pending.extend(one.comments.iter().cloned()),
        }
        match &one.kind {
            Kind::Arg(args) => {
                for (name, default) in args {
                    self.argument(one, name, default.as_deref(), globals)?;
                }
            }
            Kind::Env(pairs) => {
                let mut filled = vec![];
                for (name, value) in pairs {
                    filled.push((self.fixed(line, name, "the name")?, self.fill(line, value)?));
                }
                filled.into_iter().for_each(|(name, value)| self.state.set_env(&name, value));
            }
            Kind::Run(run) => self.run(one, run)?,
            Kind::Copy(words) => self.copy(one, words)?,
            Kind::Add(words) => self.add_files(one, words)?,
            Kind::Workdir(path) => self.workdir(line, path)?,
            Kind::User(user) => {
                let user = self.fill(line, user)?;
                self.state.user = Some(user).filter(|user| !user.value().is_empty());
            }
            Kind::Shell(words) => {
                self.state.shell =
                    Some(words.iter().map(|word| super::text::escaped(word)).collect());
            }
            Kind::Cmd(form) => self.cmd(form),
            Kind::Entrypoint(form) => self.entrypoint(form),
            Kind::Label(pairs) => self.labels(line, pairs)?,
            Kind::Expose(words) => self.ports(line, words)?,
            Kind::Volume(words) => self.volumes(line, words)?,
            Kind::StopSignal(signal) => self.stop_signal(line, signal)?,
            Kind::Healthcheck(form) => self.healthcheck(one, form.as_ref())?,
            Kind::Maintainer(who) => {
                self.label("maintainer", Text::plain(who.trim()));
                self.note(line, "maintainer", "`MAINTAINER` becomes the label `maintainer`");
            }
            Kind::From { .. } | Kind::OnBuild(_) => {}
        }
        if starts {
            let pending = std::mem::take(&mut self.pending);
            self.state.config.comments.extend(pending);
        }
        Ok(())
    }

    fn argument(
        &mut self,
        one: &Instruction,
        name: &str,
        default: Option<&str>,
        globals: &[(String, Text)],
    ) -> Result<(), Fault> {
        if is_proxy(name) {
            return Ok(());
        }
        let global = globals.iter().rfind(|(one, _)| one == name).map(|(_, text)| text.clone());
        if default.is_none() && global.is_none() && self.state.has_env(name) {
            // Without a value it changes nothing.
            return Ok(());
        }
        let value = match (default, global, platform(name)) {
            (_, _, Some(text)) => text,
            (None, Some(text), _) => text,
            (default, _, _) => {
                let default = default.map(|default| self.fill(one.line, default)).transpose()?;
                let default = default.unwrap_or_default();
                self.shared.arguments.declare(name, &default, &one.comments)
            }
        };
        self.state.set_arg(name, value);
        Ok(())
    }

    /// `WORKDIR`: a directory that is made where it is missing.
    fn workdir(&mut self, line: u32, path: &str) -> Result<(), Fault> {
        let path = self.fill(line, path)?;
        let path = self.state.absolute(&path);
        let path = match path.is_plain() && path.value() != "/" {
            true => Text::plain(path.value().trim_end_matches('/')),
            false => path,
        };
        self.make_directory();
        self.state.workdir = path.clone();
        self.state.config.workdir = true;
        let value = path.value();
        if !self.state.directories.insert(value) {
            return Ok(());
        }
        let owner = match self.state.is_root() {
            true => None,
            false => self.state.user.as_ref().map(owner_of),
        };
        self.directory = Some(Directory { path, owner });
        if !self.state.is_root() {
            self.make_directory();
        }
        Ok(())
    }

    /// Makes the working directory, where nothing that comes before needs it.
    pub(super) fn make_directory(&mut self) {
        let Some(Directory { path, owner }) = self.directory.take() else { return };
        let mut keys =
            vec![("mkdir", Value::Text(path.written())), ("existing", Value::text("kept"))];
        keys.extend(owner.map(|owner| ("owner", Value::Text(owner))));
        self.add(Step::new(keys));
    }
}

/// Returns the owner of what a user makes.
fn owner_of(user: &Text) -> String {
    let value = user.value();
    match value.bytes().all(|b| b.is_ascii_digit()) {
        true => format!("{0}:{0}", user.written()),
        false => user.written(),
    }
}
