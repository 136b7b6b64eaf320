//! Post-processors: names, and forms of the image outside of the store.

use super::base::image_name;
use super::lower::Lower;
use super::node::Block;
use super::template::{applies, overridden};
use super::value::Why;
use crate::convert::document::Value;
use crate::image::RemoteName;

impl Lower<'_, '_> {
    /// Goes through the post-processors of a build, also those in sequences.
    pub(super) fn post_processors(&mut self, build: &Block) {
        for block in &build.blocks {
            match block.kind.as_str() {
                "post-processor" => self.post(block),
                "post-processors" => block.all("post-processor").for_each(|one| self.post(one)),
                _ => {}
            }
        }
    }

    fn post(&mut self, block: &Block) {
        if !applies(block, &self.candidate) {
            return;
        }
        let block = overridden(block, &self.candidate);
        let (line, kind) = (block.line, block.label(0).to_owned());
        let done = match kind.as_str() {
            "docker-tag" | "docker-import" => self.tag(&block),
            "docker-push" => {
                self.push(line);
                Ok(())
            }
            "docker-save" => match block.get("path").map(|node| self.scope.text(node)) {
                Some(Ok(path)) => {
                    self.output("docker-archive", path.written());
                    Ok(())
                }
                Some(Err(why)) => Err(why),
                None => Err(Why::Left("it has no `path`".to_owned())),
            },
            "manifest" | "checksum" => {
                let message = format!(
                    "`{kind}` is left out: `bake show --json` says what an image is, by digests"
                );
                self.stage.note(line, "post-processor", message);
                Ok(())
            }
            _ => Err(Why::Left("a recipe has no equal for it".to_owned())),
        };
        self.flush();
        if let Err(Why::Left(why) | Why::Open(_, why)) = done {
            let message = format!("the post-processor `{kind}` is left out: {why}");
            self.stage.remark(line, "post-processor", message);
        }
    }

    fn tag(&mut self, block: &Block) -> Result<(), Why> {
        let Some(node) = block.get("repository") else {
            return Err(Why::Left("it has no `repository`".to_owned()));
        };
        let repository = self.scope.text(node)?;
        let mut tags = vec![];
        for name in ["tag", "tags"] {
            if let Some(node) = block.get(name) {
                tags.extend(self.scope.texts(node)?);
            }
        }
        // What is behind the last slash is the same whatever anybody sets.
        let (value, written) = (repository.value(), repository.written());
        if value.rsplit('/').next() == written.rsplit('/').next() {
            self.name = image_name(&value);
        }
        let version = |text: &str| {
            text != "latest"
                && (1..=128).contains(&text.len())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        };
        if let Some(tag) = tags.iter().find(|tag| version(&tag.value())) {
            self.version = Some(tag.written());
        }
        self.tagged = if tags.is_empty() { vec![repository.clone()] } else { vec![] };
        for tag in tags {
            let mut whole = repository.clone();
            whole.push_plain(":");
            whole.push(&tag);
            self.tagged.push(whole);
        }
        if let Some(node) = block.get("changes").cloned() {
            self.changes(&node)?;
        }
        Ok(())
    }

    /// `docker-push`: what was tagged goes to its registry.
    fn push(&mut self, line: u32) {
        let mut pushed = false;
        for name in self.tagged.clone() {
            let value = name.value();
            // A name without a registry is one of Docker's own.
            let host = value.split('/').next().unwrap_or("");
            let full = value.contains('/') && (host.contains(['.', ':']) || host == "localhost");
            let written =
                if full { name.written() } else { format!("docker.io/{}", name.written()) };
            if value.parse::<RemoteName>().is_ok() {
                self.tables.push(("[[output]]", vec![("push", Value::Text(written))]));
                pushed = true;
            }
        }
        let message = match pushed {
            true => {
                "`docker-push` becomes an output of the recipe; credentials are those of \
                `docker login`"
            }
            false => {
                "`docker-push` is left out: no `docker-tag` before it says where to; `bake push` \
                does it"
            }
        };
        match pushed {
            true => self.stage.note(line, "push", message),
            false => self.stage.remark(line, "push", message),
        }
    }

    /// Adds a form of the image outside of the store.
    pub(super) fn output(&mut self, format: &'static str, path: String) {
        let keys = vec![("format", Value::text(format)), ("path", Value::Text(path))];
        self.tables.push(("[[output]]", keys));
    }
}
