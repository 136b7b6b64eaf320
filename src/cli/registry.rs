//! How registries are spoken to: what the command line says, and where docker and podman keep
//! credentials and certificates.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::registry::RegistryArgs;
use super::edge;
use crate::recipe;
use crate::registry::{Limits, Options};
use crate::ui::report::Report;

/// Returns how registries are to be spoken to. Credentials are those of podman, then of docker:
/// `$REGISTRY_AUTH_FILE`, `containers/auth.json` (containers-auth.json(5)), `$DOCKER_CONFIG`,
/// `.docker/config.json`. They are read when a registry asks for them.
///
/// # Errors
/// Where `$BAKE_NETWORK_TIMEOUT` is none.
pub(super) fn options(args: &RegistryArgs) -> Result<Options, Report> {
    let variable =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = variable("HOME");
    let config = variable("XDG_CONFIG_HOME")
        .or_else(|| home.as_ref().map(|home| home.join(".config")))
        .map(|config| config.join("containers"));
    let runtime = variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers"));
    let docker =
        variable("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
    let auth = |dir: &PathBuf| dir.join("auth.json");
    let credentials = match variable("REGISTRY_AUTH_FILE") {
        Some(file) => vec![file],
        None => runtime
            .iter()
            .chain(&config)
            .map(auth)
            .chain(docker.map(|dir| dir.join("config.json")))
            .collect(),
    };
    let own = config.iter().map(|config| config.join("certs.d"));
    let system = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(Path::new);
    let mut limits = Limits::default();
    limits.stall = network_timeout()?.unwrap_or(limits.stall);
    Ok(Options {
        credentials,
        authority: args.registry_ca.clone(),
        certificate: args.registry_cert.clone(),
        key: args.registry_key.clone(),
        directories: own.chain(system.map(Path::to_owned)).collect(),
        no_host_trust: no_host_trust(args),
        plain: args.registry_http.clone(),
        limits,
        ..Options::default()
    })
}

/// Returns whether proxies and authorities of the host are left aside: `$BAKE_NO_HOST_TRUST` says
/// so unless it is empty or 0.
pub(super) fn no_host_trust(args: &RegistryArgs) -> bool {
    let set = std::env::var_os("BAKE_NO_HOST_TRUST");
    args.no_host_trust || set.is_some_and(|value| !value.is_empty() && value != "0")
}

/// Returns `$BAKE_NETWORK_TIMEOUT`.
pub(super) fn network_timeout() -> Result<Option<Duration>, Report> {
    let value = std::env::var_os("BAKE_NETWORK_TIMEOUT").filter(|value| !value.is_empty());
    let Some(text) = value.map(|value| value.to_string_lossy().into_owned()) else {
        return Ok(None);
    };
    recipe::duration(&text).map(Some).map_err(|why| {
        edge::usage(
            format!("BAKE_NETWORK_TIMEOUT is {text:?}: {why}"),
            "unset it, or set it to a time such as 90s or 5m",
        )
    })
}
