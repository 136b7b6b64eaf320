//! `bake push` and `bake build --push`, to a registry of our own and to Debian's.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bake::digest::Digest;
use bake::image::MEDIA_MANIFEST;
use serde_json::Value;

use crate::cmd_serve::publish;
use crate::lab::{Lab, Run, good, kills, run};
use crate::registry_lab::{Fake, Manners, Reply, manifest};
use crate::tier;

#[test]
fn a_version_is_pushed_under_its_own_tag_or_another() {
    let (lab, fake) = (Lab::new(), Fake::start());
    publish(&lab, "team/web:1");
    publish(&lab, "team/web:2");
    good(lab.bake(["promote", "team/web:1", "production"]));
    let to = format!("{}/web", fake.address);
    let pushed = good(lab.bake(["push", "team/web:1", &to]));
    let digest = lab.digest("team/web:1");
    assert_eq!(pushed.out, format!("{to}:1 {digest}\n"));
    // A channel pushes what it points at.
    good(lab.bake(["push", "team/web@production", &format!("{to}:production")]));
    let tags = fake.tags("web");
    assert_eq!(tags.keys().collect::<Vec<_>>(), ["1", "production"]);
    assert_eq!(tags["production"].to_string(), digest);
    let again = good(lab.bake(["push", "--json", "team/web:1", &to]));
    let object = &again.objects("pushed")[0];
    assert_eq!(
        (&object["already"], &object["sent"], &object["tag"], &object["to"]),
        (&Value::Bool(true), &0.into(), &"1".into(), &to.as_str().into())
    );
    // Another version under a tag that is there.
    let taken = lab.bake(["push", "team/web:2", &format!("{to}:1")]);
    assert_eq!(taken.code, 1, "{}", taken.err);
    assert!(taken.err.contains("--move-tag"), "{}", taken.err);
    assert_eq!(fake.tags("web")["1"].to_string(), digest);
    let moved = good(lab.bake(["push", "--json", "--move-tag", "team/web:2", &format!("{to}:1")]));
    assert_eq!(moved.objects("pushed")[0]["was"], digest);
    assert_eq!(fake.tags("web")["1"].to_string(), lab.digest("team/web:2"));
}

#[test]
fn without_a_destination_it_goes_where_the_workspace_says() {
    let (lab, fake) = (Lab::new(), Fake::start());
    publish(&lab, "team/web:1");
    let none = lab.bake(["push", "team/web:1"]);
    assert_eq!(none.code, 2, "{}", none.err);
    assert!(none.err.contains("missing a destination"), "{}", none.err);
    lab.write("bake.toml", &format!("registry = \"{}/all/\"\n", fake.address));
    let pushed = good(lab.bake(["push", "team/web:1"]));
    let digest = lab.digest("team/web:1");
    assert_eq!(pushed.out, format!("{}/all/team/web:1 {digest}\n", fake.address));
    assert_eq!(fake.tags("all/team/web").keys().collect::<Vec<_>>(), ["1"]);
    // What a person says wins.
    good(lab.bake(["push", "team/web:1", &format!("{}/other:2", fake.address)]));
    assert_eq!(fake.tags("other").keys().collect::<Vec<_>>(), ["2"]);
}

#[test]
fn what_is_no_target_is_a_usage_error_before_anything_is_asked() {
    let lab = Lab::new();
    publish(&lab, "web:1");
    for (to, why) in [
        ("web", "names no registry"),
        ("team/web:1", "names no registry"),
        ("https://r.example/web", "without https://"),
        ("r.example/Web", "names no image"),
        ("r.example:0/web", "the port is not one"),
        (&format!("r.example/web@{}", Digest::of("x")), "gets a tag"),
    ] {
        let run = lab.bake(["push", "web:1", to]);
        assert_eq!(run.code, 2, "{to}: {}", run.err);
        assert!(run.err.contains(why), "{to}: {}", run.err);
        let run = lab.bake(["build", "missing.toml", "--push", to]);
        assert_eq!(run.code, 2, "{to}: {}", run.err);
        assert!(run.err.contains(why), "{to}: {}", run.err);
    }
    assert_eq!(lab.bake(["push", "other:1", "localhost:1/web"]).code, 1);
}

