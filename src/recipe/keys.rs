//! The tables of keys: what a recipe may say, and where.

pub(crate) use super::output_keys::{FORMATS, OUTPUT, OUTPUT_DOC, PUSH};
use crate::schema::{Check, Effect, Section, Shape, Sharing, may, must};
use crate::step::{
    AS, CACHE as CACHES, ENV, KINDS, LIMIT, LIMITS, MACHINE, MOUNT, NETWORK, RETRIES, SHELL, TESTS,
    TIMEOUT, WHEN, WORKDIR,
};

/// Top-level keys in order, `step` and `test` among them.
pub(crate) const TOP: &[&str] = &[
    "image", "vars", "matrix", "base", "defaults", "step", "stage", "machine", "test", "config",
    "drift", "output",
];

/// Top-level keys of the reference that this version does not have.
pub(crate) const TOP_LATER: &[&str] = &[];

/// What `[vars]` and `[[step]]` are, for the schema.
pub(crate) const VARS_DOC: &str = "Variables: `{{ name }}` in any string of the recipe, and in \
    template files. A plain value is the default and fixes the type; `{}` means required. Set with \
    `--var name=value`, `--vars-file` or `BAKE_VAR_name`.";
/// What `[matrix]` is, for the schema.
pub(crate) const MATRIX_DOC: &str = "One recipe, several images: variables with all their values, \
    such as `php = [\"8.2\", \"8.4\"]`. Each combination is an image of its own, so `name` or \
    `version` has to use these variables; all of them are published together, or none. \
    `--variant php=8.4` bakes those only.";
pub(crate) const EXCLUDE_DOC: &str = "Combinations that are left out: \
    `exclude = [{ php = \"8.2\", debian = \"trixie\" }]`.";
pub(crate) const STEP_DOC: &str =
    "One step of the build. Steps run in the order written; each has exactly one kind.";

/// What a `[stage.NAME]` may hold, in order.
pub(crate) const STAGE: &[&str] = &["base", "defaults", "step"];

/// What `[stage]` is, for the schema.
pub(crate) const STAGES_DOC: &str = "Further root file systems of the same build, by name: `copy` \
    steps take files out of them with `from`, `run` and `script` steps see them by `mount`. A \
    stage that nothing needs is not built, and nothing else of a stage reaches the image.";
pub(crate) const STAGE_DOC: &str = "A stage: `[stage.NAME.base]` is what it starts from, \
    `[stage.NAME.defaults]` adds to `[defaults]`, `[[stage.NAME.step]]` are its steps.";

pub(crate) const TEST_DOC: &str = "One test of the finished image, in a throwaway copy of it with \
    a network of its own; an image whose test fails is not published. Each has exactly one check.";

/// One variable's long form.
pub(crate) const VAR: Section = Section {
    title: "a variable",
    name: "vars",
    doc: "A variable with its default, closed set or help. Without `default` it is required.",
    keys: &[
        may(
            "default",
            Shape::Text(Check::Any),
            "The value when nobody sets one; it fixes the type. Without it the variable is \
                required.",
        ),
        may("values", Shape::List(Check::Any), "The only values allowed."),
        may("help", Shape::Text(Check::Any), "What it is for, shown when it is missing or wrong."),
    ],
    later: &[],
    effect: Effect::Nothing,
};

pub(crate) const IMAGE: Section = Section {
    title: "`[image]`",
    name: "image",
    doc: "What the image is called and what it carries.",
    keys: &[
        must(
            "name",
            Shape::Text(Check::ImageName),
            "Name of the image, as OCI repository names: lower-case letters and digits with `.`, \
                `_`, `-` or `/` between. Example: `web`.",
        ),
        may(
            "version",
            Shape::Text(Check::ImageVersion),
            "Version of the image: 1 to 128 of `A-Za-z0-9_.-`. Required here or by \
                `--set-version`. Example: `2.0.0`.",
        ),
        may("description", Shape::Text(Check::Any), "One line for people."),
        may(
            "context",
            Shape::Text(Check::Directory),
            "The directory that all paths are relative to, itself relative to the recipe's \
                directory; nothing outside it is read. Default: `.`.",
        )
        .with(Effect::Nothing),
        may(
            "platforms",
            Shape::List(Check::Platform),
            "What the image is built for: one image for each, under one version. Default: this \
                machine's platform. Example: `[\"linux/amd64\", \"linux/arm64\"]`.",
        )
        .with(Effect::Nothing),
        may(
            "labels",
            Shape::Map(Check::Label),
            "OCI labels. Example: `labels.\"org.opencontainers.image.vendor\" = \"Example\"`.",
        ),
        may(
            "epoch",
            Shape::Integer(0, 253_402_300_799),
            "Seconds since 1970 that all times in the image are clamped to. Default: the newest \
                locked input's date.",
        )
        .with(Effect::All),
        may(
            "compression",
            Shape::Choice(&["gzip", "zstd", "none"]),
            "How layers are compressed. `gzip` (default) is read by everything; `zstd` is smaller \
                and faster.",
        )
        .with(Effect::All),
    ],
    later: &[],
    effect: Effect::Image,
};

