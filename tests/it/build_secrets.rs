//! Secrets of steps: seen by those that name them, printed and kept nowhere.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bake::leak::{Needles, stream};
use bake::secret::{Form, Secrets, Value};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

use crate::build_gate::busybox_root;
use crate::lab::{Lab, Run, run};
use crate::sandbox_user::somebody;
use crate::tier;

/// A value that no other file of this machine has.
const CANARY: &str = "canary~~>?/4f1d 9c02+b7";

/// A lab with busybox, of root or of a user with subordinate ids.
pub(crate) struct Place {
    pub(crate) lab: Lab,
    user: Option<(u32, u32)>,
}

impl Place {
    pub(crate) fn new() -> Option<Self> {
        if !tier::sandbox() || !tier::tool("busybox") {
            return None;
        }
        let lab = Lab::new();
        busybox_root(&lab);
        for name in ["gzip", "stat", "base64", "grep", "sha256sum", "rm"] {
            let _ = std::os::unix::fs::symlink("busybox", lab.path("root/bin").join(name));
        }
        lab.write("token", CANARY);
        Some(Self { lab, user: None })
    }

    pub(crate) fn of_user() -> Option<Self> {
        if !tier::root() {
            return None;
        }
        let mut place = Self::new()?;
        let Some((_, uid, gid)) = somebody() else {
            tier::skip("no user of this host has subordinate ids (adduser makes one that has)");
            return None;
        };
        chown(place.lab.path(""), Some(uid), Some(gid)).expect("we are root");
        place.user = Some((uid, gid));
        Some(place)
    }

