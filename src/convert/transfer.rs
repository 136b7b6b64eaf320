//! `COPY` and `ADD`: files of the context, of stages and images, of the web, and archives.

use super::around::Found;
use super::document::{Step, Value};
use super::fault::Fault;
use super::instruction::Instruction;
use super::mode::mode;
use super::stage::{Stage, flag, is_on, known_flags};
use super::state::{Directory, Temporary, clean};
use super::text::Text;

const WILD: [char; 3] = ['*', '?', '['];

/// Directories of a system, in which modes matter.
const SYSTEM: [&str; 9] =
    ["", "/bin", "/etc", "/home", "/root", "/sbin", "/usr", "/usr/bin", "/var"];

/// What an instruction says of all that it copies.
struct Transfer {
    line: u32,
    /// `from`: a stage or an image; none: the context.
    from: Option<Value>,
    to: Text,
    /// It goes into a directory.
    directory: bool,
    owner: Option<String>,
    mode: Option<String>,
    exclude: Vec<String>,
    parents: bool,
}

impl Stage<'_, '_> {
    pub(super) fn copy(&mut self, one: &Instruction, words: &[String]) -> Result<(), Fault> {
        known_flags(one, &["from", "chown", "chmod", "link", "parents", "exclude"])?;
        let (transfer, sources) = self.transfer(one, words)?;
        self.put(one, &transfer, &sources, false)
    }

    pub(super) fn add_files(&mut self, one: &Instruction, words: &[String]) -> Result<(), Fault> {
        let known =
            ["chown", "chmod", "link", "checksum", "keep-git-dir", "exclude", "unpack", "from"];
        known_flags(one, &known)?;
        let (transfer, sources) = self.transfer(one, words)?;
        let mut local = vec![];
        for source in sources {
            let value = source.value();
            if is_git(&value) {
                let message = format!(
                    "`{value}` is left out: nothing clones repositories; clone it into the \
                        context, or with git in a `run` step"
                );
                self.remark(one.line, "git", message);
            } else if ["http://", "https://", "ftp://"].iter().any(|start| value.starts_with(start))
            {
                self.download(one, &transfer, &source)?;
            } else if is_on(one, "unpack")
                || flag(one, "unpack").is_none() && self.shared.around.is_archive(&value)
            {
                self.unpack(&transfer, &source);
            } else {
                local.push(source);
            }
        }
        self.put(one, &transfer, &local, true)
    }

    /// Reads what all that is copied has in common.
    fn transfer(
        &mut self,
        one: &Instruction,
        words: &[String],
    ) -> Result<(Transfer, Vec<Text>), Fault> {
        let line = one.line;
        let (to, sources) = words.split_last().expect("at least two words");
        let sources: Vec<Text> =
            sources.iter().map(|word| self.fill(line, word)).collect::<Result<_, _>>()?;
        let to = self.fill(line, to)?;
        let mut to = self.state.absolute(&to);
        let known =
            self.state.directories.contains(to.value().trim_end_matches('/')) || to.value() == "/";
        let directory = sources.len() > 1 || known || to.value().ends_with('/');
        if directory && !to.value().ends_with('/') {
            to.push_plain("/");
        }
        let from = flag(one, "from").map(|from| self.source(line, from)).transpose()?;
        let owner = flag(one, "chown").map(|owner| self.owner(line, owner)).transpose()?;
        let mode = match flag(one, "chmod") {
            Some(text) => {
                let text = self.fixed(line, text, "the mode")?;
                mode(&text).unwrap_or_else(|()| {
                    let message =
                        format!("`--chmod={text}` is left out: it is no mode that all files have");
                    self.remark(line, "chmod", message);
                    None
                })
            }
            None => None,
        };
        let exclude = self.exclude(one, &sources)?;
        let parents = is_on(one, "parents");
        let transfer = Transfer { line, from, to, directory, owner, mode, exclude, parents };
        Ok((transfer, sources))
    }

    /// Returns an owner as a recipe writes it.
    fn owner(&mut self, line: u32, text: &str) -> Result<String, Fault> {
        let owner = self.fill(line, text)?;
        let value = owner.value();
        let number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        // A lone number means the group of the same number, a lone name the group of that user.
        Ok(match number {
            true => format!("{0}:{0}", owner.written()),
            false => owner.written(),
        })
    }

