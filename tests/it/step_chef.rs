//! `chef` steps, with a program that honours the command line of Chef's client: there is none in
//! Debian.

use std::fs;

use crate::configure_lab::{self, build};
use crate::lab::{Lab, good};

/// A lab with what stands in for the client, by the name `program`.
fn stand_in(program: &str, text: &str) -> Option<Lab> {
    // The options of chef-client(8) that the step gives, each with its value.
    let parse = "while [ $# -gt 0 ]; do case $1 in\n\
        -z|--local-mode|--no-color) ;;\n\
        -c|--config) config=$2; shift ;;\n\
        -j|--json-attributes) attributes=$2; shift ;;\n\
        -o|--override-runlist) runlist=$2; shift ;;\n\
        -l) level=$2; shift ;;\n\
        *) echo \"unknown option $1\" >&2; exit 1 ;;\nesac; shift; done\n";
    let lab = configure_lab::stand_in(&["mkdir"], program, &format!("{parse}{text}"))?;
    lab.write("cookbooks/web/recipes/default.rb", "package 'nginx'\n");
    Some(lab)
}

fn recipe(lab: &Lab, more: &str) {
    configure_lab::recipe(lab, &format!("chef = \"cookbooks\"\n{more}"));
}

const SEEN: &str = "mkdir /seen\necho \"$runlist $level\" > /seen/run\n\
    cat \"$config\" > /seen/config\ncat \"$attributes\" > /seen/attributes\n\
    cat web/recipes/default.rb > /seen/recipe\nsystemctl start nothing; exit 0\n";

#[test]
fn the_client_gets_cookbooks_attributes_and_a_run_list() {
    for (program, tool) in [
        ("root/bin/chef-client", "image"),
        ("root/bin/cinc-client", "image"),
        ("root/opt/cinc/bin/cinc-client", "/opt/cinc"),
    ] {
        let Some(lab) = stand_in(program, SEEN) else { return };
        recipe(
            &lab,
            &format!(
                "tool = \"{tool}\"\nrun_list = [\"recipe[web]\", \"role[x]\"]\n\
                attributes = {{ web.port = 80 }}\nargs = [\"-l\", \"info\"]"
            ),
        );
        good(build(&lab));
        good(lab.bake(["export", "a:1", "-f", "dir", "--drop-owners", "-o", "out"]));
        let seen = |name: &str| {
            fs::read_to_string(lab.path("out/seen").join(name)).expect("what the client saw")
        };
        assert_eq!(seen("run"), "recipe[web],role[x] info\n");
        assert!(seen("config").contains("cookbook_path [\"/dev/bake/configuration\"]"));
        let attributes: serde_json::Value =
            serde_json::from_str(&seen("attributes")).expect("JSON");
        assert_eq!(attributes, serde_json::json!({ "web": { "port": 80 } }));
        assert_eq!(seen("recipe"), "package 'nginx'\n");
        // A cookbook that changed is another step.
        lab.write("cookbooks/web/recipes/default.rb", "package 'apache2'\n");
        let again = build(&lab);
        assert!(again.err.contains("not cached: mount cookbooks at"), "{}", again.err);
    }
}

#[test]
fn what_goes_wrong_with_chef_is_named() {
    let script = ". /dev/bake/configuration/do.sh\n";
    let Some(lab) = stand_in("root/opt/cinc/bin/cinc-client", script) else { return };
    let check = |what: &str, more: &str, expected: &[&str]| {
        lab.write("cookbooks/do.sh", what);
        recipe(&lab, more);
        let built = build(&lab);
        assert_ne!(built.code, 0, "{what}\n{}", built.err);
        for text in expected {
            assert!(built.err.contains(text), "{text}\n{}", built.err);
        }
        assert!(lab.scratch().is_empty());
    };
    let good = "tool = \"/opt/cinc\"\nrun_list = [\"web\"]";
    check(
        "echo '[2026-01-01T00:00:00+00:00] FATAL: Stacktrace dumped to /tmp/x'; echo '[2026-01-01T00:00:00+00:00] FATAL: Errno::ENOENT: file[/x] (web::default line 5) had an error'; exit 1",
        good,
        &["because: Errno::ENOENT: file[/x] (web::default line 5) had an error", "exit status 1"],
    );
    check(
        "echo 'Cinc Client finished, 2/3 resources updated in 01 seconds'; exit 0",
        &format!("{good}\ntwice = true"),
        &["run a second time, it changed something (2 of its resources)"],
    );
    check(
        "exit 0",
        "tool = \"image\"\nrun_list = [\"web\"]",
        &["there is no program 'chef-client'", "install the client in a step before"],
    );
    check("exit 0", "tool = \"/opt/cinc\"", &["without `run_list`"]);
    check("exit 0", "tool = \"/opt/cinc\"\nrun_list = []", &["an empty run list does nothing"]);
    check("exit 0", "run_list = [\"web\"]", &["without `tool`"]);
    check(
        "exit 0",
        "tool = \"trixie\"\nrun_list = [\"web\"]",
        &["Debian has neither Chef nor Cinc"],
    );
    check("exit 0", &format!("{good}\nattributes = [1]"), &["expected a table for \"attributes\""]);
}
