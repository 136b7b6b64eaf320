//! `[machine]`: the steps that it is, and what a recipe visibly lacks that makes a machine.

use std::path::PathBuf;

use bake::recipe::{self, Diagnostic, Inputs, Recipe};
use bake::step::{Content, Op, ServiceState};

const KEY: &str = "ssh-ed25519 \
    AAAAC3NzaC1lZDI1NTE5AAAAIFBVQkxJQyBLRVkgT0YgQSBURVNULCAzMiBCWVRFUyEh me";

fn read(text: &str, arch: &str) -> Result<Recipe, Vec<Diagnostic>> {
    let head = "[image]\nname = 'web'\nversion = '1'\n";
    let inputs = Inputs { file: PathBuf::from("x"), arch: arch.into(), ..Inputs::default() };
    recipe::read(&format!("{head}{text}"), &inputs)
}

fn good(text: &str) -> Recipe {
    read(text, "amd64").unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
}

#[test]
fn a_machine_is_steps_behind_those_of_the_recipe() {
    let recipe = good(&format!(
        "[base]\ndebian = 'bookworm'\n[machine]\nhostname = '{{{{ name }}}}-1'\n\
            services = ['nginx', 'ssh']\nssh_keys.root = '{KEY}'\nssh_keys.app = ['{KEY}']\n\
            [[step]]\nrun = 'true'\n"
    ));
    let labels: Vec<(&str, u32)> =
        recipe.steps.iter().map(|step| (step.label.as_str(), step.line)).collect();
    assert_eq!(
        labels,
        [
            ("run true", 12),
            ("machine: hostname web-1", 7),
            ("machine: network by DHCP", 6),
            ("machine: service nginx ssh", 8),
            ("machine: SSH keys of root", 9),
            ("machine: SSH keys of app", 10),
            ("machine: no upgrades in place, no identity", 6),
        ]
    );
    let write = |path: &str, text: &str, mode| Op::Write {
        path: path.into(),
        content: Content::Text(text.into()),
        append: false,
        owner: Some("0:0".into()),
        mode: Some(mode),
    };
    assert_eq!(recipe.steps[1].ops, [write("/etc/hostname", "web-1\n", 0o644)]);
    let units = ["systemd-networkd", "systemd-resolved"].map(str::to_owned).into();
    let enabled = Op::Service { units, state: ServiceState::Enabled };
    assert!(recipe.steps[2].ops.contains(&enabled), "{:?}", recipe.steps[2].ops);
    let Op::User { name, ssh_keys, home: None, password: None, .. } = &recipe.steps[4].ops[0]
    else {
        panic!("{:?}", recipe.steps[4].ops)
    };
    assert_eq!((name.as_str(), ssh_keys.as_slice()), ("root", &[KEY.to_owned()][..]));
    let last = &recipe.steps[6].ops;
    let masked = Op::Symlink {
        path: "/etc/systemd/system/apt-daily.timer".into(),
        target: "/dev/null".into(),
    };
    for op in [masked, write("/etc/machine-id", "", 0o444)] {
        assert!(last.contains(&op), "{op:?}: {last:?}");
    }
    assert!(matches!(last.last(), Some(Op::Remove { .. })), "{last:?}");
}

#[test]
fn a_machine_without_a_network_has_no_step_for_one() {
    let recipe = good("[base]\nscratch = true\n[machine]\nnetwork = 'none'\n");
    assert_eq!(recipe.steps.len(), 1, "{:?}", recipe.steps);
}

#[test]
fn packages_of_a_machine_make_no_initial_ram_disk() {
    let spared = |machine: &str| {
        let text = format!("[base]\ndebian = 'bookworm'\n[[step]]\npackages = 'linux'\n{machine}");
        match good(&text).steps[0].ops[..] {
            [Op::Packages { without_initrd, .. }] => without_initrd,
            ref other => panic!("{other:?}"),
        }
    };
    assert!(spared("[machine]\nnetwork = 'none'\n") && !spared(""));
}

