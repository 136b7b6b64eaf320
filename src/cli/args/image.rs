//! Arguments of the commands about published images.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::recipe::ToolsOf;
use super::registry::RegistryArgs;
use super::value;
use crate::image::Platform;
use crate::trial::{Publish, Volume};

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ListArgs {
    /// Only this image: `name`, `name:version`, `name@sha256:…` or `name@channel`
    #[arg(value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// Print the names of versions and channels only, one per line
    #[arg(long, conflicts_with_all = ["channels", "history"])]
    pub(crate) names: bool,
    /// List the channels and where they point
    #[arg(long)]
    pub(crate) channels: bool,
    /// List every promote and revocation, oldest first
    #[arg(long, conflicts_with = "channels")]
    pub(crate) history: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ImageArgs {
    /// `name:version`, `name@channel`, `name@sha256:…`, or `name` for the newest published
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

/// Which image of several is meant.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct PlatformArg {
    /// Platform, of an image for several, such as `linux/arm64` [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) platform: PlatformArg,
    /// Program arguments in place of the image's cmd
    #[arg(value_name = "CMD", trailing_var_arg = true)]
    pub(crate) command: Vec<String>,
    /// Program in place of the image's entrypoint; an empty one means none
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Mount a directory or a file of this host inside; may be given more than once. Owners are
    /// those of the image: 0 is root
    #[arg(long, short, value_name = "FROM:PATH[:ro]", value_parser = value::volume)]
    pub(crate) volume: Vec<Volume>,
    /// Add to the environment; may be given more than once
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = value::name_value)]
    pub(crate) env: Vec<(String, String)>,
    /// User: `name`, `name:group` or ids [default: the image's]
    #[arg(long, short, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Working directory inside [default: the image's]
    #[arg(long, short, value_name = "PATH")]
    pub(crate) workdir: Option<String>,
    /// Network: nothing but loopback, or this host's
    #[arg(long, value_name = "WHICH", default_value = "none")]
    pub(crate) network: NetworkChoice,
    /// Let a port of this host lead inside; may be given more than once [default ADDRESS:
    /// 127.0.0.1, protocol: tcp]
    #[arg(long, short, value_name = "[ADDRESS:]PORT:INSIDE[/udp]", value_parser = value::published)]
    pub(crate) publish: Vec<Publish>,
    /// Accepted as a habit from other tools: standard input is always passed on
    #[arg(long, short, hide = true)]
    pub(crate) interactive: bool,
    /// Accepted as a habit from other tools: there is a terminal inside where there is one outside
    #[arg(long, short, hide = true)]
    pub(crate) tty: bool,
    /// Accepted as a habit from other tools: the container never stays
    #[arg(long, hide = true)]
    pub(crate) rm: bool,
    /// Refused with what to do instead
    #[arg(long, short, hide = true)]
    pub(crate) detach: bool,
}

