//! `boot`: the image as a machine, started from its disk.

use super::kind::{NAME, TIMEOUT, TestKind, WHEN};
use super::model::Checks;
use crate::schema::{Check, Effect, Fields, Section, Shape, may, must};

pub(super) static KIND: TestKind = TestKind {
    section: Section {
        title: "a `boot` test",
        name: "boot",
        doc: "Boots the disk of the image in QEMU: everything that is to start must start, no unit \
            may fail, and the machine must end when it is asked to. Other tests with `boot = true` \
            look at the same machine.",
        keys: &[
            NAME,
            WHEN,
            must("boot", Shape::Yes, "`true`: as a machine."),
            may(
                "output",
                Shape::Text(Check::Filled),
                "Which disk, by the `path` of its `[[output]]`. Default: the only one; where there \
                    is none, one is made for the test.",
            ),
            may("memory", Shape::Text(Check::Word), "Memory of the machine. Default: `1GiB`."),
            may(
                "may_fail",
                Shape::List(Check::Word),
                "Units of systemd that may fail. Example: `may_fail = [\"smartd.service\"]`.",
            ),
            TIMEOUT,
        ],
        later: &[],
        effect: Effect::Nothing,
    },
    cross_check: |_, _| {},
    lower,
    #[cfg(test)]
    cases: &[
        ("boot", "boot = true", "run = 'a'"),
        (
            "output",
            "boot = true\noutput = 'a'\n[[output]]\nformat = 'disk'\npath = 'a'\n[[output]]\n\
                format = 'disk'\npath = 'b'\nroot = 'ext4'",
            "boot = true\noutput = 'b'\n[[output]]\nformat = 'disk'\npath = 'a'\n[[output]]\n\
                format = 'disk'\npath = 'b'\nroot = 'ext4'",
        ),
        ("memory", "boot = true", "boot = true\nmemory = '2GiB'"),
        ("may_fail", "boot = true", "boot = true\nmay_fail = ['a.service']"),
    ],
};

fn lower(_: &Fields, _: &[String]) -> Option<Checks> {
    Some(Checks { about: "boot".to_owned(), probes: vec![] })
}
