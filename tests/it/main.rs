//! The integration tests, one module a subject; a test is found by the rule in `docs/contributing.md`.
mod recipe_bad;
mod recipe_format;
mod recipe_hostile;
mod recipe_read;
mod recipe_schema;
mod step_lower;
