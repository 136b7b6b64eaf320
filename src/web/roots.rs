//! Certificate authorities: those of the system, or others that a person names.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

/// Where systems keep the certificate authorities that they trust; the first that is there counts.
const STORES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whom https trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Authorities {
    /// Those of the system, else those that come with bake.
    #[default]
    System,
    /// Those of these files and directories (PEM).
    Named(Vec<PathBuf>),
    /// Those that come with bake; proxies of the host are left aside too.
    BuiltIn,
}

/// Returns where systems keep the authorities that they trust, best first.
pub fn stores() -> impl Iterator<Item = &'static Path> {
    STORES.iter().map(Path::new)
}

/// Returns the certificates of these authorities.
pub fn roots(authorities: &Authorities) -> RootCerts {
    let found: Vec<Certificate<'static>> = match authorities {
        Authorities::BuiltIn => return RootCerts::WebPki,
        Authorities::Named(named) => named.iter().flat_map(|path| certificates(path)).collect(),
        Authorities::System => {
            let found = stores().map(certificates).find(|found| !found.is_empty());
            let Some(found) = found else { return RootCerts::WebPki };
            found
        }
    };
    RootCerts::Specific(Arc::new(found))
}

/// Returns those of the system, or with `built_in` those that come with bake, and `more`. Beside
/// others that are named, those that come with bake do not count.
pub fn roots_and(more: Vec<Certificate<'static>>, built_in: bool) -> RootCerts {
    if more.is_empty() {
        return roots(if built_in { &Authorities::BuiltIn } else { &Authorities::System });
    }
    let mut all = vec![];
    if !built_in {
        all = stores().map(certificates).find(|found| !found.is_empty()).unwrap_or_default();
    }
    all.extend(more);
    RootCerts::Specific(Arc::new(all))
}

/// Reads the certificates of a file, or of the files of a directory. What cannot be read holds
/// none: a connection that needs it says then that it does not trust the server.
pub fn certificates(path: &Path) -> Vec<Certificate<'static>> {
    if let Ok(entries) = fs::read_dir(path) {
        let files = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
        return files.flat_map(|file| certificates(&file)).collect();
    }
    let Ok(bytes) = fs::read(path) else { return vec![] };
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    };
    parse_pem(&bytes).filter_map(certificate).collect()
}
