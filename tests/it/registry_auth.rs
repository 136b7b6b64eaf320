//! Who asks: credentials, tokens of a service, and what never shows them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bake::image::MEDIA_MANIFEST;
use bake::registry::{Error, Options, Repository};
use serde_json::json;

use crate::registry_lab::{Fake, Reply, Seen, manifest, quick};

const PASSWORD: &str = "hunter2";
/// `me:hunter2`
const BASIC: &str = "Basic bWU6aHVudGVyMg==";

/// A registry with an image `app:1`.
fn fake() -> Fake {
    let fake = Fake::start();
    let text = manifest(&fake, "team/app", &[]);
    fake.manifest("team/app", "1", MEDIA_MANIFEST, &text);
    fake
}

/// A file of credentials for `key`.
fn file(dir: &Path, key: &str, entry: serde_json::Value) -> PathBuf {
    let path = dir.join("auth.json");
    fs::write(&path, json!({ "auths": { key: entry } }).to_string()).unwrap();
    path
}

fn password(dir: &Path, fake: &Fake) -> Options {
    let entry = json!({ "username": "me", "password": PASSWORD });
    Options { credentials: vec![file(dir, &fake.address.to_string(), entry)], ..quick() }
}

fn read(fake: &Fake, options: &Options) -> Result<(), Error> {
    Repository::new(&fake.name("team/app"), options).manifest("1").map(drop)
}

/// Whether an error shows a secret, in whatever form.
fn shows(error: &Error) -> bool {
    let all = format!("{error} {error:?} {:?}", error.hint());
    [PASSWORD, "bWU6aHVudGVyMg", "secret-token"].iter().any(|secret| all.contains(secret))
}

fn ask() -> Reply {
    Reply::new(401).with("www-authenticate", "Basic realm=\"registry\"")
}

#[test]
fn a_password_is_sent_once_it_is_asked_for() {
    let (fake, dir) = (fake(), tempfile::tempdir().unwrap());
    fake.manners().before = Some(Box::new(|seen| {
        let open = seen.target == "/v2/" || seen.header("authorization") == Some(BASIC);
        (!open).then(ask)
    }));
    read(&fake, &password(dir.path(), &fake)).unwrap();
    let first = fake.seen().into_iter().find(|one| one.target != "/v2/").unwrap();
    assert_eq!(first.header("authorization"), None);
}

#[test]
fn wrong_and_missing_credentials_differ() {
    let (fake, dir) = (fake(), tempfile::tempdir().unwrap());
    fake.manners().before = Some(Box::new(|seen| (seen.target != "/v2/").then(ask)));
    let error = read(&fake, &password(dir.path(), &fake)).expect_err("wrong");
    assert!(matches!(error, Error::Unauthorized { .. }) && !shows(&error), "{error:?}");
    assert!(error.hint().unwrap().contains("login"));
    // A loop of 401 is no loop.
    assert!(fake.seen().len() < 5, "{:?}", fake.seen());
    let error = read(&fake, &quick()).expect_err("missing");
    assert!(matches!(error, Error::NoCredentials { .. }), "{error:?}");
    fake.manners().before = Some(Box::new(|seen| {
        let body = r#"{"errors":[{"code":"DENIED","message":"not for you"}]}"#;
        (seen.target != "/v2/").then(|| Reply::new(403).body(body))
    }));
    let error = read(&fake, &password(dir.path(), &fake)).expect_err("denied");
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("not for you"), "{error}");
}

/// A token service; tokens are good for `uses` requests.
fn with_tokens(fake: &Fake, uses: usize, check: impl Fn(&Seen) -> bool + Send + 'static) {
    let realm = format!("http://{}/token", fake.address);
    let (given, mut left) = (Arc::new(AtomicUsize::new(0)), 0);
    fake.manners().before = Some(Box::new(move |seen| {
        if seen.target.starts_with("/token") {
            if !check(seen) {
                return Some(Reply::new(401));
            }
            let n = given.fetch_add(1, Ordering::SeqCst) + 1;
            left = uses;
            let token = json!({ "token": format!("secret-token-{n}"), "expires_in": 300 });
            return Some(Reply::new(200).body(token.to_string()));
        }
        let token = format!("Bearer secret-token-{}", given.load(Ordering::SeqCst));
        if seen.header("authorization") == Some(&token) && left > 0 {
            left -= 1;
            return None;
        }
        let ask = format!("Bearer realm=\"{realm}\",service=\"here\",scope=\"x\"");
        Some(Reply::new(401).with("www-authenticate", ask))
    }));
}

#[test]
fn a_token_is_asked_for_once_and_renewed_when_it_is_spent() {
    let (fake, dir) = (fake(), tempfile::tempdir().unwrap());
    with_tokens(&fake, 3, |seen| seen.header("authorization") == Some(BASIC));
    let repository = Repository::new(&fake.name("team/app"), &password(dir.path(), &fake));
    for _ in 0..7 {
        repository.manifest("1").unwrap();
    }
    let asked: Vec<_> =
        fake.seen().into_iter().filter(|one| one.target.starts_with("/token")).collect();
    assert_eq!(asked.len(), 3, "one at first, two that were spent");
    let target = &asked[0].target;
    for part in ["service=here", "scope=repository%3Ateam%2Fapp%3Apull", "account=me"] {
        assert!(target.contains(part), "{target}");
    }
}

