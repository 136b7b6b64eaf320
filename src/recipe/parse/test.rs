//! Reads one `[[test]]` by the table of kinds.

use std::ops::Range;

use toml::de::DeTable;

use super::kind::{Family, condition, cross_check, sort};
use super::output;
use super::reader::Reader;
use crate::recipe::keys;
use crate::recipe::model::{DiskOutput, Output};
use crate::schema::{Mistake, Start, quote};
use crate::step::{BootDisk, LoweredTest, Options, TESTS};

/// The kind of test that looks at nothing but the machine, and its key, which others have too.
const BOOT: &str = "boot";

/// A test as read, and where it says what it starts.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) test: LoweredTest,
    /// Where `start` names `[config]`.
    pub(crate) starts_config: Option<Range<usize>>,
    /// Where it names the disk of a machine, or says that it is about one.
    pub(crate) machine: Option<Machine>,
    /// Its `when` is not false.
    pub(crate) on: bool,
}

/// What a test says of the machine that it looks at.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// Where it says that it is about one.
    boot: Range<usize>,
    /// It looks at nothing else.
    alone: bool,
    /// The output that is its disk, and where that is written.
    output: Option<(String, Range<usize>)>,
}

/// Returns where the first test that is on says that it is about a machine.
pub(super) fn first_boot(tests: &[Read]) -> Option<Range<usize>> {
    let machines = tests.iter().filter(|read| read.on).filter_map(|read| read.machine.as_ref());
    machines.map(|machine| machine.boot.clone()).next()
}

/// Reads one test; `None` where it is wrong, which is reported.
pub(crate) fn read_test(
    reader: &mut Reader<'_>,
    place: Range<usize>,
    table: &DeTable<'_>,
    defaults: &Options,
) -> Option<Read> {
    // What a test looks at decides, where it says that as well.
    let another = |key: &str| key != BOOT && keys::checks().any(|check| check.name == key);
    let another = table.keys().any(|key| another(key.get_ref()));
    let tests = Family {
        noun: "test",
        kinds: keys::checks().filter(|check| !another || check.name != BOOT).collect(),
        later: &[],
        without: ("a test without a check", "what does this test look at?"),
    };
    let on = condition(reader, table) != Some(false);
    let (section, key) = sort(reader, &tests, place, table, |reader, checks| {
        let [(first, _), rest @ ..] = checks else { return };
        for (second, span) in rest {
            let mistake = Mistake::new(format!(
                "a test has one check, but this one has both `{}` and `{}`",
                first.name, second.name
            ));
            reader.report(
                span.clone(),
                mistake
                    .label("a second check")
                    .help("start the second one with a `[[test]]` of its own"),
            );
        }
    })?;
    let kind = TESTS.iter().find(|kind| kind.section.name == section.name)?;
    let fields = reader.fields(section, key.clone(), table);
    cross_check(reader, kind.cross_check, &fields, on);
    let mut test = kind.test(reader.source.line(key.start), &fields, defaults)?;
    if let (Some(_), Some(field)) = (&test.boot, fields.get("start")) {
        let mistake = Mistake::new("`start` in a test of a machine")
            .label("its init starts what it starts")
            .help("enable a service in the image: `[[step]] service = \"…\"`");
        reader.report(field.key.clone(), mistake);
    }
    if let Some(boot) = &mut test.boot {
        boot.memory = output::size_of(reader, &fields, "memory");
    }
    let machine = fields.get(BOOT).filter(|_| test.boot.is_some()).map(|field| Machine {
        boot: field.key.clone(),
        alone: section.name == BOOT,
        output: fields.text("output").zip(fields.get("output").map(|field| field.span.clone())),
    });
    let starts_config = fields
        .get("start")
        .filter(|_| fields.starts("start").iter().any(|(_, start)| *start == Start::Config))
        .map(|field| field.span.clone());
    Some(Read { test, starts_config, machine, on })
}

/// Finds the disk that the tests of a machine boot: an output of the recipe, else one like the
/// default.
pub(crate) fn disks(reader: &mut Reader<'_>, tests: &mut [Read], outputs: &[Output]) {
    let disks: Vec<&Output> = outputs
        .iter()
        .filter(|output| !output.given && output::DISKS.contains(&output.format.as_str()))
        .collect();
    let paths = || disks.iter().map(|disk| disk.path.display().to_string());
    let machines = tests.iter().filter(|read| read.on).filter_map(|read| read.machine.clone());
    let machines: Vec<Machine> = machines.collect();
    let Some(first) = machines.first() else { return };
    let mut alone = machines.iter().filter(|machine| machine.alone);
    if let (Some(_), Some(second)) = (alone.next(), alone.next()) {
        let mistake = Mistake::new("two tests that describe the machine")
            .label("all tests with `boot` look at one machine")
            .help("join them");
        reader.report(second.boot.clone(), mistake);
    }
    let named = machines.iter().find_map(|machine| machine.output.clone());
    let disk = match (&named, disks.as_slice()) {
        (Some((path, span)), disks) => {
            let found = disks.iter().find(|disk| disk.path.as_os_str() == path.as_str());
            if found.is_none() {
                let mistake = Mistake::new(format!("no disk is made at {}", quote(path)));
                let help = match disks {
                    [] => "the recipe has no `[[output]]` that is a disk".to_owned(),
                    _ => format!("it is one of {}", paths().collect::<Vec<_>>().join(", ")),
                };
                reader.report(span.clone(), mistake.help(help));
            }
            found.copied()
        }
        (None, [several @ .., _]) if !several.is_empty() => {
            let mistake = Mistake::new("several disks, and one is to be booted").help(format!(
                "name it in a `boot` test, `output = \"…\"`: {}",
                paths().collect::<Vec<_>>().join(", ")
            ));
            reader.report(first.boot.clone(), mistake);
            None
        }
        (None, disks) => disks.first().copied(),
    };
    let Some(disk) = disk else { return };
    let DiskOutput { writable, command_line, esp, slot, data } = disk.disk.clone();
    let (format, size, compression) = (disk.format.clone(), disk.size, disk.compression.clone());
    let disk = BootDisk { format, size, compression, writable, command_line, esp, slot, data };
    for boot in tests.iter_mut().filter_map(|read| read.test.boot.as_mut()) {
        boot.disk = disk.clone();
    }
}

/// Reports tests that start what `[config]` does not say.
pub(crate) fn nothing_to_start(reader: &mut Reader<'_>, tests: &[Read]) {
    for place in tests.iter().filter(|read| read.on).filter_map(|read| read.starts_config.clone()) {
        let mistake =
            Mistake::new("`start = true` stands for what `[config]` says, which is nothing")
                .label("no `cmd` and no `entrypoint`");
        reader.report(
            place,
            mistake.help(
                "add `cmd = [\"…\"]` to `[config]`, or write the command here: start = \"…\"",
            ),
        );
    }
}
