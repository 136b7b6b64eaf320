//! What a machine needs and its recipe visibly lacks: reported before anything runs.
//!
//! | what can be known | what is reported |
//! |---|---|
//! | nothing could bring it: no packages, no programs, no copy to its place | an error |
//! | packages of Debian's archive, none of them known to bring it; programs without network | a warning |
//! | what a machine is updated with and its disk differ in what starts it | a warning |
//! | anything else: an image as base, programs with a network, packages of other sources | nothing |
//!
//! The finished root is looked at in any case, before its outputs are made (the room `output`).

use super::machine::Machine;
use super::output;
use super::reader::Reader;
use super::test;
use crate::recipe::model::{Base, BaseKind, Output, Stage};
use crate::schema::{Diagnostic, Mistake, quote};
use crate::step::{Lowered, Op};

/// Something that a machine needs.
struct Need {
    /// As a sentence calls it.
    what: &'static str,
    /// Where it lies: files there, or copies to there, may bring it.
    places: &'static [&'static str],
    /// Packages of Debian that bring it; a name may end in `*`.
    packages: &'static [&'static str],
    /// The package to add; `ARCH` stands for the architecture.
    mend: &'static str,
    /// A machine does not start without.
    vital: bool,
}

const KERNEL: Need = Need {
    what: "a kernel",
    places: &["/boot", "/usr/lib/modules", "/lib/modules"],
    packages: &["linux-image*"],
    mend: "add `linux-image-cloud-ARCH` (for virtual machines) to a `packages` step",
    vital: true,
};

const INIT: Need = Need {
    what: "an init",
    places: &[
        "/sbin/init",
        "/usr/sbin/init",
        "/bin/init",
        "/usr/bin/init",
        "/usr/lib/systemd",
        "/lib/systemd",
    ],
    packages: &[
        "systemd-sysv",
        "init",
        "sysvinit-core",
        "runit-init",
        "openrc",
        "libpam-systemd",
        "dbus-user-session",
    ],
    mend: "add `systemd-sysv` to a `packages` step",
    vital: true,
};

const STUB: Need = Need {
    what: "a boot stub",
    places: &["/usr/lib/systemd/boot", "/lib/systemd/boot"],
    packages: &["systemd-boot*"],
    mend: "add `systemd-boot-efi` to a `packages` step",
    vital: true,
};

const NETWORK: Need = Need {
    what: "a configuration of the network",
    places: &[
        "/etc/systemd/network",
        "/usr/lib/systemd/network",
        "/etc/network",
        "/etc/netplan",
        "/etc/NetworkManager",
    ],
    packages: &["network-manager*", "ifupdown*", "netplan*", "connman*", "cloud-init", "dhcpcd*"],
    mend: "`[machine]` configures all Ethernet interfaces by DHCP; `network = \"none\"` in it says \
        that there is to be none",
    vital: false,
};

const RESOLVED: Need = Need {
    what: "systemd-resolved",
    places: &["/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system"],
    packages: &["systemd-resolved"],
    mend: "add `systemd-resolved` to a `packages` step, or write `network = \"none\"`",
    vital: true,
};

/// What is known of a recipe.
pub(super) struct Known<'a> {
    pub(super) base: &'a Base,
    pub(super) steps: &'a [Lowered],
    pub(super) stages: &'a [Stage],
    pub(super) outputs: &'a [Output],
    pub(super) tests: &'a [test::Read],
    pub(super) machine: Option<&'a Machine>,
}

