//! The command line: arguments and environment in, exit codes out. The only room that knows either.

mod args;
mod bake;
mod change;
mod channel;
mod diff;
mod drift;
mod edge;
mod explain;
mod fleet;
mod gc;
mod history;
mod images;
mod machine;
mod paper;
mod who;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

use args::{Args, Command, EXIT_CODES};
use clap::CommandFactory;

use crate::store::Store;
use crate::ui::report::Report;
use crate::ui::{Choices, Ui};

/// Runs the command line of this process and returns its exit code.
pub fn main() -> ExitCode {
    let matches = command().try_get_matches();
    let args = match matches
        .and_then(|matches| <Args as clap::FromArgMatches>::from_arg_matches(&matches))
    {
        Ok(args) => args,
        // clap prints help to stdout with 0 and mistakes to stderr with 2, which is our table too.
        Err(error) => error.exit(),
    };
    let global = args.global.clone();
    let ui = Ui::new(Choices {
        color: global.color,
        progress: global.progress,
        quiet: global.quiet,
        json: global.json,
        no_color: set("NO_COLOR"),
        dumb: std::env::var_os("TERM").is_some_and(|term| term == "dumb"),
    });
    let ctx = Ctx { ui: &ui, store: global.store };
    let mut code = match run(&ctx, args.command) {
        Ok(code) => code,
        Err(report) => {
            ui.failure(&report);
            report.exit
        }
    };
    ui.settle();
    if let Some(why) = ui.lost() {
        let message = "cannot write the result to stdout".to_owned();
        ui.failure(&Report {
            kind: "file",
            message,
            causes: vec![why],
            exit: edge::FAILED,
            ..Report::default()
        });
        code = if code == edge::OK { edge::FAILED } else { code };
    }
    ExitCode::from(code)
}

/// The command, with the exit codes in every command's help.
fn command() -> clap::Command {
    fn everywhere(command: clap::Command) -> clap::Command {
        let names: Vec<String> =
            command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        names.into_iter().fold(command, |command, name| {
            command.mut_subcommand(name, |sub| everywhere(sub.after_help(EXIT_CODES)))
        })
    }
    everywhere(Args::command())
}

fn run(ctx: &Ctx<'_>, command: Command) -> Result<u8, Report> {
    match command {
        Command::Build(args) => bake::build(ctx, &args),
        Command::Lock(args) => bake::lock(ctx, &args),
        Command::History(args) => history::history(ctx, &args),
        Command::Diff(args) => diff::diff(ctx, &args),
        Command::Drift(args) => drift::drift(ctx, &args),
        Command::Fleet(args) => fleet::fleet(ctx, &args),
        Command::Doctor => bake::doctor(ctx),
        Command::Explain(args) => explain::explain(ctx, &args),
        Command::Check(args) => paper::check(ctx, &args),
        Command::Plan(args) => paper::plan(ctx, &args),
        Command::Fmt(args) => paper::fmt(ctx, &args),
        Command::New(args) => paper::new(ctx, &args),
        Command::Schema => paper::schema(ctx),
        Command::Completions { shell } => paper::completions(ctx, shell),
        Command::Man { output } => paper::man(ctx, output.as_deref()),
        Command::Test(args) => machine::test(ctx, &args),
        Command::Shell(args) => bake::shell(ctx, &args),
        Command::Run(args) => machine::run(ctx, args),
        Command::List(args) => images::list(ctx, &args),
        Command::Show(args) => images::show(ctx, &args),
        Command::Rm(args) => images::rm(ctx, &args),
        Command::Gc(args) => gc::gc(ctx, &args),
        Command::Promote(args) => channel::promote(ctx, &args),
        Command::Revoke(args) => channel::revoke(ctx, &args),
        Command::Verify(args) => images::verify(ctx, &args),
        Command::Export(args) => images::export(ctx, &args),
    }
}

/// What every command has at hand.
struct Ctx<'a> {
    ui: &'a Ui,
    store: Option<PathBuf>,
}

impl Ctx<'_> {
    /// Returns the store's folder: `--store`, `$BAKE_STORE`, else below the person's data folder.
    fn store_dir(&self) -> Result<PathBuf, Report> {
        if let Some(dir) = &self.store {
            return Ok(dir.clone());
        }
        let folder = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        folder("XDG_DATA_HOME")
            .or_else(|| folder("HOME").map(|home| home.join(".local/share")))
            .map(|data| data.join("bake"))
            .ok_or_else(|| {
                edge::usage(
                    "cannot tell where the store is: neither XDG_DATA_HOME nor HOME is set",
                    "give --store DIR or set BAKE_STORE",
                )
            })
    }

    /// Opens the store to publish into.
    fn store(&self) -> Result<Store, Report> {
        Store::open(&self.store_dir()?).map_err(|error| edge::store(&error))
    }

    /// Opens the store to read from; a store that does not exist is an empty one.
    fn store_to_read(&self) -> Result<Store, Report> {
        Store::open_to_read(&self.store_dir()?).map_err(|error| edge::store(&error))
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// Whether an environment variable is set and not empty.
fn set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value != OsStr::new(""))
}
