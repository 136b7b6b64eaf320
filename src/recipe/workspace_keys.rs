//! The keys of a workspace file, `bake.toml`.

use crate::schema::{Check, Effect, Section, Shape, may};
use crate::step::{AS, ENV, LIMITS, NETWORK, RETRIES, SHELL, TIMEOUT, WORKDIR};

/// What `bake.toml` is, for the schema.
pub(crate) const WORKSPACE_DOC: &str = "A workspace: what several recipes have in common. It \
    counts for every recipe in its directory and below, up to another `bake.toml`; the search for \
    it ends at a directory with `.git`. What a recipe says itself wins.";

/// What `[vars]` is there, for the schema.
pub(crate) const WORKSPACE_VARS_DOC: &str = "Variables of every recipe of the workspace, written \
    as in a recipe. A recipe that declares a variable of the same name has its own, with the \
    workspace's value where it gives no default. A recipe need not use them.";

/// The keys at the top of `bake.toml`.
pub(crate) const WORKSPACE: Section = Section {
    title: "`bake.toml`",
    name: "workspace",
    doc: WORKSPACE_DOC,
    keys: &[
        may(
            "members",
            Shape::List(Check::Member),
            "The recipes of the workspace, as globs relative to `bake.toml`; a directory means \
                the `recipe.toml` in it. They are what `bake build` builds where no recipe is \
                named and none is here. Names that begin with a dot match only where the glob has \
                the dot. Example: `[\"*.toml\", \"images/*\"]`.",
        ),
        may(
            "exclude",
            Shape::List(Check::Member),
            "What is no member although it matches: globs; a directory means all that is in it. \
                Example: `[\"images/old\"]`.",
        ),
        may(
            "store",
            Shape::Text(Check::Directory),
            "The store, relative to `bake.toml`. `--store` and `BAKE_STORE` win.",
        ),
        may(
            "mirror",
            Shape::Text(Check::Url),
            "Debian archive where a recipe names none. `--debian-mirror` and `BAKE_DEBIAN_MIRROR` \
                win. Example: `http://deb.debian.org/debian`.",
        ),
        may(
            "registry",
            Shape::Text(Check::Registry),
            "Where `bake push` pushes to when no destination is given: a registry, and what names \
                there begin with. Example: `registry.example/team`.",
        ),
    ],
    later: &[],
    effect: Effect::Nothing,
};

/// `[defaults]` of `bake.toml`.
pub(crate) const WORKSPACE_DEFAULTS: Section = Section {
    title: "`[defaults]` of `bake.toml`",
    name: "defaults",
    doc: "Options for every `run` and `script` of every recipe of the workspace, as `[defaults]` \
        of a recipe, which wins; `env` adds. What `mount` shows is of one recipe's context, so it \
        stands in recipes only.",
    keys: &[SHELL, AS, WORKDIR, ENV, NETWORK, TIMEOUT, RETRIES, LIMITS],
    later: &[],
    effect: Effect::Step,
};

/// Returns the keys and tables at the top of `bake.toml`, in order.
pub(crate) fn workspace_top() -> impl Iterator<Item = &'static str> + Clone {
    WORKSPACE.keys.iter().map(|key| key.name).chain(["vars", "defaults"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_described_once() {
        for section in [&WORKSPACE, &WORKSPACE_DEFAULTS] {
            for (n, key) in section.keys.iter().enumerate() {
                assert!(key.doc.ends_with('.'), "{} {}: not a sentence", section.title, key.name);
                assert!(section.keys[..n].iter().all(|one| one.name != key.name), "{}", key.name);
            }
        }
    }
}
