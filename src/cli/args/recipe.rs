//! Arguments of the commands that read recipes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};

use super::value;
use crate::recipe;

/// What a recipe is read with.
#[derive(Debug, Clone, ClapArgs)]
pub(in crate::cli) struct RecipeArgs {
    /// Recipes, or directories with a `recipe.toml` [default: the one in the current directory]
    #[arg(value_name = "RECIPE")]
    pub(in crate::cli) recipes: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) inputs: InputArgs,
}

#[derive(Debug, Clone, ClapArgs)]
pub(in crate::cli) struct InputArgs {
    /// Set a variable of the recipe; may be given more than once
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = value::name_value)]
    pub(in crate::cli) vars: Vec<(String, String)>,
    /// Read variables from a TOML file; may be given more than once, later files win
    #[arg(long = "vars-file", value_name = "FILE")]
    pub(in crate::cli) vars_files: Vec<PathBuf>,
    /// Use this version instead of the recipe's
    #[arg(long, value_name = "VERSION")]
    pub(in crate::cli) set_version: Option<String>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(in crate::cli) struct BuildArgs {
    #[command(flatten)]
    pub(in crate::cli) recipe: RecipeArgs,
    /// Fail rather than change the lock file
    #[arg(long, conflicts_with = "update")]
    pub(in crate::cli) locked: bool,
    /// Renew the lock file
    #[arg(long)]
    pub(in crate::cli) update: bool,
    /// Publish without running the recipe's tests; the image counts as untested until `bake test`
    /// has passed
    #[arg(long)]
    pub(in crate::cli) no_test: bool,
    /// What to do where a step fails: just fail, or open a shell in what it left first (on a
    /// terminal)
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    pub(in crate::cli) on_failure: OnFailure,
    #[command(flatten)]
    pub(in crate::cli) cache: CacheArgs,
    /// Run cached steps again, and fail where one gives another layer
    #[arg(long, conflicts_with = "no_cache")]
    pub(in crate::cli) paranoid: bool,
    /// Number of recipes baked at once [default: the number of cores]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(in crate::cli) jobs: Option<u16>,
    #[command(flatten)]
    pub(in crate::cli) mirror: MirrorArgs,
}

#[derive(Debug, Clone, ClapArgs)]
pub(in crate::cli) struct CacheArgs {
    /// Run steps although they are cached: all, or the one of this number or name (`base` is the
    /// base); may be given more than once
    #[arg(long, value_name = "STEP", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(in crate::cli) no_cache: Vec<String>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(in crate::cli) struct ExplainArgs {
    #[command(flatten)]
    pub(in crate::cli) recipe: RecipeArgs,
    #[command(flatten)]
    pub(in crate::cli) cache: CacheArgs,
    #[command(flatten)]
    pub(in crate::cli) mirror: MirrorArgs,
}

/// What to do where a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum OnFailure {
    /// Fail
    Fail,
    /// Open a shell in the root of the step first
    Shell,
}

#[derive(Debug, Clone, ClapArgs)]
pub(in crate::cli) struct ShellArgs {
    /// The recipe, or a directory with a `recipe.toml` [default: the one in the current directory]
    #[arg(value_name = "RECIPE")]
    pub(in crate::cli) recipe: Option<PathBuf>,
    /// The step before which it opens, by number or name [default: after the last step]
    #[arg(long, value_name = "STEP")]
    pub(in crate::cli) at: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) inputs: InputArgs,
    /// Fail rather than change the lock file
    #[arg(long)]
    pub(in crate::cli) locked: bool,
    #[command(flatten)]
    pub(in crate::cli) mirror: MirrorArgs,
}

#[derive(Debug, Clone, ClapArgs)]
pub(in crate::cli) struct MirrorArgs {
    /// Debian archive to use where the recipe names none [default:
    /// $BAKE_DEBIAN_MIRROR, else the host's own apt configuration, else deb.debian.org]
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) debian_mirror: Option<String>,
    /// Give up on a server that sends nothing for so long (`90s`, `5m`) [default:
    /// $BAKE_NETWORK_TIMEOUT, else 30s]
    #[arg(long, value_name = "TIME", value_parser = recipe::duration)]
    pub(in crate::cli) network_timeout: Option<Duration>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(in crate::cli) struct LockArgs {
    #[command(flatten)]
    pub(in crate::cli) recipe: RecipeArgs,
    /// Renew what is pinned already
    #[arg(long)]
    pub(in crate::cli) update: bool,
    #[command(flatten)]
    pub(in crate::cli) mirror: MirrorArgs,
}

#[derive(Debug, Clone, ClapArgs)]
pub(in crate::cli) struct FmtArgs {
    /// Recipes, or directories with a `recipe.toml` [default: the one in the current directory];
    /// `-` reads stdin and writes stdout
    #[arg(value_name = "RECIPE")]
    pub(in crate::cli) recipes: Vec<PathBuf>,
    /// Change nothing; exit code 1 if a file is not formatted
    #[arg(long)]
    pub(in crate::cli) check: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(in crate::cli) struct NewArgs {
    /// Name of the image, and of the directory made for it
    #[arg(value_name = "NAME", required_unless_present = "list")]
    pub(in crate::cli) name: Option<String>,
    /// Where to start from
    #[arg(long, short, value_name = "TEMPLATE", default_value = "minimal")]
    pub(in crate::cli) template: String,
    /// List the templates
    #[arg(long, conflicts_with_all = ["name", "template"])]
    pub(in crate::cli) list: bool,
}
