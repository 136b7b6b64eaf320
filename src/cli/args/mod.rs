//! The command line, written once: what clap parses is what help, man pages and completions show.

pub(super) mod boot;
pub(super) mod cache;
pub(super) mod image;
pub(super) mod recipe;
pub(super) mod registry;
mod value;

use std::path::PathBuf;

use clap::{Args as ClapArgs, CommandFactory, Parser, Subcommand};

use self::boot::BootArgs;
use self::cache::CacheCommand;
use self::image::{
    DiffArgs, DriftArgs, ExportArgs, FleetArgs, GcArgs, ImageArgs, ImportArgs, IndexCommand,
    ListArgs, PromoteArgs, PullArgs, PushArgs, RevokeArgs, RmArgs, RunArgs, ServeArgs, ShowArgs,
    VerifyArgs,
};
use self::recipe::{BuildArgs, ExplainArgs, FmtArgs, LockArgs, NewArgs, RecipeArgs, ShellArgs};
use crate::ui::{ColorChoice, ProgressChoice};

/// Shown below the help of every command.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    a step, test or output failed; nothing was published
  2    bad command line or recipe
  3    differences found (diff, drift, verify, new --from)
  10   this host cannot run bake's sandbox (see `bake doctor`)
  11   store busy or unreadable
  12   done, but the result cannot be written to stdout
  101  a bug in bake
  130  interrupted";

