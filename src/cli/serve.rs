//! `bake serve`.

use std::env;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process;

use serde_json::json;

use super::args::image::ServeArgs;
use super::ctx::{Ctx, cancel};
use super::edge;
use crate::sandbox::activation_fd;
use crate::serve::{self, Access};
use crate::ui::report::Report;
use crate::ui::text::clean;

/// `bake serve`.
pub(super) fn serve(ctx: &Ctx<'_>, args: &ServeArgs) -> Result<u8, Report> {
    let store = ctx.store_to_read()?;
    if let Some(updates) = args.updates.as_ref().filter(|updates| !updates.is_dir()) {
        let message = format!("{} is not a directory", updates.display());
        return Err(edge::usage(
            message,
            "`bake export --format sysupdate --output DIR` makes one",
        ));
    }
    let fail = |error: io::Error| cannot_listen(args.listen, &error);
    let listener = match activated() {
        Some(listener) => listener,
        None => TcpListener::bind(args.listen).map_err(fail)?,
    };
    let address = listener.local_addr().map_err(fail)?;
    let cancel = cancel()?;
    let (sink, log) = (ctx.ui.sink(), |access: Access| report(ctx, &access));
    if ctx.ui.json() {
        ctx.ui.object("serving", json!({ "address": address.to_string() }));
    } else {
        ctx.ui.result(&format!("http://{address}"));
    }
    let updates = args.updates.as_deref();
    serve::serve(&store, updates, &listener, &cancel, &sink, &log).map_err(fail)?;
    Ok(edge::OK)
}

/// Reports one request.
fn report(ctx: &Ctx<'_>, access: &Access) {
    let Access { peer, method, target, status, bytes, took } = access;
    if ctx.ui.json() {
        let took = took.as_secs_f64();
        ctx.ui.object(
            "request",
            json!({ "peer": peer.to_string(), "method": method, "target": target, "status": status,
                "bytes": bytes, "seconds": took }),
        );
    } else {
        ctx.ui.say(&format!("{peer} {} {} {status} {bytes} B", clean(method), clean(target)));
    }
}

/// Returns the socket that systemd hands over (sd_listen_fds(3)), if it is meant for this process.
fn activated() -> Option<TcpListener> {
    let number = |name: &str| env::var(name).ok()?.parse::<u32>().ok();
    let ours = number("LISTEN_PID") == Some(process::id()) && number("LISTEN_FDS") >= Some(1);
    ours.then(activation_fd).flatten().map(TcpListener::from)
}

/// Reports an address on which nobody can listen.
fn cannot_listen(address: SocketAddr, error: &io::Error) -> Report {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there; take another port",
        io::ErrorKind::PermissionDenied => "take another port; those below 1024 are for root",
        _ => "an address of this machine is needed: 127.0.0.1:5000, 0.0.0.0:5000",
    };
    let causes = vec![error.to_string()];
    let message = io::Error::other(format!("cannot listen on {address}"));
    Report { causes, hints: vec![hint.to_owned()], ..edge::report("port", edge::FAILED, &message) }
}
