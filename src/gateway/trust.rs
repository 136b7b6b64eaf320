//! What this host goes out by, and whom it trusts: steps with a network do too.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::proxy::Proxies;

/// Where a step finds the certificate authorities of the host, in no layer.
pub const BUNDLE: &str = "/run/bake/ca-certificates.crt";
/// Where it finds what apt is to know of them.
const APT: &str = "/run/bake/apt.conf";
/// Where it finds what wget is to know of them.
const WGET: &str = "/run/bake/wgetrc";

/// Largest bundle that is shown to steps.
const MOST: u64 = 8 << 20;

/// Variables that name a file of certificate authorities to some program: OpenSSL, curl, Python's
/// requests and pip, Node.js, git, cargo, Nix, the AWS tools, gRPC, Deno, Ruby's bundler,
/// libwww-perl.
const VARIABLES: &[&str] = &[
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "NIX_SSL_CERT_FILE",
    "AWS_CA_BUNDLE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "DENO_CERT",
    "BUNDLE_SSL_CA_CERT",
    "PERL_LWP_SSL_CA_FILE",
];

/// Variables of proxies.
const PROXIES: &[&str] = &["http_proxy", "https_proxy", "all_proxy", "no_proxy"];

/// The host's way out, and whom it trusts.
#[derive(Debug, Clone, Default)]
pub struct HostTrust {
    /// Its proxies.
    pub(super) proxies: Proxies,
    /// The same as variables, for programs in the network of the host itself.
    variables: BTreeMap<String, String>,
    /// Where a file of certificate authorities may be; the first one counts.
    stores: Vec<PathBuf>,
    /// Certificate authorities (PEM), if it has a file of them; read when a step needs them.
    bundle: OnceLock<Option<Vec<u8>>>,
}

impl HostTrust {
    /// Takes variables of the environment, and the first file of certificate authorities that is
    /// there when a step needs it: the one that `SSL_CERT_FILE` names, else one of `stores`.
    pub fn of<'a>(
        variable: impl Fn(&str) -> Option<String>,
        stores: impl Iterator<Item = &'a Path>,
    ) -> Self {
        let named = variable("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
        let names = PROXIES.iter().flat_map(|name| [(*name).to_owned(), name.to_ascii_uppercase()]);
        let set = names.filter_map(|name| Some((name.clone(), variable(&name)?)));
        Self {
            variables: set.filter(|(_, value)| !value.is_empty()).collect(),
            proxies: Proxies::of(variable),
            stores: named.into_iter().chain(stores.map(Path::to_owned)).collect(),
            bundle: OnceLock::new(),
        }
    }

    fn bundle(&self) -> Option<&Vec<u8>> {
        let read = || self.stores.iter().find_map(|path| bundle(path));
        self.bundle.get_or_init(read).as_ref()
    }

    /// Returns the variables that programs of a step get, before those of the step. `by_host`: they
    /// have the network of the host.
    #[must_use]
    pub fn environment(&self, by_host: bool) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        if self.bundle().is_some() {
            found.extend(VARIABLES.iter().map(|name| ((*name).to_owned(), BUNDLE.to_owned())));
            found.insert("APT_CONFIG".to_owned(), APT.to_owned());
            found.insert("WGETRC".to_owned(), WGET.to_owned());
        }
        if by_host {
            found.extend(self.variables.clone());
        }
        found
    }

    /// Returns the files that go with them: path, content.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let Some(bundle) = self.bundle() else { return vec![] };
        let apt = format!("Acquire::https::CAInfo \"{BUNDLE}\";\n");
        let wget = format!("ca_certificate = {BUNDLE}\n");
        vec![(BUNDLE, bundle.clone()), (APT, apt.into_bytes()), (WGET, wget.into_bytes())]
    }
}

/// The certificates of a file: nothing else that may stand in it, such as a private key.
fn bundle(path: &Path) -> Option<Vec<u8>> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let size = fs::metadata(path).ok().filter(fs::Metadata::is_file)?.len();
    let text = if size <= MOST { fs::read_to_string(path).ok()? } else { return None };
    let (mut out, mut inside) = (String::new(), false);
    for line in text.lines().map(str::trim_end) {
        inside |= line == BEGIN;
        if inside {
            out.push_str(line);
            out.push('\n');
        }
        inside &= line != END;
    }
    (!out.is_empty()).then(|| out.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bundle_counts_and_holds_certificates_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let key = "-----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n";
        fs::write(&one, format!("# a name\n{key}{certificate}")).unwrap();
        fs::write(&two, "nothing").unwrap();
        let stores = [two.as_path(), one.as_path()];
        let none = HostTrust::of(|_| None, stores.into_iter());
        assert_eq!(none.files()[0], (BUNDLE, certificate.as_bytes().to_vec()));
        assert_eq!(none.environment(false)["PIP_CERT"], BUNDLE);
        let named = HostTrust::of(
            |name| (name == "SSL_CERT_FILE").then(|| one.display().to_string()),
            std::iter::empty(),
        );
        assert_eq!(named.files().len(), 3);
        let nothing = HostTrust::of(|_| None, [two.as_path()].into_iter());
        assert!(nothing.files().is_empty() && nothing.environment(true).is_empty());
    }

    #[test]
    fn proxies_are_variables_in_the_network_of_the_host_alone() {
        let variable =
            |name: &str| (name == "https_proxy").then(|| "http://proxy.example:3128".to_owned());
        let trust = HostTrust::of(variable, std::iter::empty());
        assert!(trust.environment(false).is_empty());
        assert_eq!(trust.environment(true)["https_proxy"], "http://proxy.example:3128");
    }
}