#[test]
fn outputs_have_the_console_of_the_machine_unless_they_name_one() {
    let line = |machine: &str, arch: &str, cmdline: &str| {
        let text = format!(
            "[base]\nimage = 'a:1'\n{machine}\n[[output]]\nformat = 'qcow2'\npath = 'a'\n{cmdline}\n\
                [[output]]\nformat = 'tar'\npath = 'b'\n"
        );
        let recipe = read(&text, arch).unwrap();
        assert_eq!(recipe.outputs[1].disk.command_line, "");
        // What it is updated with does not take its console away.
        let parts = read(&text.replace("'qcow2'", "'partitions'"), arch).unwrap();
        assert_eq!(parts.outputs[0].disk.command_line, recipe.outputs[0].disk.command_line);
        recipe.outputs[0].disk.command_line.clone()
    };
    assert_eq!(line("[machine]", "amd64", ""), "console=ttyS0");
    assert_eq!(line("[machine]", "arm64", "cmdline = 'quiet'"), "console=ttyAMA0 quiet");
    assert_eq!(line("[machine]\nconsole = 'hvc0'", "amd64", ""), "console=hvc0");
    assert_eq!(line("[machine]", "amd64", "cmdline = 'a console=tty0'"), "a console=tty0");
    assert_eq!(line("", "amd64", ""), "");
}

/// What is reported of a recipe that makes a machine: `!` before an error, the line, the message.
fn reported(text: &str) -> Vec<String> {
    let found = match read(text, "amd64") {
        Ok(recipe) => recipe.warnings,
        Err(mistakes) => mistakes,
    };
    let one = |one: Diagnostic| {
        assert!(one.help.is_some(), "{}: no mend", one.message);
        format!("{}{}: {}", if one.warning { "" } else { "!" }, one.line, one.message)
    };
    found.into_iter().map(one).collect()
}

const DISK: &str = "\n[[output]]\nformat = 'disk'\npath = 'a'\n";

#[test]
fn what_nothing_can_bring_is_a_mistake() {
    let text = "[base]\ndebian = 'bookworm'\n[[step]]\nfile = '/etc/x'\ncontent = ''\n\
        [[step]]\ncopy = 'site/'\nto = '/var/www/'\n";
    let [kernel, init, stub] =
        ["a kernel", "an init", "a boot stub"].map(|what| format!("!15: a machine without {what}"));
    let network = "15: no step is known to bring a configuration of the network".to_owned();
    let disk = format!("{text}{DISK}");
    assert_eq!(reported(&disk), [&*kernel, &init, &stub, &network]);
    let parts = disk.replace("disk'", "kernel'");
    assert_eq!(reported(&parts), [&*kernel, &init, &network]);
    let test = format!("{text}\n[[test]]\nboot = true\n");
    assert_eq!(reported(&test).len(), 4, "{:?}", reported(&test));
    // Neither where no machine is made, nor where the disk or the test is off.
    assert_eq!(reported(text), [""; 0]);
    assert_eq!(reported(&format!("{disk}when = 'false'\n")), [""; 0]);
    assert_eq!(reported(&format!("{test}when = 'false'\n")), [""; 0]);
    // A stage as base is known as well.
    let stage = format!(
        "[stage.a.base]\ndebian = 'bookworm'\n[base]\nstage = 'a'\n[machine]\nnetwork = 'none'\n{DISK}"
    );
    assert_eq!(reported(&stage).len(), 3, "{:?}", reported(&stage));
}

#[test]
fn what_packages_are_not_known_to_bring_is_doubted() {
    let with = |packages: &str, more: &str| {
        reported(&format!(
            "[base]\ndebian = 'bookworm'\n[[step]]\npackages = [{packages}]\n{more}{DISK}"
        ))
    };
    let all = "'linux-image-cloud-amd64', 'systemd-sysv', 'systemd-boot-efi', 'systemd-resolved'";
    let machine = "[machine]\n";
    assert_eq!(with(all, machine), [""; 0]);
    assert_eq!(with(&all.replace("-sysv", "-sysv=252"), machine), [""; 0]);
    assert_eq!(
        with(all, "[[step]]\nfile = '/etc/systemd/network/a.network'\ncontent = ''\n"),
        [""; 0]
    );
    assert_eq!(with(all, ""), ["11: no step is known to bring a configuration of the network"]);
    assert_eq!(
        with("'linux-image-amd64', 'init', 'systemd-boot-efi'", machine),
        ["8: no step is known to bring systemd-resolved"]
    );
    assert_eq!(with("'nginx'", machine).len(), 4);
    assert!(with("'initramfs-tools'", machine).iter().all(|one| !one.starts_with('!')));
    // A program without a network installs nothing by itself.
    assert_eq!(with("'nginx'", "[[step]]\nrun = 'nginx -t'\n").len(), 3);
}