#[test]
fn tokens_that_are_never_good_end_it() {
    let (fake, dir) = (fake(), tempfile::tempdir().unwrap());
    with_tokens(&fake, 0, |_| true);
    let error = read(&fake, &password(dir.path(), &fake)).expect_err("never good");
    assert!(matches!(error, Error::Unauthorized { .. }) && !shows(&error), "{error:?}");
    assert!(fake.seen().len() < 6, "{:?}", fake.seen());
    with_tokens(&fake, 9, |_| false);
    let error = read(&fake, &password(dir.path(), &fake)).expect_err("no token");
    assert!(matches!(error, Error::Unauthorized { .. }) && !shows(&error), "{error:?}");
}

#[test]
fn whoever_has_no_credentials_may_get_a_token_all_the_same() {
    let fake = fake();
    with_tokens(&fake, 9, |seen| seen.header("authorization").is_none());
    read(&fake, &quick()).unwrap();
}

#[test]
fn an_identity_token_is_posted() {
    let (fake, dir) = (fake(), tempfile::tempdir().unwrap());
    with_tokens(&fake, 9, |seen| {
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        seen.method == "POST"
            && body.contains("grant_type=refresh_token")
            && body.contains("refresh_token=secret-token%2Fx")
            && body.contains("scope=repository%3Ateam%2Fapp%3Apull")
            && !seen.target.contains("secret")
    });
    let entry = json!({ "identitytoken": "secret-token/x" });
    let path = file(dir.path(), &fake.address.to_string(), entry);
    read(&fake, &Options { credentials: vec![path], ..quick() }).unwrap();
}

#[test]
fn a_service_that_only_takes_forms_gets_one() {
    let (fake, dir) = (fake(), tempfile::tempdir().unwrap());
    with_tokens(&fake, 9, |seen| seen.method == "POST");
    let inner = fake.manners().before.take();
    let mut inner = inner.unwrap();
    fake.manners().before = Some(Box::new(move |seen| {
        let get = seen.target.starts_with("/token") && seen.method == "GET";
        if get { Some(Reply::new(405)) } else { inner(seen) }
    }));
    read(&fake, &password(dir.path(), &fake)).unwrap();
    let posted = fake.seen().into_iter().find(|one| one.method == "POST").unwrap();
    assert!(String::from_utf8_lossy(&posted.body).contains("grant_type=password"));
}

#[test]
fn answers_of_a_token_service_that_are_none_are_errors() {
    let (fake, dir) = (fake(), tempfile::tempdir().unwrap());
    let realm = format!("http://{}/token", fake.address);
    for (realm, body) in [
        (realm.as_str(), "{}"),
        (realm.as_str(), "no JSON"),
        (realm.as_str(), r#"{"token":"secret-token\nx: y"}"#),
        ("ftp://x/", "{}"),
        ("nonsense", "{}"),
    ] {
        let (realm, body) = (realm.to_owned(), body.to_owned());
        fake.manners().before = Some(Box::new(move |seen| {
            if seen.target.starts_with("/token") {
                return Some(Reply::new(200).body(body.as_str()));
            }
            let ask = format!("Bearer realm=\"{realm}\"");
            Some(Reply::new(401).with("www-authenticate", ask))
        }));
        let error = read(&fake, &password(dir.path(), &fake)).expect_err("no token");
        assert!(matches!(error, Error::TokenService { .. }) && !shows(&error), "{error:?}");
    }
    fake.manners().before = Some(Box::new(|seen| (seen.target != "/v2/").then(|| Reply::new(401))));
    let error = read(&fake, &password(dir.path(), &fake)).expect_err("no challenge");
    assert!(matches!(error, Error::TokenService { .. }), "{error:?}");
}

#[test]
fn credentials_that_cannot_be_read_are_an_error_where_they_are_wanted() {
    let (fake, dir) = (fake(), tempfile::tempdir().unwrap());
    let path = dir.path().join("config.json");
    fs::write(&path, "{ \"auths\": { \"x\": \"hunter2\" } }").unwrap();
    let options = Options { credentials: vec![path.clone()], ..quick() };
    // Nobody asks for them here.
    read(&fake, &options).unwrap();
    fake.manners().before = Some(Box::new(|seen| (seen.target != "/v2/").then(ask)));
    let error = read(&fake, &options).expect_err("malformed");
    assert!(matches!(error, Error::Credentials { .. }) && !shows(&error), "{error:?}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn a_helper_is_asked_on_its_stdin() {
    let (fake, dir) = (fake(), tempfile::tempdir().unwrap());
    let name = format!("bake-test-{}", std::process::id());
    // In a directory of PATH only the command line could put it: found by its whole path here.
    let program = dir.path().join(format!("docker-credential-{name}"));
    let log = dir.path().join("log");
    let script = format!(
        "#!/bin/sh\necho \"$*\" >> {log}\nread server\necho \"$server\" >> {log}\n\
         echo '{{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"{PASSWORD}\"}}'\n",
        log = log.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fake.manners().before = Some(Box::new(|seen| {
        let open = seen.target == "/v2/" || seen.header("authorization") == Some(BASIC);
        (!open).then(ask)
    }));
    let path = dir.path().join("config.json");
    let address = fake.address.to_string();
    fs::write(&path, json!({ "credHelpers": { address.clone(): name } }).to_string()).unwrap();
    let image = format!("{address}/team/app:1");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_bake"))
        .args(["pull", &image, "app:1", "--store"])
        .arg(dir.path().join("store"))
        .env("PATH", format!("{}:/usr/bin:/bin", dir.path().display()))
        .env("DOCKER_CONFIG", dir.path())
        .env_remove("REGISTRY_AUTH_FILE")
        .output()
        .unwrap();
    assert_eq!(fs::read_to_string(&log).unwrap(), format!("get\n{address}\n"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains(PASSWORD), "{text}");
    assert!(fake.seen().iter().any(|one| one.header("authorization") == Some(BASIC)));
}
