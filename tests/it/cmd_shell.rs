//! `bake shell` and `bake build --on-failure=shell`: looking into a step, with nothing kept.

use std::process::Command;

use crate::build_gate::busybox_root;
use crate::lab::{Lab, Run};
use crate::tier;

fn lab(steps: &str) -> Option<Lab> {
    if !tier::sandbox() || !tier::tool("busybox") || !tier::tool("script") {
        return None;
    }
    let lab = Lab::new();
    busybox_root(&lab);
    lab.write(
        "x.toml",
        &format!("[image]\nname = \"x\"\nversion = \"1\"\n[base]\npath = \"root\"\n{steps}"),
    );
    Some(lab)
}

/// Runs `bake args` on a terminal, where these lines are typed.
fn typed(lab: &Lab, args: &str, lines: &str) -> Run {
    let bake = env!("CARGO_BIN_EXE_bake");
    let env: Vec<_> = lab
        .command([""; 0])
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    let mut command = Command::new("script");
    command
        .args(["-qec", &format!("{bake} {args}; echo \"code $?\""), "/dev/null"])
        .env_clear()
        .envs(env)
        .current_dir(lab.path(""));
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("script starts");
    // What is typed before anybody asks waits in the terminal.
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), lines.as_bytes())
        .expect("it is taken");
    let output = child.wait_with_output().expect("it ends");
    Run {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).replace('\r', ""),
        err: String::new(),
    }
}

const STEPS: &str = "[[step]]\nrun = \"echo one > /one\"\n[[step]]\nname = \"the second\"\nenv.COLOR = \"blue\"\nworkdir = \"/www\"\n";

#[test]
fn a_shell_opens_in_what_the_failed_step_left() {
    let Some(lab) = lab(&format!("{STEPS}run = \"echo two > /two; echo t > /tmp/t; exit 3\"\n"))
    else {
        return;
    };
    let look = "cat /one /two /tmp/t; echo \"see $COLOR $(pwd) $(id -u)\"; test -t 0 && echo a-terminal; echo x > /three\nexit 9\n";
    let ran = typed(&lab, "build x.toml --on-failure=shell --progress=plain", look);
    for part in [
        "step 2 failed",
        "exit status 3",
        "one\ntwo\nt\nsee blue /www 0\na-terminal\n",
        "step 2 of 2 failed: the second",
        "x.toml:12",
        "code 1",
    ] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    assert_eq!(lab.bake(["list", "--json"]).out, "");
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
    // Leaving discards.
    lab.write(
        "x.toml",
        &std::fs::read_to_string(lab.path("x.toml"))
            .expect("the recipe")
            .replace("exit 3", "test ! -e /three"),
    );
    let built = lab.bake(["build", "x.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
}

#[test]
fn also_where_no_program_failed_by_itself() {
    let cases = [
        (
            "run = \"echo two > /two; sleep 600\"\ntimeout = \"300ms\"\n",
            "timeout of 0.3 s",
            "cat /two",
            "two",
        ),
        ("run = [\"/no/such/program\"]\n", "/no/such/program", "cat /one", "one"),
        ("service = \"nginx\"\n", "nginx", "cat /one", "one"),
        ("packages = [\"nginx\"]\n", "package manager", "cat /one", "one"),
        ("run = \"exit 4\"\nretries = 1\n", "exit status 4", "cat /one", "one"),
    ];
    for (step, why, look, seen) in cases {
        let Some(lab) = lab(&format!("[[step]]\nrun = \"echo one > /one\"\n[[step]]\n{step}"))
        else {
            return;
        };
        let ran = typed(
            &lab,
            "build x.toml --on-failure=shell --progress=plain",
            &format!("echo \"<$({look})>\"\nexit\n"),
        );
        assert!(ran.out.contains(why) && ran.out.contains("code 1"), "{step}: {}", ran.out);
        assert!(ran.out.contains(&format!("<{seen}>")), "{step}: {}", ran.out);
        assert_eq!(ran.out.matches("a shell in ").count(), 1, "{step}: {}", ran.out);
        assert!(lab.scratch().is_empty(), "{step}: {:?}", lab.scratch());
    }
}

#[test]
fn a_shell_opens_where_a_step_would_begin() {
    let Some(lab) = lab(&format!("{STEPS}run = \"echo two > /two\"\n[[step]]\nrun = \"exit 1\"\n"))
    else {
        return;
    };
    let look = "echo \"<$(echo /one* /two*) $COLOR $(pwd)>\"; echo x > /one\nexit 3\n";
    let ran = typed(&lab, "shell x.toml --at 'the second' --progress=plain", look);
    assert!(
        ran.out.contains("</one /two* blue /www>") && ran.out.contains("code 0"),
        "{}",
        ran.out
    );
    let ran = typed(&lab, "shell x.toml --at 3 --progress=plain", look);
    assert!(ran.out.contains("</one /two  />"), "{}", ran.out);
    assert!(
        ran.out.contains("cached: run echo one > /one"),
        "the first step ran once: {}",
        ran.out
    );
    let ran = typed(&lab, "shell x.toml --at 4", "");
    assert!(ran.out.contains("has no step") && ran.out.contains("code 2"), "{}", ran.out);
    assert_eq!(lab.bake(["list", "--json"]).out, "");
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

#[test]
fn a_root_without_a_shell_says_so() {
    let Some(lab) = lab("") else { return };
    lab.write("x.toml", "[image]\nname = \"x\"\nversion = \"1\"\n[base]\nscratch = true\n[[step]]\nmkdir = \"/x\"\n");
    let ran = typed(&lab, "shell x.toml", "");
    assert!(
        ran.out.contains("there is no program /bin/bash") && ran.out.contains("code 127"),
        "{}",
        ran.out
    );
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

#[test]
fn nobody_at_a_terminal_gets_no_shell() {
    let Some(lab) = lab("[[step]]\nrun = \"exit 3\"\n") else { return };
    for args in [
        &["build", "x.toml", "--on-failure=shell"][..],
        &["shell", "x.toml"],
        &["shell", "x.toml", "--json"],
    ] {
        let ran = lab.bake(args);
        assert_eq!(ran.code, 2, "{args:?}: {}{}", ran.out, ran.err);
        assert!(
            ran.err.contains("needs a terminal") || ran.out.contains("want stdout"),
            "{args:?}: {}{}",
            ran.out,
            ran.err
        );
    }
}
