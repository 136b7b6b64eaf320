//! What a container is kept as, and how it is started.

use super::lower::Lower;
use super::node::Node;
use super::template::is_true;
use super::value::Why;
use crate::convert::instruction;
use crate::convert::source;

impl Lower<'_, '_> {
    /// What a container is kept as, and how it is started.
    pub(super) fn finish(&mut self) {
        if !self.container {
            return;
        }
        let block = self.candidate.block.clone();
        let line = block.line;
        if let Some(node) = block.get("export_path") {
            match self.scope.text(node) {
                Ok(path) => self.output("tar", path.written()),
                Err(Why::Left(why) | Why::Open(_, why)) => {
                    self.stage.remark(
                        node.line,
                        "export",
                        format!("`export_path` is left out: {why}"),
                    );
                }
            }
            self.flush();
            return;
        }
        if is_true(block.get("discard")) {
            let message = "`discard` is left out: an image that is built stays in the store";
            self.stage.note(line, "discard", message);
        }
        if let Some(node) = block.get("changes")
            && let Err(Why::Left(why) | Why::Open(_, why)) = self.changes(node)
        {
            self.stage.remark(node.line, "changes", format!("`changes` are left out: {why}"));
        }
        match block.get("run_command") {
            Some(node) => {
                let message = "`run_command` is left out: a recipe says how an image is started \
                    in [config]";
                self.stage.note(node.line, "run_command", message);
            }
            None if self.stage.state.config.entrypoint.is_none() => {
                self.stage.state.config.entrypoint = Some(vec!["/bin/sh".to_owned()]);
                let message = "the entrypoint is `/bin/sh`, as Packer leaves it where `changes` do \
                    not say otherwise";
                self.stage.note(line, "entrypoint", message);
            }
            None => {}
        }
        for name in ["author", "message"] {
            if let Some(node) = block.get(name) {
                let message = format!("`{name}` is left out: `labels` of [config] say such things");
                self.stage.note(node.line, "key", message);
            }
        }
        for name in ["volumes", "privileged", "cap_add", "device", "runtime", "tmpfs"] {
            if let Some(node) = block.get(name) {
                let message =
                    format!("`{name}` is left out: steps see their root and its mounts alone");
                self.stage.remark(node.line, "container", message);
            }
        }
    }

    /// `changes`: instructions of a Dockerfile on the finished image.
    pub(super) fn changes(&mut self, node: &Node) -> Result<(), Why> {
        for text in self.scope.texts(node)? {
            let (line, value) = (node.line, text.value());
            if !text.is_plain() {
                let message = format!("`{value}` is what the defaults of its variables make it");
                self.stage.remark(line, "changes", message);
            }
            let whole = format!("FROM scratch\n{value}\n");
            let read = source::read(&whole).map_err(|fault| vec![fault]);
            let read = read.and_then(|source| instruction::read(&source));
            let instructions = match read {
                Ok(instructions) => instructions,
                Err(faults) => {
                    let why = faults.into_iter().next().map(|fault| fault.message);
                    let why = why.unwrap_or_default();
                    self.stage.remark(line, "changes", format!("`{value}` is left out: {why}"));
                    continue;
                }
            };
            for one in instructions.iter().skip(1) {
                use instruction::Kind as K;
                let one = instruction::Instruction { line, ..one.clone() };
                let known = matches!(
                    one.kind,
                    K::Cmd(_)
                        | K::Entrypoint(_)
                        | K::Env(_)
                        | K::Expose(_)
                        | K::Label(_)
                        | K::User(_)
                        | K::Volume(_)
                        | K::Workdir(_)
                        | K::StopSignal(_)
                        | K::Healthcheck(_)
                        | K::Maintainer(_)
                );
                let done = match known {
                    true => self.stage.instruction(&one, &[]).map_err(|fault| fault.message),
                    false => Err("it is no change of how an image is started".to_owned()),
                };
                if let Err(why) = done {
                    self.stage.remark(line, "changes", format!("`{value}` is left out: {why}"));
                }
            }
        }
        // A directory is not made by such a change.
        self.stage.directory = None;
        Ok(())
    }
}
