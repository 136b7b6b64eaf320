//! Reads a whole recipe: which table is what, in which order names become known, and `[image]` and
//! `[config]`.

mod base;
mod compound;
mod data;
mod image;
mod include;
mod including;
mod kind;
mod lacking;
mod machine;
pub(crate) mod matrix;
mod node;
mod output;
mod reader;
mod spot;
mod stage;
mod step;
pub(crate) mod syntax;
mod table;
mod test;
mod tool;
mod workspace;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use self::include::read_entry;
use self::including::Including;
use self::lacking::Known;
use self::matrix::Matrix;
pub(crate) use self::node::{Node, string_inside, type_name, unknown_key, wrong_type};
use self::node::{later, misspelt};
use self::reader::Reader;
use self::table::{entry, list, misspelt_table};
use self::test::read_test;
use self::workspace::Shared;
pub(crate) use self::workspace::read as read_workspace;
use super::keys;
use super::model::{
    Base, Broken, Compression, Config, Drift, Healthcheck, Image, Inputs, Output, Part, Recipe,
    Right, Stage,
};
use super::value::Value;
use super::variant::Variant;
use super::vars::{self, Resolved, Scope};
use crate::image::Platform;
use crate::image::RemoteName;
use crate::schema::{Check, Fields, Mistake, Mistakes, Source};
use crate::step::{Content, Lowered, Op, Options};

/// Reads a recipe, or returns all that is wrong with it.
pub(crate) fn read(text: &str, inputs: &Inputs) -> Result<Recipe, Box<Broken>> {
    let source = Source::new(&inputs.file, text);
    let mut mistakes = Mistakes::default();
    let mut right = Right::default();
    let shared = inputs.workspace.as_ref().map(|one| Source::new(&one.file, &one.text));
    let shared_table = shared.as_ref().map(|shared| syntax::parse(shared, &mut mistakes));
    let shared = match (&shared, &shared_table) {
        (Some(source), Some(Some(table))) => Some(Shared { source, table: table.get_ref() }),
        _ => None,
    };
    // A workspace that is not TOML leaves unknown which names a recipe may use.
    if let Some(table) = syntax::parse(&source, &mut mistakes)
        && !matches!(shared_table, Some(None))
    {
        let pieces = tables(&source, table.get_ref(), shared.as_ref(), inputs, &mut mistakes);
        if !mistakes.any_error()
            && let Some(recipe) = pieces.recipe()
        {
            return Ok(Recipe { warnings: mistakes.into_sorted(), ..recipe });
        }
        right = pieces.right();
    }
    Err(Box::new(Broken { mistakes: mistakes.into_sorted(), right }))
}

/// Returns the variants of a recipe, as far as its matrix is right.
pub(crate) fn variants(text: &str, inputs: &Inputs) -> Vec<Variant> {
    let source = Source::new(&inputs.file, text);
    let mut mistakes = Mistakes::default();
    let none = || vec![Variant::default()];
    let Some(table) = syntax::parse(&source, &mut mistakes) else { return none() };
    let found = Matrix::read(&source, table.get_ref(), &mut mistakes).variants();
    if found.is_empty() { none() } else { found }
}

/// What was read of a recipe; what is missing was reported as wrong.
#[derive(Debug, Clone)]
struct Pieces {
    image: Option<Image>,
    context: Option<PathBuf>,
    platforms: Vec<Platform>,
    vars: BTreeMap<String, Value>,
    /// Every variable has its value.
    vars_known: bool,
    base: Option<Base>,
    steps: Option<Vec<Lowered>>,
    parts: Vec<Part>,
    stages: Option<Vec<Stage>>,
    tests: Option<Vec<test::Read>>,
    config: Option<Config>,
    drift: Option<Drift>,
    outputs: Option<Vec<Output>>,
    pushes: Option<Vec<RemoteName>>,
    uses_epoch: bool,
    matrix_line: u32,
}