    /// Returns what is left out, in gitignore notation over the whole context or stage.
    fn exclude(&mut self, one: &Instruction, sources: &[Text]) -> Result<Vec<String>, Fault> {
        let mut found = vec![];
        for flag in one.flags.iter().filter(|flag| flag.name == "exclude") {
            let pattern = self.fill(one.line, flag.value.as_deref().unwrap_or_default())?.written();
            let pattern = pattern.trim_start_matches('/');
            if pattern.starts_with("**/") {
                found.push(pattern.to_owned());
                continue;
            }
            for source in sources {
                let path = clean(&format!("/{}", source.value()));
                let path = path.trim_end_matches('/');
                let below = match path.rfind(WILD) {
                    Some(_) => path.rsplit_once('/').map_or("", |(above, _)| above),
                    None if self.shared.around.look(path) == Found::File => continue,
                    None => path,
                };
                found.push(format!("{below}/{pattern}"));
            }
        }
        Ok(found)
    }

    /// Copies files of the context, of a stage or of an image, and writes here-documents.
    fn put(
        &mut self,
        one: &Instruction,
        transfer: &Transfer,
        sources: &[Text],
        add: bool,
    ) -> Result<(), Fault> {
        let mut heredocs = one.heredocs.iter();
        let mut files = vec![];
        for source in sources {
            match source.value().strip_prefix("<<").and_then(|_| heredocs.next()) {
                Some(heredoc) => {
                    let content = match heredoc.expand {
                        true => self.fill_content(one.line, &heredoc.content)?,
                        false => Text::plain(&*heredoc.content),
                    };
                    self.write(transfer, &heredoc.name, &content);
                }
                None => files.extend(self.path(transfer, source)),
            }
        }
        if files.is_empty() {
            return Ok(());
        }
        let to = transfer.to.value();
        self.places(transfer, &files);
        if !add && (to == "/tmp/" || to.starts_with("/tmp/")) && !transfer.parents {
            self.put_below_tmp(transfer, &files);
            return Ok(());
        }
        if transfer.parents {
            for file in &files {
                self.put_with_parents(transfer, file);
            }
            return Ok(());
        }
        let written: Vec<String> = files.iter().map(brace).collect();
        let copy = match written.as_slice() {
            [only] => Value::text(only.as_str()),
            all => Value::List(all.to_vec()),
        };
        self.add_copy(transfer, copy, transfer.to.written());
        Ok(())
    }

    fn add_copy(&mut self, transfer: &Transfer, copy: Value, to: String) {
        let below =
            |one: &Directory| transfer.to.value().starts_with(&format!("{}/", one.path.value()));
        if transfer.owner.is_none() && self.directory.as_ref().is_some_and(below) {
            // The directories above what is copied are made with it.
            self.directory = None;
        }
        let mut keys = vec![("copy", copy)];
        keys.extend(transfer.from.clone().map(|from| ("from", from)));
        keys.push(("to", Value::Text(to)));
        keys.extend(attributes(transfer));
        if !transfer.exclude.is_empty() {
            keys.push(("exclude", Value::List(transfer.exclude.clone())));
        }
        self.add(Step::new(keys));
    }