    /// Whose it is, where that is not root.
    pub(crate) fn user(&self) -> Option<(u32, u32)> {
        self.user
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.lab.command(args);
        command.env("CANARY", CANARY);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    pub(crate) fn bake(&self, args: &[&str]) -> Run {
        run(&mut self.command(args))
    }

    pub(crate) fn recipe(&self, name: &str, steps: &str) {
        let head = format!("[image]\nname = {name:?}\nversion = \"1\"\n[base]\npath = \"root\"\n");
        self.lab.write(&format!("{name}.toml"), &format!("{head}{steps}"));
    }

    /// Makes sure that no file of the store, or of a run's output, holds the value in any form.
    #[track_caller]
    fn nowhere(&self, ran: &Run) {
        let secrets: Secrets = [("token".to_owned(), Value::new(CANARY.into()).expect("a value"))]
            .into_iter()
            .collect();
        let needles = Needles::new(&secrets).expect("needles");
        let check = |bytes: &[u8], place: &str| {
            let found = stream(&mut &*bytes, place, &needles).expect("memory");
            assert!(found.is_empty(), "{found:?}");
        };
        check(ran.out.as_bytes(), "standard output");
        check(ran.err.as_bytes(), "standard error");
        each_file(&self.lab.path("store"), &mut |path| {
            let place = path.display().to_string();
            check(place.as_bytes(), "a name");
            check(&fs::read(path).expect("a file of the store"), &place);
        });
    }
}

fn each_file(path: &Path, look: &mut dyn FnMut(&Path)) {
    let kind = fs::symlink_metadata(path).expect("a file of the store").file_type();
    if kind.is_dir() {
        for entry in fs::read_dir(path).expect("a directory of the store") {
            each_file(&entry.expect("an entry").path(), look);
        }
    } else if kind.is_file() {
        look(path);
    }
}

/// The seven encodings, and what else prints one.
fn encodings() -> Vec<String> {
    let base64 = |before: &str| BASE64_STANDARD.encode(format!("{before}{CANARY}"));
    let url = Form::Url { kept: b"", plus: false, upper: true };
    let mut all = vec![
        CANARY.to_owned(),
        base64(""),
        base64("a"),
        base64("ab"),
        BASE64_URL_SAFE_NO_PAD.encode(CANARY),
    ];
    let forms = [Form::Hex { upper: false }, Form::Hex { upper: true }, url];
    all.extend(
        forms
            .map(|form| String::from_utf8(form.bytes(CANARY.as_bytes()).collect()).expect("ASCII")),
    );
    all
}

fn chatty(place: &Place) {
    let mut script = "#!/bin/sh -eu\n".to_owned();
    for text in encodings() {
        let (one, two) = text.split_at(text.len() / 2);
        script += &format!("printf '%s\\n' 'it is {text}.' 'x{text}x' >&2\n");
        // Two writes of one line, and a line that is broken.
        script += &format!("printf '%s' '{one}'; printf '%s\\n' '{two}'\n");
        script += &format!("printf '%s\\n' '{one}' '{two}'\n");
    }
    script += "cat /run/secrets/token; echo; base64 /run/secrets/token; env; yes $TOKEN | cat | head -c 100000\n";
    script += "echo done\n";
    std::os::unix::fs::symlink("busybox", place.lab.path("root/bin/head"))
        .expect("our own directory");
    place.lab.write("chatty.sh", &script);
    place.recipe(
        "web",
        "[[step]]\nscript = \"chatty.sh\"\nsecrets = [\"token\"]\nsecret_env.TOKEN = \"token\"\n\
         [[step]]\nrun = \"env; test ! -e /run/secrets\"\n",
    );
    let ran = place.bake(&["build", "web.toml", "--secret", "token=env:CANARY"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("***") && ran.err.contains("done"), "{}", ran.err);
    assert!(!ran.err.contains("canary"), "{}", ran.err);
    place.nowhere(&ran);
    let json =
        place.bake(&["build", "--json", "--no-cache", "web.toml", "--secret", "token=file:token"]);
    assert_eq!(json.code, 0, "{}{}", json.out, json.err);
    place.nowhere(&json);
}

#[test]
fn a_chatty_step_prints_it_nowhere() {
    if let Some(place) = Place::new() {
        chatty(&place);
    }
}

#[test]
fn root_a_chatty_step_of_a_user_prints_it_nowhere() {
    if let Some(place) = Place::of_user() {
        chatty(&place);
    }
}

fn leaky(place: &Place) {
    let mut commands: Vec<(String, &str)> = encodings()
        .iter()
        .enumerate()
        .map(|(n, text)| {
            place
                .lab
                .write(&format!("leak-{n}.sh"), &format!("printf '%s' 'x {text} y' > /etc/leak\n"));
            (format!("script = \"leak-{n}.sh\""), "/etc/leak")
        })
        .collect();
    let read = "cat /run/secrets/token";
    commands.push((format!("run = \"{read} | gzip > /etc/leak.gz\""), "/etc/leak.gz"));
    commands.push((format!("run = \"{read} | gzip | gzip > /etc/leak.gz\""), "/etc/leak.gz"));
    commands.push((
        format!("run = \"{read} > \\\"/etc/leak\\\"; cat /etc/leak > /www/more\""),
        "/etc/leak",
    ));
    for (command, path) in commands {
        let step = format!("[[step]]\n{command}\nsecrets = [\"token\"]\n");
        place.recipe("web", &format!("[[step]]\nrun = \"true\"\n{step}[[step]]\nrun = \"true\"\n"));
        let ran = place.bake(&["build", "web.toml", "--secret", "token=env:CANARY"]);
        assert_eq!(ran.code, 1, "{command}: {}{}", ran.out, ran.err);
        for part in ["step 2 of 3", path, "`token`"] {
            assert!(ran.err.contains(part), "{command}: no {part:?} in {}", ran.err);
        }
        place.nowhere(&ran);
        let list = place.bake(&["list"]);
        assert!(!list.out.contains("web"), "{command}: {}", list.out);
    }
    assert_eq!(place.lab.scratch(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_step_that_writes_it_down_fails_the_build() {
    if let Some(place) = Place::new() {
        leaky(&place);
    }
}

#[test]
fn root_a_step_of_a_user_that_writes_it_down_fails_the_build() {
    if let Some(place) = Place::of_user() {
        leaky(&place);
    }
}

#[test]
fn what_other_steps_and_the_recipe_hold_is_searched_too() {
    let Some(place) = Place::new() else { return };
    let step = "[[step]]\nrun = \"true\"\nsecrets = [\"token\"]\n";
    let check = |name: &str, steps: &str, expected: &str| {
        place.recipe(name, steps);
        let file = format!("{name}.toml");
        let ran = place.bake(&["build", &file, "--secret", "token=env:CANARY"]);
        assert_eq!(ran.code, 1, "{name}: {}{}", ran.out, ran.err);
        assert!(ran.err.contains(expected), "{name}: {}", ran.err);
        let list = place.bake(&["list"]);
        assert!(!list.out.contains(name), "{}", list.out);
        place.nowhere(&ran);
    };
    check("copied", &format!("[[step]]\ncopy = \"token\"\nto = \"/etc/t\"\n{step}"), "/etc/t");
    check("config", &format!("{step}[config]\nenv.T = {CANARY:?}\n"), "its config");
    let test = format!("[[test]]\nname = \"t\"\nrun = {:?}\n", format!("echo '{CANARY}'"));
    check("tests", &format!("{step}{test}"), "the list of its tests");
    place.lab.write("test.sh", &format!("#!/bin/sh\necho '{CANARY}'\n"));
    let test = "[[test]]\nname = \"t\"\nscript = \"test.sh\"\n";
    check("scripts", &format!("{step}{test}"), "a script of its tests");
    let stage = "[stage.build.base]\npath = \"root\"\n[[stage.build.step]]\n";
    let leak = "run = \"cat /run/secrets/token > /www/out\"\nsecrets = [\"token\"]\n";
    check(
        "stages",
        &format!("[[step]]\ncopy = \"/www\"\nfrom = \"build\"\nto = \"/www\"\n{stage}{leak}"),
        "/www/out",
    );
}

#[test]
fn a_step_sees_what_it_names_and_leaves_nothing() {
    let Some(place) = Place::new() else { return };
    let big: Vec<u8> =
        (0..10_u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let sum = bake::digest::Digest::of(&big).hex();
    fs::write(place.lab.path("big"), big).expect("our own file");
    place.recipe(
        "web",
        &format!(
            "[[step]]\nrun = '''\n\
             test \"$(stat -c %a:%u /run/secrets/token)\" = 400:1000\n\
             test \"$(ls /run/secrets)\" = \"big\ntoken\"\n\
             test \"$(sha256sum < /run/secrets/big)\" = \"{sum}  -\"\n\
             test \"$(cat /run/secrets/token)\" = \"$T\"\n\
             if rm -f /run/secrets/token || echo x > /run/secrets/y; then exit 1; fi\n\
             if grep -s -q '[c]anary' /proc/*/cmdline; then exit 1; fi\n\
             '''\nas = \"app\"\nsecrets = [\"token\", \"big\"]\nsecret_env.T = \"token\"\n\
             [[step]]\nrun = \"test -z ${{T-}}; test ! -e /run\"\n"
        ),
    );
    let args =
        ["build", "--json", "web.toml", "--secret", "token=env:CANARY", "--secret", "big=file:big"];
    let ran = place.bake(&args);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let done = ran.objects("step_done");
    assert!(done.iter().skip(1).all(|step| step["layer"].is_null()), "{done:?}");
    place.nowhere(&ran);
}

#[test]
fn the_key_has_the_name_and_not_the_value() {
    let Some(place) = Place::new() else { return };
    let steps =
        |name: &str| format!("[[step]]\nrun = \"echo ran > /www/x\"\nsecrets = [{name:?}]\n");
    let ran = |version: &str, secret: &str, more: &[&str]| {
        let args = ["build", "--set-version", version, "web.toml", "--secret", secret];
        let ran = place.bake(&[&args[..], more].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.err
    };
    place.recipe("web", &steps("token"));
    assert!(!ran("1", "token=env:CANARY", &[]).contains("[1/1] cached"));
    assert!(ran("2", "token=cmd:echo another-value", &[]).contains("[1/1] cached"));
    assert!(!ran("3", "token=env:CANARY", &["--no-cache=1"]).contains("[1/1] cached"));
    place.recipe("web", &steps("other"));
    assert!(!ran("4", "other=env:CANARY", &[]).contains("[1/1] cached"));
}

#[test]
fn bad_input_is_refused_before_any_step_and_shows_no_value() {
    let Some(place) = Place::new() else { return };
    place.recipe("web", "[[step]]\nrun = \"echo ran\"\nsecrets = [\"token\"]\n");
    place.recipe("plain", "[[step]]\nrun = \"true\"\n");
    place.lab.write("empty", "");
    place.lab.write("short", "xyz\n");
    place.lab.write("nul", "nul\0byte-in-it");
    fs::write(place.lab.path("long"), vec![b'x'; (10 << 20) + 1]).expect("our own file");
    let check = |secrets: &[&str], code: i32, expected: &[&str]| {
        let mut args = vec!["build", "web.toml"];
        args.extend(secrets.iter().flat_map(|secret| ["--secret", secret]));
        let ran = place.bake(&args);
        assert_eq!(ran.code, code, "{secrets:?}: {}{}", ran.out, ran.err);
        for part in expected {
            assert!(ran.err.contains(part), "{secrets:?}: no {part:?} in {}", ran.err);
        }
        assert!(!ran.err.contains("| ran") && !ran.err.contains("xyz"), "{}", ran.err);
        place.nowhere(&ran);
    };
    check(&[], 1, &["web.toml:7", "the secret `token`", "--secret token=env:"]);
    check(&["token=env:NOWHERE"], 2, &["no variable NOWHERE"]);
    check(&["token=file:nowhere"], 2, &["nowhere: No such file"]);
    check(&["token=file:."], 2, &["Is a directory"]);
    check(&["token=cmd:cat token; exit 3"], 2, &["exit code 3"]);
    check(&["token=cmd:cat token; kill -9 $$"], 2, &["signal 9"]);
    check(&["token=file:empty"], 2, &["`token`: its value is empty"]);
    check(
        &["token=file:short"],
        2,
        &["3 of at least 6 bytes", "neither the output could be masked"],
    );
    check(&["token=file:long"], 2, &["more than 10 MiB"]);
    check(&["token=cmd:cat long"], 2, &["more than 10 MiB"]);
    check(&["token=xyz"], 2, &["does not say where the value is"]);
    check(&["xyz"], 2, &["not of the form NAME=SOURCE"]);
    check(&["a/b=env:CANARY"], 2, &["no name of a secret"]);
    check(&["token=env:CANARY", "token=file:token"], 2, &["`token` is given twice"]);
    let unused = place.bake(&["build", "plain.toml", "--secret", "token=env:CANARY"]);
    assert!(
        unused.code == 0 && unused.err.contains("no step uses the secret `token`"),
        "{}",
        unused.err
    );
    place.recipe("web", "[[step]]\nrun = \"echo ran\"\nsecret_env.T = \"token\"\n");
    check(&["token=file:nul"], 1, &["cannot be the variable T: it has a NUL byte"]);
    // Nothing is to run, and nothing is asked for.
    assert_eq!(place.bake(&["build", "plain.toml"]).code, 0);
}

#[test]
fn what_looks_like_a_secret_in_a_recipe_is_warned_about() {
    let lab = Lab::new();
    let token = format!("ghp_{}", "a1B2".repeat(9));
    lab.write(
        "web.toml",
        &format!(
            "[image]\nname = \"web\"\nversion = \"1\"\n[base]\nscratch = true\n[[step]]\nrun = \"x\"\n\
             env.T = \"{token}\"\n"
        ),
    );
    let ran = lab.bake(["check", "web.toml"]);
    assert!(ran.err.contains("web.toml:8") && ran.err.contains("a token of GitHub"), "{}", ran.err);
    assert!(!ran.err.contains(&token), "{}", ran.err);
}

#[test]
fn two_recipes_have_secrets_of_their_own() {
    let Some(place) = Place::new() else { return };
    let step = |name: &str| {
        let run = format!("ls /run/secrets; cat /run/secrets/{name}");
        format!("[[step]]\nrun = \"{run}\"\nsecrets = [{name:?}]\n")
    };
    place.recipe("one", &step("first"));
    place.recipe("two", &step("second"));
    let ran = place.bake(&[
        "build",
        "one.toml",
        "two.toml",
        "--secret",
        "first=cmd:echo value-of-one",
        "--secret",
        "second=cmd:echo value-of-two",
    ]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(!ran.err.contains("value-of") && !ran.err.contains("warning"), "{}", ran.err);
    for seen in ["one:1   | first", "two:1   | second", "one:1   | ***", "two:1   | ***"] {
        assert!(ran.err.contains(seen), "no {seen:?} in {}", ran.err);
    }
}

#[test]
fn no_argument_or_environment_of_a_process_has_it() {
    let Some(place) = Place::new() else { return };
    // Beside this test others run with a value in their environment.
    const LONELY: &str = "lonely-9f8e7d6c5b4a";
    place.lab.write("token", LONELY);
    place.recipe("web", "[[step]]\nrun = \"echo begun; sleep 600\"\nsecrets = [\"token\"]\n");
    let mut command = place.command(&["build", "web.toml", "--secret", "token=file:token"]);
    command.env_remove("CANARY").stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    let begun = Instant::now();
    let is_there = || {
        let mut there = false;
        if place.lab.path("store/logs").exists() {
            each_file(&place.lab.path("store/logs"), &mut |path| {
                there |= fs::read(path).is_ok_and(|log| log.starts_with(b"begun"));
            });
        }
        there
    };
    while !is_there() {
        assert!(begun.elapsed() < Duration::from_secs(120), "it never begins");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut looked = 0;
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        for file in ["cmdline", "environ"] {
            // Some have ended, or are somebody else's.
            let Ok(bytes) = fs::read(entry.path().join(file)) else { continue };
            looked += 1;
            let holds = bytes.windows(LONELY.len()).any(|part| part == LONELY.as_bytes());
            assert!(!holds, "{} of {:?}", file, entry.path());
        }
    }
    assert!(looked > 2);
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("a process"), rustix::process::Signal::TERM)
        .expect("our own child");
    assert!(!child.wait().expect("our own child").success());
}