impl Pieces {
    /// Returns the whole, where nothing is missing.
    fn recipe(&self) -> Option<Recipe> {
        let pieces = self.clone();
        let (tests, tests_off): (Vec<_>, Vec<_>) =
            pieces.tests?.into_iter().partition(|one| one.on);
        Some(Recipe {
            image: pieces.image?,
            vars: pieces.vars,
            base: pieces.base?,
            steps: pieces.steps?,
            parts: pieces.parts,
            stages: pieces.stages?,
            tests: tests.into_iter().map(|read| read.test).collect(),
            tests_off: tests_off.into_iter().map(|read| read.test).collect(),
            config: pieces.config?,
            drift: pieces.drift?,
            outputs: pieces.outputs?,
            pushes: pieces.pushes?,
            uses_epoch: pieces.uses_epoch,
            matrix_line: pieces.matrix_line,
            warnings: vec![],
        })
    }

    /// Returns what is right of what names files.
    fn right(self) -> Right {
        let tests = self.tests.unwrap_or_default().into_iter();
        let (stages, steps) = (self.stages.unwrap_or_default(), self.steps.unwrap_or_default());
        Right {
            context: self.context,
            platforms: self.platforms,
            vars: self.vars_known.then_some(self.vars),
            parts: self.parts,
            bases: stages.iter().map(|stage| stage.base.clone()).chain(self.base).collect(),
            steps: stages.into_iter().flat_map(|stage| stage.steps).chain(steps).collect(),
            tests: tests.filter(|read| read.on).map(|read| read.test).collect(),
        }
    }
}

/// Reads everything.
fn tables(
    source: &Source,
    table: &DeTable<'_>,
    shared: Option<&Shared<'_>>,
    inputs: &Inputs,
    mistakes: &mut Mistakes,
) -> Pieces {
    unknown_tables(source, table, mistakes);
    if let Some(shared) = shared {
        workspace::settings(shared, mistakes);
    }
    let vars_of_all = shared.map(|shared| (shared.source, entry(shared.table, "vars")));
    let vars = entry(table, "vars");
    let matrix = Matrix::read(source, table, mistakes);
    let of_matrix = |name: &str| matrix.has(name);
    let given = (inputs, &of_matrix as &dyn Fn(&str) -> bool);
    let mut resolved = vars::resolve(vars_of_all, source, vars.clone(), given, mistakes);
    let declared = |name: &str| {
        let vars = vars.as_ref().and_then(|(_, vars)| vars.get_ref().as_table());
        vars.is_some_and(|vars| vars.contains_key(name))
    };
    matrix.give(&inputs.variant, &mut resolved.values, (source, mistakes), &declared);

    // `[image]` names the image, so there its own names are not known yet.
    let scope = outer_scope(resolved, inputs);
    let (image, context, platforms) = image(source, table, inputs, &scope, mistakes);
    let mut uses_epoch = scope.uses_epoch();
    let scope = inner_scope(&scope, &image);
    let defaults_of_all = shared
        .map(|shared| workspace::defaults(shared, &scope, &inputs.arch, mistakes))
        .unwrap_or_default();

    let mut reader = Reader::new(source, &scope, &inputs.arch, mistakes);
    reader.stages = stage::names(table);
    reader.including = Including::of_recipe(inputs, context.clone());
    let base = base::of_image(&mut reader, table);
    let defaults = match entry(table, "defaults") {
        Some((key, node)) => reader.section(&keys::DEFAULTS, key, node).unwrap_or_default(),
        None => Fields::default(),
    };
    let defaults = Options::of(&defaults).over(&defaults_of_all);
    let mut steps = list(&mut reader, table, "step", "step", |reader, place, table| {
        read_entry(reader, place, table, &defaults)
    });
    let mut stages = stage::read_stages(&mut reader, table, &defaults);
    stage::tool_layers(&mut reader, base.as_ref(), steps.as_deref_mut(), stages.as_deref_mut());
    let mut tests = list(&mut reader, table, "test", "test", |reader, place, table| {
        read_test(reader, place, table, &defaults)
    });
    let config = match entry(table, "config") {
        Some((key, node)) => {
            let fields = reader.section(&keys::CONFIG, key, node);
            fields.map(|fields| config(reader.source, &fields))
        }
        None => Some(Config::default()),
    };
    // What a base brings along is not known to a recipe; none of the bases there are brings a
    // command.
    if let (Some(tests), Some(Config { entrypoint, cmd, .. })) = (&tests, &config)
        && [entrypoint, cmd].iter().all(|words| words.as_ref().is_none_or(Vec::is_empty))
    {
        test::nothing_to_start(&mut reader, tests);
    }
    let stages = stage::sort(&mut reader, stages, base.as_ref(), steps.as_deref());
    let drift = match entry(table, "drift") {
        Some((key, node)) => reader
            .section(&keys::DRIFT, key, node)
            .map(|fields| Drift { ignore: unique(fields.list("ignore")) }),
        None => Some(Drift::default()),
    };
    let parts = std::mem::take(&mut reader.including.parts);
    let (mut outputs, pushes) = output::read_outputs(&mut reader, table, &inputs.outputs).unzip();
    let machine = machine::read(&mut reader, table, outputs.as_deref_mut());
    if let (Some(tests), Some(outputs)) = (&mut tests, &outputs) {
        test::disks(&mut reader, tests, outputs);
    }
    if let (Some(base), Some(steps), Some(stages), Some(tests), Some(outputs)) =
        (&base, &steps, &stages, &tests, &outputs)
    {
        let machine = machine.as_ref();
        Known { base, steps, stages, outputs, tests, machine }.report(&mut reader);
    }
    steps.iter_mut().for_each(|steps| machine::join(machine.as_ref(), steps, &reader));
    // What a template file uses is not known here: it is rendered with this recipe's variables, of
    // which the epoch is one.
    let template = |step: &Lowered| {
        let of_file = |op: &Op| matches!(op, Op::Write { content: Content::Template(_), .. });
        step.ops.iter().any(of_file)
    };
    uses_epoch |= scope.uses_epoch()
        || steps.iter().flatten().any(template)
        || stages.iter().flatten().flat_map(|stage| &stage.steps).any(template);
    Pieces {
        image,
        context,
        platforms,
        vars: scope.values().clone(),
        vars_known: scope.broken().is_empty(),
        base,
        steps,
        parts,
        stages,
        tests,
        config,
        drift,
        outputs,
        pushes,
        uses_epoch,
        matrix_line: entry(table, "matrix").map_or(0, |(key, _)| source.line(key.start)),
    }
}

