//! What recipes are read and built with, from the arguments and the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::recipe::{CacheArgs, InputArgs, MirrorArgs, ToolsOf};
use super::ctx::Ctx;
use super::{edge, registry};
use crate::engine::error::Error;
use crate::engine::{Failed, NetworkOptions, NoCache, Request, ToolsFrom};
use crate::gateway::HostTrust;
use crate::import::Resolved;
use crate::recipe::{Diagnostic, Inputs};
use crate::ui::report::Report;
use crate::web::{self, Authorities};

/// Returns a request for each recipe, in all else as `like`.
pub(super) fn requests(recipes: &[PathBuf], like: &Request) -> Vec<Request> {
    recipes.iter().map(|recipe| Request { recipe: recipe.clone(), ..like.clone() }).collect()
}

/// Shows warnings that were not shown yet: those of a recipe are found for each of its builds.
pub(super) fn warn(ctx: &Ctx<'_>, printed: &mut Vec<Diagnostic>, warnings: &[Diagnostic]) {
    let new: Vec<_> = warnings.iter().filter(|one| !printed.contains(*one)).cloned().collect();
    ctx.ui.diagnostics(&new);
    printed.extend(new);
}

/// Shows a recipe's mistakes, and returns the report of any error.
pub(super) fn failed(ctx: &Ctx<'_>, error: &Error, recipe: &Path) -> Report {
    if let Error::Recipe(found) = error {
        ctx.ui.diagnostics(found);
    }
    edge::build(error, recipe)
}

/// As [`failed`], of one of the builds of a recipe.
pub(super) fn failed_one(ctx: &Ctx<'_>, bad: &Failed) -> Report {
    let mut report = failed(ctx, &bad.error, &bad.recipe);
    if !bad.build.is_empty() {
        report.causes.push(format!("this is the variant {}", bad.build));
    }
    report
}

/// Reads the recipes: a request for each of their variants that are meant.
pub(super) fn read(ctx: &Ctx<'_>, requests: &[Request]) -> Result<Vec<Request>, Report> {
    let mut all = vec![];
    for request in requests {
        all.extend(request.each_variant().map_err(|bad| failed_one(ctx, &bad))?);
    }
    Ok(all)
}

/// Returns what recipes are read with.
pub(super) fn inputs(ctx: &Ctx<'_>, args: &InputArgs) -> Result<Inputs, Report> {
    let mut vars_files = vec![];
    for path in &args.vars_files {
        let text = crate::inputs::text(path).map_err(|error| {
            let error = error.into();
            if let Error::Recipe(found) = &error {
                ctx.ui.diagnostics(found);
            }
            edge::vars_file(&error)
        })?;
        vars_files.push((path.clone(), text));
    }
    let mut env_vars = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        if let (Some(name), Some(value)) =
            (name.to_str().and_then(|name| name.strip_prefix("BAKE_VAR_")), value.to_str())
        {
            env_vars.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(Inputs {
        version: args.set_version.clone(),
        vars: args.vars.clone(),
        vars_files,
        env_vars,
        platforms: args.platforms.clone(),
        workspaces: Some(ctx.nearby.known.clone()),
        variants: args.variants.clone(),
        ..Inputs::default()
    })
}

/// Returns which steps are to run although they are cached.
pub(super) fn no_cache(args: &CacheArgs) -> NoCache {
    match args.no_cache.as_slice() {
        [] => NoCache::No,
        steps if steps.iter().any(String::is_empty) => NoCache::All,
        steps => NoCache::Steps(steps.to_vec()),
    }
}

/// Returns which programs make file systems.
pub(super) fn tools_from(tools: ToolsOf) -> ToolsFrom {
    match tools {
        ToolsOf::Toolbox => ToolsFrom::Toolbox,
        ToolsOf::Host => ToolsFrom::Host,
    }
}

/// Returns how the network is to be used. Whom https trusts is set as for every program that uses
/// OpenSSL: by `SSL_CERT_FILE` and `SSL_CERT_DIR` (directories, separated by colons).
pub(super) fn network(args: &MirrorArgs) -> Result<NetworkOptions, Report> {
    let variable = |name: &str| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty());
        value.map(|value| value.to_string_lossy().into_owned())
    };
    let mirror = args.debian_mirror.clone().or_else(|| variable("BAKE_DEBIAN_MIRROR"));
    let timeout = match args.network_timeout {
        None => registry::network_timeout()?,
        given => given,
    };
    let directories = std::env::var_os("SSL_CERT_DIR").unwrap_or_default();
    let named: Vec<PathBuf> = std::env::var_os("SSL_CERT_FILE")
        .map(PathBuf::from)
        .into_iter()
        .chain(std::env::split_paths(&directories))
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    let (authorities, trust) = match (registry::no_host_trust(&args.registry), named.is_empty()) {
        (true, _) => (Authorities::BuiltIn, HostTrust::default()),
        (false, true) => (Authorities::System, HostTrust::of(variable, web::stores())),
        (false, false) => (Authorities::Named(named), HostTrust::of(variable, web::stores())),
    };
    let allow_expired = args.allow_expired;
    let mut registry = registry::options(&args.registry)?;
    registry.limits.stall = timeout.unwrap_or(registry.limits.stall);
    let resolved = Resolved::default();
    let trust = Arc::new(trust);
    Ok(NetworkOptions { mirror, timeout, authorities, registry, resolved, trust, allow_expired })
}

/// Returns `SOURCE_DATE_EPOCH`.
pub(super) fn source_date_epoch() -> Result<Option<i64>, Report> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match text
        .to_str()
        .and_then(|text| text.parse::<i64>().ok())
        .filter(|epoch| (0..=253_402_300_799).contains(epoch))
    {
        Some(epoch) => Ok(Some(epoch)),
        None => Err(edge::usage(
            format!(
                "SOURCE_DATE_EPOCH is {:?}, not a number of seconds since 1970",
                text.to_string_lossy()
            ),
            "unset it, or set it to the output of `git log -1 --pretty=%ct`",
        )),
    }
}

/// Returns a path as objects of `--json` have it: absolute.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
