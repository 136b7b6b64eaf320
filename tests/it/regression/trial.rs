//! What was once reported wrong, as tests of what must hold: trial.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::build_gate::busybox_root;
use crate::cmd_run;
use crate::lab::{Lab, Run};
use crate::tier;

/// A lab with a root of busybox at `root/`.
fn lab() -> Option<Lab> {
    if !tier::sandbox() || !tier::tool("busybox") {
        return None;
    }
    let lab = Lab::new();
    busybox_root(&lab);
    Some(lab)
}

/// Writes `web.toml`: version 1.0.0 over the root of busybox, with `rest` at its end.
fn recipe(lab: &Lab, rest: &str) {
    lab.write(
        "web.toml",
        &format!("[image]\nname = \"web\"\nversion = \"1.0.0\"\n[base]\npath = \"root\"\n{rest}"),
    );
}

#[track_caller]
fn good(run: &Run) {
    assert_eq!(run.code, 0, "{}", run.err);
}

/// What `bake.tested` of the one image says.
fn tested(lab: &Lab) -> String {
    let index = fs::read_to_string(lab.path("store/index.json")).expect("the index");
    let index: Value = serde_json::from_str(&index).expect("JSON");
    let entries = index["manifests"].as_array().expect("a list");
    let entry = entries
        .iter()
        .find(|one| one["annotations"]["org.opencontainers.image.ref.name"] == "web:1.0.0")
        .expect("the version");
    entry["annotations"]["bake.tested"].as_str().expect("a text").to_owned()
}

/// B1
#[test]
fn what_has_passed_stays_passed_where_tests_are_left_out_later() {
    let Some(lab) = lab() else { return };
    let passes = "[[test]]\nrun = \"true\"\n";
    recipe(&lab, passes);
    good(&lab.bake(["build", "web.toml"]));
    assert_eq!(tested(&lab), "yes");
    let again = lab.bake(["build", "--no-test", "--no-cache", "web.toml"]);
    good(&again);
    assert_eq!(tested(&lab), "yes");
    assert!(!again.err.contains("untested"), "{}", again.err);
    good(&lab.bake(["promote", "web:1.0.0", "stable"]));
    // Other tests have not passed.
    recipe(&lab, "[[test]]\nrun = \"test -e /bin\"\n");
    let other = lab.bake(["build", "--no-test", "--no-cache", "web.toml"]);
    good(&other);
    assert_eq!(tested(&lab), "no");
    assert!(other.err.contains("untested"), "{}", other.err);
}