/// The keys of which a base has exactly one.
pub(crate) const BASES: [&str; 7] =
    ["debian", "scratch", "path", "image", "oci", "recipe", "stage"];

pub(crate) const BASE: Section = Section {
    title: "`[base]`",
    name: "base",
    doc: "What the image starts from: exactly one of `debian`, `scratch`, `path`, `image`, \
        `oci`, `recipe`, `stage`.",
    keys: &[
        may(
            "debian",
            Shape::Text(Check::Word),
            "A Debian suite by code name, bootstrapped by bake itself. Example: `bookworm`.",
        ),
        may("scratch", Shape::Yes, "`true`: start from nothing."),
        may(
            "path",
            Shape::Text(Check::Context),
            "A directory, or a tar (plain, gzip, bzip2, xz, zstd), below the context.",
        ),
        may(
            "modes",
            Shape::Choice(&["checkout", "kept"]),
            "For a directory as `path`. `checkout` (default): 0755 for directories and executable \
                files, 0644 for others, whatever the umask was; `kept`: all modes as they are.",
        ),
        may(
            "image",
            Shape::Text(Check::ImageReference),
            "An image of the store: a version, what a channel points at, or a digest. Examples: \
                `web:1.0.0`, `web@production`, `web@sha256:…`.",
        ),
        may("oci", Shape::Text(Check::OciSource), OCI_DOC),
        may("named", Shape::Text(Check::Line), NAMED_DOC),
        may(
            "recipe",
            Shape::Text(Check::RecipeFile),
            "Another recipe, relative to this one's directory: it is built first, and its image is \
                the base. Example: `../base/recipe.toml`.",
        ),
        may("stage", Shape::Stage, "A stage of this recipe: what it holds at its end."),
        may(
            "variant",
            Shape::Choice(&["minbase", "slim"]),
            "For `debian`. `minbase` (default): essential and required packages and apt; `slim`: \
                the same without documentation, man pages and locales.",
        ),
        may(
            "mirror",
            Shape::Text(Check::Url),
            "For `debian`. URL of the archive. Default: the host's own, else Debian's. Example: \
                `http://deb.debian.org/debian`.",
        )
        .without_effect(),
        may("components", Shape::List(Check::Word), "For `debian`. Default: `[\"main\"]`."),
    ],
    later: &["arch"],
    effect: Effect::All,
};

const OCI_DOC: &str = "An image of a registry, or one that another tool keeps in files, pinned by \
    digest in the lock file. What starts with `./`, `../` or `/` is the directory of an OCI \
    layout, an oci-archive or a docker-archive (compressed ones too), relative to the context. \
    Examples: \
    `registry.example/team/base:3`, `./layout`.";

const NAMED_DOC: &str = "For `oci`. Which image of it, where there are several: its name there. \
    Example: `debian:12`.";

/// What `from` says that is no name of a stage.
pub(crate) const FROM: Section = Section {
    title: "an image as `from`",
    name: "from",
    doc: "An image that files are taken from: exactly one of `image` and `oci`.",
    keys: &[
        may("image", Shape::Text(Check::ImageReference), FROM_IMAGE_DOC),
        may("oci", Shape::Text(Check::OciSource), OCI_DOC),
        may("named", Shape::Text(Check::Line), NAMED_DOC),
    ],
    later: &[],
    effect: Effect::Step,
};

