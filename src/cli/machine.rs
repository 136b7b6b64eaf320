//! The commands that run published images: test.

use serde_json::json;

use crate::build::{self, Hall, Tested};
use crate::ui::report::Report;
use crate::ui::text::{clean, took};

use super::args::ImageArgs;
use super::bake::cancel;
use super::images::reference;
use super::{Ctx, edge};

/// `bake test`.
pub(super) fn test(ctx: &Ctx<'_>, args: &ImageArgs) -> Result<u8, Report> {
    let reference = reference(&args.image)?;
    let cancel = cancel()?;
    let (store, host) = (ctx.store()?, build::Host::default());
    let sink = ctx.ui.sink();
    let hall = Hall { store: &store, host: &host, cancel: &cancel, sink: &sink };
    let tested = build::test(&hall, &reference).map_err(|error| edge::image(&error))?;
    let Tested { image, digest, tests, took: time, logs } = &tested;
    if ctx.ui.json() {
        let seconds = (time.as_secs_f64() * 1000.0).round() / 1000.0;
        let (name, version) = image.split_once(':').unwrap_or((image, ""));
        ctx.ui.object(
            "tested",
            json!({ "name": name, "version": version, "digest": digest, "tests": tests, "seconds": seconds, "logs": logs }),
        );
    } else {
        let count = if *tests == 1 { "1 test".to_owned() } else { format!("{tests} tests") };
        ctx.ui.say(&format!("{} passed {count} ({})", clean(image), took(*time)));
        ctx.ui.result(&format!("{} {digest}", clean(image)));
    }
    Ok(edge::OK)
}
