//! Images of one recipe for several platforms, which become one version.

use super::request::Baked;
use super::schedule::Prepared;
use crate::store::Version;

/// Returns the place of the version that an image is of.
pub(super) fn place<'v>(mut versions: impl Iterator<Item = &'v Version>, one: &Prepared) -> usize {
    let image = &one.roots.main().plan.image;
    let found = versions.position(|version| version.reference.to_string() == *image);
    found.expect("what is wanted is published")
}

/// Says once what was published of several images of a version.
pub(super) fn merged(baked: impl Iterator<Item = Baked>) -> Vec<Baked> {
    let mut all: Vec<Baked> = vec![];
    for one in baked {
        match all.iter_mut().find(|first| first.image == one.image) {
            None => all.push(one),
            Some(first) => {
                first.took = first.took.max(one.took);
                first.outputs.extend(one.outputs);
            }
        }
    }
    all
}