const FROM_IMAGE_DOC: &str = "An image of the store, pinned by digest in the lock file. Examples: \
    `web:1.0.0`, `web@production`, `web@sha256:…`.";

/// What an entry of `cache` says that is more than a path.
pub(crate) const CACHE: Section = Section {
    title: "a cache",
    name: "cache",
    doc: "A directory that is kept between builds and is in no image.",
    keys: &[
        must(
            "to",
            Shape::Text(Check::MountPoint),
            "Where the step sees it: an absolute path. Example: `/root/.cache/pip`.",
        ),
        may(
            "id",
            Shape::Text(Check::CacheName),
            "What names it: steps with the same one use the same directory, those of other \
                recipes as well. Default: the name of the image and `to`.",
        ),
        may(
            "sharing",
            Shape::Choice(Sharing::NAMES),
            "How several steps use it at once: `shared` (default): together; `locked`: one after \
                the other; `private`: each a directory of its own.",
        )
        .without_effect(),
    ],
    later: &[],
    effect: Effect::Step,
};

/// What a mount of a stage or an image says.
pub(crate) const MOUNT_FROM: Section = Section {
    title: "a mount of a stage or an image",
    name: "mount",
    doc: "A path of a stage or of an image: exactly one of `from`, `image` and `oci`.",
    keys: &[
        may("from", Shape::Stage, "The stage."),
        may("image", Shape::Text(Check::ImageReference), FROM_IMAGE_DOC),
        may("oci", Shape::Text(Check::OciSource), OCI_DOC),
        may("named", Shape::Text(Check::Line), NAMED_DOC),
        must(
            "path",
            Shape::Text(Check::Inside),
            "What of it is seen: an absolute path. Example: `/out`.",
        ),
    ],
    later: &[],
    effect: Effect::Step,
};
pub(crate) const DEFAULTS: Section = Section {
    title: "`[defaults]`",
    name: "defaults",
    doc: "Options for every `run` and `script`, those of stages too; `timeout`, `retries` and \
        `limits` for `packages` as well. What a stage says wins, what a step says wins over that; \
        `env`, `mount` and `cache` add.",
    keys: &[SHELL, AS, WORKDIR, ENV, MOUNT, CACHES, NETWORK, TIMEOUT, RETRIES, LIMITS],
    later: &[],
    effect: Effect::Step,
};

/// What a step says for which those of another file stand.
pub(crate) const INCLUDE: Section = Section {
    title: "an `include` step",
    name: "include",
    doc: "The steps of another file stand here. It holds `[vars]` and `[[step]]`s and nothing \
        else, sees no variables but its own, and its paths are relative to itself. `[defaults]` \
        and stages are those of the recipe.",
    keys: &[
        WHEN,
        must(
            "include",
            Shape::Text(Check::Context),
            "The file, below the context. Example: `parts/host.toml`.",
        ),
        may(
            "vars",
            Shape::Vars,
            "Values of variables that it declares: strings, integers, booleans. Example: \
                `{ hostname = \"{{ name }}\", port = 80 }`.",
        ),
    ],
    later: &[],
    effect: Effect::Step,
};

/// What an included file may hold, in order.
pub(crate) const PART: &[&str] = &["vars", "step"];

/// Kinds of the reference that this version does not have.
pub(crate) const KINDS_LATER: &[&str] = &[];

pub(crate) const HEALTHCHECK: Section = Section {
    title: "`healthcheck`",
    name: "healthcheck",
    doc: "How a runtime can ask whether the container works (Docker's extension).",
    keys: &[
        must("cmd", Shape::Command, "A list is executed, a string goes to the shell."),
        may("interval", Shape::Text(Check::Duration), "Between checks. Example: `30s`."),
        may("timeout", Shape::Text(Check::Duration), "Limit of each check."),
        may(
            "start_period",
            Shape::Text(Check::Duration),
            "Failures do not count for this long after the start.",
        ),
        may("retries", Shape::Integer(1, 1000), "Failures in a row until unhealthy."),
    ],
    later: &[],
    effect: Effect::Image,
};