/// The network of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkChoice {
    /// Loopback only
    None,
    /// This host's
    Host,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct RmArgs {
    /// `name:version` or `name@sha256:…`
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// Also remove versions that channels point at
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct GcArgs {
    /// Only list what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Keep the last N versions of each name; revoked ones do not count
    #[arg(long, value_name = "N")]
    pub(crate) keep: Option<usize>,
    /// Keep versions that were published less than this ago, such as 30d; alone it also keeps the
    /// last version of each name
    #[arg(long, value_name = "AGE", value_parser = value::age)]
    pub(crate) older_than: Option<Duration>,
    /// Keep what is in the cache and was used less than this ago
    #[arg(long, value_name = "AGE", default_value = "14d", value_parser = value::age)]
    pub(crate) cache_older_than: Duration,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct PromoteArgs {
    /// `name:version`, `name@channel` (what that points at) or `name@sha256:…`; with --back or
    /// --end the channel, `name@channel`
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Which channel of that image
    #[arg(value_name = "CHANNEL", required_unless_present_any = ["back", "end"])]
    pub(crate) channel: Option<String>,
    /// Point the channel at the version before; passes over versions that are removed or revoked
    #[arg(long, conflicts_with = "channel")]
    pub(crate) back: bool,
    /// Make the channel point nowhere
    #[arg(long, conflicts_with_all = ["channel", "back"])]
    pub(crate) end: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct RevokeArgs {
    /// `name:version`, `name@channel` or `name@sha256:…`
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// The reason, in a sentence; kept for ever
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: String,
    /// Take the revocation back
    #[arg(long)]
    pub(crate) undo: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct VerifyArgs {
    /// Versions to check [default: all]
    #[arg(value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ServeArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    pub(crate) listen: SocketAddr,
    /// Also serve a directory of `bake export --format sysupdate`, at /updates/
    #[arg(long, value_name = "DIR")]
    pub(crate) updates: Option<PathBuf>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ImportArgs {
    /// Directory of an OCI image layout, or an oci-archive or docker-archive
    #[arg(value_name = "SOURCE")]
    pub(crate) source: PathBuf,
    /// `name:version` that it gets
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Which image of SOURCE, where there are several: its name there
    #[arg(long, value_name = "NAME")]
    pub(crate) named: Option<String>,
    #[command(flatten)]
    pub(crate) platform: PlatformArg,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum IndexCommand {
    /// Publish images for several platforms under one version
    ///
    /// An index among the images stands for all of its images. The images stay where they are, and
    /// so does what was attested of them. One that is revoked, and two for the same platform, are
    /// refused; where an image was not tested, the index was not either.
    ///
    /// Example: bake index create web:2.0.0 web:2.0.0-amd64 web:2.0.0-arm64
    Create(IndexCreateArgs),
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct IndexCreateArgs {
    /// `name:version` that the index gets
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Images of the store, each for another platform
    #[arg(value_name = "PART", required = true, num_args = 1..)]
    pub(crate) parts: Vec<String>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct PullArgs {
    /// Image in a registry: `host[:port]/name[:tag][@sha256:…]`; without a host Docker Hub's
    #[arg(value_name = "REMOTE")]
    pub(crate) source: String,
    /// `name:version` that it gets [default: its name and tag there]
    #[arg(value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    #[command(flatten)]
    pub(crate) platform: PlatformArg,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct PushArgs {
    /// `name:version`, `name@channel`, `name@sha256:…`, or `name` for the newest published
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Where to: `host[:port]/name[:tag]` [default: its own name in the `registry` of bake.toml;
    /// default tag: the version]
    #[arg(value_name = "REMOTE")]
    pub(crate) to: Option<String>,
    /// Let a tag that names other content move
    #[arg(long)]
    pub(crate) move_tag: bool,
    /// Push an image whose tests were left out
    #[arg(long)]
    pub(crate) untested: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ExportArgs {
    /// `name:version`, `name@channel`, `name@sha256:…`, or `name` for the newest published; formats
    /// `registry` and `sysupdate` take several, and `registry` without one takes all
    #[arg(value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// Format
    #[arg(long, short, value_name = "FORMAT")]
    pub(crate) format: ExportFormat,
    /// Destination; `-` is stdout, for archives, `tar` and `manifest`
    #[arg(long, short, value_name = "PATH")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) platform: PlatformArg,
    /// Replace what is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Of format `dir`: everything belongs to you, and setuid bits and capabilities are dropped; to
    /// keep owners takes root
    #[arg(long)]
    pub(crate) drop_owners: bool,
    /// Of format `sysupdate`: format of the files
    #[arg(long, value_name = "FORMAT", default_value = "tar")]
    pub(crate) files: ExportFormat,
    /// Of format `sysupdate`: keep the newest N versions of each image [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep: Option<u32>,
    /// Programs that make file systems and disks: those that bake brings along in an image of its
    /// own, or the host's
    #[arg(long, value_name = "WHOSE", default_value = "toolbox")]
    pub(crate) tools: ToolsOf,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) image: ImageArgs,
    #[command(flatten)]
    pub(crate) platform: PlatformArg,
    /// Show the sizes of its directories instead, unpacked
    #[arg(long, alias = "folders")]
    pub(crate) directories: bool,
    /// Show the sizes of its packages instead, unpacked
    #[arg(long)]
    pub(crate) packages: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct DiffArgs {
    /// The version to start from
    #[arg(value_name = "BEFORE")]
    pub(crate) before: String,
    /// The version it is compared with
    #[arg(value_name = "AFTER")]
    pub(crate) after: String,
    #[command(flatten)]
    pub(crate) platform: PlatformArg,
    /// Show sizes as tables instead: of the images, their steps and their packages
    #[arg(long, conflicts_with = "all")]
    pub(crate) stat: bool,
    /// Name every file: also those of packages that differ, and in directories that are folded
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct DriftArgs {
    /// What to compare with: a version in the store, or a manifest of `bake export --format
    /// manifest` (`-` is stdin) [default: the version in the store that the root says it is]
    #[arg(value_name = "IMAGE|FILE")]
    pub(crate) image: Option<String>,
    #[command(flatten)]
    pub(crate) platform: PlatformArg,
    /// The root to compare
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) root: PathBuf,
    /// Compare the root that this process lives in: one in a container, or `bake run`
    #[arg(long, value_name = "PID", conflicts_with_all = ["root", "owner_shift"])]
    pub(crate) pid: Option<u32>,
    /// Compare the disk of a machine that does not run, raw or qcow2, without mounting it
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["root", "pid", "owner_shift", "stat_cache"]
    )]
    pub(crate) disk: Option<PathBuf>,
    /// Compare also what every machine writes: logs, host keys, /etc/hosts, …
    #[arg(long)]
    pub(crate) strict: bool,
    /// Leave out more, in gitignore notation over absolute paths; may be given more than once
    #[arg(long, value_name = "PATTERN")]
    pub(crate) ignore: Vec<String>,
    /// Name everything in added and removed directories
    #[arg(long)]
    pub(crate) all: bool,
    /// How much higher user and group ids are in the root than in the image, as in the root of a
    /// user namespace
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) owner_shift: u32,
    /// Remember digests here, and do not read files again that the kernel says are unchanged
    #[arg(long, value_name = "FILE")]
    pub(crate) stat_cache: Option<PathBuf>,
    /// Name of the machine in the report [default: of this machine, or what the root's
    /// /etc/hostname says]
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct FleetArgs {
    /// Files or directories of reports; `-` is stdin
    #[arg(value_name = "REPORT", required = true)]
    pub(crate) reports: Vec<PathBuf>,
    /// Also draw the histogram into this SVG file
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

/// What `bake export` can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// An OCI image layout as a directory
    Oci,
    /// An OCI image layout in a tar
    OciArchive,
    /// What `docker load` takes
    DockerArchive,
    /// The root file system, layers merged
    Tar,
    /// The root file system as a directory
    Dir,
    /// The names of the root file system with digests, modes and owners, as mtree(5)
    Manifest,
    /// What `bake serve` serves, as a directory of files for any web server
    Registry,
    /// A directory of versions for systemd-sysupdate, to which these are added
    Sysupdate,
    /// The root file system as a squashfs
    Squashfs,
    /// The root file system as an erofs
    Erofs,
    /// The root file system as an ext4
    Ext4,
    /// A disk that a machine with UEFI firmware boots from, of an image with a kernel
    Disk,
    /// The same in QEMU's format
    Qcow2,
    /// The same as VMware and clouds import it
    Vmdk,
    /// The same as Azure takes it: of a fixed size
    Vhd,
    /// The same as Hyper-V takes it
    Vhdx,
    /// A directory: kernel, initial RAM disk, command line, and a disk without them
    Kernel,
    /// A directory of versions for machines that update themselves in place: partitions, and what
    /// starts them. `--format sysupdate --files partitions` adds to one
    Partitions,
}