impl Known<'_> {
    /// Reports what the machine lacks that the recipe makes, if it makes one.
    pub(super) fn report(&self, reader: &mut Reader<'_>) {
        self.report_architecture(reader);
        self.report_updates(reader);
        let Some(ways) = self.ways() else { return };
        if let Some(at) = self.machine.and_then(Machine::network)
            && let Some(mistake) = ways.lacks(&RESOLVED, reader.arch)
        {
            reader.report(at, mistake);
        }
        let machines = || self.outputs.iter().filter(|one| output::is_machine(one));
        let tested = test::first_boot(self.tests);
        let of_test = tested.map(|span| reader.source.diagnose(span, Mistake::new("")));
        let first = machines().next().map(|one| one.place.clone());
        let Some(place) = first.or_else(|| of_test.clone()) else { return };
        // A test boots from a disk, whatever else is made.
        let from_disk = machines().find(|one| one.format != "kernel").map(|one| one.place.clone());
        let mut say = |need: &Need, place: &Diagnostic| {
            if let Some(mistake) = ways.lacks(need, reader.arch) {
                reader.mistakes.add_placed(place.saying(mistake));
            }
        };
        say(&KERNEL, &place);
        say(&INIT, &place);
        if let Some(place) = from_disk.or(of_test) {
            say(&STUB, &place);
        }
        let by_kernel =
            |one: &Output| one.disk.command_line.split(' ').any(|w| w.starts_with("ip="));
        if self.machine.is_none() && !ways.programs && !machines().any(by_kernel) {
            say(&NETWORK, &place);
        }
    }

    /// Reports machines for an architecture for which none is made.
    fn report_architecture(&self, reader: &mut Reader<'_>) {
        if matches!(reader.arch, "amd64" | "arm64") {
            return;
        }
        for output in self.outputs.iter().filter(|one| output::is_machine(one)) {
            let mistake = Mistake::new(format!("a machine for {}", reader.arch))
                .label("machines are made for amd64 and arm64")
                .help("keep it off: `when = \"arch in ['amd64', 'arm64']\"`");
            reader.mistakes.add_placed(output.place.saying(mistake));
        }
    }

    /// Reports machines that an update would start otherwise than their disk does: an update brings
    /// its command line and its data disks along.
    fn report_updates(&self, reader: &mut Reader<'_>) {
        let disks = || self.outputs.iter().filter(|one| output::is_booted(one));
        let room = disks().any(|one| one.disk.slot.is_some());
        // Where one has room for updates, these are not for the others.
        let updated = || disks().filter(|one| !room || one.disk.slot.is_some());
        let Some(disk) = updated().next() else { return };
        for parts in self.outputs.iter().filter(|one| one.format == "partitions") {
            let mut say = |key: &str, here: &str, there: &str| {
                let (path, line) = (quote(&disk.path.to_string_lossy()), disk.place.line);
                let mistake = Mistake::new(format!("an update changes `{key}` of the machine"))
                    .label(format!("{here}, and {there} for {path} in line {line}"))
                    .help(format!("write the same `{key}` in both: an update brings its own along"))
                    .warn();
                reader.mistakes.add_placed(parts.place.saying(mistake));
            };
            let line = |one: &Output| -> String {
                one.disk.command_line.split_whitespace().collect::<Vec<_>>().join(" ")
            };
            if updated().all(|one| line(one) != line(parts)) {
                say("cmdline", &quote(&line(parts)), &quote(&line(disk)));
            }
            if updated().all(|one| one.disk.data != parts.disk.data) {
                let list = |one: &Output| match one.disk.data.is_empty() {
                    true => "no data disk".to_owned(),
                    false => one
                        .disk
                        .data
                        .values()
                        .map(|serial| quote(serial))
                        .collect::<Vec<_>>()
                        .join(", "),
                };
                say("data", &list(parts), &list(disk));
            }
        }
    }

    /// Returns by what ways something could come into the image; none where that is not known.
    fn ways(&self) -> Option<Ways<'_>> {
        let (mut base, mut all) = (self.base, vec![self.steps]);
        while let BaseKind::Stage(name) = &base.kind {
            // Stages that need each other have been reported.
            let below = self.stages.iter().find(|stage| stage.name == *name)?;
            base = &below.base;
            all.push(&below.steps);
        }
        if !matches!(base.kind, BaseKind::Scratch | BaseKind::Debian(_)) {
            return None;
        }
        let mut ways = Ways::default();
        for step in all.into_iter().flatten() {
            step.ops.iter().for_each(|op| ways.add(op, step.network.is_some()));
        }
        Some(ways)
    }
}

/// By what ways something can come into an image whose base is known.
#[derive(Default)]
struct Ways<'a> {
    /// Packages of Debian's archive.
    packages: Vec<&'a str>,
    /// Where files are put.
    places: Vec<&'a str>,
    /// Programs of the recipe run.
    programs: bool,
    /// These have a network, or files that are not of the image.
    programs_with_more: bool,
    /// Packages come from elsewhere too.
    other_packages: bool,
    /// Files come from outside.
    files: bool,
}

impl<'a> Ways<'a> {
    fn add(&mut self, op: &'a Op, network: bool) {
        match op {
            Op::Exec { mounts, secrets, .. } | Op::Script { mounts, secrets, .. } => {
                self.programs = true;
                self.programs_with_more |= network || !mounts.is_empty() || !secrets.is_empty();
            }
            Op::Configure(_) => {
                self.programs = true;
                self.programs_with_more = true;
            }
            Op::Copy { to, .. } | Op::Download { to, .. } => {
                self.files = true;
                self.places.push(to);
            }
            Op::Write { path, .. } | Op::Symlink { path, .. } => self.places.push(path),
            Op::Packages { names, files, .. } => {
                self.packages.extend(names.iter().map(String::as_str));
                self.other_packages |= !files.is_empty();
            }
            Op::Repository { .. } => self.other_packages = true,
            Op::Mkdir { .. }
            | Op::Remove { .. }
            | Op::Group { .. }
            | Op::User { .. }
            | Op::Service { .. } => {}
        }
    }

    /// Says that something is lacking, as far as that can be known.
    fn lacks(&self, need: &Need, arch: &str) -> Option<Mistake> {
        // What was brought along may hold packages that a program installs.
        let unknown = self.other_packages || self.programs_with_more || self.programs && self.files;
        let named = |name: &&str| need.packages.iter().any(|one| is_called(name, one));
        let there = |to: &&str| need.places.iter().any(|place| meet(place, to));
        if unknown || self.packages.iter().any(named) || self.places.iter().any(there) {
            return None;
        }
        let nothing = self.packages.is_empty() && !self.programs;
        let mistake = match need.vital && nothing {
            true => Mistake::new(format!("a machine without {}", need.what))
                .label("no step can bring it"),
            false => Mistake::new(format!("no step is known to bring {}", need.what))
                .label("a machine needs it")
                .warn(),
        };
        Some(mistake.help(need.mend.replace("ARCH", arch)))
    }
}

/// Whether a package, in the manager's notation, is one of those that `one` names.
fn is_called(package: &str, one: &str) -> bool {
    let name = package.split(['=', '/', ':']).next().unwrap_or(package);
    match one.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == one,
    }
}

/// Whether what is put at one of these paths may be at the other: one is above the other.
fn meet(place: &str, to: &str) -> bool {
    fn parts(path: &str) -> impl Iterator<Item = &str> {
        path.split('/').filter(|part| !part.is_empty())
    }
    parts(place).zip(parts(to)).all(|(one, other)| one == other)
}
