//! `RUN --mount`: as mounts of a step.

use std::path::Path;

use super::document::{Options, Value};
use super::fault::Fault;
use super::instruction::Instruction;
use super::stage::{EMPTY, Stage};
use super::state::clean;
use super::text::Text;
use crate::schema::Check;

/// `--mount=type=bind,source=…`.
#[derive(Default)]
struct Mount {
    kind: String,
    source: Option<String>,
    target: Option<String>,
    from: Option<String>,
    id: Option<String>,
    sharing: Option<String>,
    env: Option<String>,
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
                self.secret(line, mount, &name, options);
                return Ok(());
            }
            "ssh" => {
                options.ssh = true;
                self.note(line, "ssh", "whoever builds gives the SSH agent: --ssh");
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
            "cache" => self.cache(line, mount, place, options),
            "tmpfs" => {
                // What is written there is gone after the step.
                self.shared.empty = true;
                let source = vec![("from", Value::text(EMPTY)), ("path", Value::text("/"))];
                options.mounts.insert(place, Value::Table(source));
                if options.run_as.is_some() {
                    let message = "the mount belongs to root: the user of this command cannot \
                        write to it";
                    self.remark(line, "tmpfs", message);
                }
            }
            other => return Err(Fault::new(line, format!("unknown type `{other}` of a mount"))),
        }
        Ok(())
    }

    /// Adds a directory that is kept between builds.
    fn cache(&mut self, line: u32, mount: &Mount, place: String, options: &mut Options) {
        let id = mount.id.clone().filter(|id| {
            let right = Check::CacheName.test(id).is_ok();
            if !right {
                let message =
                    format!("the cache `{id}` has no such name here: it is that of its path");
                self.note(line, "cache", message);
            }
            right
        });
        let sharing = mount.sharing.as_deref().filter(|sharing| *sharing != "shared");
        let mut table = vec![("to", Value::text(place.as_str()))];
        table.extend(id.map(|id| ("id", Value::text(id))));
        table.extend(sharing.map(|sharing| ("sharing", Value::text(sharing))));
        let value = match table.len() {
            1 => Value::text(place.as_str()),
            _ => Value::Table(table),
        };
        let within = |inner: &str, outer: &str| Path::new(inner).starts_with(outer);
        if options.caches.keys().any(|outer| within(&place, outer)) {
            return;
        }
        options.caches.retain(|inner, _| !within(inner, &place));
        // Where both are, the later one is seen.
        options.mounts.remove(&place);
        options.caches.insert(place, value);
    }

    /// Adds a secret.
    fn secret(&mut self, line: u32, mount: &Mount, name: &str, options: &mut Options) {
        // Without an id the last part of where it is seen names it.
        let name = name.rsplit('/').next().unwrap_or(name);
        if Check::SecretName.test(name).is_err() {
            let message = format!("the secret `{name}` is left out: no secret has such a name");
            self.remark(line, "secret", message);
            return;
        }
        if let Some(variable) = &mount.env {
            options.secret_env.insert(variable.clone(), name.to_owned());
        }
        let place = format!("/run/secrets/{name}");
        if mount.env.is_none() || mount.target.is_some() {
            options.secrets.insert(name.to_owned());
        }
        if let Some(target) = mount.target.as_ref().filter(|target| **target != place) {
            let message =
                format!("the secret `{name}` is the file {place} and not {target}: read it there");
            self.remark(line, "secret", message);
        }
        let message = format!("whoever builds gives the secret: --secret {name}=…");
        self.note(line, "secret", message);
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
            "sharing" => mount.sharing = Some(value),
            "env" => mount.env = Some(value),
            "rw" | "readwrite" | "ro" | "readonly" | "required" | "mode" | "uid" | "gid"
            | "size" => {}
            other => return Err(Fault::new(line, format!("unknown key `{other}` of a mount"))),
        }
    }
    Ok(mount)
}
