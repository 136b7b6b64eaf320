//! `file` provisioners as `copy` and `file` steps.

use super::lower::Lower;
use super::node::Block;
use super::template::is_true;
use super::value::{Why, short};
use crate::convert::around::Found;
use crate::convert::document::{Step, Value};
use crate::convert::state::{Temporary, clean};
use crate::convert::text::Text;

impl Lower<'_, '_> {
    /// Converts a `file` provisioner.
    pub(super) fn file(&mut self, block: &Block) -> Result<(), Why> {
        let line = block.line;
        if block.get("direction").and_then(super::node::Node::as_plain).as_deref()
            == Some("download")
        {
            return Err(Why::Left(
                "nothing is taken out of an image while it is made; `bake export` does it after"
                    .to_owned(),
            ));
        }
        if is_true(block.get("generated")) {
            return Err(Why::Left("what makes its files is not part of the recipe".to_owned()));
        }
        let Some(destination) = block.get("destination") else {
            return Err(Why::Left("it has no `destination`".to_owned()));
        };
        let to = self.scope.text(destination)?;
        let to = self.inside(line, &to);
        if let Some(node) = block.get("content") {
            let content = self.scope.text(node)?;
            let to = to.written();
            let to = to.trim_end_matches('/');
            if to.starts_with("/tmp/") {
                let message = "the content goes below /tmp, where nothing stays: write it into a \
                    file of the context and copy that";
                return Err(Why::Left(message.to_owned()));
            }
            self.stage.add(Step::new(vec![
                ("file", Value::text(to)),
                ("content", Value::Text(content.written())),
            ]));
            return Ok(());
        }
        let mut sources: Vec<Text> = vec![];
        for name in ["source", "sources"] {
            if let Some(node) = block.get(name) {
                sources.extend(self.scope.texts(node)?);
            }
        }
        if sources.is_empty() {
            return Err(Why::Left("it has neither `source` nor `content`".to_owned()));
        }
        for source in sources {
            self.place(line, &source, &to)?;
        }
        Ok(())
    }

    /// Copies a file, or a directory: its contents where its name ends with a slash, else itself.
    fn place(&mut self, line: u32, source: &Text, to: &Text) -> Result<(), Why> {
        let path = self.below(source)?;
        let value = path.value();
        let slash = value.ends_with('/');
        let directory = slash
            || value == "."
            || path.is_plain() && self.stage.shared.around.look(&value) == Found::Directory;
        let name = value.trim_end_matches('/').rsplit('/').next().unwrap_or("").to_owned();
        let mut to = to.clone();
        let known = self.stage.state.directories.contains(to.value().trim_end_matches('/'));
        let into = to.value().ends_with('/') || to.value() == "/" || !directory && known;
        if into && !to.value().ends_with('/') {
            to.push_plain("/");
        }
        if directory && !slash && value != "." {
            // The directory itself goes there.
            if !to.value().ends_with('/') {
                to.push_plain("/");
            }
            to.push_plain(&format!("{name}/"));
        } else if directory && !to.value().ends_with('/') {
            to.push_plain("/");
        }
        if directory {
            self.stage.state.directories.insert(to.value().trim_end_matches('/').to_owned());
        }
        let from = match directory && !slash && path.is_plain() && value != "." {
            true => format!("{}/", path.written()),
            false => path.written(),
        };
        if is_temporary(&to.value()) {
            let mut at = to.value();
            if !to.is_plain() {
                let message = format!("`{at}` is what the defaults of its variables make it");
                self.stage.remark(line, "tmp", message);
            }
            if at.ends_with('/') && !directory {
                at.push_str(&name);
            }
            let plain = at.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@".contains(c));
            if !plain {
                return Err(Why::Left(format!("`{}` is no plain path", short(&at))));
            }
            let message = format!(
                "`{value}` is copied to {at} by the commands that name /tmp, as nothing stays there"
            );
            self.stage.note(line, "tmp", message);
            let source = Value::Text(from);
            self.stage.state.temporary.push(Temporary { line, source, to: at, directory });
            return Ok(());
        }
        let keys = vec![("copy", Value::Text(from)), ("to", Value::Text(to.written()))];
        self.stage.add(Step::new(keys));
        Ok(())
    }

    /// Returns a path inside of the image as an absolute one.
    fn inside(&mut self, line: u32, to: &Text) -> Text {
        let value = to.value();
        if value.starts_with('/') {
            return if to.is_plain() { Text::plain(clean(&value)) } else { to.clone() };
        }
        let home = match self.sudo {
            true => format!("/home/{}/", self.user),
            false => "/root/".to_owned(),
        };
        let (above, rest) = match value.strip_prefix("~/").or_else(|| value.strip_prefix("$HOME/"))
        {
            Some(rest) => (home, rest),
            None if self.container => {
                let workdir = self.stage.state.workdir.value();
                (format!("{}/", workdir.trim_end_matches('/')), value.as_str())
            }
            None => (home, value.as_str()),
        };
        let at = clean(&format!("{above}{rest}"));
        let message = format!("`{value}` is taken as `{at}`: paths of a recipe begin with `/`");
        self.stage.remark(line, "path", message);
        Text::plain(at)
    }

    /// Returns a path below the context.
    pub(super) fn below(&mut self, path: &Text) -> Result<Text, Why> {
        let mut value = path.value();
        while let Some(rest) = value.strip_prefix("./") {
            value = rest.trim_start_matches('/').to_owned();
        }
        let outside = value.starts_with(['/', '~'])
            || value.split('/').any(|part| part == "..")
            || value.contains("://");
        if value.is_empty() || value == "." {
            return Ok(Text::plain("."));
        }
        if outside {
            let value = short(&value);
            let message =
                format!("`{value}` is not below the context: --context DIR names another one");
            return Err(Why::Left(message));
        }
        Ok(if path.is_plain() { Text::plain(value) } else { path.clone() })
    }
}

fn is_temporary(path: &str) -> bool {
    path == "/tmp" || path.starts_with("/tmp/")
}
