//! What was once reported wrong, as tests of what must hold: archive.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::base_mirror::{Reply, Server};
use crate::lab::Lab;
use crate::tier;

/// Ends a child that a failing test leaves behind.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Ends {
    fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().expect("bake starts"))
    }

    /// Returns the exit code, if it ends within a minute.
    fn code(&mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) {
            if let Some(status) = self.0.try_wait().expect("our own child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

fn recipe(lab: &Lab, name: &str, steps: &str) {
    let head = format!("[image]\nname = \"{name}\"\nversion = \"1\"\n[base]\npath = \"root\"\n");
    lab.write(&format!("{name}.toml"), &format!("{head}{steps}"));
}

/// E3
#[test]
fn a_build_waits_for_a_step_of_another_no_longer_than_it_takes() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let server = Server::start(move |_| {
        while !gate.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Reply::Bytes(b"x".to_vec())
    });
    let slow = format!("[[step]]\ndownload = \"{}/x\"\nto = \"/x\"\n", server.url);
    recipe(&lab, "first", &slow);
    recipe(&lab, "second", "[[step]]\nrun = \"echo 2 > /two\"\n");
    let mut first = Ends::start(&mut lab.command(["build", "--json", "first.toml"]));
    let lines = BufReader::new(first.0.stdout.take().expect("a pipe")).lines();
    for line in lines {
        let object: Value = serde_json::from_str(&line.expect("readable")).expect("JSON");
        if object["type"] == "step-done" && object["step"] == 0 {
            break;
        }
    }
    let second = Ends::start(&mut lab.command(["build", "second.toml"])).code();
    open.store(true, Ordering::Relaxed);
    assert_eq!(second, Some(0));
}
