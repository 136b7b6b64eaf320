//! Reads one `[[step]]`: which kind it is, what each kind's keys mean together, and the defaults of
//! `run` and `script`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::node::{later, unknown_key};
use super::reader::Reader;
use crate::recipe::keys;
use crate::recipe::model::{RunOptions, Step, StepKind};
use crate::schema::{
    Check, Command, Fields, Mistake, MountSource, Section, either, near, quote, sha256,
};

/// Options of `run` and `script` as one place says them.
#[derive(Debug, Default)]
pub(crate) struct Options {
    run_as: Option<String>,
    env: BTreeMap<String, String>,
    mounts: BTreeMap<String, MountSource>,
    workdir: Option<String>,
    shell: Option<Vec<String>>,
    network: Option<bool>,
    timeout: Option<Duration>,
    retries: Option<u32>,
}

impl Options {
    /// Takes what the fields say.
    pub(crate) fn of(fields: &Fields) -> Options {
        Options {
            run_as: fields.text("as"),
            env: fields.map("env"),
            mounts: fields.mounts("mount"),
            workdir: fields.text("workdir"),
            shell: fields.given_list("shell"),
            network: fields.boolean("network"),
            timeout: fields.duration("timeout"),
            retries: fields.integer("retries"),
        }
    }

    /// Returns the shell, if said.
    pub(crate) fn shell(&self) -> Option<&[String]> {
        self.shell.as_deref()
    }

    /// Joins one's own options with the defaults: maps add, single values replace.
    pub(crate) fn over(self, defaults: &Options) -> Options {
        let mut env = defaults.env.clone();
        env.extend(self.env);
        let mut mounts = defaults.mounts.clone();
        mounts.extend(self.mounts);
        Options {
            run_as: self.run_as.or_else(|| defaults.run_as.clone()),
            env,
            mounts,
            workdir: self.workdir.or_else(|| defaults.workdir.clone()),
            shell: self.shell.or_else(|| defaults.shell.clone()),
            network: self.network.or(defaults.network),
            timeout: self.timeout.or(defaults.timeout),
            retries: self.retries.or(defaults.retries),
        }
    }

    /// Fills in what nobody said.
    fn filled(self) -> RunOptions {
        RunOptions {
            run_as: self.run_as,
            env: self.env,
            mounts: self.mounts,
            workdir: self.workdir,
            shell: self.shell.unwrap_or_else(sh),
            network: self.network.unwrap_or(false),
            timeout: self.timeout,
            retries: self.retries.unwrap_or(0),
        }
    }
}

/// The shell of whoever names none.
pub(crate) fn sh() -> Vec<String> {
    ["/bin/sh", "-eu", "-c"].map(str::to_owned).into()
}

/// What is sorted into kinds by the key it has: steps, tests.
pub(crate) struct Family {
    /// `step`.
    pub(crate) noun: &'static str,
    pub(crate) kinds: &'static [Section],
    /// Kinds of the reference that this version does not have.
    pub(crate) later: &'static [&'static str],
    /// What one without a kind is called, and what is asked of it.
    pub(crate) without: (&'static str, &'static str),
}

const STEPS: Family = Family {
    noun: "step",
    kinds: keys::KINDS,
    later: keys::KINDS_LATER,
    without: ("a step without a kind", "what does this step do?"),
};