fn unknown_tables(source: &Source, table: &DeTable<'_>, mistakes: &mut Mistakes) {
    for (key, node) in table {
        let name: &str = key.get_ref();
        if keys::TOP.contains(&name) {
            continue;
        }
        let mistake = if keys::TOP_LATER.contains(&name) {
            later(&format!("`{name}`"))
        } else if keys::kinds().any(|kind| kind.name == name)
            || matches!(name, "when" | "to" | "owner" | "mode")
        {
            Mistake::new(format!("key \"{name}\" outside of any step"))
                .label("belongs into a step")
                .help("start the step with a line `[[step]]`")
        } else if keys::IMAGE.key(name).is_some() && !matches!(node.get_ref(), DeValue::Table(_)) {
            Mistake::new(format!("key \"{name}\" outside of any table"))
                .label("belongs into `[image]`")
                .help("start the recipe with a line `[image]`")
        } else {
            unknown_key(name, "a recipe", keys::TOP.iter().copied())
        };
        mistakes.add(source, key.span(), mistake);
    }
}

/// The names known to `[image]`.
fn outer_scope(resolved: Resolved, inputs: &Inputs) -> Scope {
    let Resolved { mut values, broken } = resolved;
    values.insert("arch".into(), Value::Text(inputs.arch.clone()));
    let platform = inputs.platform.clone().unwrap_or_else(|| Platform::linux(&inputs.arch));
    values.insert("machine".into(), Value::Text(platform.machine().to_owned()));
    values.insert("epoch".into(), Value::Integer(inputs.epoch));
    Scope::new(values, broken)
}

/// The names known to everything else.
fn inner_scope(outer: &Scope, image: &Option<Image>) -> Scope {
    let mut values = outer.values().clone();
    let mut broken = outer.broken().clone();
    match image {
        Some(image) => {
            values.insert("name".into(), Value::Text(image.name.clone()));
            values.insert("version".into(), Value::Text(image.version.clone()));
        }
        None => broken.extend(["name".to_owned(), "version".to_owned()]),
    }
    Scope::new(values, broken)
}

