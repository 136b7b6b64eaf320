//! A whole recipe, read and lowered: labels and operations as plan and build get them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bake::recipe::{self, Inputs};
use bake::step::{Content, Lowered, Op, ServiceState};

#[test]
fn the_reference_is_lowered() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/recipes/good/reference.toml");
    let text = std::fs::read_to_string(file).unwrap();
    let inputs = Inputs {
        file: PathBuf::from("x"),
        arch: "amd64".into(),
        vars: vec![("nginx".into(), "1.22".into())],
        ..Inputs::default()
    };
    let recipe = recipe::read(&text, &inputs).unwrap();
    let lowered = &recipe.steps;
    let labels: Vec<&str> = lowered.iter().map(|l| l.label.as_str()).collect();
    let expected = [
        "repository nginx",
        "packages nginx=1.22 vendor/our-tools.deb",
        "group app",
        "user app",
        "the site",
        "download https://example.org/tool/v1.4/tool-linux-amd64.tar…",
        "template /etc/nginx/nginx.conf",
        "file /etc/sysctl.d/60-web.conf",
        "file /etc/environment",
        "mkdir /var/lib/web /var/cache/web",
        "symlink /var/log/nginx/access.log",
        "remove /etc/nginx/sites-enabled/default /usr/share/doc/*",
        "service nginx ssh",
        "service apt-daily.timer",
        "run npm ci | tee /tmp/log …",
        "script scripts/harden.sh",
    ];
    assert_eq!(labels, expected);
    assert!(lowered.iter().all(|l| l.ops.len() == 1));
    let write = Op::Write {
        path: "/etc/nginx/nginx.conf".into(),
        content: Content::Template("nginx.conf.j2".into()),
        append: false,
        owner: Some("0:0".into()),
        mode: Some(0o644),
    };
    assert_eq!(lowered[6].ops[0], write);
    // The operations are part of a step's key: their JSON must not change by accident.
    let json = serde_json::to_string(&lowered[9].ops).unwrap();
    assert_eq!(
        json,
        r#"[{"op":"mkdir","paths":["/var/lib/web","/var/cache/web"],"owner":"app:app","mode":488}]"#
    );
}

/// Reads the only step of a recipe.
fn step(text: &str) -> Lowered {
    let text =
        format!("[image]\nname = 'x'\nversion = '1'\n[base]\nscratch = true\n[[step]]\n{text}");
    let mut recipe = recipe::read(&text, &Inputs::default()).unwrap_or_else(|e| panic!("{e:?}"));
    recipe.steps.remove(0)
}

#[test]
fn a_string_goes_to_the_shell_and_a_list_does_not() {
    let run = step("run = 'nginx -t'\nnetwork = true\nretries = 2\ntimeout = '9s'\nenv.A = 1\n");
    assert_eq!(
        (run.label.as_str(), run.line, run.network.is_some(), run.retries),
        ("run nginx -t", 7, true, 2)
    );
    assert_eq!(run.timeout, Some(Duration::from_secs(9)));
    let [Op::Exec { argv, env, user, cwd, .. }] = run.ops.as_slice() else { panic!("{run:?}") };
    assert_eq!(argv, &["/bin/sh", "-eu", "-c", "nginx -t"]);
    assert_eq!((env["A"].as_str(), user.as_str(), cwd.as_str()), ("1", "root", "/"));
    let run = step("run = ['a', 'b c']\n");
    assert!(matches!(&run.ops[..], [Op::Exec { argv, .. }] if argv == &["a", "b c"]));
}

#[test]
fn defaults_are_filled_in_but_append_leaves_alone() {
    let write = |append, owner: Option<&str>, mode| {
        let content = Content::Text("x".into());
        [Op::Write { path: "/a".into(), content, append, owner: owner.map(Into::into), mode }]
    };
    assert_eq!(step("file = '/a'\ncontent = 'x'\n").ops, write(false, Some("0:0"), Some(0o644)));
    assert_eq!(step("file = '/a'\nappend = 'x'\n").ops, write(true, None, None));
    let mkdir =
        Op::Mkdir { paths: vec!["/d".into()], owner: "0:0".into(), mode: 0o755, kept: false };
    assert_eq!(step("mkdir = '/d'\n").ops, [mkdir]);
}

#[test]
fn services_have_one_state() {
    let state = |rest: &str| match step(&format!("service = 'x'\n{rest}")).ops.remove(0) {
        Op::Service { state, .. } => state,
        other => panic!("{other:?}"),
    };
    assert_eq!(state(""), ServiceState::Enabled);
    assert_eq!(state("enabled = false"), ServiceState::Disabled);
    assert_eq!(state("masked = true"), ServiceState::Masked);
}

#[test]
fn a_name_is_a_label_and_nothing_else() {
    let named = step("name = 'the site'\nrun = 'x'\n");
    assert_eq!((named.label.as_str(), named.about.as_str()), ("the site", "run x"));
    assert_eq!(named.ops, step("run = 'x'\n").ops);
}