/// Finds the one kind of a table, and where its key stands; reports what hinders that, and keys
/// that the kind does not have.
pub(crate) fn sort(
    reader: &mut Reader<'_>,
    family: &Family,
    place: Range<usize>,
    table: &DeTable<'_>,
    two_kinds: impl FnOnce(&mut Reader<'_>, &[(&'static Section, Range<usize>)]),
) -> Option<(&'static Section, Range<usize>)> {
    let kind = |name: &str| family.kinds.iter().find(|kind| kind.name == name);
    let mut kinds: Vec<(&'static Section, Range<usize>)> =
        table.keys().filter_map(|key| kind(key.get_ref()).map(|kind| (kind, key.span()))).collect();
    kinds.sort_by_key(|(_, span)| span.start);
    let (kind, key) = match kinds.as_slice() {
        [] => {
            no_kind(reader, family, place, table);
            return None;
        }
        [one] => one.clone(),
        several => {
            two_kinds(reader, several);
            let all: Vec<&'static Section> = several.iter().map(|(kind, _)| *kind).collect();
            unknown_keys(reader, family, &all, table);
            return None;
        }
    };
    unknown_keys(reader, family, &[kind], table);
    warn_of_swallowed_keys(reader, family, kind, table);
    Some((kind, key))
}

/// Reads one step; `None` where it is off, or wrong, which is reported.
pub(crate) fn read_step(
    reader: &mut Reader<'_>,
    place: Range<usize>,
    table: &DeTable<'_>,
    defaults: &Options,
) -> Option<Step> {
    let on = condition(reader, table);
    let (kind, key) = sort(reader, &STEPS, place, table, two_kinds)?;
    let fields = reader.fields(kind, key.clone(), table);
    together(reader, kind.name, &fields, on != Some(false));
    let kind = build(kind.name, &fields, defaults);
    let step = Step { name: fields.text("name"), line: reader.source.line(key.start), kind: kind? };
    if on == Some(false) { None } else { Some(step) }
}

/// Decides `when`; `None` where there is none or it is wrong.
pub(crate) fn condition(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Option<bool> {
    let node = table.get("when")?;
    if node.get_ref().is_str() { reader.decide(node) } else { None }
}

fn no_kind(reader: &mut Reader<'_>, family: &Family, place: Range<usize>, table: &DeTable<'_>) {
    let names = || family.kinds.iter().map(|kind| kind.name);
    let noun = family.noun;
    let mut explained = false;
    for key in table.keys() {
        let name: &str = key.get_ref();
        if family.later.contains(&name) {
            explained = true;
            reader.report(key.span(), later(&format!("`{name}` {noun}s")));
        } else if let Some(kind) = near(name, names())
            && family.kinds.iter().all(|k| k.key(name).is_none())
        {
            explained = true;
            let mistake = Mistake::new(format!("unknown key {} in a {noun}", quote(name)))
                .label(format!("did you mean \"{kind}\"?"));
            reader.report(key.span(), mistake);
        }
    }
    if explained {
        return;
    }
    for (key, _) in table {
        let name: &str = key.get_ref();
        if family.kinds.iter().all(|k| k.key(name).is_none() && !k.later.contains(&name)) {
            reader.report(key.span(), unknown_key(name, &format!("a {noun}"), names()));
        }
    }
    let (message, label) = family.without;
    reader.report(
        place,
        Mistake::new(message).label(label).help(format!("say one of {}", either(names()))),
    );
}

fn two_kinds(reader: &mut Reader<'_>, kinds: &[(&'static Section, Range<usize>)]) {
    let [(first, _), rest @ ..] = kinds else { return };
    for (second, span) in rest {
        let mistake = Mistake::new(format!(
            "a step has one kind, but this one is both `{}` and `{}`",
            first.name, second.name
        ))
        .label("a second kind");
        let runs = |kind: &Section| matches!(kind.name, "run" | "script");
        let help = match (first.name, second.name) {
            ("user", other) | (other, "user") if runs(first) || runs(second) => {
                format!("`as` is the user that a `{other}` step runs as; `user` makes a user")
            }
            ("user", "group") | ("group", "user") => {
                "a user's primary group is `gid`, further ones are `groups`; a `group` step of its own makes a group".into()
            }
            _ => "start the second one with a `[[step]]` of its own".into(),
        };
        reader.report(span.clone(), mistake.help(help));
    }
}

