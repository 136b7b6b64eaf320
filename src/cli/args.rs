//! The command line, written once: what clap parses is what help, man pages and completions show.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::engine::Volume;
use crate::recipe;
use crate::ui::{ColorChoice, ProgressChoice};

/// Shown below the help of every command.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    a step, test or output failed; nothing was published
  2    bad command line or recipe
  3    differences found (diff, drift, verify)
  10   this host cannot run bake's sandbox (see `bake doctor`)
  11   store busy or unreadable
  101  a bug in bake
  130  interrupted";

/// Bake versioned, content-addressed images from a recipe: all or nothing
///
/// A recipe (TOML) says what the image is made from. `bake build` runs its steps in a throwaway
/// root and publishes the result as a version in the store, an OCI image layout. If anything fails
/// there is no image and no trace of one.
#[derive(Debug, Parser)]
#[command(name = "bake", version, after_help = EXIT_CODES, disable_help_subcommand = true, arg_required_else_help = true)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Options of every command")]
pub(super) struct Global {
    /// Folder of the store [default: $XDG_DATA_HOME/bake, else ~/.local/share/bake]
    #[arg(long, env = "BAKE_STORE", value_name = "DIR", global = true)]
    pub(super) store: Option<PathBuf>,
    /// Print one JSON object per line on stdout
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Tell errors only
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,
    /// When to colour: auto, always or never
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true,
        global = true
    )]
    pub(super) color: ColorChoice,
    /// How to tell what happens: auto (bars on a terminal, else plain), bars, plain or none
    #[arg(
        long,
        value_name = "HOW",
        default_value = "auto",
        hide_possible_values = true,
        global = true
    )]
    pub(super) progress: ProgressChoice,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
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
    /// Say which steps are cached, and why the others would run
    ///
    /// Compares every step with the cache and with the last build of the recipe, and names what
    /// changed: the file, the package, the command, the variable. Runs nothing.
    Explain(ExplainArgs),
    /// Rewrite recipes in bake's own format
    Fmt(FmtArgs),
    /// Pin everything the world could change, without publishing
    ///
    /// Runs the steps as far as needed to know which packages they take, writes the lock file
    /// beside the recipe, and throws the rest away.
    Lock(LockArgs),
    /// Start a recipe from a template
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
    /// environment, user, folder and network of that step. Whatever is done in it is thrown away
    /// when it is left. Needs a terminal.
    ///
    /// Example: bake shell web.toml --at 3
    Shell(ShellArgs),
    /// Run a throwaway machine of a published version
    ///
    /// Starts what the image says, or CMD in place of its cmd, as the image's user, with nothing
    /// but a loopback network unless `--network host`. Whatever it does is gone when the program
    /// ends; folders given with --volume stay. A terminal is passed on as one. Signals go to the
    /// program, the second of a kind ends the machine. The exit code is the program's, or 128 and
    /// the number of the signal that ended it; 127 where it cannot be started.
    ///
    /// Example: bake run web:2.0.0 -- nginx -t
    Run(RunArgs),
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
    /// Remove published versions, and the blobs that nothing else names
    ///
    /// All of those named, or none. A version that a channel points at stays, unless forced.
    Rm(RmArgs),
    /// Free what nothing needs
    ///
    /// Says what goes, and removes it: blobs that no version needs, cache entries that nobody has
    /// used for a while, the scratch of dead builds, old logs. Versions go only by --keep or
    /// --older-than, and never those that a channel points at or would after `bake promote --back`.
    /// Builds may run at the same time.
    ///
    /// Example: bake gc --keep 5 --older-than 30d --dry-run
    Gc(GcArgs),
    /// Point a channel at a version
    ///
    /// A channel is a name that stands for one version after another: `web@production` can be
    /// written wherever an image is named. It is made by the first promote. Who promoted what, and
    /// when, is never forgotten: `bake list --history web@production`. Versions that are untested
    /// or revoked are refused.
    ///
    /// Example: bake promote web:2.0.0 production
    Promote(PromoteArgs),
    /// Mark a version as one that must not be used
    ///
    /// It stays in the store. It cannot be promoted or built on, is marked in every listing, and
    /// whoever runs or exports it is warned. Says which channels point at it, and which images were
    /// built on it.
    ///
    /// Example: bake revoke web:1.0.0 --why CVE-2026-1234
    Revoke(RevokeArgs),
    /// Read everything again and check it against its name
    ///
    /// Checks all versions, or those named: digests and sizes of every blob, layers against the
    /// config, names inside the layers. Exit code 3 when something is wrong.
    Verify(VerifyArgs),
    /// Write a version to a file or folder
    ///
    /// Example: bake export web:2.0.0 --format tar --output web.tar
    Export(ExportArgs),
    /// Tell what one version has that another has not
    ///
    /// Packages by version, files by content, mode, owner, attributes, capabilities and links, and
    /// how the images run. Files that go with a package that came, went or has another version are
    /// counted with it. Exit code 3 when they differ.
    ///
    /// Example: bake diff web:1.0.0 web:2.0.0
    Diff(DiffArgs),
    /// Compare a machine with the image it claims to be
    ///
    /// Reads every file of the image on the machine (or in a container's root, or on a mounted
    /// disk) and names what was added, removed or changed: content, mode, owner, attributes,
    /// capabilities, links. Left out are /proc, /sys, /dev, /run, /tmp, the image's volumes, what
    /// every machine writes (docs/drift.md) and the recipe's `[drift] ignore`. Changes nothing.
    /// Exit code 3 unless the verdict is `exact`.
    ///
    /// `--pid` compares a running machine: a container's process, or `bake run` itself.
    ///
    /// Example: bake drift web:2.0.0 --root /mnt --json
    Drift(DriftArgs),
    /// Count machines by image, version and verdict
    ///
    /// Reads the reports of `bake drift --json`, and the identity files (/usr/lib/bake/image.json)
    /// of machines that nobody compared: files, folders with everything in them, or `-` for stdin;
    /// one JSON object a file, a list, or one a line. Each machine counts once, with its newest
    /// report. What cannot be read or does not count is told.
    ///
    /// Example: bake fleet reports/ --svg fleet.svg
    Fleet(FleetArgs),
    /// Look at this host and say what bake needs of it
    Doctor,
    /// Print the JSON Schema of recipes, for editors
    Schema,
    /// Print the completion script of a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages
    Man {
        /// Folder for one page per command; the main page goes to stdout without it
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

/// What a recipe is read with.
#[derive(Debug, Clone, ClapArgs)]
pub(super) struct RecipeArgs {
    /// The recipe
    #[arg(value_name = "RECIPE", required = true)]
    pub(super) recipes: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) inputs: InputArgs,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct InputArgs {
    /// Set a variable of the recipe; may be given often
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = name_value)]
    pub(super) vars: Vec<(String, String)>,
    /// Read variables from a TOML file; may be given often, later files win
    #[arg(long = "vars-file", value_name = "FILE")]
    pub(super) vars_files: Vec<PathBuf>,
    /// Use this version instead of the recipe's
    #[arg(long, value_name = "VERSION")]
    pub(super) set_version: Option<String>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct BuildArgs {
    #[command(flatten)]
    pub(super) recipe: RecipeArgs,
    /// Fail rather than change the lock file
    #[arg(long, conflicts_with = "update")]
    pub(super) locked: bool,
    /// Renew the lock file
    #[arg(long)]
    pub(super) update: bool,
    /// Publish without running the recipe's tests; the image counts as untested until `bake test`
    /// has passed
    #[arg(long)]
    pub(super) no_test: bool,
    /// What to do where a step fails: just fail, or open a shell in what it left first (on a
    /// terminal)
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    pub(super) on_failure: OnFailure,
    #[command(flatten)]
    pub(super) cache: CacheArgs,
    /// Run cached steps again, and fail where one gives another layer
    #[arg(long, conflicts_with = "no_cache")]
    pub(super) paranoid: bool,
    /// How many recipes are baked at once [default: the number of cores]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) jobs: Option<u16>,
    #[command(flatten)]
    pub(super) mirror: MirrorArgs,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct CacheArgs {
    /// Run steps although they are cached: all, or the one of this number or name (`base` is the
    /// base); may be given often
    #[arg(long, value_name = "STEP", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(super) no_cache: Vec<String>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    pub(super) recipe: RecipeArgs,
    #[command(flatten)]
    pub(super) cache: CacheArgs,
    #[command(flatten)]
    pub(super) mirror: MirrorArgs,
}

/// What to do where a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnFailure {
    /// Fail
    Fail,
    /// Open a shell in the root of the step first
    Shell,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct ShellArgs {
    /// The recipe
    #[arg(value_name = "RECIPE")]
    pub(super) recipe: PathBuf,
    /// The step before which it opens, by number or name [default: after the last step]
    #[arg(long, value_name = "STEP")]
    pub(super) at: Option<String>,
    #[command(flatten)]
    pub(super) inputs: InputArgs,
    /// Fail rather than change the lock file
    #[arg(long)]
    pub(super) locked: bool,
    #[command(flatten)]
    pub(super) mirror: MirrorArgs,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct MirrorArgs {
    /// Debian archive to use where the recipe names none [default: the host's own apt
    /// configuration, else deb.debian.org]
    #[arg(long, env = "BAKE_DEBIAN_MIRROR", value_name = "URL")]
    pub(super) debian_mirror: Option<String>,
    /// Give up on a server that sends nothing for so long (`90s`, `5m`) [default: 30s]
    #[arg(long, env = "BAKE_NETWORK_TIMEOUT", value_name = "TIME", value_parser = recipe::duration)]
    pub(super) network_timeout: Option<Duration>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct LockArgs {
    #[command(flatten)]
    pub(super) recipe: RecipeArgs,
    /// Renew what is pinned already
    #[arg(long)]
    pub(super) update: bool,
    #[command(flatten)]
    pub(super) mirror: MirrorArgs,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct FmtArgs {
    /// The recipes
    #[arg(value_name = "RECIPE", required = true)]
    pub(super) recipes: Vec<PathBuf>,
    /// Change nothing; exit code 1 if a file is not formatted
    #[arg(long)]
    pub(super) check: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct NewArgs {
    /// Name of the image, and of the folder made for it
    #[arg(value_name = "NAME", required_unless_present = "list")]
    pub(super) name: Option<String>,
    /// Where to start from
    #[arg(long, short, value_name = "TEMPLATE", default_value = "minimal")]
    pub(super) template: String,
    /// List the templates
    #[arg(long, conflicts_with_all = ["name", "template"])]
    pub(super) list: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct ListArgs {
    /// Only this image; with --channels or --history also NAME@CHANNEL
    #[arg(value_name = "NAME")]
    pub(super) name: Option<String>,
    /// List the channels and where they point
    #[arg(long)]
    pub(super) channels: bool,
    /// List every promote and revocation, oldest first
    #[arg(long, conflicts_with = "channels")]
    pub(super) history: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct ImageArgs {
    /// `name:version`, `name@channel`, `name@sha256:…`, or `name` for the newest published
    #[arg(value_name = "IMAGE")]
    pub(super) image: String,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) image: ImageArgs,
    /// Program arguments in place of the image's cmd
    #[arg(value_name = "CMD", last = true)]
    pub(super) command: Vec<String>,
    /// Program in place of the image's entrypoint; an empty one means none
    #[arg(long, value_name = "PROGRAM")]
    pub(super) entrypoint: Option<String>,
    /// Show a folder of this host inside; may be given often. Owners are those of the image: 0 is
    /// root
    #[arg(long, short, value_name = "DIR:PATH[:ro]", value_parser = volume)]
    pub(super) volume: Vec<Volume>,
    /// Add to the environment; may be given often
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = name_value)]
    pub(super) env: Vec<(String, String)>,
    /// User: `name`, `name:group` or ids [default: the image's]
    #[arg(long, short, value_name = "USER")]
    pub(super) user: Option<String>,
    /// Working folder inside [default: the image's]
    #[arg(long, short, value_name = "PATH")]
    pub(super) workdir: Option<String>,
    /// Network: nothing but loopback, or this host's
    #[arg(long, value_name = "WHICH", default_value = "none")]
    pub(super) network: NetworkChoice,
    /// Let a TCP port of this host lead inside; may be given often [default ADDRESS: 127.0.0.1]
    #[arg(long, short, value_name = "[ADDRESS:]PORT:INSIDE", value_parser = published)]
    pub(super) publish: Vec<(SocketAddr, u16)>,
}

/// The network of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum NetworkChoice {
    /// Loopback only
    None,
    /// This host's
    Host,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct RmArgs {
    /// `name:version` or `name@sha256:…`
    #[arg(value_name = "IMAGE", required = true)]
    pub(super) images: Vec<String>,
    /// Remove versions that channels point at, too
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct GcArgs {
    /// Only say what would go
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Keep the last N versions of each name; revoked ones do not count
    #[arg(long, value_name = "N")]
    pub(super) keep: Option<usize>,
    /// Keep versions that were published less than this ago, such as 30d; alone it also keeps the
    /// last version of each name
    #[arg(long, value_name = "AGE", value_parser = super::gc::age)]
    pub(super) older_than: Option<Duration>,
    /// Keep what is in the cache and was used less than this ago
    #[arg(long, value_name = "AGE", default_value = "14d", value_parser = super::gc::age)]
    pub(super) cache_older_than: Duration,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct PromoteArgs {
    /// `name:version`, `name@channel` (what that points at) or `name@sha256:…`; with --back or
    /// --end the channel, `name@channel`
    #[arg(value_name = "IMAGE")]
    pub(super) image: String,
    /// Which channel of that image
    #[arg(value_name = "CHANNEL", required_unless_present_any = ["back", "end"])]
    pub(super) channel: Option<String>,
    /// Point the channel at the version before; passes over versions that are removed or revoked
    #[arg(long, conflicts_with = "channel")]
    pub(super) back: bool,
    /// Make the channel point nowhere
    #[arg(long, conflicts_with_all = ["channel", "back"])]
    pub(super) end: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct RevokeArgs {
    /// `name:version`, `name@channel` or `name@sha256:…`
    #[arg(value_name = "IMAGE")]
    pub(super) image: String,
    /// Why, in a sentence; kept for ever
    #[arg(long, value_name = "TEXT")]
    pub(super) why: String,
    /// Take the revocation back
    #[arg(long)]
    pub(super) undo: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct VerifyArgs {
    /// Versions to check; all without it
    #[arg(value_name = "IMAGE")]
    pub(super) images: Vec<String>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    pub(super) image: ImageArgs,
    /// What to write
    #[arg(long, short, value_name = "FORMAT")]
    pub(super) format: ExportFormat,
    /// Where to; `-` is stdout, for everything but `dir`
    #[arg(long, short, value_name = "PATH")]
    pub(super) output: PathBuf,
    /// Replace what is there
    #[arg(long)]
    pub(super) force: bool,
    /// Of format `dir`: everything belongs to you, and setuid bits and capabilities are dropped; to
    /// keep owners takes root
    #[arg(long)]
    pub(super) drop_owners: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    pub(super) image: ImageArgs,
    /// Show the sizes of its folders instead, unpacked
    #[arg(long)]
    pub(super) folders: bool,
    /// Show the sizes of its packages instead, unpacked
    #[arg(long)]
    pub(super) packages: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct DiffArgs {
    /// The version to start from
    #[arg(value_name = "BEFORE")]
    pub(super) before: String,
    /// The version it is compared with
    #[arg(value_name = "AFTER")]
    pub(super) after: String,
    /// Show sizes as tables instead: of the images, their steps and their packages
    #[arg(long, conflicts_with = "all")]
    pub(super) stat: bool,
    /// Name every file: of packages that differ, and in folders that came or went
    #[arg(long)]
    pub(super) all: bool,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct DriftArgs {
    /// What to compare with: a version in the store, or a manifest of `bake export --format
    /// manifest` (`-` is stdin) [default: the version in the store that the root says it is]
    #[arg(value_name = "IMAGE|FILE")]
    pub(super) image: Option<String>,
    /// The root to compare
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(super) root: PathBuf,
    /// Compare the root that this process lives in: one in a container, or `bake run`
    #[arg(long, value_name = "PID", conflicts_with_all = ["root", "owner_shift"])]
    pub(super) pid: Option<u32>,
    /// Compare also what every machine writes: logs, host keys, /etc/hosts, …
    #[arg(long)]
    pub(super) strict: bool,
    /// Leave out more, in gitignore notation over absolute paths; may be given often
    #[arg(long, value_name = "PATTERN")]
    pub(super) ignore: Vec<String>,
    /// Name everything in added and removed folders
    #[arg(long)]
    pub(super) all: bool,
    /// How much higher user and group ids are in the root than in the image, as in the root of a
    /// user namespace
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) owner_shift: u32,
    /// Remember digests here, and do not read files again that the kernel says are unchanged
    #[arg(long, value_name = "FILE")]
    pub(super) stat_cache: Option<PathBuf>,
    /// Name of the machine in the report [default: of this machine, or what the root's
    /// /etc/hostname says]
    #[arg(long, value_name = "NAME")]
    pub(super) host: Option<String>,
}

#[derive(Debug, Clone, ClapArgs)]
pub(super) struct FleetArgs {
    /// Files or folders of reports; `-` is stdin
    #[arg(value_name = "REPORT", required = true)]
    pub(super) reports: Vec<PathBuf>,
    /// Draw the histogram into this file, too
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
}

/// What `bake export` can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ExportFormat {
    /// An OCI image layout in a tar
    OciArchive,
    /// What `docker load` takes
    DockerArchive,
    /// The root file system, layers merged
    Tar,
    /// The root file system as a folder
    Dir,
    /// The names of the root file system with digests, modes and owners, as mtree(5)
    Manifest,
}

fn volume(text: &str) -> Result<Volume, String> {
    let (rest, read_only) = match text.strip_suffix(":ro") {
        Some(rest) => (rest, true),
        None => (text.strip_suffix(":rw").unwrap_or(text), false),
    };
    match rest.rsplit_once(':') {
        Some((from, at))
            if !from.is_empty()
                && at.starts_with('/')
                && !at.trim_matches('/').is_empty()
                && !at.split('/').any(|part| part == "..") =>
        {
            Ok(Volume { from: PathBuf::from(from), at: PathBuf::from(at), read_only })
        }
        _ => Err("expected DIR:PATH or DIR:PATH:ro, PATH absolute and not /".to_owned()),
    }
}

fn published(text: &str) -> Result<(SocketAddr, u16), String> {
    let read = || {
        let (outside, inside) = text.rsplit_once(':')?;
        let inside = inside.parse().ok().filter(|port| *port > 0)?;
        let address = match outside.parse::<u16>() {
            Ok(port) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
            Err(_) => outside.parse().ok()?,
        };
        Some((address, inside))
    };
    read().ok_or_else(|| {
        "expected PORT:INSIDE or ADDRESS:PORT:INSIDE, such as 8080:80 or 0.0.0.0:8080:80".to_owned()
    })
}

fn name_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
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
