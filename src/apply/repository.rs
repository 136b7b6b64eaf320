//! A package source: a deb822 file and the key that signs it.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::root::Root;
use super::spot::Attr;

const MAX_KEY: u64 = 4 << 20;

/// What a `repository` step says.
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    pub(super) url: &'a str,
    pub(super) suite: &'a str,
    pub(super) components: &'a [String],
    /// Where its key comes from.
    pub(super) key: &'a str,
}

/// Writes `/etc/apt/sources.list.d/NAME.sources` and `/etc/apt/keyrings/NAME.asc` or `.gpg`, by the
/// key's form.
pub(super) fn add(root: &Root, source: &Source<'_>, key: &mut dyn Read) -> Result<(), Error> {
    if !root.is_directory(Path::new("/etc/apt")) {
        return Err(Error::refused(
            format!("repository \"{}\"", source.name),
            "the image has no apt (no directory /etc/apt); a repository needs a Debian base",
        ));
    }
    let mut bytes = vec![];
    key.take(MAX_KEY + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::system("read the key of", source.name))?;
    let ring =
        PathBuf::from(format!("/etc/apt/keyrings/{}.{}", source.name, key_form(source, &bytes)?));
    let text = deb822(source, &ring)?;
    let attr = Attr { ids: root.own(), mode: 0o644 };
    root.put_file(&root.make_spot(&ring)?, attr, &mut &bytes[..])?;
    let path = PathBuf::from(format!("/etc/apt/sources.list.d/{}.sources", source.name));
    root.put_file(&root.make_spot(&path)?, attr, &mut text.as_bytes())?;
    Ok(())
}

/// The text of the `.sources` file.
fn deb822(source: &Source<'_>, ring: &Path) -> Result<String, Error> {
    let what = || format!("repository \"{}\"", source.name);
    // apt ignores files whose names have other characters, silently.
    if source.name.is_empty()
        || source.name.starts_with('.')
        || !source.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    {
        return Err(Error::refused(
            what(),
            "a repository's name is made of letters, digits, `_`, `.` and `-`, as apt takes no \
                other",
        ));
    }
    let one_word = |field: &str, text: &str| match text.is_empty()
        || text.chars().any(|c| c.is_whitespace() || c.is_control())
    {
        true => Err(Error::refused(
            what(),
            format!("{field} \"{}\" is empty or has blanks in it", text.escape_debug()),
        )),
        false => Ok(()),
    };
    one_word("url", source.url)?;
    one_word("suite", source.suite)?;
    for component in source.components {
        one_word("component", component)?;
    }
    let exact = source.suite.ends_with('/');
    if exact != source.components.is_empty() {
        let why = match exact {
            true => "a suite that ends in `/` is an exact path and takes no components",
            false => {
                "a suite needs components, such as components = [\"main\"]; only one that ends in \
                    `/` has none"
            }
        };
        return Err(Error::refused(what(), why));
    }
    let mut text = format!("Types: deb\nURIs: {}\nSuites: {}\n", source.url, source.suite);
    if !exact {
        text.push_str(&format!("Components: {}\n", source.components.join(" ")));
    }
    text.push_str(&format!("Signed-By: {}\n", ring.display()));
    Ok(text)
}

/// `asc` for an armoured OpenPGP public key, `gpg` for a binary one: apt distinguishes them by the
/// file's ending.
fn key_form(source: &Source<'_>, key: &[u8]) -> Result<&'static str, Error> {
    let what = || format!("{}, the key of repository \"{}\"", source.key, source.name);
    let refuse = |why: &str| Err(Error::refused(what(), why));
    if key.len() as u64 > MAX_KEY {
        return refuse("is larger than 4 MiB; no key is");
    }
    let has = |text: &[u8]| key.windows(text.len()).any(|w| w == text);
    if has(b"-----BEGIN PGP PRIVATE KEY BLOCK-----")
        || matches!(key.first(), Some(0x94 | 0x95 | 0xc5))
    {
        return refuse(
            "is a private key; an image carries the public one only (gpg --armor --export)",
        );
    }
    if has(b"-----BEGIN PGP PUBLIC KEY BLOCK-----") {
        return Ok("asc");
    }
    // A public key packet (tag 6): old format with one, two or four length bytes, or new format.
    match key.first() {
        Some(0x98..=0x9a | 0xc6) => Ok("gpg"),
        _ => refuse("is not an OpenPGP public key, neither armoured nor binary"),
    }
}
