//! Credentials of downloads: shown to the server they are for, and kept nowhere.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::build_secrets::Place;

/// What a server was asked: the path and the header `Authorization`.
type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// A server that gives `wanted` as the file `/private` and sends others away; `/elsewhere` leads to
/// `other`. Returns its address and what it was asked.
fn server(wanted: String, other: String) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let asked: Asked = Arc::default();
    let all = Arc::clone(&asked);
    // It ends with the process: the kernel closes what it waits for.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let path = lines.next().and_then(|line| Some(line.split(' ').nth(1)?.to_owned()));
            let path = path.unwrap_or_default();
            let shown = lines
                .take_while(|line| !line.is_empty())
                .filter_map(|line| line.split_once(": ").map(|(a, b)| (a.to_owned(), b.to_owned())))
                .find(|(name, _)| name.eq_ignore_ascii_case("authorization"))
                .map(|(_, value)| value);
            all.lock().expect("whole").push((path.clone(), shown.clone()));
            let head = match path.as_str() {
                "/elsewhere" => format!("302 Found\r\nLocation: http://{other}/open"),
                "/private" if shown.as_deref() != Some(&wanted) => "401 Unauthorized".to_owned(),
                _ => "200 OK".to_owned(),
            };
            let text = format!(
                "HTTP/1.1 {head}\r\nContent-Length: 8\r\nConnection: close\r\n\r\ncontent\n"
            );
            let _ = (&stream).write_all(text.as_bytes());
        }
    });
    (address, asked)
}

fn recipe(place: &Place, name: &str, url: &str, keys: &str) {
    let step = format!("[[step]]\ndownload = \"{url}\"\nto = \"/file\"\n{keys}\n");
    place.recipe(name, &step);
}

fn places() -> impl Iterator<Item = Place> {
    [Place::new(), Place::of_user()].into_iter().flatten()
}

const KEY: &str = "credentials = \"token\"";

#[test]
fn root_net_a_token_and_a_password_are_shown_to_the_server_and_kept_nowhere() {
    for place in places() {
        for (name, value, wanted) in [
            ("token", "canary-token-1", "Bearer canary-token-1".to_owned()),
            (
                "basic",
                "me:canary pass",
                format!("Basic {}", BASE64_STANDARD.encode("me:canary pass")),
            ),
        ] {
            let (address, asked) = server(wanted.clone(), String::new());
            recipe(&place, name, &format!("http://{address}/private"), KEY);
            place.lab.write("value", value);
            let recipe = format!("{name}.toml");
            let ran = place.bake(&["build", "--secret", "token=file:value", &recipe]);
            assert_eq!(ran.code, 0, "{}", ran.err);
            assert_eq!(*asked.lock().expect("whole"), [("/private".to_owned(), Some(wanted))]);
            let lock = std::fs::read_to_string(place.lab.path(&format!("{name}.lock")));
            assert!(!lock.expect("a lock file").contains("canary"));
        }
    }
}

#[test]
fn root_net_no_other_server_is_shown_them() {
    let Some(place) = Place::new() else { return };
    let (other, seen) = server(String::new(), String::new());
    let (address, asked) = server("Bearer canary-token-2".to_owned(), other);
    recipe(&place, "away", &format!("http://{address}/elsewhere"), KEY);
    place.lab.write("value", "canary-token-2");
    let ran = place.bake(&["build", "--secret", "token=file:value", "away.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(asked.lock().expect("whole")[0].1.as_deref(), Some("Bearer canary-token-2"));
    assert_eq!(*seen.lock().expect("whole"), [("/open".to_owned(), None)]);
}

#[test]
fn root_net_without_them_the_message_says_what_the_server_wants() {
    let Some(place) = Place::new() else { return };
    let (address, _) = server("Bearer x".to_owned(), String::new());
    recipe(&place, "none", &format!("http://{address}/private"), "");
    let ran = place.bake(&["build", "none.toml"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("401 (it asks for credentials)"), "{}", ran.err);
    // Not given: before anything runs.
    recipe(&place, "some", &format!("http://{address}/private"), KEY);
    let ran = place.bake(&["build", "some.toml"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("it uses the secret `token`, which is not given"), "{}", ran.err);
    // Over http to another machine: nothing is asked.
    recipe(&place, "plain", "http://files.example.org/private", KEY);
    let ran = place.bake(&["check", "plain.toml"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("credentials over http"), "{}", ran.err);
}
