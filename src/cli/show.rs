//! `bake show`.

use serde_json::json;

use super::args::image::ShowArgs;
use super::channel::Marks;
use super::ctx::Ctx;
use super::reference::reference;
use super::{edge, history};
use crate::inspect::{self, Details};
use crate::ui::report::Report;
use crate::ui::table;
use crate::ui::text::{clean, size, to_the_second};

/// `bake show`.
pub(super) fn show(ctx: &Ctx<'_>, args: &ShowArgs) -> Result<u8, Report> {
    let store = ctx.store_to_read()?;
    let wanted = reference(&args.image.image)?;
    let platform = args.platform.platform.as_ref();
    let details = inspect::show(&store, &wanted, platform).map_err(|error| edge::store(&error))?;
    let marks = Marks::read(&store)?;
    let sizes = match args.directories || args.packages {
        true => {
            Some(inspect::sizes(&store, &wanted, platform).map_err(|error| edge::inspect(&error))?)
        }
        false => None,
    };
    if ctx.ui.json() {
        let (name, version) = (&details.reference.name, &details.reference.version);
        let Details {
            digest,
            platform,
            config,
            history,
            layers,
            size,
            created,
            published,
            annotations,
            members,
            tested,
            test_run,
            network,
            ..
        } = &details;
        let mut object = marks.add(
            json!({ "name": name, "version": version, "digest": digest, "platform": platform,
                "members": members,
                "published": published, "created": created, "size": size,
                "config": config, "labels": config.labels, "annotations": annotations,
                "tested": tested, "test_run": test_run, "network": network,
                "history": history, "layers": layers }),
            name,
            version.as_deref().unwrap_or_default(),
            digest,
        );
        if let (Some(sizes), Some(fields)) = (&sizes, object.as_object_mut()) {
            let parts = [
                ("folders", args.directories, json!(sizes.directories)),
                ("packages", args.packages, json!(sizes.packages)),
            ];
            fields.extend(
                parts
                    .into_iter()
                    .filter(|(_, asked, _)| *asked)
                    .map(|(name, _, value)| (name.to_owned(), value)),
            );
        }
        ctx.ui.object("show", object);
    } else if let Some(sizes) = &sizes {
        let directories =
            if args.directories { history::directories(sizes) } else { String::new() };
        let packages = if args.packages { history::packages(sizes) } else { String::new() };
        let gap = if args.directories && args.packages { "\n" } else { "" };
        ctx.ui.raw([directories.as_str(), gap, &packages].concat().as_bytes());
    } else {
        ctx.ui.raw(describe(&details, &marks).as_bytes());
    }
    Ok(edge::OK)
}

fn describe(details: &Details, marks: &Marks) -> String {
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            out += &format!("{name:<12}{}\n", clean(&value));
        }
    };
    let config = &details.config;
    let quoted = |words: &[String]| {
        words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" ")
    };
    row("image", details.reference.to_string());
    row("digest", details.digest.to_string());
    for mark in marks.words(
        &details.reference.name,
        details.reference.version.as_deref().unwrap_or_default(),
        &details.digest,
    ) {
        row("state", mark);
    }
    row("platform", details.platform.to_string());
    let others = details.members.iter().filter(|one| one.digest != details.manifest);
    let others: Vec<String> =
        others.filter_map(|one| one.platform.as_ref()).map(|one| one.to_string()).collect();
    row("also for", others.join(", "));
    row("published", details.published.as_deref().map(to_the_second).unwrap_or_default());
    row("created", details.created.clone().unwrap_or_default());
    row("size", size(details.size));
    row("entrypoint", quoted(&config.entrypoint));
    row("cmd", quoted(&config.cmd));
    row("user", config.user.clone());
    row("workdir", config.working_dir.clone());
    row("ports", config.exposed_ports.iter().cloned().collect::<Vec<_>>().join(" "));
    row("volumes", config.volumes.iter().cloned().collect::<Vec<_>>().join(" "));
    row("stop signal", config.stop_signal.clone());
    for variable in &config.env {
        row("env", variable.clone());
    }
    for (name, value) in &config.labels {
        row("label", format!("{name}={value}"));
    }
    match (&details.test_run, details.tested.as_deref()) {
        (Some(run), Some("yes")) => {
            row("tested", format!("yes, {} by bake {}", run.finished, run.bake));
            for test in &run.passed {
                row(
                    "  passed",
                    format!("{} ({:.1} s): {}", test.name, test.seconds, test.what.join(", ")),
                );
            }
        }
        (_, Some("no")) => {
            row("tested", format!("no: `bake test {}` runs what was left out", details.reference))
        }
        (_, Some("none")) => row("tested", "no, it has no tests".to_owned()),
        (_, tested) => row("tested", tested.unwrap_or_default().to_owned()),
    }
    for step in details.network.iter().flat_map(|trace| &trace.steps) {
        for host in &step.reached {
            let (port, count, got) = (host.port, host.connections, size(host.received));
            let plural = if count == 1 { "" } else { "s" };
            let what = format!("{}:{port}, {count} connection{plural}, {got}", host.host);
            row("network", format!("step {}: {what}", step.step));
        }
    }
    let cells = details.history.iter().map(|step| {
        let layer = step.layer.and_then(|at| details.layers.get(at));
        let digest = layer.map(|layer| layer.digest.short()).unwrap_or_default();
        vec![
            step.created_by.clone(),
            layer.map(|layer| size(layer.size)).unwrap_or_default(),
            digest,
        ]
    });
    let cells: Vec<_> = cells.collect();
    out.push('\n');
    out + &table::columns(&["HISTORY", "SIZE", "LAYER"], &cells, &[1])
}
