//! Helper programs of credentials: `docker-credential-NAME get` takes the registry on stdin and
//! prints JSON (docker-credential-helpers, "Protocol").

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::error::Error;
use super::options::Stop;
use super::secret::{Credential, Secret};
use crate::threads;

/// Longest that a helper may take: it may ask a service, or a person.
const PATIENCE: Duration = Duration::from_secs(60);

/// Largest answer.
const LARGEST: u64 = 1 << 20;

/// How the protocol says that there is nothing, with exit code 1.
const NOTHING: &str = "credentials not found in native keychain";

/// The user of an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: Secret,
}

/// Asks the helper `name` for what it has for `server`.
pub(super) fn get(name: &str, server: &str, stop: &Stop) -> Result<Option<Credential>, Error> {
    let program = format!("docker-credential-{name}");
    let wrong = |why: String| Error::Helper { program: program.clone(), why };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(wrong("that is not the name of a helper".to_owned()));
    }
    let failed = |error: io::Error| wrong(error.to_string());
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let mut stdin = child.stdin.take().expect("it was piped");
    // One that answers without reading closes its end.
    match stdin.write_all(format!("{server}\n").as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(failed(error)),
        _ => drop(stdin),
    }
    let stdout = child.stdout.take().expect("it was piped");
    let reader = threads::free(move || {
        let mut bytes = vec![];
        stdout.take(LARGEST + 1).read_to_end(&mut bytes).map(|_| bytes)
    })
    .map_err(failed)?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        let (late, ended) = (started.elapsed() > PATIENCE, stop());
        if late || ended {
            // It may have ended by itself meanwhile.
            let _ = child.kill();
            let _ = child.wait();
            return Err(if ended {
                Error::Cancelled
            } else {
                wrong(format!("no answer for {} seconds", PATIENCE.as_secs()))
            });
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let read = reader.join().map_err(|_| wrong("its answer cannot be read".to_owned()))?;
    let bytes = read.map_err(failed)?;
    if !status.success() {
        if String::from_utf8_lossy(&bytes).trim() == NOTHING {
            return Ok(None);
        }
        // What it prints may be anything, a secret too.
        return Err(wrong(format!("it failed ({status})")));
    }
    let answer: Answer = serde_json::from_slice(&bytes)
        .map_err(|_| wrong("its answer is not that of a helper".to_owned()))?;
    if answer.secret.reveal().is_empty() {
        return Ok(None);
    }
    Ok(Some(match answer.user.as_str() {
        TOKEN_USER => Credential::Identity(answer.secret),
        _ => Credential::Password { user: answer.user, password: answer.secret },
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_helper_is_a_name_and_no_path() {
        let stop: Stop = Arc::new(|| false);
        for name in ["", "../x", "a b", "x;y", "/bin/sh"] {
            let error = get(name, "r.example", &stop).expect_err(name);
            assert!(error.to_string().contains("not the name of a helper"), "{error}");
        }
        let error = get("is-missing-here", "r.example", &stop).expect_err("missing");
        assert!(matches!(error, Error::Helper { .. }), "{error}");
    }
}
