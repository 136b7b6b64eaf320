//! The tables of keys: what a recipe may say, and where.

use crate::schema::{Check, Key, Section, Shape, may, must};

/// Highest user or group id: the one above means "none" to the kernel.
const MAX_ID: i64 = u32::MAX as i64 - 1;

/// Top-level keys in order, `step` and `test` among them.
pub(crate) const TOP: &[&str] =
    &["image", "vars", "base", "defaults", "step", "stage", "test", "config", "drift"];

/// Top-level keys of the reference that this version does not have.
pub(crate) const TOP_LATER: &[&str] = &["output"];

/// What `[vars]` and `[[step]]` are, for the schema.
pub(crate) const VARS_DOC: &str = "Variables: `{{ name }}` in any string of the recipe, and in template files. A plain value is the default and fixes the type; `{}` means required. Set with `--var name=value`, `--vars-file` or `BAKE_VAR_name`.";
pub(crate) const STEP_DOC: &str =
    "One step of the build. Steps run in the order written; each has exactly one kind.";

/// What a `[stage.NAME]` may hold, in order.
pub(crate) const STAGE: &[&str] = &["base", "defaults", "step"];

/// What `[stage]` is, for the schema.
pub(crate) const STAGES_DOC: &str = "Further root file systems of the same build, by name: `copy` steps take files out of them with `from`, `run` and `script` steps see them by `mount`. A stage that nothing needs is not built, and nothing else of a stage reaches the image.";
pub(crate) const STAGE_DOC: &str = "A stage: `[stage.NAME.base]` is what it starts from, `[stage.NAME.defaults]` adds to `[defaults]`, `[[stage.NAME.step]]` are its steps.";

pub(crate) const TEST_DOC: &str = "One test of the finished image, in a throwaway copy of it with a network of its own; an image whose test fails is not published. Each has exactly one check.";

/// One variable's long form.
pub(crate) const VAR: Section = Section {
    title: "a variable",
    name: "vars",
    doc: "A variable with its default, closed set or help. Without `default` it is required.",
    keys: &[
        may(
            "default",
            Shape::Text(Check::Any),
            "The value when nobody sets one; it fixes the type. Without it the variable is required.",
        ),
        may("values", Shape::List(Check::Any), "The only values allowed."),
        may("help", Shape::Text(Check::Any), "What it is for, shown when it is missing or wrong."),
    ],
    later: &[],
};

pub(crate) const IMAGE: Section = Section {
    title: "`[image]`",
    name: "image",
    doc: "What the image is called and what it carries.",
    keys: &[
        must(
            "name",
            Shape::Text(Check::ImageName),
            "Name of the image, as OCI repository names: lower-case letters and digits with `.`, `_`, `-` or `/` between. Example: `web`.",
        ),
        may(
            "version",
            Shape::Text(Check::ImageVersion),
            "Version of the image: 1 to 128 of `A-Za-z0-9_.-`. Required here or by `--set-version`. Example: `2.0.0`.",
        ),
        may("description", Shape::Text(Check::Any), "One line for people."),
        may(
            "context",
            Shape::Text(Check::Folder),
            "The folder that all paths are relative to, itself relative to the recipe's folder; nothing outside it is read. Default: `.`.",
        ),
        may(
            "labels",
            Shape::Map(Check::Label),
            "OCI labels. Example: `labels.\"org.opencontainers.image.vendor\" = \"Example\"`.",
        ),
        may(
            "epoch",
            Shape::Integer(0, 253_402_300_799),
            "Seconds since 1970 that all times in the image are clamped to. Default: the newest locked input's date.",
        ),
        may(
            "compression",
            Shape::Choice(&["gzip", "zstd", "none"]),
            "How layers are compressed. `gzip` (default) is read by everything; `zstd` is smaller and faster.",
        ),
    ],
    later: &["platforms"],
};

/// The keys of which a base has exactly one.
pub(crate) const BASES: [&str; 6] = ["debian", "scratch", "path", "image", "recipe", "stage"];

