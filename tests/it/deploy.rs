//! Where images go: each part of `examples/deploy` and `examples/ci`, by the program that takes it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bake::image::{Descriptor, Index, MEDIA_INDEX, Platform};
use bake::store::{Store, Version};

use crate::cmd_serve::{Server, publish};
use crate::lab::{Lab, good, run};
use crate::store_lab::{Parts, reference};
use crate::tier;

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path)
}

/// A program that serves until it is dropped.
struct Daemon(Child);

impl Daemon {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("the program starts"))
    }

    /// Waits until `ready` or the end of the program.
    fn wait(&mut self, mut ready: impl FnMut() -> bool) {
        let start = Instant::now();
        while !ready() {
            let ended = self.0.try_wait().expect("our own child");
            assert!(ended.is_none(), "it has ended: {ended:?}");
            assert!(start.elapsed() < Duration::from_secs(30), "it does not serve");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.0);
        // A server with children of its own ends them; one that has ended is waited for.
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// An address of this machine that nobody listens on.
fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").to_string()
}

/// nginx with `server` in its only server.
fn nginx(lab: &Lab, root: &str, server: &str) -> (Daemon, String) {
    let (address, root) = (free(), lab.path(root));
    let base = lab.path("nginx");
    fs::create_dir(&base).expect("our own directory");
    let base = base.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {base}/{kind};\n"))
        .concat();
    let text = format!(
        "daemon off;\nuser root;\npid {base}/pid;\nevents {{ }}\nhttp {{\naccess_log off;\n{temporary}\
            server {{\nlisten {address};\nroot {};\nindex index.html;\n{server}\n}}\n}}\n",
        root.display()
    );
    let file = lab.write("nginx.conf", &text);
    let log = format!("{base}/log");
    let mut daemon = Daemon::start(Command::new("nginx").args(["-e", &log]).arg("-c").arg(file));
    daemon.wait(|| TcpStream::connect(&address).is_ok());
    (daemon, address)
}

/// Apache with `host` in its only host.
fn apache(lab: &Lab, root: &str, host: &str) -> (Daemon, String) {
    let (address, root) = (free(), lab.path(root));
    let modules = "/usr/lib/apache2/modules";
    let base = lab.path("");
    let text = format!(
        "ServerRoot {base}\nServerName localhost\nListen {address}\nPidFile {base}apache.pid\n\
            ErrorLog {base}apache.log\nUser nobody\nGroup nogroup\n\
            LoadModule mpm_event_module {modules}/mod_mpm_event.so\n\
            LoadModule authz_core_module {modules}/mod_authz_core.so\n\
            LoadModule dir_module {modules}/mod_dir.so\n\
            <VirtualHost *>\nDocumentRoot {root}\nDirectoryIndex index.html\n{host}\n</VirtualHost>\n",
        base = base.display(),
        root = root.display(),
    );
    let file = lab.write("apache.conf", &text);
    let mut daemon =
        Daemon::start(Command::new("apache2").args(["-D", "FOREGROUND", "-f"]).arg(file));
    daemon.wait(|| TcpStream::connect(&address).is_ok());
    (daemon, address)
}

/// Pulls by skopeo, and makes sure that it is the very image.
fn skopeo(lab: &Lab, address: &str, image: &str, digest: &str) {
    let _ = fs::remove_dir_all(lab.path("copy"));
    let from = format!("docker://{address}/{image}");
    let to = format!("oci:{}:copy", lab.path("copy").display());
    let args =
        ["--insecure-policy", "copy", "--src-tls-verify=false", "--preserve-digests", &from, &to];
    good(run(Command::new("skopeo").args(args)));
    let index = fs::read_to_string(lab.path("copy/index.json")).expect("a layout");
    assert!(index.contains(digest), "{address}: {index}");
}

/// A tiny image `web:VERSION` that says which it is.
fn bake(lab: &Lab, version: &str) {
    let text = format!(
        "[image]\nname = \"web\"\nversion = \"{version}\"\n[base]\npath = \"root\"\n\
            [[step]]\nfile = \"/etc/version\"\ncontent = \"{version}\\n\"\n\
            [config]\ncmd = [\"/bin/cat\", \"/etc/version\"]\n"
    );
    lab.write("web.toml", &text);
    good(lab.bake(["build", "web.toml"]));
}

