//! How `index.json` says which tests a version has, and whether they have passed.

/// Annotation of a version in `index.json`: the digest of the list of its tests, which an artifact
/// of type [`MEDIA_TESTS`] holds that speaks about it; `none` where it has none.
pub const TESTS_ANNOTATION: &str = "bake.tests";
/// Type of the artifact that holds the list of an image's tests.
pub const MEDIA_TESTS: &str = "application/vnd.bake.tests.v1+json";
/// Annotation of a version in `index.json`: `yes` where its tests have passed, `none` where it has
/// none, [`UNTESTED`] where they were left out, which keeps it out of every channel.
pub const TESTED_ANNOTATION: &str = "bake.tested";
/// What [`TESTED_ANNOTATION`] says of an image whose tests were left out.
pub const UNTESTED: &str = "no";
/// Annotation of an index in `index.json`: what the entries of its images would say, each by
/// itself, as JSON by platform.
pub(super) const PLATFORMS_ANNOTATION: &str = "bake.platforms";
