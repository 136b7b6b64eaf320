//! `chef`: converges the root with Chef's or Cinc's client in local mode, which the image or a
//! directory of it has: Debian has neither.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::configure::{ARGS, TWICE, check_tool, shown, tool_from, work};
use super::kind::{Findings, Kind, NAME, WHEN, Work};
use super::limit::LIMITS;
use super::program::{ENV, NETWORK, Options, RETRIES, SECRET_ENV, SECRETS, TIMEOUT};
use super::secret::check_secrets;
use super::tool::{CONFIGURATION, Configure, SETTINGS, Tool, ToolFrom};
use crate::schema::{Check, Effect, Fields, Mistake, Section, Shape, may, must};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `chef` step",
        name: "chef",
        doc: "Runs `chef-client` or `cinc-client` in local mode against the root. The client is \
            the image's, or in a directory of it: Debian has none that could be kept out of it.",
        keys: &[
            NAME,
            WHEN,
            must(
                "chef",
                Shape::Text(Check::Context),
                "The directory of cookbooks, below the context. Example: `cookbooks`.",
            ),
            must(
                "run_list",
                Shape::List(Check::Line),
                "Recipes and roles, in order. Example: `[\"recipe[web]\"]`.",
            ),
            may(
                "attributes",
                Shape::Data,
                "Attributes of the node, of any type. Example: `{ web = { port = 80 } }`.",
            ),
            ARGS,
            must(
                "tool",
                Shape::Text(Check::Filled),
                "Where the client is: `image`, or a directory of the image with the program in \
                    its `bin`. Example: `/opt/cinc`.",
            ),
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
        (
            "chef",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'",
            "chef = '.'\nrun_list = ['a']\ntool = 'image'",
        ),
        (
            "run_list",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'",
            "chef = 'd'\nrun_list = ['b']\ntool = 'image'",
        ),
        (
            "attributes",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\nattributes = { a = 1 }",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\nattributes = { a = '1' }",
        ),
        (
            "args",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\nargs = ['-l']",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\nargs = ['-F']",
        ),
        (
            "tool",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'",
            "chef = 'd'\nrun_list = ['a']\ntool = '/opt/a'",
        ),
        (
            "twice",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\ntwice = false",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\ntwice = true",
        ),
        (
            "env",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\nenv = { A = '1' }",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\nenv = { A = '2' }",
        ),
        (
            "secrets",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\nsecrets = ['a']",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\nsecrets = ['b']",
        ),
        (
            "secret_env",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\nsecret_env = { A = 'a' }",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\nsecret_env = { A = 'b' }",
        ),
        (
            "network",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\nnetwork = false",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\nnetwork = true",
        ),
        (
            "limits",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\nlimits.memory = '1GiB'",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\nlimits.memory = '2GiB'",
        ),
        (
            "timeout",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\ntimeout = '1s'",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\ntimeout = '2s'",
        ),
        (
            "retries",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\nretries = 1",
            "chef = 'd'\nrun_list = ['a']\ntool = 'image'\nretries = 2",
        ),
    ],
};

fn cross_check(fields: &Fields, findings: &mut Findings<'_>) {
    check_secrets(fields, findings);
    check_tool(fields, findings);
    if let (ToolFrom::Layer(_), Some(field)) =
        (tool_from(fields, Tool::Chef), fields.get("tool").filter(|field| field.value.is_some()))
    {
        let mistake = Mistake::new("Debian has neither Chef nor Cinc")
            .label("no suite of Debian has the client")
            .help("write `image`, or a directory of the image such as `/opt/cinc`");
        findings.add(field.span.clone(), mistake);
    }
    if let Some([]) = fields.given_list("run_list").as_deref()
        && let Some(field) = fields.get("run_list")
    {
        let mistake = Mistake::new("an empty run list does nothing").label("at least one recipe");
        findings.add(field.span.clone(), mistake);
    }
}

fn lower(fields: &Fields, defaults: &Options) -> Option<Work> {
    let cookbooks = fields.text("chef")?;
    let run_list = fields.given_list("run_list")?.join(",");
    fields.text("tool")?;
    let options = Options::of(fields).over(&defaults.without_programs()).filled();
    let (client, attributes) =
        (format!("{SETTINGS}/client.rb"), format!("{SETTINGS}/attributes.json"));
    let mut args: Vec<String> =
        ["--local-mode", "--no-color", "--config", &client].map(str::to_owned).into();
    args.extend(
        ["--json-attributes", &attributes, "--override-runlist", &run_list].map(str::to_owned),
    );
    args.extend(fields.list("args"));
    let data = fields.data("attributes").unwrap_or_else(|| json!({}));
    let op = Configure {
        tool: Tool::Chef,
        file: None,
        from: tool_from(fields, Tool::Chef),
        args,
        env: options.env.clone(),
        files: BTreeMap::from([(client, settings()), (attributes, text(&data))]),
        mounts: vec![shown(CONFIGURATION.to_owned(), PathBuf::from(&cookbooks))],
        secrets: options.secrets.clone(),
        twice: fields.boolean("twice").unwrap_or(false),
    };
    let about = format!("{cookbooks} {run_list}");
    Some(work(about, op, options))
}

/// Returns the client's configuration: all that it keeps is gone with the step.
fn settings() -> String {
    let own = "/tmp/.chef";
    format!(
        "local_mode true\nchef_repo_path \"{own}\"\ncookbook_path [\"{CONFIGURATION}\"]\n\
        role_path \"{CONFIGURATION}/roles\"\ndata_bag_path \"{CONFIGURATION}/data_bags\"\n\
        environment_path \"{CONFIGURATION}/environments\"\nnode_path \"{own}/nodes\"\n\
        file_cache_path \"{own}/cache\"\ncache_path \"{own}/cache\"\n\
        file_backup_path \"{own}/backup\"\nnode_name \"image\"\n\
        chef_license \"accept-no-persist\"\n"
    )
}

fn text(value: &Value) -> String {
    format!("{value:#}\n")
}