#[test]
fn root_tools_skopeo_pulls_from_web_servers() {
    let tools = ["skopeo", "nginx", "apache2"];
    if !tier::root() || !tools.into_iter().all(tier::tool) {
        return;
    }
    let lab = Lab::new();
    publish(&lab, "team/web:1");
    good(lab.bake(["promote", "team/web:1", "production"]));
    good(lab.bake(["export", "--format", "registry", "--output", "site"]));
    let digest = lab.digest("team/web:1");
    let rule = |server: &str| format!("{}/{server}.conf", lab.path("site").display());
    let (nginx, at) = nginx(&lab, "site", &format!("include {};", rule("nginx")));
    skopeo(&lab, &at, "team/web:1", &digest);
    skopeo(&lab, &at, &format!("team/web@{digest}"), &digest);
    let list = format!("docker://{at}/team/web");
    let tags = good(run(Command::new("skopeo").args(["list-tags", "--tls-verify=false", &list])));
    assert!(tags.out.contains("\"production\""), "{}", tags.out);
    drop(nginx);
    let (_apache, at) = apache(&lab, "site", &format!("Include {}", rule("apache")));
    skopeo(&lab, &at, "team/web:production", &digest);
}

#[test]
fn root_tools_an_index_is_pulled_by_platform() {
    let tools = ["skopeo", "nginx", "apache2"];
    if !tier::root() || !tools.into_iter().all(tier::tool) {
        return;
    }
    let lab = Lab::new();
    let store = Store::open(&lab.path("store")).expect("a store");
    let staging = store.staging().expect("a staging directory");
    let put = |architecture: &str| {
        let mut parts = Parts::new(architecture);
        parts.config.architecture = architecture.to_owned();
        parts.put(&staging, "many:1").manifest.with_platform(Platform::linux(architecture))
    };
    let index = Index { manifests: vec![put("amd64"), put("s390x")], ..Index::default() };
    let (digest, size) = staging.put(&index.to_json()).expect("put");
    let index = Descriptor::new(MEDIA_INDEX, digest, size);
    let version = Version::new(reference("many:1"), index);
    store.publish(&staging, &[version]).expect("publish");
    publish(&lab, "plain:1");
    good(lab.bake(["export", "--format", "registry", "--output", "site"]));
    let served = Server::start(&lab);
    let rule = |server: &str| format!("{}/{server}.conf", lab.path("site").display());
    let (_nginx, nginx) = nginx(&lab, "site", &format!("include {};", rule("nginx")));
    let (_apache, apache) = apache(&lab, "site", &format!("Include {}", rule("apache")));
    for address in [&served.address, &nginx, &apache] {
        let from = format!("docker://{address}/many:1");
        for architecture in ["amd64", "s390x"] {
            let tls = ["inspect", "--tls-verify=false", "--config", &from];
            let chosen = ["--override-arch", architecture];
            let seen = good(run(Command::new("skopeo").args(chosen).args(tls)));
            let config: serde_json::Value = serde_json::from_str(&seen.out).expect("JSON");
            assert_eq!(config["architecture"], architecture, "{address}");
        }
        let to = format!("oci:{}:copy", lab.path("all").display());
        let _ = fs::remove_dir_all(lab.path("all"));
        let all = ["--insecure-policy", "copy", "--all", "--preserve-digests"];
        good(run(Command::new("skopeo").args(all).args(["--src-tls-verify=false", &from, &to])));
        let layout = fs::read_to_string(lab.path("all/index.json")).expect("a layout");
        assert!(layout.contains(&digest.to_string()), "{address}: {layout}");
    }
}