#[test]
fn an_update_that_starts_the_machine_otherwise_is_doubted() {
    let with = |disk: &str, parts: &str| {
        reported(&format!(
            "[base]\nimage = 'a:1'\n[[output]]\nformat = 'disk'\npath = 'a'\n{disk}\n\
                [[output]]\nformat = 'partitions'\npath = 'b'\n{parts}\n"
        ))
    };
    let line = "cmdline = 'console=ttyS0 panic=10'";
    let slot = "slot = '1GiB'";
    let (both, data) = (format!("{line}\n{slot}"), "data.'/srv' = 'srv'");
    assert_eq!(with(&both, line), [""; 0]);
    assert_eq!(with(&both, "cmdline = ' console=ttyS0  panic=10'"), [""; 0]);
    let changed = "13: an update changes `cmdline` of the machine".to_owned();
    assert_eq!(with(&both, ""), [&*changed]);
    assert_eq!(with("\n\n", "cmdline = 'quiet'").len(), 1);
    assert_eq!(with(slot, &format!("{line}\n{data}")).len(), 2);
    assert_eq!(with(&format!("{both}\n{data}"), &format!("{line}\n{data}")), [""; 0]);
    // A disk beside it that has no room for updates may be started as it likes.
    let beside = format!("{both}\n[[output]]\nformat = 'qcow2'\npath = 'c'\ncmdline = 'quiet'");
    assert_eq!(with(&beside, line), [""; 0]);
    assert_eq!(with(&beside, "cmdline = 'quiet'").len(), 1);
    let text = "[base]\nimage = 'a:1'\n[[output]]\nformat = 'partitions'\npath = 'b'\n";
    assert_eq!(reported(text), [""; 0]);
    assert_eq!(
        reported(
            &text.replace("'b'", "'b'\n[[output]]\nformat = 'kernel'\npath = 'k'\ncmdline = 'x'")
        ),
        [""; 0]
    );
}

#[test]
fn what_cannot_be_known_is_not_claimed() {
    for text in [
        "[base]\nimage = 'a:1'\n",
        "[base]\noci = 'registry.example/a:1'\n",
        "[base]\npath = 'a.tar'\n",
        "[base]\nrecipe = 'b.toml'\n",
        "[base]\ndebian = 'bookworm'\n[[step]]\nrun = 'apt-get install x'\nnetwork = true\n",
        "[base]\ndebian = 'bookworm'\n[[step]]\nrun = 'dpkg -i /m/*'\nmount.'/m' = 'debs/'\n",
        "[base]\ndebian = 'bookworm'\n[[step]]\npackages = ['./a.deb']\n",
        "[base]\ndebian = 'bookworm'\n[[step]]\ncopy = 'root/'\nto = '/'\n",
        "[base]\ndebian = 'bookworm'\n[[step]]\ncopy = 'debs/'\nto = '/opt/'\n\
            [[step]]\nscript = 'install.sh'\n",
    ] {
        assert_eq!(reported(&format!("{text}{DISK}")), [""; 0], "{text}");
    }
}

#[test]
fn machines_are_for_two_architectures() {
    let text = format!("[base]\nimage = 'a:1'\n{DISK}");
    let mistakes = read(&text, "riscv64").unwrap_err();
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
    assert_eq!((mistakes[0].line, &*mistakes[0].message), (9, "a machine for riscv64"));
    assert!(read(&text, "arm64").is_ok());
}
