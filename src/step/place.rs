//! What kinds share that put files into the image: owner, mode, and where nothing stays.

use super::kind::Remarks;
use crate::schema::{Check, Fields, Key, Mistake, Shape, may, quote};

/// Permission bits of a file that nobody says any of.
pub(super) const FILE_MODE: u32 = 0o644;

/// The same of a directory.
pub(super) const DIRECTORY_MODE: u32 = 0o755;

/// `owner`.
pub(super) const OWNER: Key = may(
    "owner",
    Shape::Text(Check::Owner),
    "`name:group` or `uid:gid`, names looked up in the image. Default: root.",
);

/// `mode`.
pub(super) const MODE: Key =
    may("mode", Shape::Text(Check::Mode), "Permission bits as a string. Example: `0644`.");

/// Returns the owner, root where none is said.
pub(super) fn owner(fields: &Fields) -> String {
    fields.text("owner").unwrap_or_else(|| "0:0".to_owned())
}

/// Warns of what `key` puts where nothing stays: `/tmp` is empty at the start of each step, and of
/// `/run` only directories stay.
pub(super) fn gone_after_the_step(fields: &Fields, key: &str, remarks: &mut Remarks<'_>) {
    for said in fields.entries(key) {
        let mut parts = said.text.split('/').filter(|part| !matches!(*part, "" | "."));
        let place = match (parts.next(), parts.next()) {
            (Some("tmp"), _) => "`/tmp` is empty after every step",
            (Some("run"), Some(_)) if key != "mkdir" => "of `/run` only directories stay",
            _ => continue,
        };
        let mistake = Mistake::new(format!("{} will not be in the image", quote(&said.text)))
            .label(place)
            .help("choose a place outside of `/tmp` and `/run`, or make it when the image starts");
        remarks.add(said.span, mistake.warn());
    }
}
