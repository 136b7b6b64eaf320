//! `network` of a step, from the recipe to what people see: refusals, the host's way out and its
//! authorities, what is recorded.

use std::process::Command;

use bake::gateway::HostTrust;
use serde_json::json;

use crate::gateway_lab::{ECHO, fine, outside, perl_by};
use crate::lab::{Lab, copy_program, good, run};
use crate::sandbox_lab;
use crate::tier;

const CERTIFICATE: &str =
    "-----BEGIN CERTIFICATE-----\nb3VyIG93biBhdXRob3JpdHk=\n-----END CERTIFICATE-----\n";

/// A lab whose root has bash as well, which can connect.
fn lab() -> Lab {
    let lab = Lab::new();
    let root = lab.tiny_root();
    copy_program(&root, "bash");
    lab
}

fn recipe(step: &str) -> String {
    format!(
        "[image]\nname = \"tiny\"\nversion = \"1\"\n[base]\npath = \"root\"\n[[step]]\nshell = \
            \"bash\"\n{step}"
    )
}

#[test]
fn a_step_without_a_network_learns_which_host_to_list() {
    if !tier::sandbox() {
        return;
    }
    let lab = lab();
    // As curl has it: the name in its message, and a question that nobody answers.
    let step = "run = \"(exec 3<>/dev/tcp/files.example.org/443) 2>/dev/null || \
        { echo 'curl: (6) Could not resolve host: files.example.org' >&2; exit 6; }\"\n";
    lab.write("tiny.toml", &recipe(step));
    let failed = lab.bake(["build", "tiny.toml"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    for part in ["it asked for files.example.org", "give it `network = [\"files.example.org\"]`"] {
        assert!(failed.err.contains(part), "{part}: {}", failed.err);
    }
}

#[test]
fn a_host_that_is_not_listed_fails_the_step_and_is_named() {
    if !tier::sandbox() {
        return;
    }
    let lab = lab();
    let step = "network = [\"web.example:80\"]\nrun = \"(exec 3<>/dev/tcp/other.example/443; read a \
        <&3) 2>/dev/null || true\"\n";
    lab.write("tiny.toml", &recipe(step));
    let failed = lab.bake(["build", "tiny.toml"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    for part in [
        "the step asked for other.example:443, which `network` does not list",
        "went on all the same",
        "hint: if it is meant to be reached, add \"other.example:443\" to `network`",
    ] {
        assert!(failed.err.contains(part), "{part}: {}", failed.err);
    }
    // With its own failure first.
    lab.write("tiny.toml", &recipe(&step.replace("|| true", "")));
    let failed = lab.bake(["build", "tiny.toml"]);
    assert!(failed.err.contains("because: exit status 1"), "{}", failed.err);
    assert!(failed.err.contains("asked for other.example:443"), "{}", failed.err);
    assert!(lab.scratch().is_empty());
}

#[test]
fn addresses_of_the_host_are_refused_and_named() {
    if !tier::sandbox() {
        return;
    }
    let lab = lab();
    let step = "network = true\nrun = \"(exec 3<>/dev/tcp/169.254.169.254/80; read a <&3) \
        2>/dev/null || true\"\n";
    lab.write("tiny.toml", &recipe(step));
    let failed = lab.bake(["build", "tiny.toml"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    for part in [
        "the step asked for 169.254.169.254:80, which is not a public address",
        "hint: `network = true` reaches public hosts only",
    ] {
        assert!(failed.err.contains(part), "{part}: {}", failed.err);
    }
}

#[test]
fn the_network_of_the_host_has_to_be_written_and_warns() {
    if !tier::sandbox() {
        return;
    }
    let lab = lab();
    lab.write("tiny.toml", &recipe("network = \"host\"\nrun = \"true\"\n"));
    let built = good(lab.bake(["build", "tiny.toml"]));
    assert!(built.err.contains("warning: step 1 has the network of this host"), "{}", built.err);
    let planned = good(lab.bake(["plan", "--json", "tiny.toml"])).objects("plan");
    assert_eq!(planned[0]["steps"][0]["network"], "host");
    lab.write("tiny.toml", &recipe("network = [\"b.example\", \"a.example\"]\nrun = \"true\"\n"));
    let planned = good(lab.bake(["plan", "--json", "tiny.toml"])).objects("plan");
    assert_eq!(planned[0]["steps"][0]["network"], json!(["a.example", "b.example"]));
    for (wrong, why) in [
        ("\"hots\"", "did you mean \"host\""),
        ("\"true\"", "write network = true"),
        ("\"a.example\"", "write network = [\"a.example\"]"),
        ("[\"https://a.example\"]", "no `https://`"),
        ("[\"a.example:0\"]", "a port is a number"),
        ("1", "expected a boolean, \"host\" or a list of hosts"),
    ] {
        lab.write("tiny.toml", &recipe(&format!("network = {wrong}\nrun = \"true\"\n")));
        let checked = lab.bake(["check", "tiny.toml"]);
        assert!(checked.code != 0 && checked.err.contains(why), "{wrong}: {}", checked.err);
    }
}

#[test]
fn authorities_of_the_host_are_seen_and_stay_in_no_image() {
    if !tier::sandbox() {
        return;
    }
    let lab = lab();
    let bundle = lab.write("own.pem", &format!("# ours\n{CERTIFICATE}"));
    let step = "network = true\nenv.PIP_CERT = \"/own\"\nrun = \"\"\"echo pip $PIP_CERT\necho git \
        ${GIT_SSL_CAINFO:-none}\nif [ -e /run/bake/ca-certificates.crt ]; then cat \
        /run/bake/ca-certificates.crt; else echo no bundle; fi\ntouch /made\"\"\"\n";
    lab.write("tiny.toml", &recipe(step));
    let build = |store: &str, more: &[&str]| {
        let args = ["build", "--store", store, "tiny.toml"];
        let built = good(run(lab.command(args.iter().chain(more)).env("SSL_CERT_FILE", &bundle)));
        (built.out, built.err)
    };
    let (with, seen) = build("one", &[]);
    for part in ["pip /own", "git /run/bake/ca-certificates.crt", "b3VyIG93biBhdXRob3JpdHk="] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    let (without, seen) = build("two", &["--no-host-trust"]);
    assert!(seen.contains("git none") && seen.contains("no bundle"), "{seen}");
    assert_eq!(with, without, "the image is the same");
    for store in ["one", "two"] {
        let found = run(Command::new("grep")
            .args(["-rlaF", "-e", "b3VyIG93biBhdXRob3JpdHk", "-e", "/run/bake/ca"])
            .arg(lab.path(store).join("blobs")));
        assert_eq!(found.out, "", "in {store}");
    }
    // A step without a network sees nothing of it.
    lab.write("tiny.toml", &recipe(&step.replace("network = true\n", "")));
    assert!(build("three", &[]).1.contains("no bundle"));
}

#[test]
fn root_a_proxy_of_the_host_is_the_way_out() {
    outside("step_network::root_a_proxy_of_the_host_is_the_way_out", || {
        let Some(lab) = sandbox_lab::Lab::new() else { return };
        let by = |given: &[(&str, &str)], list: &[&str], script: &str| {
            let variable = |name: &str| {
                let found = given.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let trust = HostTrust::of(variable, std::iter::empty());
            fine(perl_by(&lab, list, trust, script))
        };
        let proxy = [
            ("http_proxy", "http://me:word@203.0.113.8:3128"),
            ("https_proxy", "http://203.0.113.8:3128"),
            ("no_proxy", "direct.example"),
        ];
        let get = |host: &str| {
            format!(
                "my $s = to('{host}', 80); ref $s or die $s; syswrite($s, \"GET /x \
                    HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n\"); shutdown($s, 1); print <$s>"
            )
        };
        // Only the proxy knows of that name.
        let done = by(&proxy, &[], &get("only.by.proxy"));
        assert_eq!(
            done.out(),
            "GET http://only.by.proxy/x HTTP/1.1|Host: only.by.proxy|Proxy-Authorization: Basic \
                bWU6d29yZA=="
        );
        assert_eq!(done.reached(), [("only.by.proxy".to_owned(), 80, 1)]);
        // A tunnel, half-closed.
        let echo = format!(
            "my $s = to('web.example', {ECHO}); ref $s or die $s; syswrite($s, 'through'); \
                shutdown($s, 1); print <$s>"
        );
        assert_eq!(
            by(&proxy, &["web.example"], &echo).out(),
            format!("to web.example:{ECHO} through")
        );
        // The list counts, and so does what is known of a name here.
        let refused = by(&proxy, &["web.example:443"], "my $s = to('web.example', 80); sleep 1");
        assert_eq!(refused.refused().len(), 1);
        let private = by(&proxy, &[], "my $s = to('db.example', 443); my $l = <$s>; print 'over'");
        assert_eq!(
            private.refused(),
            ["the step asked for db.example:443, which is at 10.1.2.3: not a public address"]
        );
        // What a proxy is not for goes by itself.
        let direct = by(&proxy, &[], &echo.replace("web.example", "direct.example"));
        assert_eq!(direct.out(), "through");
        // A proxy that says no, and one that is not there.
        let no =
            by(&proxy, &[], "my $s = to('forbidden.example', 443); my $l = <$s>; print 'over'");
        assert!(no.report.failed[0].1.contains("403 Forbidden"), "{:?}", no.report.failed);
        let gone = [("https_proxy", "http://203.0.113.8:1")];
        let gone =
            by(&gone, &[], "my $s = to('web.example', 443); my $l = <$s> if ref $s; print 1");
        assert_eq!(gone.report.failed[0].1, "by the proxy: connection refused");
    });
}

#[test]
fn root_what_was_reached_is_recorded_with_the_image() {
    if !tier::sandbox() {
        return;
    }
    outside("step_network::root_what_was_reached_is_recorded_with_the_image", || {
        if std::env::var_os("BAKE_TEST_OUTSIDE").is_some() {
            // Where a user builds, all but the network is as above.
            return;
        }
        let lab = lab();
        let step = format!(
            "network = [\"203.0.113.7\"]\nrun = \"\"\"exec 3<>/dev/tcp/203.0.113.7/{ECHO}\necho \
                hello >&3\nread answer <&3\ntouch /made-$answer\"\"\"\n"
        );
        lab.write("tiny.toml", &recipe(&step));
        let build = |store: &str| {
            good(lab.bake(["build", "--store", store, "tiny.toml"]));
            let shown = lab.bake(["show", "--store", store, "--json", "tiny:1"]);
            good(shown).objects("show").remove(0)
        };
        let shown = build("one");
        assert_eq!(
            shown["network"]["steps"],
            json!([{ "step": 1, "label": shown["network"]["steps"][0]["label"], "reached": [{
                "host": "203.0.113.7", "port": ECHO, "connections": 1, "sent": 6, "received": 6,
            }] }])
        );
        let text = good(lab.bake(["show", "--store", "one", "tiny:1"])).out;
        assert!(text.contains(&format!("step 1: 203.0.113.7:{ECHO}, 1 connection, 6 B")), "{text}");
        // From the cache, under another version: the same is known.
        let again = ["build", "--store", "one", "--set-version", "2", "tiny.toml"];
        good(lab.bake(again));
        let shown_again = good(lab.bake(["show", "--store", "one", "--json", "tiny:2"]));
        let trace = &shown_again.objects("show")[0]["network"]["steps"];
        assert_eq!(trace, &shown["network"]["steps"]);
        good(lab.bake(["verify", "--store", "one"]));
    });
}
