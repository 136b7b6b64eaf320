//! Machines that update themselves in place: by the stock systemd-sysupdate, of what bake writes and
//! serves.

use std::fs;
use std::path::Path;

use crate::cmd_serve::Server;
use crate::lab::good;
use crate::machine_lab::{FakeMachine, partitions};
use crate::{base_lab, tier};

fn names(disk: &Path) -> Vec<String> {
    partitions(disk).into_iter().map(|one| one.name).collect()
}

/// The stock program of Debian 13 on the file of a disk, without a machine: what it does to the
/// partitions, and that the result is that of a disk that was made anew.
#[test]
fn net_tools_systemd_sysupdate_fills_the_empty_slot_of_a_disk() {
    if !base_lab::net() || !["sgdisk", "sfdisk"].into_iter().all(tier::tool) {
        return;
    }
    let Some(bench) = FakeMachine::new() else { return };
    let lab = &bench.lab;
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    fs::copy(examples.join("deploy/sysupdate/tools.toml"), lab.path("tools.toml")).expect("a copy");
    good(lab.bake(["build", "tools.toml"]));
    let build = |version: &str| {
        let path = format!("out/{version}.raw");
        let outputs = format!(
            "[[output]]\nformat = \"disk\"\npath = \"{path}\"\nslot = \"16MiB\"\n\
                [[output]]\nformat = \"partitions\"\npath = \"out/updates\"\n"
        );
        bench.write(version, &outputs);
        good(bench.build(&[]));
        lab.path(&path)
    };
    let (first, second) = (build("1.0.0"), build("2.0.0"));
    fs::create_dir_all(lab.path("machine/esp")).expect("our own directory");
    fs::copy(&first, lab.path("machine/disk")).expect("our own file");
    let server = Server::listening(lab, "127.0.0.1:0", &["--updates", "out/updates"]);
    for name in ["50-verity", "60-root", "70-kernel"] {
        let path = examples.join(format!("vm/sysupdate.d/{name}.transfer.j2"));
        let text = fs::read_to_string(path).expect("the example");
        let text = text
            .replace("{{ name }}", "web")
            .replace("{{ updates }}", &format!("http://{}/updates/", server.address))
            .replace("Path=auto", "Path=/machine/disk")
            .replace("Path=/EFI/Linux\nPathRelativeTo=boot", "Path=/machine/esp")
            .replace("%A", "1.0.0");
        lab.write(&format!("transfers/{name}.transfer"), &text);
    }
    let volume = |from: &str, to: &str| format!("{}:{to}", lab.path(from).display());
    let (machine, transfers) = (volume("machine", "/machine"), volume("transfers", "/transfers"));
    let update = || {
        let args = ["run", "--network", "host", "-v", &machine, "-v", &transfers];
        let program = ["systemd-tools:1.0.0", "--", "/usr/lib/systemd/systemd-sysupdate"];
        let update = ["--definitions=/transfers", "update"];
        good(lab.bake([&args[..], &program, &update].concat()))
    };
    update();
    let (disk, made) = (lab.path("machine/disk"), partitions(&second));
    let now = partitions(&disk);
    let labels: Vec<&str> = now.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(labels[1..], ["web_1.0.0", "web_1.0.0_verity", "web_2.0.0", "web_2.0.0_verity"]);
    for (updated, anew) in now[3..].iter().zip(&made[1..]) {
        assert_eq!((&updated.name, &updated.id), (&anew.name, &anew.id));
        assert!(updated.bytes == anew.bytes, "{} has other bytes", updated.name);
    }
    let program = fs::read(lab.path("machine/esp/web_2.0.0+3-0.efi")).expect("its program");
    assert_eq!(program, fs::read(lab.path("out/updates/web_2.0.0.efi")).expect("a file"));
    // The version after that takes the place of the first one.
    build("3.0.0");
    for name in ["50-verity", "60-root", "70-kernel"] {
        let path = lab.path(&format!("transfers/{name}.transfer"));
        let text = fs::read_to_string(&path).expect("ours");
        fs::write(&path, text.replace("=1.0.0", "=2.0.0")).expect("ours");
    }
    update();
    assert_eq!(
        names(&disk)[1..],
        ["web_3.0.0", "web_3.0.0_verity", "web_2.0.0", "web_2.0.0_verity"]
    );
}