/// B4
#[test]
fn a_step_that_prints_for_ever_fills_no_disk() {
    let Some(lab) = lab() else { return };
    // 80,000 lines of 1,000 bytes.
    let script = "line=$(printf %0999d 0); n=0; while test $n != 80000; do echo $line; n=$((n+1)); done; echo the last word; test ! -e /made";
    recipe(
        &lab,
        &format!("[[step]]\nfile = \"/made\"\ncontent = \"x\"\n[[step]]\nrun = '{script}'\n"),
    );
    let failed = lab.bake(["build", "--json", "web.toml"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    let objects: Vec<Value> =
        failed.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let cut = |one: &&Value| one.to_string().contains("bytes are cut out of the middle of the log");
    assert!(objects.iter().any(|one| cut(&one)), "nothing says that the log is cut");
    let end = objects.last().expect("an object");
    let log = fs::read_to_string(end["log"].as_str().expect("its log")).expect("the log");
    assert!(log.len() <= (64 << 20) + 200, "{} bytes", log.len());
    assert!(log.contains("bytes are cut out here\n") && log.ends_with("the last word\n"));
    assert!(end["output"].to_string().contains("the last word"), "{end}");
}

/// B6
#[test]
fn an_image_that_verify_refuses_is_not_run() {
    let Some(lab) = cmd_run::lab() else { return };
    let index: Value =
        serde_json::from_str(&fs::read_to_string(lab.path("store/index.json")).expect("the index"))
            .expect("JSON");
    let entry = &index["manifests"][0];
    let blob = |digest: &str| lab.path(&format!("store/blobs/sha256/{}", &digest[7..]));
    let manifest: Value = serde_json::from_slice(
        &fs::read(blob(entry["digest"].as_str().expect("a text"))).expect("the manifest"),
    )
    .expect("JSON");
    let layer = manifest["layers"][0].clone();
    let many = vec![layer; 20_000];
    let changes: [(&str, Value); 4] = [
        ("schemaVersion", 1.into()),
        ("mediaType", Value::Null),
        ("manifests", Value::Array(vec![])),
        ("layers", Value::Array(many)),
    ];
    for (key, value) in changes {
        let mut manifest = manifest.clone();
        if value.is_null() {
            manifest.as_object_mut().expect("an object").remove(key);
        } else {
            manifest[key] = value;
        }
        let bytes = serde_json::to_vec(&manifest).expect("JSON");
        let digest = bake::digest::Digest::of(&bytes);
        fs::write(blob(&digest.to_string()), &bytes).expect("our own store");
        let mut index = index.clone();
        index["manifests"][0]["digest"] = digest.to_string().into();
        index["manifests"][0]["size"] = bytes.len().into();
        fs::write(lab.path("store/index.json"), index.to_string()).expect("our own store");
        let ran = lab.bake(["run", "team/web:1", "--", "true"]);
        assert!(ran.code != 0 && ran.code != 127, "{key}: {} {}", ran.code, ran.err);
        assert_ne!(lab.bake(["verify"]).code, 0, "{key}");
    }
}

/// B15
#[test]
fn a_port_that_does_not_answer_blocks_no_other() {
    let Some(lab) = cmd_run::lab() else { return };
    // Both free until somebody else takes them; bound at once, so that they are two.
    let [port, stuck] = {
        let free = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
        free.map(|one| one.local_addr().expect("it is bound").port())
    };
    // A server that is stopped takes as many connections as its backlog holds; the next one waits.
    let script = "httpd -f -p 81 -h /www & sleep 1; kill -STOP $!; exec httpd -f -p 80 -h /www";
    let mut child = lab
        .command(["run", "team/web:1", "--publish", &format!("127.0.0.1:{port}:80"), "--publish"])
        .arg(format!("127.0.0.1:{stuck}:81"))
        .args(["--", "sh", "-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("bake starts");
    let page = |within: u64| -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(within)))?;
        stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let begun = Instant::now();
    while !page(30).is_ok_and(|text| text.contains("blue")) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never serves");
        std::thread::sleep(Duration::from_millis(20));
    }
    let waiting: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect(("127.0.0.1", stuck)).expect("a connection")).collect();
    for _ in 0..5 {
        assert!(page(5).expect("an answer").contains("blue"));
    }
    drop(waiting);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is ours");
    child.wait().expect("it ends");
}

