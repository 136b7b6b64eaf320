//! `ansible` steps: with a program that stands in for Ansible, and with the real one.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::configure_lab::{self, build};
use crate::lab::{Lab, good, run};
use crate::sandbox_user::somebody;
use crate::tier;

/// A lab with what stands in for `ansible-playbook`: a script that does what `text` says.
fn stand_in(text: &str) -> Option<Lab> {
    let applets = ["rm", "mkdir", "grep", "readlink"];
    let lab = configure_lab::stand_in(&applets, "root/opt/tool/bin/ansible-playbook", text)?;
    let unit = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n";
    lab.write("root/usr/lib/systemd/system/web.service", unit);
    lab.write("site/play.yml", "- hosts: all\n");
    Some(lab)
}

/// Writes `a.toml`: an `ansible` step of that tool with these further keys.
fn recipe(lab: &Lab, more: &str) {
    let keys = format!("ansible = \"site/play.yml\"\ntool = \"/opt/tool\"\n{more}");
    configure_lab::recipe(lab, &keys);
}

/// A file of the image that was baked.
fn file(lab: &Lab, path: &str) -> String {
    let out = lab.path("out");
    if !out.exists() {
        good(lab.bake(["export", "a:1", "-f", "dir", "--drop-owners", "-o", "out"]));
    }
    fs::read_to_string(out.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What the tool gets: types of variables are kept, no word goes through a shell, and nothing that
/// was made for it is in the image.
#[test]
fn a_tool_gets_what_the_recipe_says_and_leaves_nothing() {
    let script = "mkdir /seen\nfor word in \"$@\"; do echo \"$word\"; done > /seen/words\n\
        cat /dev/bake/settings/vars.json > /seen/vars\n\
        cat /dev/bake/settings/inventory.json > /seen/inventory\n\
        pwd > /seen/where\ncat play.yml > /seen/play\necho x > scribble\n\
        echo \"$ANSIBLE_ROLES_PATH $OWN $HOME $LD_LIBRARY_PATH\" > /seen/env\nls \"$ANSIBLE_HOME\"\n\
        cat /dev/bake/below/roles/0/main > /seen/role\nexit 0\n";
    let Some(lab) = stand_in(&script.replace("ls \"$ANSIBLE_HOME\"\n", "")) else { return };
    lab.write("shared/main", "a role\n");
    recipe(
        &lab,
        "vars = { port = 80, on = true, ratio = 0.5, names = [\"a b\", \"$(x)\"], deep.one = \"{{ name }}\" }\n\
        tags = [\"a\", \"b\"]\nskip_tags = [\"c\"]\ngroups = [\"web\"]\nhost = \"web1\"\n\
        roles = [\"shared\"]\nargs = [\"--diff\"]\nenv.OWN = \"$HOME\"",
    );
    good(build(&lab));
    assert_eq!(
        file(&lab, "seen/words").lines().collect::<Vec<_>>(),
        [
            "--inventory",
            "/dev/bake/settings/inventory.json",
            "--limit",
            "web1",
            "--tags",
            "a,b",
            "--skip-tags",
            "c",
            "--extra-vars",
            "@/dev/bake/settings/vars.json",
            "--diff",
            "/dev/bake/configuration/play.yml"
        ]
    );
    let vars: serde_json::Value = serde_json::from_str(&file(&lab, "seen/vars")).expect("JSON");
    let expected = serde_json::json!({
        "port": 80, "on": true, "ratio": 0.5, "names": ["a b", "$(x)"], "deep": { "one": "a" },
    });
    assert_eq!(vars, expected);
    let inventory: serde_json::Value =
        serde_json::from_str(&file(&lab, "seen/inventory")).expect("JSON");
    assert_eq!(inventory["all"]["hosts"]["web1"]["ansible_connection"], "local");
    assert!(inventory["all"]["children"]["web"]["hosts"]["web1"].is_object(), "{inventory}");
    assert_eq!(file(&lab, "seen/where"), "/dev/bake/configuration\n");
    assert_eq!(file(&lab, "seen/play"), "- hosts: all\n");
    assert_eq!(file(&lab, "seen/role"), "a role\n");
    let env = file(&lab, "seen/env");
    assert_eq!(env, "/dev/bake/below/roles/0:/usr/share/ansible/roles $HOME /root \n");
    assert!(!lab.path("site/scribble").exists());
    let manifest = good(lab.bake(["export", "a:1", "-f", "manifest", "-o", "-"])).out;
    for gone in ["dev/bake", "systemctl", "run/systemd", ".ansible"] {
        assert!(!manifest.contains(gone), "{gone}\n{manifest}");
    }
    // What lies beside the playbook is in the key, what lies elsewhere is not.
    lab.write("elsewhere", "x");
    assert!(good(build(&lab)).err.contains("already"), "another file");
    lab.write("site/templates/a.j2", "x");
    let changed = build(&lab);
    assert!(changed.err.contains("not cached: mount site at"), "{}", changed.err);
}

/// Programs find a service manager that makes the links and starts nothing.
#[test]
fn services_are_enabled_by_links_and_started_by_nobody() {
    let script = "mkdir /seen\nq() { systemctl \"$@\"; echo \"$? $*\"; }\n{\n\
        q is-enabled web\nq enable --now web.service\nq is-enabled web\nq is-active web\n\
        q restart web\nq daemon-reload\nq start nothing\nq show -p LoadState -p ActiveState web\n\
        q disable web\nq mask web\nq is-enabled web\nq unmask web\nq enable web\n\
        q --no-pager list-unit-files\nq is-system-running\ncat /proc/1/comm\n\
        ls -d /run/systemd/system\n} > /seen/answers 2>&1\n\
        [ \"$BAKE_RUN\" ] || exit 1\nexit 0\n";
    let Some(lab) = stand_in(script) else { return };
    recipe(&lab, "");
    let built = good(build(&lab));
    let answers = [
        "disabled",
        "1 is-enabled web",
        "0 enable --now web.service",
        "enabled",
        "0 is-enabled web",
        "inactive",
        "3 is-active web",
        "0 restart web",
        "0 daemon-reload",
        "Failed to start nothing.service: Unit nothing.service not found.",
        "5 start nothing",
        "LoadState=loaded",
        "ActiveState=inactive",
        "0 show -p LoadState -p ActiveState web",
        "0 disable web",
        "0 mask web",
        "masked",
        "1 is-enabled web",
        "0 unmask web",
        "0 enable web",
        "web.service enabled -",
        "0 --no-pager list-unit-files",
        "offline",
        "1 is-system-running",
        "systemd",
        "/run/systemd/system",
    ];
    assert_eq!(file(&lab, "seen/answers").lines().collect::<Vec<_>>(), answers);
    let link = "out/etc/systemd/system/multi-user.target.wants/web.service";
    let target = fs::read_link(lab.path(link)).expect("a link");
    assert_eq!(target, Path::new("/usr/lib/systemd/system/web.service"));
    assert!(built.err.contains("no service runs while an image is made"), "{}", built.err);
    assert!(built.err.contains("Asked for: start web, restart web"), "{}", built.err);
    assert!(!lab.path("out/run/systemd").exists());
}

/// What a playbook's run reports decides: the task that failed is named, a second run may change
/// nothing, and nobody is asked.
#[test]
fn failures_name_the_task_in_the_recipes_own_paths() {
    let script = "report=/dev/bake/report/run-$BAKE_RUN\ncat play.yml > /tmp/what\n\
        . /dev/bake/configuration/do.sh\n";
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
    let failed = "echo '{\"event\":\"failed\",\"task\":\"the site\",\"at\":\"/dev/bake/configuration/play.yml:3\",\"why\":\"no nginx\"}' > $report; touch /half; exit 2";
    check(failed, "", &["because: \"the site\" (site/play.yml:3) failed", "because: no nginx"]);
    check(
        "printf '%s\\n' '[ERROR]: YAML parsing failed' 'Origin: /dev/bake/configuration/play.yml:5:6' >&2; exit 4",
        "",
        &["because: site/play.yml:5:6: YAML parsing failed", "exit status 4"],
    );
    check(
        "printf '%s\\n' 'ERROR! no action' '' \"The error appears to be in '/dev/bake/configuration/roles/x.yml': line 7, column 3, but may\" >&2; exit 4",
        "",
        &["because: site/roles/x.yml:7:3: no action"],
    );
    check(
        "echo '{\"event\":\"prompt\",\"name\":\"pw\"}' > $report; exit 1",
        "",
        &["asks for \"pw\", and nobody is there", "`vars = { pw = … }`"],
    );
    check(
        "echo '{\"event\":\"nobody\",\"play\":\"db\"}' > $report; exit 0",
        "",
        &["the play \"db\" is for no host that the image is", "`groups"],
    );
    check(
        "echo '{\"event\":\"changed\",\"task\":\"always\",\"at\":\"\"}' > $report; exit 0",
        "twice = true",
        &["run a second time, it changed something (1 of its tasks)", "because: \"always\""],
    );
    // A report that leads elsewhere is not followed, and one that is none is no report.
    check("ln -s /etc/passwd $report; exit 3", "", &["exit status 3"]);
    check("mkdir $report; exit 3", "", &["exit status 3"]);
    check("echo '{\"event\"' > $report; exit 3", "", &["exit status 3"]);
    // Nobody is at the keyboard.
    check("read -r answer || exit 9", "", &["exit status 9"]);
}

#[test]
fn what_is_missing_is_reported_with_what_helps() {
    let Some(lab) = stand_in("exit 0\n") else { return };
    let check = |from: &str, to: &str, expected: &[&str]| {
        recipe(&lab, "");
        let text = fs::read_to_string(lab.path("a.toml")).expect("ours");
        assert!(text.contains(from), "{from}");
        lab.write("a.toml", &text.replace(from, to));
        let built = build(&lab);
        assert_ne!(built.code, 0, "{to}\n{}", built.err);
        for text in expected {
            assert!(built.err.contains(text), "{text}\n{}", built.err);
        }
    };
    let tool = "tool = \"/opt/tool\"";
    check(
        tool,
        "tool = \"image\"",
        &["there is no program 'ansible-playbook'", "install ansible-playbook in a step before"],
    );
    check(tool, "tool = \"/opt/other\"", &["/opt/other/bin/ansible-playbook", "install"]);
    check(tool, "tool = \"opt\\\\x\"", &["is no place of a tool", "write `image`"]);
    check("site/play.yml", "nowhere/play.yml", &["nowhere"]);
    check("site/play.yml", "site/other.yml", &["site/other.yml"]);
    check(tool, "tool = \"/opt/tool\"\nvault_password = \"v\"", &["the secret `v`, which is not"]);
    check(tool, "tool = \"/opt/tool\"\ninventory = \"h\"", &["`inventory` without `host`"]);
    check(
        tool,
        "tool = \"/opt/tool\"\nhost = \"h\"\ninventory = \"../h\"",
        &["leads out of the directory of the playbook"],
    );
    check(tool, "tool = \"/opt/tool\"\nvars = \"a=1\"", &["expected a table for \"vars\""]);
    check(tool, "tool = \"/opt/tool\"\nvars.a = 1979-05-27", &["a date-time cannot be handed on"]);
    check(tool, "tool = \"/opt/tool\"\nvars.a = nan", &["no number that can be handed on"]);
    check(tool, "tool = \"/opt/tool\"\nrequirements = \"r.yml\"", &["requirements"]);
}

/// The password is a file of the step, and nowhere else.
#[test]
fn the_vault_password_is_a_secret() {
    let script = "cat \"$ANSIBLE_VAULT_PASSWORD_FILE\"; env | grep -q canary && exit 1\nexit 0\n";
    let Some(lab) = stand_in(script) else { return };
    recipe(&lab, "vault_password = \"vault\"");
    lab.write("password", "canary-of-the-vault");
    let built = good(lab.bake(["build", "a.toml", "--secret", "vault=file:password"]));
    assert!(!built.err.contains("canary-of-the-vault"), "{}", built.err);
}

/// A lab with the examples of configuration.
fn examples() -> Option<Lab> {
    if !tier::sandbox() {
        return None;
    }
    let lab = Lab::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/configuration");
    let files = [
        "steps.toml",
        "ansible.toml",
        "orders.conf.j2",
        "site/index.html",
        "ansible/site.yml",
        "ansible/files/index.html",
        "ansible/templates/orders.conf.j2",
    ];
    for file in files {
        lab.write(file, &fs::read_to_string(from.join(file)).expect("a file of the example"));
    }
    Some(lab)
}

/// The example, and playbooks that go wrong, with the Ansible of Debian in a root without Python;
/// then the example as a user.
#[test]
fn net_a_playbook_bakes_what_steps_bake_and_what_goes_wrong_is_named() {
    let Some(lab) = examples() else { return };
    good(lab.bake(["build", "steps.toml", "ansible.toml"]));
    let diff = lab.bake(["diff", "orders-by-steps:1.0.0", "orders-by-ansible:1.0.0"]).out;
    let files: Vec<&str> =
        diff.lines().filter_map(|line| line.trim().strip_prefix("changed ")).collect();
    let names: Vec<&str> = files.iter().filter_map(|line| line.split_whitespace().next()).collect();
    let named = ["/usr/lib/bake/image.json", "/usr/lib/os-release"];
    // useradd(8) leaves the password's ageing of a system user empty.
    assert_eq!(names, [&["/etc/shadow"][..], &named].concat(), "{diff}");
    assert!(diff.contains("0 added, 0 removed"), "{diff}");

    let wrong = |name: &str, playbook: &str, expected: &[&str]| {
        lab.write(&format!("{name}/site.yml"), playbook);
        let recipe = format!(
            "[image]\nname = \"{name}\"\nversion = \"1\"\n[base]\ndebian = \"trixie\"\n\
            variant = \"slim\"\n[[step]]\nansible = \"{name}/site.yml\"\n"
        );
        lab.write(&format!("{name}.toml"), &recipe);
        let built = lab.bake(["build".to_owned(), format!("{name}.toml")]);
        assert_ne!(built.code, 0, "{name}\n{}", built.err);
        for text in expected {
            assert!(built.err.contains(text), "{text}\n{}", built.err);
        }
        assert!(lab.scratch().is_empty());
    };
    let quick = "- hosts: all\n  gather_facts: false\n";
    wrong(
        "syntax",
        "- hosts: all\n  tasks:\n    - name: x\n      command: echo\n     - bad\n",
        &["because: syntax/site.yml:5:6: "],
    );
    wrong("role", &format!("{quick}  roles: [nothere]\n"), &["site.yml:3:11: the role 'nothere'"]);
    wrong(
        "prompt",
        &format!("{quick}  vars_prompt: [{{name: pw, prompt: Password}}]\n  tasks: []\n"),
        &["asks for \"pw\", and nobody is there"],
    );
    // The half that went well is nowhere.
    wrong(
        "half",
        &format!(
            "{quick}  tasks:\n    - copy: {{content: x, dest: /etc/half}}\n    - name: the second\n      \
            command: /bin/false\n"
        ),
        &["because: \"the second\" (half/site.yml:5) failed"],
    );
    assert!(!lab.bake(["list"]).out.contains("half"));
    wrong(
        "elsewhere",
        &format!("{quick}  tasks:\n    - command: /bin/true\n      delegate_to: db.example\n"),
        &["the host cannot be reached: only the image can be configured"],
    );

    let Some((_, uid, gid)) = somebody().filter(|_| rustix::process::geteuid().is_root()) else {
        return;
    };
    let digest = lab.digest("orders-by-ansible:1.0.0");
    let theirs = examples().expect("as before");
    fs::copy(lab.path("ansible.lock"), theirs.path("ansible.lock")).expect("our own file");
    let mut paths = vec![theirs.path("")];
    while let Some(path) = paths.pop() {
        chown(&path, Some(uid), Some(gid)).expect("we are root");
        if path.is_dir() {
            paths.extend(fs::read_dir(&path).expect("ours").map(|one| one.expect("ours").path()));
        }
    }
    // The lock file pins packages of the tool's stage and of the image: it is as written.
    let mut command = theirs.command(["build", "--locked", "ansible.toml"]);
    let built = good(run(command.uid(uid).gid(gid)));
    assert!(built.out.contains(&digest), "{digest}\n{}", built.out);
}
