//! Reads one `[[test]]` by the table of kinds.

use std::ops::Range;

use toml::de::DeTable;

use super::kind::{Family, condition, cross_check, sort};
use super::reader::Reader;
use crate::recipe::keys;
use crate::schema::{Mistake, Start};
use crate::step::{LoweredTest, Options, TESTS};

/// A test as read, and where it says what it starts.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) test: LoweredTest,
    /// Where `start` names `[config]`.
    pub(crate) starts_config: Option<Range<usize>>,
    /// Its `when` is not false.
    pub(crate) on: bool,
}

/// Reads one test; `None` where it is wrong, which is reported.
pub(crate) fn read_test(
    reader: &mut Reader<'_>,
    place: Range<usize>,
    table: &DeTable<'_>,
    defaults: &Options,
) -> Option<Read> {
    let tests = Family {
        noun: "test",
        kinds: keys::checks().collect(),
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
    let test = kind.test(reader.source.line(key.start), &fields, defaults)?;
    let starts_config = fields
        .get("start")
        .filter(|_| fields.starts("start").iter().any(|(_, start)| *start == Start::Config))
        .map(|field| field.span.clone());
    Some(Read { test, starts_config, on })
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