fn image(
    source: &Source,
    table: &DeTable<'_>,
    inputs: &Inputs,
    scope: &Scope,
    mistakes: &mut Mistakes,
) -> (Option<Image>, Option<PathBuf>, Vec<Platform>) {
    let version = inputs.version.as_ref().map(|version| {
        Check::ImageVersion.test(version).map(|()| version.clone()).map_err(|mistake| {
            let line =
                Source::new(Path::new("<command line>"), &format!("--set-version {version}"));
            let start = "--set-version ".len();
            mistakes.add(&line, start..start + version.len(), mistake);
        })
    });
    let Some((key, node)) = entry(table, "image") else {
        if misspelt_table("image", table) {
            return (None, None, vec![]);
        }
        let included = table.keys().all(|key| keys::PART.contains(&key.get_ref().as_ref()));
        let help = match included && table.contains_key("step") {
            true => "a file that recipes include is checked with one that includes it",
            false => "start with `[image]`, `name = \"…\"` and `version = \"…\"`",
        };
        mistakes.add(source, 0..0, Mistake::new("a recipe without `[image]`").help(help));
        return (None, Some(".".into()), vec![]);
    };
    let mut reader = Reader::new(source, scope, &inputs.arch, mistakes);
    let Some(fields) = reader.section(&keys::IMAGE, key.clone(), node) else {
        return (None, None, vec![]);
    };
    let misspelled =
        node.get_ref().as_table().is_some_and(|entries| misspelt(&keys::IMAGE, "version", entries));
    if version.is_none() && fields.get("version").is_none() && !misspelled {
        let mistake = Mistake::new("an image without a version").label("`version` is missing");
        reader
            .report(key, mistake.help("write `version = \"1.0.0\"` here, or give `--set-version`"));
    }
    let context = match fields.get("context") {
        Some(_) => fields.text("context").map(PathBuf::from),
        None => Some(".".into()),
    };
    let platforms = platforms(&mut reader, &fields);
    let image = whole_image(&fields, version, context.clone(), platforms.clone());
    (image, context, platforms)
}

/// Returns what the image is built for; one that is named twice is a mistake.
fn platforms(reader: &mut Reader<'_>, fields: &Fields) -> Vec<Platform> {
    let mut found: Vec<Platform> = vec![];
    for entry in fields.entries("platforms") {
        let Some(platform) = entry.text.parse().ok().and_then(|one: Platform| one.to_build())
        else {
            continue;
        };
        if found.contains(&platform) {
            reader.report(entry.span, Mistake::new(format!("the platform {platform} twice")));
        } else {
            found.push(platform);
        }
    }
    found
}

/// Makes the image of its keys; `version` is what the command line says, if it says any.
fn whole_image(
    fields: &Fields,
    version: Option<Result<String, ()>>,
    context: Option<PathBuf>,
    platforms: Vec<Platform>,
) -> Option<Image> {
    let compression = match fields.text("compression").as_deref() {
        Some("zstd") => Compression::Zstd,
        Some("none") => Compression::None,
        _ => Compression::Gzip,
    };
    Some(Image {
        name: fields.text("name")?,
        version: match version {
            Some(version) => version.ok()?,
            None => fields.text("version")?,
        },
        description: fields.text("description"),
        context: context?,
        labels: fields.map("labels"),
        epoch: fields.integer("epoch"),
        platforms,
        compression,
    })
}

fn config(source: &Source, fields: &Fields) -> Config {
    let healthcheck = fields.table("healthcheck").and_then(|check| {
        Some(Healthcheck {
            cmd: check.command("cmd")?,
            interval: check.duration("interval"),
            timeout: check.duration("timeout"),
            start_period: check.duration("start_period"),
            retries: check.integer("retries"),
        })
    });
    Config {
        entrypoint: fields.given_list("entrypoint"),
        cmd: fields.given_list("cmd"),
        env: fields.map("env"),
        user: fields.text("user"),
        workdir: fields.text("workdir"),
        ports: unique(fields.list("ports")),
        volumes: unique(fields.list("volumes")),
        labels: fields.map("labels"),
        stop_signal: fields.text("stop_signal"),
        healthcheck,
        lines: ["user", "entrypoint", "cmd", "healthcheck"]
            .into_iter()
            .filter_map(|key| Some((key, source.line(fields.get(key)?.key.start))))
            .collect(),
    }
}

/// Drops repetitions, keeps the order.
fn unique(list: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    list.into_iter().filter(|entry| seen.insert(entry.clone())).collect()
}
