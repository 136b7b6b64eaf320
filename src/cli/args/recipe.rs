//! Arguments of the commands that read recipes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};

use super::registry::RegistryArgs;
use super::value;
use crate::image::Platform;
use crate::recipe;

/// What a recipe is read with.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct RecipeArgs {
    /// Recipes, or directories with a `recipe.toml` [default: the one in the current directory,
    /// else the members of the bake.toml there or above]
    #[arg(value_name = "RECIPE")]
    pub(crate) recipes: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) inputs: InputArgs,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct InputArgs {
    /// Set a variable of the recipe; may be given more than once
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = value::name_value)]
    pub(crate) vars: Vec<(String, String)>,
    /// Of a recipe with a `[matrix]` only the variants with this value; may be given more than once
    #[arg(long = "variant", value_name = "NAME=VALUE", value_parser = value::name_value)]
    pub(crate) variants: Vec<(String, String)>,
    /// Read variables from a TOML file; may be given more than once, later files win
    #[arg(long = "vars-file", value_name = "FILE")]
    pub(crate) vars_files: Vec<PathBuf>,
    /// Use this version instead of the recipe's
    #[arg(long, value_name = "VERSION")]
    pub(crate) set_version: Option<String>,
    /// Platforms instead of the recipe's, such as `linux/amd64,linux/arm64`; may be given more than
    /// once
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',')]
    #[arg(value_parser = value::platform)]
    pub(crate) platforms: Vec<Platform>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    pub(crate) recipe: RecipeArgs,
    /// Fail rather than change the lock file
    #[arg(long, conflicts_with = "update")]
    pub(crate) locked: bool,
    /// Renew the lock file
    #[arg(long)]
    pub(crate) update: bool,
    /// Publish without running the recipe's tests; the image counts as untested until `bake test`
    /// has passed
    #[arg(long)]
    pub(crate) no_test: bool,
    /// What to do where a step fails: just fail, or open a shell in what it left first (on a
    /// terminal)
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    pub(crate) on_failure: OnFailure,
    #[command(flatten)]
    pub(crate) secrets: SecretArgs,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    /// Run cached steps again, and fail where one gives another layer
    #[arg(long, conflicts_with = "no_cache")]
    pub(crate) paranoid: bool,
    /// Make a form of the image outside of the store too, in place together with the publish:
    /// `oci-archive=web.tar`; formats as in `bake export`; may be given more than once
    #[arg(long = "output", value_name = "FORMAT=PATH")]
    pub(crate) outputs: Vec<String>,
    /// Push the image once it is published: `host[:port]/name[:tag]`, as `bake push` does; for a
    /// single recipe
    #[arg(long, value_name = "REMOTE")]
    pub(crate) push: Option<String>,
    /// Let a tag that names other content move, of --push and of the recipe's own `push`
    #[arg(long)]
    pub(crate) move_tag: bool,
    /// Programs that make file systems and disks: those that bake brings along in an image of its
    /// own, or the host's
    #[arg(long, value_name = "WHOSE", default_value = "toolbox")]
    pub(crate) tools: ToolsOf,
    /// Number of recipes baked at once [default: the number of cores]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    #[command(flatten)]
    pub(crate) mirror: MirrorArgs,
}

/// The values of secrets. Taken as they are: a message of clap's would show what may be a value.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct SecretArgs {
    /// Give the steps that name it a secret; where the value is: `env:VARIABLE`, `file:PATH`, or
    /// `cmd:COMMAND`, which prints it; may be given more than once
    #[arg(long = "secret", value_name = "NAME=SOURCE")]
    pub(crate) secrets: Vec<String>,
    /// Let the steps with `ssh = true` use an SSH agent: the one at $SSH_AUTH_SOCK, or that of
    /// SOCKET
    #[arg(long, value_name = "SOCKET", num_args = 0..=1, require_equals = true)]
    pub(crate) ssh: Option<Option<PathBuf>>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct CacheArgs {
    /// Run steps although they are cached: all, or the one of this number or name (`base` is the
    /// base); may be given more than once
    #[arg(long, value_name = "STEP", num_args = 0..=1)]
    #[arg(require_equals = true, default_missing_value = "")]
    pub(crate) no_cache: Vec<String>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) recipe: RecipeArgs,
    /// Show everything that is built, tests included, and what each is made from
    #[arg(long)]
    pub(crate) graph: bool,
    /// Print that graph for Graphviz: `bake explain --dot | dot -Tsvg`
    #[arg(long, conflicts_with = "graph")]
    pub(crate) dot: bool,
    #[command(flatten)]
    pub(crate) cache: CacheArgs,
    #[command(flatten)]
    pub(crate) mirror: MirrorArgs,
}

