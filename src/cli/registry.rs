//! How registries are spoken to: what the command line says, and where docker and podman keep
//! credentials and certificates.

use std::path::{Path, PathBuf};

use super::args::registry::RegistryArgs;
use crate::registry::Options;

/// Returns how registries are to be spoken to. Credentials are those of podman, then of docker:
/// `$REGISTRY_AUTH_FILE`, `containers/auth.json` (containers-auth.json(5)), `$DOCKER_CONFIG`,
/// `.docker/config.json`. They are read when a registry asks for them.
pub(super) fn options(args: &RegistryArgs) -> Options {
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
    Options {
        credentials,
        authority: args.registry_ca.clone(),
        certificate: args.registry_cert.clone(),
        key: args.registry_key.clone(),
        directories: own.chain(system.map(Path::to_owned)).collect(),
        plain: args.registry_http.clone(),
        ..Options::default()
    }
}
