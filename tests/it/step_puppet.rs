//! `puppet` steps: with a program that stands in for Puppet, and with the real one.

use std::fs;
use std::path::Path;

use crate::configure_lab::{self, build};
use crate::lab::{Lab, good};
use crate::tier;

/// A lab with what stands in for `puppet`: a script that does what `text` says.
fn stand_in(text: &str) -> Option<Lab> {
    let lab = configure_lab::stand_in(&["mkdir"], "root/opt/tool/bin/puppet", text)?;
    lab.write("site/site.pp", "notify { 'x': }\n");
    Some(lab)
}

fn recipe(lab: &Lab, more: &str) {
    configure_lab::recipe(lab, &format!("puppet = \"site/site.pp\"\n{more}"));
}

#[test]
fn puppet_gets_what_the_recipe_says_and_exit_code_2_is_success() {
    let script = "mkdir /seen\nfor word in \"$@\"; do echo \"$word\"; done > /seen/words\n\
        cat /dev/bake/settings/facts/bake.json > /seen/facts\nexit 2\n";
    let Some(lab) = stand_in(script) else { return };
    lab.write("shared/x", "");
    recipe(
        &lab,
        "tool = \"/opt/tool\"\nmodules = [\"shared\"]\nhiera = \"hiera.yaml\"\n\
        facts = { role = \"web\", ports = [80] }\nargs = [\"--noop\"]",
    );
    good(build(&lab));
    good(lab.bake(["export", "a:1", "-f", "dir", "--drop-owners", "-o", "out"]));
    let words = fs::read_to_string(lab.path("out/seen/words")).expect("written");
    let words: Vec<&str> = words.lines().collect();
    assert_eq!(words.first(), Some(&"apply"));
    let after = |option: &str| {
        let at = words.iter().position(|word| *word == option).expect(option);
        words[at + 1]
    };
    assert_eq!(after("--confdir"), "/tmp/.puppet/conf");
    assert_eq!(after("--modulepath"), "/dev/bake/below/modules/0:/dev/bake/configuration/modules");
    assert_eq!(after("--hiera_config"), "/dev/bake/configuration/hiera.yaml");
    let end = ["--detailed-exitcodes", "--color=false", "--noop"];
    assert_eq!(words[words.len() - 4..words.len() - 1], end);
    assert_eq!(words.last(), Some(&"/dev/bake/configuration/site.pp"));
    let facts = fs::read_to_string(lab.path("out/seen/facts")).expect("written");
    let facts: serde_json::Value = serde_json::from_str(&facts).expect("JSON");
    assert_eq!(facts, serde_json::json!({ "role": "web", "ports": [80] }));
}

#[test]
fn failures_of_puppet_name_the_resource_in_the_recipes_own_paths() {
    let script = "report=/dev/bake/report/run-$BAKE_RUN\n. /dev/bake/configuration/do.sh\n";
    let Some(lab) = stand_in(script) else { return };
    let check = |what: &str, more: &str, expected: &[&str]| {
        lab.write("site/do.sh", what);
        recipe(&lab, more);
        let built = build(&lab);
        assert_ne!(built.code, 0, "{what}\n{}", built.err);
        for text in expected {
            assert!(built.err.contains(text), "{text}\n{}", built.err);
        }
        assert!(!built.err.contains("/dev/bake/configuration"), "{}", built.err);
        assert!(lab.scratch().is_empty());
    };
    let tool = "tool = \"/opt/tool\"";
    check(
        "echo '{\"event\":\"failed\",\"task\":\"Service[nginx]\",\"at\":\"/dev/bake/configuration/site.pp:42\",\"why\":\"no unit\"}' > $report; exit 6",
        tool,
        &["because: \"Service[nginx]\" (site/site.pp:42) failed", "because: no unit"],
    );
    check("exit 4", tool, &["exit status 4"]);
    check(
        "echo 'Error: Facter: x' >&2; echo \"Error: Could not parse for environment production: Syntax error at '}' (file: /dev/bake/configuration/site.pp, line: 3, column: 5) on node a\" >&2; exit 1",
        tool,
        &[
            "because: site/site.pp:3:5: Could not parse for environment production: Syntax error at '}'",
        ],
    );
    check(
        "echo '{\"event\":\"changed\",\"task\":\"Exec[x]\",\"at\":\"/dev/bake/configuration/site.pp:1\"}' > $report; exit 2",
        &format!("{tool}\ntwice = true"),
        &["(1 of its resources)", "because: \"Exec[x]\" (site/site.pp:1)"],
    );
    check("exit 0", "tool = \"image\"", &["there is no program 'puppet'", "install puppet"]);
    check(
        "exit 0",
        &format!("{tool}\nhiera = \"../h.yaml\""),
        &["leads out of the directory of the manifest"],
    );
}

/// The example with the Puppet of Debian in a root without Ruby, and a manifest that is wrong.
#[test]
fn net_a_manifest_bakes_what_steps_bake() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/configuration");
    let files = [
        "steps.toml",
        "puppet.toml",
        "orders.conf.j2",
        "site/index.html",
        "puppet/site.pp",
        "puppet/hiera.yaml",
        "puppet/data/all.yaml",
        "puppet/data/role/web.yaml",
        "puppet/modules/orders/files/index.html",
        "puppet/modules/orders/manifests/init.pp",
        "puppet/modules/orders/templates/orders.conf.epp",
    ];
    for file in files {
        lab.write(file, &fs::read_to_string(from.join(file)).expect("a file of the example"));
    }
    good(lab.bake(["build", "steps.toml", "puppet.toml"]));
    let diff = lab.bake(["diff", "orders-by-steps:1.0.0", "orders-by-puppet:1.0.0"]).out;
    let files = diff.lines().filter_map(|line| line.trim().strip_prefix("changed "));
    let names: Vec<&str> = files.filter_map(|line| line.split_whitespace().next()).collect();
    // useradd(8) leaves the password's ageing of a system user empty.
    let expected = ["/etc/shadow", "/usr/lib/bake/image.json", "/usr/lib/os-release"];
    assert_eq!(names, expected, "{diff}");
    assert!(diff.contains("0 added, 0 removed"), "{diff}");

    let wrong = "[image]\nname = \"wrong\"\nversion = \"1\"\n[base]\ndebian = \"trixie\"\n\
        variant = \"slim\"\n[[step]]\npuppet = \"wrong/site.pp\"\n";
    lab.write("wrong.toml", wrong);
    lab.write("wrong/site.pp", "file { '/etc/x':\n  ensure => }\n");
    let built = lab.bake(["build", "wrong.toml"]);
    assert_ne!(built.code, 0, "{}", built.err);
    assert!(built.err.contains("because: wrong/site.pp:2:"), "{}", built.err);
}