pub(crate) const BASE: Section = Section {
    title: "`[base]`",
    name: "base",
    doc: "What the image starts from: exactly one of `debian`, `scratch`, `path`, `image`, `recipe`, `stage`.",
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
            "For a directory as `path`. `checkout` (default): 0755 for directories and executable files, 0644 for others, whatever the umask was; `kept`: all modes as they are.",
        ),
        may(
            "image",
            Shape::Text(Check::ImageReference),
            "An image of the store: a version, what a channel points at, or a digest. Examples: `web:1.0.0`, `web@production`, `web@sha256:…`.",
        ),
        may(
            "recipe",
            Shape::Text(Check::RecipeFile),
            "Another recipe, relative to this one's directory: it is built first, and its image is the base. Example: `../base/recipe.toml`.",
        ),
        may("stage", Shape::Stage, "A stage of this recipe: what it holds at its end."),
        may(
            "variant",
            Shape::Choice(&["minbase", "slim"]),
            "For `debian`. `minbase` (default): essential and required packages and apt; `slim`: the same without documentation, man pages and locales.",
        ),
        may(
            "mirror",
            Shape::Text(Check::Url),
            "For `debian`. URL of the archive. Default: the host's own, else Debian's. Example: `http://deb.debian.org/debian`.",
        ),
        may("components", Shape::List(Check::Word), "For `debian`. Default: `[\"main\"]`."),
    ],
    later: &["oci", "arch"],
};

const AS: Key = may(
    "as",
    Shape::Text(Check::RunAs),
    "The user it runs as, `name`, `name:group` or ids. Default: root.",
);
const WORKDIR: Key = may(
    "workdir",
    Shape::Text(Check::Inside),
    "Working folder inside, made if missing. Default: `/`.",
);
const SHELL: Key = may(
    "shell",
    Shape::Shell,
    "`sh` (default): `/bin/sh -eu -c`; `bash`: `/bin/bash -euo pipefail -c`; or the whole list.",
);
const ENV: Key = may(
    "env",
    Shape::Map(Check::EnvName),
    "Environment, strings or integers. Example: `env.NODE_ENV = \"production\"`.",
);
const NETWORK: Key =
    may("network", Shape::Boolean, "Whether the network can be reached. Default: `false`.");
const MOUNT: Key = may(
    "mount",
    Shape::Mounts,
    "What is seen at a path while the step runs: a path of the context, or a path of a stage. Writes are discarded. Examples: `mount.\"/src\" = \"web/\"`, `mount.\"/src\" = { from = \"build\", path = \"/out\" }`.",
);
/// What a mount of a stage says.
pub(crate) const MOUNT_FROM: Section = Section {
    title: "a mount of a stage",
    name: "mount",
    doc: "A path of a stage.",
    keys: &[
        must("from", Shape::Stage, "The stage."),
        must(
            "path",
            Shape::Text(Check::Inside),
            "What of it is seen: an absolute path. Example: `/out`.",
        ),
    ],
    later: &[],
};
const TIMEOUT: Key =
    may("timeout", Shape::Text(Check::Duration), "Time limit of each try. Example: `90s`, `10m`.");
const RETRIES: Key = may(
    "retries",
    Shape::Integer(0, 100),
    "Further tries after a failure, each on a fresh root. Default: 0.",
);

pub(crate) const DEFAULTS: Section = Section {
    title: "`[defaults]`",
    name: "defaults",
    doc: "Options for every `run` and `script`, those of stages too; `timeout` and `retries` for `packages` as well. What a stage says wins, what a step says wins over that; `env` and `mount` add.",
    keys: &[SHELL, AS, WORKDIR, ENV, MOUNT, NETWORK, TIMEOUT, RETRIES],
    later: &["cache", "secrets"],
};

/// Keys of every step.
pub(crate) const NAME: Key = may("name", Shape::Text(Check::Line), "What people call this step.");
pub(crate) const WHEN: Key = may(
    "when",
    Shape::Text(Check::Any),
    "A condition over the variables that comes out true or false, decided before anything runs. Example: `site == 'blue' and arch != 'riscv64'`.",
);

const OWNER: Key = may(
    "owner",
    Shape::Text(Check::Owner),
    "`name:group` or `uid:gid`, names looked up in the image. Default: root.",
);
const MODE: Key =
    may("mode", Shape::Text(Check::Mode), "Permission bits as a string. Example: `0644`.");

/// Defines a kind of step: `name` and `when` first, then its own keys, the kind's key leading.
macro_rules! kind {
    ($name:literal, $title:literal, $doc:literal, $kind:expr, [$($key:expr),* $(,)?], later: $later:expr) => {
        Section { title: $title, name: $name, doc: $doc, keys: &[NAME, WHEN, $kind, $($key),*], later: $later }
    };
}