pub(crate) const CONFIG: Section = Section {
    title: "`[config]`",
    name: "config",
    doc: "How the finished image runs. Steps never see this.",
    keys: &[
        may("entrypoint", Shape::List(Check::Argument), "Program and leading arguments."),
        may(
            "cmd",
            Shape::List(Check::Argument),
            "Default arguments, or the program where there is no entrypoint.",
        ),
        may(
            "env",
            Shape::Map(Check::EnvName),
            "Environment, strings or integers. Example: `env.PORT = 80`.",
        ),
        may("user", Shape::Text(Check::RunAs), "`name`, `name:group` or ids. Default: root."),
        may("workdir", Shape::Text(Check::Inside), "Working directory: an absolute path."),
        may(
            "ports",
            Shape::Ports,
            "Ports it listens on, an integer or `\"53/udp\"`. Example: `[80, \"53/udp\"]`.",
        ),
        may(
            "volumes",
            Shape::List(Check::Inside),
            "Directories whose data lives outside the image.",
        ),
        may("labels", Shape::Map(Check::Label), "OCI labels."),
        may("stop_signal", Shape::Text(Check::Signal), "Signal that ends it. Example: `SIGQUIT`."),
        may(
            "healthcheck",
            Shape::Table(&HEALTHCHECK),
            "How a runtime can ask whether it works. Example: `{ cmd = \
                [\"curl\", \"-f\", \"http://127.0.0.1/\"], interval = \"30s\" }`.",
        ),
    ],
    later: &[],
    effect: Effect::Image,
};

pub(crate) const DRIFT: Section = Section {
    title: "`[drift]`",
    name: "drift",
    doc: "What a machine made from the image may change and still be that image, for `bake drift`.",
    keys: &[may(
        "ignore",
        Shape::List(Check::Ignore),
        "What is left out, in gitignore notation over absolute paths; `[config] volumes` and what \
            every machine writes are left out anyway. Example: \
            `[\"/etc/app/local.conf\", \"/srv/cache/\", \"*.pyc\"]`.",
    )],
    later: &[],
    effect: Effect::Image,
};

/// Returns the kinds of step, and what stands for steps.
pub(crate) fn kinds() -> impl Iterator<Item = &'static Section> + Clone {
    KINDS.iter().map(|kind| &kind.section).chain([&INCLUDE])
}

/// Returns the kinds of test, by what is checked.
pub(crate) fn checks() -> impl Iterator<Item = &'static Section> + Clone {
    TESTS.iter().map(|kind| &kind.section)
}

/// Returns the single tables at the top level: neither `vars` nor `stage`, and no lists.
pub(crate) fn table(name: &str) -> Option<&'static Section> {
    [&IMAGE, &BASE, &DEFAULTS, &MACHINE, &CONFIG, &DRIFT].into_iter().find(|s| s.name == name)
}

/// Returns every table of keys but `[vars]`, by the name it has in the JSON Schema, in the order of
/// the reference.
pub(crate) fn tables() -> impl Iterator<Item = (String, &'static Section)> {
    let own = |section: &'static Section| (section.name.to_owned(), section);
    [&IMAGE, &BASE, &DEFAULTS, &LIMIT]
        .map(own)
        .into_iter()
        .chain(kinds().map(|kind| (format!("step-{}", kind.name), kind)))
        .chain([&FROM, &MOUNT_FROM, &CACHE, &MACHINE].map(own))
        .chain(checks().map(|check| (format!("test-{}", check.name), check)))
        .chain([&CONFIG, &HEALTHCHECK, &DRIFT, &OUTPUT, &PUSH].map(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_described_once() {
        for section in tables().map(|(_, section)| section).chain([&VAR]) {
            for (n, key) in section.keys.iter().enumerate() {
                assert!(key.doc.ends_with('.'), "{} {}: not a sentence", section.title, key.name);
                assert!(
                    section.keys[..n].iter().all(|k| k.name != key.name),
                    "{} twice in {}",
                    key.name,
                    section.title
                );
                assert!(!section.later.contains(&key.name), "{} is both built and not", key.name);
            }
        }
        for kind in kinds().chain(checks()) {
            assert!(
                kind.key(kind.name).is_some_and(|k| k.required),
                "{} lacks its own key",
                kind.name
            );
        }
        for name in TOP {
            assert!(
                matches!(*name, "vars" | "matrix" | "step" | "stage" | "test" | "output")
                    || table(name).is_some()
            );
        }
    }
}