/// Reports keys that none of the kinds has; says so where another kind has them.
fn unknown_keys(
    reader: &mut Reader<'_>,
    family: &Family,
    kinds: &[&'static Section],
    table: &DeTable<'_>,
) {
    let [first, ..] = kinds else { return };
    let known = || kinds.iter().flat_map(|k| k.keys).map(|k| k.name);
    for (key, _) in table {
        let name: &str = key.get_ref();
        if known().any(|k| k == name) {
            continue;
        }
        let owners: Vec<&str> =
            family.kinds.iter().filter(|k| k.key(name).is_some()).map(|k| k.name).collect();
        let mistake = if kinds.iter().any(|k| k.later.contains(&name)) {
            later(&format!("`{name}` in {}", first.title))
        } else if family.later.contains(&name) {
            later(&format!("`{name}` {}s", family.noun))
        } else if !owners.is_empty() {
            let mistake = Mistake::new(format!("key \"{name}\" does not go with `{}`", first.name));
            let help = format!(
                "`{name}` belongs to {}",
                either(owners.iter().copied()).replace(" or ", " and ")
            );
            mistake.label(format!("not a key of {}", first.title)).help(help)
        } else {
            unknown_key(name, first.title, known())
        };
        reader.report(key.span(), mistake);
    }
}

/// After `[step.env]`, `timeout = "5m"` is a variable of the environment, and TOML has nothing
/// against it.
fn warn_of_swallowed_keys(
    reader: &mut Reader<'_>,
    family: &Family,
    kind: &'static Section,
    table: &DeTable<'_>,
) {
    let Some(node) = table.get("env") else { return };
    let DeValue::Table(env) = node.get_ref() else { return };
    if !reader.source.slice(&node.span()).starts_with('[') {
        return;
    }
    for (key, value) in env {
        let name: &str = key.get_ref();
        if kind.key(name).is_some()
            && matches!(value.get_ref(), DeValue::String(_) | DeValue::Integer(_))
        {
            let noun = family.noun;
            let mistake = Mistake::new(format!("`{name}` is taken as an environment variable"))
                .label(format!("stands after `[{noun}.env]`"));
            let help = format!(
                "if the {noun}'s `{name}` is meant, put it above `[{noun}.env]`, or write `env.NAME = …` instead of the table"
            );
            reader.report(key.span(), mistake.help(help).warn());
        }
    }
}

/// Longest argument of a program, the byte after it included: `MAX_ARG_STRLEN` of execve(2).
const MAX_ARGUMENT: usize = 128 * 1024;

/// Warns of what is put where nothing stays: `/tmp` is empty at the start of each step, and of `/run`
/// only directories stay.
fn gone_after_the_step(reader: &mut Reader<'_>, kind: &str, fields: &Fields) {
    let key = match kind {
        "copy" | "download" | "template" => "to",
        "file" | "symlink" | "mkdir" => kind,
        _ => return,
    };
    for said in fields.entries(key) {
        let mut parts = said.text.split('/').filter(|part| !matches!(*part, "" | "."));
        let place = match (parts.next(), parts.next()) {
            (Some("tmp"), _) => "`/tmp` is empty after every step",
            (Some("run"), Some(_)) if kind != "mkdir" => "of `/run` only directories stay",
            _ => continue,
        };
        let mistake = Mistake::new(format!("{} will not be in the image", quote(&said.text)))
            .label(place)
            .help("choose a place outside of `/tmp` and `/run`, or make it when the image starts");
        reader.report(said.span, mistake.warn());
    }
}

/// Checks what keys of a step say together. `on`: it will be run.
fn together(reader: &mut Reader<'_>, kind: &str, fields: &Fields, on: bool) {
    gone_after_the_step(reader, kind, fields);
    match kind {
        "run" => {
            let long = match fields.command("run") {
                Some(Command::Shell(text)) => text.len() >= MAX_ARGUMENT,
                Some(Command::Argv(words)) => words.iter().any(|word| word.len() >= MAX_ARGUMENT),
                None => false,
            };
            if let (true, Some(field)) = (long, fields.get("run")) {
                let mistake = Mistake::new("a command of more than 128 KiB")
                    .label("the kernel takes no longer argument")
                    .help("put it into a file of the context: script = \"scripts/….sh\"");
                reader.report(field.key.clone(), mistake);
            }
        }
        "file" => match (fields.get("content"), fields.get("append"), fields.get("file")) {
            (Some(_), Some(append), _) => {
                let mistake = Mistake::new("a file with both `content` and `append`")
                    .label("instead of `content`, not besides it");
                reader.report(
                    append.key.clone(),
                    mistake.help("`content` is the whole file; `append` adds to its end"),
                );
            }
            (None, None, Some(file)) => {
                let mistake = Mistake::new("a `file` step without `content` or `append`")
                    .label("what stands in it?");
                reader.report(
                    file.key.clone(),
                    mistake.help("write `content = '''…'''`; an empty file has `content = \"\"`"),
                );
            }
            _ => {}
        },
        "copy" => {
            let check = match fields.get("from") {
                Some(_) => Check::StageGlob,
                None => Check::ContextGlob,
            };
            for said in fields.entries("copy") {
                if let Err(mistake) = check.test(&said.text) {
                    reader.report(said.span, mistake);
                }
            }
            let many = fields.list("copy").len() > 1;
            if let (true, Some(to), Some(field)) = (many, fields.text("to"), fields.get("to"))
                && !to.ends_with('/')
            {
                let mistake = Mistake::new("several sources, but `to` is not a folder")
                    .label("a folder ends in `/`");
                reader.report(
                    field.span.clone(),
                    mistake.help(format!("write to = {}", quote(&format!("{to}/")))),
                );
            }
        }
        "download" => {
            if let (Some(strip), None | Some(false)) =
                (fields.get("strip"), fields.boolean("unpack"))
            {
                let mistake = Mistake::new("`strip` without `unpack`")
                    .label("nothing is unpacked")
                    .help("add `unpack = true`");
                reader.report(strip.key.clone(), mistake);
            }
            if let (true, Some(field), Some([])) =
                (on, fields.get("sha256"), fields.given_list("sha256").as_deref())
            {
                let arch = reader.arch.to_owned();
                let mistake = Mistake::new(format!("no sha256 for {arch}"))
                    .label(format!("`{arch}` is missing"));
                reader.report(
                    field.span.clone(),
                    mistake.help(format!("add `{arch} = \"…\"`, or keep the step off with `when = \"arch != '{arch}'\"`")),
                );
            }
        }
        "repository" => {
            let flat = fields.text("suite").is_some_and(|suite| suite.ends_with('/'));
            match (flat, fields.get("components"), fields.given_list("components").as_deref()) {
                (true, Some(field), Some([_, ..])) => {
                    let mistake = Mistake::new("an exact path has no components")
                        .label("`suite` ends in `/`");
                    reader.report(
                        field.key.clone(),
                        mistake.help("leave `components` out, or write the suite without `/`"),
                    );
                }
                (false, Some(field), Some([])) => {
                    reader.report(
                        field.span.clone(),
                        Mistake::new("no components")
                            .help("leave `components` out for `[\"main\"]`"),
                    );
                }
                _ => {}
            }
        }
        "service" => {
            if let (Some(true), Some(true), Some(field)) =
                (fields.boolean("enabled"), fields.boolean("masked"), fields.get("masked"))
            {
                reader.report(
                    field.key.clone(),
                    Mistake::new("a unit cannot be both enabled and masked"),
                );
            }
        }
        "user" => {
            for said in fields.entries("ssh_keys") {
                if said.text.contains("PRIVATE KEY") {
                    let mistake = Mistake::new("a private key in the recipe")
                        .label("the public half belongs here");
                    reader.report(said.span, mistake.help("it is the line in the `.pub` file"));
                }
            }
        }
        _ => {}
    }
}

/// Makes the step of its fields; `None` where a needed one is missing or wrong, which is reported.
fn build(kind: &str, fields: &Fields, defaults: &Options) -> Option<StepKind> {
    let owner = fields.text("owner");
    let mode = fields.mode("mode");
    let options = || Options::of(fields).over(defaults).filled();
    let given = |name: &str| fields.given_list(name);
    Some(match kind {
        "run" => StepKind::Run { command: fields.command("run")?, options: options() },
        "script" => StepKind::Script {
            files: given("script")?.into_iter().map(PathBuf::from).collect(),
            args: fields.list("args"),
            options: options(),
        },
        "copy" => StepKind::Copy {
            from: given("copy")?,
            stage: match fields.get("from") {
                Some(_) => Some(fields.text("from")?),
                None => None,
            },
            to: fields.text("to")?,
            owner,
            mode,
            exclude: fields.list("exclude"),
        },
        "download" => StepKind::Download {
            url: fields.text("download")?,
            sha256: fields.text("sha256").and_then(|text| sha256(&text).ok()),
            to: fields.text("to")?,
            owner,
            mode,
            unpack: fields.boolean("unpack").unwrap_or(false),
            strip: fields.integer("strip").unwrap_or(0),
        },
        "template" => StepKind::Template {
            file: PathBuf::from(fields.text("template")?),
            to: fields.text("to")?,
            owner,
            mode,
        },
        "file" => {
            let append = fields.get("append").is_some();
            let text = fields.text(if append { "append" } else { "content" })?;
            StepKind::File { path: fields.text("file")?, text, append, owner, mode }
        }
        "mkdir" => StepKind::Mkdir { paths: given("mkdir")?, owner, mode },
        "symlink" => {
            StepKind::Symlink { path: fields.text("symlink")?, target: fields.text("target")? }
        }
        "remove" => StepKind::Remove { paths: given("remove")? },
        "packages" => {
            let (files, names): (Vec<String>, Vec<String>) =
                given("packages")?.into_iter().partition(|name| name.starts_with("./"));
            let files =
                files.iter().map(|file| PathBuf::from(file.trim_start_matches("./"))).collect();
            StepKind::Packages {
                names,
                files,
                recommends: fields.boolean("recommends").unwrap_or(false),
                timeout: options().timeout,
                retries: options().retries,
            }
        }
        "repository" => {
            let suite = fields.text("suite")?;
            let main = if suite.ends_with('/') { vec![] } else { vec!["main".to_owned()] };
            StepKind::Repository {
                name: fields.text("repository")?,
                url: fields.text("url")?,
                components: given("components").unwrap_or(main),
                suite,
                key: fields.text("key")?,
            }
        }
        "user" => StepKind::User {
            name: fields.text("user")?,
            uid: fields.integer("uid"),
            gid: fields.integer("gid"),
            home: fields.text("home"),
            shell: fields.text("shell"),
            groups: fields.list("groups"),
            system: fields.boolean("system").unwrap_or(false),
            comment: fields.text("comment"),
            password: fields.text("password"),
            ssh_keys: fields.list("ssh_keys"),
        },
        "group" => StepKind::Group {
            name: fields.text("group")?,
            gid: fields.integer("gid"),
            system: fields.boolean("system").unwrap_or(false),
        },
        "service" => {
            let masked = fields.boolean("masked").unwrap_or(false);
            StepKind::Service {
                units: given("service")?,
                enabled: fields.boolean("enabled").unwrap_or(!masked),
                masked,
            }
        }
        _ => return None,
    })
}