#[test]
fn root_tools_podman_pulls_and_loads() {
    if !tier::root() || !tier::tool("podman") {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    bake(&lab, "1.0.0");
    good(lab.bake(["promote", "web:1.0.0", "production"]));
    let server = Server::start(&lab);
    let (root, running) = (lab.path("podman"), lab.path("running"));
    let podman = |args: &[&str]| {
        let mut command = Command::new("podman");
        command.arg("--root").arg(&root).arg("--runroot").arg(&running);
        good(run(command.args(["--storage-driver", "vfs"]).args(args)))
    };
    let name = format!("{}/web:production", server.address);
    podman(&["pull", "--tls-verify=false", &name]);
    let found = podman(&["image", "inspect", "--format", "{{.Digest}} {{.Config.Cmd}}", &name]);
    let digest = lab.digest("web:1.0.0");
    assert_eq!(found.out.trim(), format!("{digest} [/bin/cat /etc/version]"));
    // What `docker load` takes.
    good(lab.bake(["export", "web:1.0.0", "--format", "docker-archive", "--output", "web.tar"]));
    let loaded = podman(&["load", "--input", lab.path("web.tar").to_str().expect("text")]);
    assert!(loaded.out.contains("web:1.0.0"), "{}", loaded.out);
    podman(&["rmi", "--all", "--force"]);
}

#[test]
fn root_tools_docker_loads_pulls_and_asks_for_health() {
    if !tier::root() || !tier::tool("dockerd") {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    let head = "[image]\nname = \"web\"\nversion = \"1.0.0\"\n[base]\npath = \"root\"\n";
    let config = "[config]\ncmd = [\"/bin/sleep\", \"600\"]\n\
        healthcheck = { cmd = [\"/bin/ls\", \"/well\"], interval = \"1s\" }\n";
    let steps = "[[step]]\nfile = \"/well\"\ncontent = \"\"\n";
    lab.write("web.toml", &format!("{head}{steps}{config}"));
    good(lab.bake(["build", "web.toml"]));
    let socket = format!("unix://{}", lab.path("docker.sock").display());
    let mut command = Command::new("dockerd");
    for (option, path) in [("--data-root", "docker"), ("--exec-root", "exec"), ("--pidfile", "pid")]
    {
        command.arg(option).arg(lab.path(path));
    }
    command.args(["--iptables=false", "--ip6tables=false", "--bridge=none", "-H", &socket]);
    let mut daemon = Daemon::start(command.arg("--storage-driver=vfs"));
    // Debian's own, of the daemon's version.
    let docker =
        |args: &[&str]| run(Command::new("/usr/bin/docker").args(["-H", &socket]).args(args));
    daemon.wait(|| docker(&["version"]).code == 0);
    good(lab.bake(["export", "web:1.0.0", "--format", "docker-archive", "--output", "web.tar"]));
    let archive = lab.path("web.tar");
    let loaded = good(docker(&["load", "--input", archive.to_str().expect("text")]));
    assert_eq!(loaded.out, "Loaded image: web:1.0.0\n");
    let named = ["run", "--detach", "--network", "none", "--name", "web", "web:1.0.0"];
    good(docker(&named));
    let health = ["inspect", "--format", "{{.State.Health.Status}}", "web"];
    daemon.wait(|| good(docker(&health)).out == "healthy\n");
    good(docker(&["rm", "--force", "web"]));
    let server = Server::start(&lab);
    let name = format!("{}/web:1.0.0", server.address);
    let pulled = good(docker(&["pull", &name]));
    assert!(pulled.out.contains(&lab.digest("web:1.0.0")), "{}", pulled.out);
}

#[test]
fn root_tools_containerd_pulls_and_runs() {
    if !tier::root() || !tier::tool("containerd") || !tier::tool("ctr") || !tier::tool("runc") {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    bake(&lab, "1.0.0");
    good(lab.bake(["promote", "web:1.0.0", "production"]));
    let server = Server::start(&lab);
    let (base, socket) = (lab.path("containerd"), lab.path("containerd.sock"));
    let text = format!(
        "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\n\
            disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{1}\"\n",
        base.display(),
        socket.display()
    );
    let file = lab.write("containerd.toml", &text);
    let mut daemon = Daemon::start(Command::new("containerd").arg("-c").arg(file));
    let ctr = |args: &[&str]| run(Command::new("ctr").arg("--address").arg(&socket).args(args));
    daemon.wait(|| ctr(&["version"]).code == 0);
    let name = format!("{}/web:production", server.address);
    good(ctr(&["images", "pull", "--plain-http", "--snapshotter", "native", &name]));
    let digest = lab.digest("web:1.0.0");
    assert!(good(ctr(&["images", "list"])).out.contains(&digest));
    let ran = good(ctr(&["run", "--rm", "--snapshotter", "native", &name, "web"]));
    assert_eq!(ran.out, "1.0.0\n");
    // The archives, under the names that they have in them.
    for format in ["oci-archive", "docker-archive"] {
        let file = format!("{format}.tar");
        let out = ["--format", format, "--output", &file];
        good(lab.bake(["export", "web:1.0.0"].iter().chain(&out)));
        let names = || good(ctr(&["images", "list", "--quiet"])).out;
        let before = names();
        let path = lab.path(&file);
        let import = ["images", "import", "--snapshotter", "native"];
        good(ctr(&[&import[..], &[path.to_str().expect("text")]].concat()));
        let after = names();
        let name = after.lines().find(|name| !before.contains(name));
        let name = name.unwrap_or_else(|| panic!("{format}: {before}{after}"));
        let ran = good(ctr(&["run", "--rm", "--snapshotter", "native", name, format]));
        assert_eq!(ran.out, "1.0.0\n", "{format}");
        good(ctr(&["images", "remove", name]));
    }
}

#[test]
fn root_net_tools_systemd_sysupdate_installs_one_version_after_the_other() {
    if !tier::root() || !tier::sandbox() || !tier::tool("nginx") {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    fs::copy(example("deploy/sysupdate/tools.toml"), lab.path("tools.toml")).expect("a copy");
    good(lab.bake(["build", "tools.toml"]));
    fs::create_dir(lab.path("updates")).expect("our own directory");
    let (_nginx, at) = nginx(&lab, "updates", "");
    let transfer = fs::read_to_string(example("deploy/sysupdate/web.transfer")).expect("ours");
    let ours = transfer.replace("https://images.example/updates/", &format!("http://{at}/"));
    assert_ne!(ours, transfer, "the example's place is replaced");
    lab.write("web.transfer", &ours);
    fs::create_dir(lab.path("machines")).expect("our own directory");
    let volume = |from: &str, to: &str| format!("{}:{to}", lab.path(from).display());
    let (file, machines) = (
        volume("web.transfer", "/etc/sysupdate.d/web.transfer"),
        volume("machines", "/var/lib/machines"),
    );
    let updates = volume("updates", "/updates");
    let systemd = |command: &[&str]| {
        let volumes = ["--volume", &file, "--volume", &machines, "--volume", &updates];
        let args = ["run", "--network", "host"].iter().chain(&volumes);
        good(lab.bake(args.chain(&["systemd-tools:1.0.0"]).chain(command)))
    };
    let exact = |image: &str, root: &str| {
        let root = lab.path("machines").join(root);
        let drift =
            good(lab.bake(["drift", image, "--strict", "--root", root.to_str().expect("text")]));
        assert!(drift.out.starts_with("exact"), "{}", drift.out);
    };
    for version in ["1.0.0", "2.0.0", "3.0.0"] {
        bake(&lab, version);
        let image = format!("web:{version}");
        let to = ["--format", "sysupdate", "--output", "updates", "--keep", "2"];
        good(lab.bake(["export", &image].iter().chain(&to)));
        systemd(&["/usr/lib/systemd/systemd-sysupdate", "update"]);
        let current = fs::read_link(lab.path("machines/web")).expect("the current one");
        assert_eq!(current, Path::new(&format!("web_{version}")));
        exact(&image, &format!("web_{version}"));
    }
    // Both ends keep two.
    assert!(!lab.path("updates/web_1.0.0.tar").exists());
    assert!(!lab.path("machines/web_1.0.0").exists() && lab.path("machines/web_2.0.0").exists());
    // What machinectl import-tar calls.
    let import = ["/usr/lib/systemd/systemd-import", "tar", "/updates/web_3.0.0.tar", "imported"];
    systemd(&import);
    exact("web:3.0.0", "imported");
}

#[test]
fn root_net_tools_a_portable_service_brings_a_unit_that_can_start() {
    if !tier::root() || !tier::sandbox() || !tier::tool("systemd-analyze") {
        return;
    }
    let lab = Lab::new();
    // A copy: the lock file is written beside the recipe.
    for part in ["web", "deploy/portable"] {
        for entry in walkdir::WalkDir::new(example(part)) {
            let entry = entry.expect("a readable example");
            let below = entry.path().strip_prefix(example("")).expect("below it");
            let to = lab.path("examples").join(below);
            if entry.file_type().is_dir() {
                fs::create_dir_all(to).expect("our own directory");
            } else {
                fs::copy(entry.path(), to).expect("a copy");
            }
        }
    }
    good(lab.bake(["build", "examples/deploy/portable/web.toml"]));
    let root = lab.path("root");
    let to = ["--format", "dir", "--output", "root"];
    good(lab.bake(["export", "web-portable:2.0.0"].iter().chain(&to)));
    // Targets of every host, which the unit is ordered by.
    let units = "root/usr/lib/systemd/system";
    for target in ["sysinit", "basic", "shutdown"] {
        lab.write(&format!("{units}/{target}.target"), "[Unit]\n");
    }
    let verify = || {
        let mut command = Command::new("systemd-analyze");
        run(command.arg("verify").arg(format!("--root={}", root.display())).arg("web.service"))
    };
    good(verify());
    let unit = fs::read_to_string(lab.path(units).join("web.service")).expect("its unit");
    lab.write(
        &format!("{units}/web.service"),
        &unit.replace("/usr/sbin/nginx", "/usr/sbin/nothing"),
    );
    assert_ne!(verify().code, 0, "a program that is not there");
}

/// Runs a validator over the example `path`, then over a copy in which `from` is `to`.
fn valid(command: &[&str], path: &str, from: &str, to: &str) {
    if !tier::tool(command[0]) {
        return;
    }
    let check = |file: &Path| run(Command::new(command[0]).args(&command[1..]).arg(file));
    good(check(&example(path)));
    let lab = Lab::new();
    let text = fs::read_to_string(example(path)).expect("ours");
    assert!(text.contains(from), "{from}");
    let name = path.rsplit('/').next().expect("a name");
    let wrong = check(&lab.write(name, &text.replacen(from, to, 1)));
    assert_ne!(wrong.code, 0, "{path} with {to:?}");
}

#[test]
fn tools_ci_files_fit_their_schemas() {
    let check = |schema: &str, path: &str, from: &str, to: &str, more: &[&str]| {
        let command = [&["check-jsonschema", "--builtin-schema", schema], more].concat();
        valid(&command, path, from, to);
    };
    check("vendor.github-workflows", "ci/github.yml", "runs-on:", "runs-at:", &[]);
    let gitlab = ["--data-transform", "gitlab-ci"];
    check("vendor.gitlab-ci", "ci/gitlab.yml", "stage: bake", "stage: [1]", &gitlab);
}

#[test]
fn tools_files_of_orchestrators_are_valid() {
    let kubernetes = ["kubernetes-validate", "--strict"];
    valid(&kubernetes, "deploy/kubernetes/web.yaml", "replicas: 2", "replicas: two");
    valid(&["hcl2tojson"], "deploy/nomad/web.nomad.hcl", "count = 2", "count = {");
    let verify = ["systemd-analyze", "verify"];
    if tier::tool("podman") {
        valid(&verify, "deploy/podman/web.service", "/usr/bin/podman run", "/usr/bin/nothing run");
    }
}

#[test]
fn tools_machines_of_libvirt_are_what_its_schema_wants() {
    if !tier::tool("virt-xml-validate") || !tier::tool("xmllint") {
        return;
    }
    for name in ["web", "database"] {
        let file = example(&format!("deploy/libvirt/{name}.xml"));
        let checked = run(Command::new("virt-xml-validate").arg(&file).arg("domain"));
        assert_eq!(checked.code, 0, "{}{}", checked.out, checked.err);
    }
}
