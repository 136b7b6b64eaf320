//! `RUN --mount`: as mounts of a step.

use super::document::{Options, Value};
use super::fault::Fault;
use super::instruction::Instruction;
use super::stage::{EMPTY, Stage};
use super::state::clean;
use super::text::Text;

/// `--mount=type=bind,source=…`.
#[derive(Default)]
struct Mount {
    kind: String,
    source: Option<String>,
    target: Option<String>,
    from: Option<String>,
    id: Option<String>,
}

impl Stage<'_, '_> {
    /// Adds the mounts of a command to its options; returns whether there are none but caches of
    /// apt, which a `packages` step has by itself.
    pub(super) fn mounts(
        &mut self,
        one: &Instruction,
        options: &mut Options,
    ) -> Result<bool, Fault> {
        let mut only_caches_of_apt = true;
        for flag in one.flags.iter().filter(|flag| flag.name == "mount") {
            let mount = read(one.line, flag.value.as_deref().unwrap_or_default())?;
            only_caches_of_apt &= mount.kind == "cache"
                && mount.target.as_deref().is_some_and(|target| {
                    target.starts_with("/var/cache/apt") || target.starts_with("/var/lib/apt")
                });
            self.mount(one.line, &mount, options)?;
        }
        Ok(only_caches_of_apt)
    }

    fn mount(&mut self, line: u32, mount: &Mount, options: &mut Options) -> Result<(), Fault> {
        let name = mount.id.as_deref().or(mount.target.as_deref()).unwrap_or("default").to_owned();
        match mount.kind.as_str() {
            "secret" => {
                let message = format!(
                    "the secret `{name}` is left out: name it in `secrets` of the step, which then \
                        reads it from /run/secrets"
                );
                self.remark(line, "secret", message);
                return Ok(());
            }
            "ssh" => {
                self.remark(line, "ssh", "the agent of SSH is left out: a step has none");
                return Ok(());
            }
            _ => {}
        }
        let target = match (&mount.target, mount.kind.as_str()) {
            (Some(target), _) => self.fill(line, target)?,
            // The working directory, as Docker has it.
            (None, "bind") => Text::default(),
            (None, _) => return Err(Fault::new(line, "a mount without `target`")),
        };
        let at = self.state.absolute(&target);
        let value = at.value();
        let place = match at.is_plain() {
            true if value.len() > 1 => value.trim_end_matches('/').to_owned(),
            _ => at.written(),
        };
        match mount.kind.as_str() {
            "bind" => drop(options.mounts.insert(place, self.bound(line, mount)?)),
            // Empty for each step anyway.
            "tmpfs" if place == "/tmp" || place.starts_with("/tmp/") => {}
            "cache" if mount.from.is_some() => {
                drop(options.mounts.insert(place, self.bound(line, mount)?));
            }
            "cache" | "tmpfs" => {
                // What is written there is gone after the step: a cache that is always cold.
                self.shared.empty = true;
                let source = vec![("from", Value::text(EMPTY)), ("path", Value::text("/"))];
                options.mounts.insert(place, Value::Table(source));
                if options.run_as.is_some() {
                    let message = "the mount belongs to root: the user of this command cannot \
                        write to it";
                    self.remark(line, "cache", message);
                } else if mount.kind == "cache" {
                    let message = "the cache is empty in each build: nothing is kept in it";
                    self.note(line, "cache", message);
                }
            }
            other => return Err(Fault::new(line, format!("unknown type `{other}` of a mount"))),
        }
        Ok(())
    }

    /// Returns what a bind mount shows.
    fn bound(&mut self, line: u32, mount: &Mount) -> Result<Value, Fault> {
        let path = self.fill(line, mount.source.as_deref().unwrap_or("/"))?;
        let absolute = match path.is_plain() {
            true => Text::plain(clean(&format!("/{}", path.value()))),
            false => path,
        };
        let Some(from) = &mount.from else {
            let written = absolute.written();
            let relative = written.trim_start_matches('/');
            return Ok(Value::text(if relative.is_empty() { "." } else { relative }));
        };
        let path = ("path", Value::Text(absolute.written()));
        let from = self.source(line, from)?;
        self.gone(line, &from, &absolute.value());
        Ok(match from {
            Value::Table(mut keys) => {
                keys.push(path);
                Value::Table(keys)
            }
            stage => Value::Table(vec![("from", stage), path]),
        })
    }
}

fn read(line: u32, text: &str) -> Result<Mount, Fault> {
    let mut mount = Mount { kind: "bind".to_owned(), ..Mount::default() };
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.to_owned();
        match key.to_ascii_lowercase().as_str() {
            "type" => mount.kind = value.to_ascii_lowercase(),
            "source" | "src" => mount.source = Some(value),
            "target" | "dst" | "destination" => mount.target = Some(value),
            "from" => mount.from = Some(value),
            "id" => mount.id = Some(value),
            "sharing" | "rw" | "readwrite" | "ro" | "readonly" | "required" | "mode" | "uid"
            | "gid" | "size" | "env" => {}
            other => return Err(Fault::new(line, format!("unknown key `{other}` of a mount"))),
        }
    }
    Ok(mount)
}
