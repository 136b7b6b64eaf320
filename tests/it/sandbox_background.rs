//! Programs in the background of a job, what is tried until it holds, and rescues.

use std::time::Duration;

use bake::job::{Action, Ended};
use bake::sandbox::{Attempt, BuiltIn, CallError, Cancel, Failure, JobEvent, Until};

use crate::sandbox_lab::{Lab, alive, exec, failing, sh};

fn start(script: &str) -> Action {
    Action::Start(exec(&["sh", "-c", script]))
}

/// Tries a shell script, every 10 ms.
fn until(script: &str, within: Duration) -> Action {
    let attempt = Attempt::Exec(exec(&["sh", "-c", script]));
    Action::Until(Until { attempt, within, again: Some(Duration::from_millis(10)) })
}

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);

#[test]
fn userns_a_service_runs_while_others_do_and_is_killed_at_the_end() {
    let Some(lab) = Lab::new() else { return };
    let token = "86421.25";
    let service =
        format!("echo begun; echo oops >&2; echo x > /ready; setsid sleep {token} & sleep {token}");
    let mut printed = vec![];
    let job = lab.job(vec![
        start(&service),
        until("test -e /ready && echo seen", LONG),
        sh("ps ax >/dev/null; echo done"),
        Action::Still(SHORT),
    ]);
    let ran = lab.run_with(job, &Cancel::new().unwrap(), &mut |event| {
        if let JobEvent::Service { action, text } = event {
            printed.push((*action, String::from_utf8_lossy(text).into_owned()));
        }
    });
    assert!(ran.done(), "{ran:#?}");
    assert_eq!(ran.out, ["seen", "done"]);
    printed.sort();
    assert_eq!(printed, [(0, "begun".to_owned()), (0, "oops".to_owned())]);
    assert_eq!(alive(token), Vec::<u32>::new());
}

#[test]
fn userns_the_end_of_a_service_is_noticed() {
    let Some(lab) = Lab::new() else { return };
    let check = |actions: Vec<Action>, expected: (usize, Failure)| {
        let ran = lab.run(lab.job(actions));
        let Ended::Failed { action, how, .. } = &ran.ended else { panic!("{ran:#?}") };
        assert_eq!((*action, how), (expected.0, &expected.1), "{ran:#?}");
    };
    let lost = |action, how| Failure::Lost { action, how: Box::new(how) };
    check(vec![start("exit 0"), until("false", LONG)], (1, lost(0, Failure::Exit(0))));
    check(
        vec![start("sleep 600"), start("kill -9 $$"), until("false", LONG)],
        (2, lost(1, Failure::Signal(9))),
    );
    check(vec![start("exit 7"), Action::Still(LONG)], (1, lost(0, Failure::Exit(7))));
    check(
        vec![
            start("while test ! -e /go; do sleep 0.01; done"),
            until("echo > /go", LONG),
            Action::Still(LONG),
        ],
        (2, lost(0, Failure::Exit(0))),
    );
    let ran = lab.run(lab.job(vec![Action::Start(exec(&["/no/such"]))]));
    assert!(
        matches!(&ran.ended, Ended::Failed { action: 0, how: Failure::Start(_), .. }),
        "{ran:#?}"
    );
}

#[test]
fn userns_what_does_not_hold_in_time_says_how_it_failed_last() {
    let Some(lab) = Lab::new() else { return };
    let ran = lab.run(lab.job(vec![start("sleep 600"), until("exit 9", SHORT)]));
    let expected = Failure::NotHeld { within: SHORT, last: Some(Box::new(Failure::Exit(9))) };
    assert!(
        matches!(&ran.ended, Ended::Failed { action: 1, how, .. } if *how == expected),
        "{ran:#?}"
    );
    let ran = lab.run(lab.job(vec![start("sleep 600"), until("sleep 600", SHORT)]));
    let expected = Failure::NotHeld { within: SHORT, last: None };
    assert!(
        matches!(&ran.ended, Ended::Failed { action: 1, how, .. } if *how == expected),
        "{ran:#?}"
    );
    // A call too, and its last words.
    let fail = || Attempt::Call(BuiltIn::Ping(failing()).into());
    let tried = Action::Until(Until {
        attempt: fail(),
        within: SHORT,
        again: Some(Duration::from_millis(10)),
    });
    let ran = lab.run(lab.job(vec![tried]));
    let expected = Failure::NotHeld {
        within: SHORT,
        last: Some(Box::new(Failure::Call(CallError::refused("asked to fail")))),
    };
    assert!(
        matches!(&ran.ended, Ended::Failed { action: 0, how, .. } if *how == expected),
        "{ran:#?}"
    );
    let once = Action::Until(Until { attempt: fail(), within: LONG, again: None });
    let ran = lab.run(lab.job(vec![once]));
    assert!(
        matches!(&ran.ended, Ended::Failed { action: 0, how: Failure::Call(why), .. } if *why == CallError::refused("asked to fail")),
        "{ran:#?}"
    );
}

#[test]
fn userns_a_service_may_listen_on_any_port_as_anybody() {
    let Some(lab) = Lab::new() else { return };
    let mut service =
        exec(&["sh", "-c", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; sleep 600"]);
    service.user = "app".into();
    let mut printed = vec![];
    let job = lab.job(vec![Action::Start(service), Action::Still(SHORT)]);
    lab.run_with(job, &Cancel::new().unwrap(), &mut |event| {
        if let JobEvent::Service { text, .. } = event {
            printed.push(String::from_utf8_lossy(text).into_owned());
        }
    });
    assert_eq!(printed, ["0"]);
    // A step does not find that a service was there before it.
    let ran = lab.sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start");
    assert_eq!(ran.line(), "1024");
}

#[test]
fn userns_many_services_have_many_voices() {
    let Some(lab) = Lab::new() else { return };
    let mut actions: Vec<Action> =
        (0..5).map(|n| start(&format!("echo voice {n}; echo > /printed-{n}; sleep 600"))).collect();
    actions.push(until("for n in 0 1 2 3 4; do test -e /printed-$n || exit 1; done", LONG));
    let mut printed = vec![];
    lab.run_with(lab.job(actions), &Cancel::new().unwrap(), &mut |event| {
        if let JobEvent::Service { action, text } = event {
            printed.push(format!("{action} {}", String::from_utf8_lossy(text)));
        }
    })
    .ok();
    printed.sort();
    assert_eq!(printed, [0, 1, 2, 3, 4].map(|n| format!("{n} voice {n}")));
}