/// Which programs make file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ToolsOf {
    /// Those of the image `bake-toolbox`, which is baked on first need
    Toolbox,
    /// The host's
    Host,
}

/// What to do where a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnFailure {
    /// Fail
    Fail,
    /// Open a shell in the root of the step first
    Shell,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ShellArgs {
    /// The recipe, or a directory with a `recipe.toml` [default: the one in the current directory,
    /// else the only member of the bake.toml there or above]
    #[arg(value_name = "RECIPE")]
    pub(crate) recipe: Option<PathBuf>,
    /// The step before which it opens, by number or name [default: after the last step]
    #[arg(long, value_name = "STEP")]
    pub(crate) at: Option<String>,
    #[command(flatten)]
    pub(crate) inputs: InputArgs,
    #[command(flatten)]
    pub(crate) secrets: SecretArgs,
    /// Fail rather than change the lock file
    #[arg(long)]
    pub(crate) locked: bool,
    #[command(flatten)]
    pub(crate) mirror: MirrorArgs,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct MirrorArgs {
    /// Debian archive to use where the recipe names none [default:
    /// $BAKE_DEBIAN_MIRROR, else the host's own apt configuration, else deb.debian.org]
    #[arg(long, value_name = "URL")]
    pub(crate) debian_mirror: Option<String>,
    /// Take package lists whose Valid-Until has passed: those of a snapshot or an archived suite
    #[arg(long)]
    pub(crate) allow_expired: bool,
    /// Give up on a server that sends nothing for so long (`90s`, `5m`) [default:
    /// $BAKE_NETWORK_TIMEOUT, else 30s]
    #[arg(long, value_name = "TIME", value_parser = recipe::duration)]
    pub(crate) network_timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct LockArgs {
    #[command(flatten)]
    pub(crate) recipe: RecipeArgs,
    #[command(flatten)]
    pub(crate) secrets: SecretArgs,
    /// Renew what is pinned already
    #[arg(long)]
    pub(crate) update: bool,
    #[command(flatten)]
    pub(crate) mirror: MirrorArgs,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct FmtArgs {
    /// Recipes, or directories with a `recipe.toml` [default: the one in the current directory,
    /// else the bake.toml there or above and its members]; `-` reads stdin and writes stdout
    #[arg(value_name = "RECIPE")]
    pub(crate) recipes: Vec<PathBuf>,
    /// Change nothing; exit code 1 if a file is not formatted
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct NewArgs {
    /// Name of the image, and of the directory made for it; with --from of the image alone
    /// [default there: the context's]
    #[arg(value_name = "NAME", required_unless_present_any = ["list", "from"])]
    pub(crate) name: Option<String>,
    /// Where to start from
    #[arg(long, short, value_name = "TEMPLATE", default_value = "minimal")]
    pub(crate) template: String,
    /// List the templates
    #[arg(long, conflicts_with_all = ["name", "template"])]
    pub(crate) list: bool,
    /// Make the recipe of a Dockerfile or a Packer template, or of the one in a directory
    #[arg(long, value_name = "FILE", conflicts_with_all = ["list", "template"])]
    pub(crate) from: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) from_args: FromArgs,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct FromArgs {
    /// With --from: where the recipe goes, a file (`*.toml`), a directory, or `-` for stdout
    /// [default: recipe.toml beside the file]
    #[arg(long, value_name = "PATH", requires = "from")]
    pub(crate) output: Option<PathBuf>,
    /// With --from: the directory that its paths are relative to [default: the file's]
    #[arg(long, value_name = "DIR", requires = "from")]
    pub(crate) context: Option<PathBuf>,
    /// With --from: the stage that becomes the image, or the source of a template [default: the
    /// last stage, the first container]
    #[arg(long, value_name = "NAME", requires = "from")]
    pub(crate) target: Option<String>,
    /// With --from: start from Debian's packages where the file starts from Debian's image
    #[arg(long, requires = "from")]
    pub(crate) debian: bool,
}