    /// Returns a source as a recipe names it; `None` where there is nothing to copy.
    fn path(&mut self, transfer: &Transfer, source: &Text) -> Option<Text> {
        let value = source.value();
        if let Some(from) = &transfer.from {
            let path = match source.is_plain() {
                true => Text::plain(clean(&format!("/{value}"))),
                false if value.starts_with('/') => source.clone(),
                false => Text::plain("/").and(source),
            };
            self.gone(transfer.line, from, &path.value());
            let whole = path.value();
            if transfer.mode.is_none() && SYSTEM.contains(&whole.trim_end_matches('/')) {
                let message = format!(
                    "of `{whole}` files get mode 0644 or 0755 and directories 0755: set-id \
                        bits, and what only some may read, are lost"
                );
                self.remark(transfer.line, "modes", message);
            }
            return Some(path);
        }
        let path = match source.is_plain() {
            // A path of the context never leaves it.
            true => {
                let path = clean(&format!("/{value}"));
                let relative = path.trim_start_matches('/');
                Text::plain(if relative.is_empty() { "." } else { relative })
            }
            false => source.clone(),
        };
        let value = path.value();
        if value.contains(WILD) && self.shared.around.lacks(&value) {
            let message = format!("nothing is called `{value}` in the context: it is left out");
            self.note(transfer.line, "missing", message);
            return None;
        }
        if self.shared.around.look(&value) == Found::Link {
            let message = format!(
                "`{value}` is a symlink: Docker copies the file that it leads to, the recipe \
                    copies the link; name the file itself"
            );
            self.remark(transfer.line, "symlink", message);
        }
        Some(path)
    }

    /// Remembers which directories are there now, and reports where nothing stays.
    fn places(&mut self, transfer: &Transfer, files: &[Text]) {
        let to = transfer.to.value();
        let mut path = to.trim_end_matches('/');
        let only = |file: &Text| self.shared.around.look(&file.value()) == Found::Directory;
        if !transfer.directory && !files.iter().any(|file| transfer.from.is_none() && only(file)) {
            path = path.rsplit_once('/').map_or("", |(above, _)| above);
        }
        while !path.is_empty() {
            self.state.directories.insert(path.to_owned());
            path = path.rsplit_once('/').map_or("", |(above, _)| above);
        }
        if to.starts_with("/run/") {
            let message =
                format!("`{to}` does not stay: of /run only directories are in the image");
            self.remark(transfer.line, "tmp", message);
        }
        if to.starts_with("/etc/apt/") {
            self.state.plain_apt = false;
        }
    }

    /// Keeps files that go below `/tmp` for the commands that use them.
    fn put_below_tmp(&mut self, transfer: &Transfer, files: &[Text]) {
        for file in files {
            let value = file.value();
            let source = match &transfer.from {
                None => Value::Text(file.written()),
                Some(from) => {
                    let mut keys = match from {
                        Value::Table(keys) => keys.clone(),
                        stage => vec![("from", stage.clone())],
                    };
                    keys.push(("path", Value::Text(file.written())));
                    Value::Table(keys)
                }
            };
            let name = value.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            let looked = match transfer.from {
                None => self.shared.around.look(&value),
                Some(_) => Found::Nothing,
            };
            let directory = match looked {
                Found::Directory => true,
                Found::File | Found::Link => false,
                Found::Nothing => value == "." || value.ends_with('/') || !name.contains('.'),
            };
            // The name stands in a command.
            let plain = |c: char| c.is_alphanumeric() || "/_.-+".contains(c);
            let odd = !value.chars().chain(transfer.to.value().chars()).all(plain);
            if odd || transfer.owner.is_some() || transfer.mode.is_some() {
                let message =
                    format!("`{value}` is not copied: nothing stays in /tmp behind a step");
                self.remark(transfer.line, "tmp", message);
                continue;
            }
            let mut to = transfer.to.written();
            if !directory && transfer.directory {
                to.push_str(name);
            }
            let line = transfer.line;
            let message = format!(
                "`{value}` is copied to {to} by the commands that name /tmp, as nothing stays there"
            );
            self.note(line, "tmp", message);
            self.state.temporary.push(Temporary { line, source, to, directory });
        }
    }

    /// `--parents`: the directories above a file come along, or those behind `/./`.
    fn put_with_parents(&mut self, transfer: &Transfer, file: &Text) {
        let value = file.value();
        let above = value.rsplit_once('/').map_or("", |(above, _)| above).trim_start_matches('/');
        if value.contains(WILD) || !file.is_plain() {
            let message = format!(
                "`{value}` is left out: nothing keeps the directories above what a pattern names; \
                    write a `copy` for each directory"
            );
            self.remark(transfer.line, "parents", message);
            return;
        }
        let directory = self.shared.around.look(&value) == Found::Directory;
        let below = if directory { value.trim_matches('/') } else { above };
        let slash = if below.is_empty() { "" } else { "/" };
        let to = format!("{}/{below}{slash}", transfer.to.written().trim_end_matches('/'));
        self.add_copy(transfer, Value::Text(brace(file)), to);
    }

