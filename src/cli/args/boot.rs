//! Arguments of `bake boot`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::recipe::ToolsOf;
use super::value;
use crate::boot::Credential;
use crate::trial::Publish;

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct BootArgs {
    /// `name:version`, `name@channel`, `name@sha256:…` or `name` for the newest published; or the
    /// file of a disk, raw or qcow2, with a `/` or a `.` in its name
    #[arg(value_name = "IMAGE|FILE")]
    pub(crate) image: String,
    /// Add a disk for data, a raw file that is written to; may be given more than once [default
    /// SERIAL: the file's name without its extension]
    #[arg(long, value_name = "FILE[:SERIAL]", value_parser = value::data_disk)]
    pub(crate) data: Vec<(PathBuf, String)>,
    /// Give the machine what a file holds, as a credential of systemd: a unit with
    /// `LoadCredential=NAME` reads it, and no disk has it; may be given more than once
    #[arg(long = "credential", value_name = "NAME:FILE", value_parser = value::credential)]
    pub(crate) credentials: Vec<Credential>,
    /// Give cloud-init in the machine the files of a directory, `user-data` and `meta-data` and
    /// what else is in it, on a disk that is only read (its data source NoCloud)
    #[arg(long, value_name = "DIR")]
    pub(crate) seed: Option<PathBuf>,
    /// Let a port of this host lead inside; may be given more than once [default ADDRESS:
    /// 127.0.0.1]
    #[arg(long, short, value_name = "[ADDRESS:]PORT:INSIDE", value_parser = value::published_tcp)]
    pub(crate) publish: Vec<Publish>,
    /// Memory of the machine, in MiB or GiB
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = value::memory)]
    pub(crate) memory: u64,
    /// Discard what the machine writes to its disk when it ends: the default
    #[arg(long, conflicts_with = "persist")]
    pub(crate) snapshot: bool,
    /// Keep what the machine writes to its disk in this file, a copy of the disk that is made where
    /// the file is not there
    #[arg(long, value_name = "FILE")]
    pub(crate) persist: Option<PathBuf>,
    /// Say on stderr when the machine is up: once this URL is answered with 200; of a port that
    /// --publish names
    #[arg(long, value_name = "URL", value_parser = value::answered_url)]
    pub(crate) wait: Option<String>,
    /// QEMU and the programs that make disks: those that bake brings along in images of its own, in
    /// the sandbox, where the machine reaches no network; or the host's
    #[arg(long, value_name = "WHOSE", default_value = "toolbox")]
    pub(crate) tools: ToolsOf,
}
