//! Credentials as docker and podman keep them (docker's `config.json`, containers-auth.json(5)).
//!
//! A key names a registry or, as podman has it, a part of one (`registry.example/team`): the
//! longest that fits counts. A helper program that is named for a registry comes first
//! (`credHelpers`), what stands in the file itself next (`auths`), the helper for everything last
//! (`credsStore`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};

use super::error::Error;
use super::helper;
use super::options::Stop;
use super::secret::{Credential, Secret};
use crate::image::{DOCKER_HUB, RemoteName};

/// Largest file of credentials.
const LARGEST: u64 = 4 << 20;

/// What docker calls Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// A file of credentials. What else is in there is somebody else's.
#[derive(Deserialize)]
struct ConfigFile {
    #[serde(default, deserialize_with = "or_default")]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers", deserialize_with = "or_default")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore", deserialize_with = "or_default")]
    store: String,
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<Secret>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<Secret>,
    #[serde(default, rename = "identitytoken")]
    identity: Option<Secret>,
    #[serde(default, rename = "registrytoken")]
    token: Option<Secret>,
}

/// Go writes `null` for what is empty.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Finds the credentials for `name` in the first of `files` that has any.
pub(super) fn find(
    files: &[PathBuf],
    name: &RemoteName,
    stop: &Stop,
) -> Result<Option<Credential>, Error> {
    for path in files {
        let Some(file) = read(path)? else { continue };
        if let Some(found) = in_file(&file, path, name, stop)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Option<ConfigFile>, Error> {
    let wrong = |why: String| Error::Credentials { path: path.to_owned(), why };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let mut bytes = vec![];
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| wrong(error.to_string()))?;
    if bytes.len() as u64 > LARGEST {
        return Err(wrong(format!("it is larger than {LARGEST} bytes")));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(wrong("it has other JSON than it should have, or none".to_owned()));
    }
    // serde's own message would show what stands there, which may be a password.
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = if error.is_data() { "other JSON than it should have" } else { "no JSON" };
        wrong(format!("it has {what} at line {line}, column {column}"))
    })
}

fn in_file(
    file: &ConfigFile,
    path: &Path,
    name: &RemoteName,
    stop: &Stop,
) -> Result<Option<Credential>, Error> {
    for key in keys(name) {
        let named = file.helpers.iter().find(|(named, _)| plain(named) == key);
        if let Some((named, program)) = named {
            let server = if key == DOCKER_HUB { HUB_KEY } else { named };
            if let Some(found) = helper::get(program, server, stop)? {
                return Ok(Some(found));
            }
        }
        for (named, entry) in file.auths.iter().filter(|(named, _)| plain(named) == key) {
            if let Some(found) = entry.credential(path, named)? {
                return Ok(Some(found));
            }
        }
    }
    if file.store.is_empty() {
        return Ok(None);
    }
    let server = if name.registry == DOCKER_HUB { HUB_KEY } else { &name.registry };
    helper::get(&file.store, server, stop)
}

impl Entry {
    fn credential(&self, path: &Path, key: &str) -> Result<Option<Credential>, Error> {
        let given = |secret: &&Secret| !secret.reveal().is_empty();
        if let Some(token) = self.token.as_ref().filter(given) {
            return Ok(Some(Credential::Token(token.clone())));
        }
        if let Some(token) = self.identity.as_ref().filter(given) {
            return Ok(Some(Credential::Identity(token.clone())));
        }
        if let Some(auth) = self.auth.as_ref().filter(given) {
            let wrong = |why: &str| Error::Credentials {
                path: path.to_owned(),
                why: format!("auth of {key:?} {why}"),
            };
            let bytes = STANDARD.decode(auth.reveal().trim()).map_err(|_| wrong("is no base64"))?;
            let text = String::from_utf8(bytes).map_err(|_| wrong("is no text"))?;
            let (user, password) =
                text.split_once(':').ok_or_else(|| wrong("is not name:password"))?;
            // docker pads it with zeros.
            let password = Secret::new(password.trim_end_matches('\0').to_owned());
            return Ok(Some(Credential::Password { user: user.to_owned(), password }));
        }
        match (&self.username, &self.password) {
            (Some(user), Some(password)) if !user.is_empty() => {
                Ok(Some(Credential::Password { user: user.clone(), password: password.clone() }))
            }
            _ => Ok(None),
        }
    }
}

