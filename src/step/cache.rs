//! `cache`: what it says wrong, alone and together with `mount`.

use std::path::Path;

use super::kind::Findings;
use crate::schema::{Fields, Kept, Mistake, quote};

/// Reports a cache where something else is mounted, and one within another.
pub(super) fn check_caches(fields: &Fields, findings: &mut Findings<'_>) {
    let (caches, mounts) = (fields.caches("cache"), fields.mounts("mount"));
    let Some(field) = fields.get("cache") else { return };
    for one in &caches {
        if mounts.contains_key(&one.to) {
            let mistake = Mistake::new(format!("a mount and a cache at {}", quote(&one.to)));
            findings.add(field.key.clone(), mistake);
        }
        let within =
            |other: &&Kept| other.to != one.to && Path::new(&one.to).starts_with(&other.to);
        if let Some(other) = caches.iter().find(within) {
            let (inner, outer) = (quote(&one.to), quote(&other.to));
            let mistake =
                Mistake::new(format!("the cache at {inner} is inside the one at {outer}"))
                    .help("the outer one keeps what is below it as well");
            findings.add(field.key.clone(), mistake);
        }
    }
}