/// The kinds of step.
pub(crate) const KINDS: &[Section] = &[
    kind!("run", "a `run` step", "Runs a command.",
        must("run", Shape::Command, "The command: a string goes to the shell, a list is executed without one."),
        [AS, WORKDIR, SHELL, ENV, MOUNT, NETWORK, TIMEOUT, RETRIES], later: &["cache", "secrets"]),
    kind!("script", "a `script` step", "Runs a file of the context by its `#!` line, else by the shell; it leaves no copy in the image.",
        must("script", Shape::OneOrMany(Check::Context), "Path of the script below the context; a list runs in order."),
        [may("args", Shape::List(Check::Argument), "Arguments of the script."), AS, WORKDIR, SHELL, ENV, MOUNT, NETWORK, TIMEOUT, RETRIES],
        later: &["cache", "secrets"]),
    kind!("copy", "a `copy` step", "Copies files of the context, or of a stage, into the image.",
        must("copy", Shape::OneOrMany(Check::Line), "A path, a glob, or a list, below the context; with `from`, absolute ones in that stage. The contents of a directory go into `to`."),
        [may("from", Shape::Stage, "The stage that the files are taken from."),
         must("to", Shape::Text(Check::Inside), "Where it goes: an absolute path; a trailing `/` means a folder."), OWNER,
         may("mode", Shape::Text(Check::Mode), "Permission bits of files; default 0644, or 0755 where the source is executable; folders get x where they get r."),
         may("exclude", Shape::List(Check::Filled), "What is left out, in gitignore notation. Example: `[\"*.map\"]`.")],
        later: &[]),
    kind!("download", "a `download` step", "Fetches a file, checks it, and places it.",
        must("download", Shape::Text(Check::Url), "The http or https URL."),
        [may("sha256", Shape::Sha256, "The file's sha256 (64 hex digits), or a table of them by architecture. Without it the lock remembers the first build's."),
         must("to", Shape::Text(Check::Inside), "Where it goes: an absolute path; a trailing `/` means: into that folder."), OWNER, MODE,
         may("unpack", Shape::Boolean, "Unpack the archive into `to`. Default: `false`."),
         may("strip", Shape::Integer(0, 100), "With `unpack`: leading path components dropped. Default: 0.")],
        later: &[]),
    kind!("template", "a `template` step", "Renders a Jinja file of the context with the recipe's variables.",
        must("template", Shape::Text(Check::Context), "Path of the template below the context."),
        [must("to", Shape::Text(Check::InsideFile), "The file it becomes: an absolute path."), OWNER, MODE],
        later: &[]),
    kind!("file", "a `file` step", "Writes a file, or adds to one.",
        must("file", Shape::Text(Check::InsideFile), "The file: an absolute path."),
        [may("content", Shape::Text(Check::Bytes), "The whole content, exactly as given."),
         may("append", Shape::Text(Check::Bytes), "Instead of `content`: added to the end of the file, which is made if missing."), OWNER, MODE],
        later: &[]),
    kind!("mkdir", "a `mkdir` step", "Makes folders, their parents too; owner and mode are set on existing ones as well.",
        must("mkdir", Shape::OneOrMany(Check::Inside), "Absolute paths."), [OWNER, MODE], later: &[]),
    kind!("symlink", "a `symlink` step", "Makes a symbolic link; replaces a file or link, never a folder.",
        must("symlink", Shape::Text(Check::InsideFile), "What appears in the image: an absolute path."),
        [must("target", Shape::Text(Check::LinkTarget), "Where it points.")], later: &[]),
    kind!("remove", "a `remove` step", "Removes paths; what is not there is fine.",
        must("remove", Shape::OneOrMany(Check::InsideGlob), "Absolute paths or globs. Example: `[\"/usr/share/doc/*\"]`."), [], later: &[]),
    kind!("packages", "a `packages` step", "Installs packages with the image's own package manager.",
        must("packages", Shape::OneOrMany(Check::Package), "In the manager's own notation (`nginx`, `nginx=1.22`, `nginx/suite`); `./x.deb` is a file below the context."),
        [may("recommends", Shape::Boolean, "Recommended packages too. Default: `false`."), TIMEOUT, RETRIES], later: &[]),
    kind!("repository", "a `repository` step", "Adds a package source and its key; both stay in the image.",
        must("repository", Shape::Text(Check::FileName), "Name of the source's file. Example: `nginx`."),
        [must("url", Shape::Text(Check::Url), "URL of the archive."),
         must("suite", Shape::Text(Check::Word), "Suite; ending in `/`, an exact path."),
         may("components", Shape::List(Check::Word), "Components. Default: `[\"main\"]`, or none for an exact path."),
         must("key", Shape::Text(Check::SigningKey), "The signing key: a file below the context, or an https URL.")], later: &[]),
    kind!("user", "a `user` step", "Makes a user, or brings an existing one to what is written; without a password it is locked.",
        must("user", Shape::Text(Check::Account), "Login name."),
        [may("uid", Shape::Integer(0, MAX_ID), "User id. Default: the lowest free."),
         may("gid", Shape::Integer(0, MAX_ID), "Primary group id. Default: a group of the user's name."),
         may("home", Shape::Text(Check::PasswdPath), "Home folder."),
         may("shell", Shape::Text(Check::PasswdPath), "Login shell."),
         may("groups", Shape::List(Check::Account), "Further groups, which must exist."),
         may("system", Shape::Boolean, "A system user: id below 1000, no home made. Default: `false`."),
         may("comment", Shape::Text(Check::PasswdField), "Full name or purpose."),
         may("password", Shape::Text(Check::PasswordHash), "A crypt(5) hash, never the password itself. Made by `openssl passwd -6`."),
         may("ssh_keys", Shape::List(Check::Line), "Lines of `~/.ssh/authorized_keys`.")],
        later: &[]),
    kind!("group", "a `group` step", "Makes a group, or brings an existing one to what is written.",
        must("group", Shape::Text(Check::Account), "Name."),
        [may("gid", Shape::Integer(0, MAX_ID), "Group id. Default: the lowest free."),
         may("system", Shape::Boolean, "A system group: id below 1000. Default: `false`.")], later: &[]),
    kind!("service", "a `service` step", "Enables, disables or masks systemd units that exist at this step.",
        must("service", Shape::OneOrMany(Check::Unit), "Units; `.service` may be left off."),
        [may("enabled", Shape::Boolean, "Started at boot. Default: `true`."),
         may("masked", Shape::Boolean, "Cannot be started at all. Default: `false`.")], later: &[]),
];