/// Returns the keys that fit `name`, the longest first: `host/a/b`, `host/a`, `host`.
fn keys(name: &RemoteName) -> Vec<String> {
    let mut out = vec![name.place()];
    while let Some((shorter, _)) = out.last().and_then(|last| last.rsplit_once('/')) {
        out.push(shorter.to_owned());
    }
    out
}

/// Returns the key as podman writes it: docker's have a scheme and the version of an interface.
fn plain(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key.split_once('/') {
        Some(("index.docker.io" | "registry-1.docker.io", rest)) => format!("{DOCKER_HUB}/{rest}"),
        None if matches!(key, "index.docker.io" | "registry-1.docker.io") => DOCKER_HUB.to_owned(),
        _ => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn found(text: &str, name: &str) -> Result<Option<Credential>, String> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("auth.json");
        std::fs::write(&path, text).expect("written");
        let stop: Stop = Arc::new(|| false);
        find(&[dir.path().join("missing"), path], &name.parse().expect("a name"), &stop)
            .map_err(|error| error.to_string())
    }

    fn user(text: &str, name: &str) -> Option<String> {
        match found(text, name).expect("readable") {
            Some(Credential::Password { user, .. }) => Some(user),
            Some(other) => Some(format!("{other:?}")),
            None => None,
        }
    }

    /// `NAME:word` in base64.
    fn auth(user: &str) -> String {
        format!("{{\"auth\": \"{}\"}}", STANDARD.encode(format!("{user}:word")))
    }

    #[test]
    fn the_longest_key_counts() {
        let text = format!(
            r#"{{"auths": {{"r.example": {}, "r.example/team": {}, "r.example/team/app": {},
                "https://index.docker.io/v1/": {}, "other.example:5000": {{}}}}}}"#,
            auth("host"),
            auth("team"),
            auth("app"),
            auth("hub")
        );
        assert_eq!(user(&text, "r.example/team/app:1").as_deref(), Some("app"));
        assert_eq!(user(&text, "r.example/team/application").as_deref(), Some("team"));
        assert_eq!(user(&text, "r.example/teams/x").as_deref(), Some("host"));
        assert_eq!(user(&text, "debian:12").as_deref(), Some("hub"));
        assert_eq!(user(&text, "other.example:5000/x"), None);
        assert_eq!(user(&text, "r.example:5000/x"), None);
    }

    #[test]
    fn every_form_of_an_entry_is_read() {
        let password = |text: &str| found(text, "r.example/x").expect("readable");
        let secret = |text: &str| Secret::new(text.to_owned());
        assert_eq!(
            password(r#"{"auths": {"r.example": {"username": "a", "password": "b:c"}}}"#),
            Some(Credential::Password { user: "a".to_owned(), password: secret("b:c") })
        );
        assert_eq!(
            password(r#"{"auths": {"https://r.example/v2/": {"identitytoken": "t", "auth": ""}}}"#),
            Some(Credential::Identity(secret("t")))
        );
        assert_eq!(
            password(r#"{"auths": {"r.example": {"registrytoken": "t"}}}"#),
            Some(Credential::Token(secret("t")))
        );
        assert_eq!(password(r#"{"auths": null, "credHelpers": null, "credsStore": null}"#), None);
        assert_eq!(password(" \n"), None);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_without_a_secret() {
        for (text, why) in [
            ("{", "no JSON"),
            ("hunter2", "other JSON"),
            ("[]", "other JSON"),
            (r#"{"auths": {"r.example": "hunter2"}}"#, "other JSON"),
            (r#"{"auths": {"r.example": {"auth": ["hunter2"]}}}"#, "other JSON"),
            (r#"{"auths": {"r.example": {"auth": "hunter2!"}}}"#, "is no base64"),
            (r#"{"auths": {"r.example": {"auth": "aHVudGVyMg=="}}}"#, "is not name:password"),
        ] {
            let error = found(text, "r.example/x").expect_err(text);
            assert!(error.contains(why) && !error.contains("hunter2"), "{text}: {error}");
        }
        let error = find(&["/".into()], &"r.example/x".parse().expect("a name"), &{
            let stop: Stop = Arc::new(|| false);
            stop
        });
        assert!(matches!(error, Err(Error::Credentials { .. })), "{error:?}");
    }

    #[test]
    fn a_secret_is_not_shown() {
        let one = Credential::Password {
            user: "me".to_owned(),
            password: Secret::new("hunter2".to_owned()),
        };
        assert!(!format!("{one:?}").contains("hunter2"));
    }
}