/// Bake versioned, content-addressed images from a recipe: all or nothing
///
/// A recipe (TOML) says what the image is made from. `bake build` runs its steps in a throwaway
/// root and publishes the result as a version in the store, an OCI image layout. If anything fails
/// there is no image and no trace of one.
#[derive(Debug, Parser)]
#[command(name = "bake", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    // Not clap's `env`: what comes from there would stand in every usage line as if it were given.
    /// Directory of the store [default: $BAKE_STORE, else $XDG_DATA_HOME/bake, else
    /// ~/.local/share/bake]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) store: Option<PathBuf>,
    /// Directory where steps write and layers lie unpacked, for a store on a file system where
    /// overlayfs cannot write [default: $BAKE_WORK, else the store]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) work_dir: Option<PathBuf>,
    /// How much of the machine the programs of a step, a test or a container may use, whatever the
    /// recipe says: memory=2GiB, processes=500, disk=50%, output=10MiB, or none for no limit
    #[arg(
        long = "limit",
        value_name = "NAME=VALUE",
        value_parser = crate::step::Limits::parse,
        global = true
    )]
    pub(crate) limits: Vec<crate::step::Limits>,
    /// Print one JSON object per line on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print errors only
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// When to colour: auto, always or never
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true,
        global = true
    )]
    pub(crate) color: ColorChoice,
    /// How to show progress: auto (bars on a terminal, else plain), bars, plain or none
    #[arg(
        long,
        value_name = "HOW",
        default_value = "auto",
        hide_possible_values = true,
        global = true
    )]
    pub(crate) progress: ProgressChoice,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bake an image and publish it in the store
    ///
    /// Prints `name:version sha256:…`, one line per image, and nothing else, on stdout. A version
    /// that was baked from the same inputs before is "already baked": exit 0. Other content under a
    /// published version is refused.
    ///
    /// Example: bake build examples/web/nginx.toml
    Build(BuildArgs),
    /// Check recipes and report every mistake at once
    ///
    /// Example: bake check web.toml
    Check(RecipeArgs),
    /// Show what a build would do, without doing it
    Plan(RecipeArgs),
    /// Show which steps are cached, and why the others would run
    ///
    /// Compares every step with the cache and with the last build of the recipe, and names what
    /// changed: the file, the package, the command, the variable. Shows stages, and the recipes
    /// that a recipe stands on, as well. Runs nothing.
    Explain(ExplainArgs),
    /// Rewrite recipes in bake's own format
    Fmt(FmtArgs),
    /// Pin everything the world could change, without publishing
    ///
    /// Runs the steps as far as needed to choose their packages, writes the lock file beside the
    /// recipe, and discards the rest.
    Lock(LockArgs),
    /// Start a recipe from a template, or from a Dockerfile
    ///
    /// With --from, the recipe builds what the Dockerfile builds. What has no equal is reported
    /// with its line and stands as a comment at its place; the exit code is 3 then. Nothing is
    /// ever overwritten.
    ///
    /// Example: bake new shop --template web-nginx
    New(NewArgs),
    /// Run the tests of a published version again
    ///
    /// The tests are those of the recipe it was baked from, kept with the image. Where all pass, a
    /// version that was published with `--no-test` is tested from then on; where one fails, exit
    /// code 1, and the version stays what it was.
    ///
    /// Example: bake test web:2.0.0
    Test(ImageArgs),
    /// Open a shell in the root that a step of a recipe would see
    ///
    /// Runs the steps before it, or takes them from the cache, then opens bash, else sh, with the
    /// environment, user, working directory and network of that step. Changes made in it are
    /// discarded when it exits. Needs a terminal.
    ///
    /// Example: bake shell web.toml --at 3
    Shell(ShellArgs),
    /// Run a program in a throwaway container of a published version
    ///
    /// Starts what the image says, or CMD in place of its cmd, as the image's user, with nothing
    /// but a loopback network unless `--network host`. Changes are discarded when the program ends;
    /// directories given with --volume keep theirs. A terminal is passed on as one, so that `-it`
    /// and `--rm` are accepted and change nothing. Signals go to the program; a second one of the
    /// same kind ends the container. The exit code is the program's, or 128 plus the number of the
    /// signal that ended it; 127 where it cannot be started.
    ///
    /// Example: bake run web:2.0.0 nginx -t
    Run(RunArgs),
    /// Boot a published version, or a disk, as a throwaway machine
    ///
    /// Makes a disk of the version, as a `boot` test of its recipe has it, and starts it in QEMU,
    /// its serial console on this terminal: Ctrl-] ends the machine at once. Neither the version
    /// nor a disk that is named is ever written to, and when the machine ends nothing of it is left
    /// but disks for data and what --persist keeps.
    ///
    /// Without a terminal the console goes to stdout. SIGTERM presses the machine's power button,
    /// so that it ends by itself within five minutes; a second one ends it at once. Exit code 0: it
    /// has ended by itself, as it was asked to, or by Ctrl-].
    ///
    /// Example: bake boot web:2.0.0 --publish 8080:80 --data app.raw:app-data
    Boot(BootArgs),
    /// Serve the published versions to podman, docker, containerd and Kubernetes
    ///
    /// A registry that is only read: `podman pull localhost:5000/web:2.0.0`, with versions and
    /// channels as tags. Nothing is written, and nothing is readable that no published version
    /// holds. It speaks plain HTTP and knows no users: keep it on loopback, or put a proxy before
    /// it. Prints its address on stdout once it listens, then a line a request on stderr (with
    /// --json an object on stdout), and ends on Ctrl-C or SIGTERM. A socket that systemd hands over
    /// is used in place of --listen.
    ///
    /// Example: bake serve --listen 127.0.0.1:5000
    Serve(ServeArgs),
    /// Bring an image of another tool into the store
    ///
    /// SOURCE is an OCI image layout or an archive, as `skopeo copy`, `podman save` and `docker
    /// save` write them. Every digest, size and layer is checked; layers are kept as they are. The
    /// image is a version like any other: to run, to promote, and as `[base] image = "…"` of
    /// recipes.
    ///
    /// Example: bake import debian.tar debian:12
    Import(ImportArgs),
    /// Make one version of images for several platforms
    #[command(subcommand)]
    Index(IndexCommand),
    /// Bring an image of a registry into the store
    ///
    /// Layers that the store has are not fetched; every digest, size and layer is checked while it
    /// comes. The image is a version like any other, whose content never changes: pulling a tag
    /// again that has moved is refused under the same version. Credentials are those of podman and
    /// docker. Signatures and attestations are not pulled.
    ///
    /// Example: bake pull registry.example/web:2.0.0 web:2.0.0
    Pull(PullArgs),
    /// Push a version to a registry
    ///
    /// What the registry has is not sent; blobs it has in other repositories are mounted; what was
    /// cut goes on where it was cut. The tag is written last, after everything was read back: a
    /// push that fails leaves every tag as it was. A tag that names other content is refused unless
    /// --move-tag is given. An image for one platform is pushed as a plain manifest, and the
    /// results of its tests as a referrer of it.
    ///
    /// Credentials are those of podman and docker (`podman login`, `docker login`, credential
    /// helpers); proxies are taken from HTTPS_PROXY and NO_PROXY.
    ///
    /// Example: bake push web:2.0.0 registry.example/web
    Push(PushArgs),
    /// List the published versions
    List(ListArgs),
    /// Show what a version is made of
    ///
    /// Example: bake show web:2.0.0 --packages
    Show(ShowArgs),
    /// Show which step made which layer, and when
    ///
    /// Example: bake history web:2.0.0
    History(ImageArgs),
    /// Remove published versions, and the blobs that only they refer to
    ///
    /// Removes all that are named, or none. A version that a channel points at is kept unless
    /// --force is given.
    Rm(RmArgs),
    /// Manage what steps keep between builds (`cache = […]`)
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Remove unreferenced data
    ///
    /// Lists what will be deleted, then deletes it: blobs that no version refers to, cache entries
    /// that have not been used for a while, the scratch directories of dead builds, old logs.
    /// Versions are removed only by --keep or --older-than, and never those that a channel points
    /// at or would after `bake promote --back`. Builds may run at the same time.
    ///
    /// Example: bake gc --keep 5 --older-than 30d --dry-run
    Gc(GcArgs),
    /// Point a channel at a version
    ///
    /// A channel is a name that stands for one version after another: `web@production` can be
    /// written wherever an image is named. The first promote creates it. Who promoted what, and
    /// when, is kept for ever: `bake list --history web@production`. Versions that are untested or
    /// revoked are refused.
    ///
    /// Example: bake promote web:2.0.0 production
    Promote(PromoteArgs),
    /// Mark a version as one that must not be used
    ///
    /// It stays in the store. It cannot be promoted or built on, is marked in every listing, and
    /// running or exporting it prints a warning. Lists the channels that point at it and the images
    /// that were built on it.
    ///
    /// Example: bake revoke web:1.0.0 --why CVE-2026-1234
    Revoke(RevokeArgs),
    /// Check stored versions against their digests
    ///
    /// Checks all versions, or those named: digests and sizes of every blob, layers against the
    /// config, names inside the layers. Exit code 3 when something is wrong.
    Verify(VerifyArgs),
    /// Write a version to a file or directory
    ///
    /// Example: bake export web:2.0.0 --format tar --output web.tar
    Export(ExportArgs),
    /// Compare two versions
    ///
    /// Compares packages by version, files by content, mode, owner, attributes, capabilities,
    /// symlinks and hard links, and the settings to run them with. Files of a package that was
    /// added, removed or changed are counted with it, and long lists of files in one directory are
    /// folded into one line. Exit code 3 when the versions differ.
    ///
    /// Example: bake diff web:1.0.0 web:2.0.0
    Diff(DiffArgs),
    /// Compare a machine with the image it claims to be
    ///
    /// Reads every file of the image on the machine (or in a container's root, or on a mounted
    /// disk) and lists what was added, removed or changed: content, mode, owner, attributes,
    /// capabilities, symlinks and hard links. Left out are /proc, /sys, /dev, /run, /tmp, the
    /// image's volumes, what every machine writes (docs/drift.md) and the recipe's `[drift]
    /// ignore`. Changes nothing. Exit code 3 unless the verdict is `exact`.
    ///
    /// `--pid` compares a running machine: a container's process, or `bake run` itself. `--disk`
    /// compares the disk of a virtual machine that does not run, raw, qcow2 or a VHD of a fixed
    /// size: its root (erofs or ext4) is read without being mounted, each block is checked against
    /// its hash tree, and what starts it against the image.
    ///
    /// Example: bake drift web:2.0.0 --root /mnt --json
    Drift(DriftArgs),
    /// Count machines by image, version and verdict
    ///
    /// Reads the reports of `bake drift --json`, and the identity files (/usr/lib/bake/image.json)
    /// of machines that nobody compared: files, directories with everything in them, or `-` for
    /// stdin; one JSON object per file, a list, or one per line. Each machine counts once, with its
    /// newest report. Files that cannot be read or do not count are listed.
    ///
    /// Example: bake fleet reports/ --svg fleet.svg
    Fleet(FleetArgs),
    /// Check that this host and the store can be used
    Doctor,
    /// Print the JSON Schema of recipes, for editors
    Schema {
        /// That of the workspace file, bake.toml
        #[arg(long)]
        workspace: bool,
    },
    /// Print the completion script of a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages
    Man {
        /// Directory for one page per command; without it the main page is written to stdout
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

/// Returns the command line, with the exit codes in every command's help.
pub(crate) fn command() -> clap::Command {
    fn everywhere(command: clap::Command) -> clap::Command {
        let names: Vec<String> =
            command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        names.into_iter().fold(command, |command, name| {
            command.mut_subcommand(name, |sub| everywhere(sub.after_help(EXIT_CODES)))
        })
    }
    everywhere(Args::command())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }

    #[test]
    fn the_examples_in_the_help_are_command_lines() {
        let mut seen = 0;
        for command in super::Args::command().get_subcommands() {
            let help = command.get_long_about().unwrap_or_default().to_string();
            for example in help.lines().filter_map(|line| line.strip_prefix("Example: ")) {
                // What follows a redirection or a pipe is the shell's.
                let ours =
                    example.split_whitespace().take_while(|word| !matches!(*word, ">" | "|" | "<"));
                let parsed = super::Args::try_parse_from(ours);
                assert!(
                    parsed.is_ok() && example.starts_with(&format!("bake {} ", command.get_name())),
                    "{example}"
                );
                seen += 1;
            }
        }
        assert!(seen > 3, "{seen}");
    }
}
