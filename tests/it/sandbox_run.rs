//! Jobs as callers see them: output, exit codes, environment, users, calls.

use std::io::{Read, Write};

use bake::job::Call;
use bake::job::{Action, Ended, Job, Reply};
use bake::sandbox::{BuiltIn, CallError, Cancel, Failure, JobEvent, Mount, Network, Owners, Ping};

use crate::sandbox_lab::{Lab, Ran, alive, exec, failing, ping, sh};

#[track_caller]
fn failed(ran: &Ran) -> (usize, &Failure) {
    match &ran.ended {
        Ended::Failed { action, how, .. } => (*action, how),
        other => panic!("{other:?} {ran:#?}"),
    }
}

fn bare(actions: Vec<Action>) -> Job {
    Job {
        root: None,
        mounts: vec![],
        files: vec![],
        secrets: bake::sandbox::ShownSecrets::default(),
        hostname: "inside".into(),
        network: Network::None,
        allowance: bake::sandbox::Allowance::default(),
        actions,
    }
}

#[test]
fn userns_exit_codes_and_signals() {
    let Some(lab) = Lab::new() else { return };
    assert!(lab.sh("true").done());
    assert_eq!(failed(&lab.sh("exit 3")), (0, &Failure::Exit(3)));
    assert_eq!(failed(&lab.sh("kill -9 $$")), (0, &Failure::Signal(9)));
    assert_eq!(failed(&lab.sh("kill -SEGV $$")), (0, &Failure::Signal(11)));
    let ran = lab.run(lab.job(vec![sh("echo one"), sh("echo two; exit 7"), sh("echo three")]));
    assert_eq!(failed(&ran), (1, &Failure::Exit(7)));
    assert_eq!(ran.out, ["one", "two"]);
}

#[test]
fn userns_what_cannot_start_says_why() {
    let Some(lab) = Lab::new() else { return };
    let lower = lab.layer("broken");
    for (name, text, mode) in [("script", "#!/no/such/shell\n", 0o755), ("plain", "x", 0o644)] {
        std::fs::write(lower.join(name), text).unwrap();
        std::fs::set_permissions(
            lower.join(name),
            std::os::unix::fs::PermissionsExt::from_mode(mode),
        )
        .unwrap();
    }
    let check = |argv: &[&str], user: &str, part: &str| {
        let mut exec = exec(argv);
        exec.user = user.into();
        let root = lab.overlay(vec![lower.clone(), lab.tools()]);
        let ran = lab.run(Job { root: Some(root), ..lab.job(vec![Action::Exec(exec)]) });
        match failed(&ran) {
            (0, Failure::Start(why)) => assert!(why.contains(part), "{why}"),
            other => panic!("{other:?}"),
        }
    };
    check(&["no-such-program"], "root", "there is no program 'no-such-program' in /usr/local/sbin");
    check(&["/no/such"], "root", "there is no program /no/such in the image");
    check(&["/script"], "root", "the interpreter /no/such/shell");
    check(&["/plain"], "root", "executable");
    check(&["/usr"], "root", "directory");
    check(&["true"], "nobody-here", "the image has no user \"nobody-here\"");
    check(&["true"], "root:nogroup-here", "the image has no group \"nogroup-here\"");
    check(&["true"], "4294967294", "outside the ids");
    check(&[], "root", "no program");
}

#[test]
fn userns_every_line_comes_through() {
    let Some(lab) = Lab::new() else { return };
    let ran = lab.sh("seq 1 10000; seq 1 10000 >&2; printf 'last without end'").ok();
    assert_eq!(ran.out.len(), 10001);
    assert_eq!(ran.err.len(), 10000);
    assert!(
        ran.out[..10000]
            .iter()
            .zip(&ran.err)
            .enumerate()
            .all(|(n, (a, b))| *a == (n + 1).to_string() && a == b)
    );
    assert_eq!(ran.out[10000], "last without end");
    let ran = lab.sh("head -c 1048576 /dev/zero | perl -pe 's/\\0/x/g'; echo; echo after").ok();
    assert_eq!(ran.out.last().unwrap(), "after");
    assert_eq!(ran.out[..ran.out.len() - 1].concat(), "x".repeat(1_048_576));
    assert!(ran.out.iter().all(|line| line.len() <= 65536 && !line.is_empty()));
}

