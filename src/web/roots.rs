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

/// Returns the authorities of `named` (files and directories of PEM), else of the system, else
/// those that come with bake.
pub fn roots(named: &[PathBuf]) -> RootCerts {
    let found: Vec<Certificate<'static>> = if named.is_empty() {
        STORES.iter().map(|path| certificates(Path::new(path))).find(|found| !found.is_empty())
    } else {
        Some(named.iter().flat_map(|path| certificates(path)).collect())
    }
    .unwrap_or_default();
    if found.is_empty() && named.is_empty() {
        return RootCerts::WebPki;
    }
    RootCerts::Specific(Arc::new(found))
}

/// Returns the authorities of the system and `more`.
pub fn roots_and(more: Vec<Certificate<'static>>) -> RootCerts {
    if more.is_empty() {
        return roots(&[]);
    }
    let system = STORES.iter().map(|path| certificates(Path::new(path)));
    let mut all = system.into_iter().find(|found| !found.is_empty()).unwrap_or_default();
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
