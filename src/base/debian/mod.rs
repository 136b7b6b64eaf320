//! A Debian base: the minimal set of a suite, pinned, and the tree that is made of it.

use super::{Error, PinnedDebian};
use crate::archive::{Source, arch_name, mirror};
use crate::recipe;

pub(super) mod bootstrap;
mod changed;
mod debconf;
mod filter;
mod homes;
mod keystore;
pub(super) mod remarks;
mod runtime;
mod secrets;
mod tables;
pub(super) mod tidy;
mod tree;
pub(super) mod unpack;

/// Chooses the minimal set of a suite.
pub(super) fn choose(
    source: &Source,
    wanted: &recipe::Debian,
    components: Vec<String>,
    arch: &str,
    slim: bool,
) -> Result<PinnedDebian, Error> {
    let debian_arch = arch_name(arch)?;
    let mirror = source.mirror(wanted.mirror.as_deref(), &wanted.suite);
    // Without it bookworm's init-system-helpers (`usrmerge | usr-is-merged`) takes usr-is-merged,
    // and perl stays out.
    let drop: &[&str] = if wanted.suite == "bookworm" { &["usrmerge"] } else { &[] };
    let (packages, date) =
        source.minimal(&wanted.suite, &components, debian_arch, &mirror, drop)?;
    let (suite, mirror) = (wanted.suite.clone(), wanted.mirror.clone());
    Ok(PinnedDebian { suite, arch: arch.to_owned(), slim, components, mirror, date, packages })
}

/// `/etc/apt/sources.list.d/debian.sources` of the image: the public mirror, or the one that the
/// recipe names.
pub(super) fn sources(pin: &PinnedDebian) -> String {
    let main = pin.mirror.as_deref().map_or(mirror::PUBLIC, |m| m.trim_end_matches('/'));
    let components = pin.components.join(" ");
    let key = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let stanza = |url: &str, suites: &str| {
        format!(
            "Types: deb\nURIs: {url}\nSuites: {suites}\nComponents: {components}\nSigned-By: \
                {key}\n"
        )
    };
    let suite = &pin.suite;
    if suite == "sid" {
        return stanza(main, suite);
    }
    format!(
        "{}\n{}",
        stanza(main, &format!("{suite} {suite}-updates")),
        stanza(&mirror::security_of(main), &format!("{suite}-security"))
    )
}