    /// Writes a here-document.
    fn write(&mut self, transfer: &Transfer, name: &str, content: &Text) {
        let mut path = transfer.to.written();
        if transfer.directory {
            path.push_str(name);
        }
        let mut keys =
            vec![("file", Value::Text(path)), ("content", Value::Text(content.written()))];
        keys.extend(attributes(transfer));
        self.add(Step::new(keys));
    }

    fn download(
        &mut self,
        one: &Instruction,
        transfer: &Transfer,
        url: &Text,
    ) -> Result<(), Fault> {
        if url.value().starts_with("ftp://") {
            let message = format!("`{}` is left out: files come by http and https", url.value());
            self.remark(one.line, "download", message);
            return Ok(());
        }
        let mut keys = vec![("download", Value::Text(url.written()))];
        match flag(one, "checksum") {
            Some(sum) => {
                let sum = self.fill(one.line, sum)?.written();
                keys.push(("sha256", Value::text(sum.trim_start_matches("sha256:"))));
            }
            None => {
                let message = "without a checksum the lock file pins what the first build finds; a \
                    `sha256` pins it for good";
                self.note(one.line, "download", message);
            }
        }
        keys.push(("to", Value::Text(transfer.to.written())));
        if is_on(one, "unpack") {
            keys.push(("unpack", Value::Yes));
        }
        keys.extend(transfer.owner.clone().map(|owner| ("owner", Value::Text(owner))));
        // Docker gives files of the web to their owner alone.
        let mode = transfer.mode.clone().unwrap_or_else(|| "0600".to_owned());
        keys.push(("mode", Value::Text(mode)));
        self.add(Step::new(keys));
        Ok(())
    }

    /// `ADD` of an archive: what the stage starts from, or a stage of its own to copy from.
    fn unpack(&mut self, transfer: &Transfer, source: &Text) {
        let path = clean(&format!("/{}", source.value()));
        let path = path.trim_start_matches('/').to_owned();
        let first = self.scratch && self.state.steps.is_empty() && self.archive.is_none();
        if first && transfer.to.value() == "/" && transfer.owner.is_none() {
            self.archive = Some(path);
            return;
        }
        let number = self.shared.archives.len() + 1;
        let name = format!("archive-{number}");
        let message = format!(
            "`{path}` is unpacked as a stage and copied from there: owners become root, and modes \
                0644 or 0755"
        );
        self.remark(transfer.line, "archive", message);
        self.shared.archives.push((name.clone(), path));
        let to = format!("{}/", transfer.to.written().trim_end_matches('/'));
        let transfer =
            Transfer { from: Some(Value::Text(name)), exclude: vec![], ..copied(transfer) };
        self.add_copy(&transfer, Value::text("/"), to);
    }
}

/// Returns the same for another source.
fn copied(one: &Transfer) -> Transfer {
    Transfer {
        line: one.line,
        from: one.from.clone(),
        to: one.to.clone(),
        directory: true,
        owner: one.owner.clone(),
        mode: one.mode.clone(),
        exclude: one.exclude.clone(),
        parents: false,
    }
}

fn attributes(transfer: &Transfer) -> Vec<(&'static str, Value)> {
    let texts = [("owner", &transfer.owner), ("mode", &transfer.mode)];
    texts.into_iter().filter_map(|(key, text)| Some((key, Value::Text(text.clone()?)))).collect()
}

/// Braces are plain characters to a Dockerfile.
fn brace(file: &Text) -> String {
    match file.is_plain() && file.value().contains(['{', '}']) {
        true => Text::plain(file.value().replace('{', "\\{").replace('}', "\\}")).written(),
        false => file.written(),
    }
}

fn is_git(source: &str) -> bool {
    let path = source.split('#').next().unwrap_or(source);
    source.starts_with("git@")
        || source.starts_with("git://")
        || source.starts_with("ssh://")
        || source.starts_with("http") && path.ends_with(".git")
}
