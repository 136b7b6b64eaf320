//! The command line: arguments and environment in, exit codes out. The only room that knows either.

mod args;
mod boot;
mod build;
mod cache;
mod change;
mod channel;
mod complete;
mod convert;
mod ctx;
mod diff;
mod doctor;
mod drift;
mod edge;
mod explain;
mod export;
mod fleet;
mod gc;
mod graph;
mod history;
mod images;
mod import;
mod index;
mod list;
mod man;
mod outcome;
mod paper;
mod pull;
mod push;
mod recipes;
mod reference;
mod registry;
mod request;
mod run;
mod secret;
mod serve;
mod show;
mod who;
mod workspace;

use std::process::ExitCode;

use self::args::{Args, Command};
use self::ctx::{Ctx, set};
use crate::step::Limits;
use crate::ui::report::Report;
use crate::ui::{Choices, Ui};

/// Runs the command line of this process and returns its exit code.
pub fn main() -> ExitCode {
    let matches = args::command().try_get_matches();
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
    let (store, work_dir) = (global.store, global.work_dir);
    // Of two for the same, the last counts.
    let limits = global.limits.into_iter().fold(Limits::default(), |all, one| one.or(all));
    let ctx = Ctx { ui: &ui, store, work_dir, limits, nearby: Default::default() };
    let mut code = match run(&ctx, args.command) {
        Ok(code) => code,
        Err(report) => {
            ui.failure(&report);
            report.exit
        }
    };
    ui.settle();
    if let Some(why) = ui.lost() {
        ui.failure(&edge::unwritten(why, &ui.published(), code));
        code = if code == edge::OK { edge::UNWRITTEN } else { code };
    }
    ExitCode::from(code)
}

fn run(ctx: &Ctx<'_>, command: Command) -> Result<u8, Report> {
    match command {
        Command::Build(args) => build::build(ctx, &args),
        Command::Lock(args) => build::lock(ctx, &args),
        Command::History(args) => history::history(ctx, &args),
        Command::Diff(args) => diff::diff(ctx, &args),
        Command::Drift(args) => drift::drift(ctx, &args),
        Command::Fleet(args) => fleet::fleet(ctx, &args),
        Command::Doctor => doctor::doctor(ctx),
        Command::Explain(args) => explain::explain(ctx, &args),
        Command::Check(args) => paper::check(ctx, &args),
        Command::Plan(args) => paper::plan(ctx, &args),
        Command::Fmt(args) => paper::fmt(ctx, &args),
        Command::New(args) => match &args.from {
            Some(from) => convert::convert(ctx, &args, from),
            None => paper::new(ctx, &args),
        },
        Command::Schema { workspace } => man::schema(ctx, workspace),
        Command::Completions { shell } => complete::completions(ctx, shell),
        Command::Man { output } => man::man(ctx, output.as_deref()),
        Command::Test(args) => run::test(ctx, &args),
        Command::Shell(args) => build::shell(ctx, &args),
        Command::Run(args) => run::run(ctx, args),
        Command::Boot(args) => boot::boot(ctx, args),
        Command::List(args) => list::list(ctx, &args),
        Command::Show(args) => show::show(ctx, &args),
        Command::Rm(args) => images::rm(ctx, &args),
        Command::Cache(command) => cache::cache(ctx, &command),
        Command::Gc(args) => gc::gc(ctx, &args),
        Command::Promote(args) => channel::promote(ctx, &args),
        Command::Revoke(args) => channel::revoke(ctx, &args),
        Command::Verify(args) => images::verify(ctx, &args),
        Command::Export(args) => export::export(ctx, &args),
        Command::Import(args) => import::import(ctx, &args),
        Command::Index(command) => index::index(ctx, &command),
        Command::Push(args) => push::push(ctx, &args),
        Command::Pull(args) => pull::pull(ctx, &args),
        Command::Serve(args) => serve::serve(ctx, &args),
    }
}
