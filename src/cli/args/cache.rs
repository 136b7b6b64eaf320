//! `bake cache`: what steps keep between builds.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::value;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum CacheCommand {
    /// List the caches, the one used last first
    ///
    /// SIZE is that of the last build that used it.
    List,
    /// Remove caches
    ///
    /// One that a step uses stays, and the exit code is 11.
    ///
    /// Example: bake cache rm web:/root/.cache/pip
    Rm(CacheRmArgs),
    /// Write caches into a file, for a machine that begins with an empty store
    ///
    /// Example: bake cache export --output caches.tar
    Export(CacheExportArgs),
    /// Read caches from a file that `bake cache export` wrote
    ///
    /// Each takes the place of the one of its name. Nothing is replaced before all of the file is
    /// read and found right.
    ///
    /// Example: bake cache import caches.tar
    Import(CacheImportArgs),
    /// Show or set how much all caches together may take
    ///
    /// A build that used caches removes those not used for the longest time until all together
    /// take no more than this. Kept in the store.
    ///
    /// Example: bake cache limit 20GiB
    Limit(CacheLimitArgs),
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct CacheRmArgs {
    /// Names of caches, as `bake cache list` shows them
    #[arg(value_name = "NAME", required_unless_present = "all")]
    pub(crate) names: Vec<String>,
    /// Remove all
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct CacheExportArgs {
    /// Names of caches, as `bake cache list` shows them [default: all]
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// The file, replaced if it is there; `-`: stdout
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct CacheImportArgs {
    /// The file; `-`: stdin
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct CacheLimitArgs {
    /// Such as `20GiB`; without it the limit is shown
    #[arg(value_name = "SIZE", value_parser = value::size)]
    pub(crate) size: Option<u64>,
}
