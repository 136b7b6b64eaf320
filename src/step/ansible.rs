//! `ansible`: runs a playbook against the root, with nothing of Ansible in the image.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::configure::{
    ARGS, TOOL, TWICE, beside, check_inside, check_tool, joined, search_path, tool_from, work,
};
use super::kind::{Findings, Kind, NAME, WHEN, Work};
use super::limit::LIMITS;
use super::program::{ENV, NETWORK, Options, RETRIES, SECRET_ENV, SECRETS, TIMEOUT};
use super::secret::check_secrets;
use super::tool::{Configure, SETTINGS, TOOL_LAYER, Tool, ToolFrom};
use crate::schema::{Check, Effect, Fields, Mistake, Section, Shape, may, must};

/// What the host is called where no inventory names it.
const HOST: &str = "localhost";

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "an `ansible` step",
        name: "ansible",
        doc: "Runs an Ansible playbook against the root. Nothing of Ansible is in the image. The \
            playbook's directory is what the step sees of the context, and all of it is in the \
            key: give a playbook a directory of its own.",
        keys: &[
            NAME,
            WHEN,
            must(
                "ansible",
                Shape::Text(Check::Context),
                "The playbook, below the context. Roles, `group_vars`, `files` and templates \
                    stand beside it, as Ansible wants them. Example: `ansible/site.yml`.",
            ),
            may(
                "vars",
                Shape::Data,
                "Variables, of any type, over all others (`--extra-vars`). Example: \
                    `{ http_port = 80, sites = [\"a\", \"b\"] }`.",
            ),
            may("tags", Shape::List(Check::Line), "Only tasks with one of these tags."),
            may("skip_tags", Shape::List(Check::Line), "No tasks with one of these tags."),
            may(
                "groups",
                Shape::List(Check::Word),
                "Groups of the inventory that the image is in. Example: `[\"web\"]`.",
            ),
            may(
                "inventory",
                Shape::Text(Check::Line),
                "An inventory in the playbook's directory, relative to that; `host` says which \
                    of its hosts the image is. Default: one host, `localhost`.",
            ),
            may(
                "host",
                Shape::Text(Check::Word),
                "What the image is called in the inventory. Tasks for other hosts are not run.",
            ),
            may("roles", Shape::List(Check::Context), "Further directories of roles."),
            may("collections", Shape::List(Check::Context), "Directories of collections."),
            may(
                "vault_password",
                Shape::Text(Check::SecretName),
                "The secret that is the password of Ansible Vault; who builds gives it with \
                    `--secret NAME=…`.",
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
        later: &["requirements"],
        effect: Effect::Step,
    },
    cross_check,
    lower,
    #[cfg(test)]
    cases: &[
        ("ansible", "ansible = 'd/x'", "ansible = 'd/y'"),
        ("vars", "ansible = 'd/x'\nvars = { a = 1 }", "ansible = 'd/x'\nvars = { a = '1' }"),
        ("tags", "ansible = 'd/x'\ntags = ['a']", "ansible = 'd/x'\ntags = ['b']"),
        ("skip_tags", "ansible = 'd/x'\nskip_tags = ['a']", "ansible = 'd/x'\nskip_tags = ['b']"),
        ("groups", "ansible = 'd/x'\ngroups = ['a']", "ansible = 'd/x'\ngroups = ['b']"),
        (
            "inventory",
            "ansible = 'd/x'\nhost = 'h'\ninventory = 'a'",
            "ansible = 'd/x'\nhost = 'h'\ninventory = 'b'",
        ),
        ("host", "ansible = 'd/x'\nhost = 'a'", "ansible = 'd/x'\nhost = 'b'"),
        ("roles", "ansible = 'd/x'\nroles = ['d']", "ansible = 'd/x'\nroles = []"),
        (
            "collections",
            "ansible = 'd/x'\ncollections = ['d']",
            "ansible = 'd/x'\ncollections = []",
        ),
        (
            "vault_password",
            "ansible = 'd/x'\nvault_password = 'a'",
            "ansible = 'd/x'\nvault_password = 'b'",
        ),
        ("args", "ansible = 'd/x'\nargs = ['-v']", "ansible = 'd/x'\nargs = ['-vv']"),
        ("tool", "ansible = 'd/x'\ntool = 'image'", "ansible = 'd/x'\ntool = '/opt/a'"),
        ("twice", "ansible = 'd/x'\ntwice = false", "ansible = 'd/x'\ntwice = true"),
        ("env", "ansible = 'd/x'\nenv = { A = '1' }", "ansible = 'd/x'\nenv = { A = '2' }"),
        ("secrets", "ansible = 'd/x'\nsecrets = ['a']", "ansible = 'd/x'\nsecrets = ['b']"),
        (
            "secret_env",
            "ansible = 'd/x'\nsecret_env = { A = 'a' }",
            "ansible = 'd/x'\nsecret_env = { A = 'b' }",
        ),
        ("network", "ansible = 'd/x'\nnetwork = false", "ansible = 'd/x'\nnetwork = true"),
        (
            "limits",
            "ansible = 'd/x'\nlimits.memory = '1GiB'",
            "ansible = 'd/x'\nlimits.memory = '2GiB'",
        ),
        ("timeout", "ansible = 'd/x'\ntimeout = '1s'", "ansible = 'd/x'\ntimeout = '2s'"),
        ("retries", "ansible = 'd/x'\nretries = 1", "ansible = 'd/x'\nretries = 2"),
    ],
};

