//! A whole recipe, read and lowered: labels and operations as plan and build get them.

use std::path::{Path, PathBuf};

use bake::recipe::{self, Inputs};
use bake::step::{self, Content, Op};

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
    let lowered: Vec<_> = recipe.steps.iter().map(step::lower).collect();
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
    assert!(lowered.iter().zip(&recipe.steps).all(|(l, s)| l.line == s.line));
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
