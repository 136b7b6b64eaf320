//! `puppet`: applies a manifest to the root, with nothing of Puppet in the image.

use std::collections::BTreeMap;

use super::configure::{
    ARGS, TOOL, TWICE, beside, check_inside, check_tool, joined, search_path, tool_from, work,
};
use super::kind::{Findings, Kind, NAME, WHEN, Work};
use super::limit::LIMITS;
use super::program::{ENV, NETWORK, Options, RETRIES, SECRET_ENV, SECRETS, TIMEOUT};
use super::secret::check_secrets;
use super::tool::{CONFIGURATION, Configure, SETTINGS, TOOL_LAYER, Tool, ToolFrom};
use crate::schema::{Check, Effect, Fields, Section, Shape, may, must};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `puppet` step",
        name: "puppet",
        doc: "Applies a Puppet manifest to the root. Nothing of Puppet is in the image. The \
            manifest's directory is what the step sees of the context, and all of it is in the \
            key: give a manifest a directory of its own.",
        keys: &[
            NAME,
            WHEN,
            must(
                "puppet",
                Shape::Text(Check::Context),
                "The manifest, below the context. Modules are found in `modules` beside it. \
                    Example: `puppet/site.pp`.",
            ),
            may("modules", Shape::List(Check::Context), "Further directories of modules."),
            may(
                "hiera",
                Shape::Text(Check::Line),
                "Configuration of Hiera in the manifest's directory, relative to that. Example: \
                    `hiera.yaml`.",
            ),
            may(
                "facts",
                Shape::Data,
                "Facts, of any type, over those of Facter. Example: `{ role = \"web\" }`.",
            ),
            ARGS,
            TOOL,
            TWICE,
            ENV,
            SECRETS,
            SECRET_ENV,
            NETWORK,
            LIMITS,
            TIMEOUT,
            RETRIES,
        ],
        later: &[],
        effect: Effect::Step,
    },
    cross_check,
    lower,
    #[cfg(test)]
    cases: &[
        ("puppet", "puppet = 'd/x'", "puppet = 'd/y'"),
        ("modules", "puppet = 'd/x'\nmodules = ['d']", "puppet = 'd/x'\nmodules = []"),
        ("hiera", "puppet = 'd/x'\nhiera = 'a'", "puppet = 'd/x'\nhiera = 'b'"),
        ("facts", "puppet = 'd/x'\nfacts = { a = 1 }", "puppet = 'd/x'\nfacts = { a = '1' }"),
        ("args", "puppet = 'd/x'\nargs = ['-v']", "puppet = 'd/x'\nargs = ['-d']"),
        ("tool", "puppet = 'd/x'\ntool = 'image'", "puppet = 'd/x'\ntool = '/opt/a'"),
        ("twice", "puppet = 'd/x'\ntwice = false", "puppet = 'd/x'\ntwice = true"),
        ("env", "puppet = 'd/x'\nenv = { A = '1' }", "puppet = 'd/x'\nenv = { A = '2' }"),
        ("secrets", "puppet = 'd/x'\nsecrets = ['a']", "puppet = 'd/x'\nsecrets = ['b']"),
        (
            "secret_env",
            "puppet = 'd/x'\nsecret_env = { A = 'a' }",
            "puppet = 'd/x'\nsecret_env = { A = 'b' }",
        ),
        ("network", "puppet = 'd/x'\nnetwork = false", "puppet = 'd/x'\nnetwork = true"),
        (
            "limits",
            "puppet = 'd/x'\nlimits.memory = '1GiB'",
            "puppet = 'd/x'\nlimits.memory = '2GiB'",
        ),
        ("timeout", "puppet = 'd/x'\ntimeout = '1s'", "puppet = 'd/x'\ntimeout = '2s'"),
        ("retries", "puppet = 'd/x'\nretries = 1", "puppet = 'd/x'\nretries = 2"),
    ],
};

fn cross_check(fields: &Fields, findings: &mut Findings<'_>) {
    check_secrets(fields, findings);
    check_tool(fields, findings);
    check_inside(fields, "hiera", "the manifest", findings);
}

fn lower(fields: &Fields, defaults: &Options) -> Option<Work> {
    let file = fields.text("puppet")?;
    let options = Options::of(fields).over(&defaults.without_programs()).filled();
    let from = tool_from(fields, Tool::Puppet);
    let (mount, manifest) = beside(&file);
    let modules = search_path(fields, "modules");
    let beside_it = format!("{CONFIGURATION}/modules");
    let mut args: Vec<String> = vec!["apply".to_owned()];
    let mut set = |option: &str, value: &str| args.extend([option, value].map(str::to_owned));
    // All of Puppet's own directories are gone with the step.
    for option in ["conf", "code", "var", "run", "log", "public", "ssl", "state", "report"] {
        set(&format!("--{option}dir"), &format!("/tmp/.puppet/{option}"));
    }
    let facts = format!("{SETTINGS}/facts");
    set("--pluginfactdest", &facts);
    let path = joined(&modules, "");
    set("--modulepath", [path.as_str(), &beside_it].join(":").trim_start_matches(':'));
    if let ToolFrom::Layer(_) = from {
        set("--vendormoduledir", &format!("{TOOL_LAYER}/usr/share/puppet/vendor_modules"));
    }
    let hiera = fields.text("hiera");
    let hiera = hiera.map(|file| format!("{CONFIGURATION}/{file}"));
    if let Some(hiera) = &hiera {
        set("--hiera_config", hiera);
    }
    set("--libdir", &format!("{SETTINGS}/ruby"));
    set("--reports", "bake");
    args.extend(["--detailed-exitcodes", "--color=false"].map(str::to_owned));
    args.extend(fields.list("args"));
    args.push(manifest);
    let facts_file =
        fields.data("facts").map(|data| (format!("{facts}/bake.json"), format!("{data:#}\n")));
    let op = Configure {
        tool: Tool::Puppet,
        file: Some(file.clone().into()),
        from,
        args,
        env: options.env.clone(),
        files: facts_file.into_iter().collect::<BTreeMap<_, _>>(),
        mounts: std::iter::once(mount).chain(modules).collect(),
        secrets: options.secrets.clone(),
        twice: fields.boolean("twice").unwrap_or(false),
    };
    Some(work(file, op, options))
}