const TEST_NAME: Key = may("name", Shape::Text(Check::Line), "What people call this test.");
const TEST_WHEN: Key = may(
    "when",
    Shape::Text(Check::Any),
    "A condition over the variables that comes out true or false, decided before anything runs: a test that is off is not part of the recipe.",
);
const START: Key = may(
    "start",
    Shape::Start,
    "What runs while the check is made, as the user of `[config]`: `true` for what `[config]` says, a command (a string for the shell, a list without one), or a list of several, each `true` or a list of its own.",
);
const TEST_TIMEOUT: Key = may(
    "timeout",
    Shape::Text(Check::Duration),
    "How long the check may take to hold; with `start` it is made again until then. Default: `30s`.",
);
const TEST_AS: Key = may(
    "as",
    Shape::Text(Check::RunAs),
    "The user the check runs as, `name`, `name:group` or ids. Default: root.",
);
const TEST_WORKDIR: Key = may(
    "workdir",
    Shape::Text(Check::Inside),
    "Working folder of the check. Default: that of `[config]`.",
);
const TEST_ENV: Key =
    may("env", Shape::Map(Check::EnvName), "Environment of the check, besides that of `[config]`.");
const CONTAINS: &str = "What must be found in it.";

/// Defines a kind of test: what every test has, with the check's key where it stands in the
/// reference.
macro_rules! check {
    ($name:literal, $title:literal, $doc:literal, $check:expr, [$($key:expr),* $(,)?]) => {
        Section { title: $title, name: $name, doc: $doc, keys: &[TEST_NAME, TEST_WHEN, START, $check, $($key,)* TEST_TIMEOUT], later: &[] }
    };
}