/// E10
#[test]
fn what_the_config_names_is_in_the_image() {
    let Some(lab) = lab() else { return };
    lab.write("root/bin/crlf", "#!/bin/sh\r\ntrue\n");
    lab.write("root/bin/plain", "no program\n");
    let crlf = lab.path("root/bin/crlf");
    fs::set_permissions(&crlf, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("our own file");
    let cases = [
        ("user = \"nobody-here\"", 7, "nobody-here"),
        ("user = \"app:strangers\"", 7, "strangers"),
        ("cmd = [\"no-such-program\"]", 7, "there is no program \"no-such-program\""),
        ("workdir = \"/www\"\ncmd = [\"./serve\"]", 8, "there is no program /www/./serve"),
        ("entrypoint = [\"/bin/plain\"]\ncmd = [\"x\"]", 7, "may not be executed"),
        ("entrypoint = [\"/www\"]", 7, "/www is a directory"),
        ("cmd = [\"crlf\"]", 7, "CR LF"),
        ("healthcheck = { cmd = [\"look\"] }", 7, "there is no program \"look\""),
    ];
    for (config, line, why) in cases {
        recipe(&lab, &format!("[config]\n{config}\n"));
        let built = lab.bake(["build", "web.toml"]);
        assert_eq!(built.code, 1, "{config}: {}", built.err);
        assert!(built.err.contains(why), "{config}: {}", built.err);
        assert!(built.err.contains(&format!("web.toml:{line}")), "{config}: {}", built.err);
        assert!(!lab.path("store/index.json").exists() || lab.bake(["list"]).out.is_empty());
    }
    for config in [
        "user = \"app\"\ncmd = [\"httpd\"]",
        "user = \"1000:7\"",
        "cmd = [\"/data/program\"]\nvolumes = [\"/data\"]",
        "workdir = \"/bin\"\ncmd = [\"./sh\"]",
        "env.PATH = \"/nowhere:/bin\"\ncmd = [\"sh\"]",
    ] {
        recipe(&lab, &format!("[config]\n{config}\n"));
        good(&lab.bake(["build", "web.toml"]));
        good(&lab.bake(["rm", "web:1.0.0"]));
    }
}

/// E11
#[test]
fn a_port_that_is_taken_is_no_fault_of_the_host() {
    let Some(lab) = cmd_run::lab() else { return };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let publish = taken.local_addr().expect("it is bound").to_string() + ":80";
    let ran = lab.bake(["run", "team/web:1", "--publish", &publish]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("another program listens there"), "{}", ran.err);
}

/// E17
#[test]
fn a_file_of_the_host_can_be_shown_inside() {
    let Some(lab) = cmd_run::lab() else { return };
    lab.write("settings", "outside\n");
    let file = lab.path("settings");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .expect("our own file");
    let run = |volume: &str, script: &str| {
        lab.bake(["run", "team/web:1", "--volume", volume, "--", "sh", "-c", script])
    };
    let from = file.display();
    for at in ["/www/index.html", "/new/place/settings", "/tmp/settings", "/run/a/settings"] {
        let ran = run(&format!("{from}:{at}:ro"), &format!("cat {at}; echo no > {at}"));
        assert!(ran.code != 0 && ran.out == "outside\n", "{at}: {} {}", ran.out, ran.err);
    }
    good(&run(&format!("{from}:/etc/settings"), "echo inside > /etc/settings"));
    assert_eq!(fs::read_to_string(&file).expect("our own file"), "inside\n");
    let socket = lab.path("socket");
    let _socket = std::os::unix::net::UnixListener::bind(&socket).expect("our own directory");
    let ran = run("data:/data", "true");
    assert!(ran.err.contains("keeps no volumes by name"), "{}", ran.err);
    let ran = run(&format!("{}:/socket", socket.display()), "true");
    assert!(ran.err.contains("neither a directory nor a regular file"), "{}", ran.err);
}

/// E17
#[test]
fn a_udp_port_leads_inside_and_back() {
    const ECHO: &str = "use Socket; socket(S, PF_INET, SOCK_DGRAM, 0); bind(S, sockaddr_in(53, INADDR_ANY)); \
                        while ($who = recv(S, $text, 9999, 0)) { send(S, \"[$text]\", 0, $who) }";
    if !tier::tool("perl") {
        return;
    }
    let Some(lab) = cmd_run::lab() else { return };
    let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("it is bound");
    drop(free);
    let mut command = lab.command(["run", "team/web:1", "--publish"]);
    command.arg(format!("{address}:53/udp"));
    for directory in ["/usr", "/lib", "/lib64"].iter().filter(|one| fs::metadata(one).is_ok()) {
        command.args(["--volume", &format!("{directory}:{directory}:ro")]);
    }
    let mut child = command
        .args(["--", "/usr/bin/perl", "-e", ECHO])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("bake starts");
    let client = || {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.connect(address).expect("an address");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a time");
        socket
    };
    let answer = |socket: &std::net::UdpSocket, text: &str| {
        let begun = Instant::now();
        // Until it is up, and a datagram may be lost.
        while begun.elapsed() < Duration::from_secs(60) {
            let mut buffer = [0; 100];
            if socket.send(text.as_bytes()).is_ok()
                && let Ok(length) = socket.recv(&mut buffer)
            {
                return String::from_utf8_lossy(&buffer[..length]).into_owned();
            }
        }
        "nothing".to_owned()
    };
    let (one, two) = (client(), client());
    assert_eq!(answer(&one, "first"), "[first]");
    assert_eq!(answer(&two, "second"), "[second]");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is ours");
    child.wait().expect("it ends");
}

/// E11: in the host's network a container's root may not have low ports; that is reported before a
/// program fails on it.
#[test]
fn low_ports_in_the_network_of_the_host_are_warned_of() {
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if !first.is_ok_and(|text| text.trim() == "1024") {
        return;
    }
    let Some(lab) = lab() else { return };
    recipe(&lab, "[config]\nports = [443, 8080]\n");
    good(&lab.bake(["build", "web.toml"]));
    let run = |network: &str| lab.bake(["run", "web", "--network", network, "--", "true"]);
    let ran = run("host");
    good(&ran);
    assert!(ran.err.contains("the image listens on 443/tcp"), "{}", ran.err);
    assert!(ran.err.contains("--publish 443:443"), "{}", ran.err);
    assert_eq!(run("none").err, "");
}
