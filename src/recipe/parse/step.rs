//! Reads one `[[step]]` by the table of kinds.

use std::ops::Range;

use toml::de::DeTable;

use super::kind::{Family, cross_check, sort};
use super::reader::Reader;
use crate::recipe::keys;
use crate::schema::{Mistake, Section};
use crate::step::{KINDS, Lowered, Options};

/// Finds the kind of one entry, and where its key stands; `None` where that is wrong, which is
/// reported.
pub(crate) fn kind_of(
    reader: &mut Reader<'_>,
    place: Range<usize>,
    table: &DeTable<'_>,
) -> Option<(&'static Section, Range<usize>)> {
    let steps = Family {
        noun: "step",
        kinds: keys::kinds().collect(),
        later: keys::KINDS_LATER,
        without: ("a step without a kind", "what does this step do?"),
    };
    sort(reader, &steps, place, table, two_kinds)
}

/// Reads one entry of a kind, whose key stands at `key`: nearly always one step; none where it is
/// off (`on`: it is not), or wrong, which is reported.
pub(crate) fn read_step(
    reader: &mut Reader<'_>,
    (section, key): (&'static Section, Range<usize>),
    table: &DeTable<'_>,
    defaults: &Options,
    on: bool,
) -> Vec<Lowered> {
    let found = KINDS.iter().find(|kind| kind.section.name == section.name);
    let kind = found.expect("`sort` takes it from the table");
    let fields = reader.fields(section, key.clone(), table);
    cross_check(reader, kind.cross_check, &fields, on);
    let steps = kind.steps(reader.source.line(key.start), &fields, defaults);
    if on { steps } else { vec![] }
}

fn two_kinds(reader: &mut Reader<'_>, kinds: &[(&'static Section, Range<usize>)]) {
    let [(first, _), rest @ ..] = kinds else { return };
    for (second, span) in rest {
        let mistake = Mistake::new(format!(
            "a step has one kind, but this one is both `{}` and `{}`",
            first.name, second.name
        ))
        .label("a second kind");
        let runs = |kind: &Section| matches!(kind.name, "run" | "script");
        let help = match (first.name, second.name) {
            ("user", other) | (other, "user") if runs(first) || runs(second) => {
                format!("`as` is the user that a `{other}` step runs as; `user` makes a user")
            }
            ("user", "group") | ("group", "user") => {
                "a user's primary group is `gid`, further ones are `groups`; a `group` step of its \
                    own makes a group"
                    .into()
            }
            _ => "start the second one with a `[[step]]` of its own".into(),
        };
        reader.report(span.clone(), mistake.help(help));
    }
}
