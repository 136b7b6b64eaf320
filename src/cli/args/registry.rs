//! Arguments of the commands that speak to registries.

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// How registries are spoken to.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Registries")]
pub(crate) struct RegistryArgs {
    /// Trust the certificates in FILE (PEM) besides the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) registry_ca: Option<PathBuf>,
    /// Show the certificate in FILE (PEM) to the registry
    #[arg(long, value_name = "FILE", requires = "registry_key")]
    pub(crate) registry_cert: Option<PathBuf>,
    /// Private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "registry_cert")]
    pub(crate) registry_key: Option<PathBuf>,
    /// Speak to HOST, or HOST:PORT, without TLS; may be given more than once. A loopback address
    /// needs none
    #[arg(long, value_name = "HOST")]
    pub(crate) registry_http: Vec<String>,
    /// Leave aside the host's proxies and certificate authorities: for what bake fetches, and for
    /// steps with a network [default: $BAKE_NO_HOST_TRUST]
    #[arg(long)]
    pub(crate) no_host_trust: bool,
}