#[test]
fn userns_actions_are_reported_in_order() {
    let Some(lab) = Lab::new() else { return };
    let mut story = vec![];
    let job = lab.job(vec![sh("echo a; printf b >&2"), ping(Ping::default()), sh("echo c")]);
    lab.run_with(job, &Cancel::new().unwrap(), &mut |event| {
        story.push(match event {
            JobEvent::Action(n) => format!("action {n}"),
            JobEvent::Line { stderr, text } => {
                format!("{} {}", if *stderr { "err" } else { "out" }, String::from_utf8_lossy(text))
            }
            JobEvent::Progress(value) => format!("progress {value}"),
            JobEvent::Service { action, text } => {
                format!("service {action} {}", String::from_utf8_lossy(text))
            }
            JobEvent::Rescue(how) => format!("rescue {how:?}"),
        });
    })
    .ok();
    assert_eq!(
        story,
        ["action 0", "out a", "err b", "action 1", "progress 1", "action 2", "out c"]
    );
}

#[test]
fn userns_environment_and_directory_are_as_given() {
    let Some(lab) = Lab::new() else { return };
    let mut given = exec(&["/usr/bin/env"]);
    given.env = [("B", "two words"), ("A", ""), ("Ü", "ö\n")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    let ran = lab.run(lab.job(vec![Action::Exec(given)])).ok();
    assert_eq!(ran.out, ["A=", "B=two words", "Ü=ö", ""]);
    let mut given =
        exec(&["sh", "-c", "pwd; stat -c '%a %u %g' . ..; umask; ulimit -c; test ! -t 0 && cat"]);
    given.cwd = "/srv/deep".into();
    let ran = lab.run(lab.job(vec![Action::Exec(given)])).ok();
    assert_eq!(ran.out, ["/srv/deep", "755 0 0", "755 0 0", "0022", "0"]);
}

#[test]
fn userns_users_come_from_the_image() {
    let Some(lab) = Lab::new() else { return };
    let check = |user: &str, expected: &str| {
        let mut given = exec(&[
            "sh",
            "-c",
            "id -u; id -g; id -G; grep CapEff /proc/self/status; echo x > /dev/stdout",
        ]);
        given.user = user.into();
        let ran = lab.run(lab.job(vec![Action::Exec(given)])).ok();
        assert_eq!(ran.out.join(" ").replace('\t', ""), expected, "{user}");
    };
    check("root", "0 0 0 CapEff:00000000a00425fb x");
    check("app", "1000 1000 1000 44 45 CapEff:0000000000000000 x");
    check("app:extra", "1000 44 44 45 CapEff:0000000000000000 x");
    check("1001", "1001 1001 1001 CapEff:0000000000000000 x");
    check("7:8", "7 8 8 CapEff:0000000000000000 x");
}

#[test]
fn userns_background_processes_do_not_hold_the_job() {
    let Some(lab) = Lab::new() else { return };
    let token = format!("holder-{}", std::process::id());
    let ran = lab
        .sh(&format!(
            "setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 1000; done' {token} & echo started"
        ))
        .ok();
    assert_eq!(ran.line(), "started");
    assert!(alive(&token).is_empty());
}

#[test]
fn userns_orphans_are_reaped() {
    let Some(lab) = Lab::new() else { return };
    let many = "for i in $(seq 1 50); do setsid sh -c 'exit 0' & done; wait; sh -c 'sh -c \"sleep 0.01\" & exit 0'; echo ok";
    assert_eq!(lab.sh(many).line(), "ok");
}

#[test]
fn userns_calls_get_their_files_and_return_values() {
    let Some(lab) = Lab::new() else { return };
    let (from, mut from_end) = std::io::pipe().unwrap();
    let (mut to_end, to) = std::io::pipe().unwrap();
    from_end.write_all(b"hello").unwrap();
    drop(from_end);
    let copy = Some((from.into(), to.into()));
    let look = Call::Look { paths: vec!["tmp".into(), "no/such".into()], native: String::new() };
    let ran = lab.run(bare(vec![ping(Ping { copy, ..Ping::default() }), Action::call(look)]));
    match &ran.ended {
        Ended::Done(replies) => match &replies[..] {
            [None, Some(Reply::Seen { there, .. })] => assert_eq!(there, &["tmp"]),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    let mut text = String::new();
    to_end.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
}

#[test]
fn userns_calls_that_fail_say_why() {
    let Some(lab) = Lab::new() else { return };
    let check = |action: Action, part: &str| {
        let ran = lab.run(bare(vec![action]));
        match failed(&ran) {
            (0, Failure::Call(why)) => {
                assert!(why.reasons().join(": ").contains(part), "{why:?}")
            }
            other => panic!("{other:?}"),
        }
    };
    check(ping(failing()), "asked to fail");
    let panic = Some("asked to panic".to_owned());
    check(ping(Ping { panic, ..Ping::default() }), "bug in bake: asked to panic (src/sandbox/");
    let dir = "/no/such".into();
    check(Action::call(Call::Settle { dir, epoch: 0 }), "/no/such: No such file or directory");
    let error = CallError::System { doing: "write".into(), path: "/x".into(), errno: 28 };
    let ran = lab.run(bare(vec![ping(Ping { fail: Some(error.clone()), ..Ping::default() })]));
    assert_eq!(failed(&ran), (0, &Failure::Call(error)));
    assert_eq!(failed(&ran).1.errno(), Some(28));
}

#[test]
fn userns_calls_after_changes_only_are_skipped_before() {
    let Some(lab) = Lab::new() else { return };
    let if_changed = |ping| Action::CallIfChanged(BuiltIn::Ping(ping).into());
    let mut events = vec![];
    let job = lab.job(vec![
        sh("true"),
        if_changed(failing()),
        ping(Ping::default()),
        sh("echo x > /new"),
        if_changed(Ping::default()),
    ]);
    let ran = lab.run_with(job, &Cancel::new().unwrap(), &mut |event| match event {
        JobEvent::Action(n) => events.push(*n),
        JobEvent::Progress(_) => events.push(100),
        _ => {}
    });
    assert!(ran.done(), "{ran:#?}");
    assert_eq!(events, [0, 1, 2, 100, 3, 4, 100]);
    let ran = lab.run(lab.job(vec![sh("rm /etc/group"), if_changed(failing())]));
    assert_eq!(failed(&ran), (1, &Failure::Call(CallError::refused("asked to fail"))));
}

#[test]
fn userns_jobs_one_after_the_other_do_not_see_each_others_connections() {
    let Some(lab) = Lab::new() else { return };
    // A server that ends while a client is connected keeps its port busy for a minute, in that
    // network namespace.
    let serve = "my $a = pack(q(S n a4 x8), 2, 7777, pack(q(C4), 127, 0, 0, 1)); socket(L, 2, 1, 0); bind(L, $a) or die qq(bind $!);
        listen(L, 1); socket(S, 2, 1, 0); connect(S, $a) or die; accept(C, L); close C; close S; print qq(served\\n)";
    let count = "sed 1,2d /proc/net/dev | while read -r name bytes packets rest; do echo $name $packets; done";
    for _ in 0..3 {
        let ran =
            lab.run(lab.job(vec![sh(count), Action::Exec(exec(&["perl", "-e", serve]))])).ok();
        assert_eq!(ran.out, ["lo: 0", "served"]);
        assert_eq!(lab.sh(count).line(), "lo: 0");
    }
}

#[test]
fn userns_jobs_at_the_same_time_have_networks_of_their_own() {
    let Some(lab) = Lab::new() else { return };
    // Both hold the same port until the other has it too.
    let sign = lab.scratch().join("0-sign");
    std::fs::create_dir(&sign).unwrap();
    let mount = || Mount {
        from: sign.clone(),
        at: "/dev/bake/sign".into(),
        read_only: false,
        owners: Owners::Image,
    };
    let job = || Job { mounts: vec![mount()], ..lab.job(vec![sh(HOLD)]) };
    let (first, second) = (job(), job());
    let barrier = std::sync::Barrier::new(2);
    let session = &lab.session;
    let run = |job: Job| {
        let mut lines = vec![];
        let ended = session.run(job, &Cancel::new().unwrap(), &mut |event| {
            if let JobEvent::Line { text, .. } = event {
                lines.push(String::from_utf8_lossy(text).into_owned());
                barrier.wait();
                std::fs::write(sign.join("both"), "").unwrap();
            }
        });
        (ended, lines)
    };
    let (left, right) = std::thread::scope(|scope| {
        let (left, right) = (scope.spawn(|| run(first)), scope.spawn(|| run(second)));
        (left.join().unwrap(), right.join().unwrap())
    });
    for (ended, lines) in [left, right] {
        assert!(matches!(ended, Ok(Ended::Done(_))), "{ended:?}");
        assert_eq!(lines, ["bound"]);
    }
    lab.session.remove_tree(&sign).unwrap();
}

/// Binds a port and an abstract name, says so, and ends when there is a sign.
const HOLD: &str = "perl -e 'socket(L, 2, 1, 0); bind(L, pack(q(S n a4 x8), 2, 7778, pack(q(C4), 127, 0, 0, 1))) or die; listen(L, 1);
    socket(A, 1, 1, 0); bind(A, pack(q(S a*), 1, qq(\\0held))) or die; $| = 1; print qq(bound\\n); select(undef, undef, undef, 0.01) until -e q(/dev/bake/sign/both)'";

#[test]
fn userns_large_values_pass() {
    let Some(lab) = Lab::new() else { return };
    let error = CallError::refused("v".repeat(3 << 20));
    let ran = lab.run(bare(vec![ping(Ping { fail: Some(error.clone()), ..Ping::default() })]));
    assert!(failed(&ran) == (0, &Failure::Call(error)));
}

#[test]
fn userns_two_sessions_at_once() {
    let (Some(one), Some(two)) = (Lab::new(), Lab::new()) else { return };
    let (left, right) = std::thread::scope(|scope| {
        let job = |lab: &Lab| {
            lab.job(vec![sh("echo x > /file; stat -c %u /file; cat /proc/self/uid_map")])
        };
        let ((job1, session1), (job2, session2)) =
            ((job(&one), &one.session), (job(&two), &two.session));
        let work = |session: &bake::job::Session, job: Job| {
            let mut out = vec![];
            let ended = session.run(job, &Cancel::new().unwrap(), &mut |event| {
                if let JobEvent::Line { text, .. } = event {
                    out.push(
                        String::from_utf8_lossy(text)
                            .split_whitespace()
                            .collect::<Vec<_>>()
                            .join(" "),
                    );
                }
            });
            assert!(matches!(ended, Ok(Ended::Done(_))), "{ended:?}");
            out
        };
        let left = scope.spawn(move || work(session1, job1));
        let right = scope.spawn(move || work(session2, job2));
        (left.join().unwrap(), right.join().unwrap())
    });
    assert_eq!((left[0].as_str(), right[0].as_str()), ("0", "0"));
    if one.host.id_mode == bake::sandbox::IdMode::Root {
        assert_ne!(left[1], right[1], "two builds share host ids");
    }
}

#[test]
fn userns_doctor_is_content_where_jobs_run() {
    if Lab::new().is_none() {
        return;
    }
    let findings = bake::sandbox::doctor(Some(&crate::sandbox_lab::helper()), None);
    assert!(findings.iter().all(|finding| finding.ok && finding.hint.is_none()), "{findings:#?}");
    assert!(findings.iter().any(|finding| finding.name == "sandbox"));
}