fn cross_check(fields: &Fields, findings: &mut Findings<'_>) {
    check_secrets(fields, findings);
    check_tool(fields, findings);
    if let (Some(field), None) = (fields.get("inventory"), fields.get("host")) {
        let mistake = Mistake::new("`inventory` without `host`")
            .label("which of its hosts is the image?")
            .help("write `host = \"…\"`, a name of the inventory");
        findings.add(field.key.clone(), mistake);
    }
    check_inside(fields, "inventory", "the playbook", findings);
}

fn lower(fields: &Fields, defaults: &Options) -> Option<Work> {
    let file = fields.text("ansible")?;
    let mut options = Options::of(fields).over(&defaults.without_programs()).filled();
    let from = tool_from(fields, Tool::Ansible);
    let (mount, playbook) = beside(&file);
    let directory = mount.at.clone();
    let (roles, collections) = (search_path(fields, "roles"), search_path(fields, "collections"));
    let mut args = vec![];
    let mut arg = |words: &[&str]| args.extend(words.iter().map(|word| (*word).to_owned()));
    if let Some(inventory) = fields.text("inventory") {
        arg(&["--inventory", &format!("{directory}/{inventory}")]);
    }
    let host = fields.text("host").unwrap_or_else(|| HOST.to_owned());
    let inventory = format!("{SETTINGS}/inventory.json");
    arg(&["--inventory", &inventory, "--limit", &host]);
    for (key, option) in [("tags", "--tags"), ("skip_tags", "--skip-tags")] {
        let tags = fields.list(key);
        if !tags.is_empty() {
            arg(&[option, &tags.join(",")]);
        }
    }
    let vars = fields.data("vars");
    let mut files =
        BTreeMap::from([(inventory, text(&hosts(&host, &fields.list("groups"), &from)))]);
    if let Some(vars) = vars {
        let at = format!("{SETTINGS}/vars.json");
        arg(&["--extra-vars", &format!("@{at}")]);
        files.insert(at, text(&vars));
    }
    args.extend(fields.list("args"));
    args.push(playbook);
    let mut env = environment();
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
    set("ANSIBLE_ROLES_PATH", joined(&roles, "/usr/share/ansible/roles"));
    set("ANSIBLE_COLLECTIONS_PATH", joined(&collections, "/usr/share/ansible/collections"));
    if let Some(secret) = fields.text("vault_password") {
        set("ANSIBLE_VAULT_PASSWORD_FILE", format!("/run/secrets/{secret}"));
        options.secrets.files.push(secret);
        options.secrets.files.sort_unstable();
        options.secrets.files.dedup();
    }
    env.extend(options.env.clone());
    let op = Configure {
        tool: Tool::Ansible,
        file: Some(file.clone().into()),
        from,
        args,
        env,
        files,
        mounts: std::iter::once(mount).chain(roles).chain(collections).collect(),
        secrets: options.secrets.clone(),
        twice: fields.boolean("twice").unwrap_or(false),
    };
    Some(work(file, op, options))
}

/// Returns the inventory that makes the image a host: reached without a connection, in these
/// groups.
fn hosts(host: &str, groups: &[String], from: &ToolFrom) -> Value {
    // Modules are run by what runs Ansible itself: the image needs no Python.
    let python = match from {
        ToolFrom::Layer(_) => format!("{TOOL_LAYER}/usr/lib/bake/python"),
        _ => "{{ ansible_playbook_python }}".to_owned(),
    };
    let host_vars = json!({
        "ansible_connection": "local",
        "ansible_python_interpreter": python,
    });
    let children: BTreeMap<&String, Value> =
        groups.iter().map(|group| (group, json!({ "hosts": { host: {} } }))).collect();
    json!({ "all": { "hosts": { host: host_vars }, "children": children } })
}

/// Returns settings that keep everything of Ansible's own in what is gone after the step, and that
/// have no one asked anything.
fn environment() -> BTreeMap<String, String> {
    let own = "/tmp/.ansible";
    let plugins = format!("{SETTINGS}/callback");
    let (local, remote) = (format!("{own}/local"), format!("{own}/remote"));
    let pairs: [(&str, &str); 14] = [
        ("ANSIBLE_HOME", own),
        ("ANSIBLE_LOCAL_TEMP", &local),
        ("ANSIBLE_REMOTE_TEMP", &remote),
        // Where another user reads what a task is.
        ("ANSIBLE_SYSTEM_TMPDIRS", "/tmp"),
        ("ANSIBLE_CALLBACK_PLUGINS", &plugins),
        ("ANSIBLE_STDOUT_CALLBACK", "bake"),
        ("ANSIBLE_NOCOLOR", "1"),
        ("ANSIBLE_PIPELINING", "1"),
        ("ANSIBLE_LOCALHOST_WARNING", "0"),
        ("ANSIBLE_RETRY_FILES_ENABLED", "0"),
        // Root becomes another user without sudo, also one whose shell is nologin.
        ("ANSIBLE_BECOME_METHOD", "su"),
        ("ANSIBLE_SU_FLAGS", "-s /bin/sh"),
        // A host that is not the image cannot be reached: nobody waits for that.
        ("ANSIBLE_SSH_RETRIES", "0"),
        ("ANSIBLE_TIMEOUT", "5"),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn text(value: &Value) -> String {
    // Also YAML, which is what Ansible reads.
    format!("{value:#}\n")
}