/// Layers that one repository has are taken from there for another.
#[test]
fn what_was_pushed_elsewhere_is_mounted() {
    let (lab, fake) = (Lab::new(), Fake::start());
    publish(&lab, "web:1");
    publish(&lab, "api:1");
    good(lab.bake(["push", "web:1", &format!("{}/web", fake.address)]));
    fake.forget_seen();
    let pushed = good(lab.bake(["push", "--json", "api:1", &format!("{}/api", fake.address)]));
    let object = &pushed.objects("pushed")[0];
    assert_eq!((&object["mounted"], &object["sent"]), (&2.into(), &0.into()), "{object}");
    assert_eq!(fake.count("PATCH", ""), 0);
}

#[test]
fn a_push_that_fails_says_what_is_left_and_can_be_done_again() {
    let (lab, fake) = (Lab::new(), Fake::start());
    publish(&lab, "web:1");
    let to = format!("{}/web", fake.address);
    fake.manners().before = Some(Box::new(|seen| {
        let body = r#"{"errors":[{"code":"DENIED","message":"read only"}]}"#;
        (seen.method == "POST").then(|| Reply::new(403).body(body))
    }));
    let failed = lab.bake(["push", "web:1", &to]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    for part in ["denied: read only", "is as it was"] {
        assert!(failed.err.contains(part), "{}", failed.err);
    }
    let failed = lab.bake(["push", "--json", "web:1", &to]);
    assert_eq!(failed.objects("failed")[0]["kind"], "network");
    fake.manners().before = None;
    good(lab.bake(["push", "web:1", &to]));
    let refused = lab.bake(["push", "web:1", "localhost:1/web"]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("connection refused"), "{}", refused.err);
}

/// `BAKE_KILLS=200` kills it as often.
#[test]
fn a_push_that_is_killed_leaves_the_tag_old_or_new() {
    let (lab, fake) = (Lab::new(), Fake::start());
    let image = publish(&lab, "web:1");
    let new: Digest = lab.digest("web:1").parse().expect("a digest");
    let kills = kills(12);
    // As long as one lasts that sends everything.
    let before = Instant::now();
    good(run(&mut lab.command(["push", "web:1", &format!("{}/first", fake.address)])));
    let whole = before.elapsed();
    let (mut olds, mut news) = (0, 0);
    for n in 0..kills {
        let name = format!("web{n}");
        let text = manifest(&fake, &name, &[]);
        let old = fake.manifest(&name, "production", MEDIA_MANIFEST, &text);
        let to = format!("{}/{name}:production", fake.address);
        let args = ["push", "--move-tag", "web:1", &to];
        let mut child = (lab.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn())
            .expect("our own program");
        std::thread::sleep(whole * 5 / 4 * n / kills);
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        let now = fake.tags(&name)["production"];
        assert!(now == old || now == new, "{now}");
        if now == new {
            // What it names is all there.
            news += 1;
            let content = fake.content();
            for blob in image.layers.iter().chain([&image.config]) {
                let key = (name.clone(), blob.digest.to_string());
                assert!(content.blobs.contains_key(&key), "{}", blob.digest);
            }
        } else {
            olds += 1;
        }
        good(lab.bake(args));
        assert_eq!(fake.tags(&name)["production"], new);
    }
    assert!(olds > 0, "the first are killed at once; {news} were through");
}

#[test]
fn no_proxy_leads_to_this_host() {
    let (lab, fake) = (Lab::new(), Fake::start());
    publish(&lab, "web:1");
    let to = format!("{}/web", fake.address);
    let push = |to: &str| {
        let mut command = lab.command(["push", "web:1", to]);
        run(command.env("HTTP_PROXY", "http://127.0.0.1:1").env("BAKE_NETWORK_TIMEOUT", "1s"))
    };
    good(push(&to));
    let wrong = run(lab.command(["push", "web:1", &to]).env("BAKE_NETWORK_TIMEOUT", "soon"));
    assert_eq!(wrong.code, 2, "{}", wrong.err);
}

/// From a public registry no way leads to this host. The registry's name is found by a proxy, which
/// is ours.
#[test]
fn a_public_registry_does_not_lead_to_private_addresses() {
    let (lab, proxy, inside) = (Lab::new(), Fake::start(), Fake::start());
    publish(&lab, "web:1");
    let private =
        [inside.address.to_string(), "169.254.169.254".to_owned(), "localhost:1".to_owned()];
    for host in private {
        let to = format!("http://{host}/v2/web/blobs/uploads/x");
        proxy.manners().before = Some(Box::new(move |seen| {
            (seen.method == "POST").then(|| Reply::new(202).with("location", &to))
        }));
        let args = ["push", "--registry-http", "registry.example", "web:1", "registry.example/web"];
        let run = run(lab.command(args).env("HTTP_PROXY", format!("http://{}", proxy.address)));
        assert_eq!(run.code, 1, "{}", run.err);
        assert!(run.err.contains("private address"), "{}", run.err);
    }
    assert_eq!(inside.seen().len(), 0);
    assert!(proxy.count("POST", "/v2/web/blobs/uploads/") >= 3, "{:?}", proxy.seen());
}

#[test]
fn a_baked_image_is_pushed_with_what_its_tests_gave() {
    if !tier::sandbox() {
        return;
    }
    let (lab, fake) = (Lab::new(), Fake::start());
    lab.tiny_root();
    let recipe = |version: &str, text: &str| {
        format!(
            "[image]\nname = \"web\"\nversion = \"{version}\"\n[base]\npath = \"root\"\n\
             [[step]]\nfile = \"/etc/motd\"\ncontent = \"{text}\"\n\
             [[test]]\nfile = \"/etc/motd\"\ncontains = \"{text}\"\n"
        )
    };
    lab.write("web.toml", &recipe("1", "one"));
    let to = format!("{}/web", fake.address);
    let built = good(lab.bake(["build", "--json", "web.toml", "--push", &to]));
    let digest = lab.digest("web:1");
    assert_eq!(built.objects("pushed")[0]["digest"], digest.as_str());
    assert_eq!(fake.tags("web")["1"].to_string(), digest);
    // What its tests gave speaks about it; the list of tests stays here.
    let content = fake.content();
    let artifacts: Vec<&Vec<u8>> = content
        .manifests
        .iter()
        .filter(|((_, reference), _)| reference.contains(':') && *reference != digest)
        .map(|(_, (_, bytes))| bytes)
        .collect();
    assert_eq!(artifacts.len(), 1);
    let artifact: Value = serde_json::from_slice(artifacts[0]).expect("JSON");
    assert_eq!(artifact["artifactType"], "application/vnd.in-toto+json");
    assert_eq!(artifact["subject"]["digest"], digest.as_str());
    drop(content);
    // Built again, it is there already.
    let again = good(lab.bake(["build", "--json", "web.toml", "--push", &to]));
    assert_eq!(again.objects("pushed")[0]["already"], true);
    // A registry that fails takes nothing away.
    *fake.manners() = Manners {
        before: Some(Box::new(|seen| (seen.method == "PUT").then(|| Reply::new(403)))),
        ..Manners::default()
    };
    lab.write("web.toml", &recipe("2", "two"));
    let failed = lab.bake(["build", "web.toml", "--push", &to]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    let hint = format!("web:2 is published here: push it with `bake push web:2 {to}`");
    assert!(failed.err.contains(&hint), "{}", failed.err);
    assert_eq!(fake.tags("web").keys().collect::<Vec<_>>(), ["1"]);
    *fake.manners() = Manners::default();
    good(lab.bake(["push", "web:2", &to]));
}

#[test]
fn an_image_whose_tests_were_left_out_is_pushed_only_where_that_is_wanted() {
    if !tier::sandbox() {
        return;
    }
    let (lab, fake) = (Lab::new(), Fake::start());
    lab.tiny_root();
    lab.write(
        "web.toml",
        "[image]\nname = \"web\"\nversion = \"1\"\n[base]\npath = \"root\"\n\
         [[test]]\nfile = \"/bin/sh\"\n",
    );
    let to = format!("{}/web", fake.address);
    let refused = |run: Run| {
        assert_eq!((run.code, run.out.as_str()), (1, ""), "{}", run.err);
        for part in ["web:1 is untested", "bake test web:1", "bake push --untested"] {
            assert!(run.err.contains(part), "{part}: {}", run.err);
        }
        assert_eq!(fake.seen().len(), 0, "it is asked nothing");
    };
    let built = lab.bake(["build", "--no-test", "--quiet", "web.toml", "--push", &to]);
    refused(Run { out: String::new(), ..built });
    refused(lab.bake(["push", "web:1", &to]));
    good(lab.bake(["push", "--untested", "web:1", &to]));
    assert_eq!(fake.tags("web")["1"].to_string(), lab.digest("web:1"));
    // Tested, it is an image like any other.
    good(lab.bake(["test", "web:1"]));
    good(lab.bake(["push", "web:1", &to]));
}

#[test]
fn a_recipe_says_where_its_image_is_pushed() {
    if !tier::sandbox() {
        return;
    }
    let (lab, fake) = (Lab::new(), Fake::start());
    lab.tiny_root();
    let recipe = |text: &str| {
        let at = fake.address;
        format!(
            "[image]\nname = \"web\"\nversion = \"1\"\n[base]\npath = \"root\"\n\
             [[step]]\nfile = \"/etc/motd\"\ncontent = \"{text}\"\n\
             [[output]]\npush = \"{at}/{{{{ name }}}}\"\n\
             [[output]]\npush = \"{at}/team/web:stable\"\n\
             [[output]]\nformat = \"tar\"\npath = \"web.tar\"\n\
             [[output]]\npush = \"{at}/never\"\nwhen = \"false\"\n"
        )
    };
    lab.write("web.toml", &recipe("one"));
    let built = good(lab.bake(["build", "--json", "web.toml"]));
    let digest = lab.digest("web:1");
    let to: Vec<_> = built.objects("pushed").into_iter().map(|one| one["to"].clone()).collect();
    assert_eq!(to, [format!("{}/web", fake.address), format!("{}/team/web", fake.address)]);
    assert_eq!(fake.tags("web")["1"].to_string(), digest);
    assert_eq!(fake.tags("team/web")["stable"].to_string(), digest);
    assert!(fake.tags("never").is_empty());
    assert!(lab.path("web.tar").exists());
    // It is pushed again where it is gone, though nothing is built.
    fake.content().manifests.clear();
    good(lab.bake(["build", "web.toml"]));
    assert_eq!(fake.tags("web")["1"].to_string(), digest);
    // A tag of other content moves only where that is asked for.
    lab.write("web.toml", &recipe("two"));
    let moved = lab.bake(["build", "web.toml", "--set-version", "2"]);
    assert_eq!(moved.code, 1, "{}", moved.err);
    assert!(moved.err.contains("web:2 is published here"), "{}", moved.err);
    good(lab.bake(["build", "web.toml", "--set-version", "2", "--move-tag"]));
    assert_eq!(fake.tags("team/web")["stable"].to_string(), lab.digest("web:2"));
}

/// Debian's registry (package docker-registry), with TLS and a password.
pub(crate) struct Registry {
    child: Child,
    /// An address of its own, which no other test listens on, and a port.
    pub(crate) address: SocketAddr,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn openssl(dir: &Path, args: &[&str]) {
    let mut command = Command::new("openssl");
    good(run(command.current_dir(dir).args(args)));
}

/// An authority `ca.crt`, and what it signed: a server, and a client.
fn certificates(dir: &Path, server: IpAddr) {
    let key = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    let key = [&key[..], &["-nodes", "-days", "2"]].concat();
    let own = ["-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt"];
    openssl(dir, &[&key[..], &own].concat());
    let names = &format!("subjectAltName=DNS:localhost,IP:{server}");
    let signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE"];
    for (name, more) in [("server", names.as_str()), ("client", "extendedKeyUsage=clientAuth")] {
        let (private, public) = (format!("{name}.key"), format!("{name}.cert"));
        let out = ["-subj", "/CN=localhost", "-keyout", &private, "-out", &public];
        openssl(dir, &[&key[..], &signed, &out, &["-addext", more]].concat());
    }
}

impl Registry {
    /// Starts one. `clients`: only those with a certificate.
    pub(crate) fn start(dir: &Path, clients: bool) -> Self {
        static STARTED: AtomicU8 = AtomicU8::new(1);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let own = Ipv4Addr::new(127, high | 64, low, STARTED.fetch_add(1, Ordering::SeqCst));
        certificates(dir, own.into());
        let words = good(run(Command::new("htpasswd").args(["-Bbn", "me", "hunter2"])));
        fs::write(dir.join("htpasswd"), words.out).expect("our own directory");
        let listener = TcpListener::bind((own, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let at = dir.display();
        let clients =
            if clients { format!("    clientcas: [{at}/ca.crt]\n") } else { String::new() };
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: \
             {at}/data\nhttp:\n  addr: {address}\n  secret: x\n  tls:\n    certificate: \
             {at}/server.cert\n    key: {at}/server.key\n{clients}auth:\n  htpasswd:\n    realm: \
             here\n    path: {at}/htpasswd\n"
        );
        fs::write(dir.join("config.yml"), config).expect("our own directory");
        let mut command = Command::new("docker-registry");
        let command = command.arg("serve").arg(dir.join("config.yml"));
        let log = fs::File::create(dir.join("log")).expect("our own directory");
        let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("docker-registry");
        let this = Self { child, address };
        let before = Instant::now();
        while TcpStream::connect(address).is_err() {
            let log = || fs::read_to_string(dir.join("log")).unwrap_or_default();
            assert!(before.elapsed() < Duration::from_secs(30), "it does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        this
    }
}

pub(crate) fn tools() -> bool {
    ["docker-registry", "htpasswd", "openssl", "skopeo"].into_iter().all(tier::tool)
}

#[test]
fn tools_debians_registry_takes_what_is_pushed_and_others_read_it() {
    if !tools() {
        return;
    }
    let lab = Lab::new();
    publish(&lab, "team/web:1");
    let dir = lab.path("registry");
    fs::create_dir_all(&dir).expect("our own directory");
    let registry = Registry::start(&dir, false);
    let host = registry.address.to_string();
    let (to, ca) = (format!("{host}/team/web"), dir.join("ca.crt"));
    let push = |more: &[&str]| {
        let args = [&["push", "--json", "team/web:1", &to], more].concat();
        let config = lab.path("docker");
        run(lab.command(args).arg("--registry-ca").arg(&ca).env("DOCKER_CONFIG", config))
    };
    // Without an authority nothing is believed, without a password nothing is taken.
    let strange = lab.bake(["push", "team/web:1", &to]);
    assert_eq!(strange.code, 1, "{}", strange.err);
    assert!(strange.err.contains("--registry-ca"), "{}", strange.err);
    let failed = push(&[]);
    let object = &failed.objects("failed")[0];
    assert!(object["message"].as_str().unwrap().contains("asks for credentials"), "{object}");
    let auths = |word: &str| {
        let auths = serde_json::json!({ "auths": { host.clone(): {
            "username": "me", "password": word } } });
        fs::create_dir_all(lab.path("docker")).expect("our own directory");
        fs::write(lab.path("docker/config.json"), auths.to_string()).expect("our own file");
    };
    auths("hunter3");
    let failed = push(&[]);
    let object = &failed.objects("failed")[0];
    assert!(object["message"].as_str().unwrap().contains("does not accept"), "{object}");
    assert!(!failed.out.contains("hunter3"), "{}", failed.out);
    auths("hunter2");
    let pushed = good(push(&[]));
    let object = &pushed.objects("pushed")[0];
    let digest = lab.digest("team/web:1");
    assert_eq!((&object["digest"], &object["sent"]), (&digest.as_str().into(), &2.into()));
    assert_eq!(good(push(&[])).objects("pushed")[0]["already"], true);
    // Another repository takes it from there.
    let other = format!("{host}/other");
    let mounted = good(run(lab
        .command(["push", "--json", "team/web:1", &other])
        .arg("--registry-ca")
        .arg(&ca)
        .env("DOCKER_CONFIG", lab.path("docker"))));
    assert_eq!(mounted.objects("pushed")[0]["mounted"], 2, "{}", mounted.out);

    // Others read it: the very bytes.
    let certs = dir.join("certs");
    fs::create_dir_all(&certs).expect("our own directory");
    fs::copy(&ca, certs.join("ca.crt")).expect("our own file");
    let certs = certs.display().to_string();
    let source = format!("docker://{to}:1");
    let skopeo = |args: &[&str]| good(run(Command::new("skopeo").args(args)));
    let raw = skopeo(&["inspect", "--raw", "--creds=me:hunter2", "--cert-dir", &certs, &source]);
    assert_eq!(Digest::of(raw.out.trim_end_matches('\n')).to_string(), digest);
    let copy = format!("oci:{}:web", lab.path("copy").display());
    let policy = ["--insecure-policy", "copy", "--preserve-digests", "--src-creds=me:hunter2"];
    skopeo(&[&policy[..], &["--src-cert-dir", &certs, &source, &copy]].concat());
    let back = good(lab.bake(["import", "copy", "back:1"]));
    assert_eq!(back.out.trim().split(' ').nth(1), Some(digest.as_str()));
    // What skopeo pushes is pulled, and pushed again it is there already.
    let theirs = format!("docker://{host}/theirs:1");
    let dest = ["--insecure-policy", "copy", "--preserve-digests", "--dest-creds=me:hunter2"];
    skopeo(&[&dest[..], &["--dest-cert-dir", &certs, &copy, &theirs]].concat());
    let with = |args: &[&str]| {
        let config = lab.path("docker");
        run(lab.command(args).arg("--registry-ca").arg(&ca).env("DOCKER_CONFIG", config))
    };
    let pulled = good(with(&["pull", &format!("{host}/theirs:1"), "theirs:1"]));
    assert!(pulled.out.contains(&digest), "{}", pulled.out);
    let again = good(with(&["push", "--json", "theirs:1", &format!("{host}/theirs")]));
    assert_eq!(again.objects("pushed")[0]["already"], true);
}

#[test]
fn root_tools_podman_pulls_what_was_pushed() {
    if !tools() || !tier::tool("podman") || !tier::root() {
        return;
    }
    let lab = Lab::new();
    publish(&lab, "team/web:1");
    let dir = lab.path("registry");
    fs::create_dir_all(&dir).expect("our own directory");
    let registry = Registry::start(&dir, false);
    let to = format!("{}/team/web", registry.address);
    let auths = serde_json::json!({ "auths": { registry.address.to_string(): {
        "auth": "bWU6aHVudGVyMg==" } } });
    // podman's own file this time.
    let file = lab.path("auth.json");
    fs::write(&file, auths.to_string()).expect("our own file");
    let mut push = lab.command(["push", "team/web:1", &to, "--registry-ca"]);
    good(run(push.arg(dir.join("ca.crt")).env("REGISTRY_AUTH_FILE", &file)));
    let mut podman = Command::new("podman");
    podman.args(["--storage-driver", "vfs", "--root"]).arg(lab.path("podman"));
    podman.arg("--runroot").arg(lab.path("podman-run"));
    let certs = lab.path("certs");
    fs::create_dir_all(&certs).expect("our own directory");
    fs::copy(dir.join("ca.crt"), certs.join("ca.crt")).expect("our own file");
    podman.args(["pull", "--quiet", "--cert-dir"]).arg(&certs).arg("--authfile").arg(&file);
    good(run(podman.arg(format!("{to}:1"))));
}

#[test]
fn tools_a_registry_that_wants_a_certificate_gets_one() {
    if !tools() {
        return;
    }
    let lab = Lab::new();
    publish(&lab, "web:1");
    let dir = lab.path("registry");
    fs::create_dir_all(&dir).expect("our own directory");
    let registry = Registry::start(&dir, true);
    let (host, to) = (registry.address.to_string(), format!("{}/web", registry.address));
    let auths = serde_json::json!({ "auths": { host.clone(): {
        "username": "me", "password": "hunter2" } } });
    let file = lab.path("auth.json");
    fs::write(&file, auths.to_string()).expect("our own file");
    let push = |more: &[&Path]| {
        let mut command = lab.command(["push", "web:1", &to]);
        run(command.args(more).env("REGISTRY_AUTH_FILE", &file))
    };
    let named = |name: &'static str| dir.join(name);
    let (ca, cert, key) = (named("ca.crt"), named("client.cert"), named("client.key"));
    let failed = push(&["--registry-ca".as_ref(), &ca]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    let all: [&Path; 6] = [
        "--registry-ca".as_ref(),
        &ca,
        "--registry-cert".as_ref(),
        &cert,
        "--registry-key".as_ref(),
        &key,
    ];
    good(push(&all));
    // The same from a directory of certificates, as podman has it.
    let own = lab.path("home/.config/containers/certs.d").join(&host);
    fs::create_dir_all(&own).expect("our own directory");
    for name in ["ca.crt", "client.cert", "client.key"] {
        fs::copy(dir.join(name), own.join(name)).expect("our own file");
    }
    good(push(&[]));
    // A file that has none is named.
    let mut wrong = all;
    wrong[1] = &file;
    let failed = push(&wrong);
    assert!(failed.err.contains("has no certificate"), "{}", failed.err);
}
