//! The commands that run published images: test, run.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::args::image::{ImageArgs, NetworkChoice, RunArgs};
use super::ctx::{Ctx, cancel};
use super::reference::reference;
use super::{channel, edge};
use crate::engine::{self, Request};
use crate::job::JobContext;
use crate::sandbox::Cancel;
use crate::threads;
use crate::trial::{self, Container, Outcome, Tested};
use crate::ui::report::Report;
use crate::ui::text::{clean, took};

/// `bake test`.
pub(super) fn test(ctx: &Ctx<'_>, args: &ImageArgs) -> Result<u8, Report> {
    let reference = reference(&args.image)?;
    let cancel = cancel()?;
    let (store, host) = (ctx.store()?, ctx.host());
    let sink = ctx.ui.sink();
    let context = JobContext { store: &store, host: &host, cancel: &cancel, sink: &sink };
    let request = Request::default();
    let tested = trial::test(&context, &reference, &engine::gate(&context, &request));
    let tested = tested.map_err(|error| edge::image(&error.into()))?;
    let Tested { image, digest, tests, took: time, logs } = &tested;
    if ctx.ui.json() {
        let seconds = (time.as_secs_f64() * 1000.0).round() / 1000.0;
        let (name, version) = image.split_once(':').unwrap_or((image, ""));
        ctx.ui.object(
            "tested",
            json!({ "name": name, "version": version, "digest": digest, "tests": tests,
                "seconds": seconds, "logs": logs }),
        );
    } else {
        let count = if *tests == 1 { "1 test".to_owned() } else { format!("{tests} tests") };
        ctx.ui.say(&format!("{} passed {count} ({})", clean(image), took(*time)));
        ctx.ui.result(&format!("{} {digest}", clean(image)));
    }
    Ok(edge::OK)
}

/// `bake run`.
pub(super) fn run(ctx: &Ctx<'_>, args: RunArgs) -> Result<u8, Report> {
    let image = reference(&args.image.image)?;
    if ctx.ui.json() {
        return Err(edge::usage(
            "--json and the program both want stdout",
            "leave --json out: the exit code says how the program ended",
        ));
    }
    if args.detach {
        return Err(edge::usage(
            "cannot detach: bake keeps no containers in the background",
            format!("run it by a supervisor, such as `systemd-run bake run {image}`, or `&`"),
        ));
    }
    let host_network = args.network == NetworkChoice::Host;
    if host_network && !args.publish.is_empty() {
        return Err(edge::usage(
            "--publish without a network of its own",
            "with --network host the program's ports are this host's already",
        ));
    }
    let RunArgs { platform, command, entrypoint, env, user, workdir, volume, publish, .. } = args;
    let container = Container {
        image,
        platform: platform.platform,
        args: command,
        entrypoint,
        env,
        user,
        workdir,
        volumes: volume,
        host_network,
        publish,
    };
    let (store, host) = (ctx.store()?, ctx.host());
    let version = store.resolve(&container.image).map_err(|error| edge::store(&error))?;
    channel::warn_if_revoked(ctx, &store, &version)?;
    // What was looked at, though its channel may be moved meanwhile.
    let container = Container { image: version.reference, ..container };
    let sink = ctx.ui.sink();
    let started = Arc::new(AtomicBool::new(false));
    let (signals, cancel) = signals(&started)?;
    let context = JobContext { store: &store, host: &host, cancel: &cancel, sink: &sink };
    match trial::run(&context, &container, signals, &started) {
        Ok(Outcome::Exit(status)) => Ok(u8::try_from(status).unwrap_or(u8::MAX)),
        Ok(Outcome::Signal(signal)) => Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        Err(error) => Err(edge::image(&error.into())),
    }
}

/// Passes signals on: each as a byte. One that asks for the end fires the handle where the program
/// has not `started` yet, or was asked before.
fn signals(started: &Arc<AtomicBool>) -> Result<(OwnedFd, Cancel), Report> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    let fail = |error: std::io::Error| edge::report("host", edge::FAILED, &error);
    let cancel = Cancel::new().map_err(|error| edge::sandbox(&error))?;
    let (read, mut write) = std::io::pipe().map_err(fail)?;
    let mut all =
        signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2])
            .map_err(fail)?;
    let (handle, started) = (cancel.clone(), Arc::clone(started));
    threads::free(move || {
        let mut before = BTreeSet::new();
        for signal in all.forever() {
            let again = !before.insert(signal);
            let alone = !started.load(Ordering::SeqCst);
            if matches!(signal, SIGHUP | SIGINT | SIGTERM) && (again || alone)
                || signal == SIGQUIT && alone
            {
                handle.fire();
            }
            // Where the container has ended nobody listens any more.
            let _ = write.write_all(&[u8::try_from(signal).unwrap_or(0)]);
        }
    })
    .map_err(fail)?;
    Ok((read.into(), cancel))
}