/// The kinds of test, by what is checked.
pub(crate) const CHECKS: &[Section] = &[
    check!(
        "http",
        "an `http` test",
        "Asks a server in the copy and looks at its answer.",
        must(
            "http",
            Shape::Text(Check::ProbeUrl),
            "An http URL. A name instead of an address means the copy itself, and is sent as it is. Example: `http://127.0.0.1:8080/health`."
        ),
        [
            may(
                "status",
                Shape::Integer(100, 599),
                "The status that must be answered. Redirects are not followed. Default: 200."
            ),
            may("contains", Shape::Text(Check::Filled), CONTAINS)
        ]
    ),
    check!(
        "tcp",
        "a `tcp` test",
        "Connects to a port in the copy.",
        must("tcp", Shape::Text(Check::Address), "Address and port. Example: `127.0.0.1:5432`."),
        []
    ),
    check!(
        "run",
        "a `run` test",
        "Runs a command in the copy; its exit status must be 0.",
        must(
            "run",
            Shape::Command,
            "The command: a string goes to the shell, a list is executed without one."
        ),
        [TEST_AS, TEST_WORKDIR, SHELL, TEST_ENV]
    ),
    check!(
        "script",
        "a `script` test",
        "Runs a file of the context in the copy, by its `#!` line, else by the shell; its exit status must be 0.",
        must(
            "script",
            Shape::OneOrMany(Check::Context),
            "Path of the script below the context; a list runs in order."
        ),
        [
            may("args", Shape::List(Check::Argument), "Arguments of the script."),
            TEST_AS,
            TEST_WORKDIR,
            SHELL,
            TEST_ENV
        ]
    ),
    check!(
        "file",
        "a `file` test",
        "Looks at a file or folder in the copy.",
        must("file", Shape::Text(Check::Inside), "The file: an absolute path; links are followed."),
        [
            may("absent", Shape::Yes, "`true`: there must be nothing."),
            may(
                "mode",
                Shape::Text(Check::Mode),
                "The permission bits it must have. Example: `0644`."
            ),
            may(
                "owner",
                Shape::Text(Check::Owner),
                "The owner it must have: `name:group` or `uid:gid`, names looked up in the image."
            ),
            may("contains", Shape::Text(Check::Filled), CONTAINS),
            may(
                "sha256",
                Shape::Sha256,
                "The sha256 it must have (64 hex digits), or a table of them by architecture."
            )
        ]
    ),
];

/// Kinds of the reference that this version does not have.
pub(crate) const KINDS_LATER: &[&str] = &["include", "ansible", "puppet", "chef"];

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
        may("workdir", Shape::Text(Check::Inside), "Working folder: an absolute path."),
        may(
            "ports",
            Shape::Ports,
            "Ports it listens on, an integer or `\"53/udp\"`. Example: `[80, \"53/udp\"]`.",
        ),
        may("volumes", Shape::List(Check::Inside), "Folders whose data lives outside the image."),
        may("labels", Shape::Map(Check::Label), "OCI labels."),
        may("stop_signal", Shape::Text(Check::Signal), "Signal that ends it. Example: `SIGQUIT`."),
        may(
            "healthcheck",
            Shape::Table(&HEALTHCHECK),
            "How a runtime can ask whether it works. Example: `{ cmd = [\"curl\", \"-f\", \"http://127.0.0.1/\"], interval = \"30s\" }`.",
        ),
    ],
    later: &[],
};

pub(crate) const DRIFT: Section = Section {
    title: "`[drift]`",
    name: "drift",
    doc: "What a machine made from the image may change and still be that image, for `bake drift`.",
    keys: &[may(
        "ignore",
        Shape::List(Check::Ignore),
        "What is left out, in gitignore notation over absolute paths; `[config] volumes` and what every machine writes are left out anyway. Example: `[\"/etc/app/local.conf\", \"/srv/cache/\", \"*.pyc\"]`.",
    )],
    later: &[],
};

/// Returns the step kind of that name.
pub(crate) fn kind(name: &str) -> Option<&'static Section> {
    KINDS.iter().find(|k| k.name == name)
}

/// Returns the single tables at the top level: all but `vars`, `step`, `stage` and `test`.
pub(crate) fn table(name: &str) -> Option<&'static Section> {
    [&IMAGE, &BASE, &DEFAULTS, &CONFIG, &DRIFT].into_iter().find(|s| s.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_described_once() {
        let sections = KINDS.iter().chain(CHECKS).chain([
            &IMAGE,
            &BASE,
            &DEFAULTS,
            &CONFIG,
            &DRIFT,
            &HEALTHCHECK,
            &MOUNT_FROM,
            &VAR,
        ]);
        for section in sections {
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
        for kind in KINDS {
            assert!(
                kind.key(kind.name).is_some_and(|k| k.required),
                "{} lacks its own key",
                kind.name
            );
        }
        for check in CHECKS {
            assert!(
                check.key(check.name).is_some_and(|k| k.required),
                "{} lacks its own key",
                check.name
            );
        }
        for name in TOP {
            assert!(matches!(*name, "vars" | "step" | "stage" | "test") || table(name).is_some());
        }
    }
}
