//! `service`: enables, disables or masks systemd units.

use super::kind::{Findings, Kind, NAME, WHEN, Work};
use super::op::{Op, ServiceState};
use super::program::Options;
use crate::schema::{Check, Effect, Fields, Mistake, Section, Shape, may, must};

pub(super) static KIND: Kind = Kind {
    section: Section {
        title: "a `service` step",
        name: "service",
        doc: "Enables, disables or masks systemd units that exist at this step.",
        keys: &[
            NAME,
            WHEN,
            must("service", Shape::OneOrMany(Check::Unit), "Units; `.service` may be left off."),
            may("enabled", Shape::Boolean, "Started at boot. Default: `true`."),
            may("masked", Shape::Boolean, "Cannot be started at all. Default: `false`."),
        ],
        later: &[],
        effect: Effect::Step,
    },
    cross_check,
    lower,
    #[cfg(test)]
    cases: &[
        ("service", "service = 's'", "service = 't'"),
        ("enabled", "service = 's'\nenabled = true", "service = 's'\nenabled = false"),
        ("masked", "service = 's'\nmasked = false", "service = 's'\nmasked = true"),
    ],
};

fn cross_check(fields: &Fields, findings: &mut Findings<'_>) {
    if let (Some(true), Some(true), Some(field)) =
        (fields.boolean("enabled"), fields.boolean("masked"), fields.get("masked"))
    {
        let mistake = Mistake::new("a unit cannot be both enabled and masked");
        findings.add(field.key.clone(), mistake);
    }
}

fn lower(fields: &Fields, _: &Options) -> Option<Work> {
    let units = fields.given_list("service")?;
    let masked = fields.boolean("masked").unwrap_or(false);
    let state = match (fields.boolean("enabled").unwrap_or(!masked), masked) {
        (_, true) => ServiceState::Masked,
        (true, false) => ServiceState::Enabled,
        (false, false) => ServiceState::Disabled,
    };
    Some(Work::of(units.join(" "), Op::Service { units, state }))
}
